"""The exact span: the inner products of the codes, and the answers that follow from them."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC, LinearSVC

from featx.classification import ExactSpan, UnitRows
from featx.classification.span import gram
from featx.errors import OptionError, StoreError

pytestmark = pytest.mark.usefixtures("one_thread")


def make_codes(n: int, d: int, *, seed: int = 0, dtype=np.float32) -> np.ndarray:
    """Codes as after a ReLU: not negative, a third of them zero, of differing lengths."""
    rng = np.random.default_rng(seed)
    return (np.maximum(rng.standard_normal((n, d)) + 0.4, 0) * rng.uniform(1, 50, (n, 1))).astype(
        dtype
    )


def unit(codes: np.ndarray) -> np.ndarray:
    """Rows of unit length, by scikit-learn."""
    return Normalizer().fit_transform(codes.astype(np.float64))


@pytest.fixture(params=[None, 1, 40 * 8 * 37], ids=["one block", "single columns", "37 columns"])
def _blocks(request, monkeypatch):
    """Blocks of columns as they come, of one column, and of 37 for 40 rows."""
    if request.param:
        monkeypatch.setattr("featx.classification.span._BLOCK_BYTES", request.param)


# inner products


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gram_is_the_product_in_float64(dtype):
    """G = X Xᵀ of the chosen rows, whatever the blocks and the dtype of the codes."""
    codes, rows = make_codes(60, 300, dtype=dtype), np.random.default_rng(1).permutation(60)[:40]
    X = codes[rows].astype(np.float64)
    assert gram(codes, rows).dtype == np.float64
    np.testing.assert_allclose(gram(codes, rows), X @ X.T, rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    widths=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    twins=st.booleans(),
    zeros=st.booleans(),
)
def test_coordinates_have_the_inner_products_of_unit_rows(n, widths, seed, twins, zeros):
    """For any number of layers, with duplicates, zero rows, or fewer columns than rows."""
    layers = [make_codes(n + 3, d, seed=seed + d) for d in widths]
    rows = np.random.default_rng(seed).permutation(n + 3)[:n]
    for layer in layers:
        if twins:
            layer[rows[-1]] = layer[rows[0]] * 2
        if zeros:
            layer[rows[n // 2]] = 0
    assume(any(layer[rows].any() for layer in layers))
    span = ExactSpan(layers, rows)
    expected = sum(unit(layer[rows]) @ unit(layer[rows]).T for layer in layers) / len(layers)
    assert span.coordinates.shape[0] == n
    assert span.coordinates.shape[1] <= n
    np.testing.assert_allclose(span.coordinates @ span.coordinates.T, expected, atol=1e-9)


def test_codes_of_zeros_alone_are_refused():
    """Rows without any direction span nothing; that is an error rather than no columns."""
    message = "All codes are zero. Look at the images and weights that extract was given."
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        ExactSpan([np.zeros((3, 5))], np.arange(3))


def test_coordinates_are_no_more_than_the_span_needs():
    """Duplicates and zero rows take no dimension of their own: r is the rank."""
    codes = make_codes(10, 50)
    codes[3] = codes[7]
    codes[4] = 0
    assert ExactSpan([codes], np.arange(10)).coordinates.shape == (10, 8)
    assert ExactSpan([make_codes(10, 4)], np.arange(10)).coordinates.shape == (10, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_code_that_is_not_finite_is_refused(value):
    """The message gives the row of the store, not its place among the chosen ones."""
    codes = make_codes(6, 5)
    codes[4, 2] = value
    with pytest.raises(StoreError) as caught, np.errstate(invalid="ignore"):
        ExactSpan([make_codes(6, 3), codes], np.array([1, 4, 5]))
    assert str(caught.value) == "The code of row 4 is not finite. Extract again with --overwrite."
    assert ExactSpan([codes], np.array([1, 5])).coordinates.shape == (2, 2)


# what classifiers answer

CLASSIFIERS = {
    "logistic": (LogisticRegression(C=1, tol=1e-10, max_iter=10_000), 1e-6),
    "ridge": (RidgeClassifier(alpha=0.1), 1e-10),
    "linear-svm": (LinearSVC(C=1, tol=1e-10, max_iter=100_000, dual=True), 1e-6),
    "svc": (SVC(C=10, gamma=0.7, tol=1e-10), 1e-8),
}


def fitted_both_ways(estimator, codes, widths, n_classes):
    """Fit on raw unit codes and on coordinates; return both and the codes as unit rows."""
    rows = np.arange(0, len(codes), 2)
    y = np.array([f"class {i % n_classes}" for i in range(len(rows))])
    layers = np.split(codes, np.cumsum(widths)[:-1], axis=1)
    span = ExactSpan(layers, rows)
    X = np.hstack([unit(layer) for layer in layers]) / np.sqrt(len(layers))
    return clone(estimator).fit(X[rows], y), clone(estimator).fit(span.coordinates, y), span, X


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_decisions_are_those_on_raw_codes(name, n_classes):
    """An unmodified classifier on the span decides as on the 8192-wide codes it stands for."""
    estimator, tolerance = CLASSIFIERS[name]
    codes = make_codes(80, 8192)
    raw, ours, span, X = fitted_both_ways(estimator, codes, [8192], n_classes)
    expected = raw.decision_function(X[::2])
    assert np.abs(expected).max() > 0.1  # a tolerance means nothing beside zeros
    np.testing.assert_allclose(
        ours.decision_function(span.coordinates), expected, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("case", ["wide", "two layers", "narrow", "duplicates"])
def test_coefficients_on_codes_decide_as_on_the_span(name, n_classes, case):
    """Moved to code space, a model decides on held-out codes as one fitted there."""
    estimator, tolerance = CLASSIFIERS[name]
    codes = make_codes(80, {"narrow": 12}.get(case, 600), seed=3)
    if case == "duplicates":
        codes[2] = codes[10] = codes[4]
        codes[6] = 0
    widths = [200, 400] if case == "two layers" else [codes.shape[1]]
    raw, ours, span, X = fitted_both_ways(estimator, codes, widths, n_classes)
    held_out = X[1::2]
    ours.coef_ = span.to_code_space(ours.coef_)
    assert ours.coef_.shape == raw.coef_.shape
    ours.n_features_in_ = raw.n_features_in_
    moved, expected = ours.decision_function(held_out), raw.decision_function(held_out)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(moved, expected, rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm"])
@pytest.mark.parametrize("distance", [1e-4, 1e-5, 1e-6, 1e-7])
def test_near_twins_do_not_blur_decisions(name, distance):
    """Ten images that are almost one decide as on the codes, however near they are."""
    codes = make_codes(80, 600, seed=3, dtype=np.float64)
    noise = np.random.default_rng(0).standard_normal((10, 600)) / np.sqrt(600)
    codes[6:26:2] = codes[4] + distance * np.linalg.norm(codes[4]) * noise
    raw, ours, span, X = fitted_both_ways(CLASSIFIERS[name][0], codes, [600], 3)
    ours.coef_ = span.to_code_space(ours.coef_)
    ours.n_features_in_ = raw.n_features_in_
    found, expected = (model.decision_function(X[1::2]) for model in (ours, raw))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("_blocks")
def test_the_way_back_does_not_depend_on_blocks():
    """Coefficients are combined in blocks of columns, each in its place."""
    codes, rows = make_codes(50, 120), np.arange(40)
    span = ExactSpan([codes[:, :50], codes[:, 50:]], rows)
    weights = np.random.default_rng(0).standard_normal((2, span.coordinates.shape[1]))
    X = np.hstack([unit(codes[:, :50]), unit(codes[:, 50:])]) / np.sqrt(2)
    moved = span.to_code_space(weights)
    assert moved.shape == (2, 120)
    np.testing.assert_allclose(X[rows] @ moved.T, span.coordinates @ weights.T, atol=1e-10)


def test_neighbours_are_those_of_the_codes():
    """Distances are kept, so that nearest neighbours are the same images."""
    codes = make_codes(60, 500)
    span, X = ExactSpan([codes], np.arange(60)), unit(codes)
    y = np.arange(60) % 3
    on_codes = KNeighborsClassifier(4).fit(X, y).kneighbors(return_distance=False)
    on_span = KNeighborsClassifier(4).fit(span.coordinates, y).kneighbors(return_distance=False)
    assert np.array_equal(on_span, on_codes)


# unit rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_rows_of_one_layer_are_a_normalizer(dtype):
    """For one layer UnitRows is scikit-learn's Normalizer, in float64, zeros left zeros."""
    codes = make_codes(9, 20, dtype=dtype)
    codes[4] = 0
    rows = UnitRows((20,)).fit(codes).transform(codes)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, unit(codes), rtol=1e-15)


def test_unit_rows_of_several_layers_weigh_the_same():
    """Each layer's part has the length 1/sqrt(layers), so that a row has length 1."""
    codes = make_codes(9, 30)
    rows = UnitRows((5, 15, 10)).fit_transform(codes)
    for part in (rows[:, :5], rows[:, 5:20], rows[:, 20:]):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1 / np.sqrt(3), rtol=1e-14)
    np.testing.assert_allclose(rows[:, 5:20] * np.sqrt(3), unit(codes[:, 5:20]), rtol=1e-14)


def test_unit_rows_leave_their_input_alone():
    """The caller's array is not overwritten, though the work is done in place."""
    codes = make_codes(4, 6, dtype=np.float64)
    before = codes.copy()
    UnitRows((6,)).transform(codes)
    assert np.array_equal(codes, before)


def test_unit_rows_do_not_learn():
    """A row's result depends on that row alone, so no fold can leak through it."""
    codes, other = make_codes(6, 8), make_codes(6, 8, seed=1)
    rows = UnitRows((3, 5)).fit(other).transform(codes)
    alone = [UnitRows((3, 5)).fit(codes[i : i + 1]).transform(codes[i : i + 1]) for i in range(6)]
    assert np.array_equal(rows, np.vstack(alone))


def test_unit_rows_are_cloned_and_set_as_any_estimator():
    """widths is a parameter as scikit-learn knows them; nothing happens in the constructor."""
    rows = UnitRows(widths=(2, 3))
    assert rows.get_params() == {"widths": (2, 3)}
    assert clone(rows).widths == (2, 3)
    assert clone(rows).set_params(widths=(5,)).widths == (5,)


@pytest.mark.parametrize("shape", [(2, 4), (2, 6), (5,)])
def test_unit_rows_refuse_codes_of_another_width(shape):
    """Columns that no width speaks of would keep their length, so they are refused."""
    message = f"Expected codes of shape (n, 5), layers side by side. Received shape {shape}."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        UnitRows((2, 3)).transform(np.ones(shape))
