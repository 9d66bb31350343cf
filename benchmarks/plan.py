"""Compare the plan of an extraction with the run, for a growing number of images.

    python benchmarks/plan.py ../shared/data/rsscn7_350

Each plan and each run has its own process. The last row lists the images ten times in a manifest,
to find out whether memory grows with their number.
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


def plan(output: str, settings: dict) -> dict:
    """Return the estimated cost."""
    import featx

    found = featx.plan(output=output, **settings)
    return {"disk": found.new_bytes, "memory": found.peak_bytes, "seconds": found.seconds}


def run(output: str, settings: dict) -> dict:
    """Return the measured cost."""
    import featx

    result = featx.extract(output=output, **settings)
    return {"disk": Path(output).stat().st_size, "seconds": result.seconds}


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
            before, after = measured(plan, output, settings), measured(run, output, settings)
            name = ", ".join(str(v) for k, v in settings.items() if k not in {"images", "manifest"})
            cells = []
            for what, found, unit in (
                ("disk", after["disk"], 1e6),
                ("memory", after["peak_mb"] * 1e6, 1e6),
                ("seconds", after["seconds"], 1),
            ):
                estimate = before[what]
                cells.append(
                    f"{estimate / unit:.0f}, then {found / unit:.0f} | {estimate / found - 1:+.1%}"
                )
            print(f"| {name} | {n_images} | {' | '.join(cells)} |", flush=True)
            Path(output).unlink()


if __name__ == "__main__":
    main()
