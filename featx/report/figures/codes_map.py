"""Codes in two dimensions, coloured by class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from featx.errors import OptionError
from featx.report.axes import COLOURS, axes_for, shown
from featx.report.figures.drawing import MARKERS, add_legend, finish
from featx.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_map"]

_MAX_CLASSES = 36  # with more classes, colours and markers repeat


def plot_map(
    points: ArrayLike,
    labels: Sequence[str],
    explained_variance: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw codes in two dimensions, with a colour and a marker for each class.

    Parameters
    ----------
    points : array-like of shape (n, 2)
        For example the first two principal components.
    labels : sequence of str, length n
        Classes. With more than 36 classes, colours and markers repeat.
    explained_variance : (float, float), optional
        Fractions of the variance that the two components explain.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure. The legend is to their right.

    Returns
    -------
    Axes
        The points of class number K, in alphabetical order, have the id "class-K".

    Raises
    ------
    OptionError
        There are no points, or another number of labels.

    Examples
    --------
    >>> ax = plot_map([[0, 1], [1, 0], [1, 1]], ["ant", "bee", "ant"])
    >>> [line.get_gid() for line in ax.get_lines()]
    ['class-0', 'class-1']
    """
    xy = np.asarray(points, dtype=float)
    if xy.shape != (len(labels), 2) or not len(labels):
        message = (
            f"The points have the shape {xy.shape}, and there are "
            f"{counted(len(labels), 'label')}. Pass points of shape (n, 2) and n labels, with n "
            "at least 1, such as the first two columns of a PCA."
        )
        raise OptionError(message)
    classes, of_point = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    with axes_for(ax, (7.4, 5.2)) as axes:
        for k, label in enumerate(classes):
            axes.plot(
                *xy[of_point == k].T,
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
        first, second = ("", "")
        if explained_variance is not None:
            first, second = (f" ({each:.0%})" for each in explained_variance)
        title = f"Codes of {len(xy):,} images, by class"
        finish(axes, title, f"first component{first}", f"second component{second}")
        axes.set(xticks=[], yticks=[])
        if len(classes) <= _MAX_CLASSES:
            columns = 1 + len(classes) // 20
            add_legend(axes, loc="upper left", bbox_to_anchor=(1, 1), ncols=columns)
        return axes
