"""The cluster beside one process: the same images, none, one and two workers on this machine.

    python benchmarks/cluster.py FOLDER [--layer block4_pool] [--size 224]
    python benchmarks/cluster.py --gram [--rows 3000] [--columns 100352]

Each case in a process of its own, in turn, round after round; the fastest of each
counts. Time is from the first image to the last, as `featx extract` prints it: what it
takes to start workers is told beside it. The stores are compared. With --gram it is the
Gram matrix of random codes in float16, in one process and by tiles.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from measuring import measured


def extracted(folder: Path, layer: str, size: int, workers: int, output: Path) -> dict:
    """Extract with so many workers, 0 for none; return seconds, and the digests of the store."""
    from featx.cluster import connect
    from featx.extraction import prepare_extraction, run_extraction
    from featx.store import open_store

    job = prepare_extraction(
        folder, layer=layer, pool="avg", size=size, batch_size=4, output=output
    )
    began = time.perf_counter()
    if workers:
        with connect(f"local:{workers}") as cluster:
            made = run_extraction(job, cluster=cluster)
    else:
        made = run_extraction(job)
    whole = time.perf_counter() - began
    digests = open_store(output).digests()
    return {"seconds": made.seconds, "started": whole - made.seconds, "digests": digests}


def gram_of(path: Path, rows: int, columns: int, workers: int) -> dict:
    """Make the Gram matrix with so many workers, 0 for none; return seconds, and some of it."""
    import numpy as np

    from featx.cluster import connect
    from featx.codes.matrix import CodeMatrix
    from featx.codes.products import gram_matrix, gram_on_cluster

    codes = np.memmap(path, np.float16, "r", shape=(rows, columns))
    matrix = CodeMatrix([codes], np.arange(rows))
    with connect(f"local:{workers}") if workers else contextlib.nullcontext() as cluster:
        began = time.perf_counter()
        found = gram_matrix(matrix, 0) if cluster is None else gram_on_cluster(cluster, matrix, 0)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "found": found[:: rows // 100, ::7]}


def print_gram(rows: int, columns: int, rounds: int) -> None:
    import numpy as np

    found: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes"
        drawn = np.memmap(path, np.float16, "w+", shape=(rows, columns))
        rng = np.random.default_rng(0)
        for start in range(0, rows, 100):
            block = drawn[start : start + 100]
            block[...] = rng.standard_normal(block.shape, np.float32)
        drawn.flush()
        for _ in range(rounds):
            for workers, runs in found.items():
                runs.append(measured(gram_of, path, rows, columns, workers))
    expected = found[0][0]["found"]
    best = {workers: min(run["seconds"] for run in runs) for workers, runs in found.items()}
    print("| workers | seconds | of none | GFLOP/s | largest difference, relative |")
    print("| --- | --- | --- | --- | --- |")
    for workers, runs in found.items():
        gap = np.abs(runs[0]["found"] - expected).max() / np.abs(expected).max()
        rate = rows**2 * columns / best[workers] / 1e9
        print(
            f"| {workers or 'none'} | {best[workers]:.1f} | {best[workers] / best[0]:.3f} | "
            f"{rate:.0f} | {gap:.1e} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--gram", action="store_true")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--columns", type=int, default=100_352)
    parser.add_argument("--layer", default="block4_pool")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if given.gram:
        print_gram(given.rows, given.columns, given.rounds)
        return
    found: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(given.rounds):
            for workers, runs in found.items():
                output = Path(folder) / f"{workers}-{k}.h5"
                arguments = (given.folder, given.layer, given.size, workers, output)
                runs.append(measured(extracted, *arguments))
    best = {workers: min(run["seconds"] for run in runs) for workers, runs in found.items()}
    print("| workers | seconds | of none | to start, s | the same store |")
    print("| --- | --- | --- | --- | --- |")
    for workers, runs in found.items():
        same = all(run["digests"] == found[0][0]["digests"] for run in runs)
        started = min(run["started"] for run in runs)
        print(
            f"| {workers or 'none'} | {best[workers]:.1f} | {best[workers] / best[0]:.3f} | "
            f"{started:.1f} | {'yes' if same else 'no'} |"
        )


if __name__ == "__main__":
    main()
