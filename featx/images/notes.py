"""Notes for the user about what a listing left out or merged.

The names in a folder and the listed images come in; lists of sentences go out, empty if there
is nothing to report. This module makes no decisions.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from featx.images.folders import TABLE_NAME, Found
from featx.images.records import ImageRecord
from featx.tables import SPLIT_NAMES
from featx.text import counted, quoted, quoted_list

__all__ = [
    "loops",
    "merged",
    "next_to_splits",
    "unlabelled",
    "unlisted",
    "unmatched",
    "without_images",
]


def next_to_splits(folders: Counter[str]) -> list[str]:
    """Name the folders next to the splits."""
    return [
        f"Folder {quoted(name)} is next to the folders of splits and was left out: "
        f"{counted(number, 'image')}."
        for name, number in sorted(folders.items())
    ]


def merged(images: Iterable[str]) -> list[str]:
    """Name the folders that were merged into one split."""
    names: dict[str, set[str]] = {}
    for path in images:
        folder, slash, _ = path.partition("/")
        if slash and folder.lower() in SPLIT_NAMES:
            names.setdefault(SPLIT_NAMES[folder.lower()], set()).add(folder)
    return [
        f"Folders {quoted_list(sorted(folders))} were merged into the split {split}."
        for split, folders in sorted(names.items())
        if len(folders) > 1
    ]


def unlisted(found: Found, named: Container[str]) -> list[str]:
    """Count images that no table in their folder, or above it, names."""
    below = tuple(table.removesuffix(TABLE_NAME) for table in found.tables)
    missing = sorted(p for p in found.images if p not in named and p.startswith(below))
    if not missing:
        return []
    return [
        f"{counted(len(missing), 'image')} not in {TABLE_NAME}, so the folders give the label: "
        f"{quoted_list(missing, 1)}."
    ]


def without_images(found: Found, by_split: bool) -> list[str]:
    """Name class folders in which no file is an image."""
    depth = 2 if by_split else 1
    classes = {tuple(path.split("/")[:depth]) for path in found.images}
    others = Counter(
        parts[:depth]
        for path in found.others
        if len(parts := tuple(path.split("/"))) > depth
        and (not by_split or parts[0].lower() in SPLIT_NAMES)
    )
    return [
        f"Folder {quoted('/'.join(parts))} has no images and was left out: "
        f"{counted(number, 'other file')}."
        for parts, number in sorted(others.items())
        if parts not in classes
    ]


def unmatched(paths: Sequence[str]) -> list[str]:
    """Count images whose path does not match the pattern of groups."""
    if not paths:
        return []
    images = counted(len(paths), "image")
    return [f"{images} without a group, because --group does not match: {quoted_list(paths, 1)}."]


def loops(found: Found) -> list[str]:
    """Name links to a folder that contains them."""
    return [
        f"Link {quoted(path)} leads to a folder that contains it, and was not followed."
        for path in sorted(found.loops)
    ]


def unlabelled(records: Sequence[ImageRecord]) -> list[str]:
    """Count images without a label, if others have one."""
    without = [record.path for record in records if record.label is None]
    if not without or len(without) == len(records):
        return []
    images = f"{len(without):,} of {counted(len(records), 'image')}"
    return [f"{images} without a label: {quoted_list(without, 1)}."]
