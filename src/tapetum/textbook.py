"""The study notes' story, run on the reader's own photos: their two networks as written, then each mistake mended.

A *variant* is the notes' experiment with one thing changed (or nothing, or all). Each is trained with several seeds on the
notes' 400 photos and judged, in its last epoch, on photos that neither trained it nor chose anything: those beyond the book's
numbers if there are any, else the notes' own validation and test photos. What a mistake costs is the difference to the code as
written, seed by seed. Each finished training is a small file in OUT/ledger, so that an interrupted tour goes on where it was.

    OUT/
      index.html          the page
      lenet/, alexnet/    the runs as written, seed 0: curves, CSV, prediction grid
      ledger/NAME-SEED.json
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tapetum
from tapetum import models
from tapetum.config import Settings
from tapetum.data.cache import Pictures, open_pictures
from tapetum.data.loader import ValidationLoader
from tapetum.data.samples import Samples
from tapetum.data.sources import find_samples
from tapetum.data.splits import NOTES_NUMBERS, notes_counts, notes_split
from tapetum.device import choose
from tapetum.errors import UserError
from tapetum.evaluation import metrics
from tapetum.evaluation.metrics import Estimate
from tapetum.files import refuse_inside, write_text
from tapetum.inference.answers import BATCH
from tapetum.inference.classifier import Classifier, load, probabilities
from tapetum.looking.grids import prediction_grid
from tapetum.looking.textbook import LANGUAGES, Page, write_page
from tapetum.run import Run, train
from tapetum.talk import duration, say_nothing, say_to_stderr
from tapetum.training import estimate, recipes

# What reading, judging and drawing take beside the steps of one training, measured on two cores.
_SECONDS_BESIDE = 6.0
# Shorter side to which the notes' photos are reduced before crops of half their area are resized to 224 pixels.
_NOTES_REDUCE = 366


@dataclass(frozen=True)
class Variant:
    """The notes' experiment with one thing changed."""

    name: str
    as_written: str
    """The variant that it is compared with."""
    options: dict[str, Any]
    """Settings that differ from the notes' split with the notes' recipe."""
    most_seeds: int = 1_000_000
    """Not more trainings than this, whatever is asked for."""


# `keep` is "last" because that is what the notes' code delivers: it keeps a reference to the weights, not a copy.
_NOTES: dict[str, Any] = {"split": "notes", "recipe": "notes", "keep": "last"}
# AlexNet takes most of the time and varies little, so it gets three seeds.
VARIANTS = (
    Variant("lenet", "lenet", {"model": "lenet-textbook"}),
    Variant("lenet-logits", "lenet", {"model": "lenet-textbook-logits"}),
    Variant("lenet-relu", "lenet", {"model": "lenet-textbook-relu"}),
    Variant("lenet-longer", "lenet", {"model": "lenet-textbook", "lr": 0.01, "epochs": 25, "schedule": "cosine"}),
    Variant("lenet-restored", "lenet", {"model": "lenet-textbook", "keep": "best"}),
    Variant("lenet-mended", "lenet", {"model": "lenet", "recipe": "auto"}),
    Variant("alexnet", "alexnet", {"model": "alexnet-textbook"}, most_seeds=3),
    Variant("alexnet-init", "alexnet", {"model": "alexnet", "size": 256}, most_seeds=3),
    Variant("alexnet-mended", "alexnet", {"model": "alexnet", "recipe": "auto"}, most_seeds=3),
)
_QUICK = ("lenet", "lenet-mended", "alexnet")


@dataclass(frozen=True)
class Outcome:
    """One variant trained with one seed."""

    variant: str
    seed: int
    validation: tuple[float, ...]
    """Accuracy on the notes' validation photos after each epoch."""
    judged: Estimate
    """Accuracy of the delivered weights on the judging photos."""
    picked: float
    """Expected accuracy of the notes' prediction grid on these photos: each shows the prediction for a random other one."""


@dataclass(frozen=True)
class Line:
    """What one variant reached, over all seeds."""

    variant: str
    accuracy: Estimate
    """Mean over the seeds with Student's interval (n: seeds); of one seed, of the photos (n: photos)."""
    gain: Estimate | None
    """Mean difference to the code as written, seed by seed; None for that itself and for a single seed."""
    seeds: int


def textbook(
    data: str | Path,
    out: str | Path = "textbook",
    *,
    lang: str = "en",
    quick: bool = False,
    seeds: int = 5,
    device: str = "auto",
    say: Callable[[str], None] = say_to_stderr,
) -> tuple[Path, tuple[Line, ...]]:
    """Run the notes' story and write it down as one page.

    Args:
        data: photos in any layout that training takes; the book's are numbers 0 to 250 of Kaggle's Dogs vs Cats.
        out: the folder to write.
        lang: language of the page: "ko" or "en".
        quick: a tour of a few minutes: one seed, AlexNet for two epochs, no single mends.
        seeds: trainings of each variant; AlexNet, which takes most of the time, gets at most three.
        device: where to train.
        say: takes the lines of talk.

    Returns:
        The page's path, and the ledger.

    Raises:
        UserError: data that cannot be used, or a folder that cannot be written.
        tapetum.training.signals.Interrupted: stopped; the same call goes on.
    """
    folder = Path(out)
    refuse_inside(folder, Path(data), "textbook folder")
    if lang not in LANGUAGES:
        raise UserError(f"lang '{lang}': expected {' or '.join(LANGUAGES)}.")
    if seeds < 1:
        raise UserError(f"seeds {seeds}: expected 1 or more trainings of each variant.")
    begun = time.monotonic()
    seeds = 1 if quick else seeds
    variants = [variant for variant in VARIANTS if variant.name in _QUICK or not quick]
    book, others = _photos(Path(data), say)
    trainings = sum(min(seeds, variant.most_seeds) for variant in variants)
    say(f"{len(variants)} variants, {trainings} trainings: about {duration(_seconds(variants, seeds, quick, book, device))}")
    judging = _judging(book, others)
    outcomes = []
    for variant in variants:
        for seed in range(min(seeds, variant.most_seeds)):
            options = _options(variant, seed, quick, device)
            outcome = _finished(folder, variant, seed, options, judging) or _train(data, folder, variant, options, judging, say)
            outcomes.append(outcome)
            say(f"{variant.name}, seed {seed}: {outcome.judged}")
    shutil.rmtree(folder / "under-way", ignore_errors=True)
    ledger = tuple(_line(variant, outcomes) for variant in variants)
    page = _page(folder, book, judging, outcomes, ledger, quick, seeds, device)
    path = write_page(page, lang, folder / "index.html")
    say(f"all done in {duration(time.monotonic() - begun)}; written to {path}")
    return path, ledger


def _photos(data: Path, say: Callable[[str], None]) -> tuple[Samples, Samples | None]:
    """The photos of the notes' experiment, split as they do, and those beyond, which may judge (None if there are none)."""
    try:
        book = find_samples(data, NOTES_NUMBERS)
    except UserError:
        book = find_samples(data)  # not numbered as Kaggle's: all of them
    say(f"{book.origin}: {book.describe()}")
    book = _readable(book, say)
    count = len(book)
    num_train, num_test = notes_counts(count)
    if count != 502:
        say(
            f"the book has 502 photos, these are {count:,}: its split is scaled to {num_train:,} to train, "
            f"{count - num_train - num_test:,} to validate and {num_test:,} to test"
        )
    try:
        others = find_samples(data, (NOTES_NUMBERS[1] + 1, 10**9))
    except UserError:
        others = None
    # Samples without numbers are in both; and another set of classes cannot judge.
    if others is None or set(others.names) & set(book.names) or others.classes != book.classes:
        return notes_split(book), None
    return notes_split(book), _readable(others, say)


def _readable(samples: Samples, say: Callable[[str], None]) -> Samples:
    """The files that give a picture; the others are said. Decoded at the size that the notes' LeNet will ask for."""
    pictures = open_pictures(samples, _NOTES_REDUCE)
    for i, reason in list(pictures.reasons.items())[:10]:
        say(f"left out: {samples.names[i]}: {reason}")
    if len(pictures.reasons) > 10:
        say(f"and {len(pictures.reasons) - 10:,} more")
    return samples.select(pictures.readable)


@dataclass(frozen=True)
class _Judging:
    """The photos that judge."""

    samples: Samples
    from_book: bool
    """They are the notes' own validation and test photos, for want of others."""
    photos: str
    """A hash of the names, sizes and times of all photos, those that train included."""


def _judging(book: Samples, others: Samples | None) -> _Judging:
    files = [list(zip(samples.names, samples.stamps(), strict=True)) for samples in (book, others) if samples is not None]
    photos = hashlib.sha256(repr(files).encode()).hexdigest()
    if others is not None:
        return _Judging(others, False, photos)
    return _Judging(book.select(book.splits != "train"), True, photos)


def _options(variant: Variant, seed: int, quick: bool, device: str) -> dict[str, Any]:
    options = {**_NOTES, **variant.options, "seed": seed, "device": device}
    if quick and variant.name == "alexnet":
        options["epochs"] = 2  # it stays where it is anyway
    if quick and variant.name == "lenet-mended":
        options["epochs"] = 85  # a third of its recipe's, for most of the gain
    return options


def _seconds(variants: list[Variant], seeds: int, quick: bool, book: Samples, device: str) -> float:
    """How long all will take, from a few steps of each network that occurs."""
    where, count = choose(device), int((book.splits == "train").sum())
    facts = recipes.Facts(count, len(book.classes), short_side=375, grey=False)
    measured: dict[tuple[str, int], float] = {}
    total = 0.0
    for variant in variants:
        recipe, _ = recipes.choose(Settings(**_options(variant, 0, quick, device)), facts)
        key = (recipe.model.removesuffix("-logits").removesuffix("-relu"), recipe.size)
        if key not in measured:
            network = models.build(recipe.model, len(book.classes), recipe.size)
            network = network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
            measured[key] = estimate.seconds_per_step(network, recipe, where)
        total += min(seeds, variant.most_seeds) * (
            measured[key] * recipe.epochs * -(-count // recipe.batch) * 1.15 + _SECONDS_BESIDE
        )
    return total


def _finished(folder: Path, variant: Variant, seed: int, options: dict[str, Any], judging: _Judging) -> Outcome | None:
    """The outcome of an earlier call with the same options and photos, if there is one."""
    try:
        found = json.loads(_ledger_file(folder, variant, seed).read_text(encoding="utf-8"))
        if found["identity"] != _identity(options, judging):
            return None
        kept = variant.name != variant.as_written or seed > 0 or (folder / variant.name / "model.safetensors").exists()
        judged = Estimate(**found["judged"])
        return Outcome(variant.name, seed, tuple(found["validation"]), judged, found["picked"]) if kept else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or of another version: train


def _train(
    data: str | Path, folder: Path, variant: Variant, options: dict[str, Any], judging: _Judging, say: Callable[[str], None]
) -> Outcome:
    """Train one variant, judge it, and write its outcome; only the runs as written with seed 0 are kept."""
    seed = options["seed"]
    kept = variant.name == variant.as_written and seed == 0
    place = folder / variant.name if kept else folder / "under-way" / f"{variant.name}-{seed}"
    resume = (place / "checkpoint").is_dir() and not (place / "model.safetensors").exists()
    run = _run(data, place, resume, options, say)
    validation = [json.loads(line)["val_accuracy"] for line in (place / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    pictures, rows = _open(judging.samples, run.classifier)
    labels = judging.samples.labels[rows]
    found_NK = _predict(run.classifier, pictures, rows)
    answers = found_NK.argmax(1)
    shares_K = np.bincount(answers, minlength=found_NK.shape[1]) / len(answers)
    outcome = Outcome(
        variant=variant.name,
        seed=seed,
        validation=tuple(validation),
        judged=metrics.accuracy(labels, answers),
        picked=float(shares_K[labels].mean()),
    )
    entry = {
        "identity": _identity(options, judging),
        "validation": validation,
        "judged": dataclasses.asdict(outcome.judged),
        "picked": outcome.picked,
    }
    write_text(_ledger_file(folder, variant, seed), json.dumps(entry, indent=1) + "\n")
    shutil.rmtree(place / "checkpoint" if kept else place, ignore_errors=True)
    return outcome


def _run(data: str | Path, place: Path, resume: bool, options: dict[str, Any], say: Callable[[str], None]) -> Run:
    if resume:
        try:
            return train(data, place, resume=True, say=say_nothing, **options)
        except UserError:
            say(f"{place} cannot be resumed and is trained anew")
    return train(data, place, overwrite=True, say=say_nothing, **options)


def _open(samples: Samples, classifier: Classifier) -> tuple[Pictures, np.ndarray]:
    """The decoded pictures, and which of them are there."""
    pictures = open_pictures(samples, classifier.preprocessing.reduce)
    return pictures, pictures.readable


def _predict(classifier: Classifier, pictures: Pictures, rows: np.ndarray) -> np.ndarray:
    squares = ValidationLoader(pictures, rows, classifier.preprocessing, BATCH, once=True)
    return probabilities(classifier.computing(), squares, classifier.preprocessing, classifier.device)


def _identity(options: dict[str, Any], judging: _Judging) -> dict[str, Any]:
    """What must be the same for an outcome to be used again."""
    return {"options": options, "photos": judging.photos, "tapetum": tapetum.__version__}


def _ledger_file(folder: Path, variant: Variant, seed: int) -> Path:
    return folder / "ledger" / f"{variant.name}-{seed}.json"


def _line(variant: Variant, outcomes: list[Outcome]) -> Line:
    own = [outcome for outcome in outcomes if outcome.variant == variant.name]
    base = [outcome for outcome in outcomes if outcome.variant == variant.as_written]
    if len(own) == 1:
        return Line(variant.name, own[0].judged, None, 1)
    values = np.array([outcome.judged.value for outcome in own])
    gains = values - np.array([outcome.judged.value for outcome in base])
    gain = metrics.mean_interval(gains) if variant.name != variant.as_written else None
    return Line(variant.name, metrics.mean_interval(values, shares=True), gain, len(own))


def _page(
    folder: Path,
    book: Samples,
    judging: _Judging,
    outcomes: list[Outcome],
    ledger: tuple[Line, ...],
    quick: bool,
    seeds: int,
    device: str,
) -> Page:
    """Gather what the page tells, and draw the notes' own grid, in which every picture shows some other one's prediction."""
    for name in ("lenet", "alexnet"):
        _draw_random_grid(folder / name, book, device)
    lenet = [outcome for outcome in outcomes if outcome.variant == "lenet"]
    return Page(
        folder=folder,
        book=book,
        judged_on=len(judging.samples),
        judged_on_book=judging.from_book,
        ledger={line.variant: line for line in ledger},
        claimed=float(np.mean([max(outcome.validation) for outcome in lenet])),
        last=float(np.mean([outcome.validation[-1] for outcome in lenet])),
        picked=float(np.mean([outcome.picked for outcome in lenet])),
        quick=quick,
        seeds=seeds,
        versions=f"tapetum {tapetum.__version__}",
    )


def _draw_random_grid(run: Path, book: Samples, device: str) -> None:
    """The notes' last figure: the test pictures, each under the prediction of a picture drawn at random."""
    classifier = load(run, device)
    test = book.of_split("test")
    pictures, rows = _open(test, classifier)
    if not len(rows):
        return
    found_NK = _predict(classifier, pictures, rows)
    drawn = np.random.default_rng(0).integers(len(rows), size=len(rows))
    prediction_grid(
        [pictures[int(row)] for row in rows],
        [test.classes[test.labels[row]] for row in rows],
        [test.classes[found_NK[i].argmax()] for i in drawn],
        [float(found_NK[i].max()) for i in drawn],
        run / "random-grid.png",
    )
