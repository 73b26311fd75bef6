"""A batch in portions, where memory does not suffice for all of its pictures at once.

The gradients of the portions (micro-batches: Huang et al. 2019, "GPipe", section 2.2) are added up before the step. Each one's
loss is divided by the pictures of the whole batch, and dropout draws for all of them, so portions change nothing but rounding,
and the statistics of BatchNorm, which are those of the pictures that are computed together.
"""

import itertools

import torch

from tapetum import processes

# What somebody can do where even the fewest pictures are too many.
HINT = "Use a smaller --size or another --model."


def portions(part: slice, whole: int, at_once: int) -> list[slice]:
    """Which of a process's pictures, the `part` of a batch of `whole`, are computed together: about `at_once`.

    One picture alone is added to others, since BatchNorm compares pictures. All processes have as many portions.

    >>> portions(slice(0, 5), 5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    largest = processes.part_of(0, whole).stop
    count = -(-largest // at_once)
    if at_once > 1:
        count = min(count, max(1, largest // 2))
    ends = [-(-(part.stop - part.start) * i // count) for i in range(count + 1)]
    return [slice(begin, end) for begin, end in itertools.pairwise(ends)]


def least(network: torch.nn.Module) -> int:
    """The fewest pictures that can be computed together: BatchNorm1d has nothing else to compare."""
    return 2 if any(isinstance(layer, torch.nn.BatchNorm1d) for layer in network.modules()) else 1
