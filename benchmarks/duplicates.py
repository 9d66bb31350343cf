"""How many planted near-duplicates are found, and how many pairs of different images are.

    python benchmarks/duplicates.py FOLDER [FOLDER …]

Copies of the images below each folder are planted in a temporary folder: saved again, brightened or
cut. Two sets of different images that look alike are added: photographs under a fixed camera, drawn
here, and the scanned digits of scikit-learn. The table is Markdown:

* `find_duplicates` gets the originals and their copies: how many originals are paired with their
  copy, and how many other pairs there are;
* `Fingerprints` of the originals get the copies: how many are known again;
* of the originals alone, how many pairs `find_duplicates` finds, and how many of one half are taken
  for near-duplicates of the other half by its fingerprints.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from sklearn.datasets import load_digits

from featx.dataset.duplicates import find_duplicates
from featx.dataset.fingerprints import Fingerprints
from featx.images import DecodedImage, list_images, read_image, to_rgb

Facts = tuple[np.ndarray, np.ndarray, np.ndarray]


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling.LANCZOS)


def cut(image: Image.Image, share: float) -> Image.Image:
    x, y = round(share * image.width), round(share * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "80 %, JPEG 60": (lambda image: scaled(image, 0.8), 60),
    "30 % brighter, JPEG 90": (lambda image: ImageEnhance.Brightness(image).enhance(1.3), 90),
    "cut by 2 % at each edge, JPEG 90": (lambda image: cut(image, 0.02), 90),
}


def board(n: int, size: int = 320) -> Iterator[Image.Image]:
    """Photograph one board n times: light, noise, two pixels of shift; a third have a scratch."""
    fixed, rng = np.random.default_rng(1), np.random.default_rng(2)
    scene = Image.new("RGB", (size, size), (40, 80, 60))
    draw = ImageDraw.Draw(scene)
    for _ in range(45):
        x, y, width, height = *fixed.integers(0, size - 30, 2), *fixed.integers(8, 50, 2)
        colour = tuple(int(value) for value in fixed.integers(0, 255, 3))
        draw.rectangle((x, y, x + width, y + height), fill=colour)
    scene = scene.filter(ImageFilter.GaussianBlur(1))
    for k in range(n):
        image = scene.copy()
        x, y = rng.integers(30, size - 60, 2)
        if k % 3:
            ImageDraw.Draw(image).line((x, y, x + 30, y + 25), fill=(235, 235, 235), width=3)
        values = np.asarray(image, float) * rng.uniform(0.85, 1.1)
        values = np.roll(values + rng.normal(0, 8, values.shape), rng.integers(-2, 3, 2), (0, 1))
        yield Image.fromarray(values.clip(0, 255).astype(np.uint8))


def digits() -> Iterator[Image.Image]:
    """Enlarge the scanned digits of scikit-learn."""
    for scan in load_digits().images:
        image = Image.fromarray((15.9 * scan).astype(np.uint8))
        yield image.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")


def described(files: Sequence[Path]) -> Facts:
    """Return the hashes and thumbnails of files."""

    def read(file: Path) -> DecodedImage:
        return read_image(file, (32, 32), "squash")

    with ThreadPoolExecutor() as pool:
        read_images = list(pool.map(read, files))
    return (
        np.array([image.sha256 for image in read_images], object),
        np.array([image.phash for image in read_images], np.uint64),
        np.stack([image.thumbnail for image in read_images]),
    )


def saved(images: Iterator[Image.Image], folder: Path, quality: int) -> list[Path]:
    """Save images as JPEG."""
    folder.mkdir(parents=True)
    files = []
    for k, image in enumerate(images):
        files.append(folder / f"{k:05d}.jpg")
        image.save(files[-1], quality=quality)
    return files


def measure(name: str, files: Sequence[Path], folder: Path) -> None:
    """Print the rows of one set of images."""
    originals, n = described(files), len(files)
    pairs = len(find_duplicates(*originals))
    half = np.random.default_rng(0).permutation(n)
    known = Fingerprints.of([None] * (n // 2), originals[2][half[: n // 2]])
    false = int(known.are_near(originals[2][half[n // 2 :]]).sum())
    print(f"| {name} | {n} originals alone | {pairs} pairs | {false} of {n - n // 2} |", flush=True)
    known = Fingerprints.of([None] * n, originals[2])
    for k, (change, (change_image, quality)) in enumerate(CHANGES.items()):
        images = (change_image(to_rgb(Image.open(file))) for file in files)
        copies = described(saved(images, folder / f"{name}-{k}", quality))
        table = [np.concatenate(both) for both in zip(originals, copies, strict=True)]
        found = find_duplicates(*table)
        right = sum(pair.second == pair.first + n for pair in found)
        near = known.are_near(copies[2]).mean()
        other = len(found) - right
        print(f"| | {change} | {right / n:.3f}, {other} other pairs | {near:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    print("| images | copies | found by find_duplicates | known by fingerprints |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        for folder in parser.parse_args().folders:
            files = [
                Path(str(record.file)) for record in list_images(folder, labelled=False).records
            ]
            readable = [file for file in files if file.suffix.lower() in {".jpg", ".jpeg", ".png"}]
            measure(folder.name, readable, Path(temporary))
        measure("fixed camera", saved(board(120), Path(temporary) / "board", 90), Path(temporary))
        measure("digits", saved(digits(), Path(temporary) / "scans", 95), Path(temporary))


if __name__ == "__main__":
    main()
