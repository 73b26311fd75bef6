"""What stands behind the routes: places, decoders, the thread that computes, and the words of the answers."""

import asyncio
import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException

import tapetum
from tapetum.data.decode import BadPicture
from tapetum.deployment.batching import Batcher, Places
from tapetum.deployment.decoders import Decoders, preparation
from tapetum.deployment.heat import heat_of
from tapetum.deployment.limits import Limits
from tapetum.deployment.metrics import Metrics
from tapetum.inference.answers import NEITHER, Answering
from tapetum.inference.description import MODEL_FILE
from tapetum.processes import num_cores

# Places for a burst unless others are asked for, and the time in which they must be computed: even of a storm of a minute fewer
# than one in a hundred then stood in the burst that it began with.
_QUEUE, _BURST_SECONDS = 64, 0.5
_Gone = Callable[[], bool]


class Service:
    """A classifier that many ask at once."""

    def __init__(self, answerer: Answering, run: Path, reject: float, queue: int, workers: int, limits: Limits) -> None:
        self.limits, self.metrics, self.workers = limits, Metrics(workers), workers
        self.ready = self.draining = False
        self.failed: BaseException | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.heat = heat_of(answerer)
        self._answerer, self._reject = answerer, reject
        cores = max(1, num_cores() // workers)
        if "torch" in sys.modules:
            import torch

            torch.set_num_threads(cores)
        answerer.get_ready()
        # In a standing queue every core has a picture, and one more is ready: by Little's law nobody waits for long then.
        self._places = Places(queue, cores + 1) if queue else Places(_QUEUE, cores + 1, _BURST_SECONDS)
        self._most = min(limits.pictures, self._places.most)
        self._batcher = Batcher(self._compute, limits.batch)
        self._batcher.on_batch = self.metrics.batch.observe
        self._decoders = Decoders(preparation(answerer), cores, limits, type(answerer).__module__)
        self.model = _described(answerer, _fingerprint(run), reject, self.heat is not None, limits, self._most)

    async def start(self) -> None:
        """Get ready: the decoders, and one prediction from bytes to answer, so that the first who asks waits for nothing."""
        await self._decoders.start()
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "grey").save(buffer, "PNG")
        square = await self._decoders.square(buffer.getvalue())
        await self._batcher.answer(square)
        if self.heat is not None:
            await self._batcher.alone(self.heat, square, 0)
        self.ready = True
        self.on_ready()

    def stop(self) -> None:
        """End what `start` began."""
        self.ready = False
        self._batcher.stop()
        self._decoders.stop()

    def refuse_when_full(self) -> None:
        """Raise an HTTPException if no picture more may come in now."""
        if not self.ready:
            raise HTTPException(503, "getting ready. Try again.", {"Retry-After": "2"})
        if not self._places.room():
            raise self._full()

    async def predict(self, pictures: Sequence[tuple[str, bytes]], gone: _Gone) -> list[dict[str, Any]]:
        """An answer for each picture, given as name and bytes, in their order; one that is none has an `error` in its place.

        Raises:
            HTTPException: there is no place for them now.
        """
        if len(pictures) > self._most:
            raise HTTPException(413, f"{len(pictures)} pictures in one request: expected {self._most} or fewer.")
        with _Stay(self, len(pictures)):
            # Who hangs up keeps the places until the last of the pictures that were begun is done.
            found = await asyncio.gather(*(self._answer(name, data, gone) for name, data in pictures), return_exceptions=True)
        answers = []
        for each in found:
            if isinstance(each, BaseException):
                raise each
            answers.append(each)
        return answers

    async def explain(self, data: bytes, label: str | None, gone: _Gone) -> bytes:
        """A PNG that shows where the network saw `label`, or what it answers.

        Raises:
            BadPicture: no picture; HTTPException: no place, no such label, or a form that cannot be explained.
        """
        if self.heat is None:
            raise HTTPException(404, "this server draws no heat maps: they need a run folder and tapetum[explain].")
        classes = self._answerer.classes_
        if label is not None and label not in classes:
            raise HTTPException(400, f"no class is called {label[:80]!r}: GET /v1/model names them.")
        with _Stay(self, 1):
            square = await self._decoders.square(data, gone)
            if label is None:
                probabilities_K, _ = await self._batcher.answer(square, gone)
                label = classes[int(probabilities_K.argmax())]
            return await self._batcher.alone(self.heat, square, classes.index(label))

    async def _answer(self, name: str, data: bytes, gone: _Gone) -> dict[str, Any]:
        try:
            square = await self._decoders.square(data, gone)
            probabilities_K, familiarity = await self._batcher.answer(square, gone)
        except BadPicture as reason:
            self.metrics.pictures.labels("unreadable").inc()
            return {"name": name, "error": {"code": "not_a_picture", "message": str(reason)}}
        classes = self._answerer.classes_
        k = int(probabilities_K.argmax())
        strange = familiarity is not None and familiarity <= self._reject
        self.metrics.pictures.labels("neither" if strange else "answered").inc()
        return {
            "name": name,
            "label": NEITHER if strange else classes[k],
            "probability": float(probabilities_K[k]),
            **({} if familiarity is None else {"familiarity": float(familiarity)}),
            "probabilities": dict(zip(classes, map(float, probabilities_K), strict=True)),
        }

    def _compute(self, squares: list[np.ndarray]) -> list[tuple[np.ndarray, float | None]]:
        """Probabilities (K,) and familiarity of each square."""
        found_NK, familiarity_N = self._answerer.answers(squares, len(squares), self._reject)
        return list(zip(found_NK, familiarity_N if familiarity_N is not None else [None] * len(squares), strict=True))

    def _full(self) -> HTTPException:
        self.metrics.refused.inc()
        wait = self._places.retry_after()
        return HTTPException(503, f"too many pictures are waiting. Try again in {wait} s.", {"Retry-After": str(wait)})


class _Stay:
    """Places, for the time of a `with`."""

    def __init__(self, service: Service, count: int) -> None:
        self._service, self._count = service, count

    def __enter__(self) -> None:
        if not self._service._places.take(self._count):
            raise self._service._full()
        self._service.metrics.places.inc(self._count)
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._service._places.leave(self._count, time.monotonic() - self._since)
        self._service.metrics.places.dec(self._count)


def _fingerprint(run: Path) -> str:
    """SHA-256 of the model's file, 64 hexadecimal digits: `sha256sum` says the same."""
    return hashlib.sha256((run / MODEL_FILE if run.is_dir() else run).read_bytes()).hexdigest()


def _described(answerer: Answering, sha256: str, reject: float, explains: bool, limits: Limits, most: int) -> dict[str, Any]:
    """What a client should know of the model. Paths and settings of its training are nobody's business."""
    about = answerer.about
    return {
        "model": sha256,
        "network": about.get("network", ""),
        "classes": list(answerer.classes_),
        "size": answerer.preprocessing.size,
        "metrics": {part: found.get("accuracy") for part, found in (about.get("metrics") or {}).items()},
        "reject": reject,
        "explains": explains,
        "tapetum": tapetum.__version__,
        "limits": {"bytes": limits.body_bytes, "pixels": limits.pixels, "pictures": most},
    }
