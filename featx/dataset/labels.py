"""Labels from a table, for codes that are there already.

The facts of a store's images and a table come in; the same facts with the
table's labels, splits and groups go out, and sentences for the user about what
did not find its match. This file opens no store and no image, and changes
neither: labels change more often than codes.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from featx.errors import FitError, OptionError
from featx.store import ImageTable
from featx.tables import TextTable, open_table
from featx.text import counted, printable, quoted, quoted_list

__all__ = ["check_columns", "relabel"]

_PATH_COLUMNS = ("path", "file_name")
_ROLES = ("label", "split", "group")

# What featx extract takes for a split in a manifest; this room does not know that one.
_SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}

_NAMES_SHOWN = 5
_COLUMNS_SHOWN = 20  # an exported store has a column for each number of its codes


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a row says of an image."""

    label: str | None
    split: str | None
    group: str | None


def check_columns(table: Path | str | None, *columns: str | None) -> None:
    """Make sure that names of columns come with a table.

    Raises
    ------
    OptionError
        There is a name, and no table.
    """
    if table is None and any(columns):
        message = (
            "--label-column, --split-column and --group-column name columns of a table. Use them "
            "with --labels TABLE."
        )
        raise OptionError(message)


def relabel(
    images: ImageTable,
    table: Path | str,
    *,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> tuple[ImageTable, list[str]]:
    r"""Take the labels of images from a table, joined by path.

    Paths are compared as the store has them, after "\" became "/" and a
    leading "./" was dropped. Where no path is found like that, one folder that
    stands before all of the table's paths is left out, if then every row finds
    an image or every image a row; a note says so. Nothing is ever matched by
    the name of a file alone.

    Parameters
    ----------
    images : ImageTable
        The facts of a store's images.
    table : Path or str
        CSV in UTF-8, with commas and a head; with tabs if its name ends in
        .tsv; or NAME.parquet. It has a column path (or file_name).
    label_column : str, optional
        Column of labels. By default label or, without one, the only column
        beside path, split and group.
    split_column, group_column : str, optional
        Columns of splits and groups. By default split and group; what the
        table does not have, the images keep.

    Returns
    -------
    images : ImageTable
        New facts. Labels are text as it stands in the table, so that "1" and
        "01" are two classes and "NA" is one; without spaces around it. Empty
        cells and images without a row give None.
    notes : list of str
        Sentences for the user: a column that was chosen, a folder that was
        left out, rows and images without a match.

    Raises
    ------
    OptionError
        There is no such table or column, or none that is sure to be the labels.
    FitError
        The table cannot be read, contradicts itself, has a split that featx
        does not know, or matches no image.

    Examples
    --------
    >>> import tempfile
    >>> names = np.array(["cats/1.jpg", "cats/2.jpg"], dtype=object)
    >>> images = ImageTable(*[names] * 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "table.csv"
    ...     rows = ["path,label", "cats/1.jpg,tabby", "cats/2.jpg,siamese"]
    ...     _ = table.write_text("\n".join(rows), encoding="utf-8")
    ...     images, notes = relabel(images, table)
    >>> images.label.tolist(), notes
    (['tabby', 'siamese'], [])
    """
    opened = open_table(Path(table))
    path = next((name for name in _PATH_COLUMNS if name in opened.names), None)
    if path is None:
        raise FitError(_no_paths(opened))
    named = {"label": label_column, "split": split_column, "group": group_column}
    columns, chosen = _choose(opened, path, named)
    rows = _read(opened, path, columns)
    keys = [_key(name) for name in images.path]
    before, moved = _match(opened.file, rows, keys)
    rows = {name.removeprefix(before): facts for name, facts in rows.items()}
    found = [rows.get(key) for key in keys]
    if not any(facts and facts.label is not None for facts in found):
        message = (
            f"No image gets a label from table {quoted(opened.file)}: their cells in the column "
            f"{quoted(columns['label'])} are empty. Fill them in, or name another column: "
            "--label-column NAME"
        )
        raise FitError(message)
    new = {
        role: _column(found, role) if role in columns else getattr(images, role) for role in _ROLES
    }
    joined = dataclasses.replace(images, label=new["label"], split=new["split"], group=new["group"])
    every = set(keys)
    over = [before + name for name in rows if name not in every]
    bare = [path for path, key in zip(images.path, keys, strict=True) if key not in rows]
    return joined, [*chosen, *moved, *_unmatched(opened.file, over, bare)]


# columns


def _no_paths(table: TextTable) -> str:
    """Say that no column holds paths, and what may be the reason."""
    mark, others = ("tabs", ",;|") if table.file.suffix.lower() == ".tsv" else ("commas", ";\t|")
    other = next((other for other in others if any(other in name for name in table.names)), None)
    hint = f" Separate the columns with {mark}, not {other!r}." if other else ""
    return (
        f"Table {quoted(table.file)} has no column path: its columns are "
        f"{quoted_list(table.names, _COLUMNS_SHOWN)}. Expected a head with path (or file_name) and "
        f"label.{hint}"
    )


def _choose(
    table: TextTable, path: str, named: dict[str, str | None]
) -> tuple[dict[str, str], list[str]]:
    """Return the name of each role's column, for those that there are, and what was guessed."""
    given = {role: name for role, name in named.items() if name is not None}
    for role, name in given.items():
        if name not in table.names:
            message = (
                f"Table {quoted(table.file)} has no column {quoted(name)}: its columns are "
                f"{quoted_list(table.names, _COLUMNS_SHOWN)}. Use --{role}-column with one of them."
            )
            raise OptionError(message)
    # A column called split that an option names as the labels is not the splits as well.
    taken = set(given.values())
    usual = {role: role for role in _ROLES if role in table.names and role not in taken}
    columns, notes = {**usual, **given}, []
    if "label" not in columns:
        known = {*_PATH_COLUMNS, *_ROLES, *taken, ""}  # "": row numbers, as pandas saves them
        others = [name for name in table.names if name not in known]
        if len(others) != 1:
            message = (
                f"Table {quoted(table.file)} has no column label: its columns are "
                f"{quoted_list(table.names, _COLUMNS_SHOWN)}. Say which holds the labels: "
                "--label-column NAME"
            )
            raise OptionError(message)
        columns["label"] = others[0]
        notes.append(
            f"Labels are taken from the column {quoted(others[0])} of {quoted(table.file)}; "
            "--label-column NAME takes another."
        )
    for name in (path, *columns.values()):
        if table.names.count(name) > 1:
            message = f"Table {quoted(table.file)} has the column {quoted(name)} twice. Remove one of them."
            raise FitError(message)
    return columns, notes


# rows


def _read(table: TextTable, path: str, columns: dict[str, str]) -> dict[str, _Facts]:
    """Return what the table says of each path, under its key."""
    paths = table.cells(table.names.index(path))
    facts: dict[str, list[str | None]] = {role: [None] * len(paths) for role in _ROLES}
    for role, name in columns.items():
        facts[role] = [cell.strip() or None for cell in table.cells(table.names.index(name))]
    if "split" in columns:
        facts["split"] = _splits(table.file, columns["split"], facts["split"])
    rows: dict[str, _Facts] = {}
    for number, (name, *values) in enumerate(zip(paths, *facts.values(), strict=True), 1):
        row = _Facts(*values)
        if not name.strip():
            if row == _Facts(None, None, None):  # spreadsheets leave such lines at the end
                continue
            message = (
                f"Table {quoted(table.file)}, row {number} below the head: the {path} is empty. "
                "Fill it in, or remove the row."
            )
            raise FitError(message)
        before = rows.setdefault(_key(name), row)
        if before != row:
            raise FitError(_contradiction(table.file, name, before, row))
    if not rows:
        message = (
            f"Table {quoted(table.file)} has a head but no rows. Give it a row for each image."
        )
        raise FitError(message)
    return rows


def _splits(file: Path, column: str, values: list[str | None]) -> list[str | None]:
    """Return the splits by the names that featx keeps."""
    every = {value for value in values if value is not None}
    if any(name.lower() not in _SPLIT_NAMES for name in every):
        # Those that are no splits first, since not all may be shown.
        found = sorted(every, key=lambda name: (name.lower() in _SPLIT_NAMES, name))
        message = (
            f"Column {quoted(column)} of table {quoted(file)} holds {quoted_list(found)}. Expected "
            "train, val or test, or an empty cell. For another column: --split-column NAME"
        )
        raise FitError(message)
    return [None if value is None else _SPLIT_NAMES[value.lower()] for value in values]


def _contradiction(file: Path, path: str, before: _Facts, row: _Facts) -> str:
    """Say that two rows of a path differ, and in what."""
    role = next(role for role in _ROLES if getattr(before, role) != getattr(row, role))
    first, second = (
        f"no {role}" if value is None else f"{role} {quoted(value)}"
        for value in (getattr(before, role), getattr(row, role))
    )
    return (
        f"Table {quoted(file)} has {quoted(path)} twice, with {first} and with {second}. "
        "Remove one of the rows."
    )


# the join


def _key(path: str) -> str:
    r"""Return a path as it is compared: with "/", without "./".

    Examples
    --------
    >>> _key(r".\cats\1.jpg")
    'cats/1.jpg'
    """
    return PurePosixPath(printable(path).replace("\\", "/")).as_posix()


def _match(file: Path, rows: Collection[str], keys: list[str]) -> tuple[str, list[str]]:
    """Return what stands before the store's paths in all of the table's, and a note."""
    images = set(keys)
    if not images.isdisjoint(rows):
        return "", []
    folders = [row.split("/")[:-1] for row in rows]
    before = ""
    # What the first and the last have in common, all between them have.
    for folder, other in zip(min(folders), max(folders), strict=False):
        if folder != other:
            break
        before += f"{folder}/"
        rest = {row.removeprefix(before) for row in rows}
        # Some matches are no proof: cats/1.jpg is in train/ and in test/.
        if rest <= images or images <= rest:
            note = f"Paths of {quoted(file)} were matched without the {quoted(before)} they share."
            return before, [note]
    raise FitError(_no_match(file, rows, keys))


def _no_match(file: Path, rows: Collection[str], keys: list[str]) -> str:
    """Say that no path matches, by a path of each side: of one file, if names tell."""
    ours = {PurePosixPath(key).name: key for key in keys}
    alike = next((row for row in rows if PurePosixPath(row).name in ours), None)
    theirs = next(iter(rows)) if alike is None else alike
    return (
        f"No path in table {quoted(file)} is one of the store's images: the table has "
        f"{quoted(theirs)}, the store has {quoted(ours.get(PurePosixPath(theirs).name, keys[0]))}. "
        "Write the paths as the store has them."
    )


def _column(found: Iterable[_Facts | None], role: str) -> NDArray[np.object_]:
    """Return one fact of every image."""
    return np.array([facts and getattr(facts, role) for facts in found], dtype=object)


def _unmatched(file: Path, over: list[str], bare: list[str]) -> Iterator[str]:
    """Count the table's paths without an image, and the images without a row."""
    if over:
        them = counted(
            len(over), f"path of {quoted(file)} matches", f"paths of {quoted(file)} match"
        )
        yield f"{them} no image of the store: {quoted_list(over)}."
    if bare:
        them = counted(len(bare), "image has", "images have")
        yield f"{them} no row in {quoted(file)}, so no label: {quoted_list(bare)}."


# words
