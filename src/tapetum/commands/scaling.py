"""Many trainings on the same pictures: tune, grow."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from tapetum.commands.common import Data, Json, Place, dumps, quoted
from tapetum.config import Settings


def tune(
    data: Data,
    /,
    out: Annotated[Place, arg(help="Folder to write (default: runs/NAME-tune); it ends with the better model.")] = None,
    trials: Annotated[int, arg(help="End the search after so many trials of this process (0: when its time is over).")] = 0,
    storage: Annotated[str, arg(help="Keep the study in this database (an Optuna URL) in place of a file in the folder.")] = "",
    study: Annotated[str, arg(help="Name of the study (default: the folder's).")] = "",
    asked: Annotated[Settings, arg(name="")] = Settings(),  # noqa: B008 - frozen, and tyro reads the defaults from it
    json: Json = False,
) -> None:
    """Search for better settings on your pictures, and prove on others that they are better than the default recipe.

    Learning rate, weight decay, batch, mixup and crops are searched, in long searches size and turned pictures too; what you
    name is not searched. --minutes (60) is the budget of everything, --folds (3) those of a trial, --test (0.2) the share put
    aside for the proof, where the data bring no test part. Start the same command again, at the same time or later, to add
    trials.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.scaling.tune import Stopped
    from tapetum.scaling.tune import tune as run_search

    try:
        found = run_search(data, out, trials=trials, storage=storage, name=study, settings=asked)
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
    asked: Annotated[Settings, arg(name="")] = Settings(),  # noqa: B008 - frozen, and tyro reads the defaults from it
    json: Json = False,
) -> None:
    """Would more pictures help? Accuracy against the number of pictures, and what twice as many would bring.

    Trains on growing parts of the pictures, judges all on a part put aside (--test, a quarter; or the data's own), and fits a
    power law of the error. --minutes (20) is the budget of all trainings. Finished ones are kept: the same command goes on.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.scaling.grow import grow as run_growth
    from tapetum.training.signals import Interrupted

    try:
        found, page = run_growth(data, out, sizes=sizes, seeds=seeds, settings=asked)
    except Interrupted as stop:
        print("tapetum: stopped; finished trainings are kept, and the same command goes on with the others", file=sys.stderr)
        sys.exit(stop.exit_code)
    if json:
        print(dumps({"page": str(page), **found.to_json()}))
        return
    print(found.text())
    print(f"\nlook at:  {page}")
    print(f"next:     tapetum train {quoted(data)}")
