"""Formats of photographs: each ending that is listed is decoded, and other files are counted."""

import numpy as np
import pillow_heif
import pytest
from PIL import Image

import featx.images.pillow as copy_of_pillow
from featx.errors import ImageError
from featx.images import folders, list_images, read_image
from featx.images.folders import SUFFIXES
from featx.images.heic import is_heic

# Left half red, right half blue, and green at the top left.
PIXELS = np.zeros((48, 64, 3), np.uint8)
PIXELS[:, :32, 0], PIXELS[:, 32:, 2], PIXELS[:16, :16] = 255, 255, (0, 255, 0)

FORMAT_OF = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".jp2", ".j2k", ".jpc", ".jpx"), "JPEG2000"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
    **{".mpo": "MPO", ".gif": "GIF", ".bmp": "BMP", ".dib": "DIB", ".webp": "WEBP"},
    **{".avif": "AVIF", ".tga": "TGA", ".ico": "ICO"},
}


def save(path, pixels=PIXELS, **options):
    """Write an image in the format of its ending, also where Pillow has no such ending."""
    kind = FORMAT_OF[path.suffix]
    image = Image.fromarray(pixels)
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(path, **options)
    elif kind == "MPO":
        image.save(path, kind, save_all=True, append_images=[image])
    else:
        image.save(path, kind, **options)
    return path


def decoded(path, size=(48, 64), **options):
    """The pixels of an image file, as numbers that can be subtracted."""
    return read_image(path, size, "squash", **options).pixels.astype(int)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_listed_ending_is_decoded(tmp_path, suffix):
    """The colours are where they were drawn, up to the losses of the format."""
    path = save(tmp_path / f"x{suffix}")
    assert [record.file for record in list_images(tmp_path).records] == [path]
    errors = np.abs(decoded(path) - PIXELS)
    assert errors.mean() < 8
    with pytest.raises(ImageError, match="too many pixels"):
        decoded(path, max_pixels=100)


@pytest.mark.parametrize("suffix", [".heic", ".tga", ".dib", ".ico"])
def test_half_a_file_is_refused(tmp_path, suffix):
    """The second half of the bytes is missing."""
    data = save(tmp_path / f"x{suffix}").read_bytes()
    (tmp_path / f"half{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        decoded(tmp_path / f"half{suffix}")


def test_heic_is_turned_once(tmp_path):
    """A rotation that the file asks for is applied by its decoder, and not again by its EXIF."""
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright
    path = save(tmp_path / "x.heic", exif=exif.tobytes())
    assert np.abs(decoded(path, (64, 48)) - np.rot90(PIXELS, -1)).mean() < 8


def test_grey_and_transparent_heic(tmp_path):
    """Grey is repeated, and transparency is composited on white."""
    grey = save(tmp_path / "grey.heic", PIXELS[..., 0])
    assert np.abs(decoded(grey) - PIXELS[..., :1]).mean() < 8
    clear = np.dstack([PIXELS, np.zeros_like(PIXELS[..., :1])])
    assert decoded(save(tmp_path / "clear.heic", clear)).min() > 250


def test_heic_is_distinguished_from_avif_by_its_brands(tmp_path):
    """Both are in the same container."""
    assert is_heic(save(tmp_path / "x.heic").read_bytes()[:64])
    assert not is_heic(save(tmp_path / "x.avif").read_bytes()[:64])
    assert not is_heic(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif")
    assert not is_heic(b"")


def test_without_pillow_heif_the_command_is_given(tmp_path, monkeypatch):
    """A note counts the images, and each one has the reason."""
    save(tmp_path / "x.heic")
    save(tmp_path / "y.jpg")
    others = {
        name: each for name, each in copy_of_pillow.pillow_classes().items() if name != "HEIC"
    }
    monkeypatch.setattr("featx.images.decoding.pillow_classes", lambda: others)
    monkeypatch.setattr(folders, "can_decode_heic", lambda: False)
    (note,) = list_images(tmp_path).notes
    assert "1 HEIC image" in note
    assert "pip install 'featx[heic]'" in note
    with pytest.raises(ImageError, match=r"unsupported: HEIC.*pip install 'featx\[heic\]'"):
        decoded(tmp_path / "x.heic")


def test_tga_is_found_by_its_ending_only(tmp_path):
    """Its bytes could be anything; a text with this ending is damaged, and not decoded."""
    data = save(tmp_path / "x.tga").read_bytes()
    (tmp_path / "x.jpg").write_bytes(data)
    (tmp_path / "text.TGA").write_text("Some words, as long as a header. " * 9)
    with pytest.raises(ImageError, match="not an image"):
        decoded(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="TGA"):
        decoded(tmp_path / "text.TGA")
    (tmp_path / "png.tga").write_bytes(save(tmp_path / "x.png").read_bytes())
    assert (decoded(tmp_path / "png.tga") == PIXELS).all()
