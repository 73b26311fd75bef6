"""AlexNet of 2012 against the paper's numbers, against grouped convolutions, and against itself on two devices; table 6-2."""

import pytest
import torch
import torchvision
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from tapetum import models
from tapetum.errors import UserError
from tapetum.models.summary import summarize


class Grouped(nn.Module):
    """The usual one-device form: grouped convolutions over all maps; written with functions, from the paper alone."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def both(self, layer, part):
        return torch.cat([self.state[f"columns.{column}.{layer}.{part}"] for column in (0, 1)])

    def normalised(self, x):
        halves = []
        for maps in x.chunk(2, 1):
            squares = F.pad(maps.square(), (0, 0, 0, 0, 2, 2))
            sums = sum(squares[:, k : k + maps.shape[1]] for k in range(5))
            halves.append(maps / (2 + 1e-4 * sums) ** 0.75)
        return torch.cat(halves, 1)

    def forward(self, x):
        conv = {n: (self.both(f"conv{n}", "weight"), self.both(f"conv{n}", "bias")) for n in range(1, 6)}
        x = F.max_pool2d(self.normalised(F.conv2d(x, *conv[1], stride=4).relu()), 3, 2)
        x = F.max_pool2d(self.normalised(F.conv2d(x, *conv[2], padding=2, groups=2).relu()), 3, 2)
        x = F.conv2d(x, *conv[3], padding=1).relu()
        x = F.conv2d(x, *conv[4], padding=1, groups=2).relu()
        x = F.max_pool2d(F.conv2d(x, *conv[5], padding=1, groups=2).relu(), 3, 2).flatten(1)
        for n in (6, 7):
            x = F.linear(x, self.both(f"fc{n}", "weight"), self.both(f"fc{n}", "bias")).relu()
        return F.linear(x, self.state["fc8.weight"], self.state["fc8.bias"])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return models.build("alexnet-2012", 5, 99).eval()


def test_the_papers_parameters():
    found = models.build_on_meta("alexnet-2012", 1000)
    counts = {}
    for row in summarize(found, 3, 227).rows:
        name = row.layer.rpartition(".")[2]
        counts[name] = counts.get(name, 0) + row.params
    wanted = [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
    assert [count for count in counts.values() if count] == wanted
    assert sum(wanted) == 60_965_224
    assert sum(p.numel() for p in found.parameters()) == 60_965_224


def test_the_papers_shapes():
    # Figure 2: two times 48 maps of 55, 128 of 27, 192 of 13 twice, 128 of 13, 2048 units twice.
    rows = summarize(models.build_on_meta("alexnet-2012", 1000), 3, 227).rows
    for column in (0, 1):
        shapes = [r.output[1:] for r in rows if r.layer.startswith(f"columns.{column}.") and r.params]
        assert shapes == [(48, 55, 55), (128, 27, 27), (192, 13, 13), (192, 13, 13), (128, 13, 13), (2048,), (2048,)]
    # Section 3.5 counts neurons: 253,440 in the first layer by the figure's numbers (its text says 290,400 = 96 * 55 * 55).
    assert sum(r.output[1] * 55 * 55 for r in rows if r.layer.endswith("conv1")) == 290_400


def test_it_equals_grouped_convolutions_with_the_same_weights(network):
    images = torch.randn(2, 3, 99, 99) * 60
    with torch.no_grad():
        ours, theirs = network(images), Grouped(network.state_dict())(images)
    assert ours.abs().max() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_column_sees_the_other_only_in_convolution_3_and_the_linear_layers(network):
    images = torch.randn(1, 3, 99, 99) * 60
    outputs = {}
    handles = [
        layer.register_forward_hook(lambda _, inputs, output, name=name: outputs.__setitem__(name, output.clone()))
        for name, layer in network.named_modules()
        if name.startswith("columns.1.") and isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network(images)
        before = dict(outputs)
        weight = network.columns[0].conv2.weight
        weight.mul_(1.5)
        network(images)
        weight.div_(1.5)
    for handle in handles:
        handle.remove()
    same = {name.rpartition(".")[2] for name in before if torch.equal(before[name], outputs[name])}
    assert same == {"conv1", "conv2"}


@pytest.mark.parametrize("devices", [["cpu", "cpu"], ["cpu:0", "cpu"]])
def test_two_devices_give_the_same_outputs(network, devices):
    images = torch.randn(2, 3, 99, 99) * 60
    with torch.no_grad():
        before = network(images)
        after = network.place(devices)(images)
    assert torch.equal(before, after)


def test_each_column_goes_to_its_own_device():
    network = models.build("alexnet-2012", 2, 99).place(["meta", "cpu"])
    assert [{p.device.type for p in column.parameters()} for column in network.columns] == [{"meta"}, {"cpu"}]
    assert network.fc8.weight.device.type == "meta"


def test_on_two_devices_only_the_exchange_moves_data():
    """torch's fake tensors know their device and refuse to be mixed, without a GPU: what was left behind would be an error."""
    with FakeTensorMode():
        network = models.build("alexnet-2012", 2, 99).eval()
        for part, device in ((network.columns[0], "cuda:0"), (network.columns[1], "cuda:1"), (network.fc8, "cuda:0")):
            for layer in part.modules():  # fake parameters cannot be moved in place, as `place` does
                layer._parameters = {name: nn.Parameter(p.to(device)) for name, p in layer._parameters.items()}
        seen = []
        for name, layer in network.named_modules():
            if not list(layer.children()):
                layer.register_forward_hook(lambda _, i, out, name=name: seen.append((name, str(i[0].device), str(out.device))))
        output = network(torch.zeros(2, 3, 99, 99))
        assert str(output.device) == "cuda:0"
        with pytest.raises(RuntimeError, match="device"):
            network.columns[1].layers_3_5(torch.zeros(1, 256, 5, 5, device="cuda:0"))
    for name, came_from, went_to in seen:
        assert came_from == went_to == ("cuda:1" if name.startswith("columns.1") else "cuda:0"), name
    assert len(seen) == 2 * 21 + 1


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu", "cpu"], []])
def test_one_or_three_devices_are_refused(network, devices):
    with pytest.raises(UserError, match=rf"^{len(devices)} device\(s\) for two columns.*expected two"):
        network.place(devices)


def test_the_papers_initialisation():
    torch.manual_seed(0)
    network = models.build("alexnet-2012", 10, 99)
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    layers = [(n.rpartition(".")[2], m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 15
    for name, layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05), name
        assert (layer.bias == (1 if name in ones else 0)).all(), name


def test_normalisation_is_equation_3_3():
    maps = torch.randn(1, 9, 2, 2, dtype=torch.double) * 50
    found = models.alexnet2012.normalization()(maps)
    for i in range(9):
        total = maps[:, max(0, i - 2) : i + 3].square().sum(1)
        torch.testing.assert_close(found[:, i], maps[:, i] / (2 + 1e-4 * total) ** 0.75)


def test_table_6_2():
    rows = summarize(models.build_on_meta("alexnet-table", 1000), 3, 227).rows
    kept = [(r.name.split("-")[0], r.output[1:]) for r in rows if r.name.split("-")[0] != "ReLU"]
    assert kept == [
        ("Conv2d", (96, 55, 55)), ("MaxPool2d", (96, 27, 27)), ("Conv2d", (256, 27, 27)), ("MaxPool2d", (256, 13, 13)),
        ("Conv2d", (384, 13, 13)), ("Conv2d", (384, 13, 13)), ("Conv2d", (256, 13, 13)), ("MaxPool2d", (256, 6, 6)),
        ("Linear", (4096,)), ("Linear", (4096,)), ("Linear", (1000,)),
    ]  # fmt: skip
    assert sum(row.params for row in rows) == 62_378_344
    network = models.build_on_meta("alexnet-table", 1000)
    kernels = [(m.kernel_size, m.stride) for m in network.modules() if isinstance(m, nn.MaxPool2d)]
    assert kernels == [(3, 2)] * 3
    assert [(m.kernel_size[0], m.stride[0]) for m in network.modules() if isinstance(m, nn.Conv2d)] == [
        (11, 4), (5, 1), (3, 1), (3, 1), (3, 1),
    ]  # fmt: skip


def test_the_net_of_2014_is_torchvisions():
    torch.manual_seed(2)
    theirs = torchvision.models.AlexNet(num_classes=7).eval()
    ours = models.build("alexnet-2014", 7).eval()
    ours.load_state_dict(theirs.state_dict())
    assert sum(p.numel() for p in models.build_on_meta("alexnet-2014", 1000).parameters()) == 61_100_840
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert (ours(images) - theirs(images)).abs().max() <= 1e-6
