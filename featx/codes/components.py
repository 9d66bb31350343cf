"""Principal components of rows, without labels.

Rows go in, as codes or as coordinates of the Gram matrix; the directions in which they
vary most come out, with the projections of other rows on these directions. Coordinates are
rotated codes, so both have the same projections. This module knows neither labels nor
classifiers.

References
----------
.. [1] K. Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space",
   Philosophical Magazine 2(11), 1901.
.. [2] H. Jegou and O. Chum, "Negative evidences and co-occurrences in image retrieval:
   the benefit of PCA and whitening", ECCV 2012: the effect of whitening on codes.
"""

from collections.abc import Iterator
from typing import Self

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin

from featx.codes.matrix import Matrix
from featx.errors import FitError
from featx.text import counted

__all__ = ["PrincipalComponents"]

# Axes may be float32, but products are in float64: this many columns are converted at a time.
_BLOCK_COLUMNS = 65_536


class PrincipalComponents(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Project rows onto the axes along which the training rows vary most.

    This is scikit-learn's `PCA` [1]_, except for the signs of axes, and for axes along
    which the training rows do not vary: projections on these are 0 instead of rounding.

    Parameters
    ----------
    n_components : int
        Number of axes: at most the number of columns, and the number of rows minus 1.
    whiten : bool, default=False
        Whether to divide each projection by its standard deviation in the training rows,
        so that all axes have the same weight [2]_.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        Mean of the training rows.
    axes_ : ndarray of shape (n_components, d)
        Unit vectors, that of the largest variance first; zeros where the training rows
        vary only by rounding. The training row with the largest projection in absolute
        value has a positive one.
    deviations_ : ndarray of shape (n_components,)
        Standard deviations of the training rows along the axes.

    Examples
    --------
    >>> rows = np.array([[0.0, 1.0], [2.0, 1.0], [7.0, 1.0]])
    >>> model = PrincipalComponents(1).fit(rows)
    >>> model.transform(rows).ravel()
    array([-3., -1.,  4.])
    """

    def __init__(self, n_components: int, *, whiten: bool = False) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Compute the axes.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.
        y : ignored

        Raises
        ------
        FitError
            The rows have fewer than `n_components` axes.
        """
        X = np.asarray(X, dtype=np.float64)
        n, d = X.shape
        if self.n_components > min(n - 1, d):
            message = (
                f"{counted(n, 'image')} with {counted(d, 'feature')} have at most "
                f"{min(n - 1, d)} principal components, but --components is {self.n_components}. "
                f"Use --components {min(n - 1, d)} or less."
            )
            raise FitError(message)
        self.mean_ = X.mean(axis=0)
        centred = X - self.mean_
        # Eigenvectors of the smaller of X Xᵀ and Xᵀ X. Only the first ones are needed, so for
        # 2,000 rows this takes a sixth of the time of a singular value decomposition.
        by_rows = n <= d
        inner = centred @ centred.T if by_rows else centred.T @ centred
        last = len(inner) - 1
        _, vectors = scipy.linalg.eigh(
            inner, overwrite_a=True, subset_by_index=(last - self.n_components + 1, last)
        )
        vectors = vectors[:, ::-1]
        # Lengths are computed from the projections, because the product lost half of the digits.
        axes = vectors.T @ centred if by_rows else vectors.T.copy()
        projected = vectors if by_rows else centred @ vectors
        lengths = np.linalg.norm(axes, axis=1) if by_rows else np.linalg.norm(projected, axis=0)
        # The rounding of the products and of the subtracted mean.
        rounding = max(len(inner), 1000) * np.finfo(np.float64).eps * np.einsum("ij,ij->", X, X)
        is_real = lengths**2 > rounding
        if by_rows:
            axes /= np.where(is_real, lengths, 1)[:, None]
        farthest = projected[np.abs(projected).argmax(axis=0), np.arange(self.n_components)]
        axes *= np.where(is_real, np.where(farthest < 0, -1, 1), 0)[:, None]
        self.axes_ = axes
        self.deviations_ = np.where(is_real, lengths, 0) / np.sqrt(n - 1)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """Return the projections of rows on the axes.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, n_components)
        """
        X = np.asarray(X, dtype=np.float64)
        projected = np.zeros((len(X), self.n_components))
        for part, axes in self._column_blocks():
            projected += (X[:, part] - self.mean_[part]) @ axes.T
        return projected / self._divisors

    def to_columns(self, weights: Matrix) -> Matrix:
        """Convert weights of the components to weights of the columns minus their mean.

        Parameters
        ----------
        weights : ndarray of shape (n_components,)
            Weights of a linear model that was fitted on the result of `transform`.

        Returns
        -------
        ndarray of shape (d,)
            Its inner product with a row minus `mean_` is the inner product of `weights`
            with the projections of the row.
        """
        scaled = weights / self._divisors
        return np.concatenate([scaled @ axes for _, axes in self._column_blocks()])

    @property
    def _divisors(self) -> Matrix:
        """Divisors of the projections; 1 where the training rows do not vary."""
        if not self.whiten:
            return np.ones(self.n_components)
        return np.where(self.deviations_ > 0, self.deviations_, 1)

    def _column_blocks(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield blocks of columns of the axes, in float64."""
        for start in range(0, len(self.mean_), _BLOCK_COLUMNS):
            part = slice(start, start + _BLOCK_COLUMNS)
            # NumPy's own conversion inside a product takes five times as long.
            yield part, self.axes_[:, part].astype(np.float64, copy=False)
