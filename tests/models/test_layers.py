import math

import pytest
import torch
from torch import nn

from tapetum.models.layers import Misfit, kaiming, side_after, window

WINDOWS = [
    nn.Conv2d(1, 1, 5),
    nn.Conv2d(1, 1, 11, stride=4, padding=2),
    nn.Conv2d(1, 1, 3, dilation=3, padding=1),
    nn.Conv2d(1, 1, 3, dilation=2, padding="same"),
    nn.Conv2d(1, 1, 5, stride=2, padding="valid"),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=2),
    nn.AvgPool2d(3, stride=1, padding=1),
]


@pytest.mark.parametrize("layer", WINDOWS, ids=str)
def test_torch_gives_the_side_that_the_formula_gives(layer):
    kernel, _, paddings = window(layer)
    for side in range(kernel - paddings, 40):
        if side > 0:
            assert side_after([layer], ["it"], side) == layer(torch.zeros(1, 1, side, side)).shape[-1]


@pytest.mark.parametrize("layer", [layer for layer in WINDOWS if window(layer)[0] > window(layer)[2] + 1], ids=str)
def test_torch_refuses_what_the_formula_refuses(layer):
    kernel, _, paddings = window(layer)
    side = kernel - paddings - 1
    with pytest.raises(Misfit, match=f"it .kernel {kernel}x{kernel}. does not fit its {side}x{side} input"):
        side_after([layer], ["it"], side)
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, 1, side, side))


def test_sides_follow_one_another():
    layers = [nn.Conv2d(3, 16, 5), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.MaxPool2d(2)]
    assert side_after(layers, ["a", "b", "c", "d"], 224) == 53
    with pytest.raises(Misfit, match=r"^c "):
        side_after(layers, ["a", "b", "c", "d"], 11)


def test_kaiming_draws_with_variance_two_over_fan_in_and_a_small_head():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 128, 5), nn.Flatten(), nn.Linear(500, 400), nn.Linear(400, 100))
    kaiming(network)
    for layer, deviation in ((network[0], math.sqrt(2 / (8 * 25))), (network[2], math.sqrt(2 / 500)), (network[3], 0.01)):
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.03)
        assert layer.weight.mean().abs().item() < 0.02 * deviation
        assert layer.bias.count_nonzero() == 0


def test_kaiming_keeps_the_signal_where_the_default_loses_it():
    def mean_square_after_ten_layers() -> float:
        x = torch.randn(64, 256)
        with torch.no_grad():
            for layer in list(network)[:-1]:
                x = layer(x)
        return x.square().mean().item()

    torch.manual_seed(0)
    network = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(256, 256), nn.ReLU())], nn.Linear(256, 2))
    assert mean_square_after_ten_layers() < 0.05
    kaiming(network)
    assert 0.3 < mean_square_after_ten_layers() < 3


def test_kaiming_does_without_biases():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False))
    kaiming(network)
    assert network[0].bias is None
