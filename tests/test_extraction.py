"""Images to a store: the pipeline with a backbone of three lines, jobs, resuming."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from running import TINY, MeanColour, job_in, run, stop_after

import featx
from featx.errors import (
    ImagesError,
    OptionError,
    UnknownLayerError,
)
from featx.extraction import prepare_extraction, stream_codes
from featx.extraction.timings import Pace
from featx.images import read_image
from featx.recipe import Recipe
from featx.store import Status, open_store


def expected_codes(folder, recipe):
    """What MeanColour gives for each image, one at a time."""
    backbone = MeanColour(recipe)
    rows = []
    for path in open_store(folder / "codes.h5").images.path:
        pixels = read_image(folder / "data" / path, recipe.size, recipe.resize).pixels
        rows.append(backbone(pixels[None])["block1_pool"][0])
    return np.array(rows)


@pytest.fixture
def folder(image_folder):
    """A folder that holds data/ with 27 images: train 18, val 9, three classes."""
    return image_folder.parent


def test_the_store_holds_each_images_code_and_facts(folder):
    """Every row has the code of its own image, and path, label, split and hash beside it."""
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
    assert set(backbone.shapes) == {(4, 32, 32, 3)}  # one shape, the last batch padded
    assert seen[-1] == (27, 27)
    picture = read_image(folder / "data" / store.images.path[5], (32, 32), "squash")
    assert store.images.sha256[5] == picture.sha256
    assert store.images.phash[5] == picture.phash
    assert np.array_equal(store.thumbnails()[5], picture.thumbnail)


def test_a_bad_image_is_a_row_with_a_reason(folder):
    """Damaged images cost their own rows only; the rest of their batch is done."""
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


def test_a_stopped_run_goes_on_and_ends_with_the_same_store(folder):
    """Stopped after two batches, then run again: only the rest is done, the digests are equal."""
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
    straight = job_in(folder, batch_size=4, overwrite=True)
    run(straight)
    assert open_store(job.output).digests() == digests


def test_a_killed_run_leaves_a_valid_store(folder):
    """After SIGKILL in the middle h5py opens the file, and its done rows are right."""
    code = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from running import job_in, run
job = job_in(Path(sys.argv[1]), batch_size=4)
kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done >= 12 else None
run(job, progress=kill)
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


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"layer": "block9_pool"},
            UnknownLayerError,
            "VGG19 has no layer 'block9_pool'. Did you mean 'block5_pool'? List all layers: featx "
            "layers",
        ),
        (
            {"layer": "fc1", "weights": "bundled"},
            OptionError,
            "Layer 'fc1' requires size 224, because its weights have the shape of a 7x7x512 "
            "activation, but the size is 32x32. Use --size 224, or a conv or pool layer.",
        ),
        (
            {"layer": "block5_pool", "size": 16},
            OptionError,
            "Layer 'block5_pool' requires at least 32x32 pixels, but the size is 16x16. "
            "Use --size 224.",
        ),
        (
            {"pool": "mean"},
            OptionError,
            "No such pool: 'mean'. Expected none, avg, max, avg+max, bilinear or grid:N, as in "
            "grid:2. Use --pool avg.",
        ),
        (
            {"pool": "grid:17"},
            OptionError,
            "Layer 'block1_pool' has a map of 16x16 places at size 32x32. Expected at least 17x17 "
            "for --pool grid:17. Use --pool grid:16, or --size 34 or more.",
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
    message = (
        f"Cannot write {folder / 'no/codes.h5'}: the folder {folder / 'no'} does not exist. "
        "Create it, or use another -o."
    )
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
    """Three batches are decoded ahead of the two that are in the network, and no more."""
    files = [folder / "data/train/red/0.png"] * 40
    taken = []

    class Files(list):
        def __getitem__(self, row):
            taken.append(row)
            return super().__getitem__(row)

    recipe = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))
    stream = stream_codes(Files(files), MeanColour(recipe), 4, pace=Pace(2))
    next(stream)
    assert len(taken) == 20
    assert sum(batch.n_images for batch in stream) == 36
