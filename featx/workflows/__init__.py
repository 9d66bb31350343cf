"""What joins the rooms: predictions and their scores, from images or from stores."""

from featx.workflows.evaluation import (
    BundleEvaluation,
    EvaluationJob,
    evaluate_bundle,
    prepare_evaluation,
    run_evaluation,
)
from featx.workflows.finetuning import (
    Finetuned,
    FinetuneJob,
    finetune,
    prepare_finetune,
    run_finetune,
)
from featx.workflows.prediction import (
    PredictionJob,
    predict,
    predictions,
    prepare_prediction,
    run_prediction,
)
from featx.workflows.sweeping import Sweep, SweepJob, prepare_sweep, run_sweep, sweep

__all__ = [
    "BundleEvaluation",
    "EvaluationJob",
    "FinetuneJob",
    "Finetuned",
    "PredictionJob",
    "Sweep",
    "SweepJob",
    "evaluate_bundle",
    "finetune",
    "predict",
    "predictions",
    "prepare_evaluation",
    "prepare_finetune",
    "prepare_prediction",
    "prepare_sweep",
    "run_evaluation",
    "run_finetune",
    "run_prediction",
    "run_sweep",
    "sweep",
]
