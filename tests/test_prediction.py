"""Predictions from images and from a store agree, and refuse what does not belong together."""

import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import featx
from featx.errors import (
    BundleError,
    ExistsError,
    ImagesError,
    OptionError,
    RecipeMismatchError,
)

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
    bundle = featx.load_bundle(made / "model.skops")
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


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_the_table_is_written(made, tmp_path, name):
    """The file holds the table; it is not replaced unasked."""
    files = [made / "data/val/red/0.png", made / "data/val/blue/0.png"]
    table = featx.predict(files, model=made / "model.skops", output=tmp_path / name)
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    pd.testing.assert_frame_equal(read(tmp_path / name), table, check_dtype=False)
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
            BundleError,
            "No bundle no.skops. Make one first: featx fit CODES -o no.skops",
        ),
        (
            {"output": "out.xlsx"},
            OptionError,
            "Cannot tell a format from out.xlsx. Expected -o NAME.csv or -o NAME.parquet.",
        ),
    ],
)
def test_what_is_missing_is_said(made, settings, kind, message):
    """Missing images, bundles and formats are refused in words."""
    settings = {"inputs": made / "data", "model": made / "model.skops"} | settings
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        featx.predict(settings.pop("inputs"), **settings)


def test_a_store_comes_alone(made):
    """A store beside other inputs is refused, since their rows would mix."""
    message = "One store at a time, and no images beside it. Received 2 inputs."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        featx.predict([made / "codes.h5", made / "data"], model=made / "model.skops")


def test_no_readable_image_is_an_error(made, tmp_path):
    """If nothing could be predicted there is no table, and the first reason is said."""
    bad = tmp_path / "notes.txt"
    bad.write_text("hello")
    message = (
        f"None of the 1 images could be read. "
        f"The first is {bad}: not an image that Pillow can read."
    )
    with pytest.raises(ImagesError, match=f"^{re.escape(message)}$"):
        featx.predict(bad, model=made / "model.skops", output=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
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
