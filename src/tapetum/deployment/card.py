"""The model card: what a classifier is, how well it does, how to use it and where it ends.

It is Markdown for people, with Hugging Face's front matter for machines (https://huggingface.co/docs/hub/model-cards).

Names of classes are other people's text: they are escaped.
"""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapetum.deployment.words import steps
from tapetum.errors import UserError
from tapetum.inference.classifier import Classifier

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

_TEMPLATE = Path(__file__).parent / "templates" / "card.md"
_PARTS = {"val": "validation", "test": "test", "folds": "cross-validation"}


def model_card(classifier: Classifier) -> "ModelCard":
    """The card of a classifier that was read from its file.

    Raises:
        UserError: it was not measured, or huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import ModelCard, ModelCardData
    except ImportError:
        raise UserError(
            "a model card is made with huggingface_hub, which is not installed: pip install 'tapetum[hub]'."
        ) from None
    try:
        metrics, data = classifier.about["metrics"], classifier.about["data"]
        title = f"{classifier.network_name} for {len(classifier.classes_)} classes"
        front = ModelCardData(
            library_name="tapetum",
            pipeline_tag="image-classification",
            tags=["image-classification", "tapetum"],
            metrics=["accuracy"],
            model_name=title,
            eval_results=[_result(part, found) for part, found in metrics.items()],
        )
        counts = {part: f"{count:,}" for part, count in data["counts"].items()}
        return ModelCard.from_template(
            front,
            template_path=str(_TEMPLATE),
            title=escaped(title),
            classes=[escaped(name) for name in classifier.classes_],
            version=escaped(str(classifier.about["tapetum"])),
            counts=counts,
            counted=[f"{count} {part}" for part, count in counts.items() if count != "0"],
            network=classifier.network_name,
            members=classifier.to_json()["members"],
            parameters=f"{sum(p.numel() for p in classifier.network.parameters()):,}",
            side=classifier.preprocessing.size,
            parts=[_row(part, found) for part, found in metrics.items()],
            per_class=[(_PARTS[part], _class_rows(found)) for part, found in metrics.items()],
            fingerprint=re.sub(r"[^0-9a-f]", "", data["fingerprint"]),
            steps=steps(classifier.preprocessing, uint8=False),
            answer=_answer(classifier),
            strangers=_strangers(classifier),
            calibration=_calibration(classifier),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"this classifier does not say how well it does ({type(error).__name__}: {error}): expected the model of a "
            "finished training. Train anew."
        ) from error


def escaped(text: str) -> str:
    r"""A text as Markdown that shows it, in one line, and nothing else.

    >>> print(escaped("<b>1|2"), escaped("up\ndown"))
    &lt;b&gt;1\|2 up down
    """
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return re.sub(r"([\\`*_{}\[\]()#+.!|~:@-])", r"\\\1", html.escape(line, quote=False))


def _result(part: str, found: Mapping[str, Any]) -> "EvalResult":
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="image-classification",
        dataset_type="private",
        dataset_name="the pictures that it was made for",
        dataset_split=_PARTS[part],
        metric_type="accuracy",
        metric_value=round(found["accuracy"]["value"], 4),
    )


def _row(part: str, found: Mapping[str, Any]) -> list[str]:
    accuracy, intervals = found["accuracy"], found["intervals"]

    def measured(name: str) -> str:
        low, high = intervals.get(name, (None, None))
        return f"{found[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")

    return [
        _PARTS[part],
        f"{accuracy['value']:.1%}",
        f"{accuracy['low']:.1%} to {accuracy['high']:.1%}",
        f"{accuracy['n']:,}",
        f"{found['majority_baseline']['value']:.1%}",
        *(measured(name) for name in ("macro_f1", "log_loss", "ece")),
    ]


def _class_rows(found: Mapping[str, Any]) -> list[list[str]]:
    def share(estimate: Mapping[str, Any]) -> str:
        if estimate["value"] is None:
            return "no cases"
        return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%}, n = {estimate['n']:,})"

    return [[escaped(each["name"]), share(each["precision"]), share(each["recall"])] for each in found["classes"]]


def _answer(classifier: Classifier) -> str:
    views = {
        "one": "",
        "mirror": " Do so for the mirror image too, and take the mean of both.",
        "ten": f" Do so for squares of {classifier.preprocessing.size} pixels, cut from the corners and the middle, and for "
        "their mirror images, and take the mean of all ten.",
    }[classifier.preprocessing.views]
    tempered = ""
    if classifier.temperature != 1:
        tempered = f" Raise each to the power of 1 / {classifier.temperature:.6g} and divide by their sum."
    told = f"The probabilities are the softmax of the network's output.{views}{tempered}"
    return f"{told} An ONNX file of `tapetum export` does all of this."


def _strangers(classifier: Classifier) -> str:
    if not classifier.calibrating:
        return "A picture of anything else gets one of them, too."
    return (
        "A picture of anything else gets one of them, too, unless `--reject 0.05` lets it answer 'neither', which then 5 % of "
        f"the known kind get (calibrated on {classifier.calibrating:,} pictures); not every stranger is found so."
    )


def _calibration(classifier: Classifier) -> str:
    told = classifier.about.get("calibration")
    if not told:
        return "Its probabilities are not calibrated beyond what the calibration error above shows."
    return (
        f"Its probabilities are calibrated by one temperature ({told['temperature']:.2f}) on {told['n']:,} validation "
        f"pictures: calibration error {told['ece_before']:.1%} before, {told['ece_after']:.1%} after."
    )
