"""An explanation as a figure: the image, and the contribution of each position."""

from pathlib import PurePath
from typing import TYPE_CHECKING

from featx.report.axes import AS_IT_IS, STYLE, shown, signed
from featx.report.figures.heatmap import plot_heatmap
from featx.workflows import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["explanation_figure", "plot_explanation"]

_BARS = {
    "exact": "contribution to the decision score",
    "occlusion": "decrease of the decision score by a grey square",
}


def plot_explanation(explanation: Explanation, ax: "Axes | None" = None) -> "Axes":
    """Draw the contribution of each position of an image to a decision score.

    Parameters
    ----------
    explanation : Explanation
        A result of `featx.explain`.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure.

    Returns
    -------
    Axes
        The axes, in pixels of the image.
    """
    axes = plot_heatmap(explanation.pixels, explanation.contributions, ax=ax)
    cells = axes.get_images()[1]
    # plot_heatmap assumes that the positions cover the image, but they may end before it.
    cells.set_extent((0, explanation.extent[1], explanation.extent[0], 0))
    height, width = explanation.pixels.shape[:2]
    axes.set(xlim=(0, width), ylim=(height, 0))
    if cells.colorbar is not None:
        cells.colorbar.set_label(_BARS[explanation.method])
    axes.set_title(_title(explanation), loc="left", **AS_IT_IS)
    return axes


def explanation_figure(explanation: Explanation) -> "Figure":
    """Draw an image as the network saw it, and the contributions next to it.

    Parameters
    ----------
    explanation : Explanation
        A result of `featx.explain`.

    Returns
    -------
    Figure
        ``figure.savefig("name.png")`` writes it.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    height, width = explanation.pixels.shape[:2]
    tall = min(max(4.4 * height / width, 2.0), 8.0)
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(10.4, tall + 0.8), layout="constrained")
        image, heat = figure.subplots(1, 2)
        image.imshow(explanation.pixels)
        image.set(xticks=[], yticks=[])
        image.spines[:].set_visible(False)
        name = shown(PurePath(explanation.path).name, 40)
        image.set_title(f"{name}\nas the network saw it", loc="left", **AS_IT_IS)
        plot_explanation(explanation, heat)
    return figure


def _title(explanation: Explanation) -> str:
    for_class = f"for {shown(explanation.label)}, probability {explanation.probability:.2f}"
    if explanation.label != explanation.predicted:
        for_class += f" (predicted: {shown(explanation.predicted, 16)})"
    decision = f"score {signed(explanation.decision_score)}"
    if explanation.constant is None:
        return f"{for_class}\n{decision}; occlusion, an approximation"
    total, constant = float(explanation.contributions.sum()), explanation.constant
    return f"{for_class}\n{decision} = contributions {signed(total)}, constant {signed(constant)}"
