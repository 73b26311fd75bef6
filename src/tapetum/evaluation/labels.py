"""Labels that are probably wrong: where networks that did not train on a picture are sure that it is something else.

A run made with `--folds` keeps, in predictions.csv, each picture's probabilities by the one network that left it out. cleanlab
tells from them which labels to doubt (Northcutt et al. 2021, "Confident learning: estimating uncertainty in dataset labels",
JAIR 70). A doubt is no proof: some of these labels are right, and their pictures merely hard.
"""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.errors import UserError
from tapetum.evaluation.metrics import Estimate, accuracy
from tapetum.evaluation.recorded import recorded
from tapetum.files import write_csv

ONLY_GUESS = "These networks only guess: do not change labels on their word."


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is in doubt."""

    path: str
    label: str
    """As it was given."""
    looks_like: str
    """The most probable class."""
    probability: float
    """Of `looks_like`, 0 to 1, by the network that did not train on the picture."""
    probability_of_label: float


@dataclass(frozen=True)
class LabelCheck:
    """The labels of a run's training pictures, looked through."""

    run: Path
    agreement: Estimate
    """The share of labels that the networks give too; n: the pictures, each judged by a network that did not train on it."""
    suspects: tuple[Suspect, ...]
    """The likeliest mistakes first."""
    baseline: float = 0.0
    """The share of the commonest label, with which guessing would agree."""

    @property
    def only_guess(self) -> bool:
        """Whether the networks cannot be told from guessing, so that their doubts are worth nothing."""
        return bool(self.agreement.low <= self.baseline)

    def to_json(self) -> dict[str, Any]:
        """Everything, for --json."""
        return {
            "run": str(self.run),
            "agreement": self.agreement.to_json(),
            "suspects": [asdict(each) for each in self.suspects],
        }

    def headline(self) -> str:
        """What was found, in a sentence."""
        told = f"{self.agreement.n:,} pictures, each judged by a network that did not train on it:"
        count = len(self.suspects)
        if not count:
            return f"{told} no label is in doubt"
        return (
            f"{told} {count:,} {'label is' if count == 1 else 'labels are'} in doubt ({count / self.agreement.n * 100:.1f} %)"
        )

    def caution(self) -> str:
        """How far the doubts are to be trusted, in a sentence."""
        return (
            f"The networks agree with {self.agreement} of the labels; the fewer, the more of the doubts are their own mistakes."
        )

    def text(self, most: int = 20) -> str:
        """A summary for the terminal, with the `most` likeliest mistakes."""
        lines = [*([ONLY_GUESS] if self.only_guess else []), self.headline(), self.caution()]
        for each in self.suspects[:most]:
            label, likely = (f"{p * 100:.1f} %" for p in (each.probability_of_label, each.probability))
            lines.append(f"  {each.path}: labelled {each.label} ({label}), looks like {each.looks_like} ({likely})")
        if len(self.suspects) > most:
            lines.append(f"  and {len(self.suspects) - most:,} more")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write the suspects as CSV: rank, path, label, looks_like, probability, probability_of_label."""
        header = ["rank", *Suspect.__dataclass_fields__]
        write_csv(path, header, ([rank, *asdict(each).values()] for rank, each in enumerate(self.suspects, 1)))


def check_labels(run: str | Path) -> LabelCheck:
    """The labels in doubt among the pictures that `run` was trained on. Only the run folder is read, no picture.

        check_labels("runs/photos").suspects[0].path

    Raises:
        UserError: no such run, one that was made without --folds, or cleanlab is not installed.
    """
    names, classes, labels_N, probabilities_NK = judged(Path(run))
    found = [
        Suspect(
            path=names[i],
            label=classes[labels_N[i]],
            looks_like=classes[probabilities_NK[i].argmax()],
            probability=float(probabilities_NK[i].max()),
            probability_of_label=float(probabilities_NK[i, labels_N[i]]),
        )
        for i in in_doubt(labels_N, probabilities_NK)
    ]
    commonest = float(np.bincount(labels_N).max() / len(labels_N))
    return LabelCheck(Path(run), accuracy(labels_N, probabilities_NK.argmax(1)), tuple(found), commonest)


def in_doubt(labels_N: np.ndarray, probabilities_NK: np.ndarray) -> np.ndarray:
    """The indices of the labels in doubt, the likeliest mistakes first.

    Args:
        labels_N: (N,) class numbers as given.
        probabilities_NK: (N, K) by networks that did not train on the picture; rows sum to 1.

    Raises:
        UserError: cleanlab is not installed.

    >>> labels = np.array([0] * 10 + [1] * 10)
    >>> p = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    >>> p[3] = 0.02, 0.98
    >>> in_doubt(labels, p).tolist()
    [3]
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UserError(
            "doubtful labels are found with cleanlab, which is not installed: pip install 'tapetum[audit]'."
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes in which nothing is in doubt
        # One process: the work takes a moment, and a fork of threads that compute may hang.
        return find_label_issues(labels_N, probabilities_NK, return_indices_ranked_by="self_confidence", n_jobs=1)


def judged(run: Path) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, classes, labels (N,) and probabilities (N, K) of the pictures that were left out by one network each."""
    found = recorded(run).get("folds")
    if found is None:
        raise UserError(
            f"{run} was trained without --folds, so its networks may know the labels by heart: expected a run in which each "
            "picture was left out by one network. Make one with: tapetum train DATA --folds 5"
        )
    return found.names, found.classes, found.labels_N, found.probabilities_NK
