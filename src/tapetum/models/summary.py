"""A network layer by layer, as the study notes print it: output shapes, parameters, sizes in MB, and the arithmetic.

The table and the four MB lines are those of the torchsummary program that the notes use. The last column is ours: the notes'
formulas for output sizes, (W-F+2P)/S+1 for convolutions and IF/F for pools, with each layer's own numbers put in.
"""

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tapetum.models.layers import window

_BYTES_PER_MB = 1024**2


@dataclass(frozen=True)
class Call:
    """One layer at work, in its turn."""

    name: str
    """Kind and running number, as in the notes: "Conv2d-1"."""
    layer: str
    """What the network calls it: "conv1"."""
    before: int
    """How often the same layer was at work before."""
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    """What came in; of tensors that the network changes later, what they are then."""
    output: torch.Tensor
    """What went out, as it was."""


@dataclass(frozen=True)
class Row:
    """One layer."""

    name: str
    """Kind and running number, as in the notes: "Conv2d-1"."""
    layer: str
    """What the network calls it: "conv1"."""
    output: tuple[int, ...]
    """Output shape; -1 stands for the number of pictures."""
    params: int
    formula: str
    """How the output's side, or a linear layer's parameters, come about; empty where nothing changes."""
    multiply_adds: int
    """Multiplications with additions for one picture."""


@dataclass(frozen=True)
class Summary:
    """A network at one input size. Sizes are float32 megabytes of 1024 * 1024 bytes."""

    rows: tuple[Row, ...]
    params: int
    trainable: int
    multiply_adds: int
    input_mb: float
    forward_backward_mb: float
    """All layers' outputs for one picture, twice: once forward, once for their gradients."""
    params_mb: float
    total_mb: float


def summarize(network: nn.Module, channels: int, size: int) -> Summary:
    """The summary of `network` for pictures (channels, size, size). Takes no memory for weights, and changes nothing.

    It sees layers that are modules; what `forward` does without one (a flatten, a sum) has no row.

    >>> found = summarize(nn.Sequential(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()), channels=3, size=256)
    >>> found.rows[0].name, found.rows[0].output, found.rows[0].formula
    ('Conv2d-1', (-1, 64, 63, 63), '(256-11+2*2)/4+1 = 63.25 -> 63, 1 px dropped')
    """
    rows = [
        Row(
            name=call.name,
            layer=call.layer,
            output=(-1, *call.output.shape[1:]),
            params=sum(p.numel() for p in call.module.parameters()),
            formula=_formula(call.module, call.inputs[0].shape[-2:], call.output.shape[-2:]),
            multiply_adds=_multiply_adds(call.module, call.output),
        )
        for call in follow(_on_meta(network).eval(), torch.empty(1, channels, size, size, device="meta"))
    ]
    params = sum(p.numel() for p in network.parameters())
    sizes = (
        channels * size * size * 4 / _BYTES_PER_MB,
        sum(math.prod(row.output[1:]) for row in rows) * 2 * 4 / _BYTES_PER_MB,
        params * 4 / _BYTES_PER_MB,
    )
    return Summary(
        rows=tuple(rows),
        params=params,
        trainable=sum(p.numel() for p in network.parameters() if p.requires_grad),
        multiply_adds=sum(row.multiply_adds for row in rows),
        input_mb=sizes[0],
        forward_backward_mb=sizes[1],
        params_mb=sizes[2],
        total_mb=sum(sizes),
    )


@torch.no_grad()
def follow(network: nn.Module, images_BCHW: torch.Tensor) -> list[Call]:
    """The layers of `network` in the order in which they work on a batch, with what each makes of it.

    Layers are modules without others inside; what `forward` does without one (a flatten, a sum) is not seen.

    >>> calls = follow(nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(inplace=True)), torch.zeros(1, 1, 32, 32))
    >>> [(call.name, call.layer, tuple(call.output.shape)) for call in calls]
    [('Conv2d-1', '0', (1, 6, 28, 28)), ('ReLU-2', '1', (1, 6, 28, 28))]
    """
    calls: list[Call] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor, name: str) -> None:
        # A copy: the next layer may work in place.
        before = sum(call.module is layer for call in calls)
        calls.append(Call(f"{type(layer).__name__}-{len(calls) + 1}", name, before, layer, inputs, output.clone()))

    layers = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    handles = [
        layer.register_forward_hook(lambda layer, inputs, output, name=name: note(layer, inputs, output, name))
        for name, layer in layers
    ]
    try:
        network(images_BCHW)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def last_convolution(network: nn.Module, channels: int, size: int) -> list[str]:
    """What the network calls its last convolution whose maps have more than one place. Takes no memory for weights.

    One name; in a network of two columns that of each, which together hold its maps. None where there is no such layer.

    >>> last_convolution(nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Conv2d(6, 9, 28), nn.Flatten()), channels=1, size=32)
    ['0']
    """
    calls = follow(_on_meta(network).eval(), torch.empty(1, channels, size, size, device="meta"))
    found = [
        call.layer
        for call in calls
        if "Conv" in type(call.module).__name__ and call.output.ndim == 4 and math.prod(call.output.shape[2:]) > 1
    ]
    return in_columns(found[-1], found) if found else []


def in_columns(layer: str, layers: Iterable[str]) -> list[str]:
    """Of `layers` those that are `layer` itself, or the same in another column.

    >>> in_columns("columns.1.conv5", ["columns.0.conv4", "columns.0.conv5", "columns.1.conv5"])
    ['columns.0.conv5', 'columns.1.conv5']
    """

    def inside(name: str) -> str:
        return re.sub(r"^columns\.\d\.", "", name)

    return [name for name in layers if inside(name) == inside(layer)]


def format_summary(summary: Summary) -> str:
    """The summary as the notes print it, with the formulas beside it."""
    widths = [max(len(row.name) for row in summary.rows), max(len(str(list(row.output))) for row in summary.rows)]
    widths = [max(widths[0], 12), max(widths[1], 12)]
    head = f"{'Layer (type)':<{widths[0]}}  {'Output Shape':<{widths[1]}}  {'Param #':>11}  Formula"
    rule = "-" * max(len(head), max(sum(widths) + 17 + len(row.formula) for row in summary.rows))
    lines = [rule, head, "=" * len(rule)]
    lines += [
        f"{row.name:<{widths[0]}}  {list(row.output)!s:<{widths[1]}}  {row.params:>11,}  {row.formula}".rstrip()
        for row in summary.rows
    ]
    lines += [
        "=" * len(rule),
        f"Total params: {summary.params:,}",
        f"Trainable params: {summary.trainable:,}",
        f"Non-trainable params: {summary.params - summary.trainable:,}",
        f"Multiply-adds: {summary.multiply_adds:,}",
        rule,
        f"Input size (MB): {summary.input_mb:.2f}",
        f"Forward/backward pass size (MB): {summary.forward_backward_mb:.2f}",
        f"Params size (MB): {summary.params_mb:.2f}",
        f"Estimated Total Size (MB): {summary.total_mb:.2f}",
        rule,
    ]
    return "\n".join(lines)


def _on_meta(network: nn.Module) -> nn.Module:
    """A copy without weights. `copy.deepcopy(network).to("meta")` would hold all of them twice for a moment."""
    weightless: dict[int, object] = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in network.parameters()}
    weightless |= {id(b): b.to("meta") for b in network.buffers()}
    return copy.deepcopy(network, weightless)


def _formula(layer: nn.Module, before: torch.Size, after: torch.Size) -> str:
    """How the side of the output comes about; for a kernel that is no square the height first, then the width."""
    if hasattr(layer, "kernel_size"):
        both = [_window_formula(layer, axis, before[axis], after[axis]) for axis in (0, 1)]
        return both[1] if both[0] == both[1] else f"height {both[0]}; width {both[1]}"
    if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        both = [_adaptive_formula(before[axis], after[axis]) for axis in (0, 1)]
        return both[1] if both[0] == both[1] else f"height {both[0]}; width {both[1]}"
    if isinstance(layer, nn.Linear):
        bias = f"+{layer.out_features}" if layer.bias is not None else ""
        params = sum(p.numel() for p in layer.parameters())
        return f"{layer.in_features}*{layer.out_features}{bias} = {params:,} parameters"
    return ""


def _window_formula(layer: nn.Module, axis: int, before: int, after: int) -> str:
    kernel, stride, paddings = window(layer, axis)
    over = before - kernel + paddings - (after - 1) * stride  # what no kernel reaches; negative where the last one hangs over
    dropped = f", {over} px dropped" if over > 0 else ""
    if getattr(layer, "weight", None) is None and kernel == stride and paddings == 0:
        return f"{before}/{kernel} = {_floored(before / kernel, after)}{dropped}"
    exact = (before - kernel + paddings) / stride + 1
    return f"({before}-{kernel}+2*{paddings / 2:g})/{stride}+1 = {_floored(exact, after)}{dropped}"


def _adaptive_formula(before: int, after: int) -> str:
    """Output i is the mean of the inputs from i * before / after, rounded down, to (i + 1) * before / after, rounded up."""
    fields = sorted({-(-(i + 1) * before // after) - i * before // after for i in range(after)})
    return f"{before} -> {after}, fields of {' or '.join(map(str, fields))}"


def _floored(exact: float, after: int) -> str:
    """The side, and where a division leaves a remainder, what is rounded down: "63.25 -> 63"."""
    return f"{after}" if exact == after else f"{exact:g} -> {after}"


def _multiply_adds(layer: nn.Module, output: torch.Tensor) -> int:
    """Every weight meets every place of the output once: a convolution has them last, a linear layer before its features."""
    weight = getattr(layer, "weight", None)
    if weight is None or weight.ndim < 2:
        return 0
    return weight.numel() * math.prod(output.shape[1:-1] if isinstance(layer, nn.Linear) else output.shape[2:])
