r"""The exact span: codes of any width, seen through their inner products.

Codes come in, as wide as they are; a matrix with one row an image and at most
as many columns as images goes out, and the way back for coefficients. With
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

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from featx.errors import OptionError, StoreError

__all__ = ["ExactSpan", "UnitRows", "gram"]

# One block of columns is converted to float64 at a time: large enough for the
# matrix product, small enough to stay near the processor's cache.
_BLOCK_BYTES = 32_000_000

Matrix = NDArray[np.floating]


class ExactSpan:
    """Coordinates of unit-length codes in the space that they span.

    Parameters
    ----------
    codes : sequence of ndarray, each of shape (n_rows, d)
        Codes of each layer, usually memory-mapped. Each layer's rows are made
        unit length and divided by the square root of the number of layers, so
        that their Gram matrices add.
    rows : ndarray of int, shape (n,)
        The rows to use.

    Attributes
    ----------
    coordinates : ndarray of shape (n, r)
        Rows with the inner products of the unit-length codes; r is at most n.

    Raises
    ------
    StoreError
        A code is not finite, or all are zero.

    Examples
    --------
    >>> codes = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0], [5.0, 0.0, 0.0]])
    >>> span = ExactSpan([codes], np.arange(3))
    >>> np.round(span.coordinates @ span.coordinates.T, 6)
    array([[1. , 0. , 0.6],
           [0. , 1. , 0. ],
           [0.6, 0. , 1. ]])
    """

    def __init__(self, codes: Sequence[NDArray[np.floating]], rows: NDArray[np.integer]) -> None:
        self._codes, self._rows = codes, rows
        self._scales = []  # (n,) for each layer: 1 / its share of the row's length
        total = np.zeros((len(rows), len(rows)))
        for layer in codes:
            inner = gram(layer, rows)
            norms = np.sqrt(inner.diagonal())
            if not np.isfinite(norms).all():
                bad = int(rows[np.flatnonzero(~np.isfinite(norms))[0]])
                message = f"The code of row {bad} is not finite. Extract again with --overwrite."
                raise StoreError(message)
            # A code of zeros has no direction; it stays zero, as in sklearn's Normalizer.
            scale = 1 / (np.where(norms > 0, norms, 1) * np.sqrt(len(codes)))
            self._scales.append(scale)
            total += inner * scale[:, None] * scale[None, :]
        if not total.any():
            message = "All codes are zero. Look at the images and weights that extract was given."
            raise StoreError(message)
        self.coordinates, self._inverse = _factor(total)

    def to_code_space(self, coefficients: ArrayLike) -> Matrix:
        """Return coefficients on the coordinates as coefficients on unit-length codes.

        Parameters
        ----------
        coefficients : array-like of shape (k, r) or (r,)
            Of a linear model that was fitted on `coordinates`.

        Returns
        -------
        ndarray of shape (k, d) or (d,)
            All layers side by side. One more pass over the codes.
        """
        coefficients = np.asarray(coefficients)
        weights = np.atleast_2d(coefficients) @ self._inverse  # (k, n)
        parts = [
            _combine(layer, self._rows, weights * scale)
            for layer, scale in zip(self._codes, self._scales, strict=True)
        ]
        return np.hstack(parts).reshape(*coefficients.shape[:-1], -1)


class UnitRows(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Makes rows unit length, each layer apart when several stand side by side.

    Parameters
    ----------
    widths : tuple of int
        Code size of each layer; they add up to the number of columns. Each
        part gets the length 1 / sqrt(number of layers).

    Examples
    --------
    >>> UnitRows((2,)).fit_transform([[3.0, 4.0]])
    array([[0.6, 0.8]])
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        self.widths = widths

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
        start = 0
        for width in self.widths:
            part = unit[:, start : start + width]
            norms = np.linalg.norm(part, axis=1, keepdims=True)
            part /= np.where(norms > 0, norms, 1) * np.sqrt(len(self.widths))
            start += width
        return unit


def gram(codes: NDArray[np.floating], rows: NDArray[np.integer]) -> Matrix:
    """Return the inner products of some rows, in float64, from one pass.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, d)
        Usually memory-mapped; a block of columns is in memory at a time.
    rows : ndarray of int, shape (n,)
        The rows to use.

    Returns
    -------
    ndarray of shape (n, n)
    """
    total = np.zeros((len(rows), len(rows)))
    for _, block in _column_blocks(codes, rows):
        total += block @ block.T
    return total


def _combine(codes: NDArray[np.floating], rows: NDArray[np.integer], weights: Matrix) -> Matrix:
    """Return `weights @ codes[rows]`, (k, d)."""
    out = np.empty((len(weights), codes.shape[1]))
    for part, block in _column_blocks(codes, rows):
        out[:, part] = weights @ block
    return out


def _column_blocks(
    codes: NDArray[np.floating], rows: NDArray[np.integer]
) -> Iterator[tuple[slice, Matrix]]:
    """Yield blocks of columns of some rows, in float64; each is overwritten by the next."""
    n = len(rows)
    # Rows that are neighbours, as they mostly are, need no copy before the conversion.
    whole = codes[rows[0] : rows[0] + n] if np.array_equal(rows, rows[0] + np.arange(n)) else None
    step = max(1, _BLOCK_BYTES // (8 * n))
    buffer = np.empty((n, min(step, codes.shape[1])))
    for start in range(0, codes.shape[1], step):
        part = slice(start, min(start + step, codes.shape[1]))
        block = buffer[:, : part.stop - start]
        # Columns first: a view, so that only the pages of the block are read.
        block[...] = codes[:, part][rows] if whole is None else whole[:, part]
        yield part, block


def _factor(inner: Matrix) -> tuple[Matrix, Matrix]:
    """Return L with L Lᵀ = G, and the inverse of L that takes coefficients to rows.

    Cholesky where G is regular; else, as with duplicates, the eigenvectors of
    the eigenvalues that are not zero to rounding.
    """
    try:
        factor = np.linalg.cholesky(inner)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(inner)
        # What numpy.linalg.matrix_rank takes for rounding.
        kept = values > values.max(initial=0) * len(values) * np.finfo(np.float64).eps
        lengths = np.sqrt(values[kept])
        return vectors[:, kept] * lengths, (vectors[:, kept] / lengths).T
    return factor, scipy.linalg.solve_triangular(factor, np.eye(len(inner)), lower=True)
