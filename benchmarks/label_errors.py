"""Wrong labels on purpose: how many of them does `tapetum labels` find?

    python benchmarks/label_errors.py
    python benchmarks/label_errors.py --only digits --seeds 3 --set epochs=8 batch=64

Of a real set 5 % of the labels are given to another class, drawn with the seed; then `tapetum train --folds 5` and `tapetum
labels` see nothing but the wrong ones. Prints a row a set and seed: how many of the flipped are among the 5 % of pictures that
rank highest (recall; a random order finds 5 %), by each of cleanlab's scores, of which self-confidence is the plain probability
of the given label; and how many labels cleanlab doubts, with the flipped among them. Labels that were wrong before are
false alarms here. Sets whose source is absent are skipped, and named.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.rank import get_label_quality_scores
from PIL import Image

import tapetum
from accuracy import DATA, value
from tapetum.data.samples import file_number
from tapetum.data.sources import find_samples
from tapetum.demo import write_digits
from tapetum.evaluation.labels import in_doubt, judged
from tapetum.evaluation.metrics import wilson

SHARE, FOLDS = 0.05, 5
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="how many, from 0; or first and last")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings, as of tapetum train")
    args = parser.parse_args()
    first, last = (0, args.seeds[0] - 1) if len(args.seeds) == 1 else args.seeds
    options = dict(value(pair) for pair in args.set)
    columns = ["set", "seed", "pictures", "flipped", "accuracy", *SCORES, "in doubt", "flipped among them", "time"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for name in args.only:
        for seed in range(first, last + 1):
            with tempfile.TemporaryDirectory() as scratch:
                pictures = Path(scratch) / "pictures"
                if not SETS[name](pictures):
                    print(f"skipped {name}: its source is absent from {DATA}")
                    break
                print(row(name, seed, pictures, Path(scratch) / "run", options), flush=True)


def row(name: str, seed: int, pictures: Path, run: Path, options: dict[str, Any]) -> str:
    """One line of the table."""
    flipped = flip(pictures, seed)
    begun = time.monotonic()
    found = tapetum.train(pictures, run, folds=FOLDS, seed=seed, say=lambda line: None, **options)
    seconds = time.monotonic() - begun
    names, _, labels_N, probabilities_NK = judged(run)
    wrong_N = np.array([each in flipped for each in names])
    top = len(flipped)
    recalls = []
    for score in SCORES:
        order = np.argsort(get_label_quality_scores(labels_N, probabilities_NK, method=score), kind="stable")
        recalls.append(str(wilson(int(wrong_N[order[:top]].sum()), top)))
    doubted = in_doubt(labels_N, probabilities_NK)
    cells = [name, seed, f"{len(names):,}", top, f"{found.metrics['folds'].accuracy.value:.1%}", *recalls]
    cells += [len(doubted), int(wrong_N[doubted].sum()), f"{seconds:.0f} s"]
    return f"| {' | '.join(map(str, cells))} |"


def flip(folder: Path, seed: int) -> set[str]:
    """Move SHARE of the files of a class folder to another class; the names that they have then come back."""
    samples, rng = find_samples(folder), np.random.default_rng(seed)
    moved = set()
    for i in rng.permutation(len(samples))[: round(SHARE * len(samples))]:
        others = [each for k, each in enumerate(samples.classes) if k != samples.labels[i]]
        old = Path(samples.names[i])
        new = Path(others[rng.integers(len(others))]) / f"{old.parent.name}-{old.name}"
        (folder / old).rename(folder / new)
        moved.add(new.as_posix())
    return moved


def digits(folder: Path) -> bool:
    """scikit-learn's 1,797 digits of 8 x 8 pixels."""
    write_digits(folder)
    return True


def mnist(folder: Path, count: int = 4000) -> bool:
    """The first training digits of MNIST."""
    if not (DATA / "mnist").exists():
        return False
    samples = find_samples(DATA / "mnist").of_split("train")
    for i in sorted(range(len(samples)), key=lambda i: int(file_number(samples.names[i])))[:count]:
        place = folder / samples.classes[samples.labels[i]] / f"{file_number(samples.names[i])}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(samples.read(i))
    return True


def photos(folder: Path) -> bool:
    """The photos 251 to 1000 of cats and dogs, 1,500, reduced to 128 pixels so that they are read quickly."""
    if not (DATA / "cats-dogs").exists():
        return False
    for file in sorted((DATA / "cats-dogs").rglob("*.jpg")):
        if 251 <= int(file.stem.split(".")[1]) <= 1000:
            place = folder / file.parent.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(file).convert("RGB")
            picture.thumbnail((128, 128))
            picture.save(place, quality=95)
    return True


SETS: dict[str, Callable[[Path], bool]] = {"digits": digits, "mnist": mnist, "cats-dogs": photos}

if __name__ == "__main__":
    main()
