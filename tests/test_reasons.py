"""Unsupported, truncated and damaged are three reasons, and other files are named."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from featx.errors import ImageError
from featx.images import read_image

NOISE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


def reason_of(tmp_path, data: bytes) -> str:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_image(path, (32, 32), "squash")
    assert len(caught.value.sha256) == 64
    return str(caught.value)


def saved(format_: str, mode: str = "RGB", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(out, format_, **options)
    return out.getvalue()


STRANGERS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
    "an HTML page": b"\n<!doctype html>\n<html><body>404</body></html>",
    "an XML file": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    "a JSON text": b'{"message": "Not Found"}',
    "an archive": b"PK\x03\x04" + bytes(40),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "unsupported: DICOM": bytes(128) + b"DICM" + bytes(40),
    "unsupported: JPEG XL": b"\xff\x0a\x7f\0" + bytes(40),
    "unsupported: SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "unsupported: PDF": b"%PDF-1.7\n" + bytes(40),
    "unsupported: EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "unsupported: OpenEXR": b"\x76\x2f\x31\x01" + bytes(40),
    "a video": b"\0\0\0\x18ftypisom" + bytes(40),
    "damaged: the file contains only zeros": bytes(5000),
    "not an image": b"Some notes on the images in this folder.\n",
}


@pytest.mark.parametrize("beginning", STRANGERS)
def test_a_file_that_is_something_else_is_named(tmp_path, beginning):
    """The reason says what the file is, whatever its name is."""
    assert reason_of(tmp_path, STRANGERS[beginning]).startswith(beginning)


@pytest.mark.parametrize("name", ["SGI", "PCX", "DDS", "SPIDER", "QOI", "ICNS"])
def test_other_formats_of_pillow_are_unsupported(tmp_path, name):
    """A sound file in a format that featx does not read is not damaged."""
    mode = "F" if name == "SPIDER" else "RGB"
    try:
        data = saved(name, mode)
    except (KeyError, ValueError):
        pytest.skip("this Pillow does not write the format")
    assert reason_of(tmp_path, data).startswith(f"unsupported: {name}")


def test_a_kind_of_a_format_is_unsupported(tmp_path):
    """A BMP or a TIFF of a kind that Pillow does not read is not damaged."""
    bmp = bytearray(saved("BMP"))
    bmp[30:34] = struct.pack("<I", 4)  # compressed as JPEG
    assert reason_of(tmp_path, bytes(bmp)).startswith("unsupported BMP")
    tiff = bytearray(saved("TIFF", "L"))
    at = tiff.index(struct.pack("<HHI", 258, 3, 1))
    tiff[at + 8 : at + 10] = struct.pack("<H", 24)
    reason = reason_of(tmp_path, bytes(tiff))
    assert reason.startswith("unsupported TIFF")
    assert "24-bit" in reason


def test_a_compression_that_libtiff_lacks_is_unsupported(tmp_path):
    """What libtiff says of a compression is in the reason."""
    data = bytearray(saved("TIFF", compression="tiff_lzw"))
    at = data.index(struct.pack("<HHI", 259, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", 50001)  # WebP, which Pillow's libtiff lacks
    reason = reason_of(tmp_path, bytes(data))
    assert reason.startswith(("unsupported TIFF", "damaged TIFF"))
    assert "-2" not in reason


CUT = {
    **{name: {} for name in ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "AVIF", "JPEG2000")},
    **{f"TIFF {each}": {"compression": each} for each in ("raw", "tiff_lzw", "tiff_adobe_deflate")},
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_ends_early_is_truncated(tmp_path, name, share):
    """A cut file is truncated in every format, also where Pillow says something else."""
    data = saved(name.partition(" ")[0], **CUT[name])
    assert reason_of(tmp_path, data[: int(len(data) * share)]).startswith("truncated")
