import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from tapetum import models


@pytest.mark.parametrize(
    ("name", "widths", "total"),
    [
        ("compact", [16, 32, 64, 64, 128, 128, 128], 430_354),
        ("compact-wide", [24, 48, 96, 96, 192, 192, 192], 966_938),
        ("compact-large", [32, 64, 128, 128, 256, 256, 256], 1_717_794),
    ],
)
def test_the_arithmetic_of_the_docstrings(name, widths, total):
    network = models.build_on_meta(name, 2)
    assert [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)] == widths
    convolutions = [9 * a * b for a, b in pairwise([3, *widths])]
    assert sum(convolutions) + 2 * sum(widths) + (widths[-1] + 1) * 2 == total
    assert sum(p.numel() for p in network.parameters()) == total


def test_seven_convolutions_without_bias_each_before_a_batchnorm():
    layers = [layer for layer in models.build_on_meta("compact", 2).modules() if not list(layer.children())]
    convolutions = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 7
    for number in convolutions:
        assert layers[number].bias is None
        assert isinstance(layers[number + 1], nn.BatchNorm2d)
        assert isinstance(layers[number + 2], nn.ReLU)


def test_the_average_makes_weights_independent_of_the_size():
    small, large = models.build_on_meta("compact", 2, 32), models.build_on_meta("compact", 2, 160)
    assert {k: w.shape for k, w in small.state_dict().items()} == {k: w.shape for k, w in large.state_dict().items()}
    assert large.eval()(torch.empty(1, 3, 50, 50, device="meta")).shape == (1, 2)


def test_a_picture_is_judged_alone_when_not_training():
    torch.manual_seed(0)
    network = models.build("compact", 3, 32)
    network(torch.randn(16, 3, 32, 32))  # moves the running averages
    images_BCHW = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        together = network.eval()(images_BCHW)
        alone = torch.cat([network(image[None]) for image in images_BCHW])
    torch.testing.assert_close(together, alone)


def test_a_fresh_one_knows_nothing():
    torch.manual_seed(0)
    logits_BK = models.build("compact", 10, 32)(torch.randn(40, 3, 32, 32))
    assert nn.functional.cross_entropy(logits_BK, torch.arange(40) % 10).item() == pytest.approx(math.log(10), rel=0.02)
