"""The list of images: a folder, one image or a manifest to ordered records.

A path comes in; records with stored path, label, split and group go out, and
notes on what was left out. The order is the same on every machine. This file
opens tables but no image: one that cannot be read stays in the list, so that
its row can say why.

Three ways to say what images are:

* folders: CLASS/…, or train/CLASS/… beside val/ and test/; folders below a
  class belong to it;
* metadata.csv, anywhere inside the folder, with columns file_name (relative to
  the table) and any of label, split, group: a cell that is filled in wins over
  the folders and over tables further up;
* a manifest, with columns path (or file_name), label, split, group: the list
  as it stands.

Folders and images may lie in a zip or tar file, or on a server; see `featx.images.urls`.
"""

import dataclasses
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from featx.errors import ImagesError, OptionError
from featx.images import notes
from featx.images.folders import (
    SUFFIXES,
    Found,
    Place,
    is_image_name,
    place_of,
    search,
    splits,
    wrapping,
)
from featx.images.records import ImageRecord, Listing
from featx.images.tables import Row, read_table
from featx.images.urls import File, Url, as_file, as_folder, as_typed, check_file
from featx.text import counted, quoted

__all__ = ["list_images"]


def list_images(
    images: Path | str = "data",
    *,
    manifest: Path | str | None = None,
    group: str | None = None,
) -> Listing:
    """List images with what is known about them.

    Parameters
    ----------
    images : Path or str, default="data"
        A folder, an archive, or one image file; or the URL of one of these. Not looked at
        if there is a manifest.
    manifest : Path or str or None, default=None
        A CSV table; its paths are relative to the folder it lies in, or URLs.
    group : str or None, default=None
        A regular expression, searched in each stored path. The group is what
        its first parentheses catch, or all that matches if it has none; images
        without a match have no group, whatever a table says.

    Returns
    -------
    Listing
        Records sorted by path, or in the order of the manifest, and notes.

    Raises
    ------
    ImagesError
        There is nothing to list, a table cannot be read, or no path matches
        `group`.
    OptionError
        `group` is no regular expression, or a URL is of a kind that cannot be read here.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "cat").mkdir()
    ...     (Path(folder) / "cat" / "tom.jpg").touch()
    ...     record = list_images(folder).records[0]
    >>> record.path, record.label
    ('cat/tom.jpg', 'cat')
    """
    pattern = None if group is None else _compiled(group)
    listing = _from_folder(as_file(images)) if manifest is None else _from_manifest(Path(manifest))
    if pattern is not None:
        listing = _regrouped(listing, pattern)
    return dataclasses.replace(listing, notes=(*listing.notes, *notes.unlabelled(listing.records)))


# manifests


def _from_manifest(manifest: Path) -> Listing:
    """List the rows of a table."""
    root = manifest.parent
    records = (_listed(root, row) for row in read_table(manifest, ("path", "file_name")))
    return Listing(root, tuple(records), ())


def _listed(root: Path, row: Row) -> ImageRecord:
    """Make a record of a row; a URL is stored as it stands there."""
    file = check_file(as_file(row.path, root))
    path = row.path if isinstance(file, Url) else Path(row.path).as_posix()
    return ImageRecord(path, file, row.label, row.split, row.group)


def _record(root: File, path: str, place: Place, group: str | None) -> ImageRecord:
    """Make a record; an absolute path stays as it is."""
    return ImageRecord(path, root / path, place.label, place.split, group)


# folders


def _from_folder(root: File) -> Listing:
    """List a folder, or one image."""
    root = as_folder(check_file(root))
    if isinstance(root, Url):
        if is_image_name(root.inside.name):
            return Listing(Path(), (ImageRecord(root.text, root, None, None, None),), ())
    elif not _is_folder(root):
        return _from_file(root)
    found = search(root)
    if isinstance(root, Url) and root.is_archive and (top := wrapping(found)):
        listing = _from_folder(root / top)
        note = (
            f"All of {quoted(as_typed(root))} lies in its folder {quoted(top)}, whose folders are "
            "classes."
        )
        return dataclasses.replace(listing, notes=(note, *listing.notes))
    facts = _facts(root, found.tables)
    if not found.images and not facts:
        raise ImagesError(_nothing(root, found))
    by_split = splits(found.images)
    records: list[ImageRecord] = []
    beside: Counter[str] = Counter()
    for path in sorted({*found.images, *facts}):  # by code points, whatever the locale
        place, fact = place_of(path, by_split), facts.get(path)
        if place is None and fact is None:
            beside[path.partition("/")[0]] += 1
        else:
            records.append(_joined(root, path, place or Place(None, None), fact))
    said = (
        notes.beside(beside),
        notes.merged(found.images) if by_split else [],
        notes.unlisted(found, facts),
        notes.without_images(found, by_split),
        notes.loops(found),
    )
    return Listing(root, tuple(records), tuple(chain.from_iterable(said)))


def _joined(root: File, path: str, place: Place, fact: Row | None) -> ImageRecord:
    """Make a record of what folders and tables say."""
    if fact is None:
        return _record(root, path, place, None)
    place = Place(fact.label or place.label, fact.split or place.split)
    return _record(root, path, place, fact.group)


def _is_folder(path: Path) -> bool:
    """Say whether a path is a folder, unless nobody may know."""
    try:
        return path.is_dir()
    except OSError as error:
        message = (
            f"{quoted(path)} cannot be looked at: {error.strerror}. Expected a folder of images "
            f"that you may read: ls -ld {quoted(path.parent)} shows who may."
        )
        raise ImagesError(message) from error


def _from_file(file: Path) -> Listing:
    """List one image."""
    if file.suffix.lower() in (".csv", ".tsv") and file.exists():
        message = f"{quoted(file)} is a table, not a folder. Use --manifest {quoted(file)}."
        raise ImagesError(message)
    if not is_image_name(file.name) and file.exists():
        message = (
            f"{quoted(file)} is not called like an image. Expected a folder, or a file ending in "
            f"{' '.join(SUFFIXES)}. Rename it, or list it in a table: --manifest FILE.csv"
        )
        raise ImagesError(message)
    if not file.exists():
        message = (
            f"No folder {quoted(file)}. Expected a folder with a folder of images for each class, "
            "or one image. Give the path of yours, or a table: --manifest FILE.csv"
        )
        raise ImagesError(message)
    return Listing(file.parent, (ImageRecord(file.name, file, None, None, None),), ())


def _nothing(root: File, found: Found) -> str:
    """Say that a folder holds no image, and what it holds."""
    endings = Counter(os.path.splitext(path)[1].lower() for path in found.others)  # noqa: PTH122
    common = [ending for ending, _ in endings.most_common(3) if ending]
    received = f"; it holds {counted(len(found.others), 'other file')}" if found.others else ""
    received += f" ({', '.join(common)})" if common else ""
    return (
        f"No images in {quoted(root)}{received}. Expected files ending in {' '.join(SUFFIXES)}, in "
        "a folder for each class. Name another folder, or a table: --manifest FILE.csv"
    )


# metadata.csv


def _facts(root: File, tables: Iterable[str]) -> dict[str, Row]:
    """Return what the tables inside a tree say about each path; the deepest one wins."""
    facts: dict[str, Row] = {}
    for table in sorted(tables, key=lambda path: (path.count("/"), path)):
        lines: dict[str, int] = {}
        for row in read_table(root / table, ("file_name",)):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(table), row.path))
            if path in lines:
                message = (
                    f"Table {quoted(root / table)} has {quoted(row.path)} twice, in lines "
                    f"{lines[path]} and {row.line}. Remove one of them."
                )
                raise ImagesError(message)
            lines[path] = row.line
            facts[path] = _over(row, facts.get(path))
    return facts


def _over(row: Row, before: Row | None) -> Row:
    """Let a row win over one from further up, cell by cell."""
    if before is None:
        return row
    return dataclasses.replace(
        row,
        label=row.label or before.label,
        split=row.split or before.split,
        group=row.group or before.group,
    )


# groups


def _compiled(group: str) -> re.Pattern[str]:
    """Compile the pattern of groups."""
    try:
        return re.compile(group)
    except re.error as error:
        message = (
            f"{quoted(group)} is not a regular expression: {error}. Expected one that matches the "
            "part of a path that names the group, as --group '([^/]+)-[^/]*$'."
        )
        raise OptionError(message) from error


def _regrouped(listing: Listing, pattern: re.Pattern[str]) -> Listing:
    """Take groups from the paths."""
    records = tuple(
        dataclasses.replace(record, group=_group(record.path, pattern))
        for record in listing.records
    )
    without = [record.path for record in records if record.group is None]
    if len(without) == len(records):
        message = (
            f"No path matches --group {quoted(pattern.pattern)}; the first is {quoted(without[0])}. "
            "Expected a regular expression that is found in the paths as they are stored."
        )
        raise ImagesError(message)
    said = notes.unmatched(without)
    return dataclasses.replace(listing, records=records, notes=(*listing.notes, *said))


def _group(path: str, pattern: re.Pattern[str]) -> str | None:
    """Return the group that a path names; an empty match is none."""
    match = pattern.search(path)
    return (match[1 if pattern.groups else 0] or None) if match else None
