"""The run folder: which one, what stands in it from the beginning, and what a resumed run reads from it."""

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import tapetum
from tapetum import processes
from tapetum.config import Recipe, Settings, decide, read_table, to_toml
from tapetum.data.samples import Samples
from tapetum.data.table import Table
from tapetum.errors import UserError
from tapetum.files import (
    LOCK,
    claim,
    csv_cells,
    named_after,
    read_csv,
    refuse_inside,
    remove_scraps,
    write_csv,
    write_text,
)
from tapetum.inference.description import MODEL_FILE
from tapetum.training import checkpoint

# What a training leaves beside its settings and checkpoints (run.py); the model first: no other run's split may judge it.
_RESULTS = (
    MODEL_FILE,
    *("log.jsonl", "splits.csv", "unlabelled.csv", "left_out.csv", "predictions.csv", "metrics.json", "kaggle.csv"),
    *("cost.json", "report.html", "grid.png", "curves.png", "reliability.png", "coverage.png"),
)
# The last of them to be written: where it stands, the run is finished.
_LAST = "report.html"
_PARTS = ("path", "label", "split", "sha256")


def begin(data: Path, out: str | Path | None, resume: bool, overwrite: bool, held: contextlib.ExitStack) -> tuple[Path, bool]:
    """The run folder, held for this training by the first process, and whether to go on with the run in it.

    What torchrun starts again in the place of processes that were lost goes on with what they began.
    """
    found: dict[str, Any] = {}
    if processes.first():
        name = str(Path(out or data).resolve())
        if begun := processes.begun_before(name):
            out, overwrite = begun, True
            resume = checkpoint.any_in(Path(begun))
        folder = run_folder(data, out, resume, overwrite)
        held.enter_context(claim(folder, "training"))
        remove_scraps(folder, *folder.glob("checkpoint*"))
        processes.remember_begun(name, str(folder))
        found = {"folder": str(folder), "resume": resume}
    found = processes.told(found)
    return Path(found["folder"]), found["resume"]


def run_folder(data: Path, out: str | Path | None, resume: bool, overwrite: bool) -> Path:
    """The folder to write: the one asked for, or a new one of the data's name under `runs`."""
    if out is None:
        folder = newest(data) if resume else Path("runs") / named_after(data)
        number = 2
        while folder.exists() and not (resume or overwrite):
            folder, number = Path("runs") / f"{named_after(data)}-{number}", number + 1
    else:
        folder = Path(out)
    refuse_inside(folder, data, "run folder")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write the run to. Choose another --out.")
    content = {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()
    finished = _LAST in content
    if resume and finished and not checkpoint.any_in(folder):
        raise UserError(f"{folder} is finished: nothing is left to resume. Use --overwrite to train anew, or another --out.")
    if resume:
        checkpoint.refuse_missing(folder)
    if content and not content & {"settings.toml", MODEL_FILE}:
        raise UserError(f"{folder} holds files of another kind: a run needs a folder of its own. Choose another --out.")
    # What a training left that was stopped before its first checkpoint is nobody's.
    begun = MODEL_FILE in content or checkpoint.any_in(folder)
    if begun and not (resume or overwrite):
        state = ", and it is finished. Use" if finished else ". Use --resume to go on with it,"
        raise UserError(f"{folder} holds a run already{state} --overwrite to replace it, or another --out.")
    return folder


def newest(data: Path) -> Path:
    """The newest of the data's runs that is not finished, or the newest of all: what is gone on with where none is named."""
    first = Path("runs") / named_after(data)
    numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    found = list(itertools.takewhile(Path.exists, itertools.chain([first], numbered)))
    unfinished = [each for each in found if checkpoint.any_in(each) and not (each / MODEL_FILE).exists()]
    return (unfinished or found or [first])[-1]


def _forget(folder: Path) -> None:
    """Remove what an old run left, so that none of it stands beside the settings and pictures of the new one."""
    for old in (*folder.glob("checkpoint*"), folder / "tensorboard"):
        shutil.rmtree(old, ignore_errors=True)
    for name in _RESULTS:
        (folder / name).unlink(missing_ok=True)


def write_beginning(folder: Path, samples: Samples, table: Table, settings: Settings, recipe: Recipe, why: str) -> None:
    """The settings, the split and what was left out, before the first step; of a run that is replaced nothing stays."""
    _forget(folder)
    about: dict[str, str | int] = {"tapetum": tapetum.__version__, "torch": torch.__version__, "data": str(samples.origin)}
    about |= {"threads": torch.get_num_threads(), "processes": processes.count(), "why": why}
    _write_settings(folder, {"asked": dataclasses.asdict(settings), "decided": dataclasses.asdict(recipe), "about": about})
    write_csv(folder / "splits.csv", _PARTS, _parts(table))
    write_left_out(folder, table)


def write_asked(folder: Path, settings: Settings) -> None:
    """What was asked of a run that was gone on with, perhaps otherwise than at its beginning, such as more members."""
    decided, about = (read_table(folder / "settings.toml", title) for title in ("decided", "about"))
    _write_settings(folder, {"asked": dataclasses.asdict(settings), "decided": decided, "about": about})


def _write_settings(folder: Path, tables: dict[str, dict[str, Any]]) -> None:
    head = f"# A run of tapetum {tapetum.__version__}. To repeat it: tapetum train DATA --settings THIS_FILE\n\n"
    write_text(folder / "settings.toml", head + to_toml(tables))


def write_left_out(folder: Path, table: Table) -> None:
    """left_out.csv: the files that gave no picture, with the reason; only if there are any."""
    samples, reasons = table.pictures.samples, table.pictures.reasons
    (folder / "left_out.csv").unlink(missing_ok=True)
    if reasons:
        write_csv(folder / "left_out.csv", ["path", "reason"], ((samples.names[i], reasons[i]) for i in reasons))


def refuse_changes(folder: Path, table: Table) -> None:
    """A run goes on with the pictures with which it began, in the same parts, or not at all.

    Raises:
        UserError: they differ; how, and an example of each difference.
    """
    before, now = (
        {path: about for path, *about in cells} for cells in (read_csv(folder / "splits.csv"), csv_cells(_PARTS, _parts(table)))
    )
    both = before.keys() & now.keys()
    changes = {
        "new": now.keys() - before.keys(),
        "gone": before.keys() - now.keys(),
        **{
            words: {path for path in both if before[path][column] != now[path][column]}
            for column, words in enumerate(("of another class", "in another part", "with other content"))
        },
    }
    told = [f"{len(paths):,} {words} ({min(paths)})" for words, paths in changes.items() if paths]
    if told:
        raise UserError(
            f"{folder} cannot be resumed, its pictures have changed: {', '.join(told)}. Put them back, or use a new --out."
        )


def _parts(table: Table) -> Iterator[tuple[str, str, str, str]]:
    """The rows of splits.csv."""
    readable = table.samples
    for name, label, split, row in zip(readable.names, readable.labels, readable.splits, table.rows, strict=True):
        yield name, readable.classes[label], split, table.pictures.hashes[row]


@contextlib.contextmanager
def as_many_threads(folder: Path) -> Iterator[int]:
    """Compute with as many threads as the run in `folder` began with; the number is given.

    Others would sum in another order, and the resumed training would not end with the same bits. With another number of
    processes it will not anyhow, and each takes the threads that it has.
    """
    now = torch.get_num_threads()
    about = processes.told(read_table(folder / "settings.toml", "about") if processes.first() else {})
    then = about.get("threads", now) if about.get("processes", 1) == processes.count() else now
    torch.set_num_threads(then)
    try:
        yield then
    finally:
        torch.set_num_threads(now)


def recipe_of(folder: Path, settings: Settings) -> tuple[Recipe, str]:
    """The recipe that a run began with, but for what is asked otherwise now, and its reasons."""
    decided, about = (read_table(folder / "settings.toml", title) for title in ("decided", "about"))
    try:
        return decide(settings, decided), about["why"]
    except KeyError as error:
        raise UserError(
            f"{folder} cannot be resumed: its settings lack {error}. It is an older version's; train anew."
        ) from error
