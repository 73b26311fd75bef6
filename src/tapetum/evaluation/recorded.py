"""What a run has written of its pictures: the predictions behind its metrics, which picture trained, and where they lie."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapetum.config import read_table
from tapetum.data.addresses import url_of
from tapetum.data.samples import Samples
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.files import as_written, no_formula, unguarded
from tapetum.talk import counted


@dataclass(frozen=True)
class Recorded:
    """The predictions that a training wrote of one part of its pictures: N pictures, K classes."""

    names: tuple[str, ...]
    """As the data know them."""
    classes: tuple[str, ...]
    labels_N: np.ndarray
    """(N,) int64 class numbers, as given."""
    probabilities_NK: np.ndarray
    """(N, K), rows sum to 1."""
    network_N: np.ndarray
    """(N,) in cross-validation the network that answered, counted from 0: the one that did not see it. -1: all together."""


def recorded(run: Path) -> dict[str, Recorded]:
    """A run's predictions.csv by part: "val", "test", or "folds" for the training pictures of a cross-validation.

    Raises:
        UserError: there is no such file, or it is not what a training wrote.
    """
    rows, columns = _read(run / "predictions.csv", "path", "split", "label")
    try:
        classes = tuple(name.removeprefix("p_") for name in columns if name.startswith("p_"))
        number = {no_formula(name): k for k, name in enumerate(classes)}
        parts: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            parts.setdefault(row["split"], []).append(row)
        return {
            part: Recorded(
                names=tuple(unguarded(row["path"]) for row in lines),
                classes=classes,
                labels_N=np.array([number[row["label"]] for row in lines], np.int64),
                probabilities_NK=np.array([[float(row[f"p_{name}"]) for name in classes] for row in lines]),
                network_N=np.array([int(row.get("fold") or 0) - 1 for row in lines], np.int64),
            )
            for part, lines in parts.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(run / "predictions.csv", error) from error


def contents(run: Path) -> dict[str, tuple[str, str]]:
    """Part and SHA-256 of every picture of a run, by its name (splits.csv).

    Raises:
        UserError: there is no such file, or it is not what a training wrote.
    """
    rows, _ = _read(run / "splits.csv", "path", "split", "sha256")
    return {unguarded(row["path"]): (row["split"], row["sha256"]) for row in rows}


def trained(run: Path) -> set[str]:
    """The SHA-256 of every picture that trained, with a label (splits.csv) or without one (unlabelled.csv).

    Raises:
        UserError: splits.csv is not there, or one of them is not what a training wrote.
    """
    labelled = {digest for part, digest in contents(run).values() if part == "train"}
    rows = _read(run / "unlabelled.csv", "path", "sha256")[0] if (run / "unlabelled.csv").exists() else []
    return labelled | {row["sha256"] for row in rows}


def where_pictures(run: Path, data: Path | None = None) -> Path:
    """Where the run's pictures are: `data` if it is given, else where they were at the training.

    Raises:
        UserError: the run does not say.
    """
    if data is not None:
        return data
    about = read_table(run / "settings.toml", "about")
    if not isinstance(about, dict) or not isinstance(about.get("data"), str):
        raise UserError(f"{run / 'settings.toml'} does not say where the pictures are: expected --data FOLDER.")
    return Path(about["data"])


def refuse_unasked(run: Path, place: Path, data: Path | None) -> None:
    """Nothing is fetched from an address that the user has not named in this very command, as `data`.

    Raises:
        UserError: the pictures are at such an address.
    """
    if data is None and (url := url_of(place)):
        raise UserError(f"the pictures of {run} are at {url}, and nothing is fetched unasked: expected --data {url}.")


def find_run_pictures(run: Path, place: Path, names: Sequence[str]) -> Samples:
    """The files called `names`, as a run's tables have them, in that order, of the run's pictures at `place`."""
    if not url_of(place) and not place.exists():
        raise UserError(f"the pictures of {run} are not at {place}: expected them there. Say where they are now with --data.")
    samples = find_samples(place)
    row = {as_written(name): i for i, name in enumerate(samples.names)}
    missing = [name for name in names if name not in row]
    if missing:
        raise UserError(
            f"{place} lacks {len(missing):,} of {len(names):,} pictures of {run} ({missing[0]}): expected all of them. Put "
            "them back, or say where they are with --data."
        )
    return samples.select(np.array([row[name] for name in names], np.int64))


def refuse_changed(run: Path, samples: Samples) -> None:
    """Raise a UserError if the files of `samples` are not those of the run, byte for byte."""
    known = contents(run)
    changed = []
    for i, name in enumerate(map(as_written, samples.names)):
        try:
            digest = hashlib.sha256(samples.read(i)).hexdigest()
        except OSError:
            digest = "cannot be read"
        if known.get(name, ("", ""))[1] != digest:
            changed.append(name)
    if changed:
        raise UserError(
            f"{counted(len(changed), 'picture')} of {run} changed since its training ({changed[0]}): expected the same files. "
            "Put them back, or say where they are with --data."
        )


def _read(path: Path, *needed: str) -> tuple[list[dict[str, str]], list[str]]:
    """The rows and the names of the columns, among them the needed ones."""
    if not path.exists():
        raise UserError(f"{path.parent} holds no {path.name}: expected the folder of a finished run.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
        if missing := [name for name in needed if name not in columns]:
            raise ValueError(f"no column '{missing[0]}'")
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row of another length")
        return rows, columns
    except (OSError, ValueError, csv.Error) as error:
        raise _strange(path, error) from error


def _strange(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not what a training wrote ({type(error).__name__}: {error}): expected it unchanged. Train anew."
    )
