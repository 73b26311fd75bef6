"""Would more pictures help? Trainings on growing parts of the pictures, all judged on the same others, and their curve.

A part of the pictures is put aside (that of the data, or a seeded share), and no training sees it. For each seed the others are
shuffled once, class by class in proportion; the first n of them train. So the parts of one seed lie in each other, and what
differs between them is the number. All trainings have the network, size and augmentation that suit the largest within its share
of the minutes; the work of each grows as `tapetum train` lets it, with the number of pictures to the power of 0.65.

    OUT/
      grow.json         what was planned, so that the same command goes on where it was
      trainings.jsonl   one line a training, with the judging pictures that it had right
      growth.csv        one row a training
      index.html        the page
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum import device
from tapetum.config import Recipe, Settings
from tapetum.data.samples import Samples
from tapetum.data.table import Table
from tapetum.errors import UserError
from tapetum.evaluation.growth import Growth, Point, growth
from tapetum.evaluation.metrics import majority_baseline
from tapetum.files import append_line, claim, end_line, remove_scraps, write_csv, write_text
from tapetum.looking.growing import write_growth
from tapetum.runfolder import write_left_out
from tapetum.scaling import fitting
from tapetum.talk import duration, say_to_stderr
from tapetum.training import fresh, recipes

MINUTES, SEEDS, TEST = 20.0, 3, 0.25
_PLAN, _TRAININGS = "grow.json", "trainings.jsonl"
# Each size is half of the next, down to so many pictures of a class on average; not more sizes than these.
_OF_CLASS, _SIZES = 10, 6
# Work grows with the pictures to this power, as in the automatic recipe; so the epochs grow as they get fewer.
_WORK = 0.65
_LEAST_EPOCHS = 3
# Drawing and writing at the end.
_RESERVE_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """What is trained; the same for every sitting in a folder."""

    recipe: Recipe
    """With the epochs of the largest part."""
    sizes: tuple[int, ...]
    largest: int
    """All pictures that may train."""
    data: str
    """Fingerprint of the pictures and of what was put aside."""

    def epochs(self, size: int) -> int:
        """Of a training on `size` pictures."""
        return max(1, round(self.recipe.epochs * (max(self.sizes) / size) ** (1 - _WORK)))

    def how(self) -> str:
        """In words."""
        few, many = min(self.sizes), max(self.sizes)
        return (
            f"{self.recipe.model} at {self.recipe.size} px, {self.epochs(many):,} epochs of {many:,} pictures to "
            f"{self.epochs(few):,} of {few:,}"
        )


def grow(
    data: str | Path | Samples,
    out: str | Path | None = None,
    *,
    sizes: Sequence[int] = (),
    seeds: int = SEEDS,
    settings: Settings | None = None,
    say: Callable[[str], None] = say_to_stderr,
) -> tuple[Growth, Path]:
    """Train on growing parts of the pictures and tell what more of them would bring.

    Args:
        data: labelled pictures in any layout that training takes, or a table of them.
        out: the folder to write; by default `runs/NAME-grow`. Trainings that it holds of the same plan are not made again.
        sizes: how many pictures train; by default six sizes at most, each half of the next, the largest all that there are.
        seeds: trainings of each size, each on pictures of its own.
        settings: `minutes` is the budget of all trainings (20), `test` the share put aside where the data bring no test part
            (a quarter), and what else is named holds for every training.
        say: takes the lines of talk.

    Returns:
        What was found, and the page's path.

    Raises:
        UserError: data, settings or a folder that cannot be used.
        tapetum.training.signals.Interrupted: Ctrl-C; the same call goes on.
    """
    begun = time.monotonic()
    settings = settings or Settings()
    if seeds < 1:
        raise UserError(f"seeds {seeds}: expected 1 or more trainings of each size.")
    if settings.folds > 1:
        raise UserError(
            f"folds {settings.folds}: a part put aside judges all sizes (--test), and there are no folds. Leave it out."
        )
    samples = fitting.find(data, settings, say)
    folder = fitting.own_folder(samples.origin, out, "grow", _PLAN, "growth")
    with claim(folder, "growth"):
        remove_scraps(folder)
        plan, table = _plan(folder, samples, tuple(sorted(set(sizes))), seeds, settings, say)
        write_left_out(folder, table)
        deadline = begun + 60 * _minutes(settings) - _RESERVE_SECONDS
        points = _points(folder, plan, table, seeds, settings, deadline, say)
        test = table.samples.splits == "test"
        _, baseline = majority_baseline(table.samples.labels[test], len(samples.classes))
        found = growth(str(samples.origin), plan.how(), tuple(points), plan.largest, baseline.value)
        header = ["pictures", "seed", "accuracy", "judged_on", "epochs", "seconds"]
        rows = ((p.size, p.seed, 1 - p.error, len(p.right_N), p.epochs, round(p.seconds, 2)) for p in points)
        write_csv(folder / "growth.csv", header, rows)
        page = write_growth(found, folder / "index.html")
        say(f"{len(points)} trainings, all done in {duration(time.monotonic() - begun)}; written to {folder}")
        return found, page


def _minutes(settings: Settings) -> float:
    return MINUTES if settings.minutes == "auto" else settings.minutes


def _plan(
    folder: Path, samples: Samples, sizes: tuple[int, ...], seeds: int, settings: Settings, say: Callable[[str], None]
) -> tuple[Plan, Table]:
    """The plan of an earlier sitting with the same wishes, or a new one; and the pictures."""
    wishes: dict[str, Any] = dataclasses.asdict(dataclasses.replace(settings, minutes="auto", cache="on")) | {"sizes": sizes}
    wishes = json.loads(json.dumps(wishes))
    before = _read_plan(folder)
    if before is not None and before["wishes"] == wishes:
        plan = _plan_from(before["plan"])
        table = _read(samples, plan.recipe, settings, say)
        if table.fingerprint() == plan.data:
            say(f"going on in {folder}: {plan.how()}")
            return plan, table
    if before is not None:
        raise UserError(
            f"{folder} holds a growth of other pictures or settings: expected the same. Use another --out, or remove it."
        )
    count = max(1, round(len(samples) * (1 - (settings.test or TEST))))
    if (samples.splits == "test").any():
        count = int((samples.splits != "test").sum())
    asked = sizes or _halves(count, len(samples.classes))
    recipe = _recipe(samples, count, asked, seeds, settings, say)
    table = _read(samples, recipe, settings, say)
    largest = int((table.samples.splits == "train").sum())
    asked = sizes or _halves(largest, len(samples.classes))
    least = 2 * len(samples.classes)
    if asked[0] < least or asked[-1] > largest:
        raise UserError(
            f"sizes {', '.join(map(str, asked))}: expected {least} to {largest:,}, the pictures that are left to train once "
            f"{int((table.samples.splits == 'test').sum()):,} are put aside."
        )
    plan = Plan(recipe, asked, largest, table.fingerprint())
    written = {"wishes": wishes, "plan": {**dataclasses.asdict(plan), "recipe": dataclasses.asdict(recipe)}}
    write_text(folder / _PLAN, json.dumps(written, indent=1) + "\n")
    return plan, table


def _read_plan(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / _PLAN} cannot be read ({error}). Use another --out.") from error


def _plan_from(values: dict[str, Any]) -> Plan:
    return Plan(Recipe(**values["recipe"]), tuple(values["sizes"]), values["largest"], values["data"])


def _read(samples: Samples, recipe: Recipe, settings: Settings, say: Callable[[str], None]) -> Table:
    return fitting.read(samples, recipes.preprocessing(recipe).reduce, settings, 1, settings.test or TEST, say)


def _halves(largest: int, classes: int) -> tuple[int, ...]:
    sizes = [largest]
    while len(sizes) < _SIZES and sizes[0] // 2 >= _OF_CLASS * classes:
        sizes.insert(0, sizes[0] // 2)
    return tuple(sizes)


def _recipe(
    samples: Samples, count: int, sizes: tuple[int, ...], seeds: int, settings: Settings, say: Callable[[str], None]
) -> Recipe:
    """The recipe of the largest part, so long that all trainings fit into the minutes, but no longer than without a budget."""
    largest, classes = min(max(sizes), count), len(samples.classes)
    facts = fresh.facts(samples, largest, settings, device.choose(settings.device))
    natural, _ = recipes.choose(dataclasses.replace(settings, minutes="auto"), facts)
    in_largest = seeds * sum((size / largest) ** _WORK for size in sizes)
    seconds = 60 * _minutes(settings) - _RESERVE_SECONDS
    share = seconds / in_largest
    if natural.epochs * fitting.seconds_per_epoch(natural, classes, largest, settings) <= share or settings.epochs != "auto":
        recipe = natural
    else:
        recipe, _ = recipes.choose(dataclasses.replace(settings, minutes=max(0.01, share / 60)), facts)
        epoch = fitting.seconds_per_epoch(recipe, classes, largest, settings)
        if share < _LEAST_EPOCHS * epoch:
            needed = (_LEAST_EPOCHS * epoch * in_largest + _RESERVE_SECONDS) / 60
            raise UserError(
                f"minutes {_minutes(settings):g} are too short: {seeds} seeds of {len(sizes)} sizes up to {largest:,} pictures "
                f"need about {_rounded_up(needed)} or more. Raise --minutes, or use fewer --seeds or smaller --sizes."
            )
        recipe = dataclasses.replace(recipe, epochs=min(natural.epochs, int(share / epoch)))
    recipe = dataclasses.replace(recipe, keep="last")
    expected = in_largest * recipe.epochs * fitting.seconds_per_epoch(recipe, classes, largest, settings)
    say(
        f"{len(sizes)} sizes ({', '.join(f'{size:,}' for size in sizes)}), {seeds} seeds each: about {duration(expected)} with "
        f"{recipe.model} at {recipe.size} px"
    )
    return recipe


def _rounded_up(minutes: float) -> str:
    return f"{math.ceil(minutes * 10) / 10:g}"


def _points(
    folder: Path, plan: Plan, table: Table, seeds: int, settings: Settings, deadline: float, say: Callable[[str], None]
) -> list[Point]:
    """All trainings, those of an earlier sitting included: seed by seed, so that one that is cut short leaves whole curves."""
    done = _finished(folder)
    end_line(folder / _TRAININGS)
    works = [(seed, size) for seed in range(settings.seed, settings.seed + seeds) for size in plan.sizes]
    judges_N = table.samples.splits == "test"
    for seed, size in works:
        if (seed, size) in done:
            continue
        remaining, recipe = deadline - time.monotonic(), dataclasses.replace(plan.recipe, epochs=plan.epochs(size))
        trains_N = part(table.samples, size, seed)
        fitted = None
        if remaining > 0:
            fitted = fitting.fit(table, trains_N, judges_N, recipe, settings, seed=seed, folder=folder, seconds=remaining)
        if fitted is None or fitted.epochs < recipe.epochs:  # cut short, it would speak of the clock
            say(f"the time was up after {len(done)} of {len(works)} trainings; the same command goes on with the others")
            break
        done[seed, size] = Point(size, seed, fitted.right_N, fitted.epochs, fitted.seconds)
        kept = {"size": size, "seed": seed, "epochs": fitted.epochs, "seconds": fitted.seconds}
        append_line(folder / _TRAININGS, json.dumps({**kept, "right": "".join("01"[int(each)] for each in fitted.right_N)}))
        told = f"{fitted.right_N.mean() * 100:.1f} % in {fitted.epochs} epochs, {duration(fitted.seconds)}"
        say(f"{size:,} pictures, seed {seed}: {told}")
    if not done:
        raise UserError(f"minutes {_minutes(settings):g} ended before the first training did: expected more. Raise --minutes.")
    return [done[work] for work in works if work in done]


def _finished(folder: Path) -> dict[tuple[int, int], Point]:
    """The trainings of earlier sittings; a line that a killed process left half written is passed over."""
    found = {}
    if (folder / _TRAININGS).exists():
        for line in (folder / _TRAININGS).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError):
                each = json.loads(line)
                right_N = np.array([sign == "1" for sign in each["right"]])
                point = Point(each["size"], each["seed"], right_N, each["epochs"], each["seconds"])
                found[point.seed, point.size] = point
    return found


def part(samples: Samples, size: int, seed: int) -> np.ndarray:
    """(N,) which pictures train in a part of `size`: nested for one seed, each class by its share, at least one of each.

    Philox keyed by the seed shuffles each class; the pictures of all classes are then merged by how far each is in its own.
    """
    place_N = np.full(len(samples), np.inf)
    generator = np.random.Generator(np.random.Philox(key=[seed, 5]))
    for label in range(len(samples.classes)):
        of_class = np.flatnonzero((samples.splits == "train") & (samples.labels == label))
        if len(of_class):
            place_N[generator.permutation(of_class)] = (np.arange(len(of_class)) + 0.5) / len(of_class)
            place_N[of_class[place_N[of_class].argmin()]] = 0.0
    chosen_N = np.zeros(len(samples), bool)
    chosen_N[np.argsort(place_N, kind="stable")[:size]] = True
    return chosen_N
