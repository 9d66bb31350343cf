"""Scores with 95 % confidence intervals: the delete-one-group jackknife.

Predictions and groups go in; scores with intervals come out. An interval is for the score of the
saved model on new images of new groups. The variance of a score is estimated by leaving out one
group at a time [1]_ [2]_, so images of one group count as far as they differ. Four corrections
make it valid for small samples and at the ends of the range:

* A rate, such as the accuracy, has Wilson's interval [3]_ for the number of independent images
  that would vary as much (Kish's design effect [4]_). Its quantile is that of Student's t, with
  fewer degrees of freedom if groups are uneven.
* A mean loss has an interval on the logarithmic scale, after one image more with the loss of a bad
  guess.
* A difference of two accuracies on the same images has the interval of Bonett and Price [5]_,
  after two images more, one in favour of each classifier. It includes 0 where McNemar's exact
  test [6]_ finds too few images on which only one of the two is correct.
* Classifiers of cross-validation share training images and differ from the saved one, so their
  predictions vary more than the jackknife sees [7]_. The variance is multiplied by a factor. The
  factors were chosen by simulation (``benchmarks/coverage.py``): nested cross-validation, which
  estimates the factor for each data set, needs ten times as many fits and gave the same coverage.

Repeats of cross-validation do not narrow an interval: its variance is the mean over the repeats.

References
----------
.. [1] J. W. Tukey, "Bias and Confidence in Not-Quite Large Samples", Annals of Mathematical
   Statistics 29(2), 1958.
.. [2] B. Efron and C. Stein, "The Jackknife Estimate of Variance", Annals of Statistics 9(3), 1981.
   https://doi.org/10.1214/aos/1176345462
.. [3] E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA
   22(158), 1927. https://doi.org/10.1080/01621459.1927.10502953
.. [4] L. Kish, "Survey Sampling", 1965, section 8.2.
.. [5] D. G. Bonett and R. M. Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
   Proportions Based on Paired Data", Journal of Educational and Behavioral Statistics 37(4), 2012.
   https://doi.org/10.3102/1076998611411915
.. [6] Q. McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions or
   Percentages", Psychometrika 12(2), 1947. https://doi.org/10.1007/BF02295996
.. [7] S. Bates, T. Hastie and R. Tibshirani, "Cross-Validation: What Does It Estimate and How Well
   Does It Do It?", 2021. https://arxiv.org/abs/2104.00673
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = [
    "Sample",
    "Score",
    "group_notes",
    "jackknife_variance",
    "loss_score",
    "macro_score",
    "paired_difference",
    "proportion",
    "rate_score",
    "share_score",
]

# With fewer groups, an interval is approximate.
_FEWEST_GROUPS = 5
_ROUNDING = 1e-9

MacroKind = Literal["recall", "f1"]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A score and its 95 % confidence interval, which contains the score.

    Parameters
    ----------
    value : float
        The score.
    low, high : float, optional
        Ends of the interval; None if there is no valid interval, as for a single group.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Check that the interval contains the score, up to rounding."""
        if (self.low is None) != (self.high is None):
            message = f"an interval has two ends, but these are {self.low} and {self.high}"
            raise ValueError(message)
        if self.interval is None:
            return
        low, high = self.interval
        if low > self.value + _ROUNDING or self.value > high + _ROUNDING:
            message = f"the interval {low} to {high} does not contain {self.value}"
            raise ValueError(message)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def is_above(self, value: float) -> bool:
        """Return whether the interval is above a value.

        Parameters
        ----------
        value : float
            Any number.

        Returns
        -------
        bool
            False if there is no interval.
        """
        return self.low is not None and self.low > value

    def is_below(self, value: float) -> bool:
        """Return whether the interval is below a value.

        Parameters
        ----------
        value : float
            Any number.

        Returns
        -------
        bool
            False if there is no interval.
        """
        return self.high is not None and self.high < value

    def ends(self, form: str = ".3f") -> str:
        """Return both ends of the interval as text.

        Parameters
        ----------
        form : str, default=".3f"
            How a number is written, as in Python's `format`.

        Returns
        -------
        str
            "none" if there is no interval.

        Examples
        --------
        >>> Score(0.1, -0.05, 0.25).ends("+.2f"), Score(0.1).ends()
        ('-0.05 to +0.25', 'none')
        """
        if self.interval is None:
            return "none"
        low, high = self.interval
        return f"{low:{form}} to {high:{form}}"

    def __str__(self) -> str:
        value = f"{self.value:.3f}"
        return value if self.interval is None else f"{value} (95 % interval {self.ends()})"


@dataclass(frozen=True)
class Sample:
    """The runs and the groups that predictions belong to.

    Parameters
    ----------
    run : ndarray of int, shape (n,)
        Run of each prediction, from 0.
    image : ndarray of int, shape (n,)
        Image of each prediction, from 0 and without gaps.
    group : ndarray of int, shape (n,)
        Group of each prediction, from 0 and without gaps.
    n_runs : int
        Number of runs.
    n_folds : int
        Number of folds of each run; 1 for predictions of one fixed model.
    """

    run: NDArray[np.intp]
    image: NDArray[np.intp]
    group: NDArray[np.intp]
    n_runs: int = 1
    n_folds: int = 1

    @functools.cached_property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    @functools.cached_property
    def counts(self) -> NDArray[np.float64]:
        """Number of predictions by run and group, shape (n_runs, n_groups)."""
        return self.sums(np.ones(len(self.run)))

    @property
    def mean_size(self) -> float:
        """Number of images in the group of an image, on average over images."""
        return float(np.sum(self.counts**2) / self.counts.sum())

    @classmethod
    def of(cls, n: int, groups: NDArray[np.integer], n_runs: int = 1, n_folds: int = 1) -> Self:
        """Return the sample of n predictions, run after run, from the groups of the first run."""
        images = np.arange(n // n_runs)
        _, group = np.unique(groups[: len(images)], return_inverse=True)
        run = np.repeat(np.arange(n_runs), len(images))
        return cls(run, np.tile(images, n_runs), np.tile(group, n_runs), n_runs, n_folds)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Sample":
        """Return the sample of some of the predictions."""
        _, image = np.unique(self.image[rows], return_inverse=True)
        _, group = np.unique(self.group[rows], return_inverse=True)
        return Sample(self.run[rows], image, group, self.n_runs, self.n_folds)

    def sums(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return sums of values by run and group, shape (n_runs, n_groups)."""
        cell, shape = self.run * self.n_groups + self.group, (self.n_runs, self.n_groups)
        found = np.bincount(cell, values, minlength=self.n_runs * self.n_groups)
        return found.astype(np.float64).reshape(shape)

    def variance(self, of_runs: Callable[["Sample"], NDArray[np.float64]]) -> float:
        """Return a variance for one run, which is never less than that of independent images.

        Parameters
        ----------
        of_runs : callable
            From a sample to the variance of the score in each run, by the jackknife over groups.
        """
        found = of_runs(self)
        if self.n_groups <= self.image.max():
            apart = Sample(self.run, self.image, self.image, self.n_runs, self.n_folds)
            found = np.maximum(found, of_runs(apart))
        return float(np.mean(found))


def proportion(
    correct: NDArray[np.bool_],
    groups: NDArray[np.integer],
    *,
    n_repeats: int = 1,
    n_folds: int = 1,
) -> Score:
    """Return the fraction of correct predictions, with its interval.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,)
        Which predictions are correct: those of each run, one run after the other, each with the
        same images in the same order.
    groups : ndarray of int, shape (n_images,) or (n,)
        Group numbers of the images; images of one group may be correct together.
    n_repeats : int, default=1
        Number of runs.
    n_folds : int, default=1
        Number of folds of each run; 1 for predictions of one fixed model.

    Returns
    -------
    Score
        From 0 to 1, averaged over the runs. A single group has no interval.

    Examples
    --------
    >>> correct = np.arange(10) < 8
    >>> print(proportion(correct, np.arange(10)))
    0.800 (95 % interval 0.433 to 0.955)
    >>> print(proportion(correct, np.arange(10) // 2))
    0.800 (95 % interval 0.257 to 0.979)
    """
    return share_score(correct, Sample.of(len(correct), groups, n_repeats, n_folds))


def paired_difference(
    correct: NDArray[np.bool_],
    baseline: NDArray[np.bool_],
    groups: NDArray[np.integer],
    *,
    n_repeats: int = 1,
    n_folds: int = 1,
    confidence: float = 0.95,
) -> Score:
    """Return how much more accurate one classifier is than another on the same images.

    Images that are hard for both do not widen the interval.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,)
        Which predictions of the classifier are correct; see `proportion`.
    baseline : ndarray of bool, shape (n,)
        Which predictions of the other classifier are correct.
    groups, n_repeats, n_folds
        See `proportion`.
    confidence : float, default=0.95
        Confidence of the interval. For the best of k comparisons, 1 - 0.05 / k gives all of them
        95 % together (Bonferroni).

    Returns
    -------
    Score
        Difference of the accuracies, from -1 to 1. A single group has no interval.

    Examples
    --------
    >>> one, other = np.arange(10) < 9, np.arange(10) < 5
    >>> print(paired_difference(one, other, np.arange(10)))
    0.400 (95 % interval -0.092 to 0.759)
    """
    sample = Sample.of(len(correct), groups, n_repeats, n_folds)
    padded = _PaddedMean.of(correct.astype(float) - baseline, sample, (1.0, -1.0))
    if sample.n_groups < 2:
        return Score(padded.value)
    half = _t(_weights(sample), confidence) * padded.error
    return _containing(padded.value, padded.middle - half, padded.middle + half, -1.0, 1.0)


def share_score(hits: NDArray[np.bool_], sample: Sample) -> Score:
    """Return the fraction of predictions that are hits, with its interval; see `proportion`."""
    n, value = len(hits) / sample.n_runs, float(np.mean(hits))
    return rate_score(
        value,
        sample.variance(lambda each: _variances_of_mean(each.sums(hits), each.counts)),
        sample,
        expected=value * (1 - value) / n,
        n_independent=n,
        weights=_weights(sample),
        n_informative=_n_informative(hits, sample),
    )


def macro_score(
    true: NDArray[np.intp], predicted: NDArray[np.intp], sample: Sample, *, kind: MacroKind
) -> Score:
    """Return the mean recall or the mean F1 of the classes, with its interval.

    Parameters
    ----------
    true, predicted : ndarray of int, shape (n,)
        Number of the class of each prediction.
    sample : Sample
        Runs and groups of the predictions.
    kind : {"recall", "f1"}
        "recall" is averaged over the classes that are true anywhere, and "f1" over those that are
        true or predicted anywhere.

    Returns
    -------
    Score
        Runs are pooled. A single group has no interval.
    """
    correct, n_runs = true == predicted, sample.n_runs
    n_classes = int(max(true.max(), predicted.max())) + 1
    if kind == "recall":
        found = _MacroRatio(true, correct, n_classes)
    else:
        # 2 TP / (true + predicted): each prediction counts for its true and its predicted class.
        found = _MacroRatio(np.concatenate([true, predicted]), np.tile(correct, 2), n_classes)
    n_true = np.bincount(true, minlength=n_classes) / n_runs
    n_correct = np.bincount(true, correct, minlength=n_classes) / n_runs
    has = n_true > 0
    # Recalls are moved away from 0 and 1, where they would seem to have no variance.
    recalls = (n_correct[has] + 1) / (n_true[has] + 2)
    expected = float(np.sum(recalls * (1 - recalls) / n_true[has])) / len(recalls) ** 2
    # One hit and one miss for each run, and for each event that a prediction counts as.
    middle = found.smoothed(len(found.classes) / len(true) * n_runs)
    weights = np.bincount(sample.group, 1 / n_true[true]) / (n_runs * len(recalls))
    return rate_score(
        found.value,
        sample.variance(found.variances),
        sample,
        expected=expected,
        n_independent=middle * (1 - middle) / expected,
        weights=weights,
        n_informative=_n_informative(correct, sample),
    )


def loss_score(
    losses: NDArray[np.floating], sample: Sample, *, bad: float, most: float = math.inf
) -> Score:
    """Return a mean loss, with its interval.

    Parameters
    ----------
    losses : ndarray of float, shape (n,)
        Loss of each prediction, at least 0.
    sample : Sample
        Runs and groups of the predictions.
    bad : float
        Loss of a bad guess. One image with this loss is added to estimate the interval, since a
        few images seldom include the large losses that determine the mean; with groups, it is
        the square root of their mean size.
    most : float, default=inf
        Largest possible value of the loss.

    Returns
    -------
    Score
        The mean over all predictions. A single group has no interval.
    """
    padded = _PaddedMean.of(losses, sample, (bad,))
    if sample.n_groups < 2:
        return Score(padded.value)
    ratio = math.exp(_t(_weights(sample)) * padded.error / padded.middle)
    return _containing(padded.value, padded.middle / ratio, padded.middle * ratio, 0.0, most)


def group_notes(n_groups: int) -> list[str]:
    """Return a note if the scored images are of too few groups for an interval, or for a good one.

    Parameters
    ----------
    n_groups : int
        Number of groups; each image without a group counts as one.
    """
    if n_groups == 1:
        return ["Scores have no intervals, because all scored images are of one group."]
    if n_groups < _FEWEST_GROUPS:
        return [
            f"Intervals are approximate: the scored images are of {n_groups} groups, and "
            f"{_FEWEST_GROUPS} or more are needed."
        ]
    return []


def rate_score(
    value: float,
    variance: float,
    sample: Sample,
    *,
    expected: float,
    n_independent: float,
    weights: NDArray[np.float64],
    n_informative: float,
) -> Score:
    """Return a score from 0 to 1 with Wilson's interval for its number of independent images.

    Parameters
    ----------
    value : float
        The score.
    variance : float
        Its variance for one run, from `jackknife_variance`.
    sample : Sample
        Runs and groups of the predictions.
    expected : float
        Variance of the score if all images were independent; 0 if it cannot be estimated. The
        ratio of both is the design effect.
    n_independent : float
        Number of independent images of a proportion with the variance `expected`.
    weights : ndarray of float, shape (n_groups,)
        Part of each group in the score; the sum is 1.
    n_informative : float
        Number of groups that the estimated variance rests on: the fewer, the more an assumed
        design effect counts, in which groups share half of their variance.

    Returns
    -------
    Score
        A single group has no interval.
    """
    if sample.n_groups < 2:
        return Score(value)
    assumed = 1 + (sample.mean_size - 1) / 2
    found = variance / expected if expected > 0 else assumed
    effect = max(1.0, (n_informative * found + assumed) / (n_informative + 1))
    n = n_independent / (effect * _factor(sample.n_folds, is_rate=True))
    t = _t(weights)
    width = 1 + t**2 / n
    middle = (value + t**2 / (2 * n)) / width
    half = t / width * math.sqrt(value * (1 - value) / n + t**2 / (4 * n**2))
    return _containing(value, middle - half, middle + half, 0.0, 1.0)


def jackknife_variance(values: NDArray[np.float64], without: NDArray[np.float64]) -> float:
    """Return the variance of a score for one run, averaged over the runs.

    Parameters
    ----------
    values : ndarray of float, shape (n_runs,)
        Score of each run.
    without : ndarray of float, shape (n_runs, n_groups)
        Score of each run without each group.
    """
    return float(np.mean(_jackknife(values, without)))


def _jackknife(values: _Floats, without: _Floats) -> _Floats:
    """Return the variance in each run; see `jackknife_variance`."""
    n_groups = without.shape[1]
    squares = np.sum((without - values[:, None]) ** 2, axis=1)
    variances: _Floats = squares * (n_groups - 1) / n_groups
    return variances


@dataclass(frozen=True)
class _PaddedMean:
    """A mean with images added to it, which widen the interval of a small sample.

    Parameters
    ----------
    value : float
        The mean without them.
    middle : float
        The mean with them.
    error : float
        Standard error of `middle`.
    """

    value: float
    middle: float
    error: float

    @classmethod
    def of(cls, values: NDArray[np.floating], sample: Sample, added: tuple[float, ...]) -> Self:
        """Return the mean of values, with and without images that have the values `added`.

        An added image weighs as many images as the square root of the size of a group, which is
        between an image and a group.
        """
        weight, shape = math.sqrt(sample.mean_size), (sample.n_runs, len(added))
        more = np.broadcast_to(weight * np.array(added), shape)
        counts = np.full(shape, weight)

        def variances(each: Sample) -> _Floats:
            sums = np.hstack([each.sums(values), more])
            return _variances_of_mean(sums, np.hstack([each.counts, counts]))

        n, error = len(values) / sample.n_runs, sample.variance(variances)
        value = float(np.mean(values, dtype=np.float64))
        return cls(
            value=value,
            middle=(n * value + weight * sum(added)) / (n + weight * len(added)),
            error=math.sqrt(error * _factor(sample.n_folds, is_rate=False)),
        )


def _variances_of_mean(sums: _Floats, counts: _Floats) -> _Floats:
    """Return the variance of a mean in each run, from arrays of shape (n_runs, n_groups)."""
    total, n = sums.sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True)
    of_run = _ratio(total, n, 0.0)
    return _jackknife(of_run[:, 0], _ratio(total - sums, n - counts, of_run))


@dataclass(frozen=True)
class _MacroRatio:
    """The mean over classes of a ratio of hits to events, such as the images of the class.

    Parameters
    ----------
    classes : ndarray of int, shape (n_events,)
        Class of each event. Each prediction is one event or, in two parts of the array, two.
    hits : ndarray of bool, shape (n_events,)
        Which events are hits.
    n_classes : int
        Number of classes; those without events have no ratio.
    """

    classes: NDArray[np.intp]
    hits: NDArray[np.bool_]
    n_classes: int

    @property
    def value(self) -> float:
        """The mean, of all runs pooled."""
        above, below = self._counts(self.classes, self.n_classes)
        return float(np.mean(above[below > 0] / below[below > 0]))

    def smoothed(self, added: float) -> float:
        """Return the mean after some more hits, and as many more misses, of each class."""
        above, below = self._counts(self.classes, self.n_classes)
        return float(np.mean((above[below > 0] + added) / (below[below > 0] + 2 * added)))

    def variances(self, sample: Sample) -> _Floats:
        """Return the variance of the mean in each run, by leaving out one group at a time."""
        times = len(self.classes) // len(sample.run)
        run, group = np.tile(sample.run, times), np.tile(sample.group, times)
        n_runs, n_groups, in_run = (
            sample.n_runs,
            sample.n_groups,
            run * self.n_classes + self.classes,
        )
        above, below = self._counts(in_run, n_runs * self.n_classes)
        ratio = _ratio(above, below, 0.0)
        # Only the classes of a group change if it is left out.
        cells, of_event = np.unique(in_run * n_groups + group, return_inverse=True)
        cell_class, cell_group = np.divmod(cells, n_groups)
        own_above, own_below = self._counts(of_event, len(cells))
        rest = below[cell_class] - own_below
        changed = _ratio(above[cell_class] - own_above, rest, 0.0)
        place = (cell_class // self.n_classes) * n_groups + cell_group
        shape, size = (n_runs, n_groups), n_runs * n_groups
        change = np.bincount(place, changed - ratio[cell_class], minlength=size).reshape(shape)
        # A class of which all images are in the group is not among the classes of the others.
        n_dropped = np.bincount(place, rest == 0, minlength=size).reshape(shape)
        total, n_defined = (
            each.reshape(n_runs, -1).sum(axis=1, keepdims=True) for each in (ratio, below > 0)
        )
        of_run = _ratio(total, n_defined, 0.0)
        without = _ratio(total + change, n_defined - n_dropped, of_run)
        return _jackknife(of_run[:, 0], without)

    def _counts(self, of_event: NDArray[np.intp], n: int) -> tuple[_Floats, _Floats]:
        """Return the numbers of hits and of events, by a number of each event."""
        hits, events = np.bincount(of_event, self.hits, n), np.bincount(of_event, minlength=n)
        return hits.astype(np.float64), events.astype(np.float64)


def _ratio(above: NDArray[np.generic], below: NDArray[np.generic], otherwise: object) -> _Floats:
    """Return above / below, and another value where below is 0."""
    out = np.array(np.broadcast_to(np.asarray(otherwise, np.float64), np.shape(below)))
    found: _Floats = np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return found


def _n_informative(hits: NDArray[np.bool_], sample: Sample) -> float:
    """Return the smaller of the numbers of groups with a hit and with a miss, for one run."""
    found = sample.sums(hits)
    with_hit, with_miss = (np.sum(each > 0, axis=1) for each in (found, sample.counts - found))
    return float(np.mean(np.minimum(with_hit, with_miss)))


def _weights(sample: Sample) -> NDArray[np.float64]:
    """Return the fraction of the images that each group has."""
    weights: NDArray[np.float64] = sample.counts.sum(axis=0) / sample.counts.sum()
    return weights


def _t(weights: NDArray[np.float64], confidence: float = 0.95) -> float:
    """Return the quantile of Student's t; uneven groups have fewer degrees of freedom."""
    return float(stdtrit(max(1.0, 1 / float(np.sum(weights**2)) - 1), (1 + confidence) / 2))


def _factor(n_folds: int, *, is_rate: bool) -> float:
    """Return how much larger the variance of a cross-validated score is than the jackknife's."""
    if n_folds == 1:
        return 1.0
    if n_folds == 2:
        return 2.25 if is_rate else 3.0
    if n_folds < 5:
        return 2.0 if is_rate else 2.5
    return 1.5 if is_rate else 2.0


def _containing(value: float, low: float, high: float, least: float, most: float) -> Score:
    """Return a score whose interval contains it and is within the range of possible values."""
    return Score(value, min(value, max(least, low)), max(value, min(most, high)))
