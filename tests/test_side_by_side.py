"""Several stores from one pass: the bytes of separate runs, with one forward pass per image."""

import numpy as np
import pytest

from featx.errors import CodeRangeError, OptionError
from featx.extraction import executors, prepare_extraction, run_extraction, run_extractions
from featx.store import Status, open_store

SHARED = {"size": 32, "weights": "random:0", "batch_size": 4}
#: Settings of each store.
STORES = {
    "avg": {"layer": ["block1_pool", "block2_pool"], "pool": "avg"},
    "max": {"layer": ["block2_pool"], "pool": "max", "dtype": "float16"},
    "none": {"layer": ["block1_pool"], "pool": "none"},
}


@pytest.fixture
def prepare(image_folder, tmp_path):
    """Return a function that prepares the jobs of some stores in a folder."""

    def call(folder, names=tuple(STORES), **settings):
        (tmp_path / folder).mkdir(exist_ok=True)
        return [
            prepare_extraction(
                image_folder,
                output=tmp_path / folder / f"{name}.h5",
                **STORES[name] | SHARED | settings,
            )
            for name in names
        ]

    return call


@pytest.fixture
def alone(prepare):
    """Digests of the stores of separate runs."""
    return [open_store(run_extraction(job).path).digests() for job in prepare("alone")]


@pytest.fixture
def seen(monkeypatch):
    """Number of images in each call of a backbone, with padding."""
    counts = []

    def counting(load):
        def loaded(*arguments, **settings):
            backbone = load(*arguments, **settings)
            compute = type(backbone).__call__

            class Counting(type(backbone)):
                def __call__(self, images):
                    counts.append(len(images))
                    return compute(self, images)

            backbone.__class__ = Counting
            return backbone

        return loaded

    monkeypatch.setattr(executors, "load_backbone", counting(executors.load_backbone))
    return counts


def digests(jobs):
    return [open_store(job.output).digests() for job in jobs]


def test_the_stores_are_those_of_separate_runs(prepare, alone, seen):
    """Each image goes through the network once."""
    seen.clear()
    reported = []
    jobs = prepare("together", progress=lambda *n: reported.append(n))
    made = run_extractions(jobs)
    assert digests(jobs) == alone
    assert sum(seen) == 28  # 27 images in batches of 4
    assert reported[-1] == (27, 27)
    assert [found.n_done for found in made] == [27, 27, 27]
    assert [found.path for found in made] == [job.output for job in jobs]


@pytest.mark.usefixtures("one_unsafe_batch")
def test_interrupted_runs_resume(prepare, alone, seen):
    """Few images are computed twice."""

    def stop(done, total):
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_extractions(prepare("stopped", progress=stop))
    jobs = prepare("stopped")
    kept = [job.remaining.n_kept for job in jobs]
    assert min(kept) >= 12
    assert max(kept) < 27
    seen.clear()
    run_extractions(jobs)
    assert digests(jobs) == alone
    assert sum(seen) <= 16


@pytest.mark.usefixtures("one_unsafe_batch")
def test_stores_that_lack_different_rows(prepare, alone, seen):
    """One store is complete, one lacks a few rows, and one is missing."""
    run_extraction(prepare("some", ["avg"])[0])

    def stop(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_extraction(prepare("some", ["max"], progress=stop)[0])
    jobs = prepare("some")
    stamp = jobs[0].output.stat().st_mtime_ns
    lacking = 27 - jobs[1].remaining.n_kept
    assert 0 < lacking < 27
    seen.clear()
    run_extractions(jobs)
    assert digests(jobs) == alone
    assert jobs[0].output.stat().st_mtime_ns == stamp
    assert sum(seen) <= 27 + 2 * 3  # two passes, each with a padded last batch


def test_a_store_gets_missing_layers(prepare, alone):
    """Existing layers are copied."""
    run_extraction(prepare("layers", ["avg"], layer="block2_pool")[0])
    jobs = prepare("layers")
    assert len(jobs[0].remaining.extended) == 27
    run_extractions(jobs)
    assert digests(jobs) == alone


def test_a_bad_image_is_a_failed_row_in_all_stores(prepare, image_folder):
    """It has a reason in each of them."""
    (image_folder / "train/blue/1.png").write_bytes(b"not an image")
    jobs = prepare("bad")
    run_extractions(jobs)
    for job in jobs:
        images = open_store(job.output).images
        failed = images.status == Status.FAILED
        assert list(images.path[failed]) == ["train/blue/1.png"]
        assert all(images.reason[failed])
    again = prepare("bad")
    run_extractions(again)
    assert np.sum(open_store(again[0].output).images.status == Status.DONE) == 26


def test_a_code_that_is_too_large_for_float16_names_its_layer(prepare, monkeypatch):
    """The error names the layer, although a store of float32 could hold the code."""
    monkeypatch.setattr("featx.network.backbone._BEYOND_FLOAT16", 1e-6)
    with pytest.raises(CodeRangeError, match="block2_pool"):
        run_extractions(prepare("large"))


def test_jobs_of_different_sizes_are_refused(prepare):
    """The error names both outputs."""
    (one,) = prepare("refused", ["avg"])
    (other,) = prepare("refused", ["max"], size=64)
    with pytest.raises(OptionError, match=r"max\.h5.*avg\.h5"):
        run_extractions([one, other])
    assert not one.output.exists()
