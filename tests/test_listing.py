"""A folder or a manifest becomes ordered records: layouts, notes and errors."""

import csv
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from featx.errors import ImagesError, OptionError
from featx.images import ImageRecord, list_images

DATA = Path(__file__).parent.parent / "data"

SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .pjpeg .pjp .mpo .png .apng .gif .bmp .dib .tif .tiff .webp .ppm .pgm "
    ".pbm .pnm .avif .jp2 .j2k .jpc .jpx .tga .ico .heic .heif .hif"
)


@pytest.fixture
def tree(tmp_path):
    """A function that writes files, with the text after a colon, below tmp_path/data."""

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
    """Return what is known about each image, without its file."""
    return [(r.path, r.label, r.split, r.group) for r in listing.records]


def refusal(*arguments, error=ImagesError, **keywords) -> str:
    """Return the message of a listing that is refused."""
    with pytest.raises(error) as caught:
        list_images(*arguments, **keywords)
    return str(caught.value)


def holds(message, *facts) -> bool:
    """Return whether a message has all these facts."""
    return all(str(fact) in message for fact in facts)


def noted(listing, *facts) -> bool:
    """Return whether the only note of a listing has all these facts."""
    (note,) = listing.notes
    return holds(note, *facts)


# folders


def test_class_folders(tree):
    """The first folder is the label, folders below it belong to it, and there are no notes."""
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
    """A relative path may be text, and the default is data."""
    tree("cat/1.jpg")
    monkeypatch.chdir(tree().parent)
    expected = (ImageRecord("cat/1.jpg", Path("data/cat/1.jpg"), "cat"),)
    assert list_images("data").records == list_images().records == expected


def test_flat_folder(tree):
    """Images in no folder have no label; there is no note if none has one."""
    listing = list_images(tree("1.jpg", "2.jpg"))
    assert facts(listing) == [("1.jpg", None, None, None), ("2.jpg", None, None, None)]
    assert listing.notes == ()


def test_images_beside_class_folders(tree):
    """Images at the root are counted if others have a label."""
    listing = list_images(tree("cat/1.jpg", "2.jpg", "3.jpg"))
    assert facts(listing) == [
        ("2.jpg", None, None, None),
        ("3.jpg", None, None, None),
        ("cat/1.jpg", "cat", None, None),
    ]
    assert noted(listing, "2 of 3 images", "'2.jpg' and 1 more")


def test_single_file(tree):
    """One image is a listing of one, by its name."""
    root = tree("cat/1.jpg")
    listing = list_images(root / "cat/1.jpg")
    assert listing.records == (ImageRecord("1.jpg", root / "cat/1.jpg"),)
    assert listing.root == root / "cat"


def test_every_suffix(tree):
    """All suffixes are accepted, in any case, and no others."""
    names = [f"a/x{s}" for s in SUFFIXES.split()] + [f"a/y{s.upper()}" for s in SUFFIXES.split()]
    listing = list_images(tree(*names, "a/z.jxl", "a/z.txt", "a/jpg", "a/z.jpg.zip"))
    assert {record.path for record in listing.records} == set(names)


ODD = ["x.jpg.1", "y.jpg ", "z.JPG_large", "v.jpg!d", "noext", "q.svg", "p.jxl", "P.JXL"]


@pytest.mark.parametrize(
    ("where", "image"),
    [
        ("", "1.jpg"),
        ("bee/", "bee/1.jpg"),
        ("bee/old/", "bee/1.jpg"),
        ("train/", "train/bee/1.jpg"),
    ],
)
def test_files_that_are_left_out_are_counted_by_ending(tree, where, image):
    """One note counts all of them, wherever images are; hidden files are not counted."""
    others = [f"{where}{name}" for name in (*ODD, ".DS_Store", "._0.jpg")]
    listing = list_images(tree(image, *others))
    assert noted(listing, "8 files", "2 '.jxl'", "1 '.1'", "1 '.jpg '", "1 without", "--manifest")


def test_many_endings_are_summed_up(tree):
    """The most frequent endings are named, and the number of files is complete."""
    others = [f"cat/{n}.x{n}" for n in range(50)]
    note = list_images(tree("cat/1.jpg", "cat/1.txt", "cat/2.txt", *others)).notes[0]
    assert holds(note, "52 files", "2 '.txt'", "31 with 31 other endings")


def test_files_next_to_class_folders_are_not_counted(tree):
    """A licence or a script belongs to no class."""
    assert list_images(tree("cat/1.jpg", "LICENSE", "make.py")).notes == ()


def test_order_is_by_code_points(tree):
    """Upper case comes before lower case, digits sort as text, and a slash before letters."""
    names = ["B/1.jpg", "a-b/1.jpg", "a/1.jpg", "a/10.jpg", "a/2.jpg", "ab/1.jpg", "é/1.jpg"]
    listing = list_images(tree(*reversed(names)))
    assert [record.path for record in listing.records] == names


def test_hidden_entries_are_skipped(tree):
    """Names with a leading dot, and the folders that macOS adds to a zip, are skipped."""
    root = tree("cat/1.jpg", "cat/._1.jpg", ".cache/2.jpg", "__MACOSX/cat/3.jpg", "cat/.x/4.jpg")
    assert [record.path for record in list_images(root).records] == ["cat/1.jpg"]


def test_entries_that_will_not_decode_stay(tree):
    """A folder with the name of an image, and a broken link, are listed, not followed."""
    root = tree("cat/1.jpg", "cat/2.png/inside.jpg")
    (root / "cat/3.jpg").symlink_to("nowhere.jpg")
    paths = [record.path for record in list_images(root).records]
    assert paths == ["cat/1.jpg", "cat/2.png", "cat/3.jpg"]


def test_class_folder_without_images(tree):
    """A class folder with only other files is named, with their number."""
    listing = list_images(tree("cat/1.jpg", "dog/1.jxl", "dog/old/2.jxl", "README.md"))
    assert facts(listing) == [("cat/1.jpg", "cat", None, None)]
    assert noted(listing, "'dog'", "2 other files", "2 '.jxl'")


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
    assert noted(listing, "1 of 4 images", "'test/4.jpg'")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "VAL"])
def test_names_of_validation(tree, name):
    """Every name of the validation split is stored as val."""
    listing = list_images(tree("train/cat/1.jpg", f"{name}/cat/2.jpg"))
    assert {record.split for record in listing.records} == {"train", "val"}


def test_two_folders_of_one_split(tree):
    """val and valid are merged into one split, with a note."""
    listing = list_images(tree("train/cat/1.jpg", "val/cat/2.jpg", "valid/cat/3.jpg"))
    assert [record.split for record in listing.records] == ["train", "val", "val"]
    assert noted(listing, "'val', 'valid'", "split val")


def test_folders_beside_splits_are_left_out(tree):
    """Folders that are not splits are named, and their images counted."""
    root = tree("train/cat/1.jpg", "val/cat/2.jpg", "raw/3.jpg", "raw/x/4.jpg", "tmp/5.jpg")
    listing = list_images(root)
    assert [record.path for record in listing.records] == ["train/cat/1.jpg", "val/cat/2.jpg"]
    raw, tmp = listing.notes
    assert holds(raw, "'raw'", "2 images")
    assert holds(tmp, "'tmp'", "1 image")


def test_class_called_train(tree):
    """Next to other classes, a folder train with images is a class."""
    listing = list_images(tree("car/1.jpg", "train/2.jpg"))
    assert facts(listing) == [
        ("car/1.jpg", "car", None, None),
        ("train/2.jpg", "train", None, None),
    ]


def test_flat_splits_alone(tree):
    """train and test alone, without classes, are splits."""
    listing = list_images(tree("train/1.jpg", "test/2.jpg"))
    assert facts(listing) == [
        ("test/2.jpg", None, "test", None),
        ("train/1.jpg", None, "train", None),
    ]


def test_stray_image_in_a_split(tree):
    """An image next to the classes of a split has the split and no label."""
    listing = list_images(tree("train/cat/1.jpg", "train/2.jpg"))
    assert facts(listing) == [
        ("train/2.jpg", None, "train", None),
        ("train/cat/1.jpg", "cat", "train", None),
    ]


def test_class_without_images_in_a_split(tree):
    """With splits, a class folder without images is named with its split."""
    listing = list_images(tree("train/cat/1.jpg", "train/dog/2.jxl", "docs/x/3.txt"))
    assert noted(listing, "'train/dog'", "1 other file")


# metadata.csv


def test_table_takes_precedence_over_folders(tree):
    """A filled cell takes precedence over the folders, an empty one does not."""
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


def test_deepest_table_takes_precedence(tree):
    """The deeper of two tables takes precedence, cell by cell; its paths are relative to it."""
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
    """Images below a table that does not name them get their label from the folder."""
    root = tree(
        "train/a/1.jpg",
        "train/a/2.jpg",
        "val/a/3.jpg",
        "train/metadata.csv:file_name,label\na/1.jpg,x\n",
    )
    listing = list_images(root)
    assert [record.label for record in listing.records] == ["x", "a", "a"]
    assert noted(listing, "1 image", "metadata.csv", "'train/a/2.jpg'")


def test_listed_image_that_is_missing(tree):
    """A file that a table names is a record, whether it exists or not."""
    root = tree("cat/1.jpg", "metadata.csv:file_name,group\ncat/0.jpg,g\ncat/1.jpg,g\n")
    assert facts(list_images(root)) == [
        ("cat/0.jpg", "cat", None, "g"),
        ("cat/1.jpg", "cat", None, "g"),
    ]


def test_listed_image_beside_the_splits(tree):
    """A table can add an image from a folder that would be left out."""
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
    assert holds(listing.notes[0], "'raw'", "1 image")


def test_table_may_name_files_outside(tree):
    """A path outside the folder is kept, and its folders give no label."""
    root = tree("cat/1.jpg", "metadata.csv:file_name\n../more/2.jpg\ncat/1.jpg\n")
    assert facts(list_images(root))[0] == ("../more/2.jpg", None, None, None)


def test_hugging_face_layout(tree):
    """Flat splits with a table each, as in Hugging Face's imagefolder."""
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


def test_columns_of_metadata(tree):
    """In metadata.csv, file_name comes before path, and Windows paths find their images."""
    root = tree("cat/1.jpg", "metadata.csv:path;File_Name;LABEL\nx.jpg;cat\\1.jpg;tiger\n")
    listing = list_images(root)
    assert facts(listing) == [("cat/1.jpg", "tiger", None, None)]
    assert listing.notes == ()


def test_notes_of_metadata(tree):
    """A guessed column of paths is reported; a table without one is refused."""
    root = tree("cat/1.jpg", "metadata.csv:image,label\ncat/1.jpg,x\n")
    assert noted(list_images(root), "'image'", root / "metadata.csv", "--path-column")
    tree("metadata.csv:name,label\ncat/1.jpg,x\n")
    assert holds(refusal(root), root / "metadata.csv", "file_name", "'name', 'label'")


def test_file_twice_in_a_table(tree):
    """Two rows for one file are refused, in any spelling."""
    root = tree("cat/1.jpg", "metadata.csv:file_name,label\ncat/1.jpg,x\n./cat/1.jpg,y\n")
    message = refusal(root)
    assert holds(message, root / "metadata.csv", "'./cat/1.jpg'", "line 2", "line 3")


# links and odd names


def test_links_are_followed(tree, tmp_path):
    """Links to files and folders are followed, under their own names."""
    root = tree("cat/1.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/2.jpg").touch()
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat/3.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    paths = [record.path for record in list_images(root).records]
    assert paths == ["cat/1.jpg", "cat/3.jpg", "dog/2.jpg"]


def test_loop_of_links_is_cut(tree):
    """Links to a folder that contains them, or to themselves, are not followed, but named."""
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
    left_out, *notes = listing.notes
    assert holds(left_out, "2 files", "2 without an ending")  # dog/self, also below cat/across
    assert all(holds(note, repr(end)) for note, end in zip(notes, ends, strict=True))


def test_name_that_is_not_utf8(tree):
    """Bytes that are not UTF-8 are kept in the path, and escaped in a note."""
    root = tree("cat/1.jpg")
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system only accepts UTF-8")
    listing = list_images(root)
    record = next(record for record in listing.records if record.label is None)
    assert os.fsencode(record.path) == b"caf\xe9.jpg"
    assert record.file.exists()
    assert noted(listing, "1 of 2 images", r"'caf\xe9.jpg'")


def test_folder_that_may_not_be_read(tree, monkeypatch):
    """A folder without permission stops the listing; simulated, because root may read all."""
    root = tree("cat/1.jpg", "dog/2.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert holds(refusal(root), root / "dog", "Permission denied")


# folders that are refused


def test_missing_folder(tmp_path):
    """A folder that does not exist is named, with the flag for a table."""
    assert holds(refusal(tmp_path / "photos"), tmp_path / "photos", "--manifest")


def test_folder_without_images(tree):
    """The message has the suffixes, and the number and endings of other files."""
    root = tree("cat/1.jxl", "cat/2.JXL", "notes.txt", "Makefile")
    message = refusal(root)
    assert holds(message, root, "4 other files", "2 '.jxl'", "1 '.txt'", SUFFIXES, "--manifest")
    (root / "empty").mkdir()
    assert holds(refusal(root / "empty"), root / "empty", SUFFIXES)


def test_file_that_is_not_an_image(tree):
    """For a table or another file, the message names the flag for tables."""
    root = tree("list.csv", "list.parquet", "notes.txt")
    for name in ("list.csv", "list.parquet", "notes.txt"):
        assert holds(refusal(root / name), root / name, "--manifest")
    assert holds(refusal(root / "notes.txt"), SUFFIXES)


# manifests


def test_manifest(table, tmp_path):
    """Rows keep their order, may repeat, and are relative to the table."""
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
    assert noted(listing, "1 of 3 images", "'a/1.jpg'")


def test_absolute_paths(table, tmp_path):
    """An absolute path is stored as it is given."""
    path = table(f"path\n{tmp_path}/x//1.jpg\n../y/2.jpg\n")
    records = list_images(manifest=path).records
    assert [record.path for record in records] == [f"{tmp_path}/x/1.jpg", "../y/2.jpg"]
    assert records[0].file == tmp_path / "x/1.jpg"


def test_refused_manifests(table, tmp_path):
    """Errors about a manifest are ImagesErrors, with the line or the flag."""
    assert holds(refusal(manifest=table("path,label\n1.jpg,a\n,b\n")), "line 3", "path")
    assert holds(refusal(manifest=tmp_path / "none.csv"), tmp_path / "none.csv", "--manifest")
    assert holds(refusal(manifest=tmp_path), tmp_path, "--manifest")


# groups


def test_group_is_the_first_parentheses(tree):
    """The group is the first group of the match."""
    root = tree("cat/tom-1.jpg", "cat/tom-2.jpg", "dog/rex-1.jpg")
    listing = list_images(root, group=r"([^/]+)-\d+\.(jpg)$")
    assert [record.group for record in listing.records] == ["tom", "tom", "rex"]
    assert listing.notes == ()


def test_group_is_the_whole_match(tree):
    """Without parentheses the group is the whole match."""
    listing = list_images(tree("cat/tom-1.jpg", "dog/rex-1.jpg"), group="tom|rex")
    assert [record.group for record in listing.records] == ["tom", "rex"]


def test_group_takes_precedence_over_tables(table):
    """Groups by pattern replace those of a table, even without a match."""
    path = table("path,group\ns1/a.jpg,x\ns2/b.jpg,x\nc.jpg,x\ns3.jpg,x\n")
    listing = list_images(manifest=path, group=r"^s\d(?=/)")
    assert [record.group for record in listing.records] == ["s1", "s2", None, None]
    assert noted(listing, "2 images", "--group", "'c.jpg' and 1 more")


def test_empty_match_gives_no_group(tree):
    """An empty match, or parentheses that do not take part, give no group."""
    root = tree("cat/a1.jpg", "cat/b.jpg")
    assert [r.group for r in list_images(root, group=r"\d*(?=\.)").records] == ["1", None]
    assert [r.group for r in list_images(root, group=r"a(\d)|b").records] == ["1", None]


def test_group_without_any_match(tree):
    """A pattern that matches no path is refused, with the first path."""
    message = refusal(tree("cat/1.jpg"), group="patient")
    assert holds(message, "--group 'patient'", "'cat/1.jpg'")


def test_group_that_is_not_a_pattern():
    """An invalid pattern is refused before any folder is read."""
    message = refusal("nowhere", group="(", error=OptionError)
    assert holds(message, "--group '('", "position 0")


# the sample images


def test_samples_are_complete():
    """600 images: ten classes of 20 and 10 emoji in two styles, all in the table."""
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
    """The two styles of an emoji are one group, in one split."""
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
    """No image of the validation split has the bytes of a training image."""
    images = {"train": set(), "val": set()}
    for record in list_images(DATA).records:
        images[record.split].add(record.file.read_bytes())
    assert len(images["train"]) == 400
    assert len(images["val"]) == 200
    assert images["train"].isdisjoint(images["val"])
