"""A store as Parquet, CSV and npz: the same facts and the same numbers, or no file at all."""

import csv
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
    """Five codes of two layers, of numbers large, small, negative and subnormal."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((5, 192)) * 10.0 ** rng.integers(-6, 4, (5, 192))
    codes[0, :3] = 0, -0.0, 6e-8
    return {
        "block1_conv1": codes[:, :64].astype(dtype),
        "block2_conv1": codes[:, 64:].astype(dtype),
    }


@pytest.fixture(params=["float32", "float16"])
def store(request, tmp_path, make_store) -> Store:
    """Five images of two layers, one of them failed."""
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
    """Three images of maps that are 32*32*64 = 65,536 numbers wide."""
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


def refusal(error, *arguments, **keywords) -> str:
    """Return the whole message of an export that is refused."""
    with pytest.raises(error) as caught:
        export(*arguments, **keywords)
    return str(caught.value)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# what comes out


@pytest.fixture(params=[32_000_000, 1600, 1], ids=["one block", "two rows", "row by row"])
def blocks(request, monkeypatch):
    """Exports in one stretch, in stretches of 1600 bytes of codes, and of one row."""
    monkeypatch.setattr("featx.store.reading._BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("blocks")
def test_parquet_holds_the_facts_and_one_column_a_number(store, tmp_path):
    """Pandas, Arrow and others read the very numbers, in the store's dtype; no fact is null."""
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
def test_csv_holds_numbers_that_read_back_the_same(store, tmp_path):
    """The shortest text of each number is enough to get it back to the bit."""
    path = export(store.path, tmp_path / "out.csv")
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        head, *rows = csv.reader(file)
    assert head == names()
    for k, values in enumerate((PATHS, LABELS, SPLITS, GROUPS)):
        assert [row[k] for row in rows] == of(values, none="")
    numbers = np.array([row[4:] for row in rows]).astype(store.recipe.dtype)
    assert numbers.tobytes() == matrix(store, DONE).tobytes()


@pytest.mark.usefixtures("blocks")
def test_npz_holds_arrays_under_the_names_of_facts_and_layers(store, tmp_path):
    """NumPy alone reads it, without pickle, and gets the store's arrays."""
    with np.load(export(store.path, tmp_path / "out.npz")) as archive:
        assert archive.files == ["path", "label", "split", "group", "block1_conv1", "block2_conv1"]
        for name, values in zip(archive.files[:4], (PATHS, LABELS, SPLITS, GROUPS), strict=True):
            assert archive[name].tolist() == of(values, none="")
        for layer in store.recipe.layers:
            assert archive[layer].dtype == store.recipe.dtype
            assert archive[layer].tobytes() == store.codes(layer)[DONE].tobytes()


def test_npz_keeps_the_shape_of_maps(wide, tmp_path):
    """Codes of maps stay (n, h, w, c)."""
    with np.load(export(wide.path, tmp_path / "out.npz")) as archive:
        assert archive["block1_conv1"].shape == (3, 32, 32, 64)
        assert np.array_equal(archive["block1_conv1"], wide.codes("block1_conv1"))


def test_wide_codes_become_lists_in_parquet(wide, tmp_path):
    """More than 20,000 numbers are one column a layer, each cell a list of that length."""
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
    """With a split, only its done images are in the file."""
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
    """No image with codes is no reason to fail: the columns are there, the rows are not."""
    codes = {"block1_conv1": np.zeros((1, 64), np.float32)}
    store = make_store(tmp_path / "codes.h5", codes, ["a"], pending=[0])
    path = export(store, tmp_path / f"out.{ending}")
    if ending == "parquet":
        assert pq.read_table(path).shape == (0, 68)
    elif ending == "csv":
        assert len(path.read_text().splitlines()) == 1
    else:
        assert np.load(path)["block1_conv1"].shape == (0, 64)


# what is refused


def test_a_wide_csv_is_refused(wide, tmp_path):
    """The message gives the width, the limit, and two ways out."""
    output = tmp_path / "out.csv"
    assert refusal(OptionError, wide.path, output) == (
        "A CSV of 65,536 columns opens nowhere; the limit is 20,000. "
        f"Extract with --pool avg, or export to {tmp_path / 'out.parquet'}."
    )
    assert not output.exists()


def test_an_unknown_ending_is_refused_first(tmp_path):
    """The format is told from the name, before the store is looked at."""
    message = refusal(OptionError, tmp_path / "none.h5", tmp_path / "codes.xlsx")
    assert all(fact in message for fact in ("codes.xlsx", "NAME.parquet", "NAME.csv", "NAME.npz"))


def test_a_missing_folder_is_refused_first(tmp_path):
    """The folder of the output is looked for before the store is."""
    output = tmp_path / "missing" / "codes.csv"
    assert str(output.parent) in refusal(OptionError, tmp_path / "none.h5", output)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_existing_file_is_kept(store, tmp_path, ending):
    """A file of that name is replaced only where that was said."""
    output = tmp_path / f"out.{ending}"
    output.write_text("mine")
    assert refusal(ExistsError, store.path, output) == (
        f"{output} exists. Use --overwrite to replace it, or another -o."
    )
    assert output.read_text() == "mine"
    export(store.path, output, overwrite=True)
    assert output.read_bytes() != b"mine"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("before", [None, "mine"])
def test_a_failure_midway_leaves_nothing(store, tmp_path, monkeypatch, ending, before):
    """A file is there as a whole or not at all; what stood there before stays."""
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


def test_a_full_disk_is_told(store, tmp_path, monkeypatch):
    """Where the system cannot write, the message has its reason and no temporary file stays."""

    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Store, "read_rows", full)
    output = tmp_path / "out.csv"
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=1_230_000_000))
    message = refusal(OutputError, store.path, output)
    assert all(fact in message for fact in (str(output), "1.23 GB", "-o"))
    assert files_in(tmp_path) == ["codes.h5"]


def test_an_unknown_split_is_refused(store, tmp_path):
    """A split that the store lacks leaves no file."""
    assert refusal(OptionError, store.path, tmp_path / "out.csv", split="test") == (
        f"{store.path} has no split 'test'; its splits are train, val."
    )
    assert files_in(tmp_path) == ["codes.h5"]
