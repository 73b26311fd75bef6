"""Whether probabilities mean what they say, and the one number that mends them if not.

Letters in names: N pictures, K classes, M bins.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from tapetum.evaluation.metrics import log_loss
from tapetum.inference.answers import temper

# Temperatures beyond these mean that nothing can be learnt of them.
_COLDEST, _HOTTEST = 0.2, 10.0
# From so few pictures a temperature would be chance.
LEAST = 30
_FOLDS = 5


def fit_temperature(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> float:
    """The temperature T with which p^(1/T), divided by its sum, has the least log-loss; of less than `LEAST` pictures chance.

    One view's p^(1/T) is the softmax of its logits over T (Guo et al. 2017, "On calibration of modern neural networks",
    section 4.2); for several views or networks it is their mean that is tempered. Which class is the most probable, and so the
    accuracy, does not change.
    """
    found = minimize_scalar(
        lambda logarithm: log_loss(labels_N, temper(probabilities_NK, np.exp(logarithm))),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def cross_tempered(labels_N: np.ndarray, probabilities_NK: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities (N, K) tempered as `fit_temperature` would, each picture's by the other four fifths alone.

    What calibration gains may not be judged on the pictures that the temperature was fitted to.
    """
    fold_N = np.random.default_rng(seed).permutation(len(labels_N)) % _FOLDS
    tempered_NK = probabilities_NK.copy()
    for fold in range(_FOLDS):
        rest = fold_N != fold
        tempered_NK[~rest] = temper(probabilities_NK[~rest], fit_temperature(labels_N[rest], probabilities_NK[rest]))
    return tempered_NK


def reliability(labels_N: np.ndarray, probabilities_NK: np.ndarray, bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean confidence, share of right answers, and count of each bin of equal width that has pictures, for a diagram."""
    confidence_N, right_N = probabilities_NK.max(1), probabilities_NK.argmax(1) == labels_N
    place_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    return [
        (float(confidence_N[place_N == m].mean()), float(right_N[place_N == m].mean()), int((place_N == m).sum()))
        for m in np.unique(place_N)
    ]


def coverage_risk(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """If only the surest answers were given: the share of pictures answered (N,), and the share of wrong ones among them (N,).

    >>> coverage, risk = coverage_risk(np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))
    >>> coverage.round(2).tolist(), risk.round(2).tolist()
    ([0.33, 0.67, 1.0], [0.0, 0.0, 0.33])
    """
    # Equally sure answers stand in no order: each counts as their mean.
    _, place_N, counts = np.unique(-probabilities_NK.max(1), return_inverse=True, return_counts=True)
    wrong = np.bincount(place_N, probabilities_NK.argmax(1) != labels_N) / counts
    counts_N = np.arange(1, len(labels_N) + 1)
    return counts_N / max(1, len(labels_N)), np.repeat(wrong, counts).cumsum() / counts_N
