"""Images that other processes decode are those of threads, and no process outlives its run."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import emulated
import numpy as np
import psutil
import pytest
from PIL import Image
from running import MeanColour, job_in, run, stop_after

from featx.errors import OptionError
from featx.extraction import decoders as decoders_module
from featx.extraction import pipeline
from featx.extraction.pipeline import stream_codes
from featx.images import Url, as_file, read_image
from featx.images.processes import DecodingProcess, source_of
from featx.recipe import Recipe
from featx.store import Status, open_store

RECIPE = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))
SETTINGS = {"size": (32, 32), "resize": "squash"}


@pytest.fixture
def folder(image_folder):
    """A folder that holds data/ with 27 images, one that is dark and one that is none."""
    (image_folder / "train/red/bad.png").write_bytes(b"no image")
    dark = np.full((40, 40), 100, np.uint16)
    dark[0, 0] = 200
    Image.fromarray(dark).save(image_folder / "train/red/dark.png")
    return image_folder.parent


def files_of(folder):
    return sorted((folder / "data").rglob("*.png"))


def children():
    """Return the processes that this one has started and that have not ended."""
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if "featx.images.serving" in " ".join(each.cmdline())
    ]


def digests(folder, output, **settings):
    job = job_in(folder, output=folder / output, **settings)
    run(job)
    return open_store(job.output).digests()


def test_processes_decode_what_threads_decode(folder, caplog):
    """The store has the same bytes; reasons, digests and notes of grey levels are the same."""
    threads = digests(folder, "threads.h5", decoders="threads", batch_size=8)
    notes = [each.getMessage() for each in caplog.records]
    caplog.clear()
    assert digests(folder, "two.h5", decoders=2, batch_size=8) == threads
    assert [each.getMessage() for each in caplog.records] == notes
    assert any("almost black" in each for each in notes)
    facts = [open_store(folder / name).images for name in ("threads.h5", "two.h5")]
    assert (facts[0].status == Status.FAILED).sum() == 1
    for name in ("sha256", "phash", "status", "reason"):
        assert list(getattr(facts[0], name)) == list(getattr(facts[1], name))
    assert not children()


def test_members_of_archives_and_urls(folder):
    """They are read by this process, which has opened the archive and knows the URL."""
    fsspec = pytest.importorskip("fsspec")
    files = files_of(folder)[:3]
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for each in files:
            archive.write(each, each.name)
    system = fsspec.filesystem("memory")
    system.put(str(files[1]), "/bucket/a.png")
    Image.open(files[0]).save(folder / "a.tga")
    system.put(str(folder / "a.tga"), "/bucket/a.tga")  # only its name says what it is
    urls = [as_file(f"zip://{each.name}::{folder / 'a.zip'}") for each in files]
    urls += [as_file(f"memory://bucket/{name}") for name in ("a.png", "a.tga", "no.png")]
    assert all(isinstance(each, Url) for each in urls)
    streams = [
        list(stream_codes([*urls, *files], MeanColour(RECIPE), 4, decoders=choice))
        for choice in ("threads", 1)
    ]
    system.rm("/bucket", recursive=True)
    for threads, process in zip(*streams, strict=True):
        assert threads.failures == process.failures
        for one, other in zip(threads.images, process.images, strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)
            assert (one.sha256, one.phash, one.doubt) == (other.sha256, other.phash, other.doubt)
    assert sum(len(batch.failures) for batch in streams[0]) == 1


def test_views_of_several_shapes(folder):
    """The memory between the processes grows with the images; pixels are read-only copies."""
    with contextlib.closing(DecodingProcess(partial(pipeline.read_image, **SETTINGS))) as small:
        (first,), seconds = small.decode([source_of(files_of(folder)[0])])
        assert first.thumbnail.base is not first.views[0].base
        assert seconds > 0
        before = first.pixels.copy()
        for stop in (4, 5, 9):  # of the same size, and larger
            small.decode([source_of(file) for file in files_of(folder)[3:stop]])
        np.testing.assert_array_equal(first.pixels, before)
        assert not first.pixels.flags.writeable
    read = partial(pipeline.read_image, **SETTINGS, scales=(32, 96))
    with contextlib.closing(DecodingProcess(read)) as process:
        for stop in (1, 9):
            files = [each for each in files_of(folder)[:stop] if each.name != "bad.png"]
            images, _ = process.decode([source_of(file) for file in files])
            for file, image in zip(files, images, strict=True):
                expected = read(file)
                for one, other in zip(image.views, expected.views, strict=True):
                    np.testing.assert_array_equal(one, other)


def test_a_process_that_ends_is_replaced(folder, monkeypatch):
    """Images of its chunk are made again; only one that ends it twice cannot be read."""
    files = files_of(folder)
    shutil.copy(files[4], folder / "data/once.png")
    files = [*files, folder / "data/once.png"]
    monkeypatch.setattr(pipeline, "read_image", emulated.fatal)
    batches = list(stream_codes(files, MeanColour(RECIPE), 10, decoders=2))
    failures = [each for batch in batches for each in batch.failures]
    assert [files[each.row].name for each in failures] == ["bad.png"]
    assert "SIGKILL" in failures[0].reason
    assert len(failures[0].sha256) == 64
    assert (folder / "data/once.png.seen").exists()
    assert sum(batch.n_images for batch in batches) == len(files)
    assert not children()


def test_errors_and_warnings_reach_this_process(folder):
    """A warning is issued here, and an error that is not of an image ends the run."""
    files = files_of(folder)
    read = partial(emulated.warning, **SETTINGS)
    with contextlib.closing(DecodingProcess(read)) as process:
        with pytest.warns(RuntimeWarning, match=f"look at {files[0].name}"):
            process.decode([source_of(files[0])])
        shutil.copy(files[0], folder / "broken.png")
        with pytest.raises(LookupError, match="broken"):
            process.decode([source_of(folder / "broken.png")])
        assert len(children()) == 1
    assert not children()


@pytest.mark.parametrize("how", ["close", "interrupt", "broken network"])
def test_processes_end_with_the_run(folder, monkeypatch, how):
    """Also when the consumer stops early, while they decode."""
    monkeypatch.setattr(pipeline, "read_image", emulated.slow)
    if how == "close":
        stream = stream_codes(files_of(folder), MeanColour(RECIPE), 2, decoders=2)
        next(stream)
        assert children()
        stream.close()
    elif how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            run(job_in(folder, decoders=2, batch_size=2), progress=stop_after(4))
    else:

        class Broken(MeanColour):
            def __call__(self, images):
                raise RuntimeError("broken")

        job = job_in(folder, decoders=2, batch_size=2)
        with pytest.raises(RuntimeError, match="broken"):
            run(job, Broken(job.recipe))
    assert not children()


def test_an_unguarded_script_that_is_killed_leaves_nothing(folder, tmp_path):
    """Processes do not import the script, and end when it does."""
    script, temporary = folder / "script.py", tmp_path / "temporary"
    temporary.mkdir()
    script.write_text(
        f"""
from functools import partial
from featx.images import read_image
from featx.images.processes import DecodingProcess
read = partial(read_image, size=(32, 32), resize="squash")
processes = [DecodingProcess(read) for _ in range(2)]
for each in processes:
    each.decode([{str(files_of(folder)[0])!r}])
print("started", flush=True)
input()
"""
    )
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout.readline().strip() == "started"
        started = psutil.Process(process.pid).children()
        assert len(started) == 2
        process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    assert not list(temporary.iterdir())


def codes_of(folder, backbone, decoders="auto", n_times=4):
    """Run a stream, and return the most processes that were alive after a batch."""
    files = files_of(folder) * n_times
    batches = stream_codes(files, backbone, 4, decoders=decoders)
    return max(len(children()) for _ in batches)


class Slow(MeanColour):
    """A network that takes as long as ten images."""

    def __call__(self, images):
        time.sleep(0.2)
        return super().__call__(images)


@pytest.fixture
def eager(monkeypatch):
    """The choice is made after a moment, as on a machine with three processors."""
    monkeypatch.setattr(decoders_module, "_SECONDS", 0.05)
    monkeypatch.setattr(decoders_module.joblib, "cpu_count", lambda: 3)
    monkeypatch.setattr(pipeline, "read_image", emulated.slow)


def test_processes_start_if_the_network_waits_for_threads(folder, eager):
    assert codes_of(folder, MeanColour(RECIPE)) == 3


def test_threads_stay_if_they_keep_the_network_busy(folder, eager, monkeypatch):
    assert codes_of(folder, Slow(RECIPE), n_times=1) == 0
    assert codes_of(folder, MeanColour(RECIPE), decoders="threads", n_times=1) == 0
    monkeypatch.setattr(decoders_module.joblib, "cpu_count", lambda: 2)
    assert codes_of(folder, MeanColour(RECIPE), n_times=1) == 0


def test_threads_stay_if_the_consumer_is_slow(folder, eager, monkeypatch):
    """The network waits then, but not for images."""
    monkeypatch.setattr(pipeline, "read_image", read_image)
    for _ in stream_codes(files_of(folder), MeanColour(RECIPE), 2):
        time.sleep(0.03)
        assert not children()


def test_threads_stay_if_they_use_all_processors(folder, eager, monkeypatch):
    """More processes would share the same processors."""
    monkeypatch.setattr(decoders_module, "_FREE_PROCESSORS", 1.0)
    assert codes_of(folder, MeanColour(RECIPE), n_times=1) == 0


def test_processes_that_cannot_start(folder, eager, monkeypatch, caplog):
    """It is an error if they were asked for, and otherwise threads decode."""
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(OptionError, match=r"/no/python.*--decoders threads"):
        list(stream_codes(files_of(folder), MeanColour(RECIPE), 4, decoders=2))
    files = files_of(folder) * 2
    batches = list(stream_codes(files, MeanColour(RECIPE), 4))
    assert sum(batch.n_images for batch in batches) == len(files)
    assert [each for each in caplog.records if "/no/python" in each.getMessage()]
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(OptionError, match="exit status 1"):
        list(stream_codes(files_of(folder), MeanColour(RECIPE), 4, decoders=1))


@pytest.mark.parametrize("wrong", [0, -1, "many", 2.5, True])
def test_a_wrong_number_of_decoders_is_refused(folder, wrong):
    with pytest.raises(OptionError, match=f"--decoders.*{wrong}"):
        job_in(folder, decoders=wrong)
