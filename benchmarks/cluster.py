"""Compare a local cluster of one and two workers with a single process.

    python benchmarks/cluster.py FOLDER [--layer block4_pool] [--size 224]
    python benchmarks/cluster.py --gram [--rows 3000] [--columns 100352]

Each case runs in its own process, in alternating rounds, and the fastest round counts. The time is
from the first image to the last one, as `featx extract` prints it; the time to start the workers
is printed separately. The digests of the stores are compared. With --gram, the task is the Gram
matrix of random codes in float16, in one process and in tiles.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from measuring import measured


def extract(folder: Path, layer: str, size: int, workers: int, output: Path) -> dict:
    """Extract with a number of workers, 0 for none; return times and digests."""
    from featx.cluster import connect
    from featx.extraction import prepare_extraction, run_extraction
    from featx.store import open_store

    job = prepare_extraction(
        folder, layer=layer, pool="avg", size=size, batch_size=4, output=output
    )
    started_at = time.perf_counter()
    if workers:
        with connect(f"local:{workers}") as cluster:
            result = run_extraction(job, cluster=cluster)
    else:
        result = run_extraction(job)
    seconds = time.perf_counter() - started_at
    digests = open_store(output).digests()
    return {"seconds": result.seconds, "start": seconds - result.seconds, "digests": digests}


def compute_gram(path: Path, rows: int, columns: int, workers: int) -> dict:
    """Compute the Gram matrix with a number of workers, 0 for none; return a sample of it."""
    import numpy as np

    from featx.cluster import connect
    from featx.codes.matrix import CodeMatrix
    from featx.codes.products import gram_matrix, gram_on_cluster

    codes = np.memmap(path, np.float16, "r", shape=(rows, columns))
    matrix = CodeMatrix([codes], np.arange(rows))
    with connect(f"local:{workers}") if workers else contextlib.nullcontext() as cluster:
        started_at = time.perf_counter()
        gram = gram_matrix(matrix, 0) if cluster is None else gram_on_cluster(cluster, matrix, 0)
        seconds = time.perf_counter() - started_at
    return {"seconds": seconds, "sample": gram[:: rows // 100, ::7]}


def benchmark_gram(rows: int, columns: int, rounds: int) -> None:
    import numpy as np

    results: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes"
        codes = np.memmap(path, np.float16, "w+", shape=(rows, columns))
        rng = np.random.default_rng(0)
        for start in range(0, rows, 100):
            block = codes[start : start + 100]
            block[...] = rng.standard_normal(block.shape, np.float32)
        codes.flush()
        for _ in range(rounds):
            for workers, runs in results.items():
                runs.append(measured(compute_gram, path, rows, columns, workers))
    expected = results[0][0]["sample"]
    best = {workers: min(run["seconds"] for run in runs) for workers, runs in results.items()}
    print("| workers | seconds | relative to none | GFLOP/s | largest relative difference |")
    print("| --- | --- | --- | --- | --- |")
    for workers, runs in results.items():
        gap = np.abs(runs[0]["sample"] - expected).max() / np.abs(expected).max()
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
    args = parser.parse_args()
    if args.gram:
        benchmark_gram(args.rows, args.columns, args.rounds)
        return
    results: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(args.rounds):
            for workers, runs in results.items():
                output = Path(folder) / f"{workers}-{k}.h5"
                arguments = (args.folder, args.layer, args.size, workers, output)
                runs.append(measured(extract, *arguments))
    best = {workers: min(run["seconds"] for run in runs) for workers, runs in results.items()}
    print("| workers | seconds | relative to none | start, s | same store |")
    print("| --- | --- | --- | --- | --- |")
    for workers, runs in results.items():
        same = all(run["digests"] == results[0][0]["digests"] for run in runs)
        started = min(run["start"] for run in runs)
        print(
            f"| {workers or 'none'} | {best[workers]:.1f} | {best[workers] / best[0]:.3f} | "
            f"{started:.1f} | {'yes' if same else 'no'} |"
        )


if __name__ == "__main__":
    main()
