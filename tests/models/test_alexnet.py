"""The notes' AlexNet against torchvision's, which it narrows, and against the counts that the notes print."""

import pytest
import torch
import torchvision
from torch import nn

from tapetum import models

COUNTS = [23_296, 307_392, 663_936, 884_992, 590_080, 37_752_832, 2_097_664, 1_026]


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(5)
    return torchvision.models.AlexNet(num_classes=2).eval()


def mean_squares(network, images_BCHW):
    """Of the output of every ReLU, in order."""
    found = []
    handles = [
        layer.register_forward_hook(lambda layer, inputs, output: found.append(output.square().mean().item()))
        for layer in network.modules()
        if isinstance(layer, nn.ReLU)
    ]
    with torch.no_grad():
        network(images_BCHW)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", ["alexnet-textbook", "alexnet"])
@pytest.mark.parametrize("size", [64, 256])
def test_the_counts_of_the_notes_at_any_size(name, size):
    network = models.build_on_meta(name, 2, size)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in network.modules() if not list(layer.children())]
    assert [n for n in counts if n] == COUNTS
    assert sum(COUNTS) == 42_321_218


def test_the_count_that_the_docstring_gives_the_net_of_2014():
    with torch.device("meta"):
        assert sum(p.numel() for p in torchvision.models.AlexNet().parameters()) == 61_100_840


def test_torchvision_has_the_same_features_with_the_same_weights(reference):
    network = models.build("alexnet", 2, 256).eval()
    network.features.load_state_dict(reference.features.state_dict())
    network.classifier[1].load_state_dict(reference.classifier[1].state_dict())
    images_BCHW = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        ours, theirs = network.features(images_BCHW), reference.features(images_BCHW)
        assert ours.shape == (2, 256, 7, 7)
        assert torch.allclose(ours, theirs, atol=1e-6)
        ours, theirs = network.avgpool(ours).flatten(1), reference.avgpool(theirs).flatten(1)
        assert torch.allclose(network.classifier[:3](ours), reference.classifier[:3](theirs), atol=1e-6)


def test_the_textbook_is_initialised_as_torchvision_is_and_loses_the_signal(reference):
    torch.manual_seed(5)
    network = models.build("alexnet-textbook", 2, 64).eval()
    for key, weights in reference.features.state_dict().items():
        assert torch.equal(network.features.state_dict()[key], weights), key
    assert torch.equal(network.classifier[1].weight, reference.classifier[1].weight)

    assert mean_squares(network, torch.randn(2, 3, 128, 128))[-1] < 1e-3


def test_the_mended_one_keeps_the_signal():
    torch.manual_seed(0)
    network = models.build("alexnet", 2, 64).eval()
    found = mean_squares(network, torch.randn(2, 3, 128, 128))
    assert len(found) == 7
    assert all(0.3 < value < 30 for value in found), found


def test_one_network_takes_pictures_of_any_size():
    network = models.build_on_meta("alexnet", 2, 64).eval()
    for size in (63, 128, 227):
        assert network(torch.empty(1, 3, size, size, device="meta")).shape == (1, 2)


def test_alexnet_now_keeps_the_order_of_convolutions_and_counts_as_its_docstring():
    network = models.build_on_meta("alexnet-now", 2)
    kinds = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.MaxPool2d)]
    kernels = [layer.kernel_size[0] if isinstance(layer, torch.nn.Conv2d) else "pool" for layer in kinds]
    # AlexNet: 11, pool, 5, pool, 3, 3, 3, pool; the 11 x 11 is two of 3 x 3, the last pool the average.
    assert kernels == [3, 3, "pool", 5, "pool", 3, 3, 3]
    parts = [27 * 32, 288 * 32, 800 * 96, 864 * 192, 1728 * 192, 1728 * 192]
    assert parts == [864, 9_216, 76_800, 165_888, 331_776, 331_776]
    assert sum(p.numel() for p in network.parameters()) == sum(parts) + 2 * 736 + 193 * 2 == 918_178
