"""The store: its layout as h5py alone sees it, its writing, reading, digests and damage."""

import errno
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
    """Codes of one layer, 64 numbers an image."""
    rng = np.random.default_rng(seed)
    return {layer: rng.standard_normal((n, 64)).astype(np.float32)}


def facts_of(rows) -> list[ImageFacts]:
    return [ImageFacts(f"{r:064x}", int(r), np.full((32, 32, 3), r, np.uint8)) for r in rows]


def columns_of(n: int) -> dict:
    columns = dict.fromkeys(("label", "split", "group"), [None] * n)
    return {"path": [f"{i}.png" for i in range(n)], **columns}


def empty_store(path: Path, n: int) -> Path:
    """A store of n rows and one layer of 64 numbers, all pending."""
    recipe = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))
    create_store(path, recipe, columns_of(n), {})
    return path


def refusal(action, error=StoreError) -> str:
    """Return the whole message that an action is refused with."""
    with pytest.raises(error) as caught:
        action()
    return str(caught.value)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# the layout


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_golden_stores_open_and_hold_what_was_written(path):
    """A store that any earlier version wrote still opens, with every value as it was."""
    store = open_store(path)
    assert store.recipe == Recipe(
        weights="random:7",
        layers=("block1_conv1", "block2_conv1"),
        pool="max",
        size=(32, 48),
        resize="squash",
        jpeg="full",  # the file names none: it was written before there was a choice
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
    """Each format version leaves a file behind; so does today's."""
    assert [path.parent.name for path in GOLDEN] == ["format-1"]


def test_h5py_alone_reads_the_layout(tmp_path, make_store):
    """Every line of the table in layout.py holds, read without featx."""
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


def test_what_is_written_in_place_lies_contiguous(tmp_path, make_store):
    """Each dataset that changes during a run is one stretch, and codes begin on a page."""
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
def test_what_goes_in_comes_out(data, make_store):
    """Any paths, labels, splits, groups and codes come back as they were, to the bit."""
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
    """A store that was only created is valid, not complete, and says that no row is done."""
    store = open_store(empty_store(tmp_path / "codes.h5", 3))
    assert store.complete is False
    assert store.images.status.tolist() == [0, 0, 0]
    assert not store.images.done.any()
    assert list(store.images.sha256) == ["", "", ""]


def test_creation_reserves_the_whole_space(tmp_path):
    """The file takes its final space on the disk at once, without holes."""
    path = empty_store(tmp_path / "codes.h5", 2000)
    facts = path.stat()
    assert facts.st_size > 2000 * 64 * 4
    assert facts.st_blocks * 512 >= facts.st_size


def test_creation_replaces_a_file_of_that_name(tmp_path):
    """Where a file stood there is a new store afterwards, and nothing else."""
    path = tmp_path / "codes.h5"
    path.write_text("old")
    assert len(open_store(empty_store(path, 2)).images) == 2
    assert files_in(tmp_path) == ["codes.h5"]


# What makes data safe on this system.
SYNC = "fdatasync" if hasattr(os, "fdatasync") else "fsync"


def test_a_disk_too_small_leaves_nothing(tmp_path, monkeypatch):
    """Where the space cannot be reserved no file is left, and the message says what to do."""

    def full(*_):
        raise FULL

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    free = shutil.disk_usage(tmp_path)._replace(free=1_230_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    path = tmp_path / "codes.h5"
    assert refusal(lambda: empty_store(path, 3)) == (
        f"No room for {path}: 1.23 GB are free in {tmp_path}, the store needs 0.00 GB. "
        "Use --pool avg, --dtype float16, or -o on another disk."
    )
    assert files_in(tmp_path) == []


def test_a_disk_too_small_keeps_the_old_file(tmp_path, monkeypatch):
    """A store that was to be replaced stays where the new one does not fit."""
    path = tmp_path / "codes.h5"
    path.write_text("old")

    def full(*_):
        raise FULL

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StoreError, match=f"^No room for {re.escape(str(path))}: "):
        empty_store(path, 3)
    assert path.read_text() == "old"
    assert files_in(tmp_path) == ["codes.h5"]


def test_without_posix_fallocate_the_free_space_is_asked(tmp_path, monkeypatch):
    """On macOS, where nothing can be reserved, a disk too small is still known before."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    path = tmp_path / "codes.h5"
    assert refusal(lambda: empty_store(path, 3)) == (
        f"No room for {path}: 0.00 GB are free in {tmp_path}, the store needs 0.00 GB. "
        "Use --pool avg, --dtype float16, or -o on another disk."
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    assert len(open_store(empty_store(path, 3)).images) == 3


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_creation_in_no_folder_is_refused(tmp_path, folder):
    """A folder that is missing, or is a file, is named in the message."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "codes.h5"
    assert str(path.parent) in refusal(lambda: empty_store(path, 3), OutputError)


def test_creation_over_a_folder_is_refused(tmp_path):
    """A folder of that name is not replaced, and no temporary file stays."""
    path = tmp_path / "codes.h5"
    path.mkdir()
    message = refusal(lambda: empty_store(path, 3), OutputError)
    assert str(path) in message
    assert "Is a directory" in message
    assert files_in(tmp_path) == ["codes.h5"]


# writing


def test_failed_rows_are_nan_and_say_why(tmp_path, make_store):
    """A failed row has NaN in every layer, its reason, its hash, and no thumbnail."""
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


def test_a_failed_row_without_bytes_has_no_hash(tmp_path):
    """An image that could not even be opened has an empty hash."""
    path = empty_store(tmp_path / "codes.h5", 1)
    with StoreWriter(path) as writer:
        writer.write_failed(np.array([0]), ["gone"], [None])
    assert open_store(path).images.sha256.tolist() == [""]


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("x" * 300, "x" * 256), ("ü" * 200, "ü" * 128), ("x" + "ü" * 200, "x" + "ü" * 127 + "�")],
)
def test_a_reason_is_cut_at_256_bytes(tmp_path, reason, kept):
    """A long reason is cut, and a character cut in two is shown as such."""
    path = empty_store(tmp_path / "codes.h5", 2)
    with StoreWriter(path) as writer:
        writer.write_failed(np.array([0, 1]), [reason, "short"], [None, None])
    assert list(open_store(path).images.reason) == [kept, "short"]


def test_rows_may_be_written_in_any_batches(tmp_path):
    """Scattered rows land on their own addresses, whoever wrote their neighbours."""
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


def test_short_writes_go_on(tmp_path, monkeypatch):
    """A system that takes a few bytes at a time gets all of them in the end."""
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
    """At each moment, what the disk surely holds covers each row that may say it is done."""
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
    assert not written  # finish leaves nothing unsafe


# Runs of neighbouring rows are written at once: three batches of 1, 3 and 2 runs,
# six datasets each, the status last.
@pytest.mark.parametrize(
    ("k", "n_done"),
    [(0, 0), (5, 0), (6, 3), (21, 3), (22, 4), (23, 5), (24, 6), (34, 6), (35, 7)],
)
def test_a_full_disk_leaves_a_true_store(tmp_path, monkeypatch, k, n_done):
    """Whichever write fails, h5py opens the file, and rows that say so have their codes."""
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

    assert refusal(write) == (
        f"Cannot write {path}: No space left on device. The rows done so far are kept. "
        "Mend that, then run the same command again: it goes on where it stopped."
    )
    with h5py.File(path, "r") as file:
        done = file["images/status"][...] == 1
        assert done.sum() == n_done
        assert np.array_equal(file["codes/block1_conv1"][...][done], codes[done])
        assert file["complete"][0] == 0


def test_a_disk_that_fails_to_sync_is_told(tmp_path, monkeypatch):
    """Where the bytes cannot be made safe, the row stays pending."""
    path = empty_store(tmp_path / "codes.h5", 2)

    def fsync(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, SYNC, fsync)
    with StoreWriter(path) as writer:
        assert refusal(lambda: writer.write_done(np.arange(2), random_codes(2), facts_of([0, 1])))
        message = refusal(writer.finish)
    assert message == (
        f"Cannot write {path}: Input/output error. The rows done so far are kept. "
        "Mend that, then run the same command again: it goes on where it stopped."
    )
    assert open_store(path).images.status.tolist() == [0, 0]
    assert open_store(path).complete is False


@pytest.mark.parametrize("value", [65520.0, -70000.0])
def test_a_value_too_large_for_float16_is_refused(tmp_path, value):
    """A code that would become infinite in the file is an error, and its row stays pending."""
    recipe = Recipe(
        weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32), dtype="float16"
    )
    path, codes = tmp_path / "codes.h5", random_codes(2)["block1_conv1"]
    create_store(path, recipe, columns_of(2), {})
    codes[1, 7] = value
    with StoreWriter(path) as writer:
        message = refusal(
            lambda: writer.write_done(np.arange(2), {"block1_conv1": codes}, facts_of([0, 1]))
        )
    assert message == (
        f"A code of block1_conv1 is {abs(value):.6g}; float16 holds at most 65504. "
        "Use --dtype float32 --overwrite."
    )
    assert open_store(path).images.status.tolist() == [0, 0]


@pytest.mark.parametrize(("value", "spelt"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_a_value_that_is_not_finite_is_refused(tmp_path, value, spelt):
    """NaN would be taken for a failed image; it is an error that points at the weights."""
    recipe = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))
    path, codes = tmp_path / "codes.h5", random_codes(2)["block1_conv1"]
    create_store(path, recipe, columns_of(2), {})
    codes[1, 7] = value
    with StoreWriter(path) as writer:
        message = refusal(
            lambda: writer.write_done(np.arange(2), {"block1_conv1": codes}, facts_of([0, 1]))
        )
    assert message == (
        f"The network gave a code of block1_conv1 that is {spelt}. "
        "Its weights do not suit it: use others, or another --preprocess."
    )
    assert open_store(path).images.status.tolist() == [0, 0]


def test_the_largest_float16_is_kept(tmp_path, make_store):
    """65504 is a number that float16 holds, on both sides of zero."""
    codes = np.full((2, 64), 65504, np.float16) * np.array([[1], [-1]], np.float16)
    store = open_store(make_store(tmp_path / "codes.h5", {"block1_conv1": codes}, ["a", "b"]))
    assert store.codes("block1_conv1")[:, 0].tolist() == [65504.0, -65504.0]


def test_a_store_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    """A read-only file is named, with the system's reason."""
    path = empty_store(tmp_path / "codes.h5", 2)

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    assert refusal(lambda: StoreWriter(path)) == (
        f"Cannot write {path}: Permission denied. The rows done so far are kept. "
        "Mend that, then run the same command again: it goes on where it stopped."
    )


def test_a_store_that_is_gone_cannot_be_written(tmp_path):
    """A writer of a missing file raises the error of the other write failures."""
    path = tmp_path / "gone.h5"
    assert refusal(lambda: StoreWriter(path)) == (
        f"Cannot write {path}: No such file or directory. The rows done so far are kept. "
        "Mend that, then run the same command again: it goes on where it stopped."
    )


# reading


def chunked_copy(path: Path, to: Path) -> Path:
    """Copy a store as a user might: codes in chunks, compressed."""
    with h5py.File(path, "r") as old, h5py.File(to, "w") as new:
        new.attrs.update(old.attrs)
        for name in ("images", "classes", "complete"):
            old.copy(name, new)
        for layer, dataset in old["codes"].items():
            new.create_dataset(f"codes/{layer}", data=dataset, chunks=True, compression="gzip")
    return to


@pytest.fixture(scope="module")
def nine(tmp_path_factory, make_store) -> tuple[Store, dict]:
    """Nine done rows of two layers, and their codes; of the module, for hypothesis."""
    codes = random_codes(9) | {"block2_conv1": random_codes(18)["block1_conv1"].reshape(9, 128)}
    path = tmp_path_factory.mktemp("nine") / "codes.h5"
    return open_store(make_store(path, codes, ["a", "b", "c"] * 3)), codes


@pytest.fixture
def store(tmp_path, nine) -> Store:
    """A copy of `nine` that a test may damage."""
    return open_store(shutil.copy(nine[0].path, tmp_path / "codes.h5"))


def test_codes_are_memory_mapped_and_read_only(store):
    """Codes come as a map of the file that nobody can write through."""
    codes = store.codes("block1_conv1")
    assert isinstance(codes, np.memmap)
    with pytest.raises(ValueError, match=r"^assignment destination is read-only$"):
        codes[0] = 0


def test_a_map_is_seen_flat_without_a_copy(tmp_path, make_store):
    """flat_codes of (n, h, w, c) is the same memory as a matrix, in C order."""
    maps = np.arange(2 * 8 * 8 * 128, dtype=np.float32).reshape(2, 8, 8, 128)
    store = open_store(make_store(tmp_path / "codes.h5", {"block2_pool": maps}, ["a", "b"]))
    flat = store.flat_codes("block2_pool")
    assert isinstance(flat, np.memmap)
    assert np.array_equal(flat, maps.reshape(2, -1))


def test_a_chunked_copy_reads_the_same(tmp_path, store):
    """What h5py or another tool has rewritten in chunks is still a store."""
    copy = open_store(chunked_copy(store.path, tmp_path / "copy.h5"))
    assert not isinstance(copy.codes("block2_conv1"), np.memmap)
    assert np.array_equal(copy.codes("block2_conv1"), store.codes("block2_conv1"))
    rows = np.array([4, 2, 3])
    assert np.array_equal(
        copy.read_rows("block1_conv1", rows), store.read_rows("block1_conv1", rows)
    )
    assert copy.digests() == store.digests()


def test_a_chunked_copy_is_not_written(tmp_path, store):
    """Rows in chunks have no address, so a writer refuses them."""
    path = chunked_copy(store.path, tmp_path / "copy.h5")
    assert refusal(lambda: StoreWriter(path)) == (
        f"{path} is a copy in chunks (/codes/block1_conv1), which cannot be written in place. "
        "Go on with the original, or make it again: featx extract --overwrite"
    )


selections = st.one_of(
    st.lists(st.integers(-9, 8), max_size=20).map(lambda rows: np.array(rows, np.int64)),
    st.lists(st.booleans(), min_size=9, max_size=9).map(lambda rows: np.array(rows, bool)),
)


@settings(max_examples=60, deadline=None)
@given(rows=selections, layer=st.sampled_from(["block1_conv1", "block2_conv1"]))
def test_reading_rows_is_fancy_indexing(rows, layer, nine):
    """Any rows, in any order and more than once, are those that NumPy would take."""
    store, codes = nine
    expected = codes[layer][rows]
    assert np.array_equal(store.read_rows(layer, rows), expected)
    wide = np.zeros((len(expected), 300), np.float32)
    place = slice(50, 50 + expected.shape[1])
    store.read_rows(layer, rows, out=wide[:, place])
    assert np.array_equal(wide[:, place], expected)
    assert np.count_nonzero(wide) == np.count_nonzero(expected)


def test_reading_a_row_that_is_not_there_fails(store):
    """A row beyond the end is an error, never bytes of something else."""
    with pytest.raises(IndexError, match=r"^index 9 is out of bounds for axis 0 with size 9$"):
        store.read_rows("block1_conv1", np.array([9]))


def test_a_file_cut_while_it_is_read_is_told(store, monkeypatch):
    """Reading stops with an error, rather than for ever, where the bytes end."""
    real = Store.flat_codes

    def then_cut(self, layer):
        codes = real(self, layer)
        os.truncate(self.path, codes.offset + 100)
        return codes

    monkeypatch.setattr(Store, "flat_codes", then_cut)
    assert refusal(lambda: store.read_rows("block1_conv1", np.arange(9))) == (
        f"{store.path} was cut short while it was read. Make it again."
    )


def test_a_layer_that_is_not_there_is_refused(store):
    """The message lists the layers that the store holds."""
    message = (
        f"{store.path} holds codes of block1_conv1, block2_conv1, not of 'fc1'. "
        "Use --layer with one of them."
    )
    assert refusal(lambda: store.codes("fc1"), OptionError) == message
    assert refusal(lambda: store.check_layers(["block1_conv1", "fc1"]), OptionError) == message


def test_layers_come_in_the_order_of_the_store(store):
    """However they are asked for, layers stand as in the network, and None means all."""
    assert store.check_layers(None) == ("block1_conv1", "block2_conv1")
    assert store.check_layers("block2_conv1") == ("block2_conv1",)
    assert store.check_layers(["block2_conv1", "block1_conv1"]) == ("block1_conv1", "block2_conv1")


def test_a_store_without_images_can_be_read(tmp_path):
    """No image is odd, but no reason to crash."""
    store = open_store(empty_store(tmp_path / "codes.h5", 0))
    assert store.flat_codes("block1_conv1").shape == (0, 64)


# damage


def damaged(path: Path) -> str:
    return (
        f"{path} cannot be read as a store: it is cut short, damaged, or no HDF5 file. "
        "Make it again: featx extract --overwrite"
    )


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_store_is_refused(store, share):
    """A file that was cut anywhere is one StoreError; what HDF5 said is its cause."""
    os.truncate(store.path, int(store.path.stat().st_size * share))
    with pytest.raises(StoreError) as caught:
        open_store(store.path)
    assert str(caught.value) == damaged(store.path)
    assert isinstance(caught.value.__cause__, OSError)


def test_what_is_no_hdf5_is_refused(tmp_path):
    """A text is told by the same message."""
    path = tmp_path / "codes.h5"
    path.write_text("path,label\n")
    assert refusal(lambda: open_store(path)) == damaged(path)


def test_a_missing_store_is_refused(tmp_path):
    """The message says how to make one."""
    path = tmp_path / "codes.h5"
    assert refusal(lambda: open_store(path)) == (
        f"No store {path}. Make one first: featx extract IMAGES --layer block2_pool -o {path}"
    )


def test_another_hdf5_file_is_refused(tmp_path):
    """A file of weights, say, is told apart by its attributes."""
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["block1_conv1"] = [1.0]
    assert refusal(lambda: open_store(path)) == (
        f"{path} is an HDF5 file, but not a featx store. See what it holds: featx info {path}"
    )


def test_a_newer_format_is_refused(store):
    """A later version's file is told by its number."""
    with h5py.File(store.path, "r+") as file:
        file.attrs["format_version"] = 2
    assert refusal(lambda: open_store(store.path)) == (
        f"{store.path} has format 2; this featx reads format 1. "
        "Use a newer one: pip install --upgrade featx"
    )


def edit_recipe(path: Path, **fields) -> None:
    with h5py.File(path, "r+") as file:
        recipe = json.loads(file.attrs["recipe"])
        file.attrs["recipe"] = json.dumps({**recipe, **fields})


def test_a_recipe_with_an_unknown_field_is_refused(store):
    """A fact that this version does not know might change the numbers, so it stops."""
    edit_recipe(store.path, rotations=4)
    assert refusal(lambda: open_store(store.path)) == (
        f"{store.path} cannot be read: The recipe holds rotations, which this version of featx "
        "does not know. A newer featx wrote it: pip install --upgrade featx"
    )


def test_a_recipe_with_an_unknown_value_is_refused(store):
    """A value that this version does not know is named together with the file."""
    edit_recipe(store.path, pool="median")
    assert refusal(lambda: open_store(store.path)) == (
        f"{store.path} cannot be read: No such pool: 'median'. "
        "Expected none, avg, max, avg+max, bilinear or grid:N, as in grid:2. Use --pool avg."
    )


def lose(name: str):
    """Return a function that takes a dataset out of a file."""
    return lambda file: file.__delitem__(name)


def spell_recipe(text: str):
    """Return a function that writes another recipe into a file."""
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
    """Whatever is wrong inside, one StoreError says so."""
    with h5py.File(store.path, "r+") as file:
        damage(file)
    assert refusal(lambda: open_store(store.path)) == damaged(store.path)


# digests


def test_digests_do_not_see_what_means_nothing(tmp_path, make_store):
    """Bytes that a stopped run left in a pending row are no content."""
    path = make_store(tmp_path / "a.h5", random_codes(3), ["a", "b", "c"], pending=[1])
    before = open_store(path).digests()
    with h5py.File(path, "r+") as file:
        file["codes/block1_conv1"][1] = 5
    assert open_store(path).digests() == before
    with h5py.File(path, "r+") as file:
        file["codes/block1_conv1"][2] = 5
    assert open_store(path).digests()["codes"] != before["codes"]


def test_digests_do_not_know_the_order_of_writing(tmp_path, make_store):
    """Two stores of the same content are equal, whatever batches made them."""
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
def test_digests_tell_contents_apart(tmp_path, make_store, change, differs):
    """One other code, path or label shows in its own digest; provenance in none."""

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
