"""The filters of a network's first layer: drawn as pictures, and how much of each is colour.

Krizhevsky et al. 2012 show theirs in figure 3, one GPU above the other, and say that the kernels on GPU 1 are largely
colour-agnostic, while those on GPU 2 are largely colour-specific (section 6.1).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tapetum.looking.grids import write_png


def colour_share(filters_OCHW: np.ndarray) -> np.ndarray:
    """How much of each RGB filter is colour (O,): 0 for a grey filter, 1 for one that grey light does not excite.

    The share of the squared weights that is left when the mean over the three channels is taken away. Of weights drawn at
    random two thirds are.

    >>> grey, red_green = np.ones((3, 2, 2)), np.stack([np.ones((2, 2)), -np.ones((2, 2)), np.zeros((2, 2))])
    >>> colour_share(np.stack([grey, red_green])).tolist()
    [0.0, 1.0]
    """
    colour_OCHW = filters_OCHW - filters_OCHW.mean(1, keepdims=True)
    return (colour_OCHW**2).sum((1, 2, 3)) / np.maximum((filters_OCHW**2).sum((1, 2, 3)), np.finfo(float).tiny)


def filter_grid(columns: Sequence[np.ndarray], titles: Sequence[str], path: Path, per_row: int = 16) -> Path:
    """Draw RGB filters (O, 3, H, W) into a PNG, each group under its title, the most colourful first, else in their order.

    Each filter is scaled by its own largest weight, so that grey is zero and strong and weak filters show equally well.
    """
    rows = [-(-len(filters) // per_row) for filters in columns]
    figure = Figure(figsize=(9, 9 / per_row * sum(rows) + 0.35 * len(rows)), dpi=120, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    top = 1.0
    title_share, row_share = 0.35 / figure.get_figheight(), 9 / per_row / figure.get_figheight()
    for filters, title in zip(columns, titles, strict=True):
        figure.text(0.006, top - 0.6 * title_share, title, fontsize=11, va="center")
        top -= title_share
        for place, number in enumerate(np.argsort(-colour_share(filters), kind="stable")):
            row, column = divmod(place, per_row)
            axes = figure.add_axes((column / per_row, top - (row + 1) * row_share, 0.92 / per_row, 0.92 * row_share))
            shown = filters[number] / max(2 * np.abs(filters[number]).max(), 1e-30) + 0.5
            axes.imshow(shown.transpose(1, 2, 0), interpolation="nearest")
            axes.set_axis_off()
        top -= -(-len(filters) // per_row) * row_share
    return write_png(canvas, path)
