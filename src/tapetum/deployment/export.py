"""A run as one ONNX file, which is kept only if it says what the run said.

What was measured of a run are its predictions of pictures that did not train it. A file is written after those were made
once more: picture files, through the file's own graph and metadata, the same way as `tapetum predict` goes. In int8, where they
cannot be the same, the accuracy that it costs is measured, and limited.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.data.reading import read_pictures
from tapetum.data.samples import Samples
from tapetum.deployment import graph
from tapetum.deployment.int8 import CALIBRATING, Speeds, quantized, speeds
from tapetum.errors import UserError
from tapetum.evaluation.compare import Comparison, compared
from tapetum.evaluation.evaluate import Judged
from tapetum.evaluation.recorded import (
    Recorded,
    contents,
    find_run_pictures,
    recorded,
    refuse_changed,
    refuse_unasked,
    where_pictures,
)
from tapetum.files import refuse_inside, write_atomically
from tapetum.inference.answers import Answering
from tapetum.inference.classifier import Classifier, load
from tapetum.inference.description import MODEL_FILE
from tapetum.inference.onnx import OnnxClassifier, from_bytes, sealed
from tapetum.inference.predict import Predictions, predict_samples
from tapetum.talk import say_nothing

# A probability that is further from the run's own is another's.
TOLERANCE = 1e-4
# Pictures of which the familiarity is compared too. It falls in steps of 1 / (1 + n), and the pictures that calibrated it stand
# on the edges of these: rounding moves some by a step or two.
_FAMILIAR, _STEPS, _SHARE = 200, 2, 0.01
_WHOSE = {"val": "validation", "test": "test", "folds": "cross-validation"}


@dataclass(frozen=True)
class Agreement:
    """How exactly a file repeats a run's predictions."""

    part: str
    """Of which pictures: "val" or "test"; "folds" where there are no others, with the whole classifier's answers of today."""
    n: int
    largest: float
    """Largest difference of a probability, 0 to 1."""
    familiarity: float | None
    """Largest difference of a familiarity; None where the file knows none."""

    def text(self) -> str:
        """In a sentence."""
        whose = _WHOSE[self.part]
        told = f"the run's {self.n:,} {whose} pictures get the same labels; the largest difference of a probability is "
        return f"{told}{self.largest:.1e}" + (
            f", of a familiarity {self.familiarity:.2g}" if self.familiarity is not None else ""
        )


@dataclass(frozen=True)
class Int8:
    """What 8 bits cost and bring."""

    comparison: Comparison
    """A: in float32, B: in int8."""
    speeds: Speeds
    float_bytes: int

    @property
    def cost(self) -> float:
        """Accuracy that is lost, as a share: 0.01 is a point."""
        return 0.0 - self.comparison.difference.value

    def lines(self, size: int) -> list[str]:
        """For a terminal; `size`: bytes of the file."""
        found, took = self.comparison, self.speeds
        low, high = (-v * 100 for v in (found.difference.high, found.difference.low))
        slow = {"one at a time": took.int8_alone >= took.float_alone, "32 at once": took.int8_batch >= took.float_batch}
        slower = " and ".join(each for each, is_slow in slow.items() if is_slow)
        return [
            f"int8 costs {self.cost * 100:.1f} points (95 % interval {low:.1f} to {high:.1f}, p = {found.p:.2g}, n = "
            f"{found.difference.n:,}): {found.accuracy_b} in place of {found.accuracy_a}",
            f"a picture takes {took.int8_alone:.2f} ms in place of {took.float_alone:.2f} one at a time, {took.int8_batch:.2f} "
            f"in place of {took.float_batch:.2f} with 32 at once, on this machine"
            + (f": int8 is not faster here {slower}" if slower else ""),
            f"the file has {size / 1e6:.2f} MB in place of {self.float_bytes / 1e6:.2f}",
        ]


@dataclass(frozen=True)
class Exported:
    """A file that was accepted."""

    path: Path
    bytes: int
    agreement: Agreement
    """Of its form in float32."""
    int8: Int8 | None

    def text(self) -> str:
        """For a terminal."""
        lines = [self.agreement.text()]
        lines += self.int8.lines(self.bytes) if self.int8 is not None else []
        return "\n".join([*lines, f"written:  {self.path} ({self.bytes / 1e6:.1f} MB, opset {graph.OPSET})"])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        told: dict[str, Any] = {"onnx": str(self.path), "bytes": self.bytes, "opset": graph.OPSET, **asdict(self.agreement)}
        if self.int8 is not None:
            comparison = {name: v for name, v in self.int8.comparison.to_json().items() if name not in ("differing", "note")}
            told["int8"] = {"cost": self.int8.cost, "float_bytes": self.int8.float_bytes, **comparison}
            told["int8"]["milliseconds"] = asdict(self.int8.speeds)
        return told


def export_onnx(
    run: str | Path,
    path: str | Path,
    *,
    uint8: bool = False,
    int8: bool = False,
    max_loss: float = 0.01,
    data: str | Path | None = None,
    say: Callable[[str], None] = say_nothing,
) -> Exported:
    """Write the classifier of a finished run as one ONNX file, if that repeats the run's own predictions.

    Args:
        run: a run folder.
        path: the file to write, `NAME.onnx`.
        uint8: uint8 RGB squares (N, side, side, 3) go in, in place of normalised float32 images (N, C, side, side).
        int8: convolutions and linear layers in 8 bits, if that costs no more than `max_loss`.
        max_loss: accuracy on the run's validation pictures that int8 may cost, as a share: 0.01 is a point.
        data: where the run's pictures are now, if not where they were.
        say: takes the lines of talk.

    Raises:
        UserError: no such run, its pictures are gone or changed, a package is missing, the predictions are not repeated, or
            int8 costs too much. Nothing is written then.
    """
    run, path = Path(run), Path(path)
    if path.suffix.lower() != ".onnx":
        raise UserError(f"--onnx {path}: expected a name that ends in .onnx, by which the file is recognised.")
    if not 0 <= max_loss <= 1:
        raise UserError(f"--max-loss {max_loss}: expected a share of accuracy from 0 to 1, such as 0.01 for one point.")
    graph.refuse_missing()
    classifier = load(run, "cpu")
    graph.refuse_large(classifier)
    asked = Path(data) if data is not None else None
    place = where_pictures(run, asked)
    refuse_unasked(run, place, asked)
    refuse_inside(path, place, "ONNX file")
    part, own = own_predictions(run)
    samples = find_run_pictures(run, place, own.names)
    refuse_changed(run, samples)

    say(f"making the graph of {classifier.network_name}")
    model = graph.to_onnx(classifier, uint8, familiar=not int8)
    knows = classifier.calibrating if len(model.graph.output) > 1 else 0
    about = graph.about(classifier, run / MODEL_FILE, int8=False, calibrating=knows)
    content = sealed(model, about)
    plain = from_bytes(content, str(path))
    say(f"predicting the run's {len(samples):,} {_WHOSE[part]} pictures with it")
    found = predict_samples(plain, samples)
    if part == "folds":
        own = replace(own, probabilities_NK=predict_samples(classifier, samples).probabilities_NK)
    agreement = _agreement(part, own, found, familiarity_difference(classifier, plain, samples) if knows else None)

    cost = None
    if int8:
        say(f"measuring the activations of up to {CALIBRATING} training pictures, for int8")
        content, cost = _int8(run, place, classifier, plain, model, (own, samples, found), len(content), max_loss)
    write_atomically(path, lambda file: file.write(content))
    return Exported(path, len(content), agreement, cost)


def own_predictions(run: Path) -> tuple[str, Recorded]:
    """The run's predictions of pictures that did not train it, and their part: validation, or test, or cross-validation."""
    found = recorded(run)
    for part in ("val", "test", "folds"):
        if part in found:
            return part, found[part]
    raise UserError(f"{run / 'predictions.csv'} holds no predictions: expected those of a finished run. Train anew.")


def _agreement(part: str, own: Recorded, found: Predictions, familiarity: float | None) -> Agreement:
    difference_N = np.abs(own.probabilities_NK - found.probabilities_NK).max(1)
    worst = int(difference_N.argmax())
    others = np.flatnonzero(own.probabilities_NK.argmax(1) != found.probabilities_NK.argmax(1))
    if len(others) or difference_N[worst] > TOLERANCE:
        what = f"{len(others):,} labels are others ({own.names[others[0]]})" if len(others) else "the labels are the same"
        raise UserError(
            f"the ONNX file does not repeat the run's predictions of {len(difference_N):,} pictures: {what}, and a probability "
            f"differs by {difference_N[worst]:.2g} ({own.names[worst]}; expected: at most {TOLERANCE:g}). Nothing was written. "
            "A run of another device or version may differ so: train anew here."
        )
    return Agreement(part, len(difference_N), float(difference_N[worst]), familiarity)


def familiarity_difference(classifier: Classifier, other: Answering, samples: Samples) -> float:
    """The largest difference of a familiarity between the two, over some of the pictures.

    Raises:
        UserError: it is larger than rounding makes it.
    """
    some = _squares(classifier, samples.select(np.arange(min(_FAMILIAR, len(samples)))))
    largest = float(np.abs(classifier.familiar_squares(some)[1] - other.familiar_squares(some)[1]).max())
    if largest > _SHARE + _STEPS / (1 + classifier.calibrating):
        raise UserError(
            f"the ONNX file does not repeat how familiar the run's pictures are: one differs by {largest:.2g}, where rounding "
            "makes a step. Nothing was written. Train anew here."
        )
    return largest


def _squares(classifier: Answering, samples: Samples) -> list[np.ndarray]:
    readings = read_pictures(samples, classifier.preprocessing.reduce)
    return [classifier.prepare(reading.picture) for reading in readings if reading.picture is not None]


def _int8(
    run: Path,
    place: Path,
    classifier: Classifier,
    plain: OnnxClassifier,
    model: Any,
    judged: tuple[Recorded, Samples, Predictions],
    float_bytes: int,
    max_loss: float,
) -> tuple[bytes, Int8]:
    """The file's bytes in int8, and what that costs."""
    own, samples, found = judged
    trained = [name for name, (part, _) in contents(run).items() if part == "train"]
    chosen = np.random.default_rng(0).permutation(len(trained))[:CALIBRATING]
    squares = _squares(classifier, find_run_pictures(run, place, [trained[i] for i in chosen]))
    small = quantized(model, squares, classifier.preprocessing)
    content = sealed(small, graph.about(classifier, run / MODEL_FILE, int8=True, calibrating=0))
    lossy = from_bytes(content, "the int8 file")
    nothing_N = np.zeros(len(samples), bool)
    a, b = (Judged(own.labels_N, each, nothing_N, "") for each in (found, predict_samples(lossy, samples)))
    cost = Int8(compared(a, b), speeds(plain, lossy, squares), float_bytes)
    if cost.cost > max_loss:
        told = f"{cost.comparison.accuracy_b} in place of {cost.comparison.accuracy_a}"
        raise UserError(
            f"int8 costs {cost.cost * 100:.1f} points of accuracy ({told}): expected at most {max_loss * 100:g}. Nothing was "
            "written. Leave --int8 out, or allow more with --max-loss."
        )
    return content, cost
