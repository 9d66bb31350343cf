"""What people look at: figures, for notebooks and for pages."""

from featx.report.figures import (
    plot_confusion,
    plot_heatmap,
    plot_layers,
    plot_learning_curve,
    plot_reliability,
    plot_training,
)
from featx.report.svg import as_svg

__all__ = [
    "as_svg",
    "plot_confusion",
    "plot_heatmap",
    "plot_layers",
    "plot_learning_curve",
    "plot_reliability",
    "plot_training",
]
