"""Drawings by their own geometry: sides in proportion, all layers there, no label over another, lanes and crossings."""

import re
import xml.etree.ElementTree as ET

import pytest
from torch import nn

from tapetum import models
from tapetum.looking.drawing import svg, write_svg
from tapetum.models.summary import Row, Summary, summarize

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
KOREAN = {
    "input": "입력",
    "convolution": "합성곱",
    "max-pool": "최대 풀링",
    "fully connected": "완전연결",
    "note": "{size}: {params}개",
}


def drawn(name, classes=10, size=None, words=None):
    entry = models.entry(name)
    network, size = models.build_on_meta(name, classes, size), size or entry.size
    found = summarize(network, entry.channels, size)
    return ET.fromstring(svg(found, entry.channels, size, name, getattr(network, "crossings", ()), words or {}))


def of_layers(*layers, channels=3, size=32):
    return ET.fromstring(svg(summarize(nn.Sequential(*layers), channels, size), channels, size, "mine"))


def of_rows(rows, crossings=()):
    """A drawing of (kind, layer, output) at 32 pixels."""
    made = [Row(f"{kind}-{i + 1}", layer, (-1, *output), 0, "", 0) for i, (kind, layer, output) in enumerate(rows)]
    return ET.fromstring(svg(Summary(tuple(made), 0, 0, 0, 0.0, 0.0, 0.0, 0.0), 3, 32, "by hand", crossings))


def columns(*layers):
    return [(kind, f"columns.{i}.{name}", output) for i in (0, 1) for kind, name, output in layers]


TWO = [
    *columns(("Conv2d", "conv1", (8, 28, 28)), ("ReLU", "relu1", (8, 28, 28)), ("Conv2d", "conv2", (8, 14, 14))),
    *columns(("Linear", "fc3", (20,))),
    ("Dropout", "dropout", (20,)),
    ("Linear", "fc4", (2,)),
]
# The same network told layer by layer, or one whole column first.
ORDERS = [TWO, sorted(TWO, key=lambda row: row[1][-1] if "columns" in row[1] else "z"), sorted(TWO, key=lambda row: row[1][:9])]
ORDERS[2] = [row for row in ORDERS[2] if "columns" in row[1]] + TWO[8:]


def fronts(root):
    """Left, top, width and height of every front face: the polygons with sides along the axes."""
    found = []
    for polygon in root.iter(SVG + "polygon"):
        points = [tuple(map(float, pair.split(","))) for pair in polygon.get("points").split()]
        if points[0][1] == points[1][1] and points[1][0] == points[2][0] and points[0][0] == points[3][0]:
            found.append((*points[0], points[1][0] - points[0][0], points[2][1] - points[1][1]))
    return found


def texts(root):
    return [text.text for text in root.iter(SVG + "text")]


def outlines(root):
    """Left, top, right, bottom and words of every text; a letter is 0.6 of the font wide, Hangul is square."""
    found = []
    for text in root.iter(SVG + "text"):
        font, x, y = (float(text.get(key)) for key in ("font-size", "x", "y"))
        long = font * sum(1 if ord(sign) > 0x1100 else 0.6 for sign in text.text)
        left = x - long / 2 if text.get("text-anchor") == "middle" else x
        found.append((left, y - 0.8 * font, left + long, y + 0.2 * font, text.text))
    return found


def lines(root, dashed=None):
    """Corners of every line that is not an arrowhead."""
    found = []
    for path in root.iter(SVG + "path"):
        if path.get("fill") == "none" and dashed in (None, bool(path.get("stroke-dasharray"))):
            corners = []
            for command, x, y in re.findall(r"([MLH])([\d.]+)(?: ([\d.]+))?", path.get("d")):
                corners.append((float(x), corners[-1][1] if command == "H" else float(y)))
            found.append(corners)
    return found


def apart(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


# Scale


def test_faces_are_to_scale():
    faces = fronts(drawn("lenet-table"))
    assert len(faces) == 8  # the picture, four maps, three linear layers
    for (_, _, width, height), side in zip(faces[:5], (32, 28, 14, 10, 5), strict=True):
        assert (width, height) == (pytest.approx(faces[0][2] * side / 32, abs=0.02), pytest.approx(width, abs=0.02))
    bars = [height for _, _, _, height in faces[5:]]
    assert bars[0] / bars[1] == pytest.approx((120 / 84) ** 0.5, rel=0.01)
    assert bars[0] / bars[2] == pytest.approx((120 / 10) ** 0.5, rel=0.01)


def test_bars_and_depths_grow_without_end():
    root = of_layers(nn.Flatten(), nn.Linear(3072, 9000), nn.Linear(9000, 40_000))
    assert fronts(root)[2][3] > fronts(root)[1][3] * 2
    tops = [p.get("points").split() for p in of_layers(nn.Conv2d(3, 512, 1), nn.Conv2d(512, 2048, 1)).iter(SVG + "polygon")][
        1::3
    ]
    depths = [float(top[1].split(",")[0]) - float(top[0].split(",")[0]) for top in tops]
    assert depths[2] == pytest.approx(2 * depths[1], rel=0.01)


def test_a_map_that_is_no_square_is_none_here():
    root = of_layers(nn.Conv2d(3, 4, (1, 5)), nn.MaxPool2d((2, 3), stride=2))
    assert texts(root)[2:9] == ["4@32x28", "1x5", "convolution", "4@16x13", "2x3", "max-pool", "stride 2"]
    _, _, width, height = fronts(root)[1]
    assert width / height == pytest.approx(28 / 32, abs=0.001)


def test_the_smallest_faces_are_seen_and_the_note_says_that_they_are_enlarged():
    root = of_layers(nn.AdaptiveAvgPool2d(1), size=224)
    assert min(fronts(root)[1][2:]) >= 3
    assert "enlarged" in " ".join(texts(root))
    assert "enlarged" not in " ".join(texts(drawn("lenet-table")))


# Words


def test_every_layer_of_figure_6_1_is_there():
    labels = texts(drawn("lenet5-1998"))
    for label in ("1@32x32", "6@28x28", "6@14x14", "16@10x10", "16@5x5", "120@1x1", "84", "10"):
        assert label in labels
    assert labels.count("subsampling") == 2
    assert labels.count("scaled tanh") == 6
    assert labels.count("5x5") == 3
    assert labels.count("2x2") == labels.count("stride 2") == 2
    assert "RBF units" in labels
    assert any("the input is 32 x 32 pixels" in label and "60,000 parameters" in label for label in labels)


def test_the_operation_stands_between_its_boxes():
    root = drawn("lenet-table")
    faces = fronts(root)
    words = [text for text in root.iter(SVG + "text") if text.text in ("convolution", "max-pool", "connected")]
    assert len(words) == 7
    for word, before, after in zip(words, faces, faces[1:], strict=False):
        assert before[0] + before[2] < float(word.get("x")) < after[0]
        assert before[1] < float(word.get("y"))


@pytest.mark.parametrize("layer", [nn.PReLU(), nn.BatchNorm2d(4), nn.LocalResponseNorm(5), nn.Dropout(), nn.Tanh()])
def test_what_keeps_the_shape_has_no_box(layer):
    assert len(fronts(of_layers(nn.Conv2d(3, 4, 5), layer))) == 2


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.Upsample(scale_factor=2)])
def test_an_operation_has_a_box_even_where_the_shape_stays(layer):
    assert len(fronts(of_layers(nn.Conv2d(3, 4, 5), layer))) == 3


@pytest.mark.parametrize("words", [{}, KOREAN], ids=["english", "korean"])
@pytest.mark.parametrize("name", NAMES)
def test_no_label_lies_over_another_a_line_or_the_edge(name, words):
    check_labels(drawn(name, words=words))


def check_labels(root):
    width, height = map(float, root.get("viewBox").split()[2:])
    found = outlines(root)
    for i, a in enumerate(found):
        assert a[0] >= 0, a
        assert a[1] >= 0, a
        assert a[2] <= width, a
        assert a[3] <= height, a
        for b in found[:i]:
            assert apart(a, b), (a, b)
        for corners in lines(root):
            for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
                steps = [(x0 + (x1 - x0) * k / 400, y0 + (y1 - y0) * k / 400) for k in range(401)]
                assert not any(a[0] < x < a[2] and a[1] < y < a[3] for x, y in steps), (a, corners)


def test_other_words():
    labels = texts(drawn("lenet-table", words=KOREAN))
    assert labels.count("합성곱") == 2
    assert labels[-1] == "32: 61,706개"
    assert not {"convolution", "input"} & set(labels)


# Two columns


def test_two_columns_meet_at_convolution_3_and_the_linear_layers():
    root = drawn("alexnet-2012", 1000)
    assert texts(root).count("48@55x55") == 2
    assert texts(root).count("2,048") == 4
    assert len(lines(root, dashed=True)) == 6  # both ways at conv3, fc6 and fc7
    for corners in lines(root, dashed=True):
        assert corners[0][1] != corners[-1][1]
    assert len(fronts(root)) == 1 + 2 * 10 + 1


@pytest.mark.parametrize("order", ORDERS)
def test_columns_by_hand(order):
    root = of_rows(order, crossings=["fc3"])
    faces = fronts(root)
    assert len(faces) == 8  # the picture, three layers in each column, the last
    assert len(lines(root, dashed=True)) == 2
    assert len(lines(root, dashed=False)) == 2 * 3 + 2
    lefts = sorted(left for left, *_ in faces)
    assert lefts[1] == lefts[2] < lefts[3] == lefts[4] < lefts[5] == lefts[6] < lefts[7]
    assert texts(root).count("ReLU") == texts(root).count("dropout") == 2
    # Words stand outside, where no dashed line comes.
    words = [float(text.get("y")) for text in root.iter(SVG + "text") if text.text == "convolution"]
    upper, lower = sorted({corners[-1][1] for corners in lines(root, dashed=True)})
    assert [word < upper for word in sorted(words)] == [True, True, False, False]
    assert [word > lower for word in sorted(words)] == [False, False, True, True]
    check_labels(root)


def test_a_dashed_line_starts_at_the_box_before_in_the_other_lane():
    root = of_rows(TWO, crossings=["fc3"])
    # The sides of conv2 end where the dashed lines begin.
    ends = sorted(
        max(float(pair.split(",")[0]) for pair in polygon.get("points").split()) for polygon in root.iter(SVG + "polygon")
    )
    assert {corners[0][0] for corners in lines(root, dashed=True)} <= set(ends)
    first, second = sorted(lines(root, dashed=True), key=lambda corners: corners[0][1])
    assert (first[0][1], first[-1][1]) == (second[-1][1], second[0][1])


def test_one_column_has_no_dashed_line():
    root = drawn("alexnet-table")
    assert not lines(root, dashed=True)
    assert not any("Dashed" in label for label in texts(root))


# The file


def test_a_title_is_text_and_the_file_is_the_drawing(tmp_path):
    found = summarize(models.build_on_meta("lenet-table", 2), 1, 32)
    hostile = '<script>alert(1)</script> & "한글" ]]>'
    text = svg(found, 1, 32, hostile)
    assert "<script" not in text
    assert ET.fromstring(text).find(SVG + "title").text == hostile
    assert text == svg(found, 1, 32, hostile)
    assert ET.fromstring(svg(found, 1, 32, "a\0b\ud800")).find(SVG + "title").text == "a\ufffdb\ufffd"
    path = write_svg(found, 1, 32, hostile, tmp_path / "폴더 1" / "net.svg")
    assert path.read_text(encoding="utf-8") == text + "\n"


def test_it_needs_nothing_from_elsewhere():
    root = drawn("lenet-table")
    assert root.get("role") == "img"
    assert "5x5 convolution 6@28x28 ReLU" in root.find(SVG + "desc").text
    assert root.find(SVG + "rect").get("fill") == "white"
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "rect", "path", "polygon", "text"}
