"""Intervals of scores, compared with results by hand, of SciPy, and of a naive jackknife."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t
from sklearn.metrics import balanced_accuracy_score, f1_score

from featx.metrics.evaluation import score_predictions
from featx.metrics.intervals import (
    Sample,
    Score,
    jackknife_variance,
    loss_score,
    paired_difference,
    proportion,
)

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "top5")


def case(n: int, k: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return labels, probabilities better than chance, and the classes."""
    rng = np.random.default_rng(seed)
    classes = list("abcdefghij"[:k])
    true = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k)) + 1.5 * (true[:, None] == np.arange(k))
    p = np.exp(logits)
    return np.array(classes)[true], p / p.sum(1, keepdims=True), classes


def all_scores(true, p, classes, groups, **options) -> dict[str, Score]:
    """Return every score that has an interval."""
    found = score_predictions(true, p, classes, groups, **options)
    scores = {name: getattr(found, name) for name in SCORES if getattr(found, name) is not None}
    correct, first = np.array(classes)[p.argmax(1)] == true, true == classes[0]
    scores["difference"] = paired_difference(correct, first, groups, **options)
    return scores | {f"recall of {each.label}": each.recall_score for each in found.per_class}


def width(score: Score) -> float:
    """Return the width of an interval; that of a loss on the scale on which it is symmetric."""
    return score.high - score.low


# Score


def test_a_score_is_printed_with_its_interval():
    """Without an interval it is printed alone."""
    score = Score(0.8, 0.49, 0.943)
    assert score.interval == (0.49, 0.943)
    for number in ("0.800", "0.490", "0.943"):
        assert number in str(score)
    assert str(Score(0.8)) == "0.800"
    assert Score(0.8).interval is None


@pytest.mark.parametrize("ends", [(0.1, None), (None, 0.3), (0.21, 0.3), (0.1, 0.19)])
def test_an_interval_has_two_ends_that_contain_the_score(ends):
    with pytest.raises(ValueError, match=str(ends[0] or ends[1])):
        Score(0.2, *ends)


def test_only_an_interval_is_above_or_below():
    assert Score(0.2, 0.1, 0.3).is_above(0)
    assert not Score(0.2, 0.0, 0.3).is_above(0)
    assert Score(-0.2, -0.3, -0.1).is_below(0)
    assert not Score(0.2).is_above(0)
    assert not Score(-0.2).is_below(0)


# values by hand


@pytest.mark.parametrize("n", [7, 9, 16, 27, 100])
def test_a_share_of_independent_images_has_wilsons_interval_with_t(n):
    """It is SciPy's at the confidence level that the quantile of t has for the normal.

    The jackknife divides by n - 1 where Wilson's formula has n, so that the intervals agree
    exactly for 0 and n, and otherwise within half of 1 / n.
    """
    level = math.erf(t.ppf(0.975, n - 1) / math.sqrt(2))
    for n_correct in range(n + 1):
        found = proportion(np.arange(n) < n_correct, np.arange(n))
        expected = binomtest(n_correct, n).proportion_ci(level, method="wilson")
        exactly = n_correct in {0, n}
        tolerance = 1e-12 if exactly else 0.6 / n * (expected.high - expected.low)
        assert found.low == pytest.approx(expected.low, abs=tolerance)
        assert found.high == pytest.approx(expected.high, abs=tolerance)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_six_correct_images_of_six_are_not_certain():
    """All scores from 0 to 1 have the same interval, from 1 / (1 + t² / 6)."""
    y = np.array(list("ababab"))
    p = np.where(y[:, None] == np.array(["a", "b"]), 0.9, 0.1)
    found = score_predictions(y, p, ["a", "b"], np.arange(6))
    low = 1 / (1 + t.ppf(0.975, 5) ** 2 / 6)
    for score in (found.accuracy, found.balanced_accuracy, found.macro_f1):
        assert (score.value, score.high) == (1, 1)
        assert score.low == pytest.approx(low)
    assert found.log_loss.low < found.log_loss.value < found.log_loss.high


def test_groups_by_hand():
    """Of four groups of two images, two, one, none and two images are correct."""
    hits, group = np.array([1, 1, 1, 0, 0, 0, 1, 1], bool), np.arange(8) // 2
    found = proportion(hits, group)
    value, without = 5 / 8, np.array([3, 4, 5, 3]) / 6
    variance = 3 / 4 * np.sum((without - value) ** 2)
    design = variance / (value * (1 - value) / 8)
    # Two groups have a mistake and three have a hit; groups are assumed to share half.
    effect = (2 * design + 1.5) / 3
    n, quantile = 8 / effect, t.ppf(0.975, 3)
    middle = (value + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    half = math.sqrt(value * (1 - value) / n + quantile**2 / (4 * n**2))
    half *= quantile / (1 + quantile**2 / n)
    assert found.interval == pytest.approx((middle - half, middle + half))


def test_a_mean_loss_by_hand():
    """One image with a bad loss is added, and the interval is on the logarithmic scale."""
    losses = np.array([0.1, 0.2, 0.4, 0.3])
    found = loss_score(losses, Sample.of(4, np.arange(4)), bad=2.0)
    padded = np.append(losses, 2.0)
    error = padded.std(ddof=1) / math.sqrt(5)
    ratio = math.exp(t.ppf(0.975, 3) * error / padded.mean())
    assert found.value == pytest.approx(0.25)
    assert found.interval == pytest.approx((min(0.25, 0.6 / ratio), 0.6 * ratio))


def test_a_paired_difference_by_hand():
    """Of 10 images, one classifier is correct on 8 and the other on 6; two images are added."""
    one = np.array([True] * 8 + [False] * 2)
    other = np.array([True] * 5 + [False] * 4 + [True])
    found = paired_difference(one, other, np.arange(10))
    gains = np.array([0] * 5 + [1] * 3 + [0, -1] + [1, -1])
    half = t.ppf(0.975, 9) * gains.std(ddof=1) / math.sqrt(12)
    assert found.value == pytest.approx(0.2)
    assert found.interval == pytest.approx((gains.mean() - half, gains.mean() + half))


def test_a_paired_difference_is_antisymmetric():
    """The interval changes its sign as well."""
    rng = np.random.default_rng(3)
    one, other, groups = rng.random(40) < 0.8, rng.random(40) < 0.6, rng.integers(0, 15, 40)
    there, back = paired_difference(one, other, groups), paired_difference(other, one, groups)
    assert there.value == pytest.approx(np.mean(one) - np.mean(other))
    assert there.interval == pytest.approx((-back.high, -back.low))


def test_equal_predictions_are_not_certain_to_be_equal():
    """No image on which only one is correct: the true difference may still not be 0."""
    correct = np.arange(50) < 25
    found = paired_difference(correct, correct, np.arange(50))
    assert found.value == 0
    assert found.low == pytest.approx(-found.high)
    assert -0.1 < found.low < -0.02


@pytest.mark.parametrize("n", [10, 30, 100])
def test_few_discordant_images_decide_nothing(n):
    """The interval excludes 0 only if McNemar's exact test rejects at 5 %, or nearly."""
    for n_better in range(1, 8):
        better = np.arange(n) < n_better
        found = paired_difference(better, np.zeros(n, bool), np.arange(n))
        p_value = 2 * 0.5**n_better
        if p_value > 0.1:
            assert found.low < 0, n_better
        elif p_value < 0.02:
            assert found.low > 0, n_better


# the jackknife


@settings(max_examples=30, deadline=None)
@given(n_groups=st.integers(2, 8), k=st.integers(2, 4), seed=st.integers(0, 10**6))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_macro_scores_are_jackknifed_as_one_would_by_hand(n_groups, k, seed):
    """The variance from sums is that of scikit-learn's scores without each group in turn."""
    from featx.metrics.intervals import _MacroRatio

    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(k, size=(2, 20))
    group = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=20 - n_groups)])
    recall = _MacroRatio(true, true == predicted, k)
    f1 = _MacroRatio(np.concatenate([true, predicted]), np.tile(true == predicted, 2), k)

    def macro_f1(y, guess):
        return f1_score(y, guess, average="macro", zero_division=0)

    for found, score in ((recall, balanced_accuracy_score), (f1, macro_f1)):
        changes = [
            score(true[group != g], predicted[group != g]) - score(true, predicted)
            for g in range(n_groups)
        ]
        expected = (n_groups - 1) / n_groups * np.sum(np.square(changes))
        assert found.value == pytest.approx(score(true, predicted))
        assert found.variances(Sample.of(20, group)) == pytest.approx(expected, abs=1e-12)


def test_the_jackknife_of_a_mean_is_its_squared_standard_error():
    values = np.random.default_rng(0).normal(size=(2, 12))
    means = values.mean(axis=1)
    without = (12 * means[:, None] - values) / 11
    expected = np.mean(values.var(axis=1, ddof=1) / 12)
    assert jackknife_variance(means, without) == pytest.approx(expected)


# groups


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(4, 60),
    k=st.integers(2, 8),
    n_groups=st.integers(2, 20),
    n_folds=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 10**6),
)
def test_groups_never_narrow_an_interval(n, k, n_groups, n_folds, seed):
    """Whatever images a group has in common, all intervals are at least as wide as without."""
    true, p, classes = case(n, k, seed)
    groups = np.random.default_rng(seed).integers(n_groups, size=n)
    apart = all_scores(true, p, classes, np.arange(n), n_folds=n_folds)
    joined = all_scores(true, p, classes, groups, n_folds=n_folds)
    for name, wide in joined.items():
        assert wide.value == pytest.approx(apart[name].value)
        if wide.interval is not None and name in SCORES:
            # The shrunken design effect depends on the number of groups with a mistake.
            assert width(wide) >= 0.99 * width(apart[name]), name


def test_copies_of_an_image_count_once():
    """Intervals of ten copies of each image, as groups, are √10 times as wide as if independent."""
    true, p, classes = case(60)
    ten, p_ten = true.repeat(10), p.repeat(10, axis=0)
    apart = all_scores(ten, p_ten, classes, np.arange(600))
    joined = all_scores(ten, p_ten, classes, np.arange(60).repeat(10))
    single = all_scores(true, p, classes, np.arange(60))
    for name in (*SCORES, "difference"):
        assert width(joined[name]) == pytest.approx(width(single[name]), rel=0.15), name
        ratio = width(joined[name]) / width(apart[name])
        assert ratio == pytest.approx(np.sqrt(10), rel=0.2), name


def test_uneven_groups_have_fewer_degrees_of_freedom():
    """If a group has half of the images, the interval is wider than for ten even groups."""
    hits = np.tile([True, True, True, False], 50)
    even = proportion(hits, np.arange(200) // 20)
    uneven = proportion(hits, np.minimum(np.arange(200) // 11, 9))
    assert width(uneven) > 1.3 * width(even)


def test_few_groups_are_reported_and_a_single_group_has_no_interval():
    """With fewer than five groups there is a note; with one there is no interval."""
    true, p, classes = case(40)
    for n_groups in (1, 2, 4, 5):
        groups = np.arange(40) % n_groups
        found = score_predictions(true, p, classes, groups)
        assert found.n_groups == n_groups
        scores = all_scores(true, p, classes, groups)
        assert {score.interval is None for score in scores.values()} == {n_groups == 1}
        assert len(found.notes) == (n_groups < 5)
        assert found.calibration_error.interval is None
        assert {each.accuracy_score.interval is None for each in found.reliability if each.n} in (
            {n_groups == 1},
            {True, False},
        )


# folds and repeats


def test_cross_validated_scores_have_wider_intervals():
    """The fewer folds, the less a classifier of a fold is like the saved one."""
    true, p, classes = case(100)
    by_folds = [
        all_scores(true, p, classes, np.arange(100), n_folds=n_folds) for n_folds in (1, 5, 3, 2)
    ]
    for name in (*SCORES, "difference"):
        widths = [width(each[name]) for each in by_folds]
        assert widths == sorted(widths), name
        assert widths[1] > 1.15 * widths[0], name


@pytest.mark.parametrize("same_groups", [True, False])
def test_equal_repeats_count_as_one(same_groups):
    """This holds even if the repeats have other groups, which are not used."""
    true, p, classes = case(60)
    groups = np.arange(60) // 2
    five = np.tile(groups, 5) if same_groups else np.concatenate([groups, np.arange(100, 340)])
    once = score_predictions(true, p, classes, groups, n_folds=5)
    found = score_predictions(
        np.tile(true, 5), np.tile(p, (5, 1)), classes, five, n_repeats=5, n_folds=5
    )
    assert (found.n_images, found.n_repeats, found.n_groups) == (60, 5, 30)
    for name in SCORES:
        one, five_times = getattr(once, name), getattr(found, name)
        assert five_times.value == pytest.approx(one.value), name
        assert five_times.interval == pytest.approx(one.interval), name
    for one, again in zip(once.per_class, found.per_class, strict=True):
        assert again.recall_score.interval == pytest.approx(one.recall_score.interval)
    assert np.array_equal(found.confusion, 5 * np.array(once.confusion))
    assert [c.n for c in found.confusions] == [5 * c.n for c in once.confusions]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(10, 60), n_repeats=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_repeats_do_not_narrow_an_interval(n, n_repeats, seed):
    """The interval is no narrower than the narrowest one of a single run."""
    true, _, classes = case(n, 6, seed)
    runs = [case(n, 6, seed)[1]]
    rng = np.random.default_rng(seed)
    for _ in range(n_repeats - 1):
        noisy = runs[0] * np.exp(0.5 * rng.normal(size=runs[0].shape))
        runs.append(noisy / noisy.sum(axis=1, keepdims=True))
    groups = np.arange(n) // 2
    single = [all_scores(true, p, classes, groups, n_folds=5) for p in runs]
    tiled, joined = np.tile(true, n_repeats), np.concatenate(runs)
    several = all_scores(
        tiled, joined, classes, np.tile(groups, n_repeats), n_repeats=n_repeats, n_folds=5
    )
    for name in (*SCORES, "difference"):
        assert width(several[name]) >= 0.97 * min(width(each[name]) for each in single), name


def test_repeats_that_differ_are_averaged():
    """The variance is the mean of that of both runs."""
    one, other = np.arange(20) < 10, np.arange(20) < 16
    found = proportion(np.concatenate([one, other]), np.arange(20), n_repeats=2, n_folds=5)
    assert found.value == 0.65
    widths = [width(proportion(each, np.arange(20), n_folds=5)) for each in (one, other)]
    assert min(widths) < width(found) < max(widths)


# coverage


@pytest.mark.slow
@pytest.mark.parametrize(("n_groups", "size"), [(100, 1), (20, 10)])
def test_intervals_contain_the_truth(n_groups, size):
    """About 95 % of intervals contain the true score; `benchmarks/coverage.py` has more cases.

    Images of a group share half of their noise. With 20 groups of 10, intervals for
    200 independent images contain the true accuracy in 72 % of the cases.
    """
    rng = np.random.default_rng(1)
    classes = list("abc")

    def simulate(n_groups: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.integers(3, size=n_groups).repeat(size)
        common = rng.normal(size=(n_groups, 3)).repeat(size, axis=0)
        z = np.sqrt(0.5) * (common + rng.normal(size=common.shape))
        p = np.exp(1.5 * (z + 1.3 * (true[:, None] == np.arange(3))))
        return np.array(classes)[true], p / p.sum(axis=1, keepdims=True)

    truth = all_scores(*simulate(200_000, 1), classes, np.zeros(200_000, int))
    held = dict.fromkeys(SCORES[:5], 0)
    for _ in range(200):
        found = all_scores(*simulate(n_groups, size), classes, np.arange(n_groups).repeat(size))
        for name in held:
            held[name] += found[name].low <= truth[name].value <= found[name].high
    for name, n in held.items():
        assert n / 200 >= 0.9, name
