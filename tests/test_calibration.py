"""Probabilities from decisions: one number that changes no answer, and scikit-learn's others."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
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

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("ash", "elm", "oak")


def make_rows(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of classes that overlap."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % n_classes
    centres = np.random.default_rng(99).standard_normal((n_classes, 10))
    return rng.standard_normal((n, 10)) + 0.6 * centres[which], np.array(NAMES)[which]


def overfitted(n_classes: int) -> LogisticRegression:
    """A classifier that is far too sure of itself: many weights, few rows."""
    X, y = make_rows(30, n_classes, seed=1)
    return LogisticRegression(C=1e4, max_iter=5000).fit(X, y)


def calibrated_by_scikit_learn(model, X, y, method):
    return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(X, y)


# temperature


@pytest.mark.parametrize("n_classes", [2, 3])
def test_temperature_is_scikit_learns(n_classes):
    """On 300 rows, the one further row that is assumed makes no difference that matters."""
    model = overfitted(n_classes)
    X, y = make_rows(300, n_classes)
    theirs = calibrated_by_scikit_learn(model, X, y, "temperature")
    ours = TemperatureScaling(NAMES[:n_classes]).fit(decision_scores(model, X), y)
    new, truth = make_rows(300, n_classes, seed=2)
    found, expected = ours.predict_proba(decision_scores(model, new)), theirs.predict_proba(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
    before = log_loss(truth, model.predict_proba(new))
    assert ours.temperature > 1.5  # or there were nothing to calibrate
    assert log_loss(truth, found) < before - 0.05


@settings(max_examples=60, deadline=None)
@given(
    n_classes=st.integers(2, 3),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-6, 1, 1e6]),
    signal=st.sampled_from([-3, 0, 0.5, 20]),
)
def test_temperature_never_changes_an_answer(n_classes, seed, scale, signal):
    """The largest decision has the largest probability, however good or bad decisions are."""
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
def test_temperature_stays_bounded_where_all_is_right(n, scale):
    """n right answers of n are as n of n + 1, not as certainty."""
    own = np.arange(n) % 2
    X = np.zeros((n, 2))
    X[np.arange(n), own] = scale
    model = TemperatureScaling(NAMES[:2]).fit(X, np.array(NAMES)[own])
    assert model.predict_proba(X).max() == pytest.approx(n / (n + 1), abs=1e-3)


def test_temperature_is_of_least_log_loss():
    """A finer look finds nothing better, with the further row that is assumed."""
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
def test_temperature_does_not_see_the_scale(factor):
    """Decisions in other units have the same probabilities; what is added to a row is no matter."""
    X, y = make_rows(60, 3)
    X = decision_scores(overfitted(3), X)
    expected = TemperatureScaling(NAMES).fit(X, y).predict_proba(X)
    found = TemperatureScaling(NAMES).fit(X * factor, y).predict_proba(X * factor)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    shift = np.random.default_rng(0).standard_normal((60, 1))
    shifted = TemperatureScaling(NAMES).fit(X + shift, y).predict_proba(X + shift)
    np.testing.assert_allclose(shifted, expected, atol=1e-4)


def test_classes_that_were_not_known_have_no_probability():
    """A column of -inf is no obstacle: the others are calibrated as if it were not there."""
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


def test_decisions_that_are_all_the_same_say_nothing():
    """No spread is no reason to fail; probabilities are equal."""
    model = TemperatureScaling(NAMES).fit(np.full((6, 3), 2.0), np.array(NAMES * 2))
    np.testing.assert_allclose(model.predict_proba(np.full((1, 3), 2.0)), 1 / 3)


def test_temperature_is_cloned_as_any_estimator():
    model = clone(TemperatureScaling(NAMES, temperature=3.0))
    assert model.get_params() == {"classes": NAMES, "temperature": 3.0}
    assert model.classes_.tolist() == list(NAMES)


# calibrate


def test_no_calibration_is_the_softmax():
    X, y = make_rows(30, 3)
    X = decision_scores(overfitted(3), X)
    assert np.array_equal(calibrate(X, y, NAMES, "none").predict_proba(X), softmax(X, axis=1))


def test_rows_of_classes_that_were_not_known_do_not_calibrate():
    """They have no decision of their own class; the temperature is that of the others."""
    X, y = make_rows(90, 3)
    X = decision_scores(overfitted(3), X)
    X[:30, 2] = -np.inf  # a fold that did not know oak
    known = np.isfinite(X[np.arange(90), np.searchsorted(NAMES, y)])
    assert 0 < known.sum() < 90
    found = calibrate(X, y, NAMES, "temperature")
    assert found.temperature == TemperatureScaling(NAMES).fit(X[known], y[known]).temperature
    assert np.isfinite(found.predict_proba(X)).all()


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
@pytest.mark.parametrize("rows", [slice(0), slice(0, None, 3)], ids=["none", "of one class"])
def test_too_little_to_calibrate_on_is_the_softmax(method, rows):
    """Without two classes there is nothing to learn from."""
    X, y = make_rows(30, 3)
    X = decision_scores(overfitted(3), X)
    model = calibrate(X[rows], y[rows], NAMES, method)
    assert np.array_equal(model.predict_proba(X), softmax(X, axis=1))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_other_calibrations_are_scikit_learns(method, n_classes):
    """From the same decisions, the same probabilities."""
    model = overfitted(n_classes)
    X, y = make_rows(120, n_classes)
    theirs = calibrated_by_scikit_learn(model, X, y, method)
    ours = calibrate(decision_scores(model, X), y, NAMES[:n_classes], method)
    new, _ = make_rows(90, n_classes, seed=2)
    found, expected = ours.predict_proba(decision_scores(model, new)), theirs.predict_proba(new)
    assert ours.classes_.tolist() == list(NAMES[:n_classes])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_what_a_fold_did_not_know_is_least_likely(method):
    """-inf in some rows leaves probabilities finite, whatever the sign of the decisions."""
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
    """Each class is calibrated by itself, and so needs images; temperature does not."""
    X, y = make_rows(90, 3)
    X = decision_scores(overfitted(3), X)
    message = (
        f"Too few images of ash for --calibration {method}, which is fitted for each class on "
        "images held out. Use --calibration temperature."
    )
    some = y != "ash"
    with pytest.raises(FitError, match=f"^{re.escape(message)}$"):
        calibrate(X[some], y[some], NAMES, method)
    assert np.isfinite(calibrate(X[some], y[some], NAMES, "temperature").temperature)


@pytest.mark.parametrize("counts", [(3, 3, 3), (20, 20, 3)], ids=["all", "one"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_classes_of_fewer_rows_than_folds(method, counts):
    """The classifier is frozen, so that no folds are needed for what it decided."""
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(3), counts)
    X = rng.standard_normal((len(own), 3)) + 2 * np.eye(3)[own]
    found = calibrate(X, np.array(NAMES)[own], NAMES, method).predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_an_unknown_calibration_is_refused():
    """The flag is named, with the value received."""
    with pytest.raises(OptionError, match=r"'platt'.*--calibration"):
        prepare_fit("codes.h5", calibration="platt")


# decisions


@pytest.mark.parametrize("n_classes", [2, 3])
def test_softmax_of_decisions_is_the_logistic_models(n_classes):
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
def test_the_largest_decision_is_the_answer(estimator, n_classes):
    """One column a class for every kind of estimator, its answer the largest."""
    X, y = make_rows(60, n_classes)
    model = clone(estimator).fit(X[:30], y[:30])
    found = decision_scores(model, X)
    assert found.shape == (60, n_classes)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert np.array_equal(np.array(NAMES)[found.argmax(axis=1)], model.predict(X))
    assert np.array_equal(DecisionScores(model).fit(X).transform(X), found)


def test_votes_are_logarithms_and_none_is_rare():
    """A class that no neighbour has is rarer than one in ten thousand, not impossible."""
    model = StableNeighbours(3).fit([[0.0], [1], [2], [90]], ["ash", "ash", "elm", "oak"])
    np.testing.assert_allclose(decision_scores(model, [[0.5]]), np.log([[2 / 3, 1 / 3, 1e-4]]))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_decided_gives_back_what_was_decided(n_classes):
    """As scikit-learn has decisions, so that they go round unchanged."""
    X = np.random.default_rng(0).standard_normal((10, n_classes))
    model = PrecomputedScores(NAMES[:n_classes]).fit(X, np.array(NAMES)[[0] * 10])
    found = decision_scores(model, X)
    np.testing.assert_allclose(softmax(found, axis=1), softmax(X, axis=1), atol=1e-14)
    assert np.array_equal(model.predict(X), np.array(NAMES)[X.argmax(axis=1)])
