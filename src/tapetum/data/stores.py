"""Where the bytes come from: a folder, a zip or a tar. Archives are read in place and never unpacked to
disk, so nothing of them can be written anywhere.

A store lists its files as relative names with forward slashes, always in the same order, reads one by its name, and stamps it
with two numbers that change when its content does.
"""

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import os
import stat
import struct
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from tapetum.data.idx import IdxStore, idx_folder
from tapetum.errors import UserError

# A picture is far smaller; a member that says more is a trap.
MAX_MEMBER_BYTES = 256 * 1024**2
# What a compressed tar may hold: it is kept in memory while it is in use.
_MAX_MEMORY_BYTES = 1024**3
# What Python's readers raise, besides OSError, on an archive that is damaged or of a kind they do not know.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
# How a compressed file begins, and the reader for it.
_COMPRESSED: dict[bytes, type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_NOT_PICTURES = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}


class Store(Protocol):
    """Some files, read by name, from any number of threads."""

    skipped: list[tuple[str, str]]
    """Files that are left out, by name, each with its reason."""

    def names(self) -> list[str]:
        """All files, as relative names, always in the same order."""

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises OSError, with the reason, if they cannot be read."""

    def stamp(self, name: str) -> tuple[int, int]:
        """Two numbers that change when the file's content does, such as its size and its time."""


def open_store(path: Path) -> tuple[Store, str]:
    """The store in `path`, a folder or an archive (told by its content), and a word for its kind ("" for a plain folder).

    An archive that lies alone in a folder is that folder's content.

    Raises:
        UserError: neither a folder nor an archive, a broken archive, or a compressed tar too large to be read in place.
    """
    if path.is_dir():
        if (digits := idx_folder(path)) is not None:
            return IdxStore(digits), "set of IDX files, as MNIST comes"
        if (archive := _lone_archive(path)) is None:
            return FolderStore(path), ""
        path = archive
    try:
        kind = archive_kind(path)
        if kind == "zip archive":
            return ZipStore(path), kind
        if kind == "tar archive":
            return TarStore(path), kind
    except (OSError, *_DAMAGED) as error:
        raise UserError(f"the archive {path} cannot be read: {error}. Download or pack it again.") from error
    raise UserError(
        f"{path} is neither a folder, a CSV file nor a zip or tar archive. Name the folder that holds the pictures, one folder "
        "a class in it."
    )


def archive_kind(path: Path) -> str:
    """ "zip archive", "tar archive" (perhaps compressed) or "": what the first bytes of `path` say, whatever its name."""
    if not path.is_file():  # reading a pipe would hang
        return ""
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip archive"
    # 257 is where every tar since POSIX 1988 (ustar) has its mark.
    return "tar archive" if head.startswith(tuple(_COMPRESSED)) or head[257:262] == b"ustar" else ""


def _lone_archive(folder: Path) -> Path | None:
    """The archive that is all that lies in a folder, as `tapetum get` leaves it."""
    try:
        with os.scandir(folder) as entries:
            # The second settles it: the folder may hold a million.
            shown = list(itertools.islice((entry for entry in entries if not _is_hidden(entry.name)), 2))
        if len(shown) != 1 or not _is_regular(shown[0]):
            return None
        archive = Path(shown[0].path)
        return archive if archive_kind(archive) else None
    except OSError:
        return None  # reading it will say why


class FolderStore:
    """The regular files below a folder. Hidden ones are passed over; links to folders are not followed, so no loop can form.

    Once `names` was asked for, links to folders, links to nothing, pipes and the like are among `skipped`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[tuple[str, str]] = []

    def names(self) -> list[str]:
        """Relative names of all regular files, sorted."""
        found, skipped = [], []
        waiting = [""]  # a list, not a recursion: folders may be nested deeper than Python's stack
        while waiting:
            prefix = waiting.pop()
            for entry in _entries(self.root / prefix):
                if _is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{prefix}{entry.name}/")
                elif _is_regular(entry):
                    found.append(prefix + entry.name)
                else:
                    skipped.append((prefix + entry.name, _what_else(entry)))
        self.skipped = sorted(skipped)
        return sorted(found)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return (self.root / name).read_bytes()

    def stamp(self, name: str) -> tuple[int, int]:
        """Size and time of last change; (-1, -1) for a file that is gone."""
        try:
            found = (self.root / name).stat()
        except OSError:
            return -1, -1  # reading it will say so
        return found.st_size, found.st_mtime_ns


class ZipStore:
    """The files in a zip archive, read in place."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.skipped: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        for member in self._zip.infolist():
            name = _zip_name(member)
            kind = stat.S_IFMT(member.external_attr >> 16)
            is_file = kind in (0, stat.S_IFREG)
            reason = "encrypted" if member.flag_bits & 1 else ""
            if _is_wanted(name, name.endswith("/"), is_file, member.file_size, reason, self.skipped):
                self._members[_tidy(name)] = member

    def names(self) -> list[str]:
        """Names of all regular members, sorted."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        member = self._members[name]
        try:
            with self._lock, self._zip.open(member) as file:
                return _read_limited(file, member.file_size)
        except _DAMAGED as error:
            raise OSError(f"damaged in the archive ({error})") from error

    def stamp(self, name: str) -> tuple[int, int]:
        """Size and CRC of one member."""
        member = self._members[name]
        return member.file_size, member.CRC


class TarStore:
    """The regular files in a tar archive, read in place.

    A compressed tar (gzip, bzip2, xz) can only be read from its beginning, so it is unpacked once into memory, up to 1 GiB.

    Raises:
        UserError: a compressed tar that holds more.
    """

    def __init__(self, path: Path) -> None:
        self.skipped: list[tuple[str, str]] = []
        self._path = path
        self._changed = path.stat().st_mtime_ns
        self._unpacked = _unpack_tar(path)
        self._places: dict[str, tuple[int, int]] = {}
        with self._open() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                reason = "a file with holes" if member.issparse() else ""
                if _is_wanted(member.name, member.isdir(), member.isreg(), member.size, reason, self.skipped):
                    self._places[_tidy(member.name)] = (member.offset_data, member.size)
            # tarfile takes a header that it does not understand for the end, and would lose what follows without a word.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"damaged at byte {tar.offset:,}")

    def _open(self) -> IO[bytes]:
        # Every reader has a file of its own, so threads need no lock; BytesIO shares the bytes that it is given.
        return self._path.open("rb") if self._unpacked is None else io.BytesIO(self._unpacked)

    def names(self) -> list[str]:
        """Names of all regular members, sorted."""
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        place, size = self._places[name]
        with self._open() as file:
            file.seek(place)
            return _read_limited(file, size)

    def stamp(self, name: str) -> tuple[int, int]:
        """Size of one member, and the archive's time of last change mixed with the member's place."""
        place, size = self._places[name]
        return size, self._changed + place


class ManyStore:
    """Several stores as one; a name is the store's prefix and the name in it."""

    def __init__(self, parts: list[tuple[str, Store]]) -> None:
        self._places: dict[str, tuple[Store, str]] = {}
        self._names: list[str] = []
        self.skipped = [(f"{prefix}/{name}", reason) for prefix, store in parts for name, reason in store.skipped]
        for prefix, store in parts:
            for name in store.names():
                full = f"{prefix}/{name}" if prefix else name
                if full not in self._places:
                    self._places[full] = (store, name)
                    self._names.append(full)

    def names(self) -> list[str]:
        """All names: the parts in their order, sorted inside each."""
        return list(self._names)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        store, inner = self._places[name]
        return store.read(inner)

    def stamp(self, name: str) -> tuple[int, int]:
        """The stamp of one file."""
        store, inner = self._places[name]
        return store.stamp(inner)


class FilesStore:
    """Single files, each named as it was given."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths
        self.skipped: list[tuple[str, str]] = []

    def names(self) -> list[str]:
        """The names, in the order given."""
        return list(self.paths)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return self.paths[name].read_bytes()

    def stamp(self, name: str) -> tuple[int, int]:
        """Size and time of last change; (-1, -1) for a file that is gone."""
        try:
            found = self.paths[name].stat()
        except OSError:
            return -1, -1
        return found.st_size, found.st_mtime_ns


def same_name(name: str) -> str:
    """What two names share that some file system takes for the same: case and Unicode form do not count."""
    return unicodedata.normalize("NFC", name).casefold()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _NOT_PICTURES


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}. Check its permissions.") from error


def _is_regular(entry: os.DirEntry[str]) -> bool:
    """A regular file, or a link to one; not a pipe, socket or device, which reading could hang on."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False  # a link to nothing


def _what_else(entry: os.DirEntry[str]) -> str:
    """What an entry of a folder is that is neither a folder nor a regular file."""
    if entry.is_symlink():
        return "a link to a folder" if entry.is_dir() else "a link to no file"
    return "a pipe, socket or device"


def _is_wanted(name: str, is_folder: bool, is_file: bool, size: int, reason: str, skipped: list[tuple[str, str]]) -> bool:
    """Whether an archive's member is a file to read. One that cannot be, for `reason` or another, is noted in `skipped`."""
    if not name:
        reason = "it has no name"
    elif _points_outside(name):
        reason = "its name points outside the archive"
    elif is_folder or any(_is_hidden(part) for part in PurePosixPath(name).parts):
        return False
    elif not is_file:
        reason = "a link or device"
    elif size > MAX_MEMBER_BYTES:
        reason = f"{size:,} bytes, more than a picture has"
    if reason:
        skipped.append((name, reason))
    return not reason


def _points_outside(name: str) -> bool:
    path = name.replace("\\", "/")
    return path.startswith("/") or ".." in path.split("/") or (path[:1].isalpha() and path[1:2] == ":")


def _tidy(name: str) -> str:
    """`./Cat//1.jpg` as `Cat/1.jpg`."""
    return PurePosixPath(name).as_posix()


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A member's name with forward slashes (old Windows packers write others), read as UTF-8 where it is.

    Packers on macOS write UTF-8 but do not set the flag that says so (bit 11), and Python then reads code page 437.
    """
    name = member.filename
    if not member.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):  # another code page: which one, no zip says
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _unpack_tar(path: Path) -> bytes | None:
    """What a compressed tar holds, or None for a plain one."""
    with path.open("rb") as file:
        head = file.read(6)
    reader = next((reader for mark, reader in _COMPRESSED.items() if head.startswith(mark)), None)
    if reader is None:
        return None
    unpacked = io.BytesIO()
    with reader(path) as file:
        while chunk := file.read(1024**2):
            if unpacked.tell() + len(chunk) > _MAX_MEMORY_BYTES:
                raise UserError(
                    f"{path} is compressed and holds more than {_MAX_MEMORY_BYTES:,} bytes: expected a folder, a zip or a "
                    "plain tar, which can be read at any place. Unpack it and name the folder."
                )
            unpacked.write(chunk)
    return unpacked.getvalue()


def _read_limited(file: IO[bytes], size: int) -> bytes:
    """The `size` bytes that an archive's header promises: neither fewer nor more."""
    data = file.read(size)
    if len(data) < size:
        raise OSError(f"damaged in the archive ({len(data):,} of {size:,} bytes)")
    return data
