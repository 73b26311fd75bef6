"""Typing mistakes on the command line, each as one sentence, before tyro's parser would show its box of help."""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Suppress

from tapetum.errors import UserError, did_you_mean

# Asked for help, a command gives help.
_HELP = {"-h", "--help"}


def refuse_mistakes(arguments: Sequence[str], commands: Mapping[str, Callable[..., Any]]) -> None:
    """Raise a UserError for a command, a flag or a value that cannot be meant; what else is wrong tyro tells."""
    if not arguments or arguments[0].startswith("-"):
        return
    name, *rest = arguments
    if name not in commands:
        raise UserError(f"there is no command '{name}'.{did_you_mean(name, commands)} All of them: tapetum --help.")
    if _HELP.isdisjoint(rest):
        _refuse(name, rest, commands)


def flags_of(command: Callable[..., Any]) -> set[str]:
    """The names of all flags of a command, as they are typed."""
    return set(_wanted(command)[0])


@dataclass(frozen=True)
class _Flag:
    """What is typed after a flag."""

    words: str
    """In words, such as "a number or auto"; empty for a switch."""
    options: tuple[str, ...] = ()
    """The only words that are taken beside numbers; empty where there are none."""
    number: type | None = None
    text: bool = False
    """Whether any text will do."""
    many: bool = False

    def takes(self, value: str) -> bool:
        """Whether the value can be meant; its range is judged where all values come through."""
        if self.text or value in self.options:
            return True
        try:
            return self.number is not None and not math.isnan(self.number(value))
        except (ValueError, OverflowError):
            return False


@dataclass(frozen=True)
class _Place:
    """What is typed without a flag."""

    word: str
    """What help calls it."""
    needed: bool
    many: bool


def _wanted(command: Callable[..., Any]) -> tuple[dict[str, _Flag], list[_Place]]:
    """The flags of a command, and what it takes without a flag, in this order."""
    hints = get_type_hints(command, include_extras=True)
    flags: dict[str, _Flag] = {}
    places: list[_Place] = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        kind, named = _bare(hint, parameter.name)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            named = _bare(hint, parameter.name.upper(), "metavar")[1]
            places.append(_Place(named, parameter.default is parameter.empty, get_origin(kind) is tuple))
        elif is_dataclass(kind) and isinstance(kind, type):
            extras = get_type_hints(kind, include_extras=True)
            shown = (field.name for field in fields(kind) if not _is_suppressed(extras[field.name]))
            flags |= {_typed(each): _flag(_bare(extras[each], each)[0]) for each in shown}
        else:
            flags[_typed(named)] = _flag(kind)
    return flags, places


def _bare(hint: Any, name: str, word: str = "name") -> tuple[Any, str]:
    """A type without what is said about it, and the name, or other `word` for it, that it goes by on the command line."""
    while get_origin(hint) is Annotated:
        name = next((each for said in hint.__metadata__ if (each := getattr(said, word, None))), name)
        hint = hint.__origin__
    return hint, name


def _is_suppressed(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(said in get_args(Suppress[int])[1:] for said in hint.__metadata__)


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flag(kind: Any) -> _Flag:
    if kind is bool:
        return _Flag("")
    if get_origin(kind) is tuple:
        return _Flag("one or more values", text=True, many=True)
    alternatives = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    options = tuple(str(word) for each in alternatives if get_origin(each) is Literal for word in get_args(each))
    number = next((each for each in alternatives if each in (int, float)), None)
    numbers = [] if number is None else ["a whole number" if number is int else "a number"]
    words = [*numbers, *options]
    told = " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"
    return _Flag(told or "a value", options, number, text=not words)


def _refuse(name: str, rest: Sequence[str], commands: Mapping[str, Callable[..., Any]]) -> None:
    flags, places = _wanted(commands[name])
    plain: list[str] = []
    i = 0
    while i < len(rest):
        word, equals, value = rest[i].partition("=")
        i += 1
        if not word.startswith("--"):
            plain.append(rest[i - 1])
            continue
        word = word.replace("_", "-")
        if word not in flags:
            others = [other for other, command in commands.items() if word in flags_of(command)]
            hint = f" It is one of tapetum {others[0]}." if others else did_you_mean(word, flags)
            raise UserError(f"tapetum {name} has no flag {word}.{hint} All that it has: tapetum {name} --help.")
        flag = flags[word]
        if flag.many:
            while i < len(rest) and not rest[i].startswith("--"):
                i += 1
            continue
        if not flag.words:
            continue
        if not equals:
            if i == len(rest) or rest[i].startswith("--"):
                raise UserError(f"{word} stands alone: expected {flag.words} after it.")
            value, i = rest[i], i + 1
        if not flag.takes(value):
            raise UserError(f"{word} takes {flag.words}, not '{value}'.{did_you_mean(value, flag.options)}")
    _refuse_pieces(plain)
    if missing := [place.word for place in places[len(plain) :] if place.needed]:
        usual = " ".join(place.word for place in places if place.needed)
        raise UserError(
            f"tapetum {name} needs {' and '.join(missing)}: expected tapetum {name} {usual}. All that it takes: tapetum {name} "
            "--help."
        )
    if len(plain) > len(places) and not any(place.many for place in places):
        raise UserError(
            f"'{plain[len(places)]}' is one argument too many: tapetum {name} --help tells what it takes. A path with "
            "spaces in it needs quotes around it."
        )


def _refuse_pieces(plain: Sequence[str]) -> None:
    """Of a path with spaces that was typed without quotes, the shell makes several that do not exist."""
    for begin in range(len(plain)):
        for end in range(begin + 2, len(plain) + 1):
            whole = " ".join(plain[begin:end])
            if not Path(plain[begin]).exists() and Path(whole).exists():
                raise UserError(f"{plain[begin]} does not exist, but '{whole}' does: a path with spaces in it needs quotes.")
