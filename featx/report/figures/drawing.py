"""What several figures draw alike: scores with intervals, names of ticks, legends, bars.

Axes come in, and are drawn on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featx.errors import OptionError
from featx.metrics.intervals import Score
from featx.report.axes import AS_IT_IS, ink_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorizer import ColorizingArtist
    from matplotlib.colors import Colormap

__all__ = [
    "LETTER",
    "LINES",
    "MARKERS",
    "add_bar",
    "add_legend",
    "check_some",
    "colour_map",
    "draw_scores",
    "name_ticks",
    "rgb",
    "tidy",
]

#: One to each of COLOURS, so that a grey print can be read.
MARKERS = "os^DvP"
LINES = ("-", "--", ":", "-.")
#: Width of a letter, in font sizes: no word is measured before it is drawn.
LETTER = 0.6


def name_ticks(
    axes: "Axes", ticks: Any, names: Sequence[str], *, angle: float, **settings: Any
) -> None:
    """Set names below the axes, at an angle from which they can be told apart."""
    if angle:
        # About their own end, so that they meet the axis in any font of a page.
        place = "center" if angle == 90 else "top"
        settings |= {"rotation": angle, "rotation_mode": "anchor", "ha": "right", "va": place}
    axes.set_xticks(ticks, names, **settings, **AS_IT_IS)


def rgb(colour: str) -> tuple[float, float, float]:
    """Return a colour as red, green and blue, each from 0 to 1."""
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def colour_map(colours: Sequence[tuple[float, tuple[float, ...]]]) -> "Colormap":
    """Return a map of colours that are given with their places, from 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap

    # An odd number of steps, of which one is the middle.
    return LinearSegmentedColormap.from_list("featx", list(colours), N=257)


def add_bar(axes: "Axes", scale: "ColorizingArtist | ScalarMappable", label: str) -> None:
    """Add a bar that says what colours mean."""
    bar = axes.figure.colorbar(scale, ax=axes, shrink=0.8)
    bar.set_label(label)
    for drawn in bar.ax.collections:
        drawn.set_rasterized(True)  # else seams are seen between its steps


def draw_scores(
    axes: "Axes", at: Sequence[float], scores: Sequence[Score], **settings: Any
) -> None:
    """Draw scores and their intervals, joined by a line if `settings` have one."""
    values = [score.value for score in scores]
    below = [score.value - score.low for score in scores]
    above = [score.high - score.value for score in scores]
    settings = {"linestyle": "none", "markersize": 6, **settings}
    axes.errorbar(at, values, (below, above), elinewidth=0.8, capsize=2, **settings)


def check_some(things: Sequence[object], name: str, origin: str) -> None:
    """Raise `OptionError` where there is nothing to draw."""
    if not len(things):
        message = f"There are no {name} to draw. Expected at least one. Pass those of {origin}."
        raise OptionError(message)


def add_legend(axes: "Axes", title: str | None = None, **place: Any) -> None:
    """Add a legend in the axes' own ink, without a frame."""
    ink = ink_of(axes)
    legend = axes.legend(title=title, labelcolor=ink, frameon=False, **place)
    legend.get_title().set_color(ink)
    for text in legend.get_texts():
        text.set(**AS_IT_IS)


def tidy(axes: "Axes") -> None:
    """Leave out the sides of the frame that bear no numbers."""
    axes.spines[["top", "right"]].set_visible(False)
