"""Every network by name. A builder is a function of the number of classes and the side of the square input.

    @register("my-net", size=64, channels=3, title="seven words on it", paper="where it was described")
    def my_net(num_classes: int, size: int) -> nn.Module: ...

puts a network of one's own beside these: it can be trained, summed up and saved like any other (as long as the module that
registers it is imported). Networks know nothing of data or training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tapetum.errors import UserError, did_you_mean
from tapetum.models.layers import Misfit, side_after

# Beyond this a mistyped number is likelier than a picture.
LARGEST_SIZE = 4096

Builder = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Entry:
    """One network of the registry."""

    name: str
    build: Builder
    """(num_classes, size) -> a network that maps float32 (B, channels, size, size) to (B, num_classes)."""
    size: int
    """Side of its own input, in pixels."""
    channels: int
    """3: RGB. 1: grey."""
    title: str
    """What it is, in a line."""
    paper: str
    """Where it was described."""
    mean: tuple[float, ...] | None = None
    """What is subtracted from each channel of pictures with values 0 to 1, where the paper has values of its own."""
    std: tuple[float, ...] | None = None
    """What each channel is divided by after that."""
    smallest: int | None = None
    """Side of the smallest input that it takes, as it takes all larger ones; None: it is found by trying."""
    resize: int | None = None
    """Shorter side of a picture before the square is cut out, where the paper has one."""
    rubbish: float | None = None
    """Output that "none of these classes" has in the training loss, where the paper has such a term."""


_ENTRIES: dict[str, Entry] = {}
_OWN_SIZES_ONLY = "it takes no pictures"
# Families of networks that are too many to list: a prefix of the name, and a function from the name to its entry.
_FAMILIES: dict[str, Callable[[str], Entry]] = {}


def register(name: str, **about: Any) -> Callable[[Builder], Builder]:
    """Put a builder function into the registry under `name`; `about` are the other fields of `Entry`.

    Two of one name are a bug (ValueError).
    """

    def put(build: Builder) -> Builder:
        if name in _ENTRIES:
            raise ValueError(f"two networks are called '{name}'")
        _ENTRIES[name] = Entry(name, build, **about)
        return build

    return put


def provide(prefix: str) -> Callable[[Callable[[str], Entry]], Callable[[str], Entry]]:
    """Let a function answer for all names that begin with `prefix`; it makes the entry, or raises UserError."""

    def put(find: Callable[[str], Entry]) -> Callable[[str], Entry]:
        _FAMILIES[prefix] = find
        return find

    return put


def names() -> tuple[str, ...]:
    """The names of all networks, in the order in which they were registered: the oldest idea first."""
    return tuple(_ENTRIES)


def entry(name: str) -> Entry:
    """The registry's entry for `name`.

    Raises:
        UserError: there is no network of that name.
    """
    for prefix, find in _FAMILIES.items():
        if name.startswith(prefix):
            return find(name)
    if name not in _ENTRIES:
        known = [*_ENTRIES, *(f"{prefix}NAME" for prefix in _FAMILIES)]
        raise UserError(f"no network is called '{name}'.{did_you_mean(name, _ENTRIES)} Known: {', '.join(known)}.")
    return _ENTRIES[name]


def build(name: str, num_classes: int, size: int | None = None) -> nn.Module:
    """A freshly initialised network; its weights are drawn from torch's global generator.

    Args:
        name: a name of the registry.
        num_classes: 2 or more.
        size: side of the square input in pixels; None: the network's own.

    Raises:
        UserError: an unknown name, fewer than two classes, or a size that does not fit: the layer that it fails in and the
            smallest size that fits are named.
    """
    found = entry(name)
    size = found.size if size is None else size
    if num_classes < 2:
        raise UserError(f"{num_classes} classes: a classifier needs at least two.")
    refuse_size(size)
    reason = _misfit(found, num_classes, size)
    if reason:
        larger = () if reason.startswith(_OWN_SIZES_ONLY) else range(size + 1, LARGEST_SIZE + 1)
        smallest = found.smallest or next((s for s in larger if not _misfit(found, num_classes, s)), None)
        hint = f"the smallest size that fits is {smallest}" if smallest else f"use its own size, {found.size}"
        raise UserError(f"{name} at {size}x{size}: {reason}; {hint}.")
    return found.build(num_classes, size)


def refuse_size(size: int) -> None:
    """Raise UserError if `size` is no side of a picture."""
    if not 1 <= size <= LARGEST_SIZE:
        raise UserError(f"size {size}: expected the side of the input in pixels, 1 to {LARGEST_SIZE:,}, such as 96.")


def fits(name: str, size: int) -> bool:
    """Whether the network takes pictures of this size: no layer is larger than its input. Costs no memory."""
    return not _misfit(entry(name), 2, size)


def build_on_meta(name: str, num_classes: int, size: int | None = None) -> nn.Module:
    """`build` without memory for the weights: for shapes and counts (torch's meta device)."""
    with torch.device("meta"):
        return build(name, num_classes, size)


def place(network: nn.Module, name: str, devices: Sequence[torch.device]) -> nn.Module:
    """The network on its device, or spread over several if it is made for that; changes its argument.

    Raises:
        UserError: several devices for a network that is not, or another number than it is made for.
    """
    if len(devices) == 1:
        return network.to(devices[0])
    if not hasattr(network, "place"):
        raise UserError(f"{name} on {len(devices)} devices: expected one device, since it has one column; use alexnet-2012.")
    return network.place(devices)  # type: ignore[operator]


def takes(name: str, size: int, other: int) -> bool:
    """Whether the network that was built for pictures of `size` also takes those of `other`. Costs no memory."""
    return not _misfit(entry(name), 2, size, other)


def _misfit(found: Entry, num_classes: int, size: int, shown: int | None = None) -> str:
    """Why a size does not fit, such as the first layer that is larger than its input; "" if all fit. Costs no memory.

    `shown`: side of the pictures, where it is not the size for which the network is built.
    """
    if shown is None and found.smallest is not None and size >= found.smallest:
        return ""  # the first forward on the meta device imports torch's compiler, a second
    try:
        with torch.device("meta"):
            network = found.build(num_classes, size)
            for name, layer in network.named_modules():
                if hasattr(layer, "kernel_size"):
                    layer.register_forward_pre_hook(lambda layer, inputs, name=name: _refuse_small(layer, inputs, name))
            network.eval()(torch.empty(1, found.channels, shown or size, shown or size))
    except Misfit as misfit:
        return str(misfit)
    except (RuntimeError, AssertionError, ValueError) as error:  # a linear layer, patches or windows that want one size
        return f"{_OWN_SIZES_ONLY} of {shown or size} x {shown or size} ({str(error).splitlines()[0]})"
    return ""


def _refuse_small(layer: nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> None:
    side_after([layer], [name], inputs[0].shape[-1])
