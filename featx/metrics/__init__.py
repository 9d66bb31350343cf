"""Scores of predictions, with their confidence intervals."""

from featx.metrics.columns import expand_columns
from featx.metrics.evaluation import Evaluation, score_predictions
from featx.metrics.intervals import Score

__all__ = ["Evaluation", "Score", "expand_columns", "score_predictions"]
