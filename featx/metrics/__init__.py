"""Scores of predictions, with their confidence intervals."""

from featx.metrics.evaluation import Evaluation, score_predictions
from featx.metrics.intervals import Score

__all__ = ["Evaluation", "Score", "score_predictions"]
