r"""Coordinates of codes in the span of the training rows, from the Gram matrix.

Codes of any width go in; a matrix with one row for each image, and at most one more
column than there are images, comes out. With the Gram matrix G = X Xᵀ and its Cholesky
factor G = L Lᵀ, the rows of L have the same inner products and distances as the rows of X.
Methods that depend on nothing else (L2-penalised linear models, SVMs with a numeric gamma,
nearest neighbours) therefore give the same results on L as on X [1]_, and coefficients can
be converted back. For n images with d features, this replaces an n × d matrix by an n × n
one. The coordinates do not depend on labels, so the same ones serve all folds.

This module knows neither labels nor classifiers.

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

from featx.codes.matrix import CodeMatrix, Matrix, Rows, as_code_matrix, check_finite, split_columns
from featx.codes.products import gram_matrix, inner_products
from featx.errors import OptionError, StoreError

__all__ = ["GramCoordinates"]


class GramCoordinates(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Coordinates of codes in the space that the training rows span.

    Coordinates have the same inner products and distances as the codes. A code that was
    not fitted can have a part outside the span. The length of this part is its last
    coordinate, so that distances to training codes stay exact.

    Parameters
    ----------
    widths : tuple of int, optional
        Number of columns of each layer, if arrays hold several layers side by side; a
        `CodeMatrix` has its own.
    unit : bool, default=True
        Whether to scale the rows of each layer to unit length, divided by the square root
        of the number of layers, so that their Gram matrices add up. Several layers
        require this.
    root : bool, default=False
        Whether to take the signed square root of each feature first.

    Attributes
    ----------
    coordinates_ : ndarray of shape (n, r + 1)
        Coordinates of the training rows; r is at most n, and the last column is 0.
    basis_ : ndarray of int, shape (r,)
        Rows that span all others; their coordinates are a triangular matrix.
    n_flops_ : int
        Number of multiplications and additions for one triangle of the Gram matrix.

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
        products: Callable[..., Matrix] = gram_matrix,
    ) -> Self:
        """Compute the coordinates of the training rows, in one pass over their codes.

        Parameters
        ----------
        X : CodeMatrix or array-like of shape (n, d)
            Codes, all layers side by side.
        y : ignored
        products : callable, default=gram_matrix
            Computes the Gram matrix of a layer.

        Raises
        ------
        OptionError
            There are several layers and `unit` is False.
        StoreError
            A code is not finite, or all codes are zero.
        """
        codes = as_code_matrix(X, self.widths)
        n_layers = len(codes.layers)
        if n_layers > 1 and not self.unit:
            message = (
                "Several layers can only be joined at unit length. Use --normalise l2, or a "
                "single --layer."
            )
            raise OptionError(message)
        self.codes_ = codes
        self.scales_: list[Matrix] = []  # (n,) for each layer: factors of its rows
        total = np.zeros((len(codes), len(codes)))
        for k in range(n_layers):
            inner = products(codes, k, root=self.root)
            squares = inner.diagonal()
            check_finite(squares, codes.rows[k])
            scale = self._scale(squares, n_layers)
            self.scales_.append(scale)
            inner *= scale[:, None]
            inner *= scale[None, :]
            total += inner
        del inner
        if not total.any():
            message = "All codes are zero. Check the images and the --weights of the extraction."
            raise StoreError(message)
        self.n_flops_ = len(codes) ** 2 * codes.shape[1]
        self._factor(total)
        return self

    def fit_transform(self, X: CodeMatrix | ArrayLike, y: object = None) -> Matrix:
        """Fit on codes and return their coordinates, (n, r + 1)."""
        return self.fit(X).coordinates_

    def transform(self, X: CodeMatrix | ArrayLike) -> Matrix:
        """Return the coordinates of other codes, in one pass over the training codes.

        Parameters
        ----------
        X : CodeMatrix or array-like of shape (m, d)
            Codes, all layers side by side.

        Returns
        -------
        ndarray of shape (m, r + 1)
        """
        others = as_code_matrix(X, self.codes_.widths)
        inner = np.zeros((len(others), len(self.codes_)))
        squares = np.zeros(len(others))
        for k, scale in enumerate(self.scales_):
            cross, own = inner_products(others, self.codes_, k, root=self.root)
            others_scale = self._scale(own, len(self.scales_))
            inner += cross * others_scale[:, None] * scale[None, :]
            squares += own * others_scale**2
        right = inner[:, self.basis_].T
        inside = np.asarray(scipy.linalg.solve_triangular(self._triangle, right, lower=True).T)
        outside = squares - np.einsum("ij,ij->i", inside, inside)
        return np.column_stack([inside, np.sqrt(np.maximum(outside, 0))])

    def take(self, positions: Rows) -> "GramCoordinates":
        """Return the coordinates fitted on some of the training rows; no codes are read."""
        inside = self.coordinates_[positions]
        other = GramCoordinates(self.widths, unit=self.unit, root=self.root)
        other.codes_ = self.codes_.take(positions)
        other.scales_ = [scale[positions] for scale in self.scales_]
        other.n_flops_ = 0
        other._factor(inside @ inside.T)
        return other

    def to_code_space(self, vectors: ArrayLike, *, dtype: type[np.floating] = np.float64) -> Matrix:
        """Convert vectors of coordinates to vectors of codes, in one pass over the codes.

        Parameters
        ----------
        vectors : array-like of shape (k, r + 1) or (r + 1,)
            Coefficients of a linear model fitted on coordinates, or a mean of coordinates.
        dtype : type, default=numpy.float64
            Type of the result; sums are in float64.

        Returns
        -------
        ndarray of shape (k, d) or (d,)
            All layers side by side, for codes that are normalised with `unit` and `root`.
        """
        vectors = np.asarray(vectors)
        inside = np.atleast_2d(vectors)[:, :-1]
        # Each vector is a weighted sum of the training rows in the basis.
        weights = np.zeros((len(inside), len(self.coordinates_)))
        weights[:, self.basis_] = scipy.linalg.solve_triangular(
            self._triangle, inside.T, lower=True, trans="T"
        ).T
        out: Matrix = np.empty((len(weights), self.codes_.shape[1]), dtype)
        for k, layer in enumerate(split_columns(out, self.codes_.widths)):
            scaled = weights * self.scales_[k]
            for part, block in self.codes_.column_blocks(k, root=self.root):
                layer[:, part] = scaled @ block
        return out.reshape(*vectors.shape[:-1], -1)

    @property
    def _triangle(self) -> Matrix:
        """Coordinates of the rows in the basis, (r, r)."""
        triangle: Matrix = self.coordinates_[self.basis_, :-1]
        return triangle

    def _scale(self, squares: Matrix, n_layers: int) -> Matrix:
        """Return the factors of rows with these squared lengths; rows of zeros stay zeros."""
        if not self.unit:
            return np.ones(len(squares))
        norms = np.sqrt(squares)
        return np.asarray(1 / (np.where(norms > 0, norms, 1) * np.sqrt(n_layers)))

    def _factor(self, inner: Matrix) -> None:
        """Set the coordinates L and the basis from G = L Lᵀ, by Cholesky with pivots.

        With duplicates, or more rows than columns, G is singular: the factorisation stops
        where only rounding is left.
        """
        # The rounding of the sums over the columns, which is more than that of the factor.
        rounding = max(len(inner), 1000) * np.finfo(np.float64).eps
        factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
            inner, tol=rounding * inner.diagonal().max(), lower=1, overwrite_a=1
        )
        order = pivots - 1
        self.basis_ = order[:rank]
        self.coordinates_ = np.zeros((len(inner), rank + 1))
        self.coordinates_[order, :-1] = np.tril(factor)[:, :rank]
