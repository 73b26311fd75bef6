"""One self-contained HTML page about a run: no script, no network, readable on a phone, in light and dark."""

import base64
from pathlib import Path

import jinja2

from tapetum.config import Recipe
from tapetum.evaluation.metrics import Metrics
from tapetum.files import write_text
from tapetum.inference.classifier import Classifier

_PARTS = {"val": "validation", "test": "test"}


def write_report(
    folder: Path, classifier: Classifier, found: dict[str, Metrics], seconds: float, recipe: Recipe, left_out: int
) -> Path:
    """Write `folder/report.html` from the run's metrics and its two pictures; the page's path comes back.

    Args:
        folder: the run folder, with grid.png and curves.png.
        classifier: the trained classifier, with its `about`.
        found: metrics by part: "val", and "test" if there is one.
        seconds: how long the training took.
        recipe: what the training did.
        left_out: how many files gave no picture.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapetum.looking"),
        autoescape=True,  # class and file names are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    headline = "test" if "test" in found else "val"
    page = environment.get_template("report.html").render(
        name=folder.resolve().name,
        folder=str(folder),
        classifier=classifier,
        about=classifier.about,
        headline=found[headline],
        headline_part=_PARTS[headline],
        chosen_on_it=recipe.keep == "best" and headline == "val",
        parts=[(_PARTS[part], metrics) for part, metrics in found.items()],
        recipe=recipe,
        minutes=seconds / 60,
        left_out=left_out,
        grid=_as_url(folder / "grid.png"),
        curves=_as_url(folder / "curves.png"),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _as_url(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
