"""The notes' LeNets against hand arithmetic and against torch.nn.functional, layer by layer."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tapetum import models


def features(weights, x_BCHW):
    """Flat features (B, D) of any of the three networks, without its modules."""
    x = F.max_pool2d(F.conv2d(x_BCHW, weights["conv1.weight"], weights["conv1.bias"]).clamp(min=0), 2)
    x = F.max_pool2d(F.conv2d(x, weights["conv2.weight"], weights["conv2.bias"]).clamp(min=0), 2)
    return x.flatten(1)


def linear(weights, name, x_BD):
    return x_BD @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def test_table_6_1():
    shapes = []
    network = models.build("lenet-table", 2)
    for layer in (network.conv1, network.pool1, network.conv2, network.pool2, network.fc1, network.fc2, network.fc3):
        layer.register_forward_hook(lambda layer, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 1, 32, 32))
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120,), (84,), (2,)]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in network.children()]
    assert [n for n in counts if n] == [6 * 26, 16 * 151, 120 * 401, 84 * 121, 2 * 85]
    assert sum(counts) == 61_026


@pytest.mark.parametrize("name", ["lenet-textbook", "lenet"])
def test_the_count_of_the_notes(name):
    network = models.build_on_meta(name, 2, 224)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in network.children()]
    assert [n for n in counts if n] == [16 * (3 * 25 + 1), 32 * (16 * 25 + 1), (32 * 53 * 53 + 1) * 512, 513 * 2]
    assert sum(counts) == 46_038_242


def test_lenet_at_its_own_size_has_the_count_of_its_docstring():
    assert sum(p.numel() for p in models.build_on_meta("lenet", 2).parameters()) == 7_240_930


def test_the_table_is_relu_between_all_layers_and_logits():
    torch.manual_seed(0)
    network = models.build("lenet-table", 4, 24)
    weights, x = network.state_dict(), torch.randn(3, 1, 24, 24)
    expected = linear(weights, "fc1", features(weights, x)).clamp(min=0)
    expected = linear(weights, "fc2", expected).clamp(min=0)
    torch.testing.assert_close(network(x), linear(weights, "fc3", expected))


def test_the_textbook_has_no_relu_between_its_linear_layers_and_a_softmax_inside():
    torch.manual_seed(0)
    network = models.build("lenet-textbook", 4, 24)
    weights, x = network.state_dict(), torch.randn(3, 3, 24, 24)
    one_layer = weights["fc2.weight"] @ weights["fc1.weight"]
    bias = weights["fc2.weight"] @ weights["fc1.bias"] + weights["fc2.bias"]
    logits = features(weights, x) @ one_layer.T + bias
    powers = logits.exp()
    torch.testing.assert_close(network(x), powers / powers.sum(1, keepdim=True))


def test_two_softmaxes_squeeze_the_textbook_between_0269_and_0731():
    torch.manual_seed(0)
    network = models.build("lenet-textbook", 2, 32)
    with torch.no_grad():
        network.fc2.weight *= 1e4  # as sure of itself as can be
        probabilities_BK = network(torch.randn(64, 3, 32, 32))
    torch.testing.assert_close(probabilities_BK.sum(1), torch.ones(64))
    squeezed = probabilities_BK.softmax(1)
    assert squeezed.min().item() == pytest.approx(1 / (1 + math.e), abs=1e-4)  # 0.269
    assert squeezed.max().item() == pytest.approx(math.e / (1 + math.e), abs=1e-4)  # 0.731
    losses = F.cross_entropy(probabilities_BK, torch.zeros(64, dtype=torch.long), reduction="none")
    assert losses.min().item() >= 0.313
    assert losses.max().item() <= 1.3133


def test_the_textbook_is_initialised_by_torch():
    torch.manual_seed(3)
    network = models.build("lenet-textbook", 2, 32)
    torch.manual_seed(3)
    plain = [nn.Conv2d(3, 16, 5), nn.Conv2d(16, 32, 5), nn.Linear(32 * 25, 512), nn.Linear(512, 2)]
    for layer, expected in zip((network.conv1, network.conv2, network.fc1, network.fc2), plain, strict=True):
        assert torch.equal(layer.weight, expected.weight)
        assert torch.equal(layer.bias, expected.bias)


def test_lenet_is_the_textbook_with_a_relu_between_and_no_softmax():
    torch.manual_seed(0)
    network = models.build("lenet", 4, 24).eval()
    weights, x = network.state_dict(), torch.randn(3, 3, 24, 24)
    hidden = linear(weights, "fc1", features(weights, x)).clamp(min=0)
    torch.testing.assert_close(network(x), linear(weights, "fc2", hidden))
    textbook = models.build("lenet-textbook", 4, 24)
    assert {key: w.shape for key, w in textbook.state_dict().items()} == {key: w.shape for key, w in weights.items()}


def test_lenet_drops_before_each_linear_layer_while_it_trains():
    torch.manual_seed(0)
    network = models.build("lenet", 2, 32)
    fed = {}
    for layer in (network.fc1, network.fc2):
        layer.register_forward_pre_hook(lambda layer, inputs: fed.update({layer: inputs[0]}))
    x = torch.randn(16, 3, 32, 32)
    network.eval()(x)
    kept = {layer: (values != 0).float().mean().item() for layer, values in fed.items()}
    network.train()(x)
    for layer, values in fed.items():
        assert (values != 0).float().mean().item() == pytest.approx(kept[layer] / 2, rel=0.1)


def test_a_fresh_lenet_knows_nothing():
    torch.manual_seed(0)
    logits_BK = models.build("lenet", 10, 64).eval()(torch.randn(32, 3, 64, 64))
    assert F.cross_entropy(logits_BK, torch.arange(32) % 10).item() == pytest.approx(math.log(10), rel=0.1)


def test_each_mended_textbook_differs_in_its_one_mistake():
    x = torch.randn(3, 3, 24, 24)
    networks = {}
    for name in ("lenet-textbook", "lenet-textbook-logits", "lenet-textbook-relu"):
        torch.manual_seed(0)
        networks[name] = models.build(name, 2, 24)
    weights = networks["lenet-textbook"].state_dict()
    for network in networks.values():
        assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    hidden = linear(weights, "fc1", features(weights, x))
    logits = linear(weights, "fc2", hidden)
    torch.testing.assert_close(networks["lenet-textbook-logits"](x), logits)
    torch.testing.assert_close(networks["lenet-textbook"](x), logits.softmax(1))
    torch.testing.assert_close(networks["lenet-textbook-relu"](x), linear(weights, "fc2", hidden.clamp(min=0)).softmax(1))


@pytest.mark.parametrize(
    ("size", "classes", "total"), [(32, 10, 486_426), (63, 10, 486_426), (128, 2, 297_018), (64, 2, 297_018)]
)
def test_lenet_now_counts_as_its_docstring_and_has_a_stem_for_photos(size, classes, total):
    network = models.build_on_meta("lenet-now", classes, size)
    assert sum(p.numel() for p in network.parameters()) == total
    assert isinstance(network.stem, torch.nn.Identity) == (size < 64)
    assert network.conv1.kernel_size == network.conv2.kernel_size == (5, 5)
