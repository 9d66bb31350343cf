"""Predictions: images and stores give the same table, which is written batch by batch."""

import dataclasses
import json
import os
import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from pyarrow.parquet import ParquetFile
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import featx
from featx.errors import (
    ExistsError,
    ImagesError,
    ModelError,
    OptionError,
    RecipeMismatchError,
    StoreError,
)
from featx.fitting import model as models
from featx.workflows import prepare_prediction, run_prediction
from featx.workflows.predicting import classifying, tables

TINY = {"layer": ["block1_conv2", "block1_pool"], "pool": "avg", "size": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/, codes.h5 and model.skops, made with random weights."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    featx.extract(folder / "data", output=folder / "codes.h5", weights="random:0", **TINY)
    featx.fit(folder / "codes.h5", clf="ridge", output=folder / "model.skops", baselines=False)
    return folder


def test_images_and_store_give_the_same_table(made):
    """The same images, as files or as stored codes, get the same labels and probabilities."""
    model = featx.load_model(made / "model.skops")
    of_images = featx.predict(made / "data", model=model)
    of_store = featx.predict(made / "codes.h5", model=made / "model.skops")
    columns = ["path", "file", "label", "p_blue", "p_green", "p_red", "reason"]
    assert list(of_images.columns) == list(of_store.columns) == columns
    assert list(of_images["path"]) == list(of_store["path"])
    assert list(of_images["file"]) == [f"{made}/data/{path}" for path in of_store["path"]]
    assert of_store["file"].isna().all()
    assert list(of_images["label"]) == list(of_store["label"])
    pd.testing.assert_frame_equal(of_images.filter(like="p_"), of_store.filter(like="p_"))
    np.testing.assert_allclose(of_images.filter(like="p_").sum(axis=1), 1)


def test_the_colours_are_learned(made):
    """The labels of images that differ only in colour are right."""
    table = featx.predict(made / "data" / "val", model=made / "model.skops")
    assert [path.split("/")[-2] for path in table["path"]] == list(table["label"])
    assert table["reason"].isna().all()


def read_lines(path):
    return pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").splitlines()])


def assert_same(read, table):
    """Two tables are equal; formats differ in how they mark a missing value."""
    one, other = (each.astype(object).where(each.notna(), None) for each in (read, table))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=0)


READERS = {"out.csv": pd.read_csv, "out.parquet": pd.read_parquet, "out.jsonl": read_lines}


@pytest.mark.parametrize("name", READERS)
def test_the_table_is_written(made, tmp_path, name):
    """The file holds the table, and is not replaced without overwrite."""
    files = [made / "data/val/red/0.png", made / "data/val/blue/0.png"]
    table = featx.predict(files, model=made / "model.skops", output=tmp_path / name)
    read = READERS[name](tmp_path / name)
    assert_same(read, table)
    with pytest.raises(ExistsError, match=rf"{name}.*--overwrite"):
        featx.predict(files, model=made / "model.skops", output=tmp_path / name)


def test_an_unreadable_image_has_no_label(made, tmp_path):
    """Such an image keeps its row, without a label and with NaN for probabilities."""
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes((made / "data/val/red/0.png").read_bytes())
    table = featx.predict(tmp_path, model=made / "model.skops")
    assert list(table["label"].isna()) == [True, False]
    assert table.filter(like="p_").iloc[0].isna().all()
    assert list(table["reason"].fillna("")) == ["empty file", ""]


def test_rows_of_a_store_without_codes_have_a_reason(tmp_path, make_store):
    """A failed row has its own, and a pending row says that it was not extracted."""
    codes = np.random.default_rng(0).normal(size=(20, 64)).astype("f4")
    store = make_store(
        tmp_path / "codes.h5",
        {"block1_pool": codes},
        ["a", "b"] * 10,
        failed={3: "it is green"},
        pending=[7],
    )
    fitted = LogisticRegression().fit(codes, ["a", "b"] * 10)
    model = featx.Model(Pipeline([("only", fitted)]), featx.open_store(store).recipe)
    table = featx.predict(store, model=model)
    assert list(np.flatnonzero(table["reason"].notna())) == [3, 7]
    assert table["reason"][3] == "it is green"
    assert "not extracted" in table["reason"][7]


def test_codes_of_another_recipe_are_refused(made, tmp_path):
    """Each field that differs is named, with the flags that would help."""
    other = tmp_path / "other.h5"
    featx.extract(
        made / "data", output=other, weights="random:1", layer="block1_pool", pool="max", size=40
    )
    flags = (
        r"--weights random:0 --layer block1_conv2 --layer block1_pool --pool avg --size (32x)?32"
    )
    with pytest.raises(RecipeMismatchError, match=rf"other\.h5.*random:1.*max.*40.*{flags}"):
        featx.predict(other, model=made / "model.skops")


def test_a_store_may_have_further_layers(made, tmp_path):
    """The model uses its own layers, in any position among others."""
    other = tmp_path / "more.h5"
    layers = ["block1_conv1", *TINY["layer"], "block2_conv1"]
    featx.extract(made / "data", output=other, weights="random:0", **TINY | {"layer": layers})
    one, two = (
        featx.predict(store, model=made / "model.skops") for store in (other, made / "codes.h5")
    )
    pd.testing.assert_frame_equal(one, two)


def test_other_weights_are_refused(made):
    """Both identities are in the message."""
    with pytest.raises(RecipeMismatchError, match=r"random:5.*random:0.*--weights"):
        featx.predict(made / "data", model=made / "model.skops", weights="random:5")


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"inputs": "no.jpg"}, ImagesError, r"no\.jpg"),
        ({"model": "no.skops"}, ModelError, r"no\.skops.*featx fit"),
        ({"output": "out.xlsx"}, OptionError, r"out\.xlsx.*\.csv.*\.parquet.*\.jsonl"),
        ({"top": 0}, OptionError, r"--top.*\b0\b"),
        ({"inputs": []}, ImagesError, None),
        ({"manifest": {"path": ["1.png"]}}, OptionError, "--manifest"),
        ({"path_column": "file"}, OptionError, "--path-column.*--manifest"),
        ({"precision": "float16"}, OptionError, r"float16.*float32.*tf32.*bfloat16"),
    ],
)
def test_wrong_settings_are_refused(made, settings, kind, words):
    """The message has the value, and what is expected."""
    settings = {"inputs": made / "data", "model": made / "model.skops"} | settings
    with pytest.raises(kind, match=words):
        featx.predict(settings.pop("inputs"), **settings)


def test_stores_and_images_are_not_mixed(made):
    """The message names one of each."""
    with pytest.raises(OptionError, match=rf"{made}/codes\.h5.*{made}/data"):
        featx.predict([made / "codes.h5", made / "data"], model=made / "model.skops")


def test_no_readable_image_is_an_error(made, tmp_path):
    """There is no table then, and the message names the first image."""
    bad = tmp_path / "notes.txt"
    bad.write_text("hello")
    with pytest.raises(ImagesError, match=rf"1 .*{bad}"):
        featx.predict(bad, model=made / "model.skops", output=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.jsonl"])
def test_file_names_that_are_not_utf8_are_escaped(made, tmp_path, name):
    """Tables hold text only; bytes of another encoding become escapes."""
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes((made / "data/val/red/0.png").read_bytes())
    table = featx.predict(tmp_path, model=made / "model.skops", output=tmp_path / name)
    assert list(table["path"]) == ["caf\\xe9.png"]
    assert list(table["file"]) == [f"{tmp_path}/caf\\xe9.png"]
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    "names",
    [
        ["train/red/1.png", "val/red/2.png", "new/3.png", "4.png", "red/old/5.png"],
        ["train/1.png", "2.png"],
        ["test/1.png", "test/x/2.png", "train/x/3.png", "docs/x.png"],
    ],
)
def test_every_image_of_a_folder_is_classified(made, tmp_path, caplog, names):
    """Names of folders mean nothing, and images without a label are usual."""
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / "data/val/red/0.png", tmp_path / "in" / name)
    table = featx.predict(tmp_path / "in", model=made / "model.skops")
    assert sorted(table["path"]) == sorted(names)
    assert list(table["file"]) == [str(tmp_path / "in" / path) for path in table["path"]]
    assert caplog.records == []


def test_files_that_are_left_out_are_counted(made, tmp_path, caplog):
    """As in an extraction."""
    shutil.copy(made / "data/val/red/0.png", tmp_path / "0.png")
    shutil.copy(made / "data/val/red/0.png", tmp_path / "0.png.1")
    assert len(featx.predict(tmp_path, model=made / "model.skops")) == 1
    assert "1 '.1'" in caplog.text


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_manifest_lists_the_images(made, tmp_path, caplog, kind):
    """Its paths are relative to it, as in an extraction; its labels are not needed."""
    table = {"file": ["val/red/0.png", "val/blue/1.png", "none.png"], "label": ["red", "", ""]}
    if kind == "file":
        pd.DataFrame(table).to_csv(made / "data/list.csv", index=False)
        table = made / "data/list.csv"
    else:
        table["file"] = [str(made / "data" / path) for path in table["file"]]
    found = featx.predict(manifest=table, path_column="file", model=made / "model.skops")
    assert list(found["label"].fillna("")) == ["red", "blue", ""]
    assert list(found["reason"].fillna("")) == ["", "", "not found"]
    assert [path.split("/")[-1] for path in found["path"]] == ["0.png", "1.png", "none.png"]
    assert list(found["file"]) == [
        str(made / "data" / path) for path in ("val/red/0.png", "val/blue/1.png", "none.png")
    ]
    assert "without a label" not in caplog.text
    (made / "data/list.csv").unlink(missing_ok=True)


def test_top_gives_the_most_probable_labels(made):
    """Labels are in order, with the probabilities of the full table."""
    whole = featx.predict(made / "data", model=made / "model.skops")
    two = featx.predict(made / "data", model=made / "model.skops", top=2)
    assert list(two.columns) == ["path", "file", "label", "p", "label_2", "p_2", "reason"]
    probabilities = whole.filter(like="p_").to_numpy()
    names = np.array([name.removeprefix("p_") for name in whole.filter(like="p_").columns])
    order = np.argsort(-probabilities, axis=1)
    assert list(two["label"]) == list(whole["label"]) == list(names[order[:, 0]])
    assert list(two["label_2"]) == list(names[order[:, 1]])
    np.testing.assert_array_equal(two[["p", "p_2"]], -np.sort(-probabilities, axis=1)[:, :2])


@pytest.mark.parametrize("top", [3, 1000])
def test_top_above_the_number_of_classes_gives_all(made, top):
    """All labels are returned, and their probabilities add up to 1."""
    table = featx.predict(made / "codes.h5", model=made / "model.skops", top=top)
    names = ["label", "p", "label_2", "p_2", "label_3", "p_3"]
    assert list(table.columns) == ["path", "file", *names, "reason"]
    np.testing.assert_allclose(table[["p", "p_2", "p_3"]].sum(axis=1), 1)


def test_an_unreadable_image_is_a_row_in_every_format(made, tmp_path):
    """Its label is an empty cell in CSV, a missing value in Parquet, and null in JSON."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"")
    shutil.copy(made / "data/val/red/0.png", tmp_path / "in/b.png")
    for name in READERS:
        model = made / "model.skops"
        featx.predict(tmp_path / "in", model=model, output=tmp_path / name, top=1)
    bad = f"{tmp_path}/in/a.png"
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == f"a.png,{bad},,,empty file"
    first = (tmp_path / "out.jsonl").read_text().splitlines()[0]
    row = {"path": "a.png", "file": bad, "label": None, "p": None, "reason": "empty file"}
    assert json.loads(first) == row
    assert list(pd.read_parquet(tmp_path / "out.parquet")["p"].isna()) == [True, False]


def test_stores_of_other_layers_are_joined(made, tmp_path):
    """Two stores of one layer give the table of the store that has both layers."""
    stores = []
    for layer in reversed(TINY["layer"]):  # in any order
        stores.append(tmp_path / f"{layer}.h5")
        settings = TINY | {"layer": layer}
        featx.extract(made / "data", output=stores[-1], weights="random:0", **settings)
    model = made / "model.skops"
    one = featx.predict(made / "codes.h5", model=model)
    pd.testing.assert_frame_equal(featx.predict(stores, model=model), one)
    with pytest.raises(RecipeMismatchError, match=r"block1_pool\.h5.*--layer block1_conv2"):
        featx.predict(stores[:1], model=model)


def test_a_joblib_model_needs_trust(made, tmp_path):
    """Such a file can run any code when it is opened."""
    featx.load_model(made / "model.skops").save(tmp_path / "model.joblib")
    with pytest.raises(ModelError, match=r"model\.joblib.*--trust"):
        featx.predict(made / "codes.h5", model=tmp_path / "model.joblib")
    table = featx.predict(made / "codes.h5", model=tmp_path / "model.joblib", trust=True)
    expected = featx.predict(made / "codes.h5", model=made / "model.skops")
    pd.testing.assert_frame_equal(table, expected)


def test_codes_that_moved_are_found_with_codes(made, tmp_path, monkeypatch):
    """A classifier that compares with its training codes opens the stores of that setting."""
    monkeypatch.setattr(models, "_KEPT_BYTES", 0)
    shutil.copy(made / "codes.h5", tmp_path / "old.h5")
    settings = {"solver": "gram", "output": tmp_path / "knn.skops", "baselines": False}
    featx.fit(tmp_path / "old.h5", clf="knn", **settings)
    expected = featx.predict(made / "codes.h5", model=tmp_path / "knn.skops")
    (tmp_path / "old.h5").rename(tmp_path / "new.h5")
    with pytest.raises(ModelError, match=r"old\.h5.*--codes"):
        prepare_prediction(made / "codes.h5", model=tmp_path / "knn.skops")
    again = featx.predict(
        made / "codes.h5", model=tmp_path / "knn.skops", codes=[tmp_path / "new.h5"]
    )
    pd.testing.assert_frame_equal(again, expected)


def test_codes_that_are_not_needed_give_a_warning(made, caplog):
    """A setting without effect is reported."""
    prepare_prediction(made / "codes.h5", model=made / "model.skops", codes=[made / "codes.h5"])
    (record,) = caplog.records
    assert "--codes" in record.message


# Many images.


def many(folder, make_store, n_images, n_classes=50):
    """Return a job for a store of n_images, and a model of n_classes fitted on few of them."""
    codes = np.random.default_rng(0).normal(size=(n_images, 64)).astype("f4")
    store = make_store(folder / f"{n_images}.h5", {"block1_pool": codes}, [None] * n_images)
    labels = [f"class {k:02d}" for k in range(n_classes)] * 2
    model = LogisticRegression(max_iter=5, tol=1e3).fit(codes[: len(labels)], labels)
    recipe = featx.open_store(store).recipe
    return prepare_prediction(store, model=featx.Model(Pipeline([("only", model)]), recipe))


@pytest.mark.parametrize("name", READERS)
def test_rows_are_written_batch_by_batch(tmp_path, make_store, monkeypatch, name):
    """A batch is classified when it is requested; the file appears at the end, or never."""
    monkeypatch.setattr(classifying, "_PROBABILITY_BYTES", 8 * 50 * 100)
    monkeypatch.setattr(tables, "_CELLS_PER_GROUP", 1)
    calls = []
    classify = featx.Model.predict_proba
    monkeypatch.setattr(
        featx.Model,
        "predict_proba",
        lambda self, codes: (calls.append(len(codes)), classify(self, codes))[1],
    )
    job = many(tmp_path, make_store, 350)
    output = tmp_path / name
    job = dataclasses.replace(job, output=output)
    frames = run_prediction(job)
    assert calls == []
    assert (len(next(frames)), calls) == (100, [100])
    assert (len(next(frames)), calls) == (100, [100, 100])
    assert not output.exists()
    frames.close()
    assert [path.name for path in tmp_path.iterdir()] == ["350.h5"]
    done = []
    frames = list(
        run_prediction(dataclasses.replace(job, progress=lambda *counts: done.append(counts)))
    )
    assert [len(frame) for frame in frames] == [100, 100, 100, 50]
    assert done == [(100, 350), (200, 350), (300, 350), (350, 350)]
    whole = featx.predict(job.joined.path, model=job.model)
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), whole)
    read = READERS[name](output)
    assert_same(read, whole)
    if name == "out.parquet":
        assert ParquetFile(output).num_row_groups == 4


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_memory_does_not_grow_with_the_images(tmp_path, make_store, monkeypatch, name):
    """Four times the images take no more memory, except for their names."""
    monkeypatch.setattr(classifying, "_PROBABILITY_BYTES", 8 * 50 * 250)
    monkeypatch.setattr(tables, "_CELLS_PER_GROUP", 52 * 250)
    peaks = []
    for n_images in (500, 2000):
        job = many(tmp_path, make_store, n_images)
        job = dataclasses.replace(job, output=tmp_path / f"{n_images}.{name}")
        next(run_prediction(job))  # imports at first use are not counted
        tracemalloc.start()
        assert sum(len(frame) for frame in run_prediction(job)) == n_images
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All probabilities of 2000 images would take 0.8 MB; those of 250 take 0.1 MB.
    assert peaks[1] < peaks[0] + 100_000, peaks


def test_an_error_of_the_store_is_not_reported_as_one_of_the_output(made, tmp_path, monkeypatch):
    """The message names the store, although the table is open at that time."""

    def refuse(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("featx.store.Store.read_rows", refuse)
    with pytest.raises(StoreError, match=rf"{made}/codes\.h5.*Input/output error"):
        featx.predict(made / "codes.h5", model=made / "model.skops", output=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_class_called_na_is_not_lost(store_of, tmp_path, caplog):
    """Predictions and exports say how pandas reads them; so read, they are complete."""
    labels = ["NA", "None", "oak"] * 8
    path = store_of(labels)
    model = featx.fit(path, C=1.0, baselines=False, output=tmp_path / "model.skops").model
    assert model.classes == ("NA", "None", "oak")
    for write in (
        lambda output: featx.predict(path, model=tmp_path / "model.skops", output=output),
        lambda output: featx.export(path, output),
    ):
        caplog.clear()
        write(tmp_path / "out.csv")
        assert "'NA' and 'None'" in caplog.text
        assert "keep_default_na=False" in caplog.text
        found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False, na_values=[""])
        assert set(found["label"]) == set(labels)
        assert found.filter(regex="^(p|block1_conv1)_").dtypes.eq(float).all()
        (tmp_path / "out.csv").unlink()
