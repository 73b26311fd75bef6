"""One set of checks runs over every network of the registry; the rest is about names, sizes and networks from outside."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tapetum import models
from tapetum.errors import UserError
from tapetum.models import registry
from tapetum.models.summary import summarize

# A small size that every network of the family fits, and that is not its own.
SMALL = {
    "lenet5-1998": 36, "lenet5-1998-softmax": 40, "lenet-table": 20, "lenet-textbook": 32,
    "lenet-textbook-logits": 32, "lenet-textbook-relu": 36, "lenet": 32, "lenet-now": 48,
    "alexnet-2012": 99, "alexnet-table": 99, "alexnet-2014": 63, "alexnet-textbook": 63, "alexnet": 63, "alexnet-now": 48,
    "compact": 32, "compact-wide": 40, "compact-large": 24,
}  # fmt: skip


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def ten_lines(num_classes: int, size: int) -> nn.Module:
    """Somebody else's network."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, num_classes),
    )


def test_the_oldest_idea_comes_first():
    assert models.names() == (
        "lenet5-1998", "lenet5-1998-softmax", "lenet-table", "lenet-textbook", "lenet-textbook-logits",
        "lenet-textbook-relu", "lenet", "lenet-now", "alexnet-2012",
        "alexnet-table", "alexnet-2014", "alexnet-textbook", "alexnet",
        "alexnet-now", "compact", "compact-wide", "compact-large",
    )  # fmt: skip


@pytest.mark.parametrize("name", models.names())
def test_every_network_at_its_own_size(name):
    entry = models.entry(name)
    assert entry.name == name
    assert entry.channels in (1, 3)
    assert entry.title
    assert entry.paper
    network = models.build_on_meta(name, 5).eval()
    images_BCHW = torch.empty(2, entry.channels, entry.size, entry.size, device="meta")
    assert network(images_BCHW).shape == (2, 5)

    found = summarize(network, entry.channels, entry.size)
    assert found.params == sum(p.numel() for p in network.parameters())
    assert found.params == sum(row.params for row in found.rows)
    assert found.trainable == found.params


@pytest.mark.parametrize("name", models.names())
def test_every_network_at_another_size(name):
    entry, size = models.entry(name), SMALL[name]
    torch.manual_seed(7)
    network = models.build(name, 3, size)
    torch.manual_seed(7)
    again = models.build(name, 3, size)
    for (key, weights), same in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(weights, same), key
    del again

    logits_BK = network.eval()(torch.randn(4, entry.channels, size, size))
    assert logits_BK.shape == (4, 3)
    nn.functional.cross_entropy(logits_BK, torch.tensor([0, 1, 2, 0])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert 0 < parameter.grad.abs().sum().item() < math.inf, key


@pytest.mark.parametrize("name", ["lenet-table", "lenet", "compact"])
def test_the_mended_ones_start_as_he_et_al_advise(name):
    torch.manual_seed(0)
    *body, head = [layer for layer in models.build(name, 20, SMALL[name]).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in body:
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.15)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert all(layer.bias is None or layer.bias.count_nonzero() == 0 for layer in (*body, head))


def test_another_seed_gives_other_weights():
    torch.manual_seed(1)
    one = models.build("lenet-table", 2)
    other = models.build("lenet-table", 2)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_the_own_size_is_the_default():
    assert models.build("lenet-table", 2).fc1.in_features == 400
    assert models.build("lenet-table", 2, 28).fc1.in_features == 16 * 4 * 4


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("lenet", 4, "lenet at 4x4: conv1 (kernel 5x5) does not fit its 4x4 input; the smallest size that fits is 16."),
        ("lenet", 5, "lenet at 5x5: pool1 (kernel 2x2) does not fit its 1x1 input; the smallest size that fits is 16."),
        ("lenet", 11, "lenet at 11x11: conv2 (kernel 5x5) does not fit its 3x3 input; the smallest size that fits is 16."),
        ("lenet-table", 15, "pool2 (kernel 2x2) does not fit its 1x1 input; the smallest size that fits is 16."),
        ("alexnet", 6, "(kernel 11x11) does not fit its 6x6 input; the smallest size that fits is 63."),
        ("alexnet-textbook", 62, "(kernel 3x3) does not fit its 2x2 input; the smallest size that fits is 63."),
        ("compact", 15, "(kernel 2x2) does not fit its 1x1 input; the smallest size that fits is 16."),
    ],
)
def test_a_size_that_does_not_fit_is_refused_by_layer(name, size, reason):
    with pytest.raises(UserError) as refusal:
        models.build(name, 2, size)
    assert str(refusal.value).endswith(reason)


@pytest.mark.parametrize(("name", "smallest"), [("lenet", 16), ("lenet-textbook", 16), ("lenet-table", 16), ("compact", 16)])
def test_torch_agrees_about_the_smallest_size(name, smallest):
    channels = models.entry(name).channels
    fitting = models.build(name, 2, smallest).eval()
    assert fitting(torch.zeros(1, channels, smallest, smallest)).shape == (1, 2)
    with pytest.raises(RuntimeError):
        fitting(torch.zeros(1, channels, smallest - 1, smallest - 1))


@pytest.mark.parametrize("name", models.names())
def test_the_stated_smallest_size_is_what_trying_finds(name):
    found = replace(models.entry(name), smallest=None)
    smallest = models.entry(name).smallest
    tried = [*range(max(1, smallest - 3), smallest + 9), found.size]
    assert [size for size in tried if not registry._misfit(found, 2, size)] == [size for size in tried if size >= smallest]


@pytest.mark.parametrize(("name", "near"), [("lenett", "lenet"), ("LeNet", "lenet"), ("lenet5", "lenet5-1998")])
def test_an_unknown_name_gets_the_nearest_and_the_list(name, near):
    with pytest.raises(UserError, match=f"Did you mean '{near}'") as refusal:
        models.entry(name)
    assert f"'{name}'" in str(refusal.value)
    for known in models.names():
        assert known in str(refusal.value)


@pytest.mark.parametrize("num_classes", [1, 0, -3])
def test_fewer_than_two_classes_are_refused(num_classes):
    with pytest.raises(UserError, match=f"^{num_classes} classes"):
        models.build("lenet", num_classes)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(UserError, match=f"^size {size}:"):
        models.build("lenet", 2, size)


def test_a_network_from_outside(own_registry):
    models.register("ten-lines", size=12, channels=1, title="ten lines", paper="none")(ten_lines)
    assert models.names()[-1] == "ten-lines"
    network = models.build("ten-lines", 3)
    assert network(torch.zeros(2, 1, 12, 12)).shape == (2, 3)
    found = summarize(network, 1, 12)
    assert found.params == (9 * 4 + 4) + (4 * 3 + 3)
    assert found.rows[0].formula == "(12-3+2*1)/1+1 = 12"
    with pytest.raises(UserError, match=r"ten-lines at 1x1: 2 \(kernel 2x2\) does not fit its 1x1 input; .* fits is 2"):
        models.build("ten-lines", 3, 1)


def test_what_a_test_registers_is_gone_after_it():
    assert "ten-lines" not in models.names()


def test_two_of_one_name_are_a_bug(own_registry):
    with pytest.raises(ValueError, match="two networks are called 'lenet'"):
        models.register("lenet", size=12, channels=1, title="another", paper="none")(ten_lines)
    assert models.entry("lenet").build is models.lenet.LeNet


def test_a_refusal_costs_no_memory(own_registry):
    devices = set()

    @models.register("too-large", size=64, channels=3, title="a kernel that never fits", paper="none")
    def too_large(num_classes: int, size: int) -> nn.Module:
        devices.add(torch.empty(0).device.type)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5000), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10**12), nn.Linear(10**12, num_classes)
        )

    with pytest.raises(UserError, match="5000x5000"):
        models.build("too-large", 2, 4096)
    assert devices == {"meta"}


def test_build_on_meta_takes_no_memory_however_large():
    network = models.build_on_meta("lenet", 2, 4_096)
    assert all(p.is_meta for p in network.parameters())
    assert network.fc1.in_features == 32 * 1_021 * 1_021
