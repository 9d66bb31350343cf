"""Signs that an image which was decoded without an error is not whole.

A file and its decoded pixels come in; an error whose message is the reason goes out, if a part
of the image was lost. Some decoders fill what is missing with grey or black, or decode zeros,
as a download that stopped leaves at the end of a file. The signs are cheap to look for, and sound
images do not have them:

* JPEG: zeros in the compressed data that cannot mean "as before"; grey to the end although the
  data before the end says something else; a progressive image without all its scans;
* PNG: fewer rows in the compressed data than in the header;
* WebP, AVIF, HEIC and JPEG 2000: zeros at the end of the compressed data;
* BMP, DIB, PPM and TIFF without compression: black that begins within a row, below a row without
  any black pixel, and ends in the same way or with the file.

What cannot be seen: in a file without compression, lost rows that begin with a row, and changed
bytes; in a progressive JPEG, the end of its last scan; in AVIF, HEIC and JPEG 2000, zeros that
are not at the end. This module decodes no image.
"""

import re
import zlib
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.errors import ImageError
from featx.images.reasons import TRUNCATED, ZEROS

__all__ = ["check_whole"]

# More than 99 bytes are searched for in a faster way.
_RUN = bytes(128)
# Correction bits of a progressive JPEG may be zeros; encoders write at most 1,000 in a row.
_LONG_RUN = bytes(256)

_ROWS = 8  # at least so many rows are lost if a file without compression ends in zeros


def check_whole(image: Image.Image, data: bytes, format_: str) -> None:
    """Refuse an image of which a part is missing.

    Parameters
    ----------
    image : PIL.Image.Image
        The decoded image.
    data : bytes
        Its file.
    format_ : str
        Its format, such as "JPEG".

    Raises
    ------
    ImageError
        A part is missing.
    """
    if format_ == "JPEG":
        reason = _jpeg_reason(image, data)
    elif format_ == "PNG":
        reason = TRUNCATED if _lacks_rows(image, data) else None
    elif format_ == "WEBP":
        reason = _zeros_reason(data, format_) if _webp_has_zeros(data) else None
    elif format_ in _UNCOMPRESSED:
        reason = _raw_reason(image, data, format_) if _LONG_RUN in data else None
    elif not data.endswith(_RUN):
        reason = None
    elif format_ == "JPEG2000":
        reason = None if data.rstrip(b"\0").endswith(b"\xff\xd9") else ZEROS
    else:
        reason = ZEROS if format_ in {"AVIF", "HEIC"} and _last_box(data) == b"mdat" else None
    if reason:
        raise ImageError(reason)


# JPEG


class _Scan(NamedTuple):
    """A scan of a JPEG: its coefficients, and where its compressed data is."""

    components: tuple[int, ...]
    first: int  # of the coefficients; 0 is the mean of a block
    last: int
    high: int  # bits that an earlier scan has left out, or 0
    low: int  # bits that this scan leaves out
    zeros: tuple[int, ...]  # the symbols that a run of zeros means, by component
    start: int
    end: int


_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE, _ARITHMETIC = {0xC2, 0xCA}, {0xC9, 0xCA, 0xCB}

# The end of compressed data: a marker that is neither a stuffed byte nor a restart.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def _jpeg_reason(image: Image.Image, data: bytes) -> str | None:
    """Return the reason why a decoded JPEG is not whole, if it is not."""
    zeros = data.find(_RUN) >= 0
    corner = image.getpixel((image.width - 1, image.height - 1))
    grey = all(127 <= each <= 128 for each in _bands(corner))
    progressive = "progressive" in image.info
    if not (zeros or grey or progressive):
        return None
    frame, shape, scans = _scans(data)
    if zeros:
        for scan in scans:
            if _has_false_zeros(data, scan, frame):
                return _zeros_reason(data[: scan.end], "JPEG")
    if progressive and not _is_complete(scans):
        return TRUNCATED
    if grey and scans and not progressive and _ends_in_grey(image, data, shape, scans[-1]):
        return TRUNCATED
    return None


def _zeros_reason(data: bytes, format_: str) -> str:
    """Return the reason for zeros in compressed data: at its end, or within it."""
    if data.endswith(bytes(64)):
        return ZEROS
    return f"damaged {format_}: zeros in the middle of its compressed data"


def _scans(data: bytes) -> tuple[int, tuple[int, int], list[_Scan]]:
    """Return the marker of the frame of a JPEG, its (height, width), and its scans."""
    tables: dict[int, int] = {}  # the first symbol of each Huffman table; its code is all zeros
    frame, shape, scans, at = 0, (0, 0), [], 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            break
        if marker in {0x00, 0x01, *range(0xD0, 0xD9)}:
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : end]
        if marker in _FRAMES:
            frame = marker
            shape = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
        elif marker == 0xC4:
            tables |= _first_symbols(segment)
        elif marker == 0xDA and len(segment) >= 4:
            found = _MARKER.search(data, end)
            scans.append(_scan(segment, tables, end, found.start() if found else len(data)))
            end = scans[-1].end
        at = end
    return frame, shape, scans


def _first_symbols(segment: bytes) -> Iterator[tuple[int, int]]:
    """Yield the name of each table of a segment, and its first symbol."""
    while len(segment) > 17:
        n = sum(segment[1:17])
        yield segment[0], segment[17]
        segment = segment[17 + n :]


def _scan(segment: bytes, tables: dict[int, int], start: int, end: int) -> _Scan:
    """Read the header of a scan."""
    n = segment[0]
    pairs = [(segment[1 + 2 * i], segment[2 + 2 * i]) for i in range(n) if 2 + 2 * i < len(segment)]
    first, last, bits = segment[-3:]
    zeros = tuple(tables.get(0x10 | table & 15, 0) for _, table in pairs)
    return _Scan(tuple(c for c, _ in pairs), first, last, bits >> 4, bits & 15, zeros, start, end)


def _has_false_zeros(data: bytes, scan: _Scan, frame: int) -> bool:
    """Return whether a scan has a run of zeros that an encoder does not write.

    A block that is as the one before is "no difference, end of block", and encoders may give
    both the code of zeros only. So a run of zeros is sound where it means the end of a block,
    and in scans of the means.
    """
    if frame in _ARITHMETIC:
        return data.find(_RUN, scan.start, scan.end) >= 0
    if frame in _PROGRESSIVE:
        ends_block = any(symbol & 15 == 0 for symbol in scan.zeros)
        run = _LONG_RUN if scan.high else _RUN
        return not ends_block and scan.first > 0 and data.find(run, scan.start, scan.end) >= 0
    ends_block = all(symbol == 0 for symbol in scan.zeros)
    return not ends_block and data.find(_RUN, scan.start, scan.end) >= 0


def _is_complete(scans: list[_Scan]) -> bool:
    """Return whether the scans have all bits of all coefficients of each component."""
    missing = {each: np.full(64, 16) for scan in scans for each in scan.components}
    for scan in scans:
        for each in scan.components:
            missing[each][scan.first : scan.last + 1] = scan.low
    return not any(bits.any() for bits in missing.values())


def _ends_in_grey(image: Image.Image, data: bytes, shape: tuple[int, int], scan: _Scan) -> bool:
    """Return whether the end of the image is grey, but not by the end of the compressed data.

    What is missing is decoded as grey. In a sound image, the same bits repeat for each of the
    grey blocks; of a block, each component takes two bits or more.
    """
    pixels = np.asarray(image)
    rows = (pixels == pixels[-1, -1]).reshape(len(pixels), -1).all(axis=1)
    n_rows = len(rows) if rows.all() else int(np.argmin(rows[::-1]))
    # The image may be decoded at a fraction of its size.
    block = 64 if len(scan.components) == 1 else 256
    n_blocks = n_rows * shape[0] // len(rows) * shape[1] // block
    tail = data[scan.start : scan.end].replace(b"\xff\0", b"\xff")
    tail = re.split(rb"\xff[\xd0-\xd7]", tail[-4096:])[-1][:-1]  # the last byte is padded
    n_bytes = min(len(tail), 64, n_blocks * 2 * len(scan.components) // 8)
    if n_bytes < 25:  # too few for a pattern
        return False
    bits = "".join(f"{byte:08b}" for byte in tail[-n_bytes:])
    return not any(bits[n:] == bits[:-n] for n in range(1, len(bits) // 2))


# PNG

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: For each pass of an interlaced PNG: first column, first row, step of columns, step of rows.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def _lacks_rows(image: Image.Image, data: bytes) -> bool:
    """Return whether the compressed data of a PNG has fewer rows than its header says.

    Missing rows are decoded as zeros, so only then the data is counted.
    """
    width, height = image.size
    interlaced = data[28] != 0
    last = height - 1 - (height % 2 if interlaced and height > 1 else 0)
    # `Image.crop` applies Pillow's own limit of pixels.
    row = image._new(image.im.crop((0, last, width, last + 1)))
    if any(_bands(row.getextrema())):
        return False
    bits = data[24] * _CHANNELS.get(data[25], 1)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    return _unpacked_size(data, expected) < expected


def _unpacked_size(data: bytes, limit: int) -> int:
    """Return the size of the unpacked pixels of a PNG, counted up to a limit."""
    unpacker, n = zlib.decompressobj(), 0
    for part in _chunks(data, 8, b"IDAT", "big"):
        packed = part
        while packed and n < limit:
            n += len(unpacker.decompress(packed, 1 << 16))
            packed = unpacker.unconsumed_tail
    return n


def _chunks(data: bytes, at: int, name: bytes, order: Any) -> Generator[bytes, None, None]:
    """Yield the content of the chunks of a name, of a PNG or, in the other order, of a WebP."""
    while at + 8 <= len(data):
        head = data[at : at + 8]
        length, found = (head[:4], head[4:]) if order == "big" else (head[4:], head[:4])
        n = int.from_bytes(length, order)
        if found == name:
            yield data[at + 8 : at + 8 + n]
        at += n + 12 if order == "big" else 8 + n + n % 2


# other formats

_UNCOMPRESSED = {"BMP", "DIB", "PPM", "TIFF"}


def _webp_has_zeros(data: bytes) -> bool:
    """Return whether the compressed data of a WebP has a run of zeros."""
    if data.find(_RUN) < 0:
        return False
    lossy = any(_RUN in part for part in _chunks(data, 12, b"VP8 ", "little"))
    return lossy or any(_LONG_RUN in part for part in _chunks(data, 12, b"VP8L", "little"))


def _last_box(data: bytes) -> bytes:
    """Return the type of the last box of an ISO media file."""
    at, name = 0, b""
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length < 8:
            break
        at += length
    return name


def _raw_reason(image: Image.Image, data: bytes, format_: str) -> str | None:
    """Return the reason why rows of an uncompressed file were lost, if they were.

    The rows that are black begin within a row, below a row without any black pixel, and they
    end in the same way, or with the file.
    """
    pixels: Any = np.asarray(image)
    light = pixels.reshape(*pixels.shape[:2], -1).any(axis=2)
    height_at = {"BMP": 22, "DIB": 8}.get(format_)
    if height_at and not data[height_at + 3] & 0x80:  # the rows are from the bottom to the top
        light = light[::-1]
    black = ~light.any(axis=1)
    first = int(np.argmax(black))
    after = first + int(np.argmin(black[first:])) if not black[first:].all() else len(black)
    if first < 2 or after - first < _ROWS or not _is_edge(light[first - 2], light[first - 1]):
        return None
    if after == len(black):
        return ZEROS
    if after + 1 < len(black) and _is_edge(light[after + 1][::-1], light[after][::-1]):
        return f"damaged {format_}: zeros in the middle of the pixels"
    return None


def _is_edge(whole: NDArray[np.bool_], cut: NDArray[np.bool_]) -> bool:
    """Return whether one row has no black pixel, and another one only from a place to its end."""
    n_kept = int(np.argmin(cut))
    return bool(whole.all()) and n_kept > 0 and not cut[n_kept:].any()


def _bands(values: Any) -> list[Any]:
    """Return the values of bands, or extrema of bands, as a flat list."""
    if not isinstance(values, tuple):
        return [values]
    return [each for value in values for each in _bands(value)]
