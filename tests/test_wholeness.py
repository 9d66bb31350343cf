"""Images of which a part was lost are refused where the format shows it, and sound ones are not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from featx.errors import ImageError
from featx.images import read_image

#: Bright everywhere, so that black and grey can only come from damage.
BRIGHT = np.random.default_rng(0).integers(100, 255, (64, 64, 3), np.uint8)
BRIGHT = BRIGHT.repeat(4, 0).repeat(4, 1)

#: Ways of saving an image.
SAVED = {
    "jpeg": ("JPEG", {"quality": 90}),
    "jpeg, progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "jpeg, restarts": ("JPEG", {"quality": 90, "restart_marker_rows": 1}),
    "jpeg, grey": ("JPEG", {"quality": 90}),
    "jpeg, cmyk": ("JPEG", {"quality": 90}),
    "png": ("PNG", {}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "tiff": ("TIFF", {}),
    "tiff, lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff, deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff, jpeg": ("TIFF", {"compression": "jpeg"}),
    "webp": ("WEBP", {}),
    "webp, lossless": ("WEBP", {"lossless": True}),
    "jpeg 2000": ("JPEG2000", {}),
    "avif": ("AVIF", {}),
}

MODES = {"jpeg, grey": "L", "jpeg, cmyk": "CMYK"}


def saved(name: str, pixels=BRIGHT) -> bytes:
    format_, options = SAVED[name]
    out = io.BytesIO()
    Image.fromarray(pixels).convert(MODES.get(name, "RGB")).save(out, format_, **options)
    return out.getvalue()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeros_at_the_end(data: bytes) -> bytes:
    return cut(data).ljust(len(data), b"\0")


def zeros_before_the_marker(data: bytes) -> bytes:
    return zeros_at_the_end(data)[:-2] + b"\xff\xd9"


def early_end(data: bytes) -> bytes:
    return cut(data) + b"\xff\xd9"


def zeros_in_the_middle(data: bytes) -> bytes:
    half, quarter = len(data) // 2, len(data) // 4
    return data[:half] + bytes(quarter) + data[half + quarter :]


JPEGS = [name for name in SAVED if name.startswith("jpeg") and name != "jpeg 2000"]
#: What the formats cannot show; the troubleshooting page says so.
UNSEEN = {("avif", zeros_in_the_middle), ("jpeg 2000", zeros_in_the_middle)}

LOST = [
    *((name, change) for name in SAVED for change in (cut, zeros_at_the_end, zeros_in_the_middle)),
    *((name, change) for name in JPEGS for change in (early_end, zeros_before_the_marker)),
]


def read(tmp_path, data: bytes, **settings):
    path = tmp_path / "image"
    path.write_bytes(data)
    return read_image(path, (32, 32), "squash", **settings)


@pytest.mark.parametrize("careless", [False, True], ids=["", "truncated images allowed"])
@pytest.mark.parametrize(
    ("name", "change"),
    [each for each in LOST if each not in UNSEEN],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_half_an_image_is_refused(tmp_path, monkeypatch, name, change, careless):
    """The second half is missing, or zeros: a reason, whatever Pillow's switches say."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", careless)
    with pytest.raises(ImageError, match=r"^(truncated|damaged)"):
        read(tmp_path, change(saved(name)))


@pytest.mark.parametrize("name", SAVED)
def test_a_sound_image_is_read(tmp_path, name):
    """The same image is read if it is whole."""
    assert read(tmp_path, saved(name)).pixels.min() > 50


BLACK, GREY, WHITE = 0, 128, 255


def ends_in(level: int, share: float, *, slanted=False) -> np.ndarray:
    """Return the bright image with its lower part in one level, under a slanted edge or not."""
    pixels = BRIGHT.copy()
    start = int(len(pixels) * (1 - share))
    rows, columns = np.indices(pixels.shape[:2])
    pixels[rows > start + (columns / 20 if slanted else 0)] = level
    return pixels


FLAT = {
    **{f"all {level}": np.full_like(BRIGHT, level) for level in (BLACK, GREY, WHITE)},
    **{f"half {level}": ends_in(level, 0.5) for level in (BLACK, GREY, WHITE)},
    **{f"slanted {level}": ends_in(level, 0.4, slanted=True) for level in (BLACK, GREY)},
    **{
        f"mask {level}": np.where(BRIGHT > 240, level, BLACK).astype(np.uint8) for level in (1, 255)
    },
    "upside down": ends_in(BLACK, 0.5)[::-1].copy(),
    "small": np.full((8, 8, 3), GREY, np.uint8),
    "gradient": np.tile(np.arange(255, -1, -1, dtype=np.uint8)[:, None], (256, 1, 3)),
}


@pytest.mark.parametrize("content", FLAT)
@pytest.mark.parametrize("name", SAVED)
def test_flat_images_are_sound(tmp_path, name, content):
    """Images that are black, grey or white to their end are not taken for damaged ones."""
    assert read(tmp_path, saved(name, FLAT[content])).sha256


@pytest.mark.parametrize("content", FLAT)
@pytest.mark.parametrize("quality", [10, 50, 95])
@pytest.mark.parametrize("options", [{"optimize": True}, {"progressive": True}, {"subsampling": 0}])
def test_flat_jpegs_are_sound(tmp_path, content, quality, options):
    """Encoders may use the code of zeros for flat areas: such runs are no sign of damage."""
    for mode in ("L", "RGB"):
        out = io.BytesIO()
        image = Image.fromarray(FLAT[content]).convert(mode)
        image.save(out, "JPEG", quality=quality, **options)
        assert read(tmp_path, out.getvalue(), jpeg="full").sha256


def test_zeros_after_the_end_are_sound(tmp_path):
    """Cameras fill files up with zeros after the end of the image."""
    for name in ("jpeg", "png", "gif", "webp", "jpeg 2000"):
        assert read(tmp_path, saved(name) + bytes(4096)).sha256


def test_zeros_in_a_header_are_sound(tmp_path):
    """EXIF often has runs of zeros."""
    data = saved("jpeg")
    segment = b"\xff\xe1" + struct.pack(">H", 5002) + b"Exif\0\0" + bytes(4994)
    assert read(tmp_path, data[:2] + segment + data[2:]).sha256


def png(rows: int, *, interlaced: bool) -> bytes:
    """Return a PNG whose compressed data has only some of its 256 rows, and right checksums."""
    data = bytearray(saved("png"))

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    passes = [BRIGHT]
    if interlaced:
        data[28] = 1
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2))
        starts += ((0, 1, 2, 2), (1, 0, 2, 1))
        passes = [BRIGHT[top::down, left::across] for top, left, down, across in starts]
    lines = [b"\0" + row.tobytes() for each in passes for row in each]
    kept = lines[: len(lines) * rows // 256]
    head = chunk(b"IHDR", bytes(data[16:29]))
    return (
        bytes(data[:8]) + head + chunk(b"IDAT", zlib.compress(b"".join(kept))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("scales", [(), (32,)])
def test_a_png_with_too_few_rows_is_refused(tmp_path, interlaced, scales):
    """Its stream and its checksums are right, and Pillow reads it without an error."""
    whole = read(tmp_path, png(256, interlaced=interlaced), scales=scales)
    assert whole.pixels.min() > 50
    for rows in (255, 128, 1):
        with pytest.raises(ImageError, match="truncated"):
            read(tmp_path, png(rows, interlaced=interlaced), scales=scales)


def test_a_jpeg_without_its_last_scan_is_refused(tmp_path):
    """A progressive image without all its scans is only a blurred one."""
    data = saved("jpeg, progressive")
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="truncated"):
        read(tmp_path, data[:last] + b"\xff\xd9")


def test_a_cut_at_a_fraction_of_the_size_is_seen(tmp_path):
    """A large JPEG that is decoded at a fraction shows its grey end too."""
    pixels = np.random.default_rng(1).integers(100, 255, (50, 40, 3), np.uint8)
    data = saved("jpeg", pixels.repeat(16, 0).repeat(16, 1))
    with pytest.raises(ImageError, match="truncated"):
        read(tmp_path, early_end(data))
