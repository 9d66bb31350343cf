"""Scores of predictions, with their confidence intervals."""

from featx.metrics.evaluation import Evaluation, evaluate
from featx.metrics.intervals import Score

__all__ = ["Evaluation", "Score", "evaluate"]
