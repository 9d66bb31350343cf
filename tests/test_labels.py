"""A table of labels joined to a store's images: every way to match, every note, every refusal."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featx.dataset.labels import _SPLIT_NAMES, relabel
from featx.errors import FitError, OptionError
from featx.images.tables import SPLIT_NAMES
from featx.store import ImageTable, Status, open_store

PATHS = ["train/cats/1.jpg", "train/dogs/2.jpg", "val/cats/3.jpg"]
LABELS = ["cats", "dogs", "cats"]
SPLITS = ["train", "train", "val"]
GROUPS = ["g", None, "h"]


def make_images(paths=PATHS, labels=None, splits=None, groups=None) -> ImageTable:
    """Return the facts of images, as a store would; what matters not is all different."""
    n = len(paths)

    def column(values) -> np.ndarray:
        return np.array(values or [None] * n, dtype=object)

    return ImageTable(
        path=column(list(paths)),
        label=column(labels),
        split=column(splits),
        group=column(groups),
        status=np.array([i % 3 for i in range(n)], np.uint8),
        reason=column([f"reason {i}" for i in range(n)]),
        sha256=column([f"{i:064x}" for i in range(n)]),
        phash=np.arange(n, dtype=np.uint64),
    )


IMAGES = make_images(PATHS, LABELS, SPLITS, GROUPS)


@pytest.fixture
def table(tmp_path):
    """A function that writes text, or bytes, to a file; table.csv by default."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    """A function that writes columns to table.parquet."""

    def write(columns):
        pq.write_table(pa.table(columns), tmp_path / "table.parquet")
        return tmp_path / "table.parquet"

    return write


def csv_of(paths, labels=None) -> str:
    """Return a table of paths; their labels are x0, x1, ... by default."""
    labels = labels or [f"x{i}" for i in range(len(paths))]
    return "\n".join(["path,label", *(f"{p},{x}" for p, x in zip(paths, labels, strict=True))])


def labels_of(path, images=IMAGES, **options) -> tuple[list, list[str]]:
    """Return the labels and the notes of a join."""
    joined, notes = relabel(images, path, **options)
    return joined.label.tolist(), notes


def refusal(error, path, images=IMAGES, **options) -> str:
    """Return the whole message of a join that is refused, with no more than that kind of error."""
    with pytest.raises(error) as caught:
        relabel(images, path, **options)
    assert type(caught.value) is error
    return str(caught.value)


# what comes out


def test_labels_change_and_the_rest_stays(table):
    """Rows find their images in any order; all other facts are the very same arrays."""
    path = table("path,label\nval/cats/3.jpg,c\ntrain/cats/1.jpg,a\ntrain/dogs/2.jpg,b\n")
    joined, notes = relabel(IMAGES, path)
    assert joined.label.tolist() == ["a", "b", "c"]
    assert joined.label.dtype == object
    assert notes == []
    for name in ("path", "split", "group", "status", "reason", "sha256", "phash"):
        assert getattr(joined, name) is getattr(IMAGES, name)
    assert IMAGES.label.tolist() == LABELS


def test_a_real_store(table, make_store, tmp_path):
    """The facts of a store that was opened can be joined, and the file named by a string."""
    codes = {"block1_conv1": np.zeros((3, 64), np.float32)}
    store = open_store(make_store(tmp_path / "codes.h5", codes, LABELS, paths=PATHS, pending=[2]))
    joined, notes = relabel(store.images, str(table(csv_of(PATHS))))
    assert joined.label.tolist() == ["x0", "x1", "x2"]
    assert joined.status.tolist() == [Status.DONE, Status.DONE, Status.PENDING]
    assert notes == []


def test_splits_and_groups_come_from_the_table(table):
    """Where the table has the columns they win, empty cells and missing rows too."""
    path = table(
        "path,group,label,split\ntrain/cats/1.jpg,,a,Validation\ntrain/dogs/2.jpg, k ,b,\n"
    )
    joined, _ = relabel(IMAGES, path)
    assert joined.label.tolist() == ["a", "b", None]
    assert joined.split.tolist() == ["val", None, None]
    assert joined.group.tolist() == [None, "k", None]
    assert joined.split.dtype == joined.group.dtype == object


@pytest.mark.parametrize(("column", "kept"), [("split", "group"), ("group", "split")])
def test_what_the_table_lacks_is_kept(table, column, kept):
    """A table with splits and no groups leaves the groups, and the other way round."""
    path = table(f"path,label,{column}\n" + "".join(f"{name},a,test\n" for name in PATHS))
    joined, _ = relabel(IMAGES, path)
    assert getattr(joined, column).tolist() == ["test"] * 3
    assert getattr(joined, kept) is getattr(IMAGES, kept)


def test_every_name_of_a_split(table):
    """Splits are called as in a manifest, in any case."""
    assert _SPLIT_NAMES == SPLIT_NAMES
    names = [*SPLIT_NAMES, "TRAIN", "Valid", " Test "]
    images = make_images([f"{i}.jpg" for i in range(len(names))])
    path = table("path,label,split\n" + "".join(f"{i}.jpg,a,{s}\n" for i, s in enumerate(names)))
    joined, _ = relabel(images, path)
    assert joined.split.tolist() == ["train", "val", "val", "val", "test", "train", "val", "test"]


def test_labels_are_text(table):
    """Nothing that looks like a number, a truth or a gap is taken for one; only "" is None."""
    cells = ["1", "01", "1.0", "NA", "None", "nan", "null", "True", "-", "", "  "]
    paths = [f"{i:02}.jpg" for i in range(len(cells))]
    labels, notes = labels_of(table(csv_of(paths, cells)), make_images(paths))
    assert labels == [*cells[:9], None, None]
    assert notes == []


def test_labels_below_a_number(table):
    """A column that is all numbers, its head too, is text all the same."""
    path = table("path,2024\n" + "".join(f"{name},0{i}\n" for i, name in enumerate(PATHS)))
    assert labels_of(path, label_column="2024") == (["00", "01", "02"], [])


# columns


def test_columns_that_options_name(table):
    """Options win over columns of the usual names, which are then left alone."""
    path = table(
        "path,label,split,group,species,fold,patient\n"
        + "".join(f"{name},x,never,x,s{i},test,p{i}\n" for i, name in enumerate(PATHS))
    )
    joined, notes = relabel(
        IMAGES, path, label_column="species", split_column="fold", group_column="patient"
    )
    assert joined.label.tolist() == ["s0", "s1", "s2"]
    assert joined.split.tolist() == ["test"] * 3
    assert joined.group.tolist() == ["p0", "p1", "p2"]
    assert notes == []


def test_a_column_serves_once(table):
    """A column called group that holds the labels is not the groups as well."""
    path = table("path,group\n" + "".join(f"{name},x{i}\n" for i, name in enumerate(PATHS)))
    joined, notes = relabel(IMAGES, path, label_column="group")
    assert joined.label.tolist() == ["x0", "x1", "x2"]
    assert joined.group is IMAGES.group
    assert notes == []


def test_the_only_other_column_holds_the_labels(table):
    """Without a column label the only one left is taken, and said; row numbers do not count."""
    path = table(
        ",file_name,split,species,patient\n"
        + "".join(f"{i},{name},test,x{i},p\n" for i, name in enumerate(PATHS))
    )
    joined, notes = relabel(IMAGES, path, group_column="patient")
    assert joined.label.tolist() == ["x0", "x1", "x2"]
    assert notes == [
        f"Labels are taken from the column 'species' of '{path}'; --label-column NAME takes "
        "another."
    ]


@pytest.mark.parametrize(
    ("head", "columns"),
    [("path,species,breed", "'path', 'species', 'breed'"), ("path,split", "'path', 'split'")],
)
def test_no_column_of_labels(table, head, columns):
    """Two columns that may be the labels, or none, are a question to the user."""
    path = table(f"{head}\n{PATHS[0]},train\n")
    assert refusal(OptionError, path) == (
        f"Table '{path}' has no column label: its columns are {columns}. Say which holds the "
        "labels: --label-column NAME"
    )


@pytest.mark.parametrize("role", ["label", "split", "group"])
def test_a_named_column_that_is_missing(table, role):
    """Each option says what columns there are."""
    path = table(csv_of(PATHS))
    assert refusal(OptionError, path, **{f"{role}_column": "kind"}) == (
        f"Table '{path}' has no column 'kind': its columns are 'path', 'label'. "
        f"Use --{role}-column with one of them."
    )


def test_many_columns_are_not_all_listed(table):
    """An exported store has hundreds of columns: twenty are shown."""
    path = table("path," + ",".join(f"c{i}" for i in range(1200)) + "\n")
    shown = ", ".join(["'path'", *(f"'c{i}'" for i in range(19))])
    assert refusal(OptionError, path) == (
        f"Table '{path}' has no column label: its columns are {shown} and 1,181 more. Say which "
        "holds the labels: --label-column NAME"
    )


def test_path_wins_over_file_name(table):
    """As in a manifest, path is the column of paths if there are both."""
    path = table("file_name,label,path\n" + "".join(f"x,a,{name}\n" for name in PATHS))
    assert labels_of(path) == (["a"] * 3, [])


@pytest.mark.parametrize(
    ("name", "text", "columns", "hint"),
    [
        ("t.csv", "image,label\n1.jpg,a\n", "'image', 'label'", ""),
        (
            "t.csv",
            "path;label\n1.jpg;a\n",
            "'path;label'",
            " Separate the columns with commas, not ';'.",
        ),
        (
            "t.csv",
            "path\tlabel\n1.jpg\ta\n",
            "'path\tlabel'",
            r" Separate the columns with commas, not '\t'.",
        ),
        (
            "t.tsv",
            "path,label\n1.jpg,a\n",
            "'path,label'",
            " Separate the columns with tabs, not ','.",
        ),
        ("t.csv", '"a, b",label\n1.jpg,a\n', "'a, b', 'label'", ""),
    ],
)
def test_no_column_of_paths(table, name, text, columns, hint):
    """A table without paths says what it has, and whether the marks between columns are others."""
    path = table(text, name)
    assert refusal(FitError, path) == (
        f"Table '{path}' has no column path: its columns are {columns}. Expected a head with path "
        f"(or file_name) and label.{hint}"
    )


@pytest.mark.parametrize("column", ["path", "label"])
def test_a_column_twice(table, column):
    """Of a column that comes twice nobody knows which is meant."""
    path = table(f"path,label,{column}\n{PATHS[0]},a,b\n")
    assert refusal(FitError, path) == (
        f"Table '{path}' has the column '{column}' twice. Remove one of them."
    )


def test_a_column_twice_that_is_not_used(table):
    """A column that is not read may come as often as it likes."""
    path = table("path,label,x,x\n" + "".join(f"{name},a,1,2\n" for name in PATHS))
    assert labels_of(path) == (["a"] * 3, [])


# the join


def test_paths_are_compared_with_slashes(table):
    """Either side may have backslashes, "./" or a slash too many."""
    images = make_images([r"cats\1.jpg", "./cats/2.jpg", "cats/3.jpg", "cats/./4.jpg"])
    path = table(csv_of(["cats/1.jpg", "cats/2.jpg", r".\cats\3.jpg", "./cats//4.jpg"]))
    assert labels_of(path, images) == (["x0", "x1", "x2", "x3"], [])


def test_names_that_are_not_text(table):
    r"""A name of bytes that are not UTF-8 is matched as featx export spells it."""
    images = make_images(["caf\udce9.jpg", "café.jpg"])
    path = table(csv_of([r"caf\xe9.jpg", "café.jpg"]))
    assert labels_of(path, images) == (["x0", "x1"], [])
    assert labels_of(table(csv_of(["café.jpg"])), images) == (
        [None, "x0"],
        [rf"1 image has no row in '{path}', so no label: 'caf\xe9.jpg'."],
    )


@pytest.mark.parametrize("before", ["data/", "/", "/home/me/data/", "C:/data/", "../data/"])
def test_a_folder_before_all_paths_is_left_out(table, before):
    """Absolute paths, or those from another folder, match without what they share; it is said."""
    path = table(csv_of([before + name for name in PATHS]))
    assert labels_of(path) == (
        ["x0", "x1", "x2"],
        [f"Paths of '{path}' were matched without the '{before}' they share."],
    )


def test_a_folder_is_left_out_if_every_row_matches(table):
    """A table of some of the images will do; which have none is said."""
    path = table(csv_of([f"data/{name}" for name in PATHS[1:]]))
    assert labels_of(path) == (
        [None, "x0", "x1"],
        [
            f"Paths of '{path}' were matched without the 'data/' they share.",
            f"1 image has no row in '{path}', so no label: 'train/cats/1.jpg'.",
        ],
    )


def test_a_folder_is_left_out_if_every_image_matches(table):
    """A table of more than the images will do; its paths are shown as they stand there."""
    path = table(csv_of(["data/a/0.jpg", *(f"data/{name}" for name in PATHS)]))
    assert labels_of(path) == (
        ["x1", "x2", "x3"],
        [
            f"Paths of '{path}' were matched without the 'data/' they share.",
            f"1 path of '{path}' matches no image of the store: 'data/a/0.jpg'.",
        ],
    )


def test_the_least_is_left_out(table):
    """Where two ways to match are left, the one with more of the path is taken."""
    images = make_images(["a/1.jpg", "1.jpg"])
    labels, notes = labels_of(table(csv_of(["a/a/1.jpg"])), images)
    assert labels == ["x0", None]
    assert "without the 'a/' they share" in notes[0]


def test_exact_matches_come_first(table):
    """If one path matches as it is, no folder is left out of the others."""
    images = make_images(["a/1.jpg", "1.jpg", "2.jpg"])
    path = table(csv_of(["a/1.jpg", "a/2.jpg"]))
    assert labels_of(path, images) == (
        ["x0", None, None],
        [
            f"1 path of '{path}' matches no image of the store: 'a/2.jpg'.",
            f"2 images have no row in '{path}', so no label: '1.jpg', '2.jpg'.",
        ],
    )


@pytest.mark.parametrize(
    ("names", "theirs", "ours"),
    [
        # By the file's name alone.
        (["1.jpg", "2.jpg", "3.jpg"], "1.jpg", "train/cats/1.jpg"),
        # Without "x/" all but one row and one image would match.
        (["x/train/cats/9.jpg", *(f"x/{n}" for n in PATHS[1:])], "x/train/dogs/2.jpg", PATHS[1]),
        # Two folders, of which either alone would do.
        (["x/train/cats/1.jpg", "y/train/dogs/2.jpg"], "x/train/cats/1.jpg", PATHS[0]),
        # A part of a folder's name.
        (["xtrain/cats/1.jpg", "xtrain/dogs/2.jpg"], "xtrain/cats/1.jpg", PATHS[0]),
        # A folder that the store has and the table has not.
        (["cats/3.jpg"], "cats/3.jpg", PATHS[2]),
        (["mouse.png", "rat.png"], "mouse.png", PATHS[0]),
    ],
)
def test_nothing_matches(table, names, theirs, ours):
    """Nothing is guessed; a path of each side is shown, of the same file if there is one."""
    path = table(csv_of(names))
    assert refusal(FitError, path) == (
        f"No path in table '{path}' is one of the store's images: the table has '{theirs}', the "
        f"store has '{ours}'. Write the paths as the store has them."
    )


def test_two_folders_are_never_left_out(table):
    """Not even if one of them alone gives every image a row: the other may be its test set."""
    path = table(csv_of(["x/1.jpg", "y/1.jpg"]))
    assert refusal(FitError, path, make_images(["1.jpg"])) == (
        f"No path in table '{path}' is one of the store's images: the table has 'x/1.jpg', the "
        "store has '1.jpg'. Write the paths as the store has them."
    )


def test_both_sides_are_counted(table):
    """Rows and images without a match are listed: five, and how many more."""
    images = make_images([f"{i}.jpg" for i in range(8)])
    path = table(csv_of(["0.jpg", *(f"n{i}.jpg" for i in range(1206))]))
    assert labels_of(path, images) == (
        ["x0"] + [None] * 7,
        [
            f"1,206 paths of '{path}' match no image of the store: 'n0.jpg', 'n1.jpg', 'n2.jpg', "
            "'n3.jpg', 'n4.jpg' and 1,201 more.",
            f"7 images have no row in '{path}', so no label: '1.jpg', '2.jpg', '3.jpg', '4.jpg', "
            "'5.jpg' and 2 more.",
        ],
    )


def test_an_image_twice_in_the_store(table):
    """A manifest may list an image twice; both rows get its label."""
    images = make_images(["1.jpg", "2.jpg", "1.jpg"])
    assert labels_of(table(csv_of(["1.jpg", "2.jpg"])), images) == (["x0", "x1", "x0"], [])


# rows


def test_a_row_twice(table):
    """The same row twice is fine, also with the path spelt otherwise."""
    path = table(csv_of([*PATHS, f"./{PATHS[0]}", PATHS[0]], ["a", "b", "c", "a", " a "]))
    assert labels_of(path) == (["a", "b", "c"], [])


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("a,train,g", "b,train,g", "label 'a' and with label 'b'"),
        (",train,g", "b,train,g", "no label and with label 'b'"),
        ("a,valid,g", "a,test,g", "split 'val' and with split 'test'"),
        ("a,train,g", "a,train,", "group 'g' and with no group"),
    ],
)
def test_rows_that_contradict(table, first, second, problem):
    """A path twice with two labels, splits or groups says which."""
    path = table(
        f"path,label,split,group\n{PATHS[0]},{first}\n{PATHS[1]},a,,\n./{PATHS[0]},{second}"
    )
    assert refusal(FitError, path) == (
        f"Table '{path}' has './{PATHS[0]}' twice, with {problem}. Remove one of the rows."
    )


def test_unknown_splits(table):
    """A value that is no split, here dev, is shown among all that the column holds."""
    path = table("path,label,fold\n1.jpg,a,train\n2.jpg,a,dev\n3.jpg,a,\n4.jpg,a,dev\n5,a,Test")
    assert refusal(FitError, path, split_column="fold") == (
        f"Column 'fold' of table '{path}' holds 'dev', 'Test', 'train'. Expected train, val or "
        "test, or an empty cell. For another column: --split-column NAME"
    )


def test_no_labels_at_all(table):
    """A table whose labels are empty, where it matches, has another column in mind."""
    path = table(csv_of([*PATHS, "other.jpg"], ["", " ", "", "a"]))
    assert refusal(FitError, path) == (
        f"No image gets a label from table '{path}': their cells in the column 'label' are empty. "
        "Fill them in, or name another column: --label-column NAME"
    )


def test_a_row_without_a_path(table):
    """A label of nothing is refused; lines without text, as spreadsheets leave them, are none."""
    rows = "".join(f"{name},a\n" for name in PATHS)
    assert labels_of(table(f"path,label\n{rows},\n , \n\n,\n")) == (["a"] * 3, [])
    path = table(f"file_name,label\n{rows} ,b\n")
    assert refusal(FitError, path) == (
        f"Table '{path}', row 4 below the head: the file_name is empty. Fill it in, or remove the "
        "row."
    )


# files


def test_text_as_spreadsheets_write_it(table):
    """A mark at the start, blank lines, quotes, spaces in the head, Windows' ends of lines."""
    paths = ["a, b.jpg", 'the "c".jpg', "d.jpg"]
    path = table(
        '\ufeff\r\n"path", label ,x\r\n"a, b.jpg","cat, tabby",\r\n\r\n'
        '"the ""c"".jpg",dog\r\nd.jpg,'
    )
    assert labels_of(path, make_images(paths)) == (["cat, tabby", "dog", None], [])


def test_tabs_by_the_ending(table):
    """A table that ends in .tsv has tabs, in any case; commas are then like any letter."""
    path = table("path\tlabel\n" + "".join(f"{name}\ta,b\n" for name in PATHS), "table.TSV")
    assert labels_of(path) == (["a,b"] * 3, [])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize(("name", "format_"), [("t.csv", "CSV"), ("t.tsv", "TSV")])
def test_not_utf_8(table, encoding, name, format_):
    """Text of another kind says how to save it."""
    path = table("path,label\n1.jpg,é\n".encode(encoding), name)
    marks = {"CSV": "commas", "TSV": "tabs"}[format_]
    assert refusal(FitError, path) == (
        f"Table '{path}' is not UTF-8 text. Save it as {format_} in UTF-8, with {marks}."
    )


def test_a_table_that_is_packed(table):
    """A packed file is not text either."""
    path = table(gzip.compress(csv_of(PATHS).encode()), "table.csv.gz")
    assert refusal(FitError, path) == (
        f"Table '{path}' is not UTF-8 text. Save it as CSV in UTF-8, with commas."
    )


def test_no_file(tmp_path):
    """A file that is missing, Parquet too, says what a table looks like."""
    for name in ("none.csv", "none.parquet"):
        assert refusal(OptionError, tmp_path / name) == (
            f"No table '{tmp_path / name}'. Expected a CSV file with columns path and label: "
            "--labels FILE.csv"
        )


def test_a_folder(tmp_path):
    """A folder is no table."""
    assert refusal(OptionError, tmp_path) == (
        f"'{tmp_path}' is a folder, not a table. Give a file: --labels FILE.csv"
    )


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_file_that_may_not_be_read(table, monkeypatch, name):
    """The system's refusal is passed on in its words (root may read all, so it is played)."""
    path = table("", name)

    def refuse(*_arguments, **_keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pd, "read_csv", refuse)
    monkeypatch.setattr(type(path), "open", refuse)
    assert refusal(FitError, path) == (
        f"Table '{path}' cannot be read: Permission denied. Expected a file that you may read: "
        "--labels FILE.csv"
    )


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file(table, text):
    """A file without text says what is expected in it."""
    path = table(text)
    assert refusal(FitError, path) == (
        f"Table '{path}' is empty. Expected columns path and label, with a head."
    )


@pytest.mark.parametrize("rows", ["", ",\n\n,\n"])
def test_a_head_alone(table, rows):
    """A table without rows is refused as a manifest is."""
    path = table(f"path,label\n{rows}")
    assert refusal(FitError, path) == (
        f"Table '{path}' has a head but no rows. Give it a row for each image."
    )


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "t.csv",
            "path,label\n1.jpg,a\n\n2, 3.jpg,b\n",
            ", line 4: 3 cells, but the head has 2. Put a cell that holds a comma in quotes.",
        ),
        # pandas alone would take the first column for an index here.
        (
            "t.csv",
            "path,label\n1.jpg,a,b\n2.jpg,b,c\n",
            ", line 2: 3 cells, but the head has 2. Put a cell that holds a comma in quotes.",
        ),
        (
            "t.tsv",
            "path\tlabel\n1.jpg\ta\tb\n",
            ", line 2: 3 cells, but the head has 2. Put a cell that holds a tab in quotes.",
        ),
        (
            "t.csv",
            'path,label\n1.jpg,a\n2.jpg,"b\n3.jpg,c\n',
            ', line 3: a cell begins with a quote (") that never ends. End it, or remove it.',
        ),
    ],
)
def test_text_that_is_no_table(table, name, text, problem):
    """What pandas cannot parse is said in words, with the line."""
    path = table(text, name)
    assert refusal(FitError, path) == f"Table '{path}'{problem}"


def test_any_other_trouble_of_pandas(table, monkeypatch):
    """A complaint that is not known is passed on."""
    path = table(csv_of(PATHS))

    def refuse(*_arguments, **_keywords):
        message = "Error tokenizing data. C error: out of memory\n"
        raise pd.errors.ParserError(message)

    monkeypatch.setattr(pd, "read_csv", refuse)
    assert refusal(FitError, path) == (
        f"Table '{path}' cannot be read: Error tokenizing data. C error: out of memory. Expected "
        "CSV in UTF-8."
    )


# Parquet


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["01", None, "NA"], ["01", None, "NA"]),
        ([1, None, 10], ["1", None, "10"]),  # pandas would have made it 1.0
        ([True, False, None], ["True", "False", None]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.array(["a", "", "b"], pa.large_string()), ["a", None, "b"]),
    ],
)
def test_parquet(parquet, labels, expected):
    """Text, categories, whole numbers and truths become text; a gap is None."""
    path = parquet({"code": [0.5] * 3, "path": PATHS, "label": labels})
    assert labels_of(path) == (expected, [])


def test_parquet_splits_and_groups(parquet):
    """All columns are read; one without a value gives None."""
    path = parquet(
        {"file_name": PATHS, "label": ["a"] * 3, "split": ["test"] * 3, "group": [None] * 3}
    )
    joined, notes = relabel(IMAGES, path)
    assert joined.split.tolist() == ["test"] * 3
    assert joined.group.tolist() == [None] * 3
    assert notes == []


def test_parquet_in_a_folder_with_an_equals_sign(tmp_path):
    """A folder called NAME=VALUE adds no column."""
    (tmp_path / "label=9").mkdir()
    path = tmp_path / "label=9" / "t.PARQUET"
    pq.write_table(pa.table({"path": PATHS, "species": ["a", "b", "c"]}), path)
    assert labels_of(path)[0] == ["a", "b", "c"]


@pytest.mark.parametrize(("labels", "kind"), [([1.0, None, 2.0], "double"), ([[1]] * 3, "list")])
def test_parquet_of_other_values(parquet, labels, kind):
    """Numbers with a point, or lists, are no labels."""
    path = parquet({"path": PATHS, "label": labels})
    message = refusal(FitError, path)
    assert message.startswith(f"Column 'label' of table '{path}' holds values of type {kind}")
    assert message.endswith(". Expected text or whole numbers. Save it as text.")


def test_parquet_that_is_none(table, parquet):
    """A file that only ends like Parquet, or was damaged, says so, whenever that is found."""
    path = parquet({"path": [f"{i}.jpg" for i in range(3000)], "label": ["a"] * 3000})
    whole = path.read_bytes()
    damaged = whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :]
    for content in (b"path,label\n", b"", whole[:-9], damaged):
        path = table(content, "table.parquet")
        assert refusal(FitError, path) == (
            f"Table '{path}' is no Parquet file, or a damaged one. Save it again, or as CSV."
        )
