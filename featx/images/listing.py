"""The list of images: a folder, one image or a manifest becomes ordered records.

A path or a table comes in; records with a stored path, label, split and group go out, and
notes on what was left out. The order is the same on every machine. This module reads tables
but opens no image: an image that cannot be read stays in the list, so that its row can give
the reason.

There are three ways to describe images:

* folders: CLASS/…, or train/CLASS/… next to val/ and test/. Folders below a class belong to
  it;
* metadata.csv, anywhere inside the folder, with a column file_name (relative to the table) and
  any of label, split, group. A filled cell takes precedence over the folders and over tables
  in folders above;
* a manifest with a column path and any of label, split, group: a CSV or Parquet file, a
  DataFrame or a dict of columns. Its rows are the list.

Folders and images may be in a zip or tar file, or on a server; see `featx.images.urls`.
"""

import dataclasses
import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import ImageError, ImagesError, OptionError
from featx.images import folders
from featx.images.urls import File, Url, as_file, as_folder, as_typed, check_file, read_file
from featx.secrets import without_secrets
from featx.tables import Row, Table, TableSource, TableUse, open_table, parse_table
from featx.text import composed, counted, quoted, quoted_list

__all__ = ["ImageRecord", "Listing", "list_images"]

_MANIFEST = TableUse("--manifest", ImagesError, ImagesError)
_METADATA = dataclasses.replace(_MANIFEST, path_columns=("file_name", "path"))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a listing.

    Parameters
    ----------
    path : str
        Path as it is stored: relative, with forward slashes; or a URL. Bytes that are not
        UTF-8 are kept as surrogates (`os.fsencode` restores them).
    file : Path or Url
        The file to read.
    label : str or None
        Class of the image, if it has one.
    split : {"train", "val", "test"} or None
        Split that the image belongs to, if there are splits.
    group : str or None
        Images of one group stay on the same side of any split.
    """

    path: str
    file: File
    label: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """All images of a folder or a table, in a fixed order.

    Parameters
    ----------
    root : Path or Url
        The folder that the paths of the records are relative to.
    records : tuple of ImageRecord
        The images: sorted by path, or in the order of the manifest.
    notes : tuple of str
        Notes for the user: what was left out or merged.
    """

    root: File
    records: tuple[ImageRecord, ...] = field(repr=False)
    notes: tuple[str, ...] = ()


def list_images(
    images: File | str = "data",
    *,
    manifest: TableSource | None = None,
    path_column: str | None = None,
    group: str | None = None,
    labelled: bool = True,
) -> Listing:
    """List images and what is known about them.

    Parameters
    ----------
    images : Path, Url or str, default="data"
        A folder, an archive or one image file, or the URL of one of these. Ignored if there
        is a manifest.
    manifest : Path, str, DataFrame or mapping of str to sequence, optional
        A table of images; see `featx.tables.open_table`. Its paths are relative to the folder
        of the file (or to the working directory, if the table is in memory), or URLs.
    path_column : str, optional
        The column of paths in the manifest or in metadata.csv. By default path or file_name.
    group : str, optional
        Regular expression that is searched in each stored path. Its first group, or else the
        whole match, is the group of the image. Images without a match have no group, even if
        a table gives them one.
    labelled : bool, default=True
        If False, list every image of the folder: names of folders mean nothing, and there are no
        labels, splits and groups.

    Returns
    -------
    Listing
        Records sorted by path, or in the order of the manifest, and notes.

    Raises
    ------
    ImagesError
        There are no images, a table cannot be read, or no path matches `group`.
    OptionError
        `group` is not a regular expression, the column `path_column` does not exist, or URLs
        of this kind cannot be read here.

    Examples
    --------
    >>> record = list_images(manifest={"path": ["cat/tom.jpg"], "label": ["cat"]}).records[0]
    >>> record.path, record.label
    ('cat/tom.jpg', 'cat')
    """
    pattern = None if group is None else _compiled(group)
    if manifest is not None:
        listing = _from_manifest(manifest, path_column)
    else:
        listing = _from_folder(as_file(images), path_column, labelled)
    if not labelled:
        own = (ImageRecord(each.path, each.file) for each in listing.records)
        return dataclasses.replace(listing, records=tuple(own))
    if pattern is not None:
        listing = _regrouped(listing, pattern)
    without = [record.path for record in listing.records if record.label is None]
    if len(without) in (0, len(listing.records)):
        return listing
    images = f"{len(without):,} of {counted(len(listing.records), 'image')}"
    return _noted(listing, f"{images} without a label: {quoted_list(without, 1)}.")


def _noted(listing: Listing, note: str) -> Listing:
    return dataclasses.replace(listing, notes=(*listing.notes, note))


def _from_manifest(manifest: TableSource, path_column: str | None) -> Listing:
    """List the rows of a table."""
    root = Path(manifest).parent if isinstance(manifest, str | os.PathLike) else Path()
    table = open_table(manifest, _MANIFEST, path_column)
    rows = table.rows(table.role_columns())
    names: dict[Path, dict[str, str]] = {}
    return Listing(root, tuple(_listed(root, row, names) for row in rows), tuple(table.notes))


def _listed(root: Path, row: Row, names: dict[Path, dict[str, str]]) -> ImageRecord:
    """Make a record of a row; a URL is stored without its secrets."""
    file = check_file(as_file(row.path, root))
    if isinstance(file, Url):
        return ImageRecord(without_secrets(row.path), file, **row.facts)
    path = row.path
    if "\\" in path and not os.path.lexists(file):  # on Linux, a name may contain a backslash
        path = path.replace("\\", "/")
        file = as_file(path, root)
    if isinstance(file, Path) and not path.isascii() and not os.path.lexists(file):
        file = _in_form_on_disk(file, names)
    return ImageRecord(Path(path).as_posix(), file, **row.facts)


def _in_form_on_disk(file: Path, names: dict[Path, dict[str, str]]) -> Path:
    """Return the file whose path is equal in Unicode's form NFC, if there is one.

    `names` keeps the names in each folder that was read, by their NFC.
    """
    found = Path(file.anchor)
    for part in file.parts[1:] if file.anchor else file.parts:
        if os.path.lexists(found / part):
            found /= part
            continue
        if found not in names:
            readable = found.is_dir() and os.access(found, os.R_OK)
            inside = [each.name for each in found.iterdir()] if readable else []
            names[found] = {composed(name): name for name in inside}
        if composed(part) not in names[found]:
            return file
        found /= names[found][composed(part)]
    return found


# folders


def _from_folder(root: File, path_column: str | None, labelled: bool) -> Listing:
    """List a folder, or one image."""
    root = as_folder(check_file(root))
    if isinstance(root, Url):
        if folders.is_image_name(root.inside.name):
            return Listing(Path(), (ImageRecord(str(root), root),))
    elif not _is_folder(root):
        return _from_file(root)
    found = folders.search(root)
    is_archive = isinstance(root, Url) and root.archive and not root.name
    if is_archive and (top := folders.wrapping(found)):
        listing = _from_folder(root / top, path_column, labelled)
        note = (
            f"All files of {quoted(as_typed(root))} are in its folder {quoted(top)}. The folders "
            "inside it are the classes."
        )
        return dataclasses.replace(listing, notes=(note, *listing.notes))
    if path_column is not None and not found.tables:
        message = (
            f"--path-column {path_column} names a column of a table, but there is no table in "
            f"{quoted(as_typed(root))}. Use it with --manifest TABLE."
        )
        raise OptionError(message)
    facts, table_notes = _facts(root, found, path_column)
    if not found.images and not facts:
        raise ImagesError(_no_images(root, found))
    by_split = labelled and folders.splits(found.images)
    records = []
    for path in sorted({*found.images, *facts}):  # by code points, in every locale
        of_folders = folders.label_and_split(path, by_split)
        if of_folders is not None or path in facts:
            label, split = of_folders or (None, None)
            own = {"label": label, "split": split} | facts.get(path, {})
            records.append(ImageRecord(path, root / path, **own))
    notes = (*table_notes, *folders.tree_notes(found, by_split, facts))
    return Listing(root, tuple(records), notes)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        message = (
            f"{quoted(path)} cannot be read: {error.strerror}. Check the permissions of its "
            f"folder: ls -ld {quoted(path.parent)}"
        )
        raise ImagesError(message) from error


def _from_file(file: Path) -> Listing:
    """List one image."""
    if not file.exists():
        message = (
            f"Folder {quoted(file)} does not exist. Use a folder that contains a folder of images "
            "for each class, one image, or a table: --manifest FILE.csv"
        )
    elif file.suffix.lower() in (".csv", ".tsv", ".parquet"):
        message = f"{quoted(file)} is a table, not a folder. Use --manifest {quoted(file)}."
    elif not folders.is_image_name(file.name):
        message = (
            f"{quoted(file)} does not have the name of an image. Use a folder or a file ending in "
            f"{' '.join(folders.SUFFIXES)}, or list the file in a table: --manifest FILE.csv"
        )
    else:
        return Listing(file.parent, (ImageRecord(file.name, file),))
    raise ImagesError(message)


def _no_images(root: File, found: folders.Found) -> str:
    """Return the message that a folder has no images, with what it has."""
    others = found.others
    received = f"; it has {counted(len(others), 'other file')}" if others else ""
    received += f" ({folders.by_ending(others)})" if others else ""
    return (
        f"No images in {quoted(root)}{received}. Use a folder with files ending in "
        f"{' '.join(folders.SUFFIXES)}, or a table: --manifest FILE.csv"
    )


# metadata.csv


def _facts(
    root: File, found: folders.Found, path_column: str | None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the facts about each path in the tables of a tree, and their notes.

    The table in the deepest folder takes precedence, cell by cell.
    """
    images = set(found.images)
    in_form = {composed(path): path for path in found.images}
    facts: dict[str, dict[str, str]] = {}
    table_notes: list[str] = []
    for name in sorted(found.tables, key=lambda path: (path.count("/"), path)):
        table = _open_metadata(root / name, path_column)
        before: dict[str, Row] = {}
        for row in table.rows(table.role_columns()):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), row.path))
            if "\\" in path and path not in images:
                path = posixpath.normpath(path.replace("\\", "/"))
            if path not in images:  # its letters may be in another Unicode form
                path = in_form.get(composed(path), path)
            if path in before:
                table.refuse(
                    f" has {quoted(row.path)} twice, in {before[path].where} and {row.where}. "
                    "Remove one of them."
                )
            before[path] = row
            filled = {role: value for role, value in row.facts.items() if value is not None}
            facts[path] = facts.get(path, {}) | filled
        table_notes += table.notes
    return facts, table_notes


def _open_metadata(file: File, path_column: str | None) -> Table:
    table = Table(f"table {quoted(file)}", _METADATA, path_column)
    try:
        return parse_table(table, read_file(file))
    except ImageError as error:
        table.refuse(f" cannot be read: {error}.")


# groups


def _compiled(group: str) -> re.Pattern[str]:
    try:
        return re.compile(group)
    except re.error as error:
        message = (
            f"--group {quoted(group)} is not a regular expression: {error}. Use one that matches "
            "the part of a path that names the group, such as --group '([^/]+)-[^/]*$'."
        )
        raise OptionError(message) from error


def _regrouped(listing: Listing, pattern: re.Pattern[str]) -> Listing:
    """Take the groups from the paths."""
    records = tuple(
        dataclasses.replace(record, group=_group(record.path, pattern))
        for record in listing.records
    )
    without = [record.path for record in records if record.group is None]
    if len(without) == len(records):
        message = (
            f"No path matches --group {quoted(pattern.pattern)}. The first path is "
            f"{quoted(without[0])}. Use a regular expression that occurs in the stored paths."
        )
        raise ImagesError(message)
    listing = dataclasses.replace(listing, records=records)
    if not without:
        return listing
    images = f"{counted(len(without), 'image')} without a group"
    note = f"{images}, because --group does not match: {quoted_list(without, 1)}."
    return _noted(listing, note)


def _group(path: str, pattern: re.Pattern[str]) -> str | None:
    """Return the group that a path names; an empty match gives none."""
    match = pattern.search(path)
    found = match[1 if pattern.groups else 0] if match else None
    return composed(found) if found else None
