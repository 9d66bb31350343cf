"""Large JPEGs, decoded at a part of their size: nearly the same pixels, and only where asked."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from featx.images import read_picture, resized
from featx.recipe import Recipe

SIZE = (32, 48)


@pytest.fixture(scope="module")
def photograph():
    """A smooth picture of 640 x 960 pixels with detail of every width, as photographs have."""
    rng = np.random.default_rng(0)
    whole = np.zeros((640, 960, 3))
    for side in (4, 8, 16, 32, 64, 128):
        noise = rng.normal(0, 1, (side, side * 3 // 2, 3))
        small = [Image.fromarray(noise[..., c].astype("f4")) for c in range(3)]
        layers = [np.asarray(image.resize((960, 640), Image.BICUBIC)) for image in small]
        whole += np.stack(layers, -1) * 30 / np.log2(side)
    return Image.fromarray(np.clip(whole + 128, 0, 255).astype("u1"))


def difference(path, size=SIZE, resize="squash"):
    """How far the reduced pixels are from those of full decoding."""
    full = read_picture(path, size, resize, jpeg="full").pixels.astype(int)
    reduced = read_picture(path, size, resize).pixels
    assert reduced.shape == full.shape
    return np.abs(full - reduced)


def decoded_size(monkeypatch, path, size=SIZE, resize="squash", **settings):
    """The (width, height) at which a picture was decoded."""
    seen = []
    monkeypatch.setattr(
        "featx.images.decoding.resized", lambda i, s, r: seen.append(i.size) or resized(i, s, r)
    )
    read_picture(path, size, resize, **settings)
    return seen[0]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 0}, {"grey": True}])
def test_a_photograph_keeps_its_pixels_nearly(tmp_path, photograph, resize, how):
    """Within half a grey level in the mean, a few at most, however it was saved."""
    image = photograph.convert("L") if how.pop("grey", False) else photograph
    image.save(tmp_path / "a.jpg", quality=92, **how)
    apart = difference(tmp_path / "a.jpg", resize=resize)
    assert 0 < apart.mean() < 0.5
    assert apart.max() <= 5


def test_cmyk_keeps_its_colours(tmp_path, photograph):
    """Only the size is asked of the decoder, never another mode."""
    photograph.convert("CMYK").save(tmp_path / "a.jpg", quality=92)
    assert difference(tmp_path / "a.jpg").mean() < 0.5


@pytest.mark.parametrize(
    ("size", "resize", "decoded"),
    [
        ((320, 480), "squash", (960, 640)),  # just twice: nothing to gain
        ((160, 240), "squash", (480, 320)),
        ((161, 240), "squash", (960, 640)),  # a half would be less than twice 161
        ((80, 120), "squash", (240, 160)),
        ((32, 48), "squash", (120, 80)),  # an eighth is the least
        ((160, 160), "crop", (480, 320)),
        ((240, 160), "crop", (960, 640)),  # the box that is kept is 427 wide, 640 high
        ((240, 160), "pad", (480, 320)),  # the whole is shown, 160 wide
    ],
)
def test_the_scale_that_is_taken(tmp_path, monkeypatch, photograph, size, resize, decoded):
    """The smallest that is still twice what is needed, both ways."""
    photograph.save(tmp_path / "a.jpg")
    assert decoded_size(monkeypatch, tmp_path / "a.jpg", size, resize) == decoded
    assert decoded_size(monkeypatch, tmp_path / "a.jpg", size, resize, jpeg="full") == (960, 640)


def test_a_side_that_the_scale_does_not_divide(tmp_path, monkeypatch, photograph):
    """964 = 4 x 241: a quarter is exact, an eighth would shift the picture."""
    photograph.resize((964, 640)).save(tmp_path / "a.jpg")
    assert decoded_size(monkeypatch, tmp_path / "a.jpg") == (241, 160)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photograph(tmp_path, monkeypatch, photograph, orientation):
    """EXIF swaps the sides after decoding; the scale follows the picture as it is shown."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photograph.save(tmp_path / "a.jpg", exif=exif, quality=92)
    assert difference(tmp_path / "a.jpg", (120, 80)).mean() < 0.5
    # Shown upright the picture is 960 wide and 640 high, turned 640 wide and 960 high.
    turned = orientation in {6, 8}
    expected = (320, 480) if turned else (960, 640)
    assert decoded_size(monkeypatch, tmp_path / "a.jpg", (240, 160)) == expected


def test_other_formats_and_small_pictures_are_untouched(tmp_path, photograph):
    """PNG, and a JPEG less than four times too large, give the bits of full decoding."""
    photograph.save(tmp_path / "a.png")
    assert difference(tmp_path / "a.png").max() == 0
    photograph.resize((126, 94)).save(tmp_path / "b.jpg")
    assert difference(tmp_path / "b.jpg").max() == 0


def test_the_recipe_says_it():
    """Codes of reduced and of full JPEGs are of two recipes; an old file means full."""
    recipe = Recipe(weights="random:0", layers=("block1_pool",))
    full = Recipe(weights="random:0", layers=("block1_pool",), jpeg="full")
    assert [d.flag for d in recipe.differences(full)] == ["--jpeg full"]
    text = recipe.to_json().replace('"jpeg": "reduced", ', "")
    assert "jpeg" not in text
    assert Recipe.from_json(text) == full
