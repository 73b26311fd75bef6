"""Judges: the classifier that computes with torch, the file system's own access times, and files that another hand sealed."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import tapetum
from tapetum.data import prepare
from tapetum.data.prepare import Preprocessing
from tapetum.errors import UserError
from tapetum.inference import onnx as module
from tapetum.inference.onnx import from_bytes, load_onnx, sealed, to_input

RNG = np.random.default_rng(0)


@pytest.fixture
def parsed(finished):
    """The model in the file, and what its metadata say."""
    model = onnx.load(finished[2], load_external_data=False)
    about = json.loads({each.key: each.value for each in model.metadata_props}["tapetum"])
    del about["seal"]
    return model, about


def test_it_answers_as_the_run_does(finished):
    run, data, file = finished
    ours, theirs = tapetum.load(file), tapetum.load(run)
    paths = sorted((data / "lying").iterdir())[:20]
    array = RNG.integers(0, 256, (40, 50, 3), np.uint8)
    assert (ours.classes_, ours.preprocessing) == (theirs.classes_, theirs.preprocessing)
    for pictures in (paths, array, [paths[0].read_bytes(), array]):
        found = ours.predict_proba(pictures)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
        np.testing.assert_allclose(found, theirs.predict_proba(pictures), atol=1e-5)
        assert ours.predict(pictures, reject=0.1) == theirs.predict(pictures, reject=0.1)
    assert ours.predict_proba([]).shape == (0, 2)
    assert tapetum.predict(file, [data])["label"].tolist() == tapetum.predict(run, [data])["label"].tolist()
    for reject, told in ((0.01, "32 validation pictures cannot tell so small a share"), (1.5, "from 0 to below 1")):
        with pytest.raises(UserError, match=told):
            ours.predict(paths, reject=reject)


def test_it_needs_no_torch_in_memory(finished, tmp_path):
    _, data, file = finished
    script = f"""
import sys
from tapetum import cli
cli.run(["predict", {str(file)!r}, {str(data)!r}, "--out", {str(tmp_path / "p.csv")!r}, "--reject", "0.1"])
cli.run(["evaluate", {str(file)!r}, {str(data)!r}])
import tapetum
print(tapetum.load({str(file)!r}).predict({str(next((data / "lying").iterdir()))!r}))
assert not [name for name in sys.modules if name.split(".")[0] in ("torch", "torchvision")]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = np.genfromtxt(tmp_path / "p.csv", delimiter=",", skip_header=1, usecols=(4, 5))
    expected = tapetum.predict(finished[0], [data])[["p_lying", "p_upright"]].to_numpy()
    np.testing.assert_allclose(cells, expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_input_is_that_of_torch(channels):
    squares = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
    prepared = Preprocessing(8, "crop", 8, 8, channels)
    found = to_input(squares, prepared)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, prepare.to_input(torch.from_numpy(squares), prepared).numpy(), atol=1e-6)


# How a file can name another: its place, and whether a link is made there first.
OUTSIDE = {
    "parent": ("../secret.bin", None),
    "absolute": ("{secret}", None),
    "symlink": ("link.bin", os.symlink),
    "hardlink": ("hard.bin", os.link),
    "empty base": ("", None),
    "working directory": ("secret.bin", None),
}


def elsewhere(name, location):
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    found.external_data.add(key="location", value=location)
    return found


def read(path):
    """Whether the file was read since `unread`."""
    return path.stat().st_atime_ns > 0


def unread(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns))


@pytest.mark.parametrize("how", OUTSIDE)
def test_no_file_that_a_model_names_is_read(parsed, how, tmp_path, monkeypatch):
    model, about = parsed
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(4, np.float32).tobytes())
    place = tmp_path / "models"
    place.mkdir()
    location, link = OUTSIDE[how]
    if link is not None:
        link(secret, place / location)
    if how == "working directory":
        monkeypatch.chdir(tmp_path)
    model.graph.initializer.append(elsewhere("stolen", location.format(secret=secret)))
    (place / "x.onnx").write_bytes(sealed(model, about))
    unread(secret)
    with pytest.raises(UserError, match="tensor 'stolen' lies in another file"):
        load_onnx(place / "x.onnx")
    assert not read(secret)
    secret.read_bytes()
    assert read(secret)  # it would have been seen


def hidden(model, where):
    """Put a tensor that lies elsewhere into a corner of the model."""
    tensor, node = elsewhere("stolen", "a.bin"), model.graph.node[0]
    inner = helper.make_graph([], "inner", [], [], [tensor])
    if where == "flag only":
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    elif where == "entry only":
        model.graph.initializer[0].external_data.add(key="location", value="a.bin")
    elif where == "attribute":
        node.attribute.append(helper.make_attribute("value", tensor))
    elif where == "attributes":
        node.attribute.append(helper.make_attribute("values", [tensor]))
    elif where == "inner graph":
        node.attribute.append(helper.make_attribute("body", inner))
    elif where == "sparse":
        sparse = onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.array([0])), dims=[4])
        model.graph.sparse_initializer.append(sparse)
    elif where == "function":
        model.functions.add(name="f", domain="d").node.add(op_type="Constant").attribute.append(
            helper.make_attribute("v", tensor)
        )
    elif where == "training":
        model.training_info.add().initialization.CopyFrom(inner)


@pytest.mark.parametrize(
    "where", ["flag only", "entry only", "attribute", "attributes", "inner graph", "sparse", "function", "training"]
)
def test_tensors_elsewhere_are_found_in_every_corner(parsed, where):
    model, about = parsed
    hidden(model, where)
    with pytest.raises(UserError, match="lies in another file|a graph inside|functions in it|training_info in it"):
        from_bytes(sealed(model, about), "it")


def test_foreign_operators_functions_and_graphs_that_loop_are_refused(parsed):
    for change, told in (
        (lambda node: setattr(node, "domain", "com.microsoft"), "of com.microsoft"),
        (
            lambda node: node.attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], []))),
            "a graph inside",
        ),
    ):
        model = copy.deepcopy(parsed[0])
        change(model.graph.node[0])
        with pytest.raises(UserError, match=told):
            from_bytes(sealed(model, parsed[1]), "it")
    parsed[0].functions.add(name="f", domain="d")
    with pytest.raises(UserError, match="functions in it"):
        from_bytes(sealed(*parsed), "it")


def test_a_damaged_file_is_refused(finished, tmp_path):
    whole = finished[2].read_bytes()
    for n in range(60):
        place = n if n < 20 else int(RNG.integers(len(whole)))
        with pytest.raises(UserError, match=r"was damaged or changed|no seal in it"):
            from_bytes(whole[:place] + bytes([whole[place] ^ 1 << n % 8]) + whole[place + 1 :], "it")
        with pytest.raises(UserError, match=r"was damaged or changed|no seal in it"):
            from_bytes(whole[: int(RNG.integers(len(whole)))], "it")
    for content in (b"", b"text", whole[::-1]):
        with pytest.raises(UserError, match="is not an ONNX file of `tapetum export`"):
            from_bytes(content, "it")


@pytest.mark.parametrize(
    "values",
    [
        {"format": 1},
        {"classes": ["one"]},
        {"classes": ["a", "a"]},
        {"classes": ["a", "b", "c"]},
        {"classes": None},
        {"preprocessing": {}},
        {"preprocessing": {"size": 33, "resize": 40}},
        {"preprocessing": {"channels": 4}},
        {"preprocessing": {"std": [0, 1, 1]}},
        {"preprocessing": {"views": "many"}},
        {"preprocessing": {"code": "x"}},
        {"temperature": 0},
        {"temperature": True},
        {"members": 1000},
        {"onnx": {}},
        {"onnx": {"calibrating": -1}},
        {"onnx": {"calibrating": True}},
        {"onnx": {"calibrating": 0}},
        {"onnx": {"int8": "no"}},
        {"onnx": None},
    ],
    ids=str,
)
def test_a_sealed_file_with_a_strange_description_is_refused(parsed, values):
    model, about = parsed
    for key, value in values.items():
        about[key] = {**about[key], **value} if isinstance(value, dict) and value else value
    with pytest.raises(UserError, match="is not an ONNX file that this version of tapetum can use"):
        from_bytes(sealed(model, about), "it")


def test_a_graph_that_is_none_of_ours_is_refused(parsed):
    model, about = parsed
    for change in (
        lambda m: setattr(m.graph.input[0], "name", "pixels"),
        lambda m: m.graph.ClearField("output"),
        lambda m: m.graph.output.reverse(),
        lambda m: m.graph.node.reverse(),
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 31),
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
        lambda m: setattr(m.opset_import[0], "version", 99),
    ):
        changed = copy.deepcopy(model)
        change(changed)
        with pytest.raises(UserError, match="is not an ONNX file that this version of tapetum can use"):
            from_bytes(sealed(changed, about), "it")


def test_what_is_no_file_too_large_or_not_to_be_computed_here_is_said(finished, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path, told in (
        (tmp_path / "none.onnx", "does not exist"),
        (tmp_path / "pipe.onnx", "is no file"),
        (tmp_path, "is no file"),
    ):
        with pytest.raises(UserError, match=told):
            load_onnx(path)
    with pytest.raises(UserError, match="device cuda with .*computed on the CPU"):
        tapetum.load(finished[2], "cuda")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"bytes: expected at most 1,000"):
        load_onnx(finished[2])
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime, which is not installed: pip install 'tapetum\[onnx\]'"):
        load_onnx(finished[2])
