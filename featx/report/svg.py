"""A figure as SVG that can stand inside an HTML page.

A figure comes in; text goes out, the same bytes for the same figure. The page
decides the colour and the font of its words, so that they can be read in light
and in dark mode. This file does not know what the figure shows.
"""

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.dom import minidom

from featx.errors import OptionError
from featx.report.axes import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["NO_XML", "as_svg"]

#: What XML cannot hold, however it is written.
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_svg(figure: "Axes | Figure", prefix: str) -> str:
    """Return a figure as an <svg> element for a page, on a transparent ground.

    What is black in the figure gets the page's text colour (``currentColor``),
    and words its font; other colours stay. Words are text, which can be searched
    and copied. On a narrow page the figure shrinks.

    Parameters
    ----------
    figure : Axes or Figure
        The figure, or axes of it; all of it is drawn.
    prefix : str
        What all ids begin with: a letter, then letters, digits, - or _. Figures
        of one page need different ones.

    Returns
    -------
    str
        One element, without the header of an XML file.

    Raises
    ------
    OptionError
        No id can begin with `prefix`.

    Examples
    --------
    >>> from featx.report import plot_confusion
    >>> text = as_svg(plot_confusion([[5, 1], [0, 4]], ["ant", "bee"]), "confusion-")
    >>> text[:4], 'id="confusion-cell-0-1"' in text
    ('<svg', True)
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", prefix, re.ASCII):
        message = (
            f"No id can begin with {prefix!r}. Expected a letter, then letters, digits, - or _. "
            "Use a prefix such as 'confusion-'."
        )
        raise OptionError(message)
    # The style sheet would hold for the whole page: what it says is said below, of this element.
    text = re.sub("<style.*?</style>", "", NO_XML.sub("\ufffd", _drawn(figure)), flags=re.DOTALL)
    (root,) = minidom.parseString(text.encode()).getElementsByTagName("svg")
    _rewrite(root, prefix)
    # Black fills have no colour of their own in Matplotlib's SVG.
    style = "stroke-linejoin:round;stroke-linecap:butt;fill:currentColor"
    root.setAttribute("style", f"{style};max-width:100%;height:auto")
    root.setAttribute("role", "img")
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.figure.figure.axes]
    spoken = ". ".join(" ".join(title.split()) for title in titles if title)
    root.setAttribute("aria-label", NO_XML.sub("\ufffd", spoken))
    return root.toxml()


def _drawn(figure: "Axes | Figure") -> str:
    """Return Matplotlib's SVG, which is a file of its own."""
    import matplotlib.style

    settings = {"svg.fonttype": "none", "svg.hashsalt": "featx", "svg.id": None}
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    text = io.StringIO()
    with matplotlib.style.context([*STYLE, settings]), warnings.catch_warnings():
        # The browser has fonts for what Matplotlib's own lacks.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        # Axes stand in a figure, which may stand in another.
        root = figure.figure.figure
        root.savefig(text, format="svg", transparent=True, metadata=no_metadata)
    return text.getvalue()


def _rewrite(element: minidom.Element, prefix: str) -> None:
    """Prefix ids and what refers to them; leave colour and font of words to the page."""
    for each in [element, *element.getElementsByTagName("*")]:
        for name, value in list(each.attributes.items()):
            if name == "id":
                each.setAttribute(name, prefix + value)
            elif name == "xlink:href" and value.startswith("#"):
                each.setAttribute(name, f"#{prefix}{value[1:]}")
            elif name == "style":
                style = re.sub(r"font-family: [^;]*(; )?", "", value)
                style = style.replace("#000000", "currentColor")
                each.setAttribute(name, style.replace("url(#", f"url(#{prefix}"))
            elif "url(#" in value:
                each.setAttribute(name, value.replace("url(#", f"url(#{prefix}"))
