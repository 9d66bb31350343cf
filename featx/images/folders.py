"""Names in a folder tree: which files are images, and what their folders mean.

A folder, an archive or the URL of one comes in; the relative paths of its images, the label and
split of each path, and notes on what is left out go out. This module only reads names: it opens
no image and no table.
"""

import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import ImagesError
from featx.images.heic import HEIC_SUFFIXES, INSTALL_HEIC, can_decode_heic
from featx.images.urls import File, Url, names_below
from featx.tables import SPLIT_NAMES
from featx.text import composed, counted, ending, quoted, quoted_list

__all__ = [
    "SUFFIXES",
    "TABLE_NAME",
    "Found",
    "by_ending",
    "is_image_name",
    "label_and_split",
    "search",
    "splits",
    "tree_notes",
    "wrapping",
]

#: Endings of image files, in lower case.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
    *(".jp2", ".j2k", ".jpc", ".jpx", ".tga", ".ico", *HEIC_SUFFIXES),
)

_ENDINGS_SHOWN = 20

#: Name of a table inside the tree, as in Hugging Face's imagefolder.
TABLE_NAME = "metadata.csv"


@dataclass(frozen=True)
class Found:
    """Contents of a folder tree, as relative paths with forward slashes, in no order."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Add a file by its name."""
        name = path.rpartition("/")[2]
        others = self.tables if name == TABLE_NAME else self.others
        (self.images if is_image_name(name) else others).append(path)


def is_image_name(name: str) -> bool:
    """Return whether a file name ends like that of an image.

    Examples
    --------
    >>> is_image_name("a/b.JPG"), is_image_name("a/b.txt")
    (True, False)
    """
    return name.lower().endswith(SUFFIXES)


def search(root: File) -> Found:
    """Walk a folder and all folders below it.

    Links are followed, except a link to a folder that contains it. Hidden entries and the
    `__MACOSX` folders of zip files are skipped.

    Raises
    ------
    ImagesError
        A folder cannot be read.
    """
    found = Found()
    if isinstance(root, Url):  # its listing has files only
        for path in names_below(root):
            if not any(map(_is_skipped, path.split("/"))):
                found.add(path)
        return found
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while waiting:
        prefix, ancestors = waiting.pop()
        for entry in _entries(root, prefix):
            path = prefix + entry.name
            # A folder called like an image is listed, so that its row can give the reason.
            if is_image_name(entry.name) or not _is_folder(entry):
                found.add(path)
                continue
            parent = ancestors[-1]
            real = os.path.realpath(entry) if entry.is_symlink() else f"{parent}/{entry.name}"
            if real in ancestors:
                found.loops.append(path)
            else:
                waiting.append((f"{path}/", (*ancestors, real)))
    return found


def splits(images: Iterable[str]) -> bool:
    """Return whether the first folders of the paths are splits, not classes.

    They are splits if one with the name of a split contains folders and no images, or if
    all of them have names of splits. So a class among others may be called train.

    Examples
    --------
    >>> splits(["train/cat/1.jpg", "test/2.jpg", "notes/3.jpg"])
    True
    >>> splits(["train/1.jpg", "car/2.jpg"])
    False
    """
    depths: dict[str, set[int]] = {}
    for path in images:
        first, slash, rest = path.partition("/")
        if slash:
            depths.setdefault(first, set()).add(min(rest.count("/"), 1))
    named = [depths[name] for name in depths if name.lower() in SPLIT_NAMES]
    return bool(named) and (len(named) == len(depths) or {1} in named)


def wrapping(found: Found) -> str | None:
    """Return the one folder that contains all others, as in an archive of a folder.

    Examples
    --------
    >>> wrapping(Found(images=["photos/cat/1.jpg", "photos/dog/1.jpg"]))
    'photos'
    >>> wrapping(Found(images=["cat/1.jpg", "cat/2.jpg"]))
    """
    tops = {path.partition("/")[0] for path in (*found.images, *found.tables)}
    wrapped = bool(found.images) and all(path.count("/") >= 2 for path in found.images)
    if len(tops) != 1 or not wrapped or (top := tops.pop()).lower() in SPLIT_NAMES:
        return None
    return top


def label_and_split(path: str, by_split: bool) -> tuple[str | None, str | None] | None:
    """Return the label and the split that a path means, or None if it is next to the splits.

    The label is in Unicode's form NFC, so that one class has one name.

    Examples
    --------
    >>> label_and_split("valid/cat/siamese/1.jpg", by_split=True)
    ('cat', 'val')
    >>> label_and_split("cafe\u0301/1.jpg", by_split=False) == ("caf\u00e9", None)
    True
    """
    folders = path.split("/")[:-1]
    if not folders or folders[0] in ("", ".."):  # a table may name files outside the tree
        return None, None
    if not by_split:
        return composed(folders[0]), None
    split = SPLIT_NAMES.get(folders[0].lower())
    if split is None:
        return None
    return (composed(folders[1]) if len(folders) > 1 else None), split


def tree_notes(found: Found, by_split: bool, named: Container[str]) -> Iterator[str]:
    """Yield notes on what is left out or merged; tables give the paths in `named`."""
    beside = Counter(
        path.partition("/")[0]
        for path in found.images
        if path not in named and label_and_split(path, by_split) is None
    )
    for name, number in sorted(beside.items()):
        images = counted(number, "image")
        yield f"Folder {quoted(name)} is next to the folders of splits and was left out: {images}."
    tops = sorted({path.partition("/")[0] for path in found.images if "/" in path})
    for split in sorted(set(SPLIT_NAMES.values())):
        merged = [name for name in tops if SPLIT_NAMES.get(name.lower()) == split]
        if by_split and len(merged) > 1:
            yield f"Folders {quoted_list(merged)} were merged into the split {split}."
    below = tuple(table.removesuffix(TABLE_NAME) for table in found.tables)
    if unlisted := sorted(p for p in found.images if p not in named and p.startswith(below)):
        yield (
            f"{counted(len(unlisted), 'image')} not in {TABLE_NAME}, so the folders give the "
            f"label: {quoted_list(unlisted, 1)}."
        )
    yield from _left_out(found, by_split)
    yield from _needing_heic(found)
    for path in sorted(found.loops):
        yield f"Link {quoted(path)} leads to a folder that contains it, and was not followed."


def _left_out(found: Found, by_split: bool) -> Iterator[str]:
    """Yield a note on each class folder in which no file is an image, and one on other files.

    Files that are next to the class folders, such as a licence, belong to no class: they count
    only if images are next to them.
    """
    depth = 2 if by_split else 1
    classes = {tuple(path.split("/")[:depth]) for path in found.images}
    tops = {path.partition("/")[0] if "/" in path else "" for path in found.images}
    elsewhere: list[str] = []
    lost: dict[tuple[str, ...], list[str]] = {}
    for path in found.others:
        parts = tuple(path.split("/"))
        in_class = len(parts) > depth and (not by_split or parts[0].lower() in SPLIT_NAMES)
        if in_class and parts[:depth] not in classes:
            lost.setdefault(parts[:depth], []).append(path)
        elif (parts[0] if len(parts) > 1 else "") in tops:
            elsewhere.append(path)
    for parts, paths in sorted(lost.items()):
        files = f"{counted(len(paths), 'other file')} ({by_ending(paths)})"
        yield f"Folder {quoted('/'.join(parts))} has no images and was left out: {files}."
    if elsewhere:
        files = counted(len(elsewhere), "file was left out", "files were left out")
        yield (
            f"{files}, because the name does not end like that of an image: "
            f"{by_ending(elsewhere)}. If these are images, rename them, or list them in a table: "
            "--manifest FILE.csv"
        )


def by_ending(paths: Iterable[str]) -> str:
    """Return how many files have each ending, the most frequent first.

    Examples
    --------
    >>> by_ending(["a/1.TXT", "a/2.txt", "a/Makefile", "a/1.jpg.1"])
    "2 '.txt', 1 '.1' and 1 without an ending"
    """
    counts = Counter(ending(path) for path in paths)
    ordered = sorted(counts.items(), key=lambda each: (-each[1], not each[0], each[0]))
    texts = [f"{n:,} {quoted(each) if each else 'without an ending'}" for each, n in ordered]
    shown = texts[:_ENDINGS_SHOWN]
    if rest := ordered[_ENDINGS_SHOWN:]:
        shown.append(f"{sum(n for _, n in rest):,} with {counted(len(rest), 'other ending')}")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _needing_heic(found: Found) -> Iterator[str]:
    """Yield a note on HEIC files if they cannot be decoded here."""
    number = sum(path.lower().endswith(HEIC_SUFFIXES) for path in found.images)
    if number and not can_decode_heic():
        yield (
            f"{counted(number, 'HEIC image')} cannot be decoded, because the package pillow-heif "
            f"is missing. Install it: {INSTALL_HEIC}"
        )


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in ("", "__MACOSX")


def _entries(root: Path, prefix: str) -> list["os.DirEntry[str]"]:
    """Return the entries of one folder that are not skipped."""
    try:
        with os.scandir(root / prefix) as entries:
            return [entry for entry in entries if not _is_skipped(entry.name)]
    except OSError as error:
        message = (
            f"Folder {quoted(root / prefix)} cannot be read: {error.strerror}. Check its "
            f"permissions: ls -ld {quoted(root / prefix)}"
        )
        raise ImagesError(message) from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a folder without permission
        return False
