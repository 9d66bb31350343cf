"""Images to a store: the pipeline with a backbone of three lines, jobs, resuming."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import featx
from featx.errors import (
    ExistsError,
    ImagesError,
    OptionError,
    RecipeMismatchError,
    StoreError,
    UnknownLayerError,
)
from featx.extraction import auto_batch_size, prepare_extraction, run_extraction, stream_codes
from featx.images import read_picture
from featx.recipe import Recipe
from featx.store import Status, create_store, open_store


class MeanColour:
    """A backbone without a network: the code is the image's mean colour, 64 wide."""

    def __init__(self, recipe, stop_after=None):
        self.recipe = recipe
        self.shapes = []
        self.stop_after = stop_after

    def __call__(self, images):
        if len(self.shapes) == self.stop_after:
            raise KeyboardInterrupt
        self.shapes.append(images.shape)
        mean = images.astype("f4").mean(axis=(1, 2))
        return {"block1_pool": np.tile(mean, (1, 22))[:, :64]}


TINY = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}


def expected_codes(folder, recipe):
    """What MeanColour gives for each image, one at a time."""
    backbone = MeanColour(recipe)
    rows = []
    for path in open_store(folder / "codes.h5").images.path:
        pixels = read_picture(folder / "data" / path, recipe.size, recipe.resize).pixels
        rows.append(backbone(pixels[None])["block1_pool"][0])
    return np.array(rows)


@pytest.fixture
def folder(image_folder):
    """A folder that holds data/ with 27 images: train 18, val 9, three classes."""
    return image_folder.parent


def job_in(folder, **settings):
    return prepare_extraction(folder / "data", output=folder / "codes.h5", **TINY | settings)


def test_the_store_holds_each_images_code_and_facts(folder):
    """Every row has the code of its own image, and path, label, split and hash beside it."""
    job = job_in(folder, batch_size=4)
    seen = []
    backbone = MeanColour(job.recipe)
    made = run_extraction(job, backbone=backbone, progress=lambda *n: seen.append(n))
    store = open_store(made.path)
    assert store.complete
    assert (made.n_done, made.n_failed) == (27, 0)
    assert list(store.images.path) == [r.path for r in job.listing.records]
    assert list(store.images.label) == [p.split("/")[1] for p in store.images.path]
    assert list(store.images.split) == [p.split("/")[0] for p in store.images.path]
    np.testing.assert_array_equal(store.codes("block1_pool"), expected_codes(folder, job.recipe))
    assert set(backbone.shapes) == {(4, 32, 32, 3)}  # one shape, the last batch padded
    assert seen[-1] == (27, 27)
    picture = read_picture(folder / "data" / store.images.path[5], (32, 32), "squash")
    assert store.images.sha256[5] == picture.sha256
    assert store.images.phash[5] == picture.phash
    assert np.array_equal(store.thumbnails()[5], picture.thumbnail)


def test_a_bad_image_is_a_row_with_a_reason(folder):
    """Damaged images cost their own rows only; the rest of their batch is done."""
    bad = [folder / "data/train/blue/0.png", folder / "data/val/red/1.png"]
    bad[0].write_bytes(bad[0].read_bytes()[:60])
    bad[1].write_text("not an image")
    job = job_in(folder, batch_size=9)
    made = run_extraction(job, backbone=MeanColour(job.recipe))
    images = open_store(made.path).images
    assert (made.n_done, made.n_failed) == (25, 2)
    failed = images.status == Status.FAILED
    assert list(images.path[failed]) == ["train/blue/0.png", "val/red/1.png"]
    assert all(images.reason[failed])
    codes = open_store(made.path).codes("block1_pool")
    assert np.isnan(codes[failed]).all()
    assert np.isfinite(codes[~failed]).all()


def test_a_stopped_run_goes_on_and_ends_with_the_same_store(folder):
    """Stopped after two batches, then run again: only the rest is done, the digests are equal."""
    job = job_in(folder, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run_extraction(job, backbone=MeanColour(job.recipe, stop_after=2))
    with h5py.File(job.output) as file:
        assert list(file["images/status"][:9]) == [Status.DONE] * 8 + [Status.PENDING]
        assert file["complete"][0] == 0
    again = job_in(folder, batch_size=4)
    assert again.resumes
    assert again.rows == tuple(range(8, 27))
    backbone = MeanColour(again.recipe)
    made = run_extraction(again, backbone=backbone)
    assert made.n_done == 27
    assert len(backbone.shapes) == 5
    digests = open_store(job.output).digests()
    straight = job_in(folder, batch_size=4, overwrite=True)
    run_extraction(straight, backbone=MeanColour(straight.recipe))
    assert open_store(job.output).digests() == digests


def test_a_killed_run_leaves_a_valid_store(folder):
    """After SIGKILL in the middle h5py opens the file, and its done rows are right."""
    code = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_extraction import MeanColour, job_in
from featx.extraction import run_extraction
job = job_in(Path(sys.argv[1]), batch_size=4)
kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done >= 12 else None
run_extraction(job, backbone=MeanColour(job.recipe), progress=kill)
"""
    here = __file__.rpartition("/")[0]
    ended = subprocess.run([sys.executable, "-c", code, folder, here], check=False)
    assert ended.returncode == -9
    store = open_store(folder / "codes.h5")
    assert not store.complete
    assert store.images.done.sum() == 12
    expected = expected_codes(folder, store.recipe)
    assert np.array_equal(store.codes("block1_pool")[:12], expected[:12])


def test_a_run_that_goes_on_notices_other_pictures(folder):
    """Pictures edited since the stop are done again; the store never mixes old and new."""
    job = job_in(folder, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run_extraction(job, backbone=MeanColour(job.recipe, stop_after=2))
    edited = folder / "data" / job.listing.records[3].path
    edited.write_bytes((folder / "data/val/red/2.png").read_bytes())
    again = job_in(folder, batch_size=4)
    assert again.rows == (3, *range(8, 27))
    run_extraction(again, backbone=MeanColour(again.recipe))
    store = open_store(job.output)
    assert np.array_equal(store.codes("block1_pool"), expected_codes(folder, job.recipe))
    assert (
        store.images.sha256[3]
        == store.images.sha256[list(store.images.path).index("val/red/2.png")]
    )


def test_a_store_that_another_run_replaced_is_said(folder):
    """A run whose file was replaced under it does not claim the other's codes as its own."""
    job = job_in(folder, batch_size=9)

    def replace(done, total):
        if done == 9:
            create_store(job.output, job.recipe, job.columns(), {})

    message = f"{job.output} was replaced by another run. Use one -o for each."
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        run_extraction(job, backbone=MeanColour(job.recipe), progress=replace)


def test_an_output_never_replaces_the_weights(folder):
    """--overwrite with the weights file as output is refused."""
    weights = folder / "w.h5"
    weights.write_bytes(
        (Path(featx.__path__[0]) / "network/vgg19_oxford_normalised.h5").read_bytes()
    )
    message = f"{weights} holds the weights: it is not replaced by codes. Choose another -o."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        prepare_extraction(
            folder / "data", output=weights, overwrite=True, **TINY | {"weights": str(weights)}
        )


def test_a_large_batch_size_is_cut_to_the_images(folder):
    """A batch never holds more rows than there are images."""
    assert job_in(folder, batch_size=10**12).batch_size == 27


def test_other_settings_do_not_go_on_with_a_store(folder):
    """A store left incomplete by another recipe is refused field by field, with the flags."""
    job = job_in(folder, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run_extraction(job, backbone=MeanColour(job.recipe, stop_after=1))
    message = (
        f"{job.output} was left incomplete by a run with other settings: pool is max, expected "
        "avg; size is 64x64, expected 32x32. Go on with --pool avg --size 32x32, or use "
        "--overwrite, or another -o."
    )
    with pytest.raises(RecipeMismatchError, match=f"^{re.escape(message)}$"):
        job_in(folder, pool="max", size=64)
    (folder / "data/val/red/1.png").unlink()
    message = (
        f"{job.output} was left incomplete by a run over other images. "
        "Use --overwrite to start again, or another -o."
    )
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        job_in(folder)


def test_a_complete_store_is_not_replaced(folder):
    """A finished store is kept unless --overwrite is given; a foreign file too."""
    job = job_in(folder)
    run_extraction(job, backbone=MeanColour(job.recipe))
    message = (
        f"{job.output} exists: 27 images, block1_pool. Use --overwrite to make it again, or "
        "another -o."
    )
    with pytest.raises(ExistsError, match=f"^{re.escape(message)}$"):
        job_in(folder)
    job.output.write_text("precious")
    message = (
        f"{job.output} exists, and cannot be gone on with. {job.output} cannot be read as a store: "
        "it is cut short, damaged, or no HDF5 file. Make it again: featx extract --overwrite. "
        "Or use another -o."
    )
    with pytest.raises(ExistsError, match=f"^{re.escape(message)}$"):
        job_in(folder)
    assert job.output.read_text() == "precious"


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"layer": "block9_pool"},
            UnknownLayerError,
            "No layer 'block9_pool' in VGG19. Did you mean 'block5_pool'? All names: featx layers",
        ),
        (
            {"layer": "fc1", "weights": "bundled"},
            OptionError,
            "Layer 'fc1' exists only at size 224: its weights expect a 7x7x512 map. Received size "
            "32x32. Use --size 224, or a conv or pool layer.",
        ),
        (
            {"layer": "block5_pool", "size": 16},
            OptionError,
            "Layer 'block5_pool' needs images of at least 32x32 pixels. Received size 16x16. "
            "Use --size 224.",
        ),
        (
            {"pool": "mean"},
            OptionError,
            "No such pool: 'mean'. Expected one of none, avg, max. Use --pool none.",
        ),
        (
            {"size": "224x"},
            OptionError,
            "No such size: '224x'. Expected pixels, as --size 224 or --size 192x256.",
        ),
        (
            {"batch_size": 0},
            OptionError,
            "No such batch size: 0. Expected --batch-size auto, or 1 and more.",
        ),
        (
            {"layer": []},
            OptionError,
            "No layer was given. Use --layer NAME; all names: featx layers",
        ),
    ],
)
def test_settings_are_refused_before_work(folder, settings, kind, message):
    """What cannot be is refused in words, and nothing is written."""
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        job_in(folder, **settings)
    assert not (folder / "codes.h5").exists()


def test_a_missing_output_folder_is_known_before_work(folder):
    """An output in a folder that is not there is refused at once."""
    message = f"No folder {folder / 'no'} to write codes.h5 into. Make it, or another -o."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        prepare_extraction(folder / "data", output=folder / "no" / "codes.h5", **TINY)


def test_a_folder_and_a_manifest_are_one_too_many(folder):
    """Images come from one place; both are refused, with both names."""
    message = "Images come from a folder or from a manifest: received a and b.csv."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        prepare_extraction("a", manifest="b.csv", **TINY)


def test_weights_that_do_not_fit_leave_nothing_behind(folder):
    """A truncated weights file is found before a store is created."""
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
    """With the real graph, each layer's codes are those that it gives alone."""
    both = folder / "both.h5"
    settings = TINY | {"layer": ["block1_pool", "block1_conv1"]}
    featx.extract(folder / "data", output=both, **settings)
    featx.extract(folder / "data", output=folder / "one.h5", **TINY)
    store = open_store(both)
    assert store.recipe.layers == ("block1_conv1", "block1_pool")
    one = open_store(folder / "one.h5").codes("block1_pool")
    np.testing.assert_allclose(store.codes("block1_pool"), one, rtol=1e-6)


def test_memory_holds_a_few_batches_only(folder):
    """Decoding runs at most three batches ahead of the network."""
    files = [folder / "data/train/red/0.png"] * 40
    taken = []

    class Files(list):
        def __getitem__(self, row):
            taken.append(row)
            return super().__getitem__(row)

    recipe = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))
    stream = stream_codes(Files(files), MeanColour(recipe), 4)
    next(stream)
    assert len(taken) == 12
    assert sum(batch.n_images for batch in stream) == 36


def test_the_batch_size_follows_the_image_size():
    """32 images at 224, fewer of larger ones, never more than there are images."""
    recipe = Recipe(weights="random:0", layers=("block1_pool",))
    assert auto_batch_size(recipe, 1000) == 32
    assert auto_batch_size(recipe, 3) == 3
    larger = Recipe(weights="random:0", layers=("block1_pool",), size=(1024, 1024))
    assert auto_batch_size(larger, 1000) == 1
