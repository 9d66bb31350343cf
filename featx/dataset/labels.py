"""Labels from a table, for images whose codes exist.

The facts about a store's images and a table come in; the facts with the labels, splits and
groups of the table go out, and notes about rows and images without a match. This module does
not change the store: labels change more often than codes.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from featx.errors import FitError, OptionError
from featx.secrets import without_secrets
from featx.store import ImageTable
from featx.tables import Row, Table, TableSource, TableUse, open_table
from featx.text import composed, counted, quoted, quoted_list, storable

__all__ = ["LabelSettings", "check_columns", "relabel"]

_USE = TableUse("--labels", FitError, OptionError)


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """A table with labels for the images of stores.

    Parameters
    ----------
    labels : Path, str, DataFrame or mapping of str to sequence, optional
        A table with labels, splits or groups by image path, instead of those of the store: a
        CSV or Parquet file, or columns in memory.
    path_column : str, optional
        Column of paths in that table.
    label_column, split_column, group_column : str, optional
        Other columns of that table.
    """

    labels: TableSource | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None


def check_columns(settings: LabelSettings) -> None:
    """Refuse names of columns without a table.

    Raises
    ------
    OptionError
        A column is named, but there is no table.
    """
    names = [getattr(settings, f"{role}_column") for role in ("path", "label", "split", "group")]
    if settings.labels is None and any(names):
        message = (
            "--path-column, --label-column, --split-column and --group-column name columns of a "
            "table. Use them with --labels TABLE."
        )
        raise OptionError(message)


def relabel(images: ImageTable, settings: LabelSettings) -> tuple[ImageTable, list[str]]:
    r"""Take the labels of images from a table, joined by path.

    Paths are compared after "\" is replaced by "/" and a leading "./" is removed, by their
    characters and then in Unicode's form NFC, in which names that look the same are equal. If no
    path matches, the folder that all paths of the table share is removed, provided that every row
    or every image then has a match; a note reports it. File names alone never match.

    Parameters
    ----------
    images : ImageTable
        Facts about the images of a store.
    settings : LabelSettings
        The table and its columns. The column of labels is by default label, or else the only
        other column. If the table has no column of splits or groups, the images keep theirs.

    Returns
    -------
    images : ImageTable
        New facts, or the same if there is no table. Labels are text as in the table, without
        spaces around it: "1" and "01" are two classes, and "NA" is one. A column of whole
        numbers with a decimal point, as pandas writes integers with gaps, is read as integers.
        Empty cells and images without a row give None.
    notes : list of str
        Notes for the user: a column that was chosen, a folder that was removed, rows and
        images without a match.

    Raises
    ------
    OptionError
        The table or a named column does not exist, a column is named without a table, or the
        column of labels is not clear.
    FitError
        The table cannot be read, contradicts itself, has an unknown split, or matches no
        image.

    Examples
    --------
    >>> names = np.array(["cats/1.jpg", "cats/2.jpg"], dtype=object)
    >>> images = ImageTable(*[names] * 8)
    >>> table = {"path": ["cats/1.jpg", "cats/2.jpg"], "label": ["tabby", "siamese"]}
    >>> images, notes = relabel(images, LabelSettings(labels=table))
    >>> images.label.tolist(), notes
    (['tabby', 'siamese'], [])
    """
    check_columns(settings)
    if settings.labels is None:
        return images, []
    table = open_table(settings.labels, _USE, settings.path_column)
    columns = _columns(table, settings)
    rows = _by_key(table, table.rows(columns))
    keys = [_key(path) for path in images.path]
    folder = _shared_folder(table, rows, keys)
    rows = _in_form_of({path.removeprefix(folder): row for path, row in rows.items()}, keys)
    found = [rows.get(key) for key in keys]
    if not any(row and row.facts["label"] for row in found):
        table.refuse(
            f" has no label for any of the images: the column {quoted(columns['label'])} is empty "
            "in their rows. Fill it in, or name another column: --label-column NAME"
        )
    facts = {
        role: np.array([row and row.facts[role] for row in found], dtype=object) for role in columns
    }
    known = set(keys)
    unused = [folder + path for path in rows if path not in known]
    without = [path for path, key in zip(images.path, keys, strict=True) if key not in rows]
    notes = [*table.notes, *_unmatched(table.title, unused, without)]
    return dataclasses.replace(images, **facts), notes


def _columns(table: Table, settings: LabelSettings) -> dict[str, str]:
    """Return the column of each role; add a note if the column of labels is a guess."""
    named = {role: getattr(settings, f"{role}_column") for role in ("label", "split", "group")}
    paths, columns = table.paths, table.role_columns(named)
    if "label" not in columns:
        # A column without a name has the index of pandas.
        known = {each.casefold() for each in (paths, *_USE.path_columns, *columns.values(), "")}
        others = [name for name in table.names if name.casefold() not in known]
        if len(others) != 1:
            table.refuse(
                f" has no column 'label'. Its columns are {table.columns_in_words()}. Name the "
                "column of labels: --label-column NAME",
                OptionError,
            )
        columns["label"] = others[0]
        table.notes.append(
            f"Labels are read from the column {quoted(others[0])} of {table.title}. "
            "Use --label-column NAME for another one."
        )
    return columns


def _by_key(table: Table, rows: list[Row]) -> dict[str, Row]:
    """Return the rows by the path to compare; rows of one path must agree."""
    found: dict[str, Row] = {}
    for row in rows:
        before = found.setdefault(_key(row.path), row)
        for role, value in row.facts.items():
            if value != before.facts[role]:
                first, second = (
                    f"no {role}" if each is None else f"{role} {quoted(each)}"
                    for each in (before.facts[role], value)
                )
                table.refuse(
                    f" has {quoted(without_secrets(row.path))} twice: with {first} in "
                    f"{before.where}, and with {second} in {row.where}. Remove one of the rows."
                )
    return found


def _in_form_of(rows: dict[str, Row], keys: list[str]) -> dict[str, Row]:
    """Return rows by the keys of the images that have the same path, whatever its Unicode form."""
    own = set(keys)
    in_form = {composed(key): key for key in keys}
    same = {path: row for path, row in rows.items() if path in own}
    others = {
        in_form.get(composed(path), path): row for path, row in rows.items() if path not in own
    }
    return others | same


def _key(path: str) -> str:
    r"""Return a path for comparison: with "/", without "./".

    Examples
    --------
    >>> _key(r".\cats\1.jpg")
    'cats/1.jpg'
    """
    path = without_secrets(path)
    return PurePosixPath(storable(path).replace("\\", "/")).as_posix()


def _shared_folder(table: Table, rows: Collection[str], keys: list[str]) -> str:
    """Return the folder to remove from the paths of a table; add a note if there is one."""
    images = set(map(composed, keys))
    if not images.isdisjoint(map(composed, rows)):
        return ""
    common = os.path.commonprefix([row.split("/")[:-1] for row in rows])  # noqa: RUF071  of lists
    for n in range(1, len(common) + 1):
        shared = "/".join([*common[:n], ""])
        rest = {composed(row.removeprefix(shared)) for row in rows}
        # Some matches prove nothing: cats/1.jpg may be in train/ and in test/.
        if rest <= images or images <= rest:
            table.notes.append(
                f"Paths of {table.title} match without the folder {quoted(shared)} that they share."
            )
            return shared
    # Two paths of the same file name show best how the paths differ.
    ours = {PurePosixPath(key).name: key for key in keys}
    theirs = next((row for row in rows if PurePosixPath(row).name in ours), next(iter(rows)))
    return table.refuse(
        f" has no path of the store's images: it has {quoted(theirs)}, and the store has "
        f"{quoted(ours.get(PurePosixPath(theirs).name, keys[0]))}. Write the paths as in the store."
    )


def _unmatched(title: str, unused: list[str], without: list[str]) -> Iterator[str]:
    """Count the rows without an image, and the images without a row."""
    if unused:
        paths = counted(len(unused), f"path of {title} matches", f"paths of {title} match")
        yield f"{paths} no image of the store: {quoted_list(unused)}."
    if without:
        images = counted(len(without), "image has", "images have")
        yield f"{images} no row in {title}, and therefore no label: {quoted_list(without)}."
