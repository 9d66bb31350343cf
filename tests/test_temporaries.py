"""Temporary files: names that cannot be foreseen, permissions, and leftovers of killed runs."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featx import outputs
from featx.errors import OptionError, OutputError
from featx.extraction import prepare_extraction
from featx.finetuning.checkpoints import save_checkpoint
from featx.finetuning.tuned import _saved_as
from featx.outputs import check_output, sole_writer, whole_file
from featx.temporaries import remove_leftovers, temporary_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path):
    with whole_file(path) as temporary:
        temporary.write_text("new")
        return temporary.name


def test_names_cannot_be_foreseen_and_links_are_not_followed(tmp_path, monkeypatch):
    """A link at the very name of the temporary file stops the run; its target is not changed."""
    path, victim = tmp_path / "out.csv", tmp_path / "victim"
    victim.write_text("old")
    assert write(path) != write(path)
    monkeypatch.setattr("featx.temporaries.secrets.token_hex", lambda n: "0" * 2 * n)
    (tmp_path / f".out.csv.featx-{'0' * 12}.tmp").symlink_to(victim)
    with pytest.raises(OutputError, match=r"out\.csv"):
        write(path)
    (tmp_path / ".out.csv.lock").symlink_to(victim)
    with pytest.raises(OutputError, match=r"out\.csv"), sole_writer(path):
        pass
    assert victim.read_text() == "old"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_permissions_are_kept(tmp_path, mode):
    """A replaced file keeps its permissions, which nobody else has on the way; a new one obeys
    the umask."""
    path = tmp_path / "out.csv"
    path.touch()
    path.chmod(mode)
    with whole_file(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(path.stat().st_mode) == mode
    old = os.umask(0o027)
    try:
        write(tmp_path / "new.csv")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o640


def test_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """The file is synced before it is renamed; if that fails, the old one is kept."""
    path = tmp_path / "out.csv"
    path.write_text("old")
    order = []
    replace = type(path).replace

    def logged(source, target):
        order.append("rename")
        return replace(source, target)

    monkeypatch.setattr(type(path), "replace", logged)
    monkeypatch.setattr(outputs.os, "fsync", lambda file: order.append("sync"))
    write(path)
    assert order[:2] == ["sync", "rename"]

    def failing(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path.write_text("old")
    monkeypatch.setattr(outputs.os, "fsync", failing)
    with pytest.raises(OutputError, match="Input/output error"):
        write(path)
    assert (path.read_text(), names(tmp_path)) == ("old", ["out.csv"])


def killed(code, folder):
    """Kill a process after it has printed a line."""
    command = [sys.executable, "-c", code, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)


WRITING = """
import sys, time
from pathlib import Path
from featx.outputs import whole_file
from featx.temporaries import temporary_folder
folder = Path(sys.argv[1])
with whole_file(folder / "out.csv") as first, temporary_folder(folder / "x.h5") as second:
    Path(f"{first}.keras").write_text("half")
    (second / "sample.h5").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    """The next run that writes to the folder removes them, whatever its output is called."""
    killed(WRITING, tmp_path)
    assert len(names(tmp_path)) == 3
    (tmp_path / ".mine.tmp").touch()
    write(tmp_path / "other.html")
    assert names(tmp_path) == [".mine.tmp", "other.html"]


def test_files_of_living_runs_are_kept(tmp_path):
    """A file or folder that another writer holds is not removed, and its bytes arrive."""
    path = tmp_path / "out.csv"
    with whole_file(path) as temporary, temporary_folder(path) as folder:
        temporary.write_text("first")
        write(path)
        remove_leftovers(tmp_path)
        assert temporary.exists()
        assert folder.is_dir()
        save_checkpoint(tmp_path / "checkpoint.h5", {"kernels": [np.zeros(3)]}, {})
        _saved_as(lambda named: named.write_text("Keras"), temporary, ".keras")
        remove_leftovers(tmp_path)
        assert temporary.read_text() == "Keras"
    assert path.read_text() == "Keras"
    assert names(tmp_path) == ["checkpoint.h5", "out.csv"]


def test_names_that_cannot_be_written_are_found_before_the_work(tmp_path):
    """A loop of links, a name or a path that is too long, and the longest possible name."""
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "a.csv").symlink_to("b.csv")
    (tmp_path / "b.csv").symlink_to("a.csv")
    (tmp_path / "nowhere.csv").symlink_to("no/such/folder.csv")
    deep = tmp_path.joinpath(*["d" * 200] * 25, "x.csv")
    for path in (
        *(tmp_path / name for name in ("loop.csv", "a.csv", "nowhere.csv", f"{'n' * 250}.csv")),
        *(tmp_path / f"{'é' * 124}.csv", deep, tmp_path / "loop.csv" / "x.csv"),
    ):
        with pytest.raises(OptionError, match="-o"):
            check_output(path, overwrite=True)
    with pytest.raises(OutputError, match=r"loop\.csv"):
        write(tmp_path / "loop.csv")
    longest = tmp_path / f"{'n' * 245}.csv"
    assert check_output(longest, overwrite=True) == longest
    with sole_writer(longest):
        write(longest)
    assert longest.read_text() == "new"


def test_a_lock_that_ends_while_another_run_opens_it(tmp_path, monkeypatch):
    """The lock file is removed at the end of a run, so a run checks that it locked the present
    file."""
    path, opened = tmp_path / "out.csv", []
    real = os.open

    def late(name, *arguments, **keywords):
        file = real(name, *arguments, **keywords)
        if str(name).endswith(".lock") and not opened:
            opened.append(file)
            Path(name).unlink()
        return file

    monkeypatch.setattr(os, "open", late)
    with sole_writer(path):
        assert names(tmp_path) == [".out.csv.lock"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a.csv", "codes", "codes.h5.gz"])
def test_a_store_has_the_ending_of_hdf5(image_folder, name):
    """Other endings are refused before the images are read; both endings are allowed."""
    for each in ("codes.h5", "codes.hdf5"):
        assert check_output(Path(each), overwrite=True, suffixes=(".h5", ".hdf5")) == Path(each)
    with pytest.raises(OptionError, match=r"\.h5.*\.hdf5"):
        prepare_extraction(
            image_folder, layer="block1_pool", weights="random:0", output=image_folder / name
        )


def test_a_temporary_file_that_is_cleared_before_it_is_locked(tmp_path, monkeypatch):
    """Another run may take a new file for a leftover for a moment; then the run makes another."""
    real, cleared = fcntl.flock, []

    def late(file, operation):
        if not cleared:
            cleared.extend(tmp_path.iterdir())
            cleared[0].unlink()
        return real(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with whole_file(tmp_path / "out.csv") as temporary:
        assert temporary.exists()
        temporary.write_text("new")
    assert cleared != [temporary]
    assert (tmp_path / "out.csv").read_text() == "new"
