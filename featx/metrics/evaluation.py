"""Scores with their uncertainty.

True labels and predicted probabilities come in, perhaps of several runs over
the same images; scores with 95 % intervals, a table by class, the confusion
matrix and its worst cells go out. This file does not know how the predictions
were made; that they come from images the classifier never saw is the caller's
promise.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from featx.metrics.intervals import Score, bootstrap_counts, wilson

__all__ = [
    "ClassScore",
    "Confusion",
    "Evaluation",
    "ReliabilityBin",
    "count_majority_correct",
    "score_predictions",
]

CALIBRATION_BINS = 15  # of equal width, as in [4]
_TOP = 5
_WORST = 5  # confusions that are named
_SHOWN = 3  # images that are named of each


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
    """A class that was taken for another.

    Parameters
    ----------
    true, predicted : str
        Labels.
    n : int
        How often, over all repeats.
    paths : tuple of str
        At most 3 of the images, the most confident mistake first; empty where
        no paths were given.
    """

    true: str
    predicted: str
    n: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence, and how often they were right.

    Parameters
    ----------
    low, high : float
        Confidence, above and up to.
    n : int
        Predictions, over all repeats.
    confidence, accuracy : float
        Their means; 0 of no predictions.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """All scores of one set of predictions.

    Intervals are of the bootstrap [2]_ unless said otherwise: 2000 resamples,
    in which images that belong together, and the repeats of an image, are drawn
    together. Scores other than accuracy pool the repeats.

    Parameters
    ----------
    n_images : int
        How many images were scored.
    n_repeats : int
        How many times each.
    accuracy : Score
        Share of right predictions, the mean of the repeats, with the Wilson
        interval [1]_ of that share of `n_images` images. It takes images for
        independent, also those that belong together.
    balanced_accuracy : Score
        Mean recall of the classes that have images.
    macro_f1 : Score
        Mean F1 of the labels that are true or predicted anywhere; 0 to 1.
    log_loss : Score
        Mean of -ln p of the true class, p clipped to eps and 1 - eps of its
        precision, as scikit-learn does.
    brier : Score
        Mean over images of the sum over classes of (p - [class is true])², from
        0 to 2, as Brier defined it [3]_. It is scikit-learn's
        ``brier_score_loss(..., scale_by_half=False)``: for two classes, twice
        that function's default.
    calibration_error : Score
        Expected calibration error of the predicted class [4]_: the mean distance
        of confidence and accuracy over `calibration_bins` bins. The estimate is
        too high where images are few, and a resample's again by as much, so the
        interval is the basic one [5]_, which mirrors the resamples about the
        estimate. Of a few hundred images it holds the true error some nine times
        in ten, and less often where that is nearly 0.
    calibration_bins : int
        How many bins of equal width, each open below and closed above.
    reliability : tuple of ReliabilityBin
        Those bins, from low to high confidence.
    top5 : Score or None
        Share of images whose class is among the five most probable; None where
        there are no more than five.
    labels : tuple of str
        Labels that are true or predicted anywhere, sorted.
    per_class : tuple of ClassScore
        In the order of `labels`.
    confusion : tuple of tuple of int
        True label down, predicted label across, in the order of `labels`; summed
        over the repeats, so that it counts ``n_images * n_repeats``.
    confusions : tuple of Confusion
        The worst cells off its diagonal, at most 5.

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
        """Return the evaluation as JSON would give it back: lists for tuples.

        Returns
        -------
        dict
            A key for each field.
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


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
        Labels. One that is not in `classes` has probability 0 and counts as
        wrong.
    probabilities : ndarray of float, shape (n, k)
        From 0 to 1 and never NaN, columns in the order of `classes`. Of equal
        ones the first counts as the more probable.
    classes : sequence of str, length k
        Sorted.
    groups : ndarray of int, shape (n,)
        Images with equal groups belong together and are drawn together.
    n_repeats : int, default=1
        The rows are this many runs over the same images in the same order, one
        below the other: n is ``n_repeats * n_images``. Repeats of an image never
        count as further images, whatever their groups: those of the first run are
        read.
    paths : sequence of str, length n_images, optional
        Where the images lie, to name some that were mistaken.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> y = np.array(["cat", "cat", "dog", "dog"])
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    >>> found = score_predictions(y, probabilities, ["cat", "dog"], np.arange(4), paths=list("abcd"))
    >>> print(found.accuracy)
    0.750 (95 % interval 0.301 to 0.954)
    >>> found.confusions
    (Confusion(true='dog', predicted='cat', n=1, paths=('c',)),)
    """
    n_images = len(y_true) // n_repeats
    rows = _read(y_true, probabilities, classes)
    k = len(rows.labels)
    matrix = np.bincount(rows.true * k + rows.predicted, minlength=k * k).reshape(k, k)
    _, of_image = np.unique(groups[:n_images], return_inverse=True)
    scores = _bootstrap(_tally(rows, np.tile(of_image, n_repeats)), k, seed)
    return Evaluation(
        n_images=n_images,
        n_repeats=n_repeats,
        accuracy=wilson(int(matrix.trace()) / n_repeats, n_images),
        balanced_accuracy=scores["balanced_accuracy"],
        macro_f1=scores["macro_f1"],
        log_loss=scores["log_loss"],
        brier=scores["brier"],
        calibration_error=scores["calibration_error"],
        calibration_bins=CALIBRATION_BINS,
        reliability=_reliability(rows),
        top5=scores["top5"] if len(classes) > _TOP else None,
        labels=rows.labels,
        per_class=_per_class(rows.labels, matrix, n_repeats),
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        confusions=_worst(rows, matrix, n_images, paths),
    )


def count_majority_correct(y_fitted: NDArray[np.str_], y_scored: NDArray[np.str_]) -> int:
    """Count the labels that are the most frequent fitted one; of equal ones, the first by name.

    Examples
    --------
    >>> count_majority_correct(np.array(["dog", "cat", "dog"]), np.array(["cat", "dog", "dog"]))
    2
    """
    labels, counts = np.unique(y_fitted, return_counts=True)
    return int(np.sum(y_scored == labels[counts.argmax()]))


@dataclass(frozen=True)
class _Rows:
    """What each row of the predictions says, arrays of shape (n,)."""

    labels: tuple[str, ...]
    true: NDArray[np.intp]  # index into labels, as is predicted
    predicted: NDArray[np.intp]
    confidence: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]
    in_top: NDArray[np.bool_]


def _read(
    y_true: NDArray[np.str_], probabilities: NDArray[np.floating], classes: Sequence[str]
) -> _Rows:
    names, each = np.asarray(classes), np.arange(len(y_true))
    column = probabilities.argmax(axis=1)
    y_predicted = names[column]
    labels = np.unique(np.concatenate([y_true, y_predicted]))
    # A label that was never learned has no column: any will do to look up and discard.
    of_true = np.searchsorted(names, y_true).clip(max=len(names) - 1)
    learned = names[of_true] == y_true
    p = np.where(learned, probabilities[each, of_true], 0).astype(probabilities.dtype)
    eps = np.finfo(probabilities.dtype).eps
    squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    ahead = np.sum(probabilities > p[:, None], axis=1)
    ahead += np.sum((probabilities == p[:, None]) & (np.arange(len(names)) < of_true[:, None]), 1)
    return _Rows(
        labels=tuple(str(label) for label in labels),
        true=np.searchsorted(labels, y_true),
        predicted=np.searchsorted(labels, y_predicted),
        confidence=probabilities[each, column].astype(np.float64),
        log_loss=-np.log(p.clip(eps, 1 - eps).astype(np.float64)),
        # Σ (p - [true])² = Σ p² - 2 p_true + 1: no array of differences as large as all p
        brier=squares - 2 * p.astype(np.float64) + 1,
        in_top=learned & (ahead < _TOP),
    )


def _tally(rows: _Rows, of_group: NDArray[np.intp]) -> csr_array:
    """Return the sums that the scores are made of, by key.

    Columns: images, right images and predictions of each label; confidence
    that was not earned, by bin; log loss, Brier score and images in the top five.
    Sparse, because an image touches few labels and one bin.
    """
    k = len(rows.labels)
    right = rows.true == rows.predicted
    of_bin = _bins(rows.confidence)
    means = 3 * k + CALIBRATION_BINS + np.arange(3)
    parts = [
        (rows.true, 1.0),
        (k + rows.true, right),
        (2 * k + rows.predicted, 1.0),
        (3 * k + of_bin, rows.confidence - right),
        (means[0], rows.log_loss),
        (means[1], rows.brier),
        (means[2], rows.in_top),
    ]
    columns = np.concatenate([np.broadcast_to(column, right.shape) for column, _ in parts])
    values = np.concatenate([np.broadcast_to(value, right.shape) for _, value in parts])
    shape = (int(of_group.max()) + 1, 3 * k + CALIBRATION_BINS + 3)
    return csr_array((values, (np.tile(of_group, len(parts)), columns)), shape=shape)


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the bin of each confidence."""
    inner = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    return np.searchsorted(inner, confidence, side="left")


def _reliability(rows: _Rows) -> tuple[ReliabilityBin, ...]:
    edges, of_bin = np.linspace(0, 1, CALIBRATION_BINS + 1), _bins(rows.confidence)
    sums = [
        np.bincount(of_bin, weights=values, minlength=CALIBRATION_BINS)
        for values in (np.ones_like(rows.confidence), rows.confidence, rows.true == rows.predicted)
    ]
    return tuple(
        ReliabilityBin(
            float(low),
            float(high),
            int(n),
            float(confidence / max(n, 1)),
            float(right / max(n, 1)),
        )
        for low, high, n, confidence, right in zip(edges[:-1], edges[1:], *sums, strict=True)
    )


def _scores(sums: NDArray[np.float64], k: int) -> dict[str, NDArray[np.float64]]:
    """Return the scores, shape (r,) each, of r rows of sums over groups."""
    true, right, predicted = sums[:, :k], sums[:, k : 2 * k], sums[:, 2 * k : 3 * k]
    n = true.sum(axis=1)
    return {
        # A class that a resample misses has no recall there.
        "balanced_accuracy": _mean_ratio(right, true),
        "macro_f1": _mean_ratio(2 * right, true + predicted),
        "calibration_error": np.abs(sums[:, 3 * k : -3]).sum(axis=1) / n,
        "log_loss": sums[:, -3] / n,
        "brier": sums[:, -2] / n,
        "top5": sums[:, -1] / n,
    }


def _mean_ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row's ratios, those left out that are of nothing."""
    defined = below > 0
    ratios = np.divide(above, below, out=np.zeros_like(above), where=defined)
    mean: NDArray[np.float64] = ratios.sum(axis=1) / defined.sum(axis=1)
    return mean


def _bootstrap(tally: csr_array, k: int, seed: int) -> dict[str, Score]:
    """Return the scores of all groups, with intervals of resampled groups."""
    values = _scores(tally.sum(axis=0)[None], k)
    n_groups, n_columns = tally.shape
    parts = [_scores(drawn @ tally, k) for drawn in bootstrap_counts(n_groups, n_columns, seed)]
    found = {}
    for name, (value,) in values.items():
        low, high = np.quantile(np.concatenate([part[name] for part in parts]), [0.025, 0.975])
        if name == "calibration_error":  # biased upwards: see Evaluation
            low, high = max(0.0, 2 * value - high), 2 * value - low
        # A score outside its interval would read as a mistake: widen it by the bias.
        found[name] = Score(float(value), float(min(low, value)), float(max(high, value)))
    return found


def _per_class(
    labels: Sequence[str], matrix: NDArray[np.integer], n_repeats: int
) -> tuple[ClassScore, ...]:
    found = []
    for label, right, true, predicted in zip(
        labels, matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0), strict=True
    ):
        images = int(true) // n_repeats
        recall = wilson(int(right) / n_repeats, images) if images else Score(0.0, 0.0, 1.0)
        found.append(
            ClassScore(
                label=label,
                precision=float(right / predicted) if predicted else 0.0,
                recall=recall.value,
                f1=float(2 * right / (true + predicted)),
                images=images,
                recall_low=recall.low,
                recall_high=recall.high,
            )
        )
    return tuple(found)


def _worst(
    rows: _Rows, matrix: NDArray[np.integer], n_images: int, paths: Sequence[str] | None
) -> tuple[Confusion, ...]:
    mistakes = matrix - np.diag(matrix.diagonal())
    found = []
    # Stable: of equal cells the first by name.
    for cell in np.argsort(-mistakes, axis=None, kind="stable")[:_WORST]:
        true, predicted = divmod(int(cell), len(matrix))
        n = int(mistakes[true, predicted])
        if n == 0:
            break
        shown: list[str] = []
        if paths is not None:
            where = np.flatnonzero((rows.true == true) & (rows.predicted == predicted))
            by_trust = sorted((-rows.confidence[i], str(paths[int(i) % n_images])) for i in where)
            # A dict: a repeat may show the same image again.
            shown = list(dict.fromkeys(path for _, path in by_trust))[:_SHOWN]
        found.append(Confusion(rows.labels[true], rows.labels[predicted], n, tuple(shown)))
    return tuple(found)
