"""Fitting: choose, fit, calibrate, score and save a classifier of codes.

A fit goes through these files: `settings` lists the settings, `prepare` opens the stores and
makes a job, for which `solvers` chooses the solver, and `run` runs it. With an exact solver,
`coordinates` reads the codes, `selection` chooses among the table in `classifiers`, by the fits
and searches in `grid_search`, and calibrates the choice by `calibration`; `cross_validation` is
the loop over the folds that are scored, and `pipeline` is the result for scikit-learn. With the
streamed solver, all but the last is in `sgd`. The result is a `model`, which `attribution`
explains.
"""

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
