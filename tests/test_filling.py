"""Several writers fill a store: what is marked is on the disk, and a kill loses a few batches."""

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import pytest
from running import MeanColour, job_in, run

from featx.errors import StoreError
from featx.extraction import filling
from featx.store import open_store

SYNC = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
N, SIZE = 27, 2
MOST_UNSAFE = 8  # as docs/store-format.md says; two more batches are in the network


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/."""
    return image_folder.parent


class SlowDisk:
    """Bytes are safe if a sync started after they were written, and then has ended."""

    def __init__(self, monkeypatch, seconds=0.03):
        self.seconds = seconds
        self.n_syncs = 0
        self.on_status = lambda rows: None
        self.safe = {}
        self._written = {}
        self._lock = threading.Lock()
        self._status_at = None
        self._pwrite, self._sync = os.pwrite, getattr(os, SYNC)
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, SYNC, self.sync)

    def watch(self, path):
        with h5py.File(path, "r") as file:
            self._status_at = file["images/status"].id.get_offset()

    def pwrite(self, file, data, at):
        n = self._pwrite(file, data, at)
        with self._lock:
            for k, byte in enumerate(bytes(data[:n])):
                self._written[at + k] = byte
        row = -1 if self._status_at is None else at - self._status_at
        if 0 <= row < N:
            self.on_status(range(row, row + n))
        return n

    def sync(self, file):
        with self._lock:
            before, self._written = self._written, {}
        time.sleep(self.seconds)
        self._sync(file)
        with self._lock:
            self.safe |= before
            self.n_syncs += 1


class Watched(MeanColour):
    """It counts batches, and calls a function before each."""

    def __init__(self, recipe, before=lambda: None):
        super().__init__(recipe)
        self.before = before

    def __call__(self, images):
        self.before()
        return super().__call__(images)


def test_rows_are_marked_only_after_their_codes_are_synced(folder, monkeypatch):
    """This holds while several threads write and one of them syncs for all."""
    job = job_in(folder, batch_size=SIZE)
    disk, wrong, marked = SlowDisk(monkeypatch, 0.1), [], []
    backbone = Watched(job.recipe, lambda: disk._status_at or disk.watch(job.output))
    with_status = {}

    def on_status(rows):
        with h5py.File(job.output, "r") as file:
            offset = with_status.setdefault("codes", file["codes/block1_pool"].id.get_offset())
            n_bytes = file["codes/block1_pool"].dtype.itemsize * file["codes/block1_pool"].shape[1]
        for row in rows:
            here = range(offset + row * n_bytes, offset + (row + 1) * n_bytes)
            codes = bytes(disk.safe.get(at, 0) for at in here)
            marked.append(row)
            if not any(codes):  # no image is black
                wrong.append(row)

    disk.on_status = on_status
    run(job, backbone)
    assert sorted(marked) == list(range(N))
    assert not wrong


def test_a_kill_loses_at_most_ten_batches(folder, monkeypatch):
    """The network computes ahead of a slow disk, but only by a bounded number of batches."""
    job = job_in(folder, batch_size=SIZE)
    disk, n_marked, ahead = SlowDisk(monkeypatch, 0.1), [0], []

    def before():
        if disk._status_at is None:
            disk.watch(job.output)
        ahead.append(len(ahead) + 1 - n_marked[0])

    disk.on_status = lambda rows: n_marked.__setitem__(0, n_marked[0] + -(-len(rows) // SIZE))
    run(job, Watched(job.recipe, before))
    assert 4 < max(ahead) <= MOST_UNSAFE + 2


def test_an_interrupted_run_keeps_what_was_computed(folder, monkeypatch):
    """Batches that wait for a slow disk are written before the run ends."""
    job = job_in(folder, batch_size=SIZE)
    SlowDisk(monkeypatch)
    backbone = MeanColour(job.recipe)

    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, backbone, progress)
    n_done = int(open_store(job.output).images.done.sum())
    assert n_done >= SIZE * (len(backbone.shapes) - 3)


@pytest.mark.parametrize("error", [None, StoreError("Input/output error")])
def test_batches_that_wait_for_a_sync_share_the_next_one(error):
    """If it fails, none of them counts as marked, and neither do later ones."""
    marked, held, free = [], threading.Event(), threading.Event()

    def mark(together):
        if together == ["first"]:
            held.set()
            assert free.wait(10)
        marked.append(sorted(together))
        if together != ["first"] and error is not None:
            raise error

    marking = filling._Marking(mark)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(marking, "first")
        assert held.wait(10)
        others = [threads.submit(marking, name) for name in ("second", "third")]
        while len(marking._written) < len(others):
            time.sleep(0.001)
        free.set()
        assert first.exception(10) is None
        assert [each.exception(10) for each in others] == [error, error]
    assert marked == [["first"], ["second", "third"]]
    if error is not None:
        with pytest.raises(StoreError):
            marking("fourth")


def test_a_sync_that_fails_ends_the_run(folder, monkeypatch):
    """The progress counts no batch that is not in the store."""
    job = job_in(folder, batch_size=SIZE)
    disk, counted = SlowDisk(monkeypatch), []

    def sync(file):
        if counted:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        disk.sync(file)

    monkeypatch.setattr(os, SYNC, sync)
    with pytest.raises(StoreError, match="Input/output error"):
        run(job, progress=lambda done, total: counted.append(done))
    monkeypatch.undo()
    n_done = int(open_store(job.output).images.done.sum())
    assert SIZE <= counted[-1] <= n_done < N


def test_batches_that_wait_for_the_disk_do_not_fill_the_memory(folder, monkeypatch):
    """If batches are large, only two wait."""
    monkeypatch.setattr(filling, "_UNSAFE_BYTES", 1)
    job = job_in(folder, batch_size=SIZE)
    disk, backbone = SlowDisk(monkeypatch), MeanColour(job.recipe)
    ahead = []

    def progress(done, total):
        ahead.append(len(backbone.shapes) - done // SIZE)

    run(job, backbone, progress)
    assert disk.n_syncs
    assert max(ahead) <= 2 + 2
