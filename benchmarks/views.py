"""Two scales and mirror images beside what their arithmetic says: the sum of the passes alone.

    python benchmarks/views.py FOLDER [--images 60]

Each pass in a process of its own, in turn, round after round; the fastest of each
counts. The first batches, in which functions are compiled, are not counted: the rate is
that at which the second half of the images went through.
"""

import argparse
import tempfile
import time
from pathlib import Path

from measuring import measured

LAYER = "block5_pool"
SCALES = (256, 384)


def rate(folder: Path, n: int, precision: str, settings: dict) -> dict:
    """Extract the first images of a folder; return the seconds an image of the second half."""
    import dataclasses

    from featx.extraction import prepare_extraction, run_extraction
    from featx.extraction.resuming import RemainingWork, find_existing

    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "codes.h5"
        job = prepare_extraction(
            folder, layer=LAYER, pool="avg", precision=precision, output=output, **settings
        )
        listing = dataclasses.replace(job.listing, records=job.listing.records[:n])
        rest = RemainingWork(find_existing(output), output, resumes=False, rows=tuple(range(n)))
        job = dataclasses.replace(job, listing=listing, rest=rest)
        marks: list[tuple[int, float]] = []
        run_extraction(job, progress=lambda done, _: marks.append((done, time.perf_counter())))
    middle = min(range(len(marks)), key=lambda k: abs(marks[k][0] - n / 2))
    (before, began), (after, ended) = marks[middle], marks[-1]
    return {"seconds": (ended - began) / (after - before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="bfloat16")
    given = parser.parse_args()
    cases: dict[str, dict] = {f"--scale {scale}": {"scale": scale} for scale in SCALES}
    both = " ".join(cases) + " --flip"
    cases[both] = {"scale": SCALES, "flip": True}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(given.rounds):
        for name, settings in cases.items():
            arguments = (given.folder, given.images, given.precision, settings)
            seconds[name].append(measured(rate, *arguments)["seconds"])
    best = {name: min(each) for name, each in seconds.items()}
    print("| passes | seconds an image |\n| --- | --- |")
    for name, each in best.items():
        print(f"| `{name}` | {each:.3f} |")
    summed = 2 * sum(best[f"--scale {scale}"] for scale in SCALES)
    print(
        f"\nthe sum, twice for mirror images: {summed:.3f}; taken: {best[both] / summed:.2f} of it"
    )


if __name__ == "__main__":
    main()
