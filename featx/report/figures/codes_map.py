"""Codes as points in a plane, coloured by class.

Coordinates and labels come in; Matplotlib's axes go out. This file does not know how
codes were brought into two dimensions.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from featx.errors import OptionError
from featx.report.axes import COLOURS, axes_for, shown
from featx.report.figures.drawing import MARKERS, add_legend, tidy
from featx.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_map"]

_MOST_NAMED = 36  # classes of which each has a colour and marker of its own


def plot_map(
    points: ArrayLike,
    labels: Sequence[str],
    shares: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw codes in two dimensions, each class in a colour and marker of its own.

    Parameters
    ----------
    points : array-like of shape (n, 2)
        Such as the first two principal components.
    labels : sequence of str, length n
        Classes. Beyond 36 of them colours and markers come again.
    shares : tuple of float, optional
        Of the variance, that of the first and of the second component.
    ax : Axes, optional
        Where to draw; a new figure by default. The legend stands right of it.

    Returns
    -------
    Axes
        The points of the k-th class, sorted, have the id "class-K", in their order.

    Raises
    ------
    OptionError
        There are no points, or not a label for each.

    Examples
    --------
    >>> ax = plot_map([[0, 1], [1, 0], [1, 1]], ["ant", "bee", "ant"])
    >>> [line.get_gid() for line in ax.get_lines()]
    ['class-0', 'class-1']
    """
    places = np.asarray(points, dtype=float)
    if places.shape != (len(labels), 2) or not len(labels):
        message = (
            f"The points have the shape {places.shape}, for {counted(len(labels), 'label')}. "
            "Expected (n, 2) and n, at least one. Pass the first two columns of a PCA."
        )
        raise OptionError(message)
    classes, of_point = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    with axes_for(ax, (7.4, 5.2)) as axes:
        for k, label in enumerate(classes):
            own = places[of_point == k]
            axes.plot(
                own[:, 0],
                own[:, 1],
                linestyle="none",
                marker=MARKERS[(k + k // len(COLOURS)) % len(MARKERS)],
                markersize=5.5,
                markeredgewidth=0.5,
                markeredgecolor="white",
                color=COLOURS[k % len(COLOURS)],
                alpha=0.85,
                gid=f"class-{k}",
                label=shown(label, 20),
            )
        first, second = ("", "") if shares is None else [f" ({each:.0%})" for each in shares]
        axes.set_xlabel(f"first component{first}")
        axes.set_ylabel(f"second component{second}")
        axes.set_title(f"Codes of {len(places):,} images, by class", loc="left")
        axes.set(xticks=[], yticks=[])
        if len(classes) <= _MOST_NAMED:
            columns = 1 + len(classes) // 20
            add_legend(axes, loc="upper left", bbox_to_anchor=(1, 1), ncols=columns)
        tidy(axes)
        return axes
