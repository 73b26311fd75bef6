"""What the commands share: how they answer, and what they refuse."""

import json
import shlex
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from tapetum.data.addresses import url_of
from tapetum.errors import UserError

# What the commands are about, by the names that their help has for it.
Data = Annotated[Positional[Path], arg(metavar="DATA")]
Run = Annotated[Positional[Path], arg(metavar="RUN")]
Pictures = Annotated[Positional[tuple[Path, ...]], arg(metavar="PICTURES", help_behavior_hint="")]
# A file or folder that is used only where it is asked for. "{None}" and "(default: None)" would tell a reader nothing.
Place = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Json = Annotated[bool, arg(help="Print one JSON object in place of text.")]
Numbers = Annotated[str, arg(help='Only files whose last number is in a range, such as 251-1000; or "all".')]
Batch = Annotated[int, arg(help="Pictures computed at once.")]
Device = Annotated[str, arg(help="auto, cpu, cuda, ...")]

Reject = Annotated[
    float,
    arg(
        help='Answer "neither" for pictures that are stranger than all but this share of the known kind, such as 0.05. It '
        "finds many pictures of no class (noise, single colours), not all; docs/trust.md counts them."
    ),
]


def expect_run(run: Path, *after: Path, onnx: bool = True) -> None:
    """Refuse what is no run where one is expected, and runs where pictures are, `after` it."""
    from tapetum.inference.loading import refuse_runs, refuse_what_is_no_run

    refuse_what_is_no_run(run, after, onnx)
    refuse_runs(after)


def whole_number(name: str, value: int) -> None:
    """Refuse what is no count."""
    if value < 1:
        raise UserError(f"--{name} is {value}: expected a whole number from 1.")


def tell_written(places: Sequence[Path], replaced: Set[Path]) -> None:
    """A line for each file that was written; what stood there before is gone, and that is said."""
    for place in places:
        print(f"{'replaced:' if place in replaced else 'written: '} {place}")


def dumps(value: Any) -> str:
    """One JSON object, letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def quoted(path: Path) -> str:
    """A path or address as a shell takes it, so that a command that is shown can be run.

    >>> quoted(Path("my photos")), quoted(Path("https://host/photos"))
    ("'my photos'", 'https://host/photos')
    """
    return shlex.quote(url_of(path) or str(path))
