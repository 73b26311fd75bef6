"""Batches that mix nothing, and places that tell a burst from a standing queue."""

import asyncio
import threading
import time

import numpy as np
import pytest

from tapetum.deployment.batching import Batcher, Gone, Places


def test_each_gets_what_was_computed_from_its_own_square():
    sizes = []

    def compute(squares):
        sizes.append(len(squares))
        time.sleep(0.002)
        return [int(square[0]) * 2 for square in squares]

    async def work():
        batcher = Batcher(compute, 8)
        found = await asyncio.gather(*(batcher.answer(np.array([n])) for n in range(300)))
        batcher.stop()
        return found

    assert asyncio.run(work()) == [2 * n for n in range(300)]
    assert max(sizes) == 8
    assert sum(sizes) == 300


def test_one_alone_waits_for_nobody_and_those_who_come_meanwhile_go_together():
    sizes, go = [], threading.Event()

    def compute(squares):
        sizes.append(len(squares))
        go.wait(5)
        return [0] * len(squares)

    async def work():
        batcher = Batcher(compute, 32)
        first = asyncio.create_task(batcher.answer(np.zeros(1)))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.answer(np.zeros(1))) for _ in range(5)]
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, *rest)
        batcher.stop()

    asyncio.run(work())
    assert sizes == [1, 5]


def test_a_failure_reaches_those_whom_it_concerns_and_no_others():
    def compute(squares):
        if any(square[0] == 3 for square in squares):
            raise ZeroDivisionError
        return [int(square[0]) for square in squares]

    async def work():
        batcher = Batcher(compute, 1)
        gone = batcher.answer(np.array([9]), gone=lambda: True)
        found = await asyncio.gather(*(batcher.answer(np.array([n])) for n in range(6)), gone, return_exceptions=True)
        batcher.stop()
        return found

    *found, gone = asyncio.run(work())
    assert isinstance(found.pop(3), ZeroDivisionError)
    assert found == [0, 1, 2, 4, 5]
    assert isinstance(gone, Gone)


def test_an_answer_too_few_is_no_ones_answer():
    async def work():
        batcher = Batcher(lambda squares: [0] * (len(squares) - 1), 4)
        with pytest.raises(ValueError, match="shorter"):
            await batcher.answer(np.zeros(1))
        batcher.stop()

    asyncio.run(work())


def test_a_burst_gets_all_places_and_a_standing_queue_few(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    places = Places(10, 3)
    assert [places.take(1) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(7):
        places.leave(1, 1.0)
    assert not places.take(1)  # three are in: with a refusal so near, that is all
    places.leave(1, 1.0)
    assert places.take(1)
    now[0] += 2.0
    assert [places.take(1) for _ in range(8)] == [True] * 7 + [False]


def test_a_large_request_waits_for_an_empty_house_at_most():
    places = Places(10, 2)
    assert not (places.take(8) and places.take(8))
    places.leave(8, 1.0)
    assert places.take(8)  # although crowded, nobody else is in
    assert places.retry_after() >= 1


def test_a_burst_is_no_longer_than_its_time():
    places = Places(64, 2, seconds=0.5)
    for _ in range(100):  # they turn out to take 0.1 s each
        assert places.take(1)
        places.leave(1, 0.1)
    assert [places.take(1) for _ in range(6)] == [True] * 5 + [False]
