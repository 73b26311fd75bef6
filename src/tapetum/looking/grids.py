"""Pictures of results: predictions as a grid, as the study notes draw them, and the learning curves."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tapetum.errors import UserError
from tapetum.evaluation.metrics import wilson
from tapetum.files import write_atomically

_RIGHT, _WRONG, _NEUTRAL, _SECOND = "#1a7f37", "#cf222e", "#24292f", "#0969da"
# Families that have Hangul, on Linux, Windows and macOS; the first that is installed is used beside matplotlib's own.
_KOREAN = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo", "AppleGothic")
_LONGEST_NAME = 18


def prediction_grid(
    pictures: Sequence[np.ndarray],
    true: Sequence[str] | None,
    predicted: Sequence[str],
    probabilities: Sequence[float],
    path: Path,
    columns: int = 5,
) -> None:
    """Write a PNG of pictures, each with what it is, what it was taken for, and that answer's probability.

    Right answers are green with a tick, wrong ones red with a cross. Every label belongs to the very picture it stands under
    (the notes' own code draws a random one).

    Args:
        pictures: uint8 RGB (H, W, 3), of any sizes.
        true: the true class names, or None where they are not known: titles are then black.
        predicted: the predicted class names.
        probabilities: the probability of each predicted class, 0 to 1.
        path: the PNG file.
        columns: pictures in a row.

    Raises:
        UserError: there are no pictures, or the file cannot be written.
    """
    if not len(pictures):
        raise UserError("there are no pictures to draw: expected at least one.")
    rows = math.ceil(len(pictures) / columns)
    columns = min(columns, len(pictures))
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    fonts = _fonts()
    for i, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, i + 1)
        # Tiny pictures keep their pixels; photos are smoothed as usual.
        axes.imshow(picture, interpolation="nearest" if max(picture.shape[:2]) <= 40 else "antialiased")
        axes.set_axis_off()
        if true is None:
            title, color = f"{_plain(predicted[i])} {probabilities[i]:.0%}", _NEUTRAL
        else:
            right = true[i] == predicted[i]
            color = _RIGHT if right else _WRONG
            title = f"{_plain(true[i])}\n{'✓' if right else '✗'} {_plain(predicted[i])} {probabilities[i]:.0%}"
        axes.set_title(title, color=color, fontsize=10, family=fonts, parse_math=False)
    _write(figure, path)


def curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG of the learning curves: loss and accuracy by epoch, in training and validation, with the latter's interval.

    Args:
        history: one dict an epoch with epoch, train_loss, train_accuracy, val_loss, val_accuracy, val_n.
        path: the PNG file.
    """
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    # A single epoch is a point, which a line alone would not show.
    marker = "o" if len(epochs) < 20 else None
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for part, color, words in (("train", _NEUTRAL, "training"), ("val", _SECOND, "validation")):
            values = [entry[f"{part}_{name}"] for entry in history]
            axes.plot(epochs, values, color=color, marker=marker, markersize=4, label=words)
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    bands = [wilson(round(entry["val_accuracy"] * entry["val_n"]), entry["val_n"]) for entry in history]
    low, high = [band.low for band in bands], [band.high for band in bands]
    accuracy.fill_between(epochs, low, high, color=_SECOND, alpha=0.12, linewidth=0, label="95 % interval")
    accuracy.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    accuracy.legend(frameon=False)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    figure.clear()
    write_atomically(Path(path), lambda file: file.write(buffer.getvalue()))


def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _KOREAN if name in installed)][:2]


def _plain(name: str) -> str:
    """A class name that the installed fonts can draw: signs that they lack become "?", long names are cut."""
    drawable = "".join(sign if sign.isprintable() and _has_glyph(sign) else "?" for sign in name)
    return drawable if len(drawable) <= _LONGEST_NAME else drawable[: _LONGEST_NAME - 1] + "…"


def _has_glyph(sign: str) -> bool:
    for family in _fonts():
        font = font_manager.get_font(font_manager.findfont(family))
        if font.get_char_index(ord(sign)):
            return True
    return False
