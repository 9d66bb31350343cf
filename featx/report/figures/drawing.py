"""Elements that several figures share: scores with intervals, tick names, legends, bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
    "finish",
    "name_ticks",
]

#: A marker for each of COLOURS, for prints without colours.
MARKERS = "os^DvP"
LINES = ("-", "--", ":", "-.")
#: Estimated width of a letter, as a fraction of the font size.
LETTER = 0.6


def name_ticks(
    axes: "Axes", ticks: Any, names: Sequence[str], *, angle: float, **settings: Any
) -> None:
    """Set names below the axes, at an angle that keeps them apart."""
    if angle:
        # Rotated about their end, so that they end at the axis in any font.
        place = "center" if angle == 90 else "top"
        settings |= {"rotation": angle, "rotation_mode": "anchor", "ha": "right", "va": place}
    axes.set_xticks(ticks, names, **settings, **AS_IT_IS)


def colour_map(colours: Sequence[tuple[float, tuple[str, float]]]) -> "Colormap":
    """Return a colour map from positions, from 0 to 1, each with a colour and its opacity."""
    from matplotlib.colors import LinearSegmentedColormap

    # With an odd number of steps, one is exactly in the middle.
    return LinearSegmentedColormap.from_list("featx", list(colours), N=257)


def add_bar(axes: "Axes", scale: "ColorizingArtist | ScalarMappable", label: str) -> None:
    """Add a colour bar."""
    bar = axes.figure.colorbar(scale, ax=axes, shrink=0.8)
    bar.set_label(label)
    for drawn in bar.ax.collections:
        drawn.set_rasterized(True)  # without this, seams are visible between its steps


def draw_scores(
    axes: "Axes", at: Sequence[float], scores: Sequence[Score], **settings: Any
) -> None:
    """Draw scores and their intervals, joined by a line if `settings` have one."""
    values = np.array([score.value for score in scores])
    # A score without an interval has no bar; a bar of length 0 would look like an interval.
    ends = np.array([score.interval or (np.nan, np.nan) for score in scores]).reshape(-1, 2)
    # Rounding may put an end of an interval on the other side of the score.
    below, above = np.maximum(0, (values - ends[:, 0], ends[:, 1] - values))
    settings = {"linestyle": "none", "markersize": 6, **settings}
    axes.errorbar(at, values, (below, above), elinewidth=0.8, capsize=2, **settings)


def check_some(things: Sequence[object], name: str, origin: str) -> None:
    """Raise `OptionError` if there is nothing to draw."""
    if not len(things):
        message = f"There are no {name} to draw. Pass at least one, such as those of {origin}."
        raise OptionError(message)


def add_legend(axes: "Axes", title: str | None = None, **place: Any) -> None:
    """Add a legend without a frame, in the text colour of the axes."""
    ink = ink_of(axes)
    legend = axes.legend(title=title, labelcolor=ink, frameon=False, **place)
    legend.get_title().set_color(ink)
    for text in legend.get_texts():
        text.set(**AS_IT_IS)


def finish(axes: "Axes", title: str, xlabel: str, ylabel: str, **place: Any) -> None:
    """Set the title and the labels, and hide the sides of the frame that have no ticks."""
    axes.set_title(title, loc="left", **place)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
