"""The curve of accuracy by number of pictures, as one self-contained HTML page."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from tapetum.evaluation.growth import Growth
from tapetum.looking.charts import chart
from tapetum.looking.grids import NEUTRAL, SECOND, plain
from tapetum.looking.pages import write_html

# How far beyond the trainings the curve is drawn.
_BEYOND = 4


def write_growth(found: Growth, path: Path) -> Path:
    """Write the page; its path comes back."""
    alt = "Error by number of pictures, both axes in powers: one dot a training, a line for the law, a band for its interval"
    return write_html("grow.html", path, found=found, drawing=chart(lambda axes: draw_growth(axes, found), alt))


def draw_growth(axes: Axes, found: Growth) -> None:
    """Draw the trainings as dots, the law as a line with its 95 % band, dashed beyond the trainings; without words."""
    sizes = [point.size for point in found.points]
    errors = [max(point.error, 0.5 / len(point.right_N)) for point in found.points]  # none wrong has no place on such an axis
    axes.plot(sizes, errors, "o", color=NEUTRAL, markersize=4, alpha=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    last = max(sizes)
    if found.law is not None:
        grid = np.geomspace(found.law.sizes[0], _BEYOND * max(last, found.largest), 60)
        laws = [found.law.error(int(size)) for size in grid]
        inside = grid <= last
        axes.plot(grid[inside], [law.value for law, there in zip(laws, inside, strict=True) if there], color=SECOND)
        beyond = ~inside
        axes.plot(grid[beyond], [law.value for law, there in zip(laws, beyond, strict=True) if there], "--", color=SECOND)
        low = [max(law.low, 1e-4) for law in laws]
        axes.fill_between(grid, low, [law.high for law in laws], color=SECOND, alpha=0.12, linewidth=0)
        last = int(grid[-1])
    ticks = [size for size in sorted({*sizes, *(size for size, _, _ in found.predictions())}) if size <= last]
    axes.set_xticks(ticks[-1::-2][::-1], [f"{size:,}" for size in ticks[-1::-2][::-1]])
    axes.xaxis.set_minor_locator(NullLocator())
    low_end, high_end = axes.get_ylim()
    shares = [share for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if low_end <= share <= high_end]
    axes.set_yticks(shares or [low_end * (high_end / low_end) ** place for place in (0.2, 0.8)])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:.3g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    plain(axes)
