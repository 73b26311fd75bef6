"""The check of the data as one self-contained HTML page with miniatures."""

from pathlib import Path

from tapetum.data.check import Check, Finding
from tapetum.data.samples import Samples
from tapetum.looking.pages import miniature, write_html

# A page is to be looked at, not to be an archive; the rest is in --json.
_MOST_FILES, _MOST_GROUPS = 48, 24


def write_check(found: Check, path: Path) -> Path:
    """Write the page; its path comes back."""
    return write_html(
        "check.html",
        path,
        found=found,
        findings=[(each, _shown(each, found.samples)) for each in found.findings],
    )


def _shown(finding: Finding, samples: Samples) -> list[list[tuple[str, str, str]]]:
    """Name, detail and miniature ("" where there is none) of some of the files, in their groups."""
    if finding.groups:
        groups = [[(name, "") for name in names] for names in finding.groups[:_MOST_GROUPS]]
    else:
        groups = [[file] for file in finding.files[:_MOST_FILES]]
    places = {name: i for i, name in enumerate(samples.names)}
    return [[(name, detail, miniature(samples, places.get(name))) for name, detail in group] for group in groups]
