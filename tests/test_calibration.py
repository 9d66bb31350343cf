"""Calibration: temperature scaling, and the methods of scikit-learn."""

from itertools import combinations

import numpy as np
import pytest
from fits import CoupledSVC
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from featx.errors import FitError, OptionError
from featx.fitting import prepare_fit
from featx.fitting.calibration import (
    DecisionScores,
    PrecomputedScores,
    TemperatureScaling,
    calibrate,
    decision_scores,
)
from featx.fitting.estimators import Centroids, StableNeighbours
from featx.fitting.pipeline import CodePipeline
from featx.metrics.evaluation import score_predictions

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("ash", "elm", "oak")


def make_rows(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of overlapping classes, and their labels."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % n_classes
    centres = np.random.default_rng(99).standard_normal((n_classes, 10))
    return rng.standard_normal((n, 10)) + 0.6 * centres[which], np.array(NAMES)[which]


def overfitted(n_classes: int) -> LogisticRegression:
    """Return a classifier that is overconfident: many weights, few rows."""
    X, y = make_rows(30, n_classes, seed=1)
    return LogisticRegression(C=1e4, max_iter=5000).fit(X, y)


def calibrated_by_scikit_learn(model, X, y, method):
    return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(X, y)


# temperature


@pytest.mark.parametrize("n_classes", [2, 3])
def test_temperature_is_scikit_learns(n_classes):
    """On 300 rows, the additional row of Platt's method makes no large difference."""
    model = overfitted(n_classes)
    X, y = make_rows(300, n_classes)
    theirs = calibrated_by_scikit_learn(model, X, y, "temperature")
    ours = TemperatureScaling(NAMES[:n_classes]).fit(decision_scores(model, X), y)
    new, truth = make_rows(300, n_classes, seed=2)
    found, expected = ours.predict_proba(decision_scores(model, new)), theirs.predict_proba(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
    before = log_loss(truth, model.predict_proba(new))
    assert ours.temperature > 1.5  # so that there is something to calibrate
    assert log_loss(truth, found) < before - 0.05


@settings(max_examples=60, deadline=None)
@given(
    n_classes=st.integers(2, 3),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-6, 1, 1e6]),
    signal=st.sampled_from([-3, 0, 0.5, 20]),
)
def test_temperature_never_changes_a_prediction(n_classes, seed, scale, signal):
    """The largest score has the largest probability, for good and for bad scores."""
    rng = np.random.default_rng(seed)
    own = rng.integers(0, n_classes, 40)
    X = rng.standard_normal((40, n_classes))
    X[np.arange(40), own] += signal
    X *= scale
    model = TemperatureScaling(NAMES[:n_classes]).fit(X, np.array(NAMES)[own])
    probabilities = model.predict_proba(X)
    assert np.isfinite(model.temperature)
    assert model.temperature > 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert np.array_equal(probabilities.argmax(axis=1), X.argmax(axis=1))
    assert np.array_equal(model.predict(X), np.array(NAMES)[X.argmax(axis=1)])


@pytest.mark.parametrize("n", [10, 40, 200])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_temperature_is_bounded_if_all_predictions_are_correct(n, scale):
    """n correct predictions of n count as n of n + 1."""
    own = np.arange(n) % 2
    X = np.zeros((n, 2))
    X[np.arange(n), own] = scale
    model = TemperatureScaling(NAMES[:2]).fit(X, np.array(NAMES)[own])
    assert model.predict_proba(X).max() == pytest.approx(n / (n + 1), abs=1e-3)


def test_temperature_has_the_lowest_log_loss():
    """A fine grid finds no better one, for the same targets."""
    model = overfitted(3)
    X, y = make_rows(60, 3)
    X = decision_scores(model, X)
    own = np.searchsorted(NAMES, y)
    rest = X.copy()
    rest[np.arange(60), own] = -np.inf
    targets = np.zeros_like(X)
    targets[np.arange(60), own] = 60 / 61
    targets[np.arange(60), rest.argmax(axis=1)] += 1 / 61
    grid = np.exp(np.linspace(-5, 8, 2000))
    losses = [-np.mean(np.sum(targets * log_softmax(X / t, axis=1), axis=1)) for t in grid]
    found = TemperatureScaling(NAMES).fit(X, y).temperature
    assert found == pytest.approx(grid[np.argmin(losses)], rel=0.01)


@pytest.mark.parametrize("factor", [1e-4, 7.0, 1e5])
def test_probabilities_do_not_depend_on_scale_and_shift(factor):
    """Scores may be multiplied by a factor, and rows shifted."""
    X, y = make_rows(60, 3)
    X = decision_scores(overfitted(3), X)
    expected = TemperatureScaling(NAMES).fit(X, y).predict_proba(X)
    found = TemperatureScaling(NAMES).fit(X * factor, y).predict_proba(X * factor)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    shift = np.random.default_rng(0).standard_normal((60, 1))
    shifted = TemperatureScaling(NAMES).fit(X + shift, y).predict_proba(X + shift)
    np.testing.assert_allclose(shifted, expected, atol=1e-4)


def test_unknown_classes_have_probability_0():
    """The other columns are calibrated as without a column of -inf."""
    X, y = make_rows(80, 2)
    two = decision_scores(overfitted(2), X)
    three = np.column_stack([two[:, 0], np.full(80, -np.inf), two[:, 1]])
    names = np.where(y == "ash", "ash", "oak")
    before = three.copy()
    plain, wide = (
        TemperatureScaling(NAMES[:2]).fit(two, y),
        TemperatureScaling(NAMES).fit(three, names),
    )
    assert np.array_equal(three, before)
    assert wide.temperature == pytest.approx(plain.temperature, rel=1e-4)
    found = wide.predict_proba(three)
    assert not found[:, 1].any()
    np.testing.assert_allclose(found[:, [0, 2]], plain.predict_proba(two), atol=1e-4)


def test_equal_scores_have_equal_probabilities():
    model = TemperatureScaling(NAMES).fit(np.full((6, 3), 2.0), np.array(NAMES * 2))
    np.testing.assert_allclose(model.predict_proba(np.full((1, 3), 2.0)), 1 / 3)


def test_temperature_scaling_can_be_cloned():
    model = clone(TemperatureScaling(NAMES, temperature=3.0))
    assert model.get_params() == {"classes": NAMES, "temperature": 3.0}
    assert model.classes_.tolist() == list(NAMES)


# calibrate


def test_no_calibration_is_the_softmax():
    X, y = make_rows(30, 3)
    X = decision_scores(overfitted(3), X)
    assert np.array_equal(calibrate(X, y, NAMES, "none").predict_proba(X), softmax(X, axis=1))


def test_rows_of_unknown_classes_are_not_used():
    """The temperature is that of the other rows."""
    X, y = make_rows(90, 3)
    X = decision_scores(overfitted(3), X)
    X[:30, 2] = -np.inf  # a fold without oak
    known = np.isfinite(X[np.arange(90), np.searchsorted(NAMES, y)])
    assert 0 < known.sum() < 90
    found = calibrate(X, y, NAMES, "temperature")
    assert found.temperature == TemperatureScaling(NAMES).fit(X[known], y[known]).temperature
    assert np.isfinite(found.predict_proba(X)).all()


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
@pytest.mark.parametrize("rows", [slice(0), slice(0, None, 3)], ids=["none", "of one class"])
def test_a_single_class_is_not_calibrated(method, rows):
    """Without rows of two classes, probabilities are the softmax of the scores."""
    X, y = make_rows(30, 3)
    X = decision_scores(overfitted(3), X)
    model = calibrate(X[rows], y[rows], NAMES, method)
    assert np.array_equal(model.predict_proba(X), softmax(X, axis=1))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_other_calibrations_are_scikit_learns(method, n_classes):
    """Equal scores have equal probabilities."""
    model = overfitted(n_classes)
    X, y = make_rows(120, n_classes)
    theirs = calibrated_by_scikit_learn(model, X, y, method)
    ours = calibrate(decision_scores(model, X), y, NAMES[:n_classes], method)
    new, _ = make_rows(90, n_classes, seed=2)
    found, expected = ours.predict_proba(decision_scores(model, new)), theirs.predict_proba(new)
    assert ours.classes_.tolist() == list(NAMES[:n_classes])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_class_unknown_in_a_fold_is_the_least_likely(method):
    """-inf in some rows gives finite probabilities, for scores of any sign."""
    X, y = make_rows(90, 3)
    X = decision_scores(overfitted(3), X)
    for shift in (0, 100, -100):
        some = X + shift
        some[:30, 2] = -np.inf
        found = calibrate(some, y, NAMES, method).predict_proba(X + shift)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        order = np.argsort(X[:, 2])
        assert found[order[:20], 2].max() < 0.5 < found[order[-20:], 2].mean()
        assert np.mean(np.array(NAMES)[found.argmax(axis=1)] == y) > 0.5


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_class_without_rows_is_named(method):
    """Each class is calibrated by itself, and requires images; temperature does not."""
    X, y = make_rows(90, 3)
    X = decision_scores(overfitted(3), X)
    some = y != "ash"
    with pytest.raises(FitError, match=f"--calibration {method} .*ash"):
        calibrate(X[some], y[some], NAMES, method)
    assert np.isfinite(calibrate(X[some], y[some], NAMES, "temperature").temperature)


@pytest.mark.parametrize("counts", [(3, 3, 3), (20, 20, 3)], ids=["all", "one"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_classes_with_few_rows(method, counts):
    """Calibration makes no folds, so classes may have fewer rows than folds."""
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(3), counts)
    X = rng.standard_normal((len(own), 3)) + 2 * np.eye(3)[own]
    found = calibrate(X, np.array(NAMES)[own], NAMES, method).predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_an_unknown_calibration_is_refused():
    """The message contains the flag and the value."""
    with pytest.raises(OptionError, match=r"'platt'.*--calibration"):
        prepare_fit("codes.h5", calibration="platt")


# decision scores


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_softmax_of_scores_is_that_of_logistic_regression(n_classes):
    X, _ = make_rows(40, n_classes)
    model = overfitted(n_classes)
    found = softmax(decision_scores(model, X), axis=1)
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [RidgeClassifier(), SVC(), Centroids(), StableNeighbours(), GaussianNB()],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_largest_score_is_the_prediction(estimator, n_classes):
    """Every estimator has one column for each class."""
    X, y = make_rows(60, n_classes)
    model = clone(estimator).fit(X[:30], y[:30])
    found = decision_scores(model, X)
    assert found.shape == (60, n_classes)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert np.array_equal(np.array(NAMES)[found.argmax(axis=1)], model.predict(X))
    assert np.array_equal(DecisionScores.fitted(model).transform(X), found)
    fitted = DecisionScores(estimator).fit(X[:30], y[:30])
    assert np.array_equal(fitted.transform(X), found)


@pytest.mark.parametrize("k", [3, 5])
def test_scores_of_an_svm_are_closest_to_the_margins_of_pairs(k):
    """By least squares, with scikit-learn's prediction; its scores remain if asked for."""
    rng = np.random.default_rng(k)
    which = np.arange(90) % k
    X, y = rng.standard_normal((90, 6)) + 2 * np.eye(k, 6)[which], np.array(list("abcde"))[which]
    plain = SVC(decision_function_shape="ovr").fit(X, y)
    assert np.array_equal(decision_scores(plain, X), plain.decision_function(X))
    model = SVC(decision_function_shape="ovo").fit(X, y)
    expected = CoupledSVC().fit(X, y).decision_function(X)
    found = decision_scores(model, X)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    plain.set_params(break_ties=True)
    assert model.classes_[found.argmax(axis=1)].tolist() == plain.predict(X).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_scores_of_an_svm_are_coupled_at_any_temperature(temperature):
    """If the pairs agree, their logistic functions are those of the probabilities [Wu 2004]."""

    class Pairs:
        decision_function_shape = "ovo"
        classes_ = np.array(list("abcd"))

        def decision_function(self, X):
            return np.stack([X[:, i] - X[:, j] for i, j in combinations(range(4), 2)], axis=1)

    X = np.random.default_rng(0).standard_normal((20, 4))
    model = TemperatureScaling(tuple("abcd"), temperature)
    p = model.predict_proba(decision_scores(Pairs(), X))
    for i, j in combinations(range(4), 2):
        of_pair = 1 / (1 + np.exp(-(X[:, i] - X[:, j]) / temperature))
        np.testing.assert_allclose(p[:, i] / (p[:, i] + p[:, j]), of_pair, rtol=1e-12)


def test_an_svm_of_several_classes_is_calibrated():
    """On noisy digits, scores of votes have twice the calibration error, and a higher log loss."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(y))[:1000]
    X, y = X[rows] / np.linalg.norm(X[rows], axis=1, keepdims=True), y[rows].astype(str)
    X += 0.12 * rng.standard_normal(X.shape)
    found = {}
    for shape in ("ovo", "ovr"):
        decisions = DecisionScores(SVC(C=10, gamma=2, decision_function_shape=shape))
        model = CodePipeline(
            [("decisions", decisions), ("calibration", TemperatureScaling(()))]
        ).fit(X[:400], y[:400])
        p = model.predict_proba(X[400:])
        scores = score_predictions(y[400:], p, list(model.classes_), np.arange(600))
        found[shape] = (
            scores.calibration_error.value,
            scores.log_loss.value,
            scores.accuracy.value,
        )
    assert found["ovo"][0] < 0.07
    assert found["ovr"][0] > 0.1
    assert found["ovo"][1] < found["ovr"][1] - 0.1
    assert found["ovo"][2] == found["ovr"][2]


def test_scores_of_votes_are_logarithms():
    """A class without votes has a probability of 1e-4."""
    model = StableNeighbours(3).fit([[0.0], [1], [2], [90]], ["ash", "ash", "elm", "oak"])
    np.testing.assert_allclose(decision_scores(model, [[0.5]]), np.log([[2 / 3, 1 / 3, 1e-4]]))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_precomputed_scores_are_returned(n_classes):
    """They have the form of scikit-learn's decision function."""
    X = np.random.default_rng(0).standard_normal((10, n_classes))
    model = PrecomputedScores(NAMES[:n_classes])
    found = decision_scores(model, X)
    np.testing.assert_allclose(softmax(found, axis=1), softmax(X, axis=1), atol=1e-14)
    assert np.array_equal(model.predict(X), np.array(NAMES)[X.argmax(axis=1)])
