"""What the rounds of benchmarks/speed.py say: ratios with intervals, marks where the machine was too noisy, a table, a plot."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

# Beyond these a machine was too busy with other things for its figures to be clean.
MOST_SPREAD, MOST_STEAL = 0.10, 0.01


@dataclass(frozen=True)
class Row:
    """One work against one program."""

    work: str
    against: str
    ratio: float
    """Their seconds / tapetum's, the median over rounds of the ratio of each round: above 1 tapetum is faster."""
    low: float
    high: float
    theirs: float
    """Median seconds."""
    ours: float
    rounds: int
    their_faults: float
    our_faults: float
    their_memory_mb: float
    our_memory_mb: float
    marks: tuple[str, ...]
    """Why the row is not clean: noise, or work that turned out not to be the same."""


def rows(work: str, found: dict[str, list[dict]], metrics: list[str], differs: Callable[[dict, dict], str]) -> list[Row]:
    """A row for each program beside tapetum and each metric ("" where the seconds are one number)."""
    made = []
    for metric in metrics:
        seconds = {who: np.array([_seconds(done, metric) for done in rounds]) for who, rounds in found.items()}
        for who in found:
            if who == "tapetum" or "tapetum" not in found:
                continue
            count = min(len(seconds[who]), len(seconds["tapetum"]))
            theirs, ours = seconds[who][:count], seconds["tapetum"][:count]
            if not count or not np.isfinite(ours).all():  # a goal that was not reached
                continue
            ratio, low, high = median_interval(theirs / ours)
            pair = (found[who], found["tapetum"])
            marks = [*_noise(theirs, pair[0], who), *_noise(ours, pair[1], "tapetum")]
            different = {differs(mine, other) for mine, other in zip(pair[1], pair[0], strict=False)} - {""}
            made.append(
                Row(
                    f"{work} {metric}".strip(), who, ratio, low, high, float(np.median(theirs)), float(np.median(ours)), count,
                    *(float(np.median([done[key] for done in each])) for key in ("faults", "memory_mb") for each in pair),
                    tuple(marks + [f"not the same work: {each}" for each in sorted(different)]),
                )
            )  # fmt: skip
    return made


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % bootstrap interval (percentiles of 10,000 resamplings); of few rounds it is lowest to highest."""
    generator = np.random.default_rng(0)
    medians = np.median(values[generator.integers(len(values), size=(10_000, len(values)))], axis=1)
    return float(np.median(values)), float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def _seconds(done: dict, metric: str) -> float:
    return done["seconds"][metric] if metric else done["seconds"]


def _noise(seconds: np.ndarray, rounds: list[dict], who: str) -> list[str]:
    """Spread is (slowest - fastest) / median; steal is time that the host gave to others. Of one round nothing can be said."""
    spread = (seconds.max() - seconds.min()) / np.median(seconds)
    steal = max(done["steal"] for done in rounds)
    marks = ["one round only"] if len(seconds) == 1 else []
    marks += [f"{who}: spread {spread:.0%}"] if spread > MOST_SPREAD else []
    return marks + ([f"{who}: steal {steal:.0%}"] if steal > MOST_STEAL else [])


def table(found: list[Row]) -> str:
    """Markdown. A row with marks is not clean: its ratio stands in brackets."""
    lines = [
        "| work | against | theirs / tapetum | 95 % interval | theirs | tapetum | rounds | page faults | peak MB | marks |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        ratio = f"({row.ratio:.2f})" if row.marks else f"{row.ratio:.2f}"
        lines.append(
            f"| {row.work} | {row.against} | {ratio} | {row.low:.2f} to {row.high:.2f} | {time(row.theirs)} | {time(row.ours)} "
            f"| {row.rounds} | {row.their_faults:,.0f} / {row.our_faults:,.0f} "
            f"| {row.their_memory_mb:,.0f} / {row.our_memory_mb:,.0f} | {'; '.join(dict.fromkeys(row.marks))} |"
        )
    return "\n".join(lines)


def time(seconds: float) -> str:
    """Seconds with a fitting unit.

    >>> time(0.0123)
    '12.3 ms'
    """
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def machine() -> dict[str, Any]:
    """What figures depend on."""
    import torch

    names = ("tapetum", "torch", "torchvision", "numpy", "pillow", "timm", "fastai", "ultralytics", "onnxruntime")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    cpu = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "huge_pages": " ".join(_lines(huge)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def as_json(found: list[Row]) -> list[dict]:
    return [asdict(row) for row in found]


def draw(found: list[Row], path: Path) -> None:
    """Ratios with their intervals, one line a row; hollow where a row is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.27 * len(found)), dpi=110, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for place, row in enumerate(found):
        axes.plot([row.low, row.high], [place, place], color="#4c78a8", linewidth=1.6)
        axes.plot(row.ratio, place, "o", color="#4c78a8", markerfacecolor="white" if row.marks else "#4c78a8")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), [f"{row.work}: {row.against}" for row in found], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("their time / tapetum's (above 1: tapetum is faster; hollow: marked in the table)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
