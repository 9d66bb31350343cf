"""Names as people see them: equal in any Unicode form, and harmless on a terminal."""

import ast
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featx
from featx.dataset.labels import LabelSettings, relabel
from featx.images import list_images
from featx.text import escaped, printable

CAFE = "caf\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", CAFE)


def draw(path):
    """Write a small image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 48), (9, 99, 200)).save(path, "PNG")
    return path


# Unicode forms.


def test_folders_of_two_forms_are_one_class(tmp_path):
    """train/ from a Mac and val/ from Linux have the same classes; paths keep their bytes."""
    paths = [f"train/{DECOMPOSED}/1.png", f"val/{CAFE}/1.png", f"val/{DECOMPOSED}/2.png"]
    for path in paths:
        draw(tmp_path / path)
    records = list_images(tmp_path).records
    assert {record.label for record in records} == {CAFE}
    assert {record.path for record in records} == set(paths)
    assert all(record.file.exists() for record in records)
    plain = tmp_path / "val"
    assert {record.label for record in list_images(plain).records} == {CAFE}


@pytest.mark.parametrize("role", ["label", "group"])
@pytest.mark.parametrize("suffix", [".csv", "memory"])
def test_cells_of_tables_are_composed(tmp_path, role, suffix):
    """Labels and groups of a manifest are equal, whatever their form."""
    table = {"path": ["1.png", "2.png"], role: [CAFE, DECOMPOSED]}
    if suffix == ".csv":
        lines = [f"path,{role}", *(f"{a},{b}" for a, b in zip(*table.values(), strict=True))]
        table = tmp_path / "list.csv"
        table.write_text("\n".join(lines), encoding="utf-8")
    records = list_images(manifest=table).records
    assert [getattr(record, role) for record in records] == [CAFE, CAFE]


def test_groups_of_paths_are_composed(tmp_path):
    """The text that --group finds is a name too."""
    draw(tmp_path / f"{CAFE}-1.png")
    draw(tmp_path / f"{DECOMPOSED}-2.png")
    records = list_images(tmp_path, group="^[^-]+").records
    assert [record.group for record in records] == [CAFE, CAFE]


@pytest.mark.parametrize(("on_disk", "in_table"), [(CAFE, DECOMPOSED), (DECOMPOSED, CAFE)])
@pytest.mark.parametrize("kind", ["manifest", "metadata"])
def test_tables_name_files_of_another_form(tmp_path, on_disk, in_table, kind):
    """The file is found, and its bytes are those on the disk."""
    file = draw(tmp_path / on_disk / f"{on_disk}.png")
    name, column = {"manifest": ("list.csv", "path"), "metadata": ("metadata.csv", "file_name")}[
        kind
    ]
    table = tmp_path / name
    table.write_text(f"{column},label\n{in_table}/{in_table}.png,x\n", encoding="utf-8")
    options = {"manifest": table} if kind == "manifest" else {"images": tmp_path}
    (record,) = list_images(**options).records
    assert (record.file, record.label) == (file, "x")


def test_the_same_bytes_are_found_first(tmp_path):
    """If both forms exist, each row of a table is about its own file."""
    files = [draw(tmp_path / f"{name}.png") for name in (CAFE, DECOMPOSED)]
    table = tmp_path / "list.csv"
    table.write_text(f"path,label\n{DECOMPOSED}.png,d\n{CAFE}.png,c\n", encoding="utf-8")
    records = list_images(manifest=table).records
    assert [(record.file, record.label) for record in records] == [(files[1], "d"), (files[0], "c")]


def test_labels_are_joined_by_bytes_and_then_by_form(tmp_path, make_store):
    """A table of labels from another machine matches; where both forms exist, bytes decide."""
    paths = [f"{CAFE}/1.png", f"{CAFE}/2.png", f"{DECOMPOSED}/2.png"]
    codes = {"block1_pool": np.eye(3, 64, dtype="f4")}
    store = make_store(tmp_path / "codes.h5", codes, ["a"] * 3, paths=paths)
    table = {"path": [f"{DECOMPOSED}/{n}.png" for n in (1, 2)], "label": ["one", "two"]}
    images, notes = relabel(featx.open_store(store).images, LabelSettings(labels=table))
    assert images.label.tolist() == ["one", None, "two"]
    assert len(notes) == 1
    table = {"path": [f"{CAFE}/1.png", f"{DECOMPOSED}/1.png"], "label": ["own", "other"]}
    for order in (slice(None), slice(None, None, -1)):
        turned = {name: column[order] for name, column in table.items()}
        images, _ = relabel(featx.open_store(store).images, LabelSettings(labels=turned))
        assert images.label[0] == "own"
    table = {"path": [f"{DECOMPOSED}/{n}.png" for n in (1, 2)], "label": ["one", "two"]}
    table["path"] = [f"/mac/{path}" for path in table["path"]]
    images, _ = relabel(featx.open_store(store).images, LabelSettings(labels=table))
    assert images.label.tolist() == ["one", None, "two"]


def test_stores_of_version_0_1_have_one_class(tmp_path, make_store):
    """A class that was stored in both forms is one class for every reader."""
    codes = {"block1_pool": np.eye(4, 64, dtype="f4")}
    store = make_store(tmp_path / "codes.h5", codes, [CAFE, DECOMPOSED, "x", DECOMPOSED])
    opened = featx.open_store(store)
    assert opened.classes == (CAFE, "x")
    assert opened.images.label.tolist() == [CAFE, CAFE, "x", CAFE]


def test_stores_of_two_machines_are_joined(tmp_path, make_store):
    """The same images under paths of two forms are the same images."""
    rows = np.random.default_rng(0).normal(size=(12, 64)).astype("f4")
    labels = [CAFE, "x"] * 6
    stores = [
        make_store(
            tmp_path / f"{layer}.h5",
            {layer: rows},
            labels,
            paths=[f"{a}/{n}.png" for n in range(12)],
        )
        for layer, a in (("block1_conv1", CAFE), ("block1_conv2", DECOMPOSED))
    ]
    from featx.codes.joining import join_stores

    assert len(join_stores(stores).images) == 12


# Terminals.

RED = "red\x1b[31m\u202e\x07"


def test_control_characters_are_escaped():
    """Names lose line breaks too; texts keep them."""
    assert printable("a\x1b[2Jb\nc\td\x9b\u202e") == r"a\x1b[2Jb\nc\td\x9b\u202e"
    assert escaped("a\nb\tc\x1b\r\x85\u2066") == "a\nb\tc\\x1b\\r\\x85\\u2066"
    assert printable("caf\u00e9 \U0001f600 \u0645") == "caf\u00e9 \U0001f600 \u0645"


def test_no_verb_prints_them(tmp_path, make_store, run, monkeypatch):
    """Classes, paths, reasons and arguments are shown escaped, in results and in errors."""
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / RED / RED / "1.png")
    draw(tmp_path / RED / "blue" / "2.png")
    codes = np.random.default_rng(0).normal(size=(40, 64)).astype("f4")
    codes[::2] += 2
    paths = [f"{RED}/{n}{RED}.png" for n in range(40)]
    make_store(
        tmp_path / f"{RED}.h5",
        {"block1_pool": codes},
        [RED, "blue"] * 20,
        paths=paths,
        failed={39: RED},
    )
    lines = [f"{path},{label}" for path, label in zip(paths, [RED, "blue"] * 20, strict=True)]
    (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(lines[:30]), encoding="utf-8")
    store, model = f"{RED}.h5", f"{RED}.skops"
    shown = ""
    for arguments in (
        ["plan", RED, "--layer", "block1_pool", "--weights", "random:0", "-o", f"{RED}2.h5"],
        ["plan", RED, "--group", RED],
        ["info", store],
        ["info", store, "--bad"],
        ["fit", store, "-o", model, "--clf", "ridge", "--labels", "labels.csv"],
        ["fit", store, "-o", model],
        ["info", model],
        ["predict", store, "--model", model, "-o", f"{RED}.csv", "--top", "1"],
        ["predict", RED + "no", "--model", model],
        ["evaluate", store, "--model", model],
        ["export", store, "-o", f"{RED}.npz"],
        ["fit", RED + "no.h5"],
        ["report", RED],
        ["explain", RED, RED],
        ["sweep", RED + "no"],
        ["finetune", RED + "no"],
        ["layers", "--layer", RED],
        ["info", RED],
    ):
        _, out, err = run(*arguments)
        assert not set(out + err) & set(RED[3:4] + RED[-2:]), arguments
        shown += out + err
    assert r"red\x1b[31m\u202e\x07" in shown


def test_only_the_console_prints():
    """Every other file of featx/cli prints through `show` and `say`, which escape."""
    folder = Path(featx.__file__).parent / "cli"
    for file in folder.glob("*.py"):
        calls = [
            node.func
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Call)
        ]
        printing = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
        # The version has no names in it.
        assert not printing or file.name in {"console.py", "app.py"}, file


def test_tables_keep_the_names(tmp_path):
    """In data, a line break is a line break; only bytes that are not UTF-8 are escaped."""
    from featx.text import storable

    assert storable("new\nline\x1b.png") == "new\nline\x1b.png"
    assert storable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
