"""Gram coordinates: the inner products of the codes, and the same predictions as on codes."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC, LinearSVC

from featx.codes.gram import GramCoordinates
from featx.codes.matrix import CodeMatrix
from featx.codes.products import gram_matrix
from featx.codes.scaling import CentredRows, UnitRows
from featx.errors import OptionError, StoreError

pytestmark = pytest.mark.usefixtures("one_thread")


def make_codes(n: int, d: int, *, seed: int = 0, dtype=np.float32) -> np.ndarray:
    """Return codes as after a ReLU: not negative, a third zeros, with different lengths."""
    rng = np.random.default_rng(seed)
    return (np.maximum(rng.standard_normal((n, d)) + 0.4, 0) * rng.uniform(1, 50, (n, 1))).astype(
        dtype
    )


def unit(codes: np.ndarray) -> np.ndarray:
    """Return rows of unit length, by scikit-learn."""
    return Normalizer().fit_transform(codes.astype(np.float64))


def gram_of(layers: list[np.ndarray], rows: np.ndarray, **options) -> GramCoordinates:
    """Return the coordinates fitted on some rows of codes."""
    return GramCoordinates(**options).fit(CodeMatrix(layers, rows))


def unit_layers(codes: np.ndarray, widths: list[int], *, root: bool = False) -> np.ndarray:
    """Return the expected normalised codes: layers at unit length, side by side."""
    codes = codes.astype(np.float64)
    codes = np.sign(codes) * np.sqrt(np.abs(codes)) if root else codes
    layers = np.split(codes, np.cumsum(widths)[:-1], axis=1)
    return np.hstack([unit(layer) for layer in layers]) / np.sqrt(len(layers))


class Unread:
    """Codes that raise an error when they are read."""

    def __init__(self, codes: np.ndarray) -> None:
        self.shape, self.dtype = codes.shape, codes.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: object) -> None:
        raise AssertionError("codes were read")

    def __array__(self, dtype=None, copy=None) -> None:
        raise AssertionError("codes were read")


@pytest.fixture(params=[None, 8, 40 * 8 * 37], ids=["one block", "single columns", "37 columns"])
def _blocks(request, monkeypatch):
    """Set the size of blocks: the default, one column, or 37 columns for 40 rows."""
    if request.param:
        monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", request.param)
        monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)


# inner products


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_gram_matrix_is_in_float64(dtype):
    """G = X Xᵀ for some rows, for any size of blocks and any dtype of the codes."""
    codes, rows = make_codes(60, 300, dtype=dtype), np.random.default_rng(1).permutation(60)[:40]
    X = codes[rows].astype(np.float64)
    found = gram_matrix(CodeMatrix([make_codes(60, 2), codes], rows), 1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, X @ X.T, rtol=1e-13)
    assert np.array_equal(found, found.T)


def test_the_gram_matrix_of_signed_roots():
    """With root, G is that of sign(x) sqrt|x|; the codes are not modified."""
    codes = np.random.default_rng(0).standard_normal((30, 70))
    before, X = codes.copy(), np.sign(codes) * np.sqrt(np.abs(codes))
    found = gram_matrix(CodeMatrix([codes], np.arange(30)), 0, root=True)
    np.testing.assert_allclose(found, X @ X.T, atol=1e-12)
    assert np.array_equal(codes, before)


def test_the_gram_matrix_is_mirrored_in_blocks(monkeypatch):
    """Both triangles are complete, even if the last block is shorter."""
    monkeypatch.setattr("featx.codes.products._MIRRORED_ROWS", 7)
    codes = make_codes(23, 40, dtype=np.float64)
    found = gram_matrix(CodeMatrix([codes], np.arange(23)), 0)
    np.testing.assert_allclose(found, codes @ codes.T, rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    widths=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    duplicates=st.booleans(),
    zeros=st.booleans(),
)
def test_coordinates_have_the_inner_products_of_unit_rows(n, widths, seed, duplicates, zeros):
    """This holds for several layers, duplicates, zero rows, and fewer columns than rows."""
    layers = [make_codes(n + 3, d, seed=seed + d) for d in widths]
    rows = np.random.default_rng(seed).permutation(n + 3)[:n]
    for layer in layers:
        if duplicates:
            layer[rows[-1]] = layer[rows[0]] * 2
        if zeros:
            layer[rows[n // 2]] = 0
    assume(any(layer[rows].any() for layer in layers))
    coordinates = gram_of(layers, rows).coordinates_
    expected = sum(unit(layer[rows]) @ unit(layer[rows]).T for layer in layers) / len(layers)
    assert coordinates.shape[0] == n
    assert coordinates.shape[1] <= n + 1
    assert not coordinates[:, -1].any()
    np.testing.assert_allclose(coordinates @ coordinates.T, expected, atol=1e-9)


def test_codes_that_are_all_zero_are_refused():
    with pytest.raises(StoreError, match="--weights"):
        GramCoordinates().fit(np.zeros((3, 5)))


def test_the_number_of_coordinates_is_the_rank_plus_one():
    """Duplicates and zero rows add no coordinates."""
    codes = make_codes(10, 50)
    codes[3] = codes[7]
    codes[4] = 0
    gram = GramCoordinates().fit(codes)
    assert gram.coordinates_.shape == (10, 8 + 1)
    assert np.array_equal(np.triu(gram.coordinates_[gram.basis_, :-1], 1), np.zeros((8, 8)))
    assert GramCoordinates().fit_transform(make_codes(10, 4)).shape == (10, 4 + 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_code_that_is_not_finite_is_refused(value):
    """The message contains the row of the store."""
    codes = make_codes(6, 5)
    codes[4, 2] = value
    with pytest.raises(StoreError, match="row 4 "), np.errstate(invalid="ignore"):
        gram_of([make_codes(3, 3), codes], [np.arange(3), np.array([1, 4, 5])])
    assert gram_of([codes], np.array([1, 5])).coordinates_.shape == (2, 3)


def test_several_layers_require_unit_length():
    """Layers with different lengths have no common scale."""
    for gram, codes in (
        (GramCoordinates(unit=False), CodeMatrix([np.eye(3), np.eye(3)], np.arange(3))),
        (GramCoordinates((1, 2), unit=False), np.eye(3)),
    ):
        with pytest.raises(OptionError, match="--normalise l2"):
            gram.fit(codes)


def test_codes_of_another_width_are_refused():
    """Both fit and transform check the number of columns."""
    gram = GramCoordinates((2, 3))
    with pytest.raises(OptionError, match=r"\(n, 5\).* \(3, 4\)"):
        gram.fit(np.ones((3, 4)))
    gram.fit(make_codes(3, 5))
    with pytest.raises(OptionError, match=r"\(n, 5\).* \(3, 4\)"):
        gram.transform(np.ones((3, 4)))


@pytest.mark.parametrize("widths", [(2,), (2, 3, 4)], ids=["fewer", "more"])
def test_a_matrix_of_other_layers_is_refused(widths):
    """The layers must be those that were fitted."""
    gram = GramCoordinates().fit(CodeMatrix([make_codes(6, 2), make_codes(6, 3)], np.arange(6)))
    others = CodeMatrix([make_codes(4, d) for d in widths], np.arange(4))
    with pytest.raises(OptionError, match=r"2\+3"):
        gram.transform(others)


def test_gram_coordinates_can_be_cloned():
    """A clone has the same parameters, and is not fitted."""
    gram = GramCoordinates((2, 3), root=True).fit(make_codes(4, 5))
    other = clone(gram)
    assert other.get_params() == {"widths": (2, 3), "unit": True, "root": True}
    assert not hasattr(other, "coordinates_")


# codes that were not fitted

CASES = {
    "one layer": ([300], {}),
    "two layers": ([100, 200], {}),
    "root": ([300], {"root": True}),
    "two layers, root": ([100, 200], {"root": True}),
    "as they are": ([300], {"unit": False}),
    "as they are, root": ([300], {"unit": False, "root": True}),
}


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("case", CASES)
def test_held_out_codes_keep_inner_products_and_distances(case, dtype):
    """The part of new codes outside the span of the fitted ones counts as well."""
    widths, options = CASES[case]
    codes = make_codes(60, 300, dtype=dtype)
    codes[::7] *= -1  # roots are signed
    codes[5], codes[6], codes[45], codes[46] = codes[3], 0, codes[3], 0
    unit_length, root = options.get("unit", True), options.get("root", False)
    X = unit_layers(codes, widths, root=root)
    if not unit_length:
        X = codes.astype(np.float64)
        X = np.sign(X) * np.sqrt(np.abs(X)) if root else X
    size = np.linalg.norm(X, axis=1).max()
    layers = np.split(codes, np.cumsum(widths)[:-1], axis=1)
    gram = gram_of(layers, np.arange(40), **options)
    fitted, new = gram.coordinates_, gram.transform(CodeMatrix(layers, np.arange(40, 60)))
    assert new.shape == (20, fitted.shape[1])
    np.testing.assert_allclose(new @ fitted.T, X[40:] @ X[:40].T, rtol=0, atol=1e-12 * size**2)
    np.testing.assert_allclose(cdist(new, fitted), cdist(X[40:], X[:40]), rtol=0, atol=1e-6 * size)
    np.testing.assert_allclose(
        np.linalg.norm(new, axis=1), np.linalg.norm(X[40:], axis=1), rtol=0, atol=1e-12 * size
    )
    assert new[0, -1] > 0.1 * size  # so that there is a part outside
    # An array with the layers side by side gives the same.
    assert np.array_equal(gram.transform(codes[40:]), new)


@pytest.mark.parametrize("case", CASES)
def test_transform_and_fit_transform_agree(case):
    """The last column differs by the square root of rounding."""
    widths, options = CASES[case]
    codes = make_codes(40, 300)
    codes[5], codes[6] = codes[3], 0
    gram = GramCoordinates(tuple(widths), **options)
    fitted, again = gram.fit_transform(codes), gram.transform(codes)
    size = np.linalg.norm(fitted, axis=1).max()
    np.testing.assert_allclose(again[:, :-1], fitted[:, :-1], rtol=0, atol=1e-11 * size)
    assert again[:, -1].max() < 1e-6 * size


def test_roots_are_taken_before_the_length():
    """GramCoordinates and UnitRows both take roots first, and scale each layer then."""
    codes = make_codes(20, 90)
    codes[::3] *= -1
    X = unit_layers(codes, [30, 60], root=True)
    coordinates = GramCoordinates((30, 60), root=True).fit_transform(codes)
    np.testing.assert_allclose(coordinates @ coordinates.T, X @ X.T, atol=1e-12)
    np.testing.assert_allclose(UnitRows((30, 60), root=True).fit_transform(codes), X, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_take_equals_a_fit_on_these_rows(case):
    """The codes are not read again."""
    widths, options = CASES[case]
    codes = make_codes(40, 300)
    codes[5], codes[6] = codes[3], 0
    positions = np.array([6, 3, 5, 20, 11, -1, 0])
    layers = np.split(codes, np.cumsum(widths)[:-1], axis=1)
    gram, alone = gram_of(layers, np.arange(40), **options), gram_of(layers, positions, **options)
    gram.codes_.layers = [Unread(layer) for layer in layers]
    narrow = gram.take(positions)
    assert narrow.get_params() == gram.get_params()
    assert narrow.coordinates_.shape == alone.coordinates_.shape == (7, 5 + 1)
    size = np.linalg.norm(alone.coordinates_, axis=1).max()
    inner, expected = (L @ L.T for L in (narrow.coordinates_, alone.coordinates_))
    np.testing.assert_allclose(inner, expected, rtol=0, atol=1e-12 * size**2)

    # Transformed codes and converted coefficients agree as well.
    narrow.codes_.layers = layers
    others = CodeMatrix(layers, np.arange(25, 35))
    np.testing.assert_allclose(
        narrow.transform(others) @ narrow.coordinates_.T,
        alone.transform(others) @ alone.coordinates_.T,
        rtol=0,
        atol=1e-12 * size**2,
    )
    mean, expected = (s.to_code_space(s.coordinates_.mean(axis=0)) for s in (narrow, alone))
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-11 * size)


# classifiers

CLASSIFIERS = {
    "logistic": (LogisticRegression(C=1, tol=1e-10, max_iter=10_000), 1e-6),
    "ridge": (RidgeClassifier(alpha=0.1), 1e-9),
    "linear-svm": (LinearSVC(C=1, tol=1e-10, max_iter=100_000, dual=True), 1e-6),
    "svc": (SVC(C=10, gamma=0.7, tol=1e-10), 1e-8),
}


def fitted_both_ways(estimator, codes, widths, n_classes):
    """Fit on codes and on coordinates; return both estimators and the normalised codes."""
    rows = np.arange(0, len(codes), 2)
    y = np.array([f"class {i % n_classes}" for i in range(len(rows))])
    gram = gram_of(np.split(codes, np.cumsum(widths)[:-1], axis=1), rows)
    X = unit_layers(codes, widths)
    return clone(estimator).fit(X[rows], y), clone(estimator).fit(gram.coordinates_, y), gram, X


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_decision_scores_are_those_on_codes(name, n_classes):
    """A classifier on coordinates has the same scores as on the codes with 8192 features."""
    estimator, tolerance = CLASSIFIERS[name]
    codes = make_codes(80, 8192)
    codes[1::2] += codes[::2]  # new codes are similar to fitted ones
    raw, ours, gram, X = fitted_both_ways(estimator, codes, [8192], n_classes)
    held_out = gram.transform(codes[1::2])
    for coordinates, rows in ((gram.coordinates_, X[::2]), (held_out, X[1::2])):
        expected = raw.decision_function(rows)
        assert np.abs(expected).max() > 0.1  # not compared with zeros
        found = ours.decision_function(coordinates)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    if hasattr(raw, "coef_"):
        ours.coef_, ours.n_features_in_ = gram.to_code_space(ours.coef_), raw.n_features_in_
        found = ours.decision_function(X[1::2])
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("case", ["wide", "two layers", "narrow", "duplicates"])
def test_coefficients_can_be_converted_to_codes(name, n_classes, case):
    """On new codes, converted coefficients have the same scores as those of a fit on codes."""
    estimator, tolerance = CLASSIFIERS[name]
    codes = make_codes(80, {"narrow": 12}.get(case, 600), seed=3)
    if case == "duplicates":
        codes[2] = codes[10] = codes[4]
        codes[6] = 0
    widths = [200, 400] if case == "two layers" else [codes.shape[1]]
    raw, ours, gram, X = fitted_both_ways(estimator, codes, widths, n_classes)
    held_out = X[1::2]
    ours.coef_ = gram.to_code_space(ours.coef_)
    assert ours.coef_.shape == raw.coef_.shape
    ours.n_features_in_ = raw.n_features_in_
    moved, expected = ours.decision_function(held_out), raw.decision_function(held_out)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(moved, expected, rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm"])
@pytest.mark.parametrize("distance", [1e-4, 1e-5, 1e-6, 1e-7])
def test_near_duplicates_do_not_reduce_precision(name, distance):
    """Scores agree for ten nearly equal codes at any distance."""
    codes = make_codes(80, 600, seed=3, dtype=np.float64)
    noise = np.random.default_rng(0).standard_normal((10, 600)) / np.sqrt(600)
    codes[6:26:2] = codes[4] + distance * np.linalg.norm(codes[4]) * noise
    raw, ours, gram, X = fitted_both_ways(CLASSIFIERS[name][0], codes, [600], 3)
    ours.coef_ = gram.to_code_space(ours.coef_)
    ours.n_features_in_ = raw.n_features_in_
    found, expected = (model.decision_function(X[1::2]) for model in (ours, raw))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("_blocks")
def test_converted_coefficients_do_not_depend_on_blocks():
    """Each block of columns is in its place."""
    codes, rows = make_codes(50, 120), np.arange(40)
    gram = gram_of([codes[:, :50], codes[:, 50:70], codes[:, 70:]], rows)
    weights = np.random.default_rng(0).standard_normal((2, gram.coordinates_.shape[1]))
    X = unit_layers(codes, [50, 20, 50])
    moved = gram.to_code_space(weights)
    assert moved.shape == (2, 120)
    np.testing.assert_allclose(X[rows] @ moved.T, gram.coordinates_ @ weights.T, atol=1e-10)
    np.testing.assert_allclose(gram.to_code_space(weights[1]), moved[1], atol=1e-12)


@pytest.mark.parametrize("widths", [[500], [200, 300]], ids=["one layer", "two layers"])
def test_neighbours_are_those_of_the_codes(widths):
    """Fitted and new codes have the same nearest neighbours."""
    codes = make_codes(90, 500)
    gram, X = GramCoordinates(tuple(widths)).fit(codes[:60]), unit_layers(codes, widths)
    y = np.arange(60) % 3
    on_codes = KNeighborsClassifier(4).fit(X[:60], y)
    on_gram = KNeighborsClassifier(4).fit(gram.coordinates_, y)
    assert np.array_equal(on_gram.kneighbors()[1], on_codes.kneighbors()[1])
    held_out = gram.transform(codes[60:])
    for found, expected in zip(
        on_gram.kneighbors(held_out), on_codes.kneighbors(X[60:]), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


# centred rows


def test_the_mean_is_that_of_the_fitted_rows():
    """Later rows are centred by the mean of the fitted ones, and scaled to unit length."""
    X, later = make_codes(20, 6, dtype=np.float64), make_codes(9, 6, seed=1, dtype=np.float64)
    before = X.copy()
    centre = CentredRows().fit(X)
    np.testing.assert_allclose(centre.mean_, X.mean(axis=0), rtol=1e-14)
    found = centre.transform(later)
    np.testing.assert_allclose(found, unit(later - X.mean(axis=0)), rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-14)
    assert np.array_equal(X, before)


def test_a_row_that_equals_the_mean_is_zero():
    """It is not NaN."""
    assert np.array_equal(CentredRows().fit([[1.0, 2], [3, 4]]).transform([[2, 3]]), [[0, 0]])


@pytest.mark.parametrize("case", ["one layer", "two layers", "two layers, root"])
def test_centring_coordinates_is_centring_codes(case):
    """Centred coordinates have the inner products of centred codes."""
    widths, options = CASES[case]
    codes = make_codes(50, 300)
    X = unit_layers(codes, widths, **options)
    gram = GramCoordinates(tuple(widths), **options).fit(codes[:30])
    ours, theirs = CentredRows().fit(gram.coordinates_), CentredRows().fit(X[:30])
    moved = gram.to_code_space(ours.mean_)
    assert moved.shape == (300,)
    np.testing.assert_allclose(moved, theirs.mean_, rtol=0, atol=1e-12)
    fitted, expected = ours.transform(gram.coordinates_), theirs.transform(X[:30])
    np.testing.assert_allclose(fitted @ fitted.T, expected @ expected.T, atol=1e-12)
    held_out = ours.transform(gram.transform(codes[30:]))
    np.testing.assert_allclose(
        held_out @ fitted.T, theirs.transform(X[30:]) @ expected.T, atol=1e-12
    )


# unit rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_rows_of_one_layer_are_a_normalizer(dtype):
    """UnitRows for one layer equals scikit-learn's Normalizer, in float64."""
    codes = make_codes(9, 20, dtype=dtype)
    codes[4] = 0
    rows = UnitRows((20,)).fit(codes).transform(codes)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, unit(codes), rtol=1e-15)


def test_layers_have_equal_lengths():
    """Each layer has the length 1/sqrt(number of layers), so a row has length 1."""
    codes = make_codes(9, 30)
    rows = UnitRows((5, 15, 10)).fit_transform(codes)
    for part in (rows[:, :5], rows[:, 5:20], rows[:, 20:]):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1 / np.sqrt(3), rtol=1e-14)
    np.testing.assert_allclose(rows[:, 5:20] * np.sqrt(3), unit(codes[:, 5:20]), rtol=1e-14)


def test_unit_rows_do_not_modify_their_input():
    codes = make_codes(4, 6, dtype=np.float64)
    before = codes.copy()
    UnitRows((6,)).transform(codes)
    assert np.array_equal(codes, before)


def test_unit_rows_do_not_learn():
    """The result of a row depends on this row only, so it cannot leak between folds."""
    codes, other = make_codes(6, 8), make_codes(6, 8, seed=1)
    rows = UnitRows((3, 5)).fit(other).transform(codes)
    alone = [UnitRows((3, 5)).fit(codes[i : i + 1]).transform(codes[i : i + 1]) for i in range(6)]
    assert np.array_equal(rows, np.vstack(alone))


def test_unit_rows_can_be_cloned():
    rows = UnitRows(widths=(2, 3))
    assert rows.get_params() == {"widths": (2, 3), "root": False}
    assert clone(rows).widths == (2, 3)
    assert clone(rows).set_params(widths=(5,)).widths == (5,)


@pytest.mark.parametrize("shape", [(2, 4), (2, 6), (5,)])
def test_unit_rows_refuse_codes_of_another_width(shape):
    with pytest.raises(OptionError, match=re.escape(str(shape))):
        UnitRows((2, 3)).transform(np.ones(shape))
