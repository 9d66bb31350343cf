"""A resumed run gives the bytes of one run, on each backend, whichever rows were left."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from running import MeanColour, job_in, run

from featx.extraction import run_extraction
from featx.extraction.batching import Batcher, aligned_batches
from featx.recipe import Recipe
from featx.store import StoreWriter, open_store

RECIPE = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))


def lose(path, rows):
    """Delete the codes of some rows of a store, as if the run had ended before them."""
    with h5py.File(path, "r+") as file:
        for layer in file["codes"].values():
            layer[rows] = np.zeros((len(rows), *layer.shape[1:]), layer.dtype)
    with StoreWriter(path) as writer:
        writer.mark_pending(np.array(rows))


def digests_after_losing(folder, lost, **settings):
    """Return the digests of one run, and of runs that computed only some of the rows again."""
    path = folder / "codes.h5"
    run_extraction(job_in(folder, **settings))
    found = [open_store(path).digests()]
    for rows in lost:
        lose(path, rows)
        job = job_in(folder, device="cpu", **{**settings, "batch_size": "auto"})
        assert job.n_to_compute == len(rows)
        run_extraction(job)
        found.append(open_store(path).digests())
    return found


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_one_row_that_is_left_gets_the_same_bytes(image_folder, backend):
    """The first row of a batch, and the last one, where TensorFlow's bits differ."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = (
        "import sys, pathlib\nfrom test_same_bytes import digests_after_losing\n"
        "found = digests_after_losing(pathlib.Path(sys.argv[1]), [[24], [7]], pool='none', "
        "layer=['block2_pool', 'block4_pool'], size=32, weights='random:0', batch_size=8)\n"
        "print(all(each == found[0] for each in found))"
    )
    places = os.pathsep.join([os.fspath(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, image_folder.parent],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True"], done.stderr[-2000:]


@pytest.mark.parametrize("n_rows", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_batches_hold_each_row_once_at_its_place(n_rows, size):
    """Scattered rows fill nearly as few batches as rows without a place would."""
    rows = np.flatnonzero(np.random.default_rng(n_rows).random(4 * n_rows) < 0.25).tolist()
    batches = list(aligned_batches(rows, size))
    assert sorted(row for batch in batches for row in batch) == rows
    for batch in batches:
        assert batch == sorted(batch)
        assert len({row % size for row in batch}) == len(batch)
    most = np.bincount(np.array(rows, int) % size, minlength=size).max() if rows else 0
    assert len(batches) == most


def test_rows_of_a_whole_run_stay_in_order():
    """All rows are the batches of a plain division."""
    assert list(aligned_batches(range(10), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


class Placed(MeanColour):
    """A backbone whose codes are the place of the image in its batch."""

    def __call__(self, images):
        self.shapes.append(images.shape)
        n_features = self.recipe.code_size("block1_pool")
        return {
            "block1_pool": np.repeat(np.arange(len(images), dtype="f4")[:, None], n_features, 1)
        }


@pytest.mark.parametrize("most", [8, 4, 2])
def test_an_image_keeps_its_place_when_others_are_missing(most):
    """Unreadable images leave their places empty, and halved batches divide the places."""

    class Small(Placed):
        def __call__(self, images):
            if len(images) > most:
                raise MemoryError
            return super().__call__(images)

    rows = [8, 9, 11, 14, 15, 21]  # of two batches: 13 and its neighbours could not be read
    views = [(np.zeros((32, 32, 3), np.uint8),)] * len(rows)
    codes = Batcher(Small(RECIPE), 8)(views, rows)["block1_pool"]
    assert codes[:, 0].tolist() == [row % most for row in rows]


def provenance_size(folder):
    return open_store(folder / "codes.h5").provenance["batch_size"]


def test_a_resumed_run_uses_the_batch_size_of_the_store(image_folder, caplog):
    """One row that is left goes through the network in a batch of the earlier size."""
    folder, backbone = image_folder.parent, MeanColour(RECIPE)
    run(job_in(folder, batch_size=5))
    lose(folder / "codes.h5", [26])
    run(job_in(folder), backbone)
    assert backbone.shapes == [(5, 32, 32, 3)]
    assert provenance_size(folder) == 5
    assert not caplog.records
    lose(folder / "codes.h5", [26])
    run(job_in(folder, batch_size=7), backbone)
    assert backbone.shapes[1:] == [(7, 32, 32, 3)]
    (record,) = caplog.records
    assert "--batch-size 5" in record.getMessage()


def test_where_the_earlier_size_does_not_fit_a_note_says_so(image_folder, caplog, monkeypatch):
    """The memory decides, and the note says that codes may differ in the last bits."""
    folder, backbone = image_folder.parent, MeanColour(RECIPE)
    run(job_in(folder, batch_size=8))
    lose(folder / "codes.h5", [3, 26])

    class Full:
        kind, description = "cpu", "CPU"

        def free_bytes(self):
            return 1

    backbone.device = Full()
    run(job_in(folder), backbone)
    assert backbone.shapes == [(1, 32, 32, 3)] * 2
    (record,) = caplog.records
    assert "last bits" in record.getMessage()


def test_an_update_of_a_small_store_is_not_bound_to_its_size(image_folder):
    """The size of a store of fewer images than a batch is not kept when images are added."""
    folder = image_folder.parent
    moved = folder / "elsewhere"
    (image_folder / "train").rename(moved)
    run(job_in(folder, batch_size=64))
    assert provenance_size(folder) == 9
    moved.rename(image_folder / "train")
    run(job_in(folder, batch_size="auto"))
    grown = provenance_size(folder)
    assert grown != 9
    (image_folder / "train/red/new.png").write_bytes(
        (image_folder / "train/red/0.png").read_bytes()
    )
    job = job_in(folder)
    assert job.remaining.batch_size == (grown if grown < 27 else None)
