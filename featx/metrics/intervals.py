"""Scores with 95 % confidence intervals: Wilson's interval and the paired bootstrap.

Counts, or arrays of correct predictions, go in; scores with intervals come out. The
methods are cited in `featx.metrics.Evaluation`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "bootstrap_counts", "bootstrap_score", "paired_difference", "wilson"]

_Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
_RESAMPLES = 2000
_ROUNDING = 1e-9
_CHUNK = 1_000_000  # elements of one array of the bootstrap: 8 MB


@dataclass(frozen=True)
class Score:
    """A score and its 95 % confidence interval, which contains the score.

    Parameters
    ----------
    value : float
        The score.
    low, high : float
        Ends of the interval.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check that the interval contains the score, up to rounding."""
        if self.low > self.value + _ROUNDING or self.value > self.high + _ROUNDING:
            message = f"the interval {self.low} to {self.high} does not contain {self.value}"
            raise ValueError(message)

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def paired_difference(
    correct: NDArray[np.bool_],
    baseline: NDArray[np.bool_],
    groups: NDArray[np.integer],
    seed: int = 0,
) -> Score:
    """Return how much more accurate one classifier is than another on the same images.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,)
        Which images the classifier predicts correctly.
    baseline : ndarray of bool, shape (n,)
        Which images the other classifier predicts correctly.
    groups : ndarray of int, shape (n,)
        Group numbers; the bootstrap resamples whole groups.
    seed : int, default=0
        Random seed of the bootstrap.

    Returns
    -------
    Score
        Difference of the accuracies, from -1 to 1. Each resample holds the same images
        for both classifiers, so images that are hard for both do not widen the interval.

    Examples
    --------
    >>> one, other = np.array([True] * 9 + [False]), np.array([True] * 5 + [False] * 5)
    >>> print(paired_difference(one, other, np.arange(10)))
    0.400 (95 % interval 0.100 to 0.700)
    """
    _, of_image = np.unique(groups, return_inverse=True)
    gains = np.bincount(of_image, correct.astype(float) - baseline)
    sizes = np.bincount(of_image).astype(float)
    n = len(gains)
    resamples = [(drawn @ gains) / (drawn @ sizes) for drawn in bootstrap_counts(n, n, seed)]
    value = float(gains.sum() / sizes.sum())
    return bootstrap_score(value, np.concatenate(resamples))


def wilson(n_correct: float, n: int) -> Score:
    """Return a proportion with Wilson's 95 % interval.

    Parameters
    ----------
    n_correct : float
        Number of correct predictions; a mean over repeats need not be an integer.
    n : int
        Number of predictions, at least 1.

    Examples
    --------
    >>> print(wilson(8, 10))
    0.800 (95 % interval 0.490 to 0.943)
    """
    value = n_correct / n
    width = 1 + _Z**2 / n
    middle = (value + _Z**2 / (2 * n)) / width
    half = _Z / width * math.sqrt(value * (1 - value) / n + _Z**2 / (4 * n**2))
    # Rounding may put an end slightly outside [0, 1], or leave the value outside the interval.
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Score(value, min(low, value), max(high, value))


def bootstrap_score(value: float, resamples: NDArray[np.float64], *, basic: bool = False) -> Score:
    """Return a score with the percentile interval of its resamples, or the basic interval."""
    low, high = np.quantile(resamples, [0.025, 0.975])
    if basic:
        low, high = max(0.0, 2 * value - high), 2 * value - low
    # The interval must contain the score, so it is widened by the bias of the bootstrap.
    return Score(float(value), float(min(low, value)), float(max(high, value)))


def bootstrap_counts(n_groups: int, n_columns: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each resample contains each group, a block of resamples at a time.

    Parameters
    ----------
    n_groups : int
        Number of groups that are resampled.
    n_columns : int
        Number of sums that the caller computes for each resample. Blocks are small enough
        that no array is larger than a few MB.
    seed : int
        Random seed.

    Yields
    ------
    ndarray of float, shape (r, n_groups)
    """
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(n_groups, n_columns))
    for start in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - start)
        # Other numbers for the groups of each resample, so that one bincount counts all.
        offsets = n_groups * np.arange(size)[:, None]
        drawn = random.integers(n_groups, size=(size, n_groups)) + offsets
        counts = np.bincount(drawn.ravel(), minlength=size * n_groups)
        yield counts.reshape(size, n_groups).astype(np.float64)
