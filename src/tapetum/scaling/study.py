"""The study: where all trials stand (Optuna), and how one of them is trained and judged.

A trial is one choice of settings, judged by cross-validation. Its score is the share of right answers of the networks that left
a picture out. A trial reports three times a fold; of those that came as far, the better third goes on at the first report,
after the first fold, and after the third (asynchronous successive halving, Li et al. 2020), so most of the time goes to good
settings. Every trial has the same folds and seeds, so they differ in their settings alone.
"""

import contextlib
import dataclasses
import os
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from tapetum.config import Recipe, Settings
from tapetum.data.table import Table
from tapetum.errors import UserError
from tapetum.scaling import fitting
from tapetum.scaling.planning import REPORTS, Plan
from tapetum.training import recipes
from tapetum.training.signals import Interrupted

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

# The lock of what a folder's study begins with.
LOCK = ".study.lock"
# A trial whose process says nothing for so long is given up; it speaks three times as often.
_SILENT_SECONDS = 180
# How long a process waits for the plan of one that has just begun the study.
_WAIT_SECONDS = 10.0


def library() -> ModuleType:
    """Optuna.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("settings are searched with Optuna, which is not installed: pip install 'tapetum[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def connect(storage: str, folder: Path) -> Any:
    """Optuna's storage at a URL, or the SQLite file in `folder` where there is none.

    Raises:
        UserError: it cannot be opened.
    """
    optuna = library()
    from sqlalchemy import URL

    url = storage or URL.create("sqlite", database=str(folder.resolve() / "study.db")).render_as_string(hide_password=False)
    options = {"connect_args": {"timeout": 100}} if url.startswith("sqlite") else {}  # others may be writing
    try:
        if not storage:
            folder.mkdir(parents=True, exist_ok=True)
        # Two processes that make the tables of a new file at once get in each other's way.
        alone = contextlib.nullcontext() if storage else FileLock(folder / LOCK)
        with alone, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are called an experiment
            return optuna.storages.RDBStorage(
                url, options, heartbeat_interval=_SILENT_SECONDS // 3, grace_period=_SILENT_SECONDS
            )
    except Exception as error:  # every database has errors of its own
        raise _not_opened(storage or str(folder / "study.db"), error) from error


def _first_line(error: Exception) -> str:
    """What an error says, or its kind where it says nothing, as Python's own MemoryError does."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _not_opened(place: str, error: Exception) -> UserError:
    reason = _first_line(getattr(error, "orig", None) or error)
    secret = place.split("@")[-1] if "://" in place else place  # a password is nobody's business
    return UserError(
        f"the storage {secret} cannot be opened ({reason}): expected a database URL that Optuna takes, such as "
        "sqlite:///study.db, whose server runs and whose driver is installed."
    )


def find_study(storage: Any, name: str) -> "Study | None":
    """The study of that name, if there is one."""
    optuna = library()
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def begin(storage: Any, name: str, plan: Plan) -> "tuple[Study, bool]":
    """A new study of that name, whose first trial is the default recipe; or that of a process which was faster (False)."""
    optuna = library()
    try:
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(study_name=name, storage=storage), False
    study.enqueue_trial(plan.default(), user_attrs={"default": True})
    study.set_user_attr("plan", dataclasses.asdict(plan))
    return study, True


def plan_of(study: "Study") -> Plan:
    """The plan of a study.

    Raises:
        UserError: it has none: it is not tapetum's, or its process ended in its first moment.
    """
    until = time.monotonic() + _WAIT_SECONDS
    while "plan" not in study.user_attrs:
        if time.monotonic() > until:
            raise UserError(f"the study '{study.study_name}' is not one of tapetum's: expected another name. Choose a --study.")
        time.sleep(0.2)
    values = dict(study.user_attrs["plan"])
    try:
        recipe, facts = Recipe(**values.pop("recipe")), recipes.Facts(**values.pop("facts"))
        return Plan(recipe=recipe, facts=facts, **values)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the study '{study.study_name}' is another version's ({error}): expected this one's. Choose another --study."
        ) from error


def equip(study: "Study", seed: int | None) -> None:
    """Give the study its sampler and pruner; they live in the process, not in the storage."""
    optuna = library()
    seed = None if seed is None else seed % 2**32  # numpy's, which Optuna takes, go no further
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=8, multivariate=True, seed=seed)
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REPORTS)


def run_trial(study: "Study", plan: Plan, table: Table, settings: Settings, folder: Path, left: Callable[[], float]) -> int:
    """Train and judge one trial; whatever becomes of it stands in the study, under the number that is returned.

    Args:
        left: the seconds that are left of the study.

    Raises:
        tapetum.training.signals.Interrupted: Ctrl-C; the trial counts as failed.
    """

    numbers: list[int] = []

    def objective(trial: "Trial") -> float:
        numbers.append(trial.number)
        trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
        values = _suggest(trial, plan.space)
        begun = time.monotonic()
        try:
            return _crossed(trial, plan, plan.recipe_with(values), table, settings, folder, left)
        except (UserError, RuntimeError, MemoryError) as error:
            trial.set_user_attr("reason", _first_line(error)[:300])
            raise
        except (Interrupted, KeyboardInterrupt):
            trial.set_user_attr("reason", "interrupted")
            raise
        finally:
            trial.set_user_attr("seconds", round(time.monotonic() - begun, 1))

    # One network that diverges, or is too large for the memory, is a result as well.
    study.optimize(objective, n_trials=1, catch=(UserError, RuntimeError, MemoryError))
    return numbers[0]


def _suggest(trial: "Trial", space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, each in space.items():
        if "options" in each:
            values[name] = trial.suggest_categorical(name, each["options"])
        else:
            values[name] = trial.suggest_float(name, each["low"], each["high"], log=each["log"])
    return values


def _crossed(
    trial: "Trial", plan: Plan, recipe: Recipe, table: Table, settings: Settings, folder: Path, left: Callable[[], float]
) -> float:
    """The cross-validated accuracy; every report is that of the folds so far, and may end the trial."""
    pruned = library().TrialPruned
    right = judged = 0
    folds: list[float] = []
    first = trial.user_attrs.get("default", False)  # what all are compared with is always known

    def report(entry: dict[str, Any]) -> None:
        step = REPORTS * len(folds) + max(1, round(REPORTS * entry["epoch"] / recipe.epochs))
        if step not in reported:  # a training that begins again comes by twice
            reported.add(step)
            hits = round(entry["val_accuracy"] * entry["val_n"])
            trial.report((right + hits) / (judged + entry["val_n"]), step)
            if not first and trial.should_prune():
                raise pruned

    reported: set[int] = set()
    for fold in range(plan.folds):
        remaining = left()
        if remaining <= 0:
            trial.set_user_attr("reason", "the time was up")
            raise pruned
        fitted = fitting.fit(
            table,
            (table.fold_N >= 0) & (table.fold_N != fold),
            table.fold_N == fold,
            recipe,
            settings,
            seed=settings.seed + fold,
            folder=folder,
            validations=REPORTS,
            watch=report,
            seconds=remaining,
        )
        if fitted.epochs < recipe.epochs:  # cut short, it would speak of the clock
            trial.set_user_attr("reason", "the time was up")
            raise pruned
        right, judged = right + int(fitted.right_N.sum()), judged + len(fitted.right_N)
        folds.append(float(np.mean(fitted.right_N)))
        trial.set_user_attr("folds", folds)
    return right / judged


def score(trial: "FrozenTrial") -> float | None:
    """A trial's accuracy: of all folds, or as far as it came."""
    if trial.values:
        return trial.values[0]
    return trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
