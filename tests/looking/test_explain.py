"""`tapetum explain` from the outside: what it writes, for which class and unit, and what it refuses."""

import functools
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

import tapetum
from tapetum import models
from tapetum.data.prepare import Preprocessing
from tapetum.data.sources import find_pictures
from tapetum.errors import UserError
from tapetum.inference.classifier import Classifier
from tapetum.looking import heat
from tapetum.looking.explain import explain
from tapetum.models.ensemble import Ensemble


@pytest.fixture
def command(tapetum):
    return functools.partial(tapetum, "explain")


def fresh(name, size, channels=3, members=1):
    """A classifier that has learnt nothing; what it looks at can be drawn all the same."""
    networks = [models.build(name, 2, size).eval() for _ in range(members)]
    network = Ensemble(networks) if members > 1 else networks[0]
    return Classifier(network, name, ("lying", "upright"), Preprocessing(size, "crop", size, size, channels))


def text(page):
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]*>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def test_it_writes_pictures_and_a_page_of_them(command, plain_run, tmp_path):
    stripes, out = plain_run.parent / "stripes", tmp_path / "out"
    before = {path: path.read_bytes() for path in stripes.rglob("*.png")}
    code, said, err = command(plain_run, stripes / "upright", stripes / "lying", "--out", out, "--most", "3")
    assert code == 0
    assert f"look at:  {out / 'explain.html'}" in said
    assert "not explained: " in err
    assert "broken.png" in err
    assert {path: path.read_bytes() for path in stripes.rglob("*.png")} == before
    files = {path.name for path in out.iterdir()}
    rows = tapetum.models.summary.summarize(tapetum.load(plain_run, "cpu").network, 3, 32).rows
    assert files == {
        "explain.html",
        "filters.png",
        *(f"{i:02d}-{kind}.png" for i in (1, 2, 3) for kind in ("gradcam", "occlusion")),
        *(f"maps-{i:02d}-{row.name}.png" for i, row in enumerate(rows, 1)),
        *(name for name in files if name.startswith("unit-Conv2d-")),
    }
    assert sum(name.startswith("unit-") for name in files) == 4
    page = (out / "explain.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert all(row.name in text(out / "explain.html") for row in rows)
    answer = tapetum.load(plain_run, "cpu").predict_proba([stripes / "upright" / "upright.0.png"])[0]
    assert f"{answer.max() * 100:.1f}" in text(out / "explain.html")
    assert "The other 77 pictures" in text(out / "explain.html")


def test_the_files_hold_the_heat_of_the_class_that_is_asked_for(plain_run, tmp_path):
    classifier, picture = tapetum.load(plain_run, "cpu"), plain_run.parent / "stripes" / "upright" / "upright.3.png"
    explain(classifier, find_pictures(picture), tmp_path, target="lying")
    pixels = np.array(Image.open(picture))
    inputs = heat.inputs([pixels], classifier.preprocessing, classifier.device)
    wanted = heat.painted(heat.shown(pixels, classifier.preprocessing), heat.gradcam(classifier.network, inputs, [0])[0])
    other = heat.painted(heat.shown(pixels, classifier.preprocessing), heat.gradcam(classifier.network, inputs, [1])[0])
    assert (np.asarray(Image.open(tmp_path / "01-gradcam.png")) == wanted).all()
    assert (wanted != other).any()
    p = classifier.predict_proba([picture])[0]
    said = text(tmp_path / "explain.html")
    if p.argmax() == 1:
        assert f"the heat is that of lying ( {p[0] * 100:.1f}" in said.replace("&nbsp;", " ").replace("(", "( ")
    assert not list(tmp_path.glob("unit-*"))  # of a single picture no unit is the most excited one


def test_the_pictures_that_excite_a_unit_most_come_first(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i, grey in enumerate((100, 250, 10, 180)):
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(tmp_path / "pictures" / f"{i}.png")
    classifier = fresh("lenet-table", 32, channels=1)
    import torch

    with torch.no_grad():
        classifier.network.conv1.weight[2] = 1.0
    explain(classifier, find_pictures(tmp_path / "pictures"), tmp_path / "out", units=["Conv2d-1:2"])
    strip = np.asarray(Image.open(tmp_path / "out" / "unit-Conv2d-1-2.png").convert("L"), int)
    numbers = re.search(r"Conv2d-1 \(conv1\), unit 2: ([-\d., e+]+)", text(tmp_path / "out" / "explain.html"))[1]
    told = [float(number) for number in numbers.split(",")]
    assert told == sorted(told, reverse=True)
    assert strip.shape == (224, 4 * 224 + 3 * 6)
    corners = [strip[2, i * 230 + 2] for i in range(4)]
    assert corners == sorted(corners, reverse=True)


@pytest.mark.parametrize(
    ("name", "size", "channels", "members", "filters"),
    [
        ("alexnet-2012", 99, 3, 1, ["(columns.0.conv1): 48 filters of 11x11", "(columns.1.conv1): 48 filters of 11x11"]),
        ("lenet5-1998", 32, 1, 1, ["Conv2d-1 (c1): 6 filters of 5x5"]),
        ("lenet-now", 32, 3, 3, ["filters of"]),
        ("torchvision:resnet18", 64, 3, 1, ["Conv2d-1 (conv1): 64 filters of 7x7"]),
    ],
)
def test_other_kinds_of_networks(plain_run, tmp_path, name, size, channels, members, filters):
    classifier = fresh(name, size, channels, members)
    some = [plain_run.parent / "stripes" / "upright" / f"upright.{i}.png" for i in (1, 2)]
    page, unreadable = explain(classifier, find_pictures(some), tmp_path, most=1)
    assert unreadable == []
    said = text(page)
    assert all(title in page.read_text(encoding="utf-8") for title in filters)
    assert ("all 3 networks together" in said) == (members == 3)
    assert len(list(tmp_path.glob("maps-*.png"))) >= 5
    assert len(list(tmp_path.glob("*-gradcam.png"))) == len(list(tmp_path.glob("*-occlusion.png"))) == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--class", "uprigth"], "Did you mean 'upright'?"),
        (["--unit", "Conv2d-1:99"], "expected a number from 0 to 15"),
        (["--most", "0"], "expected a whole number from 1"),
        (["--out", "{stripes}/upright/out"], "lies inside the pictures"),
        (["--out", "{file}"], "could not write"),
    ],
)
def test_a_mistake_is_one_sentence(command, plain_run, tmp_path, arguments, what):
    stripes, file = plain_run.parent / "stripes", tmp_path / "file"
    file.touch()
    given = [each.format(stripes=stripes, file=file) for each in arguments]
    given += [] if "--out" in given else ["--out", tmp_path / "out"]
    code, said, err = command(plain_run, stripes / "upright", *given)
    assert (code, said) == (2, "")
    assert what in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert not (stripes / "upright" / "out").exists()


def test_without_captum_or_a_picture_it_ends_with_a_sentence(command, plain_run, tmp_path, monkeypatch):
    broken = plain_run.parent / "stripes" / "lying" / "broken.png"
    code, _, err = command(plain_run, broken, "--out", tmp_path / "out")
    assert code == 2
    assert "no picture that can be read among 1 file (" in err
    monkeypatch.setitem(sys.modules, "captum", None)
    code, _, err = command(plain_run, broken, "--out", tmp_path / "out")
    assert code == 2
    assert "pip install 'tapetum[explain]'" in err
    assert not (tmp_path / "out").exists()


def test_json_names_what_was_written(command, plain_run, tmp_path):
    picture = plain_run.parent / "stripes" / "upright" / "upright.0.png"
    code, said, _ = command(plain_run, picture, "--out", tmp_path / "out", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["page"] == str(tmp_path / "out" / "explain.html")
    assert "01-gradcam.png" in found["files"]


def test_the_page_is_never_written_over_an_error(plain_run, tmp_path):
    with pytest.raises(UserError, match="expected one of lying, upright"):
        explain(tapetum.load(plain_run, "cpu"), find_pictures(plain_run.parent / "stripes"), tmp_path / "out", target="x")
    assert not (tmp_path / "out").exists()
