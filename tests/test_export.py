"""Export of a store to Parquet, CSV and npz: exact, or no file at all."""

import csv
import functools
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featx.errors import ExistsError, OptionError, OutputError
from featx.store import Store, export, open_store

PATHS = ["a.png", "é, ü.png", "\udcff.png", 'c "d".png', "e.png"]
LABELS = ["cat", "dog", None, "cat", "dog"]
SPLITS = ["train", "val", None, "train", "val"]
GROUPS = [None, "g", "g", None, None]
FAILED = 3
DONE = [0, 1, 2, 4]
ENDINGS = ["parquet", "csv", "npz"]


def make_codes(dtype: str) -> dict[str, np.ndarray]:
    """Make codes of two layers with large, small, negative and subnormal values."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((5, 192)) * 10.0 ** rng.integers(-6, 4, (5, 192))
    codes[0, :3] = 0, -0.0, 6e-8
    return {
        "block1_conv1": codes[:, :64].astype(dtype),
        "block2_conv1": codes[:, 64:].astype(dtype),
    }


@pytest.fixture(params=["float32", "float16"])
def store(request, tmp_path, make_store) -> Store:
    """Return a store of five images and two layers, with one failed image."""
    path = tmp_path / "codes.h5"
    make_store(
        path,
        make_codes(request.param),
        LABELS,
        SPLITS,
        GROUPS,
        paths=PATHS,
        failed={FAILED: "no pixels"},
    )
    return open_store(path)


@pytest.fixture
def wide(tmp_path, make_store) -> Store:
    """Return a store of three images with 32*32*64 = 65,536 features."""
    maps = np.random.default_rng(0).random((3, 32, 32, 64), np.float32)
    path = make_store(tmp_path / "wide.h5", {"block1_conv1": maps}, ["a", "b", None])
    return open_store(path)


def matrix(store: Store, rows) -> np.ndarray:
    return np.hstack([store.flat_codes(layer)[rows] for layer in store.recipe.layers])


def names() -> list[str]:
    codes = [f"block1_conv1_{k}" for k in range(64)] + [f"block2_conv1_{k}" for k in range(128)]
    return ["path", "label", "split", "group", *codes]


def of(values, rows=DONE, none=None) -> list:
    return [values[r] if values[r] is not None else none for r in rows]


def assert_refused(action, *facts: object, error=OptionError) -> None:
    """Check that an action raises an error whose message holds some facts."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert [fact for fact in map(str, facts) if fact not in message] == [], message


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# contents


@pytest.fixture(params=[32_000_000, 1600], ids=["one block", "blocks of two rows"])
def blocks(request, monkeypatch):
    """Export in one block, and in blocks of 1600 bytes."""
    monkeypatch.setattr("featx.store.reading._BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("blocks")
def test_parquet_holds_metadata_and_a_column_for_each_feature(store, tmp_path):
    """Parquet holds the exact codes in the store's dtype, and the metadata."""
    path = export(store.path, tmp_path / "out.parquet")
    assert path == tmp_path / "out.parquet"
    table = pq.read_table(path)
    assert table.column_names == names()
    kind = {"float32": pa.float32(), "float16": pa.float16()}[store.recipe.dtype]
    assert set(table.schema.types[4:]) == {kind}
    assert set(table.schema.types[:4]) == {pa.string()}
    assert table["path"].to_pylist() == ["a.png", "é, ü.png", "\\xff.png", "e.png"]
    assert table["label"].to_pylist() == of(LABELS)
    assert table["split"].to_pylist() == of(SPLITS)
    assert table["group"].to_pylist() == of(GROUPS)
    numbers = np.column_stack([column.to_numpy() for column in table.columns[4:]])
    assert numbers.tobytes() == matrix(store, DONE).tobytes()


@pytest.mark.usefixtures("blocks")
def test_csv_is_read_back_exactly(store, tmp_path):
    """The codes in a CSV file are read back exactly."""
    path = export(store.path, tmp_path / "out.csv")
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        head, *rows = csv.reader(file)
    assert head == names()
    for k, values in enumerate((PATHS, LABELS, SPLITS, GROUPS)):
        assert [row[k] for row in rows] == of(values, none="")
    numbers = np.array([row[4:] for row in rows]).astype(store.recipe.dtype)
    assert numbers.tobytes() == matrix(store, DONE).tobytes()


@pytest.mark.usefixtures("blocks")
def test_npz_holds_metadata_and_layers(store, tmp_path):
    """NumPy reads the arrays of the store without pickle."""
    with np.load(export(store.path, tmp_path / "out.npz")) as archive:
        assert archive.files == ["path", "label", "split", "group", "block1_conv1", "block2_conv1"]
        for name, values in zip(archive.files[:4], (PATHS, LABELS, SPLITS, GROUPS), strict=True):
            assert archive[name].tolist() == of(values, none="")
        for layer in store.recipe.layers:
            assert archive[layer].dtype == store.recipe.dtype
            assert archive[layer].tobytes() == store.codes(layer)[DONE].tobytes()


def test_npz_keeps_the_shape_of_maps(wide, tmp_path):
    """Feature maps keep the shape (n, h, w, c)."""
    with np.load(export(wide.path, tmp_path / "out.npz")) as archive:
        assert archive["block1_conv1"].shape == (3, 32, 32, 64)
        assert np.array_equal(archive["block1_conv1"], wide.codes("block1_conv1"))


def test_wide_codes_become_lists_in_parquet(wide, tmp_path):
    """Codes with more than 20,000 features are one column for each layer, of lists."""
    table = pq.read_table(export(wide.path, tmp_path / "out.parquet"))
    assert table.column_names == ["path", "label", "split", "group", "block1_conv1"]
    assert table.schema.field("block1_conv1").type == pa.list_(pa.float32(), 65_536)
    assert table["label"].to_pylist() == ["a", "b", None]
    column = table["block1_conv1"].combine_chunks()
    assert np.array_equal(
        column.flatten().to_numpy().reshape(3, -1), wide.flat_codes("block1_conv1")
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_only_a_split(store, tmp_path, ending):
    """With a split, the file holds only the images of the split that are done."""
    path = export(store.path, tmp_path / f"out.{ending}", split="train")
    if ending == "parquet":
        paths = pq.read_table(path)["path"].to_pylist()
    elif ending == "csv":
        paths = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    else:
        paths = np.load(path)["path"].tolist()
    assert paths == ["a.png"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_store_with_no_done_row_gives_an_empty_file(tmp_path, make_store, ending):
    """A store without codes gives a file with columns and without rows."""
    codes = {"block1_conv1": np.zeros((1, 64), np.float32)}
    store = make_store(tmp_path / "codes.h5", codes, ["a"], pending=[0])
    path = export(store, tmp_path / f"out.{ending}")
    if ending == "parquet":
        assert pq.read_table(path).shape == (0, 68)
    elif ending == "csv":
        assert len(path.read_text().splitlines()) == 1
    else:
        assert np.load(path)["block1_conv1"].shape == (0, 64)


# errors


def test_a_wide_csv_is_refused(wide, tmp_path):
    """The error holds the number of features, the limit, and two alternatives."""
    output = tmp_path / "out.csv"
    facts = ["65,536", "20,000", "--pool avg", tmp_path / "out.parquet"]
    assert_refused(lambda: export(wide.path, output), *facts)
    assert not output.exists()


def test_an_unknown_ending_is_refused_first(tmp_path):
    """The extension is checked before the store is opened."""
    action = functools.partial(export, tmp_path / "none.h5", tmp_path / "codes.xlsx")
    assert_refused(action, "codes.xlsx", ".parquet", ".csv", ".npz")


def test_a_missing_folder_is_refused_first(tmp_path):
    """The output folder is checked before the store is opened."""
    output = tmp_path / "missing" / "codes.csv"
    assert_refused(lambda: export(tmp_path / "none.h5", output), output.parent, "codes.csv", "-o")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_existing_file_is_kept(store, tmp_path, ending):
    """An existing file is replaced only with overwrite."""
    output = tmp_path / f"out.{ending}"
    output.write_text("mine")
    assert_refused(lambda: export(store.path, output), output, "--overwrite", error=ExistsError)
    assert output.read_text() == "mine"
    export(store.path, output, overwrite=True)
    assert output.read_bytes() != b"mine"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("before", [None, "mine"])
def test_a_failure_midway_leaves_nothing(store, tmp_path, monkeypatch, ending, before):
    """After a failure there is no file, or the previous one."""
    output = tmp_path / f"out.{ending}"
    if before:
        output.write_text(before)
    monkeypatch.setattr("featx.store.reading._BLOCK_BYTES", 1)
    real, calls = Store.read_rows, []

    def fail_late(self, layer, rows, out=None):
        calls.append(layer)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(self, layer, rows, out)

    monkeypatch.setattr(Store, "read_rows", fail_late)
    with pytest.raises(KeyboardInterrupt):
        export(store.path, output, overwrite=True)
    assert len(calls) == 4
    assert files_in(tmp_path) == ["codes.h5"] + ([output.name] if before else [])
    assert not before or output.read_text() == before


def test_a_full_disk_is_an_error(store, tmp_path, monkeypatch):
    """If the disk is full, the error holds the free space and no temporary file is left."""

    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Store, "read_rows", full)
    output = tmp_path / "out.csv"
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=1_230_000_000))
    assert_refused(lambda: export(store.path, output), output, "1.23 GB", "-o", error=OutputError)
    assert files_in(tmp_path) == ["codes.h5"]


def test_an_unknown_split_is_refused(store, tmp_path):
    """A missing split is an error and leaves no file."""
    action = functools.partial(export, store.path, tmp_path / "out.csv", split="test")
    assert_refused(action, store.path, "'test'", "train, val")
    assert files_in(tmp_path) == ["codes.h5"]
