"""What systems do to a run: disks that fill, limits, interrupts, two runs at once, bad images."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from running import MeanColour, job_in, run
from test_kills import Forker

from featx.cli import main
from featx.errors import BusyError, CodeRangeError, StoreError
from featx.store import Status, open_store


@pytest.fixture
def folder(image_folder):
    """A folder that holds data/ with 27 images."""
    return image_folder.parent


def message_of(call, kind=StoreError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@contextmanager
def file_size_limit(n_bytes):
    """The system lets no file of this process grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_limit_on_files_is_known_before_work(folder):
    """Where the system lets files be smaller than the store, nothing is created."""
    job = job_in(folder)
    with file_size_limit(100_000):
        message = message_of(lambda: run(job))
    assert message == (
        f"No room for {job.output}: the system lets a file have 0.00 GB (ulimit -f), the store "
        "needs 0.00 GB. Use --pool avg, --dtype float16, or -o on another disk."
    )
    assert [p.name for p in folder.iterdir()] == ["data"]


def test_a_limit_that_comes_during_the_run_keeps_what_is_done(folder):
    """Writing fails in the middle: one message, done rows right, and it goes on."""
    job = job_in(folder, batch_size=3, pool="none", size=64)
    limits = []

    def progress(done, total):
        if done == 12:
            limits.append(file_size_limit(job.output.stat().st_size * 7 // 10))
            limits[0].__enter__()

    try:
        message = message_of(lambda: run(job, progress=progress))
    finally:
        limits[0].__exit__(None, None, None)
    assert message == (
        f"Cannot write {job.output}: File too large. The rows done so far are kept. "
        "Mend that, then run the same command again: it goes on where it stopped."
    )
    n_done = int(open_store(job.output).images.done.sum())
    assert 12 <= n_done < 27
    again = job_in(folder, batch_size=3, pool="none", size=64)
    assert len(again.remaining.rows) == 27 - n_done
    run(again)
    straight = job_in(folder, pool="none", size=64, output=folder / "straight.h5")
    run(straight)
    assert open_store(job.output).digests() == open_store(straight.output).digests()


def test_a_disk_too_small_is_known_in_the_first_second(folder, small_disk):
    """The store does not fit: nothing is left on the disk."""
    job = job_in(folder, output=small_disk / "codes.h5", pool="none", size=96)
    message = message_of(lambda: run(job))
    assert re.fullmatch(
        rf"No room for {small_disk}/codes.h5: 0.00 GB are free in {small_disk}, the store needs "
        r"0.02 GB. Use --pool avg, --dtype float16, or -o on another disk.",
        message,
    )
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_does_not_hurt_reserved_rows(folder, small_disk):
    """Once the space is reserved, others may fill the disk: the run still ends."""
    job = job_in(folder, output=small_disk / "codes.h5", batch_size=3)

    def fill(done, total):
        if done == 3:
            with pytest.raises(OSError, match="No space"):
                (small_disk / "filler").write_bytes(b"x" * 2_000_000)

    assert run(job, progress=fill).n_done == 27


def test_an_update_without_room_for_a_second_copy(folder, small_disk):
    """A further copy does not fit: the old store stays as it was."""
    job = job_in(folder, output=small_disk / "codes.h5", layer="block1_conv1", size=32, pool="avg")
    run(job)
    (small_disk / "filler").write_bytes(b"x" * 800_000)
    digests = open_store(job.output).digests()
    Image.new("RGB", (40, 40)).save(folder / "data/val/red/x.png")
    again = job_in(folder, output=small_disk / "codes.h5", layer="block1_conv1", pool="avg")
    assert message_of(lambda: run(again)).startswith(f"No room for {small_disk}/codes.h5.part: ")
    assert open_store(job.output).digests() == digests
    assert sorted(p.name for p in small_disk.iterdir()) == ["codes.h5", "filler"]


def test_a_file_system_that_is_read_only(folder, small_disk, monkeypatch, capsys):
    """Nothing can be written there, and that is said before anything is read."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    arguments = ["featx", "extract", folder / "data", "--layer", "block1_pool"]
    monkeypatch.setattr(sys, "argv", [*map(str, arguments), "-o", str(small_disk / "codes.h5")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert f"{small_disk}/codes.h5" in capsys.readouterr().err


def test_a_second_run_is_refused_while_the_first_writes(folder):
    """Of two runs on one output the second is refused; after a kill the lock is free."""
    forker = Forker(folder)
    forker.process.stdin.write('{"settings": {"batch_size": 1}}\n')
    forker.process.stdin.flush()
    child = int(forker.line())
    while not (folder / "codes.h5").exists():
        time.sleep(0.005)
    for overwrite in (False, True):
        message = message_of(lambda: run(job_in(folder, overwrite=overwrite)), BusyError)  # noqa: B023
        assert f"{folder}/codes.h5" in message
    os.kill(child, signal.SIGKILL)
    forker.line()
    forker.close()
    assert run(job_in(folder)).n_done == 27


def test_the_store_can_be_read_while_it_is_written(folder):
    """The lock is none of HDF5's: who looks at a running job's store is let in."""
    job = job_in(folder, batch_size=3)
    seen = []

    def look(done, total):
        with h5py.File(job.output, "r") as file:
            seen.append(int((file["images/status"][...] == Status.DONE).sum()))

    run(job, progress=look)
    assert seen == sorted(seen)
    assert seen[0] >= 3


@pytest.mark.slow
def test_ctrl_c_says_one_thing_and_keeps_what_is_done(tmp_path):
    """SIGINT in the middle of a real run: exit 130, one line, and the same command goes on."""
    data = Path(__file__).parents[1] / "data"
    featx = Path(sys.executable).with_name("featx")
    command = [featx, "extract", data, "--layer", "block2_pool"]
    command += ["--pool", "avg", "--size", "128", "-o", tmp_path / "codes.h5"]
    # Started in the background, these tests themselves are deaf to Ctrl-C, and so were the child.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    while True:
        time.sleep(0.2)
        if (tmp_path / "codes.h5").exists() and open_store(tmp_path / "codes.h5").images.done.sum():
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    expected = f"Stopped. {tmp_path}/codes.h5 keeps what is done; the same command goes on."
    assert err.splitlines()[-1] == expected
    assert "Traceback" not in err
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "codes.h5: codes of 600 images" in done.stdout
    assert "going on with" in done.stderr


def bad_images(folder):
    """Put one bad image of each kind into data/, and return their reasons by path."""
    data = folder / "data/train/red"
    good = (data / "0.png").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data / "cut.jpg")
    (data / "cut.jpg").write_bytes((data / "cut.jpg").read_bytes()[:-900])
    (data / "empty.png").touch()
    (data / "text.jpg").write_text("not an image")
    (data / "folder.png").mkdir()
    (data / "nowhere.png").symlink_to("missing.png")
    (data / "loop.png").symlink_to("loop.png")
    Image.new("RGB", (300, 2)).save(data / "long.png")
    Image.new("RGB", (200, 200)).save(data / "large.png")
    Path(os.fsdecode(os.fsencode(data) + b"/caf\xe9.png")).write_bytes(good[:50])
    return {
        "cut.jpg": "truncated: the file ends before its picture does",
        "empty.png": "empty file",
        "text.jpg": "not an image that Pillow can read",
        "folder.png": "is a directory",
        "nowhere.png": "not found",
        "loop.png": "cannot be opened: too many levels of symbolic links",
        "long.png": "2x300 pixels: no picture has sides of more than 100 to 1: crop it",
        "large.png": "too many pixels, 200x200, at most 30,000: scale it down, or use --max-pixels",
        "caf\\xe9.png": "truncated: the file ends before its picture does",
    }


def test_every_bad_image_is_a_row_with_a_reason(folder, monkeypatch, capsys):
    """Nine kinds at once: all other rows are done, each bad one says why, the exit is 0."""
    monkeypatch.chdir(folder)
    reasons = bad_images(folder)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["featx", *arguments])
        try:
            main()
        except SystemExit as ended:
            return ended.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    settings = ["--layer", "block1_pool", "--pool", "avg", "--size", "32"]
    settings += ["--weights", "random:0", "--max-pixels", "30000"]
    code, out, err = call("extract", *settings)
    assert (code, "Traceback" in err) == (0, False)
    assert out.startswith("codes.h5: codes of 27 images in ")
    assert out.endswith(" 9 could not be read: featx info codes.h5 --bad\n")
    code, out, _ = call("info", "codes.h5", "--bad")
    found = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines()[1:])
    assert found == {f"train/red/{name}": reason for name, reason in reasons.items()}
    code, out, err = call("extract", *settings, "--strict")
    assert (code, out.startswith("codes.h5: codes of 27 images, nothing to do.")) == (1, True)
    assert err.splitlines()[-1] == (
        "error: 9 images could not be read, and --strict was given. "
        "Reasons: featx info codes.h5 --bad"
    )
    code, _, err = call("fit", "--clf", "ridge")
    assert code == 0
    assert "9 images could not be read and are left out: 9 of red" in err


def test_a_file_deleted_between_listing_and_reading(folder):
    """It is a row like any other bad image."""
    job = job_in(folder)
    (folder / "data/val/red/1.png").unlink()
    made = run(job)
    assert (made.n_done, made.n_failed) == (26, 1)
    images = open_store(job.output).images
    assert images.reason[list(images.path).index("val/red/1.png")] == "not found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_nobody_may_read(folder):
    """Permissions are a reason too."""
    (folder / "data/val/red/1.png").chmod(0)
    run(job_in(folder))
    images = open_store(folder / "codes.h5").images
    assert images.reason[list(images.path).index("val/red/1.png")] == "permission denied"


def test_float16_refuses_to_overflow(folder):
    """The error names the layer, the value and the flag; rows before it are kept."""

    class Large(MeanColour):
        def __call__(self, images):
            codes = super().__call__(images)
            return {layer: c.astype("f4") * 1e4 for layer, c in codes.items()}

    job = job_in(folder, dtype="float16")
    message = message_of(lambda: run(job, Large(job.recipe)), CodeRangeError)
    assert re.fullmatch(
        r"A code of block1_pool is [\d.e+]+; float16 holds at most 65504. "
        r"Use --dtype float32 --overwrite.",
        message,
    )
    assert not open_store(job.output).images.done.any()
