"""Axes and colours of figures, and text that is drawn without interpretation.

A size, or axes of the user, come in; axes go out. This file does not know what is drawn.

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
#: Distinct for colour-blind readers too [1]_; those that are faint on white are last.
COLOURS = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

#: Black on white, whatever the user's settings are, which are not changed.
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

#: For text with names of the user, in which $ and backslash have no special meaning.
AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False}

# A space without a line break, and joiners of letters of Persian and of parts of emoji.
_KEPT = "\u00a0\u200c\u200d"


@contextmanager
def axes_for(ax: "Axes | None", size: tuple[float, float]) -> Iterator["Axes"]:
    """Yield axes to draw on, with the settings of featx's figures.

    Parameters
    ----------
    ax : Axes or None
        Axes of the user, whose settings are used; None makes a figure. It does not belong
        to pyplot, whose figures stay in memory until they are closed, but a notebook shows
        it too.
    size : (float, float)
        Width and height of a new figure, in inches.

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
        # Ticks may be made when the figure is drawn, with the user's settings.
        made.tick_params(which="both", color="black", labelcolor="black", labelsize=10)
        yield made


@functools.cache
def _shown_axes() -> "type[Axes]":
    import matplotlib.style
    from matplotlib.axes import Axes

    class ShownAxes(Axes):
        """Axes that a notebook shows as an image if they are the result of a cell."""

        def _repr_png_(self) -> bytes:
            png = io.BytesIO()
            with matplotlib.style.context(STYLE):
                self.figure.figure.savefig(png, format="png")
            return png.getvalue()

    return ShownAxes


def ink_of(ax: "Axes") -> Any:
    """Return the text colour of axes: black, unless they have a dark style."""
    return ax.xaxis.label.get_color()


def shown(word: str, most: int = 28) -> str:
    r"""Return a name in one line of visible characters, shortened in the middle.

    Parameters
    ----------
    word : str
        A label or a file name, whatever it contains.
    most : int, default=28
        Maximum number of characters.

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
        each if each.isprintable() or each in _KEPT else " " if each.isspace() else "\ufffd"
        for each in str(word)
    )
    if len(seen) <= most:
        return seen
    end = most // 2
    return f"{seen[: most - end - 1]}…{seen[-end:]}"


def signed(number: float) -> str:
    """Return a number with its sign, with a minus sign as wide as the plus sign."""
    return f"{number:+.3g}".replace("-", "\N{MINUS SIGN}")
