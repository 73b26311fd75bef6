"""Judges: JSON as it comes from anybody's file, and the answers of the run itself."""

import json
import math
import shutil

import numpy as np
import pytest

import tapetum
from tapetum.data.prepare import Preprocessing
from tapetum.errors import UserError
from tapetum.inference.description import Description, described
from tapetum.inference.loading import load

PREPARED = {"size": 32, "fit": "pad", "resize": 32, "reduce": 64, "channels": 3, "mean": [0.5, 0.5, 0], "std": [0.2, 1, 0.3]}
PLAIN = {"format": 2, "classes": ["개", "고양이 2"], "preprocessing": PREPARED}


def of_json(**values):
    """`PLAIN` with other values, those of the preprocessing under their own names, through the text of a JSON file."""
    inner = {name: values.pop(name) for name in list(values) if name in (*PREPARED, "views")}
    return described(json.loads(json.dumps({**PLAIN, "preprocessing": {**PREPARED, **inner}, **values})))


def test_the_least_that_a_file_has_to_say():
    prepared = Preprocessing(32, "pad", 32, 64, 3, (0.5, 0.5, 0), (0.2, 1, 0.3), "one")
    assert described(PLAIN) == Description(("개", "고양이 2"), prepared, temperature=1.0, members=1)
    more = of_json(temperature=2, members=100, views="ten", unheard_of={"of": 1})
    assert (more.temperature, type(more.temperature), more.members, more.preprocessing.views) == (2.0, float, 100, "ten")
    assert of_json(channels=1, mean=[0], std=[1]).preprocessing.mean == (0,)
    for side in (1, 65_535):
        assert of_json(size=side, resize=side, reduce=side).preprocessing.size == side


# What each name cannot be, and what the reason tells.
REFUSED = [
    ("format", [3, "2"], "format {}, expected 2"),
    (
        "classes",
        [[], ["a", 1], ["a", None], ["a", "b", "b"], "ab", {"a": 1, "b": 2}],
        "class names that are not two or more different texts",
    ),
    ("size", [0, 32.0, "32", None, True], "picture sides ({!r}, 32, 64)"),
    ("resize", [31, "32"], "picture sides (32, {!r}, 64)"),
    ("reduce", [65_536, -1], "picture sides (32, 32, {!r})"),
    ("fit", [["pad"], "Pad", None], "fit {!r}, views"),
    ("views", [None, 10], "views {!r}"),
    ("channels", [2, "3", 0, 3.0, True], "{!r} channels"),
    ("mean", [[0.5, 0.5], "abc", [0, 0, math.nan], [0, 0, True]], "mean or std"),
    ("std", [[1, 1], [1, 1, math.inf]], "mean or std"),
    ("std", [[1, 1, -1], [1, 1, 1, 0]], "a std that is not positive"),
    ("temperature", [-1, 0, 1e-320, 10**400, math.nan, math.inf, "1", None], "temperature {!r}"),
    ("members", [0, 101, 1.0, "1", [1], True], "{!r} members"),
]


@pytest.mark.parametrize(("name", "value", "reason"), [(name, value, told) for name, many, told in REFUSED for value in many])
def test_what_no_classifier_can_be_like_is_refused_with_what_it_is(name, value, reason):
    with pytest.raises(ValueError, match=".") as refused:
        of_json(**{name: value})
    assert reason.format(value) in str(refused.value)


@pytest.mark.parametrize("name", ["format", "classes", "preprocessing", "mean", "std", "size"])
def test_what_has_to_be_said_is_missed(name):
    inner = {key: value for key, value in PREPARED.items() if key != name}
    with pytest.raises((KeyError, TypeError), match=name):
        described({key: value for key, value in {**PLAIN, "preprocessing": inner}.items() if key != name})


def test_a_classifier_comes_from_whatever_file_holds_it(finished, tmp_path):
    run, data, file = finished
    place = tmp_path / "내 모델 (2)"
    place.mkdir()
    for target in ("model.safetensors", "model.bin", "false.onnx"):
        shutil.copy(run / "model.safetensors", place / target)
    for target in ("사진.ONNX", "false.safetensors"):
        shutil.copy(file, place / target)
    pictures = sorted((data / "lying").iterdir())[:5]
    expected = tapetum.load(run).predict_proba(pictures)
    for path in (place, str(place), place / "model.safetensors", place / "model.bin", str(place / "사진.ONNX")):
        np.testing.assert_allclose(load(path, "cpu").predict_proba(pictures), expected, atol=1e-5)
    with pytest.raises(UserError, match=r"false.onnx is not an ONNX file of `tapetum export` \(no seal in it\)"):
        load(place / "false.onnx")
    with pytest.raises(UserError, match=r"false.safetensors is not a tapetum file \(no seal in its header\)"):
        load(place / "false.safetensors")
