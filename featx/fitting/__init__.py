"""Fitting: the classifiers, their settings, the search, the score and the saved model."""

from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.model import Model, load_model
from featx.fitting.prepare import FitJob, prepare_fit
from featx.fitting.run import Fit, fit, run_fit
from featx.fitting.solvers import SolverPlan, choose_solver

__all__ = [
    "CLASSIFIERS",
    "Fit",
    "FitJob",
    "Model",
    "SolverPlan",
    "choose_solver",
    "fit",
    "load_model",
    "prepare_fit",
    "run_fit",
]
