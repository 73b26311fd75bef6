"""What the rows share: the list of rows, children that may crash or be killed, and small pictures that can be learnt."""

import contextlib
import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tapetum import models
from tapetum.__main__ import main
from tapetum.data.prepare import Preprocessing
from tapetum.inference.classifier import Classifier

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
# A network and a training that take a second.
QUICK = ["--model", "lenet5-1998", "--size", "32", "--batch", "16", "--lr", "0.01", "--rotate", "0", "--mixup", "0"]
# Children begin as copies of this process, which has imported everything (`warm`) and started no thread: it costs milliseconds.
FORK = multiprocessing.get_context("fork")

Outcome = tuple[bool, str]
"""Whether the promise was kept, and the figure."""


@dataclass(frozen=True)
class Row:
    """A promise and the check of it."""

    number: int
    promise: str
    check: Callable[[Path], Outcome]


ROWS: list[Row] = []


def row(number: int, promise: str) -> Callable[[Callable[[Path], Outcome]], Callable[[Path], Outcome]]:
    """Put a check into the list; it gets an empty folder of its own."""

    def put(check: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
        ROWS.append(Row(number, promise, check))
        return check

    return put


def kept(right: int, of: int, what: str, *more: str) -> Outcome:
    """`right` of `of` cases, with what they are, and what went wrong in the first others."""
    return right == of, f"{right:,}/{of:,} {what}" + "".join(f"; {each}" for each in more[:3] if each)


def tests(*names: str) -> Outcome:
    """The figure of rows that tests keep in full already."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    return done.returncode == 0, f"by tests/: {last}"


def together(*outcomes: Outcome) -> Outcome:
    """Several figures as one."""
    return all(ok for ok, _ in outcomes), "; ".join(figure for _, figure in outcomes)


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int | None
    """Its exit code, minus the signal that killed it, or None: it was still running when its time was up."""
    out: str
    err: str
    seconds: float
    value: Any = None

    @property
    def sentence(self) -> str:
        """The one sentence of a refusal with exit code 2; "" where it is anything else."""
        said = [line for line in self.err.splitlines() if line.startswith("tapetum: ")]
        clean = self.code == 2 and len(said) == 1 and "Traceback" not in self.err
        return said[0].removeprefix("tapetum: ") if clean else ""


class Child:
    """A function at work in a process of its own; its result comes by `wait`."""

    def __init__(self, work: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        self._begun = time.monotonic()
        self._ours, theirs = FORK.Pipe()
        self._process = FORK.Process(target=_work, args=(theirs, work, arguments, options))
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid  # type: ignore[assignment]

    def kill(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> Ended:
        """How it ended; it is killed when its time is up."""
        out, err, value = "", "", None
        with contextlib.suppress(EOFError):
            if self._ours.poll(max(0.0, seconds)):
                out, err, value = self._ours.recv()
        self._process.join(max(0.1, seconds - (time.monotonic() - self._begun)))
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        return Ended(code, out, err, time.monotonic() - self._begun, value)


def _work(pipe: Any, work: Callable[..., Any], arguments: tuple, options: dict[str, Any]) -> None:
    out, err, code, value = io.StringIO(), io.StringIO(), 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            value = work(*arguments, **options)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # a traceback is what is looked for
            import traceback

            traceback.print_exc()
            code = 1
    pipe.send((out.getvalue(), err.getvalue(), value))
    os._exit(code)


def warm(place: Path) -> None:
    """Import all that commands import when they run, by running them once."""
    torch.set_num_threads(1)
    data = stripes(place / "data", 4)
    for command in (
        ("train", data, "--out", place / "run", *QUICK, "--epochs", "1"),
        ("check", data, "--out", place / "c.html"),
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            program(*command)


def in_child(work: Callable[..., Any], *arguments: Any, seconds: float = 60, **options: Any) -> Ended:
    """Do the work in a child and wait for it."""
    return Child(work, *arguments, **options).wait(seconds)


def program(*arguments: object) -> None:
    """The program `tapetum` with these arguments; for a child."""
    sys.argv = ["tapetum", *map(str, arguments)]
    main()


def tapetum(*arguments: object, seconds: float = 60) -> Ended:
    """Run the program in a child."""
    return in_child(program, *arguments, seconds=seconds)


def stripes(folder: Path, count: int = 24, classes: Iterable[str] = ("lying", "upright"), seed: int = 0) -> Path:
    """Class folders of noisy stripes; every other class has lying ones."""
    generator = np.random.default_rng(seed)
    for turn, label in enumerate(classes):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            wave = np.sin(np.arange(40) * generator.uniform(0.7, 1.2) + generator.uniform(0, 6))
            picture = np.broadcast_to(wave[:, None] if turn % 2 else wave[None, :], (40, 40))
            picture = 128 + 70 * picture[:, :, None] + generator.normal(0, 25, (40, 40, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


def classifier(classes: tuple[str, ...] = ("cat", "dog")) -> Classifier:
    """A small network that has learnt nothing."""
    torch.manual_seed(0)
    prepared = Preprocessing(size=32, fit="crop", resize=36, reduce=64, channels=1)
    return Classifier(models.build("lenet5-1998", len(classes), 32).eval(), "lenet5-1998", classes, prepared)


def noise(seed: int, height: int = 60, width: int = 80) -> Image.Image:
    """A picture of soft random blots, unlike any other."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its content and its time."""
    return {
        os.fsencode(path.relative_to(folder)).hex(): f"{path.lstat().st_mtime_ns} {digest(path)}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
