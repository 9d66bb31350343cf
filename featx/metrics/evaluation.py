"""Scores of predicted probabilities, with their uncertainty.

True labels and predicted probabilities go in, of one run or of several runs over the
same images. Scores with 95 % confidence intervals come out, with a table by class, the
confusion matrix and its most frequent confusions. The caller must make sure that the
predictions are of images that the classifier was not fitted on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from featx.documents import conform
from featx.metrics.intervals import Score, bootstrap_counts, bootstrap_score, wilson

__all__ = [
    "ClassScore",
    "Confusion",
    "Evaluation",
    "ReliabilityBin",
    "count_majority_correct",
    "expand_columns",
    "score_predictions",
]

CALIBRATION_BINS = 15  # of equal width, as in [4]
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
    recall_low, recall_high : float
        Wilson interval of the recall; 0 and 1 for a class without images.
    """

    label: str
    precision: float
    recall: float
    f1: float
    images: int
    recall_low: float
    recall_high: float


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
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """All scores of one set of predictions.

    Intervals are bootstrap intervals [2]_ unless stated otherwise, from 2000 resamples.
    Each resample draws whole groups of images, with all repeats of an image. All scores
    except the accuracy pool the repeats.

    Parameters
    ----------
    n_images : int
        Number of scored images.
    n_repeats : int
        Number of predictions for each image.
    accuracy : Score
        Fraction of correct predictions, averaged over the repeats, with the Wilson
        interval [1]_ for `n_images` images. The interval takes all images as
        independent, even those of one group.
    balanced_accuracy : Score
        Mean recall of the classes that have images.
    macro_f1 : Score
        Mean F1 of all labels that are true or predicted anywhere, from 0 to 1.
    log_loss : Score
        Mean of -ln p of the true class. As in scikit-learn, p is clipped to
        [eps, 1 - eps], where eps is that of its dtype.
    brier : Score
        Mean over images of the sum over classes of (p - [class is true])², from 0 to 2,
        as Brier defined it [3]_. It equals scikit-learn's
        ``brier_score_loss(..., scale_by_half=False)``; for two classes, this is twice
        the default of that function.
    calibration_error : Score
        Expected calibration error of the predicted class [4]_: the mean distance of
        confidence and accuracy over `calibration_bins` bins. The estimate is too high
        if there are few images, and that of a resample is too high by as much again.
        The interval is therefore the basic bootstrap interval [5]_, which reflects the
        resamples about the estimate. With a few hundred images it contains the true
        error in about nine of ten cases, and less often if the error is close to 0.
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

    References
    ----------
    .. [1] E. B. Wilson, "Probable Inference, the Law of Succession, and
       Statistical Inference", JASA 22(158), 1927.
       https://doi.org/10.1080/01621459.1927.10502953
    .. [2] B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993.
    .. [3] G. W. Brier, "Verification of Forecasts Expressed in Terms of
       Probability", Monthly Weather Review 78(1), 1950.
    .. [4] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
       Modern Neural Networks", ICML 2017. https://arxiv.org/abs/1706.04599
    .. [5] A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their
       Application", 1997, section 5.2.
    """

    n_images: int
    n_repeats: int
    accuracy: Score
    balanced_accuracy: Score
    macro_f1: Score
    log_loss: Score
    brier: Score
    calibration_error: Score
    calibration_bins: int
    reliability: tuple[ReliabilityBin, ...]
    top5: Score | None
    labels: tuple[str, ...]
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    confusions: tuple[Confusion, ...]

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


def score_predictions(
    y_true: NDArray[np.str_],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    groups: NDArray[np.integer],
    *,
    n_repeats: int = 1,
    paths: Sequence[str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score predictions; the predicted label is the most probable one.

    Parameters
    ----------
    y_true : ndarray of str, shape (n,)
        Labels. A label that is not in `classes` has probability 0 and counts as wrong.
    probabilities : ndarray of float, shape (n, k)
        From 0 to 1 and never NaN, columns in the order of `classes`. Of equal
        probabilities, the first counts as the most probable.
    classes : sequence of str, length k
        Sorted names of the classes.
    groups : ndarray of int, shape (n,)
        Group numbers; the bootstrap draws whole groups.
    n_repeats : int, default=1
        Number of runs. The rows are those of the runs one after the other, each with the
        same images in the same order: n is ``n_repeats * n_images``. Repeats of an image
        never count as further images, so only the groups of the first run are used.
    paths : sequence of str, length n_images, optional
        Paths of the images, to list some of the mistakes.
    seed : int, default=0
        Random seed of the bootstrap.

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
    0.750 (95 % interval 0.301 to 0.954)
    >>> found.confusions
    (Confusion(true='dog', predicted='cat', n=1, paths=('c',)),)
    """
    n_images = len(y_true) // n_repeats
    rows = _score_rows(y_true, probabilities, classes)
    k = len(rows.labels)
    matrix = np.bincount(rows.true * k + rows.predicted, minlength=k * k).reshape(k, k)
    _, of_image = np.unique(groups[:n_images], return_inverse=True)
    scores = _bootstrap(_sums_of_groups(rows, np.tile(of_image, n_repeats)), k, seed)
    top5 = scores.pop("top5")
    return Evaluation(
        n_images=n_images,
        n_repeats=n_repeats,
        accuracy=wilson(int(matrix.trace()) / n_repeats, n_images),
        calibration_bins=CALIBRATION_BINS,
        reliability=_reliability(rows),
        top5=top5 if len(classes) > _TOP else None,
        labels=rows.labels,
        per_class=_per_class(rows.labels, matrix, n_repeats),
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        confusions=_most_frequent(rows, matrix, n_images, paths),
        **scores,
    )


def count_majority_correct(y_fit: NDArray[np.str_], y_score: NDArray[np.str_]) -> int:
    """Count the labels that equal the most frequent training label; ties go to the first by name.

    Examples
    --------
    >>> count_majority_correct(np.array(["dog", "cat", "dog"]), np.array(["cat", "dog", "dog"]))
    2
    """
    labels, counts = np.unique(y_fit, return_counts=True)
    return int(np.sum(y_score == labels[counts.argmax()]))


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
    confidence: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]
    in_top: NDArray[np.bool_]


def _score_rows(
    y_true: NDArray[np.str_], probabilities: NDArray[np.floating], classes: Sequence[str]
) -> _Rows:
    names, every = np.asarray(classes), np.arange(len(y_true))
    column = probabilities.argmax(axis=1)
    y_predicted = names[column]
    labels = np.unique(np.concatenate([y_true, y_predicted]))
    # A label that is not in `classes` has no column: clip to any valid one, and mask it below.
    of_true = np.searchsorted(names, y_true).clip(max=len(names) - 1)
    known = names[of_true] == y_true
    p = np.where(known, probabilities[every, of_true], 0).astype(probabilities.dtype)
    eps = np.finfo(probabilities.dtype).eps
    squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    ahead = np.sum(probabilities > p[:, None], axis=1)
    ahead += np.sum((probabilities == p[:, None]) & (np.arange(len(names)) < of_true[:, None]), 1)
    return _Rows(
        labels=tuple(str(label) for label in labels),
        true=np.searchsorted(labels, y_true),
        predicted=np.searchsorted(labels, y_predicted),
        confidence=probabilities[every, column].astype(np.float64),
        log_loss=-np.log(p.clip(eps, 1 - eps).astype(np.float64)),
        # Σ (p - [true])² = Σ p² - 2 p_true + 1 avoids another array of shape (n, k).
        brier=squares - 2 * p.astype(np.float64) + 1,
        in_top=known & (ahead < _TOP),
    )


def _sums_of_groups(rows: _Rows, of_group: NDArray[np.intp]) -> csr_array:
    """Return the sums that all scores are computed from, one row for each group.

    The columns are: images, correct images and predictions of each label; confidence
    minus accuracy of each bin; log loss, Brier score, and images in the top five. The
    matrix is sparse, because an image has few labels and one bin.
    """
    k = len(rows.labels)
    correct = rows.true == rows.predicted
    means = 3 * k + CALIBRATION_BINS + np.arange(3)
    parts = [
        (rows.true, 1.0),
        (k + rows.true, correct),
        (2 * k + rows.predicted, 1.0),
        (3 * k + _bins(rows.confidence), rows.confidence - correct),
        (means[0], rows.log_loss),
        (means[1], rows.brier),
        (means[2], rows.in_top),
    ]
    columns = np.concatenate([np.broadcast_to(column, correct.shape) for column, _ in parts])
    values = np.concatenate([np.broadcast_to(value, correct.shape) for _, value in parts])
    shape = (int(of_group.max()) + 1, 3 * k + CALIBRATION_BINS + 3)
    return csr_array((values, (np.tile(of_group, len(parts)), columns)), shape=shape)


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the bin of each confidence."""
    inner = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    return np.searchsorted(inner, confidence, side="left")


def _reliability(rows: _Rows) -> tuple[ReliabilityBin, ...]:
    edges, of_bin = np.linspace(0, 1, CALIBRATION_BINS + 1), _bins(rows.confidence)
    n = np.bincount(of_bin, minlength=CALIBRATION_BINS)
    confidence, accuracy = (
        np.bincount(of_bin, weights=values, minlength=CALIBRATION_BINS) / np.maximum(n, 1)
        for values in (rows.confidence, rows.true == rows.predicted)
    )
    columns = (edges[:-1], edges[1:], n, confidence, accuracy)
    return tuple(ReliabilityBin(*bin_) for bin_ in zip(*(c.tolist() for c in columns), strict=True))


def _scores(sums: NDArray[np.float64], k: int) -> dict[str, NDArray[np.float64]]:
    """Return the scores, shape (r,) each, of r rows of sums."""
    true, correct, predicted = sums[:, :k], sums[:, k : 2 * k], sums[:, 2 * k : 3 * k]
    n = true.sum(axis=1)
    return {
        # A class that is not in a resample has no recall there.
        "balanced_accuracy": _mean_ratio(correct, true),
        "macro_f1": _mean_ratio(2 * correct, true + predicted),
        "calibration_error": np.abs(sums[:, 3 * k : -3]).sum(axis=1) / n,
        "log_loss": sums[:, -3] / n,
        "brier": sums[:, -2] / n,
        "top5": sums[:, -1] / n,
    }


def _mean_ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean ratio of each row, without those whose denominator is 0."""
    defined = below > 0
    ratios = np.divide(above, below, out=np.zeros_like(above), where=defined)
    mean: NDArray[np.float64] = ratios.sum(axis=1) / defined.sum(axis=1)
    return mean


def _bootstrap(sums: csr_array, k: int, seed: int) -> dict[str, Score]:
    """Return the scores of all groups, with intervals from resampled groups."""
    blocks = [
        _scores(counts @ sums, k) for counts in bootstrap_counts(sums.shape[0], sums.shape[1], seed)
    ]
    found = {}
    for name, (value,) in _scores(sums.sum(axis=0)[None], k).items():
        resamples = np.concatenate([block[name] for block in blocks])
        # The calibration error is biased upwards: see Evaluation.
        found[name] = bootstrap_score(value, resamples, basic=name == "calibration_error")
    return found


def _per_class(
    labels: Sequence[str], matrix: NDArray[np.integer], n_repeats: int
) -> tuple[ClassScore, ...]:
    found = []
    for k, label in enumerate(labels):
        correct, true, predicted = map(int, (matrix[k, k], matrix[k].sum(), matrix[:, k].sum()))
        images = true // n_repeats
        recall = wilson(correct / n_repeats, images) if images else Score(0.0, 0.0, 1.0)
        precision = correct / predicted if predicted else 0.0
        f1 = 2 * correct / (true + predicted)
        scores = (precision, recall.value, f1, images, recall.low, recall.high)
        found.append(ClassScore(label, *scores))
    return tuple(found)


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
