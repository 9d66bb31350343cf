"""The confusion matrix."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.metrics.evaluation import Evaluation
from featx.report.axes import AS_IT_IS, BLUE, axes_for, ink_of, shown
from featx.report.figures.drawing import LETTER, add_bar, colour_map, name_ticks
from featx.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

__all__ = ["plot_confusion"]

_SMALLEST = 5.0  # points: smaller text cannot be read
_MAX_CELL_CLASSES = 60  # with more classes the cells are one image; 3,600 cells are 0.5 MB
_MAX_ZERO_CLASSES = 12  # with more classes, zeros would hide the other counts
# Fraction of a row above which white text is easier to read on its blue than black text.
_DARK = 0.8


def plot_confusion(
    evaluation: Evaluation | Sequence[Sequence[int]] | NDArray[np.integer],
    classes: Sequence[str] | None = None,
    *,
    normalise: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a confusion matrix.

    Rows are true classes and columns predicted ones. A cell shows its count if there is
    enough room; otherwise a colour bar is added.

    Parameters
    ----------
    evaluation : Evaluation or array-like of int, shape (k, k)
        An evaluation, or counts.
    classes : sequence of str, length k, optional
        Names in the order of the counts; by default those of the evaluation, or numbers
        from 0.
    normalise : bool, default=True
        Colour by the fraction of the true class. False colours by the count, for classes of
        the same size.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure, whose size depends on the number
        of classes.

    Returns
    -------
    Axes
        With up to 60 classes, each cell that is not 0 has the id "cell-ROW-COLUMN", and
        each count "count-ROW-COLUMN".

    Raises
    ------
    OptionError
        The counts are not square, or there is another number of classes.

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
        # An estimate of the size of a cell in points; the layout is known when it is drawn.
        box = axes.get_window_extent()
        cell = float(min(box.width, box.height) / k * 72 / axes.figure.dpi)
        if k <= _MAX_CELL_CLASSES:
            _draw_cells(axes, scale.to_rgba(values), values)
        else:
            axes.imshow(scale.to_rgba(values), interpolation="nearest")
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), aspect="equal")
        _name_cells(axes, names, cell)
        # The longest count must fit into a cell, in width and in height.
        size = min(11.0, 0.45 * cell, 0.8 * cell / (LETTER * len(str(counts.max()))))
        colour = "fraction of the true class" if normalise else "predictions"
        has_counts = size >= _SMALLEST and k <= _MAX_CELL_CLASSES
        if has_counts:
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
            f"The confusion matrix has the shape {counts.shape} of {counts.dtype}. Pass an "
            "Evaluation, or a square matrix of integers, such as that of "
            "sklearn.metrics.confusion_matrix(y_true, y_predicted)."
        )
        raise OptionError(message)
    names = [str(i) for i in range(k)] if classes is None else [shown(name) for name in classes]
    if len(names) != k:
        message = (
            f"There are {counted(len(names), 'name')} for the {k} classes of the confusion "
            "matrix. Pass classes=[...] with a name for each row, in their order."
        )
        raise OptionError(message)
    return counts, names


def _scale_of(counts: NDArray[np.integer], *, normalise: bool) -> "ScalarMappable":
    """Return the colour scale of the cells, from transparent to blue."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    # The square root makes small values visible next to large ones.
    norm = PowerNorm(0.5, 0, 1 if normalise else max(1, int(counts.max())))
    return ScalarMappable(norm, colour_map([(0, (BLUE, 0)), (1, (BLUE, 1))]))


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
    """Name the rows and columns: all of them, or every nth if there is little room."""
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
        if n or len(counts) <= _MAX_ZERO_CLASSES:
            colour = "white" if is_dark[row, column] else ink_of(axes)
            text = axes.text(
                column, row, str(n), ha="center", va="center_baseline", fontsize=size, color=colour
            )
            text.set(gid=f"count-{row}-{column}", alpha=None if n else 0.5)
