"""Parts of an SVG that can be reached by the keyboard and clicked.

The text of an <svg> element comes in, with what its parts are; the same element goes
out, its parts marked. What happens at a click is the page's doing.
"""

from collections.abc import Mapping, Sequence
from xml.dom import minidom

from featx.report.svg import NO_XML
from featx.text import printable

__all__ = ["mark_parts", "mark_points"]


def mark_parts(svg: str, parts: Mapping[str, tuple[str, str]]) -> str:
    """Make elements of an SVG buttons.

    Parameters
    ----------
    svg : str
        Of `as_svg`.
    parts : mapping of str to (str, str)
        By id: a key that the page's script finds, and a name that is read aloud.

    Returns
    -------
    str
        One part is reached by the tabulator, the others by arrows from there.

    Examples
    --------
    >>> mark_parts('<svg><g id="a"/></svg>', {"a": ("0-1", "3 of ant for bee")})[:42]
    '<svg role="group"><g id="a" tabindex="0" r'
    """
    root = _root(svg)
    first = True
    for element in _elements(root):
        part = parts.get(element.getAttribute("id"))
        if part is not None:
            _make_button(element, *part, first=first)
            first = False
    return str(root.toxml())


def mark_points(svg: str, prefix: str, classes: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Make the points of a map buttons.

    Parameters
    ----------
    svg : str
        Of `as_svg` and `plot_map`.
    prefix : str
        Of its ids.
    classes : sequence of sequence of (str, str)
        Class by class, of each point a key and a name, as for `mark_parts`.
    """
    root = _root(svg)
    groups = {each.getAttribute("id"): each for each in _elements(root)}
    first = True
    for k, points in enumerate(classes):
        drawn = groups[f"{prefix}class-{k}"].getElementsByTagName("use")
        for element, point in zip(drawn, points, strict=True):
            _make_button(element, *point, first=first)
            first = False
    return str(root.toxml())


def _root(svg: str) -> minidom.Element:
    root = minidom.parseString(svg.encode()).documentElement
    if root is None:
        raise ValueError(svg)
    # An image has no parts for a screen reader; a group has.
    root.setAttribute("role", "group")
    return root


def _elements(root: minidom.Element) -> list[minidom.Element]:
    return list(root.getElementsByTagName("*"))


def _make_button(element: minidom.Element, key: str, name: str, *, first: bool) -> None:
    element.setAttribute("tabindex", "0" if first else "-1")
    element.setAttribute("role", "button")
    element.setAttribute("data-key", key)
    element.setAttribute("aria-label", NO_XML.sub("\ufffd", printable(name)))
