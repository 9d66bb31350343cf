"""Rows, folds and searches for the tests of the grid search and of the selection."""

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import LinearSVC

from featx.fitting import grid_search
from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.grid_search import Problem, SearchSpace
from featx.fitting.selection import search

GRID = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
# What featx promises each classifier to be.
PLAIN = {
    "logistic": lambda C: LogisticRegression(C=C, max_iter=10_000, tol=1e-6),
    "ridge": lambda C: RidgeClassifier(alpha=1 / C),
    "linear-svm": lambda C: LinearSVC(C=C, dual=False, max_iter=10_000),
}


def make_rows(n=64, n_classes=3, width=12, *, strength=0.5, seed=0):
    """Return unit rows around the means of their classes, and labels."""
    rng = np.random.default_rng(seed)
    y = np.array([f"class {i % n_classes}" for i in range(n)])
    means = strength * rng.standard_normal((n_classes, width))
    X = means[np.arange(n) % n_classes] + rng.standard_normal((n, width))
    return X / np.linalg.norm(X, axis=1, keepdims=True), y


def make_folds(y, n_folds=4):
    """Return folds of equal size, so that accuracies add without rounding."""
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=0).split(y, y))


def space_of(*names, **keywords):
    return SearchSpace(tuple(CLASSIFIERS[name] for name in names), **keywords)


def search_all(X, y, space, pairs=None):
    """Search on all rows of one matrix."""
    problem = Problem(dict.fromkeys(space.normalise, X), y)
    return search(problem, np.arange(len(y)), make_folds(y) if pairs is None else pairs, space)


def held_out(estimator, X, y, pairs):
    """Return the decision scores of scikit-learn on held-out rows, one column per class."""
    found = cross_val_predict(estimator, X, y, cv=pairs, method="decision_function")
    found = found if found.ndim == 2 else np.column_stack([-found / 2, found / 2])
    return found[np.concatenate([test for _, test in pairs])]


def record_tried(monkeypatch):
    """Return a list that gets each setting when it is tried: (classifier, value, fraction)."""
    calls = []
    own = grid_search.GridSearch._cross_validate

    def spy(self, value, fraction):
        calls.append((self.kind.name, value, fraction))
        return own(self, value, fraction)

    monkeypatch.setattr(grid_search.GridSearch, "_cross_validate", spy)
    return calls
