"""Pictures of strangers are decoded in processes of their own: a decoder that crashes or runs wild takes nobody with it.

Such a process gets bytes and gives back a prepared square. It may compute for a few seconds and take a GiB of memory for a
picture; the system ends it at the first, and refuses it the second. Another one takes its place. The processes are copies of
one that has imported everything (multiprocessing's fork server), so a new one is there in milliseconds.

Measured against threads of the server's own process in benchmarks/LOG.md.
"""

import asyncio
import contextlib
import math
import multiprocessing
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from multiprocessing.context import BaseContext

import numpy as np

from tapetum.data.decode import BadPicture
from tapetum.data.prepare import Preprocessing, decode_reduced, fit
from tapetum.deployment.batching import Gone
from tapetum.deployment.limits import Limits
from tapetum.inference.answers import Answering

Prepare = Callable[[bytes, int], np.ndarray]
"""From the bytes of a picture, and how many pixels it may have, to its square; raises BadPicture."""

_LENGTH = struct.Struct("!cI")
_SQUARE, _REASON = b"s", b"r"
# A decoder that computes nothing and does not answer either, for this long, hangs.
_PATIENCE = 30.0
# The first one imports what all of them need.
_START = 120.0


def preparation(answerer: Answering) -> Prepare:
    """How `answerer` prepares a picture, without its network, so that another process can have it for a few bytes."""
    return partial(_square, answerer.preprocessing)


def _square(preprocessing: Preprocessing, data: bytes, max_pixels: int) -> np.ndarray:
    return fit(decode_reduced(data, preprocessing.reduce, max_pixels), preprocessing)


class Decoders:
    """A few processes that turn bytes into squares. `module` is what they import first, such as one that imports torch."""

    def __init__(self, prepare: Prepare, count: int, limits: Limits, module: str) -> None:
        self._prepare, self._limits, self._count, self._module = prepare, limits, count, module
        self._context = _context(module)
        self._idle: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._all: set[_Decoder] = set()

    async def start(self) -> None:
        """Start them and wait until they can work."""
        for _ in range(self._count):
            self._idle.put_nowait(await self._new())

    async def square(self, data: bytes, gone: Callable[[], bool] = lambda: False) -> np.ndarray:
        """The uint8 square (side, side, 3) of an encoded picture.

        Raises:
            BadPicture: the bytes are no picture that can be read, or it cost more than the limits allow.
            Gone: `gone` said so before its turn came.
        """
        decoder = await self._idle.get()
        if gone():
            self._idle.put_nowait(decoder)
            raise Gone
        try:
            kind, answer = await decoder.ask(data)
        except (EOFError, OSError, TimeoutError):
            decoder = await self._instead_of(decoder)
            raise BadPicture("decoding it takes too much time or memory") from None
        except BaseException:  # cancelled half way: what it answers belongs to nobody
            decoder = await self._instead_of(decoder)
            raise
        finally:
            self._idle.put_nowait(decoder)
        if kind == _REASON:
            raise BadPicture(answer.decode())
        side = math.isqrt(len(answer) // 3)
        return np.frombuffer(answer, np.uint8).reshape(side, side, 3)

    def stop(self) -> None:
        """End them."""
        for decoder in self._all:
            decoder.end()

    async def _instead_of(self, broken: "_Decoder") -> "_Decoder":
        broken.end()
        self._all.discard(broken)
        return await self._new()

    async def _new(self) -> "_Decoder":
        ours, theirs = socket.socketpair()
        process = self._context.Process(target=_work, args=(theirs, self._prepare, self._limits, self._module), daemon=True)  # type: ignore[attr-defined]
        await asyncio.to_thread(process.start)
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=2**20)
        decoder = _Decoder(process, reader, writer)
        self._all.add(decoder)
        await asyncio.wait_for(reader.readexactly(1), _START)
        return decoder


class _Decoder:
    """One process and the way to it."""

    def __init__(self, process: multiprocessing.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer

    async def ask(self, data: bytes) -> tuple[bytes, bytes]:
        self._writer.write(_LENGTH.pack(_SQUARE, len(data)))
        self._writer.write(data)
        async with asyncio.timeout(_PATIENCE):
            await self._writer.drain()
            kind, length = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return kind, await self._reader.readexactly(length)

    def end(self) -> None:
        self._process.kill()
        self._writer.close()


def _context(module: str) -> BaseContext:
    """The fork server, which imports `module` once; where there is none (Windows), fresh processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module, "tapetum.deployment.decoders"])
    return context


def _work(sock: socket.socket, prepare: Prepare, limits: Limits, module: str) -> None:
    """The life of a decoder: until nobody asks any more."""
    import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which drains first
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    _limit_memory(limits.decoding_bytes)
    with sock, sock.makefile("rwb") as stream:
        stream.write(b"\0")
        stream.flush()
        while head := stream.read(_LENGTH.size):
            data = stream.read(_LENGTH.unpack(head)[1])
            try:
                with _limited_time(limits.decoding_seconds):
                    square = np.ascontiguousarray(prepare(data, limits.pixels))
                kind, answer = _SQUARE, square.tobytes()
            except BadPicture as reason:
                kind, answer = _REASON, str(reason).encode()
            stream.write(_LENGTH.pack(kind, len(answer)) + answer)
            stream.flush()


@contextlib.contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """The system ends this process if it computes for longer."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(more: int) -> None:
    """The system gives this process so many bytes beyond what it has, and no more."""
    if sys.platform != "linux":
        return
    import resource
    from pathlib import Path

    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + more, has + more))
