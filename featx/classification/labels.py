"""Labels from a table, for codes that are there already.

The facts of a store's images and a table come in; the same facts with the
table's labels, splits and groups go out, and sentences for the user about what
did not find its match. This file opens no store and no image, and changes
neither: labels change more often than codes.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featx.errors import FitError, OptionError
from featx.outputs import spelt
from featx.spelling import counted
from featx.store import ImageTable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

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


@dataclass(frozen=True)
class _Table:
    """A table that was opened; its cells are all text, and an empty one is ""."""

    file: Path
    names: list[str]
    cells: Callable[[int], list[str]]  # of a column, by its place in `names`


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
    opened = _open(Path(table))
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
            f"No image gets a label from table {_shown(opened.file)}: their cells in the column "
            f"{_shown(columns['label'])} are empty. Fill them in, or name another column: "
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


# files


def _open(file: Path) -> _Table:
    """Open a table by the ending of its name."""
    try:
        if file.is_dir():
            message = f"{_shown(file)} is a folder, not a table. Give a file: --labels FILE.csv"
            raise OptionError(message)
        return _open_parquet(file) if file.suffix.lower() == ".parquet" else _open_csv(file)
    except FileNotFoundError as error:
        message = (
            f"No table {_shown(file)}. Expected a CSV file with columns path and label: "
            "--labels FILE.csv"
        )
        raise OptionError(message) from error
    except OSError as error:
        message = (
            f"Table {_shown(file)} cannot be read: {error.strerror or error}. Expected a file "
            "that you may read: --labels FILE.csv"
        )
        raise FitError(message) from error


def _open_csv(file: Path) -> _Table:
    """Read a table of text."""
    import pandas as pd

    comma, name = ("\t", "TSV") if file.suffix.lower() == ".tsv" else (",", "CSV")
    try:
        # The head is read as a row: pandas renames a column that comes twice, and takes the first
        # for an index where the rows are longer than the head.
        frame = pd.read_csv(
            file,
            sep=comma,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_filter=False,  # a cell that is missing at the end of a line is "", not NaN
            encoding="utf-8-sig",
            compression=None,  # by the name otherwise, with errors of each kind
        )
    except UnicodeDecodeError as error:
        commas = "commas" if comma == "," else "tabs"
        message = (
            f"Table {_shown(file)} is not UTF-8 text. Save it as {name} in UTF-8, with {commas}."
        )
        raise FitError(message) from error
    except pd.errors.EmptyDataError as error:
        message = f"Table {_shown(file)} is empty. Expected columns path and label, with a head."
        raise FitError(message) from error
    except pd.errors.ParserError as error:
        raise FitError(_unparsed(file, comma, str(error))) from error
    head = [str(cell).strip() for cell in frame.iloc[0]]
    return _Table(file, head, lambda place: [str(cell) for cell in frame[place].tolist()[1:]])


def _unparsed(file: Path, comma: str, problem: str) -> str:
    """Say in a user's words what pandas could not parse."""
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", problem):
        expected, line, cells = found.groups()
        holds = "a comma" if comma == "," else "a tab"
        return (
            f"Table {_shown(file)}, line {line}: {cells} cells, but the head has {expected}. Put "
            f"a cell that holds {holds} in quotes."
        )
    if found := re.search(r"EOF inside string starting at row (\d+)", problem):
        line = str(int(found[1]) + 1)  # pandas counts from 0
        return (
            f'Table {_shown(file)}, line {line}: a cell begins with a quote (") that never ends. '
            "End it, or remove it."
        )
    return f"Table {_shown(file)} cannot be read: {problem.strip()}. Expected CSV in UTF-8."


def _open_parquet(file: Path) -> _Table:
    """Open a Parquet file; its columns are read when they are asked for."""
    import pyarrow as pa

    def cells(place: int) -> list[str]:
        with _parquet(file) as opened:
            column = opened.read(columns=[names[place]]).column(0)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        tests = ("string", "large_string", "string_view", "integer", "boolean", "null")
        if not any(getattr(pa.types, f"is_{test}")(kind) for test in tests):
            # pandas keeps whole numbers with gaps as 1.0: no class that anybody wrote down.
            message = (
                f"Column {_shown(names[place])} of table {_shown(file)} holds values of type "
                f"{kind}. Expected text or whole numbers. Save it as text."
            )
            raise FitError(message)
        return ["" if value is None else str(value) for value in column.to_pylist()]

    with _parquet(file) as opened:
        names = list(opened.schema_arrow.names)
    return _Table(file, names, cells)


@contextlib.contextmanager
def _parquet(file: Path) -> Iterator["ParquetFile"]:
    """Open a Parquet file, and say so if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = (
        f"Table {_shown(file)} is no Parquet file, or a damaged one. Save it again, or as CSV."
    )
    # The system's refusals come from `open`; an OSError of Arrow's means damage.
    with file.open("rb") as stream:
        try:
            # Not read_table, which adds columns for folders that are called NAME=VALUE.
            yield pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise FitError(message) from error


# columns


def _no_paths(table: _Table) -> str:
    """Say that no column holds paths, and what may be the reason."""
    mark, others = ("tabs", ",;|") if table.file.suffix.lower() == ".tsv" else ("commas", ";\t|")
    other = next((other for other in others if any(other in name for name in table.names)), None)
    hint = f" Separate the columns with {mark}, not {other!r}." if other else ""
    return (
        f"Table {_shown(table.file)} has no column path: its columns are "
        f"{_listed(table.names, _COLUMNS_SHOWN)}. Expected a head with path (or file_name) and "
        f"label.{hint}"
    )


def _choose(
    table: _Table, path: str, named: dict[str, str | None]
) -> tuple[dict[str, str], list[str]]:
    """Return the name of each role's column, for those that there are, and what was guessed."""
    given = {role: name for role, name in named.items() if name is not None}
    for role, name in given.items():
        if name not in table.names:
            message = (
                f"Table {_shown(table.file)} has no column {_shown(name)}: its columns are "
                f"{_listed(table.names, _COLUMNS_SHOWN)}. Use --{role}-column with one of them."
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
                f"Table {_shown(table.file)} has no column label: its columns are "
                f"{_listed(table.names, _COLUMNS_SHOWN)}. Say which holds the labels: "
                "--label-column NAME"
            )
            raise OptionError(message)
        columns["label"] = others[0]
        notes.append(
            f"Labels are taken from the column {_shown(others[0])} of {_shown(table.file)}; "
            "--label-column NAME takes another."
        )
    for name in (path, *columns.values()):
        if table.names.count(name) > 1:
            message = (
                f"Table {_shown(table.file)} has the column {_shown(name)} twice. "
                "Remove one of them."
            )
            raise FitError(message)
    return columns, notes


# rows


def _read(table: _Table, path: str, columns: dict[str, str]) -> dict[str, _Facts]:
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
                f"Table {_shown(table.file)}, row {number} below the head: the {path} is empty. "
                "Fill it in, or remove the row."
            )
            raise FitError(message)
        before = rows.setdefault(_key(name), row)
        if before != row:
            raise FitError(_contradiction(table.file, name, before, row))
    if not rows:
        message = (
            f"Table {_shown(table.file)} has a head but no rows. Give it a row for each image."
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
            f"Column {_shown(column)} of table {_shown(file)} holds {_listed(found)}. Expected "
            "train, val or test, or an empty cell. For another column: --split-column NAME"
        )
        raise FitError(message)
    return [None if value is None else _SPLIT_NAMES[value.lower()] for value in values]


def _contradiction(file: Path, path: str, before: _Facts, row: _Facts) -> str:
    """Say that two rows of a path differ, and in what."""
    role = next(role for role in _ROLES if getattr(before, role) != getattr(row, role))
    first, second = (
        f"no {role}" if value is None else f"{role} {_shown(value)}"
        for value in (getattr(before, role), getattr(row, role))
    )
    return (
        f"Table {_shown(file)} has {_shown(path)} twice, with {first} and with {second}. "
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
    return PurePosixPath(spelt(path).replace("\\", "/")).as_posix()


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
            note = f"Paths of {_shown(file)} were matched without the {_shown(before)} they share."
            return before, [note]
    raise FitError(_no_match(file, rows, keys))


def _no_match(file: Path, rows: Collection[str], keys: list[str]) -> str:
    """Say that no path matches, by a path of each side: of one file, if names tell."""
    ours = {PurePosixPath(key).name: key for key in keys}
    alike = next((row for row in rows if PurePosixPath(row).name in ours), None)
    theirs = next(iter(rows)) if alike is None else alike
    return (
        f"No path in table {_shown(file)} is one of the store's images: the table has "
        f"{_shown(theirs)}, the store has {_shown(ours.get(PurePosixPath(theirs).name, keys[0]))}. "
        "Write the paths as the store has them."
    )


def _column(found: Iterable[_Facts | None], role: str) -> NDArray[np.object_]:
    """Return one fact of every image."""
    return np.array([facts and getattr(facts, role) for facts in found], dtype=object)


def _unmatched(file: Path, over: list[str], bare: list[str]) -> Iterator[str]:
    """Count the table's paths without an image, and the images without a row."""
    if over:
        them = counted(
            len(over), f"path of {_shown(file)} matches", f"paths of {_shown(file)} match"
        )
        yield f"{them} no image of the store: {_listed(over)}."
    if bare:
        them = counted(len(bare), "image has", "images have")
        yield f"{them} no row in {_shown(file)}, so no label: {_listed(bare)}."


# words


def _shown(name: object) -> str:
    """Return a name in quotes, in characters that can be printed anywhere."""
    return f"'{spelt(str(name))}'"


def _listed(names: Iterable[str], limit: int = _NAMES_SHOWN) -> str:
    """Return some names in quotes, with commas, and how many more there are.

    Examples
    --------
    >>> _listed("abcdefg")
    "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    every = list(names)
    more = f" and {len(every) - limit:,} more" if len(every) > limit else ""
    return ", ".join(map(_shown, every[:limit])) + more
