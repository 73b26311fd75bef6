"""Layers from text: against torch itself, and refused in one sentence where they are none."""

import pytest
import torch
from torch import nn

from tapetum.errors import UserError
from tapetum.models.expression import is_expression, layer
from tapetum.models.summary import summarize


@pytest.mark.parametrize(("size", "height", "width"), [(5, 2, 4), (7, 3, 6)])
def test_the_notes_average_pool_gives_what_torch_gives(size, height, width):
    # The notes say 5x5 -> 3x3 and 7x7 -> 4x4.
    found, channels = layer("nn.AvgPool2d((3,2), stride=(2,1))", size)
    (row,) = summarize(found, channels, size).rows
    assert row.output == (-1, 1, height, width)
    assert nn.AvgPool2d((3, 2), stride=(2, 1))(torch.zeros(1, 1, size, size)).shape[2:] == (height, width)
    assert row.formula == f"height ({size}-3+2*0)/2+1 = {height}; width ({size}-2+2*0)/1+1 = {width}"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("Conv2d(3, 64, 11, stride=4, padding=2)", (-1, 64, 63, 63)),
        ("torch.nn.MaxPool2d(kernel_size=3, stride=2)", (-1, 1, 127, 127)),
        ("AdaptiveAvgPool2d(6)", (-1, 1, 6, 6)),
        ("AdaptiveAvgPool2d((5, 7))", (-1, 1, 5, 7)),
    ],
)
def test_other_layers(text, shape):
    assert is_expression(text)
    found, channels = layer(text, 256)
    assert summarize(found, channels, 256).rows[0].output == shape


def test_adaptive_fields_are_torchs():
    # Each output is the mean of a field: with all weight on one input its reciprocal is the field's size.
    found, _ = layer("AdaptiveAvgPool2d(6)", 16)
    (row,) = summarize(found, 1, 16).rows
    sizes = {round(1 / value) for value in nn.AdaptiveAvgPool1d(6)(torch.eye(16)[:, None]).unique().tolist() if value}
    assert row.formula == "16 -> 6, fields of 3 or 4"
    assert sizes == {3, 4}


@pytest.mark.parametrize(
    "text",
    [
        "AvgPool2d(", "AvgPol2d(2)", "__import__('os').system('x')", "MaxPool2d(x)", "MaxPool2d()", "Conv2d(3)", "Linear(3, 4)",
        "MaxPool2d(2)(3)", "AvgPool2d(*[1])", "AvgPool2d(**{'kernel_size': 2})", "Conv2d(-1, 2, 3)", "(lambda: 1)()",
        "MaxPool2d(2) + 1", "Conv2d(3, 4, 5, groups=2)", "Conv2d(3, 4, 10**400)", "MaxPool2d('\0')",
    ],
)  # fmt: skip
def test_what_is_no_layer_is_refused(text):
    with pytest.raises(UserError):
        layer(text, 8)


def test_a_layer_larger_than_its_input_is_refused():
    with pytest.raises(UserError, match=r"does not fit maps of 2x2 .*use a larger --size"):
        layer("MaxPool2d(3)", 2)
    with pytest.raises(UserError, match="size 0"):
        layer("MaxPool2d(3)", 0)
