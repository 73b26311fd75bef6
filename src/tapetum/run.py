"""The main job, from a folder of pictures to a run folder: find, read, split, choose, train, evaluate, write.

    runs/photos/
      model.safetensors   the classifier
      settings.toml       what was asked, and what "auto" decided and why
      log.jsonl           one line an epoch
      tensorboard/        the same for TensorBoard (only with --tensorboard on)
      splits.csv          which picture was in which part, with its content hash
      unlabelled.csv      the pictures without labels that trained (only with --unlabelled)
      left_out.csv        files that gave no picture, with the reason (only if there are any)
      predictions.csv     the predictions behind the metrics
      metrics.json        accuracy and the rest, with intervals
      kaggle.csv          the study notes' id,label of the test pictures (only with their split)
      grid.png            some of these predictions
      curves.png          the learning curves
      reliability.png     how often answers of each sureness are right
      coverage.png        how many are wrong, were only the surest given
      cost.json           seconds, memory, pictures a second
      report.html         all of it on one page
      checkpoint/         the newest states, for --resume

The picture folder is only read.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tapetum
from tapetum import device, judging, models, processes
from tapetum.config import Recipe, Settings, read_settings, settings_from
from tapetum.data import splits
from tapetum.data.cache import open_pictures
from tapetum.data.check import Check, find_serious
from tapetum.data.check import check as check_pictures
from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.samples import SPLITS, Samples, fingerprint
from tapetum.data.sources import find_pictures, find_samples
from tapetum.data.table import Table, read_all
from tapetum.errors import UserError
from tapetum.evaluation.metrics import Metrics
from tapetum.files import write_csv, write_text
from tapetum.inference import cost
from tapetum.inference.answers import BATCH
from tapetum.inference.classifier import Classifier
from tapetum.inference.description import MODEL_FILE
from tapetum.looking.grids import curves
from tapetum.looking.report import write_report
from tapetum.runfolder import as_many_threads, begin, recipe_of, refuse_changes, write_asked, write_beginning
from tapetum.talk import counted, duration, say_nothing, say_to_stderr
from tapetum.training import checkpoint, estimate, fresh, loop, members, recipes, team, turning, unlabelled
from tapetum.training.checkpoint import Progress
from tapetum.training.record import Record, refuse_without_tensorboard

# A training of fewer steps is not worth measuring more than one beforehand.
_MANY_STEPS = 300
# Of a time budget, what is kept for writing the results, and for what nobody foresees.
_RESERVE_SECONDS, _RESERVE_SHARE = 4.0, 0.02
# Where others use the processor too, results take longer; more than so many times as long is not believed.
_BUSIEST = 3.0


@dataclass(frozen=True)
class Run:
    """What a training left."""

    classifier: Classifier
    metrics: dict[str, Metrics]
    """Of the parts of the data that did not train: "val", and "test" if there is one."""
    folder: Path

    def __repr__(self) -> str:
        """Short: the dataclass's own would tell the whole network."""
        part = next((each for each in ("test", "folds", "val") if each in self.metrics), None)
        told = "" if part is None else f", accuracy {self.metrics[part].accuracy.value * 100:.1f} %"
        return f"Run({self.folder}{told})"


def train(
    data: str | Path | Samples,
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
        data: a folder, a CSV, an archive or shards, or their address; see `tapetum train --help` for the layouts. Or a table of
            pictures, perhaps with parts of its own, such as a selection from `tapetum.data.sources.find_samples`.
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
    with processes.joined(), contextlib.ExitStack() as held:
        place = Path(data.origin) if isinstance(data, Samples) else Path(data)
        folder, resume = begin(place, out, resume, overwrite, held)
        if settings is None:
            before = processes.told(read_settings(folder / "settings.toml") if resume and processes.first() else {})
            settings = settings_from({**before, **options}, "train()")
        held.enter_context(as_many_threads(folder) if resume else contextlib.nullcontext())
        job = _prepare(data, folder, resume, settings, say if processes.first() else say_nothing, begun)
        log = Record(folder, settings.tensorboard == "on") if processes.first() else None
        held.enter_context(contextlib.closing(log) if log else contextlib.nullcontext())
        return _train(job, log or say_nothing, begun)


@dataclass(frozen=True)
class _Job:
    """A training for which all is chosen and read, and the beginning of its folder written."""

    folder: Path
    resume: bool
    settings: Settings
    say: Callable[[str], None]
    devices: list[torch.device]
    samples: Samples
    """All that was found; `table` has what can be read."""
    table: Table
    recipe: Recipe
    why: str
    task: loop.Task
    heap: Samples | None
    """The unlabelled pictures, if there are any."""
    built: dict[int, torch.nn.Module]
    """The network of the first seed, which need not be made twice."""

    def network(self, seed: int) -> torch.nn.Module:
        """An untrained network of its own for whoever asks."""
        if seed in self.built:
            return self.built.pop(seed)
        settings = dataclasses.replace(self.settings, seed=seed)
        return fresh.network(settings, self.recipe, len(self.samples.classes), self.devices)


def _prepare(
    data: str | Path | Samples, folder: Path, resume: bool, settings: Settings, say: Callable[[str], None], begun: float
) -> _Job:
    """Find, choose, read, and say what it will take."""
    if settings.tensorboard == "on":
        refuse_without_tensorboard()
    devices = device.choose_each(settings.device)
    if processes.count() > 1 and len(devices) > 1:
        raise UserError(f"device {settings.device} with {processes.count()} processes: expected one device for each of them.")
    samples = data if isinstance(data, Samples) else _find(data, settings, say)
    samples.refuse_empty_classes()
    heap = find_pictures(settings.unlabelled) if settings.unlabelled else None
    recipe, why = _recipe(folder, resume, settings, samples, devices[0])
    if not resume:
        say(why)
    network = fresh.network(settings, recipe, len(samples.classes), devices, say)  # refuses what cannot be, before all is read

    table = read_all(samples, recipes.preprocessing(recipe).reduce, settings, say)
    processes.refuse_difference("the pictures", table.fingerprint())
    if resume and processes.first():
        refuse_changes(folder, table)
    elif processes.first():
        write_beginning(folder, samples, table, settings, recipe, why)
        if table.pictures.cached is not None:  # or all would be decoded once more
            for finding in find_serious(samples, table.pictures):
                say(f"serious: {finding.title} (tapetum check shows them)")
    task = _task(table, recipe, settings, devices[0], folder)
    clock, computed = time.monotonic(), time.thread_time()
    answer = _say_estimate(network, task, heap, settings, say)
    busy = (time.monotonic() - clock) / max(1e-3, time.thread_time() - computed)
    if settings.minutes != "auto":
        given = settings.minutes * 60 * (1 - _RESERVE_SHARE) - (time.monotonic() - begun)
        # The results: of pictures that validate, test, and show what is known (judging.py), and the page.
        answers = len(table.samples) - len(task.training.rows) + min(judging.MOST_FEATURES, len(task.training.rows))
        results = answers * answer + _RESERVE_SECONDS * min(_BUSIEST, max(1.0, busy))
        task = dataclasses.replace(task, deadline=max(given - results, given / 2))
    return _Job(folder, resume, settings, say, devices, samples, table, recipe, why, task, heap, {settings.seed: network})


def _train(job: _Job, log: Callable[[dict[str, Any]], None], begun: float) -> Run:
    """Fit, judge, write."""
    settings, recipe, table, folder, say = job.settings, job.recipe, job.table, job.folder, job.say
    network, tasks, told, seconds = _fit(job, log)
    classes, where = job.samples.classes, job.devices[0]
    classifier = Classifier(network, recipe.model, classes, recipes.preprocessing(recipe), device=where, fast=job.task.fast)
    validated = judging.learn_strangers(classifier, tasks, crossed=settings.folds > 1)
    answered = judging.answers(classifier, table, validated)
    calibrated = judging.calibrate(classifier, table, answered.get("val"), settings, say)
    found, surest = judging.judge(classifier, table, answered, folder if processes.first() else None, settings.split == "notes")
    counts = {split: len(table.part(split)[0]) for split in SPLITS}
    distilled = settings.distill == "on"
    progress = told[-1 if distilled else 0]
    classifier.about = {
        "metrics": {split: result.to_json() for split, result in found.items()},
        "data": {"fingerprint": table.fingerprint(), "counts": counts},
        "settings": {"asked": dataclasses.asdict(settings), "decided": dataclasses.asdict(recipe), "why": job.why},
        "training": {
            "epochs": progress.epoch,
            "kept": recipe.keep,
            "best_epoch": progress.best_epoch,
            "members": 1 if distilled else len(told),
            "teachers": settings.members if distilled else 0,
            "restarts": sum(each.restarts for each in told),
            "micro_batch": min(each.micro_batch or recipe.micro_batch for each in told),
        },
        "calibration": calibrated,
        "surest_half": surest,
        "folds": judging.fold_accuracies(answered["folds"], table, say) if "folds" in answered else None,
        "versions": {"tapetum": tapetum.__version__, "torch": torch.__version__},
    }
    if processes.first():
        if job.resume:
            write_asked(folder, settings)
        classifier.save(folder / MODEL_FILE)
        write_text(folder / "metrics.json", json.dumps(classifier.about["metrics"], indent=2, ensure_ascii=False) + "\n")
        curves(progress.history, folder / "curves.png")
        cost.write_cost(folder, classifier, table.samples, seconds, time.monotonic() - begun)
        write_report(folder, classifier=classifier, samples=job.samples)
        say(f"trained in {duration(seconds)}, all done in {duration(time.monotonic() - begun)}; written to {folder}")
    return Run(classifier, found, folder)


def _fit(job: _Job, log: Callable[[dict[str, Any]], None]) -> tuple[torch.nn.Module, list[loop.Task], list[Progress], float]:
    """The trained network, the trainings that made it, how each went, and the seconds of all.

    Of a distilled one the pupil's training comes last; the first network of a training with unlabelled pictures counts in the
    seconds alone.
    """
    settings, task, before = job.settings, job.task, list[Progress]()
    if job.heap is not None:
        task, before = _add_unlabelled(job, job.heap, log)
    # Only training pictures have a fold.
    fold_N = job.table.fold_N[job.table.fold_N >= 0]
    tasks = members.folds(task, fold_N) if len(fold_N) else members.parts(task, settings.members)
    network, told = members.fit(tasks, job.network, job.resume, job.say, log, settings.distill == "on")
    turning.narrow(network)
    return network.eval(), tasks, told, sum(each.seconds for each in (*before, *told))


def check(data: str | Path, numbers: str = "all", say: Callable[[str], None] = say_to_stderr) -> Check:
    """Look through labelled pictures before a training; the decoded pictures are kept for that training.

    Args:
        data: any layout that training takes.
        numbers: a range of file numbers such as "0-250", or "all".
        say: takes the lines of talk; by default they go to stderr.

    Raises:
        UserError: there are no labelled pictures, or none that can be read.
    """
    samples = _find(data, Settings(numbers=numbers), say)
    recipe, _ = recipes.choose(Settings(), _look(samples, Settings(), torch.device("cpu")))
    return check_pictures(samples, open_pictures(samples, recipes.preprocessing(recipe).reduce))


def _recipe(folder: Path, resume: bool, settings: Settings, samples: Samples, where: torch.device) -> tuple[Recipe, str]:
    """The recipe and its reasons; of a resumed run the old one, since a budget's depends on how fast the machine was then."""
    facts = None if resume else _look(samples, settings, where)
    found: Any = None
    if processes.first():
        recipe, why = recipes.choose(settings, facts) if facts else recipe_of(folder, settings)
        found = dataclasses.asdict(recipe), why
    decided, why = processes.told(found)
    return Recipe(**decided), why


def _find(data: str | Path, settings: Settings, say: Callable[[str], None]) -> Samples:
    numbers = splits.numbers_range(settings.numbers, settings.split == "notes")
    try:
        samples = find_samples(data, numbers)
    except UserError:
        # By itself the notes' split takes the book's photos; data without such numbers are taken whole.
        if settings.numbers != "auto" or numbers is None:
            raise
        samples, numbers = find_samples(data), None
    say(f"{samples.origin}: {samples.describe()}")
    if numbers is not None and settings.numbers == "auto":
        say(f"the book's photos, numbers {numbers[0]} to {numbers[1]} (--numbers all would take every file)")
    return samples


def _look(samples: Samples, settings: Settings, where: torch.device) -> recipes.Facts:
    """What a recipe is chosen by: how many pictures train, the size and colour of some of them, and with a budget the speed."""
    if settings.split == "notes":
        count = splits.notes_counts(len(samples))[0]
    else:
        val = 0.0 if (samples.splits == "val").any() else settings.val if settings.folds == 1 else 1 / settings.folds
        test = 0.0 if (samples.splits == "test").any() else settings.test
        trains = np.count_nonzero(np.isin(samples.splits, ("", "train")))
        count = max(1, round(trains * (1 - val - test)))  # too few are refused where they are split
    return fresh.facts(samples, count, settings, where if settings.minutes != "auto" else None)


def _task(table: Table, recipe: Recipe, settings: Settings, where: torch.device, folder: Path) -> loop.Task:
    rows, labels = table.part("train")
    val_rows, val_labels = table.part("val")
    classes, preprocessing = len(table.samples.classes), recipes.preprocessing(recipe)
    return loop.Task(
        training=TrainingLoader(table.pictures, rows, labels, classes, recipe, preprocessing, settings.seed, where),
        validation=ValidationLoader(table.pictures, val_rows, preprocessing, BATCH),
        validation_labels=val_labels,
        recipe=recipe,
        seed=settings.seed,
        device=where,
        mixed=fresh.mixed(settings, where),
        folder=folder / "checkpoint",
        identity={
            # What was too much at once may be less when it is gone on with.
            **{name: value for name, value in dataclasses.asdict(recipe).items() if name != "micro_batch"},
            "seed": settings.seed,
            "weights": settings.weights,
            "unlabelled": settings.unlabelled,
            "fast": settings.fast,
            "data": table.fingerprint(),
        },
        rubbish=models.entry(recipe.model).rubbish,
        fast=settings.fast == "on",
    )


def _add_unlabelled(job: _Job, heap: Samples, log: Callable[[dict[str, Any]], None]) -> tuple[loop.Task, list[Progress]]:
    """Train a first network, in two fifths of the time, and let it guess the labels of the unlabelled pictures.

    The task with these, and how the first network's training went.
    """
    task, table, say, begun = job.task, job.table, job.say, time.monotonic()
    with processes.in_turn():
        pictures = open_pictures(heap, task.training.preprocessing.reduce, job.settings.cache == "on")
    known = {table.pictures.hashes[row] for row in table.rows}
    rows = np.array([i for i in pictures.readable if pictures.hashes[i] not in known], np.int64)
    out = len(pictures) - len(rows)
    say(f"{job.settings.unlabelled}: {len(rows):,} unlabelled pictures ({out:,} left out: unreadable, or among the labelled)")
    if not len(rows):
        return task, []
    if processes.first():  # by content they are told from new pictures when the run is judged
        trained = ((heap.names[row], pictures.hashes[row]) for row in rows)
        write_csv(job.folder / "unlabelled.csv", ["path", "sha256"], trained)
    guessed = fingerprint([pictures.hashes[row] for row in rows], [""] * len(rows), [""] * len(rows))
    task = dataclasses.replace(task, identity={**task.identity, "unlabelled pictures": guessed})
    folder = task.folder.with_name("checkpoint-first")
    first = dataclasses.replace(task, folder=folder, deadline=0.4 * task.deadline, keep_end=True)
    teacher = job.network(task.seed)
    again = job.resume and checkpoint.exists(folder)
    progress = loop.fit(first, teacher, again, say, lambda entry: log({"stage": "first", **entry}))
    say("its guesses stand for the labels of the unlabelled pictures now")
    task = unlabelled.with_guesses(task, teacher, pictures, rows)
    spent = max(progress.seconds, time.monotonic() - begun)
    return dataclasses.replace(task, deadline=task.deadline - spent), [progress]


def _say_estimate(
    network: torch.nn.Module, task: loop.Task, heap: Samples | None, settings: Settings, say: Callable[[str], None]
) -> float:
    """Tell time and memory beforehand. Returns the seconds that an answer for one picture takes."""
    recipe, steps = task.recipe, len(task.training)
    times = 3 if steps * recipe.epochs > _MANY_STEPS else 1
    # Of several processes each has its part of a batch.
    recipe = dataclasses.replace(recipe, batch=max(2, -(-recipe.batch // processes.count())))
    seconds = estimate.seconds_per_step(network, recipe, task.device, task.mixed, task.fast, times)
    answer = estimate.seconds_per_answer(seconds, recipe)
    seconds = steps * recipe.epochs * (seconds + team.seconds_to_add_gradients(network))
    seconds += recipe.epochs / task.validated_every() * len(task.validation.rows) * answer
    if heap is not None:
        seconds *= unlabelled.work(len(task.training.rows), len(heap))
    seconds *= settings.folds - 1 if settings.folds > 1 else settings.trainings
    gigabytes = estimate.memory_bytes(network, recipe) / 1e9
    parameters = sum(p.numel() for p in network.parameters())
    many = f", {processes.count()} processes" if processes.count() > 1 else ""
    each = " each" if many else ""
    budget = "" if settings.minutes == "auto" else f", within {settings.minutes:g} minute{'s' * (settings.minutes != 1)}"
    say(
        f"{recipe.model} ({parameters:,} parameters) on {device.describe(task.device)}{many}: "
        f"{'at most ' * bool(budget)}{counted(recipe.epochs, 'epoch')} of {counted(steps, 'step')}, about {duration(seconds)} "
        f"and {gigabytes:.1f} GB of memory{each}{budget}"
    )
    return answer
