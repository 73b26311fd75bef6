"""Pictures into shards (data/shards.py): plain tar files that WebDataset reads too, and the index, which comes last.

Every file is decoded once, whole: what gives no picture is listed in left_out.csv and not packed. The original bytes go in,
untouched, in a seeded order, so that every shard is a fair sample of all pictures; their own order stands in the index. The
same pictures and settings give the same shards to the bit. A shard has its name only when it is whole; a line in
`.packing.jsonl` says so, and an interrupted pack goes on after the last of them.
"""

import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from tapetum.data.addresses import url_of
from tapetum.data.decode import BadPicture, decode, read_header
from tapetum.data.reading import in_threads
from tapetum.data.samples import SPLITS, Samples, fingerprint
from tapetum.data.shards import FORMAT, KIND, shard_name
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.files import (
    LOCK,
    SHARD_INDEX,
    append_line,
    as_written,
    claim,
    refuse_inside,
    sha256_of,
    write_atomically,
    write_csv,
    write_text,
)
from tapetum.talk import counted, say_nothing

_LEFT_OUT, _JOURNAL = "left_out.csv", ".packing.jsonl"
_OURS = re.compile(r"shard-\d{6,9}\.tar|\..+\.part")
_LARGEST_MB = 100_000
# How WebDataset calls each kind; the content decides, not the name.
_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}


@dataclass(frozen=True)
class Packed:
    """What was packed."""

    folder: Path
    index: dict[str, Any]
    """What the index file holds."""
    left_out: tuple[tuple[str, str], ...]
    """Files that gave no picture, each with its reason."""

    def to_json(self) -> dict[str, Any]:
        """The index without the list of pictures, and what was left out."""
        shards = [{key: value for key, value in shard.items() if key != "members"} for shard in self.index["shards"]]
        return {"folder": str(self.folder), **self.index, "shards": shards, "left_out": dict(self.left_out)}

    def text(self) -> str:
        """For a terminal."""
        shards = self.index["shards"]
        total = sum(shard["bytes"] for shard in shards)
        classes = ", ".join(f"{name} {count:,}" for name, count in self.index["counts"].items())
        lines = [f"{self.index['pictures']:,} pictures ({classes}) in {counted(len(shards), 'shard')}, {total / 1e6:,.1f} MB"]
        for part, counts in self.index["splits"].items():
            lines.append(f"  {part}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        if self.left_out:
            lines.append(f"left out {counted(len(self.left_out), 'file')} without a picture, all in {self.folder / _LEFT_OUT}:")
            lines += [f"  {name}: {reason}" for name, reason in self.left_out[:10]]
        return "\n".join([*lines, f"fingerprint {self.index['fingerprint']}", f"written:  {self.folder / SHARD_INDEX}"])


@dataclass(frozen=True)
class _File:
    """One file of the data, read: its bytes and the ending for them, or the reason why it is no picture."""

    row: int
    data: bytes
    ending: str
    reason: str


def pack(
    data: str | Path,
    out: str | Path,
    shard_mb: float = 256,
    seed: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = say_nothing,
) -> Packed:
    """Write the pictures of `data` as shards into the folder `out`.

    Args:
        data: any layout that training takes; shards too.
        out: a new or empty folder, or one with a pack of the same pictures that was interrupted, which goes on.
        shard_mb: largest size of a shard in megabytes of 1,000,000 bytes; a picture that is larger has a shard of its own.
        seed: of the order in which pictures are packed.
        overwrite: replace the shards that are in `out`.
        say: takes the lines of talk.

    Raises:
        UserError: data that cannot be used, a class without a readable picture, or a folder that is another's or cannot be
            written.
    """
    if url := url_of(out):
        raise UserError(
            f"{url} is an address: expected a folder on this machine. Pack there, then copy it with your store's tool."
        )
    if not 0.001 <= shard_mb <= _LARGEST_MB:
        raise UserError(f"shard-mb is {shard_mb:g}: expected a number of megabytes from 0.001 to {_LARGEST_MB:,}, such as 256.")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed}: expected a whole number from 0 to {2**63 - 1}.")
    folder = Path(out)
    refuse_inside(folder, Path(data), "folder of shards")
    samples = find_samples(data)
    say(f"{samples.origin}: {samples.describe()}")
    _refuse_strange(folder)
    with claim(folder, "pack"):
        return _pack(samples, folder, shard_mb, seed, overwrite, say)


def _pack(samples: Samples, folder: Path, shard_mb: float, seed: int, overwrite: bool, say: Callable[[str], None]) -> Packed:
    identity = _identity(samples, shard_mb, seed)
    shards, left_out, taken = _begun(folder, identity, overwrite)
    if shards:
        say(f"{len(shards):,} shards are there already; going on with picture {taken + 1:,} of {len(samples):,}")
    order = np.random.Generator(np.random.Philox(key=[seed, 4])).permutation(len(samples))[taken:]
    files = in_threads(lambda row: _read(samples, row), order.tolist())
    bar = tqdm(total=len(samples), initial=taken, desc="packing", unit="", leave=False, disable=None)
    with bar:
        waiting = next(files, None)
        while waiting is not None:
            shard: dict[str, Any] = {"name": shard_name(len(shards))}
            bad: list[tuple[int, str]] = []
            first = waiting

            def fill(target: BinaryIO) -> None:
                nonlocal waiting
                # All of this belongs to one shard: it is called at once.
                waiting = _fill(target, first, files, samples, int(shard_mb * 1e6), shard, bad, bar)  # noqa: B023

            write_atomically(folder / shard["name"], fill)
            taken += shard["pictures"] + len(bad)
            left_out += bad
            if shard["pictures"]:
                shards.append(shard)
            else:  # the last files were no pictures
                (folder / shard["name"]).unlink()
            append_line(folder / _JOURNAL, json.dumps({"shard": shard, "left_out": bad, "taken": taken}))
    return _finish(samples, folder, shards, sorted(left_out), seed)


def _identity(samples: Samples, shard_mb: float, seed: int) -> str:
    """What must be the same for an interrupted pack to go on."""
    files = list(zip(samples.names, samples.stamps(), samples.labels.tolist(), samples.splits.tolist(), strict=True))
    return hashlib.sha256(json.dumps([FORMAT, samples.layout, samples.classes, files, shard_mb, seed]).encode()).hexdigest()


def _read(samples: Samples, row: int) -> _File:
    try:
        data = samples.read(row)
        decode(data)
        return _File(row, data, _ENDINGS[read_header(data).kind], "")
    except OSError as error:
        return _File(row, b"", "", f"could not be read: {error.strerror or error}")
    except BadPicture as reason:
        return _File(row, b"", "", str(reason))


def _fill(
    target: BinaryIO,
    first: _File,
    files: Iterator[_File],
    samples: Samples,
    limit_bytes: int,
    shard: dict[str, Any],
    bad: list[tuple[int, str]],
    bar: tqdm,
) -> _File | None:
    """Write one shard: `first` and as many `files` as it may hold; the file after them is given.

    `shard` and `bad` take what it holds and which files were no pictures.
    """
    hashing = _Hashing(target)
    members: list[list[Any]] = []
    waiting: _File | None = first
    with tarfile.open(fileobj=hashing, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
        while waiting is not None:
            if waiting.reason:
                bad.append((waiting.row, waiting.reason))
            else:
                parts = _members(samples, waiting)
                size = sum(tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE)) for _, data in parts)
                if members and _closed(tar.offset + size) > limit_bytes:
                    break
                name, label, split = _about(samples, waiting.row)
                place = tar.offset + tarfile.BLOCKSIZE  # one header of one block: the names are short
                digest = hashlib.sha256(waiting.data).hexdigest()
                members.append([waiting.row, name, label, split, place, len(waiting.data), digest])
                for member, data in parts:
                    _add(tar, member, data)
            bar.update()
            waiting = next(files, None)
    shard |= {"pictures": len(members), "bytes": hashing.tell(), "sha256": hashing.sha256.hexdigest(), "members": members}
    return waiting


def _closed(length: int) -> int:
    """The length of a tar file with so many bytes of members: two empty blocks, and all filled up to a whole record."""
    return -(-(length + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _members(samples: Samples, file: _File) -> list[tuple[str, bytes]]:
    """The members of one picture. WebDataset cuts a name at its first dot: the key is a number, and the name stands inside."""
    name, label, split = _about(samples, file.row)
    about = {"name": name, "class": samples.classes[label], "label": label, "split": split}
    key = f"{file.row:09d}"
    text = as_written(json.dumps(about, ensure_ascii=False)).encode()
    return [(f"{key}.{file.ending}", file.data), (f"{key}.cls", str(label).encode()), (f"{key}.json", text)]


def _about(samples: Samples, row: int) -> tuple[str, int, str]:
    return samples.names[row], int(samples.labels[row]), str(samples.splits[row])


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # owner and time are nobody's and 0: the same pictures give the same shards
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


class _Hashing:
    """A file that is written once through, and its SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file
        self._length = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self._length += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._length


def _finish(samples: Samples, folder: Path, shards: list[dict[str, Any]], left_out: list[tuple[int, str]], seed: int) -> Packed:
    """Write the index, and remove what is not part of it."""
    rows = [row for shard in shards for row in shard["members"]]
    packed = Counter((samples.classes[label], split) for _, _, label, split, *_ in rows)
    counts = {name: sum(packed[name, split] for split in ("", *SPLITS)) for name in samples.classes}
    lost = tuple((samples.names[row], reason) for row, reason in left_out)
    for name, count in counts.items():
        if count == 0:
            _clear(folder)
            example, reason = next(
                (n, r) for (row, r), (n, _) in zip(left_out, lost, strict=True) if _is_of(samples, row, name)
            )
            raise UserError(
                f"class '{name}' has no readable picture ({example}: {reason}): expected one or more. Replace its files or "
                "remove the class."
            )
    index = {
        "kind": KIND,
        "format": FORMAT,
        "layout": samples.layout,
        "classes": list(samples.classes),
        "pictures": len(rows),
        "counts": counts,
        "splits": {
            split: {name: packed[name, split] for name in samples.classes}
            for split in SPLITS
            if any(packed[name, split] for name in samples.classes)
        },
        "fingerprint": fingerprint(
            (row[6] for row in rows), (samples.classes[row[2]] for row in rows), (row[3] for row in rows)
        ),
        "seed": seed,
        "shards": shards,
    }
    for name in _surplus(folder, len(shards)):
        (folder / name).unlink()
    if lost:
        write_csv(folder / _LEFT_OUT, ["path", "reason"], lost)
    write_text(folder / SHARD_INDEX, json.dumps(index, ensure_ascii=False))
    (folder / _JOURNAL).unlink()
    return Packed(folder, index, lost)


def _is_of(samples: Samples, row: int, name: str) -> bool:
    return samples.classes[samples.labels[row]] == name


def _refuse_strange(folder: Path) -> None:
    """Raise a UserError where something else lies."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write the shards to. Choose another place.")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    ours = {SHARD_INDEX, _JOURNAL} & names
    strange = [name for name in names - {SHARD_INDEX, _JOURNAL, _LEFT_OUT, LOCK} if not (ours and _OURS.fullmatch(name))]
    if strange:
        raise UserError(
            f"{folder} holds files of another kind ({min(strange)}): shards need a folder of their own. Choose another place."
        )


def _begun(folder: Path, identity: str, overwrite: bool) -> tuple[list[dict[str, Any]], list[tuple[int, str]], int]:
    """Shards, files left out and the number of files taken by an earlier, interrupted pack of the same pictures."""
    if (folder / SHARD_INDEX).exists() and not overwrite:
        raise UserError(f"{folder} holds shards already. Use --overwrite to replace them, or choose another place.")
    for scrap in folder.glob(".*.part"):
        scrap.unlink()
    lines = _journal(folder)
    if lines and not overwrite and lines[0] != {"packing": identity}:
        raise UserError(
            f"{folder} holds a part of a pack of other pictures or with other settings: expected the same again, to go on. Use "
            "--overwrite to begin anew, or choose another place."
        )
    shards: list[dict[str, Any]] = []
    left_out: list[tuple[int, str]] = []
    taken = 0
    good = 0
    for line in lines[1:] if lines[:1] == [{"packing": identity}] else []:
        if line["shard"]["pictures"] and not _is_whole(folder, line["shard"]):
            break
        shards += [line["shard"]] if line["shard"]["pictures"] else []
        left_out += [(row, reason) for row, reason in line["left_out"]]
        taken, good = line["taken"], good + 1
    # The index goes first: no reader may meet it beside other shards than its own.
    (folder / SHARD_INDEX).unlink(missing_ok=True)
    (folder / _LEFT_OUT).unlink(missing_ok=True)
    write_text(folder / _JOURNAL, "".join(json.dumps(each) + "\n" for each in [{"packing": identity}, *lines[1 : good + 1]]))
    return shards, left_out, taken


def _journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of the journal up to one that is not whole."""
    lines = []
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / _JOURNAL).read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(line))
    return lines


def _is_whole(folder: Path, shard: dict[str, Any]) -> bool:
    try:
        return sha256_of(folder / shard["name"]) == shard["sha256"]
    except OSError:
        return False


def _surplus(folder: Path, count: int) -> list[str]:
    """Shards of an earlier pack that are not among the first `count`."""
    mine = {shard_name(number) for number in range(count)}
    return [path.name for path in folder.glob("shard-*.tar") if path.name not in mine]


def _clear(folder: Path) -> None:
    for name in _surplus(folder, 0):
        (folder / name).unlink()
    (folder / _JOURNAL).unlink(missing_ok=True)
