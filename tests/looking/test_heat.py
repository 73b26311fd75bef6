"""Grad-CAM against captum itself and against the paper's formula; occlusion where only one place can matter."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tapetum import models
from tapetum.data.prepare import Preprocessing, fit, to_input
from tapetum.errors import UserError
from tapetum.inference.classifier import Classifier
from tapetum.looking import heat
from tapetum.models.ensemble import Ensemble

TORCHVISION = ["alexnet", "resnet18", "squeezenet1_0", "mobilenet_v3_small", "googlenet"]


def inputs(count, channels, size, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, channels, size, size)).astype(np.float32))


def built(name, classes=3, size=None, seed=0):
    torch.manual_seed(seed)
    return models.build(name, classes, size).eval()


def scaled(heat_BHW):
    return heat_BHW / np.maximum(heat_BHW.max((1, 2), keepdims=True), 1e-30)


def by_formula(network, layers, images, classes):
    """Selvaraju et al. 2017, equations 1 and 2, with torch's own gradients; maps of several layers count as one layer's."""
    maps = {}

    def keep(layer, inputs, output):
        output.retain_grad()
        maps[layer] = output
        return output.clone()  # the layer after it may work in place

    handles = [network.get_submodule(layer).register_forward_hook(keep) for layer in layers]
    output = network(images.requires_grad_())
    output[torch.arange(len(images)), torch.tensor(classes)].sum().backward()
    for handle in handles:
        handle.remove()
    weighed = sum((each.grad.mean((2, 3), keepdim=True) * each).sum(1, keepdim=True) for each in maps.values())
    large = nn.functional.interpolate(weighed.relu(), images.shape[-2:], mode="bilinear", align_corners=False)
    return scaled(large[:, 0].detach().numpy())


def test_it_is_captums_own_on_torchvisions_alexnet():
    import torchvision
    from captum.attr import LayerAttribution, LayerGradCam

    torch.manual_seed(0)
    network, images = torchvision.models.alexnet(weights=None).eval(), inputs(3, 3, 224)
    own = LayerGradCam(network, network.features[10]).attribute(images, torch.tensor([5, 900, 17]), relu_attributions=True)
    own = scaled(LayerAttribution.interpolate(own, (224, 224), "bilinear")[:, 0].detach().numpy())
    found = heat.gradcam(network, images, [5, 900, 17])
    assert found.shape == (3, 224, 224)
    assert found.max() == pytest.approx(1)
    np.testing.assert_allclose(found, own, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "layers"),
    [
        ("alexnet-2012", 99, ["columns.0.conv5", "columns.1.conv5"]),
        ("compact", 64, ["10.0"]),
        ("lenet5-1998", 32, ["c3"]),
    ],
)
def test_it_is_the_papers_formula_also_over_two_columns(name, size, layers):
    network, images = built(name, size=size), inputs(3, models.entry(name).channels, size)
    found = heat.gradcam(network, images, [0, 1, 2])
    np.testing.assert_allclose(found, by_formula(network, layers, images.clone(), [0, 1, 2]), atol=1e-5)


def test_the_heat_of_an_ensemble_is_the_mean_of_its_members():
    members = [built("lenet", size=32, seed=seed) for seed in range(3)]
    images = inputs(2, 3, 32)
    alone = [heat.gradcam(member, images, [1, 2]) for member in members]
    np.testing.assert_allclose(heat.gradcam(Ensemble(members), images, [1, 2]), np.mean(alone, axis=0))
    assert not np.allclose(alone[0], alone[1])


@pytest.mark.parametrize("name", [*models.names(), *(f"torchvision:{short}" for short in TORCHVISION)])
def test_every_network_has_heat_maps_and_stays_as_it_is(name):
    entry = models.entry(name)
    size = 127 if "alexnet" in name else min(entry.size, 64)
    network = built(name, size=size)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = heat.gradcam(network, inputs(1, entry.channels, size).repeat(3, 1, 1, 1), [0, 1, 2])
    assert found.shape == (3, size, size)
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1
    assert found.max() > 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_faster_form_of_a_network_changes_no_heat():
    network = built("compact", size=64)
    preprocessing = Preprocessing(64, "crop", 64, 64, 3)
    before = heat.gradcam(network, inputs(1, 3, 64), [1])
    classifier = Classifier(network, "compact", ("a", "b", "c"), preprocessing)
    assert classifier.computing() is not classifier.network
    np.testing.assert_array_equal(heat.gradcam(classifier.network, inputs(1, 3, 64), [1]), before)


def test_weights_that_do_not_learn_have_heat_too():
    network = built("lenet", size=32)
    before = heat.gradcam(network, inputs(1, 3, 32), [1])
    network.requires_grad_(False)
    np.testing.assert_allclose(heat.gradcam(network, inputs(1, 3, 32), [1]), before)


def test_a_network_without_places_is_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    with pytest.raises(UserError, match="convolution with more than one place"):
        heat.gradcam(network, inputs(1, 3, 8), [0])


def test_without_captum_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UserError, match=r"pip install 'tapetum\[explain\]'"):
        heat.gradcam(built("lenet", size=32), inputs(1, 3, 32), [0])


class Corner(nn.Module):
    """Class 1 by the sum of the upper left 12 x 12 pixels, class 0 else."""

    def forward(self, images_BCHW):
        return torch.stack([torch.zeros(len(images_BCHW)), images_BCHW[:, :, :12, :12].mean((1, 2, 3))], 1)


def test_only_what_is_looked_at_loses_probability_when_it_is_covered():
    image = torch.full((3, 48, 48), 2.0)
    lost = heat.occlusion(Corner(), image, 1)
    assert heat.window(48) == 8
    assert lost.shape == (48, 48)
    # One window that lies wholly inside: 64 of 144 pixels become 0.
    whole = torch.softmax(torch.tensor([0.0, 2.0]), 0)[1] - torch.softmax(torch.tensor([0.0, 2.0 * 80 / 144]), 0)[1]
    assert lost[0, 0] == pytest.approx(float(whole), abs=1e-6)
    assert np.abs(lost[16:]).max() < 1e-6
    assert np.abs(lost[:, 16:]).max() < 1e-6
    np.testing.assert_allclose(heat.occlusion(Corner(), image, 0), -lost, atol=1e-6)


def test_heat_is_painted_over_a_paled_picture():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :, 0] = 200
    found = heat.painted(picture, np.pad(np.ones((10, 10), np.float32), ((0, 10), (0, 20)))).astype(int)
    assert found.shape == picture.shape
    cold, hot = found[-1, -1], found[2, 2]
    assert np.ptp(cold) == 0  # no colour where there is no heat
    assert hot[0] > hot[2] + 40  # yellow
    assert hot.sum() > cold.sum()


@pytest.mark.parametrize("how", ["crop", "pad", "squash", "center"])
def test_what_is_shown_is_what_the_network_sees(how):
    rows, columns = np.mgrid[:90, :120]
    picture = np.stack([rows * 2, columns * 2, np.full_like(rows, 60)], 2).astype(np.uint8)
    preprocessing = Preprocessing(32, how, 40, 100, 3, views="ten")
    view = heat.shown(picture, preprocessing)
    assert view.shape == (224, 224, 3)
    small = np.asarray(
        torch.nn.functional.interpolate(torch.from_numpy(view).permute(2, 0, 1)[None].float(), (32, 32), mode="area")
    )
    square = fit(picture, replace(preprocessing, views="one"))
    assert np.abs(small[0].transpose(1, 2, 0)[2:-2, 2:-2] - square[2:-2, 2:-2]).max() < 10
    seen = heat.inputs([picture], preprocessing, torch.device("cpu"))
    assert torch.equal(seen, to_input(torch.from_numpy(square)[None], preprocessing))
