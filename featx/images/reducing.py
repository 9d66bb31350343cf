"""Decoding a large JPEG at a fraction of its size.

An opened JPEG comes in and is set to decode at a half, a quarter or an eighth; the box of the
image within the decoded pixels goes out. This module decodes nothing itself.
"""

from PIL import Image, JpegImagePlugin

from featx.choices import Resize
from featx.images.resizing import Box, surplus

__all__ = ["SIDEWAYS", "reduce_jpeg"]

# Times the final size; with 2, the mean difference is up to 1.1 grey levels.
_MIN_SURPLUS = 3

# Markers of frame headers; only DCT frames can be decoded at a fraction.
_DCT_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}

_Turn = Image.Transpose

#: Transpositions that swap the sides.
SIDEWAYS = {_Turn.TRANSPOSE, _Turn.ROTATE_270, _Turn.TRANSVERSE, _Turn.ROTATE_90}
# Transpositions that bring the right edge to the left, or the bottom edge to the top.
_TO_LEFT = {_Turn.FLIP_LEFT_RIGHT, _Turn.ROTATE_180, _Turn.ROTATE_270, _Turn.TRANSVERSE}
_TO_TOP = {_Turn.FLIP_TOP_BOTTOM, _Turn.ROTATE_180, _Turn.ROTATE_90, _Turn.TRANSVERSE}


def reduce_jpeg(
    image: JpegImagePlugin.JpegImageFile,
    data: bytes,
    size: tuple[int, int],
    resize: Resize,
    turn: Image.Transpose | None,
) -> Box | None:
    """Set a JPEG that is much larger than `size` to decode at a fraction.

    Parameters
    ----------
    image : PIL.JpegImagePlugin.JpegImageFile
        An opened image that is not decoded yet.
    data : bytes
        Its file.
    size : tuple of int
        (height, width) of the resized, upright image.
    resize : {"squash", "crop", "pad"}
        How the image gets that size.
    turn : PIL.Image.Transpose or None
        The transposition that makes the decoded image upright.

    Returns
    -------
    tuple of float or None
        Box of the image within the decoded and upright pixels: a side that is not divisible
        by the scale is rounded up. None if nothing changed.
    """
    shape = image.size[::-1] if turn in SIDEWAYS else image.size
    max_scale = surplus(shape, size, resize) / _MIN_SURPLUS
    scale = next((s for s in (8, 4, 2) if s <= max_scale), 1)
    if scale == 1 or _frame_marker(data) not in _DCT_FRAMES:
        return None
    # Without a mode, the decoder does not convert the colours.
    if image.draft(None, (image.width // scale, image.height // scale)) is None:
        return None
    width, height = shape[0] / scale, shape[1] / scale
    decoded = image.size[::-1] if turn in SIDEWAYS else image.size
    left = decoded[0] - width if turn in _TO_LEFT else 0.0
    top = decoded[1] - height if turn in _TO_TOP else 0.0
    return left, top, left + width, top + height


def _frame_marker(data: bytes) -> int:
    """Return the marker of a JPEG's frame header, or 0 if there is none."""
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:  # between two segments
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES or marker in {0xD9, 0xDA}:
            return marker if marker in _FRAMES else 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0
