"""Two drawings of what benchmarks/accuracy.jsonl holds, for the README and RESULTS.md.

    python benchmarks/figures.py

docs/ladder.png: the networks of 1998, 2012 and today on the same 400 photos. docs/waterfall.png: from the notes' LeNet to the
best, one change at a time (RESULTS.md names the commands of both). Bars are means over seeds, lines their 95 % interval
(Student's t). A network without runs is left out.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from accuracy import newest_runs
from tapetum.evaluation.metrics import mean_interval

HERE = Path(__file__).resolve().parent
LADDER = [
    ("lenet-textbook", "LeNet as the notes write it"),
    ("lenet", "LeNet's layers, trained well"),
    ("lenet-now", "LeNet's two convolutions today"),
    ("alexnet-textbook", "AlexNet as the notes write it"),
    ("alexnet", "AlexNet's layers, trained well"),
    ("alexnet-now", "AlexNet's convolutions today"),
    ("compact optimizer=adamw lr=0.001 batch=16 turn=0", "compact by AdamW, pictures upright"),
    ("compact", "compact: Muon, turned pictures"),
    ("compact members=5", "five of them"),
]
WATERFALL = [
    ("lenet-textbook", "the notes' LeNet, as written"),
    ("lenet", "its layers trained well"),
    ("compact optimizer=adamw lr=0.001 batch=16 turn=0", "another network: compact"),
    ("compact turn=0", "Muon in place of AdamW"),
    ("compact", "some pictures turned"),
    ("compact members=5", "five networks as one"),
]


def main() -> None:
    found = {
        f"{network} {options}".strip(): [run["accuracy"] for run in runs.values()]
        for (track, network, options), runs in newest_runs().items()
        if track == "T400"
    }
    for name, bars in (("ladder", LADDER), ("waterfall", WATERFALL)):
        draw([(words, found[key]) for key, words in bars if key in found], HERE.parent / "docs" / f"{name}.png")


def draw(bars: list[tuple[str, list[float]]], path: Path) -> None:
    """Horizontal bars of accuracies, the first on top, with their numbers written beside."""
    figure = Figure(figsize=(8, 0.5 + 0.42 * len(bars)), dpi=110, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for place, (_, values) in enumerate(bars):
        mean = float(np.mean(values)) * 100
        axes.barh(place, mean - 50, left=50, color="#4c78a8", height=0.62)
        told = f"{mean:.1f} %"
        if len(values) > 1 and np.std(values) > 0:
            interval = mean_interval(np.array(values))
            axes.plot([interval.low * 100, interval.high * 100], [place, place], color="black", linewidth=1.6)
            told += f" ({len(values)} seeds)"
        right = max(mean, (mean_interval(np.array(values)).high * 100) if len(values) > 1 else mean)
        axes.text(right + 0.5, place, told, va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [words for words, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(50, 100)
    axes.set_xlabel("accuracy on 1,500 photos that did not train, % (guessing: 50)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
