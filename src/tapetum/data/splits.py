"""Which pictures train, which validate, which test: seeded, stratified, or exactly as the study notes do it."""

import random
import re

import numpy as np

from tapetum.data.samples import Samples
from tapetum.errors import UserError

NOTES_NUMBERS = (0, 250)
_NOTES_TRAIN, _NOTES_TEST = 400, 10


def split(samples: Samples, val: float, test: float, seed: int, groups: np.ndarray | None = None) -> Samples:
    """`samples` with every picture in "train", "val" or (if `test` > 0) "test".

    A split that the data came with is kept; only what it lacks is taken, stratified by class, from its training part: a
    validation part always. Pictures without a split in a CSV that has one for others count as training pictures. Pictures of
    the same number in `groups` (N,) stay together: a duplicate of a training picture is no test.

    Raises:
        UserError: a class has too few pictures to stand in every part.
    """
    splits = np.where(samples.splits == "", "train", samples.splits).astype(object)
    groups = np.arange(len(samples)) if groups is None else groups
    if not (samples.splits == "test").any() and test > 0:
        splits = _take(samples, splits, "test", test, seed, groups)
        val = val / (1 - test)  # of what is left
    if not (samples.splits == "val").any():
        splits = _take(samples, splits, "val", val, seed, groups)
    return samples.with_splits(splits)


def without_validation(samples: Samples, test: float, seed: int, groups: np.ndarray) -> Samples:
    """`samples` with every picture in "train" or (if `test` > 0 or the data bring one) "test", for cross-validation.

    Raises:
        UserError: the data come with a validation part.
    """
    if (samples.splits == "val").any():
        raise UserError(
            "folds with data that come with a validation part: expected data without one. Use --folds 1, or put its pictures "
            "among the training ones."
        )
    splits = np.where(samples.splits == "", "train", samples.splits).astype(object)
    if not (splits == "test").any() and test > 0:
        splits = _take(samples, splits, "test", test, seed, groups)
    return samples.with_splits(splits)


def folds(samples: Samples, count: int, seed: int, groups: np.ndarray) -> np.ndarray:
    """The fold of each picture, (N,) int64 from 0: of about equal size, stratified by class, groups kept together.

    Raises:
        UserError: a class has fewer groups than there are folds.
    """
    for label, name in enumerate(samples.classes):
        different = len(np.unique(groups[samples.labels == label]))
        if 0 < different < count:
            raise UserError(
                f"folds {count}: class '{name}' has {different} different readable pictures, expected {count} or more. "
                "Use fewer folds."
            )
    # It takes two seconds to import, which data that come with their split need not wait for.
    from sklearn.model_selection import StratifiedGroupKFold

    fold_N = np.zeros(len(samples), np.int64)
    halves = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    for fold, (_, out) in enumerate(halves.split(np.zeros(len(samples)), samples.labels, groups)):
        fold_N[out] = fold
    return fold_N


def notes_split(samples: Samples) -> Samples:
    """The study notes' split: files sorted class by class, `random.seed(42)`, shuffled; 400 train, the last 10 test.

    The rest between them validates. On the book's 502 photos: 400 (199 cats, 201 dogs), 92 and 10 (7 cats, 3 dogs). Of fewer
    than 502 pictures the same share trains and tests. `samples` must not hold unreadable files, as the notes drop them before.
    """
    order = sorted(range(len(samples)), key=lambda i: (samples.labels[i], samples.names[i]))
    random.Random(42).shuffle(order)
    num_train, num_test = notes_counts(len(order))
    splits = np.full(len(samples), "val", object)
    splits[order[:num_train]] = "train"
    splits[order[len(order) - num_test :]] = "test"
    return samples.with_splits(splits)


def notes_counts(count: int) -> tuple[int, int]:
    """How many of `count` pictures train and test in the notes' split; scaled down where there are fewer than 502.

    >>> notes_counts(502), notes_counts(251)
    ((400, 10), (200, 5))
    """
    if count >= 502:
        return _NOTES_TRAIN, _NOTES_TEST
    if count < 8:  # of seven none would validate
        raise UserError(f"{count} pictures are too few for the notes' split: it needs 8 or more (502 to be exact).")
    return round(count * _NOTES_TRAIN / 502), max(1, round(count * _NOTES_TEST / 502))


def numbers_range(text: str, notes: bool) -> tuple[int, int] | None:
    """The range of file numbers that the setting `numbers` names: "all" and "auto" give None (all files).

    With the notes' split "auto" means the book's photos, 0 to 250 of each class.

    >>> numbers_range("251-1000", notes=False)
    (251, 1000)
    """
    if text == "all" or (text == "auto" and not notes):
        return None
    if text == "auto":
        return NOTES_NUMBERS
    match = re.fullmatch(r"(\d+)(?:-|\.\.)(\d+)", text.strip())
    if match is None or int(match[1]) > int(match[2]):
        raise UserError(f"numbers is '{text}': expected a range such as 0-250, or all.")
    return int(match[1]), int(match[2])


def _take(samples: Samples, splits: np.ndarray, part: str, share: float, seed: int, groups: np.ndarray) -> np.ndarray:
    """Move a `share` of each class's training pictures, at least one, into `part`, with all others of their groups."""
    splits = splits.copy()
    generator = np.random.Generator(np.random.Philox(key=[seed, 4]))
    for label, name in enumerate(samples.classes):
        of_class = np.flatnonzero((splits == "train") & (samples.labels == label))
        count = max(1, round(len(of_class) * share))
        if len(of_class) <= count:
            raise UserError(
                f"class '{name}' has {len(of_class)} readable picture(s) to share between training and {part}: expected 2 or "
                "more. Add pictures or leave the class out."
            )
        taken = 0
        for i in generator.permutation(of_class):
            together = (groups == groups[i]) & (splits == "train")  # none, if it came with another of its group
            of_its = int(np.count_nonzero(samples.labels[together] == label))
            # What stands there many times would fill the part with one picture; it trains.
            if taken < count and of_its <= 2 * (count - taken):
                splits[together] = part
                taken += of_its
        if not taken:  # all of them stand there many times
            numbers, sizes = np.unique(groups[of_class], return_counts=True)
            splits[(groups == numbers[sizes.argmin()]) & (splits == "train")] = part
        if not (splits[samples.labels == label] == "train").any():
            raise UserError(
                f"class '{name}' has no picture left to train on once duplicates stay together: its {len(of_class)} are one "
                f"picture. Add others or leave the class out."
            )
    return splits
