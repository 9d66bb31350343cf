"""Classifiers on codes: the exact span, selection, evaluation and the bundle."""

from featx.classification.bundle import Bundle, load_bundle
from featx.classification.classifiers import CLASSIFIERS
from featx.classification.evaluation import Evaluation, Score, evaluate
from featx.classification.span import ExactSpan, UnitRows
from featx.classification.training import Fit, fit

__all__ = [
    "CLASSIFIERS",
    "Bundle",
    "Evaluation",
    "ExactSpan",
    "Fit",
    "Score",
    "UnitRows",
    "evaluate",
    "fit",
    "load_bundle",
]
