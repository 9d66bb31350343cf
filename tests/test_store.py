"""The store: its layout read with h5py alone, writing, reading, digests and damage."""

import errno
import functools
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featx.errors import OptionError, OutputError, StoreError
from featx.recipe import Recipe
from featx.store import ImageFacts, Status, Store, StoreWriter, create_store, open_store

GOLDEN = sorted((Path(__file__).parent / "data").glob("format-*/codes.h5"))
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def random_codes(n: int, *, layer: str = "block1_conv1", seed: int = 0) -> dict:
    """Draw codes of one layer with 64 features per image."""
    rng = np.random.default_rng(seed)
    return {layer: rng.standard_normal((n, 64)).astype(np.float32)}


def facts_of(rows) -> list[ImageFacts]:
    return [ImageFacts(f"{r:064x}", int(r), np.full((32, 32, 3), r, np.uint8)) for r in rows]


def columns_of(n: int) -> dict:
    columns = dict.fromkeys(("label", "split", "group"), [None] * n)
    return {"path": [f"{i}.png" for i in range(n)], **columns}


def empty_store(path: Path, n: int) -> Path:
    """Create a store of n pending rows and one layer of 64 features."""
    recipe = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))
    create_store(path, recipe, columns_of(n), {})
    return path


def assert_refused(action, *facts: object, error=StoreError) -> None:
    """Check that an action raises an error whose message holds some facts."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert [fact for fact in map(str, facts) if fact not in message] == [], message


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# the layout


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_golden_stores_open_and_hold_what_was_written(path):
    """A store written by an earlier version opens with the same values."""
    store = open_store(path)
    assert store.recipe == Recipe(
        weights="random:7",
        layers=("block1_conv1", "block2_conv1"),
        pool="max",
        size=(32, 48),
        resize="squash",
        jpeg="full",  # the recipe in the file is older than this setting, and the next
        grey="pillow",
        preprocess="caffe",
        precision="float32",
        dtype="float16",
    )
    assert store.provenance == {"featx": "0.1.0", "root": "/data"}
    assert store.classes == ("cat", "dog")
    assert store.complete is False
    images = store.images
    assert list(images.path) == [
        "train/cat/a.png",
        "train/cat/é.png",
        "val/dog/\udcff.png",
        "val/dog/d.png",
        "e.png",
    ]
    assert list(images.label) == ["cat", "cat", "dog", "dog", None]
    assert list(images.split) == ["train", "train", "val", "val", None]
    assert list(images.group) == ["tom", "tom", None, "rex", None]
    assert images.status.tolist() == [1, 1, 2, 0, 1]
    assert list(images.reason) == ["", "", "not an image: ü", "", ""]
    assert list(images.sha256) == ["0" * 64, "1" * 64, "f" * 64, "", "4" * 64]
    assert images.phash.tolist() == [
        9223372036854775808,
        9223372036854775809,
        0,
        0,
        9223372036854775812,
    ]
    assert store.thumbnails()[:, 5, 6, 2].tolist() == [0, 10, 0, 0, 40]
    first, second = store.codes("block1_conv1"), store.codes("block2_conv1")
    assert first.shape == (5, 64)
    assert second.shape == (5, 128)
    assert first.dtype == second.dtype == np.float16
    assert first[1, :4].tolist() == [1.0, 1.00390625, 1.0078125, 1.01171875]
    assert first[4, 63] == 4.24609375
    assert second[0, 0] == 8.0
    assert second[4, 127] == 12.49609375
    assert np.isnan(first[2]).all()
    assert np.isnan(second[2]).all()


def test_there_is_a_golden_store_of_the_present_format():
    """There is a golden file for every format version."""
    assert [path.parent.name for path in GOLDEN] == ["format-1"]


def test_h5py_alone_reads_the_layout(tmp_path, make_store):
    """The layout is as documented in layout.py, read without featx."""
    maps = np.arange(3 * 8 * 8 * 128, dtype=np.float32).reshape(3, 8, 8, 128)
    path = make_store(
        tmp_path / "codes.h5",
        {"block2_pool": maps},
        ["b", None, "a"],
        ["train", None, "val"],
        ["g", None, None],
        paths=["x/1.png", "x/ü.png", "3.png"],
        failed={1: "too small"},
        provenance={"who": "me"},
    )
    with h5py.File(path, "r") as file:
        assert file.attrs["format"] == "featx-codes"
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["recipe"]) == {
            "weights": "random:0",
            "layers": ["block2_pool"],
            "pool": "none",
            "size": [32, 32],
            "resize": "squash",
            "jpeg": "reduced",
            "grey": "tags",
            "white": None,
            "preprocess": "caffe",
            "precision": "float32",
            "dtype": "float32",
            "flip": False,
            "crops": 1,
            "scales": [],
            "scales_join": "mean",
        }
        assert json.loads(file.attrs["provenance"]) == {"who": "me"}
        found = {}
        file.visititems(lambda name, item: found.update({name: item}))
        arrays = {
            name: (item.shape, item.dtype.str)
            for name, item in found.items()
            if isinstance(item, h5py.Dataset)
        }
        assert arrays == {
            "classes": ((2,), "|O"),
            "complete": ((1,), "|u1"),
            "images/path": ((3,), "|O"),
            "images/label": ((3,), "<i4"),
            "images/split": ((3,), "|O"),
            "images/group": ((3,), "|O"),
            "images/status": ((3,), "|u1"),
            "images/reason": ((3,), "|S256"),
            "images/sha256": ((3,), "|S64"),
            "images/thumbnail": ((3, 32, 32, 3), "|u1"),
            "images/phash": ((3,), "<u8"),
            "codes/block2_pool": ((3, 8, 8, 128), "<f4"),
        }
        assert file["classes"].asstr()[...].tolist() == ["a", "b"]
        assert file["images/path"].asstr()[...].tolist() == ["x/1.png", "x/ü.png", "3.png"]
        assert file["images/label"][...].tolist() == [1, -1, 0]
        assert file["images/split"].asstr()[...].tolist() == ["train", "", "val"]
        assert file["images/group"].asstr()[...].tolist() == ["g", "", ""]
        assert file["images/status"][...].tolist() == [1, 2, 1]
        assert file["images/reason"][...].tolist() == [b"", b"too small", b""]
        assert file["images/sha256"][...].tolist() == [b"%064x" % i for i in range(3)]
        assert file["images/phash"][...].tolist() == [0, 0, 2]
        assert file["images/thumbnail"][:, 0, 0, 0].tolist() == [0, 0, 2]
        assert file["complete"][...].tolist() == [1]
        codes = file["codes/block2_pool"][...]
    assert np.array_equal(codes[[0, 2]], maps[[0, 2]])
    assert np.isnan(codes[1]).all()


def test_datasets_that_are_written_in_place_are_contiguous(tmp_path, make_store):
    """Datasets that change during a run are contiguous, and codes start at a page."""
    path = make_store(tmp_path / "codes.h5", random_codes(40), ["a", "b"] * 20)
    with h5py.File(path, "r") as file:
        offsets = {}
        for name in ("status", "reason", "sha256", "phash", "thumbnail"):
            dataset = file[f"images/{name}"]
            assert dataset.chunks is None
            offsets[name] = dataset.id.get_offset()
        offsets["codes"] = file["codes/block1_conv1"].id.get_offset()
        offsets["complete"] = file["complete"].id.get_offset()
    assert None not in offsets.values()
    assert offsets["codes"] % 4096 == offsets["thumbnail"] % 4096 == 0


names = st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b).map(os.fsdecode)
words = st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)
splits = st.sampled_from(["train", "val", "test", None])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_store_is_read_back_exactly(data, make_store):
    """Any paths, labels, splits, groups and codes are read back exactly."""
    n = data.draw(st.integers(1, 6))
    column = {
        name: data.draw(st.lists(values, min_size=n, max_size=n))
        for name, values in (("path", names), ("label", words), ("split", splits), ("group", words))
    }
    dtype = data.draw(st.sampled_from(["float32", "float16"]))
    finite = {"allow_nan": False, "allow_infinity": False, "width": {"float32": 32}.get(dtype, 16)}
    codes = data.draw(hnp.arrays(dtype, (n, 64), elements=st.floats(**finite)))
    with tempfile.TemporaryDirectory() as folder:
        path = make_store(
            Path(folder) / "codes.h5",
            {"block1_conv1": codes},
            column["label"],
            column["split"],
            column["group"],
            paths=column["path"],
        )
        store = open_store(path)
        assert store.complete is True
        for name, values in column.items():
            assert list(getattr(store.images, name)) == values
        assert set(store.classes) == {label for label in column["label"] if label is not None}
        read = store.codes("block1_conv1")
        assert read.dtype == dtype
        assert read.tobytes() == codes.tobytes()


# creation


def test_rows_never_written_are_pending(tmp_path):
    """A new store is valid and incomplete, and all its rows are pending."""
    store = open_store(empty_store(tmp_path / "codes.h5", 3))
    assert store.complete is False
    assert store.images.status.tolist() == [0, 0, 0]
    assert not store.images.done.any()
    assert list(store.images.sha256) == ["", "", ""]


def test_creation_reserves_the_whole_space(tmp_path):
    """The file has its final size on the disk at once, without holes."""
    path = empty_store(tmp_path / "codes.h5", 2000)
    facts = path.stat()
    assert facts.st_size > 2000 * 64 * 4
    assert facts.st_blocks * 512 >= facts.st_size


def test_creation_replaces_a_file_of_that_name(tmp_path):
    """An existing file is replaced, and no other file is left."""
    path = tmp_path / "codes.h5"
    path.write_text("old")
    assert len(open_store(empty_store(path, 2)).images) == 2
    assert files_in(tmp_path) == ["codes.h5"]


# The function that writes data to the disk on this system.
SYNC = "fdatasync" if hasattr(os, "fdatasync") else "fsync"


@pytest.mark.parametrize("before", [None, "old"])
def test_a_disk_too_small_changes_nothing(tmp_path, monkeypatch, before):
    """If the space cannot be reserved, no file is left, and an existing file is kept."""
    path = tmp_path / "codes.h5"
    if before is not None:
        path.write_text(before)

    def full(*_):
        raise FULL

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_230_000_000))
    facts = [path, "1.23 GB", tmp_path, "0.00 GB", "--pool avg", "--dtype float16"]
    assert_refused(lambda: empty_store(path, 3), *facts)
    assert files_in(tmp_path) == ([] if before is None else ["codes.h5"])
    assert before is None or path.read_text() == before


def test_without_posix_fallocate_the_free_space_is_checked(tmp_path, monkeypatch):
    """On macOS, which cannot reserve space, the free space is checked."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    path = tmp_path / "codes.h5"
    assert_refused(lambda: empty_store(path, 3), path, "0.00 GB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    assert len(open_store(empty_store(path, 3)).images) == 3


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_creation_in_no_folder_is_refused(tmp_path, folder):
    """A folder that is missing, or is a file, is an error."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "codes.h5"
    assert_refused(lambda: empty_store(path, 3), path.parent, "codes.h5", "-o", error=OutputError)


def test_creation_over_a_folder_is_refused(tmp_path):
    """An existing folder is not replaced, and no temporary file is left."""
    path = tmp_path / "codes.h5"
    path.mkdir()
    assert_refused(lambda: empty_store(path, 3), path, "Is a directory", error=OutputError)
    assert files_in(tmp_path) == ["codes.h5"]


# writing


def test_failed_rows_are_nan_with_a_reason(tmp_path, make_store):
    """A failed row has NaN in every layer, its reason and its digest."""
    codes = random_codes(3) | {"block1_pool": random_codes(3, seed=1)["block1_conv1"]}
    path = make_store(tmp_path / "codes.h5", codes, ["a", "b", "c"], failed={1: "no pixels"})
    store = open_store(path)
    assert store.complete is True
    assert store.images.status.tolist() == [Status.DONE, Status.FAILED, Status.DONE]
    assert list(store.images.reason) == ["", "no pixels", ""]
    assert store.images.sha256[1] == f"{1:064x}"
    for layer, values in codes.items():
        assert np.isnan(store.codes(layer)[1]).all()
        assert np.array_equal(store.codes(layer)[[0, 2]], values[[0, 2]])


def test_a_failed_row_may_have_no_digest(tmp_path):
    """An image that could not be opened has an empty digest."""
    path = empty_store(tmp_path / "codes.h5", 1)
    with StoreWriter(path) as writer:
        writer.write_failed(np.array([0]), ["gone"], [None])
    assert open_store(path).images.sha256.tolist() == [""]


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("x" * 300, "x" * 256), ("ü" * 200, "ü" * 128), ("x" + "ü" * 200, "x" + "ü" * 127 + "�")],
)
def test_a_reason_is_cut_at_256_bytes(tmp_path, reason, kept):
    """A long reason is cut at 256 bytes, perhaps within a character."""
    path = empty_store(tmp_path / "codes.h5", 2)
    with StoreWriter(path) as writer:
        writer.write_failed(np.array([0, 1]), [reason, "short"], [None, None])
    assert list(open_store(path).images.reason) == [kept, "short"]


def test_rows_may_be_written_in_any_batches(tmp_path):
    """Rows are written to their own addresses, in any order and by several writers."""
    path, codes = empty_store(tmp_path / "codes.h5", 9), random_codes(9)["block1_conv1"]
    with StoreWriter(path) as one, StoreWriter(path) as other:
        for writer, rows in ((one, [0, 3, 4, 8]), (other, [1, 7]), (one, [2, 5])):
            writer.write_done(np.array(rows), {"block1_conv1": codes[rows]}, facts_of(rows))
    store = open_store(path)
    assert store.images.status.tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 1]
    done = np.flatnonzero(store.images.done)
    assert np.array_equal(store.codes("block1_conv1")[done], codes[done])
    assert [store.images.sha256[r] for r in done] == [f"{r:064x}" for r in done]
    assert store.images.phash[done].tolist() == done.tolist()
    assert store.thumbnails()[done, 0, 0, 0].tolist() == done.tolist()


def test_short_writes_continue(tmp_path, monkeypatch):
    """Writing continues if the system accepts only a part of the bytes."""
    path, codes = empty_store(tmp_path / "codes.h5", 5), random_codes(5)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda f, data, at: real(f, data[:700], at))
    with StoreWriter(path) as writer:
        writer.write_done(np.arange(5), codes, facts_of(range(5)))
    monkeypatch.undo()
    store = open_store(path)
    assert store.images.done.all()
    assert np.array_equal(store.codes("block1_conv1"), codes["block1_conv1"])
    assert store.thumbnails()[:, 31, 31, 2].tolist() == [0, 1, 2, 3, 4]


def test_a_row_is_done_only_after_its_codes_are_synced(tmp_path, monkeypatch):
    """At any time, the codes of all rows marked as done have been synced."""
    path, codes = empty_store(tmp_path / "codes.h5", 6), random_codes(6)
    with h5py.File(path, "r") as file:
        codes_at = file["codes/block1_conv1"].id.get_offset()
        status_at = file["images/status"].id.get_offset()
        complete_at = file["complete"].id.get_offset()
    written, safe, seen = [], bytearray(path.stat().st_size), []

    def pwrite(_, data, at):
        content = bytes(data)
        if status_at <= at < status_at + 6:
            for row in range(at - status_at, at - status_at + len(content)):
                here = slice(codes_at + row * 256, codes_at + (row + 1) * 256)
                assert bytes(safe[here]) == codes["block1_conv1"][row].tobytes()
                seen.append(row)
        if at == complete_at:
            assert bytes(safe[status_at : status_at + 6]) == bytes([1] * 6)
            seen.append("complete")
        written.append((at, content))
        return len(content)

    def fsync(_):
        for at, content in written:
            safe[at : at + len(content)] = content
        written.clear()

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, SYNC, fsync)
    with StoreWriter(path) as writer:
        for rows in ([0, 1], [3, 5], [2, 4]):
            part = {"block1_conv1": codes["block1_conv1"][rows]}
            writer.write_done(np.array(rows), part, facts_of(rows))
        writer.finish()
    assert seen == [0, 1, 3, 5, 2, 4, "complete"]
    assert not written  # everything is synced


# Adjacent rows are written at once: three batches of 1, 3 and 2 sequences of rows, with six
# datasets each and the status last.
@pytest.mark.parametrize(
    ("k", "n_done"),
    [(0, 0), (5, 0), (6, 3), (21, 3), (22, 4), (24, 6), (35, 7)],
)
def test_a_full_disk_leaves_a_valid_store(tmp_path, monkeypatch, k, n_done):
    """If any write fails, the file is valid and rows marked as done have their codes."""
    path, codes = empty_store(tmp_path / "codes.h5", 9), random_codes(9)["block1_conv1"]
    real, calls = os.pwrite, iter(range(100))

    def pwrite(file, data, at):
        if next(calls) >= k:
            raise FULL
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)

    def write():
        with StoreWriter(path) as writer:
            for rows in (np.arange(3), np.array([3, 5, 8]), np.array([4, 6, 7])):
                writer.write_done(rows, {"block1_conv1": codes[rows]}, facts_of(rows))

    assert_refused(write, path, "No space left on device")
    with h5py.File(path, "r") as file:
        done = file["images/status"][...] == 1
        assert done.sum() == n_done
        assert np.array_equal(file["codes/block1_conv1"][...][done], codes[done])
        assert file["complete"][0] == 0


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path, monkeypatch):
    """If the data cannot be synced, the row stays pending."""
    path = empty_store(tmp_path / "codes.h5", 2)

    def fsync(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, SYNC, fsync)
    with StoreWriter(path) as writer:
        action = functools.partial(
            writer.write_done, np.arange(2), random_codes(2), facts_of([0, 1])
        )
        assert_refused(action, path, "Input/output error")
        assert_refused(writer.finish, path, "Input/output error")
    assert open_store(path).images.status.tolist() == [0, 0]
    assert open_store(path).complete is False


@pytest.mark.parametrize(
    ("value", "dtype", "facts"),
    [
        (65520.0, "float16", ["block1_conv1", "65520", "--dtype float32"]),
        (-70000.0, "float16", ["block1_conv1", "70000", "--dtype float32"]),
        (np.nan, "float32", ["block1_conv1", "nan", "--preprocess"]),
        (-np.inf, "float32", ["block1_conv1", "-inf", "--preprocess"]),
    ],
)
def test_values_that_cannot_be_stored_are_refused(tmp_path, value, dtype, facts):
    """Codes that are NaN, infinite or too large for float16 are errors; the row stays pending."""
    recipe = Recipe(
        weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32), dtype=dtype
    )
    path, codes = tmp_path / "codes.h5", random_codes(2)["block1_conv1"]
    create_store(path, recipe, columns_of(2), {})
    codes[1, 7] = value
    with StoreWriter(path) as writer:
        assert_refused(
            lambda: writer.write_done(np.arange(2), {"block1_conv1": codes}, facts_of([0, 1])),
            *facts,
        )
    assert open_store(path).images.status.tolist() == [0, 0]


def test_the_largest_float16_is_kept(tmp_path, make_store):
    """The largest values of float16, 65504 and -65504, can be stored."""
    codes = np.full((2, 64), 65504, np.float16) * np.array([[1], [-1]], np.float16)
    store = open_store(make_store(tmp_path / "codes.h5", {"block1_conv1": codes}, ["a", "b"]))
    assert store.codes("block1_conv1")[:, 0].tolist() == [65504.0, -65504.0]


def test_a_read_only_store_cannot_be_written(tmp_path, monkeypatch):
    """A read-only file is an error with the reason of the system."""
    path = empty_store(tmp_path / "codes.h5", 2)

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    assert_refused(lambda: StoreWriter(path), path, "Permission denied")


def test_a_missing_store_cannot_be_written(tmp_path):
    """A writer of a missing file raises an error."""
    path = tmp_path / "gone.h5"
    assert_refused(lambda: StoreWriter(path), path, "No such file or directory")


# reading


def chunked_copy(path: Path, to: Path) -> Path:
    """Copy a store with chunked and compressed codes."""
    with h5py.File(path, "r") as old, h5py.File(to, "w") as new:
        new.attrs.update(old.attrs)
        for name in ("images", "classes", "complete"):
            old.copy(name, new)
        for layer, dataset in old["codes"].items():
            new.create_dataset(f"codes/{layer}", data=dataset, chunks=True, compression="gzip")
    return to


@pytest.fixture(scope="module")
def nine(tmp_path_factory, make_store) -> tuple[Store, dict]:
    """Return a store of nine rows and two layers, and its codes."""
    codes = random_codes(9) | {"block2_conv1": random_codes(18)["block1_conv1"].reshape(9, 128)}
    path = tmp_path_factory.mktemp("nine") / "codes.h5"
    return open_store(make_store(path, codes, ["a", "b", "c"] * 3)), codes


@pytest.fixture
def store(tmp_path, nine) -> Store:
    """Return a copy of `nine` that a test may damage."""
    return open_store(shutil.copy(nine[0].path, tmp_path / "codes.h5"))


def test_codes_are_memory_mapped_and_read_only(store):
    """Codes are memory-mapped and read-only."""
    codes = store.codes("block1_conv1")
    assert isinstance(codes, np.memmap)
    with pytest.raises(ValueError, match=r"^assignment destination is read-only$"):
        codes[0] = 0


def test_flat_codes_are_not_copied(tmp_path, make_store):
    """The method flat_codes returns feature maps as a memory-mapped matrix in C order."""
    maps = np.arange(2 * 8 * 8 * 128, dtype=np.float32).reshape(2, 8, 8, 128)
    store = open_store(make_store(tmp_path / "codes.h5", {"block2_pool": maps}, ["a", "b"]))
    flat = store.flat_codes("block2_pool")
    assert isinstance(flat, np.memmap)
    assert np.array_equal(flat, maps.reshape(2, -1))


def test_a_chunked_copy_reads_the_same(tmp_path, store):
    """A store that was rewritten in chunks can be read."""
    copy = open_store(chunked_copy(store.path, tmp_path / "copy.h5"))
    assert not isinstance(copy.codes("block2_conv1"), np.memmap)
    assert np.array_equal(copy.codes("block2_conv1"), store.codes("block2_conv1"))
    rows = np.array([4, 2, 3])
    assert np.array_equal(
        copy.read_rows("block1_conv1", rows), store.read_rows("block1_conv1", rows)
    )
    assert copy.digests() == store.digests()


def test_a_chunked_copy_cannot_be_written(tmp_path, store):
    """A chunked copy cannot be written, since its rows have no addresses."""
    path = chunked_copy(store.path, tmp_path / "copy.h5")
    assert_refused(lambda: StoreWriter(path), path, "/codes/block1_conv1", "--overwrite")


selections = st.one_of(
    st.lists(st.integers(-9, 8), max_size=20).map(lambda rows: np.array(rows, np.int64)),
    st.lists(st.booleans(), min_size=9, max_size=9).map(lambda rows: np.array(rows, bool)),
)


@settings(max_examples=60, deadline=None)
@given(rows=selections, layer=st.sampled_from(["block1_conv1", "block2_conv1"]))
def test_reading_rows_is_fancy_indexing(rows, layer, nine):
    """Reading rows equals fancy indexing in NumPy, with any order and repeats."""
    store, codes = nine
    expected = codes[layer][rows]
    assert np.array_equal(store.read_rows(layer, rows), expected)
    wide = np.zeros((len(expected), 300), np.float32)
    part = slice(50, 50 + expected.shape[1])
    store.read_rows(layer, rows, out=wide[:, part])
    assert np.array_equal(wide[:, part], expected)
    assert np.count_nonzero(wide) == np.count_nonzero(expected)


def test_reading_a_missing_row_fails(store):
    """A row after the last one is an error."""
    with pytest.raises(OptionError, match=r"^rows .*9"):
        store.read_rows("block1_conv1", np.array([9]))


def test_a_store_is_shown_in_a_few_lines(tmp_path, make_store):
    """The text of a store of 3,000 images has its facts, not its rows."""
    labels = ["a", "b", "c"] * 1000
    store = open_store(make_store(tmp_path / "codes.h5", random_codes(3000), labels, pending=[7]))
    for fact in ("3,000", "codes.h5", "block1_conv1", "64", "not complete"):
        assert fact in repr(store)
    assert "2,999" in repr(store.images)
    assert max(len(repr(store)), len(repr(store.images))) < 300


def test_further_members_are_found_and_do_not_hinder_writing(tmp_path):
    """Members of other programs, which the format allows, are listed; rows are still written."""
    path = empty_store(tmp_path / "codes.h5", 3)
    assert open_store(path).further_members() == ()
    with h5py.File(path, "r+") as file:
        file["codes/umap"] = np.zeros((3, 2))
        file["images/age"] = np.arange(3)
        file.create_group("codes/notes")
        file["summary"] = "written by another program"
        file["codes/link"] = h5py.ExternalLink("missing.h5", "/x")
        file.attrs["author"] = "somebody"
    own = {"codes/umap", "images/age", "codes/notes", "summary", "codes/link", "author"}
    assert set(open_store(path).further_members()) == own
    codes = random_codes(3)
    with StoreWriter(path) as writer:
        writer.write_done(np.arange(3), codes, facts_of(range(3)))
        writer.finish()
    assert np.array_equal(open_store(path).codes("block1_conv1"), codes["block1_conv1"])


def test_a_file_truncated_while_it_is_read_is_an_error(store, monkeypatch):
    """Reading ends with an error if the file becomes shorter."""
    real = Store.flat_codes

    def then_cut(self, layer):
        codes = real(self, layer)
        os.truncate(self.path, codes.offset + 100)
        return codes

    monkeypatch.setattr(Store, "flat_codes", then_cut)
    assert_refused(lambda: store.read_rows("block1_conv1", np.arange(9)), store.path)


def test_a_missing_layer_is_refused(store):
    """The error lists the layers of the store."""
    facts = [store.path, "'fc1'", "--layer", "block1_conv1, block2_conv1"]
    for action in (lambda: store.codes("fc1"), lambda: store.check_layers(["fc1"])):
        assert_refused(action, *facts, error=OptionError)


def test_layers_have_the_order_of_the_store(store):
    """Layers are returned in the order of the network, and None means all."""
    assert store.check_layers(None) == ("block1_conv1", "block2_conv1")
    assert store.check_layers("block2_conv1") == ("block2_conv1",)
    assert store.check_layers(["block2_conv1", "block1_conv1"]) == ("block1_conv1", "block2_conv1")


def test_a_store_without_images_can_be_read(tmp_path):
    """A store with no images can be read."""
    store = open_store(empty_store(tmp_path / "codes.h5", 0))
    assert store.flat_codes("block1_conv1").shape == (0, 64)


# damage


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9999])
def test_a_truncated_store_is_refused(store, share):
    """A file that was truncated anywhere is a StoreError whose cause is the error of HDF5."""
    os.truncate(store.path, int(store.path.stat().st_size * share))
    with pytest.raises(StoreError, match=re.escape(str(store.path))) as caught:
        open_store(store.path)
    assert isinstance(caught.value.__cause__, OSError)


def test_other_files_are_refused(tmp_path):
    """A missing file, a text file and another HDF5 file are not stores."""
    text, missing, weights = (tmp_path / name for name in ("a.h5", "b.h5", "c.h5"))
    text.write_text("path,label\n")
    with h5py.File(weights, "w") as file:
        file["block1_conv1"] = [1.0]
    assert_refused(lambda: open_store(text), text, "--overwrite")
    assert_refused(lambda: open_store(missing), missing, f"-o {missing}")
    assert_refused(lambda: open_store(weights), f"featx info {weights}")


def test_a_newer_format_is_refused(store):
    """A store of a later format is refused with both versions."""
    with h5py.File(store.path, "r+") as file:
        file.attrs["format_version"] = 2
    assert_refused(
        lambda: open_store(store.path), store.path, "format 2", "format 1", "pip install"
    )


def edit_recipe(path: Path, **fields) -> None:
    with h5py.File(path, "r+") as file:
        recipe = json.loads(file.attrs["recipe"])
        file.attrs["recipe"] = json.dumps({**recipe, **fields})


def test_a_recipe_with_an_unknown_field_is_refused(store):
    """An unknown setting might change the codes, so it is an error."""
    edit_recipe(store.path, rotations=4)
    assert_refused(lambda: open_store(store.path), store.path, "rotations", "pip install")


def test_a_recipe_with_an_unknown_value_is_refused(store):
    """An unknown value of a setting is an error that names the file."""
    edit_recipe(store.path, pool="median")
    assert_refused(lambda: open_store(store.path), store.path, "'median'", "--pool")


def lose(name: str):
    """Return a function that deletes a dataset of a file."""
    return lambda file: file.__delitem__(name)


def spell_recipe(text: str):
    """Return a function that writes another recipe to a file."""
    return lambda file: file.attrs.__setitem__("recipe", text)


def number_labels(file: h5py.File) -> None:
    file["images/label"][...] = 7


def drop_a_row(file: h5py.File) -> None:
    codes = file["codes/block1_conv1"][...]
    del file["codes/block1_conv1"]
    file["codes/block1_conv1"] = codes[:-1]


DAMAGES = {
    "cut recipe": spell_recipe("{"),
    "foreign recipe": spell_recipe("[]"),
    "labels out of range": number_labels,
    "no classes": lose("classes"),
    "no codes": lose("codes/block1_conv1"),
    "fewer codes than images": drop_a_row,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_inside_is_refused(store, damage):
    """Any damage inside a file is a StoreError."""
    with h5py.File(store.path, "r+") as file:
        damage(file)
    assert_refused(lambda: open_store(store.path), store.path, "--overwrite")


# digests


def test_digests_ignore_undefined_codes(tmp_path, make_store):
    """The codes of pending rows do not change the digests."""
    path = make_store(tmp_path / "a.h5", random_codes(3), ["a", "b", "c"], pending=[1])
    before = open_store(path).digests()
    with h5py.File(path, "r+") as file:
        file["codes/block1_conv1"][1] = 5
    assert open_store(path).digests() == before
    with h5py.File(path, "r+") as file:
        file["codes/block1_conv1"][2] = 5
    assert open_store(path).digests()["codes"] != before["codes"]


def test_digests_do_not_depend_on_the_order_of_writing(tmp_path, make_store):
    """Two stores with equal contents have equal digests, with any batches."""
    codes = random_codes(5)
    straight = make_store(tmp_path / "a.h5", codes, [None] * 5, paths=columns_of(5)["path"])
    other = empty_store(tmp_path / "b.h5", 5)
    with StoreWriter(other) as writer:
        for rows in ([3, 4], [0], [1, 2]):
            part = {"block1_conv1": codes["block1_conv1"][rows]}
            writer.write_done(np.array(rows), part, facts_of(rows))
        writer.finish()
    assert open_store(straight).digests() == open_store(other).digests()


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, []),
        ({"provenance": {"host": "other"}}, []),
        ({"code": 1e-6}, ["codes"]),
        ({"labels": ["a", "b", "b"]}, ["images"]),
        ({"labels": ["a", "b", "d"]}, ["images"]),
        ({"paths": ["1", "2", "4"]}, ["images"]),
        ({"splits": ["train", None, None]}, ["images"]),
        ({"groups": ["g", None, None]}, ["images"]),
        ({"sha256": ["0" * 64, "1" * 64, "3" * 64]}, ["images"]),
        ({"failed": {2: "x"}}, ["codes", "images"]),
        ({"pending": [2]}, ["codes", "images"]),
        ({"weights": "random:1"}, ["recipe"]),
    ],
    ids=str,
)
def test_digests_distinguish_contents(tmp_path, make_store, change, differs):
    """Each change of a code or of metadata changes its digest; provenance changes none."""

    def digests(name, code=0.0, weights="random:0", **changes):
        codes = np.ones((3, 64), np.float32)
        codes[1, 5] += code
        recipe = Recipe(weights=weights, layers=("block1_conv1",), pool="avg", size=(32, 32))
        facts = {
            "labels": ["a", "b", "c"],
            "paths": ["1", "2", "3"],
            "sha256": ["0" * 64, "1" * 64, "2" * 64],
            **changes,
        }
        path = make_store(tmp_path / name, {"block1_conv1": codes}, recipe=recipe, **facts)
        return open_store(path).digests()

    one, other = digests("a.h5"), digests("b.h5", **change)
    assert set(one) == {"recipe", "images", "codes"}
    assert sorted(name for name in one if one[name] != other[name]) == differs


# Texts that many rows share --------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", ["images/path", "images/group"])
def test_texts_of_many_rows_are_refused(tmp_path, make_store, monkeypatch, chunked, name):
    """One long text in many rows would take gigabytes of memory; a sound store is read."""
    path = make_store(
        tmp_path / "codes.h5", {"block1_pool": np.zeros((400, 64), "f4")}, ["a", "b"] * 200
    )
    monkeypatch.setattr("featx.hdf5._SMALL", 300_000)
    with h5py.File(path, "r+") as file:
        texts = file[name].asstr()[...]
        texts[0] = "x" * 60_000
        chunks = (400,) if chunked else None
        del file[name]
        dataset = file.create_dataset(name, data=texts, dtype=h5py.string_dtype(), chunks=chunks)
        offset = dataset.id.get_offset() or dataset.id.get_chunk_info(0).byte_offset
    assert len(open_store(path).images) == 400
    data = bytearray(path.read_bytes())
    data[offset : offset + 16 * 400] = data[offset : offset + 16] * 400
    path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"bytes or more of texts in {name}"):
        open_store(path)


def test_attributes_with_many_texts_are_refused(tmp_path, make_store):
    """They could all refer to one large text."""
    path = make_store(tmp_path / "codes.h5", {"block1_pool": np.zeros((2, 64), "f4")}, ["a", "b"])
    with h5py.File(path, "r+") as file:
        recipe = file.attrs["recipe"]
        file.attrs.create("recipe", [recipe] * 3, dtype=h5py.string_dtype())
    with pytest.raises(StoreError, match=r"3 texts.*recipe"):
        open_store(path)
