"""Whether a classifier's sureness can be trusted, in two drawings in the style of the learning curves."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tapetum.evaluation.calibration import coverage_risk, reliability
from tapetum.evaluation.metrics import wilson
from tapetum.looking.grids import DPI, NEUTRAL, SECOND, plain, write_png

_BINS = 10
# Of the surest pictures, the part with which the curve begins: the share of wrong ones among fewer is a game of chance.
_FIRST = 0.05
# A curve is drawn with so many points at most.
_POINTS = 400


def reliability_diagram(labels_N: np.ndarray, probabilities_NK: np.ndarray, path: Path) -> Path:
    """Write a PNG: a bar for the answers of each sureness, as high as the share of right ones, under their count.

    On the dashed diagonal sureness means what it says. Thin lines are Wilson 95 % intervals.

    Args:
        labels_N: (N,) true class numbers, of at least one picture.
        probabilities_NK: (N, K), rows sum to 1.
        path: the PNG file; it comes back.

    Raises:
        UserError: the file cannot be written.
    """
    axes, canvas = _axes("how sure, how often right")
    draw_reliability(axes, labels_N, probabilities_NK)
    axes.set_xlabel("how sure it was")
    axes.set_ylabel("right answers")
    return write_png(canvas, path)


def draw_reliability(axes: Axes, labels_N: np.ndarray, probabilities_NK: np.ndarray) -> None:
    """Draw what `reliability_diagram` shows, without words."""
    for confidence, share, count in reliability(labels_N, probabilities_NK, _BINS):
        # The mean of equal numbers may miss them, and so their bin, by a rounding.
        middle = (min(int(confidence * _BINS + 1e-9), _BINS - 1) + 0.5) / _BINS
        found = wilson(round(share * count), count)
        axes.bar(middle, share, 0.9 / _BINS, color=SECOND, alpha=0.35, linewidth=0)
        axes.plot([middle, middle], [found.low, found.high], color=SECOND, linewidth=1.2)
        axes.text(middle, 1.02, f"{count:,}", fontsize=7.5, color=NEUTRAL, ha="center", va="bottom")
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", linewidth=1)
    # No answer is less sure than one of K equal ones.
    axes.set_xlim(int(_BINS / probabilities_NK.shape[1]) / _BINS, 1)
    axes.set_ylim(0, 1)
    _in_percent(axes)


def coverage_curve(labels_N: np.ndarray, probabilities_NK: np.ndarray, path: Path) -> Path:
    """Write a PNG: the share of wrong answers, were only the surest ones given, by how many those are.

    The band is the Wilson 95 % interval. Arguments, result and errors are those of `reliability_diagram`.
    """
    axes, canvas = _axes("answering only where it is sure")
    draw_coverage(axes, labels_N, probabilities_NK)
    axes.set_xlabel("pictures answered, the surest first")
    axes.set_ylabel("wrong answers among them")
    return write_png(canvas, path)


def draw_coverage(axes: Axes, labels_N: np.ndarray, probabilities_NK: np.ndarray) -> None:
    """Draw what `coverage_curve` shows, without words."""
    coverage_N, risk_N = coverage_risk(labels_N, probabilities_NK)
    count = len(coverage_N)
    places = np.unique(np.linspace(_FIRST * (count - 1), count - 1, _POINTS).astype(int))
    bands = [wilson(round(risk_N[i] * (i + 1)), int(i) + 1) for i in places]
    axes.plot(coverage_N[places], risk_N[places], color=SECOND, marker="o" if len(places) == 1 else None)
    low, high = [band.low for band in bands], [band.high for band in bands]
    axes.fill_between(coverage_N[places], low, high, color=SECOND, alpha=0.12, linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, min(1, 1.05 * max(high)))
    _in_percent(axes)


def _axes(title: str) -> tuple[Axes, FigureCanvasAgg]:
    figure = Figure(figsize=(4.6, 3.6), dpi=DPI, facecolor="white")
    canvas, axes = FigureCanvasAgg(figure), figure.add_axes((0.2, 0.14, 0.73, 0.7))
    axes.set_title(title, fontsize=11, pad=18)  # room for the counts
    return axes, canvas


def _in_percent(axes: Axes) -> None:
    plain(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))  # more would touch on a narrow page
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
