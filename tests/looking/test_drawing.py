"""Drawings by their own geometry: sides in proportion, all layers there, no label over another, lanes and crossings."""

import re
import xml.etree.ElementTree as ET

import pytest

from tapetum import models
from tapetum.looking.drawing import svg, write_svg
from tapetum.models.summary import summarize

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [
    "lenet5-1998",
    "lenet-table",
    "lenet-textbook",
    "alexnet-2012",
    "alexnet-table",
    "alexnet-textbook",
    "compact",
    "lenet-now",
]


def drawn(name, classes=10, size=None):
    entry = models.entry(name)
    network, size = models.build_on_meta(name, classes, size), size or entry.size
    found = summarize(network, entry.channels, size)
    return ET.fromstring(svg(found, entry.channels, size, name, getattr(network, "crossings", ())))


def fronts(root):
    """Width and height of every front face: the polygons with sides along the axes."""
    found = []
    for polygon in root.iter(SVG + "polygon"):
        points = [tuple(map(float, pair.split(","))) for pair in polygon.get("points").split()]
        if points[0][1] == points[1][1] and points[1][0] == points[2][0] and points[0][0] == points[3][0]:
            found.append((points[1][0] - points[0][0], points[2][1] - points[1][1]))
    return found


def texts(root):
    return [text.text for text in root.iter(SVG + "text")]


def test_faces_are_to_scale():
    faces = fronts(drawn("lenet-table"))
    assert len(faces) == 8  # the picture, four maps, three linear layers
    for (width, height), side in zip(faces[:5], (32, 28, 14, 10, 5), strict=True):
        assert (width, height) == (pytest.approx(150 * side / 32, abs=0.02), pytest.approx(width, abs=0.02))
    bars = [height for _, height in faces[5:]]
    assert bars == sorted(bars, reverse=True)


def test_every_layer_of_figure_6_1_is_there():
    labels = texts(drawn("lenet5-1998"))
    for label in ("1@32x32", "6@28x28", "6@14x14", "16@10x10", "16@5x5", "120@1x1", "84", "10"):
        assert label in labels
    assert labels.count("subsampling") == 2
    assert labels.count("scaled tanh") == 6
    assert "RBF units" in labels
    assert any("60,000 parameters" in label for label in labels)


@pytest.mark.parametrize("name", NAMES)
def test_no_label_lies_over_another_or_outside(name):
    root = drawn(name)
    width, height = map(float, root.get("viewBox").split()[2:])
    boxes = []
    for text in root.iter(SVG + "text"):
        long, x, y = 0.55 * 11 * len(text.text), float(text.get("x")), float(text.get("y"))
        left = x - long / 2 if text.get("text-anchor") == "middle" else x
        boxes.append((left, y - 9, left + long, y + 2, text.text))
    for i, a in enumerate(boxes):
        assert a[0] >= 0, a
        assert a[2] <= width + 1, a
        assert a[1] >= 0, a
        assert a[3] <= height, a
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_two_columns_meet_at_convolution_3_and_the_linear_layers():
    root = drawn("alexnet-2012", 1000)
    assert texts(root).count("48@55x55") == 2
    assert texts(root).count("2,048") == 4
    dashed = [path for path in root.iter(SVG + "path") if path.get("stroke-dasharray")]
    assert len(dashed) == 6  # both ways at conv3, fc6 and fc7
    for path in dashed:
        start, end = re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d"))
        assert start[1] != end[1]
    assert len(fronts(root)) == 1 + 2 * 10 + 1


def test_one_column_has_no_dashed_line():
    assert not [path for path in drawn("alexnet-table").iter(SVG + "path") if path.get("stroke-dasharray")]


def test_a_title_is_text_and_the_file_is_the_drawing(tmp_path):
    found = summarize(models.build_on_meta("lenet-table", 2), 1, 32)
    hostile = '<script>alert(1)</script> & "한글"'
    text = svg(found, 1, 32, hostile)
    assert "<script" not in text
    assert ET.fromstring(text).find(SVG + "title").text == hostile
    path = write_svg(found, 1, 32, hostile, tmp_path / "폴더 1" / "net.svg")
    assert path.read_text(encoding="utf-8") == text + "\n"
