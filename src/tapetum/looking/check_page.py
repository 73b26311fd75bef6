"""The check of the data as one self-contained HTML page with miniatures."""

import base64
import io
from pathlib import Path

from PIL import Image

from tapetum.data.check import Check, Finding
from tapetum.data.decode import BadPicture, decode
from tapetum.data.samples import Samples
from tapetum.looking.pages import write_html

# A page is to be looked at, not to be an archive; the rest is in --json.
_MOST_FILES, _MOST_GROUPS, _SIDE = 48, 24, 120


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
    return [[(name, detail, _miniature(samples, places.get(name))) for name, detail in group] for group in groups]


def _miniature(samples: Samples, place: int | None) -> str:
    """A small JPEG as a data URL; "" for what is no picture."""
    if place is None:
        return ""
    try:
        picture = Image.fromarray(decode(samples.read(place)))
    except (OSError, BadPicture):
        return ""
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
