"""Figures as SVG elements inside an HTML page.

A figure comes in; text goes out, the same bytes for the same figure. The page decides
colour and font of the text, so that it can be read in light and in dark mode. Elements of a
figure can be made buttons; the page's script decides what they do. This file does not know
what a figure shows.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.dom import minidom

from featx.errors import OptionError
from featx.report.axes import STYLE
from featx.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Button", "as_svg"]

#: A key for the page's script, and a name for screen readers.
Button = tuple[str, str]

# Characters that XML cannot contain.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_svg(
    figure: "Axes | Figure", prefix: str, buttons: Mapping[str, Sequence[Button]] | None = None
) -> str:
    """Return a figure as an <svg> element with a transparent background.

    Black becomes the text colour of the page (``currentColor``), and text gets its font;
    other colours stay. Text can be searched and copied. On a narrow page the figure shrinks.

    Parameters
    ----------
    figure : Axes or Figure
        The figure, or axes of it; the whole figure is drawn.
    prefix : str
        Prefix of all ids: a letter, then letters, digits, - or _. Figures of one page need
        different prefixes.
    buttons : mapping of str to sequence of (str, str), optional
        Elements to make buttons, by their id without the prefix: a list of one button, or of
        one for each point of a line. A button is its attribute ``data-key``, and its name for
        screen readers. The tab key reaches only the first button; a script of the page must
        lead to the others.

    Returns
    -------
    str
        The element, without the header of an XML file.

    Raises
    ------
    OptionError
        `prefix` cannot begin an id.

    Examples
    --------
    >>> from featx.report import plot_confusion
    >>> text = as_svg(plot_confusion([[5, 1], [0, 4]], ["ant", "bee"]), "confusion-")
    >>> text[:4], 'id="confusion-cell-0-1"' in text
    ('<svg', True)
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", prefix, re.ASCII):
        message = (
            f"The prefix {prefix!r} cannot begin an id. Use a letter, then letters, digits, - or "
            "_, such as 'confusion-'."
        )
        raise OptionError(message)
    # A style sheet would apply to the whole page; its content becomes attributes of the element.
    text = re.sub("<style.*?</style>", "", _NO_XML.sub("\ufffd", _drawn(figure)), flags=re.DOTALL)
    (root,) = minidom.parseString(text.encode()).getElementsByTagName("svg")
    _rewrite(root, prefix)
    # Matplotlib's SVG has no colour for black fills.
    style = "stroke-linejoin:round;stroke-linecap:butt;fill:currentColor"
    root.setAttribute("style", f"{style};max-width:100%;height:auto")
    root.setAttribute("role", "img")
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.figure.figure.axes]
    spoken = ". ".join(" ".join(title.split()) for title in titles if title)
    root.setAttribute("aria-label", _NO_XML.sub("\ufffd", spoken))
    if buttons:
        _make_buttons(root, {f"{prefix}{id_}": names for id_, names in buttons.items()})
    return root.toxml()


def _drawn(figure: "Axes | Figure") -> str:
    """Return Matplotlib's SVG, a complete file."""
    import matplotlib.style

    settings: dict[str, str | None] = {"svg.fonttype": "none", "svg.hashsalt": "featx"}
    if "svg.id" in matplotlib.rcParams:  # since Matplotlib 3.10
        settings["svg.id"] = None
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    text = io.StringIO()
    with matplotlib.style.context([*STYLE, settings]), warnings.catch_warnings():
        # The browser has fonts for glyphs that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        # Axes belong to a figure, which may be part of another one.
        root = figure.figure.figure
        root.savefig(text, format="svg", transparent=True, metadata=no_metadata)
    return text.getvalue()


def _rewrite(element: minidom.Element, prefix: str) -> None:
    """Prefix ids and references to them; remove the colour and the font of text."""
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


def _make_buttons(root: minidom.Element, buttons: Mapping[str, Sequence[Button]]) -> None:
    # To a screen reader an image has no parts, but a group has.
    root.setAttribute("role", "group")
    elements = {each.getAttribute("id"): each for each in root.getElementsByTagName("*")}
    tab = "0"
    for id_, names in buttons.items():
        if id_ not in elements:  # the cells of a large confusion matrix are one image
            continue
        # The points of a line are <use> elements.
        drawn = elements[id_].getElementsByTagName("use") or [elements[id_]]
        for element, (key, name) in zip(drawn, names, strict=True):
            element.setAttribute("tabindex", tab)
            element.setAttribute("role", "button")
            element.setAttribute("data-key", key)
            element.setAttribute("aria-label", _NO_XML.sub("\ufffd", printable(name)))
            tab = "-1"
