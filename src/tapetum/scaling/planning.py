"""What a search is about: its settings, and how the minutes are shared out between trials and the final trainings."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapetum import device, models
from tapetum.config import Recipe, Settings
from tapetum.data.samples import Samples
from tapetum.data.table import Table
from tapetum.errors import UserError
from tapetum.scaling import fitting
from tapetum.training import fresh, recipes
from tapetum.training.optim import mean_area

MINUTES, FOLDS, TEST = 60.0, 3, 0.2
# How often a trial reports in each fold.
REPORTS = 3
# Each final training gets this share of the minutes, but no more than it needs.
_FINAL = 0.2
# The study's time is enough for so many folds (about as many trials), each of so many epochs at least.
_TRIALS, _LEAST_EPOCHS = 16, 6
# Trials that last at least this part of a final training say something of size and turned pictures, too.
_WHOLE = 0.5
# Drawing and writing at the end; what a final training takes beside its steps.
RESERVE_SECONDS, _BESIDE_SECONDS = 5.0, 8.0
# The learning rate is searched up to so many times the recipe's, and down to as small a part.
_RATES, _DECAYS = 6.0, 10.0


@dataclass(frozen=True)
class Plan:
    """What a study is about; all its processes share it."""

    data: str
    """Fingerprint of the pictures, their parts and labels."""
    asked: dict[str, Any]
    """The settings that somebody named; the rest of them is searched or the recipe's."""
    recipe: Recipe
    """The default recipe for the final trainings, with the epochs that one fold of it gets in a trial."""
    facts: recipes.Facts
    folds: int
    space: dict[str, dict[str, Any]]
    """By setting: "options", or "low" and "high" with "step" or "log"."""
    fold_seconds: float
    """What one fold of the default takes, about."""
    final_minutes: float
    """Of each of the two final trainings."""
    home: str
    """The id of the folder in which the study began; who holds it makes the final trainings."""

    def default(self) -> dict[str, Any]:
        """The default recipe's values of what is searched."""
        return {name: getattr(self.recipe, name) for name in self.space}

    def recipe_with(self, values: dict[str, Any]) -> Recipe:
        """The recipe of a trial's fold: larger pictures get fewer epochs, so that all trials take as long."""
        changed = dataclasses.replace(self.recipe, **values)
        if changed.size != self.recipe.size:
            sized = Settings(model=changed.model, size=changed.size)
            changed = dataclasses.replace(changed, start_size=recipes.choose(sized, self.facts)[0].start_size)
        epochs = self.recipe.epochs * _area(self.recipe) / _area(changed)
        return dataclasses.replace(changed, epochs=REPORTS * max(1, round(epochs / REPORTS)), keep="last")


def minutes(settings: Settings) -> float:
    """The budget of a search: what was given, or an hour."""
    return MINUTES if settings.minutes == "auto" else settings.minutes


def _area(recipe: Recipe) -> float:
    return recipe.size**2 * mean_area(recipe)


def space(recipe: Recipe, settings: Settings, count: int, whole: bool) -> dict[str, dict[str, Any]]:
    """What is searched around a recipe for `count` pictures: what the experiments found to matter (benchmarks/LOG.md).

    Where trials are far shorter than the final trainings (`whole` is False), size and turned pictures stay as they are: short
    trainings like small upright pictures better, and long ones do not. What somebody named stays, too.
    """
    found: dict[str, dict[str, Any]] = {"lr": {"low": recipe.lr / _RATES, "high": recipe.lr * _RATES, "log": True}}
    if recipe.weight_decay > 0:
        found["weight_decay"] = {"low": recipe.weight_decay / _DECAYS, "high": recipe.weight_decay * _DECAYS, "log": True}
    batches = {size for size in (16, 32, 64) if size <= count // 4} | {recipe.batch}
    found["batch"] = {"options": sorted(batches)}
    found["mixup"] = {"options": sorted({0.0, 0.2, 0.4, recipe.mixup})}
    if recipe.fit == "center":
        found["warp"] = {"options": sorted({0.0, 0.1, 0.2, recipe.warp})}
    else:
        found["crop_area"] = {"options": sorted({0.2, 0.35, 0.5, 0.7, recipe.crop_area})}
    if whole:
        found["turn"] = {"options": sorted({0.0, 0.25, 0.5, recipe.turn})} if recipe.flip == "on" else {}
        times = (0.75, 1.25) if settings.start_size == "auto" else ()  # a side to grow from was named for this size
        sizes = {recipe.size, *(16 * round(recipe.size * each / 16) for each in times)}
        found["size"] = {"options": sorted(size for size in sizes if models.fits(recipe.model, size))}
    found = {name: each for name, each in found.items() if getattr(settings, name) == "auto"}
    return {name: each for name, each in found.items() if each and len(each.get("options", (1, 2))) > 1}


@dataclass(frozen=True)
class Default:
    """The default recipe of the final trainings."""

    recipe: Recipe
    facts: recipes.Facts
    epoch_seconds: float
    """What an epoch of it takes here on all pictures that are not put aside, about."""


def base(samples: Samples, settings: Settings, seconds: float) -> Default:
    """The automatic recipe for what a final training may take of `seconds`."""
    tests, classes = (samples.splits == "test").any(), len(samples.classes)
    count = int((samples.splits != "test").sum()) if tests else round(len(samples) * (1 - (settings.test or TEST)))
    facts = fresh.facts(samples, max(1, count), settings, device.choose(settings.device))
    alone = dataclasses.replace(settings, folds=1, minutes="auto")
    natural, _ = recipes.choose(alone, facts)
    epoch = fitting.seconds_per_epoch(natural, classes, count, settings)
    final = 60 * _final_minutes(natural.epochs * epoch, seconds)
    if natural.epochs * epoch <= final - _BESIDE_SECONDS:
        return Default(natural, facts, epoch)
    chosen, _ = recipes.choose(dataclasses.replace(alone, minutes=max(0.01, final / 60)), facts)
    epoch = fitting.seconds_per_epoch(chosen, classes, count, settings)
    epochs = max(1, min(natural.epochs, round((final - _BESIDE_SECONDS) / epoch)))
    return Default(dataclasses.replace(chosen, epochs=epochs), facts, epoch)


def _final_minutes(natural_seconds: float, seconds: float) -> float:
    return min(_FINAL * seconds, 1.2 * natural_seconds + _BESIDE_SECONDS) / 60


def largest(recipe: Recipe) -> Iterator[Recipe]:
    """The recipes that need the pictures largest: they are read once for all trials."""
    for size in (recipe.size, 16 * round(recipe.size * 1.25 / 16)):
        for area in (recipe.crop_area, 0.2):
            yield dataclasses.replace(recipe, size=size, crop_area=area)


def plan(table: Table, default: Default, folds: int, settings: Settings, deadline: float) -> Plan:
    """Share the time out. Where the study is at home is not known yet.

    Raises:
        UserError: it is not enough for one trial, or nothing is left to search.
    """
    recipe, facts, epoch, seconds = default.recipe, default.facts, default.epoch_seconds, deadline - time.monotonic()
    final = 60 * _final_minutes(recipe.epochs * epoch, seconds)
    share = seconds - 2 * final - RESERVE_SECONDS
    fold_epoch = epoch * (folds - 1) / folds + 0.02  # and its part in a start and three validations
    least = min(_LEAST_EPOCHS, recipe.epochs)
    if share < folds * least * fold_epoch or final < _BESIDE_SECONDS + least * epoch:
        need = max(
            (folds * least * fold_epoch + RESERVE_SECONDS) / (1 - 2 * _FINAL), (_BESIDE_SECONDS + least * epoch) / _FINAL
        )
        given = minutes(settings)
        needed = np.ceil(1.1 * (need + 60 * given - seconds) / 6) / 10  # what has gone until here goes next time, too
        raise UserError(
            f"minutes {given:g} are too short for one trial of {folds} folds and two final trainings: about {needed:g} or "
            f"more are needed with {recipe.model} at {recipe.size} px. Raise --minutes."
        )
    epochs = max(least, min(recipe.epochs, int(share / _TRIALS / fold_epoch)))
    trial = dataclasses.replace(recipe, epochs=epochs, keep="last")
    searched = space(trial, settings, facts.count, whole=epochs >= _WHOLE * recipe.epochs)
    if not searched:
        raise UserError("every setting that is searched was named: expected one that is left open. Leave some of them out.")
    return Plan(
        data=table.fingerprint(),
        asked=asked(settings, folds),
        recipe=trial,
        facts=dataclasses.replace(facts, speed=None),
        folds=folds,
        space=searched,
        fold_seconds=epochs * fold_epoch,
        final_minutes=final / 60,
        home="",
    )


def asked(settings: Settings, folds: int) -> dict[str, Any]:
    """What must be the same in all processes: not how fast they are, nor for how long."""
    free = {"minutes", "device", "precision", "fast", "cache", "tensorboard", "val"}
    wished = dataclasses.asdict(dataclasses.replace(settings, folds=folds))
    return {key: value for key, value in wished.items() if key not in free}
