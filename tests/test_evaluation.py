"""Scores compared with results by hand, of scikit-learn and SciPy, and of simulations."""

import json
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    top_k_accuracy_score,
)
from sklearn.metrics import log_loss as log_loss_score

from featx.metrics import intervals
from featx.metrics.evaluation import ClassScore, Confusion, score_predictions
from featx.metrics.intervals import Score, paired_difference, wilson

TRUE = np.array(list("aaaabbbccc"))
PREDICTED = np.array(list("aaabbbaccb"))
BOOTSTRAPPED = (
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "brier",
    "calibration_error",
    "top5",
)


def each_alone(y) -> np.ndarray:
    """Return the groups of independent images."""
    return np.arange(len(y))


def certain(predicted, classes="abc", p: float = 1.0) -> np.ndarray:
    """Return probabilities: p for each prediction, the rest for the other classes."""
    chosen = np.array(list(predicted))[:, None] == np.array(list(classes))
    return np.where(chosen, p, (1 - p) / max(1, len(classes) - 1))


def score_labels(true, predicted, groups, classes="abc", **options):
    return score_predictions(true, certain(predicted, classes), list(classes), groups, **options)


def random_case(n: int, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return labels, probabilities better than chance, and the classes."""
    rng = np.random.default_rng(seed)
    classes = list("abcdefghij"[:k])
    true = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k)) + 1.5 * (true[:, None] == np.arange(k))
    p = np.exp(logits)
    return np.array(classes)[true], p / p.sum(1, keepdims=True), classes


def scores(found) -> dict[str, Score]:
    """Return the scores with bootstrap intervals."""
    return {name: getattr(found, name) for name in BOOTSTRAPPED if getattr(found, name) is not None}


def nearly(found) -> dict[str, tuple]:
    """Return these scores, with a tolerance for another order of sums."""
    return {
        name: pytest.approx(_numbers(score), abs=1e-12) for name, score in scores(found).items()
    }


def numbers(found) -> dict[str, tuple[float, float, float]]:
    return {name: _numbers(score) for name, score in scores(found).items()}


def _numbers(score: Score) -> tuple[float, float, float]:
    return score.value, score.low, score.high


# values


def test_scores_by_hand():
    """Of ten images, 3 of 4, 2 of 3 and 2 of 3 are predicted correctly."""
    found = score_labels(TRUE, PREDICTED, each_alone(TRUE))
    assert (found.n_images, found.n_repeats) == (10, 1)
    assert found.accuracy.value == 0.7
    assert found.balanced_accuracy.value == pytest.approx((3 / 4 + 2 / 3 + 2 / 3) / 3, abs=1e-15)
    assert found.macro_f1.value == pytest.approx((3 / 4 + 4 / 7 + 4 / 5) / 3, abs=1e-15)
    assert found.labels == ("a", "b", "c")
    assert found.confusion == ((3, 1, 0), (1, 2, 0), (0, 1, 2))
    # f1 is 2pr/(p + r); the intervals of 3/4 and 2/3 are SciPy's.
    assert found.per_class == tuple(
        ClassScore(label, *map(pytest.approx, (p, r, f)), n, *_wilson_of_scipy(round(r * n), n))
        for label, p, r, f, n in (
            ("a", 3 / 4, 3 / 4, 3 / 4, 4),
            ("b", 2 / 4, 2 / 3, 4 / 7, 3),
            ("c", 1.0, 2 / 3, 4 / 5, 3),
        )
    )


def _wilson_of_scipy(n_correct: int, n: int) -> tuple:
    interval = binomtest(n_correct, n).proportion_ci(method="wilson")
    return pytest.approx(interval.low, abs=1e-12), pytest.approx(interval.high, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(2, 8),
    true=st.lists(st.sampled_from("abcdxy"), min_size=1, max_size=30),
    sure=st.integers(0, 30),
    seed=st.integers(0, 10**6),
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_scores_are_those_of_scikit_learn(k, true, sure, seed):
    """Scores equal scikit-learn's, in which unknown labels are classes of probability 0.

    Some probabilities are 0 or 1, so that logarithms are clipped.
    """
    classes, true = list("abcdefgh"[:k]), np.array(true)
    p = np.random.default_rng(seed).dirichlet(np.ones(k), len(true))
    p[:sure] = p[:sure] == p[:sure].max(axis=1, keepdims=True)
    found = score_predictions(true, p, classes, each_alone(true))
    predicted = np.array(classes)[p.argmax(1)]
    everything = sorted({*classes, *true.tolist(), "x", "y"})
    wide = np.zeros((len(true), len(everything)))
    wide[:, [everything.index(c) for c in classes]] = p
    expected = {
        "balanced_accuracy": balanced_accuracy_score(true, predicted),
        "macro_f1": f1_score(true, predicted, average="macro", zero_division=0),
        "log_loss": log_loss_score(true, wide, labels=everything),
        "brier": brier_score_loss(true, wide, labels=everything, scale_by_half=False),
    }
    for name, value in expected.items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-12), name
    assert found.accuracy.value == np.mean(true == predicted)
    assert found.labels == tuple(sorted({*true.tolist(), *predicted.tolist()}))
    assert np.array_equal(found.confusion, confusion_matrix(true, predicted, labels=found.labels))
    for score in (found.accuracy, *scores(found).values()):
        assert 0 <= score.low <= score.value <= score.high
    for name in {"accuracy", *scores(found)} - {"log_loss", "brier", "calibration_error"}:
        assert getattr(found, name).high <= 1


@pytest.mark.parametrize("k", [6, 10])
def test_the_top_five_are_those_of_scikit_learn(k):
    """This requires more than five classes."""
    true, p, classes = random_case(200, k)
    expected = top_k_accuracy_score(true, p, k=5, labels=classes)
    assert score_predictions(true, p, classes, each_alone(true)).top5.value == expected < 1


def test_of_equal_probabilities_the_first_is_higher():
    """Of seven equal classes, the first is predicted and the last two are not in the top five."""
    true = np.array(list("aaaefg"))
    found = score_predictions(true, np.full((6, 7), 1 / 7), list("abcdefg"), each_alone(true))
    assert found.top5.value == 4 / 6
    assert found.accuracy.value == 3 / 6


def test_an_unknown_label_is_not_in_the_top_five():
    """This holds even if six classes have probability 0 and sort after it."""
    assert score_labels(np.array(["A"]), "a", np.arange(1), "abcdefg").top5.value == 0


def test_the_brier_score_of_two_classes_is_the_sum_over_both():
    """By Brier's definition it is twice scikit-learn's default for two classes."""
    true, p = np.array(["a", "b"]), np.array([[0.8, 0.2], [0.7, 0.3]])
    found = score_predictions(true, p, ["a", "b"], each_alone(true))
    assert found.brier.value == pytest.approx((2 * 0.2**2 + 2 * 0.7**2) / 2)
    assert found.brier.value == pytest.approx(2 * brier_score_loss(true, p[:, 1], pos_label="b"))
    assert score_labels(true, "ba", each_alone(true), "ab").brier.value == 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_probability_0_is_clipped_to_eps(dtype):
    """eps is that of the dtype of the probabilities, as in scikit-learn."""
    true = np.array(["a", "b"])
    p = np.array([[0.5, 0.5], [1, 0]], dtype)
    found = score_predictions(true, p, ["a", "b"], each_alone(true)).log_loss.value
    assert found == pytest.approx((np.log(2) - np.log(np.finfo(dtype).eps)) / 2, rel=1e-7)
    assert found == pytest.approx(log_loss_score(true, p), rel=1e-6)
    sure = score_predictions(true[:1], p[1:], ["a", "b"], np.arange(1)).log_loss.value
    assert sure == pytest.approx(np.finfo(dtype).eps, rel=1e-6)


def test_float32_probabilities_are_summed_in_float64():
    """Scores equal those of the same probabilities in float64."""
    true, p, classes = random_case(200, 7)
    single = p.astype(np.float32)
    found, expected = (
        score_predictions(true, q, classes, each_alone(true))
        for q in (single, single.astype(float))
    )
    assert numbers(found) == nearly(expected)


@pytest.mark.parametrize("n", [17, 24, 36])
def test_intervals_contain_the_score_exactly(n):
    """Equal images have intervals of width 0, up to rounding."""
    for p in (0.55, 0.7, 0.9):
        found = score_predictions(
            np.full(n, "a"), certain("a" * n, "ab", p), list("ab"), np.arange(n)
        )
        for score in scores(found).values():
            assert score.low <= score.value <= score.high
            assert score.high - score.low < 1e-12


def test_the_calibration_error_by_hand():
    """There are 15 bins: 0.6 is in (8/15, 9/15], 0.61 and 0.65 are in (9/15, 10/15]."""
    confidence = np.array([0.6, 0.6, 0.61, 0.65, 1.0])
    correct = np.array([True, False, True, True, True])
    p = np.column_stack([confidence, 1 - confidence])
    found = score_predictions(np.where(correct, "a", "b"), p, ["a", "b"], np.arange(5))
    # 2/5 |0.5 - 0.6| + 2/5 |1 - 0.63| + 1/5 |1 - 1|
    assert found.calibration_error.value == pytest.approx(0.04 + 0.148)
    assert found.calibration_bins == len(found.reliability) == 15
    held = {k: each for k, each in enumerate(found.reliability) if each.n}
    assert {k: each.n for k, each in held.items()} == {8: 2, 9: 2, 14: 1}
    assert [each.accuracy for each in held.values()] == [0.5, 1.0, 1.0]
    assert [each.confidence for each in held.values()] == pytest.approx([0.6, 0.63, 1.0])
    assert (held[9].low, held[9].high) == pytest.approx((9 / 15, 10 / 15))


def test_an_unknown_label_counts_as_wrong():
    """Its probability is 0, and it is one of the labels."""
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7]])
    found = score_predictions(
        np.array(["a", "b", "z"]), p, ["a", "c"], np.arange(3), paths=list("123")
    )
    assert found.labels == ("a", "b", "c", "z")
    assert found.accuracy.value == 1 / 3
    assert found.confusion == ((1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0))
    assert found.confusions == (Confusion("b", "a", 1, ("2",)), Confusion("z", "c", 1, ("3",)))
    impossible = -np.log(np.finfo(float).eps)
    assert found.log_loss.value == pytest.approx((-np.log(0.6) + 2 * impossible) / 3)
    # (p - [true])² over a, c and the label itself: 0.16 + 0.16, 0.36 + 0.16 + 1, 0.09 + 0.49 + 1
    assert found.brier.value == pytest.approx((0.32 + 1.52 + 1.58) / 3)
    # Two rows at 0.6, one of them correct, and a wrong one at 0.7.
    assert found.calibration_error.value == pytest.approx((2 * 0.1 + 0.7) / 3)


def test_a_class_without_images_or_predictions_has_score_0():
    """Recall is 0 without images; precision is 0 without predictions."""
    found = score_labels(np.array(["a", "a", "b"]), ["a", "z", "a"], np.arange(3), "abz")
    assert [(c.label, c.precision, c.recall, c.f1, c.images) for c in found.per_class] == [
        ("a", 0.5, 0.5, 0.5, 2),
        ("b", 0.0, 0.0, 0.0, 1),
        ("z", 0.0, 0.0, 0.0, 0),
    ]
    assert (found.per_class[2].recall_low, found.per_class[2].recall_high) == (0, 1)
    assert found.balanced_accuracy.value == 0.25  # of a and b, as there are no images of z
    assert found.macro_f1.value == pytest.approx(0.5 / 3)  # z was predicted wrongly


def test_classes_that_never_appear_are_not_listed():
    """A class that is neither true nor predicted does not change any score."""
    narrow = score_labels(TRUE, PREDICTED, each_alone(TRUE))
    assert score_labels(TRUE, PREDICTED, each_alone(TRUE), "abcd") == narrow


def test_a_single_label_is_scored_without_a_warning():
    """The confusion matrix has one element."""
    y = np.array(["a", "a"])
    for classes in ("a", "ab"):
        found = score_labels(y, y, np.arange(2), classes)
        assert (found.confusion, found.confusions) == (((2,),), ())
        assert found.balanced_accuracy == Score(1, 1, 1)
        assert found.calibration_error == Score(0, 0, 0)


# confusions


def test_the_most_frequent_confusions_are_listed():
    """At most five are listed, equally frequent ones by name."""
    cells = {
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("b", "a"): 2,
        ("c", "a"): 1,
        ("c", "b"): 4,
        ("c", "c"): 9,
    }
    true = np.array([t for (t, _), n in cells.items() for _ in range(n)])
    predicted = [p for (_, p), n in cells.items() for _ in range(n)]
    found = score_labels(true, predicted, each_alone(true)).confusions
    assert [(c.true, c.predicted, c.n, c.paths) for c in found] == [
        ("c", "b", 4, ()),
        ("a", "c", 3, ()),
        ("a", "b", 2, ()),
        ("b", "a", 2, ()),
        ("c", "a", 1, ()),
    ]
    more = [*predicted, *"cc"]
    found = score_labels(np.array([*true, "b", "b"]), more, np.arange(len(more))).confusions
    assert [(c.true, c.predicted) for c in found] == [
        ("c", "b"),
        ("a", "c"),
        ("a", "b"),
        ("b", "a"),
        ("b", "c"),
    ]


def test_the_most_confident_mistakes_are_shown():
    """Three images of a confusion are listed, each of them once."""
    sure = np.array([[0.6, 0.9, 0.7, 0.8, 0.2], [0.95, 0.9, 0.7, 0.8, 0.1]]).ravel()
    p = np.column_stack([1 - sure, sure])
    found = score_predictions(
        np.full(10, "a"), p, ["a", "b"], np.arange(10), n_repeats=2, paths=["u", "v", "w", "x", "y"]
    )
    assert found.confusions == (Confusion("a", "b", 8, ("u", "v", "x")),)


# intervals


@pytest.mark.parametrize("n", [1, 7, 9, 16, 27, 100])
def test_wilson_is_scipys(n):
    """For every count the interval is that of SciPy, and lies between 0 and 1."""
    for n_correct in range(n + 1):
        found = wilson(n_correct, n)
        assert (found.low, found.high) == _wilson_of_scipy(n_correct, n)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_interval_of_accuracy_is_wilsons():
    """It ignores the groups."""
    found = score_labels(TRUE, PREDICTED, each_alone(TRUE) // 2)
    assert found.accuracy == wilson(7, 10)


def naive_scores(true, p, classes) -> dict[str, float]:
    """Return the scores by their definitions, one image at a time."""
    predicted = np.array(classes)[p.argmax(1)]
    present = sorted({*true.tolist(), *predicted.tolist()})
    recalls = [np.mean(predicted[true == c] == c) for c in np.unique(true)]
    f1 = [
        2 * np.sum((true == c) & (predicted == c)) / (np.sum(true == c) + np.sum(predicted == c))
        for c in present
    ]
    own = [row[classes.index(t)] if t in classes else 0.0 for t, row in zip(true, p, strict=True)]
    eps = np.finfo(float).eps
    ranks = [
        np.argsort(-row, kind="stable").tolist().index(classes.index(t)) if t in classes else 99
        for t, row in zip(true, p, strict=True)
    ]
    error = 0.0
    for m in range(15):
        of_bin = (p.max(1) > m / 15) & (p.max(1) <= (m + 1) / 15)
        if of_bin.any():
            gap = np.mean(predicted[of_bin] == true[of_bin]) - np.mean(p.max(1)[of_bin])
            error += of_bin.mean() * abs(gap)
    squares = [
        sum((q - (c == t)) ** 2 for c, q in zip(classes, row, strict=True)) + (t not in classes)
        for t, row in zip(true, p, strict=True)
    ]
    return {
        "balanced_accuracy": np.mean(recalls),
        "macro_f1": np.mean(f1),
        "log_loss": -np.mean(np.log(np.clip(own, eps, 1 - eps))),
        "brier": np.mean(squares),
        "calibration_error": error,
        "top5": np.mean(np.array(ranks) < 5),
    }


@pytest.mark.parametrize("chunk", [10**6, 100])
def test_the_bootstrap_is_that_of_single_resamples(monkeypatch, chunk):
    """Resamples of groups that are scored one by one have the same intervals.

    This does not depend on the number of resamples in a block.
    """
    monkeypatch.setattr(intervals, "_RESAMPLES", 150)
    monkeypatch.setattr(intervals, "_CHUNK", chunk)
    n_images, n_repeats = 24, 2
    true, p, classes = random_case(n_images * n_repeats, 7)
    true = np.tile(true[:n_images], n_repeats)
    true[[5, 5 + n_images]] = "unknown"
    groups = np.tile(np.arange(n_images) ** 2 // 50, n_repeats)  # large groups and single images
    found = score_predictions(true, p, classes, groups, n_repeats=n_repeats, seed=3)
    members = [np.flatnonzero(groups == each) for each in np.unique(groups)]
    draws = np.random.default_rng(3).integers(len(members), size=(150, len(members)))
    resampled = [
        naive_scores(true[rows], p[rows], classes)
        for rows in (np.concatenate([members[i] for i in draw]) for draw in draws)
    ]
    values = naive_scores(true, p, classes)
    assert {name: score.value for name, score in scores(found).items()} == pytest.approx(values)
    for name, score in scores(found).items():
        low, high = np.quantile([r[name] for r in resampled], [0.025, 0.975])
        if name == "calibration_error":  # the basic interval
            low, high = max(0, 2 * values[name] - high), 2 * values[name] - low
        assert score.low == pytest.approx(min(low, values[name]), abs=1e-12), name
        assert score.high == pytest.approx(max(high, values[name]), abs=1e-12), name


def test_intervals_contain_the_truth(monkeypatch):
    """About 95 % of the intervals of simulated sets contain the score of very many images.

    Images of a group are equal. If they were drawn one by one, intervals would be half as
    wide, and two of three would contain the truth. Intervals of the calibration error are
    slightly too narrow.
    """
    group_size = 4
    monkeypatch.setattr(intervals, "_RESAMPLES", 200)
    rng = np.random.default_rng(0)
    classes = list("abcdef")

    def simulate(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.choice(6, n_groups, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
        logits = rng.normal(size=(n_groups, 6)) + 1.2 * (true[:, None] == np.arange(6))
        p = np.exp(2 * logits)  # overconfident
        p /= p.sum(1, keepdims=True)
        return np.array(classes)[true].repeat(group_size), p.repeat(group_size, axis=0)

    true, p = simulate(200_000 // group_size)
    with monkeypatch.context() as once:
        once.setattr(intervals, "_RESAMPLES", 1)
        truth = scores(score_predictions(true, p, classes, np.zeros(len(true), int)))
    held = dict.fromkeys(BOOTSTRAPPED, 0)
    for _ in range(100):
        true, p = simulate(250)
        groups = np.arange(250).repeat(group_size)
        for name, score in scores(score_predictions(true, p, classes, groups)).items():
            held[name] += score.low <= truth[name].value <= score.high
    for name, n in held.items():
        least = 0.82 if name == "calibration_error" else 0.88
        assert least <= n / 100 <= 0.99, name


def test_the_interval_of_a_small_calibration_error_corrects_its_bias(monkeypatch):
    """With 60 images the estimate is far too high; 1 of 20 percentile intervals is correct."""
    monkeypatch.setattr(intervals, "_RESAMPLES", 200)
    rng = np.random.default_rng(0)

    def simulate(n: int) -> tuple[np.ndarray, np.ndarray]:
        logit = 2 * rng.normal(size=n)
        true = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "b", "a")
        p = 1 / (1 + np.exp(-1.5 * logit))
        return true, np.column_stack([1 - p, p])

    true, p = simulate(200_000)
    truth = score_predictions(true, p, ["a", "b"], np.zeros(len(true), int)).calibration_error.value
    assert 0.03 < truth < 0.08
    found = [score_predictions(*simulate(60), ["a", "b"], np.arange(60)) for _ in range(100)]
    assert np.mean([f.calibration_error.value for f in found]) > 1.5 * truth
    held = [f.calibration_error.low <= truth <= f.calibration_error.high for f in found]
    assert np.mean(held) > 0.82
    assert all(0 <= s.low <= s.value <= s.high for s in (f.calibration_error for f in found))


def test_groups_widen_the_interval():
    """Ten copies of each image count as one, so that intervals are √10 times as wide."""
    true, p, classes = random_case(60, 7)
    ten, p_ten = true.repeat(10), p.repeat(10, axis=0)
    apart = score_predictions(ten, p_ten, classes, each_alone(ten))
    joined = score_predictions(ten, p_ten, classes, np.arange(60).repeat(10))
    single = score_predictions(true, p, classes, np.arange(60))
    assert numbers(joined) == nearly(single)
    for name in ("balanced_accuracy", "macro_f1", "log_loss", "brier", "top5"):
        narrow, wide = scores(apart)[name], scores(joined)[name]
        ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
        assert ratio == pytest.approx(np.sqrt(10), rel=0.15), name


@pytest.mark.parametrize("same_groups", [True, False])
def test_repeats_never_narrow_an_interval(same_groups):
    """Five equal runs count as one, even if the repeats have other groups."""
    true, p, classes = random_case(60, 7)
    groups = np.arange(60) // 2
    five = np.tile(groups, 5) if same_groups else np.concatenate([groups, np.arange(100, 340)])
    once = score_predictions(true, p, classes, groups)
    found = score_predictions(np.tile(true, 5), np.tile(p, (5, 1)), classes, five, n_repeats=5)
    assert (found.n_images, found.n_repeats) == (60, 5)
    assert found.accuracy == once.accuracy
    assert numbers(found) == nearly(once)
    assert found.per_class == once.per_class
    assert np.array_equal(found.confusion, 5 * np.array(once.confusion))
    assert [c.n for c in found.confusions] == [5 * c.n for c in once.confusions]


def test_repeats_that_differ_are_averaged():
    """Accuracy averages both runs, and other scores pool them."""
    true = np.tile(TRUE, 2)
    found = score_labels(true, [*PREDICTED, *TRUE], np.tile(each_alone(TRUE), 2), n_repeats=2)
    assert found.accuracy == wilson(8.5, 10)
    assert found.confusion == ((7, 1, 0), (1, 5, 0), (0, 1, 5))
    assert [(c.recall, c.images) for c in found.per_class] == [(7 / 8, 4), (5 / 6, 3), (5 / 6, 3)]
    low, high = found.per_class[1].recall_low, found.per_class[1].recall_high
    assert (low, high) == (wilson(2.5, 3).low, wilson(2.5, 3).high)
    assert found.balanced_accuracy.value == pytest.approx((7 / 8 + 5 / 6 + 5 / 6) / 3)


def test_the_interval_follows_the_seed():
    """Equal seeds give equal intervals; another seed changes them a little."""
    true, p, classes = random_case(50, 7)
    first, again, other = (
        score_predictions(true, p, classes, each_alone(true), seed=s) for s in (0, 0, 1)
    )
    assert first == again
    for name, score in scores(first).items():
        moved = scores(other)[name]
        assert score.value == moved.value
        # The top five is a count of images, whose interval may stay the same.
        assert score != moved or name == "top5"
        assert score.low == pytest.approx(moved.low, abs=0.05)


def test_groups_may_be_any_numbers():
    """It only matters which of them are equal."""
    true, p, classes = random_case(20)
    groups = np.arange(20) // 2
    expected = score_predictions(true, p, classes, groups)
    assert score_predictions(true, p, classes, groups * 1000 - 7) == expected


def test_the_order_of_the_rows_does_not_matter():
    """Rows in another order, with their groups and paths, have the same scores."""
    true, p, classes = random_case(60, 7)
    p = p.round(1)  # so that many mistakes are equally confident
    groups, paths = np.arange(60) // 3, np.array([f"{i:02}.png" for i in range(60)])
    order = np.random.default_rng(1).permutation(60)
    one = score_predictions(true, p, classes, groups, paths=paths)
    other = score_predictions(true[order], p[order], classes, groups[order], paths=paths[order])
    assert numbers(other) == nearly(one)
    for name in ("accuracy", "per_class", "confusion", "confusions"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize(("n", "k", "n_groups"), [(10_000, 50, 10_000), (300, 1000, 20)])
def test_the_bootstrap_needs_little_memory(n, k, n_groups):
    """Resamples are computed in blocks, for many groups and for many classes."""
    rng = np.random.default_rng(0)
    classes = [f"{i:03}" for i in range(k)]
    true, p = rng.choice(classes, n), rng.dirichlet(np.ones(k), n)
    tracemalloc.start()
    try:
        score_predictions(true, p, classes, each_alone(true) % n_groups)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80e6


# plain values


def test_an_evaluation_is_plain_values():
    """to_dict returns JSON types: no tuples, and no types of NumPy."""
    true, p, classes = random_case(30, 6)
    found = score_predictions(
        true, p, classes, each_alone(true), paths=np.array([f"{i}.png" for i in range(30)])
    )
    plain = found.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain) == set(asdict(found))
    assert plain["accuracy"] == asdict(found.accuracy)
    assert plain["top5"] == asdict(found.top5)
    assert plain["confusion"] == [list(row) for row in found.confusion]
    assert plain["labels"] == classes
    assert plain["per_class"] == [asdict(score) for score in found.per_class]
    first = found.confusions[0]
    assert plain["confusions"][0] == {**asdict(first), "paths": list(first.paths)}
    assert first.paths
    assert (
        score_predictions(true, p[:, :5], classes[:5], each_alone(true)).to_dict()["top5"] is None
    )


def test_a_score_is_printed_with_its_interval():
    for number in ("0.800", "0.490", "0.943"):
        assert number in str(wilson(8, 10))


# paired differences


def test_a_paired_difference_by_hand():
    """Of 10 images, one classifier is correct on 8, and the other on 6."""
    one = np.array([True] * 8 + [False] * 2)
    other = np.array([True] * 5 + [False] * 4 + [True])
    found = paired_difference(one, other, np.arange(10))
    assert found.value == pytest.approx(0.2)
    # Six gains are 0, three are 1, and one is -1; their mean has this deviation.
    deviation = np.sqrt((4 / 10 - 0.2**2) / 10)
    assert found.low == pytest.approx(0.2 - 1.96 * deviation, abs=0.06)
    assert found.high == pytest.approx(0.2 + 1.96 * deviation, abs=0.06)


def test_a_paired_difference_is_antisymmetric():
    """The interval changes its sign as well."""
    rng = np.random.default_rng(3)
    one, other, groups = rng.random(40) < 0.8, rng.random(40) < 0.6, rng.integers(0, 15, 40)
    there, back = paired_difference(one, other, groups), paired_difference(other, one, groups)
    assert there.value == pytest.approx(np.mean(one) - np.mean(other))
    assert (there.value, there.low, there.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )


def test_equal_predictions_have_no_difference():
    """The interval has width 0."""
    correct = np.random.default_rng(0).random(50) < 0.5
    assert paired_difference(correct, correct, np.arange(50)) == Score(0.0, 0.0, 0.0)


def test_groups_are_resampled_as_a_whole():
    """A resample of two groups contains one, the other, or both of them."""
    one = np.array([True] * 20)
    other = np.array([True] * 10 + [False] * 10)
    grouped = paired_difference(one, other, np.repeat([4, 9], 10))
    assert (grouped.value, grouped.low, grouped.high) == (0.5, 0.0, 1.0)
    ungrouped = paired_difference(one, other, np.arange(20))
    assert 0.2 < ungrouped.low < 0.4
    assert 0.6 < ungrouped.high < 0.8
    # The difference of a resample is that of all its images.
    uneven = paired_difference(one, other, np.array([0] * 15 + [1] * 5))
    assert (uneven.low, uneven.value, uneven.high) == pytest.approx((1 / 3, 0.5, 1.0))
