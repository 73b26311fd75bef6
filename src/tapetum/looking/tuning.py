"""A search for settings as one self-contained HTML page: what was tried, what mattered, and what it brought."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from tapetum.evaluation.compare import Comparison
from tapetum.looking.charts import chart
from tapetum.looking.grids import FAINT, NEUTRAL, SECOND, plain
from tapetum.looking.pages import write_html


@dataclass(frozen=True)
class Tried:
    """One trial."""

    number: int
    state: str
    """finished, stopped, failed, running or waiting."""
    score: float | None
    """Share of right answers: of all folds, or as far as it came."""
    folds: tuple[float, ...]
    values: dict[str, Any]
    default: bool
    """The default recipe."""
    seconds: float | None
    process: str
    reason: str

    def line(self) -> str:
        """For the person who waits."""
        found = "" if self.score is None else f" {self.score * 100:.1f} %"
        kind = " (the default recipe)" if self.default else ""
        reason = f" ({self.reason})" if self.reason else ""
        values = ", ".join(f"{name} {shown(value)}" for name, value in self.values.items())
        return f"trial {self.number}{kind}: {self.state}{reason}{found} with {values}"


@dataclass(frozen=True)
class Search:
    """What a page about a search tells."""

    data: str
    network: str
    folds: int
    epochs: int
    """Of one fold of the default in a trial."""
    final_minutes: float
    defaults: dict[str, Any]
    """The default recipe's values of what was searched."""
    logarithmic: tuple[str, ...]
    """What of it is searched in powers."""
    trials: tuple[Tried, ...]
    comparison: Comparison | None
    """A is the default, B the tuned run; None where the default won in cross-validation, or nothing was trained yet."""
    verdict: str
    chosen: str
    """"tuned" or "default": whose model is kept; empty before."""

    @staticmethod
    def best_of(trials: Sequence[Tried]) -> Tried | None:
        """The finished trial of the highest score, of equal ones the first."""
        finished = [trial for trial in trials if trial.state == "finished"]
        return max(finished, key=lambda trial: (trial.score or 0, -trial.number), default=None)

    @property
    def best(self) -> Tried | None:
        """The winner of the cross-validation."""
        return self.best_of(self.trials)

    @property
    def default(self) -> Tried | None:
        """The trial of the default recipe."""
        return next((trial for trial in self.trials if trial.default), None)

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(trial.state == state for trial in self.trials)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{len(self.trials)} trials: " + ", ".join(f"{self.count(s)} {s}" for s in _ORDER if self.count(s))]
        for words, trial in (("default", self.default), ("best", self.best)):
            if trial is not None and trial.score is not None:
                values = ", ".join(f"{name} {shown(value)}" for name, value in trial.values.items())
                lines.append(f"{words:<9} {trial.score * 100:.1f} % in cross-validation ({values})")
        if self.comparison is not None:
            lines += ["", "On the pictures put aside, A the default recipe, B the tuned settings, as many minutes each:"]
            lines += self.comparison.text(most=0).split("\n\n")[0].splitlines()
        return "\n".join([*lines, "", self.verdict])


_ORDER = ("finished", "stopped", "failed", "running", "waiting")


def shown(value: Any) -> str:
    """A setting's value, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_search(search: Search, path: Path) -> Path:
    """Write the page; its path comes back."""
    alt = "Dots: the accuracy of each trial by its number, with a line for the best so far"
    drawn = [trial for trial in search.trials if trial.score is not None]
    slices: list[tuple[str, Markup]] = []
    for name in search.defaults:
        tried = [trial for trial in drawn if name in trial.values]
        if tried:
            what = f"Dots: the accuracy of each trial by its value of {name}"
            slices.append((name, chart(partial(_draw_slice, search=search, name=name, trials=tried), what)))
    history = chart(partial(_draw_history, trials=drawn), alt) if drawn else ""
    return write_html("tune.html", path, search=search, history=history, slices=slices, shown=shown)


def _draw_history(axes: Axes, trials: Sequence[Tried]) -> None:
    _dots(axes, trials, [trial.number for trial in trials])
    numbers, best, so_far = [], [], 0.0
    for trial in trials:
        if trial.state == "finished":
            so_far = max(so_far, trial.score or 0)
            numbers.append(trial.number)
            best.append(so_far)
    axes.step(numbers, best, where="post", color=SECOND)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _draw_slice(axes: Axes, search: Search, name: str, trials: Sequence[Tried]) -> None:
    _dots(axes, trials, [trial.values[name] for trial in trials])
    axes.axvline(search.defaults[name], color=NEUTRAL, linestyle="--", linewidth=1)
    if name in search.logarithmic:
        values = [search.defaults[name], *(trial.values[name] for trial in trials)]
        low, high = min(values) / 1.2, max(values) * 1.2  # room on both sides, also of a single value
        axes.set_xlim(low, high)
        axes.set_xscale("log")
        ticks = [low * (high / low) ** share for share in (0.1, 0.5, 0.9)]
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xticks(sorted({trial.values[name] for trial in trials} | {search.defaults[name]}))


def _dots(axes: Axes, trials: Sequence[Tried], places: Sequence[float]) -> None:
    for finished, color in ((False, FAINT), (True, SECOND)):
        some = [(place, t.score) for place, t in zip(places, trials, strict=True) if (t.state == "finished") == finished]
        if some:
            axes.plot(*zip(*some, strict=True), "o", color=color, markersize=5)
    plain(axes)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
