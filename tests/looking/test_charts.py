"""Charts in a page: their numbers are text, their colours the page's, and nothing of them reaches out of their element."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np

from tapetum.looking.charts import chart
from tapetum.looking.grids import draw_history
from tapetum.looking.sureness import draw_coverage, draw_reliability

RNG = np.random.default_rng(0)
P_NK = RNG.dirichlet([1, 1], 200)
LABELS_N = (RNG.random(200) < P_NK[:, 1]).astype(int)
HISTORY = [
    {"epoch": k, "train_loss": 1 / k, "train_accuracy": None, "val_loss": 1 / k, "val_accuracy": 0.6, "val_n": 50}
    for k in (1, 2, 3)
]


def charts():
    return [
        chart(lambda axes: draw_reliability(axes, LABELS_N, P_NK), "the first"),
        chart(lambda axes: draw_coverage(axes, LABELS_N, P_NK), "a <second>"),
        chart(lambda axes: draw_history(axes, HISTORY, "loss"), "third"),
        chart(lambda axes: draw_history(axes, HISTORY, "accuracy"), "fourth"),
    ]


def test_it_is_one_element_with_its_story_and_its_numbers_as_text():
    for drawn, alt in zip(charts(), ("the first", "a <second>", "third", "fourth"), strict=True):
        element = ElementTree.fromstring(f'<x xmlns:xlink="x">{drawn}</x>')[0]
        assert (element.tag, element.get("role"), element.get("aria-label")) == ("svg", "img", alt)
        texts = ["".join(each.itertext()) for each in element.iter("text")]
        assert len(texts) > 4
        assert all(re.fullmatch(r"[\d.,]+( %)?", text) for text in texts)


def test_the_bars_counts_are_all_pictures():
    element = ElementTree.fromstring(f'<x xmlns:xlink="x">{charts()[0]}</x>')[0]
    texts = [each.text for each in element.iter("text")]
    assert sum(int(text) for text in texts if "%" not in text) == 200


def test_no_colour_is_fixed_and_no_style_leaks():
    for drawn in charts():
        assert not re.search(r"#[0-9a-f]{6}\b(?!\")", re.sub(r"#[mp][0-9a-f]+", "", drawn))
        assert "currentColor" in drawn
        assert "<style" not in drawn
        assert "font-family" not in drawn


def test_names_inside_are_those_of_one_chart_alone():
    names = [set(re.findall(r' id="([^"]+)"', drawn)) for drawn in charts()]
    assert all(names)
    assert len(set.union(*names)) == sum(map(len, names))
    for drawn, own in zip(charts(), names, strict=True):
        assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", drawn)) <= own


def test_the_same_chart_is_the_same_text_and_matplotlib_stays_as_it_is():
    before = dict(matplotlib.rcParams)
    assert charts() == charts()
    assert dict(matplotlib.rcParams) == before
