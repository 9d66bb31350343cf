"""Conversions between classifiers of codes and heads of networks.

A model becomes the head that a training begins with, and a tuned network becomes a model
that predicts as any other does. Nothing is fitted here.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator

from featx.codes.scaling import CentredRows, UnitRows
from featx.errors import OptionError
from featx.finetuning.heads import Head, Normalise
from featx.finetuning.tuned import read_tuned
from featx.fitting import Model
from featx.fitting.calibration import DecisionScores, TemperatureScaling
from featx.fitting.estimators import Perceptron
from featx.fitting.pipeline import CodePipeline
from featx.network import find_weights

__all__ = ["head_of", "tuned_model"]


def head_of(model: Model) -> Head:
    """Return the head that predicts as a model does, including its temperature.

    Parameters
    ----------
    model : Model
        A model with a linear classifier on one layer, such as logistic, ridge, linear-svm,
        lda or centroid.

    Raises
    ------
    OptionError
        The classifier is not linear, or uses codes of several layers.
    """
    steps = model.classifier.named_steps
    estimator = steps["decisions"].estimator_
    if len(model.recipe.layers) > 1 or not hasattr(estimator, "coef_"):
        message = (
            "The head needs a linear classifier on one layer, but the model is "
            f"{type(estimator).__name__} on {'+'.join(model.recipe.layers)}. Use a model of featx "
            "fit --clf logistic, ridge or linear-svm with one --layer, or --head-init random."
        )
        raise OptionError(message)
    calibration = steps["calibration"]
    # Sigmoid and isotonic calibration are not one factor, so the head leaves them out.
    temperature = calibration.temperature if isinstance(calibration, TemperatureScaling) else 1.0
    # For two classes, ridge has one row of coefficients without an axis.
    coef, bias = np.atleast_2d(estimator.coef_), np.ravel(estimator.intercept_)
    if "components" in steps:
        components = steps["components"]
        coef = np.stack([components.to_columns(row) for row in coef])
        bias = bias - coef @ components.mean_
    kernel, bias = coef.T / temperature, bias / temperature
    if kernel.shape[1] == 1:  # one score for two classes: half for one, minus half for the other
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    normalise: Normalise = "none"
    mean = None
    if "unit" in steps:
        normalise = "sqrt-l2" if steps["unit"].root else "l2"
    if "centre" in steps:
        normalise, mean = "centre", steps["centre"].mean_.astype(np.float32)
    kernels, biases = (kernel.astype(np.float32),), (bias.astype(np.float32),)
    return Head(model.classes, normalise, mean, kernels, biases)


def tuned_model(path: Path | str) -> Model:
    """Return a tuned network as a model.

    The weights of its recipe are the file, and its classifier is the head.

    Parameters
    ----------
    path : Path or str
        The tuned.keras of `featx finetune`. None of its code is run.

    Raises
    ------
    ModelError, WeightsError
        The file does not exist, is something else, or is damaged.
    """
    tuned = read_tuned(path)
    weights = str(tuned.path.absolute())
    source = find_weights(weights, tuned.recipe.layers)
    recipe = dataclasses.replace(tuned.recipe, weights=source.identity)
    summary = json.dumps(tuned.summary)
    provenance = {"codes": [], "extraction": {"weights": weights}, "tuned": summary}
    known = tuned.fitted_on, tuned.fingerprints
    return Model(_pipeline(tuned.head), recipe, provenance, tuned.summary, *known)


def _pipeline(head: Head) -> CodePipeline:
    steps: list[tuple[str, BaseEstimator]] = []
    if head.normalise != "none":
        root = head.normalise == "sqrt-l2"
        steps.append(("unit", UnitRows((head.n_features,), root=root)))
    if head.mean is not None:
        centre = CentredRows()
        centre.mean_ = head.mean.astype(np.float64)
        steps.append(("centre", centre))
    estimator = Perceptron(head.classes, list(head.kernels), list(head.biases))
    steps.append(("decisions", DecisionScores.fitted(estimator)))
    steps.append(("calibration", TemperatureScaling(head.classes)))
    return CodePipeline(steps)
