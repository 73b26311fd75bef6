"""A few mutated files, and the fuzz itself: it sees what it is there to see."""

import mmap
import os
import resource
import signal
import time

import numpy as np
import pytest

import fuzz


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Children begin at once, with the memory of this process."""
    monkeypatch.setattr(fuzz, "_START", "fork")
    monkeypatch.setattr(fuzz, "MOST_MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 + 300)


def test_some_mutated_files_are_pictures_or_reasons():
    tally = fuzz.fuzz(400, lambda line: None)
    assert tally.faults == []
    assert tally.files == tally.decoded + tally.refused.total() == 400
    assert min(tally.decoded, tally.refused.total()) > 40


def test_a_file_is_a_function_of_its_number():
    whole = fuzz.originals()
    assert fuzz.mutated(7, whole) == fuzz.mutated(7, whole)
    assert len({fuzz.mutated(number, whole)[1] for number in range(200)}) > 150


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (np.zeros((2, 2, 3)), "no uint8 picture"),
        (np.zeros((2, 2), np.uint8), "no uint8 picture"),
        (IndexError("odd"), "IndexError: odd"),
        (fuzz.BadPicture(""), "without a reason"),
    ],
)
def test_what_is_neither_is_a_fault(monkeypatch, found, fault):
    def decode(data):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(fuzz, "decode", decode)
    assert fuzz.judge(b"x")[0] == "fault"
    assert fault in fuzz.judge(b"x")[1]


def test_a_crash_a_hang_and_a_blow_up_are_named_and_the_rest_goes_on(monkeypatch):
    asked = iter(range(100))
    large = []

    def decode(data):
        match next(asked) + first:
            case 3:
                os.kill(os.getpid(), signal.SIGKILL)
            case 5:
                time.sleep(60)
            case 8:
                large.append(mmap.mmap(-1, 400 * 1024**2))  # new memory, however much was freed before
                large[0].write(bytes(400 * 1024**2))
        return np.zeros((1, 1, 3), np.uint8)

    first = 0
    real = fuzz._child

    def child(begin, last, whole, pipe):
        nonlocal first
        first = begin
        real(begin, last, whole, pipe)

    monkeypatch.setattr(fuzz, "decode", decode)
    monkeypatch.setattr(fuzz, "_child", child)
    monkeypatch.setattr(fuzz, "_PATIENCE", 3.0)
    tally = fuzz.fuzz(7, lambda line: None)
    assert [fault.split(" (")[0] for fault in tally.faults] == ["file 3", "file 5"]
    assert "crash, exit code -9" in tally.faults[0]
    assert "hang, over 3 s" in tally.faults[1]
    asked = iter(range(6, 100))
    calm = fuzz.fuzz(2, lambda line: None)
    monkeypatch.setattr(fuzz, "MOST_MB", calm.megabytes[0] + 300)
    asked = iter(range(8, 100))
    assert len(fuzz.fuzz(2, lambda line: None).faults) == 1
    assert large == []  # it was the child's
