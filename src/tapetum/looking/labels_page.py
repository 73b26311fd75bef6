"""The labels in doubt as one self-contained HTML page of miniatures."""

from pathlib import Path

from tapetum.data.samples import Samples
from tapetum.evaluation.labels import LabelCheck
from tapetum.files import as_written
from tapetum.looking.pages import miniature, write_html

# A page is to be looked through at one sitting; the rest is in --csv and --json.
_MOST = 200


def write_labels(found: LabelCheck, samples: Samples, path: Path) -> Path:
    """Write the page; its path comes back. A picture that is no longer among `samples` stands there by name alone."""
    places = {as_written(name): i for i, name in enumerate(samples.names)}
    shown = [(each, miniature(samples, places.get(each.path))) for each in found.suspects[:_MOST]]
    return write_html("labels.html", path, found=found, shown=shown, data=str(samples.origin))
