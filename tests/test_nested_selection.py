"""Codes that compete: judged on rows held out, and the choice of the best judged too."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from featx.dataset.folds import make_folds
from featx.fitting import prepare_fit
from featx.fitting.cross_validation import cross_validate
from featx.fitting.learning_curve import _draw, learning_curve
from featx.fitting.nested_selection import compare, select_nested
from featx.fitting.run import fit
from featx.recipe import Recipe

LABELS = ("ant", "bee", "cat")


@pytest.fixture
def job_of(tmp_path, make_store):
    """Return what makes a job of codes (n, 64): label by row, and whatever store facts."""

    def call(codes, labels, name="codes", clf="logistic", C=None, **facts):
        recipe = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))
        n = len(codes)
        facts.setdefault("paths", [f"{k:03}.png" for k in range(n)])
        facts.setdefault("sha256", [f"{k:064}" for k in range(n)])
        path = make_store(
            tmp_path / f"{name}.h5",
            {"block1_conv1": codes.astype(np.float32)},
            recipe=recipe,
            labels=list(labels),
            **facts,
        )
        return prepare_fit(path, clf=clf, C=C, baselines=False, duplicates="keep")

    return call


def codes_of(n, signal, seed=0):
    """Return labels, and codes that know them as well as the signal is strong."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    codes = rng.normal(0, 1, (n, 64))
    codes[np.arange(n), y] += signal
    return np.array(LABELS)[y], codes


def test_each_row_is_predicted_as_featx_fit_predicts_it_held_out(job_of):
    labels, codes = codes_of(90, 2.0)
    job = job_of(codes, labels)
    judged = cross_validate(job)
    expected = fit(job.joined.paths[0], baselines=False, duplicates="keep").evaluation
    assert judged.evaluation().to_dict() == dataclasses.replace(expected).to_dict() | {
        "confusions": judged.evaluation().to_dict()["confusions"]
    }
    assert judged.correct.mean() == expected.accuracy.value


def test_a_fold_is_predicted_by_plain_scikit_learn_fitted_on_the_others(job_of):
    labels, codes = codes_of(60, 2.0)
    judged = cross_validate(job_of(codes, labels, C=10.0))
    X = normalize(codes.astype(np.float32).astype(float))
    pairs = make_folds(labels, np.arange(60), 0, 5)
    for part, (fitted, held) in enumerate(pairs):
        plain = LogisticRegression(C=10.0, tol=1e-10, max_iter=10_000).fit(
            X[fitted], labels[fitted]
        )
        assert sorted(np.flatnonzero(judged.fold == part)) == sorted(held)
        own = np.array(judged.classes)[judged.probabilities[held].argmax(axis=1)]
        np.testing.assert_array_equal(own, plain.predict(X[held]))


def test_inside_is_known_before_the_fold_is_seen(job_of):
    """Labels of a held-out fold changed: what is known inside that fold is the same."""
    labels, codes = codes_of(60, 1.0)
    before = cross_validate(job_of(codes, labels, C=10.0))
    held = before.fold == 2
    turned = codes.copy()
    turned[held] = -turned[held]
    after = cross_validate(job_of(turned, labels, name="turned", C=10.0))
    assert after.search_accuracy[2] == before.search_accuracy[2]
    assert (after.search_accuracy[[0, 1, 3, 4]] != before.search_accuracy[[0, 1, 3, 4]]).any()


def test_the_choice_is_made_inside_each_fold_and_scored_outside(job_of):
    """Two codes, each good on what the other is not: the folds decide which is taken."""
    labels, codes = codes_of(60, 1.0)
    one = cross_validate(job_of(codes, labels, name="one", C=10.0))
    other = cross_validate(job_of(codes_of(60, 1.0, seed=2)[1], labels, name="other", C=10.0))
    chosen, which = select_nested([one, other])
    assert which == [
        int(b > a) for a, b in zip(one.search_accuracy, other.search_accuracy, strict=True)
    ]
    assert set(which) == {0, 1}  # else this test shows nothing
    for part, k in enumerate(which):
        rows = one.fold == part
        np.testing.assert_array_equal(
            chosen.probabilities[rows], (one, other)[k].probabilities[rows]
        )


def test_of_equals_the_first_is_chosen(job_of):
    labels, codes = codes_of(60, 1.0)
    judged = cross_validate(job_of(codes, labels, C=10.0))
    assert select_nested([judged, judged])[1] == [0] * 5


def test_what_could_not_be_searched_is_the_last_to_be_chosen(job_of):
    labels, codes = codes_of(60, 1.0)
    judged = cross_validate(job_of(codes, labels, C=10.0))
    unknown = dataclasses.replace(judged, search_accuracy=np.full(5, np.nan))
    assert select_nested([unknown, judged])[1] == [1] * 5


def test_noise_chosen_among_many_scores_as_noise(job_of):
    """Twenty codes that know nothing: the best looks better than chance; the choice does not.

    That is what the nested score is for.
    """
    labels = codes_of(90, 0)[0]
    rng = np.random.default_rng(3)
    judged = [
        cross_validate(job_of(rng.normal(0, 1, (90, 64)), labels, name=str(k), C=1.0))
        for k in range(20)
    ]
    best = max(each.correct.mean() for each in judged)
    chosen, _ = select_nested(judged)
    assert best > 0.37
    assert chosen.correct.mean() < best - 0.03
    assert abs(chosen.correct.mean() - 1 / 3) < 0.1


def test_a_difference_is_of_the_same_images(job_of):
    labels, codes = codes_of(90, 1.5)
    good = cross_validate(job_of(codes, labels, name="good", C=10.0))
    bad = cross_validate(job_of(codes_of(90, 0)[1], labels, name="bad", C=10.0))
    gain = compare(good, bad)
    assert gain.value == pytest.approx(good.correct.mean() - bad.correct.mean())
    assert gain.low > 0
    assert compare(good, good).low == compare(good, good).high == 0


def test_with_splits_only_the_training_part_is_judged(job_of):
    labels, codes = codes_of(90, 2.0)
    splits = ["train"] * 60 + ["val"] * 30
    judged = cross_validate(job_of(codes, labels, splits=splits, C=10.0))
    assert len(judged.y) == 60
    other = codes.copy()
    other[60:] = 0
    again = cross_validate(job_of(other, labels, name="other", splits=splits, C=10.0))
    np.testing.assert_array_equal(judged.probabilities, again.probabilities)
    points, _ = learning_curve(
        job_of(codes, labels, name="curve", splits=splits, C=10.0), [0.5, 1.0]
    )
    assert [len(point.predictions.y) for point in points] == [60, 60]


def test_the_curve_learns_from_nested_shares_and_ends_as_the_whole(job_of):
    labels, codes = codes_of(150, 1.0)
    job = job_of(codes, labels, C=10.0)
    points, notes = learning_curve(job)
    assert [point.fraction for point in points] == [0.25, 0.5, 1.0]
    assert [point.n_train for point in points] == [30, 60, 120]
    assert notes == [
        "10% of the images leave 4 of a class to learn from: that point of the curve is left "
        "out, since fewer than 5 say little."
    ]
    assert points[-1].accuracy == cross_validate(job).evaluation().accuracy
    assert points[0].accuracy.value < points[-1].accuracy.value


def test_what_belongs_together_is_drawn_together(job_of):

    labels, codes = codes_of(90, 1.0)
    job = job_of(codes, labels, groups=[f"g{k // 6}" for k in range(90)])
    rows = np.arange(90)
    few, more = _draw(job, rows, 0.2), _draw(job, rows, 0.5)
    assert set(few) < set(more) < set(rows)
    for own in (few, more):
        for label in LABELS:
            drawn = own[labels[own] == label]
            for key in np.unique(job.groups[drawn]):
                whole = np.flatnonzero((job.groups == key) & (labels == label))
                assert set(whole) <= set(drawn)
    assert 16 <= len(few) <= 24
