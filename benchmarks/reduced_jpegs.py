"""Measure the error and the speed of decoding large JPEGs at a reduced size.

    python benchmarks/reduced_jpegs.py ../shared/data/hymenoptera/train

Large JPEGs are mosaics of the images in the folder. Each one is read at full size and reduced, for
several minimum ratios between the reduced and the requested size. Differences are in grey levels,
from 0 to 255.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from featx.images import decoding, reducing

SHAPES = [((3, 4), 224), ((6, 8), 224), ((1, 1), 64), ((1, 1), 32)]  # tiles, image size
N_IMAGES = 10


def mosaic(files: list[Path], tiles: tuple[int, int], path: Path) -> None:
    """Write a mosaic of rows x columns images as JPEG."""
    rows, columns = tiles
    sheet = Image.new("RGB", (504 * columns, 376 * rows))
    for k in range(rows * columns):
        with Image.open(random.choice(files)) as image:
            tile = image.convert("RGB").resize((504, 376), Image.Resampling.LANCZOS)
        sheet.paste(tile, (504 * (k % columns), 376 * (k // columns)))
    sheet.save(path, quality=92)


def read(files: list[Path], size: int, jpeg: str) -> tuple[np.ndarray, float]:
    """Return the pixels, and the processor time per image in milliseconds."""
    started = time.process_time()
    pixels = [decoding.read_image(f, (size, size), "squash", jpeg=jpeg).pixels for f in files]
    return np.array(pixels, int), (time.process_time() - started) / len(files) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="A folder of JPEGs.")
    sources = sorted(Path(parser.parse_args().images).rglob("*.jpg"))
    random.seed(0)
    print(
        "| JPEG | size | minimum ratio | mean | 99.9 % below | maximum | full, ms | reduced, ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for tiles, size in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{k}.jpg" for k in range(N_IMAGES)]
            for file in files:
                mosaic(sources, tiles, file)
            full, full_ms = read(files, size, "full")
            for ratio in (1, 2, 3, 4):
                reducing._MIN_SURPLUS = ratio
                reduced, reduced_ms = read(files, size, "reduced")
                gap = np.abs(full - reduced)
                print(
                    f"| {376 * tiles[0]}x{504 * tiles[1]} | {size} | {ratio} | {gap.mean():.2f} "
                    f"| {np.percentile(gap, 99.9):.0f} | {gap.max()} | {full_ms:.1f} "
                    f"| {reduced_ms:.1f} |"
                )


if __name__ == "__main__":
    main()
