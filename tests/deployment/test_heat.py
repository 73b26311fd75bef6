"""Heat maps against Grad-CAM by hand, in the words of its paper."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum.data.prepare import to_input
from tapetum.deployment.heat import grad_cam, heat_of, overlay
from tapetum.inference.classifier import load
from tapetum.inference.loading import load as load_any


@pytest.fixture(scope="module")
def classifier(served_run):
    return load(served_run)


@pytest.fixture(scope="module")
def square(classifier, known_pictures):
    return classifier.prepare(np.array(Image.open(io.BytesIO(known_pictures[0])).convert("RGB")))


@pytest.mark.parametrize("k", [0, 1])
def test_it_is_the_papers_map(classifier, square, k):
    network = classifier.network
    last = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)][-1]
    kept = []
    handle = last.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    scores = network(to_input(torch.from_numpy(square)[None], classifier.preprocessing))
    handle.remove()
    (gradients,) = torch.autograd.grad(scores[0, k], kept[0])
    alphas_C = gradients.mean((2, 3))[0]
    by_hand = torch.relu((alphas_C[:, None, None] * kept[0][0]).sum(0)).detach().numpy()
    found = grad_cam(classifier, square, k)
    assert found.shape == by_hand.shape
    assert np.allclose(found, by_hand / max(by_hand.max(), 1e-12), atol=1e-5)


def test_warm_places_are_coloured_and_cold_ones_left(square):
    heat = np.zeros((4, 4))
    heat[0, 0] = 1
    picture = np.asarray(Image.open(io.BytesIO(overlay(square, heat)))).astype(int)
    plain = np.asarray(Image.open(io.BytesIO(overlay(square, heat * 0)))).astype(int)
    changed = np.abs(picture - plain).max(2)
    assert picture.shape == (224, 224, 3)
    assert changed[:20, :20].min() > 20
    assert changed[120:, 120:].max() <= 2  # the curve between the points reaches that far


def test_an_onnx_file_has_none(served_file):
    assert heat_of(load_any(served_file)) is None


def test_the_network_is_left_as_it_was(classifier, square):
    before = classifier.from_squares([square])
    heat_of(classifier)(square, 0)
    assert np.array_equal(classifier.from_squares([square]), before)
    assert all(parameter.grad is None for parameter in classifier.network.parameters())
