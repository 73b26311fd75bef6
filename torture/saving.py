"""Rows 14 to 17: killed while saving, the order of the disk's work, a full disk, a folder that cannot be written."""

import ctypes
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from common import QUICK, Child, Ended, Outcome, classifier, digest, in_child, kept, program, row, stripes, tapetum
from tapetum import models, tensorfile
from tapetum.config import Settings
from tapetum.errors import UserError
from tapetum.runfolder import claim
from tapetum.training import checkpoint, recipes
from tapetum.training.checkpoint import State
from tapetum.training.optim import Average, make_optimizer

_NOBODY = 65534


def _saves(folder: Path, told: int) -> None:
    """Save checkpoints one after another, for ever; the number of each is told once it is done."""
    network = models.build("lenet5-1998", 2, 32)
    facts = recipes.Facts(40, 2, 40, False, 1.0, None)
    recipe, _ = recipes.choose(Settings(model="lenet5-1998", size=32), facts)
    state = State(network, Average(network, 0.0), make_optimizer(network, recipe))
    while True:
        state.progress.step += 1
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, state.progress.step)
        checkpoint.save(folder, state, {"who": "torture"})
        os.write(told, state.progress.step.to_bytes(4))


@row(14, "killed at any moment of a save, a whole checkpoint remains, none that was finished is lost, and scraps go")
def killed_saves(place: Path) -> Outcome:
    """200 kills at random times during saves without a pause."""
    chance = random.Random(0)
    names = [name for name, _ in models.build("lenet5-1998", 2, 32).named_parameters()]
    right = scraps = left = saved = 0
    wrong = []
    for n in range(200):
        run = place / f"run{n}"
        (run / "checkpoint").mkdir(parents=True)
        (run / "settings.toml").touch()
        heard, told = os.pipe()
        child = Child(_saves, run / "checkpoint", told)
        os.close(told)
        last = int.from_bytes(os.read(heard, 4))
        time.sleep(chance.uniform(0, 0.1))
        child.kill(signal.SIGKILL)
        child.wait(0)
        while more := os.read(heard, 4):
            last = int.from_bytes(more)
        os.close(heard)
        saved += last
        scraps += any((run / "checkpoint").glob(".*.part"))
        found = _newest_whole(run / "checkpoint", names)
        right += found >= last
        if found < last:
            wrong.append(f"kill {n}: {last} was saved, {found} remains")
        with claim(run):  # the next start
            pass
        left += any(run.rglob("*.part"))
        shutil.rmtree(run)
    ok, figure = kept(right, 200, f"kills ({saved:,} saves) left a whole checkpoint, none finished was lost", *wrong)
    return ok and left == 0 and scraps > 0, f"{figure}; {scraps} left a scrap, {left} after the next start"


def _newest_whole(folder: Path, names: list[str]) -> int:
    """The step of the newest checkpoint that is whole, each of its parameters the number of its step; 0 if there is none."""
    for path in sorted(folder.glob("state-*.safetensors"), reverse=True):
        try:
            tensors, about = tensorfile.load(path)
        except UserError:
            continue
        step = about["progress"]["step"]
        if all((tensors[f"network/{name}"] == step).all() for name in names):
            return step
    return 0


@row(15, "each save is flushed to the disk before it is renamed, and its folder after")
def order_of_the_disk(place: Path) -> Outcome:
    """The system calls of 20 saves, as strace saw them."""
    if not shutil.which("strace"):
        return False, "strace is not here: not tried"
    script = (
        "import sys, torch; from pathlib import Path; from tapetum import tensorfile\n"
        "for n in range(20): tensorfile.save(Path(sys.argv[1]) / f's{n}', {'a': torch.full((9,), n)}, {})"
    )
    log = place / "strace.txt"
    calls = "trace=open,openat,fsync,fdatasync,rename,renameat,renameat2,close"
    command = ["strace", "-f", "-y", "-o", str(log), "-e", calls, sys.executable, "-c", script, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return False, f"strace ended with {done.returncode}: {done.stderr[-200:]}"
    # What happened to files of the folder, in order: "file" flushed, renamed, "folder" flushed.
    events = []
    for line in log.read_text().splitlines():
        if found := re.search(r"f(?:data)?sync\(\d+<([^>]*)>\)\s*= 0", line):
            events.append("folder" if found[1] == str(place) else "file")
        elif re.search(r"rename(?:at2?)?\(.*\)\s*= 0", line) and str(place) in line:
            events.append("rename")
    groups = [tuple(events[i : i + 3]) for i in range(0, len(events), 3)]
    return kept(groups.count(("file", "rename", "folder")), 20, "saves: fsync(file) < rename < fsync(folder)")


def _on_small_disk(disk: Path, kilobytes: int, work: str, *arguments: object) -> object:
    """Mount a disk of so many kilobytes for this process alone, and do the work there."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x20000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "a mount of its own needs root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)], check=True)
    return {"replace": _replace, "train": _train}[work](disk, *arguments)


def _replace(disk: Path) -> tuple[bool, bool]:
    """Save a large model over a small one: whether that was refused, and whether the old one is as it was, alone."""
    old = disk / "model.safetensors"
    tensorfile.save(old, {"a": torch.zeros(1000)}, {})
    before = digest(old)
    try:
        classifier().save(old)
    except UserError as error:
        return "No space left" in str(error), digest(old) == before and len(list(disk.iterdir())) == 1
    return False, False


def _train(disk: Path, data: Path, resume: bool) -> tuple[bool, bool]:
    """Train over an old run; the program's own end is the child's. The old model is looked at after it."""
    old = disk / "run" / "model.safetensors"
    old.parent.mkdir()
    tensorfile.save(old, {"a": torch.zeros(1000)}, {})
    before = digest(old)
    try:
        program("train", data, "--out", disk / "run", "--overwrite", *QUICK, "--epochs", "1")
    except SystemExit as ended:
        return ended.code == 2, digest(old) == before and not list(disk.rglob("*.part"))
    return False, False


@row(16, "on a full disk the program ends with one sentence, and the old model is unchanged")
def full_disk(place: Path) -> Outcome:
    """A disk of its own that fills up at ten points: while a model is saved, and anywhere in a training."""
    disk = place / "disk"
    disk.mkdir()
    data = stripes(place / "data", 12)
    tapetum("train", data, "--out", place / "warm", *QUICK, "--epochs", "1")
    needed = sum(path.stat().st_size for path in (place / "warm").rglob("*")) // 1024
    tries = [("replace", kilobytes) for kilobytes in (12, 24, 60, 120, 240)]
    # A run's model is most of it; what comes before and after it is small.
    tries += [("train", kilobytes) for kilobytes in (16, 24, 200, needed // 2, needed - 200)]
    right, wrong = 0, []
    for work, kilobytes in tries:
        ended = in_child(_on_small_disk, disk, kilobytes, work, *((data, False) if work == "train" else ()))
        said = [line for line in ended.err.splitlines() if line.startswith("tapetum: ")]
        told = work == "replace" or (len(said) == 1 and "Traceback" not in ended.err)
        fine = ended.value == (True, True) and told
        right += fine
        if not fine:
            wrong.append(f"{work} on {kilobytes} kB: {ended.value} {ended.err[-300:]!r}")
    return kept(right, len(tries), "points: refused, old file as it was, no scrap", *wrong)


def _as_nobody(*arguments: object) -> None:
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    program(*arguments)


@row(17, "a folder that may not be written is refused before the first epoch")
def read_only(place: Path) -> Outcome:
    """As another user: a foreign folder, one of its own without the right to write, a foreign run, a foreign model's place."""
    if os.getuid():
        return False, "needs root to become another user: not tried"
    data = stripes(place / "data", 6)
    (place / "own").mkdir()
    (place / "foreign").mkdir()
    run = place / "run"
    tapetum("train", data, "--out", run, *QUICK, "--epochs", "1")
    os.chown(place / "own", _NOBODY, _NOBODY)
    (place / "own").chmod(0o555)
    ways: list[tuple[object, ...]] = [
        ("train", data, "--out", place / "foreign", *QUICK, "--epochs", "1"),
        ("train", data, "--out", place / "foreign" / "deep" / "run", *QUICK, "--epochs", "1"),
        ("train", data, "--out", place / "own" / "run", *QUICK, "--epochs", "1"),
        ("train", data, "--out", run, "--overwrite", *QUICK, "--epochs", "1"),
        ("predict", run, data, "--out", place / "foreign" / "p.csv"),
        ("check", data, "--out", place / "foreign" / "check.html"),
    ]
    before = digest(run / "model.safetensors")
    ends: list[Ended] = [in_child(_as_nobody, *way) for way in ways]
    right = sum(bool(ended.sentence) and "epoch" not in ended.err and ended.seconds < 5 for ended in ends)
    wrong = [
        f"{way[0]}: {ended.code} {ended.err[-200:]!r}" for way, ended in zip(ways, ends, strict=True) if not ended.sentence
    ]
    ok, figure = kept(right, len(ways), f"refused with a sentence, slowest {max(e.seconds for e in ends):.1f} s", *wrong)
    return ok and digest(run / "model.safetensors") == before, figure
