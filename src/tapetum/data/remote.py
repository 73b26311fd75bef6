"""A file that lies at an address (data/addresses.py), fetched: whole, checked, and kept.

http and https are read by Python's own client; a broken transfer goes on where it stopped, if the server knows Range.
webdataset's own opener for them starts curl, which tells neither a 404 from a 500 nor a server that has fallen silent. The
other kinds are webdataset's (extra `stream`). GOPEN_REWRITE is not asked: it could make a `pipe:`, and so a shell, of an
address.
"""

import contextlib
import http.client
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from tapetum.data.addresses import WEB
from tapetum.data.cachefolder import is_kept
from tapetum.errors import UserError
from tapetum.files import remove_lock, sha256_of

# A server that says nothing for so long has failed; what failed may pass, and is tried so often, after longer pauses each time.
_SILENCE_SECONDS, _TRIES, _PAUSE_SECONDS = 30.0, 4, 1.0
# Answers that another try may change; any other of 400 and more is final.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 1024**2


class _Final(OSError):
    """Another try would not help."""


class _Beyond(OSError):
    """The file has ended before the byte from which it was asked for."""


def read_url(url: str, most: int) -> bytes:
    """The bytes of a small file at `url`.

    Raises:
        UserError: it cannot be fetched, or is longer than `most` bytes.
    """

    def read() -> bytes:
        with _opened(url, 0) as (stream, _):
            return _at_most(stream, most)

    return _patiently(url, read)


def fetch(url: str, size: int, sha256: str, whole: Path) -> None:
    """The file at `url`, kept as `whole`: fetched if it is not there with so many bytes, by one process at a time.

    Args:
        url: as `beside` gives it.
        size: its length in bytes; not a byte more is taken.
        sha256: of its bytes, in hexadecimal.
        whole: where it is kept; what came of it before a failure stays beside it (`.NAME.part`), and is gone on from.

    Raises:
        UserError: it cannot be fetched, is not what size and hash say, or cannot be written.
    """
    if is_kept(whole, size):
        return
    part, lock_file = (whole.with_name(f".{whole.name}.{suffix}") for suffix in ("part", "lock"))
    lock = FileLock(lock_file)
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _unwritable(whole.parent, error) from error
    try:
        if not is_kept(whole, size):

            def complete() -> None:
                try:
                    _go_on(url, part, size)
                except _Beyond as error:
                    ended = part.stat().st_size
                    part.unlink()  # gone on from, it would end there for ever
                    raise OSError(f"it ended after {ended:,} of {size:,} bytes") from error
                if sha256_of(part) != sha256:
                    part.unlink(missing_ok=True)
                    raise OSError(f"its content is not what is known of it (SHA-256 {sha256})")

            _patiently(url, complete)
            part.replace(whole)
        # Only now may the lock's file go: who still waits for it finds the whole file.
        remove_lock(lock_file)
    except OSError as error:
        raise _unwritable(whole.parent, error) from error
    finally:
        lock.release()


def _go_on(url: str, part: Path, size: int) -> None:
    """Fetch what `part` lacks."""
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        return
    with _opened(url, have if have < size else 0) as (stream, start), _writing(part, start) as file:
        name = urlsplit(url).path.rpartition("/")[2]
        with tqdm(
            desc=f"fetching {name}", total=size, initial=start, unit="B", unit_scale=True, leave=False, disable=None
        ) as bar:
            left = size - start
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                _written(file, chunk, part)
                left -= len(chunk)
                bar.update(len(chunk))
        _flushed(file, part)
        if left == 0 and stream.read(1):
            part.unlink()
            raise OSError(f"it is longer than the {size:,} bytes that it should have")
    if left:
        raise OSError(f"it ended after {size - left:,} of {size:,} bytes")


@contextlib.contextmanager
def _writing(part: Path, start: int) -> Iterator[IO[bytes]]:
    try:
        file = part.open("r+b" if start else "wb")
    except OSError as error:
        raise _unwritable(part.parent, error) from error
    with file:
        file.seek(start)
        file.truncate()
        yield file


def _written(file: IO[bytes], chunk: bytes, part: Path) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _unwritable(part.parent, error) from error


def _flushed(file: IO[bytes], part: Path) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(part.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"could not write to {folder} ({error.strerror or error}), where what is fetched is kept. Free some space, or name "
        "another folder; that of the cache stands in TAPETUM_CACHE."
    )


def _patiently(url: str, work: Callable[[], Any]) -> Any:
    """What `work` gives, tried again where its failure may pass."""
    reason = ""
    for attempt in range(_TRIES):
        time.sleep(_PAUSE_SECONDS * attempt)
        try:
            return work()
        except _Final as error:
            reason = str(error)
            break
        except (OSError, http.client.HTTPException) as error:
            reason = _in_words(error)
    raise UserError(
        f"{url} could not be fetched: {reason}. Expected the file as it was published. What can be used of it is kept: mend "
        "this, and give the same command again."
    )


def _in_words(error: Exception) -> str:
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _in_words(error.reason)
    if isinstance(error, TimeoutError):
        return f"the server was silent for {_SILENCE_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextlib.contextmanager
def _opened(url: str, start: int) -> Iterator[tuple[Any, int]]:
    """A stream of the file at `url`, and the byte at which it begins: `start` if that can be had, else 0."""
    scheme = urlsplit(url).scheme
    if scheme in WEB:
        with contextlib.closing(_answer(url, start)) as response:
            yield response, start if response.status == 206 else 0
        return
    opener = _opener(scheme)
    try:
        stream = opener(url, "rb")
    except FileNotFoundError as error:
        raise _Final(f"the program {error.filename}, which reads {scheme}://, is not installed") from error
    with contextlib.closing(stream):
        yield stream, 0


def _answer(url: str, start: int) -> Any:
    headers = {"User-Agent": "tapetum"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=_SILENCE_SECONDS)
    except HTTPError as error:
        kind = _Beyond if start and error.code == 416 else OSError if error.code in _PASSING else _Final
        error.close()
        raise kind(f"the server answers {error.code} {error.reason}") from error
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        raise _Final("the server sends another part than it was asked for")
    return response


def _opener(scheme: str) -> Callable[..., Any]:
    """webdataset's opener for one kind of address."""
    try:
        from webdataset.gopen import gopen_schemes
    except ImportError:
        raise UserError(
            f"{scheme}:// is read with webdataset, which is not installed: pip install 'tapetum[stream]'."
        ) from None
    if scheme not in gopen_schemes:
        raise UserError(f"{scheme}:// has no opener: expected USE_AIS_FOR={scheme} in the environment, and the program ais.")
    return gopen_schemes[scheme]


def _at_most(stream: Any, most: int) -> bytes:
    chunks, length = [], 0
    while chunk := stream.read(_CHUNK):
        chunks.append(chunk)
        length += len(chunk)
        if length > most:
            raise _Final(f"it is longer than {most:,} bytes")
    if getattr(stream, "length", 0):  # what http.client still expects
        raise OSError(f"it ended after {length:,} bytes")
    return b"".join(chunks)
