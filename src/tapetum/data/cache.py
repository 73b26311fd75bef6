"""Every picture decoded once: all of them in one file of plain bytes, mapped into memory, in the user's cache folder.

A cache is two files: `KEY.u8` holds the reduced uint8 pictures one after another, `KEY.json` says in which order, each one's
height and width, the SHA-256 of its file, what it is recognised by, and why a file gave no picture. KEY is a hash of the file
list (names, sizes, times), of the reduction and of the decoder's version, so a changed file or another setting is another
cache. The JSON file is written last: a cache without it is not there.

Without a cache (switched off, no room, folder not writable) the same pictures are decoded each time they are asked for;
results do not differ.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import simplejpeg
from tqdm import tqdm

from tapetum.data.cachefolder import cache_folder, mark_used, remove_oldest, room
from tapetum.data.decode import BadPicture
from tapetum.data.duplicates import Duplicates, Look, find_duplicates
from tapetum.data.prepare import decode_reduced
from tapetum.data.reading import read_pictures
from tapetum.data.samples import Samples
from tapetum.data.shards import kept_bytes, reading_order
from tapetum.errors import UserError
from tapetum.files import let_others_read, write_text

_FORMAT = 5


@dataclass(frozen=True)
class Pictures:
    """The decoded, reduced pictures of `samples`: `pictures[i]` is uint8 RGB (H, W, 3) of any size.

    `hashes[i]` is the SHA-256 of the file's bytes ("" where it could not be read). `reasons` says, for each file that gave
    no picture, why; asking for such a picture raises BadPicture.
    """

    samples: Samples
    reduce_to: int
    sizes: np.ndarray
    """(N, 2) int64 height and width; 0, 0 for a file without a picture."""
    hashes: tuple[str, ...]
    reasons: dict[int, str]
    looks: tuple[Look | None, ...]
    """What each picture is recognised by; None for a file without one."""
    cached: np.ndarray | None
    """All pixels one after another, uint8, mapped from the cache file, for reading; None: decode on demand."""
    offsets: np.ndarray
    """(N,) int64: where each picture begins in `cached`."""

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> np.ndarray:
        if i in self.reasons:
            raise BadPicture(self.reasons[i])
        if self.cached is None:
            return self._decoded_anew(i)
        height, width = self.sizes[i]
        start = self.offsets[i]
        return self.cached[start : start + height * width * 3].reshape(height, width, 3)

    def _decoded_anew(self, i: int) -> np.ndarray:
        """The picture as its file has it now; a file that is no longer the one that was read would train on who knows what."""
        name = self.samples.names[i]
        try:
            data = self.samples.read(i)
        except OSError as error:
            raise UserError(f"{name} can no longer be read ({error.strerror or error}): put it back, then --resume.") from error
        if hashlib.sha256(data).hexdigest() != self.hashes[i]:
            raise UserError(
                f"{name} has changed since it was read: expected the same pictures to the end. Put it back, or train anew."
            )
        return decode_reduced(data, self.reduce_to)

    @property
    def readable(self) -> np.ndarray:
        """Which of the files gave a picture: their indices, int64, in order."""
        return np.array([i for i in range(len(self)) if i not in self.reasons], np.int64)

    def name(self, i: int) -> str:
        """The name of file `i`."""
        return self.samples.names[i]

    def duplicates(self, rows: np.ndarray) -> Duplicates:
        """Which of the pictures in `rows`, all readable, are the same or nearly."""
        looks = [look for row in rows if (look := self.looks[row]) is not None]
        return find_duplicates(lambda i: self[int(rows[i])], looks, self.sizes[rows], self.samples.labels[rows], self.reduce_to)


def open_pictures(samples: Samples, reduce_to: int, use_cache: bool = True) -> Pictures:
    """The pictures of `samples`, from the cache if they are there, else decoded (each file wholly, once) and kept there.

    Args:
        samples: the files.
        reduce_to: a picture whose shorter side is longer than this is reduced to it.
        use_cache: False leaves the disk alone.

    Files that give no picture end up in `reasons`; they stop nothing.
    """
    folder = cache_folder()
    key = _key(samples, reduce_to)
    if use_cache and (pictures := _from_cache(samples, reduce_to, folder, key)) is not None:
        return pictures
    scratch = _scratch_file(folder, key) if use_cache else None
    try:
        return _decode_all(samples, reduce_to, folder, key, scratch)
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def _key(samples: Samples, reduce_to: int) -> str:
    what = [
        _FORMAT,
        PIL.__version__,
        simplejpeg.__version__,
        str(samples.origin.resolve() if isinstance(samples.origin, Path) else samples.origin),
        reduce_to,
        list(zip(samples.names, samples.stamps(), strict=True)),
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _from_cache(samples: Samples, reduce_to: int, folder: Path, key: str) -> Pictures | None:
    index_file, pixel_file = folder / f"{key}.json", folder / f"{key}.u8"
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        total = index["bytes"]
        if pixel_file.stat().st_size != total:
            return None
        # For reading only: a map that might be written, if only by this process, counts as memory of its own, and one larger
        # than the machine's memory is refused.
        pixels = np.memmap(pixel_file, np.uint8, "r") if total else np.zeros(0, np.uint8)
    except (OSError, ValueError, KeyError):
        return None  # not there, or half removed by another process: decode again
    if any(_gives_a_picture(samples, int(i), reduce_to) for i in index["reasons"] if not index["hashes"][int(i)]):
        return None  # what kept a file from being read has passed
    mark_used(index_file)
    looks = [Look(*each) if each else None for each in index["looks"]]
    order = np.array(index["order"], np.int64)
    return _pictures(samples, reduce_to, order, index["sizes"], index["hashes"], looks, index["reasons"], pixels)


def _gives_a_picture(samples: Samples, i: int, reduce_to: int) -> bool:
    try:
        decode_reduced(samples.read(i), reduce_to)
    except (OSError, BadPicture):
        return False
    return True


def _pictures(
    samples: Samples,
    reduce_to: int,
    order: np.ndarray,
    sizes: list,
    hashes: list[str],
    looks: list[Look | None],
    reasons: dict,
    pixels: np.ndarray | None,
) -> Pictures:
    sizes_N2 = np.array(sizes, np.int64).reshape(-1, 2)
    lengths = sizes_N2.prod(1) * 3
    offsets = np.zeros(len(lengths), np.int64)
    offsets[order] = np.cumsum(lengths[order]) - lengths[order]
    return Pictures(
        samples=samples,
        reduce_to=reduce_to,
        sizes=sizes_N2,
        hashes=tuple(hashes),
        looks=tuple(looks),
        reasons={int(i): reason for i, reason in reasons.items()},
        cached=pixels,
        offsets=offsets,
    )


def _scratch_file(folder: Path, key: str) -> Path | None:
    """A new file for the pixels beside their final place, or None where the cache folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{key}.", suffix=".part", dir=folder)
    except OSError:
        return None
    os.close(descriptor)
    return Path(name)


def _decode_all(samples: Samples, reduce_to: int, folder: Path, key: str, scratch: Path | None) -> Pictures:
    """Decode every file; keep the pixels in `scratch` and make it the cache, or go without where there is no room."""
    order = reading_order(samples)
    sizes = [(0, 0)] * len(samples)
    hashes = [""] * len(samples)
    looks: list[Look | None] = [None] * len(samples)
    reasons: dict[int, str] = {}
    written, most = 0, room(folder, kept_bytes(samples.store)) if scratch else 0
    with open(scratch or os.devnull, "wb") as file:  # noqa: PTH123 - devnull is no path to look after
        progress = tqdm(total=len(samples), desc="reading pictures", unit="", leave=False, disable=None)
        for i, reading in zip(order.tolist(), read_pictures(samples.select(order), reduce_to, looks=True), strict=True):
            hashes[i], looks[i] = reading.sha256, reading.look
            if reading.picture is None:
                reasons[i] = reading.reason
            else:
                sizes[i] = reading.picture.shape[:2]
                written += reading.picture.nbytes
                if scratch is not None and written <= most:
                    scratch = _append(file, reading.picture, scratch)
            progress.update()
        progress.close()
    reasons = dict(sorted(reasons.items()))
    decoded = _pictures(samples, reduce_to, order, sizes, hashes, looks, reasons, None)
    if scratch is None or written > most:
        return decoded
    try:
        let_others_read(scratch)
        scratch.replace(folder / f"{key}.u8")
        seen = [(each.pixels, each.hash64) if each else None for each in looks]
        index = {"bytes": written, "order": order.tolist(), "sizes": sizes, "hashes": hashes, "looks": seen, "reasons": reasons}
        write_text(folder / f"{key}.json", json.dumps(index))
    except (OSError, UserError):
        return decoded
    remove_oldest(folder, spare=key)
    return _from_cache(samples, reduce_to, folder, key) or decoded


def _append(file: BinaryIO, picture: np.ndarray, scratch: Path) -> Path | None:
    """Write a picture's bytes; None (go on without a cache) when the disk takes no more."""
    try:
        picture.tofile(file)
    except OSError:
        return None
    return scratch
