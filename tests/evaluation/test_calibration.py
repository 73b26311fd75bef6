"""Judges: torch's logits over a temperature, scikit-learn, and probabilities whose truth is drawn from them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from tapetum.evaluation import metrics
from tapetum.evaluation.calibration import LEAST, coverage_risk, cross_tempered, fit_temperature, reliability
from tapetum.inference.answers import temper


def drawn(count, classes=3, sureness=1.0, seed=0):
    """Probabilities, and labels that are drawn from them: perfectly calibrated but for `sureness`, a factor on the logits."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < generator.random((count, 1))).sum(1)
    return labels, temper(p, 1 / sureness)


def test_tempering_is_dividing_the_logits():
    logits = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = temper(torch.softmax(logits, 1).numpy(), 1.7)
    np.testing.assert_allclose(found, torch.softmax(logits / 1.7, 1).numpy(), rtol=1e-12)
    sure = temper(np.array([[1.0, 0.0]]), 2.0)
    assert np.isfinite(sure).all()
    assert sure.sum() == pytest.approx(1)


@pytest.mark.parametrize("sureness", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_one_that_was_put_in(sureness):
    labels, p = drawn(20_000, sureness=sureness)
    assert fit_temperature(labels, p) == pytest.approx(sureness, rel=0.05)


def test_calibration_mends_what_is_too_sure_and_leaves_what_is_right():
    labels, p = drawn(3000, sureness=3.0)
    before, after = (metrics.calibration_error(labels, each) for each in (p, cross_tempered(labels, p)))
    assert before > 0.1
    assert after < 0.04
    assert (cross_tempered(labels, p).argmax(1) == p.argmax(1)).all()


@pytest.mark.parametrize("count", [LEAST, 36])
def test_as_few_as_allowed_are_tempered_by_four_fifths_of_them(count):
    labels, p = np.zeros(count, int), np.tile([0.99, 0.01], (count, 1))
    labels[: round(0.3 * count)] = 1  # sure of 99 of 100, right in 70
    assert metrics.log_loss(labels, cross_tempered(labels, p)) < 0.6 * metrics.log_loss(labels, p)


def test_the_calibration_error_by_hand():
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    labels = np.array([0, 1, 0, 0])
    # Two at 0.95, half of them right; two at 0.65, half of them right.
    assert metrics.calibration_error(labels, p) == pytest.approx((2 * 0.45 + 2 * 0.15) / 4)
    assert metrics.calibration_error(np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]])) == 0


@pytest.mark.parametrize("classes", [2, 4])
def test_auc_and_f1_are_scikit_learns(classes):
    labels, p = drawn(500, classes, seed=classes)
    p = p.round(2) + 1e-9  # ties
    p /= p.sum(1, keepdims=True)
    judge = np.mean([roc_auc_score(labels == k, p[:, k]) for k in range(classes)])
    assert metrics.auc(labels, p) == pytest.approx(judge, rel=1e-12)
    found = metrics.macro_f1(metrics.confusion_matrix(labels, p.argmax(1), classes))
    assert found == pytest.approx(f1_score(labels, p.argmax(1), average="macro"))
    assert np.isnan(metrics.auc(np.zeros(4, int), p[:4]))


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = metrics.evaluate(*drawn(100_000), classes=("a", "b", "c"))
    held = dict.fromkeys(truth.intervals, 0)
    for seed in range(20):
        found = metrics.evaluate(*drawn(300, seed=1000 + seed), classes=("a", "b", "c"))
        for name, (low, high) in found.intervals.items():
            held[name] += low <= getattr(truth, name) <= high
    # The calibration error of few pictures is biased upwards, and its interval with it; it is not asked for.
    for name in ("log_loss", "brier", "macro_f1", "auc"):
        assert held[name] >= 16, held


def test_the_diagrams_values():
    labels, p = np.array([0, 1, 1, 0]), np.array([[0.95, 0.05], [0.9, 0.1], [0.45, 0.55], [0.58, 0.42]])
    assert reliability(labels, p) == [(pytest.approx(0.565), 1.0, 2), (pytest.approx(0.925), 0.5, 2)]
    coverage, risk = coverage_risk(labels, p)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == [0.0, 0.5, pytest.approx(1 / 3), 0.25]


def test_equally_sure_answers_stand_in_no_order():
    labels, p = np.array([0, 0, 1, 1, 0]), np.array([[0.6, 0.4]] * 4 + [[0.9, 0.1]])
    _, risk = coverage_risk(labels, p)
    assert risk.tolist() == pytest.approx([0, 0.25, 1 / 3, 0.375, 0.4])
    assert coverage_risk(labels[[2, 3, 4, 0, 1]], p[[2, 3, 4, 0, 1]])[1].tolist() == risk.tolist()
