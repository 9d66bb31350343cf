"""From a folder or a table to ordered records: every layout, every note, every refusal."""

import csv
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from featx.errors import ImagesError, OptionError
from featx.images import ImageRecord, list_images

DATA = Path(__file__).parent.parent / "data"

SUFFIXES = ".jpg .jpeg .jfif .png .gif .bmp .tif .tiff .webp .ppm .pgm .pbm .avif .jp2"


@pytest.fixture
def tree(tmp_path):
    """A function that makes files, with the text after a colon in them, below tmp_path/data."""

    def make(*names: str) -> Path:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        for name in names:
            path, _, text = name.partition(":")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        return root

    return make


@pytest.fixture
def table(tmp_path):
    """A function that writes a manifest, tmp_path/list.csv."""

    def write(text: str) -> Path:
        path = tmp_path / "list.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def facts(listing) -> list[tuple]:
    """Return what is known about each image, without where it lies."""
    return [(r.path, r.label, r.split, r.group) for r in listing.records]


def refusal(*arguments, error=ImagesError, **keywords) -> str:
    """Return the whole message of a listing that is refused."""
    with pytest.raises(error) as caught:
        list_images(*arguments, **keywords)
    return str(caught.value)


# folders


def test_class_folders(tree):
    """The first folder is the label, folders below it belong to it, and nothing is said."""
    root = tree("cat/1.jpg", "dog/big/old/2.PNG", "dog/3.jpg")
    listing = list_images(root)
    assert facts(listing) == [
        ("cat/1.jpg", "cat", None, None),
        ("dog/3.jpg", "dog", None, None),
        ("dog/big/old/2.PNG", "dog", None, None),
    ]
    assert listing.notes == ()
    assert listing.root == root
    assert [record.file for record in listing.records] == [
        root / "cat/1.jpg",
        root / "dog/3.jpg",
        root / "dog/big/old/2.PNG",
    ]


def test_path_may_be_text(tree, monkeypatch):
    """A relative path as text is listed as it is, and data is where featx looks by itself."""
    tree("cat/1.jpg")
    monkeypatch.chdir(tree().parent)
    expected = (ImageRecord("cat/1.jpg", Path("data/cat/1.jpg"), "cat", None, None),)
    assert list_images("data").records == list_images().records == expected


def test_flat_folder(tree):
    """Images in no folder have no label, and that needs no note where none has one."""
    listing = list_images(tree("1.jpg", "2.jpg"))
    assert facts(listing) == [("1.jpg", None, None, None), ("2.jpg", None, None, None)]
    assert listing.notes == ()


def test_images_beside_class_folders(tree):
    """Images at the root, where others have a label, are counted."""
    listing = list_images(tree("cat/1.jpg", "2.jpg", "3.jpg"))
    assert facts(listing) == [
        ("2.jpg", None, None, None),
        ("3.jpg", None, None, None),
        ("cat/1.jpg", "cat", None, None),
    ]
    assert listing.notes == ("Without a label: 2 of 3 images, '2.jpg' and 1 more.",)


def test_single_file(tree):
    """One image is a list of one, by its name."""
    root = tree("cat/1.jpg")
    listing = list_images(root / "cat/1.jpg")
    assert listing.records == (ImageRecord("1.jpg", root / "cat/1.jpg", None, None, None),)
    assert listing.root == root / "cat"


def test_every_suffix(tree):
    """All twelve suffixes count, in any case, and others do not."""
    names = [f"a/x{s}" for s in SUFFIXES.split()] + [f"a/y{s.upper()}" for s in SUFFIXES.split()]
    listing = list_images(tree(*names, "a/z.heic", "a/z.txt", "a/jpg", "a/z.jpg.zip"))
    assert {record.path for record in listing.records} == set(names)


def test_order_is_by_code_points(tree):
    """Capitals before small letters, digits as text, and a slash before a letter."""
    names = ["B/1.jpg", "a-b/1.jpg", "a/1.jpg", "a/10.jpg", "a/2.jpg", "ab/1.jpg", "é/1.jpg"]
    listing = list_images(tree(*reversed(names)))
    assert [record.path for record in listing.records] == names


def test_hidden_entries_are_skipped(tree):
    """Names with a leading dot, and what macOS leaves in a zip, are no images."""
    root = tree("cat/1.jpg", "cat/._1.jpg", ".cache/2.jpg", "__MACOSX/cat/3.jpg", "cat/.x/4.jpg")
    assert [record.path for record in list_images(root).records] == ["cat/1.jpg"]


def test_entries_that_will_not_decode_stay(tree):
    """A folder called like an image, and a broken link, are listed; the folder is not entered."""
    root = tree("cat/1.jpg", "cat/2.png/inside.jpg")
    (root / "cat/3.jpg").symlink_to("nowhere.jpg")
    paths = [record.path for record in list_images(root).records]
    assert paths == ["cat/1.jpg", "cat/2.png", "cat/3.jpg"]


def test_class_folder_without_images(tree):
    """A class folder that holds only other files is named, with their number."""
    listing = list_images(tree("cat/1.jpg", "dog/1.heic", "dog/old/2.heic", "README.md"))
    assert facts(listing) == [("cat/1.jpg", "cat", None, None)]
    assert listing.notes == ("Folder 'dog' holds no image and was left out: 2 other files.",)


# splits


def test_splits(tree):
    """Each split has its classes, valid is val, and test may have none."""
    root = tree("train/cat/1.jpg", "train/dog/x/2.jpg", "valid/cat/3.jpg", "test/4.jpg")
    listing = list_images(root)
    assert facts(listing) == [
        ("test/4.jpg", None, "test", None),
        ("train/cat/1.jpg", "cat", "train", None),
        ("train/dog/x/2.jpg", "dog", "train", None),
        ("valid/cat/3.jpg", "cat", "val", None),
    ]
    assert listing.notes == ("Without a label: 1 of 4 images, 'test/4.jpg'.",)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "VAL"])
def test_names_of_validation(tree, name):
    """Every name of the validation split is stored as val."""
    listing = list_images(tree("train/cat/1.jpg", f"{name}/cat/2.jpg"))
    assert {record.split for record in listing.records} == {"train", "val"}


def test_two_folders_of_one_split(tree):
    """val and valid together are one split, and that is said."""
    listing = list_images(tree("train/cat/1.jpg", "val/cat/2.jpg", "valid/cat/3.jpg"))
    assert [record.split for record in listing.records] == ["train", "val", "val"]
    assert listing.notes == ("Folders 'val', 'valid' were merged into the split val.",)


def test_folders_beside_splits_are_left_out(tree):
    """Folders that are no split are named, and their images counted."""
    root = tree("train/cat/1.jpg", "val/cat/2.jpg", "raw/3.jpg", "raw/x/4.jpg", "tmp/5.jpg")
    listing = list_images(root)
    assert [record.path for record in listing.records] == ["train/cat/1.jpg", "val/cat/2.jpg"]
    assert listing.notes == (
        "Folder 'raw' lies beside the splits and was left out: 2 images.",
        "Folder 'tmp' lies beside the splits and was left out: 1 image.",
    )


def test_class_called_train(tree):
    """Beside other classes, a folder train that holds images is a class."""
    listing = list_images(tree("car/1.jpg", "train/2.jpg"))
    assert facts(listing) == [
        ("car/1.jpg", "car", None, None),
        ("train/2.jpg", "train", None, None),
    ]


def test_flat_splits_alone(tree):
    """train and test alone, without classes, are splits: nothing else is there to be told apart."""
    listing = list_images(tree("train/1.jpg", "test/2.jpg"))
    assert facts(listing) == [
        ("test/2.jpg", None, "test", None),
        ("train/1.jpg", None, "train", None),
    ]


def test_stray_image_in_a_split(tree):
    """An image beside the classes of a split has the split and no label."""
    listing = list_images(tree("train/cat/1.jpg", "train/2.jpg"))
    assert facts(listing) == [
        ("train/2.jpg", None, "train", None),
        ("train/cat/1.jpg", "cat", "train", None),
    ]


def test_class_without_images_in_a_split(tree):
    """With splits, a class folder without images is named with its split."""
    listing = list_images(tree("train/cat/1.jpg", "train/dog/2.heic", "docs/x/3.txt"))
    assert listing.notes == ("Folder 'train/dog' holds no image and was left out: 1 other file.",)


# metadata.csv


def test_table_wins_over_folders(tree):
    """A filled cell wins, an empty one leaves what the folders say, other columns mean nothing."""
    root = tree(
        "cat/1.jpg",
        "cat/2.jpg",
        "metadata.csv:file_name,label,split,group,width\n"
        "cat/1.jpg,tiger,validation,zoo,5\ncat/2.jpg,,,,\n",
    )
    listing = list_images(root)
    assert facts(listing) == [
        ("cat/1.jpg", "tiger", "val", "zoo"),
        ("cat/2.jpg", "cat", None, None),
    ]
    assert listing.notes == ()


def test_deepest_table_wins(tree):
    """Of two tables the deeper one wins, cell by cell; its names are relative to itself."""
    root = tree(
        "train/a/1.jpg",
        "val/a/2.jpg",
        "metadata.csv:file_name,label,group\ntrain/a/1.jpg,top,g\nval/a/2.jpg,top,h\n",
        "train/metadata.csv:file_name,label\na/1.jpg,deep\n",
    )
    assert facts(list_images(root)) == [
        ("train/a/1.jpg", "deep", "train", "g"),
        ("val/a/2.jpg", "top", "val", "h"),
    ]


def test_unlisted_images_are_counted(tree):
    """Images below a table that does not name them are taken by folder, and counted."""
    root = tree(
        "train/a/1.jpg",
        "train/a/2.jpg",
        "val/a/3.jpg",
        "train/metadata.csv:file_name,label\na/1.jpg,x\n",
    )
    listing = list_images(root)
    assert [record.label for record in listing.records] == ["x", "a", "a"]
    assert listing.notes == (
        "Not named in metadata.csv, so taken by folder: 1 image, 'train/a/2.jpg'.",
    )


def test_listed_image_that_is_missing(tree):
    """A file that a table names is a record, whether it is there or not."""
    root = tree("cat/1.jpg", "metadata.csv:file_name,group\ncat/0.jpg,g\ncat/1.jpg,g\n")
    assert facts(list_images(root)) == [
        ("cat/0.jpg", "cat", None, "g"),
        ("cat/1.jpg", "cat", None, "g"),
    ]


def test_listed_image_beside_the_splits(tree):
    """A table can bring in an image from a folder that would be left out."""
    root = tree(
        "train/a/1.jpg",
        "raw/2.jpg",
        "raw/3.jpg",
        "metadata.csv:file_name,label,split\ntrain/a/1.jpg,,\nraw/2.jpg,b,test\n",
    )
    listing = list_images(root)
    assert facts(listing) == [
        ("raw/2.jpg", "b", "test", None),
        ("train/a/1.jpg", "a", "train", None),
    ]
    assert "Folder 'raw' lies beside the splits and was left out: 1 image." in listing.notes


def test_table_may_name_files_outside(tree):
    """A path that leaves the folder is kept, and its folders are no label."""
    root = tree("cat/1.jpg", "metadata.csv:file_name\n../more/2.jpg\ncat/1.jpg\n")
    assert facts(list_images(root))[0] == ("../more/2.jpg", None, None, None)


def test_hugging_face_layout(tree):
    """Flat splits with a table each, as Hugging Face's imagefolder has them."""
    root = tree(
        "train/1.jpg",
        "train/metadata.csv:file_name,label\n1.jpg,cat\n",
        "test/2.jpg",
        "test/metadata.csv:file_name,label\n2.jpg,dog\n",
    )
    assert facts(list_images(root)) == [
        ("test/2.jpg", "dog", "test", None),
        ("train/1.jpg", "cat", "train", None),
    ]


def test_table_without_file_name(tree):
    """A metadata.csv without its column of files is refused, with the columns it has."""
    root = tree("cat/1.jpg", "metadata.csv:image,label\ncat/1.jpg,x\n")
    assert refusal(root) == (
        f"Table '{root}/metadata.csv' has no column file_name: its columns are 'image', 'label'. "
        "Expected columns file_name and, if you like, label, split, group."
    )


def test_file_twice_in_a_table(tree):
    """Two rows for one file contradict each other, however they spell it."""
    root = tree("cat/1.jpg", "metadata.csv:file_name,label\ncat/1.jpg,x\n./cat/1.jpg,y\n")
    assert refusal(root) == (
        f"Table '{root}/metadata.csv' has './cat/1.jpg' twice, in lines 2 and 3. "
        "Remove one of them."
    )


# links and odd names


def test_links_are_followed(tree, tmp_path):
    """Links to files and to folders count as what they lead to, under their own names."""
    root = tree("cat/1.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/2.jpg").touch()
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat/3.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    paths = [record.path for record in list_images(root).records]
    assert paths == ["cat/1.jpg", "cat/3.jpg", "dog/2.jpg"]


def test_loop_of_links_is_cut(tree):
    """Links that lead back up, or to themselves, end the walk there, and are named."""
    root = tree("cat/1.jpg", "dog/2.jpg")
    (root / "cat/up").symlink_to(root)
    (root / "cat/across").symlink_to(root / "dog")
    (root / "dog/back").symlink_to(root / "cat")
    (root / "dog/self").symlink_to("self")
    listing = list_images(root)
    assert [record.path for record in listing.records] == [
        "cat/1.jpg",
        "cat/across/2.jpg",
        "dog/2.jpg",
        "dog/back/1.jpg",
    ]
    ends = ["cat/across/back", "cat/up", "dog/back/across", "dog/back/up"]
    assert listing.notes == tuple(
        f"Link '{end}' leads back to a folder that it lies in, and was not followed."
        for end in ends
    )


def test_name_that_is_no_utf8(tree):
    """Bytes that are no UTF-8 survive in the path, and print as an escape in a note."""
    root = tree("cat/1.jpg")
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    listing = list_images(root)
    record = next(record for record in listing.records if record.label is None)
    assert os.fsencode(record.path) == b"caf\xe9.jpg"
    assert record.file.exists()
    note = r"Without a label: 1 of 2 images, 'caf\udce9.jpg'."
    assert listing.notes == (note,)


def test_folder_that_may_not_be_read(tree, monkeypatch):
    """An unreadable folder stops the listing; faked, because root may read everything."""
    root = tree("cat/1.jpg", "dog/2.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(root) == (
        f"Folder '{root}/dog' cannot be read: Permission denied. Expected a folder that you may "
        f"read: ls -ld '{root}/dog' shows who may."
    )


# refusals of folders


def test_missing_folder(tmp_path):
    """A folder that is not there is named, with what to give instead."""
    assert refusal(tmp_path / "photos") == (
        f"No folder '{tmp_path}/photos'. Expected a folder with a folder of images for each class, "
        "or one image. Give the path of yours, or a table: --manifest FILE.csv"
    )


def test_folder_without_images(tree):
    """A folder without images says what it looked for and what it found."""
    root = tree("cat/1.heic", "cat/2.HEIC", "notes.txt", "Makefile")
    assert refusal(root) == (
        f"No images in '{root}'; it holds 4 other files (.heic, .txt). Expected files ending in "
        f"{SUFFIXES}, in a folder for each class. Name another folder, or a table: "
        "--manifest FILE.csv"
    )
    (root / "empty").mkdir()
    assert refusal(root / "empty").startswith(f"No images in '{root}/empty'. Expected")


def test_file_that_is_no_image(tree):
    """A table or another file where a folder is meant says which flag takes it."""
    root = tree("list.csv", "notes.txt")
    assert refusal(root / "list.csv") == (
        f"'{root}/list.csv' is a table, not a folder. Use --manifest '{root}/list.csv'."
    )
    assert refusal(root / "notes.txt") == (
        f"'{root}/notes.txt' is not called like an image. Expected a folder, or a file ending in "
        f"{SUFFIXES}. Rename it, or list it in a table: --manifest FILE.csv"
    )


# manifests


def test_manifest(table, tmp_path):
    """Rows keep their order, repeat if they like, and lie relative to the table."""
    path = table(
        "path,label,split,group,score\nb/2.jpg,dog,valid,g,9\na/1.jpg,,,\nb/2.jpg,dog,test,g\n"
    )
    listing = list_images("not looked at", manifest=path)
    assert facts(listing) == [
        ("b/2.jpg", "dog", "val", "g"),
        ("a/1.jpg", None, None, None),
        ("b/2.jpg", "dog", "test", "g"),
    ]
    assert listing.records[0].file == tmp_path / "b/2.jpg"
    assert listing.root == tmp_path
    assert listing.notes == ("Without a label: 1 of 3 images, 'a/1.jpg'.",)


def test_manifest_of_all_text(table):
    """Numbers and words that other readers turn into something else stay as they are."""
    path = table("file_name,label,group\n007.jpg,01,1.0\nNA,NA,null\n1.jpg,True,-\n")
    assert facts(list_images(manifest=path)) == [
        ("007.jpg", "01", None, "1.0"),
        ("NA", "NA", None, "null"),
        ("1.jpg", "True", None, "-"),
    ]


def test_manifest_from_a_spreadsheet(table):
    """A byte order mark, spaces around cells, quotes and empty lines do no harm."""
    path = table('\ufeff\r\npath, label ,split\r\n"a, b.jpg", cat ,Train\r\n\r\nc.jpg,cat,\r\n')
    assert facts(list_images(manifest=path)) == [
        ("a, b.jpg", "cat", "train", None),
        ("c.jpg", "cat", None, None),
    ]


def test_absolute_paths(table, tmp_path):
    """An absolute path is stored as it is given."""
    path = table(f"path\n{tmp_path}/x//1.jpg\n../y/2.jpg\n")
    records = list_images(manifest=path).records
    assert [record.path for record in records] == [f"{tmp_path}/x/1.jpg", "../y/2.jpg"]
    assert records[0].file == tmp_path / "x/1.jpg"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "name,label\n1.jpg,cat\n",
            "has no column path: its columns are 'name', 'label'. Expected columns path and, if "
            "you like, label, split, group.",
        ),
        (
            "path;label\n1.jpg;cat\n",
            "has no column path: its columns are 'path;label'. Expected columns path and, if you "
            "like, label, split, group. Separate the columns with commas, not ';'.",
        ),
        (
            "",
            "has no column path: its first line is empty. Expected columns path and, if "
            "you like, label, split, group.",
        ),
        (
            ",,\n1.jpg,cat,\n",
            "has no column path: its first line is empty. Expected columns path and, if "
            "you like, label, split, group.",
        ),
        ("path,label\n", "has a head but no rows. Give it a row for each image."),
        ("path,label,label\n1.jpg,a,b\n", "has the column label twice. Remove one of them."),
        (
            'path,label\n"1.jpg,cat\n2.jpg,cat\n',
            "cannot be read: unexpected end of data. Expected a CSV file in UTF-8.",
        ),
    ],
)
def test_refused_tables(table, text, problem):
    """A table that cannot be meant says what is wrong with it."""
    path = table(text)
    assert refusal(manifest=path) == f"Table '{path}' {problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "path,split\n1.jpg,train\n\n2.jpg,dev\n",
            "line 4: no split is called 'dev'. Expected train, val or test, or an empty cell.",
        ),
        ("path,label\n1.jpg,a\n,b\n", "line 3: the path is empty. Fill it in."),
        (
            "path,label\n1.jpg,a\na,b.jpg,c\n",
            "line 3: 3 cells, but the head has 2. Put a cell that holds a comma in quotes.",
        ),
    ],
)
def test_refused_rows(table, text, problem):
    """A row that cannot be meant is named by its line."""
    path = table(text)
    assert refusal(manifest=path) == f"Table '{path}', {problem}"


def test_unreadable_tables(table, tmp_path):
    """A table that is missing, a folder, or no UTF-8 says so."""
    path = table("")
    path.write_bytes("path\ncafé.jpg\n".encode("latin-1"))
    assert refusal(manifest=path) == (
        f"Table '{path}' is not UTF-8 text. Save it as CSV in UTF-8, with commas."
    )
    assert refusal(manifest=tmp_path / "none.csv") == (
        f"No table '{tmp_path}/none.csv'. Expected a CSV file with a column path."
    )
    assert refusal(manifest=tmp_path) == (
        f"Table '{tmp_path}' cannot be read: Is a directory. Expected a CSV file in UTF-8."
    )


# groups


def test_group_is_the_first_parentheses(tree):
    """The group is what the first parentheses catch."""
    root = tree("cat/tom-1.jpg", "cat/tom-2.jpg", "dog/rex-1.jpg")
    listing = list_images(root, group=r"([^/]+)-\d+\.(jpg)$")
    assert [record.group for record in listing.records] == ["tom", "tom", "rex"]
    assert listing.notes == ()


def test_group_is_the_whole_match(tree):
    """Without parentheses the group is all that matches."""
    listing = list_images(tree("cat/tom-1.jpg", "dog/rex-1.jpg"), group="tom|rex")
    assert [record.group for record in listing.records] == ["tom", "rex"]


def test_group_wins_over_tables(table):
    """Groups by pattern replace those of a table, also where the pattern does not match."""
    path = table("path,group\ns1/a.jpg,x\ns2/b.jpg,x\nc.jpg,x\ns3.jpg,x\n")
    listing = list_images(manifest=path, group=r"^s\d(?=/)")
    assert [record.group for record in listing.records] == ["s1", "s2", None, None]
    assert listing.notes == (
        "Not matched by --group, so without a group: 2 images, 'c.jpg' and 1 more.",
    )


def test_empty_match_is_no_group(tree):
    """A pattern that matches nothing at all, or parentheses that take no part, give no group."""
    root = tree("cat/a1.jpg", "cat/b.jpg")
    assert [r.group for r in list_images(root, group=r"\d*(?=\.)").records] == ["1", None]
    assert [r.group for r in list_images(root, group=r"a(\d)|b").records] == ["1", None]


def test_group_without_any_match(tree):
    """A pattern that no path matches is refused, with a path to look at."""
    assert refusal(tree("cat/1.jpg"), group="patient") == (
        "No path matches --group 'patient'; the first is 'cat/1.jpg'. Expected a regular "
        "expression that is found in the paths as they are stored."
    )


def test_group_that_is_no_pattern(tree):
    """A pattern that does not compile is a wrong option, seen before any folder is."""
    assert refusal("nowhere", group="(", error=OptionError) == (
        "'(' is not a regular expression: missing ), unterminated subpattern at position 0. "
        "Expected one that matches the part of a path that names the group, as "
        "--group '([^/]+)-[^/]*$'."
    )


# the sample images


def test_samples_are_complete():
    """600 images: ten classes of 20 and 10 emoji, each in two styles, all in the table."""
    listing = list_images(DATA)
    assert listing.notes == ()
    sizes = Counter((record.split, record.label) for record in listing.records)
    assert len(sizes) == 20
    assert set(Counter(sizes.values()).items()) == {(40, 10), (20, 10)}
    assert all(number == {"train": 40, "val": 20}[split] for (split, _), number in sizes.items())
    assert all(record.file.is_file() for record in listing.records)
    with (DATA / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file_name"] for row in rows] == [record.path for record in listing.records]


def test_samples_keep_styles_together():
    """The two styles of an emoji are one group, on one side of the split."""
    groups: dict[str | None, set] = {}
    for record in list_images(DATA).records:
        style = re.fullmatch(rf"{record.group}-(google|twitter)\.png", record.file.name)
        assert style
        groups.setdefault(record.group, set()).add((record.split, record.label, style[1]))
    assert len(groups) == 300
    for members in groups.values():
        assert len({member[:2] for member in members}) == 1
        assert {member[2] for member in members} == {"google", "twitter"}


def test_no_sample_is_in_both_splits():
    """No picture of the validation split is a picture of the training split, byte for byte."""
    pictures = {"train": set(), "val": set()}
    for record in list_images(DATA).records:
        pictures[record.split].add(record.file.read_bytes())
    assert len(pictures["train"]) == 400
    assert len(pictures["val"]) == 200
    assert pictures["train"].isdisjoint(pictures["val"])
