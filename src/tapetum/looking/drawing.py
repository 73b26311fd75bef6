"""A network drawn to scale, as figure 2 of LeCun et al. 1998 and figure 2 of Krizhevsky et al. 2012 are: SVG, no library.

Feature maps are boxes: the front face is the map, all faces to one scale; the depth grows with the square root of the number of
maps. Linear layers are bars whose height grows with the square root of their units. The operation stands at the arrow between
two boxes. What does not change the shape (ReLU, dropout, normalisation) is named below the box that it follows. A network in
two columns is drawn in two lanes.
"""

import html
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tapetum.files import write_text
from tapetum.models.summary import Row, Summary

# Layers that get a box even where the shape stays as it was.
_OPERATIONS = {
    "Conv2d": "convolution", "ConnectedConv2d": "convolution", "MaxPool2d": "max-pool", "AdaptiveMaxPool2d": "max-pool",
    "AvgPool2d": "mean pool", "AdaptiveAvgPool2d": "mean pool", "Subsampling": "subsampling", "Linear": "fully connected",
    "RBF": "RBF units",
}  # fmt: skip
_OTHERS = {
    "LocalResponseNorm": "normalisation", "ScaledTanh": "scaled tanh", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm",
    "Dropout": "dropout", "Softmax": "softmax", "Tanh": "tanh",
}  # fmt: skip
# Lengths in units of the drawing: the longest face, the largest depth, the edge, a line of text, the fonts of labels and words,
# and the least side that is still seen.
_FACE, _DEPTH, _EDGE, _LINE, _FONT, _SMALL, _LEAST = 150.0, 60.0, 10.0, 13.0, 11.0, 10.0, 3.5
_COLOURS = {
    "input": ("#eef0f3", "#dadee5", "#c3c9d3"), "maps": ("#dbe7fb", "#b9cff3", "#9db9ea"),
    "pool": ("#e3f1e0", "#c7e3c1", "#aad3a2"), "bar": ("#f6dfc4",) * 3,
}  # fmt: skip
_ENGLISH: Mapping[str, str] = MappingProxyType({})
# The words in Korean, as the study notes write them.
KOREAN = {
    "input": "입력", "convolution": "합성곱", "max-pool": "최대 풀링", "subsampling": "다운 샘플링",
    "fully connected": "완전연결", "RBF units": "RBF 유닛", "normalisation": "정규화", "dropout": "드롭아웃",
    "softmax": "소프트맥스", "ReLU": "렐루", "stride": "스트라이드",
    "note": "앞면은 비율대로이고 입력은 {size} x {size} 픽셀입니다. 깊이와 막대는 특성 맵과 유닛 수의 제곱근에 비례합니다. "
    "파라미터 {params}개.",
}  # fmt: skip


@dataclass(eq=False)
class _Box:
    """One drawn layer. Its outline is centred on (x, y), and arrows lead along the height y."""

    shape: tuple[int, ...]
    lane: int | None = None
    colour: str = "input"
    # The words at the arrow that leads here, line by line, and the lanes that its input comes from.
    operation: list[str] = field(default_factory=list)
    sees: list[int] = field(default_factory=list)
    step: int = 0
    below: list[str] = field(default_factory=list)
    inputs: list["_Box"] = field(default_factory=list)
    # What is measured and placed later. Lines from another height turn between the two places of `turn`.
    width = height = depth = x = y = words_x = 0.0
    turn = (0.0, 0.0)

    @property
    def label(self) -> str:
        maps, *sides = self.shape
        return f"{maps}@{'x'.join(map(str, sides))}" if sides else f"{maps:,}"

    @property
    def reach(self) -> float:
        """From x to where an arrow meets the outline, which is slanted there if the box is deep and its face small."""
        return (self.width + self.depth) / 2 - max(0.0, self.depth / 2 - self.height)

    @property
    def half(self) -> float:
        """From y to the top; the back stands higher than the front by half the depth."""
        return (self.height + self.depth / 2) / 2

    def crosses(self, before: "_Box") -> bool:
        """Whether the way from `before` leads into the other lane."""
        return None not in (before.lane, self.lane) and before.lane != self.lane


def write_svg(summary: Summary, channels: int, size: int, title: str, path: Path, crossings: Sequence[str] = ()) -> Path:
    """Write `svg(...)` to a file; its path comes back.

        write_svg(summarize(network, 1, 32), 1, 32, "lenet-table", Path("lenet.svg"))

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, svg(summary, channels, size, title, crossings) + "\n")
    return path


def svg(
    summary: Summary, channels: int, size: int, title: str, crossings: Sequence[str] = (), words: Mapping[str, str] = _ENGLISH
) -> str:
    """The drawing of a network as one SVG element.

    Args:
        summary: the network's summary at this size.
        channels: of the input.
        size: side of the input, in pixels.
        title: the network's name.
        crossings: in a network of two columns, the layers of a column that see both.
        words: other words for "convolution", "max-pool", "stride" and the rest, for a page in another language; "note" is all
            that stands below the drawing.

    >>> from tapetum import models
    >>> from tapetum.models.summary import summarize
    >>> drawing = svg(summarize(models.build_on_meta("lenet-table", 2), 1, 32), 1, 32, "lenet-table")
    >>> "6@28x28" in drawing and "16@10x10" in drawing
    True
    """
    boxes = _boxes(summary, channels, size, crossings, words)
    enlarged = _measure(boxes)
    width, height = _place_across(boxes), _place_down(boxes)
    # Dashed lines come first: where one runs along a solid line, that one is seen.
    ways = sorted(((before, box) for box in boxes for before in box.inputs), key=lambda way: not way[1].crosses(way[0]))
    parts = [_arrow(*way) for way in ways] + [part for box in boxes for part in (*_faces(box), *_texts(box))]
    letters = max(20, int((width - 2 * _EDGE) / (0.6 * _SMALL)))
    for line in textwrap.wrap(_note(boxes, enlarged, summary, size, words), letters):
        height += _LINE
        parts.append(_text(_EDGE, height, line, _SMALL, "start"))
    # XML has no place for control characters, whatever a title holds.
    name = html.escape("".join(sign if sign.isprintable() else "\ufffd" for sign in title))
    story = html.escape("; ".join(" ".join([*box.operation, box.label, *box.below]) for box in boxes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.2f} {height + _EDGE:.2f}" role="img" '
        f'font-family="sans-serif"><title>{name}</title><desc>{name}, layer by layer: {story}</desc>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )


def drawing_caption(
    summary: Summary, channels: int, size: int, crossings: Sequence[str] = (), words: Mapping[str, str] = _ENGLISH
) -> str:
    """What `svg` writes below a drawing, for a page that says it itself and gives `svg` an empty "note"."""
    boxes = _boxes(summary, channels, size, crossings, words)
    return _note(boxes, _measure(boxes), summary, size, words)


def _note(boxes: Sequence["_Box"], enlarged: bool, summary: Summary, size: int, words: Mapping[str, str]) -> str:
    small = " (the smallest are enlarged)" if enlarged else ""
    dashed = " Dashed: the layer sees both columns." if any(box.crosses(one) for box in boxes for one in box.inputs) else ""
    note = f"Faces to scale: the input is {{size}} x {{size}} pixels{small}. Depths and bars grow with the square root of "
    note = words.get("note", f"{note}maps and units.{dashed} {{params}} parameters.")
    return note.format(size=size, params=f"{summary.params:,}")


def _boxes(summary: Summary, channels: int, size: int, crossings: Sequence[str], words: Mapping[str, str]) -> list[_Box]:
    """The input and the layers that make something new, and below each the names of those that do not."""
    boxes = [_Box((channels, size, size), below=[words.get("input", "input")])]
    lasts = [boxes[0], boxes[0]]  # of each lane; a network in one column has the same in both
    for row in summary.rows:
        column = re.match(r"columns\.([01])\.(.*)", row.layer)
        lanes = [int(column[1])] if column else [0, 1]
        kind, shape = row.name.rpartition("-")[0], row.output[1:]
        before = max((lasts[lane] for lane in lanes), key=lambda box: box.step)
        # A flattened map is the same numbers in a row.
        if shape in (before.shape, (math.prod(before.shape),)) and kind not in _OPERATIONS and not row.formula:
            name = _OTHERS.get(kind, kind)
            for box in dict.fromkeys(lasts[lane] for lane in lanes):
                box.below.append(words.get(name, name))
            continue
        name, (kernel, stride) = _OPERATIONS.get(kind, kind), _window(row)
        operation = [kernel, *textwrap.wrap(words.get(name, name), 11, break_long_words=False)]
        operation.append(f"{words.get('stride', 'stride')} {stride}" if stride else "")
        colour = "bar" if len(shape) != 3 else "maps" if "Conv" in kind else "pool"
        sees = [0, 1] if column and column[2] in crossings else lanes
        made = _Box(shape, lanes[0] if column else None, colour, [line for line in operation if line], sees, before.step + 1)
        boxes.append(made)
        lasts = [made if lane in lanes else lasts[lane] for lane in (0, 1)]
    # Only now: rows may tell the whole of one column before the other begins.
    for box in boxes[1:]:
        seen = [[b for b in boxes if b.step < box.step and b.lane in (lane, None)] for lane in box.sees]
        box.inputs = list(dict.fromkeys(max(lane, key=lambda before: before.step) for lane in seen))
    return boxes


def _window(row: Row) -> tuple[str, str]:
    """("11x11", "4"): kernel and stride by the formula of the size; "" for a stride of 1, and for what has none."""
    found = re.findall(r"(?:\(\d+-(\d+)\+2\*[\d.]+\)/(\d+)\+1|\d+/(\d+)) =", row.formula)
    (tall, down), (wide, across) = [(side or both, step or both) for side, step, both in found[:1] + found[-1:]] or [
        ("", "1")
    ] * 2
    stride = down if down == across else f"{down}x{across}"
    return f"{tall}x{wide}" if found else "", stride if stride != "1" else ""


def _measure(boxes: list[_Box]) -> bool:
    """Give every box its size; whether some face had to be enlarged comes back."""
    maps, bars = ([box for box in boxes if (box.colour == "bar") == bar] for bar in (False, True))
    scale = _FACE / max(max(box.shape[1:]) for box in maps)
    deep = min(1.7, _DEPTH / math.sqrt(max(box.shape[0] for box in maps)))
    for box in maps:
        box.height, box.width = (max(_LEAST, side * scale) for side in box.shape[1:])
        box.depth = deep * math.sqrt(box.shape[0])
    tall = min(2.2, _FACE / math.sqrt(max((math.prod(box.shape) for box in bars), default=1)))
    for box in bars:
        box.width, box.height = 9.0, max(_LEAST, tall * math.sqrt(math.prod(box.shape)))
    return any(min(box.shape[1:]) * scale < _LEAST for box in maps)


def _place_across(boxes: list[_Box]) -> float:
    """Give every box its x, and its arrows and words a room of their own before it; the width of all comes back."""
    edge = _EDGE
    for step in range(max(box.step for box in boxes) + 1):
        here = [box for box in boxes if box.step == step]
        crossed = any(box.crosses(before) for box in here for before in box.inputs)
        turned = any(box.lane != before.lane for box in here for before in box.inputs)
        turn = (edge + 6, edge + (36 if crossed else 14)) if turned else (edge, edge)
        words = max(_wide(box.operation, _SMALL) for box in here) + 20 if step else 0.0
        room = max(max(box.width + box.depth, _wide([box.label], _FONT), _wide(box.below, _SMALL)) for box in here)
        for box in here:
            box.turn, box.words_x, box.x = turn, turn[1] + words / 2 - 2, turn[1] + words + room / 2
        edge = turn[1] + words + room
    return edge + _EDGE


def _place_down(boxes: list[_Box]) -> float:
    """Give every box its y: its lane's, or the middle of both; the height of all comes back."""
    up, down = (dict.fromkeys((None, 0, 1), 0.0) for _ in range(2))
    for box in boxes:
        words = len(box.operation) * _LINE
        up[box.lane] = max(up[box.lane], box.half + _LINE + 8, 0 if box.lane == 1 else words + 8)
        down[box.lane] = max(down[box.lane], box.half + len(box.below) * _LINE + 8, words + 8 if box.lane == 1 else 0)
    apart = down[0] + up[1] + 12 if up[1] else 0.0
    first = _EDGE + max(up[0], up[None] - apart / 2)
    for box in boxes:
        box.y = first + apart * (0.5 if box.lane is None else box.lane)
    return first + apart + max(down[1], down[None] - apart / 2)


def _arrow(before: _Box, box: _Box) -> str:
    """From box to box. What changes its height does so before the words, and what crosses ends at the other lane's arrow."""
    line, end = f"M{before.x + before.reach:.2f} {before.y:.2f}", box.x - box.reach
    if before.y != box.y:
        line += f"H{box.turn[0]:.2f}L{box.turn[1]:.2f} {box.y:.2f}"
    if box.crosses(before):
        return f'<path d="{line}" stroke="#667" fill="none" stroke-dasharray="4 3"/>'
    return f'<path d="{line}H{end:.2f}" stroke="#667" fill="none"/><path d="M{end:.2f} {box.y:.2f}l-6 -3v6z" fill="#667"/>'


def _faces(box: _Box) -> list[str]:
    """Front, top and side; a bar has a front alone."""
    deep, up = box.depth, box.depth / 2
    left, bottom = box.x - (box.width + deep) / 2, box.y + box.half
    right, top = left + box.width, bottom - box.height
    faces = [
        [(left, top), (right, top), (right, bottom), (left, bottom)],
        [(left, top), (left + deep, top - up), (right + deep, top - up), (right, top)],
        [(right, top), (right + deep, top - up), (right + deep, bottom - up), (right, bottom)],
    ]
    points = [" ".join(f"{x:.2f},{y:.2f}" for x, y in face) for face in (faces if deep else faces[:1])]
    style = 'stroke="#46536b" stroke-width=".7" stroke-linejoin="round"'
    return [f'<polygon points="{p}" fill="{fill}" {style}/>' for p, fill in zip(points, _COLOURS[box.colour], strict=False)]


def _texts(box: _Box) -> list[str]:
    """The label above, the names below, the operation at the arrow: above it, but below it in the lower lane."""
    first = box.y + _LINE if box.lane == 1 else box.y - 6 - (len(box.operation) - 1) * _LINE
    return [
        _text(box.x, box.y - box.half - 6, box.label, _FONT),
        *(_text(box.x, box.y + box.half + (k + 1) * _LINE, text, _SMALL) for k, text in enumerate(box.below)),
        *(_text(box.words_x, first + k * _LINE, text, _SMALL) for k, text in enumerate(box.operation)),
    ]


def _text(x: float, y: float, text: str, size: float, anchor: str = "middle") -> str:
    style = 'fill="#222" font-weight="600"' if size == _FONT else 'fill="#444"'
    return f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:g}" text-anchor="{anchor}" {style}>{html.escape(text)}</text>'


def _wide(texts: list[str], font: float) -> float:
    """About the width of the longest text; Hangul is as wide as high."""
    return max((font * sum(0.6 if ord(sign) < 0x1100 else 1.0 for sign in text) for text in texts), default=0.0)
