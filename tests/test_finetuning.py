"""Fine-tuning from images to results: the parts, the probe, the cache, and what comes of it all.

A network of two blocks on pictures of 32 pixels, whose classes overlap a little.
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
from featx.workflows.finetuning.comparing import advice_of
from PIL import Image

import featx
from featx.errors import FitError, ModelError, OptionError, RecipeMismatchError
from featx.finetuning.heads import custom_layers
from featx.images import read_image
from featx.metrics.intervals import Score
from featx.network import find_weights, read_weights
from featx.store import open_store
from featx.workflows.finetuning import Progress, prepare_finetune, run_finetune
from featx.workflows.heads import tuned_model

# Keras reads TensorFlow's variables in a way that NumPy 2 will not take for ever.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = {"layer": "block2_pool", "size": 32, "init": "random:0", "epochs": 2, "batch_size": 8}
# Else nothing of random weights is frozen.
TINY |= {"freeze_until": "block1_pool", "block_decay": 0.5}
COLOURS = {"ant": (110, 80, 120), "bee": (120, 110, 80), "cat": (80, 120, 110)}


def draw(folder, n_images, classes=tuple(COLOURS), seed=0):
    """Draw so many pictures a class: a hue, much noise, and a bright left half."""
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
    """A run was stopped when its probe was fitted."""


def begin(images, output, **settings):
    """Run until the probe is fitted; return part by path, and the bundle of the probe."""

    def stage(text):
        if text.startswith("probe"):
            raise BegunError

    job = prepare_finetune(images, output=output, **TINY | settings)
    with pytest.raises(BegunError):
        run_finetune(job, progress=Progress(stage=stage))
    return parts_of(output), featx.load_model(output / "probe.skops")


def parts_of(folder):
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["set"] for row in csv.DictReader(file)}


def digests(root, parts, *names):
    """Return sha256 of the files of some parts, by hashlib."""
    return {
        hashlib.sha256((root / path).read_bytes()).hexdigest()
        for path, part in parts.items()
        if part in names
    }


def with_part(parts, name):
    return {path for path, part in parts.items() if part == name}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of three classes, train of 14 and val of 8 each."""
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


# the parts


def test_val_is_untouched_and_a_seventh_of_train_stops(made, data):
    """Of train and val, val is compared on; what stops is taken from train, of every class."""
    folder, done = made
    parts = parts_of(folder)
    assert with_part(parts, "test") == {p for p in parts if p.startswith("val/")}
    assert len(parts) == 66
    stopping = with_part(parts, "early-stopping")
    assert Counter(path.split("/")[1] for path in stopping) == dict.fromkeys(COLOURS, 2)
    assert done.facts["parts"] == {
        "train": 36,
        "early-stopping": 6,
        "test": 24,
        "where": "val",
    }


def test_nothing_that_is_fitted_has_seen_the_untouched_part(made, data):
    """The probe has seen what is trained on alone; the network also what stops; neither val."""
    folder, _ = made
    parts = parts_of(folder)
    fitted = digests(data, parts, "train")
    seen = digests(data, parts, "train", "early-stopping")
    for name in ("probe.skops", "fit_on_tuned.skops"):
        assert set(featx.load_model(folder / name).fitted_on) == fitted
    assert set(tuned_model(folder / "tuned.keras").fitted_on) == seen
    assert not seen & digests(data, parts, "test")


def test_with_three_splits_val_stops_and_test_is_untouched(tmp_path):
    """Train is trained on whole, val stops, and test is kept for the end."""
    for seed, name in enumerate(("train", "val", "test")):
        draw(tmp_path / "data" / name, 4, seed=seed)
    parts, probe = begin(tmp_path / "data", tmp_path / "out")
    expected = {"train": "train", "val": "early-stopping", "test": "test"}
    assert parts == {path: expected[path.split("/")[0]] for path in parts}
    assert len(parts) == 36
    assert set(probe.fitted_on) == digests(tmp_path / "data", parts, "train")


def test_without_splits_a_fold_is_untouched(tmp_path):
    """A fifth of every class is compared on, and about a seventh of the rest stops."""
    draw(tmp_path / "data", 15)
    parts, probe = begin(tmp_path / "data", tmp_path / "out")
    counts = Counter((path.split("/")[0], part) for path, part in parts.items())
    assert all(counts[name, "test"] == 3 for name in COLOURS)
    assert 5 <= sum(counts[name, "early-stopping"] for name in COLOURS) <= 7
    assert len(parts) == 45
    assert set(probe.fitted_on) == digests(tmp_path / "data", parts, "train")


def grouped(folder):
    """Draw 18 images a class in groups of three, and copy an image of every sixth; as a table."""
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
def test_groups_and_copies_are_never_on_two_sides(tmp_path, seed):
    """Images of a group are in one part, and so are files with the same bytes."""
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


def test_a_manifest_beside_other_images_runs_to_the_end(tmp_path):
    """Codes of the tuned network are of the table's images, not of all in their folder."""
    table, groups = grouped(tmp_path / "data")
    draw(tmp_path / "data" / "else", 2)
    done = featx.finetune(manifest=table, output=tmp_path / "out", **TINY | {"epochs": 1})
    store = open_store(tmp_path / "out/tuned_codes.h5")
    assert set(store.images.path) == set(groups)
    assert done.scores["fit_on_tuned"].value > done.scores["majority"].value


# the probe


@pytest.mark.parametrize("pool", ["avg", "avg+max", "grid:2"])
def test_before_training_the_network_is_the_probe(data, tmp_path, pool):
    """With a rate of nearly nothing every untouched image is decided as the probe decides it."""
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
    assert facts["gain"] == {"value": 0, "low": 0, "high": 0}
    assert done.advice.startswith("Ship the probe: no epoch was better")


def bundle_of(images, folder, *, layer="block2_conv1", weights="random:3", **settings):
    """Extract and fit, by settings that no fine-tuning has by default."""
    recipe = {"pool": "max", "size": (32, 40), "preprocess": "unit", "resize": "pad"}
    codes = folder / "bundle.h5"
    featx.extract(images, layer=layer, output=codes, weights=weights, jpeg="full", **recipe)
    featx.fit(codes, output=folder / "bundle.skops", baselines=False, **settings)
    return folder / "bundle.skops"


def test_a_bundle_says_how_and_what_it_has_seen_is_not_compared_on(tmp_path):
    """Recipe, classifier and settings are the bundle's; no image of its own is untouched."""
    images = draw(tmp_path / "data", 8)
    settings = {"clf": "ridge", "normalise": "centre", "settings": {"alpha": 0.5}}
    model = bundle_of(images, tmp_path, **settings)
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
    untouched = digests(images, parts, "test")
    assert untouched
    assert not untouched & known
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
def test_what_contradicts_a_bundle_is_refused(tmp_path, bundles, flag, value):
    """The bundle says it; a flag beside it is refused rather than ignored, and nothing is made."""
    with refused(OptionError, f"The bundle says --{flag}. Leave that out, or leave out --from"):
        prepare_finetune(
            bundles, from_model=bundles / "../ridge.skops", output=tmp_path / "o", **{flag: value}
        )
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Images with train and val, and beside them bundles that do and do not serve."""
    folder = tmp_path_factory.mktemp("bundles")
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
        ("two.skops", "this bundle is LogisticRegression on block1_conv1+block1_pool"),
        ("knn.skops", "this bundle is StableNeighbours on block1_pool"),
    ],
)
def test_a_bundle_that_no_head_can_begin_as_is_refused(tmp_path, bundles, name, what):
    """Two layers, or a classifier that is no weighted sum, are refused in words."""
    with refused(OptionError, what):
        prepare_finetune(bundles, from_model=bundles.parent / name, output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_codes_that_no_network_can_go_on_from_are_refused(tmp_path, bundles):
    """Several views of an image, or square roots, which have no slope at 0."""
    featx.extract(
        bundles, layer="block1_pool", pool="avg", scale=32, flip=True, weights="random:0",
        output=tmp_path / "views.h5",
    )  # fmt: skip
    featx.fit(tmp_path / "views.h5", output=tmp_path / "views.skops", baselines=False)
    with refused(OptionError, "cannot go on from codes of --scale, --flip"):
        prepare_finetune(bundles, from_model=tmp_path / "views.skops", output=tmp_path / "o")
    with refused(OptionError, "cannot go on from codes of --pool bilinear"):
        prepare_finetune(bundles, pool="bilinear", size=32, output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_bundle_of_other_weights_is_refused(tmp_path, bundles, monkeypatch):
    """Where the file of weights is another one now, the codes would be other ones."""
    bundle = featx.load_model(bundles.parent / "ridge.skops")
    bundle.provenance["extraction"]["weights"] = "random:7"
    with refused(RecipeMismatchError, "random:7, expected random:0"):
        prepare_finetune(bundles, from_model=bundle, output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_bundle_that_has_seen_all_leaves_nothing_to_compare_on(tmp_path, bundles):
    """Fitted on val too, it is refused, and what helps is said."""
    job = prepare_finetune(bundles, from_model=bundles.parent / "all.skops", output=tmp_path / "o")
    with refused(FitError, "The bundle was fitted on all images of val, so nothing is left"):
        run_finetune(job)


# what comes of it


def own_probabilities(folder, files):
    """Return what Keras computes from tuned.keras, for files of images."""
    custom_layers()
    model = keras.models.load_model(folder / "tuned.keras")
    pixels = np.array([read_image(Path(file), (32, 32), "squash").pixels for file in files])
    return np.asarray(model(pixels))


def test_predict_gives_the_networks_own_probabilities(made, data):
    """`featx predict` on tuned.keras computes what Keras does with the whole model."""
    folder, _ = made
    table = featx.predict(data, model=folder / "tuned.keras")
    shares = table.filter(like="p_").to_numpy()
    np.testing.assert_allclose(shares, own_probabilities(folder, table["path"]), atol=1e-4)
    assert list(table.columns[2:]) == ["p_ant", "p_bee", "p_cat"]


def test_evaluate_sets_apart_what_the_network_was_trained_on(made, data):
    """What is scored is the untouched part, as the run itself has scored it."""
    folder, done = made
    found = featx.evaluate(data, model=folder / "tuned.keras")
    assert (found.n_fitted_on, found.evaluation.n_images) == (42, 24)
    assert found.evaluation.accuracy.value == done.scores["tuned"].value
    assert found.evaluation.log_loss.value == pytest.approx(
        done.facts["tuned_scores"]["log_loss"]["value"], abs=1e-4
    )


def test_the_training_changed_the_network(made, data):
    """Otherwise all that is compared here would be the probe."""
    folder, done = made
    probe = featx.predict(data, model=folder / "probe.skops").filter(like="p_").to_numpy()
    tuned = featx.predict(data, model=folder / "tuned.keras").filter(like="p_").to_numpy()
    assert np.abs(probe - tuned).max() > 1e-3
    assert done.training.best > 0


def test_codes_of_the_tuned_weights_are_the_tuned_networks(made, data, tmp_path):
    """extract and fit work on tuned.weights.h5; its codes under the head are the network again."""
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
    """What lies before the cut is bit for bit what training began with."""
    folder, _ = made
    before, after = (
        read_weights(find_weights(spec, ["block2_pool"]), ["block2_pool"])
        for spec in ("random:0", str(folder / "tuned.weights.h5"))
    )
    for name in ("block1_conv1", "block1_conv2"):
        assert np.array_equal(before[name][0], after[name][0])
    assert not np.array_equal(before["block2_conv1"][0], after["block2_conv1"][0])


def test_the_facts_are_of_the_files_beside_them(made, data):
    """run.json has the four scores, each with an interval, counted again from predictions."""
    folder, done = made
    facts = json.loads((folder / "run.json").read_text())
    assert facts == json.loads(json.dumps(done.facts))
    untouched = [data / path for path in sorted(with_part(parts_of(folder), "test"))]
    truth = [path.parent.name for path in untouched]
    for name, model in (("probe", "probe.skops"), ("tuned", "tuned.keras")):
        found = featx.predict(untouched, model=folder / model)["label"]
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
    ("gain", "best", "sentence"),
    [
        (Score(0.1, 0.02, 0.2), 1, "Ship the tuned network: +0.100 in accuracy over its probe, +0"),
        (Score(-0.1, -0.2, -0.02), 1, "Ship the probe: tuning changed accuracy by -0.100, -0.200"),
        (Score(0.1, -0.02, 0.2), 1, "Ship the probe, which is simpler: tuning changed accuracy by"),
        (Score(0.1, 0.0, 0.2), 1, "Ship the probe, which is simpler: tuning changed accuracy by +"),
        (Score(0.0, 0.0, 0.0), 0, "Ship the probe: no epoch was better"),
    ],
)
def test_the_advice_follows_from_the_interval(gain, best, sentence):
    """The network is shipped where it is better beyond doubt; else the simpler probe."""
    scores = {"probe": Score(0.8, 0.7, 0.9), "fit_on_tuned": Score(0.85, 0.7, 0.9)}
    assert advice_of(scores, gain, best=best).startswith(sentence)


# the cache


def test_a_cache_without_augmentation_changes_no_loss(made, data, tmp_path):
    """Activations that were kept give the losses of the images; the default augmentation is off."""
    _, straight = made
    job = prepare_finetune(data, output=tmp_path / "out", cache=0, lr=3e-4, **TINY)
    assert job.tuning.augment == "none"
    assert "nothing is augmented" in job.notes[0]
    done = run_finetune(job)
    for name in ("loss", "stopping_loss"):
        one, two = (
            np.array([getattr(epoch, name) for epoch in found.training.history], float)
            for found in (straight, done)
        )
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert one[0] - one[-1] > 1e-3  # so that something was trained at all


def test_augmented_copies_are_kept_and_used_again(data, tmp_path):
    """Every activation in a copy is of the image or of its mirror image; a perceptron of two
    classes learns on them, and a second run computes none of them anew."""
    images = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            shutil.copytree(data / split / name, images / split / name)
    settings = {"cache": 2, "augment": "flip", "head": "mlp:6", "output": tmp_path / "out"}
    done = featx.finetune(images, **settings, **TINY)
    folder = tmp_path / "out"
    shutil.copytree(images, tmp_path / "mirrored")
    for path in (tmp_path / "mirrored").rglob("*.png"):
        # Of the picture as the network sees it, which is smaller.
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
    bundle = tuned_model(folder / "tuned.keras")
    files = sorted((images / "val").rglob("*.png"))
    table = featx.predict(files, model=bundle)
    np.testing.assert_allclose(table.filter(like="p_"), own_probabilities(folder, files), atol=1e-4)
    stamps = [(folder / f"frozen-{k}.h5").stat().st_mtime_ns for k in range(3)]
    again = featx.finetune(images, overwrite=True, **settings, **TINY)
    assert [(folder / f"frozen-{k}.h5").stat().st_mtime_ns for k in range(3)] == stamps
    assert [e.loss for e in again.training.history] == [e.loss for e in done.training.history]
    assert again.training.resumed == 0


def test_augmented_copies_are_the_same_where_their_extraction_was_stopped(data, tmp_path):
    """What is drawn for an image follows from it, whatever else is in its batch."""
    settings = {"cache": 1, "augment": "lecture"} | TINY | {"epochs": 1}
    featx.finetune(data, output=tmp_path / "straight", **settings)
    stages, passes = [], []

    def images(n_done, n_images):
        if any(stage.startswith("activations") for stage in stages):
            passes.append(n_done)
            # The first pass is of the images as they are.
            if passes.count(n_images) == 1 and n_done not in {0, n_images}:
                raise KeyboardInterrupt

    job = prepare_finetune(data, output=tmp_path / "stopped", **settings)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(job, progress=Progress(stage=stages.append, images=images))
    # Other batches than before.
    n_done = sum(open_store(tmp_path / "stopped/frozen-1.h5").images.done)
    assert 0 < n_done < 66
    featx.finetune(data, output=tmp_path / "stopped", **settings)
    straight, stopped = (
        np.array(open_store(tmp_path / name / "frozen-1.h5").codes("block1_pool"))
        for name in ("straight", "stopped")
    )
    np.testing.assert_allclose(stopped, straight, atol=1e-4 * straight.max())


def test_a_perceptron_of_three_classes_predicts_as_the_network(data, tmp_path):
    """An mlp head begins at random, is trained, and predicts from tuned.keras."""
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


# going on


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
def test_other_settings_are_refused_and_nothing_is_touched(made, data, settings, field):
    """A run is not gone on with by another command, and keeps all of its files."""
    folder, _ = made
    before = files_of(folder)
    given = TINY | {"augment": "none", "lr": 3e-4} | settings
    with refused((OptionError, RecipeMismatchError), field):
        featx.finetune(data, output=folder, **given)
    assert files_of(folder) == before


def test_a_finished_run_is_read_again(made, data):
    """The same settings give the same result at once; no file is written."""
    folder, done = made
    before = files_of(folder)
    said = []
    job = prepare_finetune(data, output=folder, augment="none", lr=3e-4, **TINY)
    again = run_finetune(job, progress=Progress(stage=said.append))
    assert files_of(folder) == before
    assert again.scores == done.scores
    assert (again.gain, again.advice, again.training.history) == (
        done.gain,
        done.advice,
        done.training.history,
    )
    assert said == [f"{folder} has all of this run already; --overwrite begins anew"]


def test_no_bundle_is_refused(tmp_path):
    """A model that is not there is named."""
    with refused(ModelError, "No bundle no.skops"):
        prepare_finetune(tmp_path, from_model="no.skops", output=tmp_path / "o")
