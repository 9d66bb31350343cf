"""Fine-tuning from images to results: the split, the linear probe, the cache, resumed runs.

A network of two blocks is trained on images of 32 pixels, whose classes overlap slightly.
"""

import csv
import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import featx
from featx.errors import FitError, ModelError, OptionError, RecipeMismatchError
from featx.finetuning.heads import custom_layers
from featx.images import read_image
from featx.metrics.intervals import Score
from featx.network import find_weights, read_weights
from featx.store import open_store
from featx.workflows import FinetuneProgress, prepare_finetune, run_finetune
from featx.workflows.finetuning.comparison import advice_of
from featx.workflows.heads import tuned_model

# Keras converts TensorFlow's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = {"layer": "block2_pool", "size": 32, "init": "random:0", "epochs": 2, "batch_size": 8}
# By default, no layer with random weights is frozen.
TINY |= {"freeze_until": "block1_pool", "block_decay": 0.5}
COLOURS = {"ant": (110, 80, 120), "bee": (120, 110, 80), "cat": (80, 120, 110)}


def draw(folder, n_images, classes=tuple(COLOURS), seed=0):
    """Draw some images of each class: a colour, much noise, and a bright left half."""
    rng = np.random.default_rng([seed, len(classes)])
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(n_images):
            colour = np.array(COLOURS[name]) + rng.normal(0, 25, 3)
            pixels = colour + rng.normal(0, 30, (36, 40, 3))
            pixels[:, :20] += 60
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / name / f"{seed}-{i}.png")
    return folder


class BegunError(Exception):
    """A run was stopped after the fit of its probe."""


def begin(images, output, **settings):
    """Run until the probe is fitted; return the set of each path, and the probe."""

    def stage(text):
        if "probe" in text:
            raise BegunError

    progress = FinetuneProgress(stage=stage)
    job = prepare_finetune(images, output=output, progress=progress, **TINY | settings)
    with pytest.raises(BegunError):
        run_finetune(job)
    return parts_of(output), featx.load_model(output / "probe.skops")


def parts_of(folder):
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["set"] for row in csv.DictReader(file)}


def digests(root, parts, *names):
    """Return sha256 of the files of some sets, computed by hashlib."""
    return {
        hashlib.sha256((root / path).read_bytes()).hexdigest()
        for path, part in parts.items()
        if part in names
    }


def with_part(parts, name):
    return {path for path, part in parts.items() if part == name}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of three classes, 14 for train and 8 for val of each."""
    folder = tmp_path_factory.mktemp("images") / "data"
    draw(folder / "train", 14)
    draw(folder / "val", 8, seed=1)
    return folder


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """A run without augmentation and without cache: its folder and its result."""
    folder = tmp_path_factory.mktemp("made") / "tuned"
    done = featx.finetune(data, output=folder, augment="none", lr=3e-4, **TINY)
    return folder, done


# the split


def test_val_is_the_test_set_and_a_seventh_of_train_is_for_early_stopping(made, data):
    """The early-stopping set has images of every class."""
    folder, done = made
    parts = parts_of(folder)
    assert with_part(parts, "test") == {p for p in parts if p.startswith("val/")}
    assert len(parts) == 66
    stopping = with_part(parts, "early-stopping")
    assert Counter(path.split("/")[1] for path in stopping) == dict.fromkeys(COLOURS, 2)
    expected = {"train": 36, "early_stopping": 6, "test": 24, "test_from": "val"}
    assert done.facts["split"] == expected


def test_nothing_is_fitted_on_the_test_set(made, data):
    """The probe is fitted on the training set; the network also used the early-stopping set."""
    folder, _ = made
    parts = parts_of(folder)
    fitted = digests(data, parts, "train")
    seen = digests(data, parts, "train", "early-stopping")
    for name in ("probe.skops", "fit_on_tuned.skops"):
        assert set(featx.load_model(folder / name).fitted_on) == fitted
    assert set(tuned_model(folder / "tuned.keras").fitted_on) == seen
    assert not seen & digests(data, parts, "test")


def test_with_three_splits_val_is_for_early_stopping_and_test_is_the_test_set(tmp_path):
    """The given splits are used as they are."""
    for seed, name in enumerate(("train", "val", "test")):
        draw(tmp_path / "data" / name, 4, seed=seed)
    parts, probe = begin(tmp_path / "data", tmp_path / "out")
    expected = {"train": "train", "val": "early-stopping", "test": "test"}
    assert parts == {path: expected[path.split("/")[0]] for path in parts}
    assert len(parts) == 36
    assert set(probe.fitted_on) == digests(tmp_path / "data", parts, "train")


def test_without_splits_a_fold_is_the_test_set(tmp_path):
    """A fifth of every class, and about a seventh of the rest is for early stopping."""
    draw(tmp_path / "data", 15)
    parts, probe = begin(tmp_path / "data", tmp_path / "out")
    counts = Counter((path.split("/")[0], part) for path, part in parts.items())
    assert all(counts[name, "test"] == 3 for name in COLOURS)
    assert 5 <= sum(counts[name, "early-stopping"] for name in COLOURS) <= 7
    assert len(parts) == 45
    assert set(probe.fitted_on) == digests(tmp_path / "data", parts, "train")


def grouped(folder):
    """Draw 18 images per class, half of them in groups of three, with duplicates and a table."""
    draw(folder, 18)
    rows = []
    for path in sorted(folder.rglob("*.png")):
        number = int(path.stem.split("-")[1])
        group = f"{path.parent.name}{number // 3}" if number < 9 else ""
        rows.append((path.relative_to(folder), path.parent.name, group))
        if number % 6 == 1:
            copy = path.with_name(f"copy-{number}.png")
            shutil.copy(path, copy)
            rows.append((copy.relative_to(folder), path.parent.name, ""))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    return folder / "table.csv", {str(path): group for path, _, group in rows}


@pytest.mark.parametrize("seed", [0, 1])
def test_groups_and_duplicates_stay_in_one_set(tmp_path, seed):
    """Images of a group are in one set, and so are files with the same bytes."""
    table, groups = grouped(tmp_path / "data")
    parts, _ = begin(None, tmp_path / "out", manifest=table, seed=seed)
    assert set(parts.values()) == {"train", "early-stopping", "test"}
    sides = defaultdict(set)
    for path, part in parts.items():
        sides[hashlib.sha256((tmp_path / "data" / path).read_bytes()).hexdigest()].add(part)
        if groups[path]:
            sides[groups[path]].add(part)
    assert len(sides) == 54 + 9
    assert all(len(found) == 1 for found in sides.values())


def test_images_outside_the_manifest_are_not_used(tmp_path):
    """Codes of the tuned network are of the images of the table, not of the folder."""
    table, groups = grouped(tmp_path / "data")
    draw(tmp_path / "data" / "else", 2)
    done = featx.finetune(manifest=table, output=tmp_path / "out", **TINY | {"epochs": 1})
    store = open_store(tmp_path / "out/tuned_codes.h5")
    assert set(store.images.path) == set(groups)
    assert done.scores["fit_on_tuned"].value > done.scores["majority"].value


# the linear probe


@pytest.mark.parametrize("pool", ["avg", "avg+max", "grid:2"])
def test_before_training_the_network_is_the_probe(data, tmp_path, pool):
    """With a tiny learning rate, every test image is predicted as by the probe."""
    images = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            shutil.copytree(data / split / name, images / split / name)
    settings = TINY | {"pool": pool, "epochs": 1}
    done = featx.finetune(images, output=tmp_path / "out", clf="linear-svm", lr=1e-12, **settings)
    facts = done.facts
    assert facts["tuned"] == facts["probe"]
    assert 0.5 < facts["probe"]["value"] < 1
    assert facts["tuned_scores"]["confusion"] == facts["probe_scores"]["confusion"]
    assert facts["tuned_scores"]["log_loss"] == pytest.approx(
        facts["probe_scores"]["log_loss"], abs=1e-5
    )
    # Equal predictions of few images do not prove that the two are equally good.
    assert facts["gain"]["value"] == 0
    assert facts["gain"]["low"] < 0 < facts["gain"]["high"]
    assert done.training.best == 0


def model_of(images, folder, *, layer="block2_conv1", weights="random:3", **settings):
    """Extract and fit, with other settings than the defaults of a fine-tuning."""
    recipe = {"pool": "max", "size": (32, 40), "preprocess": "unit", "resize": "pad"}
    codes = folder / "model.h5"
    featx.extract(images, layer=layer, output=codes, weights=weights, jpeg="full", **recipe)
    featx.fit(codes, output=folder / "model.skops", baselines=False, **settings)
    return folder / "model.skops"


def test_a_model_gives_the_settings_and_its_images_are_not_test_images(tmp_path):
    """Recipe, classifier and settings are those of the model."""
    images = draw(tmp_path / "data", 8)
    settings = {"clf": "ridge", "normalise": "centre", "settings": {"alpha": 0.5}}
    model = model_of(images, tmp_path, **settings)
    known = {hashlib.sha256(path.read_bytes()).hexdigest() for path in images.rglob("*.png")}
    draw(tmp_path / "more", 6, seed=5)
    for name in COLOURS:
        for path in (tmp_path / "more" / name).iterdir():
            shutil.move(path, images / name)
    tuning = {"layer": None, "size": None, "init": None}
    parts, probe = begin(images, tmp_path / "out", from_model=model, **tuning)
    own = featx.load_model(model)
    assert probe.recipe == own.recipe
    assert set(own.fitted_on) == known
    for name in ("classifier", "normalise", "parameters"):
        assert probe.summary[name] == own.summary[name]
    test_images = digests(images, parts, "test")
    assert test_images
    assert not test_images & known
    assert known <= digests(images, parts, "train", "early-stopping")


def refused(kind, message):
    return pytest.raises(kind, match=re.escape(message))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("layer", "block1_pool"),
        ("pool", "avg"),
        ("size", 64),
        ("init", "bundled"),
        ("preprocess", "caffe"),
        ("resize", "crop"),
        ("precision", "bfloat16"),
        ("clf", "logistic"),
    ],
)
def test_settings_that_a_model_implies_are_refused(tmp_path, models, flag, value):
    """The message has the flag, and nothing is written."""
    with refused(OptionError, f"--from-model cannot be combined with --{flag}"):
        prepare_finetune(
            models, from_model=models / "../ridge.skops", output=tmp_path / "o", **{flag: value}
        )
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Images with train and val, and next to them models that can be a head and others."""
    folder = tmp_path_factory.mktemp("models")
    images = folder / "data"
    draw(images / "train", 8)
    draw(images / "val", 3, seed=1)
    shared = {"size": 32, "weights": "random:0", "pool": "avg"}
    featx.extract(images, layer="block1_pool", output=folder / "one.h5", **shared)
    layers = ["block1_conv1", "block1_pool"]
    featx.extract(images, layer=layers, output=folder / "two.h5", **shared)
    fitted = {"baselines": False}
    featx.fit(folder / "one.h5", clf="ridge", output=folder / "ridge.skops", **fitted)
    featx.fit(folder / "one.h5", clf="knn", output=folder / "knn.skops", **fitted)
    featx.fit(folder / "two.h5", output=folder / "two.skops", **fitted)
    featx.fit(folder / "one.h5", refit="all", output=folder / "all.skops", **fitted)
    return images


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("two.skops", "LogisticRegression on block1_conv1+block1_pool"),
        ("knn.skops", "StableNeighbours on block1_pool"),
    ],
)
def test_a_model_that_cannot_be_a_head_is_refused(tmp_path, models, name, what):
    """Two layers, or a classifier that is not linear."""
    with refused(OptionError, what):
        prepare_finetune(models, from_model=models.parent / name, output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_unsupported_codes_are_refused(tmp_path, models):
    """Several views of an image, or square roots, which have no derivative at 0."""
    featx.extract(
        models, layer="block1_pool", pool="avg", scale=32, flip=True, weights="random:0",
        output=tmp_path / "views.h5",
    )  # fmt: skip
    featx.fit(tmp_path / "views.h5", output=tmp_path / "views.skops", baselines=False)
    with refused(OptionError, "--scale, --flip"):
        prepare_finetune(models, from_model=tmp_path / "views.skops", output=tmp_path / "o")
    with refused(OptionError, "--pool bilinear"):
        prepare_finetune(models, pool="bilinear", size=32, output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_model_of_other_weights_is_refused(tmp_path, models, monkeypatch):
    """The weights file may have been replaced since the fit."""
    model = featx.load_model(models.parent / "ridge.skops")
    model.provenance["extraction"]["weights"] = "random:7"
    with pytest.raises(RecipeMismatchError, match=r"random:0.*random:7"):
        prepare_finetune(models, from_model=model, output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_model_that_was_fitted_on_all_images_is_refused(tmp_path, models):
    """No image is left for the test set."""
    job = prepare_finetune(models, from_model=models.parent / "all.skops", output=tmp_path / "o")
    with pytest.raises(FitError, match=r"val.*--refit all"):
        run_finetune(job)


# the results


def own_probabilities(folder, files):
    """Return the probabilities that Keras computes with tuned.keras, for image files."""
    custom_layers()
    model = keras.models.load_model(folder / "tuned.keras")
    pixels = np.array([read_image(Path(file), (32, 32), "squash").pixels for file in files])
    return np.asarray(model(pixels))


def test_predict_gives_the_networks_own_probabilities(made, data):
    """`featx predict` with tuned.keras computes the same as Keras does."""
    folder, _ = made
    table = featx.predict(data, model=folder / "tuned.keras")
    shares = table.filter(like="p_").to_numpy()
    np.testing.assert_allclose(shares, own_probabilities(folder, table["file"]), atol=1e-4)
    assert [name for name in table if name.startswith("p_")] == ["p_ant", "p_bee", "p_cat"]


def test_evaluate_leaves_out_the_training_images(made, data):
    """The test set is scored, as the run itself did."""
    folder, done = made
    found = featx.evaluate(data, model=folder / "tuned.keras")
    assert (found.n_training_images, found.evaluation.n_images) == (42, 24)
    assert found.evaluation.accuracy.value == done.scores["tuned"].value
    assert found.evaluation.log_loss.value == pytest.approx(
        done.facts["tuned_scores"]["log_loss"]["value"], abs=1e-4
    )


def test_the_training_changed_the_network(made, data):
    """Otherwise the other tests would only compare the probe with itself."""
    folder, done = made
    probe = featx.predict(data, model=folder / "probe.skops").filter(like="p_").to_numpy()
    tuned = featx.predict(data, model=folder / "tuned.keras").filter(like="p_").to_numpy()
    assert np.abs(probe - tuned).max() > 1e-3
    assert done.training.best > 0


def test_codes_of_the_tuned_weights(made, data, tmp_path):
    """extract and fit work on tuned.weights.h5; its codes and the head are the network."""
    folder, done = made
    codes = tmp_path / "codes.h5"
    featx.extract(
        data,
        layer="block2_pool",
        pool="avg",
        size=32,
        weights=str(folder / "tuned.weights.h5"),
        output=codes,
    )
    store = open_store(codes)
    head = tuned_model(folder / "tuned.keras").classifier
    files = [data / path for path in store.images.path]
    np.testing.assert_allclose(
        head.predict_proba(store.flat_codes("block2_pool")),
        own_probabilities(folder, files),
        atol=1e-4,
    )
    again = featx.fit(codes, labels=folder / "split.csv", split_column="split", baselines=False)
    assert again.evaluation.accuracy.value == done.scores["fit_on_tuned"].value


def test_a_frozen_layer_keeps_its_weights(made):
    """Frozen layers have the initial weights, bit for bit."""
    folder, _ = made
    before, after = (
        read_weights(find_weights(spec, ["block2_pool"]), ["block2_pool"])
        for spec in ("random:0", str(folder / "tuned.weights.h5"))
    )
    for name in ("block1_conv1", "block1_conv2"):
        assert np.array_equal(before[name][0], after[name][0])
    assert not np.array_equal(before["block2_conv1"][0], after["block2_conv1"][0])


def test_run_json_agrees_with_the_other_files(made, data):
    """Its four scores are those of predictions with the saved models."""
    folder, done = made
    facts = json.loads((folder / "run.json").read_text())
    assert facts == json.loads(json.dumps(done.facts))
    test_images = [data / path for path in sorted(with_part(parts_of(folder), "test"))]
    truth = [path.parent.name for path in test_images]
    for name, model in (("probe", "probe.skops"), ("tuned", "tuned.keras")):
        found = featx.predict(test_images, model=folder / model)["label"]
        assert facts[name]["value"] == np.mean(found == truth)
    assert facts["majority"]["value"] == pytest.approx(1 / 3)
    assert facts["gain"]["value"] == pytest.approx(
        facts["tuned"]["value"] - facts["probe"]["value"]
    )
    for name in ("majority", "probe", "tuned", "fit_on_tuned"):
        assert set(facts[name]) == {"value", "low", "high"}
        assert facts[name]["low"] <= facts[name]["value"] <= facts[name]["high"]
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert [float(row["stopping_loss"]) for row in rows] == [
        e["stopping_loss"] for e in facts["history"]
    ]
    best = min(facts["history"], key=lambda epoch: epoch["stopping_loss"])
    assert facts["best_epoch"] == best["epoch"]


@pytest.mark.parametrize(
    ("gain", "best", "use"),
    [
        (Score(0.1, 0.02, 0.2), 1, "fine-tuned network"),
        (Score(-0.1, -0.2, -0.02), 1, "linear probe"),
        (Score(0.1, -0.02, 0.2), 1, "linear probe"),
        (Score(0.1, 0.0, 0.2), 1, "linear probe"),
        (Score(0.0, 0.0, 0.0), 0, "linear probe"),
    ],
)
def test_the_advice_follows_from_the_interval(gain, best, use):
    """The network has to be significantly better than the simpler probe."""
    scores = {"probe": Score(0.8, 0.7, 0.9), "fit_on_tuned": Score(0.85, 0.7, 0.9)}
    first = advice_of(scores, gain, best=best).split(".")[0]
    assert use in first.partition(":")[0]


# the cache


def test_a_cache_without_augmentation_changes_no_loss(made, data, tmp_path):
    """Stored activations give the losses of the images; augmentation is off."""
    _, straight = made
    job = prepare_finetune(data, output=tmp_path / "out", cache=0, lr=3e-4, **TINY)
    assert job.settings.augment == "none"
    assert "--cache 0" in job.notes[0]
    done = run_finetune(job)
    for name in ("loss", "stopping_loss"):
        one, two = (
            np.array([getattr(epoch, name) for epoch in found.training.history], float)
            for found in (straight, done)
        )
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert one[0] - one[-1] > 1e-3  # something was trained


@pytest.mark.slow
def test_augmented_copies_are_stored_and_used_again(data, tmp_path):
    """Each activation of a copy is of the image or of its mirror image; a perceptron of two
    classes is trained on them, and a second run uses the stored ones."""
    images = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            shutil.copytree(data / split / name, images / split / name)
    settings = {"cache": 2, "augment": "flip", "head": "mlp:6", "output": tmp_path / "out"}
    done = featx.finetune(images, **settings, **TINY)
    folder = tmp_path / "out"
    shutil.copytree(images, tmp_path / "mirrored")
    for path in (tmp_path / "mirrored").rglob("*.png"):
        # Mirror the image at the size of the network's input.
        pixels = read_image(path, (32, 32), "squash").pixels
        Image.fromarray(pixels[:, ::-1]).save(path)
    shared = {"layer": "block1_pool", "pool": "none", "size": 32, "weights": "random:0"}
    featx.extract(tmp_path / "mirrored", output=tmp_path / "mirrored.h5", **shared)
    mirrored = np.array(open_store(tmp_path / "mirrored.h5").codes("block1_pool"))
    plain, *copies = (
        np.array(open_store(folder / f"frozen-{k}.h5").codes("block1_pool")) for k in range(3)
    )
    shares = []
    for copy in copies:
        same, other = (
            np.abs(copy - known).max(axis=(1, 2, 3)) < 1e-3 * np.abs(plain).max()
            for known in (plain, mirrored)
        )
        assert (same ^ other).all()
        shares.append(other)
    assert all(0.2 < share.mean() < 0.8 for share in shares)
    assert (shares[0] != shares[1]).any()
    model = tuned_model(folder / "tuned.keras")
    files = sorted((images / "val").rglob("*.png"))
    table = featx.predict(files, model=model)
    np.testing.assert_allclose(table.filter(like="p_"), own_probabilities(folder, files), atol=1e-4)
    stamps = [(folder / f"frozen-{k}.h5").stat().st_mtime_ns for k in range(3)]
    again = featx.finetune(images, overwrite=True, **settings, **TINY)
    assert [(folder / f"frozen-{k}.h5").stat().st_mtime_ns for k in range(3)] == stamps
    assert [e.loss for e in again.training.history] == [e.loss for e in done.training.history]
    assert again.training.resumed == 0


@pytest.mark.slow
@pytest.mark.usefixtures("one_unsafe_batch")
def test_augmented_copies_are_the_same_after_an_interruption(data, tmp_path):
    """The augmentation of an image does not depend on the other images of its batch."""
    settings = {"cache": 1, "augment": "lecture"} | TINY | {"epochs": 1}
    featx.finetune(data, output=tmp_path / "straight", **settings)
    stages, passes = [], []

    def images(n_done, n_images):
        if any(stage.startswith("activations") for stage in stages):
            passes.append(n_done)
            # The first pass is without augmentation.
            if passes.count(n_images) == 1 and n_done not in {0, n_images}:
                raise KeyboardInterrupt

    progress = FinetuneProgress(stage=stages.append, images=images)
    job = prepare_finetune(data, output=tmp_path / "stopped", progress=progress, **settings)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(job)
    # The second run has other batches.
    n_done = sum(open_store(tmp_path / "stopped/frozen-1.h5").images.done)
    assert 0 < n_done < 66
    featx.finetune(data, output=tmp_path / "stopped", **settings)
    straight, stopped = (
        np.array(open_store(tmp_path / name / "frozen-1.h5").codes("block1_pool"))
        for name in ("straight", "stopped")
    )
    np.testing.assert_allclose(stopped, straight, atol=1e-4 * straight.max())


def test_a_perceptron_of_three_classes(data, tmp_path):
    """An mlp head is initialised at random, trained, and predicts from tuned.keras."""
    done = featx.finetune(
        data, output=tmp_path / "out", head="mlp:8,6", dropout=0.2, **TINY | {"epochs": 1}
    )
    assert done.facts["head"] == {"hidden": [8, 6], "init": "random"}
    files = sorted((data / "val").rglob("*.png"))
    table = featx.predict(files, model=tmp_path / "out/tuned.keras")
    shares = own_probabilities(tmp_path / "out", files)
    np.testing.assert_allclose(table.filter(like="p_"), shares, atol=1e-4)
    labels = np.array(["ant", "bee", "cat"])[shares.argmax(axis=1)]
    assert list(table["label"]) == list(labels)


# resumed runs


def files_of(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"epochs": 3}, "epochs is 3, was 2"),
        ({"lr": 1e-3}, "lr is 0.001, was 0.0003"),
        ({"seed": 1}, "seed is 1, was 0"),
        ({"clf": "ridge"}, 'probe is {"clf": "ridge"}, was {"clf": "logistic"}'),
        ({"head_init": "random"}, "head is ['random'], was ['probe']"),
        ({"cache": 0}, "cache is 0, was None"),
        ({"pool": "max"}, "--pool avg --size "),
    ],
)
def test_other_settings_are_refused_and_no_file_changes(made, data, settings, field):
    """The message has the old and the new value."""
    folder, _ = made
    before = files_of(folder)
    given = TINY | {"augment": "none", "lr": 3e-4} | settings
    with refused((OptionError, RecipeMismatchError), field):
        featx.finetune(data, output=folder, **given)
    assert files_of(folder) == before


def test_a_finished_run_is_read(made, data):
    """The same settings give the same result without training; no file is written."""
    folder, done = made
    before = files_of(folder)
    stages = []
    progress = FinetuneProgress(stage=stages.append)
    again = featx.finetune(data, output=folder, augment="none", lr=3e-4, progress=progress, **TINY)
    assert files_of(folder) == before
    assert again.scores == done.scores
    assert (again.gain, again.advice, again.training.history) == (
        done.gain,
        done.advice,
        done.training.history,
    )
    (stage,) = stages
    assert str(folder) in stage
    assert "--overwrite" in stage


def test_a_missing_model_is_refused(tmp_path):
    """The message has its name."""
    with refused(ModelError, "no.skops"):
        prepare_finetune(tmp_path, from_model="no.skops", output=tmp_path / "o")
