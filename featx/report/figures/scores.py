"""Accuracy by layer, and by the number of training images."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from featx.layers import LAYERS, find_layer
from featx.metrics.intervals import Score
from featx.report.axes import BLUE, COLOURS, axes_for, shown
from featx.report.figures.drawing import (
    LETTER,
    LINES,
    MARKERS,
    add_legend,
    check_some,
    draw_scores,
    finish,
    name_ticks,
)
from featx.workflows.sweeping.results import ScoredCandidate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LearningPoint", "plot_layers", "plot_learning_curve"]

_ACCURACY = "accuracy (fraction of images)"
_FILLS = ("full", "none", "left", "bottom")


class LearningPoint(Protocol):
    """The accuracy of a classifier that was fitted on some of the images."""

    @property
    def n_train(self) -> int:
        """Number of training images."""

    @property
    def accuracy(self) -> Score:
        """Accuracy and its interval."""


def plot_layers(rows: Sequence[ScoredCandidate], ax: "Axes | None" = None) -> "Axes":
    """Draw accuracy by layer, with a series for each pooling and image size.

    Error bars are 95 % intervals. The highest of many accuracies is optimistic, because it is
    partly due to chance; `Sweep.expected_accuracy` is not. Layers are in the order of the network,
    and joined layers are last; block2+3_pool means block2_pool and block3_pool.

    Parameters
    ----------
    rows : sequence of ScoredCandidate
        Rows of a sweep, or other objects with `layers`, `pool`, `size` and `accuracy`.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        There are no rows.
    UnknownLayerError
        A layer is not one of VGG19.

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
    check_some(rows, "rows", "a sweep")
    positions = sorted({_in_order(row.layers) for row in rows}, key=lambda each: (len(each), each))
    pools = list(dict.fromkeys(row.pool for row in rows))
    sizes = sorted({row.size for row in rows})
    found = [
        (pool, size, [row for row in rows if (row.pool, row.size) == (pool, size)])
        for size, pool in itertools.product(sizes, pools)
    ]
    series = [each for each in found if each[2]]
    names = [_in_short([LAYERS[i].name for i in position]) for position in positions]
    step = max(0.95 if len(names) <= 7 else 0.45, 0.15 * len(series))
    lines = [line for name in names for line in name.split("\n")]
    longest = LETTER * 10 / 72 * max(map(len, lines))  # inches
    with axes_for(ax, (max(6.4, step * len(names) + 3), 3.8 + 0.5 * longest)) as axes:
        for number, (pool, size, own) in enumerate(series):
            own.sort(key=lambda row: positions.index(_in_order(row.layers)))
            # Shifted, so that intervals do not overlap.
            shift = 0.7 * ((number + 0.5) / len(series) - 0.5)
            at = [positions.index(_in_order(row.layers)) + shift for row in own]
            colour, line = pools.index(pool) % len(COLOURS), sizes.index(size) % len(LINES)
            style: dict[str, Any] = {
                "color": COLOURS[colour],
                "marker": MARKERS[colour],
                "fillstyle": _FILLS[line],
                "linewidth": 1,
            }
            # No line leads to joined layers, because they are not a later layer.
            n = sum(len(row.layers) == 1 for row in own)
            for part, dash in ((slice(n), LINES[line]), (slice(n, None), "none")):
                scores = [row.accuracy for row in own[part]]
                draw_scores(axes, at[part], scores, linestyle=dash, **style)
            label = f"{shown(pool)}, {size[0]}x{size[1]}"
            axes.plot([], [], linestyle=LINES[line], label=label, **style)
        room = axes.get_window_extent().width / axes.figure.dpi / len(names)
        name_ticks(axes, range(len(names)), names, angle=35 if longest > 0.95 * room else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
        xlabel = "layer" if all(len(p) == 1 for p in positions) else "layer, or joined layers"
        title = "Accuracy by layer, with 95 % intervals (the highest is optimistic)"
        finish(axes, title, xlabel, _ACCURACY)
        # The legend is outside the axes, which many series fill.
        add_legend(axes, "pooling, size", loc="upper left", bbox_to_anchor=(1, 1))
        return axes


def _in_order(layers: Sequence[str]) -> tuple[int, ...]:
    """Return the sorted positions of layers in the network."""
    return tuple(sorted(LAYERS.index(find_layer(name)) for name in layers))


def _in_short(layers: Sequence[str]) -> str:
    r"""Return a short name of joined layers, in which a shared suffix appears once.

    Examples
    --------
    >>> _in_short(["block4_pool"]), _in_short(["block2_pool", "block3_pool", "block5_pool"])
    ('block4_pool', 'block2+3+5_pool')
    >>> _in_short(["block1_conv2", "block3_pool", "fc1"])
    'block1_conv2\n+ block3_pool\n+ fc1'
    """
    blocks: dict[str, list[str]] = {}
    for name in layers:
        block, _, kind = name.removeprefix("block").partition("_")
        blocks.setdefault(kind or name, []).append(block)
    parts = [
        f"block{'+'.join(of)}_{kind}" if kind not in of else kind for kind, of in blocks.items()
    ]
    return "\n+ ".join(parts)


def plot_learning_curve(points: Sequence[LearningPoint], ax: "Axes | None" = None) -> "Axes":
    """Draw accuracy by the number of training images.

    Parameters
    ----------
    points : sequence
        Objects with `n_train` and `accuracy`, in any order.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure.

    Returns
    -------
    Axes
        The axes, with a logarithmic number of images.

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
    check_some(points, "points", "a learning curve")
    points = sorted(points, key=lambda point: point.n_train)
    numbers = [point.n_train for point in points]
    with axes_for(ax, (6.0, 4.0)) as axes:
        axes.set_xscale("log")
        scores = [point.accuracy for point in points]
        draw_scores(axes, numbers, scores, color=BLUE, marker="o", linestyle="-")
        axes.set_xticks(numbers, [f"{n:,}" for n in numbers])
        axes.set_xticks([], minor=True)
        title = "Accuracy by number of training images, with 95 % intervals"
        finish(axes, title, "training images (logarithmic)", _ACCURACY)
        return axes
