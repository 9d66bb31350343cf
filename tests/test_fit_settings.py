"""Fits: settings, labels and stores that are refused, most of them before any work."""

import h5py
import numpy as np
import pytest
from fits import TWO, check_refusal, fit, fit_with_baselines, labels_of, make_codes, split_of

from featx.errors import ExistsError, FitError, OptionError, StoreError
from featx.fitting.settings import FitSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def test_settings_are_stored_as_plain_values_that_make_them_again():
    settings = FitSettings(
        "codes.h5", C=np.float64(2), components=np.int64(3), settings={"tol": np.float32(0.5)}
    )
    stored = settings.stored()
    assert (stored["C"], stored["components"], stored["settings"]) == ([2.0], 3, {"tol": 0.5})
    again = FitSettings("codes.h5", **stored)
    assert again.search_space() == settings.search_space()
    assert again.stored() == stored
    assert not {"codes", "output", "overwrite", "partial", "baselines"} & set(stored)


# settings that are refused before any work: the store does not exist


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"folds": 1}, ["--folds", "1"]),
        ({"repeats": 0}, ["--repeats", "0"]),
        ({"seed": -1}, ["--seed", "-1"]),
        ({"components": 0}, ["--components", "0"]),
        ({"whiten": True}, ["--whiten", "--components"]),
        ({"C": [0]}, ["--C", "0"]),
        ({"C": [1, -2]}, ["--C", "1, -2"]),
        ({"C": [float("nan")]}, ["--C", "nan"]),
        ({"C": [float("inf")]}, ["--C", "inf"]),
        ({"C": []}, ["--C"]),
        ({"C": [1], "settings": {"C": 2}}, ["--C", "--set C"]),
        ({"clf": "auto", "settings": {"C": 1}}, ["--set", "--clf auto", "logistic, ridge"]),
        ({"clf": "knn", "class_weight": "balanced"}, ["knn", "--class-weight", "--clf logistic"]),
        ({"clf": "centroid", "class_weight": "balanced"}, ["centroid", "--class-weight"]),
        ({"clf": "lda", "class_weight": "balanced"}, ["lda", "--class-weight"]),
    ],
    ids=str,
)
def test_settings_that_are_not_allowed_are_refused(tmp_path, settings, facts):
    check_refusal(OptionError, *facts, codes=tmp_path / "none.h5", **settings)


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("clf", "forest", "logistic, ridge"),
        ("normalise", "l1", "l2, centre, sqrt-l2, none, auto"),
        ("solver", "dual", "auto, primal, gram, streamed"),
        ("calibration", "platt", "temperature, sigmoid, isotonic, none"),
        ("class_weight", "some", "balanced"),
        ("refit", "some", "all"),
        ("select", "test", "val"),
        ("duplicates", "some", "together, keep"),
    ],
)
def test_an_unknown_value_is_refused_with_those_that_exist(tmp_path, name, value, choices):
    facts = (f"'{value}'", f"--{name.replace('_', '-')}", choices)
    check_refusal(OptionError, *facts, codes=tmp_path / "none.h5", **{name: value})


def test_penalties_for_a_classifier_without_one_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"knn.*--C.*--clf.*logistic, ridge"):
        fit_with_baselines(tmp_path / "none.h5", clf="knn", C=[1])


def test_an_existing_output_is_refused(tmp_path):
    output = tmp_path / "model.skops"
    output.write_text("mine")
    check_refusal(ExistsError, output, "--overwrite", codes=tmp_path / "none.h5", output=output)
    assert output.read_text() == "mine"


@pytest.mark.parametrize("name", ["model.pkl", "model"])
def test_another_suffix_is_refused(tmp_path, name):
    facts = (name, "NAME.skops", "NAME.joblib")
    check_refusal(OptionError, *facts, codes=tmp_path / "none.h5", output=tmp_path / name)


def test_a_missing_folder_of_the_output_is_refused(tmp_path):
    output = tmp_path / "missing" / "model.skops"
    check_refusal(OptionError, output.parent, codes=tmp_path / "none.h5", output=output)


# settings that do not fit the store


@pytest.mark.parametrize("solver", ["primal", "gram"])
def test_several_layers_without_normalisation_are_refused(store_of, solver):
    labels = labels_of(60)
    path = store_of(labels, split_of(train=40, val=20), codes=make_codes(labels, TWO))
    facts = ("--normalise none", "--normalise l2", "--layer")
    check_refusal(OptionError, *facts, codes=path, clf="ridge", normalise="none", solver=solver)


@pytest.mark.parametrize("clf", ["knn", "auto"])
def test_a_classifier_that_the_streamed_solver_does_not_support_is_refused(store_of, clf):
    facts = (f"--clf {clf}", "--solver streamed", "logistic, ridge, linear-svm, sgd")
    check_refusal(OptionError, *facts, codes=store_of(labels_of(20)), clf=clf, solver="streamed")


def test_columns_without_a_table_are_refused(store_of):
    path = store_of(labels_of(6))
    check_refusal(OptionError, "--split-column", "--labels TABLE", codes=path, split_column="part")


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("svm-rbf", "gamma", "scale"),
        ("svm-rbf", "kernel", "precomputed"),
        ("logistic", "l1_ratio", 0.5),
        ("ridge", "positive", True),
        ("linear-svm", "penalty", "l1"),
    ],
)
def test_parameters_that_depend_on_the_axes_are_refused_with_gram(store_of, name, setting, value):
    """A rotation of the codes would change the result."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    facts = (f"--set {setting}={value}", name, "--solver primal")
    settings = {"clf": name, "settings": {setting: value}, "solver": "gram"}
    check_refusal(OptionError, *facts, codes=path, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "facts"),
    [
        ("knn", {"k": 3}, ["knn", "'k'", "n_neighbors, weights"]),
        ("knn", {"n_neighbors": 0}, []),
        ("logistic", {"C": -1}, ["C=-1"]),
        ("logistic", {"max_iter": "many"}, ["max_iter=many"]),
    ],
    ids=str,
)
def test_parameters_that_scikit_learn_refuses_are_refused(store_of, name, settings, facts):
    path = store_of(labels_of(30), split_of(train=20, val=10))
    check_refusal(OptionError, *facts, codes=path, clf=name, settings=settings)


# labels and stores


def test_no_labels_are_refused(store_of):
    path = store_of([None] * 5)
    facts = (path, "data/CLASS/", "--manifest", "--labels")
    check_refusal(FitError, *facts, codes=path)


@pytest.mark.parametrize(
    ("labels", "failed", "n"),
    [(["a"] * 5, {}, 5), (["a", "a", "b"], {2: "x"}, 2), (["a", "b", None], {0: "x", 1: "x"}, 0)],
)
def test_one_class_is_refused(store_of, labels, failed, n):
    path = store_of(labels, failed=failed)
    check_refusal(FitError, f"{n} usable images", path, codes=path)


def test_splits_without_train_are_refused(store_of):
    path = store_of(labels_of(6), split_of(val=3, test=3))
    check_refusal(FitError, path, "test, val", "data/train/CLASS/", codes=path)


def test_a_train_split_of_one_class_is_refused(store_of):
    path = store_of(["a", "a", "a", "b", "b"], split_of(train=3, val=2))
    check_refusal(FitError, "two classes", codes=path)


@pytest.mark.parametrize(
    ("labels", "groups"),
    [(["a", "b"], None), (["a", "a", "a", "b"], None), (["a", "a", "b", "b"], list("ggab"))],
)
def test_an_error_is_raised_if_nothing_can_be_held_out(store_of, labels, groups):
    check_refusal(FitError, "data/val/CLASS", codes=store_of(labels, groups=groups))


def test_an_incomplete_store_is_refused_unless_partial(store_of):
    path = store_of(labels_of(33), split_of(train=24, val=9), pending=[30, 31, 32])
    check_refusal(StoreError, path, "3 of 33 images", "featx extract", "--partial", codes=path)
    found = fit(path, clf="ridge", C=[1], partial=True)
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (24, 6)
    (note,) = found.notes
    assert "3 of 33 images" in note


def test_a_code_that_is_not_finite_is_refused_with_its_row(store_of):
    path = store_of(labels_of(20))
    with h5py.File(path, "r+") as file:
        file["codes/block1_conv1"][13, 5] = np.nan
    check_refusal(StoreError, "row 13", "--overwrite", codes=path)
