"""Classifiers that scikit-learn lacks, or has in a form that depends on the axes or on rounding.

Rows and labels go in; scikit-learn estimators come out. This module does not know where
rows come from.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import pairwise_distances
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.errors import FitError

__all__ = ["Centroids", "GivenClassifier", "Perceptron", "StableNeighbours"]

# Distances to one row that differ by less, relative to themselves, count as equal.
_EQUAL = 1e-6
# Rounding of a distance relative to the row's length: it is the root of a difference of squares.
_ROUNDING = 1e-7


class _ClassifierByScores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of classifiers that predict the class with the largest decision score."""

    def predict(self, X: Any) -> NDArray[np.generic]:
        """Return the labels with the largest score."""
        scores = self.decision_function(X)
        columns = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[columns])


class Centroids(_ClassifierByScores):
    """Classifier that predicts the class with the nearest mean.

    scikit-learn's `NearestCentroid` divides each column by its standard deviation for
    its decision scores, so they depend on the axes. Here they are negative squared
    distances, without the term that all classes share, which makes them linear.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        Labels.
    coef_ : ndarray of shape (k, d), or (1, d) for two classes
        Weights of the decision scores.
    intercept_ : ndarray of shape (k,) or (1,)
        Intercepts of the decision scores.

    Examples
    --------
    >>> model = Centroids().fit([[0.0], [2.0], [9.0]], ["a", "a", "b"])
    >>> model.predict([[4.0], [6.0]]).tolist()
    ['a', 'b']
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Compute the mean of each class."""
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        rows, labels = np.asarray(X), np.asarray(y)
        means = np.array([rows[labels == label].mean(axis=0) for label in self.classes_])
        # -|x - c|^2 without |x|^2
        coef, intercept = 2 * means, -np.einsum("ij,ij->i", means, means)
        if len(self.classes_) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the decision scores, (n, k), or (n,) for two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return np.asarray(scores[:, 0] if len(self.classes_) == 2 else scores)


class StableNeighbours(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Nearest-neighbour classifier in which equally distant rows keep their order.

    In scikit-learn's `KNeighborsClassifier`, rounding decides between equally distant
    rows, so a rotation can change the prediction. Here, distances that agree to one part
    in a million are equal.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours; all rows if there are fewer.
    weights : {"uniform", "distance"}, default="uniform"
        Whether all neighbours have the same weight, or 1 / distance.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        Labels.

    Examples
    --------
    >>> model = StableNeighbours(2).fit([[0.0], [2.0], [9.0]], ["a", "a", "b"])
    >>> model.predict_proba([[1.5], [8.0]]).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """

    def __init__(
        self, n_neighbors: int = 5, weights: Literal["uniform", "distance"] = "uniform"
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Store the rows and their labels."""
        if self.n_neighbors < 1:
            message = f"n_neighbors must be 1 or more, but it is {self.n_neighbors}"
            raise ValueError(message)
        self.rows_, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, self.codes_ = np.unique(y, return_inverse=True)
        return self

    def kneighbors(self, X: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return distances and positions of the nearest rows, (n, n_neighbors) each."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        distances = pairwise_distances(X, self.rows_)
        rounding = _ROUNDING * np.linalg.norm(X, axis=1, keepdims=True)
        distances = np.where(distances <= rounding, 0, distances)
        order = np.argsort(distances, axis=1, kind="stable")
        ordered = np.take_along_axis(distances, order, axis=1)
        # Equal distances have the same rank; within a rank, the order of the rows counts.
        steps = np.diff(ordered, axis=1) > _EQUAL * ordered[:, 1:] + rounding
        rank = np.zeros(ordered.shape, int)
        np.cumsum(steps, axis=1, out=rank[:, 1:])
        nearest = np.lexsort((order, rank), axis=1)[:, : self.n_neighbors]
        positions = np.take_along_axis(order, nearest, axis=1)
        return np.take_along_axis(distances, positions, axis=1), positions

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the fraction of the votes for each class, (n, k)."""
        distances, positions = self.kneighbors(X)
        votes = np.ones_like(distances)
        if self.weights == "distance":
            # If rows are at distance 0, only they vote.
            zero = distances == 0
            votes = np.where(
                zero.any(axis=1, keepdims=True), zero, 1 / np.where(zero, 1, distances)
            )
        sums = np.zeros((len(distances), len(self.classes_)))
        np.add.at(sums, (np.arange(len(sums))[:, None], self.codes_[positions]), votes)
        return np.asarray(sums / sums.sum(axis=1, keepdims=True))

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return the label with the most votes; of equal ones, the first by name."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class GivenClassifier(_ClassifierByScores):
    """Base of classifiers whose classes and weights are given."""

    classes: tuple[str, ...]

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Labels, shape (k,)."""
        return np.array(self.classes)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any) -> Self:
        """Refuse, since everything is given.

        Raises
        ------
        FitError
            Always.
        """
        message = (
            f"{type(self).__name__} has given weights and cannot be fitted. Use featx.fit, or "
            "featx.finetune for a network."
        )
        raise FitError(message)


class Perceptron(GivenClassifier):
    """Dense layers with ReLU between them, whose weights are given.

    Unlike scikit-learn's `MLPClassifier`, it has decision scores. `MLPClassifier` only
    has probabilities, in which differences below 1e-16 are lost.

    Parameters
    ----------
    classes : tuple of str
        Class of each decision score.
    coefs : sequence of ndarray
        Kernels, (d, h), (h, ...) to (..., k).
    intercepts : sequence of ndarray
        One for each kernel.

    Examples
    --------
    >>> model = Perceptron(("a", "b"), [np.eye(2), -np.eye(2)], [np.zeros(2)] * 2)
    >>> model.predict([[1.0, 2.0], [2.0, -9.0]]).tolist()
    ['a', 'b']
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        coefs: Sequence[NDArray[np.floating]],
        intercepts: Sequence[NDArray[np.floating]],
    ) -> None:
        self.classes = classes
        self.coefs = coefs
        self.intercepts = intercepts

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the decision scores, (n, k), or (n,) for two classes."""
        x = np.asarray(X, dtype=np.float64)
        for k, (coef, intercept) in enumerate(zip(self.coefs, self.intercepts, strict=True)):
            x = (x if k == 0 else np.maximum(x, 0)) @ coef + intercept
        return x[:, 1] - x[:, 0] if len(self.classes) == 2 else x
