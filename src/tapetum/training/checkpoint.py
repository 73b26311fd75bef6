"""The state of a training, whole enough to go on exactly: the two newest are kept, each a sealed file without pickle."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tapetum import processes, tensorfile
from tapetum.errors import UserError
from tapetum.training.optim import Average

_FILE = re.compile(r"state-(\d{9})\.safetensors")
_KEPT = 2


@dataclass
class Progress:
    """Where a training stands. With the tensors of a checkpoint it is all that the next step depends on: what is random
    is a function of the seed and of these numbers.
    """

    step: int = 0
    """Training steps done."""
    epoch: int = 0
    """Epochs done."""
    seconds: float = 0.0
    """Time spent, summed over resumed sittings."""
    lr: float = 0.0
    """Learning rate of the last step."""
    size: int = 0
    """Side of this epoch's pictures; 0 between epochs."""
    began: float = 0.0
    """Seconds that had gone when the training began, or last began again."""
    restarts: int = 0
    """How often the training began again because it did not learn; each time with a quarter of the learning rate."""
    micro_batch: int = 0
    """Pictures computed at once since memory ran out; 0: it has not."""
    loss_sum: float = 0.0
    """Sum of the losses of this epoch's pictures so far."""
    correct: float = 0.0
    seen: float = 0.0
    best_epoch: int = 0
    """Counted from 1; 0 before the first epoch has ended."""
    best_accuracy: float = -1.0
    best_loss: float | None = None
    stopped: str = ""
    """Why the training ended; empty while it has not."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry an epoch, as in log.jsonl."""


@dataclass
class State:
    """All that changes while a training runs."""

    network: torch.nn.Module
    average: Average
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Scales the losses of half precision; one that is switched off leaves them as they are."""
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """Copies of the best epoch's weights; empty before the first epoch has ended."""


def save(folder: Path, state: State, identity: dict[str, Any]) -> None:
    """Write `state` to a new checkpoint in `folder`, then remove all but the two newest.

    Of several processes, which all have the same state, the first one writes, and the others wait for it.

    Raises:
        UserError: a number in it is not finite, or it cannot be written; those before it are untouched.
    """
    if processes.first():
        _save(folder, state, identity)
    processes.wait()


def _save(folder: Path, state: State, identity: dict[str, Any]) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    if state.average.decay > 0:
        tensors |= {f"average/{name}": tensor for name, tensor in state.average.network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items() if value is not None}
    if not all(bool(value.isfinite().all()) for value in tensors.values() if value.is_floating_point()):
        # The loss tells it one step later; a state that is lost already must not push out those that are not.
        raise UserError(
            f"after step {state.progress.step:,} the network holds numbers that are not finite: the training has diverged. "
            "Use a lower --lr; earlier checkpoints are untouched."
        )
    about = {"progress": dataclasses.asdict(state.progress), "scaler": state.scaler.state_dict(), "identity": identity}
    tensorfile.save(folder / f"state-{state.progress.step:09d}.safetensors", tensors, about)
    for old in _files(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)


def restore(folder: Path, state: State, identity: dict[str, Any]) -> None:
    """Put the newest whole checkpoint of `folder` into `state`, a fresh state of the same network and recipe.

    Of several processes the first one reads it, so the others need not see the folder; they may be more or fewer than before.

    Raises:
        UserError: there is none, or it belongs to other settings or other pictures; the differences are named.
    """
    tensors, about = _newest(folder) if processes.first() else ({}, {})
    tensors, about = processes.told_tensors(tensors), processes.told(about)
    changed = [
        f"{name} was {about['identity'].get(name)!r} and is {value!r}"
        for name, value in identity.items()
        if about["identity"].get(name) != value
    ]
    if changed:
        raise UserError(
            f"{folder.parent} cannot be resumed: {'; '.join(changed)}. Use the same data and settings, or a new --out."
        )

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.network.load_state_dict(part("network/"))
    if state.average.decay > 0:
        state.average.network.load_state_dict(part("average/"))
    optimizer_state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in part("optimizer/").items():
        index, key = name.split("/")
        optimizer_state.setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": optimizer_state})
    _match_strides(state.optimizer)
    state.progress = Progress(**about["progress"])
    if about.get("scaler") and state.scaler.is_enabled():
        state.scaler.load_state_dict(about["scaler"])
    state.best = part("best/")


def _match_strides(optimizer: torch.optim.Optimizer) -> None:
    """Lay restored state out as its parameter is: fused optimizers walk the raw memory of both side by side."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


def forget(folder: Path) -> None:
    """Remove all checkpoints of `folder`."""
    if not processes.first():
        return
    for file in _files(folder):
        file.unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint; of several processes the first one looks."""
    return processes.told(bool(_files(folder)))


def refuse_missing(run: Path) -> None:
    """Raise a UserError if the run folder has no checkpoint of any of its trainings."""
    if not any_in(run):
        raise _missing(run)


def any_in(run: Path) -> bool:
    """Whether the run folder has a checkpoint of any of its trainings."""
    return any(_files(folder) for folder in run.glob("checkpoint*"))


def _missing(run: Path) -> UserError:
    return UserError(f"{run} holds no checkpoint to resume from. Leave --resume out to start.")


def _newest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    files = _files(folder)
    if not files:
        raise _missing(folder.parent)
    try:
        return tensorfile.load(files[-1])
    except UserError:
        if len(files) == 1:
            raise
        return tensorfile.load(files[-2])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("state-*.safetensors") if _FILE.fullmatch(path.name))
