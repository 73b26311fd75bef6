"""How fast the cache is filled from a folder, from shards, and from shards over loopback HTTP.

    python benchmarks/shards.py [--data DATA] [--rounds 5] [--reduce 160] [--shard-mb 16]

Every file is read, hashed, decoded, reduced and written, into a new cache each time. A round measures the folder, the shards
and the server once each, in an order that turns from round to round. The files are in the system's memory after the first
round, which is not counted. Prints pictures a second and processor milliseconds a picture: median (lowest to highest), each
with its ratio to the folder in the same round. On a busy machine the processor time is the steadier of the two; it includes
that of the server, which is a thread of this program.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
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
    print("| from | pictures a second | ratio to the folder | processor ms a picture | ratio to the folder | rounds |")
    print("|---|---|---|---|---|---|")
    for name, rounds in found.items():
        speeds, costs = zip(*rounds, strict=True)
        of_speed, of_cost = (
            [each[k] / folder[k] for each, folder in zip(rounds, found["folder"], strict=True)] for k in range(2)
        )
        cells = [spread(speeds, 0), spread(of_speed, 3), spread(costs, 2), spread(of_cost, 3), str(len(rounds))]
        print(f"| {name} | {' | '.join(cells)} |")


def measure(places: dict[str, Path | str], rounds: int, reduce_to: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in places}
    for number in range(rounds + 1):
        names = list(places)
        for name in names[number % 3 :] + names[: number % 3]:
            shutil.rmtree(os.environ["TAPETUM_CACHE"], ignore_errors=True)
            begun, used = time.perf_counter(), time.process_time()
            pictures = open_pictures(find_samples(places[name]), reduce_to)
            seconds, busy = time.perf_counter() - begun, time.process_time() - used
            assert pictures.cached is not None
            if number:
                count = len(pictures) - len(pictures.reasons)
                found[name].append((count / seconds, 1000 * busy / count))
            print(f"round {number}: {name}: {seconds:.2f} s, processor {busy:.2f} s", file=sys.stderr, flush=True)
    return found


def spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
