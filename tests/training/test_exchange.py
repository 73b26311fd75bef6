import os
from pathlib import Path

import pytest
import torch

from launching import together
from tapetum import processes
from tapetum.training import exchange
from tapetum.training.exchange import Exchange

LENGTH = 100_003


def added(way):
    if way == "network":
        processes.on_one_machine = lambda: False
    if way == "full" and os.environ["RANK"] == "1":
        exchange.os.posix_fallocate = full
    with processes.joined():
        found = Exchange(LENGTH, torch.zeros(1))
        processes.wait()
        left = [path.name for path in Path("/dev/shm").glob("tapetum-*")] if processes.first() else []
        sums = []
        for step in range(20):
            found.flat.zero_()
            found.flat += torch.randn(LENGTH, generator=torch.Generator().manual_seed(10 * step + processes.rank()))
            found.add_up()
            sums.append(found.flat.clone())
        return torch.stack(sums).numpy(), bool(found._others), left


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory under a name here")
@pytest.mark.parametrize(("way", "shared"), [("memory", True), ("network", False), ("full", False)])
def test_all_get_the_sum_to_the_same_bits_by_memory_and_by_network(way, shared):
    draws = [
        [torch.randn(LENGTH, generator=torch.Generator().manual_seed(10 * step + rank)) for rank in range(3)]
        for step in range(20)
    ]
    expected = torch.stack([torch.stack(each).double().sum(0) for each in draws])
    found = together(3, added, way)
    for sums, was_shared, left in found:
        assert was_shared is shared
        assert left == []  # nothing of it has a name any more
        assert (sums == found[0][0]).all()
        assert abs(torch.from_numpy(sums).double() - expected).max() < 2e-6
