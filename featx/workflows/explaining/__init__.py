"""Explanations: images and a model come in, what each position adds to a decision goes out."""

from featx.workflows.explaining.prepare import (
    EXPLANATIONS_FILE,
    ExplanationJob,
    figure_paths,
    prepare_explanation,
)
from featx.workflows.explaining.results import Explanation
from featx.workflows.explaining.run import explain, run_explanation

__all__ = [
    "EXPLANATIONS_FILE",
    "Explanation",
    "ExplanationJob",
    "explain",
    "figure_paths",
    "prepare_explanation",
    "run_explanation",
]
