"""Faults during a run: full disks, limits, interrupts, two runs at once, and bad images."""

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

from featx.cli import main
from featx.errors import CodeRangeError, StoreError
from featx.store import Status, open_store


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/."""
    return image_folder.parent


def message_of(call, kind=StoreError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@contextmanager
def file_size_limit(n_bytes):
    """Limit the size of every file that this process writes."""
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


def test_a_file_size_limit_is_an_error_before_work(folder):
    """If the store is larger than the limit, nothing is created."""
    job = job_in(folder)
    with file_size_limit(100_000):
        message = message_of(lambda: run(job))
    for fact in (str(job.output), "ulimit -f", "--pool", "--dtype", "-o"):
        assert fact in message
    assert [p.name for p in folder.iterdir()] == ["data"]


def test_finished_rows_survive_a_write_error(folder):
    """Writing fails during a run: finished rows are right, and the run resumes."""
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
    assert str(job.output) in message
    assert "File too large" in message
    n_done = int(open_store(job.output).images.done.sum())
    assert 12 <= n_done < 27
    again = job_in(folder, batch_size=3, pool="none", size=64)
    assert len(again.remaining.rows) == 27 - n_done
    run(again)
    other = job_in(folder, pool="none", size=64, output=folder / "other.h5")
    run(other)
    assert open_store(job.output).digests() == open_store(other.output).digests()


def test_a_disk_that_is_too_small_is_an_error_before_work(folder, small_disk):
    """If the store does not fit, nothing is left on the disk."""
    job = job_in(folder, output=small_disk / "codes.h5", pool="none", size=96)
    message = message_of(lambda: run(job))
    for fact in (str(job.output), "0.02 GB", "--pool", "--dtype", "-o"):
        assert fact in message
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_does_not_hurt_reserved_rows(folder, small_disk):
    """After the space is reserved, the run ends even if the disk becomes full."""
    job = job_in(folder, output=small_disk / "codes.h5", batch_size=3)

    def fill(done, total):
        if done == 3:
            with pytest.raises(OSError, match="No space"):
                (small_disk / "filler").write_bytes(b"x" * 2_000_000)

    assert run(job, progress=fill).n_done == 27


def test_an_update_without_room_for_a_second_copy(folder, small_disk):
    """If a second copy does not fit, the old store does not change."""
    job = job_in(folder, output=small_disk / "codes.h5", layer="block1_conv1", size=32, pool="avg")
    run(job)
    (small_disk / "filler").write_bytes(b"x" * 800_000)
    digests = open_store(job.output).digests()
    Image.new("RGB", (40, 40)).save(folder / "data/val/red/x.png")
    again = job_in(folder, output=small_disk / "codes.h5", layer="block1_conv1", pool="avg")
    assert f"{small_disk}/codes.h5.part" in message_of(lambda: run(again))
    assert open_store(job.output).digests() == digests
    assert sorted(p.name for p in small_disk.iterdir()) == ["codes.h5", "filler"]


def test_a_read_only_file_system(folder, small_disk, monkeypatch, capsys):
    """It is an error before any image is read."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    arguments = ["featx", "extract", folder / "data", "--layer", "block1_pool"]
    monkeypatch.setattr(sys, "argv", [*map(str, arguments), "-o", str(small_disk / "codes.h5")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert f"{small_disk}/codes.h5" in capsys.readouterr().err


def test_the_store_can_be_read_while_it_is_written(folder):
    """The lock is not one of HDF5, so other processes can read the store."""
    job = job_in(folder, batch_size=3)
    seen = []

    def look(done, total):
        with h5py.File(job.output, "r") as file:
            seen.append(int((file["images/status"][...] == Status.DONE).sum()))

    run(job, progress=look)
    assert seen == sorted(seen)
    assert seen[0] >= 3


@pytest.mark.slow
def test_ctrl_c_keeps_finished_rows(tmp_path):
    """SIGINT during a run prints one line and exits with 130, and the same command resumes."""
    data = Path(__file__).parents[1] / "data"
    featx = Path(sys.executable).with_name("featx")
    command = [featx, "extract", data, "--layer", "block2_pool"]
    command += ["--pool", "avg", "--size", "128", "-o", tmp_path / "codes.h5"]
    # If these tests run in the background, they ignore Ctrl-C, and the child would as well.
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
    assert f"{tmp_path}/codes.h5" in err.splitlines()[-1]
    assert "Traceback" not in err
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "600 images" in done.stdout
    (n_kept,) = re.findall(r"(\d+) of 600 images", done.stderr)
    assert int(n_kept) > 0


def bad_images(folder):
    """Add a bad image of each kind to data/; return a word of the reason by name."""
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
        "cut.jpg": "truncated",
        "empty.png": "empty",
        "text.jpg": "not an image",
        "folder.png": "directory",
        "nowhere.png": "not found",
        "loop.png": "symbolic links",
        "long.png": "2x300",
        "large.png": "200x200",
        "caf\\xe9.png": "truncated",
    }


def test_every_bad_image_is_a_row_with_a_reason(folder, monkeypatch, capsys):
    """With nine bad images the other rows are done, each has a reason, and the exit code is 0."""
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
    assert "27 images" in out
    assert " 9 " in out
    code, out, _ = call("info", "codes.h5", "--bad")
    found = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines()[1:])
    assert set(found) == {f"train/red/{name}" for name in reasons}
    for name, word in reasons.items():
        assert word in found[f"train/red/{name}"]
    code, _, err = call("extract", *settings, "--strict")
    assert code == 1
    assert re.search(r"\b9 images.*--strict.*featx info codes\.h5 --bad", err.splitlines()[-1])
    code, _, err = call("fit", "--clf", "ridge")
    assert code == 0
    assert re.search(r"\b9 images.*\b9 of red", err)


def test_a_file_that_is_deleted_after_listing(folder):
    """It is a failed row, like any other bad image."""
    job = job_in(folder)
    (folder / "data/val/red/1.png").unlink()
    made = run(job)
    assert (made.n_done, made.n_failed) == (26, 1)
    images = open_store(job.output).images
    assert images.reason[list(images.path).index("val/red/1.png")] == "not found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_nobody_may_read(folder):
    """Missing permissions are a reason."""
    (folder / "data/val/red/1.png").chmod(0)
    run(job_in(folder))
    images = open_store(folder / "codes.h5").images
    assert images.reason[list(images.path).index("val/red/1.png")] == "permission denied"


def test_float16_refuses_to_overflow(folder):
    """The error names the layer, the limit and the flag, and nothing is marked done."""

    class Large(MeanColour):
        def __call__(self, images):
            codes = super().__call__(images)
            return {layer: c.astype("f4") * 1e4 for layer, c in codes.items()}

    job = job_in(folder, dtype="float16")
    message = message_of(lambda: run(job, Large(job.recipe)), CodeRangeError)
    for fact in ("block1_pool", "65504", "--dtype float32"):
        assert fact in message
    assert not open_store(job.output).images.done.any()
