"""Fits: the same result as plain scikit-learn on the codes, for each solver and normalisation."""

import json
import re
import warnings

import numpy as np
import pytest
from fits import (
    EXACT,
    GRID,
    INEXACT,
    NARROW,
    PLAIN,
    TWO,
    check_refusal,
    fit,
    labels_of,
    make_codes,
    normalised,
    plain_choice,
    plain_model,
    plain_search,
    split_of,
    unit,
    wide_codes,
)
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from sklearn.preprocessing import normalize
from sklearn.svm import SVC

from featx.errors import OptionError
from featx.fitting import CLASSIFIERS, load_model
from featx.fitting.classifiers import penalty_grid

pytestmark = pytest.mark.usefixtures("one_thread")

OTHERS = {
    "svm-rbf": SVC(decision_function_shape="ovo", cache_size=500),
    "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "sgd": SGDClassifier(loss="log_loss", random_state=0),
    "logistic-l1": LogisticRegression(
        l1_ratio=1, solver="saga", tol=1e-3, max_iter=1000, random_state=0
    ),
    "hist-gradient-boosting": HistGradientBoostingClassifier(random_state=0),
}


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_each_classifier_is_that_of_scikit_learn(name):
    """It has the parameters that this file lists, and the seed."""
    estimator = PLAIN[name][0] if name in PLAIN else OTHERS[name]
    made = CLASSIFIERS[name].make(5)
    expected = estimator.get_params()
    assert type(made) is type(estimator)
    assert made.get_params() == expected | (
        {"random_state": 5} if "random_state" in expected else {}
    )


def test_every_classifier_is_compared_with_scikit_learn():
    """No classifier is missing in this file."""
    assert [*PLAIN, "svm-rbf", "knn", "centroid"] == EXACT
    assert set(INEXACT) == set(OTHERS) - {"svm-rbf"}


def test_the_penalty_grid_has_three_values_per_decade_and_follows_the_scale():
    """On rows of twice the length, each penalty is a fourth."""
    assert penalty_grid(np.eye(5)) == pytest.approx(np.logspace(-3, 6, 28), rel=1e-12)
    assert penalty_grid(2 * np.eye(5)) == pytest.approx(np.logspace(-3, 6, 28) / 4, rel=1e-12)


@pytest.mark.parametrize(("n_classes", "widths"), [(2, NARROW), (3, TWO)], ids=["2", "3 joined"])
@pytest.mark.parametrize("name", PLAIN)
def test_a_fit_on_given_splits_is_that_of_scikit_learn(store_of, name, n_classes, widths):
    """The penalty, the predictions and the scores are the same."""
    labels = labels_of(90, n_classes)
    codes = make_codes(labels, widths, strength=0.3)
    path = store_of(labels, split_of(train=60, val=30), codes=codes)
    found = fit(path, clf=name, C=GRID)
    X, y = unit(codes), np.array(labels)
    search = plain_search(name, X[:60], y[:60])
    expected = search.predict(X[60:])
    assert 0.5 < accuracy_score(y[60:], expected) < 1
    assert found.to_dict()["parameters"] == pytest.approx(search.best_params_)
    assert found.to_dict()["scored_on"] == "val"
    assert found.to_dict()["n_train"] == 60
    assert found.evaluation.accuracy.value == accuracy_score(y[60:], expected)
    assert found.evaluation.balanced_accuracy.value == pytest.approx(
        balanced_accuracy_score(y[60:], expected)
    )
    assert np.array_equal(found.evaluation.confusion, confusion_matrix(y[60:], expected))
    raw = np.hstack(list(codes.values()))
    np.testing.assert_allclose(found.model.classifier[0].transform(raw), X, atol=1e-12)
    assert found.model.classifier.predict(raw[60:]).tolist() == expected.tolist()
    assert len(found.notes) == (1 if widths is TWO else 0)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", EXACT)
def test_a_fit_of_wide_codes_by_their_gram_matrix_is_that_of_scikit_learn(
    store_of, tmp_path, name, n_classes
):
    """The search, the score, and what the saved model predicts are the same."""
    labels = labels_of(84, n_classes)
    codes = wide_codes(84, n_classes, seed=1)
    path = store_of(labels, split_of(train=54, val=30), codes={"block2_pool": codes})
    penalties = [0.3, 30]
    output = tmp_path / "model.skops"
    found = fit(path, clf=name, C=penalties, solver="gram", output=output)
    X, y = normalize(codes.reshape(84, -1).astype(np.float64)), np.array(labels)
    values = [25, 15, 9, 5, 3, 1] if name == "knn" else penalties
    value, accuracy = plain_choice(name, values, X[:54], y[:54])
    plain = plain_model(name, value, X[:54], y[:54])
    (tried,) = found.to_dict()["tried"]
    assert tried["value"] == (None if name == "centroid" else value)
    assert tried["accuracy"] == pytest.approx(accuracy)
    assert found.evaluation.accuracy.value == np.mean(plain.predict(X[54:]) == y[54:]) > 0.5
    further = wide_codes(60, n_classes, seed=2).reshape(60, -1)
    model = load_model(output)
    predicted = plain.predict(normalize(further.astype(np.float64)))
    assert model.classifier.predict(further).tolist() == predicted.tolist()
    probabilities = model.predict_proba(further)
    assert np.array(model.classes)[probabilities.argmax(axis=1)].tolist() == predicted.tolist()
    if name == "svm-rbf":
        inner = model.classifier.named_steps["decisions"].estimator_
        assert inner.gamma == pytest.approx(plain.gamma, rel=1e-9)
    if name not in {"knn", "centroid"}:
        expected = plain.decision_function(normalize(further.astype(np.float64)))
        expected = expected if n_classes > 2 else np.column_stack([-expected / 2, expected / 2])
        scores = model.classifier[:-1].transform(further)
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3 * np.ptp(expected))


@pytest.mark.parametrize("name", INEXACT)
def test_a_fit_of_narrow_codes_is_that_of_scikit_learn(store_of, name):
    """Classifiers that use single features are fitted on the unit rows."""
    labels = labels_of(75)
    codes = make_codes(labels, strength=0.5)
    path = store_of(labels, split_of(train=45, val=30), codes=codes)
    found = fit(path, clf=name, C=[3])
    X, y = unit(codes), np.array(labels)
    plain = clone(OTHERS[name])
    if name == "sgd":
        plain.set_params(alpha=1 / (3 * 45))
    elif name == "logistic-l1":
        plain.set_params(C=3)
    expected = plain.fit(X[:45], y[:45]).predict(X)
    assert found.to_dict()["solver"] == "primal"
    assert found.model.classifier.predict(codes["block1_conv1"]).tolist() == expected.tolist()
    assert found.evaluation.accuracy.value == np.mean(expected[45:] == y[45:])
    facts = (name, "--solver gram", "--solver primal")
    check_refusal(OptionError, *facts, codes=path, clf=name, solver="gram")


@pytest.mark.parametrize("name", INEXACT)
def test_classifiers_that_use_single_features_refuse_wide_codes(store_of, name):
    path = store_of(labels_of(12), codes={"block2_pool": wide_codes(12, 3, 0)})
    streamed = ["--solver streamed --clf sgd"] if name == "sgd" else []
    facts = (name, "4,096", "8,192", "--pool avg", "--clf logistic", *streamed)
    check_refusal(OptionError, *facts, codes=path, clf=name)


@pytest.mark.parametrize("name", EXACT)
def test_the_exact_solvers_agree(store_of, name):
    """The choice and the predictions are the same."""
    labels = labels_of(75)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=45, val=30), codes=codes)
    primal, gram = (
        fit(path, clf=name, solver=solver, C=[0.1, 1, 10]) for solver in ("primal", "gram")
    )
    assert (primal.to_dict()["solver"], gram.to_dict()["solver"]) == ("primal", "gram")
    assert primal.to_dict()["parameters"] == pytest.approx(gram.to_dict()["parameters"])
    assert primal.evaluation.confusion == gram.evaluation.confusion
    further = make_codes(labels_of(50), seed=7)["block1_conv1"]
    one, other = (found.model.predict_proba(further) for found in (primal, gram))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert one.argmax(axis=1).tolist() == other.argmax(axis=1).tolist()


@pytest.mark.parametrize("solver", ["primal", "gram"])
@pytest.mark.parametrize("how", ["l2", "centre", "sqrt-l2", "none"])
@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "knn"])
def test_normalisations_are_those_computed_by_hand(store_of, tmp_path, name, how, solver):
    """The saved model predicts raw codes as scikit-learn predicts normalised rows."""
    labels = labels_of(75)
    raw = make_codes(labels, strength=0.4)["block1_conv1"]
    path = store_of(labels, split_of(train=45, val=30), codes={"block1_conv1": raw})
    output = tmp_path / "model.skops"
    found = fit(path, clf=name, normalise=how, solver=solver, C=[2], output=output)
    assert found.to_dict()["normalise"] == how
    X, y = normalised(raw, how, 45), np.array(labels)
    k = found.to_dict()["parameters"].get("n_neighbors")
    plain = plain_model(name, k or 2, X[:45], y[:45])
    model = load_model(output)
    assert model.classifier.predict(raw).tolist() == plain.predict(X).tolist()
    assert found.evaluation.accuracy.value == plain.score(X[45:], y[45:])
    if name == "ridge":
        scores = model.classifier[:-1].transform(raw)
        np.testing.assert_allclose(scores, plain.decision_function(X), atol=1e-9)


def test_the_normalisation_is_chosen_with_the_classifier(store_of):
    """If single features are very large, their square root is the best."""
    labels = labels_of(90)
    raw = make_codes(labels, strength=0.7)["block1_conv1"]
    rng = np.random.default_rng(3)
    raw[np.arange(90), rng.integers(0, 64, 90)] += 100 * rng.random(90).astype(np.float32)
    path = store_of(labels, split_of(train=60, val=30), codes={"block1_conv1": raw})
    found = fit(path, clf="ridge", normalise="auto")
    tried = found.to_dict()["tried"]
    assert [each["normalise"] for each in tried] == ["l2", "centre", "sqrt-l2"]
    assert found.to_dict()["normalise"] == "sqrt-l2"
    X, y = normalised(raw, "sqrt-l2", 60), np.array(labels)
    plain = RidgeClassifier(**found.to_dict()["parameters"]).fit(X[:60], y[:60])
    assert found.model.classifier.predict(raw).tolist() == plain.predict(X).tolist()


def test_one_layer_of_a_store_is_fitted(store_of):
    """The other layers have no influence."""
    labels = labels_of(60)
    codes = make_codes(labels, TWO, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="ridge", layer="block2_conv1", C=GRID)
    search = plain_search("ridge", unit({"x": codes["block2_conv1"][:40]}), labels[:40])
    expected = search.predict(unit({"x": codes["block2_conv1"][40:]}))
    assert found.to_dict()["layers"] == ["block2_conv1"]
    assert found.model.recipe.layers == ("block2_conv1",)
    assert found.model.classifier.predict(codes["block2_conv1"][40:]).tolist() == list(expected)


def test_float16_codes_are_fitted_in_float64(store_of):
    labels = labels_of(60)
    codes = {"block1_conv1": make_codes(labels)["block1_conv1"].astype(np.float16)}
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="ridge", C=GRID)
    X, y = unit(codes), np.array(labels)
    assert found.evaluation.accuracy.value == plain_search("ridge", X[:40], y[:40]).score(
        X[40:], y[40:]
    )


@pytest.mark.parametrize("name", ["ridge", "svm-rbf"])
def test_codes_of_two_stores_are_fitted_as_those_of_one(make_store, tmp_path, name):
    """The second store has the images in another order."""
    labels, splits = labels_of(60), split_of(train=40, val=20)
    codes = make_codes(labels, TWO, strength=0.3)
    (first, a), (second, b) = codes.items()
    order = np.random.default_rng(1).permutation(60)
    sha256 = [f"{i:064x}" for i in range(60)]
    whole = make_store(tmp_path / "whole.h5", codes, labels, splits, sha256=sha256)
    one = make_store(tmp_path / "one.h5", {first: a}, labels, splits, sha256=sha256)
    two = make_store(
        tmp_path / "two.h5",
        {second: b[order]},
        [labels[i] for i in order],
        [splits[i] for i in order],
        paths=[f"images/{i:03d}.png" for i in order],
        sha256=[sha256[i] for i in order],
    )
    alone, joined = fit(whole, clf=name, C=[2]), fit([one, two], clf=name, C=[2])
    assert joined.to_dict()["codes"] == [str(one), str(two)]
    assert joined.to_dict()["layers"] == [first, second]
    assert joined.evaluation == alone.evaluation
    raw = np.hstack([a, b])
    assert np.array_equal(joined.model.predict_proba(raw), alone.model.predict_proba(raw))


def test_a_table_replaces_the_labels_and_splits_of_the_store(store_of, tmp_path):
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.3)
    path = store_of(["none"] * 60, split_of(train=10, val=50), codes=codes)
    splits = split_of(train=40, test=20)
    rows = [f"images/{i:03d}.png,{labels[i]},{splits[i]}" for i in range(60)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,kind,part", *rows[::-1]]))
    found = fit(path, clf="ridge", C=[1], labels=table, label_column="kind", split_column="part")
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("test", 40)
    X, y = unit(codes), np.array(labels)
    plain = plain_model("ridge", 1, X[:40], y[:40])
    assert found.evaluation.accuracy.value == plain.score(X[40:], y[40:])
    assert found.model.classifier.predict(codes["block1_conv1"]).tolist() == list(plain.predict(X))


@pytest.mark.parametrize("name", EXACT)
def test_labels_that_look_like_numbers_are_text(store_of, tmp_path, name):
    """They have the order of text, before and after saving."""
    labels = ["1", "2", "10"] * 14
    codes = make_codes(labels, strength=1)
    path = store_of(labels, split_of(train=30, val=12), codes=codes)
    found = fit(path, clf=name, C=[1], output=tmp_path / "model.skops")
    model = load_model(tmp_path / "model.skops")
    assert model.classes == ("1", "10", "2")
    assert model.classifier.predict(codes["block1_conv1"]).tolist() == labels
    assert [score.label for score in found.evaluation.per_class] == ["1", "10", "2"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_seed_gives_the_same_bits(store_of, name):
    """Two fits of one store agree in each probability and score."""
    labels = labels_of(45)
    codes = make_codes(labels)
    path = store_of(labels, split_of(train=30, val=15), codes=codes)
    one, other = (fit(path, clf=name, seed=3, C=[1, 10]) for _ in range(2))
    raw = codes["block1_conv1"]
    assert np.array_equal(one.model.predict_proba(raw), other.model.predict_proba(raw))
    measured = {"seconds": 0, "gflops": 0}
    assert {**one.to_dict(), **measured} == {**other.to_dict(), **measured}
    assert one.to_dict()["seed"] == 3


def test_given_parameters_are_not_searched(store_of):
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, settings={"C": 7, "fit_intercept": False})
    assert found.to_dict()["parameters"] == {"C": 7, "fit_intercept": False}
    plain = LogisticRegression(C=7, fit_intercept=False, tol=1e-6, max_iter=10_000)
    plain.fit(unit(codes)[:40], labels[:40])
    predicted = found.model.classifier.predict(codes["block1_conv1"])
    assert predicted.tolist() == plain.predict(unit(codes)).tolist()


def test_a_single_penalty_may_be_a_number(store_of):
    path = store_of(labels_of(30), split_of(train=20, val=10))
    alone, listed = (fit(path, C=C).to_dict() for C in (2, [2.0]))
    assert alone["parameters"] == listed["parameters"] == {"C": 2.0}


def test_the_summary_has_the_gamma_that_follows_from_the_training_rows(store_of):
    codes = make_codes(labels_of(30))
    path = store_of(labels_of(30), split_of(train=20, val=10), codes=codes)
    found = fit(path, clf="svm-rbf", C=1)
    rows = unit(codes)[:20]
    squares = np.sum((rows[:, None] - rows) ** 2, axis=2)[np.triu_indices(20, 1)]
    assert found.to_dict()["parameters"] == {
        "C": 1.0,
        "gamma": pytest.approx(1 / squares.mean(), rel=1e-6),
    }


@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "sgd"])
def test_balanced_weights_raise_the_recall_of_a_rare_class(store_of, name):
    labels = [*["often"] * 60, *["rare"] * 6, *["often", "rare"] * 30]
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=66, val=60), codes=codes)
    plain, weighted = (fit(path, clf=name, C=[3], class_weight=w) for w in (None, "balanced"))
    recall = [
        {score.label: score.recall for score in found.evaluation.per_class}["rare"]
        for found in (plain, weighted)
    ]
    assert recall[1] > recall[0]
    assert weighted.to_dict()["parameters"]["class_weight"] == "balanced"


def test_an_existing_output_is_replaced_with_overwrite(store_of, tmp_path):
    output = tmp_path / "model.skops"
    output.write_text("mine")
    path = store_of(labels_of(30), split_of(train=21, val=9))
    found = fit(path, clf="ridge", C=[1], output=output, overwrite=True)
    assert load_model(output).summary == json.loads(json.dumps(found.to_dict()))
    assert found.to_dict()["model"] == str(output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.h5", "model.skops"]


def test_nothing_is_saved_by_default(store_of, tmp_path):
    found = fit(store_of(labels_of(30), split_of(train=21, val=9)), clf="ridge", C=[1])
    assert found.to_dict()["model"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]


def test_the_summary_has_plain_values_under_the_documented_keys(store_of):
    path = store_of(labels_of(30), split_of(train=21, val=9))
    found = fit(path, clf="ridge", C=[1]).to_dict()
    assert json.loads(json.dumps(found))["codes"] == [str(path)]
    assert set(found) == {
        "codes",
        "layers",
        "solver",
        "gflops",
        "classifier",
        "normalise",
        "parameters",
        "components",
        "whiten",
        "calibration",
        "tried",
        "seed",
        "n_train",
        "scored_on",
        "n_images",
        "n_repeats",
        "repeat_accuracies",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "brier",
        "calibration_error",
        "calibration_bins",
        "reliability",
        "top5",
        "labels",
        "per_class",
        "confusion",
        "confusions",
        "without_duplicates",
        "baselines",
        "duplicates",
        "notes",
        "seconds",
        "model",
        "n_groups",
        "n_folds",
        "positive",
        "threshold",
    }
    assert re.fullmatch(r"\d+\.\d+", str(found["seconds"]))


def test_no_warning_is_shown(store_of):
    """Warnings about tiny classes and groups are notes, for all kinds of classifiers."""
    labels = [*labels_of(30), "one", "two", "two"]
    path = store_of(labels, groups=[f"g{i // 2}" for i in range(33)], codes=make_codes(labels))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("ridge", "linear-svm", "knn"):
            fit(path, clf=name, C=[1, 1e6])
        fit(path, clf="auto", solver="gram", C=[1])
        found = fit(path, settings={"max_iter": 1})
    assert [str(each.message) for each in caught] == []
    assert sum("--set max_iter" in note for note in found.notes) == 2  # the fit, and a fold
