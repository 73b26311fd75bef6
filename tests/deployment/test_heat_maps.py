"""The page's heat maps against Grad-CAM by hand, in the words of its paper."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum.data.prepare import to_input
from tapetum.deployment.heat import heat_map, heat_of
from tapetum.inference.classifier import load
from tapetum.inference.loading import load as load_any
from tapetum.looking.heat import painted


@pytest.fixture(scope="module")
def classifier(served_run):
    return load(served_run)


@pytest.fixture(scope="module")
def square(classifier, known_pictures):
    return classifier.prepare(np.array(Image.open(io.BytesIO(known_pictures[0])).convert("RGB")))


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.mark.parametrize("k", [0, 1])
def test_it_is_the_papers_map(classifier, square, k):
    network = classifier.network
    last = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)][-1]
    kept = []
    handle = last.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    scores = network(to_input(torch.from_numpy(square)[None], classifier.preprocessing))
    handle.remove()
    (gradients,) = torch.autograd.grad(scores[0, k], kept[0])
    by_hand = torch.relu((gradients.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True)).detach()
    large = torch.nn.functional.interpolate(by_hand, square.shape[:2], mode="bilinear")[0, 0].numpy()
    shown = np.asarray(Image.fromarray(square).resize((224, 224), Image.Resampling.BICUBIC))
    expected = painted(shown, large / max(large.max(), 1e-12)).astype(int)
    assert np.abs(opened(heat_map(classifier, square, k)) - expected).max() <= 1


def test_of_ten_views_the_middle_is_shown(classifier, square):
    side = classifier.preprocessing.size + 8
    ten = dataclasses.replace(classifier.preprocessing, views="ten", resize=side)
    around = np.full((side, side, 3), 255, np.uint8)
    around[4:-4, 4:-4] = square
    found = heat_map(dataclasses.replace(classifier, preprocessing=ten), around, 0)
    assert np.array_equal(opened(found), opened(heat_map(classifier, square, 0)))


def test_an_onnx_file_has_none(served_file):
    assert heat_of(load_any(served_file)) is None


def test_the_network_is_left_as_it_was(classifier, square):
    before = classifier.from_squares([square])
    heat_of(classifier)(square, 0)
    assert np.array_equal(classifier.from_squares([square]), before)
    assert all(parameter.grad is None for parameter in classifier.network.parameters())
