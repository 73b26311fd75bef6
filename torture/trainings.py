"""Rows 18 to 28: interrupted and resumed trainings, signals, numbers that are none, and two runs in one folder."""

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import tapetum
from common import QUICK, Child, Outcome, digest, in_child, kept, program, row, stripes, together
from tapetum import judging, run, tensorfile
from tapetum.data import reading
from tapetum.training import loop

# All that is random or has a state: augmentation, mixing, dropout, averaged weights, an optimizer with momentum.
_FULL: dict[str, Any] = {
    **{"model": "compact", "size": 32, "start_size": 32, "epochs": 4, "batch": 16},
    **{"mixup": 0.2, "jitter": 0.1, "ema": 0.9, "rescue": "off"},
}


def _train(
    data: Path, out: Path, threads: int = 1, at: Callable[[int], None] | None = None, computing: int = 0, **options: Any
) -> None:
    """A training without its drawings, on so many threads (for computing, another number can be asked for).

    `at` is called in each step with its number from 1.
    """
    torch.set_num_threads(computing or threads)
    for module, name in ((run, "curves"), (run, "write_report"), (run.cost, "write_cost"), (judging, "prediction_grid")):
        setattr(module, name, lambda *_, **__: None)
    reading.num_cores = lambda: threads
    loop._SECONDS_BETWEEN_CHECKPOINTS = -1.0  # after every epoch
    step = loop._step

    def counted(task: Any, state: Any, *rest: Any) -> None:
        if at is not None:
            at(state.progress.step + 1)
        step(task, state, *rest)

    loop._step = counted
    tapetum.train(data, out, say=lambda line: None, **options)


def _signals_itself(number: int, step: int) -> Callable[[int], None]:
    return lambda now: os.kill(os.getpid(), number) if now == step else None


def _outcome(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """The hash of the whole model file, and the log without its times."""
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return digest(out / "model.safetensors"), [{k: v for k, v in entry.items() if k != "seconds"} for entry in log]


def _resumed(data: Path, out: Path, number: int, step: int, threads: tuple[int, int]) -> tuple[str, list]:
    """Ended by a signal in a step on some threads, gone on with others; from the beginning if nothing was saved yet."""
    in_child(_train, data, out, threads[0], _signals_itself(number, step), *(), seconds=120, **_FULL)
    begun = any((out / "checkpoint").glob("state-*"))
    again = {"resume": True} if begun else {**_FULL, "overwrite": True}
    ended = in_child(_train, data, out, threads[1], seconds=120, **again)
    if ended.code:
        return ended.err[-300:], []
    return _outcome(out)


@row(18, "a training that was stopped or killed ends with the same model file and log, to the bit")
def exact_resume(place: Path) -> Outcome:
    """SIGTERM and SIGKILL in each of 12 steps, on one thread and on two."""
    data = stripes(place / "data")
    right, wrong = 0, []
    for threads in (1, 2):
        in_child(_train, data, place / f"whole{threads}", threads, seconds=120, **_FULL)
        whole = _outcome(place / f"whole{threads}")
        for number in (signal.SIGTERM, signal.SIGKILL):
            for step in range(1, 13):
                found = _resumed(data, place / "broken", number, step, (threads, threads))
                right += found == whole
                if found != whole:
                    wrong.append(f"signal {number} in step {step}, {threads} threads: {found[0]}")
                shutil.rmtree(place / "broken", ignore_errors=True)
    return kept(right, 48, "SHA-256 of the model file and log rows equal to the unbroken run's", *wrong)


@row(19, "resumed on other threads and without the cache, a training ends with the same bits")
def other_threads(place: Path) -> Outcome:
    """One thread, then two, then one, for reading and for computing; and the pictures kept decoded, then not."""
    data = stripes(place / "data")
    in_child(_train, data, place / "whole", 1, seconds=120, **_FULL)
    whole = _outcome(place / "whole")
    equal: dict[str, list[bool]] = {"reading": [], "computing": []}
    for what, results in equal.items():
        for first, second in ((5, 8), (3, 6), (4, 12)):
            out, two = place / f"{what}{first}", {"computing": 2 if what == "computing" else 1}
            in_child(_train, data, out, 1, _signals_itself(signal.SIGTERM, first), seconds=120, **_FULL)
            in_child(_train, data, out, 2, _signals_itself(signal.SIGTERM, second), seconds=120, resume=True, **two)
            in_child(_train, data, out, 1, seconds=120, resume=True)
            results.append(_outcome(out) == whole)
    out = place / "uncached"
    in_child(_train, data, out, 1, _signals_itself(signal.SIGTERM, 6), seconds=120, **_FULL)
    in_child(_train, data, out, 1, seconds=120, resume=True, cache="off")
    # The file says with which settings it was made, so only its tensors are compared.
    weights = [load_file(folder / "model.safetensors") for folder in (place / "whole", out)]
    uncached = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return together(
        *(kept(sum(results), 3, f"equal on {what} threads 1 -> 2 -> 1") for what, results in equal.items()),
        (uncached, f"cache -> none {'equal' if uncached else 'differs'}"),
    )


@row(21, "on Ctrl-C or SIGTERM the step ends, its state is saved, and the program ends with 130 or 143")
def signals(place: Path) -> Outcome:
    """50 signals at random times of a training; then a second Ctrl-C in a step that takes long."""
    data = stripes(place / "data", 12)
    chance = random.Random(0)
    right, slowest, wrong = 0, 0.0, []
    for n in range(50):
        out, number = place / f"run{n}", (signal.SIGINT, signal.SIGTERM)[n % 2]
        child = Child(program, "train", data, "--out", out, *QUICK, "--epochs", "100000", "--keep", "best", "--rescue", "off")
        _wait_for(out / "log.jsonl")
        time.sleep(chance.uniform(0, 0.3))
        sent = time.monotonic()
        child.kill(number)
        ended = child.wait(30)
        slowest = max(slowest, time.monotonic() - sent)
        said = re.search(r"stopped after step ([\d,]+) of", ended.err)
        step = int(said[1].replace(",", "")) if said else -1
        newest = max((out / "checkpoint").glob("state-*"), default=None)
        exact = newest is not None and tensorfile.load(newest)[1]["progress"]["step"] == step
        fine = ended.code == 128 + number and exact and "Traceback" not in ended.err
        right += fine
        if not fine:
            wrong.append(f"signal {number}: code {ended.code}, {ended.err[-200:]!r}")
        shutil.rmtree(out)
    twice = []
    for n in range(3):
        marker = place / f"slow{n}"
        child = Child(_slow_program, marker, "train", data, "--out", place / f"two{n}", *QUICK, "--epochs", "9")
        _wait_for(marker)
        child.kill(signal.SIGINT)
        time.sleep(0.5)
        sent = time.monotonic()
        child.kill(signal.SIGINT)
        twice.append((child.wait(30).code, time.monotonic() - sent))
    at_once = [code == 130 and seconds < 2 for code, seconds in twice]
    return together(
        kept(right, 50, f"saved at the exact step, slowest {slowest:.1f} s", *wrong),
        kept(sum(at_once), 3, f"second Ctrl-C ended at once (slowest {max(seconds for _, seconds in twice):.1f} s)"),
    )


def _slow_program(marker: Path, *arguments: object) -> None:
    def slow(*_: Any) -> None:
        marker.write_text("now")
        time.sleep(20)

    loop._step = slow
    program(*arguments)


def _wait_for(path: Path) -> None:
    """Until there is something in a file."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not (path.exists() and path.stat().st_size):
        time.sleep(0.005)


def _poisoned(what: str, step: int) -> Callable[[Any, Any, Any], None]:
    """Before step `step`: make its pictures, or a weight, no number, or let its gradients become none; or stop just after."""

    def poison(task: Any, state: Any, batch: Any) -> None:
        if state.progress.step + 1 != step:
            return
        if what == "pictures":
            batch.images_BCHW.fill_(float("nan"))
            return
        parameter = next(state.network.parameters())
        if what.startswith("gradient"):  # the loss of this step is a number still
            parameter.register_hook(lambda gradient: gradient * float("inf"))
        else:
            parameter.data[0] = float("nan")
        if what.endswith("and a signal"):
            os.kill(os.getpid(), signal.SIGTERM)

    return poison


def _poisoned_program(what: str, step: int, *arguments: object) -> None:
    loop._SECONDS_BETWEEN_CHECKPOINTS = -1.0
    poison, real = _poisoned(what, step), loop._step

    def stepped(task: Any, state: Any, batch: Any, *rest: Any) -> None:
        poison(task, state, batch)
        real(task, state, batch, *rest)

    loop._step = stepped
    program(*arguments)


@row(25, "a number that is none ends the training with a sentence that names the step; no file holds one")
def no_numbers(place: Path) -> Outcome:
    """Pictures, a weight or the gradients become NaN or infinite in one of four steps, also just before a signal."""
    data = stripes(place / "data")
    right, files, wrong = 0, 0, []
    cases = [(what, step) for what in ("pictures", "weight", "gradient", "gradient and a signal") for step in (1, 5, 9, 12)]
    for what, step in cases:
        out = place / f"run{files}-{right}-{step}-{what.replace(' ', '')}"
        options = [*QUICK, "--epochs", "4", "--rescue", "off", "--ema", "0"]
        ended = in_child(_poisoned_program, what, step, "train", data, "--out", out, *options)
        held = [path for path in out.rglob("*.safetensors") if not _finite(path)]
        files += len(list(out.rglob("*.safetensors")))
        fine = bool(ended.sentence) and "step" in ended.sentence and not held and not (out / "model.safetensors").exists()
        right += fine
        if not fine:
            wrong.append(f"{what} in step {step}: code {ended.code}, {[path.name for path in held]}, {ended.err[-200:]!r}")
    return kept(right, len(cases), f"refused, the step named, 0 such numbers in {files} files", *wrong)


def _finite(path: Path) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in load_file(path).values() if tensor.is_floating_point())


def _starved(most: int, backward: bool, data: Path, out: Path, **options: Any) -> None:
    """A training with memory for `most` pictures at once: it runs out after the forward pass, or in the backward pass."""
    real = loop.loss

    def loss(outputs: torch.Tensor, *rest: Any) -> torch.Tensor:
        value = real(outputs, *rest)
        if len(outputs) > most and not backward:
            raise torch.OutOfMemoryError("no memory")
        if len(outputs) > most:
            value.register_hook(_no_memory)
        return value

    loop.loss = loss
    _train(data, out, **options)


def _no_memory(gradient: torch.Tensor) -> None:
    raise torch.OutOfMemoryError("no memory")


@row(26, "where memory runs out, a batch goes in halves, to the network of a training that began with these, to the bit")
def memory_runs_out(place: Path) -> Outcome:
    """Three networks (BatchNorm, dropout, neither), memory for 2, 4 and 8 of 16 pictures, out of it forward and backward."""
    data, right, wrong = stripes(place / "data"), 0, []
    networks: list[dict[str, Any]] = [{}, {"model": "lenet"}, {"model": "alexnet", "size": 63, "start_size": 63, "epochs": 1}]
    cases = [(network, most, backward) for network in networks for most in (2, 4, 8) for backward in (False, True)]
    for number, (network, most, backward) in enumerate(cases):
        options = {**_FULL, "optimizer": "adamw", **network}
        asked, out = place / f"{number}-asked", place / f"{number}-starved"
        ended = [
            in_child(_train, data, asked, micro_batch=most, seconds=120, **options),
            in_child(_starved, most, backward, data, out, seconds=120, **options),
        ]
        same = all(each.code == 0 for each in ended) and _weights(asked) == _weights(out)
        right += same
        if not same:
            wrong.append(f"{network}, {most}, {'backward' * backward}: {ended[1].err[-200:]!r}")
    return kept(right, len(cases), "as the smaller portions", *wrong)


def _weights(out: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(out / "model.safetensors").items()}


@row(28, "of many trainings that start in one folder at once, one runs")
def one_run(place: Path) -> Outcome:
    """20 programs, started together."""
    data = stripes(place / "data", 12)
    children = [Child(program, "train", data, "--out", place / "run", *QUICK, "--epochs", "1") for _ in range(20)]
    ends = [child.wait(300) for child in children]
    ran = sum(ended.code == 0 for ended in ends)
    refused = sum("another training is writing" in e.sentence or "holds a run already" in e.sentence for e in ends)
    model = (place / "run" / "model.safetensors").exists()
    wrong = [e.err[-200:] for e in ends if e.code and not e.sentence]
    return together(kept(ran, 1, "ran", *wrong), (refused == 19 and model, f"{refused} refused with a sentence"))
