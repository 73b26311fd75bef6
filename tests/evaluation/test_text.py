"""Judges: columns counted by hand, and scikit-learn's figures."""

import re
import unicodedata

import numpy as np
import pytest
import sklearn.metrics

from tapetum.evaluation import metrics
from tapetum.evaluation.text import format_metrics, pad


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("고양이", 6, "고양이"),
        ("고양이와 개", 5, "고양…"),
        ("고양이", 4, "고… "),  # a sign of two columns went where one was left over
        ("ＡＢ", 5, "ＡＢ "),  # Latin letters as wide as Chinese signs
        (unicodedata.normalize("NFD", "café"), 5, unicodedata.normalize("NFD", "café") + " "),
    ],
)
def test_a_text_fills_its_columns_and_no_more(text, width, expected):
    assert pad(text, width) == expected
    filling = len(expected) - len(expected.rstrip())
    assert pad(text, width, right=True) == " " * filling + expected.rstrip()


def test_the_figures_are_scikit_learns_with_three_digits_and_an_interval_each():
    generator = np.random.default_rng(1)
    labels_N = generator.integers(0, 3, 300)
    p_NK = generator.dirichlet([1, 1, 1], 300) * 0.7 + 0.3 * np.eye(3)[labels_N]
    line = format_metrics(metrics.evaluate(labels_N, p_NK, ("a", "b", "c"))).splitlines()[2]
    for name, value in (
        ("log-loss", sklearn.metrics.log_loss(labels_N, p_NK)),
        ("mean F1", sklearn.metrics.f1_score(labels_N, p_NK.argmax(1), average="macro")),
        ("AUC", sklearn.metrics.roc_auc_score(labels_N, p_NK, multi_class="ovr")),
    ):
        told, low, high = map(float, re.search(rf"{name} (\d\.\d{{3}}) \((\d\.\d{{3}}) to (\d\.\d{{3}})\)", line).groups())
        assert told == pytest.approx(value, abs=5e-4)
        assert low < told < high


def test_what_cannot_be_known_is_a_dash_or_left_out():
    """Only cats are shown and no owl is ever answered: no area under a curve, no recall of dogs, nothing of owls."""
    text = format_metrics(metrics.evaluate(np.array([0, 0, 0, 0]), np.eye(3)[[0, 0, 0, 1]], ("cat", "dog", "owl")))
    assert "AUC" not in text
    _, classes, _ = text.split("\n\n")
    assert [line.split() for line in classes.splitlines()[1:]] == [
        ["cat", "100.0", "%", "75.0", "%", "0.857", "4"],
        ["dog", "0.0", "%", "-", "0.000", "0"],
        ["owl", "-", "-", "0.000", "0"],
    ]


@pytest.mark.parametrize(("count", "head"), [(12, "true \\ predicted"), (13, "most often mistaken")])
def test_up_to_twelve_classes_are_a_matrix_and_more_are_summed_up(count, head):
    labels_N = np.arange(count - 1)  # the last class is not among the pictures
    text = format_metrics(metrics.evaluate(labels_N, np.eye(count)[labels_N], tuple(f"c{k}" for k in range(count))))
    _, classes, mistakes = text.split("\n\n")
    assert mistakes.startswith(head)
    if count == 13:
        assert len(classes.splitlines()) == 1 + 5
        assert "c12" not in classes
        assert mistakes == head  # nothing was


@pytest.mark.parametrize("name", ["고양이", "café", "👩\u200d🔬"])
def test_a_name_in_parts_is_as_wide_as_in_one(name):
    """As macOS writes names; a joiner takes no room."""
    apart = unicodedata.normalize("NFD", name)
    assert len(pad(name, 12)) - len(name) == len(pad(apart, 12)) - len(apart) == 12 - {"고양이": 6, "café": 4}.get(name, 4)
