"""Metrics against published figures, hand counts, and scikit-learn on random data; and their text for the terminal."""

import json
import math
import unicodedata

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from tapetum.errors import UserError
from tapetum.evaluation import metrics
from tapetum.evaluation.text import format_metrics


def random_case(num_classes, n=300, seed=0):
    generator = np.random.default_rng(seed)
    probabilities_NK = generator.dirichlet(np.ones(num_classes) * 0.5, n)
    labels_N = np.where(generator.random(n) < 0.6, probabilities_NK.argmax(1), generator.integers(num_classes, size=n))
    return labels_N, probabilities_NK


def columns(text):
    """Terminal columns, counted independently: East Asian wide signs take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in ("W", "F") else 1 for sign in text)


# The Wilson interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(59, 92, 53.9, 73.2), (63, 92, 58.4, 77.1), (8, 10, 49.0, 94.3), (0, 10, 0.0, 27.8), (10, 10, 72.2, 100.0)],
)
def test_wilson_gives_the_known_figures(hits, n, low, high):
    found = metrics.wilson(hits, n)
    assert found.value == hits / n
    assert found.low * 100 == pytest.approx(low, abs=0.05)
    assert found.high * 100 == pytest.approx(high, abs=0.05)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy(confidence):
    stats = pytest.importorskip("scipy.stats")
    for n in (1, 2, 10, 92, 5000):
        for hits in {0, 1, n // 3, n - 1, n}:
            expected = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
            found = metrics.wilson(hits, n, confidence)
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_ends_of_wilson_are_exact():
    for n in range(1, 200):
        assert metrics.wilson(0, n).low == 0
        assert metrics.wilson(n, n).high == 1


def test_no_cases_are_nan_and_said_so():
    found = metrics.wilson(0, 0)
    assert math.isnan(found.value)
    assert str(found) == "no cases"
    assert found.to_json() == {"value": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize(("hits", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_wilson_refuses_what_is_no_share(hits, n, confidence):
    with pytest.raises(ValueError, match="expected 0 <= hits <= n"):
        metrics.wilson(hits, n, confidence)


def test_an_estimate_prints_as_a_sentence():
    assert str(metrics.wilson(63, 92)) == "68.5 % (58.4 to 77.1, n = 92)"
    assert str(metrics.wilson(9_000, 12_500)).endswith("n = 12,500)")


# The rest, by hand and against scikit-learn


def test_accuracy_counts_hits():
    found = metrics.accuracy(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    assert (found.value, found.n) == (0.75, 4)


def test_the_majority_is_the_first_of_the_commonest():
    index, estimate = metrics.majority_baseline(np.array([2, 1, 1, 2, 0]), 4)
    assert (index, estimate.value, estimate.n) == (1, 0.4, 5)


def test_confusion_rows_are_true_classes():
    found_KK = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([1, 0, 1]), 3)
    assert found_KK.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_small_integers_do_not_overflow():
    labels_N = np.array([99, 50, 0], np.uint8)
    found_KK = metrics.confusion_matrix(labels_N, labels_N, 100)
    assert np.flatnonzero(found_KK.diagonal()).tolist() == [0, 50, 99]


@pytest.mark.parametrize("num_classes", [2, 3, 20])
def test_everything_agrees_with_scikit_learn(num_classes):
    labels_N, probabilities_NK = random_case(num_classes)
    names = tuple(f"class {k}" for k in range(num_classes))
    found = metrics.evaluate(labels_N, probabilities_NK, names)
    predicted_N = probabilities_NK.argmax(1)
    every = list(range(num_classes))

    assert found.accuracy.value == pytest.approx(sklearn.metrics.accuracy_score(labels_N, predicted_N))
    assert found.log_loss == pytest.approx(sklearn.metrics.log_loss(labels_N, probabilities_NK, labels=every))
    assert (found.confusion_KK == sklearn.metrics.confusion_matrix(labels_N, predicted_N, labels=every)).all()
    assert found.macro_f1 == pytest.approx(sklearn.metrics.f1_score(labels_N, predicted_N, average="macro"))
    precision_K, recall_K, f1_K, support_K = sklearn.metrics.precision_recall_fscore_support(
        labels_N, predicted_N, labels=every, zero_division=np.nan
    )
    assert [c.precision.value for c in found.classes] == pytest.approx(precision_K, nan_ok=True)
    assert [c.recall.value for c in found.classes] == pytest.approx(recall_K, nan_ok=True)
    assert [c.f1 for c in found.classes] == pytest.approx(f1_K)
    assert [c.recall.n for c in found.classes] == support_K.tolist()
    assert found.majority == names[np.bincount(labels_N).argmax()]
    assert found.baseline.value == np.bincount(labels_N).max() / len(labels_N)


def test_the_brier_score_is_twice_scikit_learns_for_two_classes():
    labels_N, probabilities_NK = random_case(2)
    expected = sklearn.metrics.brier_score_loss(labels_N, probabilities_NK[:, 1])
    assert metrics.brier(labels_N, probabilities_NK) == pytest.approx(2 * expected)
    assert metrics.brier(np.array([0]), np.array([[0.0, 1.0]])) == 2


def test_a_sure_and_wrong_answer_costs_36():
    table_NK = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert metrics.log_loss(np.array([0]), table_NK[:1]) == pytest.approx(36.04, abs=0.01)
    found = metrics.log_loss(np.array([0, 0]), table_NK)
    assert found == pytest.approx(sklearn.metrics.log_loss([0, 0], table_NK, labels=[0, 1]))


def test_equal_probabilities_answer_the_first_class():
    found = metrics.evaluate(np.array([0, 1]), np.full((2, 2), 0.5), ("a", "b"))
    assert found.confusion_KK.tolist() == [[1, 0], [1, 0]]


def test_a_class_without_pictures_or_answers_is_nan_but_scores_zero():
    found = metrics.evaluate(np.array([0, 0]), np.array([[1.0, 0, 0], [1, 0, 0]]), ("a", "b", "c"))
    absent = found.classes[2]
    assert math.isnan(absent.precision.value)
    assert math.isnan(absent.recall.value)
    assert absent.f1 == 0
    assert found.macro_f1 == 1  # only classes that occur count, as in scikit-learn


def test_json_holds_plain_numbers_only():
    found = metrics.evaluate(np.array([0, 0], np.int32), np.array([[1.0, 0], [1, 0]], np.float32), ("고양이", "b"))
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["classes"][1]["precision"] == {"value": None, "low": None, "high": None, "n": 0}
    assert written["accuracy"]["n"] == 2
    assert written["majority_class"] == "고양이"
    assert written["confusion"] == [[2, 0], [0, 0]]


# What is refused


def test_no_pictures_are_the_users_to_mend():
    none_N = np.zeros(0, np.int64)
    for measure in (
        lambda: metrics.evaluate(none_N, np.zeros((0, 2)), ("a", "b")),
        lambda: metrics.accuracy(none_N, none_N),
        lambda: metrics.majority_baseline(none_N, 2),
        lambda: metrics.log_loss(none_N, np.zeros((0, 2))),
        lambda: metrics.brier(none_N, np.zeros((0, 2))),
        lambda: metrics.confusion_matrix(none_N, none_N, 2),
    ):
        with pytest.raises(UserError, match="no pictures"):
            measure()


@pytest.mark.parametrize(
    ("labels", "table", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "shape"),
        ([0, 1], [[0.2, 0.3, 0.5]] * 2, "shape"),
        ([0, 2], [[0.5, 0.5]] * 2, "from 0 to 2"),
        ([0, -1], [[0.5, 0.5]] * 2, "from -1 to 0"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "expected integers"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "finite"),
        ([0, 1], [[0.5, 0.5], [np.inf, 0.5]], "finite"),
        ([0, 1], [[0.5, 0.5], [1.5, -0.5]], "from 0 to 1"),
        ([0, 1], [[0.5, 0.5], [0.9, 0.9]], "sum"),
    ],
)
def test_what_no_classifier_gives_is_a_bug(labels, table, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(np.array(labels), np.array(table), ("a", "b"))


def test_a_matrix_that_does_not_fit_the_names_is_a_bug():
    with pytest.raises(ValueError, match=r"\(2, 2\) for 3 classes"):
        metrics.per_class(np.eye(2, dtype=int), ("a", "b", "c"))


def test_accuracy_refuses_arrays_that_would_broadcast():
    with pytest.raises(ValueError, match="expected"):
        metrics.accuracy(np.array([0, 1, 1]), np.array([1]))


def test_the_log_loss_of_a_diverged_training_is_nan():
    assert math.isnan(metrics.log_loss(np.array([0]), np.array([[np.nan, np.nan]])))


# The text for the terminal


def test_the_text_leads_with_accuracy_n_interval_and_baseline():
    labels_N = np.array([0] * 50 + [1] * 42)
    predicted_N = np.array([0] * 40 + [1] * 33 + [0] * 19)
    found = metrics.evaluate(labels_N, np.eye(2)[predicted_N], ("cat", "dog"))
    lines = format_metrics(found).splitlines()
    hits = int((labels_N == predicted_N).sum())
    assert lines[0] == f"accuracy {metrics.wilson(hits, 92)}"
    assert lines[1].startswith("always answering 'cat' would give 54.3 % (")
    assert "log-loss" in lines[2]


def test_the_tables_stand_in_line_with_korean_names():
    labels_N, probabilities_NK = random_case(3)
    text = format_metrics(metrics.evaluate(labels_N, probabilities_NK, ("고양이", "dog", "아주 긴 이름을 가진 분류 하나")))
    _, classes, matrix = text.split("\n\n")
    assert len({columns(line) for line in classes.splitlines()}) == 1
    assert len({columns(line) for line in matrix.splitlines()}) == 1
    assert "고양이" in matrix


def test_many_classes_are_summed_up_by_the_worst():
    num_classes = 20
    # Class 3 is always taken for 7, class 5 mostly for 6; all else is right.
    labels_N = np.repeat(np.arange(num_classes), 10)
    predicted_N = labels_N.copy()
    predicted_N[labels_N == 3] = 7
    predicted_N[np.flatnonzero(labels_N == 5)[:8]] = 6
    names = tuple(f"class-{k}" for k in range(num_classes))
    text = format_metrics(metrics.evaluate(labels_N, np.eye(num_classes)[predicted_N], names))
    assert len(text.splitlines()) < 20
    _, worst, mistaken = text.split("\n\n")
    assert [line.split()[0] for line in worst.splitlines()[1:3]] == ["class-3", "class-5"]
    assert mistaken.splitlines()[1:] == ["    10  class-3 taken for class-7", "     8  class-5 taken for class-6"]


def test_the_interval_of_a_mean_is_scipys():
    values = np.array([0.61, 0.58, 0.66, 0.6])
    found = metrics.mean_interval(values)
    low, high = stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    assert found.low < low < found.value < high < found.high  # four values: Student's is wider than the bootstrap's
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high, found.n) == (pytest.approx(expected.low), pytest.approx(expected.high), 4)
    few = metrics.mean_interval(np.array([0.5, 0.9, 1.0]), shares=True)  # by itself from 0.14 to 1.46
    assert (few.low, few.high) == (pytest.approx(stats.ttest_1samp([0.5, 0.9, 1.0], 0).confidence_interval().low), 1.0)


def test_bootstrap_intervals_are_scikit_learns_figures_of_pictures_drawn_one_by_one():
    labels_N, probabilities_NK = random_case(3, n=6700)
    probabilities_NK = probabilities_NK.round(1) + 0.01  # many are equal
    probabilities_NK /= probabilities_NK.sum(1, keepdims=True)
    # Of so many numbers a hundred sets are drawn.
    generator, drawn = np.random.default_rng(0), {name: [] for name in ("log_loss", "brier", "macro_f1", "auc", "ece")}
    for _ in range(100):
        some = generator.integers(6700, size=6700)
        labels, p = labels_N[some], probabilities_NK[some]
        drawn["log_loss"].append(sklearn.metrics.log_loss(labels, p))
        drawn["brier"].append(((np.eye(3)[labels] - p) ** 2).sum(1).mean())
        drawn["macro_f1"].append(sklearn.metrics.f1_score(labels, p.argmax(1), average="macro"))
        drawn["auc"].append(np.mean([sklearn.metrics.roc_auc_score(labels == k, p[:, k]) for k in range(3)]))
        drawn["ece"].append(metrics.calibration_error(labels, p))
    found = metrics.evaluate(labels_N, probabilities_NK, ("a", "b", "c")).intervals
    for name, values in drawn.items():
        assert found[name] == pytest.approx(np.percentile(values, [2.5, 97.5])), name
