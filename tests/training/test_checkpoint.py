"""Judges: safetensors' own reader, the bytes on the disk, and a state that was never put away."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tapetum.errors import UserError
from tapetum.training import checkpoint
from tapetum.training.checkpoint import Progress, State
from tapetum.training.optim import Average

# No field is as in a fresh one, and no float is a short decimal.
PROGRESS = Progress(
    step=3, epoch=1, seconds=1 / 3, lr=0.1 + 0.2, size=48, began=1e-17, restarts=2, loss_sum=2 / 3, correct=5.5, seen=7.0,
    best_epoch=4, best_accuracy=1 / 7, best_loss=1e300, stopped="시간", history=[{"epoch": 1, "val_loss": 1 / 9}],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "내 모델 [1]" / "checkpoint"


def fresh(seed=0, optimizer=torch.optim.AdamW, **options):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    network.to(memory_format=torch.channels_last)
    return State(network, Average(network, 0.9), optimizer(network.parameters(), lr=0.1, fused=True, **options))


def advance(state, steps):
    for step in steps:
        images = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        state.optimizer.zero_grad()
        state.network(images).square().mean().backward()
        state.optimizer.step()
        state.average.update(state.network, step)


def save(folder, *steps):
    state = fresh()
    for step in steps:
        state.progress.step = step
        checkpoint.save(folder, state, {})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("optimizer", "options", "kept"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, {"momentum_buffer"}),
        (torch.optim.AdamW, {}, {"step", "exp_avg", "exp_avg_sq"}),
    ],
)
def test_a_state_put_away_comes_back_to_the_bit_and_goes_on_as_if_it_never_had_been(folder, optimizer, options, kept):
    states = [fresh(seed, optimizer, **options) for seed in (0, 1)]
    advance(states[0], range(3))
    states[0].progress = copy.deepcopy(PROGRESS)
    states[0].best = {name: value.clone() for name, value in states[0].average.network.state_dict().items()}
    advance(states[0], [3])
    checkpoint.save(folder, states[0], {"사진": "고양이"})
    found = load_file(folder / "state-000000003.safetensors")
    for part, network in (("network", states[0].network), ("average", states[0].average.network)):
        assert all(torch.equal(found.pop(f"{part}/{name}"), value) for name, value in network.state_dict().items())
    assert all(torch.equal(found.pop(f"best/{name}"), value) for name, value in states[0].best.items())
    assert found.keys() == {f"optimizer/{i}/{name}" for i in range(6) for name in kept}

    checkpoint.restore(folder, states[1], {"사진": "고양이"})
    assert states[1].progress == PROGRESS
    for steps in ([], [4, 5, 6]):
        for state, name in zip(states, "ab", strict=True):
            advance(state, steps)
            checkpoint.save(folder.with_name(name), state, {})
        assert files(folder.with_name("a")) == files(folder.with_name("b"))


def test_all_other_settings_are_named_and_nothing_of_them_is_taken(folder):
    checkpoint.save(folder, fresh(seed=1), {"lr": 0.1, "data": "고양이", "size": 32})
    found = fresh()
    with pytest.raises(UserError) as refused:
        checkpoint.restore(folder, found, {"lr": 0.1, "data": "개", "size": 48, "teachers": 2})
    assert str(refused.value) == (
        f"{folder.parent} cannot be resumed: data was '고양이' and is '개'; size was 32 and is 48; teachers was None and is 2. "
        "Use the same data and settings, or a new --out."
    )
    assert torch.equal(found.network[0].weight, fresh().network[0].weight)


@pytest.mark.parametrize("steps", [(7,), (6, 7)])
def test_where_none_is_whole_it_is_said_and_none_is_removed(folder, steps):
    save(folder, *steps)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    before = files(folder)
    with pytest.raises(UserError, match=f"state-{steps[0]:09d}.safetensors is damaged"):
        checkpoint.restore(folder, fresh(), {})
    assert files(folder) == before


def test_what_is_called_otherwise_is_no_checkpoint_and_is_left_alone(folder):
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "state-7.safetensors", "state-000000007.safetensors.bak", ".state-000000008.x.part"):
        (folder / name).write_bytes(b"mine")
    others = files(folder)
    assert not checkpoint.any_in(folder.parent)
    save(folder, 1, 2, 3)
    assert files(folder).keys() == {*others, "state-000000002.safetensors", "state-000000003.safetensors"}
    checkpoint.forget(folder)
    assert files(folder) == others


def test_a_checkpoint_that_finds_no_room_pushes_out_none(folder):
    resource = pytest.importorskip("resource")
    save(folder, 1, 2)
    before = files(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file may grow longer
    try:
        with pytest.raises(UserError, match=r"could not write .*state-000000003.safetensors .*nothing was left behind"):
            save(folder, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(folder) == before
