"""What processes tell each other, and that the loss of one ends all of them, with its name, and soon."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from launching import Processes, together
from tapetum import hearts, processes
from tapetum.errors import UserError


@pytest.mark.parametrize("number", [0, 1, 2, 7, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_are_all_of_it_even_and_the_first_has_one(monkeypatch, number, count):
    found = []
    monkeypatch.setattr(processes, "count", lambda: count)
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        found.append(list(range(number))[processes.part(number)])
    assert [each for part in found for each in part] == list(range(number))
    sizes = [len(each) for each in found]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[0] == max(sizes)


def everything():
    with processes.joined():
        rank = processes.rank()
        rows = torch.arange(6.0).reshape(3, 2)[: 0 if rank == 1 else rank + 1] + 10 * rank
        return {
            "who": (rank, processes.count(), processes.first()),
            "total": processes.total([rank, 0.25]),
            "most": processes.most(float(rank)),
            "decided": processes.decided(100.0 + rank),
            "told": processes.told({"rank": rank, "text": "고양이"}),
            "all_told": processes.all_told([rank] * rank),
            "gathered": processes.gathered(rows).tolist(),
            "nothing": processes.gathered(torch.zeros(0, 3)).shape,
            "tensors": {k: v.tolist() for k, v in processes.told_tensors({"a": torch.full((2,), rank + 1)}).items()},
        }


def threads_that_stay():
    beat = hearts.Hearts._beat
    hearts.Hearts._beat = lambda self: (beat(self), time.sleep(0.5))  # a slow answer of the store
    before = set(threading.enumerate())
    with processes.joined():
        during = set(threading.enumerate()) - before
    return len(during), len(set(threading.enumerate()) - before)


def test_no_thread_asks_the_store_once_they_have_parted():
    """One that did when Python ended would be ended within C++, and with it the process by SIGABRT."""
    assert together(2, threads_that_stay) == [(2, 0)] * 2


def test_what_three_processes_tell_each_other():
    found = together(3, everything)
    assert [each.pop("who") for each in found] == [(0, 3, True), (1, 3, False), (2, 3, False)]
    assert found[0] == found[1] == found[2]
    assert found[0]["total"] == [3.0, 0.75]
    assert found[0]["most"] == 2
    assert found[0]["decided"] == 100
    assert found[0]["told"] == {"rank": 0, "text": "고양이"}
    assert found[0]["all_told"] == [1, 2, 2]
    assert found[0]["gathered"] == [[0, 1], [20, 21], [22, 23], [24, 25]]
    assert found[0]["nothing"] == (0, 3)
    assert found[0]["tensors"] == {"a": [1, 1]}


def test_one_process_alone_gets_back_what_it_gave():
    with processes.joined():
        assert (processes.rank(), processes.count(), processes.part(5)) == (0, 1, slice(0, 5))
        assert processes.total([1.5]) == [1.5]
        rows = torch.ones(2)
        assert processes.gathered(rows) is rows
        assert processes.told({"a": (1,)}) == {"a": (1,)}


def test_it_imports_no_torch():
    script = "import sys, tapetum.processes; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def mistaken(of):
    with processes.joined():
        if processes.rank() in of:
            raise UserError("a.png has changed.")
        processes.wait()


@pytest.mark.parametrize("of", [[1], [0, 1, 2]])
def test_a_mistake_is_told_once_with_its_name_and_ends_all(of):
    _, codes, said, seconds = Processes(3, mistaken_and_told, of).wait()
    told = [line for line in "".join(said).splitlines() if line.startswith("tapetum: ")]
    assert len(told) == 1
    assert told[0].startswith("tapetum: a.png has changed (rank ")
    assert " of 3 on " in told[0]
    assert all(code in (2, hearts.LOST) for code in codes)
    assert seconds < 20


def mistaken_and_told(of):
    try:
        mistaken(of)
    except UserError as error:
        print(f"tapetum: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def lost(who, number):
    hearts._LOST_SECONDS = 3.0
    with processes.joined():
        for step in range(400):
            if step == 3 and processes.rank() == who:
                os.kill(os.getpid(), number)
            processes.total([1.0])
            time.sleep(0.01)


@pytest.mark.parametrize("who", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_hangs_is_named_and_nobody_waits(who, number):
    _, codes, said, seconds = Processes(3, lost, who, number).wait(40, dead=who)
    told = "".join(said)
    if who == 0:  # without torchrun the store was its own: it went with it, and so did its name
        assert "lost its connection" in told or "does not reach" in told
    else:
        assert f"rank {who} of 3 on " in told
        assert told.count("tapetum: ") <= 2  # one, unless the store goes with the process that says it
    others = [code for rank, code in enumerate(codes) if rank != who]
    assert others == [hearts.LOST] * 2
    assert seconds < 20


def differing():
    with processes.joined():
        processes.refuse_difference("the pictures", np.arange(processes.rank() + 1).tolist())


def test_other_pictures_in_another_process_are_refused():
    _, codes, said, _ = Processes(2, differing).wait()
    assert "the pictures differ from those of the first process: [0, 1] here, [0] there" in "".join(said)
    assert codes[1] == 1  # nobody catches the UserError here


def many_rows():
    """More than float32 counts one by one."""
    with processes.joined():
        rows = torch.zeros(2**24 + 1 + 2 * processes.rank(), dtype=torch.uint8)
        return len(processes.gathered(rows))


def test_rows_are_counted_exactly_however_many():
    assert together(2, many_rows) == [2**25 + 4] * 2


def test_what_this_process_began_itself_was_not_begun_before(monkeypatch):
    kept = {}

    class Store:
        def check(self, keys):
            return all(key in kept for key in keys)

        def get(self, key):
            return kept[key].encode()

        def set(self, key, value):
            kept[key] = value

    monkeypatch.setattr(processes, "_store_of_the_launch", Store)
    monkeypatch.setattr(processes, "_begun_here", set())
    assert processes.begun_before("photos") == ""
    processes.remember_begun("photos", "runs/photos")
    assert processes.begun_before("photos") == ""
    monkeypatch.setattr(processes, "_begun_here", set())  # the one that torchrun starts in its place
    assert processes.begun_before("photos") == "runs/photos"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no thread to some cores")
def test_the_cores_are_those_that_may_be_used():
    found = []

    def bound():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        found.append(processes.num_cores())

    thread = threading.Thread(target=bound)
    thread.start()
    thread.join()
    assert found == [1]
