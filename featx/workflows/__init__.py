"""The verbs that need several rooms: predict, evaluate, compare, explain, sweep and finetune."""

from featx.workflows.comparison import (
    Comparison,
    ComparisonJob,
    compare,
    prepare_comparison,
    run_comparison,
)
from featx.workflows.evaluation import ModelEvaluation, evaluate, prepare_evaluation, run_evaluation
from featx.workflows.explaining.prepare import ExplanationJob, figure_paths, prepare_explanation
from featx.workflows.explaining.results import Explanation
from featx.workflows.explaining.run import explain, run_explanation
from featx.workflows.finetuning.prepare import prepare_finetune
from featx.workflows.finetuning.results import Finetuned
from featx.workflows.finetuning.run import finetune, run_finetune
from featx.workflows.finetuning.settings import FinetuneProgress
from featx.workflows.predicting.predictor import Predictions, Predictor, load_predictor
from featx.workflows.predicting.prepare import prepare_prediction
from featx.workflows.predicting.run import predict, predictions, run_prediction
from featx.workflows.sweeping.prepare import prepare_sweep
from featx.workflows.sweeping.results import Sweep
from featx.workflows.sweeping.run import run_sweep, sweep
from featx.workflows.sweeping.settings import SweepProgress

__all__ = [
    "Comparison",
    "ComparisonJob",
    "Explanation",
    "ExplanationJob",
    "FinetuneProgress",
    "Finetuned",
    "ModelEvaluation",
    "Predictions",
    "Predictor",
    "Sweep",
    "SweepProgress",
    "compare",
    "evaluate",
    "explain",
    "figure_paths",
    "finetune",
    "load_predictor",
    "predict",
    "predictions",
    "prepare_comparison",
    "prepare_evaluation",
    "prepare_explanation",
    "prepare_finetune",
    "prepare_prediction",
    "prepare_sweep",
    "run_comparison",
    "run_evaluation",
    "run_explanation",
    "run_finetune",
    "run_prediction",
    "run_sweep",
    "sweep",
]
