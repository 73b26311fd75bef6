"""Talk for the person who waits: lines on stderr, and numbers and times in words."""

import sys


def say_to_stderr(line: str) -> None:
    """A line on stderr, so that stdout holds only answers."""
    print(line, file=sys.stderr, flush=True)


def say_nothing(line: object) -> None:
    """In the place of a listener where nobody listens."""


def counted(count: int, thing: str) -> str:
    """How many of a thing, in words.

    >>> counted(1, "file"), counted(2002, "file")
    ('1 file', '2,002 files')
    """
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def duration(seconds: float) -> str:
    """Time in words: "8 s", "2 min 5 s", "1 h 10 min".

    >>> duration(125)
    '2 min 5 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
