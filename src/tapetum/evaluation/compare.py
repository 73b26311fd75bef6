"""Two classifiers on the same pictures: which is better, by how much, and whether chance alone would do it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from tapetum.errors import UserError
from tapetum.evaluation.evaluate import Judged, judged_on
from tapetum.evaluation.metrics import Estimate, accuracy, wilson
from tapetum.inference.answers import BATCH
from tapetum.talk import counted


@dataclass(frozen=True)
class Comparison:
    """Two classifiers, A and B, on n pictures."""

    accuracy_a: Estimate
    accuracy_b: Estimate
    difference: Estimate
    """Accuracy of B less that of A, with its 95 % interval (Newcombe 1998); n: pictures."""
    only_a: int
    """Pictures that A alone has right."""
    only_b: int
    p: float
    """McNemar's exact test, two-sided: how often chance alone would part them so, were both equally good."""
    differing: tuple[tuple[str, str, str, str], ...]
    """Path, true class, A's and B's answer where the answers differ."""
    note: str

    def text(self, most: int = 20, all_of_them: str = "--out writes all") -> str:
        """For a terminal, with `most` of the pictures on which they differ; the rest is where `all_of_them` says."""
        points = ", ".join(f"{v * 100:+.1f}" for v in (self.difference.low, self.difference.high))
        lines = [
            f"A         {self.accuracy_a}",
            f"B         {self.accuracy_b}",
            f"B less A  {self.difference.value * 100:+.1f} points (95 % interval {points}, n = {self.difference.n:,})",
            f"right: A alone {self.only_a:,}, B alone {self.only_b:,}; p = {self.p:.3g} (McNemar, exact)",
            self.verdict,
        ]
        if self.note:
            lines.append(self.note)
        if self.differing:
            lines.append(f"\n{counted(len(self.differing), 'picture')} with different answers (true: A, B):")
            lines += [f"  {name} ({label}: {a}, {b})" for name, label, a, b in self.differing[:most]]
            if len(self.differing) > most:
                lines.append(f"  and {len(self.differing) - most:,} more ({all_of_them})")
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """The answer in words, at the usual 5 %."""
        if self.p >= 0.05:
            return "No difference is shown: chance alone parts two equally good classifiers so, or more, too often."
        return f"{'B' if self.only_b > self.only_a else 'A'} is better; chance alone would seldom do that."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "accuracy_a": self.accuracy_a.to_json(),
            "accuracy_b": self.accuracy_b.to_json(),
            "difference": self.difference.to_json(),
            "only_a": self.only_a,
            "only_b": self.only_b,
            "mcnemar_p": self.p,
            "differing": [dict(zip(("path", "label", "a", "b"), row, strict=True)) for row in self.differing],
            "note": self.note,
        }


def compare(
    run_a: str | Path, run_b: str | Path, data: str | Path, numbers: str = "all", batch: int = BATCH, on: str = "auto"
) -> Comparison:
    """Compare two runs on labelled pictures; those that either was trained on are left out.

    Args:
        run_a: a run folder, or a model or ONNX file.
        run_b: another one with the same classes.
        data: as for `evaluate`, and so are `numbers`, `batch` and `on`.
        numbers: a range of file numbers such as "251-1000", or "all".
        batch: pictures computed at once.
        on: the device to compute on.

    Raises:
        UserError: no such run or data, other classes, or no picture that neither was trained on.
    """
    a, b = (judged_on(run, data, numbers, batch, on) for run in (run_a, run_b))
    if set(a.predictions.classes) != set(b.predictions.classes):
        raise UserError(
            f"{run_a} knows {', '.join(a.predictions.classes)} and {run_b} {', '.join(b.predictions.classes)}: expected the "
            "same classes. Compare runs of the same data."
        )
    if (a.seen | b.seen).all():
        raise UserError(
            f"all {len(a.seen):,} pictures of {data} were in a training: nothing to compare on. Use other pictures."
        )
    return compared(a, b)


def compared(a: Judged, b: Judged) -> Comparison:
    """The comparison of two classifiers' answers for the same pictures, of which at least one trained neither."""
    new = ~(a.seen | b.seen)
    note = "" if new.all() else f"Left out: {counted((~new).sum(), 'picture')} that one of them was trained on."
    classes = np.array(a.predictions.classes)
    true = classes[a.labels][new]
    said_a, said_b = (np.array(x.predictions.classes)[x.predictions.probabilities_NK.argmax(1)][new] for x in (a, b))
    right_a, right_b = said_a == true, said_b == true
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    names = np.array(a.predictions.names, object)[new]
    return Comparison(
        accuracy_a=accuracy(np.zeros(len(true), int), (~right_a).astype(int)),
        accuracy_b=accuracy(np.zeros(len(true), int), (~right_b).astype(int)),
        difference=paired_difference(int((right_a & right_b).sum()), only_b, only_a, int((~right_a & ~right_b).sum())),
        only_a=only_a,
        only_b=only_b,
        p=float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
        differing=tuple(zip(*(values[said_a != said_b] for values in (names, true, said_a, said_b)), strict=True)),
        note=f"{a.note} {note}".strip(),
    )


def paired_difference(both: int, first: int, second: int, neither: int) -> Estimate:
    """The difference of two shares of the same n cases and its 95 % interval.

    Args:
        both: cases with both.
        first: cases with the first alone.
        second: cases with the second alone.
        neither: cases with neither.

    Source: R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data,
    Statistics in Medicine 17 (1998), 2635-2650, method 10.

    >>> print(paired_difference(36, 12, 2, 0))
    20.0 % (5.7 to 34.0, n = 50)
    """
    n = both + first + second + neither
    one, other = wilson(both + first, n), wilson(both + second, n)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    surplus = both * neither - first * second
    phi = 0.0
    if product:
        corrected = max(surplus - n / 2, 0) if surplus > 0 else surplus
        phi = corrected / math.sqrt(product)
    difference = one.value - other.value

    def half(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    return Estimate(
        difference,
        difference - half(one.value - one.low, other.high - other.value),
        difference + half(one.high - one.value, other.value - other.low),
        n,
    )
