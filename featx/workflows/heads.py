"""Between classifiers of codes and heads of networks: the same numbers on both sides.

A bundle comes in and a head goes out, or a tuned network and a bundle: what
`featx fit` found a training begins with, and what a training found predicts
as a bundle does. Nothing is fitted here.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from featx.codes import UnitRows
from featx.codes.gram import CentredRows
from featx.errors import OptionError
from featx.finetuning.heads import Head, Normalise
from featx.finetuning.tuned import read_tuned
from featx.fitting import Model
from featx.fitting.calibration import DecisionScores, TemperatureScaling
from featx.fitting.estimators import Perceptron
from featx.network import find_weights

__all__ = ["head_of", "tuned_model"]


def head_of(bundle: Model) -> Head:
    """Return the head that decides as a bundle's classifier does, its temperature included.

    Parameters
    ----------
    bundle : Model
        Of a classifier that weighs one layer's codes: logistic, ridge or
        linear-svm; lda and centroid do too.

    Raises
    ------
    OptionError
        Its classifier is no weighted sum of one layer's codes.
    """
    steps = bundle.classifier.named_steps
    estimator = steps["decisions"].estimator
    if len(bundle.recipe.layers) > 1 or not hasattr(estimator, "coef_"):
        what = f"{type(estimator).__name__} on {'+'.join(bundle.recipe.layers)}"
        message = (
            f"A head begins as a linear classifier on one layer; this bundle is {what}. Expected "
            "featx fit --clf logistic, ridge or linear-svm with one --layer. Or begin at random: "
            "--head-init random"
        )
        raise OptionError(message)
    calibration = steps["calibration"]
    # Sigmoid and isotonic are no single number: the head then keeps the decisions as they are.
    temperature = calibration.temperature if isinstance(calibration, TemperatureScaling) else 1.0
    # Ridge has one row, without its axis, for two classes.
    coef, bias = np.atleast_2d(estimator.coef_), np.ravel(estimator.intercept_)
    if "components" in steps:  # sums of a code's numbers, whose weights come back to these
        components = steps["components"]
        coef = np.stack([components.to_columns(row) for row in coef])
        bias = bias - coef @ components.mean_
    kernel, bias = coef.T / temperature, bias / temperature
    if kernel.shape[1] == 1:  # of two classes: half for the second, minus half for the first
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    mean = steps["centre"].mean_ if "centre" in steps else None
    normalise: Normalise = "none"
    if "unit" in steps:
        normalise = "sqrt-l2" if steps["unit"].root else "l2"
    if mean is not None:
        normalise = "centre"
    return Head(
        bundle.classes,
        normalise,
        None if mean is None else mean.astype(np.float32),
        (kernel.astype(np.float32),),
        (bias.astype(np.float32),),
    )


def tuned_model(path: Path | str) -> Model:
    """Return a tuned network as a bundle: a recipe whose weights are the file, and its head.

    Parameters
    ----------
    path : Path or str
        The tuned.keras that `featx finetune` wrote. No code of it is run.

    Raises
    ------
    ModelError, WeightsError
        It is no such file, or damaged.
    """
    tuned = read_tuned(path)
    spec = str(tuned.path.absolute())
    source = find_weights(spec, tuned.recipe.layers)
    provenance = {
        "codes": [],
        "extraction": {"weights": spec},
        "tuned": json.dumps(tuned.summary),
    }
    return Model(
        _pipeline(tuned.head),
        dataclasses.replace(tuned.recipe, weights=source.identity),
        provenance,
        tuned.summary,
        tuned.fitted_on,
    )


def _pipeline(head: Head) -> Pipeline:
    steps: list[tuple[str, BaseEstimator]] = []
    if head.normalise != "none":
        unit = UnitRows((head.code_size,), root=head.normalise == "sqrt-l2")
        steps.append(("unit", unit))
    if head.mean is not None:
        centre = CentredRows()
        centre.mean_ = head.mean.astype(np.float64)
        steps.append(("centre", centre))
    estimator = Perceptron(head.classes, list(head.kernels), list(head.biases))
    return Pipeline(
        [
            *steps,
            ("decisions", DecisionScores(estimator)),
            ("calibration", TemperatureScaling(head.classes)),
        ]
    )
