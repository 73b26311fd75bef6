"""All that a run folder tells, read back: the one ground of the report, right after the training and years later."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapetum.config import read_table
from tapetum.data.samples import SPLITS
from tapetum.errors import UserError
from tapetum.evaluation.recorded import Recorded, recorded
from tapetum.files import read_csv, unguarded
from tapetum.inference.classifier import Classifier, load
from tapetum.inference.cost import read_cost
from tapetum.inference.description import MODEL_FILE


@dataclass(frozen=True)
class Story:
    """A finished run. What an older version did not write is empty here."""

    folder: Path
    classifier: Classifier
    asked: dict[str, Any]
    """The settings as they were asked for."""
    decided: dict[str, Any]
    """The recipe: every "auto" decided."""
    origin: str
    """What the user named as the data."""
    why: str
    """What the recipe was chosen by."""
    history: list[dict[str, Any]]
    """One entry an epoch, of the first network where there are several."""
    pictures: list[tuple[str, str, str]]
    """Path, class and part of every picture that was used."""
    sha256: dict[str, str]
    """Of every such file, by path."""
    left_out: list[list[str]]
    """Path and reason of every file that gave no picture."""
    answers: dict[str, Recorded]
    """By part: "folds", "val", "test"; as far as there are any."""
    cost: dict[str, Any]

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures by class and part, in the order of the classifier's classes."""
        found = {name: dict.fromkeys(SPLITS, 0) for name in self.classifier.classes_}
        for _, label, part in self.pictures:
            found[label][part] += 1
        return found


def read_story(folder: Path, classifier: Classifier | None = None) -> Story:
    """Read a finished run; `classifier` saves loading it.

    Raises:
        UserError: no finished run is there, or one of its files is damaged.
    """
    if not (folder / MODEL_FILE).exists():
        raise UserError(f"{folder} holds no {MODEL_FILE}: expected the folder of a finished run, made by tapetum train.")
    classifier = load(folder, "cpu") if classifier is None else classifier
    settings = folder / "settings.toml"
    about = read_table(settings, "about")
    try:
        table = [[unguarded(cell) for cell in row] for row in _rows(folder / "splits.csv")]
        pictures = [(path, label, part) for path, label, part, _ in table]
        unknown = {label for _, label, _ in pictures} - set(classifier.classes_) | {part for *_, part in pictures} - set(SPLITS)
        if unknown:
            raise ValueError(f"'{min(unknown)}' is neither a class nor a part of this run")
        return Story(
            folder=folder,
            classifier=classifier,
            asked=read_table(settings, "asked"),
            decided=read_table(settings, "decided"),
            origin=str(about.get("data", "")),
            why=str(about.get("why", "")),
            history=_history(folder / "log.jsonl"),
            pictures=pictures,
            sha256={path: digest for path, _, _, digest in table},
            left_out=[[unguarded(path), reason] for path, reason in _rows(folder / "left_out.csv")],
            answers=recorded(folder) if (folder / "predictions.csv").exists() else {},
            cost=read_cost(folder),
        )
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{folder} holds a file that no training wrote ({error}): expected it unchanged. Train anew."
        ) from error


def _rows(path: Path) -> list[list[str]]:
    return read_csv(path) if path.exists() else []


def _history(path: Path) -> list[dict[str, Any]]:
    """The epochs of the first network that was kept: not those of others that only taught it, nor before it began again."""
    found: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        entry = json.loads(line)
        if not isinstance(entry, dict) or not isinstance(entry.get("epoch"), int):
            raise ValueError(f"{line[:50]!r} is no epoch")
        if "stage" not in entry and entry.get("member", 1) == 1:
            found = [*(found if found and found[-1]["epoch"] < entry["epoch"] else []), entry]
    return found
