"""Decisions: which class is predicted, given the probabilities of all classes.

Probabilities come in; columns of classes go out. Every label that featx reports comes from this
module: that of the most probable class or, for two classes, that of a threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PositiveClass", "predicted_columns", "ranked_columns"]


@dataclass(frozen=True)
class PositiveClass:
    """The class that a classifier of two classes is meant to find, such as a disease.

    Parameters
    ----------
    label : str
        Name of the class.
    threshold : float, optional
        Probability from which on an image is predicted as this class; by default the more
        probable class is predicted.
    rule : str, optional
        How the threshold was chosen, such as "recall:0.95".
    """

    label: str
    threshold: float | None = None
    rule: str | None = None

    @property
    def reason(self) -> str:
        """The recall or the precision that the threshold was chosen for, in brackets; or ""."""
        return f" ({self.rule})" if self.rule is not None and ":" in self.rule else ""

    @property
    def decision(self) -> str:
        """How the label follows from the probabilities, in words."""
        if self.threshold is None:
            return "the more probable class"
        return f"{self.label} from a probability of {self.threshold:.3f} on{self.reason}"

    def __post_init__(self) -> None:
        """Check that the threshold is a probability."""
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            message = f"the threshold is {self.threshold}, which is not from 0 to 1"
            raise ValueError(message)


def predicted_columns(
    probabilities: NDArray[np.floating],
    classes: Sequence[str] = (),
    positive: str | None = None,
    threshold: float | NDArray[np.float64] | None = None,
) -> NDArray[np.intp]:
    """Return the column of the predicted class of each row.

    Parameters
    ----------
    probabilities : ndarray of shape (n, k)
        Of equal probabilities, the first counts as the most probable.
    classes : sequence of str, length k
        Class of each column; only used with a threshold.
    positive : str, optional
        The positive class, with a threshold.
    threshold : float or ndarray of shape (n,), optional
        Probability from which on a row is predicted as the positive class of two.

    Returns
    -------
    ndarray of int, shape (n,)

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    >>> predicted_columns(p), predicted_columns(p, ["ill", "well"], "ill", 0.5)
    (array([0, 0, 1]), array([0, 0, 1]))
    >>> predicted_columns(p, ["ill", "well"], "ill", 0.3)
    array([0, 0, 0])
    """
    if positive is None or threshold is None:
        return np.asarray(probabilities.argmax(axis=1))
    column = list(classes).index(positive)
    return np.where(probabilities[:, column] >= threshold, column, 1 - column)


def ranked_columns(
    probabilities: NDArray[np.floating], first: NDArray[np.intp], n: int
) -> NDArray[np.intp]:
    """Return the columns of the predicted class and of the most probable others.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, k)
        Probabilities of all classes.
    first : ndarray of int, shape (n_rows,)
        Column of the predicted class, from `predicted_columns`.
    n : int
        Number of columns to return for each row, at most k.

    Returns
    -------
    ndarray of int, shape (n_rows, n)

    Examples
    --------
    >>> ranked_columns(np.array([[0.2, 0.5, 0.3]]), np.array([1]), 2)
    array([[1, 2]])
    """
    if n == 1:
        return first[:, None]
    # The predicted class comes first even if a threshold makes it the less probable one. The sort
    # is stable, so the first of equal classes comes first, as in `predicted_columns`.
    keys = -probabilities
    keys[np.arange(len(keys)), first] = -np.inf
    return np.argsort(keys, axis=1, kind="stable")[:, :n]
