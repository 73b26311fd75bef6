"""Judges: numpy, hand counts, and a clock that is set by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.prepare import Preprocessing
from tapetum.training import loop, members
from tapetum.training.checkpoint import Progress
from tapetum.training.loop import Task


@pytest.fixture
def task(tmp_path):
    """Of twenty pictures, each of its own grey, every second one trains, from the last; the label is the rest by three."""
    pictures, rows = [np.full((8, 8, 3), i, np.uint8) for i in range(20)], np.arange(19, 0, -2)
    prepared, cpu = Preprocessing(8, "squash", 8, 8, 3), torch.device("cpu")
    return Task(
        training=TrainingLoader(pictures, rows, rows % 3, 3, None, prepared, 7, cpu),
        validation=ValidationLoader(pictures, np.arange(4), prepared, 3),
        validation_labels=np.arange(4) % 3,
        recipe=None,
        seed=7,
        device=cpu,
        mixed=False,
        folder=tmp_path / "내 모델" / "checkpoint",
        identity={"seed": 7, "data": "고양이"},
    )


def test_several_networks_differ_in_seed_and_folder_alone(task):
    assert members.parts(task, 1) == [task]
    found = members.parts(task, 2)
    assert [(each.seed, each.training.seed, each.identity, each.folder) for each in found] == [
        (7, 7, {"seed": 7, "data": "고양이"}, task.folder),
        (8, 8, {"seed": 8, "data": "고양이"}, task.folder.with_name("checkpoint-2")),
    ]
    others = {field.name for field in dataclasses.fields(Task)} - {"seed", "training", "folder", "identity", "keep_end"}
    assert all(getattr(each, name) is getattr(task, name) for each in found for name in others)
    assert task.identity == {"seed": 7, "data": "고양이"}


def test_each_fold_validates_one_network_and_trains_all_others(task):
    fold_N = np.array([2, 0, 1, 1, 0, 2, 2, 0, 0, 0])
    for i, each in enumerate(members.folds(task, fold_N)):
        trained, validated = task.training.rows[fold_N != i], task.training.rows[fold_N == i]
        assert each.training.rows.tolist() == trained.tolist()
        assert each.training.labels.tolist() == (trained % 3).tolist()
        assert [squares[:, 0, 0, 0].tolist() for squares in each.validation] == [
            validated[begin : begin + 3].tolist() for begin in range(0, len(validated), 3)
        ]
        assert each.validation_labels.tolist() == (validated % 3).tolist()
    assert i == 2


def fitted(monkeypatch, task, spent, distill):
    """Networks that take so many seconds each, and tell others: the answer, what each was given, what was said and logged."""
    clock, given, said, log, spent = [100.0], [], [], [], list(spent)

    def fit(task, network, resume, say, log):
        took, told = spent.pop(0)
        clock[0] += took
        given.append((task, network))
        log({"epoch": 1})
        return Progress(seconds=told)

    monkeypatch.setattr(members, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop, "fit", fit)
    tasks = members.parts(task, len(spent) - distill)
    network, _ = members.fit(tasks, lambda seed: torch.nn.Linear(2, 2), False, said.append, log.append, distill)
    return network, given, said, log


@pytest.mark.parametrize(
    ("deadline", "distill", "spent", "shares"),
    [
        (60.0, False, [(0, 10), (12, 9), (1, 1)], [20, 25, 38]),  # a resumed one's earlier seconds count, and what is not told
        (60.0, False, [(80, 80), (1, 1)], [30, -20]),
        (110.0, True, [(20, 20), (20, 20), (1, 1)], [30, 33.75, 70]),  # of 11/3 parts a pupil of two has 5/3
    ],
)
def test_the_time_that_is_left_is_shared_out_among_those_to_come(task, monkeypatch, deadline, distill, spent, shares):
    _, given, _, _ = fitted(monkeypatch, dataclasses.replace(task, deadline=deadline), spent, distill)
    assert [each.deadline for each, _ in given] == pytest.approx(shares)


def test_the_pupil_comes_last_and_no_checkpoint_of_a_third_member_is_its_own(task, monkeypatch):
    network, given, said, log = fitted(monkeypatch, task, [(1, 1)] * 3, True)
    tasks, networks = zip(*given, strict=True)
    assert network is networks[2]
    assert [each.teacher for each in tasks[:2]] == [None, None]
    assert list(tasks[2].teacher.members) == list(networks[:2])
    assert tasks[2].identity == {"seed": 9, "data": "고양이", "teachers": 2}
    assert tasks[2].folder == task.folder.with_name("checkpoint-3")
    assert said == ["network 1 of 3, seed 7", "network 2 of 3, seed 8", "network 3 of 3, seed 9, which learns from the others"]
    assert [(entry.get("stage"), entry.get("member")) for entry in log] == [("teacher", 1), ("teacher", 2), (None, None)]
