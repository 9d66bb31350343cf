"""Calibration: probabilities from the decision scores of a classifier.

The decision scores of a classifier on held-out rows go in, with the labels of these rows;
a model from decision scores to probabilities comes out. This module does not know which
classifier made the scores.

References
----------
.. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
   Modern Neural Networks", 2017. https://arxiv.org/abs/1706.04599
.. [2] J. Platt, "Probabilistic Outputs for Support Vector Machines and
   Comparisons to Regularized Likelihood Methods", 1999.
.. [3] T.-F. Wu, C.-J. Lin and R. C. Weng, "Probability Estimates for Multi-class
   Classification by Pairwise Coupling", JMLR 5, 2004.
"""

import itertools
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from featx.choices import Calibration
from featx.codes.matrix import Matrix
from featx.errors import FitError
from featx.fitting.estimators import GivenClassifier

__all__ = [
    "DecisionScores",
    "PrecomputedScores",
    "TemperatureScaling",
    "calibrate",
    "decision_scores",
    "pair_means",
]

# Smallest probability before the logarithm: a class without votes is unlikely, not impossible.
_LEAST_PROBABILITY = 1e-4


def decision_scores(estimator: BaseEstimator, X: Matrix) -> Matrix:
    """Return the decision scores of an estimator, (n, k): the largest is the predicted class.

    scikit-learn has a single score for two classes. Half of it is the score of the second
    class, and minus half that of the first, so that their softmax is the logistic
    function. Classifiers without decision scores, such as nearest neighbours, have the
    logarithms of their probabilities.

    An SVM of several classes has a margin for each pair of classes. Its decision scores are
    those whose differences are the closest to the margins, by least squares: their softmax
    couples the pairwise logistic functions [3]_ at any temperature. If the class that wins most
    pairs, which the SVM predicts, has not the largest score, both scores are exchanged.
    scikit-learn's own decision scores count the pairs that a class wins, and jump where one pair
    changes. They are only used with decision_function_shape="ovr".
    """
    if not hasattr(estimator, "decision_function"):
        return np.asarray(np.log(np.maximum(estimator.predict_proba(X), _LEAST_PROBABILITY)))
    scores = np.asarray(estimator.decision_function(X), dtype=np.float64)
    if getattr(estimator, "decision_function_shape", None) == "ovo" and scores.ndim == 2:
        return _coupled(scores, len(estimator.classes_))
    return np.column_stack([-scores / 2, scores / 2]) if scores.ndim == 1 else scores


def pair_means(margins: Matrix, k: int) -> Matrix:
    """Return the scores, (n, k), whose differences are closest to margins of pairs of classes.

    The sum of squares is least for the mean of the margins against the k classes, itself
    included. For two classes these are half of the margin, and minus half.
    """
    scores = np.zeros((len(margins), k))
    for (i, j), margin in zip(itertools.combinations(range(k), 2), margins.T, strict=True):
        scores[:, i] += margin / k
        scores[:, j] -= margin / k
    return scores


def _coupled(margins: Matrix, k: int) -> Matrix:
    """Return the means of the pairs, where the class that wins most pairs has the largest one.

    Of classes that win equally many pairs, the one with the largest mean is predicted.
    """
    scores = pair_means(margins, k)
    wins = np.zeros_like(scores)
    for (i, j), margin in zip(itertools.combinations(range(k), 2), margins.T, strict=True):
        wins[:, i] += margin >= 0
        wins[:, j] += margin < 0
    rows, largest = np.arange(len(scores)), scores.argmax(axis=1)
    predicted = (wins + scores / (3 * (np.abs(scores) + 1))).argmax(axis=1)
    ours, theirs = scores[rows, predicted], scores[rows, largest]
    scores[rows, predicted], scores[rows, largest] = theirs, ours
    return scores


class DecisionScores(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier as a transformer, from rows to decision scores.

    Parameters
    ----------
    estimator : scikit-learn classifier, optional
        Not fitted; `fit` fits a clone. None if scikit-learn alone cannot fit it again.

    Attributes
    ----------
    estimator_ : scikit-learn classifier
        Fitted.
    """

    def __init__(self, estimator: BaseEstimator | None = None) -> None:
        self.estimator = estimator

    @classmethod
    def fitted(cls, fitted: BaseEstimator, estimator: BaseEstimator | None = None) -> Self:
        """Return the transformer of a fitted classifier."""
        scores = cls(estimator)
        scores.estimator_ = fitted
        return scores

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit a clone of the classifier.

        Raises
        ------
        FitError
            There is no `estimator`.
        """
        if self.estimator is None:
            message = (
                "scikit-learn cannot fit this classifier again, because it was fitted by --solver "
                "streamed, is the head of a tuned network, or was saved by an earlier version of "
                "featx. Use featx.fit, or featx.finetune for a network."
            )
            raise FitError(message)
        self.estimator_ = clone(self.estimator).fit(X, y)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Until format 3 of models, `estimator` was the fitted classifier.
        if "estimator_" not in state and state.get("estimator") is not None:
            fitted = state["estimator"]
            if hasattr(fitted, "classes_"):
                state = {**state, "estimator": None, "estimator_": fitted}
        super().__setstate__(state)

    def transform(self, X: Matrix) -> Matrix:
        """Return decision scores, (n, k)."""
        check_is_fitted(self)
        return decision_scores(self.estimator_, X)


class TemperatureScaling(GivenClassifier):
    """Probabilities as the softmax of decision scores divided by a temperature [1]_.

    The temperature does not change the predicted class.

    Parameters
    ----------
    classes : tuple of str
        Class of each column of the decision scores.
    temperature : float, default=1.0
        Divisor of the decision scores; `fit` sets it.

    Notes
    -----
    If all rows are predicted correctly, a lower temperature always has a lower loss. As
    in Platt's method for the sigmoid [2]_, `fit` therefore adds the weight of one row in
    n whose label is the second-best class (the best one, if the prediction is wrong).

    Examples
    --------
    >>> model = TemperatureScaling(("a", "b"), temperature=2.0)
    >>> model.predict_proba(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """

    def __init__(self, classes: tuple[str, ...], temperature: float = 1.0) -> None:
        self.classes = classes
        self.temperature = temperature

    def fit(self, X: Matrix, y: NDArray[np.str_]) -> Self:
        """Find the temperature with the lowest log loss.

        Parameters
        ----------
        X : ndarray of shape (n, k)
            Decision scores of held-out rows; -inf for classes that the classifier was
            not fitted on.
        y : ndarray of str, shape (n,)
            Labels, each with a finite score.
        """
        n = len(X)
        rows, own = np.arange(n), np.searchsorted(self.classes_, y)
        others = X.copy()
        others[rows, own] = -np.inf
        rival = others.argmax(axis=1)
        weight = 1 / (n + 1)
        target = (1 - weight) * X[rows, own] + weight * X[rows, rival]

        def loss(log_temperature: float) -> float:
            beta = np.exp(-log_temperature)
            return float(np.mean(logsumexp(beta * X, axis=1) - beta * target))

        spread = float(np.ptp(X[np.isfinite(X)])) or 1.0
        found = minimize_scalar(loss, bounds=(np.log(spread) - 12, np.log(spread) + 12))
        self.temperature = float(np.exp(found.x))
        return self

    def predict(self, X: Matrix) -> NDArray[np.str_]:
        """Return the labels with the largest score."""
        return np.asarray(self.classes_[X.argmax(axis=1)])

    def predict_proba(self, X: Matrix) -> Matrix:
        """Return probabilities, (n, k)."""
        return np.asarray(softmax(X / self.temperature, axis=1))


class PrecomputedScores(GivenClassifier):
    """A classifier whose rows are its decision scores, as scikit-learn's calibration requires.

    Parameters
    ----------
    classes : tuple of str
        Class of each column of the decision scores.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    def decision_function(self, X: Matrix) -> Matrix:
        """Return the decision scores; a single one for two classes, as scikit-learn does."""
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X


def calibrate(
    X: Matrix, y: NDArray[np.str_], classes: tuple[str, ...], method: Calibration
) -> BaseEstimator:
    """Fit a model from decision scores to probabilities.

    Parameters
    ----------
    X : ndarray of shape (n, k)
        Decision scores of held-out rows; -inf for classes that the classifier was not
        fitted on.
    y : ndarray of str, shape (n,)
        Labels.
    classes : tuple of str
        Class of each column.
    method : {"temperature", "sigmoid", "isotonic", "none"}
        "temperature" never changes the predicted class; "sigmoid" and "isotonic" may.
        "none" is the softmax of the decision scores.

    Returns
    -------
    scikit-learn classifier
        From decision scores to probabilities.

    Raises
    ------
    FitError
        A class has no rows, and the method requires some.
    """
    uncalibrated = TemperatureScaling(classes)
    own = np.searchsorted(classes, y)
    known = np.isfinite(X[np.arange(len(X)), own]) if len(X) else np.zeros(0, bool)
    X, y = X[known], y[known]
    if method == "none" or len(np.unique(y)) < 2:
        return uncalibrated
    if method == "temperature":
        return uncalibrated.fit(X, y)
    lacking = sorted(set(classes) - set(y))
    if lacking:
        message = (
            f"--calibration {method} is fitted for each class on held-out images, but there are "
            f"too few images of {', '.join(lacking)}. Use --calibration temperature."
        )
        raise FitError(message)
    # A class that was not in a training part counts as the least likely of all.
    X = np.where(np.isfinite(X), X, X[np.isfinite(X)].min())
    # The scores are given, so one fold with all rows both for training and test is enough.
    every = np.arange(len(X))
    model = CalibratedClassifierCV(
        FrozenEstimator(PrecomputedScores(classes)), method=method, cv=[(every, every)]
    ).fit(X, y)
    return model.set_params(cv=None)
