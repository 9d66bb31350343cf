"""Make the sample images from two packages of emoji; the result is always the same.

Two unpacked packages come in; data/train/CLASS, data/val/CLASS and
data/metadata.csv go out, and replace earlier ones. From this folder:

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    mkdir google twitter
    tar -xzf emoji-datasource-google-16.0.0.tgz -C google
    tar -xzf emoji-datasource-twitter-16.0.0.tgz -C twitter
    python cut_emoji.py google/package twitter/package

A class is a subject, and holds 20 emoji for training and 10 others for
validation, each in Google's and in Twitter's style: 600 files, copied byte for
byte. The choice does not depend on the images: emoji are sorted by the sha256 of
their code, and the first ones are taken.

Left out, because a near-duplicate in the training set makes the score too high:

* skin tones, and emoji that the packages call obsolete, except people;
* people: one form of each. The packages call the form without a gender obsolete;
  here this form is kept. Forms with a gender sign, forms that also exist without
  a gender, forms that face right, and silhouettes are left out;
* images that an emoji of the same class has already (Norway's flag is also
  Bouvet Island's).

Signs for travellers (baggage claim, customs) are not vehicles, and are left out
too. metadata.csv has the group of every file: its emoji, because both styles must
be on the same side of any split.
"""

import argparse
import csv
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

STYLES = ("google", "twitter")

SPLITS = {"train": 20, "val": 10}

#: Prefixes of the field `subcategory` of the packages.
CLASSES: dict[str, tuple[str, ...]] = {
    "animals": ("animal-",),
    "buildings": ("place-building", "place-religious"),
    "clothing": ("clothing",),
    "faces": ("face-",),
    "flags": ("country-flag",),
    "food": ("food-",),
    "hands": ("hand-", "hands"),
    "people": ("person",),
    "sky": ("sky & weather",),
    "vehicles": ("transport-ground", "transport-air", "transport-water"),
}

#: Signs in a code that mark a variant of a person: woman, man, facing right.
VARIANT_SIGNS = ("2640", "2642", "27A1")

#: Man and woman before another sign; 1F9D1, a person without a gender, is kept.
GENDERED_STARTS = ("1F468-200D", "1F469-200D")

#: Single codes that also exist without a gender.
GENDERED = (
    *("1F466", "1F467"),  # boy and girl: a child is 1F9D2
    *("1F468", "1F469"),  # man and woman: 1F9D1
    *("1F474", "1F475"),  # old man and old woman: 1F9D3
    *("1F930", "1FAC3"),  # pregnant woman and man: 1FAC4
    *("1F934", "1F478"),  # prince and princess: 1FAC5
    *("1F385", "1F936"),  # Santa and Mrs Claus: 1F9D1-200D-1F384
)


@dataclass(frozen=True)
class Emoji:
    """One emoji and its image in each style."""

    code: str
    files: tuple[Path, ...]

    def images(self) -> set[bytes]:
        """Return the bytes of its images."""
        return {file.read_bytes() for file in self.files}


def main() -> None:
    """Read the command line and write the samples."""
    parser = argparse.ArgumentParser(description="Cut the sample images of featx.")
    for style in STYLES:
        parser.add_argument(style, type=Path, help=f"emoji-datasource-{style}, unpacked")
    arguments = parser.parse_args()
    cut({style: getattr(arguments, style) for style in STYLES}, HERE)


def cut(packages: dict[str, Path], folder: Path) -> None:
    """Write the images of all classes and their table into `folder`."""
    table = json.loads((packages["google"] / "emoji.json").read_text(encoding="utf-8"))
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    rows: list[tuple[str, str]] = []
    for label in CLASSES:
        emoji = iter(distinct(members(table, label, packages)))
        for split, count in SPLITS.items():
            for _ in range(count):
                rows += copied(next(emoji), folder, f"{split}/{label}")
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file_name", "group"))
        writer.writerows(sorted(rows))


def members(
    table: list[dict[str, object]], label: str, packages: dict[str, Path]
) -> Iterator[Emoji]:
    """Yield the emoji of a class, in the order of the sha256 of their codes."""
    codes = {str(row["unified"]): str(row["image"]) for row in table if is_member(row, label)}
    for code in sorted(codes, key=lambda code: hashlib.sha256(code.encode()).hexdigest()):
        files = (packages[style] / "img" / style / "64" / codes[code] for style in STYLES)
        yield Emoji(code.lower(), tuple(files))


def is_member(row: dict[str, object], label: str) -> bool:
    """Return whether an emoji belongs to a class."""
    if not str(row["subcategory"]).startswith(CLASSES[label]):
        return False
    if not all(row[f"has_img_{style}"] for style in STYLES):
        return False
    return is_person(row) if label == "people" else "obsoleted_by" not in row


def is_person(row: dict[str, object]) -> bool:
    """Return whether an emoji of a person is the form that is kept."""
    code = str(row["unified"])
    return (
        row["subcategory"] != "person-symbol"
        and not any(sign in code.split("-") for sign in VARIANT_SIGNS)
        and not code.startswith(GENDERED_STARTS)
        and code not in GENDERED
    )


def distinct(emoji: Iterable[Emoji]) -> Iterator[Emoji]:
    """Leave out emoji that share an image with an earlier one."""
    seen: set[bytes] = set()
    for one in emoji:
        if seen.isdisjoint(one.images()):
            yield one
        seen |= one.images()


def copied(emoji: Emoji, folder: Path, place: str) -> list[tuple[str, str]]:
    """Copy an emoji's images and return their rows of the table."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    names = [f"{place}/{emoji.code}-{style}.png" for style in STYLES]
    for file, name in zip(emoji.files, names, strict=True):
        shutil.copyfile(file, folder / name)
    return [(name, emoji.code) for name in names]


if __name__ == "__main__":
    main()
