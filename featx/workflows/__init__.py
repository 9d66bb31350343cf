"""What joins the rooms: predictions from images or from a store."""

from featx.workflows.prediction import (
    PredictionJob,
    predict,
    prepare_prediction,
    run_prediction,
)

__all__ = ["PredictionJob", "predict", "prepare_prediction", "run_prediction"]
