"""The networks, and the registry that knows them by name. Networks know nothing of data or training."""

# The modules register their networks when they are imported; the oldest idea comes first.
from tapetum.models import lenet, alexnet, compact  # noqa: I001
from tapetum.models.registry import Entry, build, build_on_meta, entry, fits, names, register

__all__ = ["Entry", "alexnet", "build", "build_on_meta", "compact", "entry", "fits", "lenet", "names", "register"]
