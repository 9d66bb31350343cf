"""Archives that would fill the memory or the disk, and pipes and devices behind URLs."""

import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from featx.errors import FeatxError, ImageError, ImagesError
from featx.images import archives, as_file, list_images, read_digest
from featx.images.urls import names_below, read_file
from featx.unpacking import GrowthError, check_growth, copy_within, read_member

LIMIT = 500_000_000  # bytes of memory and of a file, far below what the archives claim


def bounded(code, *arguments):
    """Run code in a process with little memory and small files; return what it prints."""

    def limit():
        for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
            resource.setrlimit(kind, (LIMIT, LIMIT))

    command = [sys.executable, "-c", f"import sys; arguments = sys.argv[1:]\n{code}"]
    made = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


READ = """
from featx.errors import FeatxError
from featx.images import as_file, list_images
from featx.images.urls import read_file
try:
    for record in list_images(arguments[0]).records:
        try:
            print("read", len(read_file(record.file)))
        except FeatxError as error:
            print("refused", error)
except FeatxError as error:
    print("refused", error)
"""


def zip_bomb(path, kind, n_megabytes=700):
    with (
        zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive,
        archive.open("a.png", "w", force_zip64=True) as member,
    ):
        for _ in range(n_megabytes):
            member.write(bytes(1_000_000))
    return path


def with_small_claims(path):
    """Let a zip state that its members have 50 MB."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(mark)
        struct.pack_into("<I", data, start + at, 50_000_000)
    path.write_bytes(data)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, kind):
    """By the sizes that it states, and within the memory if these are wrong."""
    path = zip_bomb(tmp_path / "a.zip", kind)
    assert "refused" in bounded(READ, path)
    assert "refused" in bounded(READ, with_small_claims(path))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_tar_bomb_is_refused_within_the_disk(tmp_path, mode):
    path = tmp_path / f"a.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = 700_000_000
        archive.addfile(info, _Zeros())
    assert "refused" in bounded(READ, path)


class _Zeros(io.RawIOBase):
    """A stream of zeros without an end."""

    def read(self, n=-1):
        return bytes(n)


def sparse_tar(path, size=3_000_000_000):
    """Write a tar with a file of holes, in the format of GNU tar 1.0, and a link to it."""
    content = f"1\n{size}\n0\n".encode().ljust(512, b"\0")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("GNUSparseFile.0/a.png")
        info.size = len(content)
        info.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
            "GNU.sparse.name": "a.png", "GNU.sparse.realsize": str(size),
        }  # fmt: skip
        archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        archive.addfile(link)
    return path


@pytest.mark.slow
def test_a_file_of_holes_in_a_tar_is_refused(tmp_path):
    """It takes no space in the tar and would take gigabytes in memory; so would a link to it."""
    path = sparse_tar(tmp_path / "a.tar")
    assert path.stat().st_size < 20_000
    assert bounded(READ, path).count("refused") == 2


def test_growth_is_limited_beyond_a_size_that_any_memory_has(tmp_path, monkeypatch):
    """The limits themselves, with small numbers."""
    check_growth(1, 64_000_000)
    check_growth(10**6, 10**8)
    with pytest.raises(GrowthError, match=r"1,000,000 bytes.*100,000,001"):
        check_growth(10**6, 10**8 + 1)
    copy_within(io.BytesIO(bytes(5000)), io.BytesIO(), 50, 10)
    with pytest.raises(GrowthError):
        copy_within(io.BytesIO(bytes(5001)), io.BytesIO(), 50, 10)
    path = zip_bomb(tmp_path / "a.zip", zipfile.ZIP_DEFLATED, 1)
    with zipfile.ZipFile(path) as archive:
        assert read_member(archive, archive.getinfo("a.png")) == bytes(1_000_000)
    monkeypatch.setattr(archives, "_SMALL_TAR", 1000)
    packed = tmp_path / "a.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = 3_000_000
        archive.addfile(info, _Zeros())
    with pytest.raises(ImagesError, match="would unpack"):
        list_images(packed)
    monkeypatch.setattr(archives, "SMALL", 1000)
    for record in list_images(sparse_tar(tmp_path / "b.tar", 100_000)).records:
        with pytest.raises(ImageError, match="whole tar"):
            read_file(record.file)


def test_sound_archives_of_drawings_are_read(tmp_path):
    """A white page shrinks a thousandfold, and is still an image."""
    Image.fromarray(np.full((2000, 2000, 3), 255, np.uint8)).save(tmp_path / "a.bmp")
    plain = read_digest(tmp_path / "a.bmp").sha256
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.bmp", "a.bmp")
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "a.bmp", "a.bmp")
    for name in ("a.zip", "a.tar.xz"):
        (record,) = list_images(tmp_path / name).records
        assert read_digest(record.file).sha256 == plain


# pipes and devices


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize(
    "url",
    [
        "zip://a::{}", "tar://a::{}", "zip://::{}", "local://{}", "file://{}", "LOCAL://{}",
        "simplecache::file://{}", "filecache::local://{}", "zip://a::local://{}",
        "zip://a::simplecache::file://{}", "{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_behind_urls_are_refused(pipe, url, kind):
    """Whatever the URL, they are refused before they are opened."""
    file = as_file(url.format(pipe if kind == "pipe" else "/dev/zero"))
    with pytest.raises(ImageError, match="not a regular file"):
        read_file(file)
    if url.startswith(("zip", "tar")):
        with pytest.raises(FeatxError, match="not a regular file"):
            names_below(file)


def test_a_chain_of_fsspec_that_ends_at_a_device_is_refused(pipe):
    """fsspec has archives of its own; what they would open is checked before."""
    pytest.importorskip("fsspec", reason="no URLs: pip install 'featx[urls]'")
    for url in (f"blockcache::local://{pipe}", f"dir::file://{pipe}", f"data::{pipe}"):
        with pytest.raises(FeatxError):
            read_file(as_file(url))
