"""Batches: their size, padding, smaller batches if memory runs out, and the pipeline."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from running import MeanColour, job_in, run

from featx.errors import OptionError
from featx.extraction.batching import Batcher, settle_batch_size
from featx.extraction.pipeline import stream_codes
from featx.extraction.timings import Pace, Stage
from featx.network import activation_bytes
from featx.recipe import Recipe
from featx.store import open_store

RECIPE = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))


@dataclass(frozen=True)
class FakeDevice:
    kind: str
    free: int | None

    def free_bytes(self):
        return self.free


class Small(MeanColour):
    """A backbone that runs out of memory above so many images."""

    def __init__(self, recipe, most):
        super().__init__(recipe)
        self.most = most

    def __call__(self, images):
        codes = super().__call__(images)
        if len(images) > self.most:
            raise MemoryError
        return codes


def images(n):
    return [(each,) for each in pixels(n)]


def pixels(n):
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("kind", "size", "n_images", "expected"),
    [
        ("cpu", 224, 1000, 8),  # two images for each of four processors
        ("cpu", 256, 1000, 6),
        ("cpu", 32, 1000, 64),  # the largest batch on a CPU
        ("cpu", 1024, 1000, 1),
        ("cpu", 224, 3, 3),
        ("gpu", 224, 1000, 64),
        ("gpu", 32, 1000, 512),
    ],
)
def test_auto_follows_the_device_and_the_image_size(monkeypatch, kind, size, n_images, expected):
    """A batch has enough pixels to keep the device busy, and at most all images."""
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    recipe = Recipe(weights="random:0", layers=("block1_pool",), size=(size, size))
    assert settle_batch_size("auto", recipe, n_images, FakeDevice(kind, None)) == expected


def test_images_of_several_shapes_are_one_at_a_time_on_a_cpu(monkeypatch):
    """On a GPU a batch is as large as usual, and is divided into eight images of a shape."""
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    recipe = Recipe(weights="random:0", layers=("block1_pool",), pool="avg", scales=(32, 64))
    assert settle_batch_size("auto", recipe, 1000, FakeDevice("cpu", None)) == 1
    assert settle_batch_size("auto", recipe, 1000, FakeDevice("gpu", None)) == 512
    backbone = MeanColour(recipe)
    assert Batcher(backbone, 512).batch_size == 1
    backbone.device = FakeDevice("gpu", None)
    assert Batcher(backbone, 512).batch_size == 8


def test_auto_leaves_half_of_the_memory(caplog):
    """Two batches use at most half of the free memory, but a batch has at least one image."""
    recipe = Recipe(weights="random:0", layers=("block1_pool",))
    per_image = activation_bytes(recipe)
    free = 2 * 2 * 5 * per_image
    assert settle_batch_size("auto", recipe, 1000, FakeDevice("gpu", free)) == 5
    assert settle_batch_size("auto", recipe, 1000, FakeDevice("gpu", free - 1)) == 4
    assert settle_batch_size("auto", recipe, 1000, FakeDevice("gpu", 1)) == 1


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "many"])
def test_a_wrong_batch_size_is_refused(image_folder, wrong):
    """A batch size is "auto", or an integer from 1."""
    with pytest.raises(OptionError, match=f"--batch-size.*{wrong}"):
        job_in(image_folder.parent, batch_size=wrong)


def test_a_batch_has_at_most_all_images():
    """A larger batch size is reduced."""
    assert settle_batch_size(10**12, RECIPE, 27, FakeDevice("cpu", None)) == 27


def test_a_short_batch_is_padded():
    """The padding does not change the codes."""
    backbone = MeanColour(RECIPE)
    codes = Batcher(backbone, 8)(images(3))["block1_pool"]
    assert backbone.shapes == [(8, 32, 32, 3)]
    expected = MeanColour(RECIPE)(pixels(3))["block1_pool"]
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("size", [1, 3, 4, 8])
def test_more_images_than_a_batch_holds_keep_their_codes(size):
    codes = Batcher(MeanColour(RECIPE), size)(images(8))["block1_pool"]
    np.testing.assert_array_equal(codes, MeanColour(RECIPE)(pixels(8))["block1_pool"])


def test_a_batch_is_halved_if_memory_runs_out(caplog):
    """All codes are computed in order, and later lists start with the smaller size."""
    backbone = Small(RECIPE, most=2)
    batcher = Batcher(backbone, 8)
    expected = MeanColour(RECIPE)(pixels(7))["block1_pool"]
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(batcher(images(7))["block1_pool"], expected)
    assert [len_ for len_, *_ in backbone.shapes] == [8, 4, 2, 2, 2, 2]
    assert [record.args for record in caplog.records] == [(8, 4), (4, 2)]
    batcher(images(2))
    assert backbone.shapes[-1] == (2, 32, 32, 3)


def test_the_padding_of_a_smaller_batch_is_black():
    """The array of a batch is used again, and images of the batch before must not stay in it."""
    last = []

    class Keeping(MeanColour):
        def __call__(self, images):
            last[:] = [images.copy()]
            return super().__call__(images)

    batcher = Batcher(Keeping(RECIPE), 4)
    batcher(images(4))
    np.testing.assert_array_equal(last[0], pixels(4))
    batcher(images(2))
    np.testing.assert_array_equal(last[0][:2], pixels(2))
    assert not last[0][2:].any()


def test_memory_for_less_than_one_image_is_an_error():
    """The error names the flags that need less memory."""
    with pytest.raises(OptionError, match=r"--size.*--layer.*--device"):
        Batcher(Small(RECIPE, most=0), 4)(images(4))


def test_a_run_continues_with_smaller_batches(image_folder):
    """Its store is the same as with enough memory."""
    folder = image_folder.parent
    run(job_in(folder, batch_size=8), Small(RECIPE, most=3))
    digests = open_store(folder / "codes.h5").digests()
    run(job_in(folder, batch_size=8, overwrite=True))
    assert open_store(folder / "codes.h5").digests() == digests


def test_two_batches_are_in_the_network_at_once(image_folder):
    """A second batch enters while the first is inside, but a third one waits."""
    inside, most, both = 0, 0, threading.Event()
    lock = threading.Lock()

    class Meeting(MeanColour):
        def __call__(self, images):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
                if inside == 2:
                    both.set()
            both.wait(10)
            time.sleep(0.01)
            with lock:
                inside -= 1
            return super().__call__(images)

    files = sorted(image_folder.rglob("*.png"))
    assert sum(b.n_images for b in stream_codes(files, Meeting(RECIPE), 3)) == 27
    assert most == 2


def test_a_slow_consumer_stops_the_network(image_folder):
    """While a batch is not taken, only one more batch is computed."""
    backbone = MeanColour(RECIPE)
    files = sorted(image_folder.rglob("*.png"))
    stream = stream_codes(files, backbone, 3)
    next(stream)
    time.sleep(0.3)
    assert len(backbone.shapes) == 2
    stream.close()


def test_an_error_of_the_network_ends_the_run(image_folder):
    """The error is raised once, and earlier batches are in the store."""

    class Breaking(MeanColour):
        def __call__(self, images):
            if len(self.shapes) >= 4:
                raise RuntimeError("broken")
            return super().__call__(images)

    job = job_in(image_folder.parent, batch_size=3)
    with pytest.raises(RuntimeError, match=r"^broken$"):
        run(job, Breaking(job.recipe))
    done = open_store(job.output).images.done
    assert done[:6].all()
    assert not done[15:].any()


def test_timings_are_fractions_of_the_whole_time():
    """Two threads at once are covered time once, and waiting is no work."""
    stage = Stage()
    ready = threading.Barrier(2)

    def work():
        with stage.work():
            ready.wait(10)
            time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.covered >= 0.05
    assert stage.worked < 0.5 * stage.covered
    pace = Pace(n_processors=4)
    pace.decode.add(5.0)
    pace.decode.add(3.0)
    pace.network.covered, pace.write.covered = 6.0, 1.0
    timings = pace.timings(10.0)
    assert (timings.decode, timings.network, timings.write) == (0.2, 0.6, 0.1)
    assert timings.waiting == pytest.approx(0.4)


def test_waiting_for_the_interpreter_is_not_work():
    """Eight threads of Python code work as long as one that does all of it."""

    def spin(n):
        with stage.work():
            for _ in range(n):
                pass

    worked = []
    for n_threads in (1, 8):
        stage = Stage()
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(spin, [4_000_000 // n_threads] * n_threads))
        worked.append(stage.worked)
    assert worked[1] < 3 * worked[0]


def test_the_time_of_the_network_is_that_of_its_calls(image_folder):
    """Decoding and stacking images do not count."""

    class Sleeping(MeanColour):
        def __call__(self, images):
            time.sleep(0.02)
            return super().__call__(images)

    pace = Pace()
    files = sorted(image_folder.rglob("*.png"))
    started = time.perf_counter()
    for _ in stream_codes(files, Sleeping(RECIPE), 9, pace=pace):
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    assert 0.04 < pace.network.covered < 0.5 * seconds
