"""Normalisations of rows: unit length, signed square roots, and centring.

Rows of codes, or of their coordinates, go in; rows of the same width come out. This module
knows neither labels nor classifiers.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin

from featx.codes.matrix import Matrix, as_code_matrix, signed_root

__all__ = ["CentredRows", "UnitRows"]


class UnitRows(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale rows to unit length, each layer by itself if there are several side by side.

    Parameters
    ----------
    widths : tuple of int
        Number of columns of each layer. Each layer gets the length
        1 / sqrt(number of layers).
    root : bool, default=False
        Whether to take the signed square root of each feature first, so that a few large
        features do not dominate the others [1]_.

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
        """Do nothing, since the length of a row depends on this row only."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: ArrayLike) -> Matrix:
        """Return the rows at unit length, in float64; rows of zeros stay zeros.

        Raises
        ------
        OptionError
            The number of columns is not that of the layers.
        """
        unit = np.array(X, dtype=np.float64)
        for layer in as_code_matrix(unit, self.widths).layers:  # views of the columns
            if self.root:
                signed_root(layer)
            _to_unit_length(layer, np.sqrt(len(self.widths)))
        return unit


class CentredRows(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Subtract the mean of the training rows, and scale rows to unit length again.

    Average-pooled codes all point in nearly the same direction; they differ in how they
    deviate from their mean [1]_.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        Mean of the training rows.

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
        """Compute the mean."""
        self.mean_ = np.asarray(X, dtype=np.float64).mean(axis=0)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """Return the centred rows at unit length; rows that equal the mean are zeros."""
        return _to_unit_length(np.asarray(X, dtype=np.float64) - self.mean_)


def _to_unit_length(rows: Matrix, divisor: float = 1.0) -> Matrix:
    """Divide rows in place by their length and `divisor`; return them."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1) * divisor
    return rows
