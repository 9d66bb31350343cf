"""One reader for manifests, labels and metadata.csv: encodings, delimiters, columns, sources."""

import gzip
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import job_in

import featx
from featx.errors import FitError, ImagesError, OptionError
from featx.images import list_images
from featx.tables import SPLIT_NAMES, TableUse, open_table

USE = TableUse("--labels", FitError, OptionError)
ROWS = [("a.jpg", "cat", "train", "g"), ("b.jpg", "dog", None, None)]


@pytest.fixture
def write(tmp_path):
    """A function that writes text, or bytes, to a file; table.csv by default."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows_of(source, path_column=None):
    """Return the rows of a table without their lines."""
    table = open_table(source, USE, path_column)
    return [(row.path, *row.facts.values()) for row in table.rows(table.role_columns())]


def notes_of(source, path_column=None):
    """Return the notes on reading a table."""
    table = open_table(source, USE, path_column)
    table.rows(table.role_columns())
    return table.notes


def refusal(source, error=FitError, path_column=None):
    """Return the message of a table that is refused, with exactly that class of error."""
    with pytest.raises(error) as caught:
        rows_of(source, path_column)
    assert type(caught.value) is error
    return str(caught.value)


def holds(message, *facts):
    """Return whether a message has all these facts."""
    return all(str(fact) in message for fact in facts)


TEXT = "path,label,split,group\na.jpg,cat,train,g\nb.jpg,dog,,\n"


# text


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.TXT"])
def test_delimiters(write, delimiter, name):
    """Commas, semicolons and tabs are found in the header, whatever the name of the file."""
    assert rows_of(write(TEXT.replace(",", delimiter), name)) == ROWS


@pytest.mark.parametrize("line", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n'])
def test_excels_first_line(write, line):
    """The line sep=; gives the delimiter and counts as a line."""
    assert rows_of(write(line + TEXT.replace(",", ";"))) == ROWS
    # The header alone would give commas.
    assert rows_of(write(line + 'path;"x,label"\na.jpg;1\n')) == [("a.jpg", None, None, None)]
    assert "line 3" in refusal(write(f"{line}path;label\n;a\n"))


@pytest.mark.parametrize("header", ["path", "path,a;b;c", '"path","x;y;z"'])
def test_commas_come_first(write, header):
    """A delimiter is only used if it gives a column of paths."""
    assert rows_of(write(f"{header}\na;b.jpg\n"))[0][0] == "a;b.jpg"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", "UTF-16"), ("cp1252", "Windows-1252")],
)
def test_encodings(write, encoding, name):
    """UTF-16 and Windows-1252 are read, with a note that names them."""
    path = write("path,label\nä.jpg,Fuß €\n".encode(encoding))
    assert rows_of(path) == [("ä.jpg", "Fuß €", None, None)]
    notes = notes_of(path)
    assert (notes == []) if name is None else holds(notes[0], path, name)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(TEXT.encode()), b"\xff\xfe\x00", b"path\n\x81\x8d.jpg", b"\xff\0path\n"],
    ids=["gzip", "half a character", "undefined bytes", "zero bytes"],
)
def test_what_is_not_text(write, content):
    """Bytes in no known encoding are refused."""
    path = write(content)
    assert holds(refusal(path), path, "UTF-8")


def test_text_as_spreadsheets_write_it(write):
    """A byte order mark, blank lines, quotes, spaces, and Windows line ends are accepted."""
    path = write(
        '\ufeff\r\n,,\r\n"path", label ,x\r\n"a, b.jpg","cat, tabby",\r\n\r\n , ,\r\n'
        '"the ""c"".jpg", dog \r\n"d\ne.jpg",'
    )
    assert [row[:2] for row in rows_of(path)] == [
        ("a, b.jpg", "cat, tabby"),
        ('the "c".jpg', "dog"),
        ("d\ne.jpg", None),
    ]


def test_cells_are_text(write):
    """Cells that look like numbers, booleans or missing values stay text; "" is None."""
    cells = ["1", "01", "1.0", "NA", "None", "nan", "null", "True", "-", "", "  "]
    text = "path,label\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    assert [row[1] for row in rows_of(write(text))] == [*cells[:9], None, None]


@pytest.mark.parametrize("name", [*SPLIT_NAMES, "TRAIN", "Valid", " Test "])
def test_names_of_splits(write, name):
    """Splits have several names, in any case."""
    split = SPLIT_NAMES[name.strip().lower()]
    assert rows_of(write(f"path,split\na.jpg,{name}\n")) == [("a.jpg", None, split, None)]


@pytest.mark.parametrize("column", ["label", "group"])
def test_integers_with_gaps_as_pandas_writes_them(tmp_path, column):
    """They are what they were before pandas, with a note, in CSV, Parquet and in memory."""
    frame = pd.DataFrame({"path": PATHS, column: [0, None, 12]})
    assert frame[column].dtype == float
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    assert "12.0" in (tmp_path / "t.csv").read_text()
    for source in (tmp_path / "t.csv", tmp_path / "t.parquet", frame, dict(frame.items())):
        table = open_table(source, USE)
        rows = table.rows({column: column})
        assert [row.facts[column] for row in rows] == ["0", None, "12"]
        (note,) = table.notes
        assert column in note
        assert "0.0 as 0" in note


@pytest.mark.parametrize(
    "cells", [["1.0", "2.5"], ["1.0", "a"], ["1.0", "2"], ["01.0", "2.0"], ["1.", "2."]]
)
def test_other_numbers_stay_text(write, cells):
    """One name that is not of this form is enough: 1.0 may then be a version, or a size."""
    table = open_table(write("path,label\n" + "".join(f"{c},{c}\n" for c in cells)), USE)
    assert [row.facts["label"] for row in table.rows({"label": "label"})] == cells
    assert table.notes == []


# columns


def test_columns_in_any_case(write):
    """Upper case is accepted; if both exist, the exact name is used."""
    assert rows_of(write(TEXT.replace("path,label,split,group", "Path,LABEL,Split,gROUP"))) == ROWS
    assert rows_of(write("PATH,path\na.jpg,b.jpg\n"))[0][0] == "b.jpg"
    assert "twice" in refusal(write("PATH,Path\na.jpg,b.jpg\n"))


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("file_name,path", "b"),
        ("Filename,file_name", "b"),
        ("image,filename", "b"),
        ("file,image", "b"),
    ],
)
def test_precedence_of_path_columns(write, header, path):
    """Of path, file_name, filename, image and file, the first one that exists is used."""
    assert rows_of(write(f"{header}\na,b\n"))[0][0] == path


@pytest.mark.parametrize(
    ("name", "noted"),
    [("path", False), ("file_name", False), ("filename", True), ("Image", True), ("file", True)],
)
def test_unusual_path_columns_are_noted(write, name, noted):
    """A guessed column of paths is reported with the flag that changes it."""
    path = write(f"{name},label\na.jpg,cat\n")
    assert rows_of(path) == [("a.jpg", "cat", None, None)]
    notes = notes_of(path)
    assert holds(notes[0], path, name, "--path-column") if noted else not notes


def test_a_named_path_column(write):
    """--path-column takes precedence, in any case, and helps to find the delimiter."""
    path = write("path;Datei, lang;label\nx;a.jpg;cat\n")
    assert rows_of(path, "datei, LANG") == [("a.jpg", "cat", None, None)]
    assert notes_of(path, "datei, LANG") == []
    assert holds(refusal(path, OptionError, "none"), path, "'none'", "Datei", "--path-column")


def test_no_column_of_paths(write):
    """The columns are listed, twenty at most, with the flag that names one."""
    path = write("name;label\n1.jpg;a\n")
    assert holds(refusal(path), path, "'path'", "'name', 'label'", "--path-column")
    message = refusal(write(",".join(f"c{i}" for i in range(1200)) + "\n"))
    assert holds(message, "'c19' and 1180 more")
    assert "'c20'" not in message


@pytest.mark.parametrize("column", ["path", "label", "group"])
def test_a_column_twice(write, column):
    """A needed column that exists twice is refused; any other one may be repeated."""
    message = refusal(write(f"path,label,group,{column}\na.jpg,a,b,c\n"))
    assert holds(message, f"'{column}'", "twice")
    assert rows_of(write("path,label,x,x\na.jpg,a,1,2\n")) == [("a.jpg", "a", None, None)]


# rows that are refused


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("path,split\n1.jpg,train\n\n2.jpg,dev\n", ("line 4", "'dev'", "train, val, test")),
        ("file_name,label\n1.jpg,a\n,b\n", ("line 3", "file_name")),
        ("path,x\n1.jpg,a\n,b\n", ("line 3", "path")),
        ("path,label\n1.jpg,a\n\na,b.jpg,c\n", ("line 4", "3 cells", "2", "','")),
        ("path\tlabel\n1.jpg\ta\tb\n", ("line 2", "3 cells", r"'\t'")),
        ('path,label\n1.jpg,a\n"2.jpg,cat\n3.jpg,cat\n', ("line 3", '"')),
        ('path,label\n1.jpg,"a" b\n', ("line 2",)),
        ("path,label\n1.jpg,c\0at\n", ("line 2", "zero byte")),
        ("path,label\n", ("rows",)),
        ("path,label\n,\n\n , \n", ("rows",)),
        ("", ("empty", "path")),
        ("\ufeff\n,,\n", ("empty", "path")),
        ('"path', ("line 1", '"')),
    ],
)
def test_refused_text(write, text, facts):
    """A row that cannot be used is refused with its line and what it has."""
    path = write(text)
    assert holds(refusal(path), path, *facts)


def test_rows_without_facts_are_skipped(write):
    """Rows with neither path nor facts are skipped, whatever other columns have."""
    assert rows_of(write("path,label,x\n,,1\na.jpg,cat,2\n,,\n")) == [("a.jpg", "cat", None, None)]


# files


def test_files_that_cannot_be_read(tmp_path, write, monkeypatch):
    """A missing file, a folder, a pipe and a refusal of the system are errors with the path."""
    for name in ("none.csv", "none.parquet"):
        assert holds(refusal(tmp_path / name, OptionError), tmp_path / name, "--labels")
    assert holds(refusal(str(tmp_path), OptionError), tmp_path, "folder")
    os.mkfifo(tmp_path / "pipe.csv")
    assert holds(refusal(tmp_path / "pipe.csv"), "pipe.csv", "regular file")
    paths = [write(TEXT, name) for name in ("t.csv", "t.parquet")]

    def refuse(*_arguments, **_keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    monkeypatch.setattr(type(tmp_path), "read_bytes", refuse)
    for path in paths:
        assert holds(refusal(path), path, "Permission denied")


# Parquet and columns in memory

LABELS = [
    (["01", None, "NA"], ["01", None, "NA"]),
    ([1, None, 10], ["1", None, "10"]),
    ([1.0, None, 10.0], ["1", None, "10"]),  # pandas' form of the same column
    ([0.0, -2.0, float("nan")], ["0", "-2", None]),
    ([True, False, None], ["True", "False", None]),
    ([" a ", "", "b"], ["a", None, "b"]),
    ([None] * 3, [None] * 3),
]
PATHS = ["1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.parametrize(("labels", "expected"), LABELS)
@pytest.mark.parametrize("kind", ["parquet", "dict", "frame"])
def test_columns(tmp_path, kind, labels, expected):
    """Parquet, a dict and a DataFrame give text for text, whole numbers and booleans."""
    source = {"code": [0.5] * 3, "Path": PATHS, "label": labels}
    if kind == "parquet":
        pq.write_table(pa.table(source), tmp_path / "t.PARQUET")
        source = tmp_path / "t.PARQUET"
    elif kind == "frame":
        source = pd.DataFrame(source, dtype=object, index=[7, 7, 7])
    assert rows_of(source) == [(p, x, None, None) for p, x in zip(PATHS, expected, strict=True)]


@pytest.mark.parametrize(
    "labels",
    [
        pd.Categorical(["a", None, "b"]),
        np.array(["a", "", "b"]),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        ("a", None, "b"),
    ],
    ids=["categories", "array", "series", "tuple"],
)
def test_kinds_of_columns(tmp_path, labels):
    """Categories, arrays, Series and tuples are columns, and paths may be Path objects."""
    source = {"path": [tmp_path / name for name in PATHS], "label": labels}
    expected = [
        (f"{tmp_path}/{p}", x, None, None) for p, x in zip(PATHS, ["a", None, "b"], strict=True)
    ]
    assert rows_of(source) == rows_of(pd.DataFrame(source)) == expected
    frame = pd.DataFrame({**source, "path": PATHS})
    frame.to_parquet(tmp_path / "t.parquet")
    assert [row[1] for row in rows_of(tmp_path / "t.parquet")] == ["a", None, "b"]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([1.0, None, 2.5], "float"),
        ([float("inf"), 1.0, 2.0], "float"),
        ([2.0**60, 1.0, 2.0], "float"),
        ([[1]] * 3, "list"),
        ([b"a"] * 3, "bytes"),
    ],
)
@pytest.mark.parametrize("is_file", [True, False])
def test_values_that_are_not_labels(tmp_path, labels, kind, is_file):
    """Floats, lists and bytes are refused with their column and type."""
    source = {"path": PATHS, "label": labels}
    if is_file:
        pq.write_table(pa.table(source), tmp_path / "t.parquet")
        source = tmp_path / "t.parquet"
    assert holds(refusal(source), "'label'", kind)


def test_refused_columns():
    """Columns of different lengths, single values and rows without a path are refused."""
    assert holds(refusal({"path": PATHS, "label": ["a"]}), "[3, 1]")
    assert holds(refusal({"path": PATHS, "label": "cat"}), "'label'")
    assert holds(refusal({"path": PATHS, "label": 1}), "'label'")
    assert holds(refusal({"path": ["a", None]}), "row 2", "path")
    assert holds(refusal(pd.DataFrame({"path": ["a", "b"], "split": ["val", "x"]})), "row 2", "'x'")


def test_parquet_in_a_folder_with_an_equals_sign(tmp_path):
    """A folder called NAME=VALUE adds no column."""
    (tmp_path / "label=9").mkdir()
    path = tmp_path / "label=9" / "t.parquet"
    pq.write_table(pa.table({"path": PATHS}), path)
    assert rows_of(path) == [(name, None, None, None) for name in PATHS]


def test_damaged_parquet(write, tmp_path):
    """A file that is not Parquet, or is damaged anywhere, is refused."""
    pq.write_table(
        pa.table({"path": [f"{i}.jpg" for i in range(3000)]}), tmp_path / "whole.parquet"
    )
    whole = (tmp_path / "whole.parquet").read_bytes()
    damaged = whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :]
    for content in (b"path,label\n", b"", whole[:-9], damaged):
        path = write(content, "t.parquet")
        assert holds(refusal(path), path, "Parquet")


# the three uses


@pytest.mark.parametrize("kind", ["dict", "frame", "parquet"])
def test_a_manifest_that_is_not_text(tmp_path, monkeypatch, kind):
    """Paths are relative to the working directory, or to the folder of the Parquet file."""
    columns = {"path": ["cat/1.jpg", "dog/2.jpg"], "label": ["cat", "dog"]}
    folder = tmp_path if kind == "parquet" else type(tmp_path)()
    pd.DataFrame(columns).to_parquet(tmp_path / "t.parquet")
    sources = {"dict": columns, "frame": pd.DataFrame(columns), "parquet": tmp_path / "t.parquet"}
    listing = list_images(manifest=sources[kind])
    assert [(r.path, r.label) for r in listing.records] == [*zip(*columns.values(), strict=True)]
    assert [r.file for r in listing.records] == [folder / path for path in columns["path"]]
    assert listing.root == folder


def test_backslashes_of_windows(tmp_path):
    r"""A backslash becomes a slash, unless a file has it in its name or it is in a URL."""
    (tmp_path / r"real\name.jpg").touch()
    paths = [r"cat\1.jpg", r"real\name.jpg", r"https://a/b\c.jpg"]
    (tmp_path / "t.csv").write_text("path\n" + "\n".join(paths))
    records = list_images(manifest=tmp_path / "t.csv").records
    assert [record.path for record in records] == ["cat/1.jpg", *paths[1:]]
    assert records[0].file == tmp_path / "cat/1.jpg"


def test_path_column_of_a_manifest_and_of_metadata(tmp_path):
    """The library's path_column names the column; without a table it is refused."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.jpg").touch()
    with pytest.raises(OptionError, match="--path-column Datei"):
        list_images(tmp_path, path_column="Datei")
    (tmp_path / "metadata.csv").write_text("Datei;label\ncat\\1.jpg;tiger\n")
    for keywords in ({}, {"manifest": tmp_path / "metadata.csv"}):
        records = list_images(tmp_path, path_column="Datei", **keywords).records
        assert [(r.path, r.label) for r in records] == [("cat/1.jpg", "tiger")]
    with pytest.raises(ImagesError, match="--path-column"):
        list_images(tmp_path)


def test_tables_in_memory_for_extract_and_fit(image_folder, make_store):
    """A manifest and labels may be in memory; the model records the class of the table."""
    job = job_in(image_folder, images=None, manifest={"Bild": ["a.png"]}, path_column="bild")
    assert [record.path for record in job.listing.records] == ["a.png"]
    with pytest.raises(OptionError, match="dict"):
        job_in(image_folder, images="data", manifest={"path": ["a.png"]})
    paths, labels = [f"{i}.png" for i in range(8)], ["x", "y"] * 4
    codes = {"block1_pool": np.eye(8, 64, dtype="f4")}
    store = make_store(image_folder / "codes.h5", codes, [None] * 8, paths=paths)
    table = pd.DataFrame({"Datei": paths, "species": labels})
    fitted = featx.fit(
        store, clf="centroid", folds=2, baselines=False, labels=table, path_column="datei"
    )
    assert list(fitted.model.classes) == ["x", "y"]
    settings = fitted.model.provenance["settings"]
    assert (settings["labels"], settings["path_column"]) == ("DataFrame", "datei")
