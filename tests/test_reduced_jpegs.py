"""Large JPEGs decoded at a fraction of their size have nearly the same pixels."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from featx.images import read_image, resized
from featx.recipe import Recipe

SIZE = (32, 48)


@pytest.fixture(scope="module")
def photograph():
    """An image of 640 x 960 pixels with detail of every scale, like a photograph."""
    rng = np.random.default_rng(0)
    whole = np.zeros((640, 960, 3))
    for side in (4, 8, 16, 32, 64, 128):
        noise = rng.normal(0, 1, (side, side * 3 // 2, 3))
        small = [Image.fromarray(noise[..., c].astype("f4")) for c in range(3)]
        layers = [np.asarray(image.resize((960, 640), Image.BICUBIC)) for image in small]
        whole += np.stack(layers, -1) * 30 / np.log2(side)
    return Image.fromarray(np.clip(whole + 128, 0, 255).astype("u1"))


def difference(path, size=SIZE, resize="squash"):
    """Return the absolute differences from the pixels of full decoding."""
    full = read_image(path, size, resize, jpeg="full").pixels.astype(int)
    reduced = read_image(path, size, resize).pixels
    assert reduced.shape == full.shape
    return np.abs(full - reduced)


def decoded_size(monkeypatch, path, size=SIZE, resize="squash", **settings):
    """Return the (width, height) at which an image was decoded."""
    seen = []
    monkeypatch.setattr(
        "featx.images.decoding.resized", lambda i, *rest: seen.append(i.size) or resized(i, *rest)
    )
    read_image(path, size, resize, **settings)
    return seen[0]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 0}, {"grey": True}])
def test_a_photograph_nearly_keeps_its_pixels(tmp_path, photograph, resize, how):
    """The mean difference is below half a grey level, and the maximum is small."""
    image = photograph.convert("L") if how.pop("grey", False) else photograph
    image.save(tmp_path / "a.jpg", quality=92, **how)
    apart = difference(tmp_path / "a.jpg", resize=resize)
    assert 0 < apart.mean() < 0.5
    assert apart.max() <= 5


def test_cmyk_keeps_its_colours(tmp_path, photograph):
    """The decoder changes the size but not the mode."""
    photograph.convert("CMYK").save(tmp_path / "a.jpg", quality=92)
    assert difference(tmp_path / "a.jpg").mean() < 0.5


@pytest.mark.parametrize(
    ("size", "resize", "decoded"),
    [
        ((107, 160), "squash", (960, 640)),  # half of it is 320 high, less than 3 x 107
        ((106, 160), "squash", (480, 320)),
        ((106, 161), "squash", (960, 640)),  # half of it is 480 wide, less than 3 x 161
        ((53, 80), "squash", (240, 160)),
        ((26, 40), "squash", (120, 80)),
        ((2, 3), "squash", (120, 80)),  # an eighth is the smallest
        ((106, 106), "crop", (480, 320)),
        ((107, 80), "crop", (960, 640)),  # the box that is kept is 640 high
        ((160, 107), "pad", (480, 320)),  # the whole image, 107 wide, 71 high
        ((213, 159), "pad", (480, 320)),
        ((213, 161), "pad", (960, 640)),
    ],
)
def test_the_chosen_scale(tmp_path, monkeypatch, photograph, size, resize, decoded):
    """The smallest size that is still three times the requested one, in both directions."""
    photograph.save(tmp_path / "a.jpg")
    assert decoded_size(monkeypatch, tmp_path / "a.jpg", size, resize) == decoded
    assert decoded_size(monkeypatch, tmp_path / "a.jpg", size, resize, jpeg="full") == (960, 640)


#: How a camera stores an upright image, by EXIF orientation.
TO_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TO_STORED)
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_sides_that_the_scale_does_not_divide(
    tmp_path, monkeypatch, photograph, orientation, resize
):
    """961 x 633 becomes 121 x 80 at an eighth, and is not shifted in any orientation."""
    upright = np.asarray(photograph.resize((961, 633)))
    stored = Image.fromarray(np.ascontiguousarray(TO_STORED[orientation](upright)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.jpg"
    stored.save(path, exif=exif, quality=92)
    size = (20, 30) if resize != "crop" else (26, 20)
    with Image.open(path) as image:  # the expected pixels are from Pillow only
        expected = np.asarray(resized(ImageOps.exif_transpose(image), size, resize), int)
    apart = np.abs(read_image(path, size, resize).pixels - expected)
    assert apart.mean() < 0.5
    assert apart.max() <= 4
    assert decoded_size(monkeypatch, path, size, resize) == (121, 80)


def test_the_scale_of_a_rotated_photograph(tmp_path, monkeypatch, photograph):
    """The scale depends on the sides of the upright image."""
    exif = Image.Exif()
    for orientation, expected in ((1, (960, 640)), (3, (960, 640)), (6, (320, 480))):
        exif[ExifTags.Base.Orientation] = orientation
        photograph.save(tmp_path / "a.jpg", exif=exif)
        assert decoded_size(monkeypatch, tmp_path / "a.jpg", (160, 106)) == expected


def test_fine_detail_changes_little(tmp_path):
    """One-pixel noise, the worst case, changes by a few levels."""
    noise = np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=92)
    apart = difference(tmp_path / "a.jpg", (64, 64))
    assert 0.2 < apart.mean() < 2
    assert apart.max() <= 8


def test_thumbnail_of_a_reduced_image(tmp_path, photograph):
    """The thumbnail is the whole image, also if the pixels are a crop."""
    photograph.resize((961, 633)).save(tmp_path / "a.jpg", quality=92)
    full = read_image(tmp_path / "a.jpg", (20, 30), "crop", jpeg="full")
    reduced = read_image(tmp_path / "a.jpg", (20, 30), "crop")
    apart = np.abs(full.thumbnail.astype(int) - reduced.thumbnail)
    assert 0 < apart.mean() < 1
    assert (full.phash ^ reduced.phash).bit_count() <= 4


def lossless_jpeg(side: int) -> bytes:
    """Return a lossless JPEG (SOF3) of one grey, written by hand."""

    def segment(mark: int, data: bytes) -> bytes:
        return bytes([0xFF, mark]) + struct.pack(">H", len(data) + 2) + data

    head = struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])
    table = bytes([0, 1] + [0] * 15 + [0])  # one code, of one bit: no difference
    scan = bytes([1, 1, 0, 1, 0, 0])
    segments = segment(0xC3, head) + segment(0xC4, table) + segment(0xDA, scan)
    return b"\xff\xd8" + segments + bytes(side * side // 8) + b"\xff\xd9"


def test_a_lossless_jpeg_is_decoded_in_full(tmp_path):
    """The decoder cannot reduce it, and would report damage."""
    (tmp_path / "a.jpg").write_bytes(lossless_jpeg(800))
    try:
        with Image.open(tmp_path / "a.jpg") as image:
            image.load()
    except OSError:
        pytest.skip("this Pillow's libjpeg reads no lossless JPEG")
    assert (read_image(tmp_path / "a.jpg", SIZE, "squash").pixels == 128).all()


def test_other_formats_and_small_images_are_decoded_in_full(tmp_path, photograph):
    """PNG, and a JPEG below six times the size, give exactly the pixels of full decoding."""
    photograph.save(tmp_path / "a.png")
    assert difference(tmp_path / "a.png").max() == 0
    photograph.resize((287, 191)).save(tmp_path / "b.jpg")
    assert difference(tmp_path / "b.jpg").max() == 0


def test_the_recipe_has_the_setting():
    """Codes of reduced and of full JPEGs have different recipes; old files are full."""
    recipe = Recipe(weights="random:0", layers=("block1_pool",))
    full = Recipe(weights="random:0", layers=("block1_pool",), jpeg="full")
    assert [d.flag for d in recipe.differences(full)] == ["--jpeg full"]
    text = recipe.to_json().replace('"jpeg": "reduced", ', "")
    assert "jpeg" not in text
    assert Recipe.from_json(text) == full
