"""The reliability diagram: accuracy by confidence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.metrics.evaluation import Evaluation, ReliabilityBin
from featx.report.axes import BLUE, axes_for, ink_of
from featx.report.figures.drawing import check_some, draw_scores, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_reliability"]


def plot_reliability(evaluation: Evaluation, ax: "Axes | None" = None) -> "Axes":
    """Draw a reliability diagram: accuracy by confidence.

    Predictions below the diagonal are overconfident [1]_. Error bars are 95 % intervals; the bars
    above the axes show the number of predictions in each bin.

    Parameters
    ----------
    evaluation : Evaluation
        An evaluation, with its bins.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure. The counts are above them.

    Returns
    -------
    Axes
        The axes of the points; those of the counts are ``ax.child_axes[0]``.

    Raises
    ------
    OptionError
        All bins are empty.

    References
    ----------
    .. [1] A. Niculescu-Mizil and R. Caruana, "Predicting Good Probabilities with
       Supervised Learning", ICML 2005. https://doi.org/10.1145/1102351.1102430

    Examples
    --------
    >>> from types import SimpleNamespace as Of
    >>> from featx.metrics import Score
    >>> from featx.metrics.evaluation import ReliabilityBin
    >>> bins = [ReliabilityBin(0.5, 1.0, 10, 0.8, 0.7, 0.4, 0.9)]
    >>> ax = plot_reliability(Of(n_repeats=1, calibration_error=Score(0.1), reliability=bins))
    >>> ax.get_xlabel()
    'confidence: probability of the predicted class'
    """
    bins = [each for each in evaluation.reliability if each.n]
    check_some(bins, "bins with predictions", "an Evaluation")
    scores = [each.accuracy_score for each in bins]
    with axes_for(ax, (5.2, 5.6)) as axes:
        ink = ink_of(axes)
        axes.plot([0, 1], [0, 1], "--", color=ink, linewidth=1, alpha=0.6, gid="diagonal")
        draw_scores(axes, [each.confidence for each in bins], scores, color=BLUE, marker="o")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.annotate(
            "perfect calibration",
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
        title = (
            "Confidence and accuracy of the predicted class\n"
            f"Calibration error: {100 * error.value:.1f} percentage points"
        )
        confidence = "confidence: probability of the predicted class"
        finish(axes, title, confidence, "accuracy: fraction that is correct", y=1.24, pad=0)
        return axes


def _draw_numbers(axes: "Axes", bins: Sequence[ReliabilityBin], *, one_each: bool) -> None:
    """Draw the number of predictions of each bin, in a strip above the axes."""
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
