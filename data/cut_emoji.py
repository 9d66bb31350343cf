"""The sample images: cut out of two packages of emoji, the same way every time.

Two unpacked packages come in; data/train/CLASS, data/val/CLASS and
data/metadata.csv go out, and replace what was there. From this folder:

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    mkdir google twitter
    tar -xzf emoji-datasource-google-16.0.0.tgz -C google
    tar -xzf emoji-datasource-twitter-16.0.0.tgz -C twitter
    python cut_emoji.py google/package twitter/package

A class is a subject, and holds 20 emoji for training and 10 others for
validation, each in Google's and in Twitter's style: 600 files, copied byte for
byte. The choice is blind: emoji stand in the order of the sha256 of their
code, and the first ones are taken.

Left out, because a near-copy in training makes the score on its twin too good:

* skin tones, and emoji that the packages call obsolete, except people;
* people: one form of each. Packages call the form without a gender obsolete;
  here it is the one that stays, and forms with a sign of gender, with a twin of
  no gender, or turned to the right are left out, and so are silhouettes;
* pictures that an emoji of the same class has already (Norway's flag is also
  Bouvet Island's).

Signs for travellers (baggage claim, customs) are no vehicles, and left out too.
metadata.csv names the group of every file: the emoji, whose two styles belong
on the same side of any split.
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

#: What the packages call `subcategory` starts with one of these.
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

#: Signs inside a code that make a variant of a person: of women, of men, turned to the right.
VARIANT_SIGNS = ("2640", "2642", "27A1")

#: Man and woman in front of another sign; 1F9D1, a person of either kind, stays.
GENDERED_STARTS = ("1F468-200D", "1F469-200D")

#: Codes of their own that have a twin without a gender.
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
    """One emoji and its picture in every style."""

    code: str
    files: tuple[Path, ...]

    def pictures(self) -> set[bytes]:
        """Return the bytes of its pictures."""
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
    """Yield the emoji of a class in their blind order."""
    codes = {str(row["unified"]): str(row["image"]) for row in table if is_member(row, label)}
    for code in sorted(codes, key=lambda code: hashlib.sha256(code.encode()).hexdigest()):
        files = (packages[style] / "img" / style / "64" / codes[code] for style in STYLES)
        yield Emoji(code.lower(), tuple(files))


def is_member(row: dict[str, object], label: str) -> bool:
    """Say whether an emoji belongs to a class."""
    if not str(row["subcategory"]).startswith(CLASSES[label]):
        return False
    if not all(row[f"has_img_{style}"] for style in STYLES):
        return False
    return is_person(row) if label == "people" else "obsoleted_by" not in row


def is_person(row: dict[str, object]) -> bool:
    """Say whether an emoji of people is the one form that is kept of it."""
    code = str(row["unified"])
    return (
        row["subcategory"] != "person-symbol"
        and not any(sign in code.split("-") for sign in VARIANT_SIGNS)
        and not code.startswith(GENDERED_STARTS)
        and code not in GENDERED
    )


def distinct(emoji: Iterable[Emoji]) -> Iterator[Emoji]:
    """Leave out emoji that share a picture with one before them."""
    seen: set[bytes] = set()
    for one in emoji:
        if seen.isdisjoint(one.pictures()):
            yield one
        seen |= one.pictures()


def copied(emoji: Emoji, folder: Path, place: str) -> list[tuple[str, str]]:
    """Copy an emoji's pictures and return their rows of the table."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    names = [f"{place}/{emoji.code}-{style}.png" for style in STYLES]
    for file, name in zip(emoji.files, names, strict=True):
        shutil.copyfile(file, folder / name)
    return [(name, emoji.code) for name in names]


if __name__ == "__main__":
    main()
