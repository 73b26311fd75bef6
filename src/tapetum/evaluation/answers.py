"""What a run answered of the pictures that did not train it, read back from its predictions.csv."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapetum.errors import UserError
from tapetum.files import no_formula, unguarded


@dataclass(frozen=True)
class Answers:
    """The answers for one part of the data: N pictures, K classes."""

    names: tuple[str, ...]
    labels_N: np.ndarray
    """(N,) class numbers as given."""
    probabilities_NK: np.ndarray
    """(N, K), rows sum to 1."""
    network_N: np.ndarray
    """(N,) in cross-validation the network that answered, counted from 0: the one that did not see it. -1: all together."""


def read_answers(run: Path) -> tuple[tuple[str, ...], dict[str, Answers]]:
    """The classes, and the answers by part: "val", "test", or "folds" for the training pictures of a cross-validation.

    Raises:
        UserError: the run holds no predictions.csv, or another than a training wrote.
    """
    path = run / "predictions.csv"
    if not path.exists():
        raise UserError(f"{run} holds no predictions.csv: expected the folder of a finished run.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name for name in reader.fieldnames or [] if name.startswith("p_")]
            rows = list(reader)
        classes = tuple(name.removeprefix("p_") for name in columns)
        number = {no_formula(name): k for k, name in enumerate(classes)}
        parts: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            parts.setdefault(row["split"], []).append(row)
        return classes, {
            part: Answers(
                names=tuple(unguarded(row["path"]) for row in lines),
                labels_N=np.array([number[row["label"]] for row in lines], np.int64),
                probabilities_NK=np.array([[float(row[name]) for name in columns] for row in lines]),
                network_N=np.array([int(row.get("fold") or 0) - 1 for row in lines], np.int64),
            )
            for part, lines in parts.items()
        }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not what a training wrote ({type(error).__name__}: {error}): expected it unchanged. Train anew."
        ) from error
