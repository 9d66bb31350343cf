"""Which classes are taken for which.

Counts come in; Matplotlib's axes go out.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.metrics.evaluation import Evaluation
from featx.report.axes import AS_IT_IS, BLUE, axes_for, ink_of, shown
from featx.report.figures.drawing import LETTER, add_bar, colour_map, name_ticks, rgb
from featx.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

__all__ = ["plot_confusion"]

_SMALLEST = 5.0  # points: smaller type cannot be read
_MOST_CELLS = 60  # classes of which each cell is a thing of its own: 3,600 are half a megabyte
_MOST_ZEROS = 12  # classes; among more, noughts hide what is not nought
# Share of a row above which white is easier to read than black on its blue, on a white page.
_DARK = 0.8


def plot_confusion(
    evaluation: Evaluation | Sequence[Sequence[int]] | NDArray[np.integer],
    classes: Sequence[str] | None = None,
    *,
    normalise: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw which classes are taken for which.

    The true class is down and the predicted one across. A cell holds its count
    where it is large enough to be read, else a bar says what colours mean.

    Parameters
    ----------
    evaluation : Evaluation or array-like of int, shape (k, k)
        An evaluation, or counts alone.
    classes : sequence of str, length k, optional
        Names in the order of the counts; those of the evaluation by default, or
        numbers from 0.
    normalise : bool, default=True
        Colour by the share of the true class's predictions. False colours by
        the count itself: use it where classes are of one size.
    ax : Axes, optional
        Where to draw; a new figure, whose size goes by the classes, by default.

    Returns
    -------
    Axes
        Up to 60 classes, each cell that is not 0 has the id "cell-ROW-COLUMN",
        and each count "count-ROW-COLUMN".

    Raises
    ------
    OptionError
        The counts are not square, or not as many as the classes.

    Examples
    --------
    >>> ax = plot_confusion([[5, 1], [0, 4]], ["ant", "bee"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['ant', 'bee']
    """
    counts, names = _counts(evaluation, classes)
    k = len(counts)
    # A class without images has a row of zeros.
    values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if normalise else counts
    side = min(np.clip(0.6 * k, 3.4, max(4.5, 0.2 * k)), 12.0)
    margin = 0.8 + LETTER * 10 / 72 * max(map(len, names))
    with axes_for(ax, (side + margin, side + margin)) as axes:
        scale = _scale_of(counts, normalise=normalise)
        cell = _cell_points(axes, k)
        if k <= _MOST_CELLS:
            _draw_cells(axes, scale.to_rgba(values), values)
        else:
            axes.imshow(scale.to_rgba(values), interpolation="nearest")
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), aspect="equal")
        _name_cells(axes, names, cell)
        # Width of the longest count, or height: whichever fills the cell first.
        size = min(11.0, 0.45 * cell, 0.8 * cell / (LETTER * len(str(counts.max()))))
        colour = "share of the true class" if normalise else "predictions"
        has_numbers = size >= _SMALLEST and k <= _MOST_CELLS
        if has_numbers:
            _write_counts(axes, counts, values > _DARK * (1 if normalise else counts.max()), size)
        else:
            add_bar(axes, scale, colour)
        axes.set_title(
            f"{counted(counts.sum(), 'prediction')} of {k} classes\n(colour: {colour})", loc="left"
        )
        axes.set(xlabel="predicted class", ylabel="true class")
        return axes


def _counts(
    evaluation: Evaluation | Sequence[Sequence[int]] | NDArray[np.integer],
    classes: Sequence[str] | None,
) -> tuple[NDArray[np.integer], list[str]]:
    if isinstance(evaluation, Evaluation):
        counts, classes = np.asarray(evaluation.confusion), classes or evaluation.labels
    else:
        counts = np.asarray(evaluation)
    k = len(counts)
    if counts.shape != (k, k) or k == 0 or not np.issubdtype(counts.dtype, np.integer):
        message = (
            f"A confusion matrix has the shape {counts.shape} of {counts.dtype}. Expected counts, "
            "a row and a column of whole numbers for each class. Hand over an Evaluation, or "
            "sklearn.metrics.confusion_matrix(y_true, y_predicted)."
        )
        raise OptionError(message)
    names = [str(i) for i in range(k)] if classes is None else [shown(name) for name in classes]
    if len(names) != k:
        message = (
            f"{counted(len(names), 'class is', 'classes are')} named, and the confusion matrix "
            f"has {k}. Expected a name for each, in the order of the rows. Pass classes=[...] of "
            "that length."
        )
        raise OptionError(message)
    return counts, names


def _cell_points(axes: "Axes", k: int) -> float:
    """Return about how large a cell will be: the layout is settled only when it is drawn."""
    box = axes.get_window_extent()
    return float(min(box.width, box.height) / k * 72 / axes.figure.dpi)


def _scale_of(counts: NDArray[np.integer], *, normalise: bool) -> "ScalarMappable":
    """Return how a cell is coloured: from nothing to blue."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    # By the square root, so that what is seldom is seen beside what is usual.
    norm = PowerNorm(0.5, 0, 1 if normalise else max(1, int(counts.max())))
    return ScalarMappable(norm, colour_map([(0, (*rgb(BLUE), 0)), (1, (*rgb(BLUE), 1))]))


def _draw_cells(
    axes: "Axes", colours: NDArray[np.floating], values: NDArray[np.floating | np.integer]
) -> None:
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(values > 0):
        corner, colour = (column - 0.5, row - 0.5), tuple(colours[row, column])
        patch = Rectangle(corner, 1, 1, facecolor=colour, edgecolor="none")
        patch.set_gid(f"cell-{row}-{column}")
        axes.add_patch(patch)
    edges = np.arange(len(values) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color=ink_of(axes), alpha=0.15, linewidth=0.5)


def _name_cells(axes: "Axes", names: Sequence[str], cell: float) -> None:
    """Name rows and columns: all of them, or each nth where there is no room."""
    size = float(np.clip(0.75 * cell, _SMALLEST, 10))
    step = math.ceil(size / cell)
    ticks, kept = np.arange(len(names))[::step], names[::step]
    axes.set_yticks(ticks, kept, fontsize=size, **AS_IT_IS)
    upright = LETTER * size * max(map(len, names)) > cell
    name_ticks(axes, ticks, kept, angle=90 if upright else 0, fontsize=size)
    axes.tick_params(which="major", length=2)


def _write_counts(
    axes: "Axes", counts: NDArray[np.integer], is_dark: NDArray[np.bool_], size: float
) -> None:
    for (row, column), n in np.ndenumerate(counts):
        if n or len(counts) <= _MOST_ZEROS:
            colour = "white" if is_dark[row, column] else ink_of(axes)
            text = axes.text(
                column, row, str(n), ha="center", va="center_baseline", fontsize=size, color=colour
            )
            text.set(gid=f"count-{row}-{column}", alpha=None if n else 0.5)
