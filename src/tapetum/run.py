"""The main job, from a folder of pictures to a run folder: find, read, split, choose, train, evaluate, write.

    runs/photos/
      model.safetensors   the classifier
      settings.toml       what was asked, and what "auto" decided and why
      log.jsonl           one line an epoch
      splits.csv          which picture was in which part, with its content hash
      left_out.csv        files that gave no picture, with the reason (only if there are any)
      predictions.csv     the predictions behind the metrics
      metrics.json        accuracy and the rest, with intervals
      kaggle.csv          the study notes' id,label of the test pictures (only with their split)
      grid.png            some of these predictions
      curves.png          the learning curves
      report.html         all of it on one page
      checkpoint/         the newest states, for --resume

The picture folder is only read.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tapetum
from tapetum import device, models
from tapetum.config import Recipe, Settings, decide, read_settings, read_table, settings_from, to_toml
from tapetum.data import splits
from tapetum.data.cache import Pictures, open_pictures
from tapetum.data.decode import BadPicture, decode
from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.prepare import Preprocessing
from tapetum.data.samples import SPLITS, Samples, file_number
from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError
from tapetum.evaluation import metrics
from tapetum.evaluation.metrics import Metrics
from tapetum.files import refuse_inside, write_csv, write_text
from tapetum.inference.classifier import MODEL_FILE, Classifier, probabilities
from tapetum.inference.predict import Predictions, write_kaggle
from tapetum.looking.grids import curves, prediction_grid
from tapetum.looking.report import write_report
from tapetum.training import checkpoint, estimate, loop, members, recipes, unlabelled

# Batches of validation pictures: of the size that prediction uses, so that both round alike.
_BATCH = 32
# How many pictures are looked at before a recipe is chosen, and how many stand in the grid.
_LOOK, _GRID = 32, 20
# Of a time budget, what is kept for evaluation and for writing the results.
_RESERVE_SECONDS, _RESERVE_SHARE = 3.0, 0.02


@dataclass(frozen=True)
class Run:
    """What a training left."""

    classifier: Classifier
    metrics: dict[str, Metrics]
    """Of the parts of the data that did not train: "val", and "test" if there is one."""
    folder: Path


@dataclass(frozen=True)
class _Table:
    """The readable pictures of the data and their parts."""

    pictures: Pictures
    rows: np.ndarray
    """(N,) where each readable picture stands in `pictures`."""
    samples: Samples
    """The same N pictures with label and split."""

    def part(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows and labels of one split."""
        chosen = self.samples.splits == split
        return self.rows[chosen], self.samples.labels[chosen]

    def fingerprint(self) -> str:
        """A hash of what was learnt from: contents, labels and parts, whatever the files are called."""
        lines = sorted(
            f"{self.pictures.hashes[row]} {self.samples.classes[label]} {split}"
            for row, label, split in zip(self.rows, self.samples.labels, self.samples.splits, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def say_to_stderr(line: str) -> None:
    """Talk for the person who waits: stderr, so that stdout holds only answers."""
    print(line, file=sys.stderr, flush=True)


def train(
    data: str | Path,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    settings: Settings | None = None,
    say: Callable[[str], None] = say_to_stderr,
    **options: Any,
) -> Run:
    """Train a classifier from labelled pictures and evaluate it on pictures that it did not train on.

    Args:
        data: a folder, a CSV or an archive; see `tapetum train --help` for the layouts.
        out: the run folder to write; by default a new one, `runs/NAME`.
        resume: go on from the newest checkpoint in `out`, with the settings of that run.
        overwrite: replace the run that is in `out`.
        settings: all settings at once, or
        **options: single ones by name, such as `minutes=5`, `model="lenet"` (see `tapetum.config.Settings`).
        say: takes the lines of talk; by default they go to stderr.

    Returns:
        The run: `.classifier`, `.metrics` and `.folder`.

    Raises:
        UserError: something in the data, the settings or the folder that the caller can mend.
        tapetum.training.signals.Interrupted: stopped by Ctrl-C; the state is saved.
    """
    begun = time.monotonic()
    folder = _run_folder(Path(data), out, resume, overwrite)
    if settings is None:
        before = read_settings(folder / "settings.toml") if resume else {}
        settings = settings_from({**before, **options}, "train()")
    devices = device.choose_each(settings.device)
    where = devices[0]
    samples = _find(data, settings, say)

    if resume:  # a budget's recipe depends on how fast the machine was then
        recipe, why = _recipe_of(folder, settings)
    else:
        recipe, why = recipes.choose(settings, _look(samples, settings, where))
        say(why)
    preprocessing = recipes.preprocessing(recipe)
    network = _fresh(settings, recipe, len(samples.classes), devices, say)  # refuses what cannot be, before all is read

    table = _read(samples, preprocessing.reduce, settings, say)
    if not resume:
        _write_beginning(folder, samples, table, settings, recipe, why)
    task = _task(table, recipe, preprocessing, settings, where, folder)
    _say_estimate(network, task, settings, say)
    if settings.minutes != "auto":
        budget = settings.minutes * 60
        left = budget * (1 - _RESERVE_SHARE) - _RESERVE_SECONDS - (time.monotonic() - begun)
        task = dataclasses.replace(task, deadline=left)

    def make(seed: int) -> torch.nn.Module:
        return _fresh(dataclasses.replace(settings, seed=seed), recipe, len(samples.classes), devices, _silent)

    with (folder / "log.jsonl").open("w", encoding="utf-8") as log:

        def write(entry: dict[str, Any]) -> None:
            print(json.dumps(entry), file=log, flush=True)

        if settings.unlabelled:
            task = _add_unlabelled(task, make, settings, table, resume, say, write)
        network, told = members.fit(task, make, settings.members, resume, say, write)
    progress, seconds = told[0], sum(each.seconds for each in told)
    if any(each.epoch == 0 for each in told):
        raise UserError(f"minutes {settings.minutes} ended before the first training step: expected a longer budget.")

    classifier = Classifier(network.eval(), recipe.model, samples.classes, preprocessing, device=where)
    found = _evaluate(classifier, table, folder, notes=settings.split == "notes")
    counts = {split: len(table.part(split)[0]) for split in SPLITS}
    classifier.about = {
        "metrics": {split: result.to_json() for split, result in found.items()},
        "data": {"fingerprint": table.fingerprint(), "counts": counts},
        "settings": {"asked": dataclasses.asdict(settings), "decided": dataclasses.asdict(recipe), "why": why},
        "training": {
            "epochs": progress.epoch,
            "kept": recipe.keep,
            "best_epoch": progress.best_epoch,
            "members": len(told),
            "restarts": sum(each.restarts for each in told),
        },
        "versions": {"tapetum": tapetum.__version__, "torch": torch.__version__},
    }
    classifier.save(folder / MODEL_FILE)
    write_text(folder / "metrics.json", json.dumps(classifier.about["metrics"], indent=2, ensure_ascii=False) + "\n")
    curves(progress.history, folder / "curves.png")
    write_report(folder, classifier, found, seconds, recipe, len(table.pictures.reasons))
    say(f"trained in {duration(seconds)}, all done in {duration(time.monotonic() - begun)}; written to {folder}")
    return Run(classifier, found, folder)


def _silent(line: str) -> None:
    """Say nothing."""


def _fresh(
    settings: Settings, recipe: Recipe, num_classes: int, devices: list[torch.device], say: Callable[[str], None]
) -> torch.nn.Module:
    """An untrained network on its device, a function of the seed; with given weights, if they are asked for."""
    torch.manual_seed(settings.seed)
    network = models.build(recipe.model, num_classes, recipe.size)
    if settings.weights:
        say(models.take_weights(network, recipe.model, settings.weights))
    return models.place(network.to(memory_format=torch.channels_last), recipe.model, devices)


def _find(data: str | Path, settings: Settings, say: Callable[[str], None]) -> Samples:
    numbers = splits.numbers_range(settings.numbers, settings.split == "notes")
    try:
        samples = find_samples(data, numbers)
    except UserError:
        # By itself the notes' split takes the book's photos; data without such numbers are taken whole.
        if settings.numbers != "auto" or numbers is None:
            raise
        samples, numbers = find_samples(data), None
    say(f"{data}: {samples.describe()}")
    if numbers is not None and settings.numbers == "auto":
        say(f"the book's photos, numbers {numbers[0]} to {numbers[1]} (--numbers all would take every file)")
    return samples


def _run_folder(data: Path, out: str | Path | None, resume: bool, overwrite: bool) -> Path:
    """The folder to write: the one asked for, or a new one of the data's name under `runs`."""
    if out is None:
        name = data.resolve().name.split(".")[0] or "run"
        folder = Path("runs") / name
        number = 2
        while folder.exists() and not (resume or overwrite):
            folder, number = Path("runs") / f"{name}-{number}", number + 1
    else:
        folder = Path(out)
    refuse_inside(folder, data, "run folder")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write the run to. Choose another --out.")
    if resume:
        checkpoint.refuse_missing(folder)
    content = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if content and not content & {"settings.toml", MODEL_FILE}:
        raise UserError(f"{folder} holds files of another kind: a run needs a folder of its own. Choose another --out.")
    if content and not (resume or overwrite):
        raise UserError(
            f"{folder} holds a run already. Use --resume to go on with it, --overwrite to replace it, or another --out."
        )
    if overwrite and not resume:
        for old in folder.glob("checkpoint*"):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _recipe_of(folder: Path, settings: Settings) -> tuple[Recipe, str]:
    """The recipe that a run began with, but for what is asked otherwise now, and its reasons."""
    decided, about = (read_table(folder / "settings.toml", title) for title in ("decided", "about"))
    try:
        return decide(settings, decided), about["why"]
    except KeyError as error:
        raise UserError(
            f"{folder} cannot be resumed: its settings lack {error}. It is an older version's; train anew."
        ) from error


def _look(samples: Samples, settings: Settings, where: torch.device) -> recipes.Facts:
    """What a recipe is chosen by: how many pictures train, the size and colour of some of them, and with a budget the speed."""
    sides, grey = [], True
    for i in np.unique(np.linspace(0, len(samples) - 1, _LOOK).astype(int)):
        try:
            picture = decode(samples.read(int(i)))
        except (OSError, BadPicture):
            continue  # it is listed when all are read
        sides.append(min(picture.shape[:2]))
        grey = grey and bool((picture == picture[:, :, :1]).all())
    if settings.split == "notes":
        count = splits.notes_counts(len(samples))[0]
    elif (samples.splits == "train").any():
        count = int((samples.splits == "train").sum())
    else:
        count = round(len(samples) * (1 - settings.val - settings.test))
    counts = [count for count in samples.counts().values() if count]
    speed = None
    if settings.minutes != "auto":
        speed = estimate.pictures_per_second(where, _mixed(settings, where))
    side = int(np.median(sides)) if sides else 1
    return recipes.Facts(count, len(samples.classes), side, grey, max(counts) / min(counts), speed)


def _read(samples: Samples, reduce_to: int, settings: Settings, say: Callable[[str], None]) -> _Table:
    """Decode everything, leave out and list what gives no picture, and split the rest."""
    begun = time.monotonic()
    pictures = open_pictures(samples, reduce_to, settings.cache == "on")
    kept = "decoded anew each time" if pictures.cached is None else "kept decoded for the next time"
    say(f"read {len(samples):,} files in {time.monotonic() - begun:.1f} s, {kept}")
    bad = pictures.reasons
    if bad:
        say(f"left out {len(bad):,} of {len(samples):,} files:")
        for i in list(bad)[:10]:
            say(f"  {samples.names[i]}: {bad[i]}")
        if len(bad) > 10:
            say(f"  and {len(bad) - 10:,} more, all in left_out.csv")
    rows = np.array([i for i in range(len(samples)) if i not in bad], np.int64)
    readable = samples.select(rows)
    for name, count in readable.counts().items():
        if count == 0:
            example = next(i for i in bad if samples.classes[samples.labels[i]] == name)
            raise UserError(
                f"class '{name}' has no readable picture ({samples.names[example]}: {bad[example]}): expected two or more. "
                "Replace its files or remove the class."
            )
    if settings.split == "notes":
        readable = splits.notes_split(readable)
    else:
        readable = splits.split(readable, settings.val, settings.test, settings.seed)
    table = _Table(pictures, rows, readable)
    say("split: " + ", ".join(f"{len(table.part(s)[0]):,} {s}" for s in SPLITS if len(table.part(s)[0])))
    return table


def _write_beginning(folder: Path, samples: Samples, table: _Table, settings: Settings, recipe: Recipe, why: str) -> None:
    versions = {"tapetum": tapetum.__version__, "torch": torch.__version__, "data": str(samples.origin), "why": why}
    tables = {"asked": dataclasses.asdict(settings), "decided": dataclasses.asdict(recipe), "about": versions}
    head = f"# A run of tapetum {tapetum.__version__}. To repeat it: tapetum train DATA --settings THIS_FILE\n\n"
    write_text(folder / "settings.toml", head + to_toml(tables))
    readable = table.samples
    write_csv(
        folder / "splits.csv",
        ["path", "label", "split", "sha256"],
        (
            (name, readable.classes[label], split, table.pictures.hashes[row])
            for name, label, split, row in zip(readable.names, readable.labels, readable.splits, table.rows, strict=True)
        ),
    )
    if table.pictures.reasons:
        reasons = table.pictures.reasons
        write_csv(folder / "left_out.csv", ["path", "reason"], ((samples.names[i], reasons[i]) for i in reasons))


def _task(
    table: _Table, recipe: Recipe, preprocessing: Preprocessing, settings: Settings, where: torch.device, folder: Path
) -> loop.Task:
    rows, labels = table.part("train")
    val_rows, val_labels = table.part("val")
    classes = len(table.samples.classes)
    return loop.Task(
        training=TrainingLoader(table.pictures, rows, labels, classes, recipe, preprocessing, settings.seed, where),
        validation=ValidationLoader(table.pictures, val_rows, preprocessing, _BATCH),
        validation_labels=val_labels,
        recipe=recipe,
        seed=settings.seed,
        device=where,
        mixed=_mixed(settings, where),
        folder=folder / "checkpoint",
        identity={
            **dataclasses.asdict(recipe),
            "seed": settings.seed,
            "weights": settings.weights,
            "unlabelled": settings.unlabelled,
            "data": table.fingerprint(),
        },
        rubbish=models.entry(recipe.model).rubbish,
    )


def _add_unlabelled(
    task: loop.Task,
    make: Callable[[int], torch.nn.Module],
    settings: Settings,
    table: _Table,
    resume: bool,
    say: Callable[[str], None],
    log: Callable[[dict[str, Any]], None],
) -> loop.Task:
    """Train a first network, in two fifths of the time, and let it guess the labels of the unlabelled pictures."""
    pictures = open_pictures(find_pictures(settings.unlabelled), task.training.preprocessing.reduce, settings.cache == "on")
    known = {table.pictures.hashes[row] for row in table.rows}
    rows = np.array(
        [i for i in range(len(pictures)) if i not in pictures.reasons and pictures.hashes[i] not in known], np.int64
    )
    out = len(pictures) - len(rows)
    say(f"{settings.unlabelled}: {len(rows):,} unlabelled pictures ({out:,} left out: unreadable, or among the labelled)")
    if not len(rows):
        return task
    folder = task.folder.with_name("checkpoint-first")
    first = dataclasses.replace(task, folder=folder, deadline=0.4 * task.deadline, keep_end=True)
    teacher = make(task.seed)
    again = resume and checkpoint.exists(folder)
    progress = loop.fit(first, teacher, again, say, lambda entry: log({"stage": "first", **entry}))
    say("its guesses stand for the labels of the unlabelled pictures now")
    task = unlabelled.with_guesses(task, teacher, pictures, rows)
    return dataclasses.replace(task, deadline=task.deadline - progress.seconds)


def _mixed(settings: Settings, where: torch.device) -> bool:
    """Whether to compute in half precision; the notes' and the papers' trainings do so only if it is asked for."""
    faithful = settings.recipe != "auto" and settings.precision == "auto"
    return device.mixed_precision(where, "float32" if faithful else settings.precision)


def _say_estimate(network: torch.nn.Module, task: loop.Task, settings: Settings, say: Callable[[str], None]) -> None:
    recipe, steps = task.recipe, len(task.training)
    seconds = estimate.seconds_per_step(network, recipe, task.training.num_classes, task.device, task.mixed)
    seconds *= steps * recipe.epochs * settings.members
    gigabytes = estimate.memory_bytes(network, recipe) / 1e9
    parameters = sum(p.numel() for p in network.parameters())
    budget = f", within {settings.minutes:g} minutes" if settings.minutes != "auto" else ""
    say(
        f"{recipe.model} ({parameters:,} parameters) on {device.describe(task.device)}: {recipe.epochs} epochs of {steps} "
        f"steps, about {duration(seconds)} and {gigabytes:.1f} GB of memory{budget}"
    )


def _evaluate(classifier: Classifier, table: _Table, folder: Path, notes: bool) -> dict[str, Metrics]:
    """Metrics of every part that did not train, predictions.csv, the grid of some of them, and the notes' CSV if asked for."""
    found: dict[str, Metrics] = {}
    lines: list[list[object]] = []
    for split in ("val", "test"):
        rows, labels = table.part(split)
        if not len(rows):
            continue
        squares = ValidationLoader(table.pictures, rows, classifier.preprocessing, _BATCH)
        found_NK = probabilities(classifier.network, squares, classifier.preprocessing, classifier.device)
        found[split] = metrics.evaluate(labels, found_NK, classifier.classes_)
        for row, label, p_K in zip(rows, labels, found_NK, strict=True):
            best = int(p_K.argmax())
            head = [table.pictures.samples.names[row], split, classifier.classes_[label], classifier.classes_[best]]
            lines.append([*head, float(p_K[best]), "yes" if best == label else "no", *map(float, p_K)])
        # The last part wins: the test pictures if there are any, as in the notes.
        names = tuple(table.pictures.samples.names[row] for row in rows)
        if notes and len(classifier.classes_) == 2 and all(map(file_number, names)):
            write_kaggle(Predictions(classifier.classes_, names, rows, found_NK, (), ()), folder / "kaggle.csv")
        some = np.random.default_rng(0).permutation(len(rows))[:_GRID]
        prediction_grid(
            [table.pictures[int(rows[i])] for i in some],
            [classifier.classes_[labels[i]] for i in some],
            [classifier.classes_[found_NK[i].argmax()] for i in some],
            [float(found_NK[i].max()) for i in some],
            folder / "grid.png",
        )
    header = [
        "path",
        "split",
        "label",
        "predicted",
        "probability",
        "right",
        *(f"p_{name}" for name in classifier.classes_),
    ]
    write_csv(folder / "predictions.csv", header, lines)
    return found


def duration(seconds: float) -> str:
    """Time in words: "8 s", "2 min 5 s", "1 h 10 min".

    >>> duration(125)
    '2 min 5 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
