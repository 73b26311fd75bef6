"""Pictures of results: predictions as a grid, as the study notes draw them, and the learning curves.

Nothing here touches matplotlib's global state or needs a screen. Class names are other people's text: a dollar sign is no
formula, a name too long for its place is cut, and a sign that no installed font has is spelt out (`_drawable`).
"""

import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tapetum.errors import UserError
from tapetum.evaluation.metrics import wilson
from tapetum.files import write_atomically

_RIGHT, _WRONG, NEUTRAL, SECOND, FAINT = "#1a7f37", "#cf222e", "#24292f", "#0969da", "#d8dee4"
# Families that have Hangul, on Linux, Windows and macOS; the first that is installed is used beside matplotlib's own.
# The JP name is the one that matplotlib reads from Noto's collection of all CJK fonts, which has Hangul all the same.
_KOREAN = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans KR",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
)
DPI = 100
_CELL_INCHES, _TITLE_INCHES, _MARGIN_INCHES = 2.2, 0.4, 0.06


def prediction_grid(
    pictures: Sequence[np.ndarray],
    true: Sequence[str | None] | None,
    predicted: Sequence[str],
    probabilities: Sequence[float],
    path: Path,
    columns: int = 5,
    title: str | None = None,
) -> Path:
    """Write a PNG of pictures, each under what it is, what it was taken for, and that answer's probability.

    Right answers are green with a tick, wrong ones red with a cross. Every label belongs to the very picture it stands
    above (the notes' own code draws a random one).

    Args:
        pictures: uint8 RGB (H, W, 3), of any sizes.
        true: the true class names; None for a picture, or instead of them all, where it is not known. Such titles are black.
        predicted: the predicted class names.
        probabilities: the probability of each predicted class, 0 to 1.
        path: the PNG file.
        columns: pictures in a row.
        title: a line above them all.

    Returns:
        The path that was written.

    Raises:
        UserError: there are no pictures, or the file cannot be written.
        ValueError: the sequences differ in length, or an array is no such picture.
    """
    if not len(pictures):
        raise UserError("there are no pictures to draw: expected at least one.")
    true = [None] * len(pictures) if true is None else true
    columns = max(1, min(columns, len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    width, height = _CELL_INCHES * columns, (_CELL_INCHES + _TITLE_INCHES) * rows + (_TITLE_INCHES if title else 0)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    canvas, families = FigureCanvasAgg(figure), _families()
    # One pair of axes for all, in inches from the top left corner: a pair for each picture costs most of the time.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    words: dict[str, Any] = {"ha": "center", "va": "bottom", "family": families, "parse_math": False}
    if title:
        line = _fitted("", title, "", canvas, families, 12, width)
        axes.text(width / 2, _TITLE_INCHES * 0.8, line, color=NEUTRAL, fontsize=12, **words)
    cases = zip(pictures, true, predicted, probabilities, strict=True)
    for i, (picture, true_name, name, probability) in enumerate(cases):
        sign, color = ("", NEUTRAL) if true_name is None else ("✓ ", _RIGHT) if true_name == name else ("✗ ", _WRONG)
        lines = [_fitted(sign, name, f", {probability * 100:.0f} %", canvas, families, 10, _CELL_INCHES)]
        if true_name is not None:
            lines.insert(0, _fitted("", true_name, "", canvas, families, 10, _CELL_INCHES))
        row, column = divmod(i, columns)
        left, top = column * _CELL_INCHES, height - (rows - row) * (_CELL_INCHES + _TITLE_INCHES) + _TITLE_INCHES
        axes.text(left + _CELL_INCHES / 2, top, "\n".join(lines), color=color, fontsize=10, **words)
        _show(axes, picture, left + _MARGIN_INCHES, top + _MARGIN_INCHES, _CELL_INCHES - 2 * _MARGIN_INCHES)
    return write_png(canvas, path)


def curves(history: Sequence[dict[str, Any]], path: Path) -> Path:
    """Write a PNG of the learning curves: loss and accuracy by epoch, in training and validation.

    The band around the validation accuracy is its Wilson 95 % interval: a rise that stays inside it may be luck.

    Args:
        history: one dict an epoch: epoch, train_loss, train_accuracy, val_loss, val_accuracy (0 to 1) and val_n, the number of
            validation pictures. train_accuracy may be None, where mixed labels leave it without a meaning.
        path: the PNG file.

    Returns:
        The path that was written.

    Raises:
        UserError: the file cannot be written.
    """
    figure = Figure(figsize=(9, 3.4), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for left, name, best in ((0.07, "loss", "lower"), (0.57, "accuracy", "higher")):
        axes = figure.add_axes((left, 0.15, 0.41, 0.74))
        draw_history(axes, history, name)
        axes.set_title(f"{name} ({best} is better)", fontsize=11)
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    return write_png(canvas, path)


def draw_history(axes: Axes, history: Sequence[dict[str, Any]], name: str) -> None:
    """Draw "loss" or "accuracy" by epoch in training and validation, as `curves` does: no words but the labels of the lines."""
    epochs = [entry["epoch"] for entry in history]
    # A single epoch is a point, which a line alone would not show.
    marker = "o" if len(epochs) < 20 else None
    for part, color, words in (("train", NEUTRAL, "training"), ("val", SECOND, "validation")):
        values = np.array([entry[f"{part}_{name}"] for entry in history], float)  # None becomes NaN, a gap in the line
        if not np.isnan(values).all():
            axes.plot(epochs, values, color=color, marker=marker, markersize=4, label=words)
    plain(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if name == "loss":
        return
    bands = [wilson(round(entry["val_accuracy"] * entry["val_n"]), entry["val_n"]) for entry in history]
    low, high = [band.low for band in bands], [band.high for band in bands]
    if len(epochs) == 1:
        axes.errorbar(epochs, low, yerr=np.array([[0], [high[0] - low[0]]]), fmt="none", ecolor=SECOND, label="95 % interval")
    else:
        axes.fill_between(epochs, low, high, color=SECOND, alpha=0.12, linewidth=0, label="95 % interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    # matplotlib's margin would show more than 100 %; the hundredth keeps a marker at the edge whole.
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(-0.01, bottom), min(1.01, top))


def plain(axes: Axes) -> None:
    """No box, and thin lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _show(axes: Axes, picture: np.ndarray, left: float, top: float, side: float) -> None:
    """Draw a picture at the top of a square, so that the titles of a row stand in line whatever its pictures' shapes are."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"a picture of shape {picture.shape} and type {picture.dtype}: expected uint8 (H, W, 3)")
    longer = max(picture.shape)
    height, width = (side * pixels / longer for pixels in picture.shape[:2])
    left += (side - width) / 2
    # Tiny pictures keep their pixels; photos are smoothed as usual.
    axes.imshow(
        picture,
        extent=(left, left + width, top + height, top),
        interpolation="nearest" if longer <= 40 else "antialiased",
        aspect="auto",
    )


def write_png(canvas: FigureCanvasAgg, path: Path) -> Path:
    """Write a drawn figure as a PNG without anything that changes from one program to the next."""
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    write_atomically(Path(path), lambda file: file.write(buffer.getvalue()))
    return Path(path)


def _families() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _KOREAN if name in installed][:1]]


def _fitted(
    before: str, name: str, after: str, canvas: FigureCanvasAgg, families: list[str], points: float, inches: float
) -> str:
    """`before`, `name` and `after` in one line that is no wider than `inches`: the name is cut where it has to be."""
    font = font_manager.FontProperties(family=families, size=points)
    kept, dots = _drawable(name, families), ""
    # Whoever names a class with a thousand letters shall not wait for a thousand measurements.
    if len(kept) > 100:
        kept, dots = kept[:100], "…"
    while kept:
        line = f"{before}{kept.rstrip()}{dots}{after}"
        width, _, _ = canvas.get_renderer().get_text_width_height_descent(line, font, ismath=False)
        # A little room stays, so that neighbours do not touch.
        if width <= inches * DPI - 10:
            return line
        kept, dots = kept[:-1], "…"
    return f"{before}…{after}"


def _drawable(name: str, families: list[str]) -> str:
    """`name` in signs that the fonts have: other Hangul is romanised ("고양이" to "goyangi"), all else is its code point."""
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in families]

    def drawn(sign: str) -> str:
        if sign.isprintable() and any(font.get_char_index(ord(sign)) for font in fonts):
            return sign
        words = unicodedata.name(sign, "")
        if words.startswith("HANGUL SYLLABLE "):
            return words.removeprefix("HANGUL SYLLABLE ").lower()
        return f"U+{ord(sign):04X}"

    # macOS stores file names in single Hangul letters, which fonts do not put together.
    return "".join(map(drawn, unicodedata.normalize("NFC", name)))
