"""Tables that say more about images than folders can: CSV to checked rows.

A CSV file comes in, rows with a path, label, split and group go out. All of it
is text, and an empty cell is none. This file does not know where the images
lie, nor whether they exist.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from featx.errors import ImageError, ImagesError
from featx.images.urls import File, read_url
from featx.text import counted, quoted, quoted_list

__all__ = ["SPLIT_NAMES", "Row", "read_table"]

#: Every name of a split, in lower case, and the one that featx keeps.
SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Parameters
    ----------
    line : int
        Its line in the file, for messages; the head is line 1.
    path : str
        As the table has it.
    label, split, group : str or None
        None if the cell is empty or the table has no such column.
    """

    line: int
    path: str
    label: str | None
    split: str | None
    group: str | None


def read_table(file: File, path_columns: tuple[str, ...]) -> list[Row]:
    """Read a table of images.

    Parameters
    ----------
    file : Path or Url
        CSV in UTF-8, with commas and a head. Columns other than path, label,
        split and group are left alone.
    path_columns : tuple of str
        Names of the column of paths; the first that the table has is taken.

    Returns
    -------
    list of Row
        At least one, in the order of the file.

    Raises
    ------
    ImagesError
        The file cannot be read, has no column of paths, no rows, or a row that
        cannot be.
    """
    try:
        with _opened(file) as stream:
            lines = csv.reader(stream, strict=True)
            head = [cell.strip() for cell in next(filter(None, lines), [])]
            _check_head(file, head, path_columns)
            rows = [_row(file, lines.line_num, cells, head) for cells in lines if cells]
    except UnicodeDecodeError as error:
        message = f"Table {quoted(file)} is not UTF-8 text. Save it as CSV in UTF-8, with commas."
        raise ImagesError(message) from error
    except FileNotFoundError as error:
        message = f"No table {quoted(file)}. Expected a CSV file with a column {path_columns[0]}."
        raise ImagesError(message) from error
    except (OSError, csv.Error, ImageError) as error:
        why = getattr(error, "strerror", None) or str(error)
        message = f"Table {quoted(file)} cannot be read: {why}. Expected a CSV file in UTF-8."
        raise ImagesError(message) from error
    if not rows:
        message = f"Table {quoted(file)} has a head but no rows. Give it a row for each image."
        raise ImagesError(message)
    column = next(name for name in path_columns if name in head)
    return [_checked(file, line, cells, column) for line, cells in rows]


def _opened(file: File) -> TextIO:
    """Open a table; from a URL it comes as a whole."""
    if isinstance(file, Path):
        if file.exists() and not file.is_file() and not file.is_dir():  # a pipe blocks for ever
            message = f"Table {quoted(file)} is no ordinary file. Expected a CSV file in UTF-8."
            raise ImagesError(message)
        return file.open(encoding="utf-8-sig", newline="")
    return io.StringIO(read_url(file).decode("utf-8-sig"), newline="")


def _check_head(file: File, head: list[str], path_columns: tuple[str, ...]) -> None:
    """Refuse a head without a column of paths, or with a column twice."""
    expected = (*path_columns, "label", "split", "group")
    twice = sorted({name for name in head if name in expected and head.count(name) > 1})
    if twice:
        message = f"Table {quoted(file)} has the column {twice[0]} twice. Remove one of them."
        raise ImagesError(message)
    if any(name in head for name in path_columns):
        return
    received = f"its columns are {quoted_list(head)}" if any(head) else "its first line is empty"
    other = next((mark for mark in ";\t|" if any(mark in name for name in head)), None)
    hint = f" Separate the columns with commas, not {other!r}." if other else ""
    message = (
        f"Table {quoted(file)} has no column {path_columns[0]}: {received}. Expected columns "
        f"{path_columns[0]} and, if you like, label, split, group.{hint}"
    )
    raise ImagesError(message)


def _row(file: File, line: int, cells: list[str], head: list[str]) -> tuple[int, dict[str, str]]:
    """Match a line's cells with the head; cells that are missing at the end are empty."""
    if len(cells) > len(head):
        message = (
            f"Table {quoted(file)}, line {line}: {counted(len(cells), 'cell')}, but the head has "
            f"{len(head)}. Put a cell that holds a comma in quotes."
        )
        raise ImagesError(message)
    return line, dict(zip(head, cells, strict=False))


def _checked(file: File, line: int, cells: dict[str, str], column: str) -> Row:
    """Turn the cells of one line into a row."""
    if any("\0" in cell for cell in cells.values()):
        message = (
            f"Table {quoted(file)}, line {line}: a cell holds a zero byte, which no path or label "
            "has. Save it as CSV in UTF-8."
        )
        raise ImagesError(message)
    path = cells.get(column, "")
    if not path.strip():
        message = f"Table {quoted(file)}, line {line}: the {column} is empty. Fill it in."
        raise ImagesError(message)
    label, split, group = (
        cells.get(name, "").strip() or None for name in ("label", "split", "group")
    )
    if split is not None:
        if split.lower() not in SPLIT_NAMES:
            message = (
                f"Table {quoted(file)}, line {line}: no split is called {quoted(split)}. "
                "Expected train, val or test, or an empty cell."
            )
            raise ImagesError(message)
        split = SPLIT_NAMES[split.lower()]
    return Row(line, path, label, split, group)
