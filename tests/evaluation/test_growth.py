"""The power law of the error: judged by laws made by hand, by scipy's least squares, and by how often its intervals hold."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import binomtest, norm

from tapetum.evaluation.growth import Law, Point, fit_law, growth

SIZES = (125, 250, 500, 1000, 2000)


def exact(a, b, c=0.0, sizes=SIZES, judges=20_000, seeds=1):
    """Trainings whose errors lie on the law, but for rounding."""
    return [
        Point(n, seed, np.arange(judges) >= round(judges * (a * n**-b + c)), 5, 1.0) for seed in range(seeds) for n in sizes
    ]


def scattered(a, b, c, generator, judges=400, seeds=3, scatter=0.03):
    """Trainings that miss the law by their seed; of the pictures some are hard for all of them."""
    hard = generator.normal(size=judges)
    points = []
    for seed in range(seeds):
        for n in SIZES:
            mean = a * n**-b + c
            error = np.clip(mean + scatter * generator.normal() * np.sqrt(mean * (1 - mean)), 0.001, 0.6)
            strain = 0.7 * hard + np.sqrt(1 - 0.7**2) * generator.normal(size=judges)
            points.append(Point(n, seed, strain > norm.ppf(error), 5, 1.0))
    return points


def test_a_law_without_scatter_is_found_again():
    law = fit_law(exact(2.0, 0.35, seeds=2))
    assert (law.a, law.b, law.c) == (pytest.approx(2.0, rel=0.02), pytest.approx(0.35, abs=0.005), 0.0)
    assert law.error(8000).value == pytest.approx(2 * 8000**-0.35, rel=0.01)
    assert law.gain(2000, 4000).value == pytest.approx(2 * 2000**-0.35 - 2 * 4000**-0.35, rel=0.03)
    assert law.sizes == SIZES


def test_a_level_that_no_picture_mends_is_told_apart_where_it_can_be():
    law = fit_law(exact(4.0, 0.6, 0.08, seeds=2))
    assert law.c == pytest.approx(0.08, abs=0.003)
    assert law.b == pytest.approx(0.6, abs=0.02)
    low, high = law.interval("c")
    assert 0.05 < low < 0.08 < high < 0.1
    # Three sizes cannot tell a level from a smaller exponent.
    assert fit_law(exact(4.0, 0.6, 0.08, sizes=(125, 500, 2000), seeds=2)).c == 0


def test_the_fit_is_scipys_least_squares():
    points = scattered(2.0, 0.35, 0.0, np.random.default_rng(6))
    errors = np.array([point.error for point in points])
    sizes = np.array([point.size for point in points], float)
    means = np.array([errors[sizes == size].mean() for size in sizes])
    found, _ = curve_fit(lambda n, a, b: a * n**-b, sizes, errors, (1.0, 0.3), sigma=np.sqrt(means * (1 - means)))
    law = fit_law(points)
    assert law.c == 0
    assert (law.a, law.b) == (pytest.approx(found[0], rel=0.03), pytest.approx(found[1], abs=0.004))


@pytest.mark.parametrize("truth", [(2.0, 0.35, 0.0), (3.0, 0.5, 0.05)])
def test_nineteen_of_twenty_intervals_hold_the_truth(truth):
    generator, held, widths = np.random.default_rng(1), [0, 0], []
    a, b, c = truth
    for _ in range(100):
        law = fit_law(scattered(a, b, c, generator), draws=200)
        gain, error = law.gain(2000, 4000), law.error(8000)
        held[0] += gain.low <= a * 2000**-b - a * 4000**-b <= gain.high
        held[1] += error.low <= a * 8000**-b + c <= error.high
        widths.append(gain.high - gain.low)
    assert min(held) >= 88  # 95 expected; fewer than 88 has a probability of 0.4 %
    assert np.mean(widths) < 0.03  # an interval that held everything would say nothing


def test_sizes_at_which_it_only_guesses_are_left_out():
    points = [*exact(2.0, 0.35, judges=1000, seeds=2), *exact(0.5, 0.0, sizes=(10, 40), judges=1000, seeds=2)]
    found = growth("photos", "how", tuple(points), 2000, baseline=0.5)
    assert found.law.sizes == SIZES
    assert found.law.b == pytest.approx(0.35, abs=0.02)
    assert "left out: 10, 40 pictures" in found.note
    assert [size for size, _ in found.sizes()] == [10, 40, *SIZES]  # they are shown all the same


def test_too_few_pictures_to_tell_are_said():
    points = (*exact(0.5, 0.0, sizes=(10, 20), judges=50), *exact(0.3, 0.0, sizes=(40, 80), judges=50))
    found = growth("photos", "how", points, 80, baseline=0.5)
    assert found.law is None
    assert found.verdict.startswith("Whether more pictures would help cannot be told: 2 sizes are better than guessing on 50")
    assert found.predictions() == []
    assert found.to_json()["law"] is None
    assert "expected" not in found.text().split("cannot be told")[0]


def verdict(a, b, c=0.0, **options):
    return growth("photos", "how", tuple(exact(a, b, c, **options)), 2000, baseline=0.5).verdict


def test_the_answer_in_words():
    assert verdict(2.0, 0.35, seeds=2).startswith("Twice the pictures (4,000) would bring about +3.0 points (2.")
    assert verdict(0.2, 0.01, seeds=2).startswith("Twice the pictures (4,000) would hardly help: +0.1 points (")
    noisy = scattered(0.3, 0.02, 0.0, np.random.default_rng(2), judges=60, scatter=0.2)
    assert " might help or not: " in growth("photos", "how", tuple(noisy), 2000, baseline=0.5).verdict


def test_means_of_seeds_have_students_interval_and_a_single_one_wilsons():
    points = (*exact(2.0, 0.35, judges=1000), Point(2000, 1, np.arange(1000) >= 200, 5, 1.0))
    sizes = dict(growth("photos", "how", points, 2000, baseline=0.5).sizes())
    assert sizes[125].n == 1000
    assert sizes[2000].n == 2
    rights = [1 - point.error for point in points if point.size == 2000]
    assert sizes[2000].value == pytest.approx(np.mean(rights))
    half = 12.706 * np.std(rights, ddof=1) / np.sqrt(2)  # Student's t with one degree of freedom
    assert sizes[2000].value - sizes[2000].low == pytest.approx(half, rel=1e-3)
    assert sizes[2000].high == 1.0  # an accuracy is no more


def all_right_but(wrong, judges=30, seeds=2):
    """Trainings that name so many judging pictures wrong, by size; other ones for each seed."""
    return tuple(
        Point(size, seed, ~np.isin(np.arange(judges), np.arange(count) + seed * count), 5, 1.0)
        for size, count in wrong.items()
        for seed in range(seeds)
    )


def test_seeds_that_agree_are_no_surer_than_the_pictures_that_judged_them():
    """Scipy's Wilson intervals: all right of 30, and 29 of 30."""
    sizes = dict(growth("photos", "how", all_right_but({20: 1, 40: 0}), 40, baseline=0.5).sizes())
    for size, right in ((20, 29), (40, 30)):
        wilson = binomtest(right, 30).proportion_ci(method="wilson")
        found = sizes[size]
        assert (found.value, found.n) == (right / 30, 2)
        assert (found.low, found.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))


def test_what_is_foretold_is_no_surer_either():
    found = growth("photos", "how", tuple(exact(2.0, 0.35, judges=60, seeds=2)), 2000, baseline=0.3)
    for _, accuracy, _ in found.predictions():
        right = round(accuracy.value * 60)
        low, high = (binomtest(count, 60).proportion_ci(method="wilson") for count in (right + 1, right - 1))
        assert accuracy.low < low.low
        assert accuracy.high > high.high
    beyond = Law(10.0, -0.5, 0.0, np.array([[10.0, -0.5, 0.0]] * 9), (10, 20, 40))  # more wrong than there are
    accuracies = [each for _, each, _ in dataclasses.replace(found, law=beyond).predictions()]
    assert [(each.value, each.low) for each in accuracies] == [(0.0, 0.0)] * 2


@pytest.mark.parametrize(
    ("wrong", "few"),
    [
        ({20: 0, 40: 0, 80: 0, 160: 0}, "20, 40, 80, 160"),
        ({20: 1, 40: 1, 80: 0, 160: 0}, "20, 40, 80, 160"),
        ({20: 5, 40: 4, 80: 1, 160: 0}, "80, 160"),
        ({20: 8, 40: 5, 80: 3, 160: 0}, "160"),  # three sizes err, but not the one from which it would foretell
        ({20: 8, 40: 5, 80: 3, 160: 2}, ""),
        ({20: 8, 40: 0, 80: 3, 160: 2}, ""),
    ],
)
def test_where_hardly_a_picture_is_named_wrong_there_is_no_law(wrong, few):
    found = growth("photos", "how", all_right_but(wrong), 160, baseline=0.5)
    if not few:
        assert found.law is not None
        assert max(found.law.draws_B3[:, 0]) > 0
        return
    assert found.law is None
    told = f"networks that {few} pictures trained are wrong about fewer than 4 of the 30 that judge; expected 3 sizes"
    assert found.verdict.startswith(f"Whether more pictures would help cannot be told: {told}")
    assert "too few" in found.note
    assert "too easy" in found.note
    assert "error =" not in found.text()


def test_text_and_json_tell_the_same():
    found = growth("photos", "compact at 64 px", tuple(exact(2.0, 0.35, seeds=2)), 2000, baseline=0.5)
    told, values = found.text(), found.to_json()
    assert told.endswith(found.verdict)
    assert "    4,000 expected" in told
    assert values["predictions"][0]["size"] == 4000
    assert f"{values['predictions'][0]['accuracy']['value'] * 100:.1f} %" in told
    assert values["law"]["b_interval"][0] <= values["law"]["b"] <= values["law"]["b_interval"][1]
