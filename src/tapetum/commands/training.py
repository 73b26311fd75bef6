"""From pictures to a run: demo, check, train, textbook."""

import dataclasses
import locale
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from tapetum import processes as together
from tapetum.commands.common import Data, Device, Json, Numbers, Place, dumps, quoted
from tapetum.commands.launch import Processes, in_processes
from tapetum.config import Settings, read_settings
from tapetum.files import refuse_inside


def demo(out: Path = Path("tapetum-demo"), json: Json = False) -> None:
    """The main job end to end in under a minute, on 1,797 handwritten digits that scikit-learn ships.

    Args:
        out: Folder to write: the pictures and the run.
    """
    from tapetum.demo import demo as run_demo

    _answer(run_demo(out), json)


def check(
    data: Data,
    /,
    out: Annotated[Place, arg(help="Also write an HTML page with miniatures to this file.")] = None,
    numbers: Numbers = "all",
    strict: Annotated[bool, arg(help="Exit with 1 if something serious is found.")] = False,
    json: Json = False,
) -> None:
    """Look through labelled pictures before a training: what would spoil it or its figures, by name and reason.

    Unreadable files, the same picture twice, under two labels or in two parts, names that collide on other systems, content
    that belies its name, blank, odd and turned pictures, small and uneven classes. Nothing among the pictures is changed.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.run import check as run_check

    if out is not None:
        refuse_inside(out, data, "page")
    found = run_check(data, numbers)
    if out is not None:
        from tapetum.looking.check_page import write_check

        write_check(found, out)
    if json:
        print(dumps(found.to_json()))
    else:
        print(found.text())
        if out is not None:
            print(f"\nlook at:  {out}")
        elif found.findings:
            print(f"\nsee them: tapetum check {quoted(data)} --out check.html")
        print(_after_check(data, found.counts))
    if strict and any(each.harm == "serious" for each in found.findings):
        sys.exit(1)


def _after_check(data: Path, counts: Mapping[str, int]) -> str:
    """What comes next: a training, unless there is one class alone."""
    if sum(map(bool, counts.values())) < 2:
        return "next:     name the folder above: this looks like one class, and a training needs two or more"
    return f"next:     tapetum train {quoted(data)}"


def train(
    data: Data,
    /,
    out: Annotated[Place, arg(help="Run folder to write (default: a new folder runs/NAME).")] = None,
    resume: Annotated[bool, arg(help="Go on from the newest checkpoint in the run folder, with that run's settings.")] = False,
    overwrite: Annotated[bool, arg(help="Replace the run that is in the run folder.")] = False,
    asked: Annotated[Settings, arg(name="")] = Settings(),  # noqa: B008 - frozen, and tyro reads the defaults from it
    processes: Processes = 1,
    json: Json = False,
) -> None:
    """Train a classifier from labelled pictures, and evaluate it on pictures that it did not train on.

    DATA is any of: DATA/CLASS/*.jpg; DATA/train/CLASS/* with val and test beside it; a folder of files whose names begin with
    their class (dog.113.jpg); a CSV with the columns path, label and perhaps split; a zip or tar of one of these; shards of
    `tapetum pack`, or their address. Which one it is is recognised, and said. --settings FILE takes settings from a TOML file,
    such as a run's settings.toml; flags win.

    Args:
        data: Folder, CSV file, archive, shards or address of labelled pictures.
    """
    if in_processes(processes):
        return
    from tapetum import run
    from tapetum.training.signals import Interrupted

    with together.joined():
        try:
            result = run.train(data, out, resume=resume, overwrite=overwrite, settings=asked)
        except Interrupted as stop:
            if together.first():
                print(f"tapetum: {stop}; go on with: {_to_go_on(data, stop.folder, asked)}", file=sys.stderr)
            sys.exit(stop.exit_code)
        if together.first():
            _answer(result, json)


def _to_go_on(data: Path, folder: Path, asked: Settings) -> str:
    """The command that goes on with a stopped training; its settings stand in the folder, but for what was asked since then."""
    begun = read_settings(folder / "settings.toml")
    changed = {name: value for name, value in dataclasses.asdict(asked).items() if value != begun.get(name, value)}
    flags = [f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in changed.items()]
    many = f" --processes {together.count()}" if together.count() > 1 else ""
    return f"tapetum train {quoted(data)} --out {quoted(folder)} --resume{''.join(flags)}{many}"


def _answer(result: Any, as_json: bool) -> None:
    """A run's metrics on stdout, and what to do next."""
    from tapetum.evaluation.text import format_metrics

    if as_json:
        found = {split: metrics.to_json() for split, metrics in result.metrics.items()}
        print(dumps({"folder": str(result.folder), "metrics": found}))
        return
    for split, metrics in result.metrics.items():
        print(f"{ {'folds': 'cross-validation', 'val': 'validation', 'test': 'test'}[split] }: {format_metrics(metrics)}\n")
    print(f"look at:  {result.folder / 'report.html'}")
    print(f"next:     tapetum predict {quoted(result.folder)} PICTURES")


def textbook(
    data: Data,
    /,
    out: Annotated[Path, arg(help="Folder to write; index.html is the page.")] = Path("textbook"),
    lang: Annotated[Literal["auto", "ko", "en"], arg(help="Language of the page (auto: the system's).")] = "auto",
    quick: Annotated[bool, arg(help="A short tour of a few minutes: one seed, no single mends.")] = False,
    seeds: Annotated[int, arg(help="Trainings of each variant (AlexNet: at most 3).")] = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """The study notes' story on your own photos: both networks as written, then each mistake mended, and what it costs.

    Writes one HTML page. Finished trainings are kept, so the same command goes on after an interruption.

    Args:
        data: Photos, in any layout that `tapetum train` takes; the book's are cat and dog 0 to 250 of Kaggle's Dogs vs Cats.
    """
    from tapetum import textbook as tour
    from tapetum.training.signals import Interrupted

    if lang == "auto":
        lang = "ko" if (locale.getlocale()[0] or os.environ.get("LANG", "")).lower().startswith("ko") else "en"
    try:
        page, ledger = tour.textbook(data, out, lang=lang, quick=quick, seeds=seeds, device=device)
    except Interrupted as stop:
        flags = (" --quick" if quick else "") + (f" --seeds {seeds}" if seeds != 5 else "")
        command = f"tapetum textbook {quoted(data)} --out {quoted(out)} --lang {lang}{flags}"
        print(f"tapetum: {stop}; the same command goes on with it: {command}", file=sys.stderr)
        sys.exit(stop.exit_code)
    if json:
        lines = {
            line.variant: {
                "accuracy": line.accuracy.to_json(),
                "seeds": line.seeds,
                "gain": line.gain.to_json() if line.gain else None,
            }
            for line in ledger
        }
        print(dumps({"page": str(page), "ledger": lines}))
        return
    for line in ledger:
        gain = line.gain and f", gain {line.gain.value * 100:+.1f} ({line.gain.low * 100:+.1f} to {line.gain.high * 100:+.1f})"
        print(f"{line.variant:<16} {line.accuracy}{gain or ''}")
    print(f"\nlook at:  {page}")
    print(f"next:     tapetum train {quoted(data)}")
