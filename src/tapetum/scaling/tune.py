"""A search for better settings, and the proof: the winner against the default recipe on pictures that the search never saw.

A part of the pictures is put aside at the start (that of the data, or a seeded, stratified share, duplicates together). On the
others trials are cross-validated (`study`) until their share of the minutes is over. Then the best one and the default recipe
are trained on the same pictures with as many minutes each, and McNemar's test compares them on the part put aside. The winner
becomes the folder's model only if it is shown to be better there; else the default does.

    OUT/
      tune.json         the study's name, and an id by which the study knows the folder, wherever that is moved
      study.db          the study (SQLite), unless it is elsewhere
      trials.csv        every trial, failed and stopped ones too
      default/, tuned/  the two final runs
      index.html        the page
      model.safetensors and the rest of the run that was chosen

Several processes may join: in the same folder, or from elsewhere by --storage and --study. The one that holds the folder in
which the study began makes the final trainings; the others only add trials.
"""

import contextlib
import dataclasses
import json
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from tapetum.config import Recipe, Settings
from tapetum.data.samples import Samples
from tapetum.data.table import Table
from tapetum.errors import UserError
from tapetum.evaluation.compare import Comparison, compared
from tapetum.evaluation.evaluate import Judged
from tapetum.evaluation.recorded import recorded
from tapetum.files import write_csv, write_text
from tapetum.inference.predict import Predictions
from tapetum.looking.tuning import Search, Tried, write_search
from tapetum.run import train
from tapetum.runfolder import write_left_out
from tapetum.scaling import fitting, planning, study
from tapetum.scaling.planning import Plan
from tapetum.talk import duration, say_nothing, say_to_stderr
from tapetum.training import recipes
from tapetum.training.signals import Interrupted

if TYPE_CHECKING:
    from optuna import Study

_MARK = "tune.json"
# A final training keeps at most this share of its pictures to calibrate.
_VAL = 0.1
_MOST_FAILURES = 5


class Stopped(Interrupted):
    """Ctrl-C; finished trials are kept."""

    def __init__(self, kept: int, number: int, folder: Path, minutes_left: float) -> None:
        super().__init__(f"stopped; {kept} finished trials are kept in {folder}", number, folder)
        self.minutes_left = minutes_left
        """Of the budget."""


@dataclass(frozen=True)
class Tuned:
    """What a search left."""

    folder: Path
    search: Search
    added: int
    """Trials of this process."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.search
        states = [tried.state for tried in found.trials]
        return {
            "folder": str(self.folder),
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "added": self.added,
            "best": dataclasses.asdict(found.best) if found.best else None,
            "default": dataclasses.asdict(found.default) if found.default else None,
            "comparison": found.comparison.to_json() if found.comparison else None,
            "model": found.chosen,
            "verdict": found.verdict,
        }


def tune(
    data: str | Path | Samples,
    out: str | Path | None = None,
    *,
    trials: int = 0,
    storage: str = "",
    name: str = "",
    settings: Settings | None = None,
    say: Callable[[str], None] = say_to_stderr,
) -> Tuned:
    """Search settings on part of the pictures, and prove the best ones on the rest.

    Args:
        data: labelled pictures in any layout that training takes, or a table of them.
        out: the folder to write; by default `runs/NAME-tune`. A study that it holds goes on.
        trials: end the search after so many trials of this process (0: when its time is over).
        storage: a database URL of Optuna's in place of a file in the folder.
        name: the study's name (the folder's).
        settings: `minutes` is the budget of everything (60), `folds` those of a trial (3), `test` the share put aside where the
            data bring no test part (a fifth); what else is named is not searched and holds for all trainings.
        say: takes the lines of talk.

    Raises:
        UserError: data, settings, a folder, a storage or a study that cannot be used.
        Stopped: Ctrl-C; finished trials are kept, and the same call goes on.
    """
    begun, settings = time.monotonic(), settings or Settings()
    if trials < 0:
        raise UserError(f"trials {trials}: expected a number of trials, or 0 for as many as the minutes allow.")
    study.library()
    samples = fitting.find(data, settings, say)
    folder = fitting.own_folder(samples.origin, out, "tune", _MARK, "search")
    deadline = begun + 60 * planning.minutes(settings)
    found, plan, table = _joined(samples, folder, storage, name, settings, deadline, say)
    with _held(folder) as alone:
        leads = alone and plan.home == _known(folder).get("home")
        ends = deadline - planning.RESERVE_SECONDS - (120 * plan.final_minutes if leads else 0)
        if leads:
            found.set_user_attr("ends", time.time() + ends - time.monotonic())
        before = len(found.trials)
        study.equip(found, settings.seed + before if leads else None)
        try:
            added = _search(found, plan, table, settings, folder, trials, ends, leads, say)
            tried = [_tried(trial) for trial in found.trials]
            if not leads:
                told = "the process that began the study makes the final trainings"
                return Tuned(folder, _summary(samples, plan, tried, None, told, ""), added)
            search = _final(folder, plan, table, tried, settings, say)
        except (Interrupted, KeyboardInterrupt) as stop:
            kept = sum(trial.state.name == "COMPLETE" for trial in found.trials)
            number = stop.exit_code - 128 if isinstance(stop, Interrupted) else signal.SIGINT
            raise Stopped(kept, number, folder, max(0.0, deadline - time.monotonic()) / 60) from stop
        # Others may have ended theirs during the final trainings.
        _write_trials(folder, plan, [_tried(trial) for trial in found.trials])
        write_search(search, folder / "index.html")
    say(f"all done in {duration(time.monotonic() - begun)}; written to {folder}")
    return Tuned(folder, search, added)


def _joined(
    samples: Samples, folder: Path, storage: str, name: str, settings: Settings, deadline: float, say: Callable[[str], None]
) -> "tuple[Study, Plan, Table]":
    """The study of that name, found or begun, with its plan and its pictures."""
    folds = settings.folds if settings.folds > 1 else planning.FOLDS
    name = name or _known(folder).get("study") or folder.resolve().name
    found = study.find_study(study.connect(storage, folder), name) if storage or (folder / "study.db").exists() else None
    if found is not None:
        plan = study.plan_of(found)
        table = _read(samples, plan.recipe, folds, settings, say)
        _refuse_other(name, plan, table, planning.asked(settings, folds))
        _mark(folder, name)
    else:
        default = planning.base(samples, settings, deadline - time.monotonic())
        table = _read(samples, default.recipe, folds, settings, say)
        found, plan = _begun(folder, storage, name, planning.plan(table, default, folds, settings, deadline), say)
        _refuse_other(name, plan, table, planning.asked(settings, folds))
    if done := sum(trial.state.name != "WAITING" for trial in found.trials):
        say(f"joined the study '{name}', which has {done} trials")
    write_left_out(folder, table)
    return found, plan, table


def _read(samples: Samples, recipe: Recipe, folds: int, settings: Settings, say: Callable[[str], None]) -> Table:
    reduce_to = max(recipes.preprocessing(each).reduce for each in planning.largest(recipe))
    return fitting.read(samples, reduce_to, settings, folds, settings.test or planning.TEST, say)


def _begun(folder: Path, storage: str, name: str, plan: Plan, say: Callable[[str], None]) -> "tuple[Study, Plan]":
    """A new study, or that of a process that was faster."""
    plan = dataclasses.replace(plan, home=_mark(folder, name))  # before its file: a folder without the mark is somebody else's
    found, new = study.begin(study.connect(storage, folder), name, plan)
    if not new:
        return found, study.plan_of(found)
    say(
        f"study '{name}': {', '.join(plan.space)} searched, {plan.folds} folds of {plan.recipe.epochs} epochs a trial (about "
        f"{duration(plan.folds * plan.fold_seconds)} where it is not stopped), then two trainings of "
        f"{duration(60 * plan.final_minutes)}"
    )
    return found, plan


def _refuse_other(name: str, plan: Plan, table: Table, wished: dict[str, Any]) -> None:
    """Raise a UserError if a study is of other pictures, or of other settings."""
    if plan.data != table.fingerprint():
        raise UserError(
            f"the study '{name}' is of other pictures, or of the same with another --seed or --test: expected those with which "
            "it began. Put them back, or use another --out or --study."
        )
    differing = [key for key in wished if wished[key] != plan.asked.get(key)]
    if differing:
        told = ", ".join(f"{key} was {plan.asked.get(key)!r} and is {wished[key]!r}" for key in differing)
        raise UserError(f"the study '{name}' cannot go on: {told}. Use the same settings, or another --out or --study.")


def _mark(folder: Path, name: str) -> str:
    """Write the study's name into tune.json, beside the folder's id, which is made once and returned."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / study.LOCK):  # two that begin at once shall have one id
            home = _known(folder).get("home") or secrets.token_hex(8)
            write_text(folder / _MARK, json.dumps({"study": name, "home": home}, ensure_ascii=False) + "\n")
            return home
    except OSError as error:
        raise UserError(
            f"could not write to {folder} ({error.strerror or error}): nothing was changed. Choose another --out."
        ) from error


def _known(folder: Path) -> dict[str, str]:
    """What tune.json says; nothing where there is none."""
    try:
        return dict(json.loads((folder / _MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that holds the folder; the lock goes with it, however it ends."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        for scrap in (*folder.glob(".training-*"), *folder.glob(".*.part")):
            if time.time() - scrap.stat().st_mtime > 86_400:  # of a process that was killed, not of one that joined
                shutil.rmtree(scrap, ignore_errors=True) if scrap.is_dir() else scrap.unlink(missing_ok=True)
        yield True
    finally:
        lock.release()


def _search(
    found: "Study",
    plan: Plan,
    table: Table,
    settings: Settings,
    folder: Path,
    trials: int,
    ends: float,
    leads: bool,
    say: Callable[[str], None],
) -> int:
    """Trials, one after the other, until the time is over; how many they were."""

    def left() -> float:
        if leads:
            return ends - time.monotonic()
        common = found.user_attrs.get("ends", 0.0) - time.time()  # where the study's own process waits for its end
        return min(ends - time.monotonic(), common) if common > -60 else ends - time.monotonic()

    added = failures = 0
    while left() > plan.fold_seconds / planning.REPORTS and (not trials or added < trials):
        number = study.run_trial(found, plan, table, settings, folder, left)
        added += 1
        tried = _tried(found.trials[number])
        say(tried.line())
        _write_trials(folder, plan, [_tried(trial) for trial in found.trials])
        failures = failures + 1 if tried.state == "failed" else 0
        if failures == _MOST_FAILURES:
            raise UserError(
                f"{failures} trials failed one after the other ({tried.reason}): expected some to finish. Mend it, or name the "
                "setting that is to blame."
            )
    return added


_STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def _tried(trial: Any) -> Tried:
    about = trial.user_attrs
    return Tried(
        number=trial.number,
        state=_STATES[trial.state.name],
        score=study.score(trial),
        folds=tuple(about.get("folds", ())),
        values=dict(trial.params or trial.system_attrs.get("fixed_params", {})),
        default=bool(about.get("default")),
        seconds=about.get("seconds"),
        process=about.get("process", ""),
        reason=about.get("reason", ""),
    )


def _write_trials(folder: Path, plan: Plan, tried: list[Tried]) -> None:
    """trials.csv: all of them, whatever became of them."""
    names = list(plan.space)
    header = ["trial", "state", "accuracy", "folds", "seconds", "process", "reason", "default", *names]
    rows = (
        [t.number, t.state, t.score, len(t.folds), t.seconds, t.process, t.reason, "yes" if t.default else "no"]
        + [t.values.get(name) for name in names]
        for t in tried
    )
    write_csv(folder / "trials.csv", header, ([("" if cell is None else cell) for cell in row] for row in rows))


def _final(
    folder: Path, plan: Plan, table: Table, tried: list[Tried], settings: Settings, say: Callable[[str], None]
) -> Search:
    """Train the default and the winner on all pictures but those put aside, compare them there, and keep one of them."""
    best = Search.best_of(tried)
    if best is None:
        raise UserError(
            f"no trial has finished in {planning.minutes(settings):g} minutes: expected one, the default's. The same command "
            "goes on, best with more --minutes."
        )
    default = _run(folder / "default", plan, table, {}, settings, say)
    if best.default or best.values == plan.default():
        shutil.rmtree(folder / "tuned", ignore_errors=True)  # of an earlier sitting
        comparison, chosen = None, "default"
        verdict = f"No trial beat the default recipe in cross-validation; {folder} holds the default's model."
    else:
        tuned = _run(folder / "tuned", plan, table, best.values, settings, say)
        comparison = compared(default, tuned)
        better = comparison.p < 0.05 and comparison.only_b > comparison.only_a
        chosen = "tuned" if better else "default"
        gain = f"{comparison.difference.value * 100:+.1f} points on {comparison.difference.n:,} pictures that no trial saw"
        verdict = (
            f"The tuned settings beat the default recipe: {gain}; {folder} holds the tuned model."
            if better
            else f"The tuned settings are not shown to beat the default recipe: {gain}; {folder} holds the default's model."
        )
    for path in (folder / chosen).iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, folder / path.name)
    return _summary(table.samples, plan, tried, comparison, verdict, chosen)


def _summary(
    samples: Samples, plan: Plan, tried: list[Tried], comparison: Comparison | None, verdict: str, chosen: str
) -> Search:
    return Search(
        data=str(samples.origin),
        network=f"{plan.recipe.model} at {plan.recipe.size} px",
        folds=plan.folds,
        epochs=plan.recipe.epochs,
        final_minutes=plan.final_minutes,
        defaults=plan.default(),
        logarithmic=tuple(name for name, each in plan.space.items() if each.get("log")),
        trials=tuple(tried),
        comparison=comparison,
        verdict=verdict,
        chosen=chosen,
    )


def _run(
    folder: Path, plan: Plan, table: Table, values: dict[str, Any], settings: Settings, say: Callable[[str], None]
) -> Judged:
    """A final run, and its answers for the pictures put aside. All but the epochs is settled: those are the clock's."""
    settled = {**dataclasses.asdict(plan.recipe_with(values)), "epochs": settings.epochs}
    asked = dataclasses.replace(
        settings, **settled, minutes=plan.final_minutes, folds=1, test=0.0, val=min(settings.val, _VAL), split="auto"
    )
    say(f"final training: {folder.name}, {duration(60 * plan.final_minutes)}")
    run = train(table.samples, folder, overwrite=folder.exists(), settings=asked, say=say_nothing)
    say(f"{folder.name}: {run.metrics['test'].accuracy}")
    found = recorded(folder)["test"]
    count = len(found.names)
    predictions = Predictions(found.classes, found.names, np.arange(count), found.probabilities_NK, ("",) * count, ())
    return Judged(found.labels_N, predictions, np.zeros(count, bool), "")
