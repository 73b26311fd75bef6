"""Everything that the person at the keyboard can mend, as one exception, and the "did you mean" helper.

The command line prints a `UserError` as one sentence, without a traceback, and ends with exit code 2. A bug is never a
`UserError`: it keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. Its message says what happened (with the value), what was expected, what to do."""

    exit_code = 2


def reason_of(error: BaseException) -> str:
    """What an error of somebody else's says, for the brackets of a sentence: its first line, or its kind where it says nothing.

    >>> reason_of(ValueError("bad magic.\\nat byte 7")), reason_of(MemoryError())
    ('bad magic', 'MemoryError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to an error message: `" Did you mean 'lenet'?"`, or nothing where no known word is near.

    >>> did_you_mean("lennet", ["lenet", "alexnet"])
    " Did you mean 'lenet'?"
    >>> did_you_mean("zebra", ["lenet", "alexnet"])
    ''
    >>> did_you_mean("lenet5", ["lenet", "lenet5-1998-softmax", "lenet5-1998"])  # what begins so is meant before what is near
    " Did you mean 'lenet5-1998'?"
    """
    by_folded = {k.casefold(): k for k in known}
    begin = sorted((k for k in by_folded if len(word) > 2 and k.startswith(word.casefold())), key=len)
    near = begin or difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f" Did you mean '{by_folded[near[0]]}'?" if near else ""
