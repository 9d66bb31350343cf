r"""The exact span: codes of any width, seen through their inner products.

Codes come in, as wide as they are; a matrix with one row an image and at most
one column more than images goes out, and the way back for coefficients. With
G = X Xᵀ and G = L Lᵀ, the rows of L have the inner products and distances of
the rows of X, so that a method that only looks at those (L2-penalised linear
models, SVMs with a numeric gamma, nearest neighbours) gives on L the answer it
gives on X. With n images of d numbers that turns n × d into n × n: a rotation,
which sees no label, so one span serves every fold.

This file knows neither labels nor classifiers.

References
----------
.. [1] T. Hastie and R. Tibshirani, "Efficient quadratic regularization for
   expression arrays", Biostatistics 5(3), 2004.
   https://doi.org/10.1093/biostatistics/kxh010
"""

from collections.abc import Callable
from typing import Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin

from featx.codes.matrix import CodeMatrix, Matrix, Rows, as_code_matrix, signed_root
from featx.errors import OptionError, StoreError

__all__ = ["CentredRows", "GramCoordinates", "UnitRows", "gram_matrix", "inner_products"]


class GramCoordinates(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Coordinates of codes in the space that the fitted ones span.

    A rotation: inner products and distances are those of the codes. What a
    code has outside the span, which no fitted code has, is the last
    coordinate, as a length, so that distances to fitted codes stay exact.

    Parameters
    ----------
    widths : tuple of int, optional
        Columns of each layer, where an array holds several side by side; a
        `CodeMatrix` knows its own.
    unit : bool, default=True
        Whether each layer's rows are made unit length and divided by the
        square root of the number of layers, so that their Gram matrices add.
        False is for one layer only.
    root : bool, default=False
        Whether the signed square root of each number is taken before that.

    Attributes
    ----------
    coordinates_ : ndarray of shape (n, r + 1)
        Of the fitted rows; r is at most n, and the last column is 0.
    basis_ : ndarray of int, shape (r,)
        Rows that span all of them, whose coordinates are a triangle.
    n_flops_ : int
        Multiplications and additions of the Gram matrix, one triangle.

    Examples
    --------
    >>> codes = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0], [5.0, 0.0, 0.0]])
    >>> L = GramCoordinates().fit_transform(codes)
    >>> np.round(L @ L.T, 6)
    array([[1. , 0. , 0.6],
           [0. , 1. , 0. ],
           [0.6, 0. , 1. ]])
    """

    def __init__(
        self, widths: tuple[int, ...] | None = None, *, unit: bool = True, root: bool = False
    ) -> None:
        self.widths = widths
        self.unit = unit
        self.root = root

    def fit(
        self,
        X: CodeMatrix | ArrayLike,
        y: object = None,
        *,
        products: Callable[..., Matrix] | None = None,
    ) -> Self:
        """Find the span of some codes, in one pass over them.

        Parameters
        ----------
        X : CodeMatrix or array-like of shape (n, d)
            Codes, all layers side by side.
        y : ignored
        products : callable, default=gram_matrix
            What gives the inner products of a layer's rows.

        Raises
        ------
        OptionError
            Several layers and `unit` is False.
        StoreError
            A code is not finite, or all are zero.
        """
        codes = as_code_matrix(X, self.widths)
        n_layers = len(codes.layers)
        if n_layers > 1 and not self.unit:
            message = (
                "Codes of several layers are joined at unit length. Use --normalise l2, or one "
                "--layer."
            )
            raise OptionError(message)
        self.codes_ = codes
        self.scales_: list[Matrix] = []  # (n,) for each layer: what its rows are multiplied by
        total = np.zeros((len(codes), len(codes)))
        for k in range(n_layers):
            inner = (products or gram_matrix)(codes, k, root=self.root)
            norms = np.sqrt(inner.diagonal())
            if not np.isfinite(norms).all():
                bad = int(codes.rows[k][np.flatnonzero(~np.isfinite(norms))[0]])
                message = f"The code of row {bad} is not finite. Extract again with --overwrite."
                raise StoreError(message)
            # A code of zeros has no direction; it stays zero, as in sklearn's Normalizer.
            scale = (
                1 / (np.where(norms > 0, norms, 1) * np.sqrt(n_layers))
                if self.unit
                else np.ones(len(codes))
            )
            self.scales_.append(scale)
            inner *= scale[:, None]
            inner *= scale[None, :]
            total += inner
        del inner
        if not total.any():
            message = "All codes are zero. Look at the images and weights that extract was given."
            raise StoreError(message)
        self.n_flops_ = len(codes) ** 2 * codes.shape[1]
        coordinates, self.basis_ = _factor(total)
        self.coordinates_ = np.column_stack([coordinates, np.zeros(len(codes))])
        return self

    def fit_transform(self, X: CodeMatrix | ArrayLike, y: object = None) -> Matrix:
        """Find the span of some codes and return their coordinates, (n, r + 1)."""
        return self.fit(X).coordinates_

    def transform(self, X: CodeMatrix | ArrayLike) -> Matrix:
        """Return the coordinates of other codes.

        Parameters
        ----------
        X : CodeMatrix or array-like of shape (m, d)
            Codes as `fit` takes them.

        Returns
        -------
        ndarray of shape (m, r + 1)
            One pass over the fitted codes.
        """
        others = as_code_matrix(X, self.codes_.widths)
        inner = np.zeros((len(others), len(self.codes_)))
        squares = np.zeros(len(others))
        for k, scale in enumerate(self.scales_):
            cross, own = inner_products(others, self.codes_, k, root=self.root)
            mine = np.ones(len(others))
            if self.unit:
                norms = np.sqrt(own)
                mine = 1 / (np.where(norms > 0, norms, 1) * np.sqrt(len(self.scales_)))
            inner += cross * mine[:, None] * scale[None, :]
            squares += own * mine**2
        inside = self._to_coordinates(inner)
        outside = squares - np.einsum("ij,ij->i", inside, inside)
        return np.column_stack([inside, np.sqrt(np.maximum(outside, 0))])

    def take(self, positions: Rows) -> "GramCoordinates":
        """Return the span of some of the fitted rows; the codes are not read again."""
        inside = self.coordinates_[positions]
        other = GramCoordinates(self.widths, unit=self.unit, root=self.root)
        other.codes_ = self.codes_.take(positions)
        other.scales_ = [scale[positions] for scale in self.scales_]
        other.n_flops_ = 0
        coordinates, other.basis_ = _factor(inside @ inside.T)
        other.coordinates_ = np.column_stack([coordinates, np.zeros(len(positions))])
        return other

    def to_code_space(self, vectors: ArrayLike, *, dtype: type[np.floating] = np.float64) -> Matrix:
        """Return vectors of coordinates as vectors of codes.

        Parameters
        ----------
        vectors : array-like of shape (k, r + 1) or (r + 1,)
            Coefficients of a linear model that was fitted on coordinates, or a
            mean of them.
        dtype : type, default=numpy.float64
            Of what is returned; sums are in float64.

        Returns
        -------
        ndarray of shape (k, d) or (d,)
            All layers side by side, for codes as `unit` and `root` make them.
            One more pass over the codes.
        """
        vectors = np.asarray(vectors)
        weights = self._to_rows(np.atleast_2d(vectors)[:, :-1])  # (k, n)
        out: Matrix = np.empty((len(weights), self.codes_.shape[1]), dtype)
        start = 0
        for k, scale in enumerate(self.scales_):
            scaled = weights * scale
            for part, block in self.codes_.column_blocks(k, root=self.root):
                out[:, start + part.start : start + part.stop] = scaled @ block
            start += self.codes_.widths[k]
        return out.reshape(*vectors.shape[:-1], -1)

    def _to_rows(self, vectors: Matrix) -> Matrix:
        """Return vectors (k, r) as combinations (k, n) of the fitted rows."""
        weights = np.zeros((len(vectors), len(self.coordinates_)))
        weights[:, self.basis_] = scipy.linalg.solve_triangular(
            self.coordinates_[self.basis_, :-1], vectors.T, lower=True, trans="T"
        ).T
        return weights

    def _to_coordinates(self, inner: Matrix) -> Matrix:
        """Return coordinates (m, r) from inner products (m, n) with the fitted rows."""
        triangle = self.coordinates_[self.basis_, :-1]
        right = inner[:, self.basis_].T
        return np.asarray(scipy.linalg.solve_triangular(triangle, right, lower=True).T)


class UnitRows(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Makes rows unit length, each layer apart when several stand side by side.

    Parameters
    ----------
    widths : tuple of int
        Code size of each layer; they add up to the number of columns. Each
        part gets the length 1 / sqrt(number of layers).
    root : bool, default=False
        Whether the signed square root of each number is taken first, which
        keeps a few large numbers from ruling the rest [1]_.

    References
    ----------
    .. [1] F. Perronnin, J. Sanchez and T. Mensink, "Improving the Fisher Kernel
       for Large-Scale Image Classification", 2010.

    Examples
    --------
    >>> UnitRows((2,)).fit_transform([[3.0, 4.0]])
    array([[0.6, 0.8]])
    """

    def __init__(self, widths: tuple[int, ...], *, root: bool = False) -> None:
        self.widths = widths
        self.root = root

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Do nothing: a row's length depends on the row alone."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: ArrayLike) -> Matrix:
        """Return the rows, float64, at unit length; rows of zeros stay zeros.

        Raises
        ------
        OptionError
            The columns are not those of the layers.
        """
        unit = np.array(X, dtype=np.float64)
        if unit.ndim != 2 or unit.shape[1] != sum(self.widths):
            message = (
                f"Expected codes of shape (n, {sum(self.widths)}), layers side by side. "
                f"Received shape {unit.shape}."
            )
            raise OptionError(message)
        if self.root:
            signed_root(unit)
        start = 0
        for width in self.widths:
            _to_unit_length(unit[:, start : start + width], np.sqrt(len(self.widths)))
            start += width
        return unit


class CentredRows(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Subtracts the mean of the fitted rows and makes rows unit length again.

    Average-pooled codes point almost the same way; what tells them apart is
    how they differ from their mean [1]_.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        Of the fitted rows.

    References
    ----------
    .. [1] Y. Wang, W.-L. Chao, K. Q. Weinberger and L. van der Maaten,
       "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot
       Learning", 2019. https://arxiv.org/abs/1911.04623

    Examples
    --------
    >>> CentredRows().fit_transform([[1.0, 0.0], [1.0, 2.0], [1.0, 4.0]])
    array([[ 0., -1.],
           [ 0.,  0.],
           [ 0.,  1.]])
    """

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Take the mean."""
        self.mean_ = np.asarray(X, dtype=np.float64).mean(axis=0)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """Return the centred rows, at unit length; rows that are the mean are zeros."""
        return _to_unit_length(np.asarray(X, dtype=np.float64) - self.mean_)


def gram_matrix(codes: CodeMatrix, layer: int, *, root: bool = False) -> Matrix:
    """Return the inner products of the rows of a layer, in float64, from one pass.

    Parameters
    ----------
    codes : CodeMatrix of n rows
        A block of columns is in memory at a time.
    layer : int
        Its number.
    root : bool, default=False
        Whether to take the signed square root of each number first.

    Returns
    -------
    ndarray of shape (n, n)
    """
    n = len(codes)
    # One triangle, added in place: a sum of products would write n x n numbers a block,
    # which for thousands of rows takes longer than the products.
    total = np.zeros((n, n), order="F")
    for _, block in codes.column_blocks(layer, root=root):
        total = scipy.linalg.blas.dsyrk(
            1.0, block.T, beta=1.0, c=total, trans=1, lower=1, overwrite_c=1
        )
    # Block by block, so that no second matrix is needed.
    for start in range(0, n, _MIRRORED_ROWS):
        stop = min(start + _MIRRORED_ROWS, n)
        total[:start, start:stop] = total[start:stop, :start].T
        corner = total[start:stop, start:stop]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T
    return total


def inner_products(
    left: CodeMatrix, right: CodeMatrix, layer: int, *, root: bool = False
) -> tuple[Matrix, Matrix]:
    """Return the inner products of the rows of two matrices, from one pass over both.

    Parameters
    ----------
    left, right : CodeMatrix of m and of n rows
        A block of columns of each is in memory at a time.
    layer : int
        Its number.
    root : bool, default=False
        Whether to take the signed square root of each number first.

    Returns
    -------
    ndarray of shape (m, n)
        The products.
    ndarray of shape (m,)
        Those of the left rows with themselves.
    """
    cross, own = np.zeros((len(left), len(right))), np.zeros(len(left))
    for (_, ours), (_, theirs) in zip(
        left.column_blocks(layer, root=root, beside=len(right)),
        right.column_blocks(layer, root=root, beside=len(left)),
        strict=True,
    ):
        cross += ours @ theirs.T
        own += np.einsum("ij,ij->i", ours, ours)
    return cross, own


_MIRRORED_ROWS = 512


def _to_unit_length(rows: Matrix, divisor: float = 1.0) -> Matrix:
    """Divide rows in place by their length and `divisor`; return them."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1) * divisor
    return rows


def _factor(inner: Matrix) -> tuple[Matrix, Rows]:
    """Return L with L Lᵀ = G, (n, r), and r rows of it that are a triangle.

    Cholesky with pivots, which stops where what is left is rounding: with
    duplicates, or more rows than columns, G is singular.
    """
    # Of the product too, whose sums over the columns round, not of the factor alone.
    rounding = max(len(inner), 1000) * np.finfo(np.float64).eps
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
        inner, tol=rounding * inner.diagonal().max(), lower=1, overwrite_a=1
    )
    order = pivots - 1
    coordinates = np.empty((len(inner), rank))
    coordinates[order] = np.tril(factor)[:, :rank]
    return coordinates, order[:rank]
