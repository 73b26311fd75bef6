"""What the two GPUs saw: does one column of AlexNet learn colour-blind filters and the other colour filters?

    python benchmarks/two_columns.py --seeds 0 1 2 --out columns

Trains `alexnet-2012` on photos of cats and dogs (two classes for a thousand, 4,000 photos for 1.2 million, 115 pixels for 227;
so fewer linear weights, and the same convolutions), draws the 96 filters of the first layer by column, and measures how much of
each is colour. A column's mean share of colour, the difference between the columns and its permutation p say whether they
specialised. Prints one line a seed.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import tapetum
from tapetum import models
from tapetum.looking.filters import colour_share, filter_grid

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "PetImages-180px.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--numbers", default="0-1999", help="photos by number, of each class")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="adamw")
    parser.add_argument("--lr", type=float, default=0.0003)
    parser.add_argument("--size", type=int, default=115)
    parser.add_argument("--out", type=Path, default=Path("columns"))
    args = parser.parse_args()
    for seed in args.seeds:
        begun = time.monotonic()
        torch.manual_seed(seed)
        start = first_layer(models.build("alexnet-2012", 2, args.size))
        run = tapetum.train(
            args.data, args.out / f"seed-{seed}", overwrite=True, numbers=args.numbers, val=0.1, model="alexnet-2012",
            recipe="paper", size=args.size, epochs=args.epochs, lr=args.lr, optimizer=args.optimizer,
            schedule="cosine" if args.optimizer == "adamw" else "steps", batch=32, views="mirror", seed=seed,
        )  # fmt: skip
        filters = first_layer(run.classifier.network)
        moved = float(np.linalg.norm(filters - start) / np.linalg.norm(start))
        share, first = colour_share(filters), np.arange(96) < 48
        groups = share[first], share[~first]
        found = stats.permutation_test(groups, lambda one, other: one.mean() - other.mean(), n_resamples=10_000, rng=0)
        difference, p = found.statistic, found.pvalue
        filter_grid(
            [filters[:48], filters[48:]], [f"column {k}: mean share of colour {share[rows].mean():.2f}" for k, rows in
            ((1, first), (2, ~first))], args.out / f"filters-{seed}.png",
        )  # fmt: skip
        print(
            f"seed {seed}: accuracy {run.metrics['val'].accuracy}; share of colour {share[first].mean():.3f} in column 1, "
            f"{share[~first].mean():.3f} in column 2, difference {difference:+.3f}, p {p:.3f}; at the start "
            f"{colour_share(start).mean():.3f}; filters moved by {moved:.2f} of their length; {time.monotonic() - begun:.0f} s",
            flush=True,
        )


def first_layer(network: torch.nn.Module) -> np.ndarray:
    """The 96 filters (96, 3, 11, 11) of both columns."""
    return np.concatenate([column.conv1.weight.detach().numpy() for column in network.columns])


if __name__ == "__main__":
    main()
