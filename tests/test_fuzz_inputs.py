"""Malformed images and Parquet tables: they are read, or refused with a reason."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from campaigns import FAST, LONG, alone, checked, damage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from featx.errors import ImagesError
from featx.images import list_images

# Images


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (40, 48), dtype=np.uint16))
    return Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).convert(mode)


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = 6  # orientation
    return made


IMAGES = {
    "a.jpg": saved(noise(), "JPEG", exif=exif()),
    "progressive.jpg": saved(noise(), "JPEG", progressive=True),
    "cmyk.jpg": saved(noise("CMYK"), "JPEG"),
    "a.png": saved(noise(), "PNG", exif=exif()),
    "palette.png": saved(noise("P"), "PNG", transparency=3),
    "grey.png": saved(noise("I;16"), "PNG"),
    "a.gif": saved(noise("P"), "GIF"),
    "a.bmp": saved(noise(), "BMP"),
    "a.ppm": saved(noise(), "PPM"),
    "a.webp": saved(noise(), "WEBP"),
    "lzw.tif": saved(noise(), "TIFF", compression="tiff_lzw"),
    "grey.tif": saved(noise("I;16"), "TIFF"),
    "deflate.tif": saved(noise("RGBA"), "TIFF", compression="tiff_deflate"),
    "a.jp2": saved(noise(), "JPEG2000") if features.check("jpg_2000") else b"",
    "a.avif": saved(noise(), "AVIF") if features.check("avif") else b"",
    "a.tga": saved(noise(), "TGA"),
    "a.ico": saved(noise(), "ICO"),
}


def decode(worker, name, content):
    with alone(name) as folder:
        (folder / name).write_bytes(content)
        return checked(worker("image", folder / name))["reasons"]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_without_damage_is_decoded(name, worker):
    if not IMAGES[name]:
        pytest.skip("this Pillow cannot write the format")
    assert decode(worker, name, IMAGES[name]) == ["", ""]


def image_campaign(worker, limits):
    """Damage images of all formats; names may be those of other formats."""
    contents = [content for content in IMAGES.values() if content]
    damaged = st.one_of([damage(content) for content in contents])
    heads = st.sampled_from([content[:24] for content in contents])
    noisy = st.builds(lambda head, rest: head + rest, heads, st.binary(max_size=400))

    @limits
    @given(st.sampled_from(list(IMAGES)), st.one_of(damaged, damaged, damaged, noisy))
    def run(name, content):
        decode(worker, name, content)

    run()


def test_damaged_images_are_decoded_or_have_a_reason(worker):
    """Whatever the bytes are: no other exception, little memory, no file next to them."""
    image_campaign(worker, settings(FAST, max_examples=60))


@pytest.mark.slow
def test_many_damaged_images_are_decoded_or_have_a_reason(worker):
    """The same with more examples."""
    image_campaign(worker, settings(LONG, max_examples=1200))


# Parquet tables


def parquet(columns: dict, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


PATHS = ["a.png", "b.png", "../c.png"]
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 2, 3], "i4")), pa.py_buffer(b"\xff\xfea")]
)
TABLES = {
    "text": parquet({"path": PATHS, "label": ["cat", "dog", None], "split": ["train"] * 3}),
    "dictionary": parquet({"path": PATHS, "label": pa.array(["a", "b", None]).dictionary_encode()}),
    "numbers": parquet({"path": PATHS, "label": [1, 2, None]}),
    "no rows": parquet({"path": pa.array([], pa.string())}),
    "one codec": parquet({"path": PATHS, "group": ["x"] * 3}, compression="zstd"),
}
ODD_TABLES = {
    "lists": {"path": [["a.png"]] * 3},
    "objects": {"path": [{"x": "a.png"}] * 3},
    "bytes": {"path": [b"a.png"] * 3},
    "not UTF-8": {"path": NOT_UTF8},
    "labels not UTF-8": {"path": PATHS, "label": NOT_UTF8},
    "times": {"path": pa.array([0, 1, 2], pa.timestamp("ns"))},
    "nothing": {"path": [None] * 3},
    "zero bytes": {"path": ["a\0.png"] * 3},
    "other names": {"x": [1.5] * 3},
}


@pytest.fixture(scope="module")
def reader(worker, tmp_path_factory):
    """Return the process after its first extraction, which imports large libraries."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "t.parquet").write_bytes(TABLES["text"])
    assert worker("first", folder / "t.parquet", folder / "new.h5")["error"] is None
    return worker


def list_table(worker, content):
    with alone("t.parquet") as folder, tempfile.TemporaryDirectory() as other:
        (folder / "t.parquet").write_bytes(content)
        return checked(worker("manifest", folder / "t.parquet", Path(other) / "new.h5"))


@pytest.mark.parametrize("name", ODD_TABLES)
def test_odd_columns_are_refused(name, reader):
    """Values that are neither text nor whole numbers."""
    assert list_table(reader, parquet(ODD_TABLES[name]))["error"] is not None


def test_two_columns_of_a_name_are_no_crash(reader):
    """A table may have several columns of one name."""
    table = pa.Table.from_arrays([pa.array(PATHS)] * 2, names=["path", "path"])
    file = io.BytesIO()
    pq.write_table(table, file)
    list_table(reader, file.getvalue())


def table_campaign(worker, limits):
    @limits
    @given(st.one_of([damage(content) for content in TABLES.values()]))
    def run(content):
        list_table(worker, content)

    run()


def test_damaged_tables_are_read_or_refused(reader):
    """Whatever the bytes are: a list of images, or an error of featx."""
    table_campaign(reader, FAST)


@pytest.mark.slow
def test_many_damaged_tables_are_read_or_refused(reader):
    """The same with more examples."""
    table_campaign(reader, settings(LONG, max_examples=800))


def test_a_table_of_more_rows_than_bytes_is_refused(tmp_path):
    """20 million equal rows take 130 kB of Parquet, and would take gigabytes of memory."""
    indices = pa.array(np.zeros(20_000_000, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, ["a.png"])
    pq.write_table(pa.table({"path": column}), tmp_path / "t.parquet", row_group_size=20_000_000)
    with pytest.raises(ImagesError, match="20,000,000"):
        list_images(manifest=tmp_path / "t.parquet")


def test_rows_of_a_dictionary_share_their_texts(tmp_path):
    """A text of 10 MB in 500 rows is in memory once."""
    long = "x" * 10_000_000
    labels = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), [long])
    paths = [f"{k}.png" for k in range(500)]
    pq.write_table(pa.table({"path": paths, "label": labels}), tmp_path / "t.parquet")
    records = list_images(manifest=tmp_path / "t.parquet").records
    assert len({id(each.label) for each in records}) == 1
