"""The two drawings of sureness, judged by the pixels of their files and by counts made by hand."""

import numpy as np
import pytest
from PIL import Image

from tapetum.looking import sureness
from tapetum.looking.sureness import coverage_curve, reliability_diagram


@pytest.fixture
def axes(monkeypatch):
    """The axes of each drawing that is made."""
    made, original = [], sureness._axes
    monkeypatch.setattr(sureness, "_axes", lambda title: made.append(original(title)) or made[-1])
    return lambda: made[-1][0]


def two_class(confidence_N, right_N):
    """Labels and probabilities of answers that are so sure, and right or not."""
    confidence_N = np.array(confidence_N)
    return np.where(right_N, 0, 1), np.stack([confidence_N, 1 - confidence_N], 1)


def test_bars_are_as_high_as_the_share_of_right_answers_under_their_counts(tmp_path, axes):
    labels, p = two_class([0.95] * 1200 + [0.65] * 4 + [0.7] * 3, [True] * 900 + [False] * 300 + [True, False] * 2 + [True] * 3)
    path = reliability_diagram(labels, p, tmp_path / "r.png")
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes().patches]
    assert bars == [(pytest.approx(0.65), 0.5), (pytest.approx(0.75), 1.0), (pytest.approx(0.95), 0.75)]
    assert [text.get_text() for text in axes().texts] == ["4", "3", "1,200"]
    diagonal = axes().lines[-1]
    assert (diagonal.get_xdata().tolist(), diagonal.get_ydata().tolist()) == ([0, 1], [0, 1])
    assert axes().get_xlim() == (0.5, 1)
    blue = np.abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - [0xA8, 0xCA, 0xF2]).sum(2) < 40
    assert blue.mean() > 0.03


def test_the_curve_ends_at_the_share_of_all_wrong_answers(tmp_path, axes):
    labels, p = two_class(np.linspace(0.99, 0.51, 200), [True] * 150 + [False] * 50)
    coverage_curve(labels, p, tmp_path / "c.png")
    x, y = axes().lines[0].get_data()
    assert (x[-1], y[-1]) == (1, 0.25)
    assert y[x <= 0.75].max() == 0
    assert x[0] == pytest.approx(0.05)
    band = axes().collections[0].get_paths()[0].vertices
    assert band[:, 1].max() > 0.25


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_pictures_can_be_drawn(tmp_path, count):
    labels, p = np.zeros(count, int), np.full((count, 40), 1 / 40)
    for draw in (reliability_diagram, coverage_curve):
        assert Image.open(draw(labels, p, tmp_path / f"{draw.__name__}.png")).size == (460, 360)
