"""Judges: the notes' own lines of Python, and hand counts."""

import os
import random

import numpy as np
import pytest

from tapetum.data.samples import Samples
from tapetum.data.sources import find_samples
from tapetum.data.splits import folds, notes_split, numbers_range, split, without_validation
from tapetum.errors import UserError


def samples(*counts, splits=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"{'abcdef'[label]}/{n}.jpg" for n, label in enumerate(labels))
    parts = np.array([""] * len(labels) if splits is None else splits, object)
    return Samples("x", "class folders", None, names, labels, parts, tuple("abcdef"[: len(counts)]))


def test_a_split_is_stratified_seeded_and_whole():
    table = samples(100, 40, 5)
    found = split(table, val=0.2, test=0.1, seed=3)
    for label, count in enumerate((100, 40, 5)):
        parts = found.splits[table.labels == label]
        assert (parts == "test").sum() == max(1, round(count * 0.1))
        assert (parts == "val").sum() == pytest.approx(count * 0.2, abs=1)
    assert set(found.splits) == {"train", "val", "test"}
    assert np.array_equal(found.splits, split(table, 0.2, 0.1, 3).splits)
    assert not np.array_equal(found.splits, split(table, 0.2, 0.1, 4).splits)


def test_a_split_that_the_data_bring_is_kept():
    given = ["train", "val", "test", "train", "", "test"]
    assert split(samples(3, 3, splits=given), 0.2, 0.2, 0).splits.tolist() == ["train", "val", "test", "train", "train", "test"]


def test_a_missing_validation_part_is_taken_from_training_only():
    given = ["train"] * 20 + ["test"] * 5 + ["train"] * 20 + ["test"] * 5
    found = split(samples(25, 25, splits=given), 0.2, 0, 0)
    assert (found.splits == "val").sum() == 8
    assert (found.splits == "test").sum() == 10
    # A share for testing that is not taken, since a test part is there, takes nothing from the others either.
    assert (split(samples(25, 25, splits=given), 0.2, 0.3, 0).splits == found.splits).all()


def test_a_class_of_one_picture_cannot_be_split():
    with pytest.raises(UserError, match=r"class 'b' has 1 readable picture"):
        split(samples(10, 1), 0.2, 0, 0)


def test_the_notes_split_of_the_books_photos_is_the_notes_own(shared):
    # The lines of the notes, on the notes' files.
    root = shared / "cats-dogs"
    cats = sorted(os.path.join("Cat", f) for f in os.listdir(root / "Cat") if int(f.split(".")[1]) <= 250)
    dogs = sorted(os.path.join("Dog", f) for f in os.listdir(root / "Dog") if int(f.split(".")[1]) <= 250)
    files = [*cats, *dogs]
    random.seed(42)
    random.shuffle(files)
    expected = {"train": set(files[:400]), "val": set(files[400:-10]), "test": set(files[-10:])}

    found = notes_split(find_samples(root, (0, 250)))
    for part, names in expected.items():
        assert set(found.of_split(part).names) == names
    assert found.of_split("train").counts() == {"Cat": 199, "Dog": 201}
    assert found.of_split("val").counts() == {"Cat": 45, "Dog": 47}
    assert found.of_split("test").counts() == {"Cat": 7, "Dog": 3}


def test_the_notes_split_is_scaled_down_for_fewer_pictures():
    found = notes_split(samples(50, 50))
    assert [(found.splits == part).sum() for part in ("train", "val", "test")] == [80, 18, 2]
    with pytest.raises(UserError, match="3 pictures are too few"):
        notes_split(samples(2, 1))
    with pytest.raises(UserError, match="7 pictures are too few"):
        notes_split(samples(4, 3))
    assert sorted(notes_split(samples(4, 4)).splits) == ["test", *["train"] * 6, "val"]


def test_numbers_are_ranges():
    assert numbers_range("auto", notes=False) is None
    assert numbers_range("auto", notes=True) == (0, 250)
    assert numbers_range("all", notes=True) is None
    assert numbers_range("251..1000", notes=True) == (251, 1000)
    for text in ("9-3", "x", "1-", "-5"):
        with pytest.raises(UserError, match="expected a range such as 0-250"):
            numbers_range(text, notes=False)


def test_duplicates_stay_on_one_side():
    table = samples(60, 60)
    groups = np.arange(120)
    groups[[0, 1, 2, 70]] = 0  # three of one class and one of the other
    groups[[10, 11]] = 10
    for seed in range(40):
        parts = split(table, 0.2, 0.2, seed, groups).splits
        assert len(set(parts[[0, 1, 2, 70]])) == 1
        assert parts[10] == parts[11]
        assert (parts == "val").sum() == pytest.approx(24, abs=4)
    single = split(table, 0.2, 0.2, 7, np.arange(120)).splits
    assert (single == split(table, 0.2, 0.2, 7).splits).all()


def test_a_burst_does_not_fill_the_validation_part():
    groups = np.array([*[0] * 60, *range(60, 200)])
    for seed in range(20):
        parts = split(samples(100, 100), 0.2, 0.0, seed, groups).splits
        assert (parts[:100] == "val").sum() == 20
        assert (parts[:60] == "train").all()
    # Where nothing else is there, the least of them goes.
    parts = split(samples(12, 12), 0.2, 0.0, 0, np.array([*[0] * 7, *[1] * 5, *range(12, 24)])).splits
    assert (parts[:12] == "val").tolist() == [False] * 7 + [True] * 5


def test_a_class_of_one_picture_many_times_over_is_refused():
    with pytest.raises(UserError, match="class 'b' has no picture left to train on once duplicates stay together"):
        split(samples(10, 4), 0.2, 0.0, 0, np.array([*range(10), 10, 10, 10, 10]))


def test_folds_are_even_stratified_and_keep_duplicates_together():
    table = samples(60, 31)
    groups = np.arange(91)
    groups[[5, 6, 7]] = 5
    found = folds(table, 5, 3, groups)
    assert set(found) == {0, 1, 2, 3, 4}
    for label, count in enumerate((60, 31)):
        sizes = np.bincount(found[table.labels == label])
        assert sizes.min() >= count // 5 - 1
        assert sizes.max() <= count // 5 + 2
    assert len(set(found[[5, 6, 7]])) == 1
    assert (found == folds(table, 5, 3, groups)).all()
    assert (found != folds(table, 5, 4, groups)).any()
    with pytest.raises(UserError, match="folds 32: class 'b' has 31 different readable pictures, expected 32 or more"):
        folds(table, 32, 0, groups)


def test_cross_validation_takes_no_validation_part():
    found = without_validation(samples(10, 10), 0.2, 0, np.arange(20))
    assert sorted(set(found.splits)) == ["test", "train"]
    with pytest.raises(UserError, match="folds with data that come with a validation part"):
        without_validation(samples(2, 2, splits=["train", "val", "train", "val"]), 0.0, 0, np.arange(4))
