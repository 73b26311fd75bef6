"""From many requests at once to few computations, and back: each picture gets the answer that was computed from it.

No request waits for others to come: while one batch is computed the next one gathers. So a lone picture is answered at once,
and the fuller the house, the larger the batches.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# For how long a refusal is remembered.
_CROWDED_SECONDS = 1.0


class Gone(Exception):
    """Who asked has hung up."""


class Places:
    """Places for pictures between their arrival and their answer. Whoever finds none is told at once, and when to come again.

    All `most` places are for bursts, but no more than can be computed in `seconds`. When they do not do, more comes in than can
    be computed: then a long queue serves nobody sooner, it only lets everybody wait. Until a second passes without a refusal,
    only `few` places are given, so that those who are let in are answered about as soon as ever (after Nichols & Jacobson 2012,
    "Controlling queue delay", who tell a burst from a standing queue).
    """

    def __init__(self, most: int, few: int, seconds: float = math.inf) -> None:
        self.most, self.few = most, min(few, most)
        self._seconds = seconds
        self.taken = 0
        self._refused = -math.inf
        self._per_picture = 0.01

    def room(self, count: int = 1) -> bool:
        """Whether so many pictures may come in now."""
        crowded = time.monotonic() - self._refused < _CROWDED_SECONDS
        burst = min(self.most, max(self.few, self._seconds / self._per_picture))
        if self.taken and self.taken + count > (self.few if crowded else burst):
            self._refused = time.monotonic()
            return False
        return True

    def take(self, count: int) -> bool:
        """Take places for so many pictures; False where they are not free."""
        if not self.room(count):
            return False
        self.taken += count
        return True

    def leave(self, count: int, seconds: float) -> None:
        """Give them back; they were answered `seconds` after they came."""
        self._per_picture += 0.1 * (seconds / max(1, self.taken) - self._per_picture)
        self.taken -= count

    def retry_after(self) -> int:
        """Whole seconds, at least 1, after which there should be places again."""
        return max(1, math.ceil(self.taken * self._per_picture))


@dataclass
class _Waiting:
    square: np.ndarray
    gone: Callable[[], bool]
    answer: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """One thread that computes, and those who wait for it."""

    def __init__(self, compute: Callable[[list[np.ndarray]], Sequence[Any]], most: int) -> None:
        self._compute, self._most = compute, most
        self._waiting: deque[_Waiting] = deque()
        self._at_work: asyncio.Task | None = None
        self._thread = ThreadPoolExecutor(1, "computing")
        self.on_batch: Callable[[int], None] = lambda size: None

    async def answer(self, square: np.ndarray, gone: Callable[[], bool] = lambda: False) -> Any:
        """What `compute` says of this square, computed together with others.

        Raises:
            Gone: `gone` said so before its turn came.
        """
        item = _Waiting(square, gone)
        self._waiting.append(item)
        if self._at_work is None:
            self._at_work = asyncio.create_task(self._work())
        return await item.answer

    async def alone(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do something else in the thread that computes, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def stop(self) -> None:
        """End the thread after what it is at."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _work(self) -> None:
        while batch := self._next():
            try:
                found = await self.alone(self._compute, [item.square for item in batch])
                for item, answer in zip(batch, found, strict=True):
                    _settle(item.answer, answer)
            except Exception as error:
                for item in batch:
                    _settle(item.answer, error)
        self._at_work = None

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._most:
            item = self._waiting.popleft()
            if item.gone():
                _settle(item.answer, Gone())
            else:
                batch.append(item)
        if batch:
            self.on_batch(len(batch))
        return batch


def _settle(answer: asyncio.Future, value: Any) -> None:
    if answer.done():  # cancelled
        return
    if isinstance(value, Exception):
        answer.set_exception(value)
    else:
        answer.set_result(value)
