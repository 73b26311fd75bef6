"""Load for a server: a process that serves, and clients that cost little beside it. Raw HTTP/1.1, nothing is retried."""

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_SOURCE = Path(__file__).resolve().parent.parent / "src"


BROKEN, REFUSED = 0, -1


@dataclass(frozen=True)
class Reply:
    """An answer; status BROKEN: the connection broke before there was one; REFUSED: there was no connection."""

    status: int
    seconds: float
    head: bytes = b""
    body: bytes = b""
    number: int = 0
    """Of the request that was asked."""


@contextlib.contextmanager
def served(
    run: Path, *flags: object, cores: Sequence[int] = (), patience: float = 120, ready: bool = True
) -> Iterator[tuple[int, subprocess.Popen]]:
    """`tapetum serve RUN` on a free port, ready if that is asked for; the port and the process. It is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tapetum", "serve", str(run), "--port", str(port), *map(str, flags)]
    if cores:
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    environment = {**os.environ, "PYTHONPATH": str(_SOURCE)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if ready:
            until_ready(port, process, patience)
        yield port, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def until_ready(port: int, process: subprocess.Popen, patience: float = 120) -> None:
    """Wait until /readyz says yes.

    Raises:
        RuntimeError: the process ended, or time is up.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended ({process.returncode}): {process.communicate()[1][-2000:]}")
        with contextlib.suppress(OSError):
            if asyncio.run(one(port, get("/readyz"))).status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError("the server did not get ready")


def get(path: str, *headers: str) -> bytes:
    """A GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def post(body: bytes, path: str = "/v1/predict", kind: str = "application/octet-stream", *headers: str) -> bytes:
    """A POST request with its body."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def form(pictures: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A form with files: its body and its Content-Type."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="pictures"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in pictures
    ]
    return b"".join([*parts, b"--edge--\r\n"]), "multipart/form-data; boundary=edge"


class Client:
    """One connection, kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, number: int = 0, begun: float | None = None) -> Reply:
        """Send a request and read its answer; its time counts from `begun` (time.perf_counter)."""
        begun = time.perf_counter() if begun is None else begun
        if self._streams is not None and self._streams[0].at_eof():  # it was idle for too long
            self.close()
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
            except OSError:
                return Reply(REFUSED, time.perf_counter() - begun, number=number)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, EOFError, asyncio.LimitOverrunError):
            self.close()
            return Reply(BROKEN, time.perf_counter() - begun, number=number)
        if b"connection: close" in head:
            self.close()
        return Reply(int(head[9:12]), time.perf_counter() - begun, head, body, number)

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def one(port: int, request: bytes) -> Reply:
    """One request on a connection of its own."""
    client = Client(port)
    try:
        return await client.ask(request)
    finally:
        client.close()


async def all_at_once(port: int, requests: Sequence[bytes], connections: int) -> list[Reply]:
    """Every request once, by so many clients of which each asks the next when it has its answer; in the requests' order."""
    waiting = iter(enumerate(requests))

    async def work() -> list[Reply]:
        client = Client(port)
        found = [await client.ask(request, number) for number, request in waiting]
        client.close()
        return found

    found = await asyncio.gather(*(work() for _ in range(connections)))
    return sorted((reply for each in found for reply in each), key=lambda reply: reply.number)


async def at_rate(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> list[Reply]:
    """Requests that come by chance, `rate` a second on average, whether or not the server keeps up.

    Times count from the moment at which a request was to be sent, so that a slow client hides nothing.
    """
    chance = random.Random(seed)
    idle: list[Client] = []
    tasks: list[asyncio.Task[Reply]] = []

    async def ask(number: int, begun: float) -> Reply:
        client = idle.pop() if idle else Client(port)
        reply = await client.ask(requests[number % len(requests)], number, begun)
        idle.append(client)
        return reply

    begun = time.perf_counter()
    due = begun
    while due < begun + seconds:
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(len(tasks), due)))
    found = await asyncio.gather(*tasks)
    for client in idle:
        client.close()
    return list(found)


@contextlib.contextmanager
def slow_clients(port: int, count: int, seconds: float) -> Iterator[None]:
    """Clients that send a byte a second, half of them in the head, half in the body, and come again when they are cut off.

    They are a process of their own, so that they delay nobody but the server.
    """
    process = subprocess.Popen([sys.executable, __file__, str(port), str(count), str(seconds)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def _crowd(port: int, count: int, seconds: float) -> None:
    until = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(_slow_client(port, n % 2 == 0, n / count, until) for n in range(count)))


async def _slow_client(port: int, bodies: bool, wait: float, until: float) -> None:
    start = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    start += b"Content-Length: 5000\r\n\r\n" if bodies else b"X-Slow: "
    loop = asyncio.get_running_loop()
    await asyncio.sleep(wait)  # not all in the same moment of each second
    while loop.time() < until:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            while loop.time() < until and not writer.transport.is_closing():
                writer.write(b"a")
                await asyncio.sleep(1)
            writer.close()


def p99(replies: Sequence[Reply], status: int = 200) -> float:
    """The 99th percentile of the times of answers with this status, in seconds; NaN where there are none."""
    times = [reply.seconds for reply in replies if reply.status == status]
    return float(np.percentile(times, 99)) if times else float("nan")


def memory(pid: int) -> float:
    """Resident memory in MB of a process and all that it started, shared pages counted once for each (Linux)."""
    return sum(_resident(each) for each in family(pid))


def family(pid: int) -> list[int]:
    """A process and all that it started, and they (Linux)."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _resident(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


async def until_stopped(port: int, requests: Sequence[bytes], process: subprocess.Popen, clients: int = 12) -> list[Reply]:
    """SIGTERM while clients ask, half of them on new connections each time; every answer, up to the first refusal of each."""

    async def work(start: int, keeps: bool) -> list[Reply]:
        client, found = Client(port), []
        for number in range(start, 10**9):
            found.append(await client.ask(requests[number % len(requests)], number))
            if found[-1].status in (BROKEN, REFUSED):
                return found
            if not keeps:
                client.close()
        return found

    async def stop() -> None:
        await asyncio.sleep(0.7)
        process.send_signal(signal.SIGTERM)

    *done, _ = await asyncio.gather(*(work(n, n % 2 == 0) for n in range(clients)), stop())
    return [reply for each in done for reply in each]


if __name__ == "__main__":
    asyncio.run(_crowd(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
