"""Many trainings on the same pictures: tune, grow."""

import dataclasses
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Suppress, arg

from tapetum.commands.common import Data, Json, Place, dumps, quoted
from tapetum.config import Auto, OnOff, Settings


@dataclass(frozen=True)
class _Compared(Settings):
    """What trainings that are compared can be asked for: not what only a single one can do (`scaling.fitting.find`)."""

    recipe: Suppress[Literal["auto", "notes", "paper"]] = "auto"
    members: Suppress[int] = 1
    distill: Suppress[OnOff] = "off"
    weights: Suppress[str] = ""
    unlabelled: Suppress[str] = ""
    split: Suppress[Literal["auto", "notes"]] = "auto"
    keep: Suppress[Auto | Literal["best", "last"]] = "auto"


@dataclass(frozen=True)
class ToTune(_Compared):
    """The settings of a search; its own defaults are told, and the search takes them as if nothing had been said."""

    minutes: Auto | float = 60
    """Budget of everything: all trials, and the two final trainings."""
    folds: int = 3
    """Folds of a trial's cross-validation."""
    test: float = 0.2
    """Share of the pictures put aside for the proof, where the data bring no test part."""


@dataclass(frozen=True)
class ToGrow(_Compared):
    """The settings of a curve, likewise."""

    minutes: Auto | float = 20
    """Budget of all trainings."""
    folds: Suppress[int] = 1
    test: float = 0.25
    """Share of the pictures put aside to judge on, where the data bring no test part."""


def plain(asked: Settings) -> Settings:
    """The settings as a search or a curve takes them: what was not changed is left to it, and so to the data."""
    values = {field.name: getattr(asked, field.name) for field in dataclasses.fields(Settings)}
    unsaid = {"minutes", "folds", "test"}
    kept = {name: value for name, value in values.items() if name not in unsaid or value != getattr(type(asked)(), name)}
    return Settings(**kept)


def tune(
    data: Data,
    /,
    out: Annotated[Place, arg(help="Folder to write (default: runs/NAME-tune); it ends with the better model.")] = None,
    trials: Annotated[int, arg(help="End the search after so many trials of this process (0: when its time is over).")] = 0,
    storage: Annotated[str, arg(help="Keep the study in this database (an Optuna URL) in place of a file in the folder.")] = "",
    study: Annotated[str, arg(help="Name of the study (default: the folder's).")] = "",
    asked: Annotated[ToTune, arg(name="")] = ToTune(),
    json: Json = False,
) -> None:
    """Search for better settings on your pictures, and prove on others that they are better than the default recipe.

    Learning rate, weight decay, batch, mixup and crops are searched, in long searches size and turned pictures too; what you
    name is not searched. Start the same command again, at the same time or later, to add trials.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.scaling.tune import Stopped
    from tapetum.scaling.tune import tune as run_search

    try:
        found = run_search(data, out, trials=trials, storage=storage, name=study, settings=plain(asked))
    except Stopped as stop:
        print(f"tapetum: {stop}; go on with: {_again(sys.argv[1:], stop.folder, stop.minutes_left)}", file=sys.stderr)
        sys.exit(stop.exit_code)
    if json:
        print(dumps(found.to_json()))
        return
    print(found.search.text())
    if not found.search.chosen:  # another process makes the model
        print(f"\nnext:     {_again(sys.argv[1:], found.folder, None)}")
        return
    print(f"\nlook at:  {found.folder / 'index.html'}")
    print(f"next:     tapetum predict {quoted(found.folder)} PICTURES")


def _again(arguments: list[str], folder: Path, minutes: float | None) -> str:
    """The command as it was given, with its folder, and with `minutes` in place of its own; no password is repeated.

    >>> _again(["tune", "my photos", "--minutes", "9", "--storage=mysql://me:secret@host/db"], Path("runs/a"), 4.26)
    "tapetum tune 'my photos' --storage=URL --out runs/a --minutes 4.3"
    """
    kept: list[str] = []
    given = iter(arguments)
    for argument in given:
        flag, _, value = argument.partition("=")
        if flag == "--out" or (flag == "--minutes" and minutes is not None):
            if not value:
                next(given, None)
        elif "@" in argument and "://" in argument:
            kept.append(f"{flag}=URL" if value and flag.startswith("--") else "URL")
        else:
            kept.append(argument)
    kept += ["--out", str(folder)] + ([] if minutes is None else ["--minutes", f"{max(0.1, minutes):.1f}"])
    return f"tapetum {shlex.join(kept)}"


def grow(
    data: Data,
    /,
    out: Annotated[Place, arg(help="Folder to write (default: runs/NAME-grow); index.html is the page.")] = None,
    sizes: Annotated[tuple[int, ...], arg(help="How many pictures train (default: up to six sizes, each half the next).")] = (),
    seeds: Annotated[int, arg(help="Trainings of each size, each on pictures of its own.")] = 3,
    asked: Annotated[ToGrow, arg(name="")] = ToGrow(),
    json: Json = False,
) -> None:
    """Would more pictures help? Accuracy against the number of pictures, and what twice as many would bring.

    Trains on growing parts of the pictures, judges all on a part put aside (or the data's own test part), and fits a power law
    of the error. Finished trainings are kept: the same command goes on.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.scaling.grow import grow as run_growth
    from tapetum.training.signals import Interrupted

    try:
        found, page = run_growth(data, out, sizes=sizes, seeds=seeds, settings=plain(asked))
    except Interrupted as stop:
        print("tapetum: stopped; finished trainings are kept, and the same command goes on with the others", file=sys.stderr)
        sys.exit(stop.exit_code)
    if json:
        print(dumps({"page": str(page), **found.to_json()}))
        return
    print(found.text())
    print(f"\nlook at:  {page}")
    print(f"next:     tapetum train {quoted(data)}")
