"""A file becomes pixels: ways of storing colours, sizes, and reasons why it cannot be read."""

import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.errors import ImageError
from featx.images import array_views, read_image, resized, to_rgb
from featx.images.phash import perceptual_hash

SIZE = (32, 32)

#: ImageNet's mean, in red, green and blue.
BORDER = (124, 117, 104)


@pytest.fixture
def noise():
    """An RGB image of 40 x 50 pixels without any symmetry."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((50, 40), Image.Resampling.BICUBIC)


def saved(path: Path, image: Image.Image, **options) -> Path:
    """Save an image and return its path."""
    image.save(path, **options)
    return path


def pixels_of(path: Path) -> np.ndarray:
    """Return the pixels of a file at its own size."""
    with Image.open(path) as image:
        size = image.height, image.width
    return read_image(path, size, "squash").pixels


def png(colour: int, depth: int, rows: list[bytes], width: int, **chunks: bytes) -> bytes:
    """Return the bytes of a PNG, written without Pillow."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def reason_of(path: Path) -> str:
    """Return the reason why a file cannot be read."""
    with pytest.raises(ImageError) as caught:
        read_image(path, SIZE, "squash")
    return str(caught.value)


# parity with plain Pillow


def test_jpeg_equals_plain_pillow(tmp_path, noise):
    """An RGB JPEG gives the pixels of plain Pillow."""
    path = saved(tmp_path / "a.jpg", noise)
    decoded = read_image(path, (24, 32), "squash")
    with Image.open(path) as image:
        expected = np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR))
        thumbnail = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decoded.pixels, expected)
    np.testing.assert_array_equal(decoded.thumbnail, thumbnail)
    assert decoded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_resize_is_passed_on(tmp_path, noise, resize):
    """The pixels are resized as requested; the thumbnail is always the whole image, squashed."""
    decoded = read_image(saved(tmp_path / "a.png", noise), (21, 16), resize)
    thumbnail = noise.resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded.pixels, np.asarray(resized(noise, (21, 16), resize)))
    np.testing.assert_array_equal(decoded.thumbnail, np.asarray(thumbnail))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_lossless_formats_keep_their_pixels(tmp_path, noise, name):
    """At its own size, an image of a lossless format keeps its pixels."""
    path = saved(tmp_path / name, noise)
    np.testing.assert_array_equal(pixels_of(path), np.asarray(noise))


def test_format_is_found_in_the_bytes(tmp_path, noise):
    """A PNG that is called .jpg is read as a PNG."""
    path = saved(tmp_path / "a.jpg", noise, format="PNG")
    np.testing.assert_array_equal(pixels_of(path), np.asarray(noise))


def test_threads_read_what_one_reads(tmp_path, noise):
    """Eight threads give the images of one."""
    paths = [saved(tmp_path / f"{k}.jpg", noise.rotate(7 * k)) for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda path: read_image(path, SIZE, "crop"), paths))
    for path, decoded in zip(paths, images, strict=True):
        alone = read_image(path, SIZE, "crop")
        np.testing.assert_array_equal(decoded.pixels, alone.pixels)
        assert decoded.phash == alone.phash
    assert len({decoded.sha256 for decoded in images}) == 24


def test_import_brings_no_scipy():
    """Importing featx.images imports neither scipy nor pandas."""
    code = "import featx.images, sys; sys.exit('scipy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# the perceptual hash


def test_phash_is_what_imagehash_prints(tmp_path, noise):
    """The integer, in hexadecimal, is the text of imagehash for the thumbnail."""
    imagehash = pytest.importorskip("imagehash")
    decoded = read_image(saved(tmp_path / "a.png", noise), SIZE, "squash")
    assert f"{decoded.phash:016x}" == str(imagehash.phash(Image.fromarray(decoded.thumbnail)))


def test_phash_is_imagehash_also_where_frequencies_are_tied():
    """Noise, gradients, symmetric images and images of one colour, whose bits are rounding."""
    imagehash = pytest.importorskip("imagehash")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    coarse = np.repeat(np.repeat(noise[:, ::8, ::8], 8, axis=1), 8, axis=2)
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (32, 32, 3))
    tied = [ramp, ramp.transpose(1, 0, 2), *(noise[:10] // 128 * 255), *(noise[:10] // 250)]
    mirrored = [np.maximum(each, each[::-1]) for each in coarse]
    flat = [np.full((32, 32, 3), value, np.uint8) for value in (0, 7, 128, 255)]
    for pixels in [*noise, *coarse, *tied, *mirrored, *flat]:
        text = str(imagehash.phash(Image.fromarray(np.ascontiguousarray(pixels))))
        assert f"{perceptual_hash(np.ascontiguousarray(pixels)):016x}" == text


def test_bit_order_of_phash(tmp_path):
    """A cosine with two half-waves along x sets the third bit: row 0, column 2."""
    wave = np.cos(np.pi * 2 * (2 * np.arange(32) + 1) / 64)
    grey = np.tile(np.round(128 + 100 * wave), (32, 1)).astype(np.uint8)
    across = read_image(saved(tmp_path / "a.png", Image.fromarray(grey)), SIZE, "squash").phash
    down = read_image(saved(tmp_path / "b.png", Image.fromarray(grey.T)), SIZE, "squash").phash
    assert across >> 63 == down >> 63 == 1  # the mean, of row 0 and column 0
    assert across >> 61 & 1 == 1
    assert down >> 63 - 2 * 8 & 1 == 1
    assert across >> 63 - 2 * 8 & 1 == down >> 61 & 1 == 0


# colours, pixel by pixel

MODES = {
    "RGB": (Image.new("RGB", (1, 1), (10, 20, 30)), (10, 20, 30)),
    "L": (Image.new("L", (1, 1), 77), (77, 77, 77)),
    "1-black": (Image.new("1", (1, 1), 0), (0, 0, 0)),
    "1-white": (Image.new("1", (1, 1), 1), (255, 255, 255)),
    # 100 x 51/255 + 255 x 204/255 = 20 + 204
    "LA": (Image.new("LA", (1, 1), (100, 51)), (224, 224, 224)),
    # 200 x 0.4 + 153 = 233; 100 x 0.4 + 153 = 193; 0 + 153
    "RGBA": (Image.new("RGBA", (1, 1), (200, 100, 0, 102)), (233, 193, 153)),
    "RGBA-clear": (Image.new("RGBA", (1, 1), (200, 100, 0, 0)), (255, 255, 255)),
    # premultiplied: the colours are those of RGBA times 0.4
    "RGBa": (Image.new("RGBa", (1, 1), (80, 40, 0, 102)), (233, 193, 153)),
    "La": (Image.new("La", (1, 1), (20, 51)), (224, 224, 224)),
    # no ink at all, and half of the cyan: 255 - 128
    "CMYK-white": (Image.new("CMYK", (1, 1), (0, 0, 0, 0)), (255, 255, 255)),
    "CMYK-cyan": (Image.new("CMYK", (1, 1), (128, 0, 0, 0)), (127, 255, 255)),
    "YCbCr": (Image.new("YCbCr", (1, 1), (90, 128, 128)), (90, 90, 90)),
    "HSV": (Image.new("HSV", (1, 1), (0, 255, 255)), (255, 0, 0)),
    "I": (Image.new("I", (1, 1), 25700), (100, 100, 100)),
    "I;16": (Image.new("I;16", (1, 1), 25700), (100, 100, 100)),
    "I;16B": (Image.new("I;16B", (1, 1), 25700), (100, 100, 100)),
}


@pytest.mark.parametrize("name", MODES)
def test_mode_to_rgb(name):
    """Each mode gives a colour that was computed by hand."""
    image, expected = MODES[name]
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert rgb.getpixel((0, 0)) == expected


def test_lab_white_and_black():
    """L* = 100 is white to one level (128 is zero for a* and b*), and L* = 0 is black."""
    white, black = (Image.new("LAB", (1, 1), (light, 128, 128)) for light in (255, 0))
    np.testing.assert_allclose(to_rgb(white).getpixel((0, 0)), 255, atol=1)
    np.testing.assert_allclose(to_rgb(black).getpixel((0, 0)), 0, atol=1)


def test_rgb_is_not_copied(noise):
    """An RGB image is returned itself."""
    assert to_rgb(noise) is noise


def test_alpha_is_exact_for_every_value():
    """All 65,536 pairs of grey and alpha are the rounded mean with white."""
    grey, alpha = np.meshgrid(np.arange(256), np.arange(256))
    image = Image.fromarray(np.dstack([grey, alpha]).astype(np.uint8), "LA")
    expected = np.floor((grey * alpha + 255 * (255 - alpha)) / 255 + 0.5)
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[..., 0], expected)


def test_16_bits_are_divided_by_257(tmp_path):
    """All 65,536 values of a 16-bit PNG are v / 257, rounded."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = saved(tmp_path / "a.png", Image.fromarray(values))
    expected = np.floor(values / 257 + 0.5)
    np.testing.assert_array_equal(pixels_of(path)[..., 2], expected)


@pytest.mark.parametrize("order", [">u2", "<u2"])
def test_16_bit_tiff_in_either_byte_order(tmp_path, order):
    """The byte order of a TIFF does not change its greys."""
    values = np.array([[0, 257, 25700, 65535]], dtype=order)
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    assert pixels_of(path)[0, :, 0].tolist() == [0, 1, 100, 255]


def test_16_bit_pgm(tmp_path):
    """A PGM with values to 65535 is 16-bit grey."""
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 25700, 65535))
    assert pixels_of(path)[0, :, 0].tolist() == [0, 100, 255]


def test_16_bit_colour_keeps_the_upper_bits(tmp_path):
    """Pillow reads the upper 8 bits of 16-bit RGB, as the module documents."""
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 16, [struct.pack(">3H", 0x12FF, 0x3400, 0xFFFF)], 1))
    assert pixels_of(path)[0, 0].tolist() == [0x12, 0x34, 0xFF]


@pytest.mark.parametrize(
    ("kind", "row", "key", "expected"),
    [
        ((0, 8), bytes([7, 9]), struct.pack(">H", 7), [[255] * 3, [9] * 3]),
        # 2 bits: values 1 and 2 are 85 and 170, and the key is counted in bits too
        ((0, 2), bytes([0b01100000]), struct.pack(">H", 1), [[255] * 3, [170] * 3]),
        ((0, 4), bytes([0x7A]), struct.pack(">H", 7), [[255] * 3, [170] * 3]),
        ((0, 1), bytes([0b01000000]), struct.pack(">H", 0), [[255] * 3, [255] * 3]),
        ((0, 16), struct.pack(">2H", 257, 258), struct.pack(">H", 257), [[255] * 3, [1] * 3]),
        ((2, 8), bytes([1, 2, 3, 1, 2, 4]), struct.pack(">3H", 1, 2, 3), [[255] * 3, [1, 2, 4]]),
        (
            (2, 16),
            struct.pack(">6H", 0x1100, 0x2200, 0x3300, 0x1100, 0x2200, 0x4400),
            struct.pack(">3H", 0x1100, 0x2200, 0x3300),
            [[255] * 3, [0x11, 0x22, 0x44]],
        ),
    ],
    ids=["grey-8", "grey-2", "grey-4", "grey-1", "grey-16", "rgb-8", "rgb-16"],
)
def test_transparent_colour_of_png(tmp_path, kind, row, key, expected):
    """The colour in tRNS becomes white, and its neighbour does not change."""
    path = tmp_path / "a.png"
    path.write_bytes(png(*kind, [row], 2, tRNS=key))
    assert pixels_of(path)[0].tolist() == expected


def test_palette_with_alpha(tmp_path):
    """A palette gives its colours on white by its alphas, without a warning."""
    path = tmp_path / "a.png"
    palette = bytes([200, 100, 0, 10, 20, 30, 1, 2, 3])
    path.write_bytes(png(3, 8, [bytes([0, 1, 2])], 3, PLTE=palette, tRNS=bytes([102, 0])))
    assert pixels_of(path)[0].tolist() == [[233, 193, 153], [255, 255, 255], [1, 2, 3]]


def test_palette_with_one_clear_colour(tmp_path):
    """The transparent colour of a GIF becomes white."""
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "a.gif", image, transparency=0)
    assert pixels_of(path)[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_cmyk_jpeg(tmp_path):
    """A CMYK JPEG is not inverted: much black ink is dark, none is light."""
    image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 230), (0, 0, 8, 8))
    pixels = pixels_of(saved(tmp_path / "a.jpg", image, quality=100))
    np.testing.assert_allclose(pixels[4, [4, 12]], [[25] * 3, [255] * 3], atol=2)


# animations


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp"])
def test_animations_give_their_first_frame(tmp_path, name):
    """Animated GIF, PNG and WebP, and a TIFF of two pages, give their first image."""
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if name == "a.webp" else {}
    path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert pixels_of(path)[0, 0].tolist() == [255, 0, 0]


# orientation

UPRIGHT = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)

#: How a camera stores an upright image, by the table of EXIF 2.3: where row 0 and column 0 are.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_orientation_is_undone(tmp_path, name, orientation):
    """Each of the eight orientations becomes upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    options = {"lossless": True} if name == "a.webp" else {}
    path = saved(tmp_path / name, image, exif=exif, **options)
    decoded = read_image(path, (6, 4), "squash")
    np.testing.assert_array_equal(decoded.pixels, UPRIGHT)


def test_orientation_of_jpeg(tmp_path):
    """A JPEG on its side is rotated before it is resized."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (64, 32), "black")  # lying; upright it is 32 wide, 64 high
    image.paste("white", (0, 0, 32, 32))  # its left half is the upper one when upright
    decoded = read_image(saved(tmp_path / "a.jpg", image, exif=exif), (64, 32), "squash")
    assert decoded.pixels[:24].min() > 250
    assert decoded.pixels[40:].max() < 5
    assert decoded.thumbnail[:12].min() > 250


@pytest.mark.parametrize(
    ("kind", "value"),
    [(3, struct.pack("<HH", 0, 0)), (3, struct.pack("<HH", 9, 0)), (2, b"6\0\0\0")],
    ids=["0", "9", "text"],
)
def test_invalid_orientation(tmp_path, kind, value):
    """An unknown value, or one that is not a number, changes nothing."""
    entry = struct.pack("<HHI", 0x0112, kind, 1) + value
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    path = saved(tmp_path / "a.png", Image.fromarray(UPRIGHT), exif=exif)
    np.testing.assert_array_equal(read_image(path, (6, 4), "squash").pixels, UPRIGHT)


def test_broken_exif(tmp_path):
    """EXIF that cannot be parsed is ignored."""
    path = saved(tmp_path / "a.png", Image.fromarray(UPRIGHT), exif=b"Exif\0\0nonsense of a kind")
    np.testing.assert_array_equal(read_image(path, (6, 4), "squash").pixels, UPRIGHT)


def test_broken_second_image_of_a_jpeg(tmp_path, noise):
    """A JPEG with a broken index of further images is read without a warning."""
    plain = saved(tmp_path / "plain.jpg", noise)
    index = b"MPF\0" + b"II*\0\xff\xff\xff\x7f"
    segment = b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index
    data = plain.read_bytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + segment + data[2:])
    with pytest.warns(UserWarning, match="malformed MPO|Corrupt EXIF"):
        Image.open(io.BytesIO(path.read_bytes()))  # so the file is what it is meant to be
    pixels = read_image(path, (40, 50), "squash").pixels
    np.testing.assert_array_equal(pixels, pixels_of(plain))


# sizes


def triangle(pixels: np.ndarray, length: int, start: float, stop: float) -> np.ndarray:
    """Resample the first axis with an antialiasing triangle filter, by its definition."""
    scale = (stop - start) / length
    support = max(scale, 1.0)
    centres = start + (np.arange(length) + 0.5) * scale
    places = np.arange(len(pixels)) + 0.5
    weights = np.maximum(0, 1 - np.abs(places[None] - centres[:, None]) / support)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.tensordot(weights, pixels.astype(float), axes=1)


def test_squash_is_pillows_resize(noise):
    """Squash is Pillow's bilinear resize of the whole image."""
    expected = noise.resize((20, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(resized(noise, (30, 20), "squash")), expected)


@pytest.mark.parametrize("size", [(30, 20), (16, 70), (80, 81)])
def test_squash_is_an_antialiased_triangle(noise, size):
    """Squash agrees with the triangle filter."""
    across = triangle(np.asarray(noise).transpose(1, 0, 2), size[1], 0, 50).transpose(1, 0, 2)
    expected = triangle(across, size[0], 0, 40)
    np.testing.assert_allclose(np.asarray(resized(noise, size, "squash")), expected, atol=1.01)


def test_crop_takes_the_middle(noise):
    """A square of 50 x 40 is columns 5 to 44, unchanged at the same height."""
    expected = np.asarray(noise)[:, 5:45]
    np.testing.assert_array_equal(np.asarray(resized(noise, (40, 40), "crop")), expected)


def test_crop_of_a_tall_shape(noise):
    """A shape that is wider than the image takes the full width and the middle rows."""
    expected = np.asarray(noise)[10:30]
    np.testing.assert_array_equal(np.asarray(resized(noise, (20, 50), "crop")), expected)


def test_crop_at_a_fraction_of_a_pixel(noise):
    """The box may start inside a pixel: 40 x 7/12 = 23.33 columns from 13.33."""
    box = 40 * 7 / 12
    left = (50 - box) / 2
    across = triangle(np.asarray(noise).transpose(1, 0, 2), 7, left, left + box).transpose(1, 0, 2)
    expected = triangle(across, 12, 0, 40)
    np.testing.assert_allclose(np.asarray(resized(noise, (12, 7), "crop")), expected, atol=1.01)


def test_pad_shows_everything(noise):
    """50 x 40 on a square of 50 has borders of 5 rows, and its own pixels between them."""
    padded = np.asarray(resized(noise, (50, 50), "pad"))
    np.testing.assert_array_equal(padded[5:45], np.asarray(noise))
    assert (padded[:5] == BORDER).all()
    assert (padded[45:] == BORDER).all()


def test_pad_scales_down(noise):
    """50 x 40 on 25 x 30 is 25 x 20, with 5 rows above and below."""
    padded = np.asarray(resized(noise, (30, 25), "pad"))
    inner = noise.resize((25, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(padded[5:25], np.asarray(inner))
    assert (padded[[0, 4, 25, 29]] == BORDER).all()


def test_pad_beside(noise):
    """A wider canvas has its borders left and right."""
    padded = np.asarray(resized(noise, (40, 60), "pad"))
    np.testing.assert_array_equal(padded[:, 5:55], np.asarray(noise))
    assert (padded[:, [0, 4, 55, 59]] == BORDER).all()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_right_size_is_left_alone(noise, resize):
    """An image of the requested size is returned itself."""
    assert resized(noise, (40, 50), resize) is noise


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(10000, 1), (1, 10000), (1, 1), (3, 9999), (9999, 7)])
@pytest.mark.parametrize("size", [(224, 224), (7, 300), (300, 7), (1, 1)])
def test_absurd_shapes(resize, shape, size):
    """A line one pixel wide becomes an image of one colour."""
    out = np.asarray(resized(Image.new("RGB", shape, BORDER), size, resize))
    assert out.shape == (*size, 3)
    assert (out == BORDER).all()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_array_equals_image(noise, resize):
    """An array is resized as the image of the same pixels, and is not changed."""
    array = np.array(noise)
    before = array.copy()
    expected = np.asarray(resized(noise, (33, 21), resize))
    for each in (array, array[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(array_views(each, (33, 21), resize)[0], expected)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "received"),
    [
        (np.zeros((4, 4), np.uint8), "shape (4, 4) and dtype uint8"),
        (np.zeros((4, 4, 4), np.uint8), "shape (4, 4, 4) and dtype uint8"),
        (np.zeros((4, 4, 3), np.float32), "shape (4, 4, 3) and dtype float32"),
        (np.zeros((0, 4, 3), np.uint8), "shape (0, 4, 3) and dtype uint8"),
    ],
)
def test_array_that_is_not_an_image(array, received):
    """Another shape or dtype is refused with the received one."""
    with pytest.raises(ImageError, match=re.escape(received)):
        array_views(array, SIZE, "squash")


# reasons


def test_reasons_before_any_byte(tmp_path):
    """A file that cannot be read has a reason and no digest."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.png")
    assert reason_of(tmp_path / "none.png") == "not found"
    assert reason_of(tmp_path / "dangling.png") == "not found"
    assert reason_of(tmp_path / "file" / "a.png") == "not found"
    assert reason_of(tmp_path / "folder.png") == "is a directory"
    assert reason_of(tmp_path / "pipe.png") == "not a regular file"
    assert "null byte" in reason_of(tmp_path / "a\0b.png")
    assert "symbolic links" in reason_of(tmp_path / "loop.png")
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "none.png", SIZE, "squash")
    assert caught.value.sha256 is None


def test_permission_denied(tmp_path, monkeypatch):
    """A file without permission has a reason; simulated, because root may read all."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Path, "open", refuse)
    assert reason_of(tmp_path / "a.png") == "permission denied"


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported: EPS"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0....", r"damaged PNG: .*'\.\.\.\.'"),
        (b"P9 1 1 255\n", "not an image"),
    ],
    ids=["empty", "html", "eps", "png-head", "png-chunk", "ppm"],
)
def test_reasons_in_the_bytes(tmp_path, data, fact):
    """Bytes that are not an image have a reason, and a digest."""
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=fact) as caught:
        read_image(path, SIZE, "squash")
    assert caught.value.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.ppm"])
def test_truncated(tmp_path, noise, name):
    """Two thirds of a file are refused, and never decoded in part."""
    path = saved(tmp_path / name, noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert reason_of(path).startswith("truncated")


def test_damaged(tmp_path, noise):
    """Damaged bytes are refused with the message of the decoder."""
    path = saved(tmp_path / "a.png", noise)
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT") + 30
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    assert "broken data stream" in reason_of(path)


def test_every_cut_has_a_reason(tmp_path, noise):
    """A file of any shorter length raises an ImageError and nothing else."""
    for name in ("a.jpg", "a.png", "a.gif", "a.tif", "a.webp", "a.bmp"):
        path = saved(tmp_path / name, noise.resize((8, 8)))
        data = path.read_bytes()
        for length in {*range(40), *range(40, len(data) - 30, 23)}:
            path.write_bytes(data[:length])
            assert reason_of(path)


def test_pixels_without_a_range(tmp_path):
    """Floats, and integers of more than 16 bits, are refused."""
    floats = saved(tmp_path / "f.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    assert "float" in reason_of(floats)
    for value in (65536, -1):
        wide = saved(tmp_path / "i.tif", Image.fromarray(np.full((2, 2), value, np.int32)))
        assert "32-bit" in reason_of(wide)


def test_mode_without_a_conversion(noise, monkeypatch):
    """If Pillow has no conversion, the reason names the mode."""

    def refuse(*_: object) -> Image.Image:
        message = "illegal conversion"
        raise ValueError(message)

    image = noise.convert("YCbCr")
    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ImageError, match="YCbCr"):
        to_rgb(image)


def test_too_many_pixels(tmp_path, noise):
    """Above the limit an image is refused by its header; at the limit it is read."""
    for suffix in ("png", "jpg", "webp"):
        path = saved(tmp_path / f"a.{suffix}", noise)
        with pytest.raises(ImageError) as caught:
            read_image(path, SIZE, "squash", max_pixels=40 * 50 - 1)
        assert all(each in str(caught.value) for each in ("40x50", "1,999", "--max-pixels"))
        assert caught.value.sha256
        assert read_image(path, SIZE, "squash", max_pixels=40 * 50).pixels.shape == (32, 32, 3)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    """An image with a header of 60,000 x 60,000 pixels is refused without decoding."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + b"\x00\x00\x00\x00IDAT"
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    assert all(each in reason_of(path) for each in ("60000x60000", "178,956,970"))


@pytest.mark.parametrize("limit", [40 * 50 - 1, 10])  # Pillow would warn, and refuse
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_pillows_own_limit_does_not_matter(tmp_path, noise, monkeypatch, suffix, limit):
    """A limit that the user has set in Pillow changes nothing here, and is kept."""
    path = saved(tmp_path / f"a.{suffix}", noise)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_image(path, SIZE, "squash").pixels.shape == (32, 32, 3)
    with pytest.raises((Image.DecompressionBombError, Image.DecompressionBombWarning)):
        Image.open(path)


def test_a_name_that_is_not_utf8(tmp_path, noise):
    """The name of a file may be any bytes."""
    try:
        path = tmp_path / (os.fsdecode(b"\xff\xfe.png"))
        noise.save(str(tmp_path / "d.png"))
        (tmp_path / "d.png").rename(path)
    except OSError:
        pytest.skip("this file system only accepts UTF-8")
    np.testing.assert_array_equal(read_image(path, (40, 50), "squash").pixels, np.asarray(noise))


@pytest.mark.parametrize(("shape", "read"), [((100, 1), True), ((1, 100), True), ((1, 101), False)])
def test_an_absurd_shape(tmp_path, shape, read):
    """An image of 100 to 1 is read; a longer one is refused with its sides."""
    path = tmp_path / "long.png"
    Image.new("RGB", shape).save(path)
    if read:
        assert read_image(path, SIZE, "squash").pixels.shape == (32, 32, 3)
    else:
        assert all(each in reason_of(path) for each in ("101x1", "100 to 1"))
