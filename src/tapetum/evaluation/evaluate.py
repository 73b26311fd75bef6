"""Evaluation of a trained classifier on labelled pictures, with what it was trained on told apart."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.data.sources import find_samples
from tapetum.data.splits import numbers_range
from tapetum.errors import UserError, did_you_mean
from tapetum.evaluation import metrics
from tapetum.evaluation.metrics import Estimate, Metrics, wilson
from tapetum.evaluation.recorded import trained
from tapetum.evaluation.text import format_metrics
from tapetum.inference.answers import BATCH, NEITHER
from tapetum.inference.loading import load
from tapetum.inference.predict import Predictions, predict_together
from tapetum.talk import counted


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on labelled pictures."""

    metrics: Metrics | None
    """Of the pictures that count: those it was not trained on, or all where none or all of them were. None where no picture is
    of a class that it knows."""
    trained_on: Metrics | None
    """Of the pictures that were in its training, where only some were; their accuracy says little."""
    predictions: Predictions
    note: str
    """What a reader must know of the numbers; empty if nothing."""
    answered: Estimate | None = None
    """With `reject`, the share of the pictures that got an answer; the metrics are of these."""
    strangers: Estimate | None = None
    """With `reject`, the share of the pictures of no class that were called "neither"."""
    labels: tuple[str, ...] = ()
    """What the pictures of `predictions` are: a class, or "neither"."""

    def text(self) -> str:
        """The evaluation for a terminal."""
        lines = [f"answered {self.answered}; of these:"] if self.answered is not None else []
        lines.append(format_metrics(self.metrics) if self.metrics is not None else "No picture is of a class that it knows.")
        if self.strangers is not None:
            lines.append(f"Of the pictures of no class, called '{NEITHER}': {self.strangers}")
        if self.trained_on is not None:
            lines.append(f"On the pictures it was trained on: {self.trained_on.accuracy}")
        if self.note:
            lines.append(self.note)
        for name, reason in self.predictions.unreadable:
            lines.append(f"left out: {name}: {reason}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        return {
            "metrics": self.metrics.to_json() if self.metrics is not None else None,
            "trained_on": self.trained_on.to_json() if self.trained_on is not None else None,
            "note": self.note,
            "answered": self.answered.to_json() if self.answered is not None else None,
            "strangers": self.strangers.to_json() if self.strangers is not None else None,
            "unreadable": dict(self.predictions.unreadable),
        }


@dataclass(frozen=True)
class Judged:
    """A classifier's answers for labelled pictures."""

    labels: np.ndarray
    """(N,) class numbers of the classifier; -1 for a picture of no class."""
    predictions: Predictions
    seen: np.ndarray
    """(N,) which of the pictures it was trained on."""
    note: str
    """Which part of the data this is; empty where it has no parts."""


def evaluate(
    run: str | Path, data: str | Path, numbers: str = "all", batch: int = BATCH, on: str = "auto", reject: float = 0.0
) -> Evaluation:
    """Evaluate the classifier of `run` on the labelled pictures of `data`.

    Args:
        run: a run folder, or a model or ONNX file (which knows the pictures that it was trained on where the run's splits.csv
            lies beside it).
        data: any layout that training takes; one class of those that it knows is enough. Data with a test part are judged on
            it, else with a validation part on that.
        numbers: a range of file numbers such as "251-1000", or "all".
        batch: pictures computed at once.
        on: the device.
        reject: judge only what gets an answer where `predict` would say "neither" of this share of the known kind; a class
            "neither" of the data holds pictures that should get none.

    Raises:
        UserError: no such run or data, or a class that the classifier does not know.
    """
    found = judged_on(run, data, numbers, batch, on, reject)
    labels = tuple(found.predictions.classes[k] if k >= 0 else NEITHER for k in found.labels)
    if not reject:
        return dataclasses.replace(_judge(found.labels, found.predictions, found.seen, found.note), labels=labels)
    known, silent = found.labels >= 0, np.array([label == NEITHER for label in found.predictions.labels])
    strangers = wilson(int((~known & silent).sum()), int((~known).sum())) if not known.all() else None
    if not known.any():
        return Evaluation(None, None, found.predictions, found.note, strangers=strangers, labels=labels)
    fair = known & (~found.seen if not found.seen[known].all() else True)
    if not (fair & ~silent).any():
        raise UserError(
            f"reject {reject}: none of the {fair.sum():,} new pictures gets an answer, so there is nothing to judge. "
            "Expected a smaller share."
        )
    rows = np.flatnonzero(known & ~silent)
    judged = _judge(found.labels[rows], found.predictions.select(rows), found.seen[rows], found.note)
    return dataclasses.replace(
        judged,
        labels=labels,
        predictions=found.predictions,
        answered=wilson(int((fair & ~silent).sum()), int(fair.sum())),
        strangers=strangers,
    )


def judged_on(run: str | Path, data: str | Path, numbers: str, batch: int, on: str, reject: float = 0.0) -> Judged:
    """What `evaluate` judges; the same arguments and errors."""
    classifier = load(run, on)
    samples = find_samples(data, numbers_range(numbers, notes=False), least=1)
    note = ""
    for part in ("test", "val"):
        if (samples.splits == part).any():
            samples = samples.of_split(part)
            note = f"Judged on the {part} part of the data."
            break
    classifier.refuse_reject(reject)
    index = _class_index(samples.classes, classifier.classes_, strangers=reject > 0)
    predictions = predict_together(classifier, samples, batch, reject)
    if not predictions.names:
        raise UserError(f"no picture that can be read among {counted(len(samples), 'file')} of {samples.origin} to evaluate.")
    return Judged(index[samples.labels[predictions.rows]], predictions, _seen(Path(run), predictions), note)


def _judge(labels: np.ndarray, predictions: Predictions, seen: np.ndarray, note: str) -> Evaluation:
    def of(rows: np.ndarray) -> Metrics:
        return metrics.evaluate(labels[rows], predictions.probabilities_NK[rows], predictions.classes)

    if seen.all():
        warning = "All of these pictures were in its training: this accuracy says nothing about new ones."
        return Evaluation(of(seen), None, predictions, f"{note} {warning}".strip())
    if not seen.any():
        return Evaluation(of(~seen), None, predictions, note)
    told = (
        f"{seen.sum():,} of the {len(seen):,} pictures were in its training; the accuracy above is that of the other "
        f"{(~seen).sum():,}."
    )
    return Evaluation(of(~seen), of(seen), predictions, f"{note} {told}".strip())


def _class_index(names: tuple[str, ...], known: tuple[str, ...], strangers: bool) -> np.ndarray:
    """For each class of the data, its number in the classifier: the same name, or the same but for upper and lower case.

    `strangers`: the class "neither" has the number -1.
    """
    folded: dict[str, list[int]] = {}
    for k, name in enumerate(known):
        folded.setdefault(name.casefold(), []).append(k)
    numbers = []
    for name in names:
        alike = folded.get(name.casefold(), [])
        if name in known:
            numbers.append(known.index(name))
        elif len(alike) == 1:
            numbers.append(alike[0])
        elif strangers and name == NEITHER:
            numbers.append(-1)
        else:
            hint = " tapetum evaluate --reject tells it apart." if name == NEITHER else did_you_mean(name, known)
            raise UserError(
                f"class '{name}' of the data was not in the training, which knew {', '.join(known)}.{hint} Rename the class or "
                "leave it out."
            )
    return np.array(numbers, np.int64)


def _seen(run: Path, predictions: Predictions) -> np.ndarray:
    """Which of the predicted pictures the run was trained on, by the content of their files.

    A file knows by the table that lies beside it; one of another program there is none of its business.
    """
    folder = run if run.is_dir() else run.parent
    try:
        known = trained(folder) if (folder / "splits.csv").exists() else set()
    except UserError:
        if (folder / "settings.toml").exists():
            raise
        known = set()
    return np.array([digest in known for digest in predictions.sha256], bool)
