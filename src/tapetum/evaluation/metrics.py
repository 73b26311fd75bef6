"""Arrays in, numbers out: accuracy and the rest, each with n and, where there is one, a 95 % interval. Knows nothing of torch.

Letters in names: N pictures, K classes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapetum.errors import UserError

# The 97.5 % point of the normal distribution: a 95 % interval has two such sides.
_Z95 = 1.959963984540054
# Probabilities are kept this far from 0 before their logarithm is taken, as scikit-learn does for float64.
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Estimate:
    """A share of n cases and its 95 % interval.

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
    """Of what was called this class, the share that is. n: how often it was called."""
    recall: Estimate
    """Of what is this class, the share that was called so. n: how many there are."""
    f1: float
    """Harmonic mean of both; 0 where there is no hit."""


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
            "classes": [
                {"name": c.name, "precision": c.precision.to_json(), "recall": c.recall.to_json(), "f1": c.f1}
                for c in self.classes
            ],
            "confusion": self.confusion_KK.tolist(),
        }


def evaluate(labels_N: np.ndarray, probabilities_NK: np.ndarray, classes: tuple[str, ...]) -> Metrics:
    """All metrics of the predictions `probabilities_NK` (rows sum to 1) against the true `labels_N` (class numbers).

    Raises:
        UserError: there are no pictures.
        ValueError: shapes or values that no classifier gives.
    """
    if len(labels_N) == 0:
        raise UserError("there are no pictures to evaluate on: expected at least one.")
    if probabilities_NK.shape != (len(labels_N), len(classes)) or not np.isfinite(probabilities_NK).all():
        raise ValueError(f"probabilities of shape {probabilities_NK.shape} for {len(labels_N)} labels, {len(classes)} classes")
    predicted_N = probabilities_NK.argmax(1)
    confusion_KK = confusion_matrix(labels_N, predicted_N, len(classes))
    true_K, called_K = confusion_KK.sum(1), confusion_KK.sum(0)
    per_class = tuple(
        _class_metrics(name, int(confusion_KK[k, k]), int(true_K[k]), int(called_K[k])) for k, name in enumerate(classes)
    )
    commonest = int(true_K.argmax())
    truth_NK = np.eye(len(classes))[labels_N]
    return Metrics(
        accuracy=accuracy(labels_N, predicted_N),
        majority=classes[commonest],
        baseline=wilson(int(true_K[commonest]), len(labels_N)),
        log_loss=log_loss(labels_N, probabilities_NK),
        brier=float(((probabilities_NK - truth_NK) ** 2).sum(1).mean()),
        macro_f1=float(np.mean([c.f1 for c, t, p in zip(per_class, true_K, called_K, strict=True) if t + p > 0])),
        classes=per_class,
        confusion_KK=confusion_KK,
    )


def wilson(hits: int, n: int) -> Estimate:
    """A share with its Wilson score interval (Wilson 1927), 95 %; honest for few cases and for shares near 0 and 1.

    >>> wilson(8, 10).low, wilson(8, 10).high
    (0.4901624715366664, 0.9433178485456247)
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    share, z2 = hits / n, _Z95 * _Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def accuracy(labels_N: np.ndarray, predicted_N: np.ndarray) -> Estimate:
    """The share of right answers, with its interval."""
    return wilson(int((labels_N == predicted_N).sum()), len(labels_N))


def log_loss(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> float:
    """Mean of -ln(probability of the true class), as scikit-learn's log_loss; never infinite."""
    of_true = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return float(-np.log(np.clip(of_true, _EPSILON, 1 - _EPSILON)).mean())


def confusion_matrix(labels_N: np.ndarray, predicted_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (K, K): rows are true, columns predicted classes."""
    pairs = np.bincount(labels_N * num_classes + predicted_N, minlength=num_classes * num_classes)
    return pairs.reshape(num_classes, num_classes)


def _class_metrics(name: str, hits: int, true: int, called: int) -> ClassMetrics:
    return ClassMetrics(name, wilson(hits, called), wilson(hits, true), 2 * hits / (true + called) if hits else 0.0)
