"""A batch in portions makes the step of the whole batch; where memory runs out, a training is that of the smaller portions."""

import itertools

import pytest
import torch

import tapetum
from conftest import write_stripes
from launching import Processes, distance, log, together
from tapetum import models, processes
from tapetum.errors import UserError
from tapetum.training import checkpoint, estimate, loop
from tapetum.training.portions import least, portions

QUICK = dict(
    precision="float32", size=32, start_size=32, epochs=3, batch=16, val=0.3, rescue="off", optimizer="sgd", lr=0.01, ema=0.9
)


@pytest.fixture
def data(tmp_path):
    """41 pictures train: the last step has not as many as the others."""
    return write_stripes(tmp_path / "data", 30)


def train(data, out, **options):
    said = []
    tapetum.train(data, out, say=said.append, **{**QUICK, **options})
    return said


def train_together(data, out, options):
    train(data, out, **options)


def starved(monkeypatch, most, begin=0):
    """Memory for `most` pictures at once, from the step `begin` on; it runs out after all of the forward pass."""
    steps, real = itertools.count(), loop.loss

    def loss(outputs, *rest):
        if len(outputs) > most and (begin == 0 or next(steps) >= begin):
            raise torch.OutOfMemoryError("no memory for so many")
        return real(outputs, *rest)

    monkeypatch.setattr(loop, "loss", loss)
    if begin == 0:
        monkeypatch.setattr(estimate, "loss", loss)


@pytest.mark.parametrize("whole", [1, 2, 5, 9, 33])
@pytest.mark.parametrize("at_once", [1, 2, 3, 40])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_portions_are_the_part_and_equally_many_everywhere(whole, at_once, number, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: number)
    found = [portions(processes.part_of(rank, whole), whole, at_once) for rank in range(number)]
    assert len({len(each) for each in found}) == 1
    for rank, each in enumerate(found):
        part = processes.part_of(rank, whole)
        assert [i for some in each for i in range(some.start, some.stop)] == list(range(part.stop - part.start))
        lengths = [some.stop - some.start for some in each]
        assert max(lengths) <= at_once + (at_once > 1)
        if number == 1 and whole > 1 and at_once > 1:
            assert min(lengths) > 1


def test_without_batchnorm_portions_change_rounding_only(data, tmp_path):
    train(data, tmp_path / "whole", model="lenet")  # which has dropout, and no BatchNorm
    train(data, tmp_path / "portions", model="lenet", micro_batch=5)
    assert 0 < distance(tmp_path / "whole", tmp_path / "portions") < 1e-4
    together(2, train_together, data, tmp_path / "two", {"model": "lenet", "micro_batch": 3})
    assert distance(tmp_path / "whole", tmp_path / "two") < 1e-4


@pytest.mark.parametrize("model", ["compact", "lenet-now"])
def test_where_memory_runs_out_the_training_is_that_of_the_smaller_portions_to_the_bit(data, tmp_path, monkeypatch, model):
    train(data, tmp_path / "asked", model=model, micro_batch=4)
    starved(monkeypatch, 4)
    said = train(data, tmp_path / "starved", model=model)
    assert "memory ran out: computing 4 pictures at once from step 1 on" in said
    assert distance(tmp_path / "asked", tmp_path / "starved") == 0
    assert log(tmp_path / "asked") == log(tmp_path / "starved")


def test_it_may_run_out_late_and_a_resumed_training_knows(data, tmp_path, monkeypatch):
    train(data, tmp_path / "whole", model="lenet")
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    starved(monkeypatch, 5, begin=4)
    said = train(data, tmp_path / "late", model="lenet")
    assert "memory ran out: computing 4 pictures at once from step 5 on" in said
    assert distance(tmp_path / "whole", tmp_path / "late") < 1e-4
    _, about = checkpoint._newest(tmp_path / "late" / "checkpoint")
    assert about["progress"]["micro_batch"] == 4


def test_what_was_too_much_can_be_gone_on_with_in_portions(data, tmp_path, monkeypatch):
    train(data, tmp_path / "whole", model="lenet")
    with monkeypatch.context() as changed:
        changed.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
        steps, real = itertools.count(), loop._step
        changed.setattr(loop, "_step", lambda *given: real(*given) if next(steps) < 5 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(data, tmp_path / "run", model="lenet")
    tapetum.train(data, tmp_path / "run", resume=True, micro_batch=4, say=lambda line: None)
    assert 0 < distance(tmp_path / "whole", tmp_path / "run") < 1e-4


def test_not_even_the_fewest(data, tmp_path, monkeypatch):
    assert least(models.build("lenet-now", 2, 32)) == 2
    starved(monkeypatch, 1)
    with pytest.raises(UserError, match="memory ran out while 2 pictures at once were computed. Use a smaller --size"):
        train(data, tmp_path / "run", model="lenet-now")


def test_batchnorm_needs_two(data, tmp_path):
    with pytest.raises(UserError, match="micro_batch 1 with lenet-now: its BatchNorm compares"):
        train(data, tmp_path / "run", model="lenet-now", micro_batch=1)


def without_memory(data, out):
    real = loop.loss

    def loss(outputs, *rest):
        if processes.rank() == 1 and len(outputs) > 4:
            raise torch.OutOfMemoryError("no memory for so many")
        return real(outputs, *rest)

    loop.loss = loss
    train(data, out, model="lenet")


def test_of_several_processes_the_one_without_memory_says_what_to_do(data, tmp_path):
    _, codes, said, _ = Processes(2, without_memory, data, tmp_path / "run").wait(60)
    assert all(codes)
    assert "Use --micro-batch 4, or fewer processes on a machine." in said[1]
