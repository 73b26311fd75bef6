"""Whether a picture costs the same among many as among few, and a pixel the same in a large picture as in a small one.

    python benchmarks/growth.py [--rounds 5] [--steps 60] [--network compact]

Training steps of `compact` by the automatic recipe: batches from the warm cache, forward, backward, update. Among 400, 2,000,
8,000 and 20,000 photos of the zip at 64 pixels; then among 2,000 at 64 to 256 pixels. A round measures all of them once, every
second round in the opposite order. Counted are the processor seconds of one thread, which other work on the machine disturbs
least; that nothing waits for the disk besides shows the time by the clock beside them, on a machine with nothing else to do.
Prints a table, writes growth.json, and draws ../docs/growth.png.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import speed_figures
from tapetum import models
from tapetum.config import Settings
from tapetum.data.cache import Pictures, open_pictures
from tapetum.data.loader import TrainingLoader
from tapetum.data.sources import find_samples
from tapetum.faster import keep_freed_memory, rewritten
from tapetum.training import recipes, turning
from tapetum.training.optim import loss, make_optimizer

HERE = Path(__file__).resolve().parent
COUNTS, SIZES = (400, 2000, 8000, 20_000), (64, 96, 128, 192, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of 32 pictures, in each measurement at 64 pixels")
    parser.add_argument("--network", default="compact")
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / "PetImages-180px.zip")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    samples = find_samples(args.data)
    pictures = open_pictures(samples, recipes.preprocessing(recipe(args.network, max(SIZES))).reduce)
    readable = np.random.default_rng(0).permutation([i for i in range(len(samples)) if i not in pictures.reasons])
    works = [(count, 64) for count in COUNTS] + [(2000, size) for size in SIZES[1:]]
    found: dict[tuple[int, int], list[tuple[float, float]]] = {work: [] for work in works}
    for number in range(args.rounds):
        for count, size in works[:: 1 if number % 2 == 0 else -1]:
            steps = max(6, args.steps * 64**2 // size**2)
            found[count, size].append(seconds_a_picture(pictures, np.sort(readable[:count]), args.network, size, steps))
            processor, clock = (1000 * seconds for seconds in found[count, size][-1])
            print(f"round {number + 1}: {count:,} photos, {size} px: {processor:.3f} ms (clock {clock:.3f})", flush=True)
    rows = table(found)
    (HERE / "growth.json").write_text(json.dumps({"machine": speed_figures.machine(), "rows": rows}, indent=1) + "\n")
    draw(rows, HERE.parent / "docs" / "growth.png")


def recipe(network: str, size: int):
    asked = Settings(model=network, size=size, start_size=size, batch=32, epochs=1)
    return recipes.choose(asked, recipes.Facts(2000, 2, 180, False))[0]


def seconds_a_picture(pictures: Pictures, rows: np.ndarray, name: str, size: int, steps: int) -> tuple[float, float]:
    """Of `steps` training steps, after a tenth as many that warm up: the processor's and the clock's."""
    chosen, cpu = recipe(name, size), torch.device("cpu")
    torch.manual_seed(0)
    network = models.build(name, 2, size)
    if chosen.turn > 0:
        turning.widen(network, name)
    network = network.to(memory_format=torch.channels_last).train()
    optimizer, prepared = make_optimizer(network, chosen), recipes.preprocessing(chosen)
    loader = TrainingLoader(pictures, rows, pictures.samples.labels[rows], 2, chosen, prepared, 0, cpu)
    batches = (batch for epoch in range(10**6) for batch in loader.epoch(epoch) if len(batch.images_BCHW) == 32)
    warm_up, begun, seen = max(2, steps // 10), (0.0, 0.0), 0
    with rewritten(network):
        for step in range(warm_up + steps):
            if step == warm_up:
                begun, seen = (time.process_time(), time.perf_counter()), 0
            batch = next(batches)
            outputs_BK = network(batch.images_BCHW)
            loss(outputs_BK, batch.targets_BK).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen += len(outputs_BK)
    return (time.process_time() - begun[0]) / seen, (time.perf_counter() - begun[1]) / seen


def table(found: dict[tuple[int, int], list[tuple[float, float]]]) -> list[dict]:
    """Medians over rounds with intervals, each ratio round by round to the first of its kind; printed as Markdown."""
    print("\n| photos | pixels | ms a picture | by the clock | ns a pixel | to the first | 95 % interval | marks |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for (count, size), both in found.items():
        seconds, clock = np.array(both).T
        first = np.array(found[COUNTS[0] if size == 64 else 2000, 64])[:, 0] / 64**2
        ratio, low, high = speed_figures.median_interval(seconds / size**2 / first)
        spread = (seconds.max() - seconds.min()) / np.median(seconds)
        mark = f"spread {spread:.0%}" if spread > speed_figures.MOST_SPREAD else ""
        middle, by_clock = float(np.median(seconds)), float(np.median(clock))
        row = {"photos": count, "size": size, "seconds": middle, "clock": by_clock, "ratio": ratio, "low": low, "high": high}
        rows.append({**row, "mark": mark})
        each = f"{middle * 1000:.3f} | {by_clock * 1000:.3f} | {middle / size**2 * 1e9:.1f}"
        print(f"| {count:,} | {size} | {each} | {ratio:.3f} | {low:.3f} to {high:.3f} | {mark} |")
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """Both growths side by side, with the five percent that are allowed."""
    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label, some in (
        (left, "photos", "photos (64 px)", [row for row in rows if row["size"] == 64]),
        (right, "size", "side in pixels (2,000 photos)", [row for row in rows if row["photos"] == 2000]),
    ):
        places, ratios = [row[key] for row in some], np.array([row["ratio"] for row in some])
        if key == "size":  # the first of its kind
            ratios[0] = 1.0
        axes.axhspan(0.95, 1.05, color="#4c78a8", alpha=0.12, linewidth=0)
        axes.plot(places, ratios, "o-", color="#4c78a8")
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.minorticks_off()
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylim(bottom=0)
    left.set_ylabel("time a picture, a pixel;\nthe first is 1")
    figure.savefig(path)


if __name__ == "__main__":
    main()
