"""What people look at: figures, for notebooks and for pages, and a page of its own."""

from featx.report.codes_map import plot_map
from featx.report.explanations import explanation_figure, plot_explanation
from featx.report.figures import (
    plot_confusion,
    plot_heatmap,
    plot_layers,
    plot_learning_curve,
    plot_reliability,
    plot_training,
)
from featx.report.page import write_report
from featx.report.svg import as_svg

__all__ = [
    "as_svg",
    "explanation_figure",
    "plot_confusion",
    "plot_explanation",
    "plot_heatmap",
    "plot_layers",
    "plot_learning_curve",
    "plot_map",
    "plot_reliability",
    "plot_training",
    "write_report",
]
