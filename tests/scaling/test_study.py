"""Judges: Optuna's and sqlite3's own reading of the study, and hand counts."""

import contextlib
import dataclasses
import os
import socket
import sqlite3
import threading
import time

import numpy as np
import pytest

from conftest import write_stripes
from tapetum.config import Settings
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.scaling import fitting, planning, study
from tapetum.training import recipes

optuna = pytest.importorskip("optuna", reason="the search needs Optuna (extra tune)")
State = optuna.trial.TrialState

SETTINGS = Settings(model="lenet-table", size=32, epochs=3, device="cpu", precision="float32", cache="off")
SPACE = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "batch": {"options": [8, 16]}}


def plan():
    facts = recipes.Facts(16, 2, 40, False, 1.5)
    recipe, _ = recipes.choose(dataclasses.replace(SETTINGS, batch=8, lr=0.002), facts)
    told = planning.asked(dataclasses.replace(SETTINGS, weights="내 사진"), 2)
    return planning.Plan("the pictures", told, recipe, facts, 2, SPACE, 1.5, 0.25, "a folder's id")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """24 pictures in folds of 16 and 8, and six more put aside."""
    folder = write_stripes(tmp_path_factory.mktemp("photos") / "사진", count=15)
    found = fitting.read(find_samples(folder), 64, SETTINGS, 3, 0.2, lambda line: None)
    return dataclasses.replace(found, fold_N=np.where(found.fold_N == 2, 0, found.fold_N))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a name that an address could not have."""
    return tmp_path_factory.mktemp("out") / "줄 무늬 100% #1 a@b"


@pytest.fixture(scope="module")
def storage(folder):
    return study.connect("", folder)


@pytest.fixture
def begun(storage, request):
    """A new study of two folds."""
    found, new = study.begin(storage, f"이름 & '{request.node.name}'", plan())
    assert new
    study.equip(found, 2**32)  # as far as seeds of trainings go, which are larger than numpy's
    return found


def run(found, table, tmp_path, left=lambda: 1000.0):
    number = study.run_trial(found, plan(), table, SETTINGS, tmp_path, left)
    assert number == len(found.trials) - 1
    return found.trials[number]


def test_a_new_study_lies_in_its_folder_and_waits_for_the_default(begun, storage, folder):
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as database:
        assert (begun.study_name,) in database.execute("select study_name from studies").fetchall()
    read = optuna.load_study(study_name=begun.study_name, storage=storage)
    assert read.direction == optuna.study.StudyDirection.MAXIMIZE
    (first,) = read.trials
    assert (first.state, first.user_attrs) == (State.WAITING, {"default": True})
    assert first.system_attrs["fixed_params"] == {"lr": 0.002, "batch": 8}
    assert study.find_study(storage, begun.study_name).trials == begun.trials
    assert study.find_study(storage, "another") is None


def test_who_comes_second_joins_the_study_and_the_plan_of_who_was_first(begun, storage):
    again, new = study.begin(storage, begun.study_name, dataclasses.replace(plan(), folds=7))
    assert (new, len(again.trials)) == (False, 1)
    assert study.plan_of(again) == plan()


def test_a_file_that_is_no_database_is_refused_and_stays(tmp_path):
    (tmp_path / "study.db").write_bytes(b"a letter, by no means a database" * 9)
    with pytest.raises(UserError, match=r"study.db cannot be opened \(.*database\): expected a database URL"):
        study.connect("", tmp_path)
    assert (tmp_path / "study.db").read_bytes() == b"a letter, by no means a database" * 9


def test_a_plan_that_is_being_written_is_waited_for():
    found = optuna.create_study()
    writer = threading.Timer(0.3, found.set_user_attr, ("plan", dataclasses.asdict(plan())))
    writer.start()
    before = time.monotonic()
    assert study.plan_of(found) == plan()
    assert 0.2 < time.monotonic() - before < study._WAIT_SECONDS
    writer.join()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values.pop("home"), "missing 1 required positional argument: 'home'"),
        (lambda values: values.pop("recipe"), "'recipe'"),
        (lambda values: values["recipe"].update(moon="full"), "unexpected keyword argument 'moon'"),
    ],
)
def test_another_versions_plan_is_refused(change, told):
    found = optuna.create_study(study_name="옛 이름")
    values = dataclasses.asdict(plan())
    change(values)
    found.set_user_attr("plan", values)
    with pytest.raises(UserError, match=rf"the study '옛 이름' is another version's \(.*{told}\): .* Choose another --study"):
        study.plan_of(found)


def test_the_better_third_goes_on_at_the_first_report_and_after_the_first_and_third_fold():
    found = optuna.create_study(direction="maximize")
    study.equip(found, 2**32)  # as far as seeds of trainings go, which are larger than numpy's

    def stopped(scores):
        trial = found.ask()
        for step, score in enumerate(scores, 1):
            trial.report(score, step)
            if trial.should_prune():
                return step
        return None

    assert [stopped([score] * 9) for score in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)] == [None] * 6  # each is the best so far
    assert stopped([0.55] * 9) is None  # the second of seven
    assert stopped([0.45] * 9) == 1  # the fourth of eight
    assert stopped([0.58, 0.0, 0.0]) == 3  # what is between is not asked about
    assert stopped([0.59] * 3 + [0.0] * 6) == 9


def test_the_default_is_trained_to_its_end_and_reports_three_times_a_fold(begun, storage, table, tmp_path):
    def perfect(trial):
        for step in range(1, 7):
            trial.report(1.1, step)  # as none can be: who is not spared is stopped
            assert not trial.should_prune()
        return 1.1

    begun.optimize(perfect, n_trials=1)
    begun.enqueue_trial(plan().default(), user_attrs={"default": True})
    run(begun, table, tmp_path)
    default = optuna.load_study(study_name=begun.study_name, storage=storage).trials[1]
    assert default.state == State.COMPLETE
    assert sorted(default.intermediate_values) == [1, 2, 3, 4, 5, 6]
    first, second = default.user_attrs["folds"]
    assert default.value == pytest.approx((16 * first + 8 * second) / 24)
    assert default.intermediate_values[3] == pytest.approx(first)
    assert default.intermediate_values[6] == pytest.approx(default.value) == pytest.approx(study.score(default))
    assert default.params == plan().default()
    assert default.user_attrs["process"] == f"{socket.gethostname()}:{os.getpid()}"
    other = run(begun, table, tmp_path)
    assert (other.state, list(other.intermediate_values)) == (State.PRUNED, [1])
    assert {"folds", "reason"}.isdisjoint(other.user_attrs)


@pytest.mark.parametrize(("seconds", "folds", "reports"), [([0.0], 0, []), ([1000.0, -3.0], 1, [1, 2, 3]), ([1e-9], 0, [1])])
def test_a_trial_whose_time_is_up_counts_as_stopped_with_what_it_has(begun, table, tmp_path, seconds, folds, reports):
    trial = run(begun, table, tmp_path, left=iter(seconds).__next__)
    assert (trial.state, trial.user_attrs["reason"]) == (State.PRUNED, "the time was up")
    assert list(trial.intermediate_values) == reports
    assert len(trial.user_attrs.get("folds", [])) == folds


@pytest.mark.parametrize("error", [UserError("발산:\nsecond line"), RuntimeError("memory " * 100), MemoryError()])
def test_a_trial_that_fails_says_why_in_a_line_and_the_next_one_goes_on(begun, table, tmp_path, error):
    def left():
        raise error

    failed = run(begun, table, tmp_path, left=left)
    assert (failed.state, failed.params) == (State.FAIL, plan().default())
    assert failed.user_attrs["reason"] == (str(error).splitlines() or ["MemoryError"])[0][:300]
    assert failed.user_attrs["seconds"] >= 0
    assert run(begun, table, tmp_path, left=lambda: 0.0).number == 1


def test_a_trials_score_is_that_of_all_folds_or_of_its_last_report():
    reported = [(State.COMPLETE, 0.0, {1: 0.9}), (State.FAIL, None, {3: 0.4, 1: 0.9}), (State.FAIL, None, {})]
    trials = [optuna.trial.create_trial(state=s, value=value, intermediate_values=each) for s, value, each in reported]
    assert [study.score(trial) for trial in trials] == [0.0, 0.4, None]
