"""From images to a store: the pipeline with a simple backbone, jobs and their settings."""

import re
from pathlib import Path

import h5py
import joblib
import numpy as np
import pytest
from running import TINY, MeanColour, job_in, run, stop_after

import featx
from featx.errors import (
    ImagesError,
    OptionError,
    UnknownLayerError,
)
from featx.extraction import prepare_extraction
from featx.extraction.pipeline import stream_codes
from featx.images import read_image
from featx.recipe import Recipe
from featx.store import Status, open_store


def expected_codes(folder, recipe):
    """Return the codes of MeanColour for each image, one at a time."""
    backbone = MeanColour(recipe)
    rows = []
    for path in open_store(folder / "codes.h5").images.path:
        pixels = read_image(folder / "data" / path, recipe.size, recipe.resize).pixels
        rows.append(backbone(pixels[None])["block1_pool"][0])
    return np.array(rows)


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/: train 18, val 9, three classes."""
    return image_folder.parent


def test_the_store_has_the_codes_and_facts_of_each_image(folder):
    """Every row has the codes, path, label, split and hash of its own image."""
    job = job_in(folder, batch_size=4)
    seen = []
    backbone = MeanColour(job.recipe)
    made = run(job, backbone, progress=lambda *n: seen.append(n))
    store = open_store(made.path)
    assert store.complete
    assert (made.n_done, made.n_failed) == (27, 0)
    assert list(store.images.path) == [r.path for r in job.listing.records]
    assert list(store.images.label) == [p.split("/")[1] for p in store.images.path]
    assert list(store.images.split) == [p.split("/")[0] for p in store.images.path]
    np.testing.assert_array_equal(store.codes("block1_pool"), expected_codes(folder, job.recipe))
    assert set(backbone.shapes) == {(4, 32, 32, 3)}  # the last batch is padded
    assert seen[-1] == (27, 27)
    image = read_image(folder / "data" / store.images.path[5], (32, 32), "squash")
    assert store.images.sha256[5] == image.sha256
    assert store.images.phash[5] == image.phash
    assert np.array_equal(store.thumbnails()[5], image.thumbnail)


def test_a_bad_image_is_a_row_with_a_reason(folder):
    """The other images of its batch are done."""
    bad = [folder / "data/train/blue/0.png", folder / "data/val/red/1.png"]
    bad[0].write_bytes(bad[0].read_bytes()[:60])
    bad[1].write_text("not an image")
    job = job_in(folder, batch_size=9)
    made = run(job)
    images = open_store(made.path).images
    assert (made.n_done, made.n_failed) == (25, 2)
    failed = images.status == Status.FAILED
    assert list(images.path[failed]) == ["train/blue/0.png", "val/red/1.png"]
    assert all(images.reason[failed])
    codes = open_store(made.path).codes("block1_pool")
    assert np.isnan(codes[failed]).all()
    assert np.isfinite(codes[~failed]).all()


@pytest.mark.usefixtures("one_unsafe_batch")
def test_an_interrupted_run_resumes_and_ends_with_the_same_store(folder):
    """Only the remaining rows are computed, and the digests are those of one run."""
    job = job_in(folder, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run(job, progress=stop_after(8))
    with h5py.File(job.output) as file:
        assert list(file["images/status"][:9]) == [Status.DONE] * 8 + [Status.PENDING]
        assert file["complete"][0] == 0
    again = job_in(folder, batch_size=4)
    assert again.remaining.resumes
    assert again.remaining.rows == tuple(range(8, 27))
    backbone = MeanColour(again.recipe)
    made = run(again, backbone)
    assert made.n_done == 27
    assert len(backbone.shapes) == 5
    digests = open_store(job.output).digests()
    run(job_in(folder, batch_size=4, overwrite=True))
    assert open_store(job.output).digests() == digests


@pytest.mark.usefixtures("one_unsafe_batch")
def test_a_resumed_run_notices_edited_images(folder):
    """Images that were edited since the interruption are computed again."""
    job = job_in(folder, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run(job, progress=stop_after(8))
    edited = folder / "data" / job.listing.records[3].path
    edited.write_bytes((folder / "data/val/red/2.png").read_bytes())
    again = job_in(folder, batch_size=4)
    assert again.remaining.rows == (3, *range(8, 27))
    run(again)
    store = open_store(job.output)
    assert np.array_equal(store.codes("block1_pool"), expected_codes(folder, job.recipe))
    assert (
        store.images.sha256[3]
        == store.images.sha256[list(store.images.path).index("val/red/2.png")]
    )


def test_an_output_never_replaces_the_weights(folder):
    """The weights file is refused as output, even with --overwrite."""
    weights = folder / "w.h5"
    weights.write_bytes(
        (Path(featx.__path__[0]) / "network/vgg19_oxford_normalised.h5").read_bytes()
    )
    with pytest.raises(OptionError, match=rf"{weights} .*-o"):
        prepare_extraction(
            folder / "data", output=weights, overwrite=True, **TINY | {"weights": str(weights)}
        )


@pytest.mark.parametrize(
    ("settings", "kind", "facts"),
    [
        ({"layer": "block9_pool"}, UnknownLayerError, "'block9_pool' 'block5_pool'"),
        ({"layer": "fc1", "weights": "bundled"}, OptionError, "fc1 32x32 --size"),
        ({"layer": "block5_pool", "size": 16}, OptionError, "block5_pool 16x16 32x32 --size"),
        ({"pool": "mean"}, OptionError, "'mean' --pool"),
        ({"pool": "grid:17"}, OptionError, "block1_pool 16x16 17x17 --pool"),
        ({"size": "224x"}, OptionError, "'224x' --size"),
        ({"batch_size": 0}, OptionError, "0 --batch-size"),
        ({"layer": []}, OptionError, "--layer"),
        ({"max_pixels": 0}, OptionError, "0 --max-pixels"),
        ({"preprocess": "none"}, OptionError, "'none' --preprocess caffe"),
    ],
)
def test_settings_are_checked_before_work(folder, settings, kind, facts):
    """The error names the flag and the value, and nothing is written."""
    with pytest.raises(kind) as caught:
        job_in(folder, **settings)
    for fact in facts.split():
        assert fact in str(caught.value)
    assert not (folder / "codes.h5").exists()


def test_a_missing_output_folder_is_known_before_work(folder):
    """An output in a folder that does not exist is refused."""
    message = (
        f"Cannot write {folder / 'no/codes.h5'}: the folder {folder / 'no'} does not exist. "
        "Create it, or use another -o."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        prepare_extraction(folder / "data", output=folder / "no" / "codes.h5", **TINY)


def test_a_folder_and_a_manifest_exclude_each_other():
    """The error names both."""
    with pytest.raises(OptionError, match=r"\ba\b.*b\.csv"):
        prepare_extraction("a", manifest="b.csv", **TINY)


def test_weights_that_do_not_fit_leave_nothing_behind(folder):
    """A truncated weights file is an error before a store is created."""
    weights = folder / "w.h5"
    with h5py.File(weights, "w") as file:
        file["x"] = np.zeros(1000)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(featx.errors.WeightsError):
        featx.extract(
            folder / "data", output=folder / "codes.h5", **TINY | {"weights": str(weights)}
        )
    assert sorted(p.name for p in folder.iterdir()) == ["data", "w.h5"]


def test_no_images_is_an_error(tmp_path):
    """An empty folder is refused."""
    with pytest.raises(ImagesError):
        prepare_extraction(tmp_path, output=tmp_path / "codes.h5", **TINY)


def test_several_layers_come_from_one_pass(folder):
    """The codes of a layer are the same with and without other layers."""
    both = folder / "both.h5"
    settings = TINY | {"layer": ["block1_pool", "block1_conv1"]}
    featx.extract(folder / "data", output=both, **settings)
    featx.extract(folder / "data", output=folder / "one.h5", **TINY)
    store = open_store(both)
    assert store.recipe.layers == ("block1_conv1", "block1_pool")
    one = open_store(folder / "one.h5").codes("block1_pool")
    np.testing.assert_allclose(store.codes("block1_pool"), one, rtol=1e-6)


def test_only_a_few_batches_are_in_memory(folder, monkeypatch):
    """At most three batches are decoded ahead of the two in the network."""
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    files = [folder / "data/train/red/0.png"] * 40
    taken = []

    class Files(list):
        def __getitem__(self, row):
            taken.append(row)
            return super().__getitem__(row)

    recipe = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))
    stream = stream_codes(Files(files), MeanColour(recipe), 4)
    next(stream)
    assert len(taken) - len(files) == 20  # each is looked at once before, whether it is a URL
    assert sum(batch.n_images for batch in stream) == 36
