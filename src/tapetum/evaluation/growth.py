"""Accuracy against the number of pictures: a power law of the error, how sure it is, and what twice the pictures would bring.

err(n) = a n^-b + c, the law that learning curves follow between guessing and the error that no picture mends (Hestness et al.
2017, "Deep learning scaling is predictable, empirically"). c is left out (0) unless the trainings tell it: by the corrected
criterion of Akaike (AICc), which asks more of a further number the fewer trainings there are.

Its uncertainty is a bootstrap with two parts, because the trainings are uncertain in two ways. The pictures that judge are
drawn anew, the same ones for all trainings, since they judged all of them; and the trainings' own scatter (which pictures
trained, which seed) is drawn from the residuals of all sizes, since three seeds a size would be too few to draw from. Each draw
chooses anew whether there is a c. Covariances of least squares would know nothing of the first part nor of the choice.

Letters in names: M trainings, N pictures that judge, B bootstrap draws, G exponents that are tried.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tapetum.evaluation.metrics import Estimate, mean_interval, wilson

# Exponents that are tried: without c also such under which the error rises, so that chance can show itself.
_PLAIN, _LEVELLED = np.linspace(-0.5, 2.0, 501), np.linspace(0.1, 2.0, 381)
_DRAWS = 2000
# A law has two numbers, and its fit must be able to fail; c is asked for from one more size on.
_LEAST_SIZES, _SIZES_FOR_C = 3, 4
# A size at which networks err on fewer pictures, over all seeds, tells the law nothing: among the pictures drawn anew for the
# bootstrap those would too often (more than 2.5 %, e^-3 = 5 %) be none at all, and an error of 0 has no exponent.
_LEAST_WRONG = 4
# A gain of less than this is hardly one.
_HARDLY = 0.01


@dataclass(frozen=True)
class Point:
    """One training."""

    size: int
    """Pictures that trained."""
    seed: int
    right_N: np.ndarray
    """(N,) which of the judging pictures it named right; the same pictures for all points."""
    epochs: int
    seconds: float

    @property
    def error(self) -> float:
        """Share of wrong answers."""
        return 1 - float(self.right_N.mean())


@dataclass(frozen=True)
class Law:
    """err(n) = a n^-b + c, and bootstrap draws of it."""

    a: float
    b: float
    c: float
    draws_B3: np.ndarray
    """(B, 3) a, b, c of each draw."""
    sizes: tuple[int, ...]
    """The sizes that it was fitted to."""

    def error(self, size: int) -> Estimate:
        """The expected error of a training on `size` pictures, with its 95 % interval; n: sizes that the law was fitted to."""
        return self._estimate(_at((self.a, self.b, self.c), size), _at(self.draws_B3.T, size))

    def gain(self, size: int, more: int) -> Estimate:
        """How much more accurate a training on `more` pictures would be than on `size`."""
        found = [_at(law, size) - _at(law, more) for law in ((self.a, self.b, self.c), self.draws_B3.T)]
        return self._estimate(*found)

    def interval(self, name: str) -> tuple[float, float]:
        """The 95 % interval of "a", "b" or "c"."""
        low, high = np.percentile(self.draws_B3[:, "abc".index(name)], [2.5, 97.5])
        return float(low), float(high)

    def _estimate(self, value: Any, draws_B: Any) -> Estimate:
        low, high = np.percentile(draws_B, [2.5, 97.5])
        return Estimate(float(value), float(low), float(high), len(self.sizes))


@dataclass(frozen=True)
class Growth:
    """What the trainings tell of the number of pictures."""

    data: str
    how: str
    """Network, size and effort, in words."""
    points: tuple[Point, ...]
    largest: int
    """All pictures that may train."""
    baseline: float
    """Accuracy of always giving the commonest answer of the judging pictures."""
    law: Law | None
    """None where the trainings are too few to tell."""
    note: str
    """What was left out, or why there is no law."""

    @property
    def judges(self) -> int:
        """Pictures that judge."""
        return len(self.points[0].right_N)

    def sizes(self) -> list[tuple[int, Estimate]]:
        """Mean accuracy at each size: over seeds with Student's interval (n: seeds), of one seed Wilson's (n: pictures).

        Student's knows only how the seeds differ. The same pictures judged all of them, so it is no narrower than Wilson's.
        """
        found = []
        for size in sorted({point.size for point in self.points}):
            rights = [point.right_N for point in self.points if point.size == size]
            means = np.array([right.mean() for right in rights])
            one = len(rights) == 1
            found.append((size, wilson(int(rights[0].sum()), self.judges) if one else self._no_narrower(mean_interval(means))))
        return found

    @property
    def verdict(self) -> str:
        """The answer in words."""
        if self.law is None:
            return f"Whether more pictures would help cannot be told: {self.note}"
        gain = self.law.gain(self.largest, 2 * self.largest)
        told = f"{gain.value * 100:+.1f} points ({gain.low * 100:.1f} to {gain.high * 100:.1f})"
        twice = f"Twice the pictures ({2 * self.largest:,})"
        if gain.high < _HARDLY:
            return f"{twice} would hardly help: {told}."
        if gain.low <= 0:
            return f"{twice} might help or not: {told}. More --seeds, or more --minutes, could tell."
        return f"{twice} would bring about {told}."

    def formula(self) -> str:
        """The law with its numbers and their intervals."""
        if self.law is None:
            return ""
        law, c = self.law, f" + {self.law.c:.3f}" if self.law.c else ""
        b = "b {:.2f} to {:.2f}".format(*law.interval("b"))
        level = "c {:.3f} to {:.3f}".format(*law.interval("c"))
        where = f"from {law.sizes[0]:,} to {law.sizes[-1]:,} pictures"
        return f"error = {law.a:.3g} n^{-law.b:.3f}{c} ({b}, {level}, 95 % intervals; {where})"

    def predictions(self) -> list[tuple[int, Estimate, Estimate]]:
        """Twice and four times the pictures: how many, the accuracy, and the gain over all pictures of now."""
        if self.law is None:
            return []
        found = []
        for size in (2 * self.largest, 4 * self.largest):
            error = self.law.error(size)
            accuracy = Estimate(1 - error.value, 1 - error.high, 1 - error.low, error.n)
            found.append((size, self._no_narrower(accuracy), self.law.gain(self.largest, size)))
        return found

    def _no_narrower(self, accuracy: Estimate) -> Estimate:
        """An accuracy with an interval that holds Wilson's over the pictures that judge."""
        share = min(1.0, max(0.0, accuracy.value))
        least = wilson(share * self.judges, self.judges)
        return Estimate(share, max(0.0, min(accuracy.low, least.low)), min(1.0, max(accuracy.high, least.high)), accuracy.n)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.how}; judged on {self.judges:,} pictures that trained nothing", ""]
        for size, found in self.sizes():
            seeds = sum(point.size == size for point in self.points)
            lines.append(f"{size:>9,} pictures  {_range(found)}  ({seeds} {'seed' if seeds == 1 else 'seeds'})")
        for size, accuracy, gain in self.predictions():
            lines.append(f"{size:>9,} expected  {_range(accuracy)}  {gain.value * 100:+.1f} points")
        lines += ["", *([self.formula(), self.note] if self.law is not None else []), self.verdict]
        return "\n".join(line for i, line in enumerate(lines) if line or i == 1 or lines[i - 1])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        law = self.law
        return {
            "data": self.data,
            "how": self.how,
            "judged_on": self.judges,
            "largest": self.largest,
            "baseline": self.baseline,
            "sizes": [{"size": size, "accuracy": found.to_json()} for size, found in self.sizes()],
            "law": law and {**{x: getattr(law, x) for x in "abc"}, **{f"{x}_interval": law.interval(x) for x in "abc"}},
            "predictions": [
                {"size": size, "accuracy": accuracy.to_json(), "gain": gain.to_json()}
                for size, accuracy, gain in self.predictions()
            ],
            "note": self.note,
            "verdict": self.verdict,
        }


def growth(data: str, how: str, points: tuple[Point, ...], largest: int, baseline: float) -> Growth:
    """What these trainings tell; sizes at which the networks only guess are left out of the law.

    Between a few pictures and the first that teach something the error hardly falls, and follows no power law. There is no law
    either where hardly any picture is named wrong; of the largest size, from which it foretells, least of all.
    """
    judges = len(points[0].right_N)
    used: list[int] = []
    left: list[int] = []
    for size in sorted({point.size for point in points}):
        mean = float(np.mean([1 - point.error for point in points if point.size == size]))
        (used if wilson(round(mean * judges), judges).low > baseline else left).append(size)
    note = f"Not better than guessing, and left out: {', '.join(f'{size:,}' for size in left)} pictures." if left else ""
    if len(used) < _LEAST_SIZES:
        note = (
            f"{('no size is', '1 size is', '2 sizes are')[len(used)]} better than guessing on {judges:,} pictures, expected "
            f"{_LEAST_SIZES} or more. Use more "
            "pictures, larger --sizes, or more --minutes."
        )
        return Growth(data, how, points, largest, baseline, None, note)
    erring = [size for size in used if _wrong(points, size) >= _LEAST_WRONG]
    if len(erring) < _LEAST_SIZES or used[-1] not in erring:
        few = ", ".join(f"{size:,}" for size in used if size not in erring)
        note = (
            f"networks that {few} pictures trained are wrong about fewer than {_LEAST_WRONG} of the {judges:,} that judge; "
            f"expected {_LEAST_SIZES} sizes that are wrong about more, the largest among them. The pictures that judge are too "
            "few (use a larger --test or test part), or the task is too easy for them."
        )
        return Growth(data, how, points, largest, baseline, None, note)
    law = fit_law([point for point in points if point.size in used])
    return Growth(data, how, points, largest, baseline, law, note)


def _wrong(points: tuple[Point, ...], size: int) -> int:
    """How many of the judging pictures a training on `size` pictures has named wrong, whatever its seed."""
    return int((~np.stack([point.right_N for point in points if point.size == size])).any(0).sum())


def fit_law(points: list[Point], draws: int = _DRAWS, seed: int = 0) -> Law:
    """The power law through these trainings, by least squares in which small errors count for more, with its bootstrap.

    >>> rights = [np.arange(1000) >= 1000 * 2 * n**-0.5 for n in (16, 64, 256, 1024)]
    >>> law = fit_law([Point(n, 0, right, 1, 1.0) for n, right in zip((16, 64, 256, 1024), rights)])
    >>> round(law.b, 2), law.c
    (0.5, 0.0)
    """
    sizes_M = np.array([point.size for point in points], float)
    right_MN = np.stack([point.right_N for point in points]).astype(np.float64)
    errors_M = 1 - right_MN.mean(1)
    means = {size: errors_M[sizes_M == size].mean() for size in sizes_M}
    spread_M = np.sqrt(np.clip([means[size] * (1 - means[size]) for size in sizes_M], 1e-4, None))
    (law,) = _fit(sizes_M, errors_M[None], spread_M)

    generator = np.random.default_rng(seed)
    judges = right_MN.shape[1]
    drawn_BN = generator.multinomial(judges, np.full(judges, 1 / judges), size=draws)
    fitted_M = _at(law, sizes_M)
    free = len(points) - (3 if law[2] else 2)
    rest_M = (errors_M - fitted_M) / spread_M
    rest_M = (rest_M - rest_M.mean()) * np.sqrt(len(points) / free)  # a fit hides some of the scatter
    scatter_BM = generator.choice(rest_M, size=(draws, len(points))) * spread_M
    shift_BM = (1 - drawn_BN @ right_MN.T / judges) - errors_M
    draws_B3 = _fit(sizes_M, np.clip(fitted_M + shift_BM + scatter_BM, 0, 1), spread_M)
    a, b, c = map(float, law)
    return Law(a, b, c, draws_B3, tuple(sorted({point.size for point in points})))


def _fit(sizes_M: np.ndarray, errors_BM: np.ndarray, spread_M: np.ndarray) -> np.ndarray:
    """(B, 3) a, b, c for each row: for every exponent a and c follow from linear equations, and the best exponent is taken."""
    plain, plain_rest = _best(_PLAIN, sizes_M, errors_BM, spread_M, level=False)
    if len(np.unique(sizes_M)) < _SIZES_FOR_C or len(sizes_M) < 6:  # AICc divides by the trainings less five
        return plain
    levelled, levelled_rest = _best(_LEVELLED, sizes_M, errors_BM, spread_M, level=True)
    count = len(sizes_M)
    scores = [
        count * np.log(np.maximum(rest, 1e-12) / count) + 2 * k + 2 * k * (k + 1) / (count - k - 1)
        for rest, k in ((plain_rest, 3), (levelled_rest, 4))  # the scatter is a number that is fitted, too
    ]
    return np.where((scores[1] < scores[0])[:, None], levelled, plain)


def _best(
    exponents_G: np.ndarray, sizes_M: np.ndarray, errors_BM: np.ndarray, spread_M: np.ndarray, level: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(B, 3) the best law of each row, with c or without, and (B,) the sum of its weighted squares."""
    weight_M = spread_M**-2
    x_GM = (sizes_M / sizes_M.mean()) ** -exponents_G[:, None]  # near 1, so that sums keep their digits
    xx_G, xe_BG = (weight_M * x_GM**2).sum(1), (errors_BM * weight_M) @ x_GM.T
    ee_B = (weight_M * errors_BM**2).sum(1)
    if level:
        x_G, one, e_B = (weight_M * x_GM).sum(1), weight_M.sum(), (errors_BM * weight_M).sum(1)
        determinant_G = xx_G * one - x_G**2
        a_BG = (xe_BG * one - x_G * e_B[:, None]) / determinant_G
        c_BG = (xx_G * e_B[:, None] - x_G * xe_BG) / determinant_G
        rest_BG = ee_B[:, None] - a_BG * xe_BG - c_BG * e_B[:, None]
        rest_BG = np.where((a_BG >= 0) & (c_BG >= 0), rest_BG, np.inf)
    else:
        a_BG = xe_BG / xx_G
        c_BG = np.zeros_like(a_BG)
        rest_BG = ee_B[:, None] - a_BG * xe_BG
    rows, best = np.arange(len(errors_BM)), rest_BG.argmin(1)
    b_B = exponents_G[best]
    a_B = a_BG[rows, best] * sizes_M.mean() ** b_B
    return np.stack([a_B, b_B, c_BG[rows, best]], 1), rest_BG[rows, best]


def _at(law: Any, size: Any) -> Any:
    a, b, c = law
    return a * np.asarray(size, float) ** -b + c


def _range(found: Estimate) -> str:
    return f"{found.value * 100:5.1f} % ({found.low * 100:.1f} to {found.high * 100:.1f})"
