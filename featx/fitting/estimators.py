"""Classifiers that scikit-learn has, made blind to rotations, rounding, or how they learned.

Rows and labels come in; scikit-learn estimators go out. This file does not
know where rows come from.
"""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import pairwise_distances
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["Centroids", "Perceptron", "StableNeighbours"]

# Distances to one row that differ by less, relative to themselves, are equal but for rounding.
_EQUAL = 1e-6
# A distance is the root of a difference of squares: so much of a row's length is rounding.
_ROUNDING = 1e-7


class Centroids(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The class whose mean is nearest.

    scikit-learn's `NearestCentroid`, whose decisions are divided by the
    deviation of each column and so depend on the axes; here they are squared
    distances. What is common to all classes is left out of them, which makes
    them linear.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        Labels.
    coef_ : ndarray of shape (k, d), or (1, d) for two classes
        Weights of the decisions.
    intercept_ : ndarray of shape (k,) or (1,)
        What is added to them.

    Examples
    --------
    >>> model = Centroids().fit([[0.0], [2.0], [9.0]], ["a", "a", "b"])
    >>> model.predict([[4.0], [6.0]]).tolist()
    ['a', 'b']
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Take the mean of each class."""
        X, y = validate_data(self, X, y)
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
        """Return the decisions, (n, k), or (n,) for two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        decisions = X @ self.coef_.T + self.intercept_
        return np.asarray(decisions[:, 0] if len(self.classes_) == 2 else decisions)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return the label of the nearest mean."""
        decisions = self.decision_function(X)
        if decisions.ndim == 1:
            return np.asarray(self.classes_[(decisions > 0).astype(int)])
        return np.asarray(self.classes_[decisions.argmax(axis=1)])


class StableNeighbours(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A vote of the nearest rows, of which equally near ones count in their order.

    scikit-learn's `KNeighborsClassifier` breaks ties by whatever rounding
    leaves, so that a rotation may change its answer. Distances that agree to
    one in a million are equal here.

    Parameters
    ----------
    n_neighbors : int, default=5
        How many rows vote; all, if there are fewer.
    weights : {"uniform", "distance"}, default="uniform"
        Whether each vote counts the same, or by 1 / distance.

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
        """Keep the rows and their labels."""
        if self.n_neighbors < 1:
            message = f"n_neighbors is {self.n_neighbors}, and must be 1 or more"
            raise ValueError(message)
        self.rows_, y = validate_data(self, X, y)
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
        steps = np.diff(ordered, axis=1) > _EQUAL * ordered[:, 1:] + rounding
        rank = np.zeros(ordered.shape, int)
        np.cumsum(steps, axis=1, out=rank[:, 1:])
        within = np.lexsort((order, rank), axis=1)[:, : self.n_neighbors]
        chosen = np.take_along_axis(order, within, axis=1)
        return np.take_along_axis(distances, chosen, axis=1), chosen

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the share of the votes, (n, k)."""
        distances, chosen = self.kneighbors(X)
        votes = np.ones_like(distances)
        if self.weights == "distance":
            # A row at distance 0 settles the vote.
            zero = distances == 0
            votes = np.where(
                zero.any(axis=1, keepdims=True), zero, 1 / np.where(zero, 1, distances)
            )
        shares = np.zeros((len(distances), len(self.classes_)))
        np.add.at(shares, (np.arange(len(shares))[:, None], self.codes_[chosen]), votes)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return the label with most votes; of equal ones, the first by name."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class Perceptron(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Layers with ReLU between them, whose numbers were found elsewhere.

    scikit-learn's `MLPClassifier` gives probabilities alone, in which what is
    below 1e-16 is lost.

    Parameters
    ----------
    classes : tuple of str
        Names of the decisions.
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

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Labels, shape (k,)."""
        return np.array(self.classes)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Do nothing: the numbers are given."""
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the decisions, (n, k), or (n,) for two classes as scikit-learn has them."""
        x = np.asarray(X, dtype=np.float64)
        for k, (coef, intercept) in enumerate(zip(self.coefs, self.intercepts, strict=True)):
            x = (x if k == 0 else np.maximum(x, 0)) @ coef + intercept
        return x[:, 1] - x[:, 0] if len(self.classes) == 2 else x

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return the labels of the largest decisions."""
        decisions = self.decision_function(X)
        if decisions.ndim == 1:
            return np.asarray(self.classes_[(decisions > 0).astype(int)])
        return np.asarray(self.classes_[decisions.argmax(axis=1)])
