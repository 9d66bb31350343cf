"""Errors of the operating system name themselves: nothing that could not be read is "damaged".

System calls fail by a preloaded library (faults.c); the tests are skipped without a C compiler.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import joblib
import numpy as np
import pytest

import featx
from featx.errors import StoreError
from featx.finetuning.checkpoints import load_checkpoint, save_checkpoint
from featx.hdf5 import is_hdf5
from featx.store import open_store

READERS = {
    "store": "StoreError",
    "weights": "WeightsError",
    "checkpoint": "StoreError",
    "tuned": "ModelError",
    "model": "ModelError",
    "table": "OptionError",
}
DAMAGE = ("damaged", "incomplete", "--overwrite", "Copy or download", "not a weights file")


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """Return a function that runs cases of faulty.py in one process."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def run(cases):
        done = subprocess.run(
            [sys.executable, source.with_name("faulty.py")],
            input=json.dumps([[name, str(path), found] for name, path, found in cases]),
            env=os.environ | {"LD_PRELOAD": str(library)},
            text=True,
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_store):
    """One sound file of each kind, by the name of the function that reads it."""
    folder = tmp_path_factory.mktemp("files")
    codes = np.random.default_rng(0).random((200, 64)).astype("f4")
    files = {"store": make_store(folder / "codes.h5", {"block1_pool": codes}, ["a", "b"] * 100)}
    files["weights"] = folder / "weights.h5"
    with h5py.File(files["weights"], "w") as file:
        for name, shape in (("block1_conv1", (3, 3, 3, 64)), ("block1_conv2", (3, 3, 64, 64))):
            file[f"{name}/{name}/kernel:0"] = np.full(shape, 0.1, "f4")
            file[f"{name}/{name}/bias:0"] = np.zeros(64, "f4")
    files["checkpoint"] = folder / "checkpoint.h5"
    save_checkpoint(files["checkpoint"], {"kernels": [np.arange(5000.0)] * 3}, {"epoch": 1})
    files["table"] = folder / "table.csv"
    files["table"].write_text("path,label\n" + "a.png,a\n" * 2000)
    for name, suffix in (("model", ".skops"), ("tuned", ".keras")):
        files[name] = folder / f"{name}{suffix}"
        files[name].write_bytes(b"PK\x03\x04" + bytes(5000))
    return files


def check_reasons(answers, cases):
    """Check that each answer is the reader's error, with the reason and the path, not damage."""
    for answer, (name, path, found) in zip(answers, cases, strict=True):
        number = int(next(value for key, value in found.items() if key.startswith("FAULT_")))
        case = f"{name} {found}: {answer}"
        assert answer is not None, case
        assert answer[0] == READERS[name], case
        assert os.strerror(number) in answer[1], case
        assert path.name in answer[1], case
        assert not [word for word in DAMAGE if word in answer[1]], case


@pytest.mark.slow
def test_readers_need_no_lock(faults, files):
    """Every HDF5 file is read if another program holds its lock, and where locks do not exist."""
    cases = [
        (name, files[name], {"FAULT_FLOCK": str(number), "FAULT_FILE": files[name].name})
        for name in ("store", "weights", "checkpoint")
        for number in (errno.EAGAIN, errno.ENOLCK, errno.EOPNOTSUPP)
    ]
    assert faults(cases) == [None] * len(cases)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["OPEN", "READ"])
def test_a_file_that_the_system_does_not_give(faults, files, call):
    """Each reader's error has the reason of the system, whatever call fails."""
    cases = [
        (name, files[name], {f"FAULT_{call}": str(number), "FAULT_FILE": files[name].name})
        for name in READERS
        for number in (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM)
    ]
    check_reasons(faults(cases), cases)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["store", "weights", "checkpoint"])
def test_a_disk_that_fails_from_some_byte_on(faults, files, name):
    """Wherever reading fails, it is the system's error, although h5py raises others for it."""
    path = files[name]
    at = [str(int(share * path.stat().st_size)) for share in np.linspace(0.001, 0.9, 40)]
    fault = {"FAULT_READ": str(errno.EIO), "FAULT_FILE": path.name}
    cases = [(name, path, fault | {"FAULT_FROM": start}) for start in at]
    answers = faults(cases)
    assert sum(answer is not None for answer in answers) > 20
    pairs = [pair for pair in zip(answers, cases, strict=True) if pair[0] is not None]
    check_reasons([answer for answer, _ in pairs], [case for _, case in pairs])


def test_wrong_bytes_are_damage(files, tmp_path):
    """A file that was read and is wrong is called damaged, with the way out."""
    for name, read in (("store", open_store), ("checkpoint", load_checkpoint)):
        cut = tmp_path / files[name].name
        cut.write_bytes(files[name].read_bytes()[:-5000])
        with pytest.raises(StoreError, match="--overwrite"):
            read(cut)


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_a_store_that_is_open_elsewhere_is_read(files, locking):
    """The locks of HDF5 do not matter, also those of the same process, such as a notebook."""
    with h5py.File(files["store"], "r+", locking=locking):
        assert len(open_store(files["store"]).codes("block1_pool")) == 200


def test_what_starts_as_hdf5_does(files, tmp_path):
    """The signature may follow a user's block; a file that cannot be read raises an error."""
    shifted = tmp_path / "shifted.h5"
    with h5py.File(shifted, "w", userblock_size=1024):
        pass
    joblib.dump(0, tmp_path / "other")
    assert [is_hdf5(each) for each in (shifted, files["store"], tmp_path / "other")] == [
        *(True, True),
        False,
    ]
    with pytest.raises(FileNotFoundError):
        is_hdf5(tmp_path / "none")


@pytest.mark.slow
def test_writers_where_locks_do_not_exist(faults, tmp_path):
    """One writer is refused with a way out, which works; whole files need no lock."""
    path = tmp_path / "out.csv"
    fault = {"FAULT_FILE": "out.csv"}
    numbers = [str(number) for number in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)]
    cases = [("alone", path, fault | {"FAULT_FLOCK": number}) for number in numbers]
    off = {"HDF5_USE_FILE_LOCKING": "FALSE"}
    allowed = [(name, path, found | off) for name, path, found in cases]
    whole = [("file", path, found) for _, path, found in cases]
    answers = faults([*cases, *allowed, *whole])
    for answer, number in zip(answers[:3], numbers, strict=True):
        assert answer[0] == "OutputError"
        for fact in (str(path), os.strerror(int(number)), "HDF5_USE_FILE_LOCKING=FALSE", "-o"):
            assert fact in answer[1]
    assert answers[3:] == [None] * 6
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.slow
def test_a_lock_that_another_run_holds(faults, tmp_path):
    """EAGAIN of the writer's lock is another run, not a missing lock."""
    fault = {"FAULT_FILE": "out.csv.lock", "FAULT_FLOCK": str(errno.EAGAIN)}
    (answer,) = faults([("alone", tmp_path / "out.csv", fault)])
    assert answer[0] == "BusyError"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "number", "fact"),
    [
        ("WRITE", errno.ENOSPC, "space"),
        ("WRITE", errno.EDQUOT, "space"),
        ("WRITE", errno.EIO, "Input/output error"),
        ("FSYNC", errno.EIO, "Input/output error"),
        ("OPEN", errno.EROFS, "Read-only file system"),
        ("OPEN", errno.EACCES, "Permission denied"),
    ],
)
def test_files_that_cannot_be_written(faults, tmp_path, call, number, fact):
    """The error has the path and the reason, the old file is kept, and nothing else is left."""
    path = tmp_path / "out.csv"
    path.write_text("old")
    fault = {"FAULT_FILE": "out.csv", f"FAULT_{call}": str(number)}
    (answer,) = faults([("file", path, fault)])
    assert answer[0] == "OutputError"
    assert str(path) in answer[1]
    assert fact in answer[1]
    assert (path.read_text(), [each.name for each in tmp_path.iterdir()]) == ("old", ["out.csv"])


@pytest.mark.slow
def test_file_systems_that_cannot_sync(faults, tmp_path):
    """A file system without fsync, as some network disks are, is written to."""
    path = tmp_path / "out.csv"
    fault = {"FAULT_FILE": "out.csv"}
    numbers = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
    cases = [("file", path, fault | {"FAULT_FSYNC": str(number)}) for number in numbers]
    assert faults(cases) == [None] * 3
    assert path.read_text() == "new"


@pytest.mark.slow
def test_a_store_that_cannot_be_written(faults, files, tmp_path):
    """The error of writing rows has the path and the reason, and the store can still be read."""
    path = tmp_path / "codes.h5"
    shutil.copyfile(files["store"], path)
    fault = {"FAULT_FILE": str(path)}
    pairs = [("WRITE", errno.ENOSPC), ("WRITE", errno.EIO), ("OPEN", errno.EACCES)]
    cases = [("writer", path, fault | {f"FAULT_{call}": str(number)}) for call, number in pairs]
    for answer, (_, number) in zip(faults(cases), pairs, strict=True):
        assert answer[0] == "StoreError"
        assert os.strerror(number) in answer[1]
        assert "--overwrite" not in answer[1]
    assert open_store(path).images.done.all()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_reserve_space(tmp_path, make_store, monkeypatch, number):
    """A store is created there without a reservation."""

    def fallocate(file, offset, length):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    codes = {"block1_pool": np.ones((2, 64), "f4")}
    assert open_store(make_store(tmp_path / "codes.h5", codes, ["a", "b"])).complete


def test_one_function_opens_hdf5_files():
    """Nothing else in featx opens HDF5 files, or asks HDF5 whether a file is one."""
    package = Path(featx.__file__).parent
    texts = {file: file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    calls = ("h5py.File(", "h5py.is_hdf5(")
    found = {file.name for file, text in texts.items() if any(call in text for call in calls)}
    assert found == {"hdf5.py"}
