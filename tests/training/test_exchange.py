import os
from pathlib import Path

import pytest
import torch

from launching import together
from tapetum import processes
from tapetum.training import exchange
from tapetum.training.exchange import Exchange

LENGTH = 100_003


def named():
    """What of the memory has a name, and what this process has open there."""
    opened = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [path for path in opened if path.startswith("/dev/shm/#")], [path.name for path in Path("/dev/shm").iterdir()]


def added(way):
    if way == "network":
        processes.on_one_machine = lambda: False
    if way == "full" and os.environ["RANK"] == "1":
        exchange.os.posix_fallocate = full
    if way == "unreachable" and os.environ["RANK"] == "1":
        exchange.torch.from_file = unreachable
    with processes.joined():
        found = Exchange(LENGTH, torch.zeros(1))
        left, _ = named()
        sums = []
        for step in range(20):
            found.flat.zero_()
            found.flat += torch.randn(LENGTH, generator=torch.Generator().manual_seed(10 * step + processes.rank()))
            found.add_up()
            sums.append(found.flat.clone())
        return torch.stack(sums).numpy(), bool(found._others), left


def full(*_):
    raise OSError(28, "No space left on device")


def unreachable(*_, **options):
    raise RuntimeError("unable to open file: Permission denied")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory under a name here")
@pytest.mark.parametrize(("way", "shared"), [("memory", True), ("network", False), ("full", False), ("unreachable", False)])
def test_all_get_the_sum_to_the_same_bits_by_memory_and_by_network(way, shared):
    draws = [
        [torch.randn(LENGTH, generator=torch.Generator().manual_seed(10 * step + rank)) for rank in range(3)]
        for step in range(20)
    ]
    expected = torch.stack([torch.stack(each).double().sum(0) for each in draws])
    found = together(3, added, way)
    for sums, was_shared, left in found:
        assert was_shared is shared
        assert left == []  # mapped, it need not be open
        assert (sums == found[0][0]).all()
        assert abs(torch.from_numpy(sums).double() - expected).max() < 2e-6


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory under a name here")
@pytest.mark.parametrize("call", [1, 2])
def test_a_process_that_is_lost_leaves_nothing_in_the_memory(monkeypatch, call):
    """Whatever is told to the others while the memory is there: it has no name by which it could stay."""
    before, seen = set(named()[1]), []

    def told(values):
        seen.append(named())
        if len(seen) == call:
            raise processes.Lost
        return values

    monkeypatch.setattr(processes, "on_one_machine", lambda: True)
    monkeypatch.setattr(processes, "all_told", told)
    with pytest.raises(processes.Lost):
        Exchange(LENGTH, torch.zeros(1))
    assert len(seen) == call
    for opened, names in seen:
        assert len(opened) == 1
        assert not [name for name in set(names) - before if name.startswith("tapetum-")]
    assert named()[0] == []
