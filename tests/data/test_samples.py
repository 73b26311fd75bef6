"""Judges: hand counts."""

import numpy as np
import pytest

from tapetum.data.samples import Samples
from tapetum.data.stores import FilesStore


def table(labels, classes, splits=None, names=None):
    names = tuple(f"{n}.jpg" for n in range(len(labels))) if names is None else names
    splits = [""] * len(labels) if splits is None else splits
    return Samples(
        "x", "class folders", FilesStore({}), names, np.array(labels, np.int64), np.array(splits, object), tuple(classes)
    )


def test_selecting_keeps_order_and_classes():
    found = table([0, 0, 1, 1, 2], "abc")
    some = found.select(np.array([4, 0]))
    assert some.names == ("4.jpg", "0.jpg")
    assert some.labels.tolist() == [2, 0]
    assert some.classes == ("a", "b", "c")
    assert found.select(found.labels == 1).names == ("2.jpg", "3.jpg")
    assert len(found.select(np.zeros(5, bool))) == 0


def test_splits_are_given_and_taken():
    found = table([0, 1, 0], "ab").with_splits(np.array(["val", "train", "val"]))
    assert found.of_split("val").names == ("0.jpg", "2.jpg")
    assert found.of_split("test").counts() == {"a": 0, "b": 0}


def test_bytes_and_stamps_come_from_the_store(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    found = Samples(tmp_path, "pictures", FilesStore({"a": tmp_path / "a"}), ("a",), np.array([-1]), np.array([""], object), ())
    assert found.read(0) == b"12345"
    assert found.stamps() == [(5, (tmp_path / "a").stat().st_mtime_ns)]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (table([0] * 1001 + [1] * 1001, ("Cat", "Dog")), "class folders, 2,002 files: Cat 1,001, Dog 1,001"),
        (table([0, 1, 1], "ab", ["train", "val", "train"]), "class folders, 3 files: a 1, b 2 (2 train, 1 val)"),
        (table([*range(13), 0, 0], "abcdefghijklm"), "class folders, 15 files: 13 classes of 1 to 3"),
        (table([-1], ()), "class folders, 1 file"),
    ],
)
def test_a_table_describes_itself_in_one_line(found, line):
    assert found.describe() == line


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (lambda: table([0, 1], "ab", [""]), r"expected \(N,\)"),
        (lambda: table([[0], [1]], "ab"), r"expected \(N,\)"),
        (lambda: table([0, 2], "ab"), "labels 0 to 2 for 2 classes"),
        (lambda: table([0, -2], "ab"), "labels -2 to 0"),
        (lambda: table([0, 1], "ab", ["", "valid"]), "unknown splits"),
        (lambda: table([0, 1], "ab", names=("x", "x")), "more than once"),
    ],
)
def test_a_table_that_cannot_be_is_refused(mistake, sentence):
    with pytest.raises(ValueError, match=sentence):
        mistake()
