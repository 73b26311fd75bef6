"""The training loop, in the order in which the machine works.

Every epoch has a training phase and a validation phase (of hundreds of short epochs only every few have). The loss of an epoch
is the mean over its pictures: each batch's mean loss counts as often as the batch has pictures, since the last batch may be
smaller. Validation goes through `inference.classifier`, the code that predicts, with the averaged weights where there are
any. What is random is a function of the seed, the epoch and the step, so a training that is interrupted goes on to the same
result, to the bit. One that does not learn begins again, more carefully.

Several processes go through this together (`team`); what the clock, a signal or chance decides is decided by one for all.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tapetum import processes
from tapetum.config import Recipe
from tapetum.data.ahead import ahead
from tapetum.data.loader import Batch, TrainingLoader, ValidationLoader
from tapetum.errors import UserError
from tapetum.evaluation import metrics
from tapetum.faster import keep_freed_memory, rewritten, watch_strides
from tapetum.inference.classifier import probabilities_of_all
from tapetum.memory import as_memory_allows
from tapetum.talk import counted
from tapetum.training import checkpoint, distillation
from tapetum.training.checkpoint import Progress, State
from tapetum.training.optim import Average, learning_rate, loss, make_optimizer, picture_size
from tapetum.training.portions import HINT, portions
from tapetum.training.signals import Interrupted, StopRequest
from tapetum.training.team import Team

# A running training is put on the disk at the end of an epoch, but not more often than this.
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
# Hundreds of short epochs need no line each; the progress bar moves all the same.
_SECONDS_BETWEEN_LINES = 4.0
# A training that after this share of its steps, and so many at least, has losses above this share of guessing's and not so many
# standard errors more right, starts again, twice at most, each time with this part of its learning rate.
_ASKED, _LEAST_STEPS, _FLAT, _SURE, _MOST_RESTARTS, _SAFER = 0.3, 50, 0.99, 3.0, 2, 0.25


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
    fast: bool = True
    """Compute the same in a faster way; False for comparison."""
    validations: int = 60
    """About how many at most, where the last epoch counts."""
    teacher: torch.nn.Module | None = None
    """Answers for the pictures of each step in the place of their labels (training/distillation.py)."""
    keep_end: bool = False
    """Leave a checkpoint of the end too: a resumed training that had ended gives its network without a step."""

    def validated_every(self) -> int:
        """Epochs from one validation to the next.

        Where the last epoch counts, validation only informs, and need not take the time of many short epochs.
        """
        return 1 if self.recipe.keep == "best" else max(1, self.recipe.epochs // self.validations)


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
    if task.fast:
        keep_freed_memory()
    recipe = task.recipe
    fresh = copy.deepcopy(network.state_dict()) if recipe.rescue == "on" else {}
    # Half precision that is switched off is a scaler that is switched off, not another way through the step.
    scaler = torch.amp.GradScaler(task.device.type, enabled=task.mixed and task.device.type == "cuda")
    state = State(network, Average(network, recipe.ema), make_optimizer(network, recipe, task.fast), scaler=scaler)
    watch_strides(state.optimizer)
    if resume:
        checkpoint.restore(task.folder, state, task.identity)
        for entry in state.progress.history:
            log(entry)
        if not state.progress.stopped:
            say(f"resumed in epoch {state.progress.epoch + 1} of {recipe.epochs}, after step {state.progress.step:,}")
    progress, clock = state.progress, _Clock(task, state.progress)
    saved_at, said_at = time.monotonic(), -math.inf
    every = task.validated_every()
    talks = None if processes.first() else True
    bar = tqdm(total=clock.steps, initial=progress.step, desc="training", unit="step", leave=False, disable=talks)
    averaged, team = state.average.network, Team(network)
    with StopRequest() as stop, bar, rewritten(network, task.fast), rewritten(averaged, task.fast), team.layers():
        while progress.epoch < recipe.epochs and not progress.stopped:
            network.train()
            for batch, done in _epoch(task, progress, clock):
                at_once = progress.micro_batch
                _step(task, state, batch, done, team)
                if progress.micro_batch != at_once:
                    fewer = counted(progress.micro_batch, "picture")
                    say(f"memory ran out: computing {fewer} at once from step {progress.step:,} on")
                clock.tick()
                bar.update()
                if signal_number := int(processes.most(stop.signal_number)):
                    checkpoint.save(task.folder, state, task.identity)
                    text = f"stopped after step {progress.step:,} of {clock.steps:,}"
                    raise Interrupted(text, signal_number, task.folder.parent)
            if progress.seen == 0:
                break
            if progress.epoch % every and progress.epoch < recipe.epochs and not progress.stopped:
                continue

            entry = _validate(task, state, clock)
            progress.history.append(entry)
            log(entry)
            bar.set_postfix(epoch=progress.epoch, val_accuracy=f"{entry['val_accuracy']:.1%}")
            if time.monotonic() - said_at > _SECONDS_BETWEEN_LINES or progress.stopped or progress.epoch == recipe.epochs:
                say(_epoch_line(entry, recipe.epochs))
                said_at = time.monotonic()
            if _learns_nothing(task, progress, clock.share_done()):
                _restart(task, state, fresh)
                bar.reset()
                say(
                    f"after epoch {entry['epoch']} the loss is still {entry['train_loss']:.3f}, as good as guessing: starting "
                    f"again with a learning rate of {_rate(recipe, progress):g}"
                )
            if processes.decided(time.monotonic() - saved_at) > _SECONDS_BETWEEN_CHECKPOINTS:
                checkpoint.save(task.folder, state, task.identity)
                saved_at = time.monotonic()

    progress.stopped = progress.stopped or "epochs"
    if progress.stopped == "time":
        say(_ended_early(recipe, progress.epoch))
    if task.keep_end:
        checkpoint.save(task.folder, state, task.identity)
    network.load_state_dict(state.best if recipe.keep == "best" else state.average.network.state_dict())
    return progress


class _Clock:
    """How much of a training is done, by its steps and by its time."""

    def __init__(self, task: Task, progress: Progress) -> None:
        self.steps = task.recipe.epochs * len(task.training)
        self._deadline, self._progress = task.deadline, progress
        self._start, self._validation = time.monotonic() - progress.seconds, 0.0

    def tick(self) -> None:
        self._progress.seconds = time.monotonic() - self._start

    def share_done(self) -> float:
        """From 0 to 1. A time budget is a second clock for the same schedule: whichever is further decides."""
        progress = self._progress
        budget = self._deadline - self._validation - progress.began
        return processes.decided(max(progress.step / self.steps, (progress.seconds - progress.began) / max(1e-9, budget)))

    def validated(self, seconds: float) -> None:
        """The last validation will take about as long as this one, so much of the budget is kept for it."""
        self._validation = 1.2 * seconds


def _epoch(task: Task, progress: Progress, clock: _Clock) -> Iterator[tuple[Batch, float]]:
    """The rest of the running epoch: its batches, each with the share of the training that is done before it.

    It ends early, and with it the training, when the time is up.
    """
    # Judged by its end, so that the last epoch has the full size however few there are.
    progress.size = progress.size or picture_size(task.recipe, clock.share_done() + 1 / task.recipe.epochs)
    begun = progress.epoch * len(task.training)
    for batch in ahead(task.training.epoch(progress.epoch, progress.step - begun, progress.size), task.device.type != "cpu"):
        done = clock.share_done()
        if done >= 1:
            progress.stopped = "time"
            break
        yield batch, done
    if progress.step > begun:  # unless the time was up before this epoch's first step
        progress.epoch, progress.size = progress.epoch + 1, 0


def _step(task: Task, state: State, batch: Batch, done: float, team: Team) -> None:
    """One training step: forward, backward, update; its loss and hits go into the epoch's sums."""
    progress = state.progress
    progress.lr = learning_rate(task.recipe, done) * _SAFER**progress.restarts
    for group in state.optimizer.param_groups:
        group["lr"] = progress.lr * group.get("rate", 1.0)
    value, hits = processes.total(_gradients(task, state, batch, team))
    if not math.isfinite(value):
        names = task.training.names(progress.epoch, progress.step - progress.epoch * len(task.training))
        raise _diverged(value, f"loss of {names[0]} and {len(names) - 1} more", task, progress)
    team.add_gradients()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.average.update(state.network, progress.step)

    progress.step += 1
    progress.loss_sum += value * batch.whole
    progress.correct += hits
    progress.seen += batch.whole


def _gradients(task: Task, state: State, batch: Batch, team: Team) -> list[float]:
    """Forward and backward, in as many portions as memory asks for; the sums of loss and hits of this process's pictures."""
    progress, network = state.progress, state.network
    buffers = [buffer.clone() for buffer in network.buffers()]

    def work(at_once: int) -> list[float]:
        sums = [0.0, 0.0]
        for these in portions(batch.part, batch.whole, at_once):
            # Dropout draws from here: what it drops depends on the seed and the step, not on what ran before.
            torch.manual_seed((task.seed * 1_000_003 + progress.step) % 2**63)
            team.begin(slice(batch.part.start + these.start, batch.part.start + these.stop), batch.whole)
            images_BCHW, targets_BK = batch.images_BCHW[these], batch.targets_BK[these]
            with torch.autocast(task.device.type, enabled=task.mixed):
                outputs_BK = network(images_BCHW)
                asked_BK = distillation.targets(task.teacher, images_BCHW) if task.teacher else targets_BK
                batch_loss = loss(outputs_BK.float(), asked_BK, task.rubbish, batch.whole)
            # Of a mixed picture the larger part counts; of a turned one the class.
            classes = task.training.num_classes
            hits_B = outputs_BK.argmax(1) % classes == targets_BK.argmax(1) % classes
            sums = [sums[0] + batch_loss.item(), sums[1] + hits_B.sum().item()]
            state.scaler.scale(batch_loss).backward()
        return sums

    def again() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        for buffer, value in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(value)

    at_once = min(progress.micro_batch or task.recipe.micro_batch, processes.part_of(0, batch.whole).stop)
    fewest, hint = team.fewest, HINT
    if processes.count() > 1:  # the others wait in the middle of the same step
        fewest, hint = at_once, f"Use --micro-batch {max(fewest, at_once // 2)}, or fewer processes on a machine."
    sums, enough = as_memory_allows(work, at_once, hint, fewest, again)
    if enough < at_once:
        progress.micro_batch = enough
    return sums


def _validate(task: Task, state: State, clock: _Clock) -> dict[str, Any]:
    """Measure the validation pictures, keep a copy of the weights if they are the best so far, and empty the sums."""
    progress, network, before = state.progress, state.average.network, time.monotonic()
    found_NK = probabilities_of_all(network, task.validation, task.training.preprocessing, task.device)
    accuracy = metrics.accuracy(task.validation_labels, found_NK.argmax(1))
    val_loss = metrics.log_loss(task.validation_labels, found_NK)
    if not math.isfinite(val_loss):
        raise _diverged(val_loss, "validation loss", task, progress)
    # Ties in accuracy are common on few pictures; the smaller loss decides them.
    best_loss = math.inf if progress.best_loss is None else progress.best_loss
    if (accuracy.value, -val_loss) > (progress.best_accuracy, -best_loss):
        progress.best_epoch, progress.best_accuracy, progress.best_loss = progress.epoch, accuracy.value, val_loss
        # Copies, not references: state_dict() points to the weights that the next step changes.
        state.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    clock.tick()
    clock.validated(time.monotonic() - before)
    entry = {
        "epoch": progress.epoch,
        "train_loss": progress.loss_sum / progress.seen,
        "train_accuracy": progress.correct / progress.seen,
        "val_loss": val_loss,
        "val_accuracy": accuracy.value,
        "val_n": accuracy.n,
        "lr": progress.lr,
        "seconds": round(progress.seconds, 3),
    }
    progress.loss_sum = progress.correct = progress.seen = 0.0
    return entry


def _learns_nothing(task: Task, progress: Progress, done: float) -> bool:
    """Whether it is time to ask, and nothing of the last epoch is better than answering with the classes' shares.

    The training's loss alone would not do: of mixed, turned and half-dropped pictures little can be said at first. Nor would
    the validation's, which in a training that goes well may be large. Right answers grow more before either loss falls.
    """
    if task.recipe.rescue == "off" or progress.restarts == _MOST_RESTARTS or not _ASKED <= done < 1:
        return False
    if progress.step < _LEAST_STEPS:
        return False
    shares_K = np.bincount(task.training.labels) / len(task.training.labels)
    if task.recipe.balance == "on":
        shares_K = np.full(np.count_nonzero(shares_K), 1 / np.count_nonzero(shares_K))
    # Guessing knows how often pictures are turned, too.
    turns = np.array([1 - task.recipe.turn, *[task.recipe.turn / 3] * 3])
    classes, turned = (-(shares * np.log(shares.clip(1e-12))).sum() for shares in (shares_K, turns))
    share, last = shares_K.max(), progress.history[-1]
    lucky = share + _SURE * math.sqrt(share * (1 - share) / len(task.training.labels))
    flat = last["train_loss"] > _FLAT * (classes + turned) and last["val_loss"] > _FLAT * classes
    return bool(flat and last["train_accuracy"] <= lucky)


def _restart(task: Task, state: State, fresh: dict[str, torch.Tensor]) -> None:
    """Put everything back to the start but the clock, and lower the learning rate."""
    checkpoint.forget(task.folder)
    state.network.load_state_dict(fresh)
    state.average.network.load_state_dict(fresh)
    state.optimizer.state.clear()
    state.best = {}
    progress = state.progress
    begun = Progress(
        seconds=progress.seconds, began=progress.seconds, restarts=progress.restarts + 1, micro_batch=progress.micro_batch
    )
    for field in dataclasses.fields(Progress):
        setattr(progress, field.name, getattr(begun, field.name))


def _rate(recipe: Recipe, progress: Progress) -> float:
    return recipe.lr * _SAFER**progress.restarts


def _diverged(value: float, what: str, task: Task, progress: Progress) -> UserError:
    return UserError(
        f"the {what} became {value} in epoch {progress.epoch + 1} (after step {progress.step:,}): the training has diverged. "
        f"Use a lower --lr than {task.recipe.lr:g}; earlier checkpoints are untouched."
    )


def _ended_early(recipe: Recipe, epochs: int) -> str:
    """The clock of a budget is a second one for the schedule (`_Clock.share_done`), so the rate is at its end as well."""
    fallen = "" if recipe.schedule == "constant" else "; the learning rate had fallen to its end by then"
    return f"the time budget ended it after {epochs:,} of at most {counted(recipe.epochs, 'epoch')}{fallen}"


def _epoch_line(entry: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {entry['epoch']:>3}/{epochs}  train loss {entry['train_loss']:.4f} "
        f"accuracy {entry['train_accuracy'] * 100:.1f} %  "
        f"val loss {entry['val_loss']:.4f} accuracy {entry['val_accuracy'] * 100:.1f} %  {entry['seconds']:.1f} s"
    )
