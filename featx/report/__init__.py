"""Figures for notebooks, and reports: HTML pages about models, sweeps and fine-tunings."""

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
from featx.report.prepare import ReportJob, prepare_report
from featx.report.run import run_report, write_report
from featx.report.settings import ReportSettings
from featx.report.svg import as_svg

__all__ = [
    "ReportJob",
    "ReportSettings",
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
