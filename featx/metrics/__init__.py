"""Scores of predictions, with their confidence intervals."""

from featx.metrics.evaluation import Evaluation, expand_columns, score_predictions
from featx.metrics.intervals import Score

__all__ = ["Evaluation", "Score", "expand_columns", "score_predictions"]
