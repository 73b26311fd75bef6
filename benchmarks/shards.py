"""How fast the cache is filled from a folder, from shards, and from shards over loopback HTTP.

    python benchmarks/shards.py [--data DATA] [--rounds 5] [--reduce 160] [--shard-mb 16]

Every file is read, hashed, decoded, reduced and written, into a new cache each time. A round measures the folder, the shards
and the server once each, in an order that turns from round to round. The files are in the system's memory after the first
round, which is not counted. Prints pictures a second: median (lowest to highest), and the ratio to the folder of each round.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tapetum.data.cache import open_pictures
from tapetum.data.pack import pack
from tapetum.data.sources import find_samples

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from shard_server import serving  # noqa: E402 - a helper of the tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / "cats-dogs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reduce", type=int, default=160, help="the shorter side of the pictures that are kept")
    parser.add_argument("--shard-mb", type=float, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TAPETUM_CACHE"] = str(Path(scratch) / "cache")
        packed = pack(args.data, Path(scratch) / "shards", shard_mb=args.shard_mb)
        count, num_shards = packed.index["pictures"], len(packed.index["shards"])
        print(f"{args.data.name}: {count:,} pictures in {num_shards} shards; load {os.getloadavg()[0]:.1f} at the beginning")
        with serving(Path(scratch) / "shards") as server:
            places = {"folder": args.data, "shards": Path(scratch) / "shards", "loopback HTTP": server.url}
            found = measure(places, args.rounds, args.reduce)
        print(f"load {os.getloadavg()[0]:.1f} at the end")
    print("| from | pictures a second | ratio to the folder | rounds |\n|---|---|---|---|")
    for name, speeds in found.items():
        ratios = [speed / folder for speed, folder in zip(speeds, found["folder"], strict=True)]
        print(f"| {name} | {spread(speeds, 0)} | {spread(ratios, 3)} | {len(speeds)} |")


def measure(places: dict[str, Path | str], rounds: int, reduce_to: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in places}
    for number in range(rounds + 1):
        names = list(places)
        for name in names[number % 3 :] + names[: number % 3]:
            shutil.rmtree(os.environ["TAPETUM_CACHE"], ignore_errors=True)
            begun = time.perf_counter()
            pictures = open_pictures(find_samples(places[name]), reduce_to)
            seconds = time.perf_counter() - begun
            assert pictures.cached is not None
            if number:
                found[name].append((len(pictures) - len(pictures.reasons)) / seconds)
            print(f"round {number}: {name}: {seconds:.2f} s", file=sys.stderr, flush=True)
    return found


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
