"""Scores with their uncertainty.

True and predicted labels come in; accuracy and balanced accuracy with 95 %
intervals, a table by class and the confusion matrix go out. This file does not
know how the predictions were made; that they come from images the classifier
never saw is the caller's promise.

References
----------
.. [1] E. B. Wilson, "Probable Inference, the Law of Succession, and
   Statistical Inference", JASA 22(158), 1927.
   https://doi.org/10.1080/01621459.1927.10502953
.. [2] B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

__all__ = ["ClassScore", "Evaluation", "Score", "evaluate", "wilson"]

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution
_RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class ClassScore:
    """What is true of one class.

    Parameters
    ----------
    label : str
        Its name.
    precision, recall, f1 : float
        From 0 to 1; 0 where undefined.
    images : int
        How many images of the class were scored.
    """

    label: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Evaluation:
    """All scores of one set of predictions.

    Parameters
    ----------
    n_images : int
        How many images were scored.
    accuracy : Score
        Share of right predictions, Wilson interval [1]_.
    balanced_accuracy : Score
        Mean recall of the classes, bootstrap interval [2]_; images that belong
        together are drawn together.
    per_class : tuple of ClassScore
        By label.
    confusion : tuple of tuple of int
        True label down, predicted label across, in the order of `per_class`.
    """

    n_images: int
    accuracy: Score
    balanced_accuracy: Score
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain values that JSON can hold."""
        return asdict(self)


def evaluate(
    y_true: NDArray[np.str_],
    y_predicted: NDArray[np.str_],
    keys: NDArray[np.integer],
    *,
    seed: int = 0,
) -> Evaluation:
    """Score predictions.

    Parameters
    ----------
    y_true, y_predicted : ndarray of str, shape (n,)
        Labels.
    keys : ndarray of int, shape (n,)
        Rows with equal keys belong together and are drawn together.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    Evaluation
    """
    labels = np.unique(np.concatenate([y_true, y_predicted]))
    matrix = np.zeros((len(labels), len(labels)), int)
    np.add.at(matrix, (np.searchsorted(labels, y_true), np.searchsorted(labels, y_predicted)), 1)
    columns = precision_recall_fscore_support(y_true, y_predicted, labels=labels, zero_division=0)
    per_class = tuple(
        ClassScore(str(label), float(p), float(r), float(f), int(n))
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    )
    return Evaluation(
        n_images=len(y_true),
        accuracy=wilson(int(matrix.trace()), len(y_true)),
        balanced_accuracy=_balanced_accuracy(y_true, y_predicted, keys, seed),
        per_class=per_class,
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
    )


def wilson(n_right: int, n: int) -> Score:
    """Return a share with Wilson's 95 % interval.

    Examples
    --------
    >>> print(wilson(8, 10))
    0.800 (95 % interval 0.490 to 0.943)
    """
    share = n_right / n
    width = 1 + _Z**2 / n
    middle = (share + _Z**2 / (2 * n)) / width
    half = _Z / width * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # Rounding may leave the range by a hair, which would be printed as -0.000.
    return Score(share, max(0.0, middle - half), min(1.0, middle + half))


def _balanced_accuracy(
    y_true: NDArray[np.str_], y_predicted: NDArray[np.str_], keys: NDArray[np.integer], seed: int
) -> Score:
    classes, of_class = np.unique(y_true, return_inverse=True)
    _, of_key = np.unique(keys, return_inverse=True)
    n_keys = int(of_key.max()) + 1
    # How many images, and how many right ones, each key brings to each class: (n_keys, k)
    images = np.zeros((n_keys, len(classes)))
    right = np.zeros_like(images)
    np.add.at(images, (of_key, of_class), 1)
    np.add.at(right, (of_key, of_class), y_true == y_predicted)
    value = float(np.mean(right.sum(0) / images.sum(0)))
    drawn = np.random.default_rng(seed).multinomial(
        n_keys, np.full(n_keys, 1 / n_keys), size=_RESAMPLES
    )
    n_images, n_right = drawn @ images, drawn @ right
    # A class that a resample misses has no recall there.
    recalls = np.divide(n_right, n_images, out=np.full_like(n_right, np.nan), where=n_images > 0)
    low, high = np.quantile(np.nanmean(recalls, axis=1), [0.025, 0.975])
    return Score(value, float(low), float(high))
