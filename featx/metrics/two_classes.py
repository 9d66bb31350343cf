"""Scores of one of two classes, and the choice of its threshold.

Labels and probabilities go in. Out go the area under the ROC curve, average precision, recall,
precision and F1 of the positive class, and the probability from which on an image is predicted
as that class. This module does not know classifiers.

References
----------
.. [1] J. A. Hanley and B. J. McNeil, "The Meaning and Use of the Area under a Receiver Operating
   Characteristic (ROC) Curve", Radiology 143(1), 1982.
.. [2] R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
   statistic. Part 2", Statistics in Medicine 25(4), 2006. https://doi.org/10.1002/sim.2324
.. [3] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the Areas under Two or More
   Correlated Receiver Operating Characteristic Curves", Biometrics 44(3), 1988.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.metrics.decisions import PositiveClass
from featx.metrics.intervals import (
    Sample,
    Score,
    jackknife_variance,
    proportion,
    rate_score,
    share_score,
)
from featx.text import counted, quoted_list

__all__ = [
    "ChosenThreshold",
    "PositiveScores",
    "ThresholdRule",
    "check_positive",
    "choose_threshold",
    "read_threshold",
    "score_positive",
]

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Rows = NDArray[np.intp]

# A target whose interval reaches further below it is reported as uncertain.
_UNCERTAIN = 0.05
# The variance of independent images counts as much as the jackknife's of so many groups with
# images out of order; by simulation (benchmarks/coverage_two_classes.py).
_PRIOR_GROUPS = 4
# Rounding of a fraction of a count.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PositiveScores:
    """Scores of the positive class of two.

    Parameters
    ----------
    label : str
        The positive class.
    n_images : int
        Number of scored images that belong to one of the two classes.
    n_positive : int
        Number of these that belong to the positive class.
    roc_auc : Score or None
        Area under the ROC curve: the probability that an image of the positive class gets a
        higher probability than one of the other class; of equal ones, one half counts. It equals
        scikit-learn's ``roc_auc_score``. None if one of the classes has no images.
    average_precision : Score or None
        Mean precision at the probabilities of the positive images, as scikit-learn's
        ``average_precision_score``. None if the positive class has no images.
    recall : Score or None
        Fraction of the positive images that are predicted as positive; None without any.
    precision : Score or None
        Fraction of the images predicted as positive that are; None if none is predicted.
    f1 : Score or None
        Harmonic mean of precision and recall, without an interval.
    thresholds : tuple of float
        Probabilities from which on an image was predicted as positive: one, or one for each
        fold. Empty if the more probable class was predicted.
    rule : str or None
        How the thresholds were chosen, such as "recall:0.95".

    Notes
    -----
    The intervals of `roc_auc`, `average_precision` and `precision` are Wilson's, for the number
    of independent images with the same variance. The variance is that of the jackknife that
    leaves out one group of images at a time; for few errors it is shrunk towards the variance
    that independent images would have at that score ([1]_ and [2]_ for the area), so that a
    perfect score does not get an interval of length 0. For independent images the variance of
    the area is that of DeLong [3]_ up to a factor that tends to 1.

    References
    ----------
    .. [1] J. A. Hanley and B. J. McNeil, "The Meaning and Use of the Area under a Receiver
       Operating Characteristic (ROC) Curve", Radiology 143(1), 1982.
    .. [2] R. G. Newcombe, "Confidence intervals for an effect size measure based on the
       Mann-Whitney statistic. Part 2", Statistics in Medicine 25(4), 2006.
       https://doi.org/10.1002/sim.2324
    .. [3] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the Areas under Two or
       More Correlated Receiver Operating Characteristic Curves", Biometrics 44(3), 1988.
       https://doi.org/10.2307/2531595
    """

    label: str
    n_images: int
    n_positive: int
    roc_auc: Score | None
    average_precision: Score | None
    recall: Score | None
    precision: Score | None
    f1: Score | None
    thresholds: tuple[float, ...] = ()
    rule: str | None = None

    @property
    def decision(self) -> str:
        """How labels follow from probabilities, in words."""
        one = PositiveClass(self.label, min(self.thresholds, default=None), self.rule)
        if len(self.thresholds) < 2:
            return one.decision
        return (
            f"{self.label} from a threshold on{one.reason}, chosen in each fold: "
            f"{self.thresholds[0]:.3f} to {self.thresholds[-1]:.3f}"
        )


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen; `read_threshold` makes it.

    Parameters
    ----------
    target : {"recall", "precision"} or None
        The score that must be reached; None if `value` is the threshold itself.
    value : float
        The smallest recall or precision, or the threshold.
    """

    target: Literal["recall", "precision"] | None
    value: float

    def __str__(self) -> str:
        return f"{self.value:g}" if self.target is None else f"{self.target}:{self.value:g}"


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold, with the scores of the images that it was chosen on.

    Parameters
    ----------
    value : float
        Probability from which on an image is predicted as positive.
    rule : ThresholdRule
        How it was chosen.
    recall, precision : Score or None
        Scores of these images; they are too high, because the threshold was chosen on them.
    n_positive : int
        Number of positive images among them; 0 if the threshold was given.
    """

    value: float
    rule: ThresholdRule
    recall: Score | None = None
    precision: Score | None = None
    n_positive: int = 0

    def notes(self, label: str) -> list[str]:
        """Return a note if the target was not reached, or may be missed on new images."""
        target, goal = self.rule.target, self.rule.value
        found = self.recall if target == "recall" else self.precision
        if target is None or found is None:
            return []
        if found.value < goal - _ROUNDING:
            return [
                f"No threshold reaches {target} {goal:g} for {label} on the held-out training "
                f"images. The highest {target} is {found.value:.3f}, at {self.value:.3f}."
            ]
        interval = found.interval
        if interval is not None and interval[0] >= goal - _UNCERTAIN:
            return []
        return [
            f"Whether the threshold {self.value:.3f} reaches {target} {goal:g} on new images is "
            f"uncertain: it was chosen on {counted(self.n_positive, 'held-out image')} of "
            f"{label}, where {target} is {found}."
        ]


def read_threshold(given: float | str) -> ThresholdRule:
    """Read a threshold: a probability, or the recall or precision that it must reach.

    Raises
    ------
    OptionError
        It is something else.

    Examples
    --------
    >>> print(read_threshold("recall:0.95"), read_threshold(0.3))
    recall:0.95 0.3
    """
    found = re.fullmatch(r"(?:(recall|precision):)?([^:]+)", str(given).strip())
    try:
        value = math.nan if found is None else float(found[2])
    except ValueError:
        value = math.nan
    target: Literal["recall", "precision"] | None = None
    if found is not None and found[1]:
        target = "recall" if found[1] == "recall" else "precision"
    if not 0 <= value <= 1 or (target is not None and value == 0):
        message = (
            f"Cannot read --threshold {given}. Use --threshold recall:R or precision:P with a "
            "number above 0 and up to 1, such as recall:0.95, or a probability from 0 to 1, such "
            "as 0.3."
        )
        raise OptionError(message)
    return ThresholdRule(target, value)


def check_positive(positive: str, classes: Sequence[str]) -> None:
    """Refuse a positive class that is not one of two classes.

    Raises
    ------
    OptionError
        There are more than two classes, or `positive` is not one of them.
    """
    if len(classes) != 2:
        message = (
            f"--positive {positive} needs exactly two classes, but there are {len(classes)}: "
            f"{quoted_list(classes)}. Give all other images one label in a table (--labels TABLE), "
            "or leave out --positive."
        )
        raise OptionError(message)
    if positive not in classes:
        message = (
            f"Unknown class {positive!r} for --positive. Use --positive with one of: "
            f"{', '.join(classes)}."
        )
        raise OptionError(message)


def choose_threshold(
    rule: ThresholdRule, is_positive: _Bools, p: NDArray[np.floating], groups: NDArray[np.integer]
) -> ChosenThreshold:
    """Choose a threshold on images that the classifier was not fitted on.

    Parameters
    ----------
    rule : ThresholdRule
        For a recall, the largest threshold that reaches it is chosen, which has the fewest false
        alarms; for a precision, the smallest one, which has the highest recall. If none reaches
        the precision, it is the one with the highest precision.
    is_positive : ndarray of bool, shape (n,)
        Whether each image belongs to the positive class; at least one does.
    p : ndarray of shape (n,)
        Probability of the positive class.
    groups : ndarray of int, shape (n,)
        Equal numbers for images of one group, for the intervals.

    Examples
    --------
    >>> y, p = np.array([True, True, True, False]), np.array([0.9, 0.6, 0.2, 0.4])
    >>> choose_threshold(read_threshold("recall:0.6"), y, p, np.arange(4)).value
    0.6
    >>> choose_threshold(read_threshold("precision:0.7"), y, p, np.arange(4)).value
    0.2
    """
    if rule.target is None:
        return ChosenThreshold(rule.value, rule)
    values, of_value = np.unique(
        -p, return_inverse=True
    )  # from the highest threshold to the lowest
    hits = np.cumsum(np.bincount(of_value, is_positive))
    n_predicted = np.cumsum(np.bincount(of_value))
    if rule.target == "recall":
        reached = hits / hits[-1] >= rule.value - _ROUNDING
        chosen = int(reached.argmax())
    else:
        precision = hits / n_predicted
        reached = precision >= min(rule.value, precision.max()) - _ROUNDING
        chosen = int(np.flatnonzero(reached)[-1])
    value = float(-values[chosen])
    predicted = p >= value
    return ChosenThreshold(
        value=value,
        rule=rule,
        recall=proportion(predicted[is_positive], groups[is_positive]),
        precision=proportion(is_positive[predicted], groups[predicted]),
        n_positive=int(is_positive.sum()),
    )


@dataclass(frozen=True)
class _Ranking:
    """The images of two classes in the order of their probabilities.

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
        Whether each image belongs to the positive class; both classes have images.
    p : ndarray of shape (n,)
        Its probability of that class.
    group : ndarray of int, shape (n,)
        Its group, from 0 and without gaps.
    """

    is_positive: _Bools
    p: _Floats
    group: _Rows

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    @property
    def n_informative(self) -> int:
        """Number of groups with images that are not ranked perfectly, the smaller of the classes'.

        An image is ranked perfectly if it is on the right side of all images of the other class.
        """
        highest, lowest = self.p[~self.is_positive].max(), self.p[self.is_positive].min()
        wrong = np.where(self.is_positive, self.p <= highest, self.p >= lowest)
        return min(
            len(np.unique(self.group[wrong & side]))
            for side in (self.is_positive, ~self.is_positive)
        )

    def roc_auc(self) -> tuple[float, _Floats]:
        """Return the area under the ROC curve, and the area without each group, (n_groups,)."""
        is_positive, group, n_groups = self.is_positive, self.group, self.n_groups
        m, n = int(is_positive.sum()), int(np.sum(~is_positive))
        # The rank among all images, minus that among its class, is the number of images of the
        # other class below an image, where equal ones count half.
        below = _ranks(self.p, np.zeros_like(group)) - _ranks(self.p, is_positive.astype(np.intp))
        in_order = np.where(is_positive, below, m - below)  # pairs of each image
        total = float(in_order[is_positive].sum())
        positives, negatives = (
            np.bincount(group, x, n_groups) for x in (is_positive, ~is_positive)
        )
        within = np.bincount(group[is_positive], _ranks(self.p, group)[is_positive], n_groups)
        # A pair within a group is counted for both of its images.
        above = total - np.bincount(group, in_order, n_groups)
        above += within - positives * (positives + 1) / 2
        area = total / (m * n)
        return area, _ratios(above, (m - positives) * (n - negatives), area)

    def average_precision(self) -> tuple[float, _Floats]:
        """Return the average precision, and that without each group, (n_groups,)."""
        values, of_value = np.unique(-self.p, return_inverse=True)  # the highest first
        k = len(values)
        hits, images = np.bincount(of_value, self.is_positive), np.bincount(of_value)
        value = _mean_precision(hits, images, math.nan)
        order = np.argsort(self.group, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(self.group))[:-1])
        without = [
            _mean_precision(
                hits - np.bincount(of_value[rows], self.is_positive[rows], k),
                images - np.bincount(of_value[rows], minlength=k),
                value,
            )
            for rows in parts
        ]
        return value, np.array(without)


def _mean_precision(
    hits: NDArray[np.number], images: NDArray[np.number], otherwise: float
) -> float:
    """Return the mean precision at the positive images, the highest probabilities first."""
    precision = np.cumsum(hits) / np.maximum(np.cumsum(images), 1)
    return float(hits @ precision / hits.sum()) if hits.any() else otherwise


def _ratios(above: NDArray[np.floating], below: NDArray[np.generic], otherwise: float) -> _Floats:
    found: _Floats = np.divide(
        above, below, out=np.full(len(above), otherwise), where=np.asarray(below) > 0
    )
    return found


def _ranks(values: _Floats, part: _Rows) -> _Floats:
    """Return the rank of each value within its part, from 1; equal values share their mean rank."""
    order = np.lexsort((values, part))
    values, part = values[order], part[order]
    begins_part = np.r_[True, part[1:] != part[:-1]]
    begins = begins_part | np.r_[True, values[1:] != values[:-1]]
    starts = np.flatnonzero(begins)
    ends = np.r_[starts[1:], len(values)]
    before = np.flatnonzero(begins_part)[np.cumsum(begins_part) - 1]
    ranks = np.empty(len(values))
    ranks[order] = ((starts + ends + 1) / 2)[np.cumsum(begins) - 1] - before
    return ranks


def score_positive(  # noqa: PLR0917
    positive: PositiveClass,
    y_true: NDArray[np.str_],
    probabilities: NDArray[np.floating],
    predicted: NDArray[np.str_],
    classes: Sequence[str],
    sample: Sample,
    *,
    thresholds: NDArray[np.float64] | None = None,
) -> PositiveScores:
    """Score the predictions of the positive class of two.

    Parameters
    ----------
    positive : PositiveClass
        The positive class, with the threshold that the predicted labels are from, if any.
    y_true : ndarray of str, shape (n,)
        Labels; images of a class that is not one of `classes` are left out.
    probabilities : ndarray of shape (n, 2)
        Probabilities of the classes.
    predicted : ndarray of str, shape (n,)
        Predicted labels.
    classes : sequence of str, length 2
        The classes.
    sample : Sample
        Runs and groups of the predictions. Scores and variances are means over the runs.
    thresholds : ndarray of shape (n,), optional
        Thresholds that the predicted labels are from, if folds have their own; by default that
        of `positive`.

    Examples
    --------
    >>> y, p = np.array(["ill", "ill", "well", "well"]), np.array([0.9, 0.4, 0.5, 0.1])
    >>> probabilities, predicted = np.column_stack([p, 1 - p]), np.where(p > 0.5, "ill", "well")
    >>> ill, sample = PositiveClass("ill"), Sample.of(4, np.arange(4))
    >>> found = score_positive(ill, y, probabilities, predicted, ["ill", "well"], sample)
    >>> found.roc_auc.value, round(found.average_precision.value, 3), found.recall.value
    (0.75, 0.833, 0.5)
    """
    if thresholds is None:
        used = [] if positive.threshold is None else [positive.threshold]
    else:
        used = thresholds.tolist()
    label, known = positive.label, np.isin(y_true, list(classes))
    column = list(classes).index(label)
    is_positive, is_predicted = y_true[known] == label, predicted[known] == label
    p, sample = probabilities[known, column].astype(np.float64), sample.take(known)
    n_images, n_positive = len(p) // sample.n_runs, int(is_positive.sum()) // sample.n_runs
    roc_auc = average_precision = recall = precision = f1 = None
    if 0 < n_positive < n_images:
        roc_auc, average_precision = _ranking_scores(is_positive, p, sample)
    if n_positive:
        recall = share_score(is_predicted[is_positive], sample.take(is_positive))
        n_hits = int(np.sum(is_predicted & is_positive))
        f1 = Score(2 * n_hits / int(is_predicted.sum() + is_positive.sum()))
    if is_predicted.any():
        precision = share_score(is_positive[is_predicted], sample.take(is_predicted))
    return PositiveScores(
        label=label,
        n_images=n_images,
        n_positive=n_positive,
        roc_auc=roc_auc,
        average_precision=average_precision,
        recall=recall,
        precision=precision,
        f1=f1,
        thresholds=tuple(sorted({float(each) for each in used})),
        rule=positive.rule,
    )


def _ranking_scores(is_positive: _Bools, p: _Floats, sample: Sample) -> tuple[Score, Score]:
    """Return the area under the ROC curve and the average precision, means over the runs."""
    runs = [
        _Ranking(is_positive[own], p[own], sample.group[own])
        for own in (sample.run == k for k in range(sample.n_runs))
    ]
    m, n = (int(np.sum(side)) / sample.n_runs for side in (is_positive, ~is_positive))
    n_informative = float(np.mean([run.n_informative for run in runs]))
    # If one group has all images of a class, nothing is known about other groups.
    of_class = [len(np.unique(sample.group[side])) for side in (is_positive, ~is_positive)]
    weights = np.bincount(sample.group, np.where(is_positive, 1 / m, 1 / n)) / (2 * sample.n_runs)

    def score(found: list[tuple[float, _Floats]], expected: Callable[[float], float]) -> Score:
        values, without = (np.array(each) for each in zip(*found, strict=True))
        value, variance = float(values.mean()), jackknife_variance(values, without)
        if min(of_class) < 2:
            return Score(value)
        # A perfect score would seem to have no variance. The more images are out of order, the
        # less the variance of independent images counts.
        smoothed = (value * (m + n) / 2 + 0.5) / ((m + n) / 2 + 1)
        prior = _PRIOR_GROUPS * expected(smoothed)
        shrunk = (n_informative * variance + prior) / (n_informative + _PRIOR_GROUPS)
        return rate_score(
            value,
            variance,
            sample,
            expected=shrunk,
            n_independent=smoothed * (1 - smoothed) / shrunk,
            weights=weights,
            n_informative=n_informative,
        )

    def of_area(area: float) -> float:
        mean = (m + n) / 2 - 1
        ratio = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return area * (1 - area) * ratio / (m * n)

    return (
        score([run.roc_auc() for run in runs], of_area),
        score([run.average_precision() for run in runs], lambda mean: mean * (1 - mean) / m),
    )
