"""Models: saved, loaded, compared with codes, and refused if they are something else."""

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

from featx.codes.scaling import UnitRows
from featx.errors import FeatxError, ModelError, OptionError, OutputError, RecipeMismatchError
from featx.fitting import CLASSIFIERS, Model, fit, load_model
from featx.fitting.model import TRUSTED_TYPES
from featx.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))


class Foreign:
    """A class that no model contains."""

    def __init__(self) -> None:
        self.x = 1


def foreign_function(X):
    """A function that no model contains."""
    return X


def make_codes(n: int = 30, seed: int = 0) -> np.ndarray:
    """Return codes of three classes that differ in their first three features."""
    rng = np.random.default_rng(seed)
    codes = rng.random((n, 64)).astype(np.float32)
    codes[np.arange(n), np.arange(n) % 3] += 2
    return codes


@pytest.fixture(scope="module")
def saved(tmp_path_factory, make_store, one_thread):
    """Return a folder with a saved model of each classifier, and the fits behind them."""
    folder = tmp_path_factory.mktemp("models")
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
    """Return a function that fits a classifier on wide codes and saves its model."""
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
    """Return feature maps of three classes, 8,192 features each."""
    codes = np.random.default_rng(seed).random((n, 8, 8, 128)).astype(np.float32)
    codes[np.arange(n), np.arange(n) % 3] += 0.5
    return codes


def arrays_of(path: Path) -> list[np.ndarray]:
    """Return all arrays in a skops file."""
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.namelist() if entry.endswith(".npy")]
        return [np.load(io.BytesIO(archive.read(entry))) for entry in entries]


def model_of(recipe: Recipe = RECIPE) -> Model:
    """Return a model that was fitted without a store."""
    codes, y = make_codes(), np.array(["a", "b", "c"] * 10)
    pipeline = Pipeline([("unit", UnitRows((64,))), ("classifier", LogisticRegression())])
    return Model(pipeline.fit(codes, y), recipe, {"who": "me"}, {"accuracy": 1.0})


def check_refusal(action, *facts, error=ModelError) -> None:
    """Check that an action is refused, with a message that contains all of the facts."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert [str(fact) for fact in facts if str(fact) not in message] == [], message


def check_damaged(path: Path, reason: str) -> None:
    """Check that a file is refused as damaged, with the reason and what to type next."""
    check_refusal(lambda: load_model(path), path, reason, "featx fit --overwrite")


# saving and loading


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_loaded_model_predicts_the_same_to_the_bit(saved, name):
    """Saving changes no probability, no label and no fact."""
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
def test_a_linear_model_holds_coefficients_and_no_training_images(saved, name):
    """No array in the file has an entry for each image."""
    folder, found = saved
    arrays = arrays_of(folder / f"{name}.skops")
    shapes = {array.shape for array in arrays}
    assert (3, 64) in shapes
    assert not [shape for shape in shapes if 24 in shape or 30 in shape]
    assert shapes <= {(3, 64), (3,), (1,), (), (64, 64), (64,)}
    codes = make_codes()
    # lda has the covariance of the features and the mean of each class, but no code of an image.
    assert not any(np.isin(codes[:24], array).any() for array in arrays if array.size)
    assert found[name].model.gram is None


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm", "centroid"])
def test_a_linear_model_of_wide_codes_is_small(wide, name):
    """The file has the coefficients of codes and no Gram coordinates."""
    model, path = wide(name, solver="gram")
    assert model.gram is None
    assert path.stat().st_size < 3 * 8192 * 8 + 100_000
    assert not [array for array in arrays_of(path) if 27 in array.shape or 36 in array.shape]


@pytest.mark.parametrize("name", list(CLASSIFIERS)[:6])
def test_a_model_without_a_store_predicts(wide, name, tmp_path):
    """Few training codes are stored in the file, and predictions are the same to the bit."""
    model, path = wide(name, solver="gram")
    further = wide_codes(20, seed=1).reshape(20, -1)
    before = model.predict_proba(further)
    (tmp_path / "codes.h5").unlink()
    after = load_model(path)
    assert np.array_equal(after.predict_proba(further), before)
    assert np.array_equal(after.classifier.predict(further), model.classifier.predict(further))


# classifiers that need the codes of their training images


@pytest.fixture
def large(monkeypatch):
    """Treat all codes as too large to be stored in the model."""
    monkeypatch.setattr("featx.fitting.model._KEPT_BYTES", 0)


@pytest.mark.parametrize("suffix", ["skops", "joblib"])
@pytest.mark.parametrize("name", ["svm-rbf", "knn"])
def test_large_training_codes_are_read_from_their_store(wide, large, name, suffix):
    """The file does not contain them, and predictions are the same to the bit."""
    model, path = wide(name, suffix, solver="gram")
    further = wide_codes(20, seed=1).reshape(20, -1)
    assert path.stat().st_size < 100_000  # of 27 * 8192 * 4
    after = load_model(path, trust=suffix == "joblib")
    assert getattr(after.gram, "codes_", None) is None
    assert np.array_equal(after.predict_proba(further), model.predict_proba(further))
    assert len(after.gram.codes_) == len(after.fitted_on) == 27


def test_saving_leaves_the_codes_in_the_model(wide, large):
    model, _ = wide("knn", solver="gram")
    assert len(model.gram.codes_) == 27


def test_a_loaded_model_without_its_codes_may_be_saved_again(wide, large, tmp_path):
    model, path = wide("knn", solver="gram")
    load_model(path).save(tmp_path / "again.skops")
    further = wide_codes(20, seed=1).reshape(20, -1)
    again = load_model(tmp_path / "again.skops")
    assert np.array_equal(again.predict_proba(further), model.predict_proba(further))


def test_a_missing_store_is_named(wide, large, tmp_path):
    """The message has the path, and the flag that gives another one."""
    model, path = wide("svm-rbf", solver="gram")
    moved = tmp_path / "moved.h5"
    (tmp_path / "codes.h5").rename(moved)
    after = load_model(path)
    further = wide_codes(20, seed=1).reshape(20, -1)
    check_refusal(lambda: after.predict_proba(further), tmp_path / "codes.h5", "--codes FILE")
    other = tmp_path / "other.h5"
    check_refusal(lambda: after.open_codes(other), other, "--codes FILE")
    after.open_codes(moved)
    assert np.array_equal(after.predict_proba(further), model.predict_proba(further))


def test_a_store_in_another_order_can_be_used(wide, large, tmp_path, make_store):
    """Images are found by their SHA-256."""
    model, path = wide("svm-rbf", solver="gram")
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
    assert np.array_equal(after.predict_proba(further), model.predict_proba(further))


def test_codes_of_several_stores_are_found_again(large, tmp_path, make_store):
    """The layers are concatenated in the order of the fit."""
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
    """A store of the same recipe without some of the training images is refused."""
    _, path = wide("knn", solver="gram")
    other = make_store(tmp_path / "other.h5", {"block2_pool": wide_codes(20)}, [None] * 20)
    check_refusal(lambda: load_model(path).open_codes(other), other, "7 of the 27 images")


def test_a_store_whose_images_have_no_codes_is_refused(wide, large, tmp_path, make_store):
    """Failed rows of a store have zeros instead of codes."""
    _, path = wide("knn", solver="gram")
    other = make_store(
        tmp_path / "other.h5", {"block2_pool": wide_codes()}, [None] * 36, failed={3: "no pixels"}
    )
    check_refusal(lambda: load_model(path).open_codes(other), other, "1 of the 27 images")


def test_a_store_of_another_recipe_is_refused(wide, large, tmp_path, make_store):
    model, path = wide("knn", solver="gram")
    recipe = Recipe(**{**vars(model.recipe), "weights": "random:1"})
    labels = [None] * 36
    other = make_store(tmp_path / "other.h5", {"block2_pool": wide_codes()}, labels, recipe=recipe)
    check_refusal(
        lambda: load_model(path).open_codes(other),
        *(other, "random:1", "--weights random:0"),
        error=RecipeMismatchError,
    )


# joblib


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_joblib_model_predicts_the_same_to_the_bit(saved, tmp_path, name):
    """The suffix chooses the format; the file is read if it is trusted."""
    _, found = saved
    path = tmp_path / "model.joblib"
    found[name].model.save(path)
    assert not zipfile.is_zipfile(path)
    before, after = found[name].model, load_model(path, trust=True)
    codes = make_codes(40, seed=1)
    assert np.array_equal(after.predict_proba(codes), before.predict_proba(codes))
    assert after.fitted_on == before.fitted_on


def test_a_joblib_model_is_refused_without_trust(tmp_path):
    path = tmp_path / "model.joblib"
    path.write_bytes(b"any")
    check_refusal(lambda: load_model(path), path, "--trust", "NAME.skops")
    check_refusal(lambda: load_model(path, trust=True), path, "featx fit")


def test_another_joblib_file_is_refused(tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump([1, 2], path)
    check_refusal(lambda: load_model(path, trust=True), path, "featx fit CODES")


def test_a_pickle_that_is_called_skops_runs_no_code(tmp_path):
    """A file NAME.skops is never unpickled, with trust or without."""
    path = tmp_path / "model.skops"
    joblib.dump(model_of().classifier, path)
    for trust in (False, True):
        with pytest.raises(FeatxError):
            load_model(path, trust=trust)


def test_types_of_featx_that_are_trusted_exist():
    """A renamed class needs its new name in the list."""
    for name in TRUSTED_TYPES:
        module, _, type_name = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), type_name), type)


def test_the_provenance_has_the_stores_the_settings_and_the_versions(saved):
    folder, _ = saved
    provenance = load_model(folder / "ridge.skops").provenance
    assert provenance["codes"] == [str(folder / "codes.h5")]
    assert provenance["extraction"] == {"weights": "random:0"}
    assert provenance["settings"]["clf"] == "ridge"
    known = {"codes", "extraction", "settings", "scikit-learn", "skops", "numpy", "fitted"}
    assert set(provenance) == known


@pytest.mark.parametrize("block_bytes", [1, 64 * 8 * 7])
def test_blocks_change_no_probability(monkeypatch, block_bytes):
    """Rows are predicted in blocks, with the same result."""
    model, codes = model_of(), make_codes(40, seed=1)
    whole = model.classifier.predict_proba(codes)
    monkeypatch.setattr("featx.fitting.model._BLOCK_BYTES", block_bytes)
    assert np.allclose(model.predict_proba(codes), whole, rtol=0, atol=1e-15)


def test_no_codes_give_no_probabilities():
    assert model_of().predict_proba(make_codes()[:0]).shape == (0, 3)


def test_codes_of_another_width_are_refused():
    predict = model_of().predict_proba
    check_refusal(lambda: predict(np.ones((2, 32))), "(n, 64)", "(2, 32)", error=OptionError)


def test_saving_replaces_a_file_at_once(tmp_path):
    """The old file is replaced at the end, and whoever has it open still reads it."""
    path = tmp_path / "model.skops"
    path.write_text("old")
    with path.open() as old:
        model_of().save(path)
        assert old.read() == "old"
    assert load_model(path).provenance == {"who": "me"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_saving_into_a_missing_folder_is_refused(tmp_path, folder):
    """A folder that is missing, or is a file, raises its own error."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "model.skops"
    check_refusal(lambda: model_of().save(path), path.parent, error=OutputError)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_disk_keeps_the_old_model(tmp_path, monkeypatch):
    path = tmp_path / "model.skops"
    model_of().save(path)
    before = path.read_bytes()

    def full(content, file):
        Path(file).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(skops.io, "dump", full)
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=1_230_000_000))
    check_refusal(lambda: model_of().save(path), path, "1.23 GB", "-o", error=OutputError)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# what is refused


def test_a_missing_model_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    check_refusal(lambda: load_model(path), f"featx fit CODES -o {path}")
    check_refusal(lambda: load_model(tmp_path), f"featx fit CODES -o {tmp_path}")


@pytest.mark.parametrize(
    ("content", "types"),
    [
        (lambda: {"format": "featx-model", "classifier": Foreign()}, "test_model.Foreign"),
        (lambda: FunctionTransformer(foreign_function), "test_model.foreign_function"),
        (
            lambda: [FunctionTransformer(foreign_function), Foreign()],
            "test_model.Foreign, test_model.foreign_function",
        ),
    ],
    ids=["class", "function", "both"],
)
def test_foreign_types_are_refused_before_loading(tmp_path, content, types):
    """The message lists the types of the file that are not trusted."""
    path = tmp_path / "model.skops"
    skops.io.dump(content(), path)
    check_refusal(lambda: load_model(path), path, types)


@pytest.mark.parametrize("content", [LogisticRegression(), {"format": "other"}, [1, 2]], ids=str)
def test_another_skops_file_is_refused(tmp_path, content):
    """A file with trusted types alone is refused too, if it is not a model."""
    path = tmp_path / "model.skops"
    skops.io.dump(content, path)
    check_refusal(lambda: load_model(path), path, "featx fit CODES")


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump({"format": "featx-model", "format_version": 4}, path)
    check_refusal(lambda: load_model(path), path, "format 4", "format 3", "--upgrade featx")


def test_an_older_format_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump({"format": "featx-model", "format_version": 1, "classifier": 0}, path)
    check_refusal(lambda: load_model(path), path, "format 1", "format 3", "featx fit --overwrite")


def test_a_recipe_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    recipe = json.dumps({**json.loads(RECIPE.to_json()), "rotations": 4})
    content = {"format": "featx-model", "format_version": 3, "classifier": 0, "recipe": recipe}
    skops.io.dump(content, path)
    check_refusal(lambda: load_model(path), path, "rotations", "--upgrade featx")


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_model_is_refused(tmp_path, fraction):
    path = tmp_path / "model.skops"
    model_of().save(path)
    os.truncate(path, int(path.stat().st_size * fraction))
    check_damaged(path, "File is not a zip file")


def test_a_text_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    path.write_text("hello")
    check_damaged(path, "File is not a zip file")


def test_another_zip_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    check_damaged(path, "schema.json")


@pytest.mark.parametrize("missing", ["classifier", "recipe", "provenance", "summary", "fitted_on"])
def test_a_model_without_one_of_its_entries_is_refused(tmp_path, missing):
    """A model has all of these entries."""
    path = tmp_path / "model.skops"
    content = {
        "format": "featx-model",
        "format_version": 3,
        "classifier": LogisticRegression(),
        "recipe": RECIPE.to_json(),
        "provenance": "{}",
        "summary": "{}",
        "fitted_on": "[]",
    }
    del content[missing]
    skops.io.dump(content, path)
    check_damaged(path, f"'{missing}'")


# the recipe


SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("change", "expected", "values", "flags"),
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
        ({"grey": "pillow"}, {}, "grey is pillow, expected tags", "--grey tags"),
        ({"white": 4095}, {}, "white is 4095, expected none", "no --white"),
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
def test_codes_of_another_recipe_are_refused(change, expected, values, flags):
    """The message has both values of each setting, and the flag to extract with."""
    facts = {**vars(RECIPE), **expected}
    model = Model(Pipeline([]), Recipe(**facts))
    other = Recipe(**{**vars(RECIPE), **change})
    check_refusal(
        lambda: model.check_recipe(other, "new.h5"),
        *("new.h5", values, flags),
        error=RecipeMismatchError,
    )


def test_every_fact_of_a_recipe_is_compared():
    """The table above has all settings but precision, which may differ."""
    marks = test_codes_of_another_recipe_are_refused.pytestmark
    (table,) = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    changed = {field for change, expected, *_ in table for field in {**change, **expected}}
    assert changed == set(vars(RECIPE)) - {"precision"}


def test_the_same_recipe_is_accepted_with_other_layers_too(caplog):
    """A store may have more layers than the model needs."""
    model = Model(Pipeline([]), RECIPE)
    with caplog.at_level(logging.INFO):
        model.check_recipe(RECIPE, "new.h5")
        model.check_recipe(RECIPE.with_layers(["block1_conv1", "block2_pool"]), "new.h5")
    assert not caplog.records


def test_its_text_is_a_few_lines(fitted_model_for_text):
    """Notebooks show it; arrays, provenance and digests are not in it."""
    text = repr(fitted_model_for_text)
    assert len(text.splitlines()) <= 4
    assert len(text) < 600
    assert "40 images" in text
    assert "200 classes" in text


@pytest.fixture
def fitted_model_for_text():
    """A model of many classes, with a long summary and provenance."""
    X = np.random.default_rng(0).normal(size=(600, 64))
    classifier = Pipeline(
        [("only", LogisticRegression(max_iter=3, tol=1).fit(X, [*range(200)] * 3))]
    )
    recipe = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))
    long = {"classifier": "logistic", "x": ["y" * 100] * 100}
    return Model(classifier, recipe, long, long, tuple(f"{k:064x}" for k in range(40)))
