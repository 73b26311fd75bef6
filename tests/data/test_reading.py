"""Judges: hashlib, pixels that were written by hand, and hand counts."""

import hashlib
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from conftest import encoded
from tapetum.data import reading
from tapetum.data.duplicates import look
from tapetum.data.reading import glance, in_threads, read_pictures
from tapetum.data.samples import Samples
from tapetum.data.stores import FilesStore


def samples(folder, contents, kind=FilesStore):
    """A table of files with these bytes; None stands for one that is gone, a number for a folder of that name."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif content is not None:
            (folder / name).mkdir()
    store, count = kind({name: folder / name for name in contents}), len(contents)
    return Samples(folder, "pictures", store, tuple(contents), np.full(count, -1), np.full(count, "", object), ())


def picture(width, height, colour=(90, 90, 90), format="PNG"):
    return encoded(Image.new("RGB", (width, height), colour), format)


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_threads_answer_in_order_and_few_answers_wait(monkeypatch, count):
    monkeypatch.setattr(reading, "num_cores", lambda: 2)
    pauses, taken, given = np.random.default_rng(0).uniform(0, 0.002, count), [], []
    items = (taken.append(i) or i for i in range(count))
    for found in in_threads(lambda i: (time.sleep(pauses[i]), i * i)[1], items):
        given.append(found)
        assert len(taken) - len(given) < 4 * 2
    assert given == [i * i for i in range(count)]


def test_as_many_are_at_work_at_once_as_there_are_cores(monkeypatch):
    monkeypatch.setattr(reading, "num_cores", lambda: 3)
    together = threading.Barrier(3, timeout=20)  # breaks if fewer ever come
    assert list(in_threads(lambda i: together.wait() * 0 + i, range(9))) == list(range(9))


@pytest.mark.parametrize("looks", [False, True])
def test_each_file_gives_its_picture_or_its_reason_in_order(tmp_path, looks):
    chequers = np.zeros((6, 8, 3), np.uint8)
    chequers[::2, ::2] = (255, 0, 90)
    contents = {
        "고양이 1.png": encoded(Image.fromarray(chequers)),
        "gone.png": None,
        "고양이 1.bmp": encoded(Image.fromarray(chequers), "BMP"),
        "empty.png": b"",
        "cut.png": encoded(Image.fromarray(chequers))[:50],
        "folder.png": 0,
        "wide.png": picture(40, 20, (1, 2, 3)),
    }
    found = dict(zip(contents, read_pictures(samples(tmp_path / "내 사진", contents), 10, looks=looks), strict=True))
    for name, content in contents.items():
        assert found[name].sha256 == (hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else "")
    for lacking in ([n for n in found if found[n].picture is None], [n for n in found if found[n].reason]):
        assert lacking == ["gone.png", "empty.png", "cut.png", "folder.png"]
    assert found["gone.png"].reason == f"could not be read: {os.strerror(2)}"
    assert all(np.array_equal(found[name].picture, chequers) for name in ("고양이 1.png", "고양이 1.bmp"))
    assert np.array_equal(found["wide.png"].picture, np.broadcast_to(np.uint8([1, 2, 3]), (10, 20, 3)))
    for each in found.values():
        assert each.look == (look(each.picture) if looks and each.picture is not None else None)


def test_a_glance_at_many_files_reads_a_few_from_the_first_to_the_last(tmp_path):
    asked = []

    class Counted(FilesStore):
        def read(self, name):
            asked.append(int(name))
            return super().read(name)

    assert glance(samples(tmp_path, {str(i): picture(5, 20) for i in range(100)}, Counted)) == (5, True, True)
    assert len(asked) <= 32
    assert (min(asked), max(asked)) == (0, 99)
    assert np.diff(sorted(asked)).max() <= 4  # 99 steps in 31


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        ({"a": picture(20, 30, (90, 90, 91)), "b": picture(20, 30)}, (20, False)),
        ({"a": encoded(Image.new("L", (20, 30), 7)), "b": encoded(Image.new("1", (9, 40)))}, (14, True)),
        ({"a": picture(500, 720, format="JPEG"), "b": picture(8, 9), "c": picture(640, 400, format="JPEG")}, (400, True)),
        (
            {"cut": picture(2, 2, "red", "JPEG")[:-9], "gone": None, "a": picture(20, 30), "folder": 0, "text": b"hello"},
            (20, True),
        ),
        ({"cut": picture(2, 2, "red")[:50], "gone": None, "empty": b""}, (1, True)),
        ({}, (1, True)),
    ],
)
def test_a_glance_tells_the_median_side_and_the_colour_of_what_gives_a_picture(tmp_path, contents, found):
    assert glance(samples(tmp_path, contents))[:2] == found


def test_drawings_are_grey_and_mostly_paper(tmp_path):
    letters = np.full((96, 96), 250, np.uint8)
    letters[20:70, 30:40] = letters[20:30, 30:60] = 20
    noisy = (letters.astype(int) - np.random.default_rng(0).integers(0, 12, letters.shape)).astype(np.uint8)
    photo = np.tile(np.arange(0, 192, 2, dtype=np.uint8), (96, 1))
    of = {name: encoded(Image.fromarray(each)) for name, each in (("letters", letters), ("noisy", noisy), ("photo", photo))}
    of["red"] = encoded(Image.new("RGB", (96, 96), (250, 240, 240)))
    for names, drawn in (
        ("letters", True),
        ("letters noisy", True),
        ("photo", False),
        ("photo photo letters", False),
        ("red", False),
    ):
        contents = {f"{i} {name}": of[name] for i, name in enumerate(names.split())}
        assert glance(samples(tmp_path, contents)) == (96, names != "red", drawn)
