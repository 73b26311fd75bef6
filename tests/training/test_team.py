"""However many processes train together, they make the network that one process makes."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

import tapetum
from conftest import write_stripes
from launching import Processes, distance, log, together
from tapetum import processes
from tapetum.data.loader import TrainingLoader
from tapetum.training import loop
from tapetum.training.signals import Interrupted
from tapetum.training.team import Team

PARTS = ([3, 0, 4], [1, 6])


def network_and_pictures():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5, momentum=None), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(80, 4), nn.BatchNorm1d(4), nn.Dropout(0.5),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    pictures = torch.randn(7, 3, 6, 6).mul(3).add(2).contiguous(memory_format=torch.channels_last)
    return network, pictures, torch.randn(7, 4)


def of_a_part(sizes, network_only=False):
    """Outputs, gradients and statistics of one step; the plain network's where all is one part."""
    if network_only:
        processes.on_one_machine = lambda: False
    network, pictures, slopes = network_and_pictures()
    with processes.joined():
        begin = sum(sizes[: processes.rank()])
        part = slice(begin, begin + sizes[processes.rank()])
        team = Team(network)
        with team.layers():
            team.begin(part, 7)
            torch.manual_seed(5)
            outputs = network(pictures[part])
            (outputs * slopes[part]).sum().backward()
            team.add_gradients()
        assert [type(layer).__name__[0] for layer in network] == list("CBRBFDLBD")  # none is left as it was for the step
        gradients = [parameter.grad.clone().numpy() for parameter in network.parameters()]
        buffers = [buffer.clone().numpy() for buffer in network.buffers()]
        return processes.gathered(outputs.detach()).numpy(), gradients, buffers


@pytest.mark.parametrize("sizes", PARTS)
@pytest.mark.parametrize("network_only", [False, True])
def test_batchnorm_dropout_and_gradients_are_those_of_the_whole_batch(sizes, network_only):
    expected = of_a_part([7])
    for outputs, gradients, buffers in together(len(sizes), of_a_part, sizes, network_only):
        np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-5)
        assert (outputs == 0).tolist() == (expected[0] == 0).tolist()
        for found, right in zip([*gradients, *buffers], [*expected[1], *expected[2]], strict=True):
            np.testing.assert_allclose(found, right, rtol=2e-4, atol=2e-5)


def test_without_the_whole_batch_they_would_differ(monkeypatch):
    monkeypatch.setattr(Team, "layers", lambda self: __import__("contextlib").nullcontext())
    network, pictures, _ = network_and_pictures()
    torch.manual_seed(5)
    whole = network(pictures)
    torch.manual_seed(5)
    assert (network(pictures[3:]) - whole[3:]).abs().max() > 0.1


def batches(pictures, rows, labels, recipe, prepared):
    loader = TrainingLoader(pictures, rows, labels, 2, recipe, prepared, 0, torch.device("cpu"))
    return list(loader.epoch(1))


def test_the_parts_of_a_batch_are_the_batch(stripes, monkeypatch):
    from tapetum.config import Settings
    from tapetum.data.cache import open_pictures
    from tapetum.data.sources import find_samples
    from tapetum.training import recipes

    samples = find_samples(stripes)
    asked = Settings(model="compact", size=32, start_size=32, batch=16, mixup=0.3, cutmix=0.5, turn=0.4, erase=0.2, rotate=9.0)
    recipe, _ = recipes.choose(asked, recipes.Facts(80, 2, 40, False, 1.0, None))
    prepared = recipes.preprocessing(recipe)
    given = open_pictures(samples, prepared.reduce), np.arange(70), samples.labels[:70], recipe, prepared
    whole = batches(*given)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(processes, "count", lambda: 3)
        parts.append(batches(*given))
    for step, batch in enumerate(whole):
        own = [each[step] for each in parts]
        for name in ("images_BCHW", "targets_BK", "labels_B"):
            assert torch.equal(torch.cat([getattr(each, name) for each in own]), getattr(batch, name)), name
        assert all(each.whole == batch.whole == len(batch.images_BCHW) for each in own)


def train(data, out, options, stop=None, rank=0):
    """A training; at step `stop` the process `rank` asks for its end."""
    step = loop._step

    def counted(task, state, *rest):
        if processes.rank() == rank and state.progress.step + 1 == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        step(task, state, *rest)

    loop._step = counted
    try:
        run = tapetum.train(data, out, say=lambda line: None, **options)
    except Interrupted as ended:
        return str(ended)
    finally:
        loop._step = step
    return {split: found.accuracy.value for split, found in run.metrics.items()}


ALL = dict(
    size=32, start_size=32, batch=16, epochs=2, mixup=0.2, cutmix=0.5, jitter=0.1, ema=0.9, val=0.3, balance="on", rescue="off",
    turn=0.0, precision="float32",
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """101 pictures, so that nothing divides."""
    folder = write_stripes(tmp_path / "data", 51)
    (folder / "lying" / "lying.0.png").unlink()
    return folder


# `compact` has BatchNorm, the others none. Muon makes steps of full length of what is nearly zero: it has a test of its own.
@pytest.mark.parametrize(
    ("options", "near"),
    [
        (dict(model="lenet", optimizer="sgd", lr=0.01), 1e-4),
        pytest.param(dict(model="alexnet", size=63, start_size=63, optimizer="sgd", lr=0.001), 1e-4, marks=pytest.mark.slow),
        (dict(model="compact", optimizer="sgd", lr=0.01, turn=0.3), 1e-2),
    ],
)
def test_two_and_three_processes_make_the_network_of_one(data, tmp_path, options, near):
    options = {**ALL, **options}
    alone = train(data, tmp_path / "1", options)
    for number in (2, 3):
        found = together(number, train, data, tmp_path / str(number), options)
        assert found == [alone] * number
        assert distance(tmp_path / "1", tmp_path / str(number)) < near
        for mine, theirs in zip(log(tmp_path / "1"), log(tmp_path / str(number)), strict=True):
            assert mine.keys() == theirs.keys()
            assert all(mine[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-6) for name in mine)
        answers = [(tmp_path / each / "predictions.csv").read_text().splitlines() for each in ("1", str(number))]
        assert [line.split(",")[:5] for line in answers[0]] == [line.split(",")[:5] for line in answers[1]]
        assert {path.name for path in (tmp_path / "1").iterdir()} == {path.name for path in (tmp_path / str(number)).iterdir()}


def test_a_stop_asked_of_one_stops_all_at_one_step_and_the_rest_is_equal_to_the_bit(data, tmp_path):
    options = {**ALL, "model": "compact", "optimizer": "muon", "turn": 0.3}
    together(2, train, data, tmp_path / "whole", options)
    out = tmp_path / "stopped"
    said = together(2, train, data, out, options, 7, 1)
    assert said == [said[0]] * 2
    assert said[0].startswith("stopped after step 7 of ")
    together(2, train, data, out, {"resume": True})
    assert distance(tmp_path / "whole", out) == 0
    assert log(tmp_path / "whole") == log(out)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_the_checkpoint_of_some_is_gone_on_with_by_others(data, tmp_path, before, after):
    options = {**ALL, "model": "lenet", "optimizer": "sgd", "lr": 0.001}
    whole = train(data, tmp_path / "whole", options)
    said = together(before, train, data, tmp_path / "broken", options, 4)
    assert said[0].startswith("stopped after step 4 of ")
    assert together(after, train, data, tmp_path / "broken", {"resume": True}) == [whole] * after
    assert distance(tmp_path / "whole", tmp_path / "broken") < 1e-4


def test_a_budget_is_one_clock_for_all(data, tmp_path):
    options = {**ALL, "model": "compact", "optimizer": "sgd", "epochs": 10_000, "minutes": 0.15}
    _, codes, said, _ = Processes(2, train, data, tmp_path / "run", options).wait()
    assert codes == [0, 0], said
    # Ten thousand epochs would take far longer. How exactly a budget is kept, a busy machine cannot tell.
    assert json.loads((tmp_path / "run" / "cost.json").read_text())["seconds_so_far"] < 60
    assert len(log(tmp_path / "run")) > 0
