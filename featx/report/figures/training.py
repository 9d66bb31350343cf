"""A fine-tuning by epoch.

Its history comes in; Matplotlib's axes go out.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from featx.errors import OptionError
from featx.finetuning.history import EpochRecord
from featx.metrics.intervals import Score
from featx.report.axes import AS_IT_IS, BLUE, VERMILLION, axes_for, ink_of, shown
from featx.report.figures.drawing import LINES, add_legend, check_some, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_training"]


def plot_training(
    history: Sequence[EpochRecord],
    best: int | None = None,
    scores: Mapping[str, Score] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a fine-tuning by epoch.

    Parameters
    ----------
    history : sequence of EpochRecord
        Those of ``Finetuned.training.history``.
    best : int, optional
        The epoch whose weights were kept.
    scores : mapping of str to Score, optional
        Accuracies of what is compared, such as ``Finetuned.scores``: lines across,
        with names. They are of images that neither curve has seen.
    ax : Axes, optional
        Where to draw; a new figure by default. The names stand right of it,
        the legend below.

    Returns
    -------
    Axes
        That was drawn on.

    Raises
    ------
    OptionError
        There are no epochs, or `best` is none of them.

    Examples
    --------
    >>> start, end = EpochRecord(0, 0, None, None, 1.1, 0.6, 2, 0), EpochRecord(1, 1e-3, 1, 0.7, 0.8, 0.7, 9, 5)
    >>> ax = plot_training([start, end], best=1, scores={"probe": Score(0.6, 0.5, 0.7)})
    >>> [line.get_label() for line in ax.get_lines()][:2]
    ['part that is trained on', 'part that stops']
    """
    check_some(history, "epochs", "a fine-tuning")
    stops = {epoch.epoch: epoch.stopping_accuracy for epoch in history}
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
        _add_legend_below(axes)
        tidy(axes)
        return axes


def _add_legend_below(axes: "Axes") -> None:
    """Add a legend below the axes, their numbers and their label, where no curve goes."""
    from matplotlib.transforms import ScaledTranslation

    # In points, since they have one height however high the axes are.
    down = ScaledTranslation(0, -36 / 72, axes.figure.dpi_scale_trans)
    add_legend(
        axes,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + down,
        borderaxespad=0,
        ncols=3,
    )


def _draw_lines_across(axes: "Axes", scores: Mapping[str, Score]) -> None:
    """Draw scores as lines across, each with its name at the right, apart from the others."""
    ink = ink_of(axes)
    ordered = sorted(scores.items(), key=lambda item: item[1].value)
    for (_, score), line in zip(ordered, itertools.cycle(LINES), strict=False):
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
