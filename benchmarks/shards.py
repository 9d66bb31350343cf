"""Compare one file that all processes write with one file per process.

    python benchmarks/shards.py FOLDER [--writers 1 2 4] [--gb 1]

Processes write their rows of block2_pool, flattened, in float16: into one store, as featx does, or
each into its own store, which an HDF5 virtual dataset joins. Every 32 rows are synced. Then the
codes are read by columns, as for a Gram matrix, and by rows. FOLDER is on the file system to
measure; the files are removed. The files are read right after they are written, mostly from
memory, so the figures show the cost of a virtual dataset and not of the disk.
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
CHUNK = 32


def create(path: Path, n_rows: int) -> None:
    """Create a file with the layout of featx: a contiguous dataset with reserved space."""
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
    """Write rows of a file in chunks, and sync each chunk."""
    with h5py.File(path, "r") as file:
        offset = file["codes"].id.get_offset()
    rng = np.random.default_rng(first)
    data = rng.normal(size=(CHUNK, ROW)).astype(np.float16).tobytes()
    number = os.open(path, os.O_RDWR)
    for row in range(first, first + n_rows, CHUNK):
        os.pwrite(number, data, offset + row * BYTES)
        os.fdatasync(number)
    os.close(number)


def join(path: Path, parts: list[Path], n_rows: int) -> None:
    """Join files with a virtual dataset, which holds no codes itself."""
    layout = h5py.VirtualLayout((n_rows * len(parts), ROW), "f2")
    for k, part in enumerate(parts):
        layout[k * n_rows : (k + 1) * n_rows] = h5py.VirtualSource(part, "codes", (n_rows, ROW))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("codes", layout)


def write_all(folder: Path, n_writers: int, n_rows: int, *, shards: bool) -> tuple[Path, float]:
    """Write from all processes; return the file to read and the seconds."""
    paths = [folder / f"{k}.h5" for k in range(n_writers if shards else 1)]
    for path in paths:
        create(path, n_rows if shards else n_rows * n_writers)
    context = multiprocessing.get_context("fork")
    args = [(paths[k], 0) if shards else (paths[0], k * n_rows) for k in range(n_writers)]
    processes = [context.Process(target=write, args=(*each, n_rows)) for each in args]
    started = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    seconds = time.perf_counter() - started
    if shards:
        join(folder / "joined.h5", paths, n_rows)
        return folder / "joined.h5", seconds
    return paths[0], seconds


def read(path: Path) -> dict[str, float]:
    """Read all codes in two orders, with HDF5 and memory-mapped; return the seconds."""
    seconds = {}
    with h5py.File(path, "r") as file:
        codes = file["codes"]
        n_rows, step = len(codes), ROW // 16
        started = time.perf_counter()
        for k in range(0, ROW, step):
            codes[:, k : k + step]
        seconds["columns"] = time.perf_counter() - started
        started = time.perf_counter()
        for k in range(0, n_rows, CHUNK):
            codes[k : k + CHUNK]
        seconds["rows"] = time.perf_counter() - started
        offset = codes.id.get_offset()
    if offset is not None:  # a virtual dataset has no offset in a file
        mapped = np.memmap(path, np.float16, "r", offset, (n_rows, ROW))
        started = time.perf_counter()
        for k in range(0, ROW, step):
            np.ascontiguousarray(mapped[:, k : k + step])
        seconds["mapped"] = time.perf_counter() - started
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| writers | files | written, MB/s | read by columns, HDF5 | by rows, HDF5 | by columns, "
          "mapped |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- |")
    for n_writers in args.writers:
        n_rows = int(args.gb * 1e9 / BYTES / n_writers) // CHUNK * CHUNK
        mb = n_rows * n_writers * BYTES / 1e6
        best: dict[bool, dict[str, float]] = {False: {}, True: {}}
        for _ in range(args.rounds):
            for shards, seconds in best.items():
                with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                    path, seconds_written = write_all(
                        Path(folder), n_writers, n_rows, shards=shards
                    )
                    for name, each in {"written": seconds_written, **read(path)}.items():
                        seconds[name] = min(each, seconds.get(name, each))
        for shards, seconds in best.items():
            names = ("written", "columns", "rows", "mapped")
            rates = [f"{mb / seconds[name]:.0f}" if name in seconds else "" for name in names]
            files = f"{n_writers} and a virtual dataset" if shards else "1"
            print(f"| {n_writers} | {files} | {' | '.join(rates)} |", flush=True)


if __name__ == "__main__":
    main()
