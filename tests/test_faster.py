"""Judges: torch's own layers in the order in which they are written, to the bit where that is claimed."""

import copy
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tapetum import faster, models

SCRIPT = """
import resource, sys, torch
from tapetum.faster import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def work():
    for _ in range(3):
        torch.zeros(20_000_000).add_(1)
for _ in range(5):  # until the heap has found its shape
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
# Photographs' networks small enough for a test, and whether two of their linear layers become one.
NETWORKS = [
    ("lenet-table", 32, False),
    ("lenet-textbook", 32, True),
    ("lenet-textbook-logits", 32, True),
    ("lenet-textbook-relu", 32, False),
    ("lenet", 32, False),
    ("lenet-now", 32, False),
    ("alexnet", 64, False),
    ("compact", 48, False),
]


def faults(mode):
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_large_tensors_no_longer_come_page_by_page():
    # 80 MB a tensor: 20,000 pages of 4 KB where each is mapped anew (fewer where the kernel uses larger ones).
    assert faults("keep") < 100
    assert faults("plain") > 10 * max(1, faults("keep"))


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(faster.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(faster.ctypes, "CDLL", lambda name: pytest.fail("the C library was touched"))
    assert faster.keep_freed_memory() is False


def network_and_images(name, size, count=6):
    torch.manual_seed(0)
    network = models.build(name, 3, size).to(memory_format=torch.channels_last)
    channels = models.entry(name).channels
    images = torch.randn(count, channels, size, size).contiguous(memory_format=torch.channels_last)
    return network, images


def gradients(network, images):
    torch.manual_seed(1)  # dropout
    outputs = network(images)
    nn.functional.cross_entropy(outputs, torch.arange(len(images)) % 3).backward()
    return {"outputs": outputs.detach(), **{name: p.grad for name, p in network.named_parameters()}}


@pytest.mark.parametrize(("name", "size", "collapses"), NETWORKS)
def test_a_rewritten_network_computes_the_same_and_gets_the_same_gradients(name, size, collapses):
    network, images = network_and_images(name, size)
    plain = copy.deepcopy(network)
    expected = gradients(plain, images)
    kinds = [type(layer) for layer in network.modules()]
    with faster.rewritten(network):
        assert ([type(layer) for layer in network.modules()] != kinds) == (name != "lenet-now")  # it pools first by itself
        assert list(network.state_dict()) == list(plain.state_dict())
        found = gradients(network, images)
    assert [type(layer) for layer in network.modules()] == kinds
    for what, value in expected.items():
        if collapses:
            torch.testing.assert_close(found[what], value, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(found[what], value), what


@pytest.mark.parametrize(("name", "size", "folds"), NETWORKS)
def test_prediction_by_the_faster_network_is_the_same(name, size, folds):
    network, images = network_and_images(name, size, 4)
    with torch.no_grad():
        network(images * 3 + 1)  # BatchNorm's averages are no longer those of a fresh network
    quick = faster.for_inference(network.eval())
    normalised = any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    with torch.inference_mode():
        expected, found = network(images), quick(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert folds or normalised or torch.equal(found, expected)
    assert [p.data_ptr() for p in quick.parameters()] == [p.data_ptr() for p in network.parameters()]
    assert list(quick.state_dict()) == list(network.state_dict())


def test_folding_spares_the_wide_layer():
    network, images = network_and_images("lenet-textbook", 32, 1)
    quick = faster.for_inference(network.eval())
    counted = FlopCounterMode(display=False)
    with counted, torch.inference_mode():
        quick(images)
    linear = counted.get_flop_counts()["Global"][torch.ops.aten.addmm]
    assert linear == 2 * 32 * 5 * 5 * 3  # straight from the features to three classes


class Odd(nn.Module):
    """Layers that must stay as they are: a ReLU that two read, a layer that is called twice, a bottleneck."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)
        self.wide, self.narrow = nn.Linear(4 * 9, 2), nn.Linear(2, 50)
        self.twice, self.last = nn.Linear(50, 50), nn.Linear(50, 3)

    def forward(self, images):
        x = self.relu(self.conv(images))
        x = self.narrow(self.wide((self.pool(x) + x.mean()).flatten(1)))
        return self.last(self.twice(self.twice(x).relu()))


class Unfollowable(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, images):
        return self.pool(images) if images.sum() > 0 else images


@pytest.mark.parametrize("kind", [Odd, Unfollowable])
def test_what_is_not_surely_the_same_is_left_alone(kind):
    torch.manual_seed(0)
    network = kind()
    kinds = [type(layer) for layer in network.modules()]
    images = torch.rand(6, 3, 8, 8)
    expected = network(images)
    with faster.rewritten(network):
        assert [type(layer) for layer in network.modules()] == kinds
        assert torch.equal(network(images), expected)


def test_a_layer_that_somebody_watches_stays():
    network, images = network_and_images("lenet", 32)
    seen = []
    network.relu1.register_forward_hook(lambda layer, inputs, output: seen.append(output.min().item()))
    with faster.rewritten(network):
        network(images)
    assert seen == [0]


@pytest.mark.parametrize(
    "kernel", [dict(kernel_size=3, stride=2), dict(kernel_size=3, padding=1), dict(kernel_size=2, ceil_mode=True)]
)
def test_pools_of_every_kind_give_zero_where_all_is_negative(kernel):
    network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(**kernel))
    images = torch.randn(2, 3, 9, 9).sub_(1.5).requires_grad_()
    expected = network(images)
    assert (expected == 0).any()
    assert (expected > 0).any()
    (wanted,) = torch.autograd.grad(expected.square().sum(), images)
    with faster.rewritten(network):
        found = network(images)
        (got,) = torch.autograd.grad(found.square().sum(), images)
    assert torch.equal(found, expected)
    assert torch.equal(got, wanted)


def test_deep_copies_of_a_rewritten_network_use_their_own_weights():
    network, images = network_and_images("lenet-textbook", 32)
    with faster.rewritten(network):
        twin = copy.deepcopy(network)
        before = twin(images)
        with torch.no_grad():
            network.fc1.weight.zero_()
        assert torch.equal(twin(images), before)


def test_a_fused_optimizer_with_gradients_in_another_order_is_refused():
    weight = nn.Parameter(torch.randn(4, 3, 5, 5))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
    faster.watch_strides(optimizer)
    weight.grad = torch.randn(4, 3, 5, 5)
    optimizer.step()
    momentum = optimizer.state[weight]["momentum_buffer"]
    optimizer.state[weight]["momentum_buffer"] = momentum.contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="momentum_buffer of a parameter of shape"):
        optimizer.step()


def test_a_side_of_one_has_no_order():
    weight = nn.Parameter(torch.randn(4, 1, 5, 5))
    weight.grad = torch.randn(4, 1, 5, 5).contiguous(memory_format=torch.channels_last)
    faster.check_strides(torch.optim.SGD([weight], lr=0.1))
