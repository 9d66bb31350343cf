"""Runs that are killed: the store is valid at any instant, and ends as if nothing had happened."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from running import MeanColour, job_in, run

from featx.images import read_image
from featx.store import Status, open_store

KILLED = -signal.SIGKILL
IN_FLIGHT = 3  # two batches in the network, one that is written


class Forker:
    """The process of forker.py, and what it answers."""

    def __init__(self, folder, *imports):
        self.folder = folder
        script = Path(__file__).with_name("forker.py")
        self.process = subprocess.Popen(
            [sys.executable, script, folder, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert self.line() == "ready"

    def line(self):
        return self.process.stdout.readline().strip()

    def run(self, settings, *, killed_after=None, **request):
        """Run a job, kill it after so many seconds, and return its exit status."""
        self.process.stdin.write(json.dumps({"settings": settings, **request}) + "\n")
        self.process.stdin.flush()
        child = int(self.line())
        if killed_after is not None:
            time.sleep(killed_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self.line())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


@pytest.fixture
def forker(image_folder):
    found = Forker(image_folder.parent)
    yield found
    found.close()


def check_valid(folder, expected):
    """Whatever stands there opens with h5py, and its done rows are right."""
    for name in ("codes.h5", "codes.h5.part"):
        path = folder / name
        if not path.exists():
            continue
        with h5py.File(path, "r") as file:
            status = file["images/status"][...]
            paths = file["images/path"].asstr()[...]
            codes = file["codes/block1_pool"][...]
            complete = file["complete"][0]
        for row in np.flatnonzero(status == Status.DONE):
            assert np.array_equal(codes[row], expected[paths[row]])
        assert not complete or (status != Status.PENDING).all()


def expected_codes(folder, size=32):
    """The code of each image, one at a time."""
    recipe = job_in(folder, output=folder / "none.h5", size=size).recipe
    backbone = MeanColour(recipe)
    return {
        file.relative_to(folder / "data").as_posix(): backbone(
            read_image(file, recipe.size, recipe.resize).pixels[None]
        )["block1_pool"][0]
        for file in sorted((folder / "data").rglob("*.png"))
    }


def straight(folder, **settings):
    job = job_in(folder, output=folder / "straight.h5", **settings)
    run(job)
    digests = open_store(job.output).digests()
    job.output.unlink()
    return digests


def add_images(folder, n_images):
    for i in range(n_images):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"data/train/blue/x{i}.png")


@pytest.mark.parametrize("updating", [False, True], ids=["new", "updating"])
def test_killed_at_random_moments_it_ends_like_a_straight_run(forker, updating):
    """Ten kills each: valid after each, few batches redone, and the digests of one straight run."""
    folder, settings = forker.folder, {"batch_size": 2}
    if updating:
        run(job_in(folder, **settings))
        before = open_store(folder / "codes.h5").digests()
        add_images(folder, 9)
    expected, digests = expected_codes(folder), straight(folder)
    n_new = 9 if updating else 27
    rng = random.Random(updating)
    began = time.monotonic()
    assert forker.run(settings | {"output": str(folder / "timed.h5")}) == 0
    whole = time.monotonic() - began
    (folder / "timed.h5").unlink()
    (folder / "log.txt").unlink()
    n_kills = n_runs = 0
    while n_kills < 10:
        n_runs += 1
        status = forker.run(settings, killed_after=rng.uniform(0, whole / (3 if updating else 1)))
        n_kills += status == KILLED
        assert status in {0, KILLED}
        check_valid(folder, expected)
        if status == 0:  # it was quicker than the kill: begin again
            assert open_store(folder / "codes.h5").digests() == digests
            if updating:
                (folder / "codes.h5").unlink()
                shutil.copy(folder / "old.h5", folder / "codes.h5")
            else:
                (folder / "codes.h5").unlink()
        elif updating:
            assert (folder / "codes.h5").exists()
            shutil.copy(folder / "codes.h5", folder / "old.h5")
            assert open_store(folder / "codes.h5").digests() == before
    assert forker.run(settings) == 0
    assert open_store(folder / "codes.h5").digests() == digests
    n_straight = -(-n_new // 2) * (n_runs - n_kills + 1)
    n_finished = len((folder / "log.txt").read_text().split())
    assert n_finished <= n_straight + IN_FLIGHT * n_kills
    left = {p.name for p in folder.iterdir()} - {"data", "codes.h5", "log.txt", "old.h5"}
    assert not left


@pytest.mark.parametrize(
    "place",
    [
        "creation",
        "between codes and facts",
        "before rows are marked",
        "finishing",
        "before the part gets its name",
    ],
)
@pytest.mark.parametrize("updating", [False, True], ids=["new", "updating"])
def test_killed_at_the_worst_moment(forker, place, updating):
    """At each place where a kill could hurt, the next run ends as a straight one."""
    if place == "before the part gets its name" and not updating:
        pytest.skip("a new store has no part")
    folder, settings = forker.folder, {"batch_size": 4}
    if updating:
        run(job_in(folder, **settings))
        add_images(folder, 5)
    expected, digests = expected_codes(folder), straight(folder)
    assert forker.run(settings, killed_at=place) == KILLED
    check_valid(folder, expected)
    assert forker.run(settings) == 0
    assert open_store(folder / "codes.h5").digests() == digests
    assert {p.name for p in folder.iterdir()} == {"data", "codes.h5", "log.txt"}


@pytest.mark.slow
def test_real_runs_killed_at_random_moments(tmp_path):
    """Fifteen kills of VGG19 on real pictures, from creation to the last byte."""
    (tmp_path / "data").mkdir()
    source = Path(__file__).parents[1] / "data"
    for k, file in enumerate(sorted(source.rglob("*.png"))[:160]):
        (tmp_path / "data" / f"class{k % 4}").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "data" / f"class{k % 4}")
    settings = {"layer": "block2_pool", "pool": "none", "size": 96, "weights": "bundled"}
    settings |= {"batch_size": 8}
    forker = Forker(tmp_path, "tensorflow")
    began = time.monotonic()
    assert forker.run(settings, real=True) == 0
    whole = time.monotonic() - began
    store = open_store(tmp_path / "codes.h5")
    digests, codes = store.digests(), np.array(store.codes("block2_pool"))
    (tmp_path / "codes.h5").unlink()
    rng, n_kills, n_finished = random.Random(0), 0, 0
    while n_kills < 15:
        status = forker.run(settings, real=True, killed_after=rng.uniform(0, whole))
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
    assert forker.run(settings, real=True) == 0
    forker.close()
    assert open_store(tmp_path / "codes.h5").digests() == digests
    print(f"{n_kills} kills, {n_finished + 1} stores finished in between, all with equal digests")
