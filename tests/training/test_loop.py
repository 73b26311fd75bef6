"""The loop learns, keeps the right epoch, is interrupted and resumed to the bit, and keeps to its time."""

import dataclasses
import os
import signal
import time

import numpy as np
import pytest
import torch

from tapetum import models
from tapetum.config import Settings, decide
from tapetum.data.cache import open_pictures
from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.sources import find_samples
from tapetum.data.splits import split
from tapetum.errors import UserError
from tapetum.training import checkpoint, loop, recipes
from tapetum.training.checkpoint import Progress, State
from tapetum.training.loop import Task
from tapetum.training.optim import Average, make_optimizer
from tapetum.training.signals import Interrupted

SETTINGS = Settings(
    model="compact", size=32, fit="crop", crop_area=0.6, flip="on", jitter=0.1, rotate=0.0, erase=0.0, mixup=0.2, epochs=3,
    start_size=32, cutmix=0.0, turn=0.0, balance="off", rescue="off",
    crops="resized", warp=0.0, pca=0.0, views="one",
    batch=10, micro_batch=10, optimizer="adamw", lr=0.002, schedule="cosine", weight_decay=0.01, label_smoothing=0.0, ema=0.9,
    keep="last",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def make(stripes, tmp_path):
    """A function that gives a fresh task and network, with some settings changed."""
    samples = split(find_samples(stripes), 0.25, 0, 0)

    def fresh(folder="run", deadline=float("inf"), **changes):
        recipe = decide(dataclasses.replace(SETTINGS, **changes), {})
        prepared = recipes.preprocessing(recipe)
        pictures = open_pictures(samples, prepared.reduce)
        train, val = (np.flatnonzero(samples.splits == part) for part in ("train", "val"))
        torch.manual_seed(0)
        network = models.build(recipe.model, 2, recipe.size).to(memory_format=torch.channels_last)
        task = Task(
            training=TrainingLoader(pictures, train, samples.labels[train], 2, recipe, prepared, 0, CPU),
            validation=ValidationLoader(pictures, val, prepared, 32),
            validation_labels=samples.labels[val],
            recipe=recipe,
            seed=0,
            device=CPU,
            mixed=False,
            folder=tmp_path / folder,
            identity={"lr": recipe.lr, "data": "x"},
            deadline=deadline,
        )
        return task, network

    return fresh


def run(task, network, resume=False):
    log = []
    progress = loop.fit(task, network, resume, lambda line: None, log.append)
    return progress, log


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(make):
    _, log = run(*make(epochs=8, mixup=0.0))
    assert log[0]["train_loss"] > log[-1]["train_loss"]
    assert log[-1]["val_accuracy"] >= 0.9
    assert [entry["epoch"] for entry in log] == list(range(1, 9))


def test_it_repeats_to_the_bit_and_the_seed_matters(make):
    results = []
    for seed in (0, 0, 1):
        task, network = make(f"run{len(results)}")
        run(dataclasses.replace(task, seed=seed, training=dataclasses.replace(task.training, seed=seed)), network)
        results.append(weights(network))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_the_epoch_loss_counts_pictures_not_batches(make):
    task, network = make(epochs=1, batch=59, mixup=0.0, lr=1e-9, schedule="constant", ema=0.0)
    network.eval()  # only to compare: dropout and BatchNorm behave as in training again below
    _, log = run(task, network)
    # 60 pictures in batches of 59 and 1: the plain mean of two batch losses would be ruled by the single picture.
    losses = []
    network.train()
    for step, batch in enumerate(task.training.epoch(0)):
        torch.manual_seed(task.seed * 1_000_003 + step)
        losses += torch.nn.functional.cross_entropy(network(batch.images_BCHW), batch.labels_B, reduction="none").tolist()
    assert log[0]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-3)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_epoch_is_in_the_network(make, keep, monkeypatch):
    kept = []
    end_epoch = loop._validate

    def spy(task, state, clock):
        kept.append(weights(state.average.network))
        return end_epoch(task, state, clock)

    monkeypatch.setattr(loop, "_validate", spy)
    # A rate that is far too high makes the last epoch differ from the best.
    task, network = make(keep=keep, epochs=4, lr=0.05, schedule="constant", ema=0.0)
    progress, log = run(task, network)
    ranks = [(entry["val_accuracy"], -entry["val_loss"]) for entry in log]
    assert progress.best_epoch == ranks.index(max(ranks)) + 1
    assert same(weights(network), kept[progress.best_epoch - 1 if keep == "best" else -1])


def stop_after(steps, monkeypatch, number=signal.SIGINT):
    """Send this process a signal in the middle of a step."""
    count = [0]
    step = loop._step

    def counted(*arguments):
        count[0] += 1
        if count[0] == steps:
            os.kill(os.getpid(), number)
        step(*arguments)

    monkeypatch.setattr(loop, "_step", counted)


@pytest.mark.parametrize("steps", [1, 4, 6, 7, 13])
def test_interrupted_and_resumed_ends_as_if_unbroken(make, monkeypatch, steps):
    task, network = make("whole")
    _, whole = run(task, network)
    with monkeypatch.context() as patch:
        stop_after(steps, patch)
        task, broken = make("broken")
        with pytest.raises(Interrupted) as stopped:
            run(task, broken)
    assert stopped.value.exit_code == 130
    assert str(stopped.value) == f"stopped after step {steps} of 18"
    task, resumed = make("broken")
    progress, rest = run(task, resumed, resume=True)
    assert same(weights(network), weights(resumed))
    without_time = [{k: v for k, v in e.items() if k != "seconds"} for e in progress.history]
    assert without_time == [{k: v for k, v in e.items() if k != "seconds"} for e in whole]
    assert rest == progress.history


def test_a_termination_signal_has_its_own_exit_code(make, monkeypatch):
    stop_after(2, monkeypatch, signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        run(*make())
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_resuming_with_other_settings_names_the_difference(make, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(Interrupted):
            run(*make())
    task, network = make()
    with pytest.raises(UserError, match=r"cannot be resumed: lr was 0.002 and is 0.5"):
        run(dataclasses.replace(task, identity={**task.identity, "lr": 0.5}), network, resume=True)


def test_resuming_nothing_is_said(make):
    with pytest.raises(UserError, match="holds no checkpoint"):
        run(*make("empty"), resume=True)


def test_two_checkpoints_are_kept_and_a_damaged_newest_is_passed_over(make):
    task, network = make()
    state = State(network, Average(network, 0.9), make_optimizer(network, task.recipe))
    for step in (1, 2, 3):
        state.progress.step = step
        checkpoint.save(task.folder, state, {})
    files = sorted(task.folder.iterdir())
    assert [f.name for f in files] == ["state-000000002.safetensors", "state-000000003.safetensors"]
    files[1].write_bytes(files[1].read_bytes()[:-1])
    checkpoint.restore(task.folder, state, {})
    assert state.progress.step == 2


@pytest.mark.parametrize("where", ["network", "average", "best", "optimizer"])
def test_no_checkpoint_holds_a_number_that_is_not_finite(make, where):
    task, network = make()
    state = State(network, Average(network, 0.9), make_optimizer(network, task.recipe))
    checkpoint.save(task.folder, state, {})
    bad = torch.tensor([1.0, float("inf")])
    match where:
        case "best":
            state.best = {"x": bad}
        case "optimizer":
            state.optimizer.state[next(network.parameters())]["exp_avg"] = bad
        case _:
            holder = network if where == "network" else state.average.network
            next(holder.parameters()).data[0] = float("nan")
    state.progress.step = 7
    with pytest.raises(UserError, match=r"after step 7 the network holds numbers that are not finite.*lower --lr"):
        checkpoint.save(task.folder, state, {})
    assert [path.name for path in task.folder.iterdir()] == ["state-000000000.safetensors"]


def test_a_loss_that_is_no_number_stops_with_a_sentence(make):
    with pytest.raises(UserError, match=r"loss of \S+\.png and \d+ more became (nan|inf) in epoch 1.*lower --lr"):
        run(*make(model="lenet", optimizer="sgd", lr=100.0, schedule="constant"))


def test_a_time_budget_is_kept_and_the_rate_still_falls_to_zero(make):
    task, network = make(deadline=4.0, epochs=100_000, ema=0.0)
    begun, said, log = time.monotonic(), [], []
    progress = loop.fit(task, network, False, said.append, log.append)
    # The last step and validation may take longer than those before them on a busy machine.
    assert 2.5 < time.monotonic() - begun < 8
    assert progress.stopped == "time"
    assert log[-1]["lr"] < 0.1 * SETTINGS.lr
    told = (
        f"the time budget ended it after {progress.epoch:,} of at most 100,000 epochs; the learning rate had fallen to its end"
    )
    assert said[-1] == f"{told} by then"


@pytest.mark.parametrize("steps", [4, 13])
def test_growing_pictures_survive_an_interruption(make, monkeypatch, steps):
    grown = dict(size=64, start_size=32, epochs=4)
    seen = []
    step = loop._step

    def spy(task, state, batch, *rest):
        seen.append(batch.images_BCHW.shape[-1])
        step(task, state, batch, *rest)

    task, network = make("whole", **grown)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", spy)
        run(task, network)
    assert seen == [32] * 6 + [48] * 12 + [64] * 6
    with monkeypatch.context() as patch:
        stop_after(steps, patch)
        task, broken = make("broken", **grown)
        with pytest.raises(Interrupted):
            run(task, broken)
    task, resumed = make("broken", **grown)
    run(task, resumed, resume=True)
    assert same(weights(network), weights(resumed))


def test_of_many_short_epochs_only_some_are_validated_and_none_is_lost(make):
    task, network = make(epochs=15, batch=60, size=16)
    progress, log = run(dataclasses.replace(task, validations=7), network)
    assert [entry["epoch"] for entry in log] == [2, 4, 6, 8, 10, 12, 14, 15]
    assert progress.epoch == 15
    assert progress.step == 15
    # Where the best epoch is kept, each is asked.
    task, network = make("best", epochs=8, batch=60, size=16, keep="best")
    assert [entry["epoch"] for entry in run(dataclasses.replace(task, validations=4), network)[1]] == list(range(1, 9))


def test_a_training_that_does_not_learn_begins_again_more_carefully(make):
    said = []
    # At this rate the first steps throw the network where every picture gets the same answer.
    task, network = make(model="lenet", lr=0.2, epochs=12, mixup=0.0, rescue="on", weight_decay=0.0, ema=0.0)
    log = []
    progress = loop.fit(task, network, False, said.append, log.append)
    assert progress.restarts == 2
    again = [line for line in said if "starting again" in line]
    assert "learning rate of 0.05" in again[0]
    assert "learning rate of 0.0125" in again[1]
    assert max(entry["lr"] for entry in progress.history) <= 0.0125
    assert [entry["epoch"] for entry in progress.history] == list(range(1, 13))
    # And one that learns does not.
    assert run(*make("well", epochs=8, mixup=0.0, rescue="on"))[0].restarts == 0


@pytest.mark.parametrize(
    ("train_loss", "val_loss", "right", "again"),
    [
        (1.93, 0.69, 0, True),  # guessing gives ln 2, and ln 2 + 0.5 ln 2 + 0.5 ln 6 = 1.936 where half are turned
        (1.93, 0.65, 0, False),  # of turned and mixed pictures little can be said, of whole ones enough
        (1.80, 0.69, 0, False),
        (1.80, 3.00, 0, False),  # sure and wrong of others, but it learns
        (1.93, 0.69, 2.9, True),  # standard errors more right answers than half: luck may do that
        (1.93, 0.69, 3.1, False),
    ],
)
def test_either_loss_and_right_answers_tell_that_something_is_learnt(make, train_loss, val_loss, right, again):
    task, _ = make(rescue="on", turn=0.5)
    accuracy = 0.5 + right * 0.5 / len(task.training.labels) ** 0.5
    entry = {"train_loss": train_loss, "val_loss": val_loss, "train_accuracy": accuracy}
    progress = Progress(step=500, history=[entry])
    assert loop._learns_nothing(task, progress, 0.5) == again
    assert not loop._learns_nothing(task, progress, 0.2)  # too early to ask


def test_a_restart_begins_from_the_same_weights(make, monkeypatch):
    task, network = make(epochs=10, rescue="on", mixup=0.0)
    fresh = weights(network)
    starts = []
    step = loop._step

    def spy(task, state, *rest):
        if state.progress.step == 0:
            starts.append((weights(state.network), weights(state.average.network), len(state.optimizer.state)))
        step(task, state, *rest)

    monkeypatch.setattr(loop, "_step", spy)
    monkeypatch.setattr(loop, "_FLAT", 0.0)  # whatever it learns counts as nothing
    monkeypatch.setattr(loop, "_SURE", np.inf)
    progress, _ = run(task, network)
    assert progress.restarts == 2
    assert len(starts) == 3
    for network_then, average_then, optimizer_states in starts:
        assert same(fresh, network_then)
        assert same(fresh, average_then)
        assert optimizer_states == 0


@pytest.mark.parametrize("model", ["compact", "lenet-textbook"])
def test_the_faster_way_ends_where_the_plain_one_does(make, model):
    results = []
    for fast in (True, False):
        task, network = make(f"run{fast}", model=model, epochs=2)
        kinds = [type(layer) for layer in network.modules()]
        run(dataclasses.replace(task, fast=fast), network)
        assert [type(layer) for layer in network.modules()] == kinds
        results.append(weights(network))
    for name, value in results[1].items():
        torch.testing.assert_close(results[0][name], value, rtol=1e-3, atol=1e-4)
