"""Tables of text: CSV, TSV and Parquet, opened by the endings of their names.

A file comes in; the names of its columns and their cells go out, or an error that
says what is wrong with it. This file does not know what the columns mean.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FitError, OptionError
from featx.text import quoted

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["TextTable", "open_table"]


@dataclass(frozen=True)
class TextTable:
    """A table that was opened; its cells are all text, and an empty one is "".

    Parameters
    ----------
    file : Path
        Where it lies.
    names : list of str
        Of the columns.
    cells : callable
        Returns those of a column, by its place in `names`.
    """

    file: Path
    names: list[str]
    cells: Callable[[int], list[str]]


def open_table(file: Path) -> TextTable:
    """Open a table by the ending of its name: .parquet, .tsv or, for any other, commas.

    Raises
    ------
    OptionError
        There is no such file.
    FitError
        It cannot be read.
    """
    try:
        if file.is_dir():
            message = f"{quoted(file)} is a folder, not a table. Give a file: --labels FILE.csv"
            raise OptionError(message)
        return _open_parquet(file) if file.suffix.lower() == ".parquet" else _open_csv(file)
    except FileNotFoundError as error:
        message = (
            f"No table {quoted(file)}. Expected a CSV file with columns path and label: "
            "--labels FILE.csv"
        )
        raise OptionError(message) from error
    except OSError as error:
        message = (
            f"Table {quoted(file)} cannot be read: {error.strerror or error}. Expected a file "
            "that you may read: --labels FILE.csv"
        )
        raise FitError(message) from error


def _open_csv(file: Path) -> TextTable:
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
            f"Table {quoted(file)} is not UTF-8 text. Save it as {name} in UTF-8, with {commas}."
        )
        raise FitError(message) from error
    except pd.errors.EmptyDataError as error:
        message = f"Table {quoted(file)} is empty. Expected columns path and label, with a head."
        raise FitError(message) from error
    except pd.errors.ParserError as error:
        raise FitError(_unparsed(file, comma, str(error))) from error
    head = [str(cell).strip() for cell in frame.iloc[0]]
    return TextTable(file, head, lambda place: [str(cell) for cell in frame[place].tolist()[1:]])


def _unparsed(file: Path, comma: str, problem: str) -> str:
    """Say in a user's words what pandas could not parse."""
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", problem):
        expected, line, cells = found.groups()
        holds = "a comma" if comma == "," else "a tab"
        return (
            f"Table {quoted(file)}, line {line}: {cells} cells, but the head has {expected}. Put "
            f"a cell that holds {holds} in quotes."
        )
    if found := re.search(r"EOF inside string starting at row (\d+)", problem):
        line = str(int(found[1]) + 1)  # pandas counts from 0
        return (
            f'Table {quoted(file)}, line {line}: a cell begins with a quote (") that never ends. '
            "End it, or remove it."
        )
    return f"Table {quoted(file)} cannot be read: {problem.strip()}. Expected CSV in UTF-8."


def _open_parquet(file: Path) -> TextTable:
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
                f"Column {quoted(names[place])} of table {quoted(file)} holds values of type "
                f"{kind}. Expected text or whole numbers. Save it as text."
            )
            raise FitError(message)
        return ["" if value is None else str(value) for value in column.to_pylist()]

    with _parquet(file) as opened:
        names = list(opened.schema_arrow.names)
    return TextTable(file, names, cells)


@contextlib.contextmanager
def _parquet(file: Path) -> Iterator["ParquetFile"]:
    """Open a Parquet file, and say so if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = (
        f"Table {quoted(file)} is no Parquet file, or a damaged one. Save it again, or as CSV."
    )
    # The system's refusals come from `open`; an OSError of Arrow's means damage.
    with file.open("rb") as stream:
        try:
            # Not read_table, which adds columns for folders that are called NAME=VALUE.
            yield pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise FitError(message) from error
