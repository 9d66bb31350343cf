"""The verbs that need several rooms: predict, evaluate, explain, sweep and finetune."""

from featx.workflows.evaluation import (
    EvaluationJob,
    ModelEvaluation,
    evaluate,
    prepare_evaluation,
    run_evaluation,
)
from featx.workflows.explaining import (
    Explanation,
    ExplanationJob,
    explain,
    figure_paths,
    prepare_explanation,
    run_explanation,
)
from featx.workflows.finetuning import (
    Finetuned,
    FinetuneJob,
    FinetuneProgress,
    FinetuneSettings,
    finetune,
    prepare_finetune,
    run_finetune,
)
from featx.workflows.predicting import (
    PredictionJob,
    predict,
    predictions,
    prepare_prediction,
    run_prediction,
)
from featx.workflows.sweeping import Sweep, SweepJob, prepare_sweep, run_sweep, sweep

__all__ = [
    "EvaluationJob",
    "Explanation",
    "ExplanationJob",
    "FinetuneJob",
    "FinetuneProgress",
    "FinetuneSettings",
    "Finetuned",
    "ModelEvaluation",
    "PredictionJob",
    "Sweep",
    "SweepJob",
    "evaluate",
    "explain",
    "figure_paths",
    "finetune",
    "predict",
    "predictions",
    "prepare_evaluation",
    "prepare_explanation",
    "prepare_finetune",
    "prepare_prediction",
    "prepare_sweep",
    "run_evaluation",
    "run_explanation",
    "run_finetune",
    "run_prediction",
    "run_sweep",
    "sweep",
]
