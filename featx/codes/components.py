"""Principal components: rows of many columns as a few numbers, found without a label.

Rows come in, codes or their coordinates on the exact span; the directions in which
they differ most go out, and what other rows measure along them. The directions of
coordinates are those of the codes, turned as the coordinates are, so that the numbers
are the same on both. This file knows neither labels nor classifiers.

References
----------
.. [1] K. Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space",
   Philosophical Magazine 2(11), 1901.
.. [2] H. Jegou and O. Chum, "Negative evidences and co-occurrences in image retrieval:
   the benefit of PCA and whitening", ECCV 2012: what whitening does for codes.
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

# Axes may be float32, and products are in float64: so many columns are converted at once.
_BLOCK_COLUMNS = 65_536


class PrincipalComponents(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Projects rows onto the axes along which the fitted rows vary most.

    scikit-learn's `PCA`, of the fitted rows alone [1]_, apart from signs, and
    from axes along which no fitted row differs: these measure 0 in every row,
    rather than whatever rounding left there.

    Parameters
    ----------
    n_components : int
        How many axes; at most the columns, and one less than the rows.
    whiten : bool, default=False
        Whether what is measured along an axis is divided by its standard
        deviation in the fitted rows, so that all axes count the same [2]_.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        Of the fitted rows.
    axes_ : ndarray of shape (n_components, d)
        Of unit length, that of the largest variance first; zeros where no
        fitted row differs from another by more than rounding. The fitted row
        farthest out along an axis is on its positive side.
    deviations_ : ndarray of shape (n_components,)
        Standard deviations of the fitted rows along them.

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
        """Find the axes.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.
        y : ignored

        Raises
        ------
        FitError
            The rows have fewer axes than are asked for.
        """
        X = np.asarray(X, dtype=np.float64)
        n, d = X.shape
        if self.n_components > min(n - 1, d):
            message = (
                f"Cannot take {counted(self.n_components, 'component')} of {n} images of "
                f"{counted(d, 'number')}: there are at most {min(n - 1, d)}. Use --components "
                f"{min(n - 1, d)} or fewer."
            )
            raise FitError(message)
        self.mean_ = X.mean(axis=0)
        centred = X - self.mean_
        # The eigenvectors of the smaller square: of 2,000 rows in a sixth of the time that
        # a singular value decomposition takes, since only the first are wanted.
        by_rows = n <= d
        inner = centred @ centred.T if by_rows else centred.T @ centred
        last = len(inner) - 1
        _, vectors = scipy.linalg.eigh(
            inner, overwrite_a=True, subset_by_index=(last - self.n_components + 1, last)
        )
        vectors = vectors[:, ::-1]
        # Not the roots of the eigenvalues, of whose digits the square has lost half.
        axes = vectors.T @ centred if by_rows else vectors.T.copy()
        measured = vectors if by_rows else centred @ vectors
        lengths = np.linalg.norm(axes, axis=1) if by_rows else np.linalg.norm(measured, axis=0)
        # Of the squares, in which what is below drowns, and of the mean that was subtracted.
        rounding = max(len(inner), 1000) * np.finfo(np.float64).eps * np.einsum("ij,ij->", X, X)
        is_real = lengths**2 > rounding
        if by_rows:
            axes /= np.where(is_real, lengths, 1)[:, None]
        farthest = measured[np.abs(measured).argmax(axis=0), np.arange(self.n_components)]
        axes *= np.where(is_real, np.where(farthest < 0, -1, 1), 0)[:, None]
        self.axes_ = axes
        self.deviations_ = np.where(is_real, lengths, 0) / np.sqrt(n - 1)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """Return what rows measure along the axes.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, n_components)
        """
        X = np.asarray(X, dtype=np.float64)
        measured = np.zeros((len(X), self.n_components))
        for part, axes in self._parts():
            measured += (X[:, part] - self.mean_[part]) @ axes.T
        return measured / self._divisors

    def to_columns(self, weights: Matrix) -> Matrix:
        """Return weights of the components as weights of the columns, the mean subtracted.

        Parameters
        ----------
        weights : ndarray of shape (n_components,)
            Of a linear model that was fitted on what `transform` returns.

        Returns
        -------
        ndarray of shape (d,)
            Their product with a row less `mean_` is that of `weights` with what
            the row measures.
        """
        scaled = weights / self._divisors
        return np.concatenate([scaled @ axes for _, axes in self._parts()])

    @property
    def _divisors(self) -> Matrix:
        """What measures are divided by; where no fitted row differs, they are 0 as they are."""
        if not self.whiten:
            return np.ones(self.n_components)
        return np.where(self.deviations_ > 0, self.deviations_, 1)

    def _parts(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield blocks of columns of the axes, in float64."""
        for start in range(0, len(self.mean_), _BLOCK_COLUMNS):
            part = slice(start, start + _BLOCK_COLUMNS)
            # NumPy's own conversion inside a product is five times as slow.
            yield part, self.axes_[:, part].astype(np.float64, copy=False)
