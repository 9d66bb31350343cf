"""What joins the rooms: predictions and their scores, from images or from stores."""

from featx.workflows.evaluation import (
    BundleEvaluation,
    EvaluationJob,
    evaluate_bundle,
    prepare_evaluation,
    run_evaluation,
)
from featx.workflows.prediction import (
    PredictionJob,
    predict,
    predictions,
    prepare_prediction,
    run_prediction,
)

__all__ = [
    "BundleEvaluation",
    "EvaluationJob",
    "PredictionJob",
    "evaluate_bundle",
    "predict",
    "predictions",
    "prepare_evaluation",
    "prepare_prediction",
    "run_evaluation",
    "run_prediction",
]
