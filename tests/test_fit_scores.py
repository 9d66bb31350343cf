"""Fits: scores are honest, leaks are reported, and baselines are scored too."""

import dataclasses

import h5py
import numpy as np
import pytest
from fits import fit, fit_with_baselines, labels_of, make_codes, split_of, unit
from sklearn.neighbors import KNeighborsClassifier

from featx.fitting import selection
from featx.metrics.intervals import proportion

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "knn"])
def test_permuted_labels_are_scored_at_chance(store_of, tmp_path, name):
    """The mean score of several fits on meaningless labels is that of chance.

    Labels are permuted within train and within val. Otherwise a class that is frequent in one
    would be rare in the other.
    """
    path = store_of(labels_of(60), split_of(train=21, val=39), codes=make_codes(labels_of(60)))
    y, accuracies = np.array(labels_of(60)), []
    table = tmp_path / "table.csv"
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn = [*rng.permutation(y[:21]), *rng.permutation(y[21:])]
        rows = [f"images/{i:03d}.png,{label}" for i, label in enumerate(drawn)]
        table.write_text("\n".join(["path,label", *rows]))
        found = fit(path, clf=name, C=[1, 10], labels=table)
        accuracies.append(found.evaluation.accuracy.value)
    error = np.sqrt(1 / 3 * 2 / 3 / (12 * 39))
    assert np.mean(accuracies) == pytest.approx(1 / 3, abs=3 * error)
    assert fit(path, clf=name, C=[1, 10]).evaluation.accuracy.value > 0.6


def test_permuted_labels_are_scored_at_chance_on_folds(store_of):
    codes, accuracies = make_codes(labels_of(45), strength=1), []
    for seed in range(4):
        labels = np.random.default_rng(seed).permutation(labels_of(45)).tolist()
        found = fit(store_of(labels, codes=codes), clf="ridge", C=[0.1, 100])
        accuracies.append(found.evaluation.accuracy.value)
    assert np.mean(accuracies) < 1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / (4 * 45))


@pytest.mark.parametrize("how", ["l2", "centre", "sqrt-l2"])
@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "knn"])
def test_features_of_the_scored_rows_alone_raise_no_score(store_of, name, how):
    """Some features are the label in the test split, and zero elsewhere."""
    labels = labels_of(180)
    raw = np.random.default_rng(0).standard_normal((180, 64)).astype(np.float32)
    raw[:, :3] = 0
    raw[np.arange(120, 180), np.arange(120, 180) % 3] = 10
    path = store_of(labels, split_of(train=80, val=40, test=60), codes={"block1_conv1": raw})
    found = fit(path, clf=name, normalise=how, C=[0.1, 10])
    assert found.evaluation.accuracy.value < 1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / 60)


@pytest.mark.parametrize("name", ["ridge", "svm-rbf", "knn"])
def test_labels_of_the_scored_images_do_not_change_the_choice(make_store, tmp_path, name):
    """The labels of val are exchanged, and the choice and the probabilities stay the same."""
    labels = labels_of(60, 2)
    codes = make_codes(labels, strength=0.3)
    splits = split_of(train=40, val=20)
    other = {"class 0": "class 1", "class 1": "class 0"}
    turned = [*labels[:40], *(other[label] for label in labels[40:])]
    one, two = (
        fit(make_store(tmp_path / f"{k}.h5", codes, y, splits), clf=name)
        for k, y in enumerate((labels, turned))
    )
    assert one.to_dict()["parameters"] == two.to_dict()["parameters"]
    assert one.to_dict()["tried"] == two.to_dict()["tried"]
    assert one.evaluation.accuracy.value == pytest.approx(1 - two.evaluation.accuracy.value)
    raw = codes["block1_conv1"]
    assert np.array_equal(one.model.predict_proba(raw), two.model.predict_proba(raw))


def test_images_of_a_group_stay_in_one_fold(store_of):
    """Labels that only the group predicts are scored at chance."""
    rng = np.random.default_rng(0)
    group = np.arange(60) // 3  # twenty groups of three near-duplicates
    codes = {"block1_conv1": rng.standard_normal((20, 64))[group].astype(np.float32)}
    codes["block1_conv1"] += 0.01 * rng.standard_normal((60, 64)).astype(np.float32)
    labels = [f"class {g % 2}" for g in group]
    apart = fit(store_of(labels, codes=codes), clf="ridge", C=[0.1, 1, 10])
    path = store_of(labels, groups=[f"g{g}" for g in group], codes=codes)
    joined = fit(path, clf="ridge", C=[0.1, 1, 10])
    assert apart.evaluation.accuracy.value > 0.95
    assert joined.evaluation.accuracy.value < 0.75


def test_a_group_in_train_and_val_is_reported(store_of):
    """No image is moved."""
    groups = [None] * 60
    groups[0] = groups[45] = groups[50] = "patient 7"
    groups[41] = groups[42] = "patient 8"  # both are in val
    found = fit(store_of(labels_of(60), split_of(train=40, val=20), groups), clf="ridge", C=[1])
    (note,) = found.notes
    assert "2 images of val" in note
    assert found.evaluation.n_images == 20


def test_the_same_file_in_train_and_val_is_reported(store_of):
    sha256 = [f"{i:064x}" for i in range(60)]
    sha256[54] = sha256[3]
    path = store_of(labels_of(60), split_of(train=40, val=20), sha256=sha256)
    found = fit(path, clf="ridge", C=[1])
    leak, pair = found.notes
    assert "1 image of val" in leak
    assert all(fact in pair for fact in ("--duplicates keep", "images/003.png", "images/054.png"))
    assert found.to_dict()["duplicates"] == [
        {
            "first": "images/003.png",
            "second": "images/054.png",
            "same_bytes": True,
            "correlation": 1.0,
        }
    ]


def test_the_score_without_duplicates_is_reported_too(store_of):
    """Images of given splits are not moved."""
    labels = labels_of(60)
    codes = make_codes(labels, strength=0.2)
    codes["block1_conv1"][[44, 51, 58]] = codes["block1_conv1"][[2, 3, 4]]
    sha256 = [f"{i:064x}" for i in range(60)]
    for second, first in ((44, 2), (51, 3), (58, 4)):
        sha256[second] = sha256[first]
    path = store_of(labels, split_of(train=40, val=20), codes=codes, sha256=sha256)
    found = fit(path, clf="knn", settings={"n_neighbors": 1})
    plain = KNeighborsClassifier(1).fit(unit(codes)[:40], labels[:40])
    correct = plain.predict(unit(codes)[40:]) == np.array(labels[40:])
    apart = ~np.isin(np.arange(40, 60), [44, 51, 58])
    assert correct[~apart].all()
    assert found.evaluation.n_images == 20
    assert found.evaluation.accuracy.value == correct.mean()
    without = found.to_dict()["without_duplicates"]
    assert set(without) == {"n_images", "accuracy", "balanced_accuracy"}
    assert without["n_images"] == 17
    assert without["accuracy"]["value"] == correct[apart].mean() < correct.mean()
    kept = fit(path, clf="knn", settings={"n_neighbors": 1}, duplicates="keep")
    assert (kept.to_dict()["without_duplicates"], kept.to_dict()["duplicates"]) == (None, [])
    assert kept.evaluation.accuracy.value == correct.mean()


@pytest.mark.parametrize("duplicates", ["together", "keep"])
def test_duplicates_stay_in_one_fold(store_of, monkeypatch, duplicates):
    """That holds for the folds that are scored and for those of the search."""
    labels = labels_of(48)
    sha256 = [f"{i:064x}" for i in range(48)]
    pairs_of_files = [(0, 3), (6, 21), (1, 40), (2, 47), (10, 13)]
    for first, second in pairs_of_files:
        sha256[second] = sha256[first]
    parts = []

    def spy_search(problem, rows, pairs, space):
        everything = set(range(48))
        parts.append((set(rows), everything - set(rows)))
        parts.extend((set(rows[a]), set(rows[b])) for a, b in pairs)
        return own(problem, rows, pairs, space)

    own = selection.search
    monkeypatch.setattr(selection, "search", spy_search)
    found = fit(store_of(labels, sha256=sha256), clf="ridge", C=[1], duplicates=duplicates)
    assert len(parts) == 6 * 6  # all images and five folds, each searched on five folds
    divided = [
        pair
        for one, other in parts
        for pair in pairs_of_files
        if (pair[0] in one and pair[1] in other) or (pair[1] in one and pair[0] in other)
    ]
    assert bool(divided) == (duplicates == "keep")
    assert len(found.to_dict()["duplicates"]) == (5 if duplicates == "together" else 0)


def test_duplicates_with_different_labels_are_reported(store_of):
    sha256 = [f"{i:064x}" for i in range(60)]
    sha256[31] = sha256[3]
    found = fit(store_of(labels_of(60), sha256=sha256), clf="ridge", C=[1])
    facts = ("images/003.png (class 0)", "images/031.png (class 1)")
    assert all(fact in found.notes[-1] for fact in facts)


def test_a_class_without_training_images_is_reported_and_counts_as_wrong(store_of):
    labels = [*labels_of(40), *["new"] * 5, *labels_of(15)]
    found = fit(store_of(labels, split_of(train=40, val=20)), clf="ridge", C=[1])
    (note,) = found.notes
    assert "new" in note
    recall = {score.label: score.recall for score in found.evaluation.per_class}
    assert recall["new"] == 0


def test_a_class_with_one_image_is_reported_and_counts_as_wrong(store_of):
    """It cannot be both fitted on and held out, and losses leave it out."""
    labels = [*labels_of(30), "lonely"]
    found = fit(store_of(labels, codes=make_codes(labels, strength=1)), clf="ridge", C=[1])
    assert ["lonely" in note for note in found.notes] == [True, True]
    assert {s.label: s.recall for s in found.evaluation.per_class}["lonely"] == 0
    assert found.model.classes[-1] == "lonely"
    assert found.evaluation.log_loss.value < 1.2  # with it, its -ln 0 alone would add more than 1


def test_the_baselines_are_the_majority_class_and_raw_pixels(store_of):
    """Each thumbnail has one shade of grey, which does not depend on the class."""
    labels = ["a"] * 33 + ["b"] * 27
    order = np.random.default_rng(0).permutation(60)
    labels = [labels[i] for i in order]
    path = store_of(labels, split_of(train=40, val=20), codes=make_codes(labels, strength=1))
    found = fit_with_baselines(path, clf="ridge").to_dict()
    expected = np.unique(labels[40:], return_counts=True)[1].max() / 20
    assert found["baselines"]["majority"]["value"] == pytest.approx(expected)
    assert found["baselines"]["pixels"]["classifier"] == "ridge"
    assert found["baselines"]["pixels"]["value"] == pytest.approx(expected, abs=0.15)
    assert found["accuracy"]["value"] > 0.9
    assert fit(path, clf="ridge").to_dict()["baselines"] is None


def test_the_majority_class_is_that_of_all_scored_images(store_of):
    """It is never below chance: of ten equal classes, each fold's own majority would be."""
    labels = [f"class {k // 4}" for k in range(40)]
    groups = [f"group {k // 2}" for k in range(40)]  # of one class
    path = store_of(labels, groups=groups, codes=make_codes(labels))
    found = fit_with_baselines(path, clf="ridge", C=[1], repeats=2).to_dict()
    assert found["baselines"]["majority"]["value"] == 0.1
    expected = proportion(np.array(labels) == "class 0", np.arange(40) // 2)
    assert found["baselines"]["majority"] == dataclasses.asdict(expected)
    assert found["n_images"] == 40


def test_pixels_that_predict_the_class_are_used(store_of):
    labels = labels_of(60, 2)
    path = store_of(labels, split_of(train=40, val=20))
    with h5py.File(path, "r+") as file:
        bright = np.where(np.arange(60) % 2, 30, 220).astype(np.uint8)
        (name,) = [name for name in file["images"] if "thumb" in name]
        file["images"][name][...] = bright[:, None, None, None]
    found = fit_with_baselines(path, clf="ridge", C=[1]).to_dict()
    assert found["baselines"]["pixels"]["value"] == 1
