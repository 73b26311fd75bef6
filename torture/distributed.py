"""Rows 22, 23 and 29: several processes train together, and one is killed, hangs, or sees another file than the others."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from common import ROOT, Outcome, kept, row, stripes, together
from trainings import _outcome

_KILLS = 10
_LIMIT = 20.0
# Chance and state of every kind; epochs enough to be killed in ten times.
_OPTIONS = ["--model", "compact", "--size", "32", "--start-size", "32", "--batch", "16", "--mixup", "0.2", "--ema", "0.9"]
_OPTIONS += ["--rescue", "off", "--keep", "best"]


def _torchrun(number: int, restarts: int, *arguments: object, log: Path) -> subprocess.Popen:
    """`number` processes of the program, as torchrun starts them; what they say goes to `log`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    command += ["--max-restarts", str(restarts), "--monitor-interval", "0.1", str(ROOT / "torture" / "mortal.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as file:
        return subprocess.Popen([*command, *map(str, arguments)], stdout=file, stderr=file, env=environment)


def _workers(agent: subprocess.Popen) -> list[int]:
    """The processes that it started and that live."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if place.name.isdigit() and int(fields[1]) == agent.pid and fields[0] not in "ZX":
            found.append(int(place.name))
    return sorted(found)


def _steps(run: Path) -> int:
    newest = max((run / "checkpoint").glob("state-*.safetensors"), default=None)
    return int(newest.stem.split("-")[1]) if newest else 0


def _killed(data: Path, out: Path, chance: random.Random, epochs: int) -> tuple[int, int | None]:
    """A training that loses a worker, each time at a random moment after it went on; the kills, and how torchrun ended."""
    agent = _torchrun(2, _KILLS, "train", data, "--out", out, *_OPTIONS, "--epochs", epochs, log=out.with_suffix(".txt"))
    kills = 0
    while kills < _KILLS and agent.poll() is None:
        begun, until = _steps(out), time.monotonic() + 120
        while agent.poll() is None and _steps(out) <= begun and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        workers = _workers(agent)
        if len(workers) == 2:  # else the last kill is not yet over: a step that began before it was saved after
            os.kill(chance.choice(workers), signal.SIGKILL)
            kills += 1
    return kills, agent.wait(300)


@row(22, "a training whose workers are killed goes on with others, and ends as the unbroken one does, to the bit")
def killed_workers(place: Path) -> Outcome:
    """Ten kills -9 of one of two workers at random moments, one after another; then kills where nobody is started again."""
    data = stripes(place / "data", 40)
    whole = _torchrun(2, 0, "train", data, "--out", place / "whole", *_OPTIONS, "--epochs", 240, log=place / "whole.txt")
    whole.wait(300)
    chance = random.Random(0)
    kills, code = _killed(data, place / "broken", chance, 240)
    same = code == 0 and _outcome(place / "whole") == _outcome(place / "broken")
    right, slowest, wrong = 0, 0.0, []
    for n, number in enumerate((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP)):
        out = place / f"dead{n}"
        agent = _torchrun(2, 0, "train", data, "--out", out, *_OPTIONS, "--epochs", 9999, log=place / f"dead{n}.txt")
        until = time.monotonic() + 120
        while _steps(out) == 0 and time.monotonic() < until:
            time.sleep(0.05)
        victim = chance.choice(_workers(agent))
        begun = time.monotonic()
        os.kill(victim, number)
        try:
            code = agent.wait(90)
        except subprocess.TimeoutExpired:
            agent.kill()
            code = None
        # A stopped process cannot be asked to end: torchrun waits thirty seconds before it kills it. The run has ended before.
        seconds = time.monotonic() - begun - (30 if number == signal.SIGSTOP else 0)
        said = (place / f"dead{n}.txt").read_text()
        fine = code not in (0, None) and seconds < _LIMIT and "of 2 on " in said
        right, slowest = right + fine, max(slowest, seconds)
        wrong += [] if fine else [f"signal {number}: code {code} after {seconds:.0f} s, {said[-300:]!r}"]
    return together(
        (same and kills == _KILLS, f"{kills} kills, {'equal to' if same else 'NOT equal to'} the unbroken run"),
        kept(right, 3, f"without others the run ended with the name, slowest {slowest:.1f} s", *wrong),
    )


@row(23, "a file that only one process cannot read ends all of them, by name, and soon")
def one_file(place: Path) -> Outcome:
    """Rank 1 sees another file than rank 0: a changed picture, and one that is none."""
    right, slowest, wrong = 0, 0.0, []
    for n, change in enumerate(("another", "broken")):
        for rank in (0, 1):
            folders = [stripes(place / f"data-{n}-{rank}-{each}", 12) for each in range(2)]
            victim = folders[rank] / "lying" / "3.png"
            victim = victim if victim.exists() else sorted((folders[rank] / "lying").iterdir())[3]
            victim.write_bytes(b"none" if change == "broken" else sorted((folders[rank] / "upright").iterdir())[3].read_bytes())
            log = place / f"file-{n}-{rank}.txt"
            # Each process has its own folder, as on machines with disks of their own.
            script = place / f"own-{n}-{rank}.py"
            script.write_text(
                f"import os, sys\nsys.path.insert(0, {str(ROOT / 'torture')!r})\n"
                f"sys.argv[2] = {str(place)!r} + '/data-{n}-{rank}-' + os.environ['RANK']\nimport mortal\nmortal.run()\n"
            )
            begun = time.monotonic()
            start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
            with log.open("wb") as file:
                done = subprocess.run(
                    [*start, "train", "-", "--out", str(place / f"run-{n}-{rank}"), *_OPTIONS, "--epochs", "2"],
                    stdout=file, stderr=file, env=environment, timeout=120, check=False,
                )  # fmt: skip
            seconds, said = time.monotonic() - begun, log.read_text()
            fine = (
                done.returncode != 0 and "the pictures differ" in said and "rank 1 of 2 on " in said and seconds < _LIMIT + 10
            )
            right, slowest = right + fine, max(slowest, seconds)
            wrong += [] if fine else [f"{change} for rank {rank}: code {done.returncode}, {seconds:.0f} s, {said[-300:]!r}"]
    return kept(right, 4, f"ended with the name, slowest {slowest:.0f} s with the start", *wrong)


@row(29, "what several processes measure of a number of pictures that they cannot share evenly is what one measures")
def uneven(place: Path) -> Outcome:
    """101 pictures, evaluated by 1, 2 and 3 processes: the same answers to the bit."""
    data = stripes(place / "data", 51)
    sorted((data / "lying").iterdir())[0].unlink()
    trained = _torchrun(1, 0, "train", data, "--out", place / "run", *_OPTIONS, "--epochs", 2, log=place / "run.txt")
    trained.wait(120)
    found = []
    for number in (1, 2, 3):
        out = place / f"{number}.csv"
        _torchrun(number, 0, "evaluate", place / "run", data, "--out", out, log=place / f"{number}.txt").wait(120)
        found.append(out.read_bytes() if out.exists() else b"")
    lines = [len(each.splitlines()) - 1 for each in found]
    return kept(
        sum(each == found[0] and lines[0] == 101 for each in found), 3, f"the same CSV to the bit, {np.unique(lines)} rows"
    )
