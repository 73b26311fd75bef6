"""Rows 47 to 57, and the server's parts of 7, 10 and 11: large, slow, broken and hostile requests, load, hang-ups, signals.

TORTURE_SHARE=0.02 does a fiftieth of the large counts. Figures of time are those of a quiet machine or none.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import torch

import fuzz
import load
from common import SHARED, Outcome, classifier, encoded, kept, noise, row, tests, together
from load import BROKEN, REFUSED, Client, Reply, get, p99, post
from tapetum import models
from tapetum.data.prepare import Preprocessing
from tapetum.inference.classifier import Classifier

_SHARE = float(os.environ.get("TORTURE_SHARE", "1"))
_BUSY = 503


def _many(count: int) -> int:
    return max(20, round(count * _SHARE))


def _small(place: Path) -> Path:
    """A run whose network takes no time."""
    place.mkdir(exist_ok=True)
    classifier().save(place / "model.safetensors")
    return place


def _usual(place: Path) -> Path:
    """A run with the network and the size that photos get without a flag, untrained."""
    place.mkdir(exist_ok=True)
    torch.manual_seed(0)
    prepared = Preprocessing(size=112, fit="crop", resize=128, reduce=219, channels=3, views="mirror")
    network = models.build("compact", 2, 112).eval()
    Classifier(network, "compact", ("cat", "dog"), prepared).save(place / "model.safetensors")
    return place


def photos(count: int = 200) -> list[bytes]:
    """Photos of cats and dogs where they are, else pictures of noise of their size."""
    found = sorted((SHARED / "cats-dogs").glob("*/*.jpg"))[:: max(1, 2000 // count)][:count]
    return [path.read_bytes() for path in found] or [encoded(noise(n, 375, 500), "JPEG") for n in range(count)]


def _ask(port: int, request: bytes) -> Reply:
    return asyncio.run(load.one(port, request))


def _tally(replies: Sequence[Reply]) -> str:
    names = {BROKEN: "broken", REFUSED: "refused"}
    found = Counter(reply.status for reply in replies)
    return ", ".join(f"{count:,} x {names.get(status, status)}" for status, count in sorted(found.items()))


@row(47, "a body over 10 MB is refused as it arrives, whatever it says of its length, and not kept")
def large_bodies(place: Path) -> Outcome:
    """11 MB with its length, 1 GB with its length, and chunks without an end."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with load.served(_small(place)) as (port, process):
        _ask(port, post(encoded(noise(0))))
        before = most = load.memory(process.pid)

        async def pour(start: bytes, part: bytes, times: int) -> bytes:
            nonlocal most
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + start)
            answer = asyncio.create_task(reader.readexactly(12))  # what comes is seen even if the connection breaks then
            with contextlib.suppress(OSError):
                for _ in range(times):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                    most = max(most, load.memory(process.pid))
            writer.close()
            return await answer

        ways = [
            (b"Content-Length: 11000000\r\n\r\n", bytes(10**6), 11),
            (b"Content-Length: 1000000000\r\n\r\n", bytes(10**6), 1000),
            (b"Transfer-Encoding: chunked\r\n\r\n", chunk, 1000),
        ]
        answers = [asyncio.run(pour(*way)) for way in ways]
    right = sum(answer == b"HTTP/1.1 413" for answer in answers)
    ok, figure = kept(right, len(ways), f"got 413; memory grew by at most {most - before:.0f} MB (allowed: 20)", str(answers))
    return ok and most - before < 20, figure


@row(48, "500 slow clients delay the others' answers little: the 99th percentile at most three times as long")
def slow_clients(place: Path) -> Outcome:
    """Half slow in the head, half in the body, in an own process; a fifth of what can be computed is asked meanwhile."""
    seconds = max(5.0, 30 * min(1, _SHARE * 10))
    requests = [post(data) for data in photos()]
    with load.served(_usual(place)) as (port, _):
        rate = _capacity(port, requests) / 5
        alone = asyncio.run(load.at_rate(port, requests, rate, seconds))

        with load.slow_clients(port, 500, seconds + 5):
            time.sleep(3)
            among = asyncio.run(load.at_rate(port, requests, rate, seconds))
    ratio = p99(among) / p99(alone)
    good = sum(reply.status == 200 for reply in among)
    ok, figure = kept(good, len(among), f"answered; p99 {p99(alone) * 1e3:.0f} ms alone, {ratio:.2f} times as long among them")
    return ok and ratio < 3, figure


def _capacity(port: int, requests: Sequence[bytes]) -> float:
    """Answers a second when eight clients ask without a pause."""
    asyncio.run(load.all_at_once(port, requests[:50], 8))
    begun = time.perf_counter()
    found = asyncio.run(load.all_at_once(port, requests, 8))
    assert all(reply.status == 200 for reply in found), _tally(found)
    return len(found) / (time.perf_counter() - begun)


def _mutated(chance: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    odd = [b"\r\n", b"\0", b"\xff\xfe", b": ", b"Transfer-Encoding: chunked\r\n", b"--edge", b"9" * 30, b"HTTP/9.9", b"%00%2e"]
    for _ in range(chance.randint(0, 6)):
        at = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randint(1, 60)]
            case 2:
                data[at:at] = data[at : at + chance.randint(1, 90)]
            case 3:
                data[at:at] = chance.choice(odd)
            case 4:
                data = data[:at]
    return bytes(data)


async def _throw(port: int, data: bytes, hang_up: bool) -> int:
    """Send bytes as they are; the status of what comes back, 0 for nothing."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        if hang_up:
            writer.write_eof()
        async with asyncio.timeout(0.3):
            answer = await reader.readexactly(12)
    except (OSError, EOFError, TimeoutError):
        answer = b""
    with contextlib.suppress(OSError, UnboundLocalError):
        writer.close()
    return int(answer[9:12]) if answer[9:12].isdigit() else 0


async def _throw_all(port: int, count: int, make: Callable[[int], bytes], note: Callable[[int], Awaitable[None]]) -> Counter:
    found: Counter = Counter()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            found[await _throw(port, make(number), number % 3 == 0)] += 1
            if number % 500 == 0:
                await note(number)

    await asyncio.gather(*(work() for _ in range(24)))
    return found


@row(49, "garbage is refused, never by an error of the server, and leaves no memory behind")
def garbage(place: Path) -> Outcome:
    """100,000 requests, forms and pictures with bytes flipped, cut, doubled and put elsewhere."""
    body, kind = load.form([("a.png", encoded(noise(0))), ("b.jpg", encoded(noise(1), "JPEG")), ("c.txt", b"hello")])
    whole = [post(body, "/v1/predict", kind), post(encoded(noise(2))), post(encoded(noise(3), "GIF"), "/v1/explain"), get("/")]
    whole += [
        get("/v1/model", "Upgrade: websocket", "Connection: Upgrade"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02",
    ]
    whole += [b"CONNECT a:1 HTTP/1.1\r\n\r\n", post(body[:300], "/v1/predict", kind), get("/%2e%2e/%00?label=%ff")]
    count = _many(100_000)
    with load.served(_small(place), "--queue", 1000) as (port, process):
        sizes: list[float] = []

        async def note(number: int) -> None:
            if number >= count // 10:  # what is made once is made
                sizes.append(load.memory(process.pid))

        def make(number: int) -> bytes:
            chance = random.Random(number)
            return _mutated(chance, chance.choice(whole))

        found = asyncio.run(_throw_all(port, count, make, note))
        alive = _ask(port, post(encoded(noise(0)))).status == 200
        sizes.append(load.memory(process.pid))
    errors = {status: times for status, times in found.items() if status >= 500}
    growth = max(sizes[len(sizes) // 2 :]) - sizes[0]
    figure = (
        f"{count:,} calls: {dict(sorted(found.items()))}, {'alive' if alive else 'DEAD'}; memory {growth:+.0f} MB (allowed: 20)"
    )
    return alive and not errors and growth < 20, figure


@row(50, "a picture file of any kind is answered or refused with a reason, and ends no server (row 7's other half)")
def pictures(place: Path) -> Outcome:
    """Mutated pictures of all formats, and the odd ones that are at hand."""
    whole = fuzz.originals()
    count = _many(20_000)
    odd = [path.read_bytes() for path in sorted((SHARED / "odd-images").rglob("*")) if path.is_file()]
    with load.served(_small(place), "--queue", 1000) as (port, process):
        requests = [post(data) for data in odd if data]
        found = asyncio.run(load.all_at_once(port, requests, 16))
        for first in range(0, count, 2000):
            some = [post(fuzz.mutated(number, whole)[1] or b"x") for number in range(first, min(first + 2000, count))]
            found += asyncio.run(load.all_at_once(port, some, 16))
        alive = process.poll() is None
    right = sum(reply.status in (200, 422, 413) for reply in found)
    ok, figure = kept(
        right, len(found), f"answered or refused: {_tally(found)}", f"slowest {max(r.seconds for r in found):.2f} s"
    )
    return ok and alive, figure


@row(51, "at four times the load it can bear, those let in are answered within twice the usual time, the others told at once")
def overload(place: Path) -> Outcome:
    """60 s of requests by chance; times are 99th percentiles, the usual one at a fifth of what can be computed."""
    seconds = 60.0
    requests = [post(data) for data in photos()]
    with load.served(_usual(place)) as (port, _):
        capacity = _capacity(port, requests)
        usual = p99(asyncio.run(load.at_rate(port, requests, capacity / 5, 20.0)))

        async def storm() -> tuple[list[Reply], list[Reply]]:
            health: list[Reply] = []

            async def look() -> None:
                while True:
                    health.append(await load.one(port, get("/healthz")))
                    await asyncio.sleep(0.25)

            looking = asyncio.create_task(look())
            found = await load.at_rate(port, requests, 4 * capacity, seconds)
            looking.cancel()
            return found, health

        found, health = asyncio.run(storm())
    inside, told = p99(found), p99(found, _BUSY)
    slowest = max(reply.seconds for reply in health)
    figure = (
        f"{capacity:.0f}/s can be computed; of {len(found):,} {_tally(found)}; p99 {usual * 1e3:.0f} ms usually, "
        f"{inside / usual:.2f} times as long for those let in; 503 within {told * 1e3:.0f} ms (allowed: 50); "
        f"health within {slowest * 1e3:.0f} ms (allowed: 200)"
    )
    good = {reply.status for reply in found} == {200, _BUSY}
    return good and inside <= 2 * usual and told < 0.05 and slowest < 0.2, figure


@row(52, "each of a thousand mixed requests at once gets its own answer, the one that `predict` gives")
def own_answers(place: Path) -> Outcome:
    """By the tests, in full."""
    return tests("tests/deployment/test_serve.py", "-k", "thousand or alike")


@row(53, "who hangs up leaves no work and no place taken behind")
def hang_ups(place: Path) -> Outcome:
    """500 clients that send a picture and go."""
    requests = [post(data) for data in photos(50)]
    with load.served(_usual(place), "--queue", 1000) as (port, _):

        async def go() -> None:
            async def leave(number: int) -> None:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(requests[number % len(requests)])
                await asyncio.sleep(random.Random(number).random() * 0.3)
                writer.transport.abort()

            await asyncio.gather(*(leave(number) for number in range(500)))

        asyncio.run(go())
        begun = time.monotonic()
        while (taken := _number(port, "tapetum_places_taken")) and time.monotonic() < begun + 30:
            time.sleep(0.1)
        seconds = time.monotonic() - begun
    return taken == 0 and seconds < 5, f"{taken:.0f} places taken {seconds:.1f} s after 500 hang-ups (allowed: 5 s)"


def _number(port: int, name: str) -> float:
    lines = _ask(port, get("/metrics")).body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


@row(54, "SIGTERM under load: all that was begun is answered, and it ends with 0")
def signals(place: Path) -> Outcome:
    """20 of them, half with two workers; half of the clients keep their connections."""
    requests = [post(data) for data in photos(50)]
    run = _usual(place)
    right = answered = 0
    slowest, wrong = 0.0, []
    for turn in range(20):
        with load.served(run, "--workers", 1 + turn % 2, "--queue", 500) as (port, process):
            found = asyncio.run(load.until_stopped(port, requests, process))
            begun = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
            slowest = max(slowest, time.monotonic() - begun)
            good = process.returncode == 0 and {reply.status for reply in found} <= {200, REFUSED}
            right += good
            answered += sum(reply.status == 200 for reply in found)
            wrong += [] if good else [f"turn {turn}: exit {process.returncode}, {_tally(found)}"]
    return kept(
        right, 20, f"ended with 0, {answered:,} answers, none broken; at most {slowest:.1f} s after the last answer", *wrong
    )


@row(55, "while it gets ready it says so (503), and no prediction is lost")
def start(place: Path) -> Outcome:
    """By the tests, and the first answers of a process that has just begun."""
    statuses, first = [], BROKEN
    with load.served(_usual(place), ready=False) as (port, _):
        until = time.monotonic() + 60
        while time.monotonic() < until and 200 not in statuses:
            with contextlib.suppress(OSError):
                statuses.append(_ask(port, get("/readyz")).status)
            if statuses and statuses[-1] == 200:
                first = _ask(port, post(photos(1)[0])).status
    waiting = [status for status in statuses[:-1] if status not in (_BUSY, BROKEN, REFUSED)]
    ok = statuses[-1] == 200 and not waiting and first == 200 and _BUSY in statuses
    return together((ok, f"{statuses.count(_BUSY)} times 503, then 200; first prediction {first}"), tests(
        "tests/deployment/test_limits.py", "-k", "ready"
    ))  # fmt: skip


@row(56, "memory and open files stay as they are over many predictions")
def soak(place: Path) -> Outcome:
    """100,000 predictions; the slope is that of a straight line through the memory after the first tenth."""
    import numpy as np

    count = _many(100_000)
    requests = [post(encoded(noise(n))) for n in range(64)]
    with load.served(_small(place), "--queue", 1000) as (port, process):
        files: list[int] = []
        sizes: list[tuple[int, float]] = []
        done = 0

        async def work() -> None:
            nonlocal done
            clients = [Client(port) for _ in range(8)]

            async def one(client: Client) -> None:
                nonlocal done
                while done < count:
                    done += 1
                    number = done
                    reply = await client.ask(requests[number % 64])
                    assert reply.status == 200, reply
                    if number % max(1, count // 200) == 0:
                        sizes.append((number, load.memory(process.pid)))
                        files.append(len(os.listdir(f"/proc/{process.pid}/fd")))

            await asyncio.gather(*(one(client) for client in clients))

        asyncio.run(work())
    later = np.array([size for size in sizes if size[0] > count / 10])
    slope = float(np.polyfit(later[:, 0], later[:, 1], 1)[0]) * 1e3
    figure = f"{count:,} predictions: {slope:+.3f} kB a request (allowed: 1), {min(files)} to {max(files)} open files"
    return slope < 1 and max(files) - min(files) <= 2, figure


@row(57, "the page asks nobody else, in a browser, and says nothing to its console")
def page(place: Path) -> Outcome:
    """By the tests."""
    return tests("tests/deployment/test_page.py")


@row(10, "no request can name a path or an address; no path leads out")
def paths(place: Path) -> Outcome:
    """By the tests, in full."""
    return tests("tests/deployment/test_limits.py", "-k", "path or large or pixels")


@row(11, "only this machine reaches it, or a token is asked for on every route but health")
def strangers(place: Path) -> Outcome:
    """By the tests, in full."""
    return tests("tests/deployment/test_limits.py", "tests/deployment/test_serve.py", "-k", "token or machine or name")
