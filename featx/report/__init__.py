"""What people look at: figures, for notebooks and for pages, and a page of its own."""

from featx.report.figures import (
    explanation_figure,
    plot_confusion,
    plot_explanation,
    plot_heatmap,
    plot_layers,
    plot_learning_curve,
    plot_map,
    plot_reliability,
    plot_training,
)
from featx.report.page import ReportJob, prepare_report, run_report, write_report
from featx.report.svg import as_svg

__all__ = [
    "ReportJob",
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
    "prepare_report",
    "run_report",
    "write_report",
]
