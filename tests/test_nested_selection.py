"""Held-out predictions, the nested selection of the best codes, and the learning curve."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from featx.dataset.folds import make_folds
from featx.fitting import prepare_fit
from featx.fitting.cross_validation import compare, cross_validate, select_nested
from featx.fitting.learning_curve import _draw, learning_curve
from featx.fitting.run import fit
from featx.recipe import Recipe

LABELS = ("ant", "bee", "cat")


@pytest.fixture
def job_of(tmp_path, make_store):
    """Return a function that stores codes (n, 64) and prepares a fit on them."""

    def call(codes, labels, name="codes", clf="ridge", C=None, **facts):
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
    """Return labels, and codes that depend on them by `signal`."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    codes = rng.normal(0, 1, (n, 64))
    codes[np.arange(n), y] += signal
    return np.array(LABELS)[y], codes


def test_each_row_is_predicted_as_featx_fit_predicts_it_held_out(job_of):
    labels, codes = codes_of(90, 2.0)
    job = job_of(codes, labels, clf="ridge")
    predictions = cross_validate(job)
    settings = {"clf": "ridge", "baselines": False, "duplicates": "keep", "repeats": 1}
    expected = fit(job.joined.paths[0], **settings).evaluation
    assert predictions.evaluation(job).to_dict() == expected.to_dict()
    assert predictions.correct.mean() == expected.accuracy.value


def test_a_fold_is_predicted_by_plain_scikit_learn_fitted_on_the_others(job_of):
    labels, codes = codes_of(60, 2.0)
    predictions = cross_validate(job_of(codes, labels, clf="logistic", C=10.0))
    X = normalize(codes.astype(np.float32).astype(float))
    pairs = make_folds(labels, np.arange(60), 0, 5)
    for fold, (fitted, held) in enumerate(pairs):
        plain = LogisticRegression(C=10.0, tol=1e-10, max_iter=10_000).fit(
            X[fitted], labels[fitted]
        )
        assert sorted(np.flatnonzero(predictions.fold == fold)) == sorted(held)
        own = np.array(predictions.classes)[predictions.probabilities[held].argmax(axis=1)]
        np.testing.assert_array_equal(own, plain.predict(X[held]))


def test_the_search_accuracy_of_a_fold_does_not_depend_on_its_held_out_rows(job_of):
    """Codes that change in one fold change the search accuracy of the other folds alone."""
    labels, codes = codes_of(60, 1.0)
    before = cross_validate(job_of(codes, labels, C=10.0))
    held = before.fold == 2
    turned = codes.copy()
    turned[held] = -turned[held]
    after = cross_validate(job_of(turned, labels, name="turned", C=10.0))
    assert after.search_accuracy[2] == before.search_accuracy[2]
    assert (after.search_accuracy[[0, 1, 3, 4]] != before.search_accuracy[[0, 1, 3, 4]]).any()


def test_each_fold_chooses_by_its_training_set(job_of):
    """Of two codes, each is the better one in some folds."""
    labels, codes = codes_of(60, 1.0)
    one = cross_validate(job_of(codes, labels, name="one", C=10.0))
    other = cross_validate(job_of(codes_of(60, 1.0, seed=2)[1], labels, name="other", C=10.0))
    chosen, which = select_nested([one, other])
    assert which == [
        int(b > a) for a, b in zip(one.search_accuracy, other.search_accuracy, strict=True)
    ]
    assert set(which) == {0, 1}  # otherwise this test proves nothing
    for fold, k in enumerate(which):
        rows = one.fold == fold
        np.testing.assert_array_equal(
            chosen.probabilities[rows], (one, other)[k].probabilities[rows]
        )


def test_the_first_of_equal_candidates_is_chosen(job_of):
    labels, codes = codes_of(60, 1.0)
    predictions = cross_validate(job_of(codes, labels, C=10.0))
    assert select_nested([predictions, predictions])[1] == [0] * 5


def test_a_candidate_without_a_search_accuracy_is_chosen_last(job_of):
    labels, codes = codes_of(60, 1.0)
    predictions = cross_validate(job_of(codes, labels, C=10.0))
    unknown = dataclasses.replace(predictions, search_accuracy=np.full(5, np.nan))
    assert select_nested([unknown, predictions])[1] == [1] * 5


def test_the_best_of_many_useless_codes_scores_at_chance(job_of):
    """The best of twenty codes is more accurate than chance, and the nested selection is not."""
    labels = codes_of(90, 0)[0]
    rng = np.random.default_rng(3)
    predictions = [
        cross_validate(job_of(rng.normal(0, 1, (90, 64)), labels, name=str(k), clf="centroid"))
        for k in range(20)
    ]
    best = max(each.correct.mean() for each in predictions)
    chosen, _ = select_nested(predictions)
    assert best > 0.37
    assert chosen.correct.mean() < best - 0.03
    assert abs(chosen.correct.mean() - 1 / 3) < 0.1


def test_a_difference_is_that_of_the_accuracies_with_an_interval(job_of):
    labels, codes = codes_of(90, 1.5)
    good = cross_validate(job_of(codes, labels, name="good", C=10.0))
    bad = cross_validate(job_of(codes_of(90, 0)[1], labels, name="bad", C=10.0))
    gain = compare(good, bad)
    assert gain.value == pytest.approx(good.correct.mean() - bad.correct.mean())
    assert gain.low > 0
    same = compare(good, good)
    assert same.value == 0
    assert same.low == pytest.approx(-same.high)
    assert -0.1 < same.low < 0


def test_a_given_test_set_is_not_used(job_of):
    labels, codes = codes_of(90, 2.0)
    splits = ["train"] * 60 + ["val"] * 30
    predictions = cross_validate(job_of(codes, labels, splits=splits, C=10.0))
    assert len(predictions.y) == 60
    other = codes.copy()
    other[60:] = 0
    again = cross_validate(job_of(other, labels, name="other", splits=splits, C=10.0))
    np.testing.assert_array_equal(predictions.probabilities, again.probabilities)
    points, _ = learning_curve(
        [job_of(codes, labels, name="curve", splits=splits, C=10.0)] * 5, [0.5, 1.0]
    )
    assert [len(point.predictions.y) for point in points] == [60, 60]


def test_the_learning_curve_has_larger_training_sets_and_ends_with_all_images(job_of):
    labels, codes = codes_of(150, 1.0)
    job = job_of(codes, labels, C=10.0)
    points, notes = learning_curve([job] * 5)
    assert [point.fraction for point in points] == [0.25, 0.5, 1.0]
    assert [point.n_train for point in points] == [30, 60, 120]
    (note,) = notes
    assert "10%" in note
    assert "4 training images" in note
    assert points[-1].accuracy == cross_validate(job).evaluation().accuracy
    assert points[0].accuracy.value < points[-1].accuracy.value


def test_each_fold_of_the_learning_curve_has_its_own_codes(job_of):
    """With all images, it is the nested score."""
    labels, _ = codes_of(60, 1.0)
    jobs = [
        job_of(codes_of(60, 1.0, seed=seed)[1], labels, name=str(seed), C=10.0) for seed in (0, 2)
    ]
    chosen, which = select_nested([cross_validate(job) for job in jobs])
    assert set(which) == {0, 1}  # otherwise this test proves nothing
    points, _ = learning_curve([jobs[k] for k in which], [0.5, 1.0])
    last = points[-1].predictions
    assert points[-1].accuracy == chosen.accuracy
    np.testing.assert_array_equal(last.rows, chosen.rows)
    np.testing.assert_array_equal(last.probabilities, chosen.probabilities)
    assert last.n_folds == points[0].predictions.n_folds == 5


def test_images_of_a_group_are_drawn_together(job_of):
    labels, codes = codes_of(90, 1.0)
    job = job_of(codes, labels, groups=[f"g{k // 6}" for k in range(90)])
    rows = np.arange(90)
    few, more = _draw(job, rows, 0.2), _draw(job, rows, 0.5)
    assert set(few) < set(more) < set(rows)
    for own in (few, more):
        for label in LABELS:
            drawn = own[labels[own] == label]
            for group in np.unique(job.groups[drawn]):
                whole = np.flatnonzero((job.groups == group) & (labels == label))
                assert set(whole) <= set(drawn)
    assert 16 <= len(few) <= 24
