"""Fitting: the same answer as plain scikit-learn on the codes, honestly scored, or a refusal."""

import json
import re
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import softmax
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import Normalizer, normalize
from sklearn.svm import SVC, LinearSVC

from featx.errors import ExistsError, FitError, OptionError, StoreError
from featx.fitting import CLASSIFIERS, cross_validation, load_model
from featx.fitting import fit as fit_with_baselines
from featx.fitting.classifiers import penalty_grid

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = [0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000]
# What featx promises to be, written down a second time.
PLAIN = {
    "logistic": (LogisticRegression(max_iter=10_000, tol=1e-6), {"C": GRID}),
    "ridge": (RidgeClassifier(), {"alpha": [1 / C for C in GRID]}),
    "linear-svm": (LinearSVC(dual=False, max_iter=10_000), {"C": GRID}),
}
OTHERS = {
    "svm-rbf": SVC(break_ties=True, cache_size=500),
    "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "sgd": SGDClassifier(loss="log_loss", random_state=0),
    "logistic-l1": LogisticRegression(
        l1_ratio=1, solver="saga", tol=1e-3, max_iter=1000, random_state=0
    ),
    "hist-gradient-boosting": HistGradientBoostingClassifier(random_state=0),
}
EXACT = [name for name, kind in CLASSIFIERS.items() if kind.is_rotation_invariant]
INEXACT = [name for name, kind in CLASSIFIERS.items() if not kind.is_rotation_invariant]
QUICK = [name for name in CLASSIFIERS if name != "hist-gradient-boosting"]
NARROW = {"block1_conv1": 64}
TWO = {"block1_conv1": 64, "block2_conv1": 128}


def make_codes(y, widths=NARROW, *, strength: float = 0.5, seed: int = 0) -> dict:
    """Codes that tell their class by a shift; each layer's are ten times those before it."""
    rng = np.random.default_rng(seed)
    names, of_class = np.unique(y, return_inverse=True)
    codes = {}
    for k, (layer, width) in enumerate(widths.items()):
        shift = strength * rng.standard_normal((len(names), width))
        noise = rng.standard_normal((len(y), width))
        codes[layer] = (10**k * (1 + shift[of_class] + noise)).astype(np.float32)
    return codes


def labels_of(n: int, n_classes: int = 3) -> list[str]:
    return [f"class {i % n_classes}" for i in range(n)]


def unit(codes: dict) -> np.ndarray:
    """Unit rows of each layer side by side, each layer with equal weight, by scikit-learn."""
    parts = [Normalizer().fit_transform(c.astype(np.float64)) for c in codes.values()]
    return np.hstack(parts) / np.sqrt(len(parts))


def plain_search(name: str, X, y) -> GridSearchCV:
    """What a careful user of scikit-learn would write; of equal penalties, the middle."""
    estimator, grid = PLAIN[name]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return GridSearchCV(estimator, grid, cv=folds, refit=middle_of_best).fit(X, y)


def middle_of_best(results: dict) -> int:
    """The place of the middle one of the best, strongest penalty first."""
    scores = results["mean_test_score"]
    best = np.flatnonzero(np.isclose(scores, scores.max()))
    return int(best[(len(best) - 1) // 2])


def split_of(**counts: int) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def fit(*arguments, **keywords):
    """Fit without the baselines, which most tests are not about; C only where there is one."""
    kind = CLASSIFIERS.get(keywords.get("clf", "logistic"))
    if kind is not None and not kind.has_penalty:
        keywords.pop("C", None)
    return fit_with_baselines(*arguments, **{"baselines": False, **keywords})


@pytest.fixture
def store_of(tmp_path, make_store):
    """A function that writes tmp_path/codes.h5 for some labels; codes follow from them."""

    def write(labels, splits=None, groups=None, codes=None, **keywords) -> Path:
        codes = codes or make_codes([label or "" for label in labels])
        return make_store(tmp_path / "codes.h5", codes, labels, splits, groups, **keywords)

    return write


def refusal(error, *arguments, **keywords) -> str:
    """Return the whole message of a fit that is refused."""
    with pytest.raises(error) as caught:
        fit(*arguments, **keywords)
    return str(caught.value)


# the answer


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_the_table_is_what_it_promises(name):
    """Each classifier is scikit-learn's own, with the seed."""
    estimator = PLAIN[name][0] if name in PLAIN else OTHERS[name]
    made = CLASSIFIERS[name].make(5)
    expected = estimator.get_params()
    assert type(made) is type(estimator)
    assert made.get_params() == expected | (
        {"random_state": 5} if "random_state" in expected else {}
    )


def test_every_classifier_is_compared_with_scikit_learn():
    """No line of the table is without its counterpart in this file."""
    assert [*PLAIN, "svm-rbf", "knn", "centroid"] == EXACT
    assert set(INEXACT) == set(OTHERS) - {"svm-rbf"}


def test_the_grid_is_three_a_decade_and_follows_the_scale():
    """28 values from 1e-3 to 1e6 at unit length; on rows twice as long a fourth of each."""
    assert penalty_grid(np.eye(5)) == pytest.approx(np.logspace(-3, 6, 28), rel=1e-12)
    assert penalty_grid(2 * np.eye(5)) == pytest.approx(np.logspace(-3, 6, 28) / 4, rel=1e-12)


@pytest.mark.parametrize(("n_classes", "widths"), [(2, NARROW), (3, TWO)], ids=["2", "3 joined"])
@pytest.mark.parametrize("name", PLAIN)
def test_given_splits_equal_plain_scikit_learn(store_of, name, n_classes, widths):
    """Fitted on train and scored on val: same penalty, predictions and scores as by hand."""
    labels = labels_of(90, n_classes)
    codes = make_codes(labels, widths, strength=0.3)
    path = store_of(labels, split_of(train=60, val=30), codes=codes)
    found = fit(path, clf=name, C=GRID)
    X, y = unit(codes), np.array(labels)
    search = plain_search(name, X[:60], y[:60])
    expected = search.predict(X[60:])
    assert 0.5 < accuracy_score(y[60:], expected) < 1  # neither chance nor a walk-over
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
    joined = "Layers block1_conv1+block2_conv1 are joined, each with the same weight."
    assert found.notes == ((joined,) if widths is TWO else ())


def wide_codes(n: int, n_classes: int, seed: int) -> np.ndarray:
    """Maps of 8x8x128 that are never negative, as a network's are."""
    shifts = 0.35 * np.random.default_rng(0).random((n_classes, 8, 8, 128))
    maps = np.random.default_rng(seed).standard_normal((n, 8, 8, 128))
    return (np.maximum(maps, 0) + shifts[np.arange(n) % n_classes]).astype(np.float32)


def plain_model(name: str, value, X, y):
    """What scikit-learn has under a name, fitted on unit rows."""
    if name == "svm-rbf":
        gamma = 1 / np.mean(pdist(X, "sqeuclidean"))
        return SVC(C=value, gamma=gamma, break_ties=True).fit(X, y)
    if name == "knn":
        return KNeighborsClassifier(n_neighbors=value).fit(X, y)
    if name == "centroid":
        return NearestCentroid().fit(X, y)
    estimator, grid = PLAIN[name]
    (parameter,) = grid
    value = 1 / value if parameter == "alpha" else value
    return clone(estimator).set_params(**{parameter: value}).fit(X, y)


def plain_choice(name: str, values, X, y):
    """The value that is right most often on held-out folds; of equal ones the first."""
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    n_right = [
        sum(np.sum(plain_model(name, v, X[a], y[a]).predict(X[b]) == y[b]) for a, b in folds)
        for v in values
    ]
    return values[int(np.argmax(n_right))], max(n_right) / len(y)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", EXACT)
def test_wide_codes_equal_plain_scikit_learn(store_of, tmp_path, name, n_classes):
    """8192 wide: the search, the score, and what the saved bundle says of further codes."""
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
    bundle = load_model(output)
    predicted = plain.predict(normalize(further.astype(np.float64)))
    assert bundle.classifier.predict(further).tolist() == predicted.tolist()
    shares = bundle.predict_proba(further)
    assert np.array(bundle.classes)[shares.argmax(axis=1)].tolist() == predicted.tolist()
    if name == "svm-rbf":
        inner = bundle.classifier.named_steps["decisions"].estimator
        assert inner.gamma == pytest.approx(plain.gamma, rel=1e-9)
    if name not in {"knn", "centroid"}:
        expected = plain.decision_function(normalize(further.astype(np.float64)))
        expected = expected if n_classes > 2 else np.column_stack([-expected / 2, expected / 2])
        decided = bundle.classifier[:-1].transform(further)
        np.testing.assert_allclose(decided, expected, rtol=1e-3, atol=1e-3 * np.ptp(expected))


@pytest.mark.parametrize("name", INEXACT)
def test_narrow_classifiers_equal_plain_scikit_learn(store_of, name):
    """What looks at single columns is scikit-learn's own on the unit rows."""
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
    assert refusal(OptionError, path, clf=name, solver="gram") == (
        f"{name} depends on the axes, which the span turns. Use --road primal."
    )


@pytest.mark.parametrize("name", INEXACT)
def test_narrow_classifiers_refuse_wide_codes(store_of, name):
    """8192 columns are too many to look at one by one."""
    path = store_of(labels_of(12), codes={"block2_pool": wide_codes(12, 3, 0)})
    streamed = ", or --road streamed --clf sgd" if name == "sgd" else ""
    assert refusal(OptionError, path, clf=name) == (
        f"{name} looks at single columns, and these codes have 8,192: no more than 4,096 are of "
        f"use. Extract with --pool avg, or use --clf logistic{streamed}."
    )


@pytest.mark.parametrize("name", EXACT)
def test_roads_agree(store_of, name):
    """On codes as they are and on their span the choice and the predictions are the same."""
    labels = labels_of(75)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=45, val=30), codes=codes)
    primal, span = (
        fit(path, clf=name, solver=solver, C=[0.1, 1, 10]) for solver in ("primal", "gram")
    )
    assert (primal.to_dict()["solver"], span.to_dict()["solver"]) == ("primal", "gram")
    assert primal.to_dict()["parameters"] == pytest.approx(span.to_dict()["parameters"])
    assert primal.evaluation.confusion == span.evaluation.confusion
    further = make_codes(labels_of(50), seed=7)["block1_conv1"]
    one, other = (found.model.predict_proba(further) for found in (primal, span))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert one.argmax(axis=1).tolist() == other.argmax(axis=1).tolist()


# normalisation


def normalised(codes, how: str, n_train: int) -> np.ndarray:
    """Rows as `--normalise` promises them, by hand."""
    X = np.asarray(codes, dtype=np.float64)
    if how == "none":
        return X
    X = normalize(np.sign(X) * np.sqrt(np.abs(X)) if how == "sqrt-l2" else X)
    return normalize(X - X[:n_train].mean(axis=0)) if how == "centre" else X


@pytest.mark.parametrize("solver", ["primal", "gram"])
@pytest.mark.parametrize("how", ["l2", "centre", "sqrt-l2", "none"])
@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "knn"])
def test_normalisations_equal_those_by_hand(store_of, tmp_path, name, how, solver):
    """The saved bundle, given raw codes, equals scikit-learn on rows that were made by hand."""
    labels = labels_of(75)
    raw = make_codes(labels, strength=0.4)["block1_conv1"]
    path = store_of(labels, split_of(train=45, val=30), codes={"block1_conv1": raw})
    output = tmp_path / "model.skops"
    found = fit(path, clf=name, normalise=how, solver=solver, C=[2], output=output)
    assert found.to_dict()["normalise"] == how
    X, y = normalised(raw, how, 45), np.array(labels)
    k = found.to_dict()["parameters"].get("n_neighbors")
    plain = plain_model(name, k or 2, X[:45], y[:45])
    bundle = load_model(output)
    assert bundle.classifier.predict(raw).tolist() == plain.predict(X).tolist()
    assert found.evaluation.accuracy.value == plain.score(X[45:], y[45:])
    if name == "ridge":
        decided = bundle.classifier[:-1].transform(raw)
        np.testing.assert_allclose(decided, plain.decision_function(X), atol=1e-9)


def test_the_normalisation_may_be_chosen(store_of):
    """Where single large numbers drown the rest, their square root is chosen, and fitted."""
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


@pytest.mark.parametrize("solver", ["primal", "gram"])
def test_several_layers_without_normalisation_are_refused(store_of, solver):
    """Layers of other scales are joined at unit length only, on every road."""
    labels = labels_of(60)
    path = store_of(labels, split_of(train=40, val=20), codes=make_codes(labels, TWO))
    assert refusal(OptionError, path, clf="ridge", normalise="none", solver=solver) == (
        "Codes of several layers are joined at unit length. Use --normalise l2, or one --layer."
    )


# the search


@pytest.mark.parametrize("clf", ["logistic", "ridge", "linear-svm", "svm-rbf"])
def test_a_choice_on_balanced_images_serves_unbalanced_ones(store_of, clf):
    """Easy data: chosen on as many of each class, fitted on more of one, all is right still."""
    labels = [*["a", "b"] * 15, *["a"] * 12, *["b"] * 3, *["a", "b"] * 15]
    codes = make_codes(labels, strength=1.5)
    path = store_of(labels, split_of(train=30, val=15, test=30), codes=codes)
    found = fit(path, clf=clf)
    assert found.evaluation.accuracy.value > 0.9


@pytest.mark.parametrize("clf", ["ridge", "logistic"])
def test_the_search_stays_on_the_grid_where_nothing_is_gained(store_of, clf):
    """Beyond the ends of the grid is tried only what is better there."""
    labels = labels_of(60)
    path = store_of(labels, split_of(train=45, val=15), codes=make_codes(labels, strength=3))
    assert fit(path, clf=clf).to_dict()["tried"][0]["value"] >= 10**-4


def test_the_fine_grid_holds_thirds_of_a_decade(store_of):
    """The value chosen lies on three a decade of the grid, and no neighbour is better."""
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


def test_auto_tries_several_and_prefers_a_linear_one(store_of):
    """Classes that a line tells apart get a linear classifier; all that competed are named."""
    labels = labels_of(120)
    path = store_of(labels, split_of(train=90, val=30), codes=make_codes(labels, strength=0.6))
    found = fit(path, clf="auto", solver="primal").to_dict()
    names = ["logistic", "ridge", "linear-svm", "svm-rbf", "knn", "centroid", "lda"]
    assert {each["classifier"] for each in found["tried"]} <= set(names)
    assert CLASSIFIERS[found["classifier"]].is_linear
    assert found["accuracy"]["value"] > 0.8


def test_auto_finds_what_no_line_tells_apart(store_of):
    """A class around another one needs a classifier that looks at distances."""
    rng = np.random.default_rng(0)
    X = 0.3 * rng.standard_normal((160, 64))
    corner = rng.integers(0, 2, (160, 2))
    X[:, :2] += 4 * (2 * corner - 1)
    labels = [f"class {a ^ b}" for a, b in corner]
    path = store_of(
        labels, split_of(train=120, val=40), codes={"block1_conv1": X.astype(np.float32)}
    )
    found = fit(path, clf="auto")
    assert found.to_dict()["classifier"] in {"svm-rbf", "knn"}
    assert found.evaluation.accuracy.value > 0.9


def test_folds_equal_plain_nested_cross_validation(store_of):
    """Without splits five folds are scored, each after a search of its own on the others."""
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


def test_a_test_split_is_scored_once_after_a_fit_on_the_rest(store_of):
    """Chosen on folds of train alone, fitted on train and val; test alone is scored."""
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
    assert found.notes == (
        "Chosen on folds of train, fitted on train and val together; test is scored once.",
    )


def test_select_val_chooses_on_val(store_of):
    """Of several penalties the one that is best on val is taken, not the best on folds."""
    labels = labels_of(90)
    codes = make_codes(labels, strength=0.15)
    path = store_of(labels, split_of(train=40, val=20, test=30), codes=codes)
    found = fit(path, clf="ridge", C=GRID, select="val")
    X, y = unit(codes), np.array(labels)
    on_val = [
        RidgeClassifier(alpha=1 / C).fit(X[:40], y[:40]).score(X[40:60], y[40:60]) for C in GRID
    ]
    place = middle_of_best({"mean_test_score": np.array(on_val)})
    best = {"alpha": pytest.approx(1 / GRID[place])}
    assert found.to_dict()["parameters"] == best
    assert fit(path, clf="ridge", C=GRID).to_dict()["parameters"] != best
    (tried,) = found.to_dict()["tried"]
    assert tried["accuracy"] == max(on_val)
    plain = RidgeClassifier(**found.to_dict()["parameters"]).fit(X[:60], y[:60])
    assert found.evaluation.accuracy.value == plain.score(X[60:], y[60:])
    assert found.notes == ("Chosen on val, fitted on train and val together; test is scored once.",)


def test_select_val_without_a_test_split_is_refused(store_of):
    """What is chosen on val cannot be scored there."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    assert refusal(OptionError, path, select="val") == (
        "--select val chooses on val and scores test, so it needs train, val and test. "
        f"{path} has train, val. Leave it out: choices are then made on folds of the training part."
    )
    assert refusal(OptionError, path, select="test") == (
        "Cannot select on 'test'. Expected --select val."
    )


def test_the_saved_classifier_may_be_of_all_images(store_of):
    """With refit the score stays that of the part, and the bundle is fitted on the whole."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    for name in ("ridge", "svm-rbf"):
        part, whole = fit(path, clf=name, C=[2]), fit(path, clf=name, C=[2], refit="all")
        assert whole.evaluation == part.evaluation
        assert (part.to_dict()["n_train"], whole.to_dict()["n_train"]) == (40, 60)
        assert (len(part.model.fitted_on), len(whole.model.fitted_on)) == (40, 60)
        assert whole.notes == (
            "The saved classifier is fitted on all images, those of the score too.",
        )
        plain = plain_model(name, 2, unit(codes), np.array(labels))
        further = make_codes(labels_of(50), strength=0.3, seed=8)
        predicted = whole.model.classifier.predict(further["block1_conv1"])
        assert predicted.tolist() == plain.predict(unit(further)).tolist()


def test_folds_and_repeats(store_of):
    """Each image is scored once a repeat, on other folds, and counts once."""
    labels = labels_of(60)
    path = store_of(labels, codes=make_codes(labels, strength=0.25))
    once = fit(path, clf="ridge", C=[1], folds=3)
    twice = fit(path, clf="ridge", C=[1], folds=3, repeats=2)
    assert once.to_dict()["scored_on"] == "3 folds"
    assert twice.to_dict()["scored_on"] == "3 folds, 2 times"
    assert once.evaluation.n_images == twice.evaluation.n_images == 60
    assert (np.sum(once.evaluation.confusion), np.sum(twice.evaluation.confusion)) == (60, 120)
    second = fit(path, clf="ridge", C=[1], folds=3, seed=1)  # whose folds are other ones
    assert second.evaluation.confusion != once.evaluation.confusion
    both = np.add(once.evaluation.confusion, second.evaluation.confusion)
    assert np.array_equal(twice.evaluation.confusion, both)


@pytest.mark.parametrize(
    ("folds", "repeats", "words"), [(1, 1, "1 fold 1 time"), (5, 0, "5 folds 0 times")]
)
def test_folds_that_cannot_be_are_refused(tmp_path, folds, repeats, words):
    """Before any work."""
    assert refusal(OptionError, tmp_path / "none.h5", folds=folds, repeats=repeats) == (
        f"Cannot make {words}. Expected --folds 2 or more, and --repeats 1 or more."
    )


def test_test_without_val_is_scored(store_of):
    """Train and test alone are enough; nothing is joined, so nothing is said."""
    found = fit(store_of(labels_of(60), split_of(train=40, test=20)), clf="ridge")
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("test", 40)
    assert found.notes == ()


def test_train_alone_is_scored_on_folds(store_of):
    """Where nothing is kept apart, folds of train are; the rest is left out."""
    found = fit(store_of(labels_of(40), [*split_of(train=36), *[None] * 4]), clf="ridge", C=[1])
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("5 folds", 36)
    assert found.notes == ("4 images belong to no split and are left out.",)


def test_a_layer_may_be_chosen(store_of):
    """Of a store with two layers, one is fitted as if the other were not there."""
    labels = labels_of(60)
    codes = make_codes(labels, TWO, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="ridge", layer="block2_conv1", C=GRID)
    search = plain_search("ridge", unit({"x": codes["block2_conv1"][:40]}), labels[:40])
    expected = search.predict(unit({"x": codes["block2_conv1"][40:]}))
    assert found.to_dict()["layers"] == ["block2_conv1"]
    assert found.model.recipe.layers == ("block2_conv1",)
    assert found.model.classifier.predict(codes["block2_conv1"][40:]).tolist() == list(expected)


def test_float16_codes_are_fitted(store_of):
    """A store of float16 gives what its numbers give in float64."""
    labels = labels_of(60)
    codes = {"block1_conv1": make_codes(labels)["block1_conv1"].astype(np.float16)}
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="ridge", C=GRID)
    X, y = unit(codes), np.array(labels)
    assert found.evaluation.accuracy.value == plain_search("ridge", X[:40], y[:40]).score(
        X[40:], y[40:]
    )


# honesty


@pytest.mark.parametrize("name", EXACT)
def test_permuted_labels_score_as_chance(store_of, tmp_path, name):
    """Labels that mean nothing are predicted as by chance, in the mean of twenty fits.

    They are permuted within train and within val: over both, what is frequent in one would be
    rare in the other, and below chance.
    """
    path = store_of(labels_of(60), split_of(train=21, val=39), codes=make_codes(labels_of(60)))
    y, shares = np.array(labels_of(60)), []
    table = tmp_path / "table.csv"
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = [*rng.permutation(y[:21]), *rng.permutation(y[21:])]
        rows = [f"images/{i:03d}.png,{label}" for i, label in enumerate(drawn)]
        table.write_text("\n".join(["path,label", *rows]))
        found = fit(path, clf=name, C=[1, 10], labels=table)
        shares.append(found.evaluation.accuracy.value)
    error = np.sqrt(1 / 3 * 2 / 3 / (20 * 39))
    assert np.mean(shares) == pytest.approx(1 / 3, abs=3 * error)
    assert fit(path, clf=name, C=[1, 10]).evaluation.accuracy.value > 0.6


def test_permuted_labels_never_flatter_on_folds(store_of):
    """The nested search on folds, with all of its grid, finds nothing in nothing."""
    codes, shares = make_codes(labels_of(45), strength=1), []
    for seed in range(5):
        labels = np.random.default_rng(seed).permutation(labels_of(45)).tolist()
        found = fit(store_of(labels, codes=codes), clf="ridge", C=[0.1, 1, 100])
        shares.append(found.evaluation.accuracy.value)
    assert np.mean(shares) < 1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / (5 * 45))


@pytest.mark.parametrize("how", ["l2", "centre", "sqrt-l2"])
@pytest.mark.parametrize("name", EXACT)
def test_what_only_the_scored_rows_show_is_of_no_use(store_of, name, how):
    """Columns that are the label in the test split, and zero elsewhere, raise no score."""
    labels = labels_of(180)
    raw = np.random.default_rng(0).standard_normal((180, 64)).astype(np.float32)
    raw[:, :3] = 0
    raw[np.arange(120, 180), np.arange(120, 180) % 3] = 10
    path = store_of(labels, split_of(train=80, val=40, test=60), codes={"block1_conv1": raw})
    found = fit(path, clf=name, normalise=how, C=[0.1, 10])
    assert found.evaluation.accuracy.value < 1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / 60)


@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "knn"])
def test_nothing_is_chosen_by_the_scored_part(make_store, tmp_path, name):
    """Labels of val turned round, so that the worst settings would be best: the same choice."""
    labels = labels_of(90, 2)
    codes = make_codes(labels, strength=0.3)
    splits = split_of(train=60, val=30)
    other = {"class 0": "class 1", "class 1": "class 0"}
    turned = [*labels[:60], *(other[label] for label in labels[60:])]
    one, two = (
        fit(make_store(tmp_path / f"{k}.h5", codes, y, splits), clf=name)
        for k, y in enumerate((labels, turned))
    )
    assert one.to_dict()["parameters"] == two.to_dict()["parameters"]
    assert one.to_dict()["tried"] == two.to_dict()["tried"]
    assert one.evaluation.accuracy.value == pytest.approx(1 - two.evaluation.accuracy.value)
    raw = codes["block1_conv1"]
    assert np.array_equal(one.model.predict_proba(raw), two.model.predict_proba(raw))


def test_groups_keep_folds_from_flattering(store_of):
    """Labels that only the group tells score as chance once groups stay together."""
    rng = np.random.default_rng(0)
    group = np.arange(60) // 3  # twenty groups of three near-copies
    codes = {"block1_conv1": rng.standard_normal((20, 64))[group].astype(np.float32)}
    codes["block1_conv1"] += 0.01 * rng.standard_normal((60, 64)).astype(np.float32)
    labels = [f"class {g % 2}" for g in group]
    apart = fit(store_of(labels, codes=codes), clf="ridge", C=[0.1, 1, 10])
    path = store_of(labels, groups=[f"g{g}" for g in group], codes=codes)
    joined = fit(path, clf="ridge", C=[0.1, 1, 10])
    assert apart.evaluation.accuracy.value > 0.95
    assert joined.evaluation.accuracy.value < 0.75


def test_a_group_on_both_sides_is_reported(store_of):
    """A planted leak is counted in the images that are scored, and nothing is moved."""
    groups = [None] * 60
    groups[0] = groups[45] = groups[50] = "patient 7"
    groups[41] = groups[42] = "patient 8"  # both in val: no leak
    found = fit(store_of(labels_of(60), split_of(train=40, val=20), groups), clf="ridge")
    assert found.notes == (
        "2 images of val are a copy, or of the group, of a training image: "
        "the score may flatter. Move them to one side.",
    )
    assert found.evaluation.n_images == 20


def test_equal_bytes_on_both_sides_are_reported(store_of):
    """A file that is in train and val under two names is found by its hash."""
    sha256 = [f"{i:064x}" for i in range(60)]
    sha256[54] = sha256[3]
    found = fit(store_of(labels_of(60), split_of(train=40, val=20), sha256=sha256), clf="ridge")
    assert found.notes == (
        "1 image of val is a copy, or of the group, of a training image: "
        "the score may flatter. Move them to one side.",
        "1 pair of images are copies (1 of the same bytes): they share a fold "
        "(--duplicates keep: they need not). The first: images/003.png and images/054.png.",
    )
    assert found.to_dict()["duplicates"] == [
        {
            "first": "images/003.png",
            "second": "images/054.png",
            "same_bytes": True,
            "correlation": 1.0,
        }
    ]


def test_twins_are_scored_with_and_without(store_of):
    """Of given splits nothing is moved; the score without copies stands beside the other."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.2)
    codes["block1_conv1"][[44, 51, 58]] = codes["block1_conv1"][[2, 3, 4]]
    sha256 = [f"{i:064x}" for i in range(60)]
    for twin, of in ((44, 2), (51, 3), (58, 4)):
        sha256[twin] = sha256[of]
    path = store_of(labels, split_of(train=40, val=20), codes=codes, sha256=sha256)
    found = fit(path, clf="knn", settings={"n_neighbors": 1})
    plain = KNeighborsClassifier(1).fit(unit(codes)[:40], labels[:40])
    right = plain.predict(unit(codes)[40:]) == np.array(labels[40:])
    apart = ~np.isin(np.arange(40, 60), [44, 51, 58])
    assert right[~apart].all()
    assert found.evaluation.n_images == 20
    assert found.evaluation.accuracy.value == right.mean()
    without = found.to_dict()["without_duplicates"]
    assert set(without) == {"n_images", "accuracy", "balanced_accuracy"}
    assert without["n_images"] == 17
    assert without["accuracy"]["value"] == right[apart].mean() < right.mean()
    kept = fit(path, clf="knn", settings={"n_neighbors": 1}, duplicates="keep")
    assert (kept.to_dict()["without_duplicates"], kept.to_dict()["duplicates"]) == (None, [])
    assert kept.evaluation.accuracy.value == right.mean()


@pytest.mark.parametrize("duplicates", ["together", "keep"])
def test_copies_are_never_on_both_sides(store_of, monkeypatch, duplicates):
    """Neither in a fold that is scored nor in one that is searched, unless they may be."""
    labels = labels_of(48)
    sha256 = [f"{i:064x}" for i in range(48)]
    copies = [(0, 3), (6, 21), (1, 40), (2, 47), (10, 13)]
    for first, second in copies:
        sha256[second] = sha256[first]
    parts = []

    def spy_search(problem, rows, pairs, options):
        everything = set(range(48))
        parts.append((set(rows), everything - set(rows)))
        parts.extend((set(rows[a]), set(rows[b])) for a, b in pairs)
        return own(problem, rows, pairs, options)

    own = cross_validation.search
    monkeypatch.setattr(cross_validation, "search", spy_search)
    found = fit(store_of(labels, sha256=sha256), clf="ridge", C=[1], duplicates=duplicates)
    assert len(parts) == 6 * 6  # all and five folds, each searched on five folds
    torn = [
        pair
        for one, other in parts
        for pair in copies
        if (pair[0] in one and pair[1] in other) or (pair[1] in one and pair[0] in other)
    ]
    assert bool(torn) == (duplicates == "keep")
    assert len(found.to_dict()["duplicates"]) == (5 if duplicates == "together" else 0)


def test_copies_with_different_labels_are_noted(store_of):
    """One of the two labels is wrong, and the user learns where."""
    sha256 = [f"{i:064x}" for i in range(60)]
    sha256[31] = sha256[3]
    found = fit(store_of(labels_of(60), sha256=sha256), clf="ridge", C=[1])
    assert found.notes[-1] == (
        "1 pair of copies has different labels. The first: images/003.png (class 0) and "
        "images/031.png (class 1)."
    )


def test_a_class_without_training_images_is_reported(store_of):
    """Images of a class that is not in train count as wrong, and that is said."""
    labels = [*labels_of(40), *["new"] * 5, *labels_of(15)]
    found = fit(store_of(labels, split_of(train=40, val=20)), clf="ridge")
    assert found.notes == ("No training image of new: those images count as wrong predictions.",)
    recall = {score.label: score.recall for score in found.evaluation.per_class}
    assert recall["new"] == 0


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_seed_gives_the_same_bits(store_of, name):
    """Two fits of one store agree in every probability and every score."""
    labels = labels_of(45)
    codes = make_codes(labels)
    path = store_of(labels, split_of(train=30, val=15), codes=codes)
    one, other = (fit(path, clf=name, seed=3, C=[1, 10]) for _ in range(2))
    raw = codes["block1_conv1"]
    assert np.array_equal(one.model.predict_proba(raw), other.model.predict_proba(raw))
    measured = {"seconds": 0, "gflops": 0}
    assert {**one.to_dict(), **measured} == {**other.to_dict(), **measured}
    assert one.to_dict()["seed"] == 3


# probabilities


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", EXACT)
def test_probabilities_agree_with_decisions(store_of, tmp_path, name, n_classes):
    """Of a saved bundle they sum to 1, and the largest is what the plain classifier decides."""
    labels = labels_of(60, n_classes)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf=name, output=tmp_path / "model.skops")
    bundle = load_model(tmp_path / "model.skops")
    X, raw = unit(codes), codes["block1_conv1"]
    value = found.to_dict()["tried"][0]["value"]
    plain = plain_model(name, value, X[:40], np.array(labels[:40]))
    shares = bundle.predict_proba(raw)
    assert shares.shape == (60, n_classes)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    assert np.array(bundle.classes)[shares.argmax(axis=1)].tolist() == plain.predict(X).tolist()
    assert bundle.classifier.predict(raw).tolist() == plain.predict(X).tolist()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_calibration_logistic_has_its_own_probabilities(store_of, n_classes):
    """The softmax of the decisions as they are."""
    labels = labels_of(60, n_classes)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, C=[5], calibration="none")
    plain = plain_model("logistic", 5, unit(codes)[:40], labels[:40])
    shares = found.model.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(shares, plain.predict_proba(unit(codes)), atol=1e-3)
    assert found.to_dict()["calibration"] == "none"
    assert found.evaluation.log_loss.value == pytest.approx(log_loss(labels[40:], shares[40:]))
    ridge = fit(path, clf="ridge", C=[5], calibration="none").model
    decided = ridge.classifier[:-1].transform(codes["block1_conv1"])
    assert np.array_equal(ridge.predict_proba(codes["block1_conv1"]), softmax(decided, axis=1))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_sigmoid_and_isotonic_are_those_of_held_out_decisions(store_of, method):
    """Fitted on what the folds of train decided while they were held out."""
    labels = labels_of(120, 2)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=80, val=40), codes=codes)
    found = fit(path, clf="linear-svm", C=[2], calibration=method)
    X, y = unit(codes), np.array(labels)
    svm = LinearSVC(C=2, dual=False, max_iter=10_000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    held_out = cross_val_predict(svm, X[:80], y[:80], cv=folds, method="decision_function")
    of_final = svm.fit(X[:80], y[:80]).decision_function(X[80:])
    target = y[:80] == "class 1"
    if method == "isotonic":
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(held_out, target)
        expected = model.predict(of_final)
    else:
        # Platt's targets: nearly 1 and nearly 0
        n, p = np.sum(~target), np.sum(target)
        soft = np.where(target, (p + 1) / (p + 2), 1 / (n + 2))
        both = np.concatenate([held_out, held_out])[:, None]
        platt = LogisticRegression(C=np.inf, tol=1e-10).fit(
            both, np.repeat([1, 0], 80), np.concatenate([soft, 1 - soft])
        )
        expected = platt.predict_proba(of_final[:, None])[:, 1]
    shares = found.model.predict_proba(codes["block1_conv1"][80:])
    np.testing.assert_allclose(shares[:, 1], expected, atol=1e-3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic", "none"])
def test_calibrations_give_probabilities(store_of, tmp_path, method):
    """Of three classes, also after saving; and what is scored is what the bundle says."""
    labels = labels_of(120)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=80, val=40), codes=codes)
    output = tmp_path / "model.skops"
    found = fit(path, clf="ridge", C=[2], calibration=method, output=output)
    shares = load_model(output).predict_proba(codes["block1_conv1"])
    assert np.array_equal(shares, found.model.predict_proba(codes["block1_conv1"]))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    predicted = np.array(found.model.classes)[shares[80:].argmax(axis=1)]
    assert found.evaluation.accuracy.value == np.mean(predicted == np.array(labels[80:]))


def test_an_unknown_calibration_is_refused(tmp_path):
    """Before any work."""
    assert refusal(OptionError, tmp_path / "none.h5", calibration="platt") == (
        "No calibration 'platt'. Use --calibration with one of temperature, sigmoid, isotonic, "
        "none."
    )


def test_a_class_that_cannot_be_calibrated_is_refused(store_of):
    """Sigmoid and isotonic need each class among the images that were held out."""
    labels = ["lonely", *labels_of(60)]
    path = store_of(labels, split_of(train=46, val=15))
    assert refusal(FitError, path, clf="ridge", C=[1], calibration="isotonic") == (
        "Too few images of lonely for --calibration isotonic, which is fitted for each class on "
        "images held out. Use --calibration temperature."
    )


@pytest.mark.parametrize("name", QUICK)
def test_temperature_mends_the_confidence(store_of, name):
    """On images never seen, the mean confidence is near the share that is right."""
    labels = labels_of(600, 3)
    codes = make_codes(labels, strength=0.12)
    path = store_of(labels, split_of(train=200, val=400), codes=codes)
    found = fit(path, clf=name, C=[0.1, 1, 10])
    shares = found.model.predict_proba(codes["block1_conv1"][200:])
    assert 0.4 < found.evaluation.accuracy.value < 0.9
    assert shares.max(axis=1).mean() == pytest.approx(found.evaluation.accuracy.value, abs=0.1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["ridge", "linear-svm"])
def test_a_class_with_one_image_spoils_no_probability(store_of, name, n_classes):
    """A class that folds cannot divide is learned, and the others keep their probabilities."""
    labels = ["lonely", *labels_of(60, n_classes)]
    codes = make_codes(labels, strength=1)
    bundle = fit(store_of(labels, split_of(train=46, val=15), codes=codes), clf=name).model
    assert bundle.classes == tuple(sorted(set(labels)))
    shares = bundle.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    predicted = np.array(bundle.classes)[shares.argmax(axis=1)]
    assert predicted[1:].tolist() == labels[1:]
    assert shares.max(axis=1)[1:].mean() > 0.6


def test_a_class_with_one_image_counts_as_wrong(store_of):
    """It cannot be on both sides of a fold, so it is scored as wrong, and that is said."""
    labels = [*labels_of(30), "lonely"]
    found = fit(store_of(labels, codes=make_codes(labels, strength=1)), clf="ridge", C=[1])
    assert found.notes == (
        "One image or group only in lonely: it cannot be learned and scored both, "
        "and counts as wrong.",
    )
    assert {s.label: s.recall for s in found.evaluation.per_class}["lonely"] == 0
    assert found.model.classes[-1] == "lonely"


# labels


@pytest.mark.parametrize("name", EXACT)
def test_labels_that_look_like_numbers_are_names(store_of, tmp_path, name):
    """Classes 1, 10 and 2 are text, in the order of text, before and after saving."""
    labels = ["1", "2", "10"] * 14
    codes = make_codes(labels, strength=1)
    path = store_of(labels, split_of(train=30, val=12), codes=codes)
    found = fit(path, clf=name, output=tmp_path / "model.skops")
    bundle = load_model(tmp_path / "model.skops")
    assert bundle.classes == ("1", "10", "2")
    assert bundle.classifier.predict(codes["block1_conv1"]).tolist() == labels
    assert [score.label for score in found.evaluation.per_class] == ["1", "10", "2"]


def test_images_without_a_label_are_left_out(store_of):
    """Only labelled images are fitted and scored; how many are not is said."""
    labels = [*labels_of(28), None, *labels_of(9), None]
    found = fit(store_of(labels, split_of(train=29, val=10)), clf="ridge")
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (28, 9)
    assert found.notes == ("2 images have no label and are left out.",)


def test_failed_images_are_left_out_and_counted_by_class(store_of):
    """What could not be read is not fitted on, and the user learns which classes suffer."""
    labels = [*labels_of(36), None]
    failed = dict.fromkeys((0, 3, 4, 36), "no pixels")
    path = store_of(labels, split_of(train=27, val=10), failed=failed)
    found = fit(path, clf="ridge")
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (24, 9)
    assert found.notes == (
        "4 images could not be read and are left out: 2 of class 0, 1 of class 1, 1 of no class. "
        f"Reasons: featx info {path} --bad",
    )


def test_small_classes_make_fewer_folds(store_of):
    """The smallest class sets the number of folds, and is named."""
    labels = [*["a"] * 12, *["b"] * 3]
    found = fit(store_of(labels, codes=make_codes(labels, strength=2)), clf="linear-svm", C=[1])
    assert found.to_dict()["scored_on"] == "3 folds"
    assert found.notes == ("3 folds rather than 5, since class b has 3 images or groups.",)


@pytest.mark.parametrize("name", [name for name in QUICK if name != "lda"])
def test_too_few_images_to_search_take_the_default(store_of, name):
    """With one training image of each class all is as scikit-learn has it, and that is said."""
    labels = ["a", "b"] * 3
    path = store_of(labels, split_of(train=2, val=4), codes=make_codes(labels, strength=3))
    found = fit(path, clf=name)
    assert set(found.to_dict()["parameters"]) == ({"gamma"} if name == "svm-rbf" else set())
    assert found.to_dict()["tried"] == []
    calibrated = "Too few images to calibrate on: probabilities are as the decisions are."
    searched = "Too few images to choose settings on: scikit-learn's default was used."
    assert found.notes == ((calibrated,) if name == "centroid" else (searched, calibrated))
    np.testing.assert_allclose(
        found.model.predict_proba(make_codes(labels)["block1_conv1"]).sum(axis=1), 1
    )


def test_too_few_images_for_lda_are_refused_in_words(store_of):
    """scikit-learn's own error is no sentence for a user."""
    labels = ["a", "b"] * 3
    path = store_of(labels, split_of(train=2, val=4), codes=make_codes(labels, strength=3))
    refusal(FitError, path, clf="lda")


# tables, and several stores


def test_labels_and_splits_of_a_table(store_of, tmp_path):
    """A table gives other labels and splits; the store's own do not count."""
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


def test_columns_without_a_table_are_refused(store_of):
    """A column is of a table."""
    assert refusal(OptionError, store_of(labels_of(6)), split_column="part") == (
        "--label-column, --split-column and --group-column name columns of a table. Use them "
        "with --labels TABLE."
    )


@pytest.mark.parametrize("name", ["ridge", "svm-rbf"])
def test_stores_joined_equal_one_with_all_layers(make_store, tmp_path, name):
    """Two stores, the images of the second in another order, are as one with both layers."""
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


# baselines


def test_baselines_without_any_network(store_of):
    """The majority class by hand; pictures of one grey each tell no class."""
    labels = ["a"] * 33 + ["b"] * 27
    order = np.random.default_rng(0).permutation(60)
    labels = [labels[i] for i in order]
    path = store_of(labels, split_of(train=40, val=20), codes=make_codes(labels, strength=1))
    found = fit_with_baselines(path, clf="ridge").to_dict()
    y = np.array(labels)
    names, counts = np.unique(y[:40], return_counts=True)
    expected = np.mean(y[40:] == names[counts.argmax()])
    assert found["baselines"]["majority"]["value"] == pytest.approx(expected)
    assert found["baselines"]["pixels"]["classifier"] == "ridge"
    assert found["baselines"]["pixels"]["value"] == pytest.approx(expected, abs=0.15)
    assert found["accuracy"]["value"] > 0.9
    assert fit(path, clf="ridge").to_dict()["baselines"] is None


def test_the_majority_is_that_of_each_fold(store_of):
    """On folds too, each answered by the majority of its own training part."""
    labels = ["a"] * 25 + ["b"] * 15
    path = store_of(labels, codes=make_codes(labels))
    found = fit_with_baselines(path, clf="ridge", C=[1], repeats=2).to_dict()
    assert found["baselines"]["majority"]["value"] == pytest.approx(25 / 40)
    assert found["n_images"] == 40


def test_pixels_that_tell_the_class_are_seen(store_of):
    """Where brightness is the class, the baseline is right without a network."""
    labels = labels_of(60, 2)
    path = store_of(labels, split_of(train=40, val=20))
    with h5py.File(path, "r+") as file:
        bright = np.where(np.arange(60) % 2, 30, 220).astype(np.uint8)
        (name,) = [name for name in file["images"] if "thumb" in name]
        file["images"][name][...] = bright[:, None, None, None]
    found = fit_with_baselines(path, clf="ridge", C=[1]).to_dict()
    assert found["baselines"]["pixels"]["value"] == 1


# what is set


def test_settings_are_taken_and_not_searched(store_of):
    """A parameter that is given is the estimator's, and no value is tried."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, settings={"C": 7, "fit_intercept": False})
    assert found.to_dict()["parameters"] == {"C": 7, "fit_intercept": False}
    plain = LogisticRegression(C=7, fit_intercept=False, tol=1e-6, max_iter=10_000)
    plain.fit(unit(codes)[:40], labels[:40])
    predicted = found.model.classifier.predict(codes["block1_conv1"])
    assert predicted.tolist() == plain.predict(unit(codes)).tolist()


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
def test_settings_that_see_the_axes_are_refused_on_the_span(store_of, name, setting, value):
    """What a rotation would change cannot be had there."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    message = refusal(OptionError, path, clf=name, settings={setting: value}, solver="gram")
    assert message == (
        f"--set {setting}={value} makes {name} depend on the axes of the codes, which the exact "
        "span turns. Leave it out, or use --road primal on narrow codes (--pool avg)."
    )


def test_an_unknown_setting_is_refused(store_of):
    """The message lists those there are."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    assert refusal(OptionError, path, clf="knn", settings={"k": 3}) == (
        "knn has no parameter 'k'. Expected --set with one of n_neighbors, weights."
    )


@pytest.mark.parametrize("settings", [{"C": -1}, {"max_iter": "many"}])
def test_a_setting_that_scikit_learn_refuses_is_one_error(store_of, settings):
    """Its own exception would be a traceback."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    refusal(OptionError, path, settings=settings)


def test_no_neighbours_are_refused(store_of):
    """A vote of none is none."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    refusal(OptionError, path, clf="knn", settings={"n_neighbors": 0})


@pytest.mark.parametrize("C", [[0], [1, -2], [float("nan")], [float("inf")]], ids=str)
def test_no_penalty_is_refused_before_any_work(tmp_path, C):
    """Penalties are numbers above 0."""
    assert refusal(OptionError, tmp_path / "none.h5", C=C) == (
        f"No such C: {', '.join(map(str, C))}. Expected --C with numbers above 0."
    )


def test_penalties_for_a_classifier_without_one_are_refused(tmp_path):
    """They would be ignored, and the user would think that they were tried."""
    with pytest.raises(OptionError) as caught:
        fit_with_baselines(tmp_path / "none.h5", clf="knn", C=[1])
    assert str(caught.value) == (
        "knn has no penalty. Leave out --C, or use --clf with one of logistic, ridge, "
        "linear-svm, svm-rbf, sgd, logistic-l1."
    )


def test_a_penalty_that_is_named_twice_is_refused(tmp_path):
    """One of the two would be ignored."""
    assert refusal(OptionError, tmp_path / "none.h5", C=[1], settings={"C": 2}) == (
        "--C and --set C both name the penalty. Leave out one of them."
    )


def test_one_penalty_may_be_a_number(store_of):
    """As a list of one."""
    path = store_of(labels_of(30), split_of(train=20, val=10))
    alone, listed = (fit(path, C=C).to_dict() for C in (2, [2.0]))
    assert alone["parameters"] == listed["parameters"] == {"C": 2.0}


def test_the_summary_has_all_that_was_set(store_of):
    """The gamma of svm-rbf too, which follows from the training rows."""
    codes = make_codes(labels_of(30))
    path = store_of(labels_of(30), split_of(train=20, val=10), codes=codes)
    found = fit(path, clf="svm-rbf", C=1)
    rows = unit(codes)[:20]
    squares = np.sum((rows[:, None] - rows) ** 2, axis=2)[np.triu_indices(20, 1)]
    assert found.to_dict()["parameters"] == {
        "C": 1.0,
        "gamma": pytest.approx(1 / squares.mean(), rel=1e-6),
    }


def test_settings_with_several_classifiers_are_refused(tmp_path):
    """A parameter is of one of them."""
    assert refusal(OptionError, tmp_path / "none.h5", clf="auto", settings={"C": 1}) == (
        "--set belongs to one classifier, and --clf auto tries several. Choose one of logistic, "
        "ridge, linear-svm, svm-rbf, knn, centroid, lda."
    )


@pytest.mark.parametrize("name", ["knn", "centroid", "lda"])
def test_class_weights_where_there_are_none_are_refused(tmp_path, name):
    """Not every classifier can weigh classes."""
    assert refusal(OptionError, tmp_path / "none.h5", clf=name, class_weight="balanced") == (
        f"{name} cannot weigh classes. Leave out --class-weight, or use --clf logistic."
    )


@pytest.mark.parametrize(
    ("name", "flag", "words"),
    [
        ("refit", "--refit", "all"),
        ("duplicates", "--duplicates", "together or --duplicates keep"),
        ("class_weight", "--class-weight", "balanced"),
    ],
)
def test_an_unknown_word_is_refused(tmp_path, name, flag, words):
    """Before any work."""
    message = refusal(OptionError, tmp_path / "none.h5", **{name: "some"})
    expected = words.split(" or ")[0] if name != "duplicates" else "together or keep"
    assert message == f"No such word: {flag} some. Expected {flag} {expected}."


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "normalise",
            "l1",
            "No normalisation 'l1'. Use --normalise with one of l2, centre, sqrt-l2, none, auto.",
        ),
        ("solver", "dual", "Unknown value 'dual' for --solver"),
    ],
)
def test_an_unknown_normalisation_or_road_is_refused(store_of, name, value, message):
    """The message lists those there are."""
    assert refusal(OptionError, store_of(labels_of(6)), **{name: value}) == message


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm", "svm-rbf", "sgd"])
def test_balanced_weights_help_a_rare_class(store_of, name):
    """Six against sixty: with weights more of the rare ones are found."""
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


def test_no_warning_escapes(store_of):
    """Tiny classes, groups, every classifier: what the user should know are notes."""
    labels = [*labels_of(30), "one", "two", "two"]
    path = store_of(labels, groups=[f"g{i // 2}" for i in range(33)], codes=make_codes(labels))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in EXACT:
            fit(path, clf=name, C=[1, 1e6])
        fit(path, clf="auto", normalise="auto", C=[1, 10])
        found = fit(path, settings={"max_iter": 1})
    assert [str(each.message) for each in caught] == []
    assert found.notes[-1].startswith("In a fold that was scored: ")
    said = (
        "logistic ended before it converged. Use --set max_iter=100000, or --C with smaller values."
    )
    assert said in found.notes


# refusals


def test_no_labels_are_refused(store_of):
    """Without any label nothing can be learned; the message says where labels come from."""
    path = store_of([None] * 5)
    assert refusal(FitError, path) == (
        f"No image in {path} has a label. Labels come from class folders "
        "(data/CLASS/… or data/train/CLASS/…), a manifest (featx extract --manifest table.csv), "
        "or a table: featx fit --labels table.csv"
    )


@pytest.mark.parametrize(
    ("labels", "failed", "n"),
    [(["a"] * 5, {}, 5), (["a", "a", "b"], {2: "x"}, 2), (["a", "b", None], {0: "x", 1: "x"}, 0)],
)
def test_one_class_is_refused(store_of, labels, failed, n):
    """A classifier needs two classes among the images that could be read."""
    path = store_of(labels, failed=failed)
    assert refusal(FitError, path) == (
        f"{path} has {n} usable images with a label, of fewer than two classes. "
        "A classifier needs images of two classes."
    )


def test_splits_without_train_are_refused(store_of):
    """Images to score alone teach nothing."""
    path = store_of(labels_of(6), split_of(val=3, test=3))
    assert refusal(FitError, path) == (
        f"{path} has images for test, val, but none for train. "
        "Put images to learn from into data/train/CLASS/."
    )


def test_a_train_split_of_one_class_is_refused(store_of):
    """Two classes in the store do not help where train has one."""
    path = store_of(["a", "a", "a", "b", "b"], split_of(train=3, val=2))
    assert refusal(FitError, path) == (
        "The training images are all of one class. A classifier needs two."
    )


@pytest.mark.parametrize(
    ("labels", "groups"),
    [(["a", "b"], None), (["a", "a", "a", "b"], None), (["a", "a", "b", "b"], list("ggab"))],
)
def test_nothing_to_hold_out_is_refused(store_of, labels, groups):
    """Where no fold can be made and no split is given there is no honest score."""
    assert refusal(FitError, store_of(labels, groups=groups)) == (
        "Fewer than two classes have two images that do not belong together, so nothing can be "
        "held out to score. Add images, or a val split: data/train/CLASS, data/val/CLASS."
    )


def test_an_incomplete_store_is_refused_unless_partial(store_of):
    """Pending images stop a fit, until --partial says to go on without them."""
    path = store_of(labels_of(33), split_of(train=24, val=9), pending=[30, 31, 32])
    assert refusal(StoreError, path) == (
        f"{path} is not complete: codes of 3 of 33 images are missing. Run its featx extract "
        "again, which goes on where it stopped, or fit what is there with --partial."
    )
    found = fit(path, clf="ridge", partial=True)
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (24, 6)
    assert found.notes == ("Codes of 3 of 33 images are missing; fitted without them (--partial).",)


def test_an_existing_output_is_refused_before_any_work(tmp_path):
    """The output is looked at first: the store need not even exist."""
    output = tmp_path / "model.skops"
    output.write_text("mine")
    assert refusal(ExistsError, tmp_path / "none.h5", output=output) == (
        f"{output} exists. Use --overwrite to replace it, or another -o."
    )
    assert output.read_text() == "mine"


def test_an_existing_output_is_replaced_where_that_was_said(store_of, tmp_path):
    """With overwrite the file is the new bundle."""
    output = tmp_path / "model.skops"
    output.write_text("mine")
    path = store_of(labels_of(30), split_of(train=21, val=9))
    found = fit(path, clf="ridge", output=output, overwrite=True)
    assert load_model(output).summary == json.loads(json.dumps(found.to_dict()))
    assert found.to_dict()["model"] == str(output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.h5", "model.skops"]


@pytest.mark.parametrize("name", ["model.pkl", "model"])
def test_another_ending_is_refused_before_any_work(tmp_path, name):
    """Bundles are skops or joblib files, and are called so."""
    message = refusal(OptionError, tmp_path / "none.h5", output=tmp_path / name)
    assert all(fact in message for fact in (name, "NAME.skops", "NAME.joblib"))


def test_a_missing_folder_is_refused_before_any_work(tmp_path):
    """The bundle's folder is not made silently."""
    output = tmp_path / "missing" / "model.skops"
    assert str(output.parent) in refusal(OptionError, tmp_path / "none.h5", output=output)


def test_an_unknown_classifier_is_refused_before_any_work(tmp_path):
    """The message lists those there are."""
    assert refusal(OptionError, tmp_path / "none.h5", clf="forest") == (
        "No classifier 'forest'. Use --clf with one of logistic, ridge, linear-svm, svm-rbf, knn, "
        "centroid, lda, sgd, logistic-l1, hist-gradient-boosting, auto."
    )


def test_a_code_that_is_not_finite_is_refused(store_of):
    """NaN among the codes of done images, as damage may leave it, stops the fit with the row."""
    path = store_of(labels_of(20))
    with h5py.File(path, "r+") as file:
        file["codes/block1_conv1"][13, 5] = np.nan
    assert refusal(StoreError, path) == (
        "The code of row 13 is not finite. Extract again with --overwrite."
    )


def test_a_seed_below_zero_is_refused(store_of):
    """NumPy's own error would be a traceback."""
    message = refusal(OptionError, store_of(labels_of(20)), seed=-1)
    assert message == "No such seed: -1. Expected --seed from 0 to 4294967295."


def test_easy_data_gets_confident_probabilities(store_of):
    """Where all is right, the strongest penalty wins the search; its timid shares are mended."""
    labels = labels_of(60, 3)
    codes = make_codes(labels, strength=3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="logistic")
    assert found.evaluation.accuracy.value == 1
    assert found.model.predict_proba(codes["block1_conv1"]).max(axis=1).min() > 0.9


def test_two_images_get_the_classifiers_own_probabilities(store_of):
    """With one training image a class nothing can be held out to calibrate on."""
    labels = ["a", "b", "a", "b"]
    codes = make_codes(labels, strength=3)
    bundle = fit(store_of(labels, ["train", "train", "val", "val"], codes=codes)).model
    plain = LogisticRegression(max_iter=10_000, tol=1e-6).fit(unit(codes)[:2], labels[:2])
    shares = bundle.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(shares, plain.predict_proba(unit(codes)), atol=1e-4)


def test_nothing_is_saved_by_default(store_of, tmp_path):
    """Without an output no file is written."""
    found = fit(store_of(labels_of(30), split_of(train=21, val=9)), clf="ridge")
    assert found.to_dict()["model"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]


def test_to_dict_is_plain_values(store_of):
    """The summary survives JSON; its keys are those of the command line's --json."""
    path = store_of(labels_of(30), split_of(train=21, val=9))
    found = fit(path, clf="ridge").to_dict()
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
        "copies",
        "notes",
        "seconds",
        "model",
    }
    assert re.fullmatch(r"\d+\.\d+", str(found["seconds"]))
