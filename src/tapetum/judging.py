"""After the training: calibrate, judge the parts that did not train, and write the predictions behind the figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.config import Settings
from tapetum.data.loader import ValidationLoader
from tapetum.data.samples import file_number
from tapetum.data.table import Table
from tapetum.evaluation import calibration, metrics
from tapetum.evaluation.metrics import Metrics
from tapetum.files import write_csv
from tapetum.inference.answers import BATCH, temper
from tapetum.inference.classifier import Classifier, features_of_all, probabilities_of_all
from tapetum.inference.familiarity import Familiar, Known, members_of
from tapetum.inference.predict import write_kaggle
from tapetum.looking.grids import prediction_grid
from tapetum.looking.sureness import coverage_curve, reliability_diagram
from tapetum.training.loop import Task

# How many pictures stand in the grid.
_GRID = 20
# So many pictures at most teach what is known, and as many calibrate it; fewer than the least calibrate nothing.
MOST_FEATURES, _LEAST_STRANGERS = 2000, 20


def learn_strangers(classifier: Classifier, tasks: list[Task], crossed: bool) -> list[np.ndarray]:
    """Teach the classifier what pictures of the known kind look like to it: by those that trained each network, calibrated by
    those that validated it.

    Where the validation pictures are too few to say anything, it learns nothing. `crossed`: each network has its own pictures.

    Returns:
        Untempered probabilities (N, K) of the validation pictures, which are computed but once, on the way: by the classifier,
        or, if crossed, for each network those that it gives to its own.
    """
    computing, how = classifier.computing(), (classifier.preprocessing, classifier.device)
    networks = members_of(computing) if crossed else [computing]
    known, strangeness, found = [], [], []
    for network, task in zip(networks, tasks, strict=crossed):  # members share their pictures
        training, validation = task.training, task.validation
        some, others = _some(len(training.rows)), _some(len(validation.rows))
        found_NK, unseen = features_of_all(network, validation, *how, others)
        found.append(found_NK)
        if len(others) < _LEAST_STRANGERS:
            continue
        squares = ValidationLoader(training.pictures, training.rows[some], classifier.preprocessing, BATCH, once=True)
        _, seen = features_of_all(network, squares, *how)
        its = [Known.of(each.flatten(0, 1), np.tile(training.labels[some], len(each))) for each in seen]
        strangeness.append(Familiar(tuple(its), np.zeros(0)).strangeness(unseen))
        known += its
    if len(strangeness) == len(networks):
        classifier.familiar = Familiar(tuple(known), np.sort(np.concatenate(strangeness)))
    return found


def _some(count: int) -> np.ndarray:
    """Some of `count` rows, drawn without order, where they are very many."""
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST_FEATURES])


def answers(classifier: Classifier, table: Table, validated: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Untempered probabilities (N, K) of every part that did not train, by its name.

    In cross-validation the training pictures are such a part, "folds": each is answered by the network that did not see it, in
    the order of `_by_fold`. `validated`: what `learn_strangers` returned.
    """
    found = {}
    if (table.fold_N >= 0).any():
        found["folds"] = np.concatenate(validated)
    elif len(validated[0]):
        found["val"] = validated[0]
    rows, _ = table.part("test")
    if len(rows):
        squares = ValidationLoader(table.pictures, rows, classifier.preprocessing, BATCH, once=True)
        found["test"] = probabilities_of_all(classifier.computing(), squares, classifier.preprocessing, classifier.device)
    return found


def calibrate(
    classifier: Classifier, table: Table, found_NK: np.ndarray | None, settings: Settings, say: Callable[[str], None]
) -> dict[str, float] | None:
    """Give the classifier the temperature that suits the validation pictures, and tell what it brings on others of them.

    One that does not lower the log-loss of others is chance, and is not taken.
    """
    rows, labels = table.part("val")
    faithful = settings.recipe != "auto" and settings.calibrate == "auto"
    if found_NK is None or settings.calibrate == "off" or faithful or len(rows) < calibration.LEAST:
        return None
    tempered_NK = calibration.cross_tempered(labels, found_NK)
    if metrics.log_loss(labels, tempered_NK) >= metrics.log_loss(labels, found_NK):
        say(f"probabilities left as they are: no temperature suits {len(rows):,} validation pictures better")
        return None
    classifier.temperature = calibration.fit_temperature(labels, found_NK)
    before, after = (metrics.calibration_error(labels, each) for each in (found_NK, tempered_NK))
    say(
        f"calibrated with temperature {classifier.temperature:.2f}: calibration error "
        f"{before * 100:.1f} % before, {after * 100:.1f} % after "
        f"(each fifth of {len(rows):,} validation pictures by the others)"
    )
    return {"temperature": classifier.temperature, "ece_before": before, "ece_after": after, "n": len(rows)}


def fold_accuracies(crossed_NK: np.ndarray, table: Table, say: Callable[[str], None]) -> dict[str, Any]:
    """The accuracy of each fold's network, and their mean."""
    _, labels, folds = _by_fold(table)
    right_N = crossed_NK.argmax(1) == labels
    accuracies = [float(right_N[folds == fold].mean()) for fold in np.unique(folds)]
    mean = metrics.mean_interval(np.array(accuracies), shares=True)
    say(
        f"{len(accuracies)} folds: {mean.value * 100:.1f} % on average "
        f"({mean.low * 100:.1f} to {mean.high * 100:.1f}, 95 % interval of the mean; "
        "the networks share pictures, so it is a little narrow)"
    )
    return {"accuracies": accuracies, "mean": mean.to_json()}


def _by_fold(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels and folds of the training pictures, fold after fold."""
    order = np.argsort(table.fold_N, kind="stable")
    order = order[table.fold_N[order] >= 0]
    return table.rows[order], table.samples.labels[order], table.fold_N[order]


def surest_half(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> dict[str, Any]:
    """The share of wrong answers among all pictures, and among the half of which the classifier is surest."""
    _, risk_N = calibration.coverage_risk(labels_N, probabilities_NK)
    wrong, half = ((metrics.wilson(round(risk_N[n - 1] * n), n)) for n in (len(risk_N), (len(risk_N) + 1) // 2))
    return {"wrong": wrong.to_json(), "wrong_of_half": half.to_json()}


def judge(
    classifier: Classifier, table: Table, answered: dict[str, np.ndarray], folder: Path | None, notes: bool
) -> tuple[dict[str, Metrics], dict[str, Any]]:
    """Metrics of every part of `answers`, and what `surest_half` tells of the last part.

    Writes predictions.csv, the pictures of the report, and the notes' CSV if asked for; nothing where there is no folder.
    """
    found: dict[str, Metrics] = {}
    lines: list[list[object]] = []
    fold_of = dict(zip(table.rows.tolist(), table.fold_N.tolist(), strict=True))
    for split, raw_NK in answered.items():
        rows, labels = _by_fold(table)[:2] if split == "folds" else table.part(split)
        found_NK = temper(raw_NK, classifier.temperature)  # of folds there is no temperature
        found[split] = metrics.evaluate(labels, found_NK, classifier.classes_)
        for row, label, p_K in zip(rows, labels, found_NK, strict=True):
            best = int(p_K.argmax())
            fold = fold_of[row] + 1 or ""  # counted from 1, as the networks are in the log
            head = [table.pictures.samples.names[row], split, fold, classifier.classes_[label], classifier.classes_[best]]
            lines.append([*head, float(p_K[best]), "yes" if best == label else "no", *map(float, p_K)])
    surest = surest_half(labels, found_NK)
    if folder is None:
        return found, surest
    # What is left of the loop is the last part, which is drawn: the test pictures if there are any, as in the notes.
    names = tuple(table.pictures.samples.names[row] for row in rows)
    if notes and len(classifier.classes_) == 2 and all(map(file_number, names)):
        write_kaggle(classifier.classes_, names, found_NK, folder / "kaggle.csv")
    some = np.random.default_rng(0).permutation(len(rows))[:_GRID]
    prediction_grid(
        [table.pictures[int(rows[i])] for i in some],
        [classifier.classes_[labels[i]] for i in some],
        [classifier.classes_[found_NK[i].argmax()] for i in some],
        [float(found_NK[i].max()) for i in some],
        folder / "grid.png",
    )
    reliability_diagram(labels, found_NK, folder / "reliability.png")
    coverage_curve(labels, found_NK, folder / "coverage.png")
    header = ["path", "split", "fold", "label", "predicted", "probability", "right"]
    write_csv(folder / "predictions.csv", [*header, *(f"p_{name}" for name in classifier.classes_)], lines)
    return found, surest
