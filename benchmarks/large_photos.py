"""A camera's photos: how much sooner they are read if the decoder need not give all of their pixels, and what that changes.

    python benchmarks/large_photos.py [--data ../shared/data]
    python benchmarks/large_photos.py --run runs/book

The study book's photos are enlarged to 12 and 3 million pixels and get a camera's noise, for want of others; some are also
taken as they are, 500 x 374, which small networks reduce as far. Each is decoded and reduced to several sizes, whole and in
part, in turns. Processor time of one thread. With a run (of the book's own photos, `--numbers 0-250`) in place of all this:
how far its answers move on 200 of the other photos, enlarged.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tapetum
from tapetum.data.decode import decode
from tapetum.data.prepare import decode_reduced, reduce

SIDES = {(4000, 3000): (90, 128, 180, 256), (2000, 1500): (90, 128, 180, 256), (500, 374): (32, 64, 90)}
OWN = (500, 374)
PHOTOS, NOISE = 24, 6.0
# Numbers of the cats and dogs whose answers are compared.
JUDGED = 251, 351


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parent.parent.parent / "shared" / "data")
    parser.add_argument("--run", type=Path, help="a run: whether its answers change")
    args = parser.parse_args()
    folder = args.data / "cats-dogs"
    if args.run:
        answers(args.run, folder)
        return
    files = [path for path in sorted(folder.rglob("*.jpg")) if Image.open(path).size == OWN][:PHOTOS]
    torch.set_num_threads(1)
    print("| pixels | reduced to | whole, ms | in part, ms | whole / part | grey levels apart: mean | most |")
    print("|---|---|---|---|---|---|---|")
    for size, sides in SIDES.items():
        photos = [path.read_bytes() if size == OWN else enlarged(path, size, seed) for seed, path in enumerate(files)]
        for side in sides:
            rows = np.array([compared(data, side) for data in photos])
            whole, part, mean, most = np.median(rows[:, 0]), np.median(rows[:, 1]), rows[:, 2].mean(), rows[:, 3].max()
            times = f"{whole * 1000:.1f} | {part * 1000:.1f} | {np.median(rows[:, 0] / rows[:, 1]):.2f}"
            print(f"| {size[0]} x {size[1]} | {side} | {times} | {mean:.2f} | {most:.0f} |", flush=True)


def answers(run: Path, folder: Path) -> None:
    """How far the probabilities of a run's classes move on photos that it did not train on."""
    classifier = tapetum.load(run)
    files = [folder / kind / f"{kind.lower()}.{number}.jpg" for kind in ("Cat", "Dog") for number in range(*JUDGED)]
    side = classifier.preprocessing.reduce
    print("| pixels | reduced to | photos | probability moved: mean | 99 of 100 less than | most | other answers |")
    print("|---|---|---|---|---|---|---|")
    for size in list(SIDES)[:2]:
        photos = [enlarged(path, size, seed) for seed, path in enumerate(files)]
        whole, part = (
            classifier.from_squares([classifier.prepare(picture) for picture in pictures])
            for pictures in ([reduce(decode(data), side) for data in photos], [decode_reduced(data, side) for data in photos])
        )
        moved, other = np.abs(whole - part).max(1), int((whole.argmax(1) != part.argmax(1)).sum())
        told = f"{moved.mean():.4f} | {np.percentile(moved, 99):.4f} | {moved.max():.4f} | {other}"
        print(f"| {size[0]} x {size[1]} | {side} | {len(photos)} | {told} |", flush=True)


def enlarged(path: Path, size: tuple[int, int], seed: int) -> bytes:
    """A photo in a camera's size, as JPEG."""
    picture = np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    noise = np.random.default_rng(seed).normal(0, NOISE, picture.shape)
    buffer = io.BytesIO()
    Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def compared(data: bytes, side: int) -> tuple[float, float, float, float]:
    """Seconds whole and in part, and how far apart the reduced pictures are."""
    begun = time.process_time()
    whole = reduce(decode(data), side)
    between = time.process_time()
    part = decode_reduced(data, side)
    ended = time.process_time()
    apart = np.abs(whole.astype(int) - part)
    return between - begun, ended - between, float(apart.mean()), float(apart.max())


if __name__ == "__main__":
    main()
