"""Talk for the person who waits: lines on stderr, and numbers and times in words."""

import sys


def say_to_stderr(line: str) -> None:
    """A line on stderr, so that stdout holds only answers."""
    print(line, file=sys.stderr, flush=True)


def say_nothing(line: object) -> None:
    """In the place of a listener where nobody listens."""


def files(count: int) -> str:
    """A number of files in words.

    >>> files(1), files(2002)
    ('1 file', '2,002 files')
    """
    return "1 file" if count == 1 else f"{count:,} files"


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
