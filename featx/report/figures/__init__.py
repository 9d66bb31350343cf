"""Figures for notebooks and for reports: results come in, Matplotlib's axes go out.

The axes can be changed, for example to set another title. Without `ax` a figure is made,
which a notebook shows if it is the result of a cell; ``ax.figure.savefig("name.png")``
writes it. No figure knows how its results were computed.
"""

from featx.report.figures.codes_map import plot_map
from featx.report.figures.confusion import plot_confusion
from featx.report.figures.explanations import explanation_figure, plot_explanation
from featx.report.figures.heatmap import plot_heatmap
from featx.report.figures.reliability import plot_reliability
from featx.report.figures.scores import plot_layers, plot_learning_curve
from featx.report.figures.training import plot_training

__all__ = [
    "explanation_figure",
    "plot_confusion",
    "plot_explanation",
    "plot_heatmap",
    "plot_layers",
    "plot_learning_curve",
    "plot_map",
    "plot_reliability",
    "plot_training",
]
