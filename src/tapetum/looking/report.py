"""One self-contained HTML page about a run, in English or Korean: no script, no network, for phone and desktop, light and dark.

It is written from the run folder alone, after the training as well as years later. Where the pictures have gone meanwhile, or
captum is not installed, the page says so and has the rest.
"""

import dataclasses
import functools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from tapetum.config import Settings
from tapetum.data.samples import Samples
from tapetum.errors import UserError
from tapetum.evaluation.labels import LabelCheck, check_labels
from tapetum.evaluation.recorded import Recorded
from tapetum.inference.classifier import Classifier
from tapetum.inference.description import MODEL_FILE
from tapetum.inference.familiarity import members_of
from tapetum.looking import heat
from tapetum.looking.album import Album
from tapetum.looking.charts import chart
from tapetum.looking.drawing import KOREAN, drawing_caption, svg
from tapetum.looking.grids import draw_history
from tapetum.looking.pages import small_url, write_html
from tapetum.looking.story import Story, read_story
from tapetum.looking.sureness import draw_coverage, draw_reliability
from tapetum.models.summary import format_summary, last_convolution, summarize

LANGUAGES = ("en", "ko")
# How many miniatures show what the data were, in all and of a class; how many mistakes, doubtful answers and doubtful labels
# stand there; sides of their pictures in pixels.
_SHOWN, _SHOWN_OF_CLASS, _CASES, _SUSPECTS, _SIDE = 48, 6, 6, 12, 160
# A drawing of more layers than this is no help; the table of the layers is.
_MOST_LAYERS = 60


@dataclass(frozen=True)
class Case:
    """One answer, with its picture and where in the picture it comes from."""

    name: str
    label: str
    answer: str
    sure: float
    """Probability of the answer, 0 to 1."""
    sure_of_label: float
    picture: str
    """A data URL; empty where the picture is gone. So is `heat`, and where there is no heat map."""
    heat: str


def write_report(
    folder: Path,
    out: Path | None = None,
    lang: str = "en",
    data: Path | None = None,
    classifier: Classifier | None = None,
    samples: Samples | None = None,
) -> Path:
    """Write the page about the run in `folder`; the page's path comes back.

    Args:
        folder: the folder of a finished run.
        out: the page; by default `folder/report.html`.
        lang: one of `LANGUAGES`.
        data: where the run's pictures are now; by default where they were.
        classifier: the run's, where it is at hand: it need not be loaded.
        samples: the run's data, where they are at hand: they need not be looked for.

    Raises:
        UserError: no finished run is there, or the page cannot be written.
    """
    story = read_story(folder, classifier)
    classifier = story.classifier
    about = classifier.about
    found = about.get("metrics") or {}
    part = next((each for each in ("test", "val", "folds") if each in found), None)
    if part is None:
        raise UserError(f"{folder / MODEL_FILE} tells no metrics: expected the model of a finished training. Train anew.")
    album = Album(data, story.sha256, samples, story.origin)
    answers = story.answers.get(part)
    worst, doubtful = _worth_a_look(answers) if answers else ([], [])
    cases, without_heat = _cases(story, album, answers, [*worst, *doubtful]) if answers else ([], "")
    summary = summarize(members_of(classifier.network)[0], classifier.preprocessing.channels, classifier.preprocessing.size)
    drawing, caption = _network(story, summary, lang)
    return write_html(
        "report.html",
        folder / "report.html" if out is None else out,
        lang=lang,
        story=story,
        name=folder.resolve().name,
        folder=shlex.quote(str(folder)),
        in_python=repr(str(folder)),
        origin=shlex.quote(story.origin or "DATA"),
        classifier=classifier,
        about=about,
        found=found,
        part=part,
        chosen_on_it=story.decided.get("keep") == "best" and part in ("val", "folds"),
        ended_early=story.asked.get("minutes", "auto") != "auto" and about["training"]["epochs"] < story.decided["epochs"],
        counts=story.counts(),
        album=album,
        shown=_miniatures(story, album),
        draw=_drawings(story, answers),
        answers=answers,
        worst=cases[: len(worst)],
        doubtful=cases[len(worst) :],
        without_heat=without_heat,
        suspects=_suspects(story, album),
        summary=summary,
        layers=format_summary(summary),
        drawing=drawing,
        drawing_caption=caption,
        megabytes=(folder / MODEL_FILE).stat().st_size / 1e6,
        command=_command(story),
    )


def _worth_a_look(answers: Recorded) -> tuple[list[int], list[int]]:
    """The surest of the wrong answers, and the least sure of all others: their rows."""
    sure_N = answers.probabilities_NK.max(1)
    wrong_N = answers.probabilities_NK.argmax(1) != answers.labels_N
    worst = [int(i) for i in np.argsort(-sure_N, kind="stable") if wrong_N[i]][:_CASES]
    return worst, [int(i) for i in np.argsort(sure_N, kind="stable") if i not in worst][:_CASES]


def _cases(story: Story, album: Album, answers: Recorded, rows: Sequence[int]) -> tuple[list[Case], str]:
    """The answers of these rows, and what keeps them from having heat maps: "captum", "layer", or nothing."""
    pictures = {i: picture for i in rows if (picture := album.picture(answers.names[i])) is not None}
    heats, without = _heats(story.classifier, answers, pictures)
    found = []
    for i in rows:
        p_K, label = answers.probabilities_NK[i], int(answers.labels_N[i])
        names = answers.names[i], story.classifier.classes_[label], story.classifier.classes_[int(p_K.argmax())]
        view = heat.shown(pictures[i], story.classifier.preprocessing) if i in pictures else None
        urls = (
            small_url(view, _SIDE) if view is not None else "",
            small_url(heat.painted(view, heats[i]), _SIDE) if view is not None and i in heats else "",
        )
        found.append(Case(*names, float(p_K.max()), float(p_K[label]), *urls))
    return found, without


def _heats(classifier: Classifier, answers: Recorded, pictures: dict[int, np.ndarray]) -> tuple[dict[int, np.ndarray], str]:
    """Heat (S, S) of the answer to each picture, by the networks that gave it."""
    try:
        heat.refuse_without_captum()
    except UserError:
        return {}, "captum"
    members, preprocessing = members_of(classifier.network), classifier.preprocessing
    if not last_convolution(members[0], preprocessing.channels, preprocessing.size):
        return {}, "layer"
    found: dict[int, np.ndarray] = {}
    for number in np.unique(answers.network_N[list(pictures)]):
        rows = [i for i in pictures if answers.network_N[i] == number]
        network = classifier.network if number < 0 else members[number]
        inputs_BCHW = heat.inputs([pictures[i] for i in rows], preprocessing, classifier.device)
        heats = heat.gradcam(network, inputs_BCHW, answers.probabilities_NK[rows].argmax(1).tolist())
        found |= dict(zip(rows, heats, strict=True))
    return found, ""


def _miniatures(story: Story, album: Album) -> dict[str, list[tuple[str, str]]]:
    """Some pictures of each class, by name and data URL; of the first classes where there are very many."""
    each = max(1, min(_SHOWN_OF_CLASS, _SHOWN // len(story.classifier.classes_)))
    by_class: dict[str, list[str]] = {name: [] for name in story.classifier.classes_[:_SHOWN]}
    for path, label, _ in story.pictures:
        if label in by_class:
            by_class[label].append(path)
    found = {}
    for label, paths in by_class.items():
        some = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, each).astype(int))] if paths else []
        looked = [(path, album.picture(path)) for path in some]
        found[label] = [(path, small_url(picture)) for path, picture in looked if picture is not None]
    return found


def _drawings(story: Story, answers: Recorded | None) -> dict[str, Callable[[str], Markup]]:
    """The charts, as functions of the sentence that stands for them; where their figures are missing, there is none."""
    found: dict[str, Callable] = {}
    if story.history:
        found |= {name: functools.partial(draw_history, history=story.history, name=name) for name in ("loss", "accuracy")}
    if answers:
        for name, draw in (("reliability", draw_reliability), ("coverage", draw_coverage)):
            found[name] = functools.partial(draw, labels_N=answers.labels_N, probabilities_NK=answers.probabilities_NK)
    return {name: functools.partial(chart, draw) for name, draw in found.items()}


def _suspects(story: Story, album: Album) -> tuple[LabelCheck, list[tuple[Any, str]]] | str | None:
    """Labels in doubt and the first of them with their pictures; "cleanlab" where that is missing; None without folds."""
    if "folds" not in story.answers:
        return None
    try:
        found = check_labels(story.folder)
    except UserError:  # the table has been read already: it is cleanlab
        return "cleanlab"
    first = [(each, album.picture(each.path)) for each in found.suspects[:_SUSPECTS]]
    return found, [(each, small_url(picture) if picture is not None else "") for each, picture in first]


def _network(story: Story, summary: Any, lang: str) -> tuple[Markup, str]:
    """The network drawn to scale, and what is said below it; empty where it has so many layers that nobody would see any."""
    if len(summary.rows) > _MOST_LAYERS:
        return Markup(""), ""
    network, preprocessing = members_of(story.classifier.network)[0], story.classifier.preprocessing
    crossings = getattr(network, "crossings", ())
    words = KOREAN if lang == "ko" else {}
    name = story.classifier.network_name
    told = drawing_caption(summary, preprocessing.channels, preprocessing.size, crossings, words)
    return Markup(svg(summary, preprocessing.channels, preprocessing.size, name, crossings, {**words, "note": ""})), told


def _command(story: Story) -> str:
    """The command that made the run: its data, and every setting that is not the default."""
    usual = {field.name: field.default for field in dataclasses.fields(Settings)}
    flags = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in story.asked.items()
        if value != usual.get(name)
    ]
    return " ".join(["tapetum train", shlex.quote(story.origin or "DATA"), *flags])
