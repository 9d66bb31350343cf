"""Scores against numbers worked out by hand, by scikit-learn and by SciPy."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from featx.classification import evaluate
from featx.classification.evaluation import ClassScore, wilson

TRUE = np.array(list("aaaabbbccc"))
PREDICTED = np.array(list("aaabbbaccb"))


def alone(y) -> np.ndarray:
    """Keys of images that belong to nothing else."""
    return np.arange(len(y))


def test_scores_by_hand():
    """Ten images worked out by hand: 3 of 4, 2 of 3 and 2 of 3 are right."""
    found = evaluate(TRUE, PREDICTED, alone(TRUE))
    assert found.n_images == 10
    assert found.accuracy.value == 0.7
    assert found.balanced_accuracy.value == pytest.approx((3 / 4 + 2 / 3 + 2 / 3) / 3, abs=1e-15)
    assert found.confusion == ((3, 1, 0), (1, 2, 0), (0, 1, 2))
    # precision: right / predicted so; f1: 2pr/(p + r)
    assert found.per_class == (
        ClassScore("a", pytest.approx(3 / 4), pytest.approx(3 / 4), pytest.approx(3 / 4), 4),
        ClassScore("b", pytest.approx(2 / 4), pytest.approx(2 / 3), pytest.approx(4 / 7), 3),
        ClassScore("c", 1.0, pytest.approx(2 / 3), pytest.approx(4 / 5), 3),
    )


labels = st.lists(st.sampled_from("abcd"), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), true=labels)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_scores_are_those_of_scikit_learn(data, true):
    """Balanced accuracy and confusion equal scikit-learn's, also for labels never seen."""
    n = len(true)
    predicted = data.draw(st.lists(st.sampled_from("abcde"), min_size=n, max_size=n))
    true, predicted = np.array(true), np.array(predicted)
    found = evaluate(true, predicted, alone(true))
    expected = balanced_accuracy_score(true, predicted)
    assert found.balanced_accuracy.value == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(found.confusion, confusion_matrix(true, predicted))
    assert found.accuracy.value == np.mean(true == predicted)
    for score in (found.accuracy, found.balanced_accuracy):
        assert 0 <= score.low <= score.value + 1e-12
        assert score.value - 1e-12 <= score.high <= 1


def test_a_class_without_images_or_predictions_counts_0():
    """A label only predicted has recall 0 of 0 images; one never predicted has precision 0."""
    found = evaluate(np.array(["a", "a", "b"]), np.array(["a", "z", "a"]), np.arange(3))
    assert [(c.label, c.precision, c.recall, c.images) for c in found.per_class] == [
        ("a", 0.5, 0.5, 2),
        ("b", 0.0, 0.0, 1),
        ("z", 0.0, 0.0, 0),
    ]
    assert found.balanced_accuracy.value == 0.25  # of a and b; nothing is truly z


# intervals


def test_wilson_by_hand():
    """8 of 10 by the formula: (0.8 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10), z = 1.96."""
    score = wilson(8, 10)
    assert score.value == 0.8
    # z² = 3.841459; middle 0.992073/1.384146; half 1.959964 * 0.160010/1.384146
    assert score.low == pytest.approx(0.490162, abs=1e-6)
    assert score.high == pytest.approx(0.943318, abs=1e-6)


@pytest.mark.parametrize("n", [1, 7, 16, 27, 100])
def test_wilson_is_scipys(n):
    """For every count the interval is that of SciPy, and lies between 0 and 1."""
    for n_right in range(n + 1):
        expected = binomtest(n_right, n).proportion_ci(method="wilson")
        found = wilson(n_right, n)
        assert found.low == pytest.approx(expected.low, abs=1e-12)
        assert found.high == pytest.approx(expected.high, abs=1e-12)
        assert 0 <= found.low <= found.high <= 1


def random_labels(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.choice(list("abc"), n)
    return true, np.where(rng.random(n) < 0.7, true, rng.choice(list("abc"), n))


def test_the_bootstrap_interval_is_about_that_of_theory():
    """Where classes are large, the interval is near the normal one of a mean of recalls."""
    true, predicted = random_labels(600)
    score = evaluate(true, predicted, alone(true)).balanced_accuracy
    recalls = [np.mean(predicted[true == c] == c) for c in "abc"]
    counts = [np.sum(true == c) for c in "abc"]
    error = np.sqrt(sum(r * (1 - r) / n for r, n in zip(recalls, counts, strict=True))) / 3
    assert score.low == pytest.approx(score.value - 1.96 * error, abs=0.2 * error)
    assert score.high == pytest.approx(score.value + 1.96 * error, abs=0.2 * error)


def test_images_that_belong_together_widen_the_interval():
    """Ten copies of each image carry no more news than one: the interval is √10 as wide."""
    true, predicted = random_labels(60)
    true, predicted = true.repeat(10), predicted.repeat(10)
    apart = evaluate(true, predicted, alone(true)).balanced_accuracy
    joined = evaluate(true, predicted, np.arange(60).repeat(10)).balanced_accuracy
    single = evaluate(true[::10], predicted[::10], np.arange(60)).balanced_accuracy
    assert joined.value == apart.value == single.value
    assert (joined.low, joined.high) == (single.low, single.high)
    ratio = (joined.high - joined.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


def test_the_interval_follows_the_seed():
    """The same seed gives the same interval; another one moves it a little."""
    true, predicted = random_labels(50)
    first, again, other = (
        evaluate(true, predicted, alone(true), seed=seed).balanced_accuracy for seed in (0, 0, 1)
    )
    assert first == again
    assert first.value == other.value
    assert first != other
    assert first.low == pytest.approx(other.low, abs=0.03)


def test_keys_may_be_any_numbers():
    """Keys are names: only which of them are equal counts."""
    true, predicted = random_labels(20)
    keys = np.arange(20) // 2
    assert evaluate(true, predicted, keys) == evaluate(true, predicted, keys * 1000 - 7)


def test_an_evaluation_is_plain_values():
    """to_dict survives JSON unchanged, but for tuples that become lists."""
    found = evaluate(TRUE, PREDICTED, alone(TRUE)).to_dict()
    assert json.loads(json.dumps(found)) == {
        "n_images": 10,
        "accuracy": {"value": 0.7, **_ends(found["accuracy"])},
        "balanced_accuracy": {
            "value": pytest.approx(25 / 36),
            **_ends(found["balanced_accuracy"]),
        },
        "per_class": [
            {
                "label": label,
                "precision": pytest.approx(p),
                "recall": pytest.approx(r),
                "f1": pytest.approx(f),
                "images": n,
            }
            for label, p, r, f, n in (
                ("a", 3 / 4, 3 / 4, 3 / 4, 4),
                ("b", 2 / 4, 2 / 3, 4 / 7, 3),
                ("c", 1, 2 / 3, 4 / 5, 3),
            )
        ],
        "confusion": [[3, 1, 0], [1, 2, 0], [0, 1, 2]],
    }


def _ends(score: dict) -> dict:
    return {"low": score["low"], "high": score["high"]}


def test_a_score_reads_as_a_sentence():
    """A score is printed with its interval."""
    assert str(wilson(8, 10)) == "0.800 (95 % interval 0.490 to 0.943)"


def test_one_label_alone_is_scored_without_a_warning():
    """Where all true and predicted labels are one, the matrix is one number."""
    y = np.array(["a", "a"])
    assert evaluate(y, y, np.arange(2)).confusion == ((2,),)
