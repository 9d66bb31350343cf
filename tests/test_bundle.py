"""The bundle: saved, loaded, compared with codes, and refused where it is something else."""

import errno
import io
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from featx.classification import CLASSIFIERS, Bundle, UnitRows, fit, load_bundle
from featx.errors import BundleError, OptionError, OutputError, RecipeMismatchError
from featx.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))


class Foreign:
    """A class that no bundle holds."""

    def __init__(self) -> None:
        self.x = 1


def foreign_function(X):
    """A function that no bundle holds."""
    return X


def make_codes(n: int = 30, seed: int = 0) -> np.ndarray:
    """Codes of three classes that differ in their first three numbers."""
    rng = np.random.default_rng(seed)
    codes = rng.random((n, 64)).astype(np.float32)
    codes[np.arange(n), np.arange(n) % 3] += 2
    return codes


@pytest.fixture(scope="module")
def saved(tmp_path_factory, make_store, one_thread):
    """One bundle of each classifier, and what each said before it was saved."""
    folder = tmp_path_factory.mktemp("bundles")
    labels = [f"class {i % 3}" for i in range(30)]
    splits = ["train"] * 24 + ["val"] * 6
    store = make_store(
        folder / "codes.h5",
        {"block1_conv1": make_codes()},
        labels,
        splits,
        provenance={"weights": "random:0"},
    )
    found = {name: fit(store, clf=name, output=folder / f"{name}.skops") for name in CLASSIFIERS}
    return folder, found


def bundle_of(recipe: Recipe = RECIPE) -> Bundle:
    """A bundle, fitted without a store."""
    codes, y = make_codes(), np.array(["a", "b", "c"] * 10)
    pipeline = Pipeline([("unit", UnitRows((64,))), ("classifier", LogisticRegression())])
    return Bundle(pipeline.fit(codes, y), recipe, {"who": "me"}, {"accuracy": 1.0})


def refusal(action, error=BundleError) -> str:
    """Return the whole message that an action is refused with."""
    with pytest.raises(error) as caught:
        action()
    return str(caught.value)


def damaged(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read as a bundle: {reason}. It is damaged, truncated, or was not "
        "written by featx fit. Make it again: featx fit --overwrite"
    )


# saving and loading


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_loaded_bundle_predicts_the_same_to_the_bit(saved, name):
    """Saving changes no probability, no label, and no fact."""
    folder, found = saved
    before, after = found[name].bundle, load_bundle(folder / f"{name}.skops")
    codes = make_codes(40, seed=1)
    assert np.array_equal(after.predict_proba(codes), before.predict_proba(codes))
    assert np.array_equal(after.classifier.predict(codes), before.classifier.predict(codes))
    assert after.classes == before.classes == ("class 0", "class 1", "class 2")
    assert after.recipe == before.recipe == RECIPE
    assert after.provenance == before.provenance
    assert after.summary == json.loads(json.dumps(before.summary))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_bundle_holds_coefficients_and_no_training_images(saved, name):
    """No array in the file has one entry an image: neither codes nor folds are kept."""
    folder, _ = saved
    with zipfile.ZipFile(folder / f"{name}.skops") as archive:
        arrays = [
            np.load(io.BytesIO(archive.read(entry)))
            for entry in archive.namelist()
            if entry.endswith(".npy")
        ]
    shapes = {array.shape for array in arrays}
    assert (3, 64) in shapes
    assert shapes <= {(3, 64), (3,), (1,), ()}


def test_a_bundle_remembers_where_it_comes_from(saved):
    """Provenance names the store, its own provenance, and the versions."""
    folder, _ = saved
    provenance = load_bundle(folder / "ridge.skops").provenance
    assert provenance["codes"] == str(folder / "codes.h5")
    assert provenance["extraction"] == {"weights": "random:0"}
    assert set(provenance) == {"codes", "extraction", "scikit-learn", "numpy", "fitted"}


@pytest.mark.parametrize("block_bytes", [1, 64 * 8 * 7])
def test_blocks_change_no_probability(monkeypatch, block_bytes):
    """Rows are classified a block at a time, in order, with the same result."""
    bundle, codes = bundle_of(), make_codes(40, seed=1)
    whole = bundle.classifier.predict_proba(codes)
    monkeypatch.setattr("featx.classification.bundle._BLOCK_BYTES", block_bytes)
    assert np.allclose(bundle.predict_proba(codes), whole, rtol=0, atol=1e-15)


def test_no_codes_give_no_probabilities():
    """Nothing to classify is an empty answer of the right width."""
    assert bundle_of().predict_proba(make_codes()[:0]).shape == (0, 3)


def test_codes_of_another_width_are_refused():
    """Codes that the classifier was not fitted on are told by their shape."""
    message = "Expected codes of shape (n, 64), layers side by side. Received shape (2, 32)."
    assert refusal(lambda: bundle_of().predict_proba(np.ones((2, 32))), OptionError) == message


def test_saving_replaces_a_file_at_once(tmp_path):
    """The name passes from one whole file to another: who has the old one open keeps it."""
    path = tmp_path / "model.skops"
    path.write_text("old")
    with path.open() as old:
        bundle_of().save(path)
        assert old.read() == "old"
    assert load_bundle(path).provenance == {"who": "me"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_saving_into_no_folder_leaves_nothing(tmp_path, folder):
    """A folder that is missing, or is a file, is an error of its own."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "model.skops"
    assert refusal(lambda: bundle_of().save(path), OutputError) == (
        f"No folder {path.parent} to write model.skops into. Make it, or another -o."
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_disk_keeps_the_old_bundle(tmp_path, monkeypatch):
    """Where saving fails midway, the bundle that was there is still there."""
    path = tmp_path / "model.skops"
    bundle_of().save(path)
    before = path.read_bytes()

    def full(content, file):
        Path(file).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(skops.io, "dump", full)
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=1_230_000_000))
    assert refusal(lambda: bundle_of().save(path), OutputError) == (
        f"No room for {path}: 1.23 GB are free in {tmp_path}. Make room, or use -o on another disk."
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# what is refused


def test_a_missing_bundle_is_refused(tmp_path):
    """The message says how to make one."""
    path = tmp_path / "model.skops"
    assert refusal(lambda: load_bundle(path)) == (
        f"No bundle {path}. Make one first: featx fit CODES -o {path}"
    )
    assert refusal(lambda: load_bundle(tmp_path)).startswith(f"No bundle {tmp_path}. ")


@pytest.mark.parametrize(
    ("content", "types"),
    [
        (lambda: {"format": "featx-bundle", "classifier": Foreign()}, "test_bundle.Foreign"),
        (lambda: FunctionTransformer(foreign_function), "test_bundle.foreign_function"),
        (
            lambda: [FunctionTransformer(foreign_function), Foreign()],
            "test_bundle.Foreign, test_bundle.foreign_function",
        ),
    ],
    ids=["class", "function", "both"],
)
def test_foreign_types_are_refused_before_loading(tmp_path, content, types):
    """A file that asks for any other type is not loaded, and the types are named."""
    path = tmp_path / "model.skops"
    skops.io.dump(content(), path)
    assert refusal(lambda: load_bundle(path)) == (
        f"{path} holds types that no bundle of featx holds: {types}. "
        "It was not loaded, since that could run code of its maker."
    )


@pytest.mark.parametrize("content", [LogisticRegression(), {"format": "other"}, [1, 2]], ids=str)
def test_another_skops_file_is_refused(tmp_path, content):
    """A file of harmless types that is no bundle is told apart."""
    path = tmp_path / "model.skops"
    skops.io.dump(content, path)
    assert refusal(lambda: load_bundle(path)) == (
        f"{path} is a skops file, but no bundle of featx. Make one: featx fit CODES"
    )


def test_a_newer_format_is_refused(tmp_path):
    """A later version's file is told by its number, before anything else is read."""
    path = tmp_path / "model.skops"
    skops.io.dump({"format": "featx-bundle", "format_version": 2}, path)
    assert refusal(lambda: load_bundle(path)) == (
        f"{path} has format 2; this featx reads format 1. "
        "Use a newer one: pip install --upgrade featx"
    )


def test_a_recipe_with_an_unknown_field_is_refused(tmp_path):
    """A bundle whose codes depend on a fact unknown here is named with that fact."""
    path = tmp_path / "model.skops"
    recipe = json.dumps({**json.loads(RECIPE.to_json()), "scales": [1]})
    content = {"format": "featx-bundle", "format_version": 1, "classifier": 0, "recipe": recipe}
    skops.io.dump(content, path)
    assert refusal(lambda: load_bundle(path)) == (
        f"{path} cannot be read: The recipe holds scales, which this version of featx does not "
        "know. A newer featx wrote it: pip install --upgrade featx"
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_bundle_is_refused(tmp_path, share):
    """A file that was cut anywhere is one BundleError."""
    path = tmp_path / "model.skops"
    bundle_of().save(path)
    os.truncate(path, int(path.stat().st_size * share))
    assert refusal(lambda: load_bundle(path)) == damaged(path, "File is not a zip file")


def test_a_text_is_refused(tmp_path):
    """Any file that is no zip archive is one BundleError."""
    path = tmp_path / "model.skops"
    path.write_text("hello")
    assert refusal(lambda: load_bundle(path)) == damaged(path, "File is not a zip file")


def test_another_zip_is_refused(tmp_path):
    """An archive of something else is one BundleError."""
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    reason = "\"There is no item named 'schema.json' in the archive\""
    assert refusal(lambda: load_bundle(path)) == damaged(path, reason)


@pytest.mark.parametrize("missing", ["classifier", "recipe", "provenance", "summary"])
def test_a_bundle_that_lacks_a_part_is_refused(tmp_path, missing):
    """A file of our format without one of its parts is damaged."""
    path = tmp_path / "model.skops"
    content = {
        "format": "featx-bundle",
        "format_version": 1,
        "classifier": LogisticRegression(),
        "recipe": RECIPE.to_json(),
        "provenance": "{}",
        "summary": "{}",
    }
    del content[missing]
    skops.io.dump(content, path)
    assert refusal(lambda: load_bundle(path)) == damaged(path, f"'{missing}'")


# the recipe


SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("change", "expected", "words", "flags"),
    [
        (
            {"weights": "random:1"},
            {},
            "weights is random:1, expected random:0",
            "--weights random:0",
        ),
        (
            {},
            {"weights": SHA},
            f"weights is random:0, expected {SHA}",
            "--weights FILE (the one of sha256 01234567…)",
        ),
        (
            {"layers": ("block2_pool",)},
            {},
            "layers is block2_pool, expected block1_conv1",
            "--layer block1_conv1",
        ),
        (
            {},
            {"layers": ("block1_conv1", "block2_pool")},
            "layers is block1_conv1, expected block1_conv1+block2_pool",
            "--layer block1_conv1 --layer block2_pool",
        ),
        ({"pool": "max"}, {}, "pool is max, expected avg", "--pool avg"),
        ({"size": (32, 48)}, {}, "size is 32x48, expected 32x32", "--size 32x32"),
        ({"resize": "crop"}, {}, "resize is crop, expected squash", "--resize squash"),
        ({"jpeg": "full"}, {}, "jpeg is full, expected reduced", "--jpeg reduced"),
        ({"preprocess": "unit"}, {}, "preprocess is unit, expected caffe", "--preprocess caffe"),
        ({"dtype": "float16"}, {}, "dtype is float16, expected float32", "--dtype float32"),
        (
            {"pool": "none", "dtype": "float16"},
            {},
            "pool is none, expected avg; dtype is float16, expected float32",
            "--pool avg --dtype float32",
        ),
    ],
    ids=str,
)
def test_codes_of_another_recipe_are_refused(change, expected, words, flags):
    """Each fact that differs is named with both values, and with the flag that mends it."""
    facts = {**vars(RECIPE), **expected}
    bundle = Bundle(Pipeline([]), Recipe(**facts))
    other = Recipe(**{**vars(RECIPE), **change})
    assert refusal(lambda: bundle.check_recipe(other, "new.h5"), RecipeMismatchError) == (
        "new.h5 holds codes of another recipe than the classifier's: "
        f"{words}. Extract again with {flags}."
    )


def test_every_fact_of_a_recipe_is_compared():
    """The table above forgets no field but precision, which is not compared so."""
    marks = test_codes_of_another_recipe_are_refused.pytestmark
    (table,) = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    changed = {field for change, expected, *_ in table for field in {**change, **expected}}
    assert changed == set(vars(RECIPE)) - {"precision"}


def test_the_same_recipe_passes_also_with_further_layers(caplog):
    """A store that has more layers than the classifier needs will do."""
    bundle = Bundle(Pipeline([]), RECIPE)
    with caplog.at_level(logging.INFO):
        bundle.check_recipe(RECIPE, "new.h5")
        bundle.check_recipe(RECIPE.narrowed(["block1_conv1", "block2_pool"]), "new.h5")
    assert not caplog.records
