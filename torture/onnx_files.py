"""Row 4: ONNX files that name other files to be read."""

import copy
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common import Outcome, classifier, in_child, kept, row, together
from tapetum.deployment import graph
from tapetum.errors import UserError
from tapetum.inference.onnx import load_onnx, sealed

# From Linux' inotify.h: a file was opened or read.
_OPENED, _READ, _WITHOUT_WAITING = 0x20, 0x1, 0o4000


class _Watch:
    """Whether the kernel saw a file opened or read, by whomever: C code too, which Python does not see."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(_WITHOUT_WAITING)
        if self._descriptor < 0 or self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), _OPENED | _READ) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def seen(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False


def _elsewhere(location: str) -> TensorProto:
    found = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    found.external_data.add(key="location", value=location)
    return found


def _in_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))


def _in_graph(model: onnx.ModelProto, tensor: TensorProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [tensor])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def _in_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    node = model.functions.add(name="f", domain="d").node.add(op_type="Constant")
    node.attribute.append(helper.make_attribute("value", tensor))


def _sparse(model: onnx.ModelProto, tensor: TensorProto) -> None:
    indices = numpy_helper.from_array(np.arange(4))
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, indices=indices, dims=[9]))


def _in_training(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().initialization.initializer.append(tensor)


# Where in a model the tensor is put.
_CORNERS: dict[str, Callable[[onnx.ModelProto, TensorProto], None]] = {
    "initializer": lambda model, tensor: model.graph.initializer.append(tensor),
    "attribute": _in_attribute,
    "inner graph": _in_graph,
    "function": _in_function,
    "sparse": _sparse,
    "training": _in_training,
}


def _try(path: Path, folder: Path) -> str:
    """What loading says, in a process of its own that stands in `folder`."""
    os.chdir(folder)
    try:
        load_onnx(path)
    except UserError as error:
        return str(error)
    return ""


@row(4, "an ONNX file that refers to other files is refused, and none of them is read")
def onnx_external_data(place: Path) -> Outcome:
    """Six ways to name a file outside, each in six corners of a model, and once with the flag alone; all well sealed."""
    ours = classifier()
    ours.save(place / "model.safetensors")
    whole = graph.to_onnx(ours)
    about = graph.about(ours, place / "model.safetensors", int8=False, calibrating=0)
    inside, secret = place / "inside", place / "secret.bin"
    inside.mkdir()
    secret.write_bytes(np.ones(4, np.float32).tobytes())
    (inside / "link.bin").symlink_to(secret)
    (inside / "hard.bin").hardlink_to(secret)
    (inside / "whole.onnx").write_bytes(sealed(copy.deepcopy(whole), about))
    fine = not in_child(_try, inside / "whole.onnx", place).value
    locations = ("../secret.bin", str(secret), "link.bin", "hard.bin", "", "secret.bin")
    watch, refused, others = _Watch(secret), 0, []
    for location in locations:
        for corner, put in _CORNERS.items():
            model = copy.deepcopy(whole)
            put(model, _elsewhere(location))
            (inside / "x.onnx").write_bytes(sealed(model, about))
            for folder in (place, inside):
                said = in_child(_try, inside / "x.onnx", folder).value or ""
                right = any(
                    reason in said for reason in ("lies in another file", "a graph inside", "functions in", "training_info in")
                )
                refused += right
                if not right:
                    others.append(f"{location!r} in {corner}: {said[:150]!r}")
    read = watch.seen()
    secret.read_bytes()
    total = 2 * len(locations) * len(_CORNERS)
    return together(
        (not read, f"{int(read)} files read"),
        kept(refused, total, "refused", *others),
        (watch.seen(), "a careless reader is seen"),
        (fine, "the whole one loads"),
    )
