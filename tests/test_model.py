"""The bundle: saved, loaded, compared with codes, and refused where it is something else."""

import errno
import importlib
import io
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from featx.codes import UnitRows
from featx.errors import FeatxError, ModelError, OptionError, OutputError, RecipeMismatchError
from featx.fitting import CLASSIFIERS, Model, fit, load_model
from featx.fitting.model import TRUSTED_TYPES
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
    found = {}
    for name in CLASSIFIERS:
        output = folder / f"{name}.skops"
        C = [1, 10] if CLASSIFIERS[name].has_penalty else None
        found[name] = fit(store, clf=name, C=C, baselines=False, output=output)
    return folder, found


@pytest.fixture
def wide(tmp_path, make_store):
    """A function that fits a classifier that needs its rows, on wide codes, and saves it."""
    labels = [f"class {i % 3}" for i in range(36)]
    splits = ["train"] * 27 + ["val"] * 9
    store = make_store(tmp_path / "codes.h5", {"block2_pool": wide_codes()}, labels, splits)

    def make(name: str, suffix: str = "skops", **keywords):
        path = tmp_path / f"{name}.{suffix}"
        C = [3] if CLASSIFIERS[name].has_penalty else None
        found = fit(store, clf=name, C=C, baselines=False, output=path, **keywords)
        return found.model, path

    return make


def wide_codes(n: int = 36, seed: int = 0) -> np.ndarray:
    """Maps of three classes, 8192 numbers each."""
    codes = np.random.default_rng(seed).random((n, 8, 8, 128)).astype(np.float32)
    codes[np.arange(n), np.arange(n) % 3] += 0.5
    return codes


def arrays_of(path: Path) -> list[np.ndarray]:
    """Return all arrays that a skops file holds."""
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.namelist() if entry.endswith(".npy")]
        return [np.load(io.BytesIO(archive.read(entry))) for entry in entries]


def bundle_of(recipe: Recipe = RECIPE) -> Model:
    """A bundle, fitted without a store."""
    codes, y = make_codes(), np.array(["a", "b", "c"] * 10)
    pipeline = Pipeline([("unit", UnitRows((64,))), ("classifier", LogisticRegression())])
    return Model(pipeline.fit(codes, y), recipe, {"who": "me"}, {"accuracy": 1.0})


def refusal(action, error=ModelError) -> str:
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
    before, after = found[name].model, load_model(folder / f"{name}.skops")
    codes = make_codes(40, seed=1)
    assert np.array_equal(after.predict_proba(codes), before.predict_proba(codes))
    assert np.array_equal(after.classifier.predict(codes), before.classifier.predict(codes))
    assert after.classes == before.classes == ("class 0", "class 1", "class 2")
    assert after.recipe == before.recipe == RECIPE
    assert after.provenance == before.provenance
    assert after.fitted_on == before.fitted_on == tuple(f"{i:064x}" for i in range(24))
    assert after.summary == json.loads(json.dumps(before.summary))


@pytest.mark.parametrize("name", [n for n, kind in CLASSIFIERS.items() if kind.is_linear])
def test_a_linear_bundle_holds_coefficients_and_no_training_images(saved, name):
    """No array in the file has one entry an image: neither codes nor folds are kept."""
    folder, found = saved
    arrays = arrays_of(folder / f"{name}.skops")
    shapes = {array.shape for array in arrays}
    assert (3, 64) in shapes
    assert not [shape for shape in shapes if 24 in shape or 30 in shape]
    assert shapes <= {(3, 64), (3,), (1,), (), (64, 64), (64,)}
    codes = make_codes()
    # lda has the covariance of the columns, and every class its mean: no code of one image
    assert not any(np.isin(codes[:24], array).any() for array in arrays if array.size)
    assert found[name].model.gram is None


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm", "centroid"])
def test_a_linear_bundle_of_wide_codes_is_small(wide, name):
    """The span is not saved: coefficients of codes stand for it."""
    bundle, path = wide(name, solver="gram")
    assert bundle.gram is None
    assert path.stat().st_size < 3 * 8192 * 8 + 100_000
    assert not [array for array in arrays_of(path) if 27 in array.shape or 36 in array.shape]


@pytest.mark.parametrize("name", list(CLASSIFIERS)[:6])
def test_a_bundle_without_a_store_predicts(wide, name, tmp_path):
    """With few codes the file is all that is needed, and the same bits come out."""
    bundle, path = wide(name, solver="gram")
    further = wide_codes(20, seed=1).reshape(20, -1)
    before = bundle.predict_proba(further)
    (tmp_path / "codes.h5").unlink()
    after = load_model(path)
    assert np.array_equal(after.predict_proba(further), before)
    assert np.array_equal(after.classifier.predict(further), bundle.classifier.predict(further))


# classifiers that compare with the codes that they were fitted on


@pytest.fixture
def large(monkeypatch):
    """Any codes are too many to keep."""
    monkeypatch.setattr("featx.fitting.model._KEPT_BYTES", 0)


@pytest.mark.parametrize("suffix", ["skops", "joblib"])
@pytest.mark.parametrize("name", ["svm-rbf", "knn"])
def test_many_codes_are_named_and_found_again(wide, large, name, suffix):
    """The file is without them; they are read where they were, and the same bits come out."""
    bundle, path = wide(name, suffix, solver="gram")
    further = wide_codes(20, seed=1).reshape(20, -1)
    assert path.stat().st_size < 100_000  # of 27 * 8192 * 4
    after = load_model(path, trust=suffix == "joblib")
    assert getattr(after.gram, "codes_", None) is None
    assert np.array_equal(after.predict_proba(further), bundle.predict_proba(further))
    assert len(after.gram.codes_) == len(after.fitted_on) == 27


def test_saving_does_not_take_the_codes_from_the_bundle(wide, large):
    """What `fit` returned still knows its codes."""
    bundle, _ = wide("knn", solver="gram")
    assert len(bundle.gram.codes_) == 27


def test_a_loaded_bundle_without_its_codes_may_be_saved_again(wide, large, tmp_path):
    """Nothing is needed for that, and nothing is lost."""
    bundle, path = wide("knn", solver="gram")
    load_model(path).save(tmp_path / "again.skops")
    further = wide_codes(20, seed=1).reshape(20, -1)
    again = load_model(tmp_path / "again.skops")
    assert np.array_equal(again.predict_proba(further), bundle.predict_proba(further))


def test_a_missing_store_is_named(wide, large, tmp_path):
    """The message says which, and how to say where it is now."""
    bundle, path = wide("svm-rbf", solver="gram")
    moved = tmp_path / "moved.h5"
    (tmp_path / "codes.h5").rename(moved)
    after = load_model(path)
    further = wide_codes(20, seed=1).reshape(20, -1)
    message = (
        "This classifier compares with the codes it was fitted on, which are not in the bundle, "
        "since they are large, and {} is not there. Say where the store is now: --codes FILE"
    )
    assert refusal(lambda: after.predict_proba(further)) == message.format(tmp_path / "codes.h5")
    other = tmp_path / "other.h5"
    assert refusal(lambda: after.open_codes(other)) == message.format(other)
    after.open_codes(moved)
    assert np.array_equal(after.predict_proba(further), bundle.predict_proba(further))


def test_a_store_in_another_order_will_do(wide, large, tmp_path, make_store):
    """Images are found by their content, not by their place."""
    bundle, path = wide("svm-rbf", solver="gram")
    order = np.random.default_rng(0).permutation(36)
    other = make_store(
        tmp_path / "other.h5",
        {"block2_pool": wide_codes()[order]},
        [None] * 36,
        sha256=[f"{i:064x}" for i in order],
    )
    after = load_model(path)
    after.open_codes(other)
    further = wide_codes(20, seed=1).reshape(20, -1)
    assert np.array_equal(after.predict_proba(further), bundle.predict_proba(further))


def test_codes_of_several_stores_are_found_again(large, tmp_path, make_store):
    """Each layer where it was, side by side as they were."""
    labels, splits = [f"class {i % 3}" for i in range(30)], ["train"] * 24 + ["val"] * 6
    parts = {"block2_conv1": np.random.default_rng(2).random((30, 128)).astype(np.float32)}
    parts["block1_conv1"] = make_codes()
    stores = [make_store(tmp_path / f"{k}.h5", {k: c}, labels, splits) for k, c in parts.items()]
    path = tmp_path / "model.skops"
    found = fit(stores, clf="knn", solver="gram", baselines=False, output=path)
    further = np.hstack([np.ones((9, 128)), make_codes(9, seed=1)])
    after = load_model(path)
    assert after.provenance["codes"] == [str(store) for store in stores]
    assert np.array_equal(after.predict_proba(further), found.model.predict_proba(further))


def test_a_store_that_lacks_images_is_refused(wide, large, tmp_path, make_store):
    """Another store of the same recipe, in which some of the images are not."""
    _, path = wide("knn", solver="gram")
    other = make_store(tmp_path / "other.h5", {"block2_pool": wide_codes(20)}, [None] * 20)
    assert refusal(lambda: load_model(path).open_codes(other)) == (
        f"{other} lacks 7 of the 27 images that the classifier was fitted on. Say where the store "
        "is now: --codes FILE"
    )


def test_a_store_whose_images_have_no_codes_is_refused(wide, large, tmp_path, make_store):
    """Rows that failed hold zeros, which are no codes."""
    _, path = wide("knn", solver="gram")
    other = make_store(
        tmp_path / "other.h5", {"block2_pool": wide_codes()}, [None] * 36, failed={3: "no pixels"}
    )
    assert refusal(lambda: load_model(path).open_codes(other)) == (
        f"{other} lacks 1 of the 27 images that the classifier was fitted on. Say where the store "
        "is now: --codes FILE"
    )


def test_a_store_of_another_recipe_is_refused(wide, large, tmp_path, make_store):
    """Codes of other weights are not those that it was fitted on."""
    bundle, path = wide("knn", solver="gram")
    recipe = Recipe(**{**vars(bundle.recipe), "weights": "random:1"})
    labels = [None] * 36
    other = make_store(tmp_path / "other.h5", {"block2_pool": wide_codes()}, labels, recipe=recipe)
    assert refusal(lambda: load_model(path).open_codes(other), RecipeMismatchError) == (
        f"{other} holds codes of another recipe than the classifier's: weights is random:1, "
        "expected random:0. Extract again with --weights random:0."
    )


# joblib


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_joblib_bundle_predicts_the_same_to_the_bit(saved, tmp_path, name):
    """The ending alone decides; with trust it is read like any other."""
    _, found = saved
    path = tmp_path / "model.joblib"
    found[name].model.save(path)
    assert not zipfile.is_zipfile(path)
    before, after = found[name].model, load_model(path, trust=True)
    codes = make_codes(40, seed=1)
    assert np.array_equal(after.predict_proba(codes), before.predict_proba(codes))
    assert after.fitted_on == before.fitted_on


def test_a_joblib_bundle_is_refused_without_trust(tmp_path):
    """Nothing of it is run, not even where it is damaged."""
    path = tmp_path / "model.joblib"
    path.write_bytes(b"any")
    assert refusal(lambda: load_model(path)) == (
        f"{path} is a joblib file, which runs code of its maker when it is opened. If you made "
        "it, or trust who did, say --trust. Bundles that run no code: featx fit -o NAME.skops"
    )
    assert refusal(lambda: load_model(path, trust=True)).startswith(f"{path} cannot be read as")


def test_another_joblib_file_is_refused(tmp_path):
    """A pickle of something else is no bundle."""
    path = tmp_path / "model.joblib"
    joblib.dump([1, 2], path)
    assert refusal(lambda: load_model(path, trust=True)) == (
        f"{path} is a joblib file, but no bundle of featx. Make one: featx fit CODES"
    )


def test_a_pickle_that_is_called_skops_runs_no_code(tmp_path):
    """The ending opens no way around the list of types, with trust or without."""
    path = tmp_path / "model.skops"
    joblib.dump(bundle_of().classifier, path)
    for trust in (False, True):
        with pytest.raises(FeatxError):
            load_model(path, trust=trust)


def test_types_of_featx_that_are_trusted_exist():
    """A class that was renamed would stand on the list for nothing."""
    for name in TRUSTED_TYPES:
        module, _, type_name = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), type_name), type)


def test_a_bundle_remembers_where_it_comes_from(saved):
    """Provenance names the store, its own provenance, and the versions."""
    folder, _ = saved
    provenance = load_model(folder / "ridge.skops").provenance
    assert provenance["codes"] == [str(folder / "codes.h5")]
    assert provenance["extraction"] == {"weights": "random:0"}
    assert provenance["settings"]["clf"] == "ridge"
    known = {"codes", "extraction", "settings", "scikit-learn", "numpy", "fitted"}
    assert set(provenance) == known


@pytest.mark.parametrize("block_bytes", [1, 64 * 8 * 7])
def test_blocks_change_no_probability(monkeypatch, block_bytes):
    """Rows are classified a block at a time, in order, with the same result."""
    bundle, codes = bundle_of(), make_codes(40, seed=1)
    whole = bundle.classifier.predict_proba(codes)
    monkeypatch.setattr("featx.fitting.model._BLOCK_BYTES", block_bytes)
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
    assert load_model(path).provenance == {"who": "me"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_saving_into_no_folder_leaves_nothing(tmp_path, folder):
    """A folder that is missing, or is a file, is an error of its own."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "model.skops"
    assert str(path.parent) in refusal(lambda: bundle_of().save(path), OutputError)
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
    message = refusal(lambda: bundle_of().save(path), OutputError)
    assert all(fact in message for fact in (str(path), "1.23 GB", "-o"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# what is refused


def test_a_missing_bundle_is_refused(tmp_path):
    """The message says how to make one."""
    path = tmp_path / "model.skops"
    assert refusal(lambda: load_model(path)) == (
        f"No bundle {path}. Make one first: featx fit CODES -o {path}"
    )
    assert refusal(lambda: load_model(tmp_path)).startswith(f"No bundle {tmp_path}. ")


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
    assert refusal(lambda: load_model(path)) == (
        f"{path} holds types that no bundle of featx holds: {types}. "
        "It was not loaded, since that could run code of its maker."
    )


@pytest.mark.parametrize("content", [LogisticRegression(), {"format": "other"}, [1, 2]], ids=str)
def test_another_skops_file_is_refused(tmp_path, content):
    """A file of harmless types that is no bundle is told apart."""
    path = tmp_path / "model.skops"
    skops.io.dump(content, path)
    assert refusal(lambda: load_model(path)) == (
        f"{path} is a skops file, but no bundle of featx. Make one: featx fit CODES"
    )


def test_a_newer_format_is_refused(tmp_path):
    """A later version's file is told by its number, before anything else is read."""
    path = tmp_path / "model.skops"
    skops.io.dump({"format": "featx-bundle", "format_version": 3}, path)
    assert refusal(lambda: load_model(path)) == (
        f"{path} has format 3; this featx reads format 2. "
        "Use a newer one: pip install --upgrade featx"
    )


def test_an_older_format_is_refused(tmp_path):
    """An earlier version's file is told by its number, with what to do."""
    path = tmp_path / "model.skops"
    skops.io.dump({"format": "featx-bundle", "format_version": 1, "classifier": 0}, path)
    assert refusal(lambda: load_model(path)) == (
        f"{path} has format 1; this featx reads format 2. Make it again: featx fit --overwrite"
    )


def test_a_recipe_with_an_unknown_field_is_refused(tmp_path):
    """A bundle whose codes depend on a fact unknown here is named with that fact."""
    path = tmp_path / "model.skops"
    recipe = json.dumps({**json.loads(RECIPE.to_json()), "rotations": 4})
    content = {"format": "featx-bundle", "format_version": 2, "classifier": 0, "recipe": recipe}
    skops.io.dump(content, path)
    assert refusal(lambda: load_model(path)) == (
        f"{path} cannot be read: The recipe holds rotations, which this version of featx does not "
        "know. A newer featx wrote it: pip install --upgrade featx"
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_bundle_is_refused(tmp_path, share):
    """A file that was cut anywhere is one ModelError."""
    path = tmp_path / "model.skops"
    bundle_of().save(path)
    os.truncate(path, int(path.stat().st_size * share))
    assert refusal(lambda: load_model(path)) == damaged(path, "File is not a zip file")


def test_a_text_is_refused(tmp_path):
    """Any file that is no zip archive is one ModelError."""
    path = tmp_path / "model.skops"
    path.write_text("hello")
    assert refusal(lambda: load_model(path)) == damaged(path, "File is not a zip file")


def test_another_zip_is_refused(tmp_path):
    """An archive of something else is one ModelError."""
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    reason = "\"There is no item named 'schema.json' in the archive\""
    assert refusal(lambda: load_model(path)) == damaged(path, reason)


@pytest.mark.parametrize("missing", ["classifier", "recipe", "provenance", "summary", "fitted_on"])
def test_a_bundle_that_lacks_a_part_is_refused(tmp_path, missing):
    """A file of our format without one of its parts is damaged."""
    path = tmp_path / "model.skops"
    content = {
        "format": "featx-bundle",
        "format_version": 2,
        "classifier": LogisticRegression(),
        "recipe": RECIPE.to_json(),
        "provenance": "{}",
        "summary": "{}",
        "fitted_on": "[]",
    }
    del content[missing]
    skops.io.dump(content, path)
    assert refusal(lambda: load_model(path)) == damaged(path, f"'{missing}'")


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
        ({"flip": True}, {}, "flip is True, expected False", "no --flip"),
        ({"crops": 5}, {}, "crops is 5, expected 1", "--crops 1"),
        ({"scales": (32,)}, {}, "scales is 32, expected none", "no --scale"),
        (
            {"size": (64, 64)},
            {"scales": (32, 64), "scales_join": "stack"},
            "scales is none, expected 32+64; scales_join is mean, expected stack",
            "--scale 32 --scale 64 --scales-join stack",
        ),
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
    bundle = Model(Pipeline([]), Recipe(**facts))
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
    bundle = Model(Pipeline([]), RECIPE)
    with caplog.at_level(logging.INFO):
        bundle.check_recipe(RECIPE, "new.h5")
        bundle.check_recipe(RECIPE.with_layers(["block1_conv1", "block2_pool"]), "new.h5")
    assert not caplog.records
