"""What `tapetum tune` brings on the study book's photos, judged on others in great number.

    python benchmarks/tuning.py --minutes 18 [--out tuning]

The book's 502 photos (cat and dog 0 to 250) are searched and trained on; the 1,500 photos 251 to 1000 are the test part, which
no trial sees. Prints what the command prints.
"""

import argparse
from pathlib import Path

import numpy as np

from tapetum.config import Settings
from tapetum.data.samples import Samples, file_number
from tapetum.data.sources import find_samples
from tapetum.scaling.tune import tune

PHOTOS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cats-dogs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=18.0)
    parser.add_argument("--data", type=Path, default=PHOTOS)
    parser.add_argument("--out", type=Path, default=Path("tuning"))
    args = parser.parse_args()
    print(tune(parts(find_samples(args.data, (0, 1000))), args.out, settings=Settings(minutes=args.minutes)).search.text())


def parts(samples: Samples) -> Samples:
    """The book's photos train, the others test."""
    numbers = np.array([int(file_number(name)) for name in samples.names])
    return samples.with_splits(np.where(numbers <= 250, "train", "test"))


if __name__ == "__main__":
    main()
