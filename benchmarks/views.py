"""Compare the time of two scales with mirror images with the sum of the single passes.

    python benchmarks/views.py FOLDER [--images 60]

Each pass runs in its own process, in alternating rounds, and the fastest round counts. Only the
second half of the images is timed, since functions are compiled in the first batches.
"""

import argparse
import tempfile
import time
from pathlib import Path

from measuring import measured

LAYER = "block5_pool"
SCALES = (256, 384)


def rate(folder: Path, n: int, precision: str, settings: dict) -> dict:
    """Extract the first images of a folder; return the seconds per image of the second half."""
    import dataclasses

    from featx.extraction import extraction_of, prepare_extraction, run_extraction

    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "codes.h5"
        job = prepare_extraction(
            folder, layer=LAYER, pool="avg", precision=precision, output=output, **settings
        )
        listing = dataclasses.replace(job.listing, records=job.listing.records[:n])
        marks: list[tuple[int, float]] = []
        job = dataclasses.replace(
            job,
            listing=listing,
            progress=lambda done, _: marks.append((done, time.perf_counter())),
        )
        run_extraction(extraction_of(job, job.recipe, job.source, output))
    middle = min(range(len(marks)), key=lambda k: abs(marks[k][0] - n / 2))
    (before, started), (after, ended) = marks[middle], marks[-1]
    return {"seconds": (ended - started) / (after - before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="bfloat16")
    args = parser.parse_args()
    cases: dict[str, dict] = {f"--scale {scale}": {"scale": scale} for scale in SCALES}
    both = " ".join(cases) + " --flip"
    cases[both] = {"scale": SCALES, "flip": True}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(args.rounds):
        for name, settings in cases.items():
            arguments = (args.folder, args.images, args.precision, settings)
            seconds[name].append(measured(rate, *arguments)["seconds"])
    best = {name: min(each) for name, each in seconds.items()}
    print("| passes | seconds per image |\n| --- | --- |")
    for name, each in best.items():
        print(f"| `{name}` | {each:.3f} |")
    summed = 2 * sum(best[f"--scale {scale}"] for scale in SCALES)
    ratio = best[both] / summed
    print(f"\ntwice the sum, for mirror images: {summed:.3f}; measured: {ratio:.2f} of it")


if __name__ == "__main__":
    main()
