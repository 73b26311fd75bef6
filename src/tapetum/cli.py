"""The command line. Settings become flags by themselves; torch is imported when a command runs.

Answers go to stdout, talk and progress to stderr; `--json` prints one JSON object. Every command ends by naming the next one.
"""

import inspect
import itertools
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from tapetum import __version__
from tapetum.commands import deploying, judging, looking, networks, packing, scaling, serving, training
from tapetum.commands.mistakes import flags_of, refuse_mistakes
from tapetum.config import Settings, read_settings
from tapetum.errors import UserError

_COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": training.demo,
    "get": packing.get,
    "check": training.check,
    "pack": packing.pack,
    "train": training.train,
    "textbook": training.textbook,
    "tune": scaling.tune,
    "grow": scaling.grow,
    "labels": judging.labels,
    "evaluate": judging.evaluate,
    "compare": judging.compare,
    "predict": judging.predict,
    "explain": looking.explain,
    "report": looking.report,
    "export": deploying.export,
    "serve": serving.serve,
    "models": networks.models,
    "summary": networks.summary,
}

# Flags of `tapetum train` that take no value.
_SWITCHES = {
    f"--{name}" for name, flag in inspect.signature(training.train).parameters.items() if isinstance(flag.default, bool)
}
_DESCRIPTION = (
    "Image classifiers that see well in little light: from few pictures, on small machines. A folder of pictures goes in; a "
    "trained, honestly evaluated classifier comes out. Begin with: tapetum demo"
)
_MORE = (
    "tapetum COMMAND --help tells all of a command and its settings; tapetum --version the version. With --traceback a command "
    "that fails shows where."
)
_WIDEST = 100


def run(arguments: Sequence[str]) -> None:
    """Run the command that `arguments` name (without the program's own name)."""
    if list(arguments) in (["--version"], ["-V"]):
        print(f"tapetum {__version__}")
        return
    if list(arguments) in ([], ["--help"], ["-h"]):
        print(_overview(), file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    asked = _with_settings(list(arguments))
    refuse_mistakes(asked, _COMMANDS)
    tyro.extras.subcommand_cli_from_dict(
        _COMMANDS,
        prog="tapetum",
        args=asked,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _overview() -> str:
    """All commands, each in its first sentence, in the order in which they are needed.

    tyro would show every command's whole description, a hundred lines, and take as long again to lay them out.
    """
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    lines = ["usage: tapetum COMMAND ...", "", *textwrap.wrap(_DESCRIPTION, width), ""]
    for name, command in _COMMANDS.items():
        sentence = (inspect.getdoc(command) or "").split("\n\n")[0]
        lines += textwrap.wrap(sentence, width, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12)
    return "\n".join([*lines, "", *textwrap.wrap(_MORE, width)])


def _with_settings(arguments: list[str]) -> list[str]:
    """`--settings FILE` replaced by the flags that the file stands for, before the given ones, so that those win.

    A training that is resumed takes the settings of its run folder.
    """
    arguments = [part for each in arguments for part in (each.split("=", 1) if each.startswith("--settings=") else [each])]
    if "--settings" not in arguments:
        file = _resumed(arguments)
        if file is None or not file.exists():
            return arguments
        arguments = [*arguments, "--settings", str(file)]
    at = arguments.index("--settings")
    if at + 1 >= len(arguments) or at == 0:
        raise UserError("--settings needs a file: expected tapetum train DATA --settings FILE.")
    values = read_settings(Path(arguments[at + 1]))
    given = arguments[1:at] + arguments[at + 2 :]
    names = {flag.split("=")[0].lstrip("-").replace("-", "_") for flag in given if flag.startswith("--")}
    flags: list[str] = []
    known = flags_of(_COMMANDS[arguments[0]]) if arguments[0] in _COMMANDS else set()
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        # A run's file names every setting; what a command cannot use matters only where it says something.
        if name not in names and (flag in known or value != getattr(Settings(), name)):
            flags += [flag, str(value)]
    return [arguments[0], *flags, *given]


def _resumed(arguments: list[str]) -> Path | None:
    """The settings of the run that `train DATA --resume` names by its --out, or else by DATA; None: nothing is resumed."""
    if arguments[:1] != ["train"] or "--resume" not in arguments:
        return None
    named: dict[str, str] = {}
    for before, word in itertools.pairwise(arguments):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            named |= {flag: value} if equals else {}
        elif before.startswith("--") and "=" not in before and before not in _SWITCHES:
            named[before] = word
        else:
            named.setdefault("DATA", word)
    if "--out" in named:
        return Path(named["--out"]) / "settings.toml"
    if "DATA" not in named:
        return None
    from tapetum.runfolder import newest

    return newest(Path(named["DATA"])) / "settings.toml"
