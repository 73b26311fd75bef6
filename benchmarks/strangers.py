"""How well `--reject` tells pictures of no class from those of the classes.

    python benchmarks/strangers.py --seeds 3
    python benchmarks/strangers.py --job digits --seeds 3

Trains without a flag (photos: the study book's 400; digits: MNIST, in few epochs), and asks with `--reject 0.05`, which by
design leaves 5 % of the known kind without an answer. The strangers are digits (or photos), noise of single pixels and of
large spots, single colours, PngSuite, and parts of the photos that scikit-learn and, where it is there, scikit-image ship.
For each kind: the share called "neither", and the area under the ROC curve of strangers against known pictures, beside that of
the plain probability. Prints a table, mean over seeds.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

import tapetum
from accuracy import value
from tapetum.data.sources import find_pictures, find_samples
from tapetum.data.splits import numbers_range
from tapetum.inference.predict import Predictions, predict_samples

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
REJECT = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", choices=("photos", "digits"), default="photos")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the training")
    args = parser.parse_args()
    options = dict(value(pair) for pair in args.set)
    rows: dict[str, list[tuple[int, float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_strangers(folder / "strangers")
        for seed in range(args.seeds):
            classifier, known = train(args.job, folder / f"run-{seed}", seed, options)
            for kind in sorted((folder / "strangers").iterdir()):
                if kind.name != args.job:
                    found = predict_samples(classifier, find_pictures([kind]), reject=REJECT)
                    rows.setdefault(kind.name, []).append(compare(known, found))
            silent = np.mean(np.array(known.labels) == "neither")
            rows.setdefault("the known kind", []).append((len(known.names), float(silent), np.nan, np.nan))
    print("| pictures | n | called neither | area under ROC | by probability alone | seeds |")
    print("|---|---|---|---|---|---|")
    for kind, found in rows.items():
        n, silent, area, plain = np.mean(found, axis=0)
        areas = "| | |" if np.isnan(area) else f"| {area:.3f} | {plain:.3f} |"
        print(f"| {kind} | {n:.0f} | {silent:.1%} {areas} {len(found)} |")


def train(job: str, folder: Path, seed: int, options: dict) -> tuple[tapetum.Classifier, Predictions]:
    """A classifier, and its answers for pictures of its kind that it did not see."""
    if job == "photos":
        run = tapetum.train(DATA / "cats-dogs", folder, split="notes", seed=seed, **options)
        known = find_samples(DATA / "cats-dogs", numbers_range("251-1000", notes=False))
    else:
        run = tapetum.train(DATA / "mnist", folder, val=0.05, seed=seed, **{"epochs": 3, **options})
        known = find_samples(DATA / "mnist").of_split("test")
    return run.classifier, predict_samples(run.classifier, known, reject=REJECT)


def compare(known: Predictions, strangers: Predictions) -> tuple[int, float, float, float]:
    """Strangers, the share of them called neither, and both areas."""
    truth = np.r_[np.zeros(len(known.names)), np.ones(len(strangers.names))]
    areas = [
        roc_auc_score(truth, -np.r_[a, b])
        for a, b in (
            (known.familiarity_N, strangers.familiarity_N),
            (known.probabilities_NK.max(1), strangers.probabilities_NK.max(1)),
        )
    ]
    return len(strangers.names), float(np.mean(np.array(strangers.labels) == "neither")), *areas


def write_strangers(folder: Path) -> None:
    """A folder for each kind."""
    generator = np.random.default_rng(0)
    digits = find_samples(DATA / "mnist").of_split("test")
    kinds: dict[str, Iterator[Image.Image]] = {
        "noise": (Image.fromarray(generator.integers(0, 256, (200, 200, 3), np.uint8)) for _ in range(100)),
        "spots": (
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).resize((200, 200), Image.Resampling.BICUBIC)
            for _ in range(100)
        ),
        "single colours": (Image.new("RGB", (200, 200), tuple(map(int, generator.integers(0, 256, 3)))) for _ in range(100)),
        "parts of other photos": parts(generator),
    }
    for kind, pictures in kinds.items():
        (folder / kind).mkdir(parents=True)
        for i, picture in enumerate(pictures):
            picture.save(folder / kind / f"{i}.png")
    for kind, names, read in (
        ("digits", range(200), digits.read),
        ("PngSuite", sorted((DATA / "odd-images" / "pngsuite").glob("*.png")), Path.read_bytes),
        ("photos", sorted((DATA / "cats-dogs" / "Cat").glob("*.jpg"))[:200], Path.read_bytes),
    ):
        (folder / kind).mkdir()
        for i, name in enumerate(names):
            (folder / kind / f"{i}.png").write_bytes(read(name))


def parts(generator: np.random.Generator) -> Iterator[Image.Image]:
    """Twelve squares of each photo that the two packages ship."""
    photos = list(load_sample_images().images)
    try:
        from skimage import data
    except ImportError:
        print("scikit-image is absent: parts of two photos only")
    else:
        names = ("astronaut", "coffee", "rocket", "hubble_deep_field", "retina", "brick", "grass", "gravel", "camera", "coins")
        for name in names:
            try:
                photos.append(np.asarray(Image.fromarray(getattr(data, name)()).convert("RGB")))
            except Exception as error:  # some have to be fetched first
                print(f"left out: {name}: {error}")
    for photo in photos:
        for _ in range(12):
            side = int(min(photo.shape[:2]) * generator.uniform(0.4, 1))
            top, left = (int(generator.integers(0, n - side + 1)) for n in photo.shape[:2])
            yield Image.fromarray(np.ascontiguousarray(photo[top : top + side, left : left + side]))


if __name__ == "__main__":
    main()
