"""Scores against numbers worked out by hand, by scikit-learn, by SciPy and by simulation."""

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


def alone(y) -> np.ndarray:
    """Keys of images that belong to nothing else."""
    return np.arange(len(y))


def certain(predicted, classes="abc", p: float = 1.0) -> np.ndarray:
    """Probabilities of predictions of which each has probability p, the others the rest."""
    chosen = np.array(list(predicted))[:, None] == np.array(list(classes))
    return np.where(chosen, p, (1 - p) / max(1, len(classes) - 1))


def evaluate_labels(true, predicted, groups, classes="abc", **options):
    return score_predictions(true, certain(predicted, classes), list(classes), groups, **options)


def random_case(n: int, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, probabilities that know something of them, and the classes."""
    rng = np.random.default_rng(seed)
    classes = list("abcdefghij"[:k])
    true = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k)) + 1.5 * (true[:, None] == np.arange(k))
    p = np.exp(logits)
    return np.array(classes)[true], p / p.sum(1, keepdims=True), classes


def scores(found) -> dict[str, Score]:
    """The scores with bootstrap intervals that there are."""
    return {name: getattr(found, name) for name in BOOTSTRAPPED if getattr(found, name) is not None}


def nearly(found) -> dict[str, tuple]:
    """Those scores, with room for another order of a sum."""
    return {
        name: pytest.approx(_numbers(score), abs=1e-12) for name, score in scores(found).items()
    }


def numbers(found) -> dict[str, tuple[float, float, float]]:
    return {name: _numbers(score) for name, score in scores(found).items()}


def _numbers(score: Score) -> tuple[float, float, float]:
    return score.value, score.low, score.high


# values


def test_scores_by_hand():
    """Ten images worked out by hand: 3 of 4, 2 of 3 and 2 of 3 are right."""
    found = evaluate_labels(TRUE, PREDICTED, alone(TRUE))
    assert (found.n_images, found.n_repeats) == (10, 1)
    assert found.accuracy.value == 0.7
    assert found.balanced_accuracy.value == pytest.approx((3 / 4 + 2 / 3 + 2 / 3) / 3, abs=1e-15)
    assert found.macro_f1.value == pytest.approx((3 / 4 + 4 / 7 + 4 / 5) / 3, abs=1e-15)
    assert found.labels == ("a", "b", "c")
    assert found.confusion == ((3, 1, 0), (1, 2, 0), (0, 1, 2))
    # precision: right / predicted so; f1: 2pr/(p + r); the intervals of 3/4 and 2/3 are SciPy's
    assert found.per_class == tuple(
        ClassScore(label, *map(pytest.approx, (p, r, f)), n, *_wilson_of_scipy(round(r * n), n))
        for label, p, r, f, n in (
            ("a", 3 / 4, 3 / 4, 3 / 4, 4),
            ("b", 2 / 4, 2 / 3, 4 / 7, 3),
            ("c", 1.0, 2 / 3, 4 / 5, 3),
        )
    )


def _wilson_of_scipy(n_right: int, n: int) -> tuple:
    interval = binomtest(n_right, n).proportion_ci(method="wilson")
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
    """Every score that scikit-learn has equals its, also for labels that were never learned.

    To scikit-learn those are classes of probability 0; some rows are certain, so that
    logarithms are clipped.
    """
    classes, true = list("abcdefgh"[:k]), np.array(true)
    p = np.random.default_rng(seed).dirichlet(np.ones(k), len(true))
    p[:sure] = p[:sure] == p[:sure].max(axis=1, keepdims=True)
    found = score_predictions(true, p, classes, alone(true))
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
    """Where there are more than five classes, the share with the truth among the first five."""
    true, p, classes = random_case(200, k)
    expected = top_k_accuracy_score(true, p, k=5, labels=classes)
    assert score_predictions(true, p, classes, alone(true)).top5.value == expected < 1


def test_five_classes_have_no_top_five():
    """The share would be 1 whatever the probabilities."""
    true, p, classes = random_case(20, 5)
    assert score_predictions(true, p, classes, alone(true)).top5 is None


def test_of_equal_probabilities_the_first_counts_as_higher():
    """The last two of seven equal classes are not in the top five; the first is predicted."""
    true = np.array(list("aaaefg"))
    found = score_predictions(true, np.full((6, 7), 1 / 7), list("abcdefg"), alone(true))
    assert found.top5.value == 4 / 6
    assert found.accuracy.value == 3 / 6


def test_a_label_never_learned_is_not_in_the_top_five():
    """Not even where six classes have probability 0 as it has, and it sorts before them."""
    assert evaluate_labels(np.array(["A"]), "a", np.arange(1), "abcdefg").top5.value == 0


def test_the_brier_score_of_two_classes_is_the_sum_over_both():
    """By Brier's definition it is twice what scikit-learn gives for two classes."""
    true, p = np.array(["a", "b"]), np.array([[0.8, 0.2], [0.7, 0.3]])
    found = score_predictions(true, p, ["a", "b"], alone(true))
    assert found.brier.value == pytest.approx((2 * 0.2**2 + 2 * 0.7**2) / 2)
    assert found.brier.value == pytest.approx(2 * brier_score_loss(true, p[:, 1], pos_label="b"))
    assert evaluate_labels(true, "ba", alone(true), "ab").brier.value == 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_impossible_truth_costs_the_logarithm_of_eps(dtype):
    """Probability 0 is clipped to eps of the probabilities' own precision, as scikit-learn does."""
    true = np.array(["a", "b"])
    p = np.array([[0.5, 0.5], [1, 0]], dtype)
    found = score_predictions(true, p, ["a", "b"], alone(true)).log_loss.value
    assert found == pytest.approx((np.log(2) - np.log(np.finfo(dtype).eps)) / 2, rel=1e-7)
    assert found == pytest.approx(log_loss_score(true, p), rel=1e-6)
    sure = score_predictions(true[:1], p[1:], ["a", "b"], np.arange(1)).log_loss.value
    assert sure == pytest.approx(np.finfo(dtype).eps, rel=1e-6)


def test_probabilities_of_single_precision_are_summed_in_double():
    """The scores are those of the same numbers in double precision."""
    true, p, classes = random_case(200, 7)
    single = p.astype(np.float32)
    found, expected = (
        score_predictions(true, q, classes, alone(true)) for q in (single, single.astype(float))
    )
    assert numbers(found) == nearly(expected)


@pytest.mark.parametrize("n", [17, 24, 36])
def test_a_score_lies_in_its_interval_to_the_last_bit(n):
    """Images that are all alike have intervals without width, whatever the sums are rounded to."""
    for p in (0.55, 0.7, 0.9):
        found = score_predictions(
            np.full(n, "a"), certain("a" * n, "ab", p), list("ab"), np.arange(n)
        )
        for score in scores(found).values():
            assert score.low <= score.value <= score.high
            assert score.high - score.low < 1e-12


def test_the_calibration_error_by_hand():
    """Fifteen bins, closed above: 0.6 lies in (8/15, 9/15], 0.61 and 0.65 in (9/15, 10/15]."""
    confidence = np.array([0.6, 0.6, 0.61, 0.65, 1.0])
    right = np.array([True, False, True, True, True])
    p = np.column_stack([confidence, 1 - confidence])
    found = score_predictions(np.where(right, "a", "b"), p, ["a", "b"], np.arange(5))
    # 2/5 |0.5 - 0.6| + 2/5 |1 - 0.63| + 1/5 |1 - 1|
    assert found.calibration_error.value == pytest.approx(0.04 + 0.148)
    assert found.calibration_bins == len(found.reliability) == 15
    held = {k: each for k, each in enumerate(found.reliability) if each.n}
    assert {k: each.n for k, each in held.items()} == {8: 2, 9: 2, 14: 1}
    assert [each.accuracy for each in held.values()] == [0.5, 1.0, 1.0]
    assert [each.confidence for each in held.values()] == pytest.approx([0.6, 0.63, 1.0])
    assert (held[9].low, held[9].high) == pytest.approx((9 / 15, 10 / 15))


def test_a_label_never_learned_counts_as_wrong():
    """Its probability is 0 and it stands among the labels in its place."""
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
    # Nothing of two rows at 0.6, one of them right, is lost; at 0.7 none is.
    assert found.calibration_error.value == pytest.approx((2 * 0.1 + 0.7) / 3)


def test_a_class_without_images_or_predictions_counts_0():
    """A label only predicted has recall 0 of 0 images; one never predicted has precision 0."""
    found = evaluate_labels(np.array(["a", "a", "b"]), ["a", "z", "a"], np.arange(3), "abz")
    assert [(c.label, c.precision, c.recall, c.f1, c.images) for c in found.per_class] == [
        ("a", 0.5, 0.5, 0.5, 2),
        ("b", 0.0, 0.0, 0.0, 1),
        ("z", 0.0, 0.0, 0.0, 0),
    ]
    assert (found.per_class[2].recall_low, found.per_class[2].recall_high) == (0, 1)
    assert found.balanced_accuracy.value == 0.25  # of a and b; nothing is truly z
    assert found.macro_f1.value == pytest.approx(0.5 / 3)  # z was answered, and wrongly


def test_classes_that_never_appear_are_not_listed():
    """A class that is neither true nor predicted adds nothing to any score."""
    narrow = evaluate_labels(TRUE, PREDICTED, alone(TRUE))
    assert evaluate_labels(TRUE, PREDICTED, alone(TRUE), "abcd") == narrow


def test_one_label_alone_is_scored_without_a_warning():
    """Where all true and predicted labels are one, the matrix is one number."""
    y = np.array(["a", "a"])
    for classes in ("a", "ab"):
        found = evaluate_labels(y, y, np.arange(2), classes)
        assert (found.confusion, found.confusions) == (((2,),), ())
        assert found.balanced_accuracy == Score(1, 1, 1)
        assert found.calibration_error == Score(0, 0, 0)


def test_a_scored_part_of_one_class():
    """Where only one class was scored, recall is of that class alone."""
    true, p, classes = random_case(80)
    p = p[true == "b"]
    true = true[true == "b"]
    found = score_predictions(true, p, classes, alone(true))
    assert found.balanced_accuracy.value == found.accuracy.value == np.mean(p.argmax(1) == 1)
    assert found.labels == ("a", "b", "c")
    assert found.balanced_accuracy.low < found.balanced_accuracy.value


# confusions


def test_the_worst_confusions_are_named():
    """The five largest cells off the diagonal, equal ones by name, without empty ones."""
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
    found = evaluate_labels(true, predicted, alone(true)).confusions
    assert [(c.true, c.predicted, c.n, c.paths) for c in found] == [
        ("c", "b", 4, ()),
        ("a", "c", 3, ()),
        ("a", "b", 2, ()),
        ("b", "a", 2, ()),
        ("c", "a", 1, ()),
    ]
    more = [*predicted, *"cc"]
    found = evaluate_labels(np.array([*true, "b", "b"]), more, np.arange(len(more))).confusions
    assert [(c.true, c.predicted) for c in found] == [
        ("c", "b"),
        ("a", "c"),
        ("a", "b"),
        ("b", "a"),
        ("b", "c"),
    ]


def test_the_most_confident_mistakes_are_shown():
    """Three images of a cell, the surest mistake first, each once however often repeated."""
    sure = np.array([[0.6, 0.9, 0.7, 0.8, 0.2], [0.95, 0.9, 0.7, 0.8, 0.1]]).ravel()
    p = np.column_stack([1 - sure, sure])
    found = score_predictions(
        np.full(10, "a"), p, ["a", "b"], np.arange(10), n_repeats=2, paths=["u", "v", "w", "x", "y"]
    )
    assert found.confusions == (Confusion("a", "b", 8, ("u", "v", "x")),)


# intervals


def test_wilson_by_hand():
    """8 of 10 by the formula: (0.8 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10), z = 1.96."""
    score = wilson(8, 10)
    assert score.value == 0.8
    # z² = 3.841459; middle 0.992073/1.384146; half 1.959964 * 0.160010/1.384146
    assert score.low == pytest.approx(0.490162, abs=1e-6)
    assert score.high == pytest.approx(0.943318, abs=1e-6)


@pytest.mark.parametrize("n", [1, 7, 9, 16, 27, 100])
def test_wilson_is_scipys(n):
    """For every count the interval is that of SciPy, and lies between 0 and 1."""
    for n_right in range(n + 1):
        found = wilson(n_right, n)
        assert (found.low, found.high) == _wilson_of_scipy(n_right, n)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_interval_of_accuracy_is_wilsons():
    """The share of right images, whatever their groups."""
    found = evaluate_labels(TRUE, PREDICTED, alone(TRUE) // 2)
    assert found.accuracy == wilson(7, 10)


def naive_scores(true, p, classes) -> dict[str, float]:
    """The scores by their definitions, of unlearned labels too, one image at a time."""
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
def test_the_bootstrap_is_that_of_one_resample_after_another(monkeypatch, chunk):
    """The same draws of groups, unequal and repeated, scored naively, give the same intervals.

    Also where one array holds a few resamples only.
    """
    monkeypatch.setattr(intervals, "_RESAMPLES", 150)
    monkeypatch.setattr(intervals, "_CHUNK", chunk)
    n_images, n_repeats = 24, 2
    true, p, classes = random_case(n_images * n_repeats, 7)
    true = np.tile(true[:n_images], n_repeats)
    true[[5, 5 + n_images]] = "unlearned"
    groups = np.tile(np.arange(n_images) ** 2 // 50, n_repeats)  # large groups and lone images
    found = score_predictions(true, p, classes, groups, n_repeats=n_repeats, seed=3)
    members = [np.flatnonzero(groups == key) for key in np.unique(groups)]
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


@pytest.mark.parametrize("group_size", [1, 4])
def test_the_intervals_hold_the_truth(monkeypatch, group_size):
    """Of 200 simulated sets, about 95 % of the intervals hold what a million images score.

    Images of a group are alike; drawn one by one, their intervals would be half as wide and
    hold the truth in two sets of three. The calibration error's fall a little short.
    """
    monkeypatch.setattr(intervals, "_RESAMPLES", 400)
    rng = np.random.default_rng(0)
    classes = list("abcdef")

    def simulate(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.choice(6, n_groups, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
        logits = rng.normal(size=(n_groups, 6)) + 1.2 * (true[:, None] == np.arange(6))
        p = np.exp(2 * logits)  # overconfident
        p /= p.sum(1, keepdims=True)
        return np.array(classes)[true].repeat(group_size), p.repeat(group_size, axis=0)

    true, p = simulate(1_000_000 // group_size)
    with monkeypatch.context() as once:
        once.setattr(intervals, "_RESAMPLES", 1)
        truth = scores(score_predictions(true, p, classes, np.zeros(len(true), int)))
    held = dict.fromkeys(BOOTSTRAPPED, 0)
    for _ in range(200):
        true, p = simulate(250)
        groups = np.arange(250).repeat(group_size)
        for name, score in scores(score_predictions(true, p, classes, groups)).items():
            held[name] += score.low <= truth[name].value <= score.high
    for name, n in held.items():
        least = 0.82 if name == "calibration_error" else 0.88
        assert least <= n / 200 <= 0.99, name


def test_the_interval_of_a_small_calibration_error_allows_for_its_bias(monkeypatch):
    """Of 60 images the estimate is far too high; an interval of percentiles holds 1 truth in 20."""
    monkeypatch.setattr(intervals, "_RESAMPLES", 400)
    rng = np.random.default_rng(0)

    def simulate(n: int) -> tuple[np.ndarray, np.ndarray]:
        logit = 2 * rng.normal(size=n)
        true = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "b", "a")
        p = 1 / (1 + np.exp(-1.5 * logit))
        return true, np.column_stack([1 - p, p])

    true, p = simulate(1_000_000)
    truth = score_predictions(true, p, ["a", "b"], np.zeros(len(true), int)).calibration_error.value
    assert 0.03 < truth < 0.08
    found = [score_predictions(*simulate(60), ["a", "b"], np.arange(60)) for _ in range(200)]
    assert np.mean([f.calibration_error.value for f in found]) > 1.5 * truth
    held = [f.calibration_error.low <= truth <= f.calibration_error.high for f in found]
    assert np.mean(held) > 0.82
    assert all(0 <= s.low <= s.value <= s.high for s in (f.calibration_error for f in found))


def test_the_bootstrap_interval_is_about_that_of_theory():
    """Where classes are large, the interval is near the normal one of a mean."""
    true, p, classes = random_case(600)
    found = score_predictions(true, p, classes, alone(true))
    predicted = np.array(classes)[p.argmax(1)]
    recalls = [np.mean(predicted[true == c] == c) for c in classes]
    counts = [np.sum(true == c) for c in classes]
    error = np.sqrt(sum(r * (1 - r) / n for r, n in zip(recalls, counts, strict=True))) / 3
    losses = -np.log(p[np.arange(600), np.searchsorted(classes, true)])
    for score, half in (
        (found.balanced_accuracy, 1.96 * error),
        (found.log_loss, 1.96 * losses.std() / np.sqrt(600)),
    ):
        assert score.low == pytest.approx(score.value - half, abs=0.1 * half)
        assert score.high == pytest.approx(score.value + half, abs=0.1 * half)


def test_images_that_belong_together_widen_the_interval():
    """Ten copies of each image carry no more news than one: the interval is √10 as wide."""
    true, p, classes = random_case(60, 7)
    ten, p_ten = true.repeat(10), p.repeat(10, axis=0)
    apart = score_predictions(ten, p_ten, classes, alone(ten))
    joined = score_predictions(ten, p_ten, classes, np.arange(60).repeat(10))
    single = score_predictions(true, p, classes, np.arange(60))
    assert numbers(joined) == nearly(single)
    for name in ("balanced_accuracy", "macro_f1", "log_loss", "brier", "top5"):
        narrow, wide = scores(apart)[name], scores(joined)[name]
        ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
        assert ratio == pytest.approx(np.sqrt(10), rel=0.15), name


@pytest.mark.parametrize("same_keys", [True, False])
def test_repeats_never_narrow_an_interval(same_keys):
    """Five runs that say the same are as one, even where their groups would set them apart."""
    true, p, classes = random_case(60, 7)
    groups = np.arange(60) // 2
    five = np.tile(groups, 5) if same_keys else np.concatenate([groups, np.arange(100, 340)])
    once = score_predictions(true, p, classes, groups)
    found = score_predictions(np.tile(true, 5), np.tile(p, (5, 1)), classes, five, n_repeats=5)
    assert (found.n_images, found.n_repeats) == (60, 5)
    assert found.accuracy == once.accuracy
    assert numbers(found) == nearly(once)
    assert found.per_class == once.per_class
    assert np.array_equal(found.confusion, 5 * np.array(once.confusion))
    assert [c.n for c in found.confusions] == [5 * c.n for c in once.confusions]


def test_repeats_that_differ_are_averaged():
    """An image right in one run of two is half right; scores pool both runs."""
    true = np.tile(TRUE, 2)
    found = evaluate_labels(true, [*PREDICTED, *TRUE], np.tile(alone(TRUE), 2), n_repeats=2)
    assert found.accuracy == wilson(8.5, 10)
    assert found.confusion == ((7, 1, 0), (1, 5, 0), (0, 1, 5))
    assert [(c.recall, c.images) for c in found.per_class] == [(7 / 8, 4), (5 / 6, 3), (5 / 6, 3)]
    low, high = found.per_class[1].recall_low, found.per_class[1].recall_high
    assert (low, high) == (wilson(2.5, 3).low, wilson(2.5, 3).high)
    assert found.balanced_accuracy.value == pytest.approx((7 / 8 + 5 / 6 + 5 / 6) / 3)


def test_the_interval_follows_the_seed():
    """The same seed gives the same bits; another one moves the intervals a little."""
    true, p, classes = random_case(50, 7)
    first, again, other = (
        score_predictions(true, p, classes, alone(true), seed=s) for s in (0, 0, 1)
    )
    assert first == again
    for name, score in scores(first).items():
        moved = scores(other)[name]
        assert score.value == moved.value
        # In the top five are whole images: the interval may well stay where it is.
        assert score != moved or name == "top5"
        assert score.low == pytest.approx(moved.low, abs=0.05)


def test_keys_may_be_any_numbers():
    """Keys are names: only which of them are equal counts."""
    true, p, classes = random_case(20)
    groups = np.arange(20) // 2
    expected = score_predictions(true, p, classes, groups)
    assert score_predictions(true, p, classes, groups * 1000 - 7) == expected


def test_the_order_of_the_rows_does_not_matter():
    """Rows that change places, with their groups and paths, give the same scores and names."""
    true, p, classes = random_case(60, 7)
    p = p.round(1)  # many mistakes that are equally confident
    groups, paths = np.arange(60) // 3, np.array([f"{i:02}.png" for i in range(60)])
    order = np.random.default_rng(1).permutation(60)
    one = score_predictions(true, p, classes, groups, paths=paths)
    other = score_predictions(true[order], p[order], classes, groups[order], paths=paths[order])
    assert numbers(other) == nearly(one)
    for name in ("accuracy", "per_class", "confusion", "confusions"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize(("n", "k", "n_groups"), [(20_000, 100, 20_000), (2000, 1000, 20)])
def test_the_bootstrap_needs_little_memory(n, k, n_groups):
    """Of many groups, or of many classes, resamples come a few at a time."""
    rng = np.random.default_rng(0)
    classes = [f"{i:03}" for i in range(k)]
    true, p = rng.choice(classes, n), rng.dirichlet(np.ones(k), n)
    tracemalloc.start()
    try:
        score_predictions(true, p, classes, alone(true) % n_groups)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80e6


# form


def test_an_evaluation_is_plain_values():
    """to_dict gives what JSON gives back: lists for tuples, nothing of NumPy's."""
    true, p, classes = random_case(30, 6)
    found = score_predictions(
        true, p, classes, alone(true), paths=np.array([f"{i}.png" for i in range(30)])
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
    assert score_predictions(true, p[:, :5], classes[:5], alone(true)).to_dict()["top5"] is None


def test_a_score_reads_as_a_sentence():
    """A score is printed with its interval."""
    assert str(wilson(8, 10)) == "0.800 (95 % interval 0.490 to 0.943)"


# the difference of two classifiers on the same images


def test_a_paired_difference_is_what_counting_says():
    """Of 10 images one is right on 8 and the other on 6; the interval is of the images' gains."""
    one = np.array([True] * 8 + [False] * 2)
    other = np.array([True] * 5 + [False] * 4 + [True])
    found = paired_difference(one, other, np.arange(10))
    assert found.value == pytest.approx(0.2)
    # Gains are 0 x 6, +1 x 3, -1 x 1: their mean of ten draws has this deviation.
    deviation = np.sqrt((4 / 10 - 0.2**2) / 10)
    assert found.low == pytest.approx(0.2 - 1.96 * deviation, abs=0.06)
    assert found.high == pytest.approx(0.2 + 1.96 * deviation, abs=0.06)


def test_a_paired_difference_changes_its_sign_with_the_order():
    """What one gains the other loses, interval and all."""
    rng = np.random.default_rng(3)
    one, other, groups = rng.random(40) < 0.8, rng.random(40) < 0.6, rng.integers(0, 15, 40)
    there, back = paired_difference(one, other, groups), paired_difference(other, one, groups)
    assert there.value == pytest.approx(np.mean(one) - np.mean(other))
    assert (there.value, there.low, there.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )


def test_what_both_find_hard_does_not_blur_the_difference():
    """Two that err on the same images differ by nothing, and surely."""
    right = np.random.default_rng(0).random(50) < 0.5
    assert paired_difference(right, right, np.arange(50)) == Score(0.0, 0.0, 0.0)


def test_images_of_a_group_are_drawn_together():
    """Twenty images in two groups: each draw has one, the other or both, so that the interval
    reaches from one group's difference to the other's."""
    one = np.array([True] * 20)
    other = np.array([True] * 10 + [False] * 10)
    grouped = paired_difference(one, other, np.repeat([4, 9], 10))
    assert (grouped.value, grouped.low, grouped.high) == (0.5, 0.0, 1.0)
    alone = paired_difference(one, other, np.arange(20))
    assert 0.2 < alone.low < 0.4
    assert 0.6 < alone.high < 0.8
    # Groups of different size: a draw's difference is that of all its images.
    uneven = paired_difference(one, other, np.array([0] * 15 + [1] * 5))
    assert (uneven.low, uneven.value, uneven.high) == pytest.approx((1 / 3, 0.5, 1.0))
