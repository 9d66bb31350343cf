"""The cluster beside one process: the same images, none, one and two workers on this machine.

    python benchmarks/cluster.py FOLDER [--layer block4_pool] [--size 224]

Each case in a process of its own, in turn, round after round; the fastest of each
counts. Time is from the first image to the last, as `featx extract` prints it: what it
takes to start workers is told beside it. The stores are compared.
"""

import argparse
import tempfile
import time
from pathlib import Path

from measuring import measured


def extracted(folder: Path, layer: str, size: int, workers: int, output: Path) -> dict:
    """Extract with so many workers, 0 for none; return seconds, and the digests of the store."""
    from featx.cluster import connected
    from featx.extraction import prepare_extraction, run_extraction
    from featx.store import open_store

    job = prepare_extraction(
        folder, layer=layer, pool="avg", size=size, batch_size=4, output=output
    )
    began = time.perf_counter()
    if workers:
        with connected(f"local:{workers}") as cluster:
            made = run_extraction(job, cluster=cluster)
    else:
        made = run_extraction(job)
    whole = time.perf_counter() - began
    digests = open_store(output).digests()
    return {"seconds": made.seconds, "started": whole - made.seconds, "digests": digests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layer", default="block4_pool")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
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
