"""Estimators: the predictions of scikit-learn's, and the same ones after a rotation."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted

from featx.errors import FitError
from featx.fitting.estimators import Centroids, Perceptron, StableNeighbours

pytestmark = pytest.mark.usefixtures("one_thread")


def make_rows(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around a mean for each class; the names of classes are not sorted."""
    rng = np.random.default_rng(seed)
    names = np.array(["oak", "ash", "elm", "fir"])[:n_classes]
    which = rng.permutation(np.arange(n) % n_classes)
    X = rng.standard_normal((n, d)) + 0.8 * rng.standard_normal((n_classes, d))[which]
    return X, names[which]


def make_ties(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return corners of a cube with duplicates and random labels, and corners to predict."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (60, 5)).astype(float)
    return X, rng.choice(["ash", "elm", "oak"], 60), rng.integers(0, 2, (40, 5)).astype(float)


def rotation(d: int, seed: int = 0) -> np.ndarray:
    """Return an orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def neighbours_by_hand(X: np.ndarray, asked: np.ndarray, k: int) -> np.ndarray:
    """Return the nearest rows by exact integer distances; equal ones in their order."""
    squares = ((asked[:, None].astype(int) - X[None].astype(int)) ** 2).sum(axis=2)
    return np.argsort(squares, axis=1, kind="stable")[:, :k]


# centroids


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_centroids_predict_as_nearest_centroid(n_classes, seed):
    """This holds for fitted rows and for others."""
    X, y = make_rows(90, 8, n_classes, seed)
    ours, theirs = Centroids().fit(X[:60], y[:60]), NearestCentroid().fit(X[:60], y[:60])
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    found = ours.predict(X)
    assert np.array_equal(found, theirs.predict(X))
    assert 0.3 < np.mean(found[60:] == y[60:]) < 1  # neither chance nor trivial


@pytest.mark.parametrize("n_classes", [2, 3])
def test_centroids_have_scores_of_squared_distances(n_classes):
    """Scores differ between classes like negative squared distances."""
    X, y = make_rows(40, 6, n_classes)
    model = Centroids().fit(X, y)
    means = np.array([X[y == label].mean(axis=0) for label in sorted(set(y))])
    squares = ((X[:, None] - means) ** 2).sum(axis=2)
    found = model.decision_function(X)
    if n_classes == 2:
        assert found.shape == (40,)
        np.testing.assert_allclose(found, squares[:, 0] - squares[:, 1], atol=1e-12)
    else:
        expected = (X**2).sum(axis=1, keepdims=True) - squares
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_centroids_are_rotation_invariant(n_classes):
    X, y = make_rows(40, 6, n_classes)
    Q = rotation(6)
    found = Centroids().fit(X @ Q, y).decision_function(X @ Q)
    np.testing.assert_allclose(found, Centroids().fit(X, y).decision_function(X), atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_centroids_are_linear(n_classes):
    """Scores follow from coef_ and intercept_, which can be converted to codes."""
    X, y = make_rows(40, 6, n_classes)
    model = Centroids().fit(X, y)
    shape = (1 if n_classes == 2 else n_classes, 6)
    assert model.coef_.shape == shape
    assert model.intercept_.shape == shape[:1]
    found = model.decision_function(X)
    expected = X @ model.coef_.T + model.intercept_
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-12)
    between = model.decision_function(0.3 * X[:20] + 0.7 * X[20:])
    np.testing.assert_allclose(between, 0.3 * found[:20] + 0.7 * found[20:], atol=1e-12)


def test_of_equally_near_means_the_first_is_predicted():
    """This holds for two classes and for more, as in scikit-learn."""
    for labels in (["b", "a"], ["b", "a", "c"]):
        X = np.array([[1.0], [-1.0], [50.0]])[: len(labels)]
        assert Centroids().fit(X, labels).predict([[0.0]]).tolist() == ["a"]


# neighbours


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("n_neighbors", [1, 4, 7])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_neighbours_without_ties_are_scikit_learns(weights, n_neighbors, n_classes):
    """Rows, distances, probabilities and labels are those of KNeighborsClassifier."""
    X, y = make_rows(90, 6, n_classes)
    ours = StableNeighbours(n_neighbors, weights=weights).fit(X[:60], y[:60])
    theirs = KNeighborsClassifier(n_neighbors, weights=weights, algorithm="kd_tree")
    theirs.fit(X[:60], y[:60])
    for found, expected in zip(ours.kneighbors(X[60:]), theirs.kneighbors(X[60:]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    assert np.array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("n_neighbors", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_equally_near_rows_keep_their_order(n_neighbors, seed):
    """The first rows of a tie are used, whatever the rounding of their distances."""
    X, y, asked = make_ties(seed)
    expected = neighbours_by_hand(X, asked, n_neighbors)
    Q, shift = rotation(5, seed), np.random.default_rng(seed).standard_normal(5)
    for transformed in (lambda rows: rows, lambda rows: rows @ Q, lambda rows: rows @ Q + shift):
        model = StableNeighbours(n_neighbors).fit(transformed(X), y)
        distances, found = model.kneighbors(transformed(asked))
        assert np.array_equal(found, expected)
        exact = np.sqrt(((asked[:, None] - X[expected]) ** 2).sum(axis=2))
        np.testing.assert_allclose(distances, exact, atol=1e-6)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_neighbours_are_rotation_invariant(weights):
    """This holds for duplicated rows with different labels."""
    X, y, asked = make_ties()
    Q = rotation(5)
    one = StableNeighbours(weights=weights).fit(X, y)
    other = StableNeighbours(weights=weights).fit(X @ Q, y)
    np.testing.assert_allclose(other.predict_proba(asked @ Q), one.predict_proba(asked), atol=1e-6)
    assert np.array_equal(other.predict(asked @ Q), one.predict(asked))


def test_of_equal_rows_the_first_is_the_neighbour():
    """The order is that of the rows, not of the labels."""
    X = np.array([[3.0, 1], [0, 0], [0, 0], [5, 5]])
    assert StableNeighbours(1).fit(X, ["a", "b", "a", "b"]).predict([[0, 0.1]]).tolist() == ["b"]
    assert StableNeighbours(1).fit(X, ["a", "a", "b", "b"]).predict([[0, 0.1]]).tolist() == ["a"]


def test_of_equal_votes_the_first_label_is_predicted():
    X = np.array([[0.0], [3.0]])
    assert StableNeighbours(2).fit(X, ["b", "a"]).predict([[0.5]]).tolist() == ["a"]


def test_only_rows_at_distance_zero_vote_by_distance():
    """Each of them has one vote."""
    X = np.array([[0.0, 0], [1, 1], [1, 1], [1, 1], [2, 3]])
    y = ["a", "a", "b", "b", "c"]
    model = StableNeighbours(5, weights="distance").fit(X, y)
    found = model.predict_proba([[0, 0], [1, 1], [2, 3]])
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 1]], rtol=1e-12)
    alone = StableNeighbours(2, weights="distance").fit(np.ones((3, 2)), ["a", "b", "b"])
    assert alone.predict_proba(np.ones((1, 2))).tolist() == [[0.5, 0.5]]


def test_a_row_far_away_makes_no_ties():
    """The tolerance for equal distances does not depend on distant rows."""
    X = [[0.0], [1.0], [4.0], [1e7]]
    model = StableNeighbours(1).fit(X, ["a", "b", "c", "d"])
    assert model.predict([[1.0], [3.0]]).tolist() == ["b", "c"]


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_all_rows_vote_if_there_are_fewer_than_requested(weights):
    X, y = make_rows(9, 3, 3)
    few, all_rows = (StableNeighbours(k, weights).fit(X, y) for k in (50, 9))
    assert few.kneighbors(X)[1].shape == (9, 9)
    assert np.array_equal(few.predict_proba(X), all_rows.predict_proba(X))


# the interface of estimators


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (Centroids(), {}),
        (StableNeighbours(3, weights="distance"), {"n_neighbors": 3, "weights": "distance"}),
    ],
)
def test_estimators_follow_scikit_learns_interface(estimator, params):
    """A clone has the parameters and is not fitted; other numbers of columns are refused."""
    X, y = make_rows(30, 4, 2)
    found = clone(estimator.fit(X, y))
    assert type(found) is type(estimator)
    assert found.get_params() == params
    assert found.set_params(**params) is found
    with pytest.raises(NotFittedError):
        found.predict(X)
    with pytest.raises(ValueError, match="3 features"):
        estimator.predict(X[:, :3])
    assert estimator.score(X, y) > 0.5


# dense layers


def layers_for(n_classes):
    rng = np.random.default_rng(n_classes)
    widths = [5, 7, 4, n_classes]
    coefs = [rng.normal(size=pair) for pair in pairwise(widths)]
    return coefs, [rng.normal(size=width) for width in widths[1:]]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_perceptron_predicts_as_mlp_classifier(n_classes):
    """With the same weights, probabilities and labels agree."""
    X = np.random.default_rng(0).normal(size=(40, 5))
    coefs, intercepts = layers_for(n_classes)
    names = ("ant", "bee", "cat")[:n_classes]
    other = MLPClassifier((7, 4), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other.fit(X, np.array(names)[np.arange(40) % n_classes])
    other.coefs_, other.intercepts_ = list(coefs), list(intercepts)
    if n_classes == 2:  # a single output for two classes
        other.coefs_[-1] = (coefs[-1][:, 1] - coefs[-1][:, 0])[:, None]
        other.intercepts_[-1] = intercepts[-1][1:] - intercepts[-1][:1]
    model = Perceptron(names, coefs, intercepts)
    scores = model.decision_function(X)
    assert scores.shape == ((40,) if n_classes == 2 else (40, 3))
    if n_classes == 2:
        scores = np.column_stack([np.zeros(40), scores])
    np.testing.assert_allclose(softmax(scores, axis=1), other.predict_proba(X), atol=1e-12)
    assert list(model.predict(X)) == list(other.predict(X))
    assert set(model.predict(X)) == set(names)


def test_a_perceptron_needs_no_fit():
    """scikit-learn treats it as fitted, and fit refuses."""
    model = Perceptron(("a", "b"), *layers_for(2))
    check_is_fitted(model)
    before = model.decision_function(np.ones((1, 5)))
    with pytest.raises(FitError, match=r"featx\.finetune"):
        model.fit(np.zeros((2, 5)), ["a", "b"])
    assert clone(model).decision_function(np.ones((1, 5))) == before
    assert list(model.classes_) == ["a", "b"]
