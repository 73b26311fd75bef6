"""One network trained on some of the pictures, without a run folder around it: for commands that train many.

Letters in names: N pictures, K classes.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapetum import device, models
from tapetum.config import Recipe, Settings
from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.samples import Samples
from tapetum.data.sources import find_samples
from tapetum.data.splits import numbers_range
from tapetum.data.table import Table, read_all
from tapetum.errors import UserError
from tapetum.files import named_after, refuse_inside
from tapetum.inference.answers import BATCH
from tapetum.inference.classifier import probabilities
from tapetum.talk import say_nothing
from tapetum.training import estimate, fresh, loop, recipes, turning

# What a training takes beside its steps: pictures cut and coloured, averages, a validation now and then.
_BESIDE = 1.25


@dataclass(frozen=True)
class Fitted:
    """What a training reached on the pictures that judge."""

    right_N: np.ndarray
    """(N,) which of them were named right."""
    epochs: int
    seconds: float


def find(data: str | Path | Samples, settings: Settings, say: Callable[[str], None]) -> Samples:
    """The labelled pictures in `data`. A validation part joins those that train: what trains many networks makes its own.

    Raises:
        UserError: no labelled pictures, or settings of a single training that mean nothing for many.
    """
    for name, value, why in (
        ("unlabelled", settings.unlabelled, "the labels decide here"),
        ("members", settings.members if settings.members > 1 else "", "each training has one network here"),
        ("split notes", settings.split == "notes", "the pictures are split anew here"),
        (f"recipe {settings.recipe}", settings.recipe != "auto", "only the automatic recipe suits any number of pictures"),
        ("keep best", settings.keep == "best", "the pictures that judge do not choose the epoch"),
        ("weights", settings.weights, "networks begin untrained here"),
    ):
        if value:
            raise UserError(f"{name}: {why}. Leave it out.")
    samples = data if isinstance(data, Samples) else find_samples(data, numbers_range(settings.numbers, notes=False))
    samples.refuse_empty_classes()
    say(f"{samples.origin}: {samples.describe()}")
    if (samples.splits == "val").any():
        say("the validation part joins the training pictures")
        samples = samples.with_splits(np.where(samples.splits == "val", "train", samples.splits))
    return samples


def read(samples: Samples, reduce_to: int, settings: Settings, folds: int, test: float, say: Callable[[str], None]) -> Table:
    """Read all, put a part aside ("test": that of the data, or a seeded, stratified share `test`, duplicates together), and
    give the rest folds if there is to be more than one; all of it trains.

    Raises:
        UserError: too few pictures of a class.
    """
    share = 0.0 if (samples.splits == "test").any() else test
    asked = dataclasses.replace(settings, folds=max(2, folds), test=share)  # as in cross-validation no part validates
    return read_all(samples, reduce_to, asked, say, in_folds=folds > 1)


def seconds_per_epoch(recipe: Recipe, classes: int, count: int, settings: Settings) -> float:
    """What an epoch over `count` pictures takes here, about: pictures that grow by their mean area, all around it included."""
    where = device.choose(settings.device)
    network = _network(recipe, classes, settings, 0)
    step = estimate.seconds_per_step(network, recipe, where, fresh.mixed(settings, where), settings.fast == "on")
    return _BESIDE * step * max(1, math.ceil(count / recipe.batch))


def fit(
    table: Table,
    trains_N: np.ndarray,
    judges_N: np.ndarray,
    recipe: Recipe,
    settings: Settings,
    *,
    seed: int,
    folder: Path,
    validations: int = 1,
    watch: Callable[[dict[str, Any]], None] = lambda entry: None,
    seconds: float = math.inf,
) -> Fitted:
    """Train a network on some pictures of a table, in memory, and judge its last epoch on others.

    Args:
        table: all pictures.
        trains_N, judges_N: (N,) masks of those that train and that judge.
        recipe: how; all that is random is a function of `seed`.
        folder: where a state may lie for a while; it goes again.
        validations: about how often the judging pictures are looked at; `watch` takes what they tell and may stop it all by
            raising.
        seconds: what it may take.

    Raises:
        UserError: it diverged.
        tapetum.training.signals.Interrupted: Ctrl-C.
    """
    where, samples = device.choose(settings.device), table.samples
    preprocessing, classes = recipes.preprocessing(recipe), len(samples.classes)
    network = _network(recipe, classes, settings, seed)
    rows, labels = table.rows[trains_N], samples.labels[trains_N]
    judging = ValidationLoader(table.pictures, table.rows[judges_N], preprocessing, BATCH)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=folder) as scratch:
        task = loop.Task(
            training=TrainingLoader(table.pictures, rows, labels, classes, recipe, preprocessing, seed, where),
            validation=judging,
            validation_labels=samples.labels[judges_N],
            recipe=recipe,
            seed=seed,
            device=where,
            mixed=fresh.mixed(settings, where),
            folder=Path(scratch) / "checkpoint",
            identity={},
            rubbish=models.entry(recipe.model).rubbish,
            deadline=seconds,
            fast=settings.fast == "on",
            validations=validations,
        )
        progress = loop.fit(task, network, False, say_nothing, watch)
    turning.narrow(network)
    found_NK = probabilities(network, judging, preprocessing, where)
    return Fitted(found_NK.argmax(1) == samples.labels[judges_N], progress.epoch, progress.seconds)


def own_folder(data: Path | str, out: str | Path | None, suffix: str, mark: str, what: str) -> Path:
    """The folder to write: `out`, or `runs/NAME-SUFFIX`. One that holds anything holds `mark` too, or is somebody else's.

    Raises:
        UserError: it lies among the pictures, is a file, or holds something else.
    """
    folder = Path("runs") / f"{named_after(data)}-{suffix}" if out is None else Path(out)
    if isinstance(data, Path):  # an address has no folder to spare
        refuse_inside(folder, data, f"{what} folder")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write the {what} to. Choose another --out.")
    content = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()
    if content and mark not in content:
        raise UserError(f"{folder} holds files of another kind: a {what} needs a folder of its own. Choose another --out.")
    return folder


def _network(recipe: Recipe, classes: int, settings: Settings, seed: int) -> torch.nn.Module:
    return fresh.network(dataclasses.replace(settings, seed=seed), recipe, classes, device.choose_each(settings.device))
