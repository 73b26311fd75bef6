"""One network, or several that will answer as one: each goes through the training loop, one after the other.

What several answer together one more may learn, which alone is kept then (`distill`).
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from tapetum.config import work_of_pupil
from tapetum.data.loader import ValidationLoader
from tapetum.models.ensemble import Ensemble
from tapetum.training import checkpoint, distillation, loop
from tapetum.training.checkpoint import Progress
from tapetum.training.loop import Task


def fit(
    tasks: Sequence[Task],
    make: Callable[[int], torch.nn.Module],
    resume: bool,
    say: Callable[[str], None],
    log: Callable[[dict], None],
    distill: bool = False,
) -> tuple[torch.nn.Module, list[Progress]]:
    """Train a network for each task, and with `distill` one more that learns from them.

    Args:
        tasks: from `parts` or `folds`; the first one's deadline is that of all, and is shared out evenly.
        make: a freshly initialised network on the task's device, from a seed. One task gives a plain network, more an Ensemble.
        resume: finished networks are taken from their checkpoints, an unfinished one goes on, the rest begins.
        say, log: as the training loop's; entries of several networks carry their number.
        distill: the last network's labels are what the others, two or more, answer together.

    Returns:
        The network, trained, and what is told of each training. With `distill` it is the last one.
    """
    count, left = len(tasks), tasks[0].deadline
    if count == 1:
        (task,) = tasks
        network = make(task.seed)
        return network, [loop.fit(task, network, resume and checkpoint.exists(task.folder), say, log)]
    networks: list[torch.nn.Module] = []
    told: list[Progress] = []
    work = [1.0] * count + [work_of_pupil(count)] * distill
    for i, share in enumerate(work):
        begun = time.monotonic()
        part = tasks[i] if i < count else _pupil(tasks[0], networks)
        part = dataclasses.replace(part, deadline=left * share / sum(work[i:]))
        network = make(part.seed)
        learns = ", which learns from the others" if part.teacher else ""
        say(f"network {i + 1} of {len(work)}, seed {part.seed}{learns}")
        again = resume and checkpoint.exists(part.folder)
        # The curves of a run are those of the network that is kept.
        marks = {} if part.teacher else {"member": i + 1} | ({"stage": "teacher"} if distill else {})
        told.append(loop.fit(part, network, again, say, functools.partial(_log_of, log, marks)))
        networks.append(network)
        left -= max(told[-1].seconds, time.monotonic() - begun)
    return networks[-1] if distill else Ensemble(networks), told


def parts(task: Task, count: int) -> list[Task]:
    """The task for `count` networks that differ in their seeds, and so in everything random; the first has the task's own."""
    if count == 1:
        return [task]
    return [_with_seed(task, i) for i in range(count)]


def folds(task: Task, fold_N: np.ndarray) -> list[Task]:
    """The task for as many networks as `fold_N`, the fold of each training picture, has numbers.

    Each trains on all pictures but those of its fold, which validate it.
    """
    training, validation = task.training, task.validation
    found = []
    for i in range(int(fold_N.max()) + 1):
        part, out = _with_seed(task, i), fold_N == i
        found.append(
            dataclasses.replace(
                part,
                training=dataclasses.replace(part.training, rows=training.rows[~out], labels=training.labels[~out]),
                validation=ValidationLoader(training.pictures, training.rows[out], training.preprocessing, validation.batch),
                validation_labels=training.labels[out],
            )
        )
    return found


def _pupil(task: Task, networks: list[torch.nn.Module]) -> Task:
    """The task of one more network, with the others for a teacher."""
    part = _with_seed(task, len(networks))
    teacher = distillation.as_teacher(Ensemble(list(networks)))
    return dataclasses.replace(part, teacher=teacher, identity={**part.identity, "teachers": len(networks)})


def _log_of(log: Callable[[dict], None], marks: dict, entry: dict) -> None:
    log({**marks, **entry})


def _with_seed(task: Task, i: int) -> Task:
    """The task of network `i`: its own seed and folder."""
    seed = task.seed + i
    return dataclasses.replace(
        task,
        seed=seed,
        training=dataclasses.replace(task.training, seed=seed),
        folder=task.folder.with_name(f"{task.folder.name}-{i + 1}") if i else task.folder,
        identity={**task.identity, "seed": seed},
        keep_end=True,
    )
