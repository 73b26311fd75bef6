"""The search: what its trials see, what is kept of them, who makes the model, and what is refused."""

import csv
import dataclasses
import json
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.stats import binomtest

import tapetum
from conftest import interrupted_in_step, write_stripes
from tapetum.config import Settings
from tapetum.errors import UserError
from tapetum.scaling import fitting, planning, study
from tapetum.scaling import tune as module
from tapetum.scaling.tune import Stopped, tune
from tapetum.training import recipes

pytest.importorskip("optuna", reason="the search needs Optuna (extra tune)")

QUICK = Settings(
    model="lenet-now", size=32, start_size=32, epochs=3, rotate=0.0, erase=0.0, minutes=15.0
)  # trials end it, so that no clock does
FLAGS = ["--model", "lenet-now", "--size", "32", "--start-size", "32", "--epochs", "3"]
FLAGS += ["--rotate", "0", "--erase", "0", "--minutes", "15"]


def silent(line):
    pass


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_stripes(tmp_path_factory.mktemp("photos") / "줄 무늬")
    (folder / "lying" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def tuned(photos, tmp_path_factory):
    """A search of five trials, of which the third fails; the pictures that trained and judged in it are written down."""
    seen, fit = [], fitting.fit

    def noted(table, trains_N, judges_N, recipe, settings, **options):
        names = np.array(table.samples.names)
        seen.append((set(names[trains_N]), set(names[judges_N]), recipe))
        if len({dataclasses.astuple(recipe) for _, _, recipe in seen}) == 3:
            raise UserError("the loss became nan: the training has diverged.")
        return fit(table, trains_N, judges_N, recipe, settings, **options)

    out, said = tmp_path_factory.mktemp("out") / "찾기 1", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPETUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(fitting, "fit", noted)
        found = tune(photos, out, trials=5, settings=QUICK, say=said.append)
    return found, out, seen, said


def test_no_trial_sees_what_the_proof_is_made_on(tuned):
    _, out, seen, _ = tuned
    parts = rows(out / "default" / "splits.csv")
    test = {row["path"] for row in parts if row["split"] == "test"}
    assert len(test) == 16
    rest = {row["path"] for row in parts} - test
    assert len(rest) == 64
    for trains, judges, _ in seen:
        assert not (trains | judges) & test
        assert trains | judges == rest
        assert not trains & judges
    first = [judges for _, judges, recipe in seen if recipe == seen[0][2]]
    assert len(first) == 3
    assert set.union(*first) == rest  # the default's three folds leave out every picture once


def test_every_trial_stands_in_the_table(tuned):
    found, out, seen, _ = tuned
    table = rows(out / "trials.csv")
    assert [int(row["trial"]) for row in table] == [0, 1, 2, 3, 4]
    assert table[0]["default"] == "yes"
    assert table[0]["state"] == "finished"
    assert float(table[0]["lr"]) == seen[0][2].lr
    assert table[2]["state"] == "failed"
    assert table[2]["reason"] == "the loss became nan: the training has diverged."
    searched = {"lr", "weight_decay", "mixup", "crop_area", "turn"}  # size was named, and too few pictures for other batches
    assert searched == set(found.search.defaults)
    recipes_seen = list(dict.fromkeys(dataclasses.astuple(recipe) for _, _, recipe in seen))
    assert len(recipes_seen) == 5
    for row in table:
        assert all(row[name] for name in searched)
        assert row["process"]
        if row["state"] == "finished":
            assert row["folds"] == "3"
    assert found.added == 5
    assert [trial.number for trial in found.search.trials] == [0, 1, 2, 3, 4]


def test_the_score_is_the_share_of_right_answers_of_all_folds(tuned):
    default = tuned[0].search.default
    sizes = [len(judges) for _, judges, recipe in tuned[2] if recipe == tuned[2][0][2]]
    assert default.score == pytest.approx(np.average(default.folds, weights=sizes))


def right(run):
    return np.array([row["right"] == "yes" for row in rows(run / "predictions.csv") if row["split"] == "test"])


def test_the_model_is_the_winners_only_if_that_is_shown(tuned):
    found, out, _, _ = tuned
    chosen = json.loads((out / "metrics.json").read_text())["test"]["accuracy"]
    assert chosen == json.loads((out / found.search.chosen / "metrics.json").read_text())["test"]["accuracy"]
    assert str(out) in found.search.verdict
    if found.search.comparison is None:
        assert found.search.best.default
        assert "No trial beat the default" in found.search.verdict
        return
    a, b = right(out / "default"), right(out / "tuned")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    comparison = found.search.comparison
    assert (comparison.only_a, comparison.only_b) == (only_a, only_b)
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert comparison.p == pytest.approx(p)
    assert found.search.chosen == ("tuned" if p < 0.05 and only_b > only_a else "default")


@pytest.mark.parametrize(("wrong_of_default", "chosen"), [(14, "tuned"), (1, "default")])
def test_both_ways_to_end(tuned, monkeypatch, tmp_path, wrong_of_default, chosen):
    """The final runs are made up: the default is wrong in some pictures in which the tuned one is right."""
    found, _, _, _ = tuned

    def run(folder, plan, table, values, settings, say):
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(folder.name)
        answers = np.full(20, 0.9)
        answers[: wrong_of_default if folder.name == "default" else 0] = 0.1
        predictions = module.Predictions(
            ("a", "b"), tuple(map(str, range(20))), np.arange(20), np.c_[answers, 1 - answers], ("",) * 20, ()
        )
        return module.Judged(np.zeros(20, np.int64), predictions, np.zeros(20, bool), "")

    monkeypatch.setattr(module, "_run", run)
    default = dataclasses.replace(found.search.trials[0], score=0.6)
    better = dataclasses.replace(default, number=7, default=False, score=0.7, values={**default.values, "lr": 0.1})
    (plan, table) = planned(tuned)
    search = module._final(tmp_path, plan, table, [default, better], QUICK, silent)
    assert search.chosen == chosen == (tmp_path / "metrics.json").read_text()
    assert ("not shown to beat" in search.verdict) == (chosen == "default")
    assert f"{100 * wrong_of_default / 20:+.1f} points on 20 pictures that no trial saw" in search.verdict
    assert search.verdict in search.text()


def planned(tuned):
    """The plan of the search, and a table in its place."""
    from tapetum.data.sources import find_samples
    from tapetum.data.table import Table

    out = tuned[1]
    plan = study.plan_of(study.find_study(study.connect("", out), out.name))
    samples = find_samples(tuned[0].search.data)
    return plan, Table(None, np.arange(len(samples)), samples, np.full(len(samples), -1))


def test_the_folder_is_a_run_like_any_other(tuned, photos):
    out = tuned[1]
    classifier = tapetum.load(out)
    assert classifier.classes_ == ("lying", "upright")
    assert classifier.predict([photos / "lying" / "lying.0.png"])[0] in classifier.classes_
    assert {row["path"] for row in rows(out / "left_out.csv")} == {"lying/broken.png"}
    assert not (out / "checkpoint").exists()
    assert not list(out.glob(".training-*"))
    assert len(list(photos.rglob("*"))) == 83


def test_the_page_stands_alone(tuned):
    page = (tuned[1] / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert page.count("<svg") == 1 + len(tuned[0].search.defaults)
    assert len(page) < 600_000
    assert "the training has diverged" in page
    assert "줄 무늬" in page


def test_the_same_call_adds_trials(tuned, photos):
    _, out, _, _ = tuned
    before = rows(out / "trials.csv")
    said = []
    found = tune(photos, out, trials=1, settings=QUICK, say=said.append)
    after = rows(out / "trials.csv")
    assert after[:5] == before
    assert len(after) == 6
    assert found.added == 1
    assert any(line.endswith("which has 5 trials") for line in said)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (dataclasses.replace(QUICK, lr=0.01), "cannot go on: lr was 'auto' and is 0.01"),
        (dataclasses.replace(QUICK, folds=4), "cannot go on: folds was 3 and is 4"),
        (dataclasses.replace(QUICK, seed=9), "is of other pictures, or of the same with another --seed"),
    ],
)
def test_a_study_goes_on_as_it_began_or_not_at_all(tuned, photos, settings, told):
    before = (tuned[1] / "trials.csv").read_bytes()
    with pytest.raises(UserError, match=told):
        tune(photos, tuned[1], trials=1, settings=settings, say=silent)
    assert (tuned[1] / "trials.csv").read_bytes() == before


def test_a_study_of_other_pictures_is_refused(tuned, tmp_path):
    others = write_stripes(tmp_path / "others", seed=5)
    with pytest.raises(UserError, match="is of other pictures"):
        tune(others, tuned[1], trials=1, settings=QUICK, say=silent)
    storage = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    import optuna

    optuna.create_study(storage=storage, study_name="somebody's")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tapetum.scaling.study._WAIT_SECONDS", 0.0)
        with pytest.raises(UserError, match="the study 'somebody's' is not one of tapetum's"):
            tune(others, tmp_path / "out", storage=storage, name="somebody's", settings=QUICK, say=silent)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_finished_trials_and_says_how_to_go_on(photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with interrupted_in_step(14):  # a fold has three epochs of two steps
        tune(photos, out, settings=QUICK, say=silent)
    table = rows(out / "trials.csv") if (out / "trials.csv").exists() else []
    assert [row["state"] for row in table] in ([], ["failed"])
    from tapetum.__main__ import main

    def stop(*arguments, **options):
        raise Stopped(3, 2, out, 0.84)

    monkeypatch.setattr(module, "tune", stop)
    monkeypatch.setattr(sys, "argv", ["tapetum", "tune", str(photos), *FLAGS])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    told = capsys.readouterr().err
    assert f"stopped; 3 finished trials are kept in {out}; go on with: tapetum tune '{photos}' --model lenet-now" in told
    assert told.rstrip().endswith(f"--out {out} --minutes 0.8")
    found = tune(photos, out, trials=1, settings=QUICK, say=silent) if not table else None
    assert found is None or found.search.count("failed") == 1


def test_two_processes_share_a_study(photos, tmp_path):
    command = [sys.executable, "-m", "tapetum", "tune", photos, "--out", tmp_path / "둘", "--trials", "2", *FLAGS, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    found = [json.loads(out) for out, _ in told]
    assert sorted(bool(each["model"]) for each in found) == [False, True]  # one of them made the model
    table = rows(tmp_path / "둘" / "trials.csv")
    assert [int(row["trial"]) for row in table] == list(range(4))
    assert len({row["process"] for row in table}) == 2
    assert [row["default"] for row in table].count("yes") == 1
    assert tapetum.load(tmp_path / "둘").classes_ == ("lying", "upright")


def test_another_folder_joins_by_its_storage(tuned, photos, tmp_path):
    import optuna

    storage = f"sqlite:///{tuned[1] / 'study.db'}"
    # As long as the process that began it has time, however late this test comes.
    optuna.load_study(study_name=tuned[1].name, storage=storage).set_user_attr("ends", time.time() + 600)
    found = tune(photos, tmp_path / "helper", trials=1, storage=storage, name=tuned[1].name, settings=QUICK, say=silent)
    assert found.search.chosen == ""
    assert "makes the final trainings" in found.search.verdict
    assert {path.name for path in (tmp_path / "helper").iterdir()} >= {"tune.json", "trials.csv", "left_out.csv"}
    assert not (tmp_path / "helper" / "model.safetensors").exists()
    assert not (tmp_path / "helper" / "study.db").exists()


def test_a_folder_that_was_moved_to_another_machine_still_makes_its_model(tuned, photos, tmp_path, monkeypatch):
    moved = shutil.copytree(tuned[1], tmp_path / "moved")
    before = study.plan_of(study.find_study(study.connect("", moved), tuned[1].name))
    assert json.loads((moved / "tune.json").read_text(encoding="utf-8")) == {"study": tuned[1].name, "home": before.home}
    (moved / "model.safetensors").unlink()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    found = tune(photos, moved, trials=1, settings=QUICK, say=silent)
    assert found.search.chosen
    assert (moved / "model.safetensors").exists()
    assert rows(moved / "trials.csv")[-1]["process"].startswith("elsewhere:")


@pytest.mark.parametrize("moment", ["connect", "begin"])
def test_a_search_that_was_killed_in_its_first_moment_goes_on(photos, tmp_path, monkeypatch, moment):
    """Also one that begins in that moment is not refused."""
    out = tmp_path / "out"

    def killed(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(study, moment, killed)
        with pytest.raises(SystemExit):
            tune(photos, out, settings=QUICK, say=silent)
    home = json.loads((out / "tune.json").read_text())["home"]
    assert (out / "study.db").exists() == (moment == "begin")
    found = tune(photos, out, trials=1, settings=QUICK, say=silent)
    assert found.search.chosen == "default"
    assert study.plan_of(study.find_study(study.connect("", out), "out")).home == home


def test_a_folder_in_which_nothing_can_be_written_is_refused(photos, tmp_path, monkeypatch):
    def denied(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.FileLock, "acquire", denied)
    with pytest.raises(UserError, match=r"could not write to .*out \(Permission denied\): nothing was changed"):
        tune(photos, tmp_path / "out", settings=QUICK, say=silent)


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("nonsense", "the storage nonsense cannot be opened"),
        ("sqlite:////nowhere/at/all.db", "cannot be opened .unable to open database file"),
        ("postgresql://me:secret@localhost/db", "the storage localhost/db cannot be opened"),
        ("foo://bar", "the storage foo://bar cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_refused(photos, tmp_path, storage, told):
    with pytest.raises(UserError, match=told) as refused:
        tune(photos, tmp_path / "out", storage=storage, settings=QUICK, say=silent)
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_too_little_is_refused_and_nothing_is_left(photos, tmp_path):
    few = write_stripes(tmp_path / "few", count=3)
    for data, settings, told in (
        (few, QUICK, "folds 3: class 'lying' has 2 different readable pictures, expected 3 or more. Use fewer folds"),
        (
            photos,
            dataclasses.replace(QUICK, minutes=0.05),
            r"minutes 0\.05 are too short for one trial of 3 folds and two final",
        ),
        (photos, dataclasses.replace(QUICK, unlabelled=str(few)), "unlabelled: "),
    ):
        with pytest.raises(UserError, match=told):
            tune(data, tmp_path / "out", settings=settings, say=silent)
        assert not (tmp_path / "out").exists()


@pytest.mark.slow  # what is enough on a quiet machine
def test_the_minutes_that_are_said_to_be_needed_are_enough(photos, tmp_path):
    with pytest.raises(UserError) as refused:
        tune(photos, tmp_path / "out", settings=dataclasses.replace(QUICK, minutes=0.05), say=silent)
    (needed,) = re.findall(r"about ([\d.]+) or more", str(refused.value))
    assert 0.3 < float(needed) < 3
    found = tune(photos, tmp_path / "out", trials=1, settings=dataclasses.replace(QUICK, minutes=float(needed)), say=silent)
    assert found.search.default.state == "finished"


def test_folders_of_something_else_are_left_alone(photos, tmp_path):
    with pytest.raises(UserError, match="lies inside the pictures"):
        tune(photos, photos / "out", settings=QUICK)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.toml").write_text("")
    with pytest.raises(UserError, match="holds files of another kind: a search needs a folder of its own"):
        tune(photos, tmp_path / "run", settings=QUICK)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        tune(photos, tmp_path / "file", settings=QUICK)


def test_without_optuna_a_sentence_says_how_to_get_it(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=re.escape("pip install 'tapetum[tune]'")):
        tune(photos, tmp_path / "out", settings=QUICK)


def facts(count=400):
    return recipes.Facts(count, 2, 375, False)


def test_what_is_named_is_not_searched():
    recipe, _ = recipes.choose(Settings(), facts())
    searched = planning.space(recipe, Settings(lr=0.01, turn=0.5), 400, whole=True)
    assert set(searched) == {"weight_decay", "batch", "mixup", "crop_area", "size"}
    short = planning.space(recipe, Settings(), 400, whole=False)
    assert set(short) == {"lr", "weight_decay", "batch", "mixup", "crop_area"}
    digits, _ = recipes.choose(Settings(), recipes.Facts(1000, 10, 28, True))
    assert "warp" in planning.space(digits, Settings(), 1000, whole=False)
    assert "turn" not in planning.space(digits, Settings(), 1000, whole=True)  # turned writing is other writing


def test_the_default_is_one_of_the_choices():
    for given in (facts(), recipes.Facts(30_000, 10, 28, True), recipes.Facts(60, 3, 32, False)):
        recipe, _ = recipes.choose(Settings(), given)
        for name, each in planning.space(recipe, Settings(), given.count, whole=True).items():
            value = getattr(recipe, name)
            assert value in each["options"] if "options" in each else each["low"] < value < each["high"], name


def test_larger_pictures_get_fewer_epochs():
    recipe, _ = recipes.choose(Settings(epochs=60), facts())
    plan = planning.Plan("", {}, recipe, facts(), 3, {}, 1.0, 1.0, "")
    assert plan.recipe_with({}).epochs == 60
    larger = plan.recipe_with({"size": 144})
    assert larger.size == 144
    assert larger.start_size < 144
    assert larger.epochs % planning.REPORTS == 0
    work = [each.epochs * planning._area(each) for each in (plan.recipe_with({}), larger)]
    assert work[1] == pytest.approx(work[0], rel=0.08)
