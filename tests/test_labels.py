"""A table of labels joined to a store's images: matches, notes and errors."""

import numpy as np
import pytest

from featx.dataset.labels import LabelSettings, check_columns, relabel
from featx.errors import FitError, OptionError
from featx.store import ImageTable, Status, open_store

PATHS = ["train/cats/1.jpg", "train/dogs/2.jpg", "val/cats/3.jpg"]
LABELS = ["cats", "dogs", "cats"]
SPLITS = ["train", "train", "val"]
GROUPS = ["g", None, "h"]


def make_images(paths=PATHS, labels=None, splits=None, groups=None) -> ImageTable:
    """Return facts about images as from a store; facts that do not matter all differ."""
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
    """A function that writes text to table.csv."""

    def write(content):
        path = tmp_path / "table.csv"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def table_of(paths, labels=None):
    """Return a table of paths as columns; their labels are x0, x1, ... by default."""
    return {"path": paths, "label": labels or [f"x{i}" for i in range(len(paths))]}


def labels_of(source, images=IMAGES, **options) -> tuple[list, list[str]]:
    """Return the labels and the notes of a join."""
    joined, notes = relabel(images, LabelSettings(labels=source, **options))
    return joined.label.tolist(), notes


def refusal(error, source, images=IMAGES, **options) -> str:
    """Return the message of a join that is refused, with exactly that class of error."""
    with pytest.raises(error) as caught:
        relabel(images, LabelSettings(labels=source, **options))
    assert type(caught.value) is error
    return str(caught.value)


def holds(message, *facts) -> bool:
    """Return whether a message has all these facts."""
    return all(str(fact) in message for fact in facts)


# the result


def test_labels_change_and_the_rest_stays(table):
    """Rows find their images in any order; all other facts are the same arrays."""
    path = table("path,label\nval/cats/3.jpg,c\ntrain/cats/1.jpg,a\ntrain/dogs/2.jpg,b\n")
    joined, notes = relabel(IMAGES, LabelSettings(labels=path))
    assert joined.label.tolist() == ["a", "b", "c"]
    assert joined.label.dtype == object
    assert notes == []
    for name in ("path", "split", "group", "status", "reason", "sha256", "phash"):
        assert getattr(joined, name) is getattr(IMAGES, name)
    assert IMAGES.label.tolist() == LABELS


def test_a_real_store(table, make_store, tmp_path):
    """The images of an open store can be joined, and the file named by a string."""
    codes = {"block1_conv1": np.zeros((3, 64), np.float32)}
    store = open_store(make_store(tmp_path / "codes.h5", codes, LABELS, paths=PATHS, pending=[2]))
    path = table("path,label\n" + "".join(f"{name},x{i}\n" for i, name in enumerate(PATHS)))
    joined, notes = relabel(store.images, LabelSettings(labels=str(path)))
    assert joined.label.tolist() == ["x0", "x1", "x2"]
    assert joined.status.tolist() == [Status.DONE, Status.DONE, Status.PENDING]
    assert notes == []


def test_splits_and_groups_come_from_the_table(table):
    """The columns of the table take precedence, even where cells or rows are missing."""
    path = table(
        "path,group,label,split\ntrain/cats/1.jpg,,a,Validation\ntrain/dogs/2.jpg, k ,b,\n"
    )
    joined, _ = relabel(IMAGES, LabelSettings(labels=path))
    assert joined.label.tolist() == ["a", "b", None]
    assert joined.split.tolist() == ["val", None, None]
    assert joined.group.tolist() == [None, "k", None]
    assert joined.split.dtype == joined.group.dtype == object


@pytest.mark.parametrize(("column", "kept"), [("split", "group"), ("group", "split")])
def test_what_the_table_lacks_is_kept(column, kept):
    """A table with splits and no groups keeps the groups, and vice versa."""
    joined, _ = relabel(IMAGES, LabelSettings(labels={**table_of(PATHS), column: ["test"] * 3}))
    assert getattr(joined, column).tolist() == ["test"] * 3
    assert getattr(joined, kept) is getattr(IMAGES, kept)


# columns


def test_columns_that_options_name(table):
    """Named columns, in any case, take precedence over columns of the usual names."""
    path = table(
        "path;label;split;group;Datei;Species;fold;patient\n"
        + "".join(f"x;x;never;x;{name};s{i};test;p{i}\n" for i, name in enumerate(PATHS))
    )
    settings = LabelSettings(
        labels=path,
        path_column="datei",
        label_column="species",
        split_column="fold",
        group_column="patient",
    )
    joined, notes = relabel(IMAGES, settings)
    assert joined.label.tolist() == ["s0", "s1", "s2"]
    assert joined.split.tolist() == ["test"] * 3
    assert joined.group.tolist() == ["p0", "p1", "p2"]
    assert notes == []


def test_a_column_has_one_role():
    """A column called group that holds the labels is not the groups as well."""
    source = {"path": PATHS, "group": LABELS}
    joined, notes = relabel(IMAGES, LabelSettings(labels=source, label_column="group"))
    assert joined.label.tolist() == LABELS
    assert joined.group is IMAGES.group
    assert notes == []


def test_the_only_other_column_holds_the_labels(table):
    """Without a column label the only other column is used, with a note; an index is ignored."""
    path = table(
        ",file_name,split,species,patient\n"
        + "".join(f"{i},{name},test,x{i},p\n" for i, name in enumerate(PATHS))
    )
    labels, (note,) = labels_of(path, group_column="patient")
    assert labels == ["x0", "x1", "x2"]
    assert holds(note, "'species'", path, "--label-column")


@pytest.mark.parametrize("columns", [["path", "species", "breed"], ["path", "split"]])
def test_no_column_of_labels(columns):
    """With several possible columns of labels, or none, the user has to name one."""
    message = refusal(OptionError, {name: ["train"] for name in columns})
    assert holds(message, *map(repr, columns), "--label-column")


@pytest.mark.parametrize("role", ["path", "label", "split", "group"])
def test_a_named_column_that_is_missing(role):
    """The message has the name, the columns and the flag."""
    message = refusal(OptionError, table_of(PATHS), **{f"{role}_column": "kind"})
    assert holds(message, "'kind'", "'path', 'label'", f"--{role}-column")


def test_names_of_columns_need_a_table():
    """A column without --labels is refused."""
    assert relabel(IMAGES, LabelSettings()) == (IMAGES, [])
    check_columns(LabelSettings(labels={"path": PATHS}, label_column="kind"))
    with pytest.raises(OptionError, match="--labels"):
        check_columns(LabelSettings(label_column="kind"))


# the join


def test_paths_are_compared_with_slashes():
    """Either side may have backslashes, "./" or doubled slashes."""
    images = make_images([r"cats\1.jpg", "./cats/2.jpg", "cats/3.jpg", "cats/./4.jpg"])
    source = table_of(["cats/1.jpg", "cats/2.jpg", r".\cats\3.jpg", "./cats//4.jpg"])
    assert labels_of(source, images) == (["x0", "x1", "x2", "x3"], [])


def test_names_that_are_not_text():
    r"""A name of bytes that are not UTF-8 matches as featx export spells it."""
    images = make_images(["caf\udce9.jpg", "café.jpg"])
    assert labels_of(table_of([r"caf\xe9.jpg", "café.jpg"]), images) == (["x0", "x1"], [])
    labels, (note,) = labels_of(table_of(["café.jpg"]), images)
    assert labels == [None, "x0"]
    assert holds(note, "1 image", r"'caf\xe9.jpg'")


@pytest.mark.parametrize("folder", ["data/", "/", "/home/me/data/", "C:\\data\\", "../data/"])
def test_a_folder_that_all_paths_share_is_removed(folder):
    """Absolute paths, or those from another folder, match without the folder; a note reports it."""
    labels, (note,) = labels_of(table_of([folder + name for name in PATHS]))
    assert labels == ["x0", "x1", "x2"]
    assert holds(note, repr(folder.replace("\\", "/")))


def test_the_folder_is_removed_if_every_row_matches():
    """A table of some of the images is enough; images without a row are counted."""
    labels, notes = labels_of(table_of([f"data/{name}" for name in PATHS[1:]]))
    assert labels == [None, "x0", "x1"]
    assert holds(notes[0], "'data/'")
    assert holds(notes[1], "1 image", "'train/cats/1.jpg'")


def test_the_folder_is_removed_if_every_image_matches():
    """A table of more images is fine; unused paths are shown as in the table."""
    labels, notes = labels_of(table_of(["data/a/0.jpg", *(f"data/{name}" for name in PATHS)]))
    assert labels == ["x1", "x2", "x3"]
    assert holds(notes[0], "'data/'")
    assert holds(notes[1], "1 path", "'data/a/0.jpg'")


def test_the_shortest_folder_is_removed():
    """If two ways to match are possible, the one with more of the path is used."""
    images = make_images(["a/1.jpg", "1.jpg"])
    labels, notes = labels_of(table_of(["a/a/1.jpg"]), images)
    assert labels == ["x0", None]
    assert holds(notes[0], "'a/'")


def test_exact_matches_take_precedence():
    """If one path matches as it is, no folder is removed from the others."""
    images = make_images(["a/1.jpg", "1.jpg", "2.jpg"])
    labels, notes = labels_of(table_of(["a/1.jpg", "a/2.jpg"]), images)
    assert labels == ["x0", None, None]
    assert holds(notes[0], "1 path", "'a/2.jpg'")
    assert holds(notes[1], "2 images", "'1.jpg', '2.jpg'")


@pytest.mark.parametrize(
    ("names", "theirs", "ours"),
    [
        # Only the name of the file is the same.
        (["1.jpg", "2.jpg", "3.jpg"], "1.jpg", "train/cats/1.jpg"),
        # Without "x/", all but one row and one image would match.
        (["x/train/cats/9.jpg", *(f"x/{n}" for n in PATHS[1:])], "x/train/dogs/2.jpg", PATHS[1]),
        # Two folders; removing either one would be enough.
        (["x/train/cats/1.jpg", "y/train/dogs/2.jpg"], "x/train/cats/1.jpg", PATHS[0]),
        # A part of a folder's name.
        (["xtrain/cats/1.jpg", "xtrain/dogs/2.jpg"], "xtrain/cats/1.jpg", PATHS[0]),
        # A folder that the store has and the table has not.
        (["cats/3.jpg"], "cats/3.jpg", PATHS[2]),
        (["mouse.png", "rat.png"], "mouse.png", PATHS[0]),
    ],
)
def test_nothing_matches(names, theirs, ours):
    """Nothing is guessed; a path of each side is shown, of the same file if possible."""
    assert holds(refusal(FitError, table_of(names)), repr(theirs), repr(ours))


def test_two_folders_are_never_removed():
    """Even if one of them gives every image a row, the other may be its test set."""
    message = refusal(FitError, table_of(["x/1.jpg", "y/1.jpg"]), make_images(["1.jpg"]))
    assert holds(message, "'x/1.jpg'", "'1.jpg'")


def test_both_sides_are_counted():
    """Of rows and images without a match, five are shown and the rest are counted."""
    images = make_images([f"{i}.jpg" for i in range(8)])
    labels, notes = labels_of(table_of(["0.jpg", *(f"n{i}.jpg" for i in range(1206))]), images)
    assert labels == ["x0"] + [None] * 7
    assert holds(notes[0], "1,206 paths", "'n4.jpg' and 1201 more")
    assert holds(notes[1], "7 images", "'5.jpg' and 2 more")


def test_an_image_twice_in_the_store():
    """A manifest may list an image twice; both rows get its label."""
    images = make_images(["1.jpg", "2.jpg", "1.jpg"])
    assert labels_of(table_of(["1.jpg", "2.jpg"]), images) == (["x0", "x1", "x0"], [])


# rows


def test_a_row_twice():
    """The same row twice is fine, also with another spelling of the path."""
    source = table_of([*PATHS, f"./{PATHS[0]}", PATHS[0]], ["a", "b", "c", "a", " a "])
    assert labels_of(source) == (["a", "b", "c"], [])


@pytest.mark.parametrize(
    ("first", "second", "facts"),
    [
        ("a,train,g", "b,train,g", ("label 'a'", "label 'b'")),
        (",train,g", "b,train,g", ("no label", "label 'b'")),
        ("a,valid,g", "a,test,g", ("split 'val'", "split 'test'")),
        ("a,train,g", "a,train,", ("group 'g'", "no group")),
    ],
)
def test_rows_that_contradict(table, first, second, facts):
    """A path with two labels, splits or groups is refused with both lines."""
    path = table(
        f"path,label,split,group\n{PATHS[0]},{first}\n{PATHS[1]},a,,\n./{PATHS[0]},{second}"
    )
    message = refusal(FitError, path)
    assert holds(message, path, f"'./{PATHS[0]}'", "line 2", "line 4", *facts)


def test_an_unknown_split_of_a_named_column():
    """The value, its row and its column are shown."""
    source = {**table_of(PATHS), "fold": ["train", "dev", "Test"]}
    assert holds(refusal(FitError, source, split_column="fold"), "row 2", "'dev'", "'fold'")


def test_no_labels_at_all():
    """A column of labels that is empty in all rows that match is refused."""
    source = table_of([*PATHS, "other.jpg"], ["", " ", None, "a"])
    assert holds(refusal(FitError, source), "'label'", "--label-column")
