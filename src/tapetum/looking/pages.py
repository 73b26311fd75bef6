"""What every HTML page shares: templates that escape other people's text, pictures inside the page, no script, no network."""

import base64
import functools
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from tapetum.data.decode import BadPicture, decode
from tapetum.data.samples import Samples
from tapetum.files import write_text

# The longer side of a miniature, in pixels.
_SIDE = 120


def write_html(template: str, path: Path, **values: Any) -> Path:
    """Write a page from one of the templates; a name that a template asks for and does not get is a bug (UndefinedError)."""
    write_text(path, _environment().get_template(template).render(**values))
    return path


@functools.cache  # templates are compiled once, which takes a quarter of a second
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapetum.looking"),
        autoescape=True,  # class and file names are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "thousands": "{:,}".format}
    return environment


def picture_url(picture: Path) -> str:
    """A PNG file as a data URL, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def small_url(picture_HWC: np.ndarray, side: int = _SIDE) -> str:
    """A picture (uint8 RGB) as a JPEG in a data URL, its longer side `side` pixels or a little less; a tiny one is enlarged."""
    picture = Image.fromarray(picture_HWC)
    if (times := side // max(picture.size)) > 1:  # a digit of 8 pixels is a dot on a screen
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def miniature(samples: Samples, place: int | None) -> str:
    """`small_url` of the picture at `place`; "" where there is none, or what is there is no picture."""
    if place is None:
        return ""
    try:
        return small_url(decode(samples.read(place)))
    except (OSError, BadPicture):
        return ""


def percent(share: float) -> str:
    """A share in percent with one decimal.

    >>> percent(0.5849)
    '58.5'
    """
    return f"{share * 100:.1f}"


def points(difference: float) -> str:
    """A difference of shares in points, signed.

    >>> points(-0.012)
    '-1.2'
    """
    return f"{difference * 100:+.1f}"
