"""One self-contained HTML page about a run: no script, no network, readable on a phone, in light and dark."""

from pathlib import Path

from tapetum.config import Recipe
from tapetum.evaluation.metrics import Metrics
from tapetum.inference.classifier import Classifier
from tapetum.looking.pages import picture_url, write_html

_PARTS = {"folds": "cross-validated", "val": "validation", "test": "test"}


def write_report(
    folder: Path, classifier: Classifier, found: dict[str, Metrics], seconds: float, recipe: Recipe, left_out: int
) -> Path:
    """Write `folder/report.html` from the run's metrics and pictures; the page's path comes back.

    Args:
        folder: the run folder, with its PNG files.
        classifier: the trained classifier, with its `about`.
        found: metrics by part: "val", and "test" if there is one.
        seconds: how long the training took.
        recipe: what the training did.
        left_out: how many files gave no picture.
    """
    headline = next(part for part in ("test", "val", "folds") if part in found)
    return write_html(
        "report.html",
        folder / "report.html",
        name=folder.resolve().name,
        folder=str(folder),
        classifier=classifier,
        about=classifier.about,
        headline=found[headline],
        headline_part=_PARTS[headline],
        chosen_on_it=recipe.keep == "best" and headline == "val",
        parts=[(_PARTS[part], metrics) for part, metrics in found.items()],
        figures={
            "log_loss": "log-loss",
            "brier": "Brier score",
            "macro_f1": "mean F1",
            "auc": "AUC",
            "ece": "calibration error",
        },
        recipe=recipe,
        minutes=seconds / 60,
        left_out=left_out,
        **{name: picture_url(folder / f"{name}.png") for name in ("grid", "curves", "reliability", "coverage")},
    )
