"""Axes to draw on, colours to draw with, and words that are drawn as they are.

A size, or someone's axes, comes in; axes go out. This file does not know what
is drawn.

References
----------
.. [1] M. Okabe and K. Ito, "Color Universal Design", 2008.
   https://jfly.uni-koeln.de/color/
"""

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "AS_IT_IS",
    "BLUE",
    "COLOURS",
    "STYLE",
    "VERMILLION",
    "axes_for",
    "ink_of",
    "shown",
    "signed",
]

BLUE, VERMILLION = "#0072B2", "#D55E00"
#: Told apart by colour-blind eyes too [1]_; those that are faint on white stand last.
COLOURS = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

#: Black on white whatever the user's own settings are, which are not touched.
STYLE: list[str | dict[str, Any]] = [
    "default",
    {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    },
]

#: For every text that holds a user's word: a $ or a backslash in it means nothing.
AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False}

_JOINERS = "\u200c\u200d"  # unseen, and needed between letters of Persian and parts of emoji


@contextmanager
def axes_for(ax: "Axes | None", size: tuple[float, float]) -> Iterator["Axes"]:
    """Give axes to draw on while the settings are those of featx's figures.

    Parameters
    ----------
    ax : Axes or None
        Someone's own, which is drawn on in their settings; None makes a figure.
        It is none of pyplot's: those stay open, and in memory, until they are
        closed, a warning after the twentieth. That it shows in a notebook all
        the same is the axes' doing.
    size : tuple of float
        Width and height of a figure that is made, in inches.

    Yields
    ------
    Axes
    """
    if ax is not None:
        yield ax
        return
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        made = figure.add_subplot(axes_class=_shown_axes())
        # Ticks may be made as late as at the drawing, in the user's settings.
        made.tick_params(which="both", color="black", labelcolor="black", labelsize=10)
        yield made


@functools.cache
def _shown_axes() -> "type[Axes]":
    import matplotlib.style
    from matplotlib.axes import Axes

    class ShownAxes(Axes):
        """Axes that a notebook shows as their picture where a cell ends with them."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            with matplotlib.style.context(STYLE):
                self.figure.figure.savefig(picture, format="png")
            return picture.getvalue()

    return ShownAxes


def ink_of(ax: "Axes") -> Any:
    """Return the colour of the axes' own words: black, but not on axes of a dark style."""
    return ax.xaxis.label.get_color()


def shown(word: str, most: int = 28) -> str:
    r"""Return a user's word in one line, cut in its middle, each character one that is seen.

    Parameters
    ----------
    word : str
        A label or a file's name, whatever is in it.
    most : int, default=28
        Characters that there is room for.

    Examples
    --------
    >>> shown("birch")
    'birch'
    >>> shown("a name that is longer than there is room for")
    'a name that i…re is room for'
    >>> shown("two\nlines and \x1b[31m red")
    'two lines and �[31m red'
    """
    seen = "".join(
        each if each.isprintable() or each in _JOINERS else " " if each.isspace() else "\ufffd"
        for each in str(word)
    )
    if len(seen) <= most:
        return seen
    end = most // 2
    return f"{seen[: most - end - 1]}…{seen[-end:]}"


def signed(number: float) -> str:
    """Spell a number as the axes do, with a minus as long as their plus."""
    return f"{number:+.3g}".replace("-", "\N{MINUS SIGN}")
