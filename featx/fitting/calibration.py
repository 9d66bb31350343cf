"""From decisions to probabilities.

What a classifier decides about rows that it did not see comes in, with their
labels; a model from decisions to probabilities goes out. This file does not
know which classifier decided.

References
----------
.. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
   Modern Neural Networks", 2017. https://arxiv.org/abs/1706.04599
.. [2] J. Platt, "Probabilistic Outputs for Support Vector Machines and
   Comparisons to Regularized Likelihood Methods", 1999.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from featx.choices import Calibration
from featx.codes.matrix import Matrix
from featx.errors import FitError

__all__ = [
    "DecisionScores",
    "PrecomputedScores",
    "TemperatureScaling",
    "calibrate",
    "decision_scores",
]

# A vote that no neighbour gave is not impossible, only rarer than this.
_RAREST = 1e-4


def decision_scores(estimator: BaseEstimator, X: Matrix) -> Matrix:
    """Return an estimator's decisions, one column a class: the largest is its answer.

    Those of two classes, which scikit-learn gives as one number, are half of
    it for the second class and minus half for the first, so that their softmax
    is the logistic function. Where there are only probabilities, as of votes,
    they are logarithms.
    """
    if not hasattr(estimator, "decision_function"):
        return np.asarray(np.log(np.maximum(estimator.predict_proba(X), _RAREST)))
    found = np.asarray(estimator.decision_function(X), dtype=np.float64)
    return np.column_stack([-found / 2, found / 2]) if found.ndim == 1 else found


class DecisionScores(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier as a transformer, from rows to its decisions.

    Parameters
    ----------
    estimator : scikit-learn classifier
        Fitted.
    """

    def __init__(self, estimator: BaseEstimator) -> None:
        self.estimator = estimator

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Do nothing: the classifier is fitted."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Matrix) -> Matrix:
        """Return decisions, (n, k)."""
        return decision_scores(self.estimator, X)


class _OfDecisions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What answers by the largest of decisions that another classifier made."""

    classes: tuple[str, ...]

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Labels, shape (k,)."""
        return np.array(self.classes)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Matrix) -> NDArray[np.str_]:
        """Return the labels of the largest decisions."""
        return np.asarray(self.classes_[X.argmax(axis=1)])


class TemperatureScaling(_OfDecisions):
    """Probabilities by a softmax of decisions, divided by one number [1]_.

    The predicted class stays as it is, whatever the number.

    Parameters
    ----------
    classes : tuple of str
        Names of the columns of decisions.
    temperature : float, default=1.0
        What decisions are divided by; `fit` finds it.

    Notes
    -----
    Where decisions on all rows are right, ever smaller temperatures fit ever
    better. As Platt [2]_ did for the sigmoid, one further row is therefore
    assumed in n: one that is of its second-best class (the best, if that is
    wrong).

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
        """Find the temperature of least log loss.

        Parameters
        ----------
        X : ndarray of shape (n, k)
            Decisions on rows that the classifier did not see; -inf where it
            did not know the class.
        y : ndarray of str, shape (n,)
            Labels, each with a finite decision.
        """
        n = len(X)
        own = np.searchsorted(self.classes_, y)
        others = X.copy()
        others[np.arange(n), own] = -np.inf
        rival = others.argmax(axis=1)
        rows, share = np.arange(n), 1 / (n + 1)
        gain = (1 - share) * X[rows, own] + share * X[rows, rival]

        def loss(log_temperature: float) -> float:
            beta = np.exp(-log_temperature)
            return float(np.mean(logsumexp(beta * X, axis=1) - beta * gain))

        spread = float(np.ptp(X[np.isfinite(X)])) or 1.0
        found = minimize_scalar(loss, bounds=(np.log(spread) - 12, np.log(spread) + 12))
        self.temperature = float(np.exp(found.x))
        return self

    def predict_proba(self, X: Matrix) -> Matrix:
        """Return probabilities, (n, k)."""
        return np.asarray(softmax(X / self.temperature, axis=1))


def calibrate(
    X: Matrix, y: NDArray[np.str_], classes: tuple[str, ...], method: Calibration
) -> BaseEstimator:
    """Fit a model from decisions to probabilities.

    Parameters
    ----------
    X : ndarray of shape (n, k)
        Decisions on rows that the classifier did not see; -inf in the columns
        of classes that it did not know.
    y : ndarray of str, shape (n,)
        Labels.
    classes : tuple of str
        Names of the columns.
    method : {"temperature", "sigmoid", "isotonic", "none"}
        Temperature never changes a predicted class; the others may. None is
        the softmax of the decisions as they are.

    Returns
    -------
    scikit-learn classifier
        From decisions to probabilities.

    Raises
    ------
    FitError
        A class has no row to calibrate on, and the method needs one.
    """
    plain = TemperatureScaling(classes)
    own = np.searchsorted(classes, y)
    known = np.isfinite(X[np.arange(len(X)), own]) if len(X) else np.zeros(0, bool)
    X, y = X[known], y[known]
    if method == "none" or len(np.unique(y)) < 2:
        return plain
    if method == "temperature":
        return plain.fit(X, y)
    lacking = sorted(set(classes) - set(y))
    if lacking:
        message = (
            f"Too few images of {', '.join(lacking)} for --calibration {method}, which is fitted "
            "for each class on images held out. Use --calibration temperature."
        )
        raise FitError(message)
    # What a fold did not know counts as the least likely of all.
    X = np.where(np.isfinite(X), X, X[np.isfinite(X)].min())
    # All is decided, so that one fold that holds out every row is enough.
    every = np.arange(len(X))
    model = CalibratedClassifierCV(
        FrozenEstimator(PrecomputedScores(classes)), method=method, cv=[(every, every)]
    ).fit(X, y)
    return model.set_params(cv=None)


class PrecomputedScores(_OfDecisions):
    """A classifier of decisions that were made: what scikit-learn's calibration asks for.

    Parameters
    ----------
    classes : tuple of str
        Names of the columns of decisions.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    def fit(self, X: Matrix, y: NDArray[np.str_]) -> Self:
        """Do nothing: all is decided."""
        return self

    def decision_function(self, X: Matrix) -> Matrix:
        """Return the decisions as scikit-learn has them: one number for two classes."""
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X
