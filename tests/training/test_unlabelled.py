"""Unlabelled pictures join the training with guessed targets; what is labelled or unreadable among them is left out."""

import csv
import hashlib
import json
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

import tapetum
from conftest import encoded, interrupted_in_step, write_stripes
from tapetum.errors import UserError
from tapetum.evaluation.compare import compare
from tapetum.evaluation.evaluate import evaluate
from tapetum.training import loop, unlabelled

QUICK = dict(model="compact", size=32, epochs=4, batch=16, crop_area=0.8, rotate=0.0, mixup=0.0, turn=0.0, erase=0.0, flip="on")


@pytest.fixture
def heap(tmp_path, stripes):
    """A flat folder of 30 new pictures, a copy of a labelled one, and a broken one."""
    folder = tmp_path / "heap"
    folder.mkdir()
    for path in write_stripes(tmp_path / "more", count=15, seed=9).rglob("*.png"):
        shutil.copy(path, folder / path.name)
    shutil.copy(stripes / "lying" / "lying.0.png", folder / "copy.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def train(stripes, out, heap, said=None, **options):
    say = (lambda line: None) if said is None else said.append
    return tapetum.train(stripes, out, unlabelled=str(heap), say=say, **{**QUICK, **options})


def test_a_second_network_learns_from_the_guesses_of_the_first(stripes, heap, tmp_path, monkeypatch):
    tasks = []
    before = unlabelled.with_guesses

    def spy(task, teacher, pictures, rows):
        tasks.append((task, teacher, before(task, teacher, pictures, rows)))
        return tasks[0][2]

    monkeypatch.setattr(unlabelled, "with_guesses", spy)
    said = []
    run = train(stripes, tmp_path / "run", heap, said)
    assert any("30 unlabelled pictures (2 left out" in line for line in said)
    (before_task, _, task), *_ = tasks
    assert len(before_task.training.rows) == 64
    assert len(task.training.rows) == 94
    known, guessed = task.training.guesses_NK[:64], task.training.guesses_NK[64:]
    assert np.array_equal(known.argmax(1), before_task.training.labels)
    assert set(known.ravel()) == {0.0, 1.0}
    assert guessed.sum(1) == pytest.approx(np.ones(30))
    assert ((guessed > 0) & (guessed < 1)).all()
    # Longer epochs, so fewer of them: 4 * (94 / 64) ** -0.4.
    assert task.recipe.epochs == 3
    # The last pictures of the joined collection are those of the heap.
    assert np.array_equal(task.training.pictures[int(task.training.rows[-1])].shape, (40, 48, 3))
    targets = torch.cat([batch.targets_BK for batch in task.training.epoch(0)])
    assert targets.sum() == pytest.approx(94, rel=1e-5)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [entry.get("stage") for entry in log] == ["first"] * 4 + [None] * 3
    assert run.metrics["val"].accuracy.n == 16
    # What trained is written down, and no test of this run.
    with (run.folder / "unlabelled.csv").open(encoding="utf-8", newline="") as file:
        written = {row["path"]: row["sha256"] for row in csv.DictReader(file)}
    new = [path for path in sorted(heap.iterdir()) if path.name not in ("copy.png", "broken.png")]
    assert written == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in new}
    found = evaluate(run.folder, tmp_path / "more")
    assert found.note == "All of these pictures were in its training: this accuracy says nothing about new ones."
    with pytest.raises(UserError, match="all 30 pictures of .* were in a training: nothing to compare on"):
        compare(run.folder, run.folder, tmp_path / "more")
    tapetum.train(stripes, run.folder, overwrite=True, say=lambda line: None, **{**QUICK, "epochs": 1})
    assert not (run.folder / "unlabelled.csv").exists()


def test_a_heap_that_is_not_there_is_refused_before_anything_is_written(stripes, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(UserError, match=name):
            train(stripes, tmp_path / "run", tmp_path / name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step_number", [6, 19])
def test_either_training_is_resumed_to_the_same_weights(stripes, heap, tmp_path, step_number):
    whole = train(stripes, tmp_path / "whole", heap)
    with interrupted_in_step(step_number):
        train(stripes, tmp_path / "broken", heap)
    resumed = tapetum.train(stripes, tmp_path / "broken", resume=True, say=lambda line: None)
    for name, tensor in whole.classifier.network.state_dict().items():
        assert torch.equal(tensor, resumed.classifier.network.state_dict()[name]), name


def test_neither_is_resumed_with_other_unlabelled_pictures(stripes, heap, tmp_path):
    with interrupted_in_step(6):
        train(stripes, tmp_path / "broken", heap)
    shutil.copy(stripes / "upright" / "upright.0.png", heap / "known.png")  # one that trains already changes nothing
    (heap / "new.png").write_bytes(encoded(Image.new("RGB", (48, 40), "teal")))
    with pytest.raises(UserError, match="cannot be resumed: unlabelled pictures was"):
        tapetum.train(stripes, tmp_path / "broken", resume=True, say=lambda line: None)
    (heap / "new.png").unlink()
    assert tapetum.train(stripes, tmp_path / "broken", resume=True, say=lambda line: None).metrics["val"].accuracy.n == 16


def test_the_minutes_and_the_cost_are_those_of_all(stripes, heap, tmp_path, monkeypatch):
    guesses, deadlines, seconds = unlabelled.with_guesses, [], []

    def slow(task, *rest):
        time.sleep(1.5)
        deadlines.append(task.deadline)
        return guesses(task, *rest)

    fit = loop.fit

    def noted(task, *rest):
        deadlines.append(task.deadline)
        progress = fit(task, *rest)
        seconds.append(progress.seconds)
        return progress

    monkeypatch.setattr(unlabelled, "with_guesses", slow)
    monkeypatch.setattr(loop, "fit", noted)
    run = train(stripes, tmp_path / "run", heap, minutes=1)
    first, of_all, second = deadlines
    assert first == pytest.approx(0.4 * of_all)
    assert second < of_all - seconds[0] - 1.4
    assert json.loads((run.folder / "cost.json").read_text())["training_seconds"] == pytest.approx(sum(seconds), abs=0.1)
