"""Grey levels follow what a file says of its bits, sign and polarity, or the white level given."""

import io
import json
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from running import job_in, run

from featx.errors import ImageError, OptionError, RecipeMismatchError
from featx.images import GreyRule, image_of, read_image
from featx.recipe import Recipe
from featx.store import open_store

#: From black to white, as fractions of the range: 64 columns, 3 rows.
RAMP = np.tile(np.linspace(0, 1, 64), (3, 1))

UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def tiff(pixels: bytes, bits: int, kind=UNSIGNED, *, inverted=False, n=1, order="<") -> bytes:
    """Return the bytes of a TIFF of 64 x 3 pixels of n samples, written without Pillow."""
    photometric = 0 if inverted else 2 if n == 3 else 1
    tags = {256: [64], 257: [3], 258: [bits] * n, 259: [1], 262: [photometric], 273: [0]}
    tags |= {277: [n], 278: [3], 279: [len(pixels)], 339: [kind] * n}
    end = 8 + 2 + 12 * len(tags) + 4
    lists = b"".join(struct.pack(f"{order}{n}I", *each) for each in tags.values() if len(each) > 1)
    tags[273] = [end + len(lists)]
    rows, at = b"", end
    for tag, values in tags.items():
        rows += struct.pack(f"{order}HHI", tag, 4, len(values))
        rows += struct.pack(f"{order}I", values[0] if len(values) == 1 else at)
        at += 4 * len(values) if len(values) > 1 else 0
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    return head + rows + bytes(4) + lists + pixels


def samples(largest: float, dtype: str, values=RAMP) -> bytes:
    """Return the ramp as samples up to `largest`."""
    scaled = values * largest
    return (scaled if dtype[1] == "f" else scaled.round()).astype(dtype).tobytes()


def packed_12() -> bytes:
    """Return the ramp as 12 bits, two samples in three bytes."""
    pairs = (RAMP * 4095).round().astype(int).reshape(-1, 2)
    return b"".join((a << 12 | b).to_bytes(3, "big") for a, b in pairs.tolist())


def pgm(largest: int) -> bytes:
    """Return the ramp as a PGM with this largest value."""
    return b"P5 64 3 %d\n" % largest + samples(largest, ">u2")


def png(largest: int, colours: int = 1) -> bytes:
    """Return the ramp as a PNG of 16 bits: grey, RGB or RGBA."""
    pixels = (RAMP * largest).round().astype(">u2")[..., None].repeat(colours, 2)
    if colours == 4:
        pixels[..., 3] = 65535
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    kinds = {1: 0, 3: 2, 4: 6}
    head = struct.pack(">IIBBBBB", 64, 3, 16, kinds[colours], 0, 0, 0)
    chunks = {b"IHDR": head, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def jpeg2000() -> bytes:
    out = io.BytesIO()
    Image.fromarray((RAMP * 65535).round().astype(np.uint16)).save(out, "JPEG2000")
    return out.getvalue()


def colours(largest: int, order: str = "<") -> bytes:
    three = RAMP[..., None].repeat(3, 2)
    return tiff(samples(largest, f"{order}u2", three), 16, n=3, order=order)


#: Files that say what white is.
BY_TAGS = {
    "8 bits": tiff(samples(255, "u1"), 8),
    "8 bits, WhiteIsZero": tiff(samples(255, "u1", 1 - RAMP), 8, inverted=True),
    "8 bits, signed": tiff(samples(127, "i1"), 8, SIGNED),
    "12 bits": tiff(packed_12(), 12),
    "16 bits": tiff(samples(65535, "<u2"), 16),
    "16 bits, big-endian": tiff(samples(65535, ">u2"), 16, order=">"),
    "16 bits, WhiteIsZero": tiff(samples(65535, "<u2", 1 - RAMP), 16, inverted=True),
    "16 bits, signed": tiff(samples(32767, "<i2"), 16, SIGNED),
    "16 bits, signed, big-endian": tiff(samples(32767, ">i2"), 16, SIGNED, order=">"),
    "16 bits, RGB": colours(65535),
    "16 bits, PNG": png(65535),
    "16 bits, RGB, PNG": png(65535, 3),
    "16 bits, JPEG 2000": jpeg2000(),
    "12 bits, PGM": pgm(4095),
    "16 bits, PGM": pgm(65535),
}

#: Files that need a white level, and that level.
BY_WHITE = {
    "12 in 16 bits": (tiff(samples(4095, "<u2"), 16), 4095),
    "12 in 16 bits, big-endian": (tiff(samples(4095, ">u2"), 16, order=">"), 4095),
    "12 in 16 bits, WhiteIsZero": (tiff(samples(4095, "<u2", 1 - RAMP), 16, inverted=True), 4095),
    "12 in 16 bits, PNG": (png(4095), 4095),
    "12 in 16 bits, RGB": (colours(4095), 4095),
    "12 in 16 bits, RGB, big-endian": (colours(4095, ">"), 4095),
    "12 in 16 bits, RGB, PNG": (png(4095, 3), 4095),
    "12 in 16 bits, RGBA, PNG": (png(4095, 4), 4095),
    "12 bits, PGM": (pgm(4095), 4095),
    "32 bits": (tiff(samples(255, "<u4"), 32), 255),
    "32 bits above 2**31": (tiff(samples(2**32 - 1, "<u4"), 32), 2**32 - 1),
    "32 bits, signed": (tiff(samples(65535, "<i4"), 32, SIGNED), 65535),
    "float": (tiff(samples(1, "<f4"), 32, FLOAT), 1.0),
    "float, big-endian": (tiff(samples(1, ">f4"), 32, FLOAT, order=">"), 1.0),
    "float, WhiteIsZero": (tiff(samples(1, "<f4", 1 - RAMP), 32, FLOAT, inverted=True), 1.0),
    "float, PFM": (b"Pf\n64 3\n-1.0\n" + samples(1, "<f4"), 1.0),
}

NEEDS_WHITE = [name for name in BY_WHITE if name[0] != "1"]


def decoded(tmp_path, data: bytes, white: float | None = None, grey="tags"):
    path = tmp_path / "ramp"
    path.write_bytes(data)
    return read_image(path, (3, 64), "squash", grey=GreyRule(grey, white))


def assert_ramp(image) -> None:
    """Check that an image is the ramp from black to white in each colour."""
    expected = (255 * RAMP)[..., None].repeat(3, 2)
    np.testing.assert_allclose(image.pixels, expected, atol=1.6)  # 7 bits are not finer
    assert image.pixels[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", BY_TAGS)
def test_black_and_white_follow_from_the_tags(tmp_path, name):
    """The ramp is the same in whatever bits, sign and polarity it is stored."""
    image = decoded(tmp_path, BY_TAGS[name])
    assert_ramp(image)
    assert image.doubt == ""


@pytest.mark.parametrize("name", BY_WHITE)
def test_a_white_level_gives_the_ramp(tmp_path, name):
    """With the value of white, the ramp is right whatever the file says."""
    data, white = BY_WHITE[name]
    image = decoded(tmp_path, data, white)
    assert_ramp(image)
    assert image.doubt == ""


@pytest.mark.parametrize("name", NEEDS_WHITE)
def test_wide_integers_and_floats_are_refused_without_a_white_level(tmp_path, name):
    """The reason names the kind of pixels and the flag."""
    with pytest.raises(ImageError, match=r"32-bit|float") as caught:
        decoded(tmp_path, BY_WHITE[name][0])
    assert "--white" in str(caught.value)


@pytest.mark.parametrize("name", ["8 bits", "8 bits, WhiteIsZero", "8 bits, signed"])
def test_eight_bits_are_left_alone(tmp_path, name):
    """A white level changes nothing in images of 8 bits."""
    plain = decoded(tmp_path, BY_TAGS[name])
    given = decoded(tmp_path, BY_TAGS[name], 4095)
    np.testing.assert_array_equal(given.pixels, plain.pixels)


@pytest.mark.parametrize(("bits", "kind", "dtype"), [(16, SIGNED, "<i2"), (8, SIGNED, "i1")])
def test_negative_values_are_refused(tmp_path, bits, kind, dtype):
    """They have no grey level of their own."""
    with pytest.raises(ImageError, match="negative"):
        decoded(tmp_path, tiff(samples(-100, dtype), bits, kind))


def test_negative_values_are_black_with_a_white_level(tmp_path):
    """Values below 0 are black, and values above white are white."""
    values = np.where(RAMP < 0.5, -100, 200)
    image = decoded(tmp_path, tiff(samples(1, "<i2", values), 16, SIGNED), 100)
    assert image.pixels[0, [0, 63], 0].tolist() == [0, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_refused(tmp_path, value):
    """They are not a level, with a white level too."""
    values = np.where(RAMP < 0.5, value, 1.0)
    with pytest.raises(ImageError, match="finite"):
        decoded(tmp_path, tiff(samples(1, "<f4", values), 32, FLOAT), 1.0)


@pytest.mark.parametrize(
    ("bits", "n", "kind"), [(16, 2, UNSIGNED), (8, 5, UNSIGNED), (64, 1, FLOAT), (24, 1, UNSIGNED)]
)
def test_pixels_that_pillow_does_not_decode_are_unsupported(tmp_path, bits, n, kind):
    """They are not damaged: the reason says what they are."""
    data = tiff(bytes(64 * 3 * n * bits // 8), bits, kind, n=n)
    with pytest.raises(ImageError, match=f"unsupported TIFF.*{bits}") as caught:
        decoded(tmp_path, data)
    assert "damaged" not in str(caught.value)


def test_colours_whose_lower_bits_pillow_does_not_decode(tmp_path):
    """They are refused with a white level, and read without one."""
    data = b"P6 64 3 65535\n" + samples(4095, ">u2", RAMP[..., None].repeat(3, 2))
    assert decoded(tmp_path, data).pixels.max() == 16
    with pytest.raises(ImageError, match="--white"):
        decoded(tmp_path, data, 4095)


DARK = [name for name in BY_WHITE if name.startswith("12 in 16") and "Zero" not in name]


@pytest.mark.parametrize("name", DARK)
def test_a_small_part_of_the_range_is_noticed(tmp_path, name):
    """12 bits in 16 are almost black; the image says so."""
    assert decoded(tmp_path, BY_WHITE[name][0]).doubt == "dark"


def test_a_white_level_that_is_too_low_is_noticed(tmp_path):
    """More than half of the pixels above white are noticed."""
    assert decoded(tmp_path, BY_TAGS["16 bits"], 1000).doubt == "clipped"
    assert decoded(tmp_path, BY_TAGS["16 bits"], 65535).doubt == ""


@pytest.mark.parametrize("name", ["12 bits", "16 bits, WhiteIsZero", "16 bits, PNG"])
@pytest.mark.parametrize("loaded", [False, True])
def test_pillow_images_follow_the_same_rule(name, loaded):
    """An image that the caller opened has the grey levels of its file."""
    with Image.open(io.BytesIO(BY_TAGS[name])) as image:
        if loaded:
            image.load()
        pixels = image_of(image)
    np.testing.assert_allclose(pixels[..., 0], 255 * RAMP, atol=1)
    with Image.open(io.BytesIO(BY_WHITE["float"][0])) as image:
        np.testing.assert_allclose(
            image_of(image, GreyRule("tags", 1.0))[..., 0], 255 * RAMP, atol=1
        )
        with pytest.raises(ImageError, match="--white"):
            image_of(image)


# the rule of featx 0.1


def test_the_rule_of_0_1_is_kept(tmp_path):
    """Any integers up to 65535 are 16-bit grey, inverted or not."""
    ramp = decoded(tmp_path, BY_TAGS["16 bits"], grey="pillow").pixels
    inverted = decoded(tmp_path, BY_TAGS["16 bits, WhiteIsZero"], grey="pillow").pixels
    np.testing.assert_array_equal(inverted, ramp[:, ::-1])
    assert decoded(tmp_path, BY_TAGS["12 bits"], grey="pillow").pixels.max() == 16
    with pytest.raises(ImageError, match="float"):
        decoded(tmp_path, BY_WHITE["float"][0], grey="pillow")


@pytest.mark.parametrize("name", [name for name in BY_TAGS if name.startswith("8 bits")][:2])
def test_both_rules_are_one_for_eight_bits(tmp_path, name):
    """Images of 8 bits have the same pixels by both rules."""
    by_tags = decoded(tmp_path, BY_TAGS[name])
    np.testing.assert_array_equal(
        decoded(tmp_path, BY_TAGS[name], grey="pillow").pixels, by_tags.pixels
    )


# the recipe


def test_a_recipe_without_the_fields_means_the_rule_of_0_1():
    """A new recipe has the rule of the tags; one in JSON without the field, that of 0.1."""
    recipe = Recipe(weights="random:0", layers=("block1_pool",))
    fields = json.loads(recipe.to_json())
    assert (recipe.grey, recipe.white) == ("tags", None)
    del fields["grey"], fields["white"]
    old = Recipe.from_json(json.dumps(fields))
    assert (old.grey, old.white) == ("pillow", None)
    assert [each.flag for each in recipe.differences(old)] == ["--grey pillow"]


@pytest.mark.parametrize("white", [4095, 1.0, 0.5, None])
def test_the_white_level_is_read_back(white):
    """A number is a float, however it was typed, and is shown as it was typed."""
    recipe = Recipe(weights="random:0", layers=("block1_pool",), white=white)
    assert Recipe.from_json(recipe.to_json()) == recipe
    (found,) = Recipe(weights="random:0", layers=("block1_pool",), white=7).differences(recipe)
    assert found.flag == ("no --white" if white is None else f"--white {white:g}")


@pytest.mark.parametrize("white", [0, -1, np.nan, np.inf, "4095", True])
def test_a_white_level_is_a_positive_number(white):
    """Any other value is refused with the flag."""
    with pytest.raises(OptionError, match="--white"):
        Recipe(weights="random:0", layers=("block1_pool",), white=white)


def test_a_white_level_needs_the_rule_of_the_tags():
    """The rule of 0.1 has no white level."""
    with pytest.raises(OptionError, match="--grey"):
        Recipe(weights="random:0", layers=("block1_pool",), grey="pillow", white=4095)


# stores


def test_a_store_of_0_1_resumes_without_a_flag(image_folder):
    """Where --grey was not given, the rule of the existing store is used, also for new layers."""
    folder = image_folder.parent
    run(job_in(folder, grey="pillow"))
    job = job_in(folder)
    assert job.remaining.is_empty
    assert job.recipe.grey == "pillow"
    more = job_in(folder, layer=("block1_pool", "block2_pool"))
    assert more.recipe.grey == "pillow"
    with pytest.raises(RecipeMismatchError, match="--grey pillow"):
        job_in(folder, grey="tags")
    with pytest.raises(RecipeMismatchError, match="--grey pillow no --white"):
        job_in(folder, white=4095)


def test_dark_images_are_counted_in_one_note(tmp_path, caplog):
    """A run says how many images use a small part of their range."""
    (tmp_path / "data").mkdir()
    for i, largest in enumerate((4095, 4095, 65535)):
        (tmp_path / f"data/{i}.tif").write_bytes(tiff(samples(largest, "<u2"), 16))
    with caplog.at_level(logging.WARNING):
        run(job_in(tmp_path))
    (note,) = [each.getMessage() for each in caplog.records if "--white" in each.getMessage()]
    assert note.startswith("2 images")
    caplog.clear()
    run(job_in(tmp_path, white=4095, output=tmp_path / "white.h5"))
    notes = [each.getMessage() for each in caplog.records]
    assert any("1 image is brighter than --white 4095" in each for each in notes)
    assert not any(each.startswith("2 images") for each in notes)
    assert open_store(tmp_path / "white.h5").recipe.white == 4095
