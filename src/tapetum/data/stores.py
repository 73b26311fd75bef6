"""Where the bytes come from: a folder, a zip or a tar. Archives are read in place and never unpacked, so nothing of them can be
written anywhere.

A store lists its files as relative names with forward slashes, in plain sorted order, reads one by its name, and stamps it
with two numbers that change when its content does.
"""

import os
import stat
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from tapetum.errors import UserError

# A picture is far smaller; a member that says more, or gives more than it says, is a trap.
_MAX_MEMBER_BYTES = 256 * 1024**2
_NOT_PICTURES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}


class Store(Protocol):
    """Some files, read by name."""

    def names(self) -> list[str]:
        """All files, as relative names, sorted."""

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises OSError, with the reason, if they cannot be read."""

    def stamp(self, name: str) -> tuple[int, int]:
        """Two numbers that change when the file's content does: its size, and its time or checksum."""


def open_store(path: Path) -> tuple[Store, str]:
    """The store in `path`, a folder or an archive (told by its content), and a word for its kind ("" for a folder).

    Raises:
        UserError: neither a folder nor an archive, or a broken archive.
    """
    if path.is_dir():
        return FolderStore(path), ""
    try:
        if zipfile.is_zipfile(path):
            return ZipStore(path), "zip archive"
        if tarfile.is_tarfile(path):
            return TarStore(path), "tar archive"
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"the archive {path} cannot be read: {error}. Download or pack it again.") from error
    raise UserError(
        f"{path} is neither a folder, a CSV file nor a zip or tar archive. Name the folder that holds the pictures, one folder "
        "a class in it."
    )


class FolderStore:
    """The regular files below a folder. Hidden ones are passed over; links to folders are not followed, so no loop can form."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Relative names of all regular files, sorted."""
        return sorted(self._walk(self.root, ""))

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UserError(f"the folder {folder} cannot be read: {error.strerror}. Check its permissions.") from error
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif _is_regular(entry):
                yield prefix + entry.name

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
        """Members that are left out, with the reason."""
        self._lock = threading.Lock()
        for member in self._zip.infolist():
            reason = _outside(member.filename)
            if not reason and (member.is_dir() or _is_hidden_path(member.filename)):
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            reason = reason or ("a link or device" if kind not in (0, stat.S_IFREG) else "")
            reason = reason or ("encrypted" if member.flag_bits & 1 else "") or _too_large(member.file_size)
            if reason:
                self.skipped.append((member.filename, reason))
            else:
                self._members[member.filename] = member

    def names(self) -> list[str]:
        """Names of all regular members, sorted."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        try:
            with self._lock, self._zip.open(self._members[name]) as file:
                return _read_limited(file)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
            raise OSError(f"damaged in the archive ({error})") from error

    def stamp(self, name: str) -> tuple[int, int]:
        """Size and CRC of one member."""
        member = self._members[name]
        return member.file_size, member.CRC


class TarStore:
    """The regular files in a tar archive, plain or compressed, read in place."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path)  # noqa: SIM115 - it stays open as long as the store lives
        self._members: dict[str, tarfile.TarInfo] = {}
        self.skipped: list[tuple[str, str]] = []
        """Members that are left out, with the reason."""
        self._lock = threading.Lock()
        self._changed = path.stat().st_mtime_ns
        for member in self._tar:
            name = member.name.removeprefix("./")
            reason = _outside(name)
            if not reason and (member.isdir() or _is_hidden_path(name)):
                continue
            reason = reason or ("a link or device" if not member.isreg() else "") or _too_large(member.size)
            if reason:
                self.skipped.append((name, reason))
            else:
                self._members[name] = member

    def names(self) -> list[str]:
        """Names of all regular members, sorted."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        try:
            with self._lock:
                file = self._tar.extractfile(self._members[name])
                if file is None:
                    raise OSError("not a regular file in the archive")
                return _read_limited(file)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise OSError(f"damaged in the archive ({error})") from error

    def stamp(self, name: str) -> tuple[int, int]:
        """Size of one member, and the archive's time of last change mixed with the member's place."""
        member = self._members[name]
        return member.size, self._changed + member.offset_data


class ManyStore:
    """Several stores as one; a name is the store's prefix and the name in it."""

    def __init__(self, parts: list[tuple[str, Store]]) -> None:
        self._places: dict[str, tuple[Store, str]] = {}
        self._names: list[str] = []
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


def _is_hidden_path(name: str) -> bool:
    return any(_is_hidden(part) for part in PurePosixPath(name).parts)


def _is_regular(entry: os.DirEntry[str]) -> bool:
    """A regular file, or a link to one; not a pipe, socket or device, which reading could hang on."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False  # a link to nothing


def _outside(name: str) -> str:
    path = name.replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/") or (len(path) > 1 and path[1] == ":"):
        return "its name points outside the archive"
    return ""


def _too_large(size: int) -> str:
    return f"{size:,} bytes, more than a picture has" if size > _MAX_MEMBER_BYTES else ""


def _read_limited(file: object) -> bytes:
    data: bytes = file.read(_MAX_MEMBER_BYTES + 1)  # type: ignore[attr-defined]
    if len(data) > _MAX_MEMBER_BYTES:
        raise OSError("larger than the archive says")
    return data
