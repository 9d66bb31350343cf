"""Predictions from images and stores agree, stream, and refuse what does not belong together."""

import dataclasses
import json
import os
import re
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
from featx.fitting import model as bundles
from featx.workflows import prepare_prediction, run_prediction
from featx.workflows.predicting import classifying
from featx.workflows.predicting import run as predicting

TINY = {"layer": ["block1_conv2", "block1_pool"], "pool": "avg", "size": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/, codes.h5 and model.skops, made with random weights."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    featx.extract(folder / "data", output=folder / "codes.h5", weights="random:0", **TINY)
    featx.fit(folder / "codes.h5", output=folder / "model.skops")
    return folder


def test_images_and_store_give_the_same_table(made):
    """The same images, as files or as stored codes, get the same labels and probabilities."""
    bundle = featx.load_model(made / "model.skops")
    of_images = featx.predict(made / "data", model=bundle)
    of_store = featx.predict(made / "codes.h5", model=made / "model.skops")
    assert list(of_images.columns) == ["path", "label", "p_blue", "p_green", "p_red"]
    assert list(of_images["path"]) == [f"{made}/data/{path}" for path in of_store["path"]]
    assert list(of_images["label"]) == list(of_store["label"])
    pd.testing.assert_frame_equal(of_images.filter(like="p_"), of_store.filter(like="p_"))
    np.testing.assert_allclose(of_images.filter(like="p_").sum(axis=1), 1)


def test_the_colours_are_learned(made):
    """On pictures that differ by colour alone the labels are right."""
    table = featx.predict(made / "data" / "val", model=made / "model.skops")
    assert [path.split("/")[-2] for path in table["path"]] == list(table["label"])


def read_lines(path):
    return pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").splitlines()])


READERS = {"out.csv": pd.read_csv, "out.parquet": pd.read_parquet, "out.jsonl": read_lines}


@pytest.mark.parametrize("name", READERS)
def test_the_table_is_written(made, tmp_path, name):
    """The file holds the table; it is not replaced unasked."""
    files = [made / "data/val/red/0.png", made / "data/val/blue/0.png"]
    table = featx.predict(files, model=made / "model.skops", output=tmp_path / name)
    read = READERS[name](tmp_path / name)
    pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=0, atol=0)
    message = f"{tmp_path / name} exists. Use --overwrite to replace it, or another -o."
    with pytest.raises(ExistsError, match=f"^{re.escape(message)}$"):
        featx.predict(files, model=made / "model.skops", output=tmp_path / name)


def test_an_unreadable_image_has_no_label(made, tmp_path):
    """A bad image is a row without label, not a gap and not a guess."""
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes((made / "data/val/red/0.png").read_bytes())
    table = featx.predict(tmp_path, model=made / "model.skops")
    assert list(table["label"].isna()) == [True, False]
    assert table.filter(like="p_").iloc[0].isna().all()


def test_codes_of_another_recipe_are_refused(made, tmp_path):
    """Each field that differs is named, with the flags that would help."""
    other = tmp_path / "other.h5"
    featx.extract(
        made / "data", output=other, weights="random:1", layer="block1_pool", pool="max", size=40
    )
    message = (
        f"{other} holds codes of another recipe than the classifier's: weights is random:1, "
        "expected random:0; layers is block1_pool, expected block1_conv2+block1_pool; pool is max, "
        "expected avg; size is 40x40, expected 32x32. Extract again with --weights random:0 "
        "--layer block1_conv2 --layer block1_pool --pool avg --size 32x32."
    )
    with pytest.raises(RecipeMismatchError, match=f"^{re.escape(message)}$"):
        featx.predict(other, model=made / "model.skops")


def test_a_store_with_further_layers_serves(made, tmp_path):
    """The classifier takes the layers it knows, wherever they stand among others."""
    other = tmp_path / "more.h5"
    layers = ["block1_conv1", *TINY["layer"], "block2_conv1"]
    featx.extract(made / "data", output=other, weights="random:0", **TINY | {"layer": layers})
    one, two = (
        featx.predict(store, model=made / "model.skops") for store in (other, made / "codes.h5")
    )
    pd.testing.assert_frame_equal(one, two)


def test_other_weights_are_refused(made):
    """Images are not turned into codes with other weights than the classifier's."""
    message = (
        "The weights random:5 are not those of the classifier's codes: random:5, expected "
        "random:0. Use --weights with the file that extract had."
    )
    with pytest.raises(RecipeMismatchError, match=f"^{re.escape(message)}$"):
        featx.predict(made / "data", model=made / "model.skops", weights="random:5")


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"inputs": "no.jpg"}, ImagesError, "No image, folder or store no.jpg."),
        (
            {"model": "no.skops"},
            ModelError,
            "No bundle no.skops. Make one first: featx fit CODES -o no.skops",
        ),
        (
            {"output": "out.xlsx"},
            OptionError,
            "The format of out.xlsx is not clear from its name. Use -o NAME.csv or "
            "-o NAME.parquet or -o NAME.jsonl.",
        ),
        ({"top": 0}, OptionError, "Cannot give 0 labels an image. Expected --top 1 or more."),
        ({"inputs": []}, ImagesError, "No images, folder or store was given."),
    ],
)
def test_what_is_missing_is_said(made, settings, kind, message):
    """Missing images, bundles and formats are refused in words."""
    settings = {"inputs": made / "data", "model": made / "model.skops"} | settings
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        featx.predict(settings.pop("inputs"), **settings)


def test_stores_and_images_are_not_mixed(made):
    """A store beside images is refused, since their rows would mix."""
    message = (
        f"Stores and images cannot be mixed: {made}/codes.h5 is a store, and {made}/data is not. "
        "Give one kind at a time."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        featx.predict([made / "codes.h5", made / "data"], model=made / "model.skops")


def test_no_readable_image_is_an_error(made, tmp_path):
    """If nothing could be predicted there is no table, and the first reason is said."""
    bad = tmp_path / "notes.txt"
    bad.write_text("hello")
    message = (
        f"Of 1 image none could be read. The first is {bad}: not an image that Pillow can read."
    )
    with pytest.raises(ImagesError, match=f"^{re.escape(message)}$"):
        featx.predict(bad, model=made / "model.skops", output=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.jsonl"])
def test_a_name_that_is_not_utf8_is_spelt_out(made, tmp_path, name):
    """Tables hold text alone; bytes of another encoding become escapes."""
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes((made / "data/val/red/0.png").read_bytes())
    table = featx.predict(tmp_path, model=made / "model.skops", output=tmp_path / name)
    assert list(table["path"]) == [f"{tmp_path}/caf\\xe9.png"]
    assert (tmp_path / name).exists()


def test_images_beside_the_splits_are_spoken_of(made, tmp_path, caplog):
    """What the listing leaves out is a note, not silence."""
    shutil.copytree(made / "data", tmp_path / "data")
    (tmp_path / "data/new").mkdir()
    shutil.copy(made / "data/val/red/0.png", tmp_path / "data/new/0.png")
    featx.predict(tmp_path / "data", model=made / "model.skops")
    assert "'new'" in caplog.text


def test_top_gives_the_most_probable_labels(made):
    """With top an image has so many labels, in order, with the probabilities of the full table."""
    whole = featx.predict(made / "data", model=made / "model.skops")
    two = featx.predict(made / "data", model=made / "model.skops", top=2)
    assert list(two.columns) == ["path", "label", "p", "label_2", "p_2"]
    shares = whole.filter(like="p_").to_numpy()
    names = np.array([name.removeprefix("p_") for name in whole.columns[2:]])
    order = np.argsort(-shares, axis=1)
    assert list(two["label"]) == list(whole["label"]) == list(names[order[:, 0]])
    assert list(two["label_2"]) == list(names[order[:, 1]])
    np.testing.assert_array_equal(two[["p", "p_2"]], -np.sort(-shares, axis=1)[:, :2])


@pytest.mark.parametrize("top", [3, 4, 1000])
def test_top_above_the_number_of_classes_gives_all(made, top):
    """More labels than there are is all of them; their probabilities add up to 1."""
    table = featx.predict(made / "data/val", model=made / "model.skops", top=top)
    assert list(table.columns) == ["path", "label", "p", "label_2", "p_2", "label_3", "p_3"]
    np.testing.assert_allclose(table[["p", "p_2", "p_3"]].sum(axis=1), 1)


def test_an_unreadable_image_is_a_row_in_every_format(made, tmp_path):
    """What is missing is an empty cell, in Parquet no value, in JSON null."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"")
    shutil.copy(made / "data/val/red/0.png", tmp_path / "in/b.png")
    for name in READERS:
        model = made / "model.skops"
        featx.predict(tmp_path / "in", model=model, output=tmp_path / name, top=1)
    bad = f"{tmp_path}/in/a.png"
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == f"{bad},,"
    first = (tmp_path / "out.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"path": bad, "label": None, "p": None}
    assert list(pd.read_parquet(tmp_path / "out.parquet")["p"].isna()) == [True, False]


def test_stores_of_other_layers_are_joined(made, tmp_path):
    """Two stores with a layer each give the table of the one that has both."""
    stores = []
    for layer in reversed(TINY["layer"]):  # the order in which they are named does not matter
        stores.append(tmp_path / f"{layer}.h5")
        settings = TINY | {"layer": layer}
        featx.extract(made / "data", output=stores[-1], weights="random:0", **settings)
    model = made / "model.skops"
    one = featx.predict(made / "codes.h5", model=model)
    pd.testing.assert_frame_equal(featx.predict(stores, model=model), one)
    message = (
        f"{stores[0]} holds codes of another recipe than the classifier's: layers is block1_pool, "
        "expected block1_conv2+block1_pool. Extract again with --layer block1_conv2 --layer "
        "block1_pool."
    )
    with pytest.raises(RecipeMismatchError, match=f"^{re.escape(message)}$"):
        featx.predict(stores[:1], model=model)


def test_a_pickled_bundle_needs_trust(made, tmp_path):
    """A .joblib bundle is opened only where its maker is trusted."""
    featx.load_model(made / "model.skops").save(tmp_path / "model.joblib")
    message = (
        f"{tmp_path}/model.joblib is a joblib file, which runs code of its maker when it is "
        "opened. If you made it, or trust who did, say --trust. Bundles that run no code: "
        "featx fit -o NAME.skops"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        featx.predict(made / "codes.h5", model=tmp_path / "model.joblib")
    table = featx.predict(made / "codes.h5", model=tmp_path / "model.joblib", trust=True)
    wanted = featx.predict(made / "codes.h5", model=made / "model.skops")
    pd.testing.assert_frame_equal(table, wanted)


def test_codes_that_moved_are_named(made, tmp_path, monkeypatch):
    """A classifier that compares with its training codes finds them where codes says."""
    monkeypatch.setattr(bundles, "_KEPT_BYTES", 0)
    shutil.copy(made / "codes.h5", tmp_path / "old.h5")
    featx.fit(tmp_path / "old.h5", clf="knn", solver="gram", output=tmp_path / "knn.skops")
    wanted = featx.predict(made / "codes.h5", model=tmp_path / "knn.skops")
    (tmp_path / "old.h5").rename(tmp_path / "new.h5")
    message = (
        "This classifier compares with the codes it was fitted on, which are not in the bundle, "
        f"since they are large, and {tmp_path}/old.h5 is not there. Say where the store is now: "
        "--codes FILE"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        prepare_prediction(made / "codes.h5", model=tmp_path / "knn.skops")
    again = featx.predict(
        made / "codes.h5", model=tmp_path / "knn.skops", codes=[tmp_path / "new.h5"]
    )
    pd.testing.assert_frame_equal(again, wanted)


def test_codes_that_are_not_needed_are_spoken_of(made, caplog):
    """A flag without effect is said, not swallowed."""
    model = made / "model.skops"
    prepare_prediction(made / "codes.h5", model=model, codes=[made / "codes.h5"])
    said = "--codes was not needed: the bundle holds all that its classifier uses."
    assert [record.message for record in caplog.records] == [said]


# many images


def many(folder, make_store, n_images, n_classes=50):
    """A store of n_images, and a bundle of n_classes that was fitted on a few of its codes."""
    codes = np.random.default_rng(0).normal(size=(n_images, 64)).astype("f4")
    store = make_store(folder / f"{n_images}.h5", {"block1_pool": codes}, [None] * n_images)
    labels = [f"class {k:02d}" for k in range(n_classes)] * 2
    model = LogisticRegression(max_iter=5, tol=1e3).fit(codes[: len(labels)], labels)
    recipe = featx.open_store(store).recipe
    return prepare_prediction(store, model=featx.Model(Pipeline([("only", model)]), recipe))


@pytest.mark.parametrize("name", READERS)
def test_rows_are_written_as_they_come(tmp_path, make_store, monkeypatch, name):
    """A batch is classified when it is asked for; the file gets its name at the end, or never."""
    monkeypatch.setattr(classifying, "_PROBABILITY_BYTES", 8 * 50 * 100)
    monkeypatch.setattr(predicting, "_CELLS_PER_GROUP", 1)
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
    pd.testing.assert_frame_equal(read, whole, check_dtype=False, rtol=0, atol=0)
    if name == "out.parquet":
        assert ParquetFile(output).num_row_groups == 4


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_memory_does_not_grow_with_the_images(tmp_path, make_store, monkeypatch, name):
    """Eight times the images take no more memory than their names do."""
    monkeypatch.setattr(classifying, "_PROBABILITY_BYTES", 8 * 50 * 500)
    monkeypatch.setattr(predicting, "_CELLS_PER_GROUP", 52 * 500)
    peaks = []
    for n_images in (1000, 8000):
        job = many(tmp_path, make_store, n_images)
        job = dataclasses.replace(job, output=tmp_path / f"{n_images}.{name}")
        next(run_prediction(job))  # what is imported at first use is not counted
        tracemalloc.start()
        assert sum(len(frame) for frame in run_prediction(job)) == n_images
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All probabilities of 8000 images would take 3.2 MB; those of 500 take 0.2 MB.
    assert peaks[1] < peaks[0] + 300_000, peaks


def test_a_store_that_cannot_be_read_is_not_an_output_that_cannot_be_written(
    made, tmp_path, monkeypatch
):
    """An error of reading names the store, though a table is open at that time."""

    def refuse(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("featx.store.Store.read_rows", refuse)
    message = f"{made}/codes.h5 cannot be read: Input/output error."
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        featx.predict(made / "codes.h5", model=made / "model.skops", output=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []
