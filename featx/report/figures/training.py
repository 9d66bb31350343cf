"""The accuracy of a fine-tuning by epoch."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.errors import OptionError
from featx.finetuning.history import EpochRecord
from featx.metrics.intervals import Score
from featx.report.axes import AS_IT_IS, BLUE, VERMILLION, axes_for, ink_of, shown
from featx.report.figures.drawing import LINES, add_legend, check_some, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_training"]


def plot_training(
    history: Sequence[EpochRecord],
    best: int | None = None,
    scores: Mapping[str, Score] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the accuracy of a fine-tuning by epoch.

    Parameters
    ----------
    history : sequence of EpochRecord
        The records of ``Finetuned.training.history``.
    best : int, optional
        The epoch whose weights were kept.
    scores : mapping of str to Score, optional
        Accuracies on the test set, such as ``Finetuned.scores``, drawn as horizontal lines
        with names.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure. The names are to the right of
        the axes, and the legend is below.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        There are no epochs, or `best` is not one of them.

    Examples
    --------
    >>> start = EpochRecord(0, 0, None, None, 1.1, 0.6, 2, 0)
    >>> end = EpochRecord(1, 1e-3, 1, 0.7, 0.8, 0.7, 9, 5)
    >>> ax = plot_training([start, end], best=1, scores={"probe": Score(0.6, 0.5, 0.7)})
    >>> [line.get_label() for line in ax.get_lines()][:2]
    ['training set', 'early-stopping set']
    """
    check_some(history, "epochs", "a fine-tuning")
    stopping = {epoch.epoch: epoch.stopping_accuracy for epoch in history}
    if best is not None and best not in stopping:
        message = (
            f"best must be None or one of the epochs {min(stopping)} to {max(stopping)}, but it "
            f"is {best}."
        )
        raise OptionError(message)
    trained = {each.epoch: each.accuracy for each in history if each.accuracy is not None}
    with axes_for(ax, (8.4 if scores else 6.4, 4.2)) as axes:
        curves = (
            ("training set", trained, "s--", VERMILLION),
            ("early-stopping set", stopping, "o-", BLUE),
        )
        for label, points, style, colour in curves:
            if points:
                at, values = list(points), list(points.values())
                axes.plot(at, values, style, color=colour, markersize=4, label=label)
        if best is not None:
            axes.plot(
                best,
                stopping[best],
                "o",
                markersize=11,
                markerfacecolor="none",
                color=ink_of(axes),
                label=f"best: epoch {best}",
            )
        axes.set_xlim(min(stopping) - 0.5, max(stopping) + 0.5)
        axes.locator_params("x", integer=True, min_n_ticks=1)
        title = "Accuracy by epoch"
        if scores:
            title += " (horizontal lines: test set)"
            _draw_lines_across(axes, scores)
        finish(axes, title, "epoch", "accuracy (fraction of images)")
        # Below the tick labels and the axis label, where there are no curves.
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
        add_legend(axes, ncols=3, borderaxespad=3.6, **place)
        return axes


def _draw_lines_across(axes: "Axes", scores: Mapping[str, Score]) -> None:
    """Draw scores as horizontal lines, with names at the right that do not overlap."""
    ink = ink_of(axes)
    ordered = sorted(scores.items(), key=lambda item: item[1].value)
    for (_, score), line in zip(ordered, itertools.cycle(LINES), strict=False):
        axes.axhline(score.value, color=ink, linewidth=1, alpha=0.6, linestyle=line)
    low, high = axes.get_ylim()
    gap = 0.065 * (high - low)
    heights: list[float] = []
    for _, score in ordered:
        heights.append(max(score.value, heights[-1] + gap) if heights else score.value)
    # The last names may be above the axes, so they are moved down, with those that they meet.
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], heights[i + 1] - gap if i + 1 < len(heights) else high)
    axes.set_ylim(low, high)
    style: dict[str, Any] = {"color": ink, "transform": axes.get_yaxis_transform()}
    for (name, score), height in zip(ordered, heights, strict=True):
        ends = (score.value, height)
        axes.plot([1, 1.03], ends, alpha=0.6, linewidth=0.7, clip_on=False, **style)
        interval = "" if score.interval is None else f" ({score.ends()})"
        label = f"{shown(name)} {score.value:.3f}{interval}"
        axes.text(1.04, height, label, va="center", fontsize=9, **style, **AS_IT_IS)
