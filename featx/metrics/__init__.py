"""Scores of predictions, with their confidence intervals."""

from featx.metrics.evaluation import Evaluation, expand_columns, score_predictions
from featx.metrics.intervals import Score
from featx.metrics.two_classes import PositiveScores

__all__ = ["Evaluation", "PositiveScores", "Score", "expand_columns", "score_predictions"]
