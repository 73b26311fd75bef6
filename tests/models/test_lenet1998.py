"""LeNet-5 of 1998 against the numbers of its paper, and layer by layer against loops and plain formulas in numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tapetum import models
from tapetum.errors import UserError
from tapetum.models import lenet1998
from tapetum.models.lenet1998 import C3_TABLE, class_codes
from tapetum.models.summary import summarize


@pytest.fixture
def network():
    torch.manual_seed(0)
    return models.build("lenet5-1998", 10).eval()


def squash(a):
    return 1.7159 * np.tanh(2 / 3 * a)


def convolved(maps, kernels, bias, seen):
    """One output map, by loops: the kernels of the maps that it sees, summed."""
    side = maps.shape[1] - 4
    out = np.full((side, side), float(bias))
    for kernel, number in zip(kernels, seen, strict=True):
        for row in range(side):
            for column in range(side):
                out[row, column] += (maps[number, row : row + 5, column : column + 5] * kernel).sum()
    return out


def subsampled(maps, weight, bias):
    height = maps.shape[1] // 2
    sums = maps.reshape(len(maps), height, 2, height, 2).sum((2, 4))
    return sums * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)


def test_the_papers_trainable_parameters():
    # LeCun et al. 1998, section II.B: 156, 12, 1,516, 32, 48,120 and 10,164, in all 60,000.
    rows = [row for row in summarize(models.build_on_meta("lenet5-1998", 10), 1, 32).rows if row.params]
    assert [row.params for row in rows] == [156, 12, 1_516, 32, 48_120, 10_164]
    assert sum(row.params for row in rows) == 60_000
    assert [row.output[1:] for row in rows] == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,)]


def test_the_papers_connections():
    # The same section counts connections: 122,304 in C1, 151,600 in C3, 48,120 in C5 (every weight and bias at every place).
    rows = {row.layer: row for row in summarize(models.build_on_meta("lenet5-1998", 10), 1, 32).rows}
    places = {"c1": 28 * 28 * 6, "c3": 10 * 10 * 16, "c5": 120}
    assert [rows[name].multiply_adds + places[name] for name in places] == [122_304, 151_600, 48_120]


def test_table_1_of_the_paper():
    # Rows are maps of S2, columns maps of C3; a cross is a connection.
    table = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    crosses = {(column, row) for row, line in enumerate(table) for column, sign in enumerate(line) if sign == "X"}
    assert {(column, row) for column, maps in enumerate(C3_TABLE) for row in maps} == crosses
    assert len(crosses) == 60


def test_every_layer_by_loops(network):
    w = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    image = torch.randn(1, 1, 32, 32)
    x = image[0].double().numpy()
    x = squash(np.stack([convolved(x, w["c1.weight"][k], w["c1.bias"][k], [0]) for k in range(6)]))
    x = squash(subsampled(x, w["s2.weight"], w["s2.bias"]))
    kernels = iter(w["c3.weight"])
    c3 = [convolved(x, [next(kernels) for _ in seen], w["c3.bias"][k], seen) for k, seen in enumerate(C3_TABLE)]
    x = squash(subsampled(squash(np.stack(c3)), w["s4.weight"], w["s4.bias"]))
    x = squash((w["c5.weight"] * x).sum((1, 2, 3)) + w["c5.bias"])
    x = squash(w["f6.weight"] @ x + w["f6.bias"])
    expected = [-((x - code) ** 2).sum() for code in class_codes(10).numpy()]
    np.testing.assert_allclose(network(image)[0].detach().numpy(), expected, rtol=1e-4)


def test_the_squashing_function_passes_through_plus_and_minus_one():
    found = lenet1998.ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 100.0]))
    assert found.tolist() == pytest.approx([-1, 0, 1, 1.7159], abs=1e-4)


def test_weights_start_within_the_papers_bounds(network):
    fan_ins = {"c1": [25], "s2": [4], "c3": [25 * len(maps) for maps in C3_TABLE], "s4": [4], "c5": [400], "f6": [120]}
    for name, fans in fan_ins.items():
        weight, bias = (getattr(getattr(network, name), part).detach() for part in ("weight", "bias"))
        if name == "c3":
            groups = weight.split([len(maps) for maps in C3_TABLE])
            assert all(group.abs().max() <= 2.4 / fan for group, fan in zip(groups, fans, strict=True))
            assert (bias.abs() <= 2.4 / torch.tensor(fans)).all()
            continue
        bound = 2.4 / fans[0]
        assert weight.abs().max() <= bound
        assert bias.abs().max() <= bound
        if weight.numel() > 100:  # even, so its deviation is bound / sqrt(3)
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_codes_of_digits_are_stylised_digits():
    codes = class_codes(10)
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    distances = (codes[:, None] != codes[None]).sum(2) + 84 * torch.eye(10, dtype=torch.long)
    assert distances.min() >= 5
    # "Similar characters have similar codes" (section II.B): 8 and 0 look more alike than 1 and 0.
    assert distances[0, 8] < distances[0, 1]


@pytest.mark.parametrize("count", [2, 3, 11, 84, 168])
def test_other_codes_are_as_different_as_can_be(count):
    codes = class_codes(count)
    assert codes.shape == (count, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    products = codes @ codes.T
    off = products[~torch.eye(count, dtype=torch.bool)]
    assert set(off.tolist()) <= {0.0, -84.0}  # orthogonal, or a code and its negative
    assert len({tuple(code.tolist()) for code in codes}) == count


def test_more_classes_than_codes_are_refused():
    with pytest.raises(UserError, match=r"169 classes: expected at most 168.*lenet5-1998-softmax"):
        models.build("lenet5-1998", 169)
    assert models.build("lenet5-1998-softmax", 169)(torch.zeros(1, 1, 32, 32)).shape == (1, 169)


def test_the_codes_are_not_learnt(network):
    assert "output.weight" in network.state_dict()
    assert "output.weight" not in dict(network.named_parameters())


def test_the_softmax_net_has_the_same_body():
    torch.manual_seed(3)
    rbf = models.build("lenet5-1998", 10)
    torch.manual_seed(3)
    softmax = models.build("lenet5-1998-softmax", 10)
    assert isinstance(softmax.output, nn.Linear)
    assert sum(p.numel() for p in softmax.parameters()) == 60_000 + 850
    assert [name for name in rbf.state_dict() if name not in softmax.state_dict()] == []
