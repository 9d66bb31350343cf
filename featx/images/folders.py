"""A folder tree to names: which entries are images, and what their folders mean.

A folder comes in; the relative paths of its images, and the label and split
that each path stands for, go out. The folder may be an archive, or on a server. This
file reads names alone: it opens no image and no table.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import ImagesError
from featx.images.tables import SPLIT_NAMES
from featx.images.urls import File, Url, names_below
from featx.text import quoted

__all__ = [
    "SUFFIXES",
    "TABLE_NAME",
    "Found",
    "Place",
    "is_image_name",
    "place_of",
    "search",
    "splits",
    "wrapping",
]

#: Endings of file names, in lower case, that make an entry an image.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp"),
    *(".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".avif", ".jp2"),
)

#: A table inside the tree, by the convention of Hugging Face's imagefolder.
TABLE_NAME = "metadata.csv"


@dataclass(frozen=True)
class Found:
    """What a folder tree holds, as relative paths with forward slashes, in no order."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """What the folders of a path stand for."""

    label: str | None
    split: str | None


def is_image_name(name: str) -> bool:
    """Say whether a name ends as those of images do.

    Examples
    --------
    >>> is_image_name("a/b.JPG"), is_image_name("a/b.heic")
    (True, False)
    """
    return name.lower().endswith(SUFFIXES)


def search(root: File) -> Found:
    """Walk a folder and all below it.

    Links are followed, except one to a folder that it lies in itself. Hidden
    entries and the leftovers of macOS's zip files are skipped.

    Raises
    ------
    ImagesError
        A folder cannot be read.
    """
    found = Found()
    if isinstance(root, Url):
        _sort(names_below(root), found)
        return found
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while waiting:
        prefix, ancestors = waiting.pop()
        for entry in _entries(root, prefix):
            path = prefix + entry.name
            if is_image_name(entry.name):  # whatever it is: reading it says what is wrong
                found.images.append(path)
            elif not _is_folder(entry):
                (found.tables if entry.name == TABLE_NAME else found.others).append(path)
            elif (real := _real(entry, ancestors[-1])) in ancestors:
                found.loops.append(path)
            else:
                waiting.append((f"{path}/", (*ancestors, real)))
    return found


def splits(images: Iterable[str]) -> bool:
    """Say whether the first folders of the paths are splits rather than classes.

    They are if one that is called like a split holds folders and no images, or
    if there is no other folder. So a class may be called train, among others.

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
    """Return the one folder that wraps all others, as where a folder was archived with its name.

    Examples
    --------
    >>> wrapping(Found(images=["photos/cat/1.jpg", "photos/dog/1.jpg"]))
    'photos'
    >>> wrapping(Found(images=["cat/1.jpg", "cat/2.jpg"]))
    """
    paths = [*found.images, *found.tables]
    tops = {path.partition("/")[0] for path in paths}
    wrapped = bool(found.images) and all(path.count("/") >= 2 for path in found.images)
    if len(tops) != 1 or not wrapped or (top := tops.pop()).lower() in SPLIT_NAMES:
        return None
    return top


def place_of(path: str, by_split: bool) -> Place | None:
    """Return what a path's folders stand for, or None if it lies beside the splits.

    Examples
    --------
    >>> place_of("valid/cat/siamese/1.jpg", by_split=True)
    Place(label='cat', split='val')
    """
    folders = path.split("/")[:-1]
    if not folders or folders[0] in ("", ".."):  # a table may name files outside of the tree
        return Place(None, None)
    if not by_split:
        return Place(folders[0], None)
    split = SPLIT_NAMES.get(folders[0].lower())
    if split is None:
        return None
    return Place(folders[1] if len(folders) > 1 else None, split)


def _sort(names: Iterable[str], found: Found) -> None:
    """Put the names of a listing, which has no folders and no links, where they belong."""
    for path in names:
        parts = path.split("/")
        if any(part.startswith(".") or part in ("", "__MACOSX") for part in parts):
            continue
        name = parts[-1]
        kind = found.tables if name == TABLE_NAME else found.others
        (found.images if is_image_name(name) else kind).append(path)


def _entries(root: Path, prefix: str) -> list["os.DirEntry[str]"]:
    """Return what one folder holds, without what nobody put there on purpose."""
    try:
        with os.scandir(root / prefix) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name != "__MACOSX"]
    except OSError as error:
        message = (
            f"Folder {quoted(root / prefix)} cannot be read: {error.strerror}. Expected a folder "
            f"that you may read: ls -ld {quoted(root / prefix)} shows who may."
        )
        raise ImagesError(message) from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Say whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _real(entry: "os.DirEntry[str]", parent: str) -> str:
    """Return a folder's path without links, given that of the folder it lies in."""
    return os.path.realpath(entry.path) if entry.is_symlink() else f"{parent}/{entry.name}"
