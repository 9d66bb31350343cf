"""The plan of an extraction: disk to one per cent, and measured memory and time."""

import json
import re

import numpy as np
import pytest
from running import TINY, job_in, run

import featx
from featx.extraction import plan_extraction
from featx.extraction.plan import Forecast, PeakMemory
from featx.recipe import Recipe
from featx.store.layout import create_store, store_bytes


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/."""
    return image_folder.parent


@pytest.mark.parametrize("n_images", [300])
@pytest.mark.parametrize("name", ["{:05d}.jpg", "train/a class/a long name {:05d} ü.jpeg"])
@pytest.mark.parametrize("label", [None, "a class"])
@pytest.mark.parametrize("layers", [("block5_pool",), ("block1_pool", "block4_pool")])
def test_the_disk_space_is_known_to_one_per_cent(tmp_path, n_images, name, label, layers):
    """The estimate is the size of the new file, for any names, labels and layers."""
    recipe = Recipe(weights="random:0", layers=layers, pool="avg")
    columns = {
        "path": [name.format(k) for k in range(n_images)],
        "label": [label] * n_images,
        "split": [label and "train"] * n_images,
        "group": [None] * n_images,
    }
    create_store(tmp_path / "codes.h5", recipe, columns, {"root": "x" * 500})
    found = (tmp_path / "codes.h5").stat()
    assert store_bytes(recipe, columns) == pytest.approx(found.st_size, rel=0.01)
    assert found.st_blocks * 512 == pytest.approx(found.st_size, rel=0.01)  # reserved, not sparse


def test_a_forecast_by_hand(monkeypatch):
    """The first batch takes 5 s with the compilation; then 8 images take 2 s."""
    now = iter([100.0, *(105.0 + 2 * k for k in range(12))])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    forecast = Forecast()
    assert (forecast.images_per_second, forecast.ready) == (0.0, False)
    assert forecast.seconds(100) == 0.0
    forecast(8, 100)
    assert forecast.seconds(100) == 5.0
    for done in range(16, 104, 8):
        assert not forecast.ready
        forecast(done, 100)
    assert forecast.ready
    forecast(104, 104)  # later batches are not recorded
    assert forecast.images_per_second == 4.0
    assert forecast.seconds(100) == 5.0 + 92 / 4


def test_a_forecast_of_a_run_of_two_batches(monkeypatch):
    """Both batches finish together, so the speed is that of the whole run."""
    now = iter([100.0, 101.98, 102.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    forecast = Forecast()
    forecast(49, 62)
    forecast(62, 62)
    assert forecast.images_per_second == 31.0
    assert forecast.seconds(62) == 2.0


def test_the_peak_of_memory():
    """The peak contains 200 MB that are freed before the end."""
    with PeakMemory() as peak:
        before = peak.n_bytes
        held = np.ones(25_000_000)
        while peak.n_bytes < before + 190e6:
            pass
        del held
    assert before + 190e6 < peak.n_bytes < before + 400e6


def test_a_plan_leaves_nothing_behind(folder):
    """The sample store is removed, and the figures are those of the job."""
    made = featx.plan(folder / "data", output=folder / "codes.h5", batch_size=4, **TINY)
    assert [p.name for p in folder.iterdir()] == ["data"]
    assert (made.n_images, made.n_computed, made.n_copied) == (27, 27, 0)
    assert made.code_sizes == {"block1_pool": 64}
    assert made.batch_size == 4
    job = job_in(folder)
    assert made.new_bytes == job.n_bytes
    assert made.images_per_second > 1
    assert 0 < made.seconds < 60
    assert made.peak_bytes > 50e6
    run(job)
    assert (folder / "codes.h5").stat().st_size == pytest.approx(made.new_bytes, rel=0.1)


def test_a_plan_counts_existing_rows(folder):
    """Only the remaining rows are computed, and a second copy needs disk space."""
    run(job_in(folder))
    nothing = plan_extraction(job_in(folder))
    assert (nothing.n_computed, nothing.new_bytes, nothing.seconds) == (0, 0, 0)
    assert nothing.device == ""
    (folder / "data/train/red/3.png").rename(folder / "data/train/red/moved.png")
    (folder / "data/train/red/new.png").write_bytes((folder / "data/val/red/0.png").read_bytes())
    made = plan_extraction(job_in(folder))
    assert (made.n_images, made.n_computed, made.n_copied) == (28, 0, 28)
    assert made.new_bytes == job_in(folder).n_bytes
    another = plan_extraction(job_in(folder, layer=["block1_pool", "block1_conv1"]))
    assert (another.n_computed, another.n_copied) == (28, 0)
    assert sorted(p.name for p in folder.iterdir()) == ["codes.h5", "data"]


def test_the_command(folder, monkeypatch, run):
    """`featx plan` prints its estimates as a table or as JSON."""
    monkeypatch.chdir(folder)
    arguments = ("--layer", "block1_pool", "--pool", "avg", "--size", "32", "--weights", "random:0")
    code, out, err = run("plan", *arguments)
    assert code == 0
    assert "27 images in data (train 18, val 9, 3 classes)" in err
    table = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.strip().splitlines())
    assert table["images"] == "27"
    assert table["features per image"] == "64"
    assert re.match(r"0.13 MB .*[\d.]+ [GM]B", table["disk space"])
    assert re.fullmatch(r"\d+ s at [\d.]+ images/s", table["time"])
    assert re.match(r"CPU.*, 27 images", table["device"])
    assert json.loads(run("plan", *arguments, "--json", "-q")[1])["n_computed"] == 27


def test_without_a_layer_it_lists_them(folder, run):
    """Without --layer, plan lists the layers as extract does, and proposes its own command."""
    code, _, err = run("plan", folder / "data")
    assert code == 2
    assert f"featx plan {folder}/data --layer block2_pool" in err
