"""Judges: the networks of a cross-validation, asked one by one about the pictures that they did not see."""

import csv
import json
import re

import numpy as np
import pytest

import tapetum
from tapetum import judging
from tapetum.errors import UserError
from tapetum.inference import classifier

QUICK = dict(model="compact", size=32, epochs=3, batch=16, turn=0.0, crop_area=0.8, mixup=0.0, say=lambda line: None)


@pytest.fixture
def crossed(stripes, tmp_path):
    said = []
    run = tapetum.train(stripes, tmp_path / "run", folds=4, test=0.2, **{**QUICK, "say": said.append})
    return run, said, stripes


def test_every_picture_is_judged_once_by_a_network_that_did_not_see_it(crossed):
    run, said, stripes = crossed
    with (run.folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "folds"]
    with (run.folder / "splits.csv").open(newline="") as file:
        trained = {row["path"] for row in csv.DictReader(file) if row["split"] == "train"}
    assert len(rows) == len(trained) == 64
    assert {row["path"] for row in rows} == trained
    hits = sum(row["right"] == "yes" for row in rows)
    assert (run.metrics["folds"].accuracy.n, run.metrics["folds"].accuracy.value) == (64, hits / 64)
    assert run.metrics["test"].accuracy.n == 16
    folds = run.classifier.about["folds"]
    assert np.mean(folds["accuracies"]) == pytest.approx(folds["mean"]["value"])
    assert any(line.startswith("4 folds: ") for line in said)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert {entry["member"] for entry in log} == {1, 2, 3, 4}
    last = [entry for entry in log if entry["epoch"] == 3]
    assert sum(entry["val_n"] for entry in last) == 64
    for entry in last:  # each row names the network that left its picture out
        right = [row["right"] == "yes" for row in rows if row["fold"] == str(entry["member"])]
        assert (len(right), np.mean(right)) == (entry["val_n"], pytest.approx(entry["val_accuracy"]))
    # Each answer is that of exactly one of the four networks.
    networks = run.classifier.network.members
    alone = tapetum.load(run.folder)
    asked = [str(stripes / row["path"]) for row in rows]
    answers = []
    for network in networks:
        alone.network = network
        answers.append(alone.predict_proba(asked)[:, 0])
    told = np.array([float(row["p_lying"]) for row in rows])
    fits = np.isclose(np.array(answers), told, rtol=0, atol=1e-6).any(0)
    assert fits.all()


def test_the_page_says_how_it_was_judged_and_how_far_sureness_can_be_trusted(crossed):
    run, _, _ = crossed
    page = (run.folder / "report.html").read_text()
    assert "cross-validated" in page
    assert f"tapetum labels {run.folder}" in page
    with (run.folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    rows.sort(key=lambda row: -float(row["probability"]))
    wrong = [row["right"] == "no" for row in rows]
    told = run.classifier.about["surest_half"]
    assert (told["wrong"]["n"], told["wrong"]["value"]) == (16, np.mean(wrong))
    assert (told["wrong_of_half"]["n"], told["wrong_of_half"]["value"]) == (8, np.mean(wrong[:8]))
    assert f"{np.mean(wrong[:8]) * 100:.1f} % of these answers would have been wrong" in page
    assert len(re.findall(r'<svg class="chart"[^>]* aria-label="[^"]{20,}"', page)) == 4


@pytest.mark.parametrize(
    "options", [{"val": 0.4, "test": 0.2}, {"val": 0.4, "test": 0.2, "members": 2}, {"folds": 2, "test": 0.2}]
)
def test_after_a_training_no_picture_is_computed_twice_for_one_purpose(stripes, tmp_path, monkeypatch, options):
    counted = {}
    for name in ("learn_strangers", "answers"):
        monkeypatch.setattr(judging, name, counting(getattr(judging, name), name, counted, monkeypatch))
    tapetum.train(stripes, tmp_path / "run", **{**QUICK, "epochs": 1, **options})
    # What is known comes from 32 training pictures (of each half of 64 by the other), 32 validate (all 64, each once), 16 test.
    assert counted == {"learn_strangers": 128 if "folds" in options else 64, "answers": 16}


def counting(work, name, counted, monkeypatch):
    """`work`, which tells how many pictures it sent through the networks."""

    def told(*arguments, **options):
        to_input = classifier.to_input
        with monkeypatch.context() as patch:
            seen = []
            patch.setattr(classifier, "to_input", lambda images, how: seen.append(len(images)) or to_input(images, how))
            result = work(*arguments, **options)
        counted[name] = sum(seen)
        return result

    return told


@pytest.mark.parametrize(
    ("options", "other"),
    [({"members": 2}, "members"), ({"unlabelled": "x"}, "unlabelled"), ({"split": "notes"}, "split notes")],
)
def test_what_does_not_go_with_folds_is_refused(stripes, tmp_path, options, other):
    with pytest.raises(UserError, match=f"folds 3 with {other}: expected one or the other"):
        tapetum.train(stripes, tmp_path / "run", folds=3, **options)
    assert not (tmp_path / "run").exists()


def test_calibration_is_told_kept_and_left_out_where_asked(stripes, tmp_path, monkeypatch):
    from tapetum.evaluation import calibration

    monkeypatch.setattr(calibration, "cross_tempered", lambda labels, p_NK: np.eye(2)[labels])  # it helps on others
    said = []
    run = tapetum.train(stripes, tmp_path / "on", val=0.45, **{**QUICK, "say": said.append})
    told = run.classifier.about["calibration"]
    assert told["n"] == 36
    assert run.classifier.temperature == told["temperature"] != 1
    assert tapetum.load(run.folder).temperature == run.classifier.temperature
    assert any("calibrated with temperature" in line for line in said)
    off = tapetum.train(stripes, tmp_path / "off", val=0.45, calibrate="off", **QUICK)
    assert (off.classifier.temperature, off.classifier.about["calibration"]) == (1.0, None)
    # The same network, other probabilities, the same answers.
    assert on_equal_terms(run, off, stripes)


def test_a_temperature_that_is_chance_is_not_taken(stripes, tmp_path, monkeypatch):
    from tapetum.evaluation import calibration
    from tapetum.inference.answers import temper

    monkeypatch.setattr(calibration, "cross_tempered", lambda labels, p_NK: temper(p_NK, 9.0))
    said = []
    run = tapetum.train(stripes, tmp_path / "run", val=0.45, **{**QUICK, "epochs": 6, "say": said.append})
    assert (run.classifier.temperature, run.classifier.about["calibration"]) == (1.0, None)
    assert any("probabilities left as they are" in line for line in said)


def on_equal_terms(run, off, stripes):
    pictures = sorted(str(path) for path in stripes.rglob("*.png"))[:20]
    a, b = tapetum.load(run.folder).predict_proba(pictures), tapetum.load(off.folder).predict_proba(pictures)
    return (a.argmax(1) == b.argmax(1)).all() and not np.allclose(a, b)
