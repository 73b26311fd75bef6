"""The automatic recipe on data that it was never tuned on: small, grey, many classes, few pictures, uneven classes, odd files.

    python benchmarks/odd_sets.py
    python benchmarks/odd_sets.py --only two-digits --seeds 3

Each set is written as two class folders, one to train and one to judge, made of what Debian's dataset-fashion-mnist, MNIST and
the photos of cats and dogs hold; sets whose source is absent are skipped, and named. Nothing is chosen on them: every run is
`tapetum train` without a flag but the seed. Prints a row a set: accuracy (mean over seeds), that of always answering one
class, of nearest neighbours on the pixels (the better of 1 and 5), and of `lenet-textbook` by the notes' recipe (64 px).
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

import tapetum
from accuracy import value
from tapetum.data.decode import decode
from tapetum.data.sources import find_samples
from tapetum.evaluation.evaluate import evaluate

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
FASHION = Path("/usr/share/datasets/fashion-mnist")
JUDGED = 1000

Labelled = Iterator[tuple[str, Image.Image]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings, to compare with no flag")
    args = parser.parse_args()
    options = dict(value(pair) for pair in args.set)
    print(
        "| set | classes | pictures | auto | mean recall of the classes | time | chance | neighbours | textbook | judged on |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in args.only:
        source, make = SETS[name]
        if not source.exists():
            print(f"skipped {name}: {source} is absent")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            print(row(name, make, Path(scratch), args.seeds, options), flush=True)


def row(name: str, make: Callable[[bool], Labelled], scratch: Path, seeds: int, options: dict[str, Any]) -> str:
    """One set's line of the table."""
    for part in ("train", "judge"):
        for i, (label, picture) in enumerate(make(part == "train")):
            (scratch / part / label).mkdir(parents=True, exist_ok=True)
            endings = ("png", "jpg", "webp", "bmp") if name == "mixed-files" else ("png",)
            picture.save(scratch / part / label / f"{i}.{endings[i % len(endings)]}")
    accuracies, recalls, seconds = [], [], []
    for seed in range(seeds):
        begun = time.monotonic()
        tapetum.train(scratch / "train", scratch / "run", seed=seed, say=lambda line: None, **options)
        seconds.append(time.monotonic() - begun)
        found = evaluate(scratch / "run", scratch / "judge").metrics
        accuracies.append(found.accuracy.value)
        recalls.append(np.mean([each.recall.value for each in found.classes]))
        shutil.rmtree(scratch / "run")
    tapetum.train(scratch / "train", scratch / "run", recipe="notes", size=64, say=lambda line: None)
    textbook = evaluate(scratch / "run", scratch / "judge").metrics.accuracy.value
    train_X, train_y = pixels(scratch / "train")
    judge_X, judge_y = pixels(scratch / "judge")
    neighbours = max(KNeighborsClassifier(k).fit(train_X, train_y).score(judge_X, judge_y) for k in (1, 5))
    largest = np.unique(train_y, return_counts=True)
    chance = (judge_y == largest[0][largest[1].argmax()]).mean()
    return (
        f"| {name} | {len(largest[0])} | {len(train_y):,} | {np.mean(accuracies):.1%} | {np.mean(recalls):.1%} "
        f"| {np.mean(seconds):.0f} s | {chance:.1%} | {neighbours:.1%} | {textbook:.1%} | {len(judge_y):,} |"
    )


def pixels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a class folder as grey 24 x 24 vectors, and their labels."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    grey = [np.asarray(Image.open(file).convert("L").resize((24, 24)), float).ravel() / 255 for file in files]
    return np.array(grey), np.array([file.parent.name for file in files])


def from_idx(folder: Path, train: bool, counts: list[int]) -> Labelled:
    """The first `counts[k]` pictures of class k of an MNIST-like collection; for judging, the first of its test part."""
    samples = find_samples(folder)
    left = dict(enumerate(counts if train else [JUDGED // len(counts)] * len(counts)))
    for i in np.flatnonzero(samples.splits == ("train" if train else "test")):
        label = int(samples.labels[i])
        if left[label]:
            left[label] -= 1
            yield samples.classes[label], Image.fromarray(decode(samples.read(int(i))))


def photos(train: bool) -> Labelled:
    """200 photos of each kind, or the 500 after number 251 that judge."""
    for label in ("Cat", "Dog"):
        for number in range(200) if train else range(251, 751):
            with Image.open(DATA / "cats-dogs" / label / f"{label.lower()}.{number}.jpg") as picture:
                yield label, picture.convert("RGB")


def grey_photos(train: bool) -> Labelled:
    yield from ((label, picture.convert("L")) for label, picture in photos(train))


def tiny_photos(train: bool) -> Labelled:
    yield from ((label, picture.resize((32, 32))) for label, picture in photos(train))


def mixed_files(train: bool) -> Labelled:
    """Sizes from 40 to 400 pixels, and other formats (see `row`)."""
    generator = np.random.default_rng(0)
    for label, picture in photos(train):
        side = int(40 * 10 ** generator.random())
        yield label, picture.resize((max(16, side * picture.width // picture.height), side))


def uneven_photos(train: bool) -> Labelled:
    """Ten times as many cats as dogs; judged on as many of each."""
    for i, (label, picture) in enumerate(photos(train)):
        if not train or label == "Cat" or i % 10 == 0:
            yield label, picture


def two_digits(train: bool) -> Labelled:
    """Numbers 00 to 99 from two digits side by side, 20 of each to train, 10 to judge."""
    digits: dict[int, list[Image.Image]] = {}
    for label, picture in from_idx(DATA / "mnist", train, [700] * 10):
        digits.setdefault(int(label), []).append(picture)
    generator = np.random.default_rng(int(train))
    for number in range(100):
        for _ in range(20 if train else 10):
            both = Image.new("L", (56, 28))
            for place, digit in enumerate(divmod(number, 10)):
                both.paste(digits[digit][generator.integers(len(digits[digit]))], (28 * place, 0))
            yield f"{number:02}", both


SETS: dict[str, tuple[Path, Callable[[bool], Labelled]]] = {
    "fashion, 20 a class": (FASHION, lambda train: from_idx(FASHION, train, [20] * 10)),
    "fashion, 300 a class": (FASHION, lambda train: from_idx(FASHION, train, [300] * 10)),
    "fashion, uneven": (FASHION, lambda train: from_idx(FASHION, train, [500, 320, 210, 140, 90, 60, 40, 25, 16, 10])),
    "digits, 20 a class": (DATA, lambda train: from_idx(DATA / "mnist", train, [20] * 10)),
    "two-digits": (DATA, two_digits),
    "grey photos": (DATA, grey_photos),
    "photos of 32 px": (DATA, tiny_photos),
    "mixed-files": (DATA, mixed_files),
    "uneven photos": (DATA, uneven_photos),
}


if __name__ == "__main__":
    main()
