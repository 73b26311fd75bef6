"""Charts inside a page: matplotlib's SVG, in which numbers are text and colours are the page's, light or dark.

A chart has no words: title, axes and legend stand in the page around it, in its language, and wrap on a phone.
"""

import html
import io
import re
from collections.abc import Callable

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tapetum.looking.grids import FAINT, NEUTRAL, SECOND

# What the page calls the colours of the drawings; matplotlib writes its own black where it was told no other.
_COLOURS = {NEUTRAL: "currentColor", SECOND: "var(--blue)", FAINT: "var(--line)", "#000000": "currentColor"}


def chart(draw: Callable[[Axes], None], alt: str) -> Markup:
    """An `<svg>` of what `draw` draws into axes; `alt` says in a sentence what it shows."""
    # matplotlib reads both only here, and only while it writes; the salt keeps the names inside apart from other charts'.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure = Figure(figsize=(4.6, 3.0))
        figure.patch.set_visible(False)
        axes = figure.add_axes((0.14, 0.1, 0.8, 0.82))
        axes.patch.set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # Its style sheet would be the whole page's; nothing refers to the names of groups; text has the page's font.
    for scrap in (
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->",
        r' id="[A-Za-z0-9]+[._][A-Za-z0-9_]+"| transform="rotate\(-0[^"]*"|font-family: [^;"]*;?',
    ):
        drawn = re.sub(scrap, "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"\s+", " ", drawn)
    for written, named in _COLOURS.items():
        drawn = drawn.replace(written, named)
    box = re.search(r'viewBox="[^"]+"', drawn)
    assert box is not None
    inside = drawn[drawn.index(">") + 1 :]
    head = f'<svg class="chart" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" aria-label="{html.escape(alt)}"'
    return Markup(f'{head} stroke-linejoin="round">{inside.strip()}')
