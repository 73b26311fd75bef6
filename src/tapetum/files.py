"""Files that are either whole or not there: written beside their target, flushed to the disk, then renamed."""

import contextlib
import csv
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tapetum.errors import UserError, did_you_mean

# The index of packed pictures (data/shards.py). It stands for the folder in which it lies.
SHARD_INDEX = "tapetum-shards.json"
# The lock of a folder that is being written.
LOCK = ".lock"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    Whatever happens on the way (full disk, no permission, Ctrl-C, power cut), `path` holds either its old content or the
    whole new one, and no temporary file stays behind.

    Raises:
        UserError: the file cannot be written; the old one is unchanged.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        let_others_read(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        old = "the old file is unchanged" if path.exists() else "nothing was left behind"
        raise UserError(
            f"could not write {path} ({error.strerror or error}): {old}. Free some space or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def let_others_read(path: Path) -> None:
    """Give a file that mkstemp made, for its owner alone, to whom the umask allows."""
    path.chmod(0o666 & ~_umask())


@contextlib.contextmanager
def claim(folder: Path, who: str) -> Iterator[None]:
    """Hold `folder` for this process; two that write to one would each spoil the other's files.

    It is made if it is not there, and goes again if nothing was written to it. The lock goes with the process, however that
    ends.

    Args:
        folder: where this process alone is to write.
        who: what writes, in a word, such as "training".

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # it brings asyncio, for which `tapetum --help` need not wait

    made = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another {who} is writing to {folder}: wait until it has ended, or choose another folder.") from None
    except OSError as error:
        raise UserError(
            f"could not write to {folder} ({error.strerror or error}): nothing was changed. Choose another folder."
        ) from error
    try:
        yield
    finally:
        remove_lock(folder / LOCK)
        lock.release()
        for each in made:
            with contextlib.suppress(OSError):  # something is in it
                each.rmdir()


def remove_scraps(*folders: Path) -> None:
    """Remove what `write_atomically` had half written in a process that was killed, where nobody else writes now."""
    for folder in folders:
        for scrap in folder.glob(".*.part"):
            scrap.unlink(missing_ok=True)


def remove_lock(path: Path) -> None:
    """Remove the file of a lock that is still held. Windows does not let go of it before, and removes it then by itself."""
    with contextlib.suppress(PermissionError):
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all. Unpaired surrogates (odd file names) are written as escapes."""
    write_atomically(path, lambda file: file.write(as_written(text).encode()))


def append_line(path: Path, line: str) -> None:
    """Write one more line (UTF-8) to `path`, for whoever follows it.

    Raises:
        UserError: the file cannot be written; it may end in a part of the line.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            print(line, file=file)
    except OSError as error:
        raise UserError(
            f"could not write {path} ({error.strerror or error}). Free some space or choose another folder."
        ) from error


def end_line(path: Path) -> None:
    """End the last line of a file, if there is one that a killed process left half written: the next one stands by itself."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        append_line(path, "")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file (UTF-8, comma, one header line) to `path`, whole or not at all; no cell of it is a formula."""
    write_text(path, _csv(header, rows))


def csv_cells(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[list[str]]:
    """The cells of `rows` as they are read back from what `write_csv` writes, without the header."""
    return list(csv.reader(io.StringIO(as_written(_csv(header, rows)), newline="")))[1:]


def read_csv(path: Path) -> list[list[str]]:
    """The cells of a CSV file that `write_csv` wrote, without the header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def no_formula(cell: object) -> object:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it (OWASP, "CSV injection").

    A text that begins like one that was guarded gets one more, so that `unguarded` gives every text back.

    >>> no_formula("=1+1"), no_formula("-cat/1.jpg"), no_formula("cat-1.jpg"), no_formula(-0.5), no_formula("'=1")
    ("'=1+1", "'-cat/1.jpg", 'cat-1.jpg', -0.5, "''=1")
    """
    return f"'{cell}" if isinstance(cell, str) and re.match(r"'*[=+\-@\t\r]", cell) else cell


def unguarded(cell: str) -> str:
    """The text that `no_formula` guarded.

    >>> unguarded("'=1+1"), unguarded("'tis.jpg")
    ('=1+1', "'tis.jpg")
    """
    return cell[1:] if cell.startswith("'") and no_formula(cell[1:]) == cell else cell


def as_written(text: str) -> str:
    r"""`text` as UTF-8 can hold it: bytes of a file name that are none (Python has surrogates for them) become escapes.

    >>> as_written("caf\udce9.jpg") == r"caf\udce9.jpg", as_written("café.jpg")
    (True, 'café.jpg')
    """
    return text.encode("utf-8", "backslashreplace").decode()


def named_after(data: Path | str) -> str:
    """The name that pictures give to what is made of them: that of their folder, archive, table or address.

    >>> named_after("https://example.org/cats/"), named_after(Path("photos.zip")), named_after(Path("cats") / SHARD_INDEX)
    ('cats', 'photos', 'cats')
    """
    if isinstance(data, str):
        name = data.rstrip("/").removesuffix(f"/{SHARD_INDEX}").rpartition("/")[2]
    else:
        name = (data.parent if data.name == SHARD_INDEX else data).resolve().name
    return name.split(".")[0] or "run"


def near(path: Path) -> str:
    """A hint to append to the message that `path` does not exist: what is called much like it beside it, or nothing."""
    try:
        return did_you_mean(path.name, [sibling.name for sibling in path.parent.iterdir()])
    except OSError:
        return ""  # nothing to suggest from


def refuse_inside(path: Path, pictures: Path, what: str) -> None:
    """Nothing is written among the user's pictures.

    Raises:
        UserError: `path` lies in the folder `pictures`.
    """
    pictures = pictures.parent if pictures.name == SHARD_INDEX else pictures
    if pictures.is_dir() and path.resolve().is_relative_to(pictures.resolve()):
        raise UserError(
            f"the {what} {path} lies inside the pictures {pictures}: nothing is written there. Choose another place."
        )


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    quoting = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (header, *rows):
        cells = [no_formula(cell) for cell in row]
        # Before 3.13 Python leaves a carriage return without quotes, and reads two lines there; macOS has files called Icon\r.
        (quoting if any("\r" in cell for cell in cells if isinstance(cell, str)) else writer).writerow(cells)
    return buffer.getvalue()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be flushed: not on Windows, nor on every network's disk."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
