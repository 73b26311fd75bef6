"""Arrays in, numbers out: accuracy and the rest, each with n and, where known, its interval. Knows nothing of torch.

Letters in names: N pictures, K classes. Labels and predictions are class numbers, 0 to K - 1. No pictures at all is the
user's to mend (`UserError`); arrays that do not fit together are a bug (`ValueError`).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy import special

from tapetum.errors import UserError

# Probabilities are kept this far from 0 before their logarithm is taken, as scikit-learn does for float64.
_EPSILON = float(np.finfo(np.float64).eps)
# The sum of many float32 probabilities may miss 1 by a little; what misses it by more is no softmax.
_ROUNDING = 1e-4
# Bins of the calibration error, and how many numbers of drawn pictures are in memory at once.
_BINS, _DRAWN_AT_ONCE = 15, 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A share of n cases and its interval, 95 % unless `wilson` was asked for another.

    >>> print(wilson(63, 92))
    68.5 % (58.4 to 77.1, n = 92)
    """

    value: float
    """0 to 1; NaN where n is 0."""
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n == 0:
            return "no cases"
        return f"{self.value * 100:.1f} % ({self.low * 100:.1f} to {self.high * 100:.1f}, n = {self.n:,})"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; NaN becomes None, which JSON can say."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {**{name: None if math.isnan(v) else v for name, v in values.items()}, "n": self.n}


@dataclass(frozen=True)
class ClassMetrics:
    """How well one class is found."""

    name: str
    precision: Estimate
    """Of what was called this class, the share that is. n: how often it was called; NaN if never (scikit-learn: 0)."""
    recall: Estimate
    """Of what is this class, the share that was called so. n: how many there are; NaN if none (scikit-learn: 0)."""
    f1: float
    """Harmonic mean of both; 0 where there is no hit, as scikit-learn."""


@dataclass(frozen=True)
class Metrics:
    """All that is measured of predictions whose truth is known."""

    accuracy: Estimate
    majority: str
    """The commonest class among the labels."""
    baseline: Estimate
    """The accuracy of always answering `majority`."""
    log_loss: float
    """Mean of -ln(probability of the true class)."""
    brier: float
    """Mean squared distance between probabilities and truth, summed over classes (0 best, 2 worst)."""
    macro_f1: float
    """Mean F1 of the classes that occur in the labels or the predictions."""
    auc: float
    """Area under the ROC curve, mean over the classes against the rest; NaN where only one class occurs."""
    ece: float
    """Expected calibration error: how far confidence and share of right answers lie apart (0 best)."""
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals of log_loss, brier, macro_f1, auc and ece."""
    classes: tuple[ClassMetrics, ...]
    confusion_KK: np.ndarray
    """Counts; rows are true, columns predicted classes."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "accuracy": self.accuracy.to_json(),
            "majority_class": self.majority,
            "majority_baseline": self.baseline.to_json(),
            "log_loss": self.log_loss,
            "brier": self.brier,
            "macro_f1": self.macro_f1,
            "auc": None if math.isnan(self.auc) else self.auc,
            "ece": self.ece,
            "intervals": {name: list(ends) for name, ends in self.intervals.items() if not math.isnan(ends[0])},
            "classes": [
                {"name": c.name, "precision": c.precision.to_json(), "recall": c.recall.to_json(), "f1": c.f1}
                for c in self.classes
            ],
            "confusion": self.confusion_KK.tolist(),
        }


def evaluate(labels_N: np.ndarray, probabilities_NK: np.ndarray, classes: tuple[str, ...]) -> Metrics:
    """All metrics of the predictions `probabilities_NK` (rows sum to 1) against the true `labels_N` (class numbers).

    The answer to a picture is its most probable class; of equally probable ones, the first.

    Raises:
        UserError: there are no pictures.
        ValueError: shapes or values that no classifier gives.

    >>> found = evaluate(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), ("cat", "dog"))
    >>> print(found.accuracy)
    66.7 % (20.8 to 93.9, n = 3)
    >>> found.confusion_KK.tolist()
    [[1, 1], [0, 1]]
    """
    _check_table(labels_N, probabilities_NK, len(classes))
    _check_probabilities(probabilities_NK)
    predicted_N = probabilities_NK.argmax(1)
    confusion_KK = confusion_matrix(labels_N, predicted_N, len(classes))
    majority, baseline = majority_baseline(labels_N, len(classes))
    found = per_class(confusion_KK, classes)
    return Metrics(
        accuracy=accuracy(labels_N, predicted_N),
        majority=classes[majority],
        baseline=baseline,
        log_loss=log_loss(labels_N, probabilities_NK),
        brier=brier(labels_N, probabilities_NK),
        macro_f1=macro_f1(confusion_KK),
        auc=auc(labels_N, probabilities_NK),
        ece=calibration_error(labels_N, probabilities_NK),
        intervals=_bootstrap(labels_N, probabilities_NK),
        classes=found,
        confusion_KK=confusion_KK,
    )


def mean_interval(values: np.ndarray, confidence: float = 0.95, shares: bool = False) -> Estimate:
    """The mean of a few measurements (at least two, such as one a seed) with Student's interval of it; n: measurements.

    `shares`: the values are from 0 to 1, and so is the interval.

    >>> print(mean_interval(np.array([0.70, 0.72, 0.74])))
    72.0 % (67.0 to 77.0, n = 3)
    """
    mean, half = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    half *= float(special.stdtrit(len(values) - 1, 0.5 + confidence / 2))
    low, high = (max(0.0, mean - half), min(1.0, mean + half)) if shares else (mean - half, mean + half)
    return Estimate(mean, low, high, len(values))


def wilson(hits: float, n: int, confidence: float = 0.95) -> Estimate:
    """A share with its Wilson score interval; honest for few cases and for shares near 0 and 1. NaN where n is 0.

    `hits` need not be whole: it may be a mean over several trainings, judged on the same n.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.

    >>> print(wilson(8, 10))
    80.0 % (49.0 to 94.3, n = 10)
    """
    if not (0 <= hits <= n and 0 < confidence < 1):
        raise ValueError(f"{hits} hits among {n} at confidence {confidence}: expected 0 <= hits <= n, 0 < confidence < 1")
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, z2 = hits / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    high = 1.0 if hits == n else min(1.0, middle + half)
    return Estimate(share, low, high, n)


def accuracy(labels_N: np.ndarray, predicted_N: np.ndarray) -> Estimate:
    """The share of right answers, with its interval."""
    _check_pairs(labels_N, predicted_N)
    return wilson(int((labels_N == predicted_N).sum()), len(labels_N))


def majority_baseline(labels_N: np.ndarray, num_classes: int) -> tuple[int, Estimate]:
    """The commonest class (the first of equally common ones), and the accuracy of always answering it."""
    _check_labels(labels_N, num_classes)
    true_K = np.bincount(labels_N, minlength=num_classes)
    commonest = int(true_K.argmax())
    return commonest, wilson(int(true_K[commonest]), len(labels_N))


def log_loss(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> float:
    """Mean of -ln(probability of the true class), as scikit-learn's log_loss on float64; never infinite.

    A probability of 0 counts as 2.2e-16 (float64's machine epsilon), so one sure and wrong answer costs 36.04.
    NaN where a probability is: a training that diverges must be able to say so.
    """
    _check_table(labels_N, probabilities_NK, probabilities_NK.shape[-1])
    return float(_losses(labels_N, probabilities_NK).mean())


def brier(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> float:
    """Mean squared distance between probabilities and truth, summed over classes: 0 (best) to 2 (sure and wrong).

    Source: G. W. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78 (1950).
    With two classes this is twice what scikit-learn's `brier_score_loss` gives by default.
    """
    _check_table(labels_N, probabilities_NK, probabilities_NK.shape[-1])
    return float(_errors(labels_N, probabilities_NK).mean())


def calibration_error(labels_N: np.ndarray, probabilities_NK: np.ndarray, bins: int = _BINS) -> float:
    """The expected calibration error: |mean confidence - share of right answers|, over bins of equal width, by their counts.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 3, with its 15 bins.
    """
    _check_table(labels_N, probabilities_NK, probabilities_NK.shape[-1])
    bin_N, gaps_N = _gaps(labels_N, probabilities_NK, bins)
    return float(np.abs(np.bincount(bin_N, gaps_N)).sum() / len(labels_N))


def auc(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> float:
    """The area under the ROC curve of each class against the rest, averaged over the classes that occur; NaN if only one does.

    The probability that a picture of the class has a larger probability of it than another picture; equal ones count half
    (Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve").
    """
    _check_table(labels_N, probabilities_NK, probabilities_NK.shape[-1])
    return float(_areas(labels_N, probabilities_NK, np.ones((1, len(labels_N))))[0])


def macro_f1(confusion_KK: np.ndarray) -> float:
    """Mean F1 of the classes that occur in the labels or the predictions, from the counts of `confusion_matrix`."""
    return _mean_f1(confusion_KK.diagonal(), confusion_KK.sum(0) + confusion_KK.sum(1))


def _bootstrap(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals over pictures drawn anew with replacement (Efron & Tibshirani 1993, chapter 13).

    Of each draw only matters how many times it has each picture (letter R: draws), so nothing is computed of a picture twice.
    """
    generator = np.random.default_rng(0)
    number, num_classes = probabilities_NK.shape
    repeats = int(np.clip(2_000_000 // probabilities_NK.size, 100, 1000))
    losses_N, errors_N = _losses(labels_N, probabilities_NK), _errors(labels_N, probabilities_NK)
    bin_N, gaps_N = _gaps(labels_N, probabilities_NK, _BINS)
    predicted_N = probabilities_NK.argmax(1)
    hits_N = predicted_N == labels_N
    found: dict[str, list[float]] = {name: [] for name in ("log_loss", "brier", "macro_f1", "auc", "ece")}
    for begin in range(0, repeats, rows := max(1, _DRAWN_AT_ONCE // number)):
        drawn = [generator.integers(number, size=number) for _ in range(begin, min(begin + rows, repeats))]
        times_RN = np.array([np.bincount(each, minlength=number) for each in drawn], float)
        found["auc"].extend(_areas(labels_N, probabilities_NK, times_RN))
        for times_N in times_RN:
            found["log_loss"].append(times_N @ losses_N / number)
            found["brier"].append(times_N @ errors_N / number)
            found["ece"].append(np.abs(np.bincount(bin_N, gaps_N * times_N)).sum() / number)
            hits_K, true_K, called_K = (
                np.bincount(classes_N, counts_N, num_classes)
                for classes_N, counts_N in ((labels_N, hits_N * times_N), (labels_N, times_N), (predicted_N, times_N))
            )
            found["macro_f1"].append(_mean_f1(hits_K, true_K + called_K))
    ends = {
        name: np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (math.nan,) * 2
        for name, values in found.items()
    }
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _losses(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> np.ndarray:
    of_true_N = probabilities_NK[np.arange(len(labels_N)), labels_N].astype(np.float64)
    return -np.log(np.clip(of_true_N, _EPSILON, 1 - _EPSILON))


def _errors(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> np.ndarray:
    errors_NK = probabilities_NK.astype(np.float64)
    errors_NK[np.arange(len(labels_N)), labels_N] -= 1
    return (errors_NK**2).sum(1)


def _gaps(labels_N: np.ndarray, probabilities_NK: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each picture, and how much its confidence is above 1 (right) or 0 (wrong)."""
    confidence_N = probabilities_NK.max(1)
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    return bin_N, confidence_N - (probabilities_NK.argmax(1) == labels_N)


def _areas(labels_N: np.ndarray, probabilities_NK: np.ndarray, times_RN: np.ndarray) -> np.ndarray:
    """`auc` of each of R sets, which have each picture so many times."""
    total_R, classes_R = np.zeros(len(times_RN)), np.zeros(len(times_RN))
    for k in np.unique(labels_N):
        order_N = probabilities_NK[:, k].argsort()
        values_N = probabilities_NK[order_N, k]
        begins = np.flatnonzero(np.append(True, values_N[1:] != values_N[:-1]))  # of pictures with the same probability
        ordered_RN, of_class_N = times_RN[:, order_N], labels_N[order_N] == k
        inside, outside = (np.add.reduceat(ordered_RN * which_N, begins, axis=1) for which_N in (of_class_N, ~of_class_N))
        won_R = (inside * (outside.cumsum(1) - outside / 2)).sum(1)
        pairs_R = inside.sum(1) * outside.sum(1)
        total_R += won_R / np.maximum(pairs_R, 1)
        classes_R += pairs_R > 0
    return np.divide(total_R, classes_R, out=np.full(len(total_R), math.nan), where=classes_R > 0)


def _mean_f1(hits_K: np.ndarray, both_K: np.ndarray) -> float:
    return float((2 * hits_K[both_K > 0] / both_K[both_K > 0]).mean())


def confusion_matrix(labels_N: np.ndarray, predicted_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (K, K), int64: rows are true, columns predicted classes."""
    _check_pairs(labels_N, predicted_N)
    _check_labels(labels_N, num_classes)
    _check_labels(predicted_N, num_classes)
    # Labels may come as uint8, in which the product would overflow from 256 on.
    pairs_N = labels_N.astype(np.int64) * num_classes + predicted_N
    return np.bincount(pairs_N, minlength=num_classes * num_classes).reshape(num_classes, num_classes)


def per_class(confusion_KK: np.ndarray, classes: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    """Precision, recall and F1 of each class, in the order of `classes`, from the counts of `confusion_matrix`."""
    if confusion_KK.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of shape {confusion_KK.shape} for {len(classes)} classes")
    found = []
    for k, name in enumerate(classes):
        hits, true, called = (int(v) for v in (confusion_KK[k, k], confusion_KK[k].sum(), confusion_KK[:, k].sum()))
        f1 = 2 * hits / (true + called) if hits else 0.0
        found.append(ClassMetrics(name, wilson(hits, called), wilson(hits, true), f1))
    return tuple(found)


def _check_pairs(labels_N: np.ndarray, predicted_N: np.ndarray) -> None:
    if labels_N.ndim != 1 or labels_N.shape != predicted_N.shape:
        raise ValueError(f"labels of shape {labels_N.shape}, predictions of shape {predicted_N.shape}: expected (N,) twice")
    if not len(labels_N):
        raise UserError("there are no pictures to evaluate on: expected at least one.")


def _check_labels(labels_N: np.ndarray, num_classes: int) -> None:
    _check_pairs(labels_N, labels_N)
    if not np.issubdtype(labels_N.dtype, np.integer):
        raise ValueError(f"class numbers of type {labels_N.dtype}: expected integers")
    if labels_N.min() < 0 or labels_N.max() >= num_classes:
        raise ValueError(f"class numbers from {labels_N.min()} to {labels_N.max()}: expected 0 to {num_classes - 1}")


def _check_table(labels_N: np.ndarray, probabilities_NK: np.ndarray, num_classes: int) -> None:
    _check_labels(labels_N, num_classes)
    if probabilities_NK.shape != (len(labels_N), num_classes):
        expected = f"expected ({len(labels_N)}, {num_classes}), a row for each label and a column for each class"
        raise ValueError(f"probabilities of shape {probabilities_NK.shape}: {expected}")


def _check_probabilities(probabilities_NK: np.ndarray) -> None:
    # Asked this way round because NaN fails every comparison.
    if not ((probabilities_NK >= 0) & (probabilities_NK <= 1 + _ROUNDING)).all():
        lowest, highest = probabilities_NK.min(), probabilities_NK.max()
        raise ValueError(f"probabilities from {lowest} to {highest}: expected finite values from 0 to 1")
    sums_N = probabilities_NK.sum(1)
    if np.abs(sums_N - 1).max() > _ROUNDING:
        raise ValueError(f"probabilities whose rows sum to {sums_N.min()} to {sums_N.max()}: expected 1")
