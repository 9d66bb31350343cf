"""Measure how fast codes reach the disk, on an emulated disk and on this machine's.

`host.py` prints both tables. In the first one, network and disk are emulated by sleeping: the
network takes the same time for each batch, and the disk a random time with an exponential
distribution, so that neither cores nor this machine's disk count. In the second one, a network
that takes no time yields batches of block2_pool, flattened, in float16.
"""

import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from featx.extraction import filling, pipeline
from featx.extraction.filling import fill_rows
from featx.extraction.passes import Pass, PassOutput
from featx.extraction.pipeline import CodeBatch, stream_codes
from featx.extraction.timings import Pace
from featx.images import DecodedImage
from featx.recipe import Recipe
from featx.store import StoreWriter, create_store

# the emulated case
NETWORK = 400  # images per second
DISK = 500  # images per second, on average
BATCH = 64
N_BATCHES = 120
N_TIMED = 20  # batches of the network alone
# the disk of this machine
REAL_BATCH = 64
N_REAL = 24  # batches, 1.2 GB
ROUNDS = 3

SYNC = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
NARROW = Recipe(weights="random:0", layers=("block5_pool",), pool="avg", size=(32, 32))
WIDE = Recipe(
    weights="random:0", layers=("block2_pool",), pool="none", size=(224, 224), dtype="float16"
)
IMAGE = DecodedImage(
    (np.zeros((32, 32, 3), np.uint8),), np.zeros((32, 32, 3), np.uint8), 0, "0" * 64
)


def read_nothing(file: Path, **_: object) -> DecodedImage:
    """Return the same image at once."""
    return IMAGE


class SteadyNetwork:
    """A backbone that computes one batch at a time, each in the same time."""

    recipe = NARROW

    def __init__(self) -> None:
        self._codes = {"block5_pool": np.ones((BATCH, 512), np.float32)}
        self._one = threading.Lock()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return codes of ones."""
        with self._one:
            time.sleep(len(images) / NETWORK)
        return self._codes


class JitteringDisk:
    """A disk whose sync takes a random time for each batch of bytes that was written before it.

    It serves one sync at a time, and writing into the cache of the system takes no time.
    """

    def __init__(self, batch_bytes: int) -> None:
        # The quantiles of the distribution in random order: their mean is exact.
        seconds = -BATCH / DISK * np.log((np.arange(N_BATCHES) + 0.5) / N_BATCHES)
        self._seconds = iter(np.random.default_rng(0).permutation(seconds))
        self._batch_bytes = batch_bytes
        self._pending, self._count, self._one = 0, threading.Lock(), threading.Lock()
        self._pwrite = os.pwrite

    def pwrite(self, file: int, data: memoryview, at: int) -> int:
        """Write as the system does, and count the bytes."""
        with self._count:
            self._pending += len(data)
        return self._pwrite(file, data, at)

    def sync(self, _: int) -> None:
        """Wait for the batches that were written before."""
        with self._one:
            with self._count:
                n_batches, self._pending = divmod(self._pending, self._batch_bytes)
            time.sleep(sum(itertools.islice(self._seconds, n_batches)))

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Replace the disk of this machine."""
        with mock.patch.object(os, "pwrite", self.pwrite), mock.patch.object(os, SYNC, self.sync):
            yield


@contextmanager
def store_of(recipe: Recipe, n_images: int) -> Iterator[StoreWriter]:
    """Create a store in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        path, nothing = Path(folder) / "codes.h5", [None] * n_images
        names = {"path": [f"{k}.jpg" for k in range(n_images)]}
        columns = names | {"label": nothing, "split": nothing, "group": nothing}
        create_store(path, recipe, columns, {})
        with StoreWriter(path) as writer:
            yield writer


def fill(writer: StoreWriter, recipe: Recipe, n_images: int, stream: Any) -> float:
    """Fill a store from a stream; return the seconds."""
    names = {layer: layer for layer in recipe.layers}
    whole = Pass((recipe,), tuple(range(n_images)), (PassOutput(0, names, {}),))
    started = time.perf_counter()
    for _ in fill_rows(whole, stream, [writer], Pace()):
        pass
    return time.perf_counter() - started


def with_threads(n_writers: int, n_batches: int) -> Any:
    """Set the number of threads that write, and of batches that wait for the disk."""
    return mock.patch.multiple(filling, _WRITERS=n_writers, _UNSAFE_BATCHES=n_batches)


def jitter() -> None:
    """Print the speed of a run on an emulated disk, compared with the slowest stage alone."""
    n_images = BATCH * N_BATCHES
    network, started = SteadyNetwork(), time.perf_counter()
    for _ in range(N_TIMED):
        network(np.empty(BATCH))
    alone = N_TIMED * BATCH / (time.perf_counter() - started)
    codes = {"block5_pool": np.ones((BATCH, 512), np.float32)}
    facts = [filling.ImageFacts(IMAGE.sha256, 0, IMAGE.thumbnail)] * BATCH
    batch_bytes = BATCH * (512 * 4 + 32 * 32 * 3 + 256 + 64 + 8 + 1)
    with store_of(NARROW, n_images) as writer, JitteringDisk(batch_bytes).mounted():
        started = time.perf_counter()
        for start in range(0, n_images, BATCH):
            writer.write_done(np.arange(start, start + BATCH), codes, facts)
        disk = n_images / (time.perf_counter() - started)
    print(f"network alone {alone:,.0f} images/s, disk alone {disk:,.0f} images/s\n")
    print("| threads that write | batches that wait, at most | images/s | of the slowest stage |")
    print("| --- | --- | --- | --- |")
    files = [Path("image.jpg")] * n_images
    for n_writers, n_batches in ((1, 1), (1, 8), (3, 4), (3, 8)):
        with (
            store_of(NARROW, n_images) as writer,
            JitteringDisk(batch_bytes).mounted(),
            with_threads(n_writers, n_batches),
            mock.patch.object(pipeline, "read_image", read_nothing),
        ):
            stream = partial(stream_codes, files, SteadyNetwork(), BATCH, decoders="threads")
            rate = n_images / fill(writer, NARROW, n_images, stream)
        share = rate / min(alone, disk)
        print(f"| {n_writers} | {n_batches} | {rate:,.0f} | {share:.3f} |", flush=True)


def sustained() -> None:
    """Print the speed of several threads that write to the disk of this machine."""
    n_images, n_bytes = REAL_BATCH * N_REAL, REAL_BATCH * N_REAL * WIDE.code_bytes()
    rng = np.random.default_rng(0)
    codes = rng.random((REAL_BATCH, *WIDE.code_shape("block2_pool")), np.float32).astype("f2")

    def stream(pace: Pace) -> Generator[CodeBatch, None, None]:
        for start in range(0, n_images, REAL_BATCH):
            rows = np.arange(start, start + REAL_BATCH)
            yield CodeBatch(rows, {"block2_pool": codes}, (IMAGE,) * REAL_BATCH, ())

    rates: dict[int, list[float]] = {0: [], 1: [], 2: [], 3: [], 4: []}
    for _ in range(ROUNDS):
        for n_writers, found in rates.items():
            with store_of(WIDE, n_images) as writer, with_threads(max(1, n_writers), 8):
                if n_writers:
                    seconds = fill(writer, WIDE, n_images, stream)
                else:
                    seconds = raw(writer.path, codes, n_bytes)
            found.append(n_bytes / 1e6 / seconds)
    disk = statistics.median(rates.pop(0))
    print(f"one thread that writes the same bytes and syncs once: {disk:,.0f} MB/s\n")
    print("| threads that write | MB/s | of the disk |")
    print("| --- | --- | --- |")
    for n_writers, found in rates.items():
        rate = statistics.median(found)
        print(f"| {n_writers} | {rate:,.0f} | {rate / disk:.2f} |", flush=True)


def raw(path: Path, codes: np.ndarray, n_bytes: int) -> float:
    """Write bytes to a file and sync it; return the seconds."""
    data, file = memoryview(codes).cast("B"), os.open(path, os.O_RDWR)
    started = time.perf_counter()
    for at in range(0, n_bytes, len(data)):
        os.pwrite(file, data, at)
    getattr(os, SYNC)(file)
    seconds = time.perf_counter() - started
    os.close(file)
    return seconds


def writer() -> None:
    """Print both tables."""
    jitter()
    print()
    sustained()


if __name__ == "__main__":
    writer()
