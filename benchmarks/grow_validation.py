"""Whether `tapetum grow` foretells: from parts of up to 2,000 photos to a training on 8,000.

    python benchmarks/grow_validation.py [--seeds 4] [--epochs 10] [--out grow-validation]

8,000 photos of the 180-pixel collection train, its 1500 to 2499 of each class (2,000 photos) judge. `compact` at 64 pixels,
upright, trained on parts of 125 to 2,000 photos and on 8,000 of them, each with the work that `tapetum grow` gives (the epochs
are those of 8,000 photos). The law is fitted to the parts of up to 2,000 only, and then asked for 8,000. Also printed: the same
from parts of up to 1,000, asked for 2,000. Finished trainings are kept in the folder; the same command goes on.
"""

import argparse
from pathlib import Path

import numpy as np

from tapetum.config import Settings
from tapetum.data.samples import Samples, file_number
from tapetum.data.sources import find_samples
from tapetum.evaluation.growth import Growth, Law, fit_law
from tapetum.scaling.grow import grow

ZIP = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "PetImages-180px.zip"
SIZES, TRAIN, TEST = (125, 250, 500, 1000, 2000, 8000), 4000, (1500, 2499)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10, help="of the training on 8,000 photos")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--data", type=Path, default=ZIP)
    parser.add_argument("--out", type=Path, default=Path("grow-validation"))
    args = parser.parse_args()
    settings = Settings(
        model=args.model, size=args.size, start_size=args.size, batch=32, turn=0.0, epochs=args.epochs, minutes=600.0
    )
    found, _ = grow(parts(find_samples(args.data)), args.out, sizes=SIZES, seeds=args.seeds, settings=settings)
    print(found.text())
    for most, asked in ((1000, 2000), (2000, 8000)):
        compare(found, fit_law([point for point in found.points if point.size <= most]), most, asked)


def parts(samples: Samples) -> Samples:
    """Those that train and those that judge; the rest is left out."""
    numbers = np.array([int(file_number(name)) for name in samples.names])
    judges = (numbers >= TEST[0]) & (numbers <= TEST[1])
    trains = np.zeros(len(samples), bool)
    for label in range(len(samples.classes)):
        rest = np.flatnonzero((samples.labels == label) & ~judges)
        trains[rest[np.argsort(numbers[rest])][: TRAIN + 1]] = True  # Cat/666.jpg gives no picture
    splits = np.where(judges, "test", "train").astype(object)
    return samples.with_splits(splits).select(judges | trains)


def compare(found: Growth, law: Law, most: int, asked: int) -> None:
    """What the law says of a size that it was not fitted to, beside what was measured there."""
    (measured,) = (accuracy for size, accuracy in found.sizes() if size == asked)
    error = law.error(asked)
    print(
        f"\nfitted up to {most:,} pictures: error = {law.a:.3g} n^-{law.b:.3f} + {law.c:.3f}; at {asked:,} foretold accuracy "
        f"{(1 - error.value) * 100:.1f} % ({(1 - error.high) * 100:.1f} to {(1 - error.low) * 100:.1f}), measured {measured}"
    )
    gain = law.gain(most, asked)
    before = next(accuracy.value for size, accuracy in found.sizes() if size == most)
    points = f"{gain.value * 100:+.1f} points ({gain.low * 100:.1f} to {gain.high * 100:.1f})"
    print(f"gain from {most:,} to {asked:,}: foretold {points}, measured {(measured.value - before) * 100:+.1f}")


if __name__ == "__main__":
    main()
