"""Scores compared with results by hand, of scikit-learn and SciPy, and of simulations."""

import json
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from sklearn.metrics import log_loss as log_loss_score

from featx.metrics.evaluation import Confusion, score_predictions
from featx.metrics.intervals import Score, proportion

TRUE = np.array(list("aaaabbbccc"))
PREDICTED = np.array(list("aaabbbaccb"))
SCORES = (
    "accuracy",
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
    """Return the scores that are defined."""
    return {name: getattr(found, name) for name in SCORES if getattr(found, name) is not None}


def nearly(found) -> dict[str, tuple]:
    """Return these scores, with a tolerance for another order of sums."""
    return {
        name: pytest.approx(_numbers(score), abs=1e-12, nan_ok=True)
        for name, score in scores(found).items()
    }


def numbers(found) -> dict[str, tuple[float, float, float]]:
    return {name: _numbers(score) for name, score in scores(found).items()}


def _numbers(score: Score) -> tuple[float, float, float]:
    """Return value, low and high; NaN for an interval that does not exist."""
    return score.value, *(score.interval or (np.nan, np.nan))


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
    # f1 is 2pr/(p + r).
    recalls = {n: proportion(np.arange(n) > 0, np.arange(n)) for n in (3, 4)}
    expected = (
        ("a", 3 / 4, 3 / 4, 3 / 4, 4),
        ("b", 2 / 4, 2 / 3, 4 / 7, 3),
        ("c", 1.0, 2 / 3, 4 / 5, 3),
    )
    for each, (label, p, r, f, n) in zip(found.per_class, expected, strict=True):
        assert (each.label, each.images) == (label, n)
        values = (each.precision, each.recall, each.f1, each.recall_low, each.recall_high)
        assert values == pytest.approx((p, r, f, *recalls[n].interval))


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
    """Scores equal scikit-learn's; losses are those of the images of known classes.

    Some probabilities are 0 or 1, so that logarithms are clipped.
    """
    classes, true = list("abcdefgh"[:k]), np.array(true)
    p = np.random.default_rng(seed).dirichlet(np.ones(k), len(true))
    p[:sure] = p[:sure] == p[:sure].max(axis=1, keepdims=True)
    found = score_predictions(true, p, classes, each_alone(true))
    predicted = np.array(classes)[p.argmax(1)]
    is_known = np.isin(true, classes)
    expected = {
        "accuracy": accuracy_score(true, predicted),
        "balanced_accuracy": balanced_accuracy_score(true, predicted),
        "macro_f1": f1_score(true, predicted, average="macro", zero_division=0),
    }
    if is_known.any():
        own, of_own = true[is_known], p[is_known]
        expected |= {
            "log_loss": log_loss_score(own, of_own, labels=classes),
            "brier": brier_score_loss(own, of_own, labels=classes, scale_by_half=False),
        }
    else:
        assert found.log_loss is found.brier is None
    for name, value in expected.items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-12), name
    assert found.labels == tuple(sorted({*true.tolist(), *predicted.tolist()}))
    assert np.array_equal(found.confusion, confusion_matrix(true, predicted, labels=found.labels))
    by_class = precision_recall_fscore_support(
        true, predicted, labels=found.labels, zero_division=0
    )
    rows = [(c.precision, c.recall, c.f1, c.images) for c in found.per_class]
    np.testing.assert_allclose(rows, np.transpose(by_class), atol=1e-12)
    for name, score in scores(found).items():
        if score.interval is None:
            assert name == "calibration_error" or np.sum(is_known) < 2, name
            continue
        assert 0 <= score.low <= score.value <= score.high
        assert name in {"log_loss", "brier"} or score.high <= 1


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
    """It is one of the labels, and log loss and Brier score leave it out and say so."""
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7]])
    found = score_predictions(
        np.array(["a", "b", "z"]), p, ["a", "c"], np.arange(3), paths=list("123")
    )
    assert found.labels == ("a", "b", "c", "z")
    assert found.accuracy.value == 1 / 3
    assert found.confusion == ((1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0))
    assert found.confusions == (Confusion("b", "a", 1, ("2",)), Confusion("z", "c", 1, ("3",)))
    # Only the first image is of a class that has a probability.
    assert found.log_loss.value == pytest.approx(-np.log(0.6))
    assert found.brier.value == pytest.approx(0.32)
    # Two rows at 0.6, one of them correct, and a wrong one at 0.7.
    assert found.calibration_error.value == pytest.approx((2 * 0.1 + 0.7) / 3)
    (note,) = [each for each in found.notes if "log loss" in each]
    assert "2 images" in note
    assert "'b', 'z'" in note


def test_a_class_that_a_model_was_not_fitted_on_is_left_out_of_losses():
    """In cross-validation, a class of one image has a column, but no model of it knew the class."""
    true = np.array(["a", "a", "b", "b", "rare"] * 2)
    p = np.tile(certain("aabbb", ["a", "b", "rare"], 0.8), (2, 1))
    known = true != "rare"
    found = score_predictions(
        true, p, ["a", "b", "rare"], np.arange(10) % 5, known=known, n_repeats=2, n_folds=2
    )
    assert found.accuracy.value == 0.8
    assert found.log_loss.value == pytest.approx(-np.log(0.8))
    assert found.brier.value == pytest.approx(0.2**2 + 2 * 0.1**2)
    (note,) = [each for each in found.notes if "log loss" in each]
    assert "1 image " in note
    assert "'rare'" in note
    assert (found.n_groups, found.n_folds) == (5, 2)


def test_given_labels_replace_the_most_probable_ones():
    """Accuracy, confusions and calibration are those of the labels; losses do not change."""
    true, p = np.array(["a", "a", "b"]), np.array([[0.6, 0.4], [0.9, 0.1], [0.55, 0.45]])
    by_most, by_label = (
        score_predictions(true, p, ["a", "b"], np.arange(3), predicted=predicted)
        for predicted in (None, np.array(["b", "a", "b"]))
    )
    assert by_most.accuracy.value == by_label.accuracy.value == 2 / 3
    assert by_label.confusion == ((1, 1), (0, 1))
    assert by_label.confusions == (Confusion("a", "b", 1, ()),)
    assert by_label.calibration_error.value == pytest.approx((0.4 + 0.1 + 0.55) / 3)
    assert by_label.log_loss == by_most.log_loss


def test_a_class_without_images_or_predictions_has_score_0():
    """Recall is 0 without images; precision is 0 without predictions."""
    found = score_labels(np.array(["a", "a", "b"]), ["a", "z", "a"], np.arange(3), "abz")
    assert [(c.label, c.precision, c.recall, c.f1, c.images) for c in found.per_class] == [
        ("a", 0.5, 0.5, 0.5, 2),
        ("b", 0.0, 0.0, 0.0, 1),
        ("z", 0.0, 0.0, 0.0, 0),
    ]
    assert found.per_class[2].recall_score.interval is None
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
        assert found.balanced_accuracy == found.accuracy == proportion(y == "a", np.arange(2))
        assert found.calibration_error == Score(0.0)


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


# groups and repeats


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
    for name in ("confusion", "confusions"):
        assert getattr(one, name) == getattr(other, name)
    for mine, theirs in zip(one.per_class, other.per_class, strict=True):
        assert mine.recall_score.interval == pytest.approx(theirs.recall_score.interval)


@pytest.mark.parametrize(("n", "k", "n_groups"), [(10_000, 50, 10_000), (300, 1000, 20)])
def test_intervals_need_little_memory(n, k, n_groups):
    """No array has a cell for each group and each class."""
    rng = np.random.default_rng(0)
    classes = [f"{i:03}" for i in range(k)]
    true, p = rng.choice(classes, n), rng.dirichlet(np.ones(k), n)
    tracemalloc.start()
    try:
        score_predictions(true, p, classes, each_alone(true) % n_groups)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6


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


def test_the_interval_of_the_brier_score_ends_at_its_largest_value():
    """With two groups, the interval would be wider than the range of the score."""
    y, p = np.array(["a", "b"] * 4), np.array([[0.7, 0.3], [0.4, 0.6]] * 4)
    found = score_predictions(y, p, ["a", "b"], np.arange(8) // 4)
    assert found.brier.high == 2
    assert found.log_loss.high > 2
