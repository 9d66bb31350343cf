"""Switches, limits and warnings of Pillow's in the process change nothing of what featx decodes."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin

from featx.errors import ImageError
from featx.images import read_image

SIZE = (24, 32)

NOISE = np.random.default_rng(0).integers(60, 256, (32, 32, 3), np.uint8).repeat(2, 0).repeat(2, 1)


def saved(format_: str, **options) -> bytes:
    """Return the bytes of an image file."""
    out = io.BytesIO()
    Image.fromarray(NOISE).save(out, format_, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def reason_of(path, **settings) -> str:
    """Return the reason why a file is refused."""
    with pytest.raises(ImageError) as caught:
        read_image(path, SIZE, "squash", **settings)
    return str(caught.value)


@pytest.fixture
def careless(monkeypatch):
    """A process whose switches of Pillow are set as badly as can be."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10)
    monkeypatch.setattr(TiffImagePlugin, "READ_LIBTIFF", True)
    always = GifImagePlugin.LoadingStrategy.RGB_ALWAYS
    monkeypatch.setattr(GifImagePlugin, "LOADING_STRATEGY", always)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


FORMATS = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"quality": 90},
    "PPM": {},
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("settings", [{}, {"scales": (32, 64)}, {"jpeg": "full"}], ids=str)
def test_half_a_file_is_refused_whatever_the_switches(tmp_path, careless, format_, settings):
    """Half of a file is a reason, with --scale too, although Pillow itself takes it now."""
    data = saved(format_, **FORMATS[format_])
    path = tmp_path / "half"
    path.write_bytes(data[: len(data) // 2])
    assert reason_of(path, **settings).startswith("truncated")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True  # the user's switch is left alone


@pytest.mark.parametrize("format_", FORMATS)
def test_a_sound_file_is_the_same_whatever_the_switches(tmp_path, monkeypatch, format_, request):
    """Sound files have the same pixels, although Pillow itself would refuse them now."""
    path = tmp_path / "sound"
    path.write_bytes(saved(format_, **FORMATS[format_]))
    expected = read_image(path, SIZE, "squash")
    request.getfixturevalue("careless")
    with pytest.raises((Image.DecompressionBombError, Image.DecompressionBombWarning)):
        Image.open(path)
    decoded = read_image(path, SIZE, "squash")
    np.testing.assert_array_equal(decoded.pixels, expected.pixels)
    assert decoded.phash == expected.phash


@pytest.mark.parametrize("damage", ["cut", "cut zlib", "flipped"])
@pytest.mark.parametrize("scales", [(), (32,)])
def test_a_png_that_is_not_whole_is_refused_at_every_size(tmp_path, damage, scales):
    """Looking for the orientation of a PNG decodes it, and must not swallow the error."""
    data = saved("PNG")
    if damage == "cut":
        data = data[:-100]
    elif damage == "flipped":
        middle = len(data) // 2
        data = data[:middle] + bytes(255 ^ each for each in data[middle : middle + 2])
        data += saved("PNG")[middle + 2 :]
    else:
        rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in NOISE))
        data = data[:33] + chunk(b"IDAT", rows[: len(rows) // 2]) + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert reason_of(path, scales=scales).split(":")[0] in {"truncated", "damaged PNG"}


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"tEXt"])
def test_a_png_with_much_text_is_sound(tmp_path, name):
    """More than 1 MB of text, or of colour profile, is not damage."""
    packed = {b"tEXt": b"A\0" + b"text " * 300_000}
    text = packed.get(name, b"A\0\0" + zlib.compress(bytes(3_000_000)))
    data = saved("PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + chunk(name, text) + data[33:])
    np.testing.assert_array_equal(read_image(path, (64, 64), "squash").pixels, NOISE)


def test_a_png_that_unpacks_to_gigabytes_of_text_takes_little_memory(tmp_path):
    """Each text is unpacked up to a limit, and so are all together."""
    text = chunk(b"zTXt", b"A\0\0" + zlib.compress(bytes(30_000_000)))
    data = saved("PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + text * 70 + data[33:])
    assert "text" in reason_of(path)


def test_a_frame_larger_than_its_canvas_is_refused(tmp_path):
    """The limit of pixels holds for the frames of a GIF, which may be larger than its canvas."""
    canvas = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x08\x01\0\0;"
    path = tmp_path / "a.gif"
    path.write_bytes(canvas + frame)
    assert all(each in reason_of(path) for each in ("60000x60000", "178,956,970", "--max-pixels"))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_libtiff_prints_nothing_and_names_the_fault(tmp_path, capfd, compression):
    """What libtiff prints to stderr becomes the reason of the row."""
    data = bytearray(saved("TIFF", compression=compression))
    data[200:300] = b"\xff" * 100
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert reason_of(path).startswith("damaged TIFF: ")
    assert "-2" not in reason_of(path)
    assert capfd.readouterr().err == ""


def test_libtiff_still_prints_for_others(tmp_path, capfd):
    """A program that uses Pillow itself still sees libtiff's lines."""
    data = bytearray(saved("TIFF", compression="tiff_lzw"))
    data[200:900] = bytes(700)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    reason_of(path)
    with Image.open(path) as image, pytest.raises(OSError, match="-2"):
        image.load()
    assert "LZWDecode" in capfd.readouterr().err


def test_a_warning_is_no_reason(tmp_path):
    """A PNG with two headers of an animation is read, also where warnings are errors."""
    data, header = saved("PNG"), chunk(b"acTL", struct.pack(">II", 1, 0))
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + header + header + data[33:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            Image.open(path)
        np.testing.assert_array_equal(read_image(path, (64, 64), "squash").pixels, NOISE)
