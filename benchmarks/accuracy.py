"""Accuracy on a track: networks and seeds, trained and then judged on photos that neither trained nor chose anything.

    python benchmarks/accuracy.py --networks lenet --seeds 5 --recipe auto
    python benchmarks/accuracy.py --networks lenet-textbook --seeds 5 --recipe notes

The track is T400: the study book's 400 photos train (its own split of cat and dog 0 to 250), the 1,500 photos 251 to 1000
judge. Prints one line a run and, at the end, rows for RESULTS.md: mean, standard deviation, 95 % interval of the mean
(Student's t), seeds.
"""

import argparse
import platform
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import tapetum
from tapetum.evaluation.evaluate import evaluate

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cats-dogs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--networks", nargs="+", default=["lenet", "lenet-textbook"])
    parser.add_argument("--recipe", choices=["auto", "notes"], default="auto", help="textbook networks get the notes'")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    rows = []
    for network in args.networks:
        recipe = "notes" if network.endswith("-textbook") else args.recipe
        accuracies, seconds = [], []
        for seed in range(args.seeds):
            folder = Path(tempfile.mkdtemp())
            begun = time.monotonic()
            run = tapetum.train(
                args.data, folder / "run", split="notes", recipe=recipe, model=network, seed=seed, say=lambda line: None
            )
            seconds.append(time.monotonic() - begun)
            found = evaluate(run.folder, args.data, numbers="251-1000").metrics
            accuracies.append(found.accuracy.value)
            print(f"{network} seed {seed}: {found.accuracy}, log-loss {found.log_loss:.3f}, {seconds[-1]:.0f} s", flush=True)
            shutil.rmtree(folder)
        mean, spread = np.mean(accuracies), np.std(accuracies, ddof=1)
        half = stats.t.ppf(0.975, args.seeds - 1) * spread / np.sqrt(args.seeds)
        rows.append(
            f"| `{network}` | {recipe} | {mean:.1%} | {spread * 100:.1f} | {mean - half:.1%} to {mean + half:.1%} "
            f"| {args.seeds} | {np.mean(seconds):.0f} s |"
        )
    versions = f"torch {torch.__version__}, tapetum {tapetum.__version__}"
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, {versions}\n")
    print("| network | recipe | mean accuracy | sd | 95 % interval of the mean | seeds | whole training, wall clock |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
