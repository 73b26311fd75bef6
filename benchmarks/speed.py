"""Seconds an epoch of the study notes' two trainings: tapetum against the plain PyTorch + torchvision + PIL loop.

Both programs train the same network on the same 400 photos with the same batch, optimizer and kind of augmentation, and
validate on the same 92 after each epoch. Each round is a fresh process of either, in turn, so that a drift of the machine
meets both.

    python benchmarks/speed.py [--data ../shared/data/cats-dogs] [--nets lenet alexnet] [--rounds 5]

cold: the first epoch of a first run, with all decoding and the writing of the cache counted. warm: later epochs, with the cache
there. Ratios above 1 mean that tapetum is faster.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent


def tapetum_child(data: Path, net: str, epochs: int) -> None:
    """Train with tapetum in this process; print the seconds of reading and of each epoch as JSON."""
    import torch

    from tapetum import models
    from tapetum.config import Settings
    from tapetum.data import splits
    from tapetum.data.cache import open_pictures
    from tapetum.data.loader import TrainingLoader, ValidationLoader
    from tapetum.data.sources import find_samples
    from tapetum.training import loop, recipes

    recipe, _ = recipes.choose(
        Settings(recipe="notes", model=f"{net}-textbook", epochs=epochs), recipes.Facts(400, 2, 375, False)
    )
    prepared = recipes.preprocessing(recipe)
    samples = splits.notes_split(find_samples(data, splits.NOTES_NUMBERS))
    begun = time.perf_counter()
    pictures = open_pictures(samples, prepared.reduce)
    rows = {part: (samples.splits == part).nonzero()[0] for part in ("train", "val")}
    validation = ValidationLoader(pictures, rows["val"], prepared, 32)
    reading = time.perf_counter() - begun
    torch.manual_seed(0)
    device = torch.device("cpu")
    network = models.build(recipe.model, 2, recipe.size).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        training = TrainingLoader(pictures, rows["train"], samples.labels[rows["train"]], 2, recipe, prepared, 0, device)
        task = loop.Task(
            training, validation, samples.labels[rows["val"]], recipe, 0, device, False, Path(folder), {}
        )  # fmt: skip
        progress = loop.fit(task, network, False, lambda line: None, lambda entry: None)
    ends = [0.0, *(entry["seconds"] for entry in progress.history)]
    print(json.dumps({"reading": reading, "epoch_seconds": [b - a for a, b in pairwise(ends)]}))


def measure(command: list[str], cache: str) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TAPETUM_CACHE": cache})
    return json.loads(done.stdout.splitlines()[-1])


def interval(ratios: list[float]) -> str:
    """Median and range; with five rounds the range is the 94 % interval of the median (binomial)."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def compare(data: Path, net: str, rounds: int, epochs: int) -> str:
    cold, warm, tuned = [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            plain_command = [sys.executable, str(HERE / "plain_loop.py"), str(data), "--net", net, "--epochs", str(epochs)]
            ours_command = [sys.executable, __file__, "--child", "--data", str(data), "--nets", net, "--epochs", str(epochs)]
            first = measure(ours_command, cache)
            plain = measure(plain_command, cache)
            again = measure(ours_command, cache)
            honest = measure([*plain_command, "--tuned"], cache)
        cold.append(plain["epoch_seconds"][0] / (first["reading"] + first["epoch_seconds"][0]))
        warm.append(statistics.median(plain["epoch_seconds"]) / statistics.median(again["epoch_seconds"]))
        tuned.append(statistics.median(honest["epoch_seconds"]) / statistics.median(again["epoch_seconds"]))
        seconds = [f"{statistics.median(found['epoch_seconds']):.2f}" for found in (plain, honest, again)]
        print(
            f"{net} round {number + 1}: s an epoch: plain {seconds[0]}, tuned {seconds[1]}, tapetum {seconds[2]}",
            file=sys.stderr,
        )
    return f"| `{net}-textbook` | {interval(cold)} | {interval(warm)} | {interval(tuned)} | {rounds} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / "cats-dogs")
    parser.add_argument("--nets", nargs="+", default=["lenet", "alexnet"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        tapetum_child(args.data, args.nets[0], args.epochs)
        return
    import torch

    if not args.data.exists():
        sys.exit(f"{args.data} is not there: name the folder of cat and dog photos with --data")
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {args.epochs} epochs a round\n")
    print("| network | cold epoch: plain / tapetum | warm epoch: plain / tapetum | warm epoch: tuned / tapetum | rounds |")
    print("|---|---|---|---|---|")
    for net in args.nets:
        print(compare(args.data, net, args.rounds, args.epochs), flush=True)


if __name__ == "__main__":
    main()
