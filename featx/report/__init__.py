"""Figures for notebooks, and reports: HTML pages about models, sweeps and fine-tunings."""

from featx.report.figures.codes_map import plot_map
from featx.report.figures.confusion import plot_confusion
from featx.report.figures.explanations import explanation_figure, plot_explanation
from featx.report.figures.heatmap import plot_heatmap
from featx.report.figures.reliability import plot_reliability
from featx.report.figures.scores import plot_layers, plot_learning_curve
from featx.report.figures.training import plot_training
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
