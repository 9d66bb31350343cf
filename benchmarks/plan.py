"""The plan of an extraction beside what it then takes, and memory beside the number of images.

    python benchmarks/plan.py ../shared/data/rsscn7_350

Each plan and each run has a process of its own. The last row repeats the images
ten times, by a manifest, to see whether memory grows with their number.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from measuring import measured

SETTINGS = [
    {"layer": "block2_pool", "size": 224},
    {"layer": "block2_pool", "size": 256, "precision": "bfloat16", "dtype": "float16"},
    {"layer": "block5_pool", "size": 224, "pool": "avg", "precision": "bfloat16"},
]


def planned(output: str, settings: dict) -> dict:
    """Ask for the plan."""
    import featx

    found = featx.plan(output=output, **settings)
    return {"disk": found.new_bytes, "memory": found.peak_bytes, "seconds": found.seconds}


def run(output: str, settings: dict) -> dict:
    """Extract, and say what it took."""
    import featx

    made = featx.extract(output=output, **settings)
    return {"disk": Path(output).stat().st_size, "seconds": made.seconds}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="A folder of JPEGs.")
    images = parser.parse_args().images
    print("| setting | images | disk, MB | | memory, MB | | time, s | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "ten.csv"
        files = sorted(Path(images).absolute().rglob("*.jpg"))
        with manifest.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label"])
            for k in range(10):
                (Path(folder) / str(k)).symlink_to(Path(images).absolute())
                table.writerows([f"{k}/{f.relative_to(Path(images).absolute())}", k] for f in files)
        cases = [({"images": images, **s}, len(files)) for s in SETTINGS]
        cases.append(({"manifest": str(manifest), **SETTINGS[0]}, 10 * len(files)))
        for settings, n_images in cases:
            output = str(Path(folder) / "codes.h5")
            before, after = measured(planned, output, settings), measured(run, output, settings)
            name = ", ".join(str(v) for k, v in settings.items() if k not in {"images", "manifest"})
            cells = []
            for what, found, unit in (
                ("disk", after["disk"], 1e6),
                ("memory", after["peak_mb"] * 1e6, 1e6),
                ("seconds", after["seconds"], 1),
            ):
                plan = before[what]
                cells.append(
                    f"{plan / unit:.0f}, then {found / unit:.0f} | {plan / found - 1:+.1%}"
                )
            print(f"| {name} | {n_images} | {' | '.join(cells)} |", flush=True)
            Path(output).unlink()


if __name__ == "__main__":
    main()
