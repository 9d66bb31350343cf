"""One file that all write into, beside a file for each: whether shards pay.

    python benchmarks/shards.py FOLDER [--writers 1 2 4] [--gb 1]

Processes write their rows of block2_pool, flattened, in float16: into one store, as featx
does, or each into a store of its own, which an HDF5 virtual dataset joins. Every 32 rows are
synced. Then the codes are read as a Gram matrix reads them, in blocks of all rows and some
columns of the store, and row after row. FOLDER lies on the file system that is in question;
the files go again. Reading follows writing, so that what memory holds is read from there:
what is measured is what a virtual dataset adds, not the disk.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

ROW = 56 * 56 * 128
BYTES = 2 * ROW
LEASE = 32


def create(path: Path, n_rows: int) -> None:
    """Lay a file out as featx does: one contiguous dataset, its space reserved."""
    with h5py.File(path, "w", alignment_threshold=4096, alignment_interval=4096) as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((n_rows, ROW))
        h5py.h5d.create(file.id, b"codes", h5py.h5t.py_create(np.dtype("f2")), space, plan)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def write(path: Path, first: int, n_rows: int) -> None:
    """Write rows of a file, a lease at a time, each synced."""
    with h5py.File(path, "r") as file:
        offset = file["codes"].id.get_offset()
    rng = np.random.default_rng(first)
    data = rng.normal(size=(LEASE, ROW)).astype(np.float16).tobytes()
    number = os.open(path, os.O_RDWR)
    for row in range(first, first + n_rows, LEASE):
        os.pwrite(number, data, offset + row * BYTES)
        os.fdatasync(number)
    os.close(number)


def join(path: Path, parts: list[Path], n_rows: int) -> None:
    """Join files by a virtual dataset, which holds no codes itself."""
    layout = h5py.VirtualLayout((n_rows * len(parts), ROW), "f2")
    for k, part in enumerate(parts):
        layout[k * n_rows : (k + 1) * n_rows] = h5py.VirtualSource(part, "codes", (n_rows, ROW))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("codes", layout)


def write_all(folder: Path, n_writers: int, n_rows: int, *, shards: bool) -> tuple[Path, float]:
    """Write from all processes; return the file to read, and the seconds."""
    paths = [folder / f"{k}.h5" for k in range(n_writers if shards else 1)]
    for path in paths:
        create(path, n_rows if shards else n_rows * n_writers)
    context = multiprocessing.get_context("fork")
    given = [(paths[k], 0) if shards else (paths[0], k * n_rows) for k in range(n_writers)]
    processes = [context.Process(target=write, args=(*each, n_rows)) for each in given]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    seconds = time.perf_counter() - began
    if shards:
        join(folder / "joined.h5", paths, n_rows)
        return folder / "joined.h5", seconds
    return paths[0], seconds


def read(path: Path) -> dict[str, float]:
    """Read all codes in two orders, through HDF5 and by the map of featx; return the seconds."""
    seconds = {}
    with h5py.File(path, "r") as file:
        codes = file["codes"]
        n_rows, step = len(codes), ROW // 16
        began = time.perf_counter()
        for k in range(0, ROW, step):
            codes[:, k : k + step]
        seconds["columns"] = time.perf_counter() - began
        began = time.perf_counter()
        for k in range(0, n_rows, LEASE):
            codes[k : k + LEASE]
        seconds["rows"] = time.perf_counter() - began
        offset = codes.id.get_offset()
    if offset is not None:  # a virtual dataset has no place in a file
        mapped = np.memmap(path, np.float16, "r", offset, (n_rows, ROW))
        began = time.perf_counter()
        for k in range(0, ROW, step):
            np.ascontiguousarray(mapped[:, k : k + step])
        seconds["mapped"] = time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("| writers | files | written, MB/s | read by columns, HDF5 | by rows, HDF5 | by columns, "
          "mapped |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- |")
    for n_writers in given.writers:
        n_rows = int(given.gb * 1e9 / BYTES / n_writers) // LEASE * LEASE
        mb = n_rows * n_writers * BYTES / 1e6
        best: dict[bool, dict[str, float]] = {False: {}, True: {}}
        for _ in range(given.rounds):
            for shards, seconds in best.items():
                with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                    path, took = write_all(Path(folder), n_writers, n_rows, shards=shards)
                    for name, each in {"written": took, **read(path)}.items():
                        seconds[name] = min(each, seconds.get(name, each))
        for shards, seconds in best.items():
            names = ("written", "columns", "rows", "mapped")
            rates = [f"{mb / seconds[name]:.0f}" if name in seconds else "" for name in names]
            files = f"{n_writers} and a virtual dataset" if shards else "1"
            print(f"| {n_writers} | {files} | {' | '.join(rates)} |", flush=True)


if __name__ == "__main__":
    main()
