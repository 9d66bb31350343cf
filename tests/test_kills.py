"""Killed runs: the store is valid at any time, and a resumed run ends like an uninterrupted one."""

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from running import Forker, MeanColour, job_in, n_logged, run

from featx.errors import BusyError
from featx.images import read_image
from featx.store import Status, open_store

KILLED = -signal.SIGKILL
IN_FLIGHT = 10  # two batches in the network, and eight that wait for the disk
BATCH_SIZE = {"batch_size": 2}


@pytest.fixture(scope="module")
def forker():
    """A process that forks runs."""
    found = Forker()
    yield found
    found.close()


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/."""
    return image_folder.parent


def check_valid(folder, expected):
    """Check that existing files open with h5py, and that their finished rows are right."""
    for path in folder.glob("codes.h5*"):
        with h5py.File(path, "r") as file:
            status = file["images/status"][...]
            paths = file["images/path"].asstr()[...]
            codes = file["codes/block1_pool"][...]
            complete = file["complete"][0]
        for row in np.flatnonzero(status == Status.DONE):
            assert np.array_equal(codes[row], expected[paths[row]])
        assert not complete or (status != Status.PENDING).all()


def expected_codes(folder):
    """Return the codes of each image, computed one at a time."""
    recipe = job_in(folder, output=folder / "none.h5").recipe
    backbone = MeanColour(recipe)
    return {
        file.relative_to(folder / "data").as_posix(): backbone(
            read_image(file, recipe.size, recipe.resize).pixels[None]
        )["block1_pool"][0]
        for file in sorted((folder / "data").rglob("*.png"))
    }


def digests_of_one_run(folder):
    job = job_in(folder, output=folder / "one-run.h5")
    run(job)
    digests = open_store(job.output).digests()
    job.output.unlink()
    return digests


def begin_update(folder, n_images):
    """Extract the images of a folder, then add some to it; return the digests of the store."""
    run(job_in(folder))
    for i in range(n_images):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"data/train/blue/x{i}.png")
    return open_store(folder / "codes.h5").digests()


@pytest.mark.parametrize("updating", [False, True], ids=["new", "updating"])
def test_killed_at_random_moments_it_ends_like_one_run(forker, folder, updating):
    """The store is valid after each of four kills, and few batches are computed twice."""
    before = begin_update(folder, 15) if updating else None
    expected, digests = expected_codes(folder), digests_of_one_run(folder)
    rng = random.Random(updating)
    for _ in range(4):
        killed_after = rng.randrange(3), rng.uniform(0, 0.03)
        assert forker.run(folder, BATCH_SIZE, killed_after=killed_after) in {0, KILLED}
        check_valid(folder, expected)
        if updating and (folder / "codes.h5.part").exists():
            assert open_store(folder / "codes.h5").digests() == before
    assert forker.run(folder, BATCH_SIZE) == 0
    assert open_store(folder / "codes.h5").digests() == digests
    assert n_logged(folder) <= (8 if updating else 14) + 4 * IN_FLIGHT
    assert {path.name for path in folder.iterdir()} == {"data", "codes.h5", "log.txt"}


@pytest.mark.parametrize(
    ("place", "updating"),
    [
        ("creation", False),
        ("creation", True),
        ("between codes and facts", False),
        ("before rows are marked", False),
        ("before rows are marked", True),
        ("finishing", False),
        ("before the part is renamed", True),
    ],
)
def test_killed_at_the_worst_moment(forker, folder, place, updating):
    """After a kill at a critical place, the next run ends like an uninterrupted one."""
    if updating:
        begin_update(folder, 5)
    expected, digests = expected_codes(folder), digests_of_one_run(folder)
    assert forker.run(folder, {"batch_size": 9}, killed_at=place) == KILLED
    check_valid(folder, expected)
    assert forker.run(folder, {"batch_size": 9}) == 0
    assert open_store(folder / "codes.h5").digests() == digests
    assert {path.name for path in folder.iterdir()} == {"data", "codes.h5", "log.txt"}


def test_a_second_run_is_refused_while_the_first_writes(forker, folder):
    """A second run on the same output is refused; after a kill the lock is free."""
    child = forker.start(folder, {"batch_size": 1})
    while not (folder / "codes.h5").exists():
        time.sleep(0.005)
    for settings in ({}, {"overwrite": True}):
        job = job_in(folder, **settings)
        with pytest.raises(BusyError, match=re.escape(f"{folder}/codes.h5")):
            run(job)
    os.kill(child, signal.SIGKILL)
    assert forker.status() == KILLED
    assert run(job_in(folder)).n_done == 27


@pytest.mark.slow
def test_real_runs_killed_at_random_moments(tmp_path):
    """Eight kills of VGG19 on real images, from the creation of the store to the last byte."""
    source = Path(__file__).parents[1] / "data"
    for k, file in enumerate(sorted(source.rglob("*.png"))[:160]):
        (tmp_path / "data" / f"class{k % 4}").mkdir(exist_ok=True, parents=True)
        shutil.copy(file, tmp_path / "data" / f"class{k % 4}")
    settings = {"layer": "block2_pool", "pool": "none", "size": 96, "weights": "bundled"}
    settings |= {"batch_size": 8}
    forker = Forker()
    started = time.monotonic()
    assert forker.run(tmp_path, settings, real=True) == 0
    seconds = time.monotonic() - started
    store = open_store(tmp_path / "codes.h5")
    digests, codes = store.digests(), np.array(store.codes("block2_pool"))
    (tmp_path / "codes.h5").unlink()
    rng, n_kills, n_finished = random.Random(0), 0, 0
    while n_kills < 8:
        status = forker.run(
            tmp_path, settings, real=True, killed_after=(0, rng.uniform(0, seconds))
        )
        assert status in {0, KILLED}
        n_kills += status == KILLED
        if (tmp_path / "codes.h5").exists():
            with h5py.File(tmp_path / "codes.h5", "r") as file:
                done = np.flatnonzero(file["images/status"][...] == Status.DONE)
                assert np.array_equal(file["codes/block2_pool"][done], codes[done])
        if status == 0:
            n_finished += 1
            assert open_store(tmp_path / "codes.h5").digests() == digests
            (tmp_path / "codes.h5").unlink()
    assert forker.run(tmp_path, settings, real=True) == 0
    forker.close()
    assert open_store(tmp_path / "codes.h5").digests() == digests
    print(f"{n_kills} kills, {n_finished + 1} stores finished in between, all with equal digests")
