"""Tables of images: manifests, labels and metadata.csv.

A CSV or Parquet file, a DataFrame or a dict of columns comes in; rows with a path, a label, a
split and a group go out. All of them are text, and an empty cell is None. This module does not
know where the images are, or whether they exist.
"""

import codecs
import csv
import functools
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn, Protocol

from featx.errors import FeatxError, OptionError
from featx.text import composed, counted, quoted, quoted_list, system_error

__all__ = [
    "SPLIT_NAMES",
    "Row",
    "Table",
    "TableSource",
    "TableUse",
    "open_table",
    "parse_table",
    "table_name",
]

#: Accepted names of splits, in lower case, and the split that each one means.
SPLIT_NAMES = {
    **{"train": "train", "test": "test"},
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}

_ROLES = ("label", "split", "group")
_UNUSUAL = ("filename", "image", "file")  # names of columns of paths, accepted with a note
_MISSING = {"NoneType", "NAType", "NaTType"}  # types of None, pandas.NA and pandas.NaT
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)\.0+")
_EXACT = 2**53  # a larger float may stand for several integers
_MANY_ROWS = 1_000_000  # any memory has them
_COLUMNS_SHOWN = 20  # an exported store has a column for each feature
# The first line of some files from Excel names the delimiter.
_SEP_LINE = re.compile(r'"?sep=([,;\t])"?[ \t]*(?:\r?\n|\r|$)', re.IGNORECASE)


class Frame(Protocol):
    """Named columns, as in a DataFrame of pandas or polars."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    def __getitem__(self, name: Any, /) -> Any:
        """Return the values of a column."""


TableSource = Path | str | Mapping[str, Sequence[Any]] | Frame


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Parameters
    ----------
    where : str
        Where the row is in the table, for messages: "line 3" or "row 2".
    path : str
        Path or URL of an image, as in the table.
    facts : dict of str to str or None
        The label, the split and the group. None if the cell is empty or the table has no such
        column.
    """

    where: str
    path: str
    facts: dict[str, str | None]


@dataclass(frozen=True)
class TableUse:
    """The purpose that a table is read for.

    Parameters
    ----------
    flag : str
        The flag that names such a table, for messages.
    error : type
        Raised if the contents of the table cannot be used.
    missing : type
        Raised if there is no such file.
    path_columns : tuple of str
        Usual names of the column of paths; the first one that exists is used.
    """

    flag: str
    error: type[FeatxError]
    missing: type[FeatxError]
    path_columns: tuple[str, ...] = ("path", "file_name")


@dataclass
class Table:
    """An open table.

    Parameters
    ----------
    title : str
        The table in a sentence, such as "table 'images.csv'".
    use : TableUse
        What the table is read for.
    named_paths : str, optional
        The column of paths, if a flag names it.
    names : list of str
        Names of the columns.
    records : callable
        Takes positions of columns; yields, for each row, where it is and its cells.
    notes : list of str
        Notes for the user.
    """

    title: str
    use: TableUse
    named_paths: str | None = None
    names: list[str] = field(default_factory=list)
    records: Callable[[list[int]], Iterator[tuple[str, list[str]]]] = lambda _: iter(())
    notes: list[str] = field(default_factory=list)

    def refuse(self, problem: str, error: type[FeatxError] | None = None) -> NoReturn:
        """Raise an error about the table; `problem` continues a sentence with its title."""
        message = f"{self.title[0].upper()}{self.title[1:]}{problem}"
        raise (error or self.use.error)(message)

    def find(self, name: str) -> str | None:
        """Return the column with a name, whatever its case; None if there is none."""
        wanted = name.casefold()
        found = [each for each in self.names if each == name]
        found = found or [each for each in self.names if each.casefold() == wanted]
        if len(found) > 1:
            self.refuse(f" has the column {quoted(name)} twice. Remove one of them.")
        return found[0] if found else None

    def named(self, name: str, flag: str, error: type[FeatxError] = OptionError) -> str:
        """Return the column with a name; raise `error`, which suggests `flag`, if there is none."""
        found = self.find(name)
        if found is None:
            self.refuse(
                f" has no column {quoted(name)}. Its columns are {self.columns_in_words()}. "
                f"Use {flag} with one of them.",
                error,
            )
        return found

    @property
    def path_names(self) -> tuple[str, ...]:
        """Possible names of the column of paths, best first."""
        return (self.named_paths,) if self.named_paths else (*self.use.path_columns, *_UNUSUAL)

    @functools.cached_property
    def paths(self) -> str:
        """The column of paths: the named one, or the first one with a usual name."""
        usual = next((name for name in self.path_names if self.find(name)), self.path_names[0])
        if self.named_paths:
            return self.named(usual, "--path-column")
        found = self.named(usual, "--path-column", self.use.error)
        if usual in _UNUSUAL:
            self.notes.append(
                f"Paths are read from the column {quoted(found)} of {self.title}. "
                "Use --path-column NAME for another one."
            )
        return found

    def role_columns(self, named: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the columns of labels, splits and groups that the table has.

        Parameters
        ----------
        named : mapping of str to str, optional
            Role, and the column that a flag names for it. A named column has no other role.
        """
        given = {
            role: self.named(name, f"--{role}-column")
            for role, name in (named or {}).items()
            if name is not None
        }
        usual = {role: self.find(role) for role in _ROLES if role not in given}
        return given | {
            role: name for role, name in usual.items() if name and name not in given.values()
        }

    def rows(self, columns: Mapping[str, str]) -> list[Row]:
        """Return the checked rows; at least one.

        Parameters
        ----------
        columns : mapping of str to str
            Role, and its column. Rows without a path and without any of these facts are
            skipped, because spreadsheets leave such rows.
        """
        rows = []
        positions = [self.names.index(each) for each in (self.paths, *columns.values())]
        for where, (name, *cells) in self.records(positions):
            if any("\0" in cell for cell in (name, *cells)):
                self.refuse(
                    f", {where}: a cell contains a zero byte. Save the table as UTF-8 text."
                )
            texts = (composed(cell.strip()) or None for cell in cells)
            facts = dict(zip(columns, texts, strict=True))
            if not name.strip():
                if any(facts.values()) or not facts:
                    self.refuse(
                        f", {where}: the {self.paths} is empty. Fill it in, or remove the row."
                    )
                continue
            if split := facts.get("split"):
                facts["split"] = SPLIT_NAMES.get(split.lower())
                if facts["split"] is None:
                    self.refuse(
                        f", {where}: {quoted(split)} in the column {quoted(columns['split'])} is "
                        "not a split. Use train, val, test or an empty cell."
                    )
            rows.append(Row(where, name, dict.fromkeys(_ROLES) | facts))
        if not rows:
            self.refuse(" has no rows below its header. Add a row for each image.")
        for role in ("label", "group"):
            if role in columns:
                self._read_as_integers(rows, role, columns[role])
        return rows

    def _read_as_integers(self, rows: Sequence[Row], role: str, column: str) -> None:
        """Replace 1.0 by 1, if all names of a column are such numbers; add a note.

        pandas writes a column of integers that has empty cells in this way. A column with a name
        that is not a whole number, such as 1.5, stays as it is.
        """
        names = {name for row in rows if (name := row.facts[role])}
        if not names or not all(_WHOLE.fullmatch(name) for name in names):
            return
        for row in rows:
            if name := row.facts[role]:
                row.facts[role] = name.partition(".")[0]
        first = min(names)
        self.notes.append(
            f"The column {quoted(column)} of {self.title} has whole numbers with a decimal point, "
            f"which are read as integers: {first} as {first.partition('.')[0]}."
        )

    def columns_in_words(self) -> str:
        """Return the names of the columns for a message."""
        return quoted_list(self.names, _COLUMNS_SHOWN)


def open_table(source: TableSource, use: TableUse, path_column: str | None = None) -> Table:
    """Open a table.

    Parameters
    ----------
    source : Path, str, DataFrame or mapping of str to sequence
        A CSV file with a header, whose columns are separated by commas, semicolons or tabs;
        NAME.parquet; a DataFrame; or the columns by name.
    use : TableUse
        What the table is read for.
    path_column : str, optional
        Name of the column of paths, if it has another than the usual names. It helps to
        find the delimiter.

    Raises
    ------
    FeatxError
        The file does not exist (`use.missing`), or is not such a table (`use.error`).
    """
    if isinstance(source, Mapping):
        table = Table("the dict of columns", use, path_column)
        return _from_columns(table, source, source.__getitem__)
    if not isinstance(source, str | os.PathLike):
        table = Table("the DataFrame", use, path_column)
        return _from_columns(table, source.columns, source.__getitem__)
    file = Path(source)
    table = Table(f"table {quoted(file)}", use, path_column)
    expected = f"Use {use.flag} with a CSV or Parquet file."
    try:
        if file.is_dir():
            table.refuse(f" is a folder. {expected}", use.missing)
        if file.exists() and not file.is_file():  # reading a pipe would wait forever
            table.refuse(f" is not a regular file. {expected}")
        if file.suffix.lower() == ".parquet":
            return _from_parquet(file, table)
        tabs_first = "\t,;" if file.suffix.lower() == ".tsv" else ",;\t"
        return parse_table(table, file.read_bytes(), delimiters=tabs_first)
    except FileNotFoundError:
        table.refuse(f" does not exist. {expected}", use.missing)
    except OSError as error:
        table.refuse(f" cannot be read: {error.strerror or error}. {expected}")


def table_name(source: TableSource) -> str:
    """Return the path of a table, or the name of its class if it is in memory."""
    return str(source) if isinstance(source, str | os.PathLike) else type(source).__name__


def parse_table(table: Table, data: bytes, *, delimiters: str = ",;\t") -> Table:
    """Give a table the names and rows of a CSV file.

    Parameters
    ----------
    table : Table
        A table without names and rows.
    data : bytes
        UTF-8, UTF-16 or Windows-1252 text.
    delimiters : str
        Possible delimiters. The first one that gives a column of paths is used.
    """
    text = _decoded(data, table)
    if sep_line := _SEP_LINE.match(text):
        delimiters, text = sep_line[1], text[sep_line.end() :]

    def lines(delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines that are not empty, with their numbers."""
        line = skipped = int(sep_line is not None)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                line = reader.line_num + skipped
                if any(cell.strip(" ,;\t\r\n") for cell in cells):
                    yield line, cells
        except csv.Error as error:
            table.refuse(
                f', line {line + 1}: {error}. A cell that starts with a quote (") must '
                "end with one."
            )

    def header(delimiter: str) -> list[str]:
        with suppress(table.use.error):  # another delimiter may be the right one
            return [cell.strip() for cell in next(lines(delimiter), (0, []))[1]]
        return []

    known = {name.casefold() for name in table.path_names}
    heads = {delimiter: header(delimiter) for delimiter in delimiters}
    chosen = max(
        heads,
        key=lambda each: (any(name.casefold() in known for name in heads[each]), len(heads[each])),
    )
    table.names = heads[chosen]
    if not any(table.names):
        next(lines(chosen), None)  # raises the error of a header that is not CSV
        table.refuse(f" is empty. Add a header with the column {table.path_names[0]}.")

    def records(positions: list[int]) -> Iterator[tuple[str, list[str]]]:
        rows = lines(chosen)
        next(rows)
        for line, cells in rows:
            if len(cells) > len(table.names):
                table.refuse(
                    f", line {line} has {counted(len(cells), 'cell')}, but the header has "
                    f"{len(table.names)}. Put a cell that contains {chosen!r} in quotes."
                )
            yield f"line {line}", [cells[at] if at < len(cells) else "" for at in positions]

    table.records = records
    return table


def _decoded(data: bytes, table: Table) -> str:
    """Return the text of a file; add a note if it is not UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = {"utf-16": "UTF-16"}
    else:
        encodings = {"utf-8-sig": "UTF-8"}
        if b"\0" not in data:  # a file that is not text
            encodings["cp1252"] = "Windows-1252"
    for encoding, name in encodings.items():
        with suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            if name != "UTF-8":
                table.notes.append(
                    f"{table.title[0].upper()}{table.title[1:]} was read as {name} text. Save it "
                    "as UTF-8 if names look wrong."
                )
            return text
    return table.refuse(" is not text. Save it as CSV in UTF-8.")


def _from_parquet(file: Path, table: Table) -> Table:
    """Open a Parquet file; its columns are read when they are needed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(column: str | None = None) -> list[Any]:
        """Return the values of a column, or the names of all columns."""
        # An OSError of `open` is the system's; one of Arrow means that the file is damaged.
        with file.open("rb") as stream:
            try:
                # Not read_table, which adds columns for folders called NAME=VALUE.
                try:
                    # As a dictionary, a text that many rows share is in memory once.
                    parquet = pq.ParquetFile(stream, read_dictionary=[column] if column else None)
                except KeyError:  # a column of lists or of objects
                    parquet = pq.ParquetFile(stream)
                n_rows, n_bytes = parquet.metadata.num_rows, os.fstat(stream.fileno()).st_size
                if n_rows > max(_MANY_ROWS, n_bytes):
                    table.refuse(f" claims {n_rows:,} rows, but has only {n_bytes:,} bytes.")
                if column is None:
                    return list(parquet.schema_arrow.names)
                return list(_values(parquet.read(columns=[column]).column(0)))
            except FeatxError:
                raise
            except (pa.ArrowException, OSError, ValueError) as error:
                if (reason := system_error(error)) is not None:
                    table.refuse(f" cannot be read: {reason}. Fix the cause and try again.")
                table.refuse(" is damaged, or is not Parquet. Save it again, or save it as CSV.")

    return _from_columns(table, read(), read)


def _values(column: Any) -> Iterator[Any]:
    """Yield the values of a column of Arrow; equal texts of a dictionary are one object."""
    column.validate(full=True)  # the indices of a damaged file may be beyond the dictionary
    for chunk in column.chunks:
        if not hasattr(chunk, "dictionary"):
            yield from chunk.to_pylist()
            continue
        texts = chunk.dictionary.to_pylist()
        yield from (None if i is None else texts[i] for i in chunk.indices.to_pylist())


def _is_missing(value: Any) -> bool:
    """Return whether a value of a column in memory is None, NaN or one of pandas' kinds of them."""
    return type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value))


def _is_whole(value: Any) -> bool:
    """Return whether a value is an integer, or a float that stands for exactly one."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and abs(value) < _EXACT and value == int(value)


def _from_columns(table: Table, names: Iterable[Any], column: Callable[[Any], Any]) -> Table:
    """Give a table its columns, which are in memory or can be read one by one."""
    keys = list(names)

    def records(positions: list[int]) -> Iterator[tuple[str, list[str]]]:
        columns = [texts(keys[at]) for at in positions]
        if len({len(each) for each in columns}) > 1:
            table.refuse(f" has columns of different lengths: {list(map(len, columns))}.")
        for number, cells in enumerate(zip(*columns, strict=True), 1):
            yield f"row {number}", list(cells)

    def texts(name: Any) -> list[str]:
        values = column(name)
        values = values.tolist() if hasattr(values, "tolist") else values
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            table.refuse(f": the column {quoted(name)} is not a sequence.")
        values = list(values)
        # pandas makes floats of integers with gaps; `Table.rows` reads them as integers.
        numbers = [value for value in values if not _is_missing(value)]
        is_whole = all(map(_is_whole, numbers))
        if is_whole and not all(isinstance(value, Integral) for value in numbers):
            return ["" if _is_missing(value) else f"{int(value)}.0" for value in values]
        return [text(name, value) for value in values]

    def text(name: Any, value: Any) -> str:
        if isinstance(value, str | Integral | os.PathLike):
            return str(value)
        if _is_missing(value):
            return ""
        return table.refuse(
            f": the column {quoted(name)} contains {value!r} of type {type(value).__name__}. "
            "Use text or whole numbers."
        )

    table.names, table.records = list(map(str, keys)), records
    return table
