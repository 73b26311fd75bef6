"""The table of pictures: a name, a label and a split for each, and the store that holds their bytes."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from tapetum.data.stores import Store
from tapetum.errors import UserError
from tapetum.talk import counted

SPLITS = ("train", "val", "test")
# Above this many, classes are summed up instead of listed.
_LISTED_CLASSES = 12


@dataclass(frozen=True)
class Samples:
    """N files that should be pictures, in a fixed order."""

    origin: Path | str
    """What the user named: folder, CSV, archive or index of shards; a text is an address."""
    layout: str
    """How labels were found, in words, such as "class folders"."""
    store: Store
    names: tuple[str, ...]
    """N different names, as the store knows them."""
    labels: np.ndarray
    """(N,) int64 index into `classes`; -1 where there is no label."""
    splits: np.ndarray
    """(N,) of "train", "val", "test", or "" where the data do not say."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (len(self.names),) == self.labels.shape == self.splits.shape:
            raise ValueError(
                f"{len(self.names)} names, labels {self.labels.shape} and splits {self.splits.shape}: expected (N,)"
            )
        if len(set(self.names)) < len(self.names):
            raise ValueError("a name stands more than once")
        if len(self) and not -1 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels {self.labels.min()} to {self.labels.max()} for {len(self.classes)} classes")
        unknown = set(self.splits) - {"", *SPLITS}
        if unknown:
            raise ValueError(f"unknown splits {unknown}: expected train, val, test or nothing")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> bytes:
        """The bytes of file `i`. Raises OSError with the reason if they cannot be read."""
        return self.store.read(self.names[i])

    def stamps(self) -> list[tuple[int, int]]:
        """For each file, two numbers that change when its content does."""
        return [self.store.stamp(name) for name in self.names]

    def select(self, rows: np.ndarray) -> "Samples":
        """The files that `rows` (different indices, or a mask) choose, in that order; the classes stay."""
        chosen = np.arange(len(self))[rows]
        names = tuple(self.names[i] for i in chosen)
        return replace(self, names=names, labels=self.labels[chosen], splits=self.splits[chosen])

    def of_split(self, split: str) -> "Samples":
        """The files of one split."""
        return self.select(self.splits == split)

    def with_splits(self, splits: np.ndarray) -> "Samples":
        """The same files with other splits."""
        return replace(self, splits=np.asarray(splits, object))

    def counts(self) -> dict[str, int]:
        """The number of files of each class."""
        return {name: int((self.labels == k).sum()) for k, name in enumerate(self.classes)}

    def refuse_empty_classes(self) -> None:
        """Raise a UserError if a class has no file, as in a selection that left all of its files out."""
        empty = [name for name, count in self.counts().items() if not count]
        if empty or not self.classes:
            what = f"class '{empty[0]}' has no picture here" if empty else "there are no classes"
            raise UserError(
                f"{self.origin}: {what}. Expected pictures of every class: select some, or start without the class."
            )

    def describe(self) -> str:
        """The layout and the counts in one line: `class folders, 2,002 files: Cat 1,001, Dog 1,001`."""
        counts = self.counts()
        if len(counts) > _LISTED_CLASSES:
            listed = f": {len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,}"
        else:
            listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            listed = f": {listed}" if listed else ""
        parts = [f"{(self.splits == split).sum():,} {split}" for split in SPLITS if (self.splits == split).any()]
        return f"{self.layout}, {counted(len(self), 'file')}{listed}" + (f" ({', '.join(parts)})" if parts else "")


def fingerprint(sha256: Iterable[str], labels: Iterable[str], splits: Iterable[str]) -> str:
    """A hash of pictures by the SHA-256 of their files, by class and part, whatever they are called and in whatever order."""
    lines = sorted(" ".join(each) for each in zip(sha256, labels, splits, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def file_number(name: str) -> str:
    """The last whole number in a file's name, as it stands there; empty if there is none.

    >>> file_number("Dog/dog.113.jpg")
    '113'
    """
    found = re.findall(r"\d+", PurePosixPath(name).stem)
    return found[-1] if found else ""
