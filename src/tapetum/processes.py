"""Several processes that work as one: who is who, what they tell each other, and what happens when one of them is lost.

torchrun (or whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as Slurm and Kubernetes do) starts them; inside
`with joined()` they can speak: gloo between processors, NCCL between NVIDIA GPUs. One process alone is the first of one: every
function here then gives back what it got, so the code that calls them has one way for both.

Nobody waits for the dead: a lost process ends the run, with its name (`hearts`). So what takes long, such as the first reading
of a million pictures, may take as long as it likes.

Numbers go through the network as they are and everything else as JSON: there is no pickle here either.
"""

import contextlib
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tapetum.errors import UserError, reason_of
from tapetum.hearts import LOST, Hearts

if TYPE_CHECKING:  # what works alone, and what computes without torch, imports none
    import torch
    import torch.distributed as dist

# Waiting has no end of its own: who is lost is found out otherwise.
_FOR_EVER = timedelta(days=30)
_LINGER_SECONDS = 2.0


@dataclass
class _Group:
    """This process's place among the others."""

    store: "dist.Store"
    rank: int
    count: int
    local_rank: int
    """Counted on its own machine."""
    name: str
    """For people: "rank 1 of 4 on host"."""
    hearts: Hearts


_group: _Group | None = None
_own_store: "dist.Store | None" = None
_joins = 0


class Lost(Exception):
    """Another process has ended, so this one cannot go on; what is to be said about it was said."""

    exit_code = LOST


def count() -> int:
    """How many processes work together; 1 outside `joined`."""
    return _group.count if _group else 1


def rank() -> int:
    """The number of this one, from 0."""
    return _group.rank if _group else 0


def first() -> bool:
    """Whether this one is the one that talks and writes."""
    return rank() == 0


def asked_for() -> bool:
    """Whether whoever started this process started others to work with it."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ


def local_rank() -> int | None:
    """The number of this process on its own machine, if there are others to work with; before `joined` too."""
    return int(os.environ.get("LOCAL_RANK") or 0) if asked_for() else None


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Work together with the processes that were started with this one, until the end of the `with`.

    A UserError on the way is told by one process, with its name, and ends all of them.

    Raises:
        Lost: another process has ended.
    """
    global _group
    if _group is not None or not asked_for():
        yield
        return
    _group = _meet()
    try:
        yield
        wait()  # for the one that writes: who left before it would seem to be lost
    except Lost:
        with contextlib.suppress(RuntimeError):
            _linger(_group)
        raise
    except UserError as error:
        told_already = False
        with contextlib.suppress(RuntimeError):
            digest = hashlib.sha256(str(error).encode()).hexdigest()
            told_already = _group.store.add(f"said/{digest}", 1) > 1
            if not told_already:
                _group.store.set("ended", _group.name)
            _linger(_group)
        if told_already:
            raise SystemExit(error.exit_code) from None  # all found the same; one of them says it
        raise UserError(f"{str(error).rstrip('.')} ({_group.name}).") from error
    finally:
        _group.hearts.stop()
        if sys.exception() is None:
            _part_company()
        _group = None


# What this process itself began: another training of the same script is none that was begun before.
_begun_here: set[str] = set()


def begun_before(what: str) -> str:
    """What `remember_begun` was given about `what` earlier in this launch, by processes in whose place torchrun started these.

    Empty where there is nothing. Only the first process needs to ask.
    """
    store = _store_of_the_launch() if what not in _begun_here else None
    return store.get(f"tapetum/begun/{what}").decode() if store and store.check([f"tapetum/begun/{what}"]) else ""


def remember_begun(what: str, about: str) -> None:
    """Let those who may be started in the place of these processes know."""
    if store := _store_of_the_launch():
        store.set(f"tapetum/begun/{what}", about)
        _begun_here.add(what)


def part(number: int) -> slice:
    """This process's share of `number` things in a row: even but for one, and the first process has one if there is any."""
    return part_of(rank(), number)


def part_of(one: int, number: int) -> slice:
    """The share of process `one` of `number` things."""
    return slice(-(-number * one // count()), -(-number * (one + 1) // count()))


def on_one_machine() -> bool:
    """Whether there are several, all of them on this machine."""
    return _group is not None and int(os.environ.get("LOCAL_WORLD_SIZE") or 1) == _group.count


def wait() -> None:
    """Until all are here."""
    if _group is not None:
        import torch.distributed as dist

        with _naming_the_lost():
            dist.barrier()


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Of each machine one process alone goes through the `with` first, then the others: they find done what it did.

    If it fails there, they do not begin.
    """
    if _group is not None and _group.local_rank:
        wait()
    yield
    if _group is not None:
        if not _group.local_rank:
            wait()
        wait()


def decided(value: float) -> float:
    """The first process's `value`, in all."""
    if _group is None:
        return value
    import torch
    import torch.distributed as dist

    shared = torch.tensor([value], dtype=torch.float64)
    with _naming_the_lost():
        dist.broadcast(shared, 0)
    return shared.item()


def told(value: Any) -> Any:
    """The first process's `value`, anything that JSON can hold, in all."""
    if _group is None:
        return value
    import torch
    import torch.distributed as dist

    text = torch.frombuffer(bytearray(json.dumps(value if first() else None).encode()), dtype=torch.uint8)
    size = int(decided(len(text)))
    if not first():
        text = torch.empty(size, dtype=torch.uint8)
    with _naming_the_lost():
        dist.broadcast(text, 0)
    return json.loads(text.numpy().tobytes())


def told_tensors(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The first process's `tensors`, in all."""
    if _group is None:
        return tensors
    import torch
    import torch.distributed as dist

    kinds = {name: [str(each.dtype).removeprefix("torch."), list(each.shape)] for name, each in tensors.items()}
    found = {}
    for name, (dtype, shape) in told(kinds).items():
        found[name] = tensors[name].contiguous() if first() else torch.empty(shape, dtype=getattr(torch, dtype))
        with _naming_the_lost():
            dist.broadcast(found[name], 0)
    return {name: tensors[name] if first() else each for name, each in found.items()}


def refuse_difference(what: str, value: Any) -> None:
    """Raise a UserError in the processes whose `value` is not that of the first."""
    mine = json.loads(json.dumps(value))
    if (theirs := told(mine)) != mine:
        raise UserError(f"{what} differ from those of the first process: {mine!r} here, {theirs!r} there. Make them the same.")


def total(values: Sequence[float]) -> list[float]:
    """Sums over all processes, float64."""
    return _reduced(values, "SUM")


def most(value: float) -> float:
    """The largest `value` of all processes."""
    return _reduced([value], "MAX")[0]


def _reduced(values: Sequence[float], how: str) -> list[float]:
    if _group is None:
        return list(values)
    import torch
    import torch.distributed as dist

    shared = torch.tensor(values, dtype=torch.float64)
    with _naming_the_lost():
        dist.all_reduce(shared, getattr(dist.ReduceOp, how))
    return shared.tolist()


def add_up(tensor: "torch.Tensor") -> None:
    """Replace `tensor` by its sum over all processes; each gets the same bits."""
    if _group is not None:
        import torch.distributed as dist

        with _naming_the_lost():
            dist.all_reduce(tensor)


def of_each(tensor: "torch.Tensor") -> "torch.Tensor":
    """`tensor`, of one shape everywhere, of every process: (processes, ...)."""
    if _group is None:
        return tensor[None]
    import torch
    import torch.distributed as dist

    found = [torch.empty_like(tensor) for _ in range(count())]
    with _naming_the_lost():
        dist.all_gather(found, tensor.contiguous())
    return torch.stack(found)


def gathered(rows: "torch.Tensor") -> "torch.Tensor":
    """The rows of all processes, those of the first one first, in all of them.

    Their numbers may differ, and be zero; the first process must have one, whose shape and kind those without take.
    """
    if _group is None:
        return rows
    import torch

    counts = [int(each) for each in of_each(torch.tensor(len(rows))).tolist()]
    shape = told([str(rows.dtype).removeprefix("torch."), *rows.shape[1:]])
    longest = torch.zeros(max(counts), *shape[1:], dtype=getattr(torch, shape[0]), device=rows.device)
    longest[: len(rows)] = rows if len(rows) else longest[:0]
    return torch.cat([each[:number] for each, number in zip(of_each(longest), counts, strict=True)])


def _linger(group: _Group) -> None:
    """Without a launcher the first process keeps the store: it stays until the others have asked, two seconds at most."""
    group.store.add("left", 1)
    until = time.monotonic() + _LINGER_SECONDS
    while _own_store is not None and first() and time.monotonic() < until and group.store.add("left", 0) < group.count:
        time.sleep(0.05)


def _part_company() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()


def all_told(values: Sequence[Any]) -> list[Any]:
    """The values of all processes, anything that JSON can hold, those of the first one first, in all of them."""
    if _group is None:
        return list(values)
    import torch

    text = torch.frombuffer(bytearray(json.dumps(list(values)).encode()), dtype=torch.uint8)
    sizes = [int(each) for each in of_each(torch.tensor(len(text))).tolist()]
    found, end = [], 0
    letters = gathered(text).numpy().tobytes()
    for size in sizes:
        begin, end = end, end + size
        found += json.loads(letters[begin:end])
    return found


def _meet() -> _Group:
    import torch
    import torch.distributed as dist

    global _joins, _own_store
    _joins += 1
    mine, all_of_them = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ.get("MASTER_ADDR", "localhost"), int(os.environ.get("MASTER_PORT", 29500))
    if not agents and _own_store is None:  # without torchrun nobody keeps a store for us: the first process does
        _own_store = dist.TCPStore(address, port, None, mine == 0)
    store = _own_store if _own_store is not None else _agent_store()
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), os.environ.get("GROUP_WORLD_SIZE", ""), _joins
    prefixed = dist.PrefixStore("tapetum/" + "/".join(map(str, attempt)), store)
    host = socket.gethostname()
    name = f"rank {mine} of {all_of_them} on {host}"
    backend = "gloo"
    # With more processes than GPUs only the processor can be meant; who asks for a GPU all the same is refused in device.py.
    if dist.is_nccl_available() and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) <= torch.cuda.device_count():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local_rank() or 0)
    dist.init_process_group(backend, store=prefixed, rank=mine, world_size=all_of_them, timeout=_FOR_EVER)
    return _Group(prefixed, mine, all_of_them, local_rank() or 0, name, Hearts(prefixed, mine, all_of_them, name))


def _store_of_the_launch() -> "dist.Store | None":
    """The store that the launcher keeps as long as it lives; the group's own part of it is new with each attempt."""
    return _agent_store() if _group and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else None


def _agent_store() -> "dist.Store":
    import torch.distributed as dist

    return dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


@contextlib.contextmanager
def _naming_the_lost() -> Iterator[None]:
    """A broken connection becomes `Lost`, and somebody says who is not there any more."""
    try:
        yield
    except RuntimeError as error:  # torch has no finer word for it
        assert _group is not None
        _group.hearts.name_the_lost(reason_of(error))
        raise Lost from error
