"""The networks, and the registry that knows them by name. Networks know nothing of data or training."""

# The modules register their networks when they are imported; the oldest idea comes first.
from tapetum.models import lenet1998, lenet, alexnet2012, alexnet, compact, torchvision_nets  # noqa: I001
from tapetum.models.registry import Entry, build, build_on_meta, entry, fits, names, place, register, takes
from tapetum.models.torchvision_nets import take_weights

__all__ = [
    "Entry",
    "alexnet",
    "alexnet2012",
    "build",
    "build_on_meta",
    "compact",
    "entry",
    "fits",
    "lenet",
    "lenet1998",
    "names",
    "place",
    "register",
    "take_weights",
    "takes",
    "torchvision_nets",
]
