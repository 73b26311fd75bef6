"""A network drawn to scale, as figure 2 of LeCun et al. 1998 and figure 2 of Krizhevsky et al. 2012 are: SVG, no library.

Feature maps are boxes: the front face is the map, all faces to one scale; the depth grows with the square root of the number of
maps. Linear layers are bars whose height grows with the square root of their units. What does not change the shape (ReLU,
dropout, normalisation) is named below the box that it follows. A network in two columns is drawn in two lanes.
"""

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tapetum.files import write_text
from tapetum.models.summary import Row, Summary

_WORDS = {
    "Conv2d": "convolution", "ConnectedConv2d": "convolution", "MaxPool2d": "max-pool", "AvgPool2d": "mean pool",
    "AdaptiveAvgPool2d": "mean pool", "Subsampling": "subsampling", "Linear": "fully connected", "RBF": "RBF units",
    "LocalResponseNorm": "normalisation", "ScaledTanh": "scaled tanh", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm",
    "Dropout": "dropout", "Softmax": "softmax",
}  # fmt: skip
# Lengths in units of the drawing: the input's face, the gap between two boxes, the font, and one line of text.
_FACE, _GAP, _FONT, _LINE = 150.0, 26.0, 11.0, 14.0
_COLOURS = {"maps": ("#dbe7fb", "#b9cff3", "#9db9ea"), "pool": ("#e3f1e0", "#c7e3c1", "#aad3a2"), "bar": ("#f6dfc4",) * 3}


@dataclass
class _Box:
    """One drawn layer."""

    name: str
    label: str
    below: list[str]
    maps: int
    side: int
    """Of a map; 0 for a linear layer."""
    kind: str
    lane: int | None
    x: float = field(default=0.0)
    """Middle of the front face."""


def write_svg(summary: Summary, channels: int, size: int, title: str, path: Path, crossings: Sequence[str] = ()) -> Path:
    """Write `svg(...)` to a file; its path comes back.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, svg(summary, channels, size, title, crossings) + "\n")
    return path


def svg(
    summary: Summary,
    channels: int,
    size: int,
    title: str,
    crossings: Sequence[str] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The drawing of a network as one SVG element.

    Args:
        summary: the network's summary at this size.
        channels: of the input.
        size: side of the input, in pixels.
        title: the network's name.
        crossings: in a network of two columns, the layers of a column that see both.
        words: other words for "convolution", "max-pool" and the rest, for a page in another language.

    >>> from tapetum import models
    >>> from tapetum.models.summary import summarize
    >>> drawing = svg(summarize(models.build_on_meta("lenet-table", 2), 1, 32), 1, 32, "lenet-table")
    >>> "6@28x28" in drawing and "16@10x10" in drawing
    True
    """
    boxes = _boxes(summary, channels, size)
    for box in boxes:
        box.below = [words.get(text, text) for text in box.below]
    lanes = 2 if any(box.lane == 1 for box in boxes) else 1
    scale = _FACE / size
    lane_height = _FACE + (max(len(box.below) for box in boxes) + 4) * _LINE
    width = _place(boxes, scale)
    height = lanes * lane_height + 2 * _LINE
    parts: list[str] = []
    for i, box in enumerate(boxes):
        for before, crosses in _inputs(boxes, i, crossings):
            start = f"{_right(before, scale):.2f} {_middle(before, lanes, lane_height):.2f}"
            end = f"{_left(box, scale):.2f} {_middle(box, lanes, lane_height):.2f}"
            dash = ' stroke-dasharray="4 3"' if crosses else ""
            parts.append(f'<path d="M{start}L{end}" stroke="#888" fill="none"{dash}/>')
    for box in boxes:
        parts += _drawn(box, scale, _middle(box, lanes, lane_height))
    note = words.get("note", "Faces to scale: the input is {size} x {size} pixels. {params} parameters.")
    note = note.format(size=size, params=f"{summary.params:,}")
    parts.append(f'<text x="8" y="{height - 8:.2f}" fill="#555">{html.escape(note)}</text>')
    name = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.2f} {height:.2f}" role="img" font-family="sans-serif" '
        f'font-size="{_FONT:g}"><title>{name}</title><desc>{name}, layer by layer, from left to right</desc>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )


def _boxes(summary: Summary, channels: int, size: int) -> list[_Box]:
    """The layers that change the shape, and below each the names of those that do not."""
    boxes = [_Box("input", f"{channels}@{size}x{size}", ["input"], channels, size, "maps", None)]
    latest: dict[int | None, _Box] = {None: boxes[0]}
    for row in summary.rows:
        column = re.match(r"columns\.(\d)\.", row.layer)
        lane = int(column[1]) if column else None
        before = latest.get(lane, boxes[-1])
        kind = row.name.rpartition("-")[0]
        shape = row.output[1:]
        linear = len(shape) == 1
        changes = "Pool" in kind or kind == "RBF" or (row.params > 0 and not kind.startswith("BatchNorm"))
        if not changes:
            before.below.append(_WORDS.get(kind, kind))
            continue
        label = f"{shape[0]:,}" if linear else f"{shape[0]}@{shape[1]}x{shape[2]}"
        colour = "bar" if linear else "maps" if "Conv" in kind else "pool"
        below = [_WORDS.get(kind, kind), *_kernel(row)]
        latest[lane] = _Box(row.layer.rpartition(".")[2], label, below, shape[0], 0 if linear else shape[1], colour, lane)
        boxes.append(latest[lane])
    return boxes


def _kernel(row: Row) -> list[str]:
    """ "5x5" or "11x11, stride 4", from the formula of the size."""
    if found := re.search(r"\(\d+-(\d+)\+2\*[\d.]+\)/(\d+)\+1", row.formula):
        return [f"{found[1]}x{found[1]}" + (f", stride {found[2]}" if found[2] != "1" else "")]
    if found := re.match(r"\d+/(\d+) =", row.formula):
        return [f"{found[1]}x{found[1]}"]
    return []


def _place(boxes: list[_Box], scale: float) -> float:
    """Give every box its x, lanes side by side in the same places; the whole width comes back."""
    x, steps = 8.0, _steps(boxes)
    for step in steps:
        wide = max(_text_width(text) for box in step for text in (box.label, *box.below))
        front, depth = max(_size(box, scale)[0] for box in step), max(_size(box, scale)[2] for box in step)
        room = max(front + depth, wide)
        for box in step:
            box.x = x + (room - depth) / 2
        x += room + _GAP
    return x - _GAP + 8


def _steps(boxes: list[_Box]) -> list[list[_Box]]:
    """The boxes that stand above one another."""
    steps: list[list[_Box]] = []
    count = {0: 0, 1: 0}
    start = 0
    for box in boxes:
        if box.lane is None:
            start = len(steps) + 1
            count = {0: 0, 1: 0}
            steps.append([box])
            continue
        place = start + count[box.lane]
        count[box.lane] += 1
        if place == len(steps):
            steps.append([])
        steps[place].append(box)
    return steps


def _inputs(boxes: list[_Box], i: int, crossings: Sequence[str]) -> list[tuple[_Box, bool]]:
    """The boxes that lead to box `i`, and whether the way crosses from the other lane."""
    box = boxes[i]
    if i == 0:
        return []
    if box.lane is None:
        ends = {before.lane: before for before in boxes[:i]}
        both = [ends[lane] for lane in (0, 1) if lane in ends]
        return [(before, False) for before in (both if boxes[i - 1].lane is not None else [boxes[i - 1]])]
    own = [before for before in boxes[:i] if before.lane == box.lane]
    found = [(own[-1] if own else boxes[0], False)]
    if box.name in crossings:
        other = [before for before in boxes if before.lane == 1 - box.lane]
        found += [(other[len(own) - 1], True)]
    return found


def _drawn(box: _Box, scale: float, middle: float) -> list[str]:
    width, height, depth = _size(box, scale)
    left, top, right = box.x - width / 2, middle - height / 2, box.x + width / 2
    bottom, up = top + height, depth / 2
    front, above, beside = _COLOURS[box.kind]
    faces = [
        (front, [(left, top), (right, top), (right, bottom), (left, bottom)]),
        (above, [(left, top), (left + depth, top - up), (right + depth, top - up), (right, top)]),
        (beside, [(right, top), (right + depth, top - up), (right + depth, bottom - up), (right, bottom)]),
    ]
    parts = [
        f'<polygon fill="{colour}" stroke="#46536b" stroke-width=".7" points="'
        + " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        + '"/>'
        for colour, points in faces[: 3 if depth else 1]
    ]
    centre = box.x + depth / 2
    texts = [(top - up - 6, box.label, "600"), *((bottom + (k + 1) * _LINE, t, "400") for k, t in enumerate(box.below))]
    # The white rim keeps a text readable where a line passes behind it.
    style = 'text-anchor="middle" fill="#222" stroke="white" stroke-width="3" paint-order="stroke"'
    return parts + [
        f'<text x="{centre:.2f}" y="{y:.2f}" font-weight="{weight}" {style}>{html.escape(text)}</text>'
        for y, text, weight in texts
    ]


def _size(box: _Box, scale: float) -> tuple[float, float, float]:
    """Width, height and depth as drawn; small maps stay visible."""
    if box.side == 0:
        return 9.0, max(6.0, min(_FACE, 2.3 * math.sqrt(box.maps))), 0.0
    face = max(2.0, box.side * scale)
    return face, face, 2 + 1.6 * math.sqrt(box.maps)


def _middle(box: _Box, lanes: int, lane_height: float) -> float:
    """The height at which a box stands: its lane's, or between both."""
    first = 2 * _LINE + _FACE / 2 + 20
    return first + lane_height * (box.lane if box.lane is not None else (lanes - 1) / 2)


def _left(box: _Box, scale: float) -> float:
    return box.x - _size(box, scale)[0] / 2


def _right(box: _Box, scale: float) -> float:
    width, _, depth = _size(box, scale)
    return box.x + width / 2 + depth


def _text_width(text: str) -> float:
    return _FONT * sum(0.58 if ord(sign) < 0x1100 else 1.0 for sign in text)
