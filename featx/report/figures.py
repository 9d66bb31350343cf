"""Figures: scores, layers, learning curves and heat maps, each on one pair of axes.

Results come in; Matplotlib's axes go out, drawn on and ready for a title of
your own. Without `ax` a figure is made that a notebook shows where a cell ends
with it; ``ax.figure.savefig("name.png")`` writes it. This file does not know
how the results came about.

References
----------
.. [1] A. Niculescu-Mizil and R. Caruana, "Predicting Good Probabilities with
   Supervised Learning", ICML 2005. https://doi.org/10.1145/1102351.1102430
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featx.classification.evaluation import Evaluation, ReliabilityBin, Score, wilson
from featx.errors import OptionError
from featx.finetuning.steps import Epoch
from featx.layers import LAYERS, find_layer
from featx.report.axes import AS_IT_IS, BLUE, COLOURS, VERMILLION, axes_for, ink_of, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorizer import ColorizingArtist
    from matplotlib.colors import Colormap

__all__ = [
    "LayerScore",
    "LearningPoint",
    "plot_confusion",
    "plot_heatmap",
    "plot_layers",
    "plot_learning_curve",
    "plot_reliability",
    "plot_training",
]

_MARKERS = "os^DvP"  # one to each of COLOURS, so that a grey print can be read
_LINES = ("-", "--", ":", "-.")
_FILLS = ("full", "none", "left", "bottom")
_LETTER = 0.6  # width of a letter, in font sizes: no word is measured before it is drawn
_SMALLEST = 5.0  # points: smaller type cannot be read
_MOST_CELLS = 60  # classes of which each cell is a thing of its own: 3,600 are half a megabyte
_MOST_ZEROS = 12  # classes; among more, noughts hide what is not nought
# Share of a row above which white is easier to read than black on its blue, on a white page.
_DARK = 0.8
_OPAQUE = 0.85  # of the strongest contribution: the image is seen through it


class LayerScore(Protocol):
    """How good codes of some layers are."""

    @property
    def layers(self) -> tuple[str, ...]:
        """One layer, or those that are joined."""

    @property
    def pool(self) -> str:
        """How activations were pooled."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""

    @property
    def accuracy(self) -> Score:
        """Share of right predictions."""


class LearningPoint(Protocol):
    """How good a classifier is that was fitted on some of the images."""

    @property
    def n_train(self) -> int:
        """How many of them."""

    @property
    def accuracy(self) -> Score:
        """Share of right predictions."""


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
    margin = 0.8 + _LETTER * 10 / 72 * max(map(len, names))
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
        size = min(11.0, 0.45 * cell, 0.8 * cell / (_LETTER * len(str(counts.max()))))
        colour = "share of the true class" if normalise else "predictions"
        has_numbers = size >= _SMALLEST and k <= _MOST_CELLS
        if has_numbers:
            _write_counts(axes, counts, values > _DARK * (1 if normalise else counts.max()), size)
        else:
            _add_bar(axes, scale, colour)
        axes.set_title(
            f"{counts.sum():,} predictions of {k} classes\n(colour: {colour})", loc="left"
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
            f"{len(names)} classes are named, and the confusion matrix has {k}. Expected a name "
            "for each, in the order of the rows. Pass classes=[...] of that length."
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
    return ScalarMappable(norm, _map([(0, (*_rgb(BLUE), 0)), (1, (*_rgb(BLUE), 1))]))


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
    upright = _LETTER * size * max(map(len, names)) > cell
    _name_ticks(axes, ticks, kept, angle=90 if upright else 0, fontsize=size)
    axes.tick_params(which="major", length=2)


def _name_ticks(
    axes: "Axes", ticks: Any, names: Sequence[str], *, angle: float, **settings: Any
) -> None:
    """Set names below the axes, at an angle from which they can be told apart."""
    if angle:
        # About their own end, so that they meet the axis in any font of a page.
        place = "center" if angle == 90 else "top"
        settings |= {"rotation": angle, "rotation_mode": "anchor", "ha": "right", "va": place}
    axes.set_xticks(ticks, names, **settings, **AS_IT_IS)


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


def plot_reliability(evaluation: Evaluation, ax: "Axes | None" = None) -> "Axes":
    """Draw how often predictions are right, by their confidence [1]_.

    Points below the diagonal are too sure of themselves. Bars are 95 % Wilson
    intervals, and those above say how many predictions each bin holds.

    Parameters
    ----------
    evaluation : Evaluation
        With its bins.
    ax : Axes, optional
        Where to draw; a new figure by default. The counts stand above it.

    Returns
    -------
    Axes
        Of the points; those of the counts are ``ax.child_axes[0]``.

    Raises
    ------
    OptionError
        All bins are empty.

    Examples
    --------
    >>> from types import SimpleNamespace as Of
    >>> bins = [Of(low=0.5, high=1.0, n=10, confidence=0.8, accuracy=0.7)]
    >>> error = Score(0.1, 0.0, 0.4)
    >>> ax = plot_reliability(Of(n_repeats=1, calibration_error=error, reliability=bins))
    >>> ax.get_xlabel()
    'confidence: probability of the predicted class'
    """
    bins = [each for each in evaluation.reliability if each.n]
    _check_some(bins, "bins with predictions", "an Evaluation")
    # Repeats of an image are not further images.
    n_images = [max(1, round(each.n / evaluation.n_repeats)) for each in bins]
    scores = [wilson(each.accuracy * n, n) for each, n in zip(bins, n_images, strict=True)]
    with axes_for(ax, (5.2, 5.6)) as axes:
        ink = ink_of(axes)
        axes.plot([0, 1], [0, 1], "--", color=ink, linewidth=1, alpha=0.6, gid="diagonal")
        _draw_scores(axes, [each.confidence for each in bins], scores, color=BLUE, marker="o")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel("confidence: probability of the predicted class")
        axes.set_ylabel("accuracy: share that is right")
        axes.annotate(
            "as sure as right",
            (0.04, 0.04),
            xytext=(0, 6),
            textcoords="offset points",
            rotation=45,
            rotation_mode="anchor",
            transform_rotates_text=True,
            color=ink,
            alpha=0.8,
        )
        _draw_numbers(axes, bins, one_each=evaluation.n_repeats == 1)
        error = evaluation.calibration_error
        axes.set_title(
            "Confidence and accuracy of the predicted class\n"
            f"On average they are {100 * error.value:.1f} points apart\n"
            f"(calibration error; 95 % interval {100 * error.low:.1f} to {100 * error.high:.1f})",
            loc="left",
            y=1.24,
            pad=0,
        )
        _tidy(axes)
        return axes


def _draw_numbers(axes: "Axes", bins: Sequence[ReliabilityBin], *, one_each: bool) -> None:
    """Draw how many predictions the bins hold, in a strip above the axes."""
    ink, strip = ink_of(axes), axes.inset_axes((0.0, 1.03, 1.0, 0.16))
    edges = [each.low for each in bins]
    widths = [each.high - each.low for each in bins]
    numbers = [each.n for each in bins]
    bars = strip.bar(edges, numbers, widths, align="edge", color=ink, alpha=0.3)
    size = 8.0 if len(str(max(numbers))) <= 3 else 6.0
    strip.bar_label(bars, [f"{n}" for n in numbers], fontsize=size, color=ink, padding=1)
    strip.set(xlim=axes.get_xlim(), xticks=[], yticks=[])
    strip.set_ylabel("images" if one_each else "predictions", color=ink, fontsize=8)
    strip.spines[["left", "top", "right"]].set_visible(False)
    strip.spines["bottom"].set_color(ink)
    strip.patch.set_visible(False)


def plot_layers(rows: Sequence[LayerScore], ax: "Axes | None" = None) -> "Axes":
    """Draw accuracy by layer, a series for each pooling and image size.

    Bars are 95 % intervals. Layers stand in the network's order, joined ones
    after the single ones.

    Parameters
    ----------
    rows : sequence
        Objects with `layers`, `pool`, `size` and `accuracy`, such as the rows of
        a sweep.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    OptionError
        There are no rows.
    UnknownLayerError
        VGG19 has no such layer.

    Examples
    --------
    >>> from types import SimpleNamespace as Row
    >>> scores = {"block5_pool": Score(0.8, 0.7, 0.9), "block4_pool": Score(0.9, 0.8, 0.95)}
    >>> ax = plot_layers([
    ...     Row(layers=(name,), pool="avg", size=(224, 224), accuracy=score)
    ...     for name, score in scores.items()
    ... ])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['block4_pool', 'block5_pool']
    """
    _check_some(rows, "rows", "a sweep")
    places = sorted({_in_order(row.layers) for row in rows}, key=lambda each: (len(each), each))
    pools = list(dict.fromkeys(row.pool for row in rows))
    sizes = sorted({row.size for row in rows})
    series = [
        (pool, size)
        for size, pool in itertools.product(sizes, pools)
        if any((row.pool, row.size) == (pool, size) for row in rows)
    ]
    names = [" + ".join(LAYERS[i].name for i in place) for place in places]
    step = max(0.95 if len(names) <= 7 else 0.45, 0.15 * len(series))
    longest = _LETTER * 10 / 72 * max(map(len, names))  # inches
    with axes_for(ax, (max(6.4, step * len(names) + 3), 3.8 + 0.5 * longest)) as axes:
        for number, (pool, size) in enumerate(series):
            own = [row for row in rows if (row.pool, row.size) == (pool, size)]
            own.sort(key=lambda row: places.index(_in_order(row.layers)))
            # Side by side, so that intervals do not hide each other.
            shift = 0.7 * ((number + 0.5) / len(series) - 0.5)
            at = [places.index(_in_order(row.layers)) + shift for row in own]
            colour, line = pools.index(pool) % len(COLOURS), sizes.index(size) % len(_LINES)
            style: dict[str, Any] = {
                "color": COLOURS[colour],
                "marker": _MARKERS[colour],
                "fillstyle": _FILLS[line],
                "linewidth": 1,
            }
            # No line leads to joined layers: they are no further step of the network.
            n = sum(len(row.layers) == 1 for row in own)
            for part, dash in ((slice(n), _LINES[line]), (slice(n, None), "none")):
                scores = [row.accuracy for row in own[part]]
                _draw_scores(axes, at[part], scores, linestyle=dash, **style)
            label = f"{shown(pool)}, {size[0]}x{size[1]}"
            axes.plot([], [], linestyle=_LINES[line], label=label, **style)
        room = axes.get_window_extent().width / axes.figure.dpi / len(names)
        _name_ticks(axes, range(len(names)), names, angle=35 if longest > 0.95 * room else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xlabel("layer" if all(len(p) == 1 for p in places) else "layer, or joined layers")
        axes.set_ylabel("accuracy (share of images)")
        axes.set_title("Accuracy by layer, with 95 % intervals", loc="left")
        # Beside the axes, which many series fill.
        _add_legend(axes, "pooling, size", loc="upper left", bbox_to_anchor=(1, 1))
        _tidy(axes)
        return axes


def _in_order(layers: Sequence[str]) -> tuple[int, ...]:
    """Return where layers stand in the network, whose order a join does not depend on."""
    return tuple(sorted(LAYERS.index(find_layer(name)) for name in layers))


def plot_learning_curve(points: Sequence[LearningPoint], ax: "Axes | None" = None) -> "Axes":
    """Draw accuracy by the number of images that were trained on.

    Parameters
    ----------
    points : sequence
        Objects with `n_train` and `accuracy`, in any order.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        Equal steps across are equal factors of images.

    Raises
    ------
    OptionError
        There are no points.

    Examples
    --------
    >>> from types import SimpleNamespace as Point
    >>> scores = {100: Score(0.7, 0.6, 0.8), 400: Score(0.8, 0.7, 0.9)}
    >>> ax = plot_learning_curve([Point(n_train=n, accuracy=s) for n, s in scores.items()])
    >>> ax.get_xscale()
    'log'
    """
    _check_some(points, "points", "a learning curve")
    points = sorted(points, key=lambda point: point.n_train)
    numbers = [point.n_train for point in points]
    with axes_for(ax, (6.0, 4.0)) as axes:
        axes.set_xscale("log")
        scores = [point.accuracy for point in points]
        _draw_scores(axes, numbers, scores, color=BLUE, marker="o", linestyle="-")
        axes.set_xticks(numbers, [f"{n:,}" for n in numbers])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("images trained on (logarithmic)")
        axes.set_ylabel("accuracy (share of images)")
        axes.set_title("Accuracy by images trained on, with 95 % intervals", loc="left")
        _tidy(axes)
        return axes


def plot_training(
    history: Sequence[Epoch],
    best: int | None = None,
    scores: Mapping[str, Score] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a fine-tuning by epoch.

    Parameters
    ----------
    history : sequence of Epoch
        Those of ``Finetuned.trained.history``.
    best : int, optional
        The epoch whose weights were kept.
    scores : mapping of str to Score, optional
        Accuracies of what is compared, such as ``Finetuned.scores``: lines across,
        with names. They are of images that neither curve has seen.
    ax : Axes, optional
        Where to draw; a new figure by default. The names stand right of it.

    Returns
    -------
    Axes

    Raises
    ------
    OptionError
        There are no epochs, or `best` is none of them.

    Examples
    --------
    >>> start, end = Epoch(0, 0, None, None, 1.1, 0.6, 2, 0), Epoch(1, 1e-3, 1, 0.7, 0.8, 0.7, 9, 5)
    >>> ax = plot_training([start, end], best=1, scores={"probe": Score(0.6, 0.5, 0.7)})
    >>> [line.get_label() for line in ax.get_lines()][:2]
    ['part that is trained on', 'part that stops']
    """
    _check_some(history, "epochs", "a fine-tuning")
    stops = {epoch.epoch: epoch.stop_accuracy for epoch in history}
    if best is not None and best not in stops:
        message = (
            f"Epoch {best} cannot be marked as the best: the history has epochs {min(stops)} to "
            f"{max(stops)}. Pass best=None, or one of them."
        )
        raise OptionError(message)
    trained = {each.epoch: each.accuracy for each in history if each.accuracy is not None}
    with axes_for(ax, (8.4 if scores else 6.4, 4.2)) as axes:
        if trained:
            axes.plot(
                list(trained),
                list(trained.values()),
                "s--",
                color=VERMILLION,
                markersize=4,
                label="part that is trained on",
            )
        axes.plot(
            list(stops),
            list(stops.values()),
            "o-",
            color=BLUE,
            markersize=4,
            label="part that stops",
        )
        if best is not None:
            axes.plot(
                best,
                stops[best],
                "o",
                markersize=11,
                markerfacecolor="none",
                color=ink_of(axes),
                label=f"best: epoch {best}",
            )
        axes.set(xlabel="epoch", ylabel="accuracy (share of images)")
        axes.set_xlim(min(stops) - 0.5, max(stops) + 0.5)
        axes.locator_params("x", integer=True, min_n_ticks=1)
        axes.set_title("Fine-tuning by epoch", loc="left")
        if scores:
            axes.set_title("Fine-tuning by epoch; lines across: on untouched images", loc="left")
            _draw_lines_across(axes, scores)
        _add_legend(axes)
        _tidy(axes)
        return axes


def _draw_lines_across(axes: "Axes", scores: Mapping[str, Score]) -> None:
    """Draw scores as lines across, each with its name at the right, apart from the others."""
    ink = ink_of(axes)
    ordered = sorted(scores.items(), key=lambda item: item[1].value)
    for (_, score), line in zip(ordered, itertools.cycle(_LINES), strict=False):
        axes.axhline(score.value, color=ink, linewidth=1, alpha=0.6, linestyle=line)
    low, high = axes.get_ylim()
    gap = 0.065 * (high - low)
    heights: list[float] = []
    for _, score in ordered:
        heights.append(max(score.value, heights[-1] + gap) if heights else score.value)
    # Upwards they may have left the axes: the last one back, and those that it meets.
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], heights[i + 1] - gap if i + 1 < len(heights) else high)
    axes.set_ylim(low, high)
    across = axes.get_yaxis_transform()
    for (name, score), height in zip(ordered, heights, strict=True):
        axes.plot(
            [1, 1.03],
            [score.value, height],
            color=ink,
            alpha=0.6,
            linewidth=0.7,
            transform=across,
            clip_on=False,
        )
        axes.text(
            1.04,
            height,
            f"{shown(name)} {score.value:.3f} ({score.low:.3f} to {score.high:.3f})",
            color=ink,
            va="center",
            fontsize=9,
            transform=across,
            **AS_IT_IS,
        )


def plot_heatmap(
    image: NDArray[np.uint8],
    contributions: NDArray[np.floating],
    *,
    smooth: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what each place of an image adds to a decision value.

    Orange speaks for the class and blue against it; where nothing is said the
    image is seen. It is drawn grey, so that colours are contributions alone.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        The image, as the network saw it.
    contributions : ndarray of float, shape (rows, cols)
        Of the layer's places, which divide the whole image into equal cells.
    smooth : bool, default=False
        Whether to blend neighbouring cells. It looks better, and hides that no
        more is known than a number a cell.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        In pixels of the image.

    Raises
    ------
    OptionError
        The image or the contributions are of another shape or kind.

    Examples
    --------
    >>> ax = plot_heatmap(np.zeros((64, 96, 3), np.uint8), np.array([[1.0, -2.0]]))
    >>> picture, cells = ax.get_images()
    >>> cells.get_clim()
    (-2.0, 2.0)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        message = (
            f"The image has the shape {image.shape} of {image.dtype}. Expected (height, width, 3) "
            "of uint8. Read it with np.asarray(PIL.Image.open(path).convert('RGB'))."
        )
        raise OptionError(message)
    if contributions.ndim != 2 or not np.isfinite(contributions).all():
        message = (
            f"The contributions have the shape {contributions.shape}. Expected (rows, columns) of "
            "the layer's places, each a finite number. Sum over channels first."
        )
        raise OptionError(message)
    height, width = image.shape[:2]
    # Symmetric about 0; all of it 0 would be no range at all.
    most = float(np.abs(contributions).max()) or 1.0
    # As eyes weigh red, green and blue (ITU-R BT.601).
    grey = image @ np.array([0.299, 0.587, 0.114])
    tall = float(np.clip(4.2 * height / width, 2.0, 7.0))
    with axes_for(ax, (5.6, tall + 0.7)) as axes:
        extent = (0, width, height, 0)
        # Black is drawn as a middle grey: colours would not be seen on it.
        axes.imshow(grey, "gray", vmin=-160, vmax=255, extent=extent)
        against, in_favour = _rgb(BLUE), _rgb(VERMILLION)
        ends = [(0, (*against, _OPAQUE)), (1, (*in_favour, _OPAQUE))]
        middle = [(0.5, (*against, 0)), (0.5, (*in_favour, 0))]
        cells = axes.imshow(
            contributions,
            _map([ends[0], *middle, ends[1]]),
            vmin=-most,
            vmax=most,
            extent=extent,
            interpolation="bilinear" if smooth else "nearest",
            interpolation_stage="data",
        )
        _add_bar(axes, cells, "contribution to the decision value")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(f"What each place adds: {contributions.sum():+.3g} in all", loc="left")
        return axes


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _map(colours: Sequence[tuple[float, tuple[float, ...]]]) -> "Colormap":
    """Return a map of colours that are given with their places, from 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap

    # An odd number of steps, of which one is the middle.
    return LinearSegmentedColormap.from_list("featx", list(colours), N=257)


def _add_bar(axes: "Axes", scale: "ColorizingArtist | ScalarMappable", label: str) -> None:
    """Add a bar that says what colours mean."""
    bar = axes.figure.colorbar(scale, ax=axes, shrink=0.8)
    bar.set_label(label)
    for drawn in bar.ax.collections:
        drawn.set_rasterized(True)  # else seams are seen between its steps


def _draw_scores(
    axes: "Axes", at: Sequence[float], scores: Sequence[Score], **settings: Any
) -> None:
    """Draw scores and their intervals, joined by a line if `settings` have one."""
    values = [score.value for score in scores]
    below = [score.value - score.low for score in scores]
    above = [score.high - score.value for score in scores]
    settings = {"linestyle": "none", "markersize": 6, **settings}
    axes.errorbar(at, values, (below, above), elinewidth=0.8, capsize=2, **settings)


def _check_some(things: Sequence[object], name: str, origin: str) -> None:
    if not len(things):
        message = f"There are no {name} to draw. Expected at least one. Pass those of {origin}."
        raise OptionError(message)


def _add_legend(axes: "Axes", title: str | None = None, **place: Any) -> None:
    ink = ink_of(axes)
    legend = axes.legend(title=title, labelcolor=ink, frameon=False, **place)
    legend.get_title().set_color(ink)
    for text in legend.get_texts():
        text.set(**AS_IT_IS)


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
