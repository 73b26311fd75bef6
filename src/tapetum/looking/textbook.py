"""The page of the study notes' story, in English or Korean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tapetum import models
from tapetum.data.samples import SPLITS, Samples
from tapetum.evaluation.metrics import Estimate, wilson
from tapetum.looking.drawing import KOREAN, svg
from tapetum.looking.pages import picture_url, write_html
from tapetum.models.summary import format_summary, summarize

LANGUAGES = ("ko", "en")
# Rows of the predictions that the page shows.
_HEAD = 11


@dataclass(frozen=True)
class Page:
    """What the page tells; the runs as written lie in `folder / "lenet"` and `folder / "alexnet"`."""

    folder: Path
    book: Samples
    """The photos of the notes' experiment, with their split."""
    judged_on: int
    """Photos that judge."""
    judged_on_book: bool
    """They are the notes' own validation and test photos, for want of others."""
    ledger: dict[str, Any]
    """By variant: `accuracy` and `gain` (Estimates) and `seeds`."""
    claimed: float
    """Mean over seeds of LeNet's best epoch on the validation photos: what the notes report."""
    last: float
    """Mean over seeds of its last epoch on the same photos."""
    picked: float
    """Share of right labels in a grid that shows every photo the prediction for a random one."""
    quick: bool
    seeds: int
    versions: str


def write_page(page: Page, lang: str, path: Path) -> Path:
    """Write the page in one of `LANGUAGES`; its path comes back.

    Raises:
        UserError: the page cannot be written.
    """
    counts = {split: page.book.of_split(split).counts() for split in SPLITS}
    majority = max(page.book.of_split("val").counts().values()) / max(1, sum(counts["val"].values()))
    return write_html(
        f"textbook.{lang}.html",
        path,
        lang=lang,
        page=page,
        counts=counts,
        totals={split: sum(of.values()) for split, of in counts.items()},
        chance=1 / len(page.book.classes),
        majority=majority,
        notes_claim=wilson(63, 92),
        claim_here=wilson(round(page.claimed * sum(counts["val"].values())), sum(counts["val"].values())),
        summaries={name: _summary(name) for name in ("lenet-textbook", "alexnet-textbook")},
        drawings={name: Markup(_drawing(name, lang)) for name in ("lenet5-1998", "lenet-textbook", "alexnet-2012")},
        pictures={run: _pictures(page.folder / run) for run in ("lenet", "alexnet")},
        tables={run: _head(page.folder / run / "kaggle.csv") for run in ("lenet", "alexnet")},
        bar=_bar,
    )


def _summary(name: str) -> str:
    entry = models.entry(name)
    return format_summary(summarize(models.build_on_meta(name, 2), entry.channels, entry.size))


def _drawing(name: str, lang: str) -> str:
    entry = models.entry(name)
    network = models.build_on_meta(name, 10 if entry.channels == 1 else 1000 if name == "alexnet-2012" else 2)
    crossings = getattr(network, "crossings", ())
    words = KOREAN if lang == "ko" else {}
    return svg(summarize(network, entry.channels, entry.size), entry.channels, entry.size, name, crossings, words)


def _pictures(run: Path) -> dict[str, str]:
    """The run's pictures as URLs; "" for one that there is not (no test photos)."""
    files = {"curves": "curves.png", "grid": "grid.png", "random": "random-grid.png"}
    return {name: picture_url(run / file) if (run / file).exists() else "" for name, file in files.items()}


def _head(table: Path) -> list[list[str]]:
    """The first rows of the notes' CSV; empty where there is none (not two classes, or names without numbers)."""
    if not table.exists():
        return []
    head, *rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[:_HEAD]]
    return [head, *([number, f"{float(label):.6f}"] for number, label in rows)]


def _bar(estimate: Estimate) -> dict[str, str]:
    """Where an accuracy and its interval lie on an axis from 40 to 100 %, in percent of its width."""

    def place(share: float) -> float:
        return min(100.0, max(0.0, (share - 0.4) / 0.6 * 100))

    low, high = place(estimate.low), place(estimate.high)
    return {"width": f"{place(estimate.value):.2f}%", "left": f"{low:.2f}%", "span": f"{max(high - low, 0.4):.2f}%"}
