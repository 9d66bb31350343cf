"""Fits: how settings are chosen, which images are fitted on, and which are scored."""

import numpy as np
import pytest
from fits import (
    GRID,
    check_refusal,
    fit,
    labels_of,
    make_codes,
    middle_of_best,
    plain_choice,
    plain_model,
    plain_search,
    split_of,
    unit,
)
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold

from featx.errors import FitError, OptionError
from featx.fitting import CLASSIFIERS, prepare_fit
from featx.fitting.settings import FitSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("clf", ["logistic", "ridge"])
def test_a_penalty_chosen_on_balanced_images_serves_unbalanced_ones(store_of, clf):
    """The fit has more images of one class than the search, and separable classes stay right."""
    labels = [*["a", "b"] * 15, *["a"] * 12, *["b"] * 3, *["a", "b"] * 15]
    codes = make_codes(labels, strength=1.5)
    path = store_of(labels, split_of(train=30, val=15, test=30), codes=codes)
    found = fit(path, clf=clf)
    assert found.evaluation.accuracy.value > 0.9


@pytest.mark.parametrize("clf", ["ridge", "linear-svm"])
def test_the_search_leaves_the_grid_only_for_a_better_accuracy(store_of, clf):
    labels = labels_of(60)
    path = store_of(labels, split_of(train=45, val=15), codes=make_codes(labels, strength=3))
    assert fit(path, clf=clf).to_dict()["tried"][0]["value"] >= 10**-4


def test_the_chosen_penalty_is_one_of_three_per_decade(store_of):
    """No neighbour on the grid is better."""
    labels = labels_of(90)
    codes = make_codes(labels, strength=0.25)
    found = fit(store_of(labels, split_of(train=60, val=30), codes=codes), clf="ridge").to_dict()
    (tried,) = found["tried"]
    assert found["parameters"] == {"alpha": pytest.approx(1 / tried["value"])}
    assert 3 * np.log10(tried["value"]) == pytest.approx(round(3 * np.log10(tried["value"])))
    X, y = unit(codes)[:60], np.array(labels[:60])
    near = [tried["value"] * 10 ** (k / 3) for k in (-2, -1, 0, 1, 2)]
    _, accuracy = plain_choice("ridge", near, X, y)
    assert tried["accuracy"] == pytest.approx(accuracy)


def test_auto_tries_several_classifiers_and_prefers_a_linear_one(store_of):
    labels = labels_of(60)
    path = store_of(labels, split_of(train=40, val=20), codes=make_codes(labels, strength=1))
    found = fit(path, clf="auto", solver="primal").to_dict()
    names = ["logistic", "ridge", "linear-svm", "svm-rbf", "knn", "centroid", "lda"]
    assert {each["classifier"] for each in found["tried"]} <= set(names)
    assert CLASSIFIERS[found["classifier"]].is_linear
    assert found["accuracy"]["value"] > 0.8


def test_auto_finds_classes_that_no_line_separates(store_of):
    rng = np.random.default_rng(0)
    X = 0.3 * rng.standard_normal((120, 64))
    corner = rng.integers(0, 2, (120, 2))
    X[:, :2] += 4 * (2 * corner - 1)
    labels = [f"class {a ^ b}" for a, b in corner]
    path = store_of(
        labels, split_of(train=80, val=40), codes={"block1_conv1": X.astype(np.float32)}
    )
    found = fit(path, clf="auto")
    assert found.to_dict()["classifier"] in {"svm-rbf", "knn"}
    assert found.evaluation.accuracy.value > 0.9


def test_folds_are_scored_by_nested_cross_validation(store_of):
    """Each of five folds has its own search on the other four."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.25)
    found = fit(store_of(labels, codes=codes), clf="ridge", C=GRID)
    X, y = unit(codes), np.array(labels)
    predicted = np.empty_like(y)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        predicted[test] = plain_search("ridge", X[train], y[train]).predict(X[test])
    assert found.to_dict()["scored_on"] == "5 folds"
    assert found.to_dict()["n_train"] == found.evaluation.n_images == 60
    assert np.array_equal(found.evaluation.confusion, confusion_matrix(y, predicted))
    assert found.to_dict()["parameters"] == pytest.approx(plain_search("ridge", X, y).best_params_)


def test_the_test_split_is_scored_after_a_fit_on_train_and_val(store_of):
    """Settings are chosen on folds of train."""
    labels = labels_of(90)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20, test=30), codes=codes)
    found = fit(path, clf="ridge", C=GRID)
    X, y = unit(codes), np.array(labels)
    best = plain_search("ridge", X[:40], y[:40]).best_params_
    plain = RidgeClassifier(**best).fit(X[:60], y[:60])
    assert found.to_dict()["scored_on"] == "test"
    assert found.to_dict()["n_train"] == 60
    assert found.to_dict()["parameters"] == pytest.approx(best)
    assert np.array_equal(
        found.evaluation.confusion, confusion_matrix(y[60:], plain.predict(X[60:]))
    )
    (note,) = found.notes
    assert "folds of train" in note


def test_select_val_chooses_the_penalty_that_is_the_best_on_val(store_of):
    labels = labels_of(90)
    codes = make_codes(labels, strength=0.15)
    path = store_of(labels, split_of(train=40, val=20, test=30), codes=codes)
    found = fit(path, clf="ridge", C=GRID, select="val")
    X, y = unit(codes), np.array(labels)
    on_val = [
        RidgeClassifier(alpha=1 / C).fit(X[:40], y[:40]).score(X[40:60], y[40:60]) for C in GRID
    ]
    position = middle_of_best({"mean_test_score": np.array(on_val)})
    best = {"alpha": pytest.approx(1 / GRID[position])}
    assert found.to_dict()["parameters"] == best
    assert fit(path, clf="ridge", C=GRID).to_dict()["parameters"] != best
    (tried,) = found.to_dict()["tried"]
    assert tried["accuracy"] == max(on_val)
    plain = RidgeClassifier(**found.to_dict()["parameters"]).fit(X[:60], y[:60])
    assert found.evaluation.accuracy.value == plain.score(X[60:], y[60:])
    (note,) = found.notes
    assert "chosen on val" in note


def test_select_val_without_a_test_split_is_refused(store_of):
    path = store_of(labels_of(30), split_of(train=20, val=10))
    facts = ("--select val", path, "train, val")
    check_refusal(OptionError, *facts, codes=path, select="val")
    check_refusal(OptionError, "'test'", "--select", "val", codes=path, select="test")


def test_refit_fits_the_saved_classifier_on_all_images(store_of):
    """The score is that of the classifier without the scored images."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    for name in ("ridge", "svm-rbf"):
        part, whole = fit(path, clf=name, C=[2]), fit(path, clf=name, C=[2], refit="all")
        assert whole.evaluation == part.evaluation
        assert (part.to_dict()["n_train"], whole.to_dict()["n_train"]) == (40, 60)
        assert (len(part.model.fitted_on), len(whole.model.fitted_on)) == (40, 60)
        assert (len(part.notes), len(whole.notes)) == (0, 1)
        plain = plain_model(name, 2, unit(codes), np.array(labels))
        further = make_codes(labels_of(50), strength=0.3, seed=8)
        predicted = whole.model.classifier.predict(further["block1_conv1"])
        assert predicted.tolist() == plain.predict(unit(further)).tolist()


def test_repeats_score_each_image_again_on_other_folds(store_of):
    labels = labels_of(60)
    path = store_of(labels, codes=make_codes(labels, strength=0.25))
    once = fit(path, clf="ridge", C=[1], folds=3)
    twice = fit(path, clf="ridge", C=[1], folds=3, repeats=2)
    assert once.to_dict()["scored_on"] == "3 folds"
    assert twice.to_dict()["scored_on"] == "3 folds, 2 times"
    assert once.evaluation.n_images == twice.evaluation.n_images == 60
    assert (np.sum(once.evaluation.confusion), np.sum(twice.evaluation.confusion)) == (60, 120)
    second = fit(path, clf="ridge", C=[1], folds=3, seed=1)  # has other folds
    assert second.evaluation.confusion != once.evaluation.confusion
    both = np.add(once.evaluation.confusion, second.evaluation.confusion)
    assert np.array_equal(twice.evaluation.confusion, both)
    single = [each.evaluation.accuracy.value for each in (once, second)]
    assert twice.to_dict()["repeat_accuracies"] == single


def test_small_sets_are_scored_repeatedly_and_the_model_stores_how_often(store_of):
    """The score is the mean of the repeats; a stored number makes the same fit again."""
    labels = labels_of(60)
    path = store_of(labels, codes=make_codes(labels, strength=0.25))
    found = fit(path, clf="ridge", C=[1], repeats=None)
    assert found.evaluation.n_repeats == 5
    accuracies = found.to_dict()["repeat_accuracies"]
    assert len(set(accuracies)) > 1  # otherwise repeats prove nothing
    assert found.evaluation.accuracy.value == pytest.approx(np.mean(accuracies))
    stored = FitSettings.from_stored(found.model.provenance["settings"])
    assert stored.repeats == 5
    again = fit(**{**vars(stored), "codes": path})
    assert again.evaluation == found.evaluation


@pytest.mark.parametrize(("n_images", "n_repeats"), [(99, 5), (100, 3), (299, 3), (300, 1)])
def test_the_number_of_repeats_depends_on_the_number_of_images(store_of, n_images, n_repeats):
    job = prepare_fit(store_of(labels_of(n_images)), clf="centroid", baselines=False)
    assert job.settings.repeats == n_repeats
    assert len(job.scored_splits) == 5 * n_repeats
    assert len(job.training_folds) == 5


@pytest.mark.parametrize("settings", [{}, {"solver": "streamed"}])
def test_given_splits_and_the_streamed_solver_are_not_repeated(store_of, settings):
    splits = None if settings else split_of(train=40, val=20)
    found = fit(store_of(labels_of(60), splits), repeats=None, **settings)
    assert found.evaluation.n_repeats == 1
    assert len(found.to_dict()["repeat_accuracies"]) == 1
    assert found.model.provenance["settings"]["repeats"] is None


def test_test_without_val_is_scored(store_of):
    found = fit(store_of(labels_of(60), split_of(train=40, test=20)), clf="ridge", C=[1])
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("test", 40)
    assert found.notes == ()


def test_train_alone_is_scored_on_folds(store_of):
    found = fit(store_of(labels_of(40), [*split_of(train=36), *[None] * 4]), clf="ridge", C=[1])
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("5 folds", 36)
    (note,) = found.notes
    assert "4 images" in note


def test_small_classes_make_fewer_folds(store_of):
    labels = [*["a"] * 12, *["b"] * 3]
    found = fit(store_of(labels, codes=make_codes(labels, strength=2)), clf="linear-svm", C=[1])
    assert found.to_dict()["scored_on"] == "3 folds"
    (note,) = found.notes
    assert all(fact in note for fact in ("3 folds", "5", "class b has 3"))


def test_images_without_a_label_are_left_out(store_of):
    labels = [*labels_of(28), None, *labels_of(9), None]
    found = fit(store_of(labels, split_of(train=29, val=10)), clf="ridge", C=[1])
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (28, 9)
    (note,) = found.notes
    assert "2 images" in note


def test_failed_images_are_left_out_and_counted_by_class(store_of):
    labels = [*labels_of(36), None]
    failed = dict.fromkeys((0, 3, 4, 36), "no pixels")
    path = store_of(labels, split_of(train=27, val=10), failed=failed)
    found = fit(path, clf="ridge", C=[1])
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (24, 9)
    (note,) = found.notes
    facts = ("4 images", "2 of class 0, 1 of class 1, 1 of no class", f"featx info {path} --bad")
    assert all(fact in note for fact in facts)


@pytest.mark.parametrize("name", ["logistic", "ridge", "svm-rbf", "knn", "centroid"])
def test_the_defaults_of_scikit_learn_are_used_if_there_are_too_few_images_to_search(
    store_of, name
):
    """There is one training image of each class."""
    labels = ["a", "b"] * 3
    path = store_of(labels, split_of(train=2, val=4), codes=make_codes(labels, strength=3))
    found = fit(path, clf=name)
    assert set(found.to_dict()["parameters"]) == ({"gamma"} if name == "svm-rbf" else set())
    assert found.to_dict()["tried"] == []
    # No calibration, no search, and an interval from four images.
    assert len(found.notes) == (2 if name == "centroid" else 3)
    np.testing.assert_allclose(
        found.model.predict_proba(make_codes(labels)["block1_conv1"]).sum(axis=1), 1
    )


def test_too_few_images_for_lda_are_refused(store_of):
    labels = ["a", "b"] * 3
    path = store_of(labels, split_of(train=2, val=4), codes=make_codes(labels, strength=3))
    check_refusal(FitError, "lda", "2 images", codes=path, clf="lda")
