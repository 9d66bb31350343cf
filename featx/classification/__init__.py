"""Classifiers on codes: the exact span, selection, evaluation and the bundle."""

from featx.classification.bundle import Bundle, load_bundle
from featx.classification.classifiers import CLASSIFIERS
from featx.classification.evaluation import Evaluation, evaluate
from featx.classification.intervals import Score
from featx.classification.preparing import FitJob, prepare_fit
from featx.classification.roads import Road, choose_road
from featx.classification.span import ExactSpan, UnitRows
from featx.classification.training import Fit, fit, run_fit

__all__ = [
    "CLASSIFIERS",
    "Bundle",
    "Evaluation",
    "ExactSpan",
    "Fit",
    "FitJob",
    "Road",
    "Score",
    "UnitRows",
    "choose_road",
    "evaluate",
    "fit",
    "load_bundle",
    "prepare_fit",
    "run_fit",
]
