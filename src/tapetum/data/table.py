"""All pictures of a training: read once, what gives none listed and left out, the rest split into parts."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tapetum import processes
from tapetum.config import Settings
from tapetum.data import splits
from tapetum.data.cache import Pictures, open_pictures
from tapetum.data.samples import SPLITS, Samples, fingerprint
from tapetum.errors import UserError
from tapetum.talk import counted


@dataclass(frozen=True)
class Table:
    """The readable pictures of the data and their parts."""

    pictures: Pictures
    rows: np.ndarray
    """(N,) where each readable picture stands in `pictures`."""
    samples: Samples
    """The same N pictures with label and split."""
    fold_N: np.ndarray
    """(N,) the fold of each training picture, in cross-validation; -1 elsewhere."""

    def part(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows and labels of one split."""
        chosen = self.samples.splits == split
        return self.rows[chosen], self.samples.labels[chosen]

    def fingerprint(self) -> str:
        """A hash of what was learnt from: contents, labels and parts, whatever the files are called."""
        hashes = (self.pictures.hashes[row] for row in self.rows)
        return fingerprint(hashes, (self.samples.classes[label] for label in self.samples.labels), self.samples.splits)


def read_all(samples: Samples, reduce_to: int, settings: Settings, say: Callable[[str], None], in_folds: bool = True) -> Table:
    """Decode everything, leave out and list what gives no picture, and split the rest."""
    begun = time.monotonic()
    with processes.in_turn():
        pictures = open_pictures(samples, reduce_to, settings.cache == "on")
    kept = "decoded anew each time" if pictures.cached is None else "kept decoded for the next time"
    say(f"read {counted(len(samples), 'file')} in {time.monotonic() - begun:.1f} s, {kept}")
    bad = pictures.reasons
    if bad:
        say(f"left out {len(bad):,} of {len(samples):,} files:")
        for i in list(bad)[:10]:
            say(f"  {samples.names[i]}: {bad[i]}")
        if len(bad) > 10:
            say(f"  and {len(bad) - 10:,} more, all in left_out.csv")
    rows = pictures.readable
    readable = samples.select(rows)
    for name, count in readable.counts().items():
        if count == 0:
            example = next(i for i in bad if samples.classes[samples.labels[i]] == name)
            raise UserError(
                f"class '{name}' has no readable picture ({samples.names[example]}: {bad[example]}): expected two or more. "
                "Replace its files or remove the class."
            )
    if len(bad) / len(samples) > settings.unreadable:  # the other way round 29 of 100 would be more than 0.29
        raise UserError(
            f"{len(bad):,} of {len(samples):,} files give no picture ({len(bad) / len(samples):.0%}): expected at most "
            f"{settings.unreadable:.0%}. Look with `tapetum check`, mend them, or raise --unreadable."
        )
    fold_N = np.full(len(readable), -1)
    if settings.split == "notes":
        readable = splits.notes_split(readable)
    else:
        twins = pictures.duplicates(rows)
        if again := sum(len(group) - 1 for group in twins.groups()):
            stand = "1 picture stands" if again == 1 else f"{again:,} pictures stand"
            say(f"{stand} there more than once; the split keeps them together (tapetum check names them)")
        if alike := np.count_nonzero(twins.alike):
            say(
                f"{alike:,} pictures show one scene, as of a fixed camera: of these only equal pixels count as the same picture"
            )
        if settings.folds > 1:
            readable = splits.without_validation(readable, settings.test, settings.seed, twins.group)
            trains = readable.splits == "train"
            if in_folds:
                fold_N[trains] = splits.folds(readable.of_split("train"), settings.folds, settings.seed, twins.group[trains])
        else:
            readable = splits.split(readable, settings.val, settings.test, settings.seed, twins.group)
    _refuse_untrained(readable)
    table = Table(pictures, rows, readable, fold_N)
    say("split: " + ", ".join(f"{len(table.part(s)[0]):,} {s}" for s in SPLITS if len(table.part(s)[0])))
    return table


def _refuse_untrained(samples: Samples) -> None:
    """Raise a UserError if a class has no picture to train on: all of its figures would be of guesses."""
    trained = samples.of_split("train").counts()
    missing = [name for name, count in trained.items() if not count]
    if len(missing) == len(trained):
        raise UserError(f"none of the {len(samples):,} pictures is for training: expected some. Give them the split 'train'.")
    if missing:
        judged = samples.counts()[missing[0]]
        raise UserError(
            f"class '{missing[0]}' has no picture to train on: its {counted(judged, 'picture')} validate, test, or are the "
            "same as such ones. Expected one or more; add some, or leave the class out."
        )
