"""Reasons: why bytes are not an image that featx decodes, in a few words.

Bytes, or bytes and the exception of a decoder, come in; the reason goes out. There are four kinds:

* the bytes are something else, such as an HTML page that a server sent instead of an image;
* **unsupported**: a sound image of a kind that Pillow, or featx, does not decode. Converting it
  helps;
* **truncated**: the file ends too early. A new copy of it helps;
* **damaged**: bytes in the file are wrong.

This module decodes nothing. The reason does not repeat the path: the caller adds it.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from featx.images.heic import INSTALL_HEIC
from featx.images.pillow import other_pillow_classes, tiff_tags

__all__ = ["TRUNCATED", "ZEROS", "damage", "stranger"]

TRUNCATED = "truncated: the file ends before the image is complete"
ZEROS = "truncated: the file ends in zeros, as after a download that stopped"

_SAVE_AS = "save it as PNG or JPEG"

#: What files begin with that are often named like images, and what they are.
_STRANGERS = {
    rb"version https://git-lfs\.github\.com/spec": (
        "a Git LFS pointer, not an image: download the file with git lfs pull"
    ),
    rb"\s*(<!DOCTYPE html|<html|<head|<!--.{0,200}<html)": (
        "an HTML page, not an image: the server may have sent an error page; download the file "
        "again"
    ),
    rb"\s*(<\?xml.{0,400})?(<!DOCTYPE svg|<!--.{0,400}-->\s*<svg|<svg)": (
        f"unsupported: SVG is a vector format: {_SAVE_AS}"
    ),
    rb"\s*<\?xml|\s*<[A-Za-z]": "an XML file, not an image: download the file again",
    rb"\s*[{[]\s*[\"{\[}\]]": "a JSON text, not an image: download the file again",
    rb".{128}DICM": f"unsupported: DICOM: export it as 16-bit PNG or TIFF, or {_SAVE_AS}",
    rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n": f"unsupported: JPEG XL: {_SAVE_AS}",
    rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)": (
        f"unsupported: HEIC needs the package pillow-heif: {INSTALL_HEIC}"
    ),
    rb"....ftyp": "a video, not an image: extract a frame of it",
    rb"II\xbc\x01": f"unsupported: JPEG XR: {_SAVE_AS}",
    rb"%PDF": f"unsupported: PDF: {_SAVE_AS}",
    rb"%!PS|\xc5\xd0\xd3\xc6": f"unsupported: EPS: {_SAVE_AS}",
    rb"\x76\x2f\x31\x01": f"unsupported: OpenEXR: {_SAVE_AS}",
    rb"#\?(RADIANCE|RGBE)": f"unsupported: Radiance HDR: {_SAVE_AS}",
    rb"gimp xcf": f"unsupported: a GIMP project: {_SAVE_AS}",
    rb"farbfeld": f"unsupported: farbfeld: {_SAVE_AS}",
    rb"P7\n": f"unsupported: PAM: {_SAVE_AS}",
    rb"FUJIFILMCCD-RAW|.{0,4}HEAPCCDR": f"unsupported: a camera's raw file: {_SAVE_AS}",
    rb"\x93NUMPY": f"unsupported: a NumPy array: {_SAVE_AS}",
    rb"\x89HDF\r\n": "an HDF5 file, not an image",
    rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ": "an archive, not an image: unpack it",
    rb"\0\x05\x16[\0\x07]": "a macOS resource file, not an image: delete it",
    rb"\0+\Z": "damaged: the file contains only zeros, so it was not written completely",
}

_STRANGE = {re.compile(start, re.DOTALL | re.IGNORECASE): is_ for start, is_ in _STRANGERS.items()}

# Formats of Pillow that any file could be: by its header, and by its first bytes.
_NOT_OPENED, _NOT_ACCEPTED = {"TGA", "MPEG"}, {"TGA", "MPEG", "CUR", "XBM", "GBR"}

# Phrases of decoders for files that are sound, but of a kind that they do not read.
_UNSUPPORTED = re.compile(
    r"unsupported|not (yet )?(supported|implemented|configured)|unknown pixel mode|unimplemented"
    r"|unable to determine \w+ image mode|cannot handle|can ?not decode"
    r"|unknown \w+ (mode|map depth)",
    re.IGNORECASE,
)

_TRUNCATED = re.compile(
    # struct raises "requires a buffer" for a header that ends too early.
    r"truncated|requires a buffer|only got \d|not enough data|unexpected end",
    re.IGNORECASE,
)

_PHOTOMETRIC = {
    0: "grey (WhiteIsZero)",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    32803: "camera raw",
    32844: "LogL",
    32845: "LogLuv",
    34892: "camera raw",
}
_SAMPLES = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}


def stranger(data: bytes) -> str:
    """Return the reason for bytes that are in none of the decoded formats.

    Examples
    --------
    >>> stranger(b"%PDF-1.7")
    'unsupported: PDF: save it as PNG or JPEG'
    """
    start = data if not data.strip(b"\0") else data[:1024]
    for pattern, reason in _STRANGE.items():
        if pattern.match(start):
            return reason
    name = _other_format(data)
    if name:
        return f"unsupported: {name}: {_SAVE_AS}"
    return "not an image that Pillow can read"


def damage(error: Exception, data: bytes, name: str, lines: Sequence[str] = ()) -> str:
    """Return the reason for an exception of a decoder.

    Parameters
    ----------
    error : Exception
        The exception.
    data : bytes
        The file.
    name : str
        Its format, such as "PNG".
    lines : sequence of str
        Errors that the decoder printed.
    """
    if isinstance(error, MemoryError):
        return "too many pixels: scale it down"
    text = lines[-1] if lines else " ".join(str(error).split()) or type(error).__name__
    said = " ".join([*lines, text])
    if name == "TIFF" and str(error) == "unknown pixel mode":
        return _unsupported_tiff(data)
    if isinstance(error, NotImplementedError) or _UNSUPPORTED.search(said):
        kind = re.sub(rf"^unsupported ({name} )?", "", text, flags=re.IGNORECASE)
        return f"unsupported {name}: {kind}: {_SAVE_AS}"
    # libtiff says "not enough data" of wrong bytes too.
    ended = isinstance(error, EOFError) or isinstance(error.__cause__, EOFError)
    says_so = ended or (not lines and _TRUNCATED.search(text))
    zeros = name not in {"BMP", "TIFF"} and data.endswith(bytes(64))
    if says_so or zeros or _ends_early(data, name):
        return ZEROS if data.endswith(bytes(64)) else TRUNCATED
    if text == "not identified by this driver":
        text = "its header gives no size or no colours"
    return f"damaged {name}: {text}"


def _other_format(data: bytes) -> str | None:
    """Return the name of the format of Pillow that accepts a file, if there is one.

    Formats that open the header come first, since the first bytes alone say little.
    """
    formats = other_pillow_classes()
    for name, (factory, _) in formats.items():
        if name not in _NOT_OPENED and _succeeds(factory, io.BytesIO(data)):
            return name
    for name, (_, accept) in formats.items():
        if name not in _NOT_ACCEPTED and accept and _succeeds(accept, data[:16]):
            return name
    return None


def _succeeds(function: Callable[..., Any], argument: object) -> bool:
    """Return whether a function returns something true; those of Pillow raise any exception."""
    try:
        result = function(argument)
    except Exception:
        return False
    return bool(result) and not isinstance(result, str)


def _ends_early(data: bytes, name: str) -> bool:
    """Return whether a file is shorter than its own header says."""
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") > len(data) - 8
    if name == "TIFF":
        return _tiff_ends_early(data)
    if name == "JPEG2000" and data.startswith(b"\xff\x4f"):
        return not data.rstrip(b"\0").endswith(b"\xff\xd9")
    if name in {"AVIF", "HEIC", "JPEG2000"}:
        return _boxes_end_early(data)
    return False


def _boxes_end_early(data: bytes) -> bool:
    """Return whether the last box of an ISO media file reaches beyond its end."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length == 0:  # to the end of the file; a codestream has an end of its own
            return data[at + 4 : at + 8] == b"jp2c" and not data.endswith(b"\xff\xd9")
        if length < 8:
            return not data[at:].strip(b"\0")
        at += length
    return at != len(data)


def _tiff_ends_early(data: bytes) -> bool:
    """Return whether the directory of a TIFF, or a part of its pixels, is outside of the file."""
    order = "little" if data[:2] == b"II" else "big"
    start = int.from_bytes(data[4:8], order)  # type: ignore[arg-type]
    if start + 2 > len(data) or not data[start:].strip(b"\0"):
        return True
    n_tags = int.from_bytes(data[start : start + 2], order)  # type: ignore[arg-type]
    if start + 2 + 12 * n_tags > len(data):
        return True
    try:
        tags = tiff_tags(data)
        starts = tags.get(273) or tags.get(324) or ()
        lengths = tags.get(279) or tags.get(325) or ()
        return any(first + n > len(data) for first, n in zip(starts, lengths, strict=False))
    except Exception:  # the tags may be anything
        return False


def _unsupported_tiff(data: bytes) -> str:
    """Say which kind of pixels a TIFF has."""
    try:
        tags = tiff_tags(data)
        bits = tags.get(258, (1,))
        colours = _PHOTOMETRIC.get(tags.get(262), f"photometric {tags.get(262)}")
        samples = _SAMPLES.get(tags.get(339, (1,))[0], "unknown")
        n = tags.get(277, len(bits))
    except Exception as error:  # the tags may be anything
        return f"damaged TIFF: unknown pixels: {error}"
    each = f"{n} samples of {bits[0]} bits" if n > 1 else f"{bits[0]}-bit samples"
    return f"unsupported TIFF: {colours}, {each} ({samples}): save it as 8- or 16-bit grey or RGB"
