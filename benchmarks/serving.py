"""How many pictures a second a served classifier answers when more is asked than it can do, beside two others.

    python benchmarks/serving.py [--rounds 5] [--seconds 15] [--clients 64] [--workers 1] [--data ../shared/data]

serve: `tapetum serve RUN`, asked by 64 clients without a pause. plain: a handler of FastAPI that decodes and computes where a
picture arrives (`plain_server.py`), asked by as many. predict: the same photos by `tapetum predict`'s own code in one process,
from files to probabilities, without its start. All on the same cores, where the clients work, too. The network is `compact` at
112 pixels in both mirror forms, as photos get it without a flag; its weights are random, which costs the same.

A round measures all three, every second round in the opposite order. That they answer the same is checked first: the plain
handler's probabilities may be off by 0.02, since it resizes otherwise.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import speed_figures
import tapetum
from tapetum import models
from tapetum.data.prepare import Preprocessing
from tapetum.data.sources import find_pictures
from tapetum.inference.classifier import Classifier
from tapetum.inference.predict import predict_samples

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "torture"))
import load  # noqa: E402 - the torture's clients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement of a server")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="of tapetum serve")
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    args = parser.parse_args()
    photos = sorted((args.data / "cats-dogs").glob("*/*.jpg"))[::5]
    if not photos:
        sys.exit(f"{args.data / 'cats-dogs'} holds no photos: name their folder's parent with --data.")
    print(json.dumps(speed_figures.machine(), indent=1), flush=True)
    requests = [load.post(path.read_bytes()) for path in photos]
    with tempfile.TemporaryDirectory() as place:
        run = make_run(Path(place))
        classifier = tapetum.load(run)
        expected_NK = predict_samples(classifier, find_pictures(photos[:50])).probabilities_NK
        flags = ("--queue", args.clients, "--workers", args.workers)
        contestants: dict[str, Callable[[], float]] = {
            "serve": lambda: saturated(load.served(run, *flags), requests, expected_NK, args),
            "plain": lambda: saturated(plain(run), requests, expected_NK, args),
            "predict": lambda: alone(classifier, photos),
        }
        found: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(args.rounds):
            for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
                found[name].append(contestants[name]())
                print(f"round {number + 1}: {name}: {found[name][-1]:.1f} pictures a second", flush=True)
    for other in ("predict", "plain"):
        ratios = [ours / theirs for ours, theirs in zip(found["serve"], found[other], strict=True)]
        print(
            f"serve / {other}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"
        )


def make_run(place: Path) -> Path:
    torch.manual_seed(0)
    prepared = Preprocessing(size=112, fit="crop", resize=128, reduce=219, channels=3, views="mirror")
    Classifier(models.build("compact", 2, 112).eval(), "compact", ("cat", "dog"), prepared).save(place / "model.safetensors")
    return place


@contextlib.contextmanager
def plain(run: Path) -> Iterator[tuple[int, subprocess.Popen]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "plain_server.py"), str(run), str(port)], stderr=subprocess.PIPE, text=True
    )
    try:
        load.until_ready(port, process)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def saturated(server, requests: list[bytes], expected_NK, args: argparse.Namespace) -> float:
    """Answers a second, once its first answers were seen to be right."""
    with server as (port, _):
        first = asyncio.run(load.all_at_once(port, requests[:50], 4))
        for reply, expected_K in zip(first, expected_NK, strict=True):
            answered_K = list(json.loads(reply.body)["answers"][0]["probabilities"].values())
            worst = max(abs(a - b) for a, b in zip(answered_K, expected_K, strict=True))
            assert worst < 0.02, f"another answer: off by {worst:.3f}"
        return asyncio.run(_answers_a_second(port, requests, args.clients, args.seconds))


async def _answers_a_second(port: int, requests: list[bytes], clients: int, seconds: float) -> float:
    done, begun = 0, time.perf_counter()

    async def work(start: int) -> None:
        nonlocal done
        client, number = load.Client(port), start
        while time.perf_counter() < begun + seconds:
            reply = await client.ask(requests[number % len(requests)])
            assert reply.status == 200, reply
            done, number = done + 1, number + clients
        client.close()

    await asyncio.gather(*(work(start) for start in range(clients)))
    return done / (time.perf_counter() - begun)


def alone(classifier, photos: list[Path]) -> float:
    """Pictures a second of `predict`, in this process."""
    begun = time.perf_counter()
    predict_samples(classifier, find_pictures(photos))
    return len(photos) / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
