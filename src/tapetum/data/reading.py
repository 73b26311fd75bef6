"""Files to pictures: read, decode and reduce in threads, answer in order. Training and prediction both begin here."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tapetum.data.decode import BadPicture, decode, read_header
from tapetum.data.duplicates import Look, look
from tapetum.data.prepare import decode_reduced
from tapetum.data.samples import Samples
from tapetum.processes import num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
# How many pictures are looked at before a recipe is chosen.
_GLANCE = 32
# Share of a drawing that is of nearly one shade, the paper.
_PAPER = 0.6
# Whether a picture is grey shows at this size.
_ENOUGH_FOR_COLOUR = 64


@dataclass(frozen=True)
class Reading:
    """What one file gave: its picture (uint8 RGB, H x W x 3, reduced), or the reason why there is none."""

    picture: np.ndarray | None
    reason: str
    """Empty where there is a picture."""
    sha256: str
    """Of the file's bytes; empty where they could not be read, or memory did not suffice: another time may go better."""
    look: Look | None
    """What the picture is recognised by, where that was asked for."""


def read_pictures(samples: Samples, reduce_to: int, looks: bool = False) -> Iterator[Reading]:
    """One `Reading` for every file of `samples`, in their order. A file that gives no picture stops nothing."""

    def read(i: int) -> Reading:
        try:
            data = samples.read(i)
        except OSError as error:
            return Reading(None, f"could not be read: {error.strerror or error}", "", None)
        digest = hashlib.sha256(data).hexdigest()
        try:
            picture = decode_reduced(data, reduce_to)
        except BadPicture as reason:
            return Reading(None, str(reason), "" if isinstance(reason.__cause__, MemoryError) else digest, None)
        return Reading(picture, "", digest, look(picture) if looks else None)

    return in_threads(read, range(len(samples)))


def glance(samples: Samples) -> tuple[int, bool, bool]:
    """Of some of the pictures: the median of their shorter sides in pixels, whether all are grey, and whether they are drawn.

    Drawn: grey, and most of a picture is of nearly one shade, as paper is. Where none of them gives a picture the side is 1;
    why is told when all are read.
    """
    sides, shares, grey = [], [], True
    for i in np.unique(np.linspace(0, len(samples) - 1, _GLANCE).astype(int)) if len(samples) else ():
        try:
            data = samples.read(int(i))
            # In this order: of a damaged file `decode` says so.
            picture, header = decode(data, reduce_to=_ENOUGH_FOR_COLOUR), read_header(data)
        except (OSError, BadPicture):
            continue
        sides.append(min(header.width, header.height))
        grey = grey and bool((picture == picture[:, :, :1]).all())
        shades = np.bincount(picture[:, :, 0].ravel() >> 4, minlength=16)
        shares.append((shades[:-1] + shades[1:]).max() / shades.sum())
    return (int(np.median(sides)) if sides else 1), grey, grey and bool(shares) and bool(np.median(shares) >= _PAPER)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(work, items)` on as many threads as there are cores, with only a few results in flight, so memory stays flat."""
    threads = num_cores()
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) >= 4 * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
