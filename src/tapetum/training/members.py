"""One network, or several that will answer as one: each goes through the training loop, one after the other."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import torch

from tapetum.models.ensemble import Ensemble
from tapetum.training import checkpoint, loop
from tapetum.training.checkpoint import Progress
from tapetum.training.loop import Task


def fit(
    task: Task,
    make: Callable[[int], torch.nn.Module],
    count: int,
    resume: bool,
    say: Callable[[str], None],
    log: Callable[[dict], None],
) -> tuple[torch.nn.Module, list[Progress]]:
    """Train `count` networks that differ in their seeds, and so in everything random; the first has the task's own.

    Args:
        task: of the first network; the time of its deadline is shared out evenly.
        make: a freshly initialised network on the task's device, from a seed.
        count: 1 gives a plain network, more an Ensemble.
        resume: finished networks are taken from their checkpoints, an unfinished one goes on, the rest begins.
        say, log: as the training loop's; entries of several networks carry their number.

    Returns:
        The network, trained, and what is told of each training.
    """
    if count == 1:
        network = make(task.seed)
        return network, [loop.fit(task, network, resume and checkpoint.exists(task.folder), say, log)]
    networks, told = [], []
    for i in range(count):
        begun = time.monotonic()
        part = _part(task, i, count)
        network = make(part.seed)
        say(f"network {i + 1} of {count}, seed {part.seed}")
        again = resume and checkpoint.exists(part.folder)
        told.append(loop.fit(part, network, again, say, functools.partial(_log_of, log, i + 1)))
        networks.append(network)
        if math.isfinite(task.deadline):
            spent = max(told[-1].seconds, time.monotonic() - begun)
            task = dataclasses.replace(task, deadline=task.deadline - spent)
    return Ensemble(networks), told


def _log_of(log: Callable[[dict], None], member: int, entry: dict) -> None:
    log({"member": member, **entry})


def _part(task: Task, i: int, count: int) -> Task:
    """The task of network `i`: its own seed and folder, and its share of the time that is left."""
    seed = task.seed + i
    return dataclasses.replace(
        task,
        seed=seed,
        training=dataclasses.replace(task.training, seed=seed),
        folder=task.folder.with_name(f"{task.folder.name}-{i + 1}") if i else task.folder,
        identity={**task.identity, "seed": seed},
        deadline=task.deadline / (count - i),
        keep_end=True,
    )
