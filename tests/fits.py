"""Codes, labels and plain scikit-learn counterparts for the tests of fits."""

import copy
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import Normalizer, normalize
from sklearn.svm import SVC, LinearSVC

from featx.fitting import CLASSIFIERS
from featx.fitting import fit as fit_with_baselines

GRID = [0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000]


class CoupledSVC(SVC):
    """scikit-learn's SVM; of several classes, with scores that fit the margins of all pairs."""

    def __init__(self, C=1.0, gamma="scale", tol=1e-3):
        super().__init__(C=C, gamma=gamma, tol=tol, decision_function_shape="ovo")

    def decision_function(self, X):
        margins, k = super().decision_function(X), len(self.classes_)
        if k == 2:
            return margins
        pairs = list(combinations(range(k), 2))
        differences = np.array([np.eye(k)[i] - np.eye(k)[j] for i, j in pairs])
        scores = np.linalg.lstsq(differences, margins.T, rcond=None)[0].T
        for row, label in zip(scores, self.predict(X), strict=True):
            own, largest = list(self.classes_).index(label), row.argmax()
            row[[own, largest]] = row[[largest, own]]
        return scores

    def predict(self, X):
        plain = copy.copy(self)
        plain.__class__ = SVC
        return plain.set_params(decision_function_shape="ovr", break_ties=True).predict(X)


# What featx promises each classifier to be.
PLAIN = {
    "logistic": (LogisticRegression(max_iter=10_000, tol=1e-6), {"C": GRID}),
    "ridge": (RidgeClassifier(), {"alpha": [1 / C for C in GRID]}),
    "linear-svm": (LinearSVC(dual=False, max_iter=10_000), {"C": GRID}),
}
EXACT = [name for name, kind in CLASSIFIERS.items() if kind.is_rotation_invariant]
INEXACT = [name for name, kind in CLASSIFIERS.items() if not kind.is_rotation_invariant]
NARROW = {"block1_conv1": 64}
TWO = {"block1_conv1": 64, "block2_conv1": 128}


def make_codes(y, widths=NARROW, *, strength: float = 0.5, seed: int = 0) -> dict:
    """Return codes whose classes differ by a shift; each layer is ten times the one before."""
    rng = np.random.default_rng(seed)
    names, of_class = np.unique(y, return_inverse=True)
    codes = {}
    for k, (layer, width) in enumerate(widths.items()):
        shift = strength * rng.standard_normal((len(names), width))
        noise = rng.standard_normal((len(y), width))
        codes[layer] = (10**k * (1 + shift[of_class] + noise)).astype(np.float32)
    return codes


def labels_of(n: int, n_classes: int = 3) -> list[str]:
    return [f"class {i % n_classes}" for i in range(n)]


def unit(codes: dict) -> np.ndarray:
    """Return unit rows of each layer side by side, each with equal weight, by scikit-learn."""
    parts = [Normalizer().fit_transform(c.astype(np.float64)) for c in codes.values()]
    return np.hstack(parts) / np.sqrt(len(parts))


def plain_search(name: str, X, y) -> GridSearchCV:
    """Search as a careful user of scikit-learn would; the middle one of equal penalties."""
    estimator, grid = PLAIN[name]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return GridSearchCV(estimator, grid, cv=folds, refit=middle_of_best).fit(X, y)


def middle_of_best(results: dict) -> int:
    """Return the middle position of the best values, strongest penalty first."""
    scores = results["mean_test_score"]
    best = np.flatnonzero(np.isclose(scores, scores.max()))
    return int(best[(len(best) - 1) // 2])


def split_of(**counts: int) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def wide_codes(n: int, n_classes: int, seed: int) -> np.ndarray:
    """Return feature maps of 8x8x128, not negative, like those of a network."""
    shifts = 0.35 * np.random.default_rng(0).random((n_classes, 8, 8, 128))
    maps = np.random.default_rng(seed).standard_normal((n, 8, 8, 128))
    return (np.maximum(maps, 0) + shifts[np.arange(n) % n_classes]).astype(np.float32)


def plain_model(name: str, value, X, y):
    """Return scikit-learn's classifier of that name, fitted on unit rows."""
    if name == "svm-rbf":
        gamma = 1 / np.mean(pdist(X, "sqeuclidean"))
        return CoupledSVC(C=value, gamma=gamma).fit(X, y)
    if name == "knn":
        return KNeighborsClassifier(n_neighbors=value).fit(X, y)
    if name == "centroid":
        return NearestCentroid().fit(X, y)
    estimator, grid = PLAIN[name]
    (parameter,) = grid
    value = 1 / value if parameter == "alpha" else value
    return clone(estimator).set_params(**{parameter: value}).fit(X, y)


def plain_choice(name: str, values, X, y):
    """Return the first value with the best accuracy on held-out folds, and that accuracy."""
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    n_correct = [
        sum(np.sum(plain_model(name, v, X[a], y[a]).predict(X[b]) == y[b]) for a, b in folds)
        for v in values
    ]
    return values[int(np.argmax(n_correct))], max(n_correct) / len(y)


def normalised(codes, how: str, n_train: int) -> np.ndarray:
    """Return normalised rows, computed by hand."""
    X = np.asarray(codes, dtype=np.float64)
    if how == "none":
        return X
    X = normalize(np.sign(X) * np.sqrt(np.abs(X)) if how == "sqrt-l2" else X)
    return normalize(X - X[:n_train].mean(axis=0)) if how == "centre" else X


def fit(*arguments, **keywords):
    """Fit once without baselines; C is only passed to classifiers that have a penalty."""
    kind = CLASSIFIERS.get(keywords.get("clf", "logistic"))
    if kind is not None and not kind.has_penalty:
        keywords.pop("C", None)
    return fit_with_baselines(*arguments, **{"baselines": False, "repeats": 1, **keywords})


def check_refusal(error, *facts, codes="codes.h5", **settings):
    """Check that a fit is refused, with a message that contains all of the facts."""
    with pytest.raises(error) as caught:
        fit(codes, **settings)
    message = str(caught.value)
    assert [str(fact) for fact in facts if str(fact) not in message] == [], message
