"""Fitting: the same answer as plain scikit-learn on the codes, honestly scored, or a refusal."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from featx.classification import CLASSIFIERS, fit, load_bundle
from featx.errors import ExistsError, FitError, OptionError, StoreError

pytestmark = pytest.mark.usefixtures("one_thread")

# What featx promises to be, written down a second time.
PLAIN = {
    "logistic": (
        LogisticRegression(max_iter=10_000),
        {"C": [0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000]},
    ),
    "ridge": (
        RidgeClassifier(),
        {"alpha": [100, 10, 1, 0.1, 0.01, 0.001, 0.0001, 0.00001]},
    ),
    "linear-svm": (
        LinearSVC(max_iter=100_000, random_state=0),
        {"C": [0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000]},
    ),
}
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
    """What a careful user of scikit-learn would write."""
    estimator, grid = PLAIN[name]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return GridSearchCV(estimator, grid, cv=folds).fit(X, y)


def split_of(**counts: int) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


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


@pytest.mark.parametrize("name", PLAIN)
def test_the_table_is_what_it_promises(name):
    """Each classifier is scikit-learn's own, searched from the strongest penalty to none."""
    estimator, grid = PLAIN[name]
    made = CLASSIFIERS[name].make(0)
    assert type(made) is type(estimator)
    assert made.get_params() == estimator.get_params()
    ((parameter, values),) = grid.items()
    assert CLASSIFIERS[name].parameter == parameter
    assert CLASSIFIERS[name].values == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(("n_classes", "widths"), [(2, NARROW), (3, TWO)], ids=["2", "3 joined"])
@pytest.mark.parametrize("name", PLAIN)
def test_given_splits_equal_plain_scikit_learn(store_of, name, n_classes, widths):
    """Fitted on train and scored on val: same penalty, predictions and scores as by hand."""
    labels = labels_of(90, n_classes)
    codes = make_codes(labels, widths, strength=0.3)
    found = fit(store_of(labels, split_of(train=60, val=30), codes=codes), clf=name)
    X, y = unit(codes), np.array(labels)
    search = plain_search(name, X[:60], y[:60])
    expected = search.predict(X[60:])
    assert 0.5 < accuracy_score(y[60:], expected) < 1  # neither chance nor a walk-over
    assert found.to_dict()["parameters"] == search.best_params_
    assert found.to_dict()["scored_on"] == "val"
    assert found.to_dict()["n_train"] == 60
    assert found.evaluation.accuracy.value == accuracy_score(y[60:], expected)
    assert found.evaluation.balanced_accuracy.value == pytest.approx(
        balanced_accuracy_score(y[60:], expected)
    )
    assert np.array_equal(found.evaluation.confusion, confusion_matrix(y[60:], expected))
    raw = np.hstack(list(codes.values()))
    np.testing.assert_allclose(found.bundle.classifier[0].transform(raw), X, atol=1e-12)
    assert found.bundle.classifier.predict(raw[60:]).tolist() == expected.tolist()
    assert found.notes == ()


@pytest.mark.parametrize("name", PLAIN)
def test_wide_codes_equal_plain_scikit_learn(store_of, name):
    """The same holds where codes are 8192 wide and images are few."""
    labels = labels_of(36, 2)
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.standard_normal((36, 8, 8, 128)), 0)
    maps[::2] += 0.12 * rng.random((8, 8, 128))
    codes = {"block2_pool": maps.astype(np.float32)}
    found = fit(store_of(labels, split_of(train=24, val=12), codes=codes), clf=name)
    X, y = unit({"block2_pool": codes["block2_pool"].reshape(36, -1)}), np.array(labels)
    estimator, _ = PLAIN[name]
    by_hand = clone(estimator).set_params(**found.to_dict()["parameters"]).fit(X[:24], y[:24])
    assert found.evaluation.accuracy.value == by_hand.score(X[24:], y[24:]) > 0.6
    flat = codes["block2_pool"].reshape(36, -1)
    assert found.bundle.classifier.predict(flat).tolist() == by_hand.predict(X).tolist()


def test_folds_equal_plain_nested_cross_validation(store_of):
    """Without splits five folds are scored, each after a search of its own on the others."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.25)
    found = fit(store_of(labels, codes=codes), clf="ridge")
    X, y = unit(codes), np.array(labels)
    predicted = np.empty_like(y)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        predicted[test] = plain_search("ridge", X[train], y[train]).predict(X[test])
    assert found.to_dict()["scored_on"] == "5 folds"
    assert found.to_dict()["n_train"] == found.evaluation.n_images == 60
    assert np.array_equal(found.evaluation.confusion, confusion_matrix(y, predicted))
    assert found.to_dict()["parameters"] == plain_search("ridge", X, y).best_params_


def test_a_test_split_is_scored_once_after_a_fit_on_the_rest(store_of):
    """With all three splits train and val are fitted together, and test alone is scored."""
    labels = labels_of(90)
    codes = make_codes(labels, strength=0.3)
    found = fit(store_of(labels, split_of(train=40, val=20, test=30), codes=codes), clf="ridge")
    X, y = unit(codes), np.array(labels)
    search = plain_search("ridge", X[:60], y[:60])
    assert found.to_dict()["scored_on"] == "test"
    assert found.to_dict()["n_train"] == 60
    assert found.to_dict()["parameters"] == search.best_params_
    assert np.array_equal(
        found.evaluation.confusion, confusion_matrix(y[60:], search.predict(X[60:]))
    )
    assert found.notes == ("Fitted on train and val together; test is scored once.",)


def test_test_without_val_is_scored(store_of):
    """Train and test alone are enough; nothing is joined, so nothing is said."""
    found = fit(store_of(labels_of(60), split_of(train=40, test=20)), clf="ridge")
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("test", 40)
    assert found.notes == ()


def test_train_alone_is_scored_on_folds(store_of):
    """Where nothing is kept apart, folds of train are; the rest is left out."""
    found = fit(store_of(labels_of(40), [*split_of(train=36), *[None] * 4]), clf="ridge")
    assert (found.to_dict()["scored_on"], found.to_dict()["n_train"]) == ("5 folds", 36)
    assert found.notes == ("4 images belong to no split and are left out.",)


def test_a_layer_may_be_chosen(store_of):
    """Of a store with two layers, one is fitted as if the other were not there."""
    labels = labels_of(60)
    codes = make_codes(labels, TWO, strength=0.3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="ridge", layer="block2_conv1")
    search = plain_search("ridge", unit({"x": codes["block2_conv1"][:40]}), labels[:40])
    expected = search.predict(unit({"x": codes["block2_conv1"][40:]}))
    assert found.to_dict()["layers"] == ["block2_conv1"]
    assert found.bundle.recipe.layers == ("block2_conv1",)
    assert found.bundle.classifier.predict(codes["block2_conv1"][40:]).tolist() == list(expected)


def test_float16_codes_are_fitted(store_of):
    """A store of float16 gives what its numbers give in float64."""
    labels = labels_of(60)
    codes = {"block1_conv1": make_codes(labels)["block1_conv1"].astype(np.float16)}
    found = fit(store_of(labels, split_of(train=40, val=20), codes=codes), clf="ridge")
    X, y = unit(codes), np.array(labels)
    assert found.evaluation.accuracy.value == plain_search("ridge", X[:40], y[:40]).score(
        X[40:], y[40:]
    )


# honesty


def test_permuted_labels_score_as_chance(store_of):
    """Labels that mean nothing are predicted as by chance, in the mean of ten fits."""
    n, shares = 60, []
    codes = make_codes(labels_of(n), strength=1)
    for seed in range(10):
        labels = np.random.default_rng(seed).permutation(labels_of(n)).tolist()
        found = fit(store_of(labels, split_of(train=20, val=40), codes=codes), clf="ridge")
        shares.append(found.evaluation.accuracy.value)
    error = np.sqrt(1 / 3 * 2 / 3 / (10 * 40))
    assert np.mean(shares) == pytest.approx(1 / 3, abs=3 * error)
    assert (
        fit(
            store_of(labels_of(n), split_of(train=20, val=40), codes=codes), clf="ridge"
        ).evaluation.accuracy.value
        > 0.9
    )


def test_groups_keep_folds_from_flattering(store_of):
    """Labels that only the group tells score as chance once groups stay together."""
    rng = np.random.default_rng(0)
    group = np.arange(60) // 3  # twenty groups of three near-copies
    codes = {"block1_conv1": rng.standard_normal((20, 64))[group].astype(np.float32)}
    codes["block1_conv1"] += 0.01 * rng.standard_normal((60, 64)).astype(np.float32)
    labels = [f"class {g % 2}" for g in group]
    apart = fit(store_of(labels, codes=codes), clf="ridge")
    joined = fit(store_of(labels, groups=[f"g{g}" for g in group], codes=codes), clf="ridge")
    assert apart.evaluation.accuracy.value > 0.95
    assert joined.evaluation.accuracy.value < 0.75


def test_a_group_on_both_sides_is_reported(store_of):
    """A planted leak is counted in the images that are scored, and nothing is moved."""
    groups = [None] * 60
    groups[0] = groups[45] = groups[50] = "patient 7"
    groups[41] = groups[42] = "patient 8"  # both in val: no leak
    found = fit(store_of(labels_of(60), split_of(train=40, val=20), groups), clf="ridge")
    assert found.notes == (
        "2 images of val have the same bytes or group as a training image: "
        "the score may flatter. Move them to one side.",
    )
    assert found.evaluation.n_images == 20


def test_equal_bytes_on_both_sides_are_reported(store_of):
    """A file that is in train and val under two names is found by its hash."""
    sha256 = [f"{i:064x}" for i in range(60)]
    sha256[55] = sha256[3]
    found = fit(store_of(labels_of(60), split_of(train=40, val=20), sha256=sha256), clf="ridge")
    assert found.notes == (
        "1 images of val have the same bytes or group as a training image: "
        "the score may flatter. Move them to one side.",
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
    one, other = fit(path, clf=name, seed=3), fit(path, clf=name, seed=3)
    raw = codes["block1_conv1"]
    assert np.array_equal(one.bundle.predict_proba(raw), other.bundle.predict_proba(raw))
    assert {**one.to_dict(), "seconds": 0} == {**other.to_dict(), "seconds": 0}
    assert one.to_dict()["seed"] == 3


# probabilities


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_agree_with_decisions(store_of, tmp_path, name, n_classes):
    """Of a saved bundle they sum to 1, and the largest is what the plain classifier decides."""
    labels = labels_of(60, n_classes)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf=name, output=tmp_path / "model.skops")
    bundle = load_bundle(tmp_path / "model.skops")
    estimator, _ = PLAIN[name]
    X, raw = unit(codes), codes["block1_conv1"]
    plain = clone(estimator).set_params(**found.to_dict()["parameters"]).fit(X[:40], labels[:40])
    shares = bundle.predict_proba(raw)
    assert shares.shape == (60, n_classes)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    assert np.array(bundle.classes)[shares.argmax(axis=1)].tolist() == plain.predict(X).tolist()
    assert bundle.classifier.predict(raw).tolist() == plain.predict(X).tolist()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_temperature_mends_the_confidence(store_of, name):
    """On images never seen, the mean confidence is near the share that is right."""
    labels = labels_of(600, 3)
    codes = make_codes(labels, strength=0.12)
    found = fit(store_of(labels, split_of(train=200, val=400), codes=codes), clf=name)
    shares = found.bundle.predict_proba(codes["block1_conv1"][200:])
    assert 0.4 < found.evaluation.accuracy.value < 0.9
    assert shares.max(axis=1).mean() == pytest.approx(found.evaluation.accuracy.value, abs=0.1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["ridge", "linear-svm"])
def test_a_class_with_one_image_spoils_no_probability(store_of, name, n_classes):
    """A class that folds cannot divide is learned, and the others keep their probabilities."""
    labels = ["lonely", *labels_of(60, n_classes)]
    codes = make_codes(labels, strength=1)
    bundle = fit(store_of(labels, split_of(train=46, val=15), codes=codes), clf=name).bundle
    assert bundle.classes == tuple(sorted(set(labels)))
    shares = bundle.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    predicted = np.array(bundle.classes)[shares.argmax(axis=1)]
    assert predicted[1:].tolist() == labels[1:]
    assert shares.max(axis=1)[1:].mean() > 0.6


def test_a_class_with_one_image_counts_as_wrong(store_of):
    """It cannot be on both sides of a fold, so it is scored as wrong, and that is said."""
    labels = [*labels_of(30), "lonely"]
    found = fit(store_of(labels, codes=make_codes(labels, strength=1)), clf="ridge")
    assert found.notes == (
        "One image or group only in lonely: it cannot be learned and scored both, "
        "and counts as wrong.",
    )
    assert {s.label: s.recall for s in found.evaluation.per_class}["lonely"] == 0
    assert found.bundle.classes[-1] == "lonely"


# labels


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_that_look_like_numbers_are_names(store_of, tmp_path, name):
    """Classes 1, 10 and 2 are text, in the order of text, before and after saving."""
    labels = ["1", "2", "10"] * 14
    codes = make_codes(labels, strength=1)
    path = store_of(labels, split_of(train=30, val=12), codes=codes)
    found = fit(path, clf=name, output=tmp_path / "model.skops")
    bundle = load_bundle(tmp_path / "model.skops")
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
    found = fit(store_of(labels, codes=make_codes(labels, strength=2)), clf="linear-svm")
    assert found.to_dict()["scored_on"] == "3 folds"
    assert found.notes == ("3 folds rather than 5, since class b has 3 images or groups.",)


def test_too_few_images_to_search_take_the_default(store_of):
    """With one training image of each class the penalty is scikit-learn's own, and that is said."""
    labels = ["a", "b"] * 3
    path = store_of(labels, split_of(train=2, val=4), codes=make_codes(labels, strength=3))
    found = fit(path, clf="logistic")
    assert found.to_dict()["parameters"] == {"C": 1.0}
    assert found.notes == ("Too few images to choose C: scikit-learn's default was used.",)
    assert refusal(FitError, path, clf="ridge") == (
        "Too few images to give ridge probabilities: they are fitted on images held out of the "
        "training part. Use --clf logistic."
    )


# refusals


def test_no_labels_are_refused(store_of):
    """Without any label nothing can be learned; the message says where labels come from."""
    path = store_of([None] * 5)
    assert refusal(FitError, path) == (
        f"No image in {path} has a label. Labels come from class folders "
        "(data/CLASS/… or data/train/CLASS/…) or a manifest: featx extract --manifest table.csv"
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
        f"{path} is not complete: 3 of 33 images have no codes yet. Run its featx extract again, "
        "which goes on where it stopped, or fit what is there with --partial."
    )
    found = fit(path, clf="ridge", partial=True)
    assert (found.to_dict()["n_train"], found.evaluation.n_images) == (24, 6)
    assert found.notes == ("3 of 33 images have no codes yet; fitted without them (--partial).",)


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
    assert load_bundle(output).summary == json.loads(json.dumps(found.to_dict()))
    assert found.to_dict()["model"] == str(output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.h5", "model.skops"]


@pytest.mark.parametrize("name", ["model.joblib", "model"])
def test_another_ending_is_refused_before_any_work(tmp_path, name):
    """Bundles are skops files, and are called so."""
    assert refusal(OptionError, tmp_path / "none.h5", output=tmp_path / name) == (
        f"Cannot tell a format from {name}. Expected -o NAME.skops."
    )


def test_a_missing_folder_is_refused_before_any_work(tmp_path):
    """The bundle's folder is not made silently."""
    output = tmp_path / "missing" / "model.skops"
    assert refusal(OptionError, tmp_path / "none.h5", output=output) == (
        f"No folder {output.parent} to write model.skops into. Make it, or another -o."
    )


def test_an_unknown_classifier_is_refused_before_any_work(tmp_path):
    """The message lists those there are."""
    assert refusal(OptionError, tmp_path / "none.h5", clf="forest") == (
        "No classifier 'forest'. Use --clf with one of logistic, ridge, linear-svm."
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
    assert found.bundle.predict_proba(codes["block1_conv1"]).max(axis=1).min() > 0.9


def test_two_images_get_the_classifiers_own_probabilities(store_of):
    """With one training image a class nothing can be held out to calibrate on."""
    labels = ["a", "b", "a", "b"]
    codes = make_codes(labels, strength=3)
    bundle = fit(store_of(labels, ["train", "train", "val", "val"], codes=codes)).bundle
    plain = LogisticRegression(max_iter=10_000).fit(unit(codes)[:2], labels[:2])
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
    assert json.loads(json.dumps(found))["codes"] == str(path)
    assert list(found) == [
        "codes",
        "layers",
        "classifier",
        "parameters",
        "seed",
        "n_train",
        "scored_on",
        "n_images",
        "accuracy",
        "balanced_accuracy",
        "per_class",
        "confusion",
        "notes",
        "seconds",
        "model",
    ]
    assert re.fullmatch(r"\d+\.\d+", str(found["seconds"]))
