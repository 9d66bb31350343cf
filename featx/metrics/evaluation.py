"""Scores of predicted probabilities, with their uncertainty.

True labels and predicted probabilities go in, of one run or of several runs over the
same images. Scores with 95 % confidence intervals come out, with a table by class, the
confusion matrix and its most frequent confusions. The caller must make sure that the
predictions are of images that the classifier was not fitted on.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.documents import conform
from featx.metrics.decisions import predicted_columns
from featx.metrics.intervals import (
    Sample,
    Score,
    group_notes,
    loss_score,
    macro_score,
    proportion,
    share_score,
)
from featx.metrics.two_classes import PositiveScores
from featx.text import counted, quoted_list

__all__ = [
    "ClassScore",
    "Confusion",
    "Evaluation",
    "ReliabilityBin",
    "expand_columns",
    "majority_score",
    "score_predictions",
]

CALIBRATION_BINS = 15  # of equal width, as in [2]
_TOP = 5
_MOST_CONFUSIONS = 5
_MOST_PATHS = 3  # for each confusion


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class.

    Parameters
    ----------
    label : str
        Name of the class.
    precision, recall, f1 : float
        From 0 to 1; 0 where undefined.
    images : int
        Number of scored images of the class.
    recall_low, recall_high : float or None
        Interval of the recall; None for a class with fewer than two groups.
    """

    label: str
    precision: float
    recall: float
    f1: float
    images: int
    recall_low: float | None
    recall_high: float | None

    def __post_init__(self) -> None:
        """Check the interval, which may come from a file."""
        Score(self.recall, self.recall_low, self.recall_high)

    @property
    def recall_score(self) -> Score:
        """The recall with its interval."""
        return Score(self.recall, self.recall_low, self.recall_high)


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were predicted as another.

    Parameters
    ----------
    true, predicted : str
        Labels.
    n : int
        Number of such predictions, over all repeats.
    paths : tuple of str
        Paths of at most 3 of the images, the most confident mistake first; empty if no
        paths were given.
    """

    true: str
    predicted: str
    n: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence, and how accurate they are.

    Parameters
    ----------
    low, high : float
        Range of the confidence: greater than `low`, up to `high`.
    n : int
        Number of predictions, over all repeats.
    confidence, accuracy : float
        Mean confidence and accuracy of these predictions; 0 if there are none.
    accuracy_low, accuracy_high : float, optional
        Interval of the accuracy; None if the predictions are of fewer than two groups, or if an
        early version of featx did not store it.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float | None = None
    accuracy_high: float | None = None

    def __post_init__(self) -> None:
        """Check the interval, which may come from a file."""
        Score(self.accuracy, self.accuracy_low, self.accuracy_high)

    @property
    def accuracy_score(self) -> Score:
        """The accuracy with its interval."""
        return Score(self.accuracy, self.accuracy_low, self.accuracy_high)


@dataclass(frozen=True)
class Evaluation:
    """All scores of one set of predictions.

    Intervals are for the score of the saved model on new images and new groups;
    `featx.metrics.intervals` describes the method and cites it. All scores except the
    accuracy pool the repeats, and no repeat narrows an interval.

    Parameters
    ----------
    n_images : int
        Number of scored images.
    n_repeats : int
        Number of predictions for each image.
    accuracy : Score
        Fraction of correct predictions, averaged over the repeats.
    balanced_accuracy : Score
        Mean recall of the classes that have images.
    macro_f1 : Score
        Mean F1 of all labels that are true or predicted anywhere, from 0 to 1.
    log_loss : Score or None
        Mean of -ln p of the true class. As in scikit-learn, p is clipped to
        [eps, 1 - eps], where eps is that of its dtype. Images of classes that the
        classifier was not trained on are left out; None if there are no other images.
    brier : Score or None
        Mean over images of the sum over classes of (p - [class is true])², from 0 to 2,
        as Brier defined it [1]_, of the same images as the log loss. It equals
        scikit-learn's ``brier_score_loss(..., scale_by_half=False)``; for two classes,
        this is twice the default of that function.
    calibration_error : Score
        Expected calibration error of the predicted class [2]_: the mean distance of
        confidence and accuracy over `calibration_bins` bins. The estimate is too high
        if there are few images, by an amount that depends on the unknown error, so it
        has no interval.
    calibration_bins : int
        Number of bins, all of the same width; each excludes its lower end.
    reliability : tuple of ReliabilityBin
        The bins, from low to high confidence.
    top5 : Score or None
        Fraction of images whose class is among the five most probable; None for five
        or fewer classes.
    labels : tuple of str
        All labels that are true or predicted anywhere, sorted.
    per_class : tuple of ClassScore
        Scores of each class, in the order of `labels`.
    confusion : tuple of tuple of int
        Confusion matrix in the order of `labels`: rows are true labels, columns are
        predicted ones. It sums to ``n_images * n_repeats``.
    confusions : tuple of Confusion
        The most frequent confusions, at most 5.
    n_groups : int, optional
        Number of groups of images; None if an early version of featx did not store it.
    n_folds : int, default=1
        Number of folds of each repeat; 1 if one fixed model made all predictions.
    notes : tuple of str, default=()
        Which intervals are approximate, and which images some scores leave out.
    positive : PositiveScores, optional
        Scores of the positive class of two, if one was named.

    References
    ----------
    .. [1] G. W. Brier, "Verification of Forecasts Expressed in Terms of
       Probability", Monthly Weather Review 78(1), 1950.
    .. [2] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
       Modern Neural Networks", ICML 2017. https://arxiv.org/abs/1706.04599
    """

    n_images: int
    n_repeats: int
    accuracy: Score
    balanced_accuracy: Score
    macro_f1: Score
    log_loss: Score | None
    brier: Score | None
    calibration_error: Score
    calibration_bins: int
    reliability: tuple[ReliabilityBin, ...]
    top5: Score | None
    labels: tuple[str, ...]
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    confusions: tuple[Confusion, ...]
    n_groups: int | None = None
    n_folds: int = 1
    notes: tuple[str, ...] = ()
    positive: PositiveScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain JSON types: lists instead of tuples.

        Returns
        -------
        dict
            One key for each field.
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Evaluation | None":
        """Return the evaluation that `to_dict` made these facts from.

        Parameters
        ----------
        facts : mapping of str to object
            Other keys are ignored.

        Returns
        -------
        Evaluation or None
            None if an early version of featx stored fewer scores.

        Raises
        ------
        FieldError
            A value does not fit.
        """
        if isinstance(facts, dict) and "reliability" not in facts:
            return None
        return conform(cls, facts)

    def __post_init__(self) -> None:
        """Check that the confusion matrix and the table by class have a row for each label."""
        k = len(self.labels)
        if [each.label for each in self.per_class] != list(self.labels):
            message = "per_class does not have a row for each of labels"
            raise ValueError(message)
        if not k or [len(row) for row in self.confusion] != [k] * k:
            message = f"confusion does not have {k} rows and columns, as labels has"
            raise ValueError(message)


def score_predictions(  # noqa: PLR0913 - each is a separate fact of the predictions
    y_true: NDArray[np.str_],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    groups: NDArray[np.integer],
    *,
    predicted: NDArray[np.str_] | None = None,
    known: NDArray[np.bool_] | None = None,
    n_repeats: int = 1,
    n_folds: int = 1,
    paths: Sequence[str] | None = None,
) -> Evaluation:
    """Score predictions.

    Parameters
    ----------
    y_true : ndarray of str, shape (n,)
        Labels. A label that is not in `classes` is not known, and counts as wrong.
    probabilities : ndarray of float, shape (n, k)
        From 0 to 1 and never NaN, columns in the order of `classes`. Of equal
        probabilities, the first counts as the most probable.
    classes : sequence of str, length k
        Sorted names of the classes.
    groups : ndarray of int, shape (n,)
        Group numbers; images of one group are not independent.
    predicted : ndarray of str, shape (n,), optional
        Predicted labels; by default the most probable ones.
    known : ndarray of bool, shape (n,), optional
        False where the training set of the model that made the prediction has no image of
        the class `y_true`. Such an image counts as wrong, and is left out of log loss and
        Brier score, which would show nothing but the least probability. By default, all
        labels in `classes` are known.
    n_repeats : int, default=1
        Number of runs. The rows are those of the runs one after the other, each with the
        same images in the same order: n is ``n_repeats * n_images``. Repeats of an image
        never count as further images, so only the groups of the first run are used.
    n_folds : int, default=1
        Number of folds of each run; 1 for predictions of one fixed model.
    paths : sequence of str, length n_images, optional
        Paths of the images, to list some of the mistakes.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> y = np.array(["cat", "cat", "dog", "dog"])
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    >>> found = score_predictions(
    ...     y, probabilities, ["cat", "dog"], np.arange(4), paths=list("abcd")
    ... )
    >>> print(found.accuracy)
    0.750 (95 % interval 0.145 to 0.982)
    >>> found.confusions
    (Confusion(true='dog', predicted='cat', n=1, paths=('c',)),)
    """
    n_images = len(y_true) // n_repeats
    rows = _score_rows(y_true, probabilities, classes, predicted, known)
    sample = Sample.of(len(y_true), groups, n_repeats, n_folds)
    k = len(rows.labels)
    matrix = np.bincount(rows.true * k + rows.predicted, minlength=k * k).reshape(k, k)
    is_known, of_known = rows.known.any(), sample.take(rows.known)
    bad = 2 * math.log(max(2, k))
    log_loss, brier = (
        loss_score(each[rows.known], of_known, bad=worst, most=most) if is_known else None
        for each, worst, most in ((rows.log_loss, bad, math.inf), (rows.brier, 1.0, 2.0))
    )
    return Evaluation(
        n_images=n_images,
        n_repeats=n_repeats,
        accuracy=share_score(rows.correct, sample),
        balanced_accuracy=macro_score(rows.true, rows.predicted, sample, kind="recall"),
        macro_f1=macro_score(rows.true, rows.predicted, sample, kind="f1"),
        log_loss=log_loss,
        brier=brier,
        calibration_error=_calibration_error(rows),
        calibration_bins=CALIBRATION_BINS,
        reliability=_reliability(rows, sample),
        top5=share_score(rows.in_top, sample) if len(classes) > _TOP else None,
        labels=rows.labels,
        per_class=_per_class(rows, sample, matrix),
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        confusions=_most_frequent(rows, matrix, n_images, paths),
        n_groups=sample.n_groups,
        n_folds=n_folds,
        notes=_notes(rows, sample),
    )


def majority_score(y: NDArray[np.str_], groups: NDArray[np.integer]) -> Score:
    """Return the accuracy of the best constant prediction: the most frequent class of all images.

    The most frequent class of the training images may be another one. If each fold uses its own,
    a class with more images in training has fewer in the fold, and the score falls below chance.
    This one is never below one divided by the number of classes.

    Parameters
    ----------
    y : ndarray of str, shape (n,)
        Labels of the scored images.
    groups : ndarray of int, shape (n,)
        Group numbers.

    Examples
    --------
    >>> print(majority_score(np.array(["dog", "cat", "dog", "dog"]), np.arange(4)))
    0.750 (95 % interval 0.145 to 0.982)
    """
    labels, counts = np.unique(y, return_counts=True)
    return proportion(y == labels[counts.argmax()], groups)


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


@dataclass(frozen=True)
class _Rows:
    """Scores of each prediction, arrays of shape (n,)."""

    labels: tuple[str, ...]
    true: NDArray[np.intp]  # index in `labels`, as is `predicted`
    predicted: NDArray[np.intp]
    known: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]
    in_top: NDArray[np.bool_]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted label is the true one."""
        return np.equal(self.true, self.predicted)

    @property
    def bin(self) -> NDArray[np.intp]:
        """The bin of each confidence."""
        inner = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
        return np.searchsorted(inner, self.confidence, side="left")


def _score_rows(
    y_true: NDArray[np.str_],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    y_predicted: NDArray[np.str_] | None,
    known: NDArray[np.bool_] | None,
) -> _Rows:
    names, every = np.asarray(classes), np.arange(len(y_true))
    if y_predicted is None:
        y_predicted = names[predicted_columns(probabilities)]
    labels = np.unique(np.concatenate([y_true, y_predicted]))
    # A label that is not in `classes` has no column: clip to any valid one, and mask it below.
    of_true = np.searchsorted(names, y_true).clip(max=len(names) - 1)
    has_column = names[of_true] == y_true
    known = has_column if known is None else has_column & known
    p = np.where(known, probabilities[every, of_true], 0).astype(probabilities.dtype)
    eps = np.finfo(probabilities.dtype).eps
    squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    ahead = np.sum(probabilities > p[:, None], axis=1)
    ahead += np.sum((probabilities == p[:, None]) & (np.arange(len(names)) < of_true[:, None]), 1)
    return _Rows(
        labels=tuple(str(label) for label in labels),
        true=np.searchsorted(labels, y_true),
        predicted=np.searchsorted(labels, y_predicted),
        known=known,
        confidence=probabilities[every, np.searchsorted(names, y_predicted)].astype(np.float64),
        log_loss=-np.log(p.clip(eps, 1 - eps).astype(np.float64)),
        # Σ (p - [true])² = Σ p² - 2 p_true + 1 avoids another array of shape (n, k).
        brier=squares - 2 * p.astype(np.float64) + 1,
        in_top=known & (ahead < _TOP),
    )


def _calibration_error(rows: _Rows) -> Score:
    """Return the mean distance of confidence and accuracy over the bins, without interval."""
    gaps = np.bincount(rows.bin, rows.confidence - rows.correct, minlength=CALIBRATION_BINS)
    return Score(float(np.sum(np.abs(gaps))) / len(rows.true))


def _reliability(rows: _Rows, sample: Sample) -> tuple[ReliabilityBin, ...]:
    edges, of_bin = np.linspace(0, 1, CALIBRATION_BINS + 1), rows.bin
    found = []
    for k, (low, high) in enumerate(itertools.pairwise(edges.tolist())):
        own = np.flatnonzero(of_bin == k)
        if not len(own):
            found.append(ReliabilityBin(low, high, 0, 0.0, 0.0))
            continue
        accuracy = share_score(rows.correct[own], sample.take(own))
        scores = (float(rows.confidence[own].mean()), accuracy.value, accuracy.low, accuracy.high)
        found.append(ReliabilityBin(low, high, len(own), *scores))
    return tuple(found)


def _per_class(rows: _Rows, sample: Sample, matrix: NDArray[np.integer]) -> tuple[ClassScore, ...]:
    order = np.argsort(rows.true, kind="stable")
    n_true, n_predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    parts = np.split(order, np.cumsum(n_true)[:-1])
    found = []
    for k, (label, own) in enumerate(zip(rows.labels, parts, strict=True)):
        correct, predicted = int(matrix[k, k]), int(n_predicted[k])
        recall = share_score(rows.correct[own], sample.take(own)) if len(own) else Score(0.0)
        precision = correct / predicted if predicted else 0.0
        f1 = 2 * correct / (len(own) + predicted)
        scores = (precision, recall.value, f1, len(own) // sample.n_runs, recall.low, recall.high)
        found.append(ClassScore(label, *scores))
    return tuple(found)


def _notes(rows: _Rows, sample: Sample) -> tuple[str, ...]:
    """Return which intervals are approximate, and which images some scores leave out."""
    notes = group_notes(sample.n_groups)
    if not rows.known.all():
        unknown = Counter(np.asarray(rows.labels)[rows.true[~rows.known]].tolist())
        n_images = -(-unknown.total() // sample.n_runs)
        labels = quoted_list(label for label, _ in unknown.most_common())
        notes.append(
            f"Counted as wrong, and left out of log loss and Brier score: "
            f"{counted(n_images, 'image')} of classes without training images ({labels})."
        )
    return tuple(notes)


def _most_frequent(
    rows: _Rows, matrix: NDArray[np.integer], n_images: int, paths: Sequence[str] | None
) -> tuple[Confusion, ...]:
    mistakes = matrix - np.diag(matrix.diagonal())
    found = []
    # A stable sort: of equally frequent confusions, the first by name comes first.
    for cell in np.argsort(-mistakes, axis=None, kind="stable")[:_MOST_CONFUSIONS]:
        true, predicted = divmod(int(cell), len(matrix))
        n = int(mistakes[true, predicted])
        if n == 0:
            break
        shown: list[str] = []
        if paths is not None:
            where = np.flatnonzero((rows.true == true) & (rows.predicted == predicted))
            ranked = sorted((-rows.confidence[i], str(paths[int(i) % n_images])) for i in where)
            # A dict removes the repeats of an image.
            shown = list(dict.fromkeys(path for _, path in ranked))[:_MOST_PATHS]
        found.append(Confusion(rows.labels[true], rows.labels[predicted], n, tuple(shown)))
    return tuple(found)
