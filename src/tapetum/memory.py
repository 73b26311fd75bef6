"""Work in smaller portions where memory runs out."""

from collections.abc import Callable
from typing import TypeVar

import torch

from tapetum.errors import UserError

Found = TypeVar("Found")

# What torch's own allocator and oneDNN say where a processor's memory is refused.
_OF_PROCESSORS = ("DefaultCPUAllocator", "could not create a primitive", "could not create a memory")


def as_memory_allows(
    work: Callable[[int], Found], at_once: int, hint: str, fewest: int = 1, again: Callable[[], None] = lambda: None
) -> tuple[Found, int]:
    """What `work` gives for as many pictures at once as there is memory for, and how many these are.

    Args:
        work: computes so many at once.
        at_once: begin with these; as often as memory runs out, half of them.
        hint: what somebody can do where even the `fewest` are too many.
        fewest: pictures that have to be computed together.
        again: puts back what the broken try has changed.

    Raises:
        UserError: memory does not suffice for the `fewest`.
    """
    while True:
        try:
            return work(at_once), at_once
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if at_once <= fewest:
                pictures = f"{at_once} picture{'s' * (at_once > 1)}"
                raise UserError(f"memory ran out while {pictures} at once were computed. {hint}") from error
        # Here nothing holds the tensors of the broken try any more.
        at_once = max(fewest, at_once // 2)
        again()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()


def ran_out(error: BaseException) -> bool:
    """Whether it says that memory was refused: torch has a class of errors for that on accelerators only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(each in str(error) for each in _OF_PROCESSORS)
