"""The exact span: the inner products of the codes, and the answers that follow from them."""

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

from featx.codes import CentredRows, GramCoordinates, UnitRows
from featx.codes.matrix import CodeMatrix
from featx.codes.products import gram_matrix
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


def span_of(layers: list[np.ndarray], rows: np.ndarray, **options) -> GramCoordinates:
    """The span of some rows of codes."""
    return GramCoordinates(**options).fit(CodeMatrix(layers, rows))


def unit_layers(codes: np.ndarray, widths: list[int], *, root: bool = False) -> np.ndarray:
    """Codes as the span should see them, made by other means: layers at unit length, joined."""
    codes = codes.astype(np.float64)
    codes = np.sign(codes) * np.sqrt(np.abs(codes)) if root else codes
    layers = np.split(codes, np.cumsum(widths)[:-1], axis=1)
    return np.hstack([unit(layer) for layer in layers]) / np.sqrt(len(layers))


class Unread:
    """Codes that must not be read: only their shape is known."""

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
    """Blocks of columns as they come, of one column, and of 37 for 40 rows."""
    if request.param:
        monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", request.param)
        monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)


# inner products


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gram_is_the_product_in_float64(dtype):
    """G = X Xᵀ of the chosen rows, whatever the blocks and the dtype of the codes."""
    codes, rows = make_codes(60, 300, dtype=dtype), np.random.default_rng(1).permutation(60)[:40]
    X = codes[rows].astype(np.float64)
    found = gram_matrix(CodeMatrix([make_codes(60, 2), codes], rows), 1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, X @ X.T, rtol=1e-13)
    assert np.array_equal(found, found.T)


def test_gram_takes_signed_roots():
    """With root, the inner products are those of sign(x) sqrt|x|; the codes stay as they are."""
    codes = np.random.default_rng(0).standard_normal((30, 70))
    before, X = codes.copy(), np.sign(codes) * np.sqrt(np.abs(codes))
    found = gram_matrix(CodeMatrix([codes], np.arange(30)), 0, root=True)
    np.testing.assert_allclose(found, X @ X.T, atol=1e-12)
    assert np.array_equal(codes, before)


def test_gram_mirrors_more_rows_than_it_does_at_once(monkeypatch):
    """Both triangles are filled, also where there are several parts and the last is short."""
    monkeypatch.setattr("featx.codes.products._MIRRORED_ROWS", 7)
    codes = make_codes(23, 40, dtype=np.float64)
    found = gram_matrix(CodeMatrix([codes], np.arange(23)), 0)
    np.testing.assert_allclose(found, codes @ codes.T, rtol=1e-13)


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
    coordinates = span_of(layers, rows).coordinates_
    expected = sum(unit(layer[rows]) @ unit(layer[rows]).T for layer in layers) / len(layers)
    assert coordinates.shape[0] == n
    assert coordinates.shape[1] <= n + 1
    assert not coordinates[:, -1].any()
    np.testing.assert_allclose(coordinates @ coordinates.T, expected, atol=1e-9)


def test_codes_of_zeros_alone_are_refused():
    """Rows without any direction span nothing; that is an error rather than no columns."""
    message = "All codes are zero. Look at the images and weights that extract was given."
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        GramCoordinates().fit(np.zeros((3, 5)))


def test_coordinates_are_no_more_than_the_span_needs():
    """Duplicates and zero rows take no dimension of their own: r is the rank, and one beside."""
    codes = make_codes(10, 50)
    codes[3] = codes[7]
    codes[4] = 0
    span = GramCoordinates().fit(codes)
    assert span.coordinates_.shape == (10, 8 + 1)
    assert np.array_equal(np.triu(span.coordinates_[span.basis_, :-1], 1), np.zeros((8, 8)))
    assert GramCoordinates().fit_transform(make_codes(10, 4)).shape == (10, 4 + 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_code_that_is_not_finite_is_refused(value):
    """The message gives the row of the store, not its place among the chosen ones."""
    codes = make_codes(6, 5)
    codes[4, 2] = value
    with pytest.raises(StoreError) as caught, np.errstate(invalid="ignore"):
        span_of([make_codes(3, 3), codes], [np.arange(3), np.array([1, 4, 5])])
    assert str(caught.value) == "The code of row 4 is not finite. Extract again with --overwrite."
    assert span_of([codes], np.array([1, 5])).coordinates_.shape == (2, 3)


def test_several_layers_are_joined_at_unit_length_only():
    """Layers of their own lengths have no common scale; the message says what to do."""
    message = (
        "Codes of several layers are joined at unit length. Use --normalise l2, or one --layer."
    )
    for span, codes in (
        (GramCoordinates(unit=False), CodeMatrix([np.eye(3), np.eye(3)], np.arange(3))),
        (GramCoordinates((1, 2), unit=False), np.eye(3)),
    ):
        with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
            span.fit(codes)


def test_codes_of_another_width_are_refused():
    """widths say how an array is divided; one of another size is no such codes."""
    message = "Expected codes of shape (n, 5), layers side by side. Received shape (3, 4)."
    span = GramCoordinates((2, 3))
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        span.fit(np.ones((3, 4)))
    span.fit(make_codes(3, 5))
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        span.transform(np.ones((3, 4)))


@pytest.mark.parametrize("widths", [(2,), (2, 3, 4)], ids=["fewer", "more"])
def test_a_matrix_of_other_layers_is_refused(widths):
    """Layers that were not fitted have no coordinates; they are not left out in silence."""
    span = GramCoordinates().fit(CodeMatrix([make_codes(6, 2), make_codes(6, 3)], np.arange(6)))
    others = CodeMatrix([make_codes(4, d) for d in widths], np.arange(4))
    with pytest.raises(OptionError, match="Expected codes of"):
        span.transform(others)


def test_the_span_is_cloned_and_set_as_any_estimator():
    """Its parameters are as scikit-learn knows them, and a clone is not fitted."""
    span = GramCoordinates((2, 3), root=True).fit(make_codes(4, 5))
    other = clone(span)
    assert other.get_params() == {"widths": (2, 3), "unit": True, "root": True}
    assert not hasattr(other, "coordinates_")


# held-out codes

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
    """Beside fitted ones, new codes lie as in code space: what they have outside counts too."""
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
    span = span_of(layers, np.arange(40), **options)
    fitted, new = span.coordinates_, span.transform(CodeMatrix(layers, np.arange(40, 60)))
    assert new.shape == (20, fitted.shape[1])
    np.testing.assert_allclose(new @ fitted.T, X[40:] @ X[:40].T, rtol=0, atol=1e-12 * size**2)
    np.testing.assert_allclose(cdist(new, fitted), cdist(X[40:], X[:40]), rtol=0, atol=1e-6 * size)
    np.testing.assert_allclose(
        np.linalg.norm(new, axis=1), np.linalg.norm(X[40:], axis=1), rtol=0, atol=1e-12 * size
    )
    assert new[0, -1] > 0.1 * size  # or nothing were outside
    # An array of all layers side by side is the same codes.
    assert np.array_equal(span.transform(codes[40:]), new)


@pytest.mark.parametrize("case", CASES)
def test_fitted_codes_are_transformed_to_their_coordinates(case):
    """transform(X) is fit_transform(X), but for the root of the rounding in the last column."""
    widths, options = CASES[case]
    codes = make_codes(40, 300)
    codes[5], codes[6] = codes[3], 0
    span = GramCoordinates(tuple(widths), **options)
    fitted, again = span.fit_transform(codes), span.transform(codes)
    size = np.linalg.norm(fitted, axis=1).max()
    np.testing.assert_allclose(again[:, :-1], fitted[:, :-1], rtol=0, atol=1e-11 * size)
    assert again[:, -1].max() < 1e-6 * size


def test_roots_are_taken_before_the_length():
    """root=True is sign(x) sqrt|x|, then unit length, layer by layer; in UnitRows as well."""
    codes = make_codes(20, 90)
    codes[::3] *= -1
    X = unit_layers(codes, [30, 60], root=True)
    coordinates = GramCoordinates((30, 60), root=True).fit_transform(codes)
    np.testing.assert_allclose(coordinates @ coordinates.T, X @ X.T, atol=1e-12)
    np.testing.assert_allclose(UnitRows((30, 60), root=True).fit_transform(codes), X, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_a_narrowed_span_is_that_of_the_rows_and_reads_no_code(case):
    """Some of the fitted rows span what they would alone; their codes are not needed."""
    widths, options = CASES[case]
    codes = make_codes(40, 300)
    codes[5], codes[6] = codes[3], 0
    positions = np.array([6, 3, 5, 20, 11, -1, 0])
    layers = np.split(codes, np.cumsum(widths)[:-1], axis=1)
    span, alone = span_of(layers, np.arange(40), **options), span_of(layers, positions, **options)
    span.codes_.layers = [Unread(layer) for layer in layers]
    narrow = span.take(positions)
    assert narrow.get_params() == span.get_params()
    assert narrow.coordinates_.shape == alone.coordinates_.shape == (7, 5 + 1)
    size = np.linalg.norm(alone.coordinates_, axis=1).max()
    inner, expected = (L @ L.T for L in (narrow.coordinates_, alone.coordinates_))
    np.testing.assert_allclose(inner, expected, rtol=0, atol=1e-12 * size**2)

    # With the codes there again, held-out ones and coefficients go the same way.
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


# what classifiers answer

CLASSIFIERS = {
    "logistic": (LogisticRegression(C=1, tol=1e-10, max_iter=10_000), 1e-6),
    "ridge": (RidgeClassifier(alpha=0.1), 1e-9),
    "linear-svm": (LinearSVC(C=1, tol=1e-10, max_iter=100_000, dual=True), 1e-6),
    "svc": (SVC(C=10, gamma=0.7, tol=1e-10), 1e-8),
}


def fitted_both_ways(estimator, codes, widths, n_classes):
    """Fit on raw unit codes and on coordinates; return both and the codes as unit rows."""
    rows = np.arange(0, len(codes), 2)
    y = np.array([f"class {i % n_classes}" for i in range(len(rows))])
    span = span_of(np.split(codes, np.cumsum(widths)[:-1], axis=1), rows)
    X = unit_layers(codes, widths)
    return clone(estimator).fit(X[rows], y), clone(estimator).fit(span.coordinates_, y), span, X


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_decisions_are_those_on_raw_codes(name, n_classes):
    """An unmodified classifier on the span decides as on the 8192-wide codes it stands for."""
    estimator, tolerance = CLASSIFIERS[name]
    codes = make_codes(80, 8192)
    codes[1::2] += codes[::2]  # held-out ones are somewhat like fitted ones
    raw, ours, span, X = fitted_both_ways(estimator, codes, [8192], n_classes)
    held_out = span.transform(codes[1::2])
    for coordinates, rows in ((span.coordinates_, X[::2]), (held_out, X[1::2])):
        expected = raw.decision_function(rows)
        assert np.abs(expected).max() > 0.1  # a tolerance means nothing beside zeros
        found = ours.decision_function(coordinates)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    if hasattr(raw, "coef_"):
        ours.coef_, ours.n_features_in_ = span.to_code_space(ours.coef_), raw.n_features_in_
        found = ours.decision_function(X[1::2])
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


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
    span = span_of([codes[:, :50], codes[:, 50:70], codes[:, 70:]], rows)
    weights = np.random.default_rng(0).standard_normal((2, span.coordinates_.shape[1]))
    X = unit_layers(codes, [50, 20, 50])
    moved = span.to_code_space(weights)
    assert moved.shape == (2, 120)
    np.testing.assert_allclose(X[rows] @ moved.T, span.coordinates_ @ weights.T, atol=1e-10)
    np.testing.assert_allclose(span.to_code_space(weights[1]), moved[1], atol=1e-12)


@pytest.mark.parametrize("widths", [[500], [200, 300]], ids=["one layer", "two layers"])
def test_neighbours_are_those_of_the_codes(widths):
    """Distances are kept, so that nearest neighbours are the same images, held out ones' too."""
    codes = make_codes(90, 500)
    span, X = GramCoordinates(tuple(widths)).fit(codes[:60]), unit_layers(codes, widths)
    y = np.arange(60) % 3
    on_codes = KNeighborsClassifier(4).fit(X[:60], y)
    on_span = KNeighborsClassifier(4).fit(span.coordinates_, y)
    assert np.array_equal(on_span.kneighbors()[1], on_codes.kneighbors()[1])
    held_out = span.transform(codes[60:])
    for found, expected in zip(
        on_span.kneighbors(held_out), on_codes.kneighbors(X[60:]), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


# centred rows


def test_the_mean_is_that_of_the_fitted_rows():
    """Rows are moved by the mean of those fitted, whichever come later, and made unit length."""
    X, later = make_codes(20, 6, dtype=np.float64), make_codes(9, 6, seed=1, dtype=np.float64)
    before = X.copy()
    centre = CentredRows().fit(X)
    np.testing.assert_allclose(centre.mean_, X.mean(axis=0), rtol=1e-14)
    found = centre.transform(later)
    np.testing.assert_allclose(found, unit(later - X.mean(axis=0)), rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-14)
    assert np.array_equal(X, before)


def test_a_row_that_is_the_mean_has_no_direction():
    """It stays zero rather than becoming nan."""
    assert np.array_equal(CentredRows().fit([[1.0, 2], [3, 4]]).transform([[2, 3]]), [[0, 0]])


@pytest.mark.parametrize("case", ["one layer", "two layers", "two layers, root"])
def test_centring_coordinates_is_centring_codes(case):
    """Centred on the span, fitted and held-out rows lie as if centred in code space."""
    widths, options = CASES[case]
    codes = make_codes(50, 300)
    X = unit_layers(codes, widths, **options)
    span = GramCoordinates(tuple(widths), **options).fit(codes[:30])
    ours, theirs = CentredRows().fit(span.coordinates_), CentredRows().fit(X[:30])
    moved = span.to_code_space(ours.mean_)
    assert moved.shape == (300,)
    np.testing.assert_allclose(moved, theirs.mean_, rtol=0, atol=1e-12)
    fitted, expected = ours.transform(span.coordinates_), theirs.transform(X[:30])
    np.testing.assert_allclose(fitted @ fitted.T, expected @ expected.T, atol=1e-12)
    held_out = ours.transform(span.transform(codes[30:]))
    np.testing.assert_allclose(
        held_out @ fitted.T, theirs.transform(X[30:]) @ expected.T, atol=1e-12
    )


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
    assert rows.get_params() == {"widths": (2, 3), "root": False}
    assert clone(rows).widths == (2, 3)
    assert clone(rows).set_params(widths=(5,)).widths == (5,)


@pytest.mark.parametrize("shape", [(2, 4), (2, 6), (5,)])
def test_unit_rows_refuse_codes_of_another_width(shape):
    """Columns that no width speaks of would keep their length, so they are refused."""
    message = f"Expected codes of shape (n, 5), layers side by side. Received shape {shape}."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        UnitRows((2, 3)).transform(np.ones(shape))
