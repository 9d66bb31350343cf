"""Predictions: a job, its probabilities, and the table of them."""

from featx.workflows.predicting.classifying import probability_blocks
from featx.workflows.predicting.prepare import (
    PredictionJob,
    find_inputs,
    open_model,
    prepare_job,
    prepare_prediction,
)
from featx.workflows.predicting.run import predict, predictions, run_prediction

__all__ = [
    "PredictionJob",
    "find_inputs",
    "open_model",
    "predict",
    "predictions",
    "prepare_job",
    "prepare_prediction",
    "probability_blocks",
    "run_prediction",
]
