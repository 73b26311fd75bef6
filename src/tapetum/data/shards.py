"""Pictures in shards: plain tar files in WebDataset's form, and one index that says where in them each picture lies.

    photos-shards/
      shard-000000.tar        000000017.jpg (the original bytes), 000000017.cls (the class number), 000000017.json, ...
      shard-000001.tar
      tapetum-shards.json     the index: what is read here; the shards' own headers are for other programs
      left_out.csv            files that gave no picture and were not packed, with the reason (only if there are any)

A picture keeps the name, the place in the order, the class and the split that it had before it was packed, so a training from
shards is the same as one from the folder. Nothing is unpacked: a picture is read from its place, and its bytes must have the
SHA-256 that the index names. Shards of an address (data/remote.py) are fetched one by one as they are needed, and stay in the
cache folder under their hash.

The index is JSON: `kind`, `format`, `layout`, `classes`, `pictures`, `counts` (of each class), `splits` (of each class in each
part, where the data have parts), `fingerprint`, `seed`, and `shards`, each with `name`, `pictures`, `bytes`, `sha256` and
`members`: rows of number, name, class number, split, offset, bytes, SHA-256.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.data.addresses import beside, check_url
from tapetum.data.cachefolder import cache_folder, free_bytes, is_kept, limit_bytes, remove_oldest
from tapetum.data.remote import fetch, read_url
from tapetum.data.samples import SPLITS, Samples, fingerprint
from tapetum.data.stores import MAX_MEMBER_BYTES
from tapetum.errors import UserError
from tapetum.files import SHARD_INDEX

KIND, FORMAT = "tapetum shards", 1
# So many bytes of an index are read at most: ten million pictures.
_MAX_INDEX_BYTES = 2 * 1024**3
_SHARD_NAME = re.compile(r"shard-\d{6,9}\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """One tar file."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Place:
    """Where a picture's bytes lie."""

    shard: int
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """What the index file says: N pictures, in the order that they had before they were packed."""

    layout: str
    classes: tuple[str, ...]
    fingerprint: str
    shards: tuple[Shard, ...]
    names: tuple[str, ...]
    labels_N: np.ndarray
    splits_N: np.ndarray
    places: tuple[Place, ...]


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:06d}.tar"


def is_shards(data: Path | str) -> bool:
    """Whether `data` is a folder of shards, its index file, or an address (a text)."""
    if isinstance(data, str) or data.name == SHARD_INDEX:
        return True
    try:
        return (data / SHARD_INDEX).is_file()
    except OSError:
        return False  # reading it will say why


def open_shards(data: Path | str) -> "ShardStore":
    """The store of shards in `data`: a folder, its index file, or the address of either (a text).

    Raises:
        UserError: no index is there, it is damaged, or the shards of an address cannot be fetched or kept.
    """
    if isinstance(data, Path):
        folder = data.parent if data.name == SHARD_INDEX else data
        file = folder / SHARD_INDEX
        try:
            text = file.read_bytes()
        except OSError as error:
            raise UserError(f"the index {file} cannot be read: {error.strerror or error}. Check its permissions.") from error
        return ShardStore(read_index(text, str(file)), folder)
    check_url(data)
    base = data.removesuffix("/").removesuffix(f"/{SHARD_INDEX}")
    file_url = beside(base, SHARD_INDEX)
    index = read_index(read_url(file_url, _MAX_INDEX_BYTES), file_url)
    _make_room(index, base)
    return ShardStore(index, base)


def samples_of(store: "ShardStore", origin: Path | str) -> Samples:
    """All pictures of the shards in `origin`, as they were before they were packed."""
    index = store.index
    count = len(index.shards)
    layout = f"{index.layout}, packed in {count:,} shard{'s' * (count != 1)}"
    if store.skipped:
        name, reason = store.skipped[0]
        layout += f" ({len(store.skipped):,} of them broken, such as {name}: {reason})"
    return Samples(origin, layout, store, index.names, index.labels_N, index.splits_N.copy(), index.classes)


def reading_order(samples: Samples) -> np.ndarray:
    """(N,) the rows in the order in which their bytes lie in shards; of other data, the order in which they stand."""
    store = samples.store
    if not isinstance(store, ShardStore):
        return np.arange(len(samples))
    places = [store.place(name) for name in samples.names]
    return np.lexsort(([place.offset for place in places], [place.shard for place in places]))


def part(samples: Samples, rank: int, world_size: int) -> Samples:
    """The pictures that process `rank` of `world_size` reads: each picture belongs to exactly one process.

    Every process has its own shards, but for the one at each border, which two share: so the parts differ by one picture at
    most, and there may be fewer shards than processes.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size} processes: expected 0 to {world_size - 1}")
    first, end = (len(samples) * each // world_size for each in (rank, rank + 1))
    return samples.select(np.sort(reading_order(samples)[first:end]))


def kept_bytes(store: object) -> int:
    """What the shards of an address take in the cache folder; 0 for any other store."""
    return store.kept_bytes if isinstance(store, ShardStore) else 0


class ShardStore:
    """The pictures in shards, read in place; those of an address from the cache folder, after they were fetched whole."""

    def __init__(self, index: Index, home: Path | str) -> None:
        """`home`: the folder of the shards, or its address."""
        self.index = index
        self.skipped: list[tuple[str, str]] = []
        """Shards that are broken, each with its reason; their pictures cannot be read."""
        self._home = home
        self._places = dict(zip(index.names, index.places, strict=True))
        self._changed: list[int] = []
        self._folder = cache_folder() / "shards"
        self._held: set[int] = set()
        self._failed: dict[int, str] = {}
        self._newest = -1
        self._locks = [threading.Lock() for _ in index.shards]
        if isinstance(home, Path):
            for shard in index.shards:
                self._look_at(shard, home)

    def _look_at(self, shard: Shard, home: Path) -> None:
        try:
            found = (home / shard.name).stat()
        except OSError as error:
            self.skipped.append((shard.name, f"{error.strerror or error}"))
            self._changed.append(-1)
            return
        self._changed.append(found.st_mtime_ns)
        if found.st_size != shard.bytes:
            self.skipped.append((shard.name, f"{found.st_size:,} bytes, not the {shard.bytes:,} that the index says"))

    @property
    def kept_bytes(self) -> int:
        """What all shards take in the cache folder; 0 where they lie on this machine."""
        return 0 if isinstance(self._home, Path) else sum(shard.bytes for shard in self.index.shards)

    def names(self) -> list[str]:
        """All pictures, in the order that they had before they were packed."""
        return list(self.index.names)

    def place(self, name: str) -> Place:
        """Where a picture lies."""
        return self._places[name]

    def read(self, name: str) -> bytes:
        """The bytes of one picture.

        Raises:
            OSError: its shard on this machine is missing or damaged.
            UserError: its shard cannot be fetched. What a network failed to bring is no bad picture.
        """
        place = self._places[name]
        shard = self.index.shards[place.shard]
        data = self._read(place, shard)
        if hashlib.sha256(data).hexdigest() != place.sha256 and not isinstance(self._home, Path):
            self._held.discard(place.shard)
            self._kept(shard).unlink(missing_ok=True)  # it was whole when it came: the disk has spoilt it
            data = self._read(place, shard)
        if hashlib.sha256(data).hexdigest() != place.sha256:
            raise OSError(f"damaged in {shard.name} ({len(data):,} of {place.bytes:,} bytes, and not those of the index)")
        return data

    def _read(self, place: Place, shard: Shard) -> bytes:
        if isinstance(self._home, Path):
            try:
                return _bytes_at(self._home / shard.name, place)
            except OSError as error:
                raise OSError(f"{shard.name}: {error.strerror or error}") from error
        try:
            return _bytes_at(self._fetched(place.shard, self._home), place)
        except FileNotFoundError:  # another process made room in the cache folder
            self._held.discard(place.shard)
        try:
            return _bytes_at(self._fetched(place.shard, self._home), place)
        except OSError as error:
            raise UserError(
                f"{self._kept(shard)} cannot be read ({error.strerror or error}): free some space for it."
            ) from error

    def stamp(self, name: str) -> tuple[int, int]:
        """Size of one picture, and its shard's time of last change mixed with its place; of an address, a part of its hash."""
        place = self._places[name]
        if not isinstance(self._home, Path):
            return place.bytes, int(place.sha256[:15], 16)
        changed = self._changed[place.shard]
        return (-1, -1) if changed < 0 else (place.bytes, changed + place.offset)

    def _fetched(self, number: int, url: str) -> Path:
        """Shard `number` in the cache folder. When shards are asked for one after another, the next one comes meanwhile."""
        if number not in self._held:
            self._bring(number, url)
            ahead = number == self._newest + 1 < len(self.index.shards) - 1
            self._newest = number if number not in self._held else self._newest
            self._held.add(number)
            if ahead:
                threading.Thread(target=self._bring_ahead, args=(number + 1, url), daemon=True).start()
        return self._kept(self.index.shards[number])

    def _kept(self, shard: Shard) -> Path:
        return self._folder / f"{shard.sha256}.tar"

    def _bring(self, number: int, url: str) -> None:
        """Fetch a shard, if it is not there. One thread tries; where that fails, the others do not try again."""
        shard = self.index.shards[number]
        with self._locks[number]:
            if number in self._failed:
                raise UserError(self._failed[number])
            try:
                fetch(beside(url, shard.name), shard.bytes, shard.sha256, self._kept(shard))
            except UserError as error:
                self._failed[number] = str(error)
                raise

    def _bring_ahead(self, number: int, url: str) -> None:
        with contextlib.suppress(UserError):  # whoever needs the shard will meet it
            self._bring(number, url)


def _bytes_at(path: Path, place: Place) -> bytes:
    # Every reader has a file of its own, so threads need no lock.
    with path.open("rb") as file:
        file.seek(place.offset)
        return file.read(place.bytes)


def _make_room(index: Index, url: str) -> None:
    """The shards of an address need room for their bytes as they are; decoded pictures come on top only if they fit."""
    folder = cache_folder() / "shards"
    needed = sum(shard.bytes for shard in index.shards)
    lacking = sum(shard.bytes for shard in index.shards if not is_kept(folder / f"{shard.sha256}.tar", shard.bytes))
    if needed > limit_bytes():
        raise UserError(
            f"{url} holds {needed / 1e9:,.1f} GB, and the cache may take {limit_bytes() / 1e9:,.1f} GB: expected room for all "
            f"shards. Set TAPETUM_CACHE_GB to {needed * 1.1 / 1e9 + 1:.0f} or more, or copy them here and name the folder."
        )
    if lacking:
        remove_oldest(cache_folder(), coming=lacking)
    if lacking > free_bytes(folder):
        raise UserError(
            f"{url} holds {lacking / 1e9:,.1f} GB that are not here yet, and {max(0, free_bytes(folder)) / 1e9:,.1f} GB can be "
            f"written to {folder}: expected room for all shards. Free some space, or name another folder in TAPETUM_CACHE."
        )


def read_index(text: bytes, where: str) -> Index:
    """The index in `text`, every value of it checked; `where` names its source in an error message.

    Raises:
        UserError: it is no index, or not as `tapetum pack` wrote it.
    """
    try:
        found = json.loads(text)
        if found["kind"] != KIND:
            raise ValueError(f"its kind is {found['kind']!r}")
        if found["format"] != FORMAT:
            raise UserError(f"{where} has format {found['format']!r}: expected {FORMAT}. Read it with a newer tapetum.")
        return _index(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{where} is no index of shards ({type(error).__name__}: {str(error)[:200]}): expected what `tapetum pack` wrote, "
            "unchanged. Pack anew."
        ) from error


def _index(found: dict[str, Any]) -> Index:
    classes = tuple(found["classes"])
    if not all(isinstance(name, str) and name for name in classes) or len(set(classes)) < len(classes):
        raise ValueError("classes must be different names")
    shards, rows = [], []
    for number, each in enumerate(found["shards"]):
        shard = Shard(each["name"], each["bytes"], each["sha256"])
        # The name becomes a part of a path: nothing but a file beside the index may be meant by it.
        if not _SHARD_NAME.fullmatch(shard.name) or not _SHA256.fullmatch(shard.sha256) or type(shard.bytes) is not int:
            raise ValueError(f"{shard.name!r} is no shard beside the index, or has no size and hash")
        shards.append(shard)
        rows += [_row(row, number, shard, len(classes)) for row in each["members"]]
    if len({shard.name for shard in shards}) < len(shards):
        raise ValueError("a shard stands more than once")
    rows.sort(key=lambda row: row[0])
    numbers, names, labels, splits, places = zip(*rows, strict=True) if rows else ((),) * 5
    if len(set(numbers)) < len(rows) or len(set(names)) < len(rows):
        raise ValueError("a picture stands more than once")
    told = str(found["fingerprint"])
    if told != fingerprint((place.sha256 for place in places), (classes[k] for k in labels), splits):
        raise ValueError("its fingerprint is not that of its pictures")
    labels_N, splits_N = np.array(labels, np.int64), np.array(splits, object)
    return Index(str(found["layout"]), classes, told, tuple(shards), names, labels_N, splits_N, places)


def _row(row: Sequence[Any], shard_number: int, shard: Shard, num_classes: int) -> tuple[int, str, int, str, Place]:
    number, name, label, split, offset, size, sha256 = row
    whole = all(type(each) is int and each >= 0 for each in (number, label, offset, size))
    if not whole or label >= num_classes or offset + size > shard.bytes or size > MAX_MEMBER_BYTES:
        raise ValueError(f"{name!r} has a number that cannot be: {[number, label, offset, size]}")
    if not isinstance(name, str) or not name or split not in ("", *SPLITS) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{name!r} has no name, part or hash as expected: {split!r}, {sha256!r}")
    return number, name, label, split, Place(shard_number, offset, size, sha256)
