"""Columns of probabilities or decision scores, by class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["expand_columns"]


def expand_columns(
    values: NDArray[np.floating],
    classes: Sequence[str],
    all_classes: Sequence[str] | NDArray[np.str_],
    *,
    missing: float = 0.0,
) -> NDArray[np.float64]:
    """Return values of some classes as columns of all classes.

    A classifier that was fitted without a class has no column for it.

    Parameters
    ----------
    values : ndarray of shape (n, k)
        Probabilities or decision scores.
    classes : sequence of str, length k
        Class of each column.
    all_classes : sequence of str, length m
        Sorted classes of the result; `classes` are among them.
    missing : float, default=0.0
        Value of the classes that are not in `classes`: 0 for probabilities, -inf for
        decision scores.

    Returns
    -------
    ndarray of float64, shape (n, m)

    Examples
    --------
    >>> expand_columns(np.array([[0.3, 0.7]]), ["ant", "cat"], ["ant", "bee", "cat"])
    array([[0.3, 0. , 0.7]])
    """
    out = np.full((len(values), len(all_classes)), missing)
    out[:, np.searchsorted(all_classes, classes)] = values
    return out
