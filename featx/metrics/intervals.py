"""Scores with 95 % intervals: Wilson's of a share, and those of the bootstrap.

Counts, or what is right and what belongs together, come in; scores with intervals go
out, and resamples for whoever has more to score. This file knows no probabilities;
`featx.metrics.Evaluation` says where the methods come from.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "bootstrap_counts", "paired_difference", "wilson"]

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution
_RESAMPLES = 2000
_CHUNK = 1_000_000  # numbers in one array of the bootstrap: 8 MB, a few such at a time


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, which holds the score.

    Parameters
    ----------
    value : float
        The score.
    low, high : float
        The ends of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def paired_difference(
    right: NDArray[np.bool_], other: NDArray[np.bool_], groups: NDArray[np.integer], seed: int = 0
) -> Score:
    """Return by how much one classifier is more accurate than another on the same images.

    Parameters
    ----------
    right, other : ndarray of bool, shape (n,)
        Which images each predicts right.
    groups : ndarray of int, shape (n,)
        Images with equal groups are drawn together.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    Score
        From -1 to 1. Both are drawn with the same images, so that what is hard
        for both does not blur the difference.

    Examples
    --------
    >>> one, other = np.array([True] * 9 + [False]), np.array([True] * 5 + [False] * 5)
    >>> print(paired_difference(one, other, np.arange(10)))
    0.400 (95 % interval 0.100 to 0.700)
    """
    _, of_image = np.unique(groups, return_inverse=True)
    gains = np.bincount(of_image, right.astype(float) - other)
    counts = np.bincount(of_image).astype(float)
    parts = [
        (drawn @ gains) / (drawn @ counts)
        for drawn in bootstrap_counts(len(gains), len(gains), seed)
    ]
    low, high = np.quantile(np.concatenate(parts), [0.025, 0.975])
    value = float(gains.sum() / counts.sum())
    return Score(value, float(min(low, value)), float(max(high, value)))


def wilson(n_right: float, n: int) -> Score:
    """Return a share with Wilson's 95 % interval.

    Parameters
    ----------
    n_right : float
        How many are right; a mean over repeats need not be whole.
    n : int
        Of how many, at least 1.

    Examples
    --------
    >>> print(wilson(8, 10))
    0.800 (95 % interval 0.490 to 0.943)
    """
    share = n_right / n
    width = 1 + _Z**2 / n
    middle = (share + _Z**2 / (2 * n)) / width
    half = _Z / width * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # Rounding may leave the range, or the share outside, by a hair: printed as -0.000.
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Score(share, min(low, share), max(high, share))


def bootstrap_counts(n_groups: int, n_columns: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each resample holds each key, a few resamples at a time.

    Parameters
    ----------
    n_groups : int
        Of what is drawn from.
    n_columns : int
        Numbers that are summed for each resample; no array is larger than a few MB for it.
    seed : int
        What is drawn.

    Yields
    ------
    ndarray of float, shape (r, n_groups)
    """
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(n_groups, n_columns))
    for start in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - start)
        # Numbering the groups of each resample anew counts all of them in one go.
        drawn = (
            random.integers(n_groups, size=(size, n_groups)) + n_groups * np.arange(size)[:, None]
        )
        counts = np.bincount(drawn.ravel(), minlength=size * n_groups)
        yield counts.reshape(size, n_groups).astype(np.float64)
