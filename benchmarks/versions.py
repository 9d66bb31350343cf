"""Compare the extraction of two checkouts of featx, in interleaved pairs of runs.

    git clone . ../before && git -C ../before checkout COMMIT
    python benchmarks/versions.py ../before . ../shared/data/rsscn7_350 --pairs 5

Each run has its own process: case (d) of extraction.py, from files to the store. The two checkouts
take turns, so that both meet the same moods of the machine. The table holds the median of the
ratios after / before of the pairs; above 1, the second checkout takes longer or needs more memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

CASE = """
import json, sys
sys.path.insert(0, "benchmarks")
from extraction import SETTINGS, featx_whole
from measuring import measured

found = measured(featx_whole, sys.argv[1], SETTINGS[int(sys.argv[2])])
print(json.dumps({name: found[name] for name in ("seconds", "peak_mb")}))
"""
#: Indices of the settings of extraction.py: block2_pool at 256 pixels in float32 and bfloat16.
SETTINGS = {"float32": 0, "bfloat16": 1}


def run(checkout: Path, images: str, setting: int) -> dict[str, float]:
    """Return seconds per image and the peak memory in MB of one extraction."""
    process = subprocess.run(
        [sys.executable, "-c", CASE, images, str(setting)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the pairs and print one row for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="A checkout of featx.")
    parser.add_argument("after", type=Path, help="Another one.")
    parser.add_argument("images", type=Path, help="A folder of images.")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    images = str(arguments.images.resolve())
    checkouts = [arguments.before.resolve(), arguments.after.resolve()]
    print("| precision | images/s before | after | time, ratio | memory, ratio |")
    print("| --- | --- | --- | --- | --- |")
    for precision, setting in SETTINGS.items():
        pairs = []
        for k in range(arguments.pairs):
            order = checkouts if k % 2 == 0 else checkouts[::-1]
            found = {path: run(path, images, setting) for path in order}
            pairs.append([found[path] for path in checkouts])
        rates = [1 / statistics.median(pair[i]["seconds"] for pair in pairs) for i in (0, 1)]
        ratios = [
            statistics.median(after[name] / before[name] for before, after in pairs)
            for name in ("seconds", "peak_mb")
        ]
        cells = [precision, *(f"{rate:.2f}" for rate in rates), *(f"{r:.3f}" for r in ratios)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
