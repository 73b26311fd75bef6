"""Judges: numpy on laws made by hand, and html.parser."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from html_page import HtmlPage
from tapetum.evaluation.growth import Growth, Law, Point
from tapetum.looking.growing import draw_growth, write_growth

SIZES = (100, 200, 400, 800)
DRAWS = np.c_[np.linspace(1.5, 2.5, 41), np.full(41, 0.5), np.linspace(-0.2, 0.2, 41)]
LAW = Law(2.0, 0.5, 0.01, DRAWS, SIZES)
POINTS = tuple(Point(n, 0, np.arange(1000) >= round(2000 * n**-0.5), 3, 1.0) for n in SIZES)


def growth(law=LAW, largest=800, points=POINTS, **words):
    return Growth(**{"data": "photos", "how": "", "note": "", **words}, points=points, largest=largest, baseline=0.5, law=law)


def drawn(found):
    """The axes; the dots, and the solid and the dashed part of the law."""
    axes = Figure().add_subplot()
    draw_growth(axes, found)
    return axes, *(line.get_xydata() for line in axes.lines)


@pytest.mark.parametrize(
    ("largest", "end", "labels"), [(800, 3200, ["200", "800", "3,200"]), (12_500, 50_000, ["200", "800", "50,000"])]
)
def test_the_law_is_a_line_to_the_last_training_dashed_to_four_times_the_pictures_in_a_band(largest, end, labels):
    axes, dots, solid, dashed = drawn(growth(largest=largest))
    assert np.allclose(dots, [(point.size, 1 - point.right_N.mean()) for point in POINTS])
    x, y = np.concatenate([solid, dashed]).T
    assert (np.diff(x) > 0).all()
    assert (x[0], x[-1]) == (100, pytest.approx(end))
    assert solid[-1, 0] <= 800 < dashed[0, 0]
    assert np.allclose(y, 2 * np.floor(x) ** -0.5 + 0.01)
    each = DRAWS[:, 0] * np.floor(x[:, None]) ** -DRAWS[:, 1] + DRAWS[:, 2]
    low, high = np.percentile(each, [2.5, 97.5], axis=1)
    corners = axes.collections[0].get_paths()[0].vertices
    for edge in (np.maximum(low, 1e-4), high):  # powers have no place for what is below zero
        assert all(np.isclose(corners, corner).all(1).any() for corner in np.c_[x, edge])
    assert [label.get_text() for label in axes.get_xticklabels()] == labels
    assert axes.get_xticks().tolist() == [int(label.replace(",", "")) for label in labels]
    named = {axes.yaxis.get_major_formatter()(share): share for share in axes.get_yticks()}
    assert named.items() >= {"1 %": 0.01, "5 %": 0.05, "10 %": 0.1, "20 %": 0.2}.items()


def test_without_a_law_there_are_the_dots_alone_and_no_mistake_is_half_a_one():
    perfect, one = Point(400, 0, np.ones(250, bool), 3, 1.0), Point(200, 0, np.arange(250) > 0, 3, 1.0)
    axes, *lines = drawn(growth(None, largest=5000, points=(one, perfect)))
    assert [line.tolist() for line in lines] == [[[200, pytest.approx(1 / 250)], [400, 0.5 / 250]]]
    assert not axes.collections
    assert axes.get_xticks().tolist() == [400]  # nothing is foretold


@pytest.mark.parametrize("wrong", [(380, 320), (180, 130)])
def test_the_mistakes_have_numbers_also_where_no_round_one_lies_between_them(wrong):
    points = tuple(Point(200 * k, 0, np.arange(1000) >= count, 3, 1.0) for k, count in enumerate(wrong, 1))
    axes, _ = drawn(growth(None, points=points))
    low, high = axes.get_ylim()
    ticks = axes.get_yticks()
    assert len(ticks) == 2
    assert low < ticks[0] < ticks[1] < high


def test_the_page_has_a_row_for_each_size_and_for_twice_and_four_times_the_pictures(tmp_path):
    page = HtmlPage(write_growth(growth(), tmp_path / "자람 1" / "page.html"))
    accuracies = [f"{(1 - 2 * size**-0.5 - 0.01) * 100:.1f} %" for size in (1600, 3200)]
    assert [(row[0], row[1].split(" (")[0]) for row in page.rows[1:]] == [
        *((str(point.size), f"{point.right_N.mean() * 100:.1f} %") for point in POINTS),
        *zip(("1,600, expected", "3,200, expected"), accuracies, strict=True),
    ]


def test_a_page_without_a_law_foretells_nothing_and_other_peoples_words_stay_words(tmp_path):
    evil = "한글 & 빈칸</code><script>alert('1')</script><img src=x onerror=\"alert(1)\">"
    page = HtmlPage(write_growth(growth(None, data=evil, how=evil, note=evil), tmp_path / "page.html"))
    assert page.text.count(evil) == 4  # in the title and in the verdict, too
    assert not {"script", "img"} & set(page.tags)
    assert [row[0] for row in page.rows] == ["pictures", "100", "200", "400", "800"]
    assert {len(row) for row in page.rows} == {2}  # no gain is told
    assert not any(word in page.text for word in ("expected", "bootstrap", "the law", "n^"))
