"""The training loop, in the order in which the machine works.

Every epoch has a training phase and a validation phase. The loss of an epoch is the mean over its pictures: each batch's
mean loss counts as often as the batch has pictures, since the last batch may be smaller. Validation goes through
`inference.probabilities`, the code that predicts, with the averaged weights where there are any. What is random is a
function of the seed, the epoch and the step, so a training that is interrupted goes on to the same result, to the bit.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tapetum.config import Recipe
from tapetum.data.loader import Batch, TrainingLoader, ValidationLoader
from tapetum.errors import UserError
from tapetum.evaluation import metrics
from tapetum.inference.classifier import probabilities
from tapetum.training import checkpoint
from tapetum.training.checkpoint import Progress, State
from tapetum.training.memory import keep_freed_memory
from tapetum.training.optim import Average, learning_rate, loss, make_optimizer
from tapetum.training.signals import Interrupted, StopRequest

# A running training is put on the disk at the end of an epoch, but not more often than this.
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
# Hundreds of short epochs need no line each; the progress bar moves all the same.
_SECONDS_BETWEEN_LINES = 4.0


@dataclass(frozen=True)
class Task:
    """All that a training is given."""

    training: TrainingLoader
    validation: ValidationLoader
    validation_labels: np.ndarray
    recipe: Recipe
    seed: int
    device: torch.device
    mixed: bool
    """Compute in half precision."""
    folder: Path
    """Where checkpoints go."""
    identity: dict[str, Any]
    """What must be the same for a checkpoint to fit."""
    rubbish: float | None = None
    """The network's output for "none of these classes" in the loss, where its paper has one."""
    deadline: float = math.inf
    """Seconds that the training may take, its validations included."""


def fit(
    task: Task, network: torch.nn.Module, resume: bool, say: Callable[[str], None], log: Callable[[dict], None]
) -> Progress:
    """Train `network` in place; it ends with the weights of the epoch that `recipe.keep` names.

    Args:
        task: data, recipe, device and folder.
        network: a freshly initialised network on `task.device`.
        resume: go on from the newest checkpoint in the folder.
        say: takes a line for the person who waits.
        log: takes one dict for each finished epoch, those before a resume included.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written at the end of the running step.
        UserError: the loss is no longer a number, or a checkpoint does not fit.
    """
    keep_freed_memory()
    recipe, steps = task.recipe, len(task.training)
    state = State(network, Average(network, recipe.ema), make_optimizer(network, recipe))
    if resume:
        checkpoint.restore(task.folder, state, task.identity)
        for entry in state.progress.history:
            log(entry)
        say(f"resumed in epoch {state.progress.epoch + 1} of {recipe.epochs}, after step {state.progress.step:,}")
    # Half precision that is switched off is a scaler that is switched off, not another way through the step.
    scaler = torch.amp.GradScaler(task.device.type, enabled=task.mixed and task.device.type == "cuda")
    progress, start = state.progress, time.monotonic() - state.progress.seconds
    saved_at, said_at, validating = time.monotonic(), -math.inf, 0.0
    total = recipe.epochs * steps
    bar = tqdm(total=total, initial=progress.step, desc="training", unit="step", leave=False, disable=None)
    with StopRequest() as stop, bar:
        while progress.epoch < recipe.epochs and not progress.stopped:
            network.train()
            for batch in task.training.epoch(progress.epoch, start=progress.step - progress.epoch * steps):
                # A time budget is a second clock for the same schedule: whichever is further decides.
                done = max(progress.step / total, progress.seconds / max(1e-9, task.deadline - validating))
                if done >= 1:
                    progress.stopped = "time"
                    break
                _step(task, state, scaler, batch, done)
                progress.seconds = time.monotonic() - start
                bar.update()
                if stop.signal_number:
                    checkpoint.save(task.folder, state, task.identity)
                    raise Interrupted(
                        f"stopped after step {progress.step:,} of {total:,}", stop.signal_number, task.folder.parent
                    )
            if progress.seen == 0:
                break  # the time was up before this epoch's first step

            before = time.monotonic()
            entry = _end_epoch(task, state)
            progress.seconds = time.monotonic() - start
            validating = 1.2 * (time.monotonic() - before)
            entry["seconds"] = round(progress.seconds, 3)
            progress.history.append(entry)
            log(entry)
            bar.set_postfix(epoch=progress.epoch, val_accuracy=f"{entry['val_accuracy']:.1%}")
            if time.monotonic() - said_at > _SECONDS_BETWEEN_LINES or progress.stopped or progress.epoch == recipe.epochs:
                say(_epoch_line(entry, recipe.epochs))
                said_at = time.monotonic()
            if time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                checkpoint.save(task.folder, state, task.identity)
                saved_at = time.monotonic()

    progress.stopped = progress.stopped or "epochs"
    network.load_state_dict(state.best if recipe.keep == "best" else state.average.network.state_dict())
    return progress


def _step(task: Task, state: State, scaler: torch.amp.GradScaler, batch: Batch, done: float) -> None:
    """One training step: forward, backward, update; its loss and hits go into the epoch's sums."""
    progress = state.progress
    progress.lr = learning_rate(task.recipe, done)
    for group in state.optimizer.param_groups:
        group["lr"] = progress.lr
    # Dropout draws from here: what it drops depends on the seed and the step, not on what ran before.
    torch.manual_seed((task.seed * 1_000_003 + progress.step) % 2**63)
    with torch.autocast(task.device.type, enabled=task.mixed):
        outputs_BK = state.network(batch.images_BCHW)
        batch_loss = loss(outputs_BK.float(), batch.targets_BK, batch.weight_B, task.rubbish)
    value = batch_loss.item()
    _refuse_divergence(value, "loss", task, progress)
    scaler.scale(batch_loss).backward()
    scaler.step(state.optimizer)
    scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.average.update(state.network, progress.step)

    pictures = batch.weight_B.sum().item()
    # Of a mixed picture the larger part counts.
    hits_B = (outputs_BK.argmax(1) == batch.targets_BK.argmax(1)) * batch.weight_B
    progress.step += 1
    progress.loss_sum += value * pictures
    progress.correct += hits_B.sum().item()
    progress.seen += pictures


def _end_epoch(task: Task, state: State) -> dict[str, Any]:
    """Validate, keep a copy of the weights if they are the best so far, and empty the sums for the next epoch."""
    progress, network = state.progress, state.average.network
    found_NK = probabilities(network, task.validation, task.training.preprocessing, task.device)
    accuracy = metrics.accuracy(task.validation_labels, found_NK.argmax(1))
    val_loss = metrics.log_loss(task.validation_labels, found_NK)
    _refuse_divergence(val_loss, "validation loss", task, progress)
    # Ties in accuracy are common on few pictures; the smaller loss decides them.
    best_loss = math.inf if progress.best_loss is None else progress.best_loss
    if (accuracy.value, -val_loss) > (progress.best_accuracy, -best_loss):
        progress.best_epoch, progress.best_accuracy, progress.best_loss = progress.epoch + 1, accuracy.value, val_loss
        # Copies, not references: state_dict() points to the weights that the next step changes.
        state.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    entry = {
        "epoch": progress.epoch + 1,
        "train_loss": progress.loss_sum / progress.seen,
        "train_accuracy": progress.correct / progress.seen,
        "val_loss": val_loss,
        "val_accuracy": accuracy.value,
        "val_n": accuracy.n,
        "lr": progress.lr,
    }
    progress.epoch += 1
    progress.loss_sum = progress.correct = progress.seen = 0.0
    return entry


def _refuse_divergence(value: float, what: str, task: Task, progress: Progress) -> None:
    if not math.isfinite(value):
        raise UserError(
            f"the {what} became {value} in epoch {progress.epoch + 1} (after step {progress.step:,}): the training has "
            f"diverged. Use a lower --lr than {task.recipe.lr:g}; earlier checkpoints are untouched."
        )


def _epoch_line(entry: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {entry['epoch']:>3}/{epochs}  train loss {entry['train_loss']:.4f} accuracy {entry['train_accuracy']:.1%}  "
        f"val loss {entry['val_loss']:.4f} accuracy {entry['val_accuracy']:.1%}  {entry['seconds']:.1f} s"
    )
