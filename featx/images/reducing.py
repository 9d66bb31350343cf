"""Decoding a large JPEG at a part of its size.

An opened JPEG comes in and is told to decode at a half, a quarter or an eighth;
where the picture lies in what it will decode goes out. This file decodes
nothing itself.
"""

from PIL import Image, JpegImagePlugin

from featx.choices import Resize
from featx.images.resizing import Box, surplus

__all__ = ["SIDEWAYS", "reduce_jpeg"]

_LEAST = 3  # times the wanted size; with 2 the mean difference is up to 1.1 grey levels

#: Marks of the heads of pictures made of waves, which alone can be decoded in part.
_WAVES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_HEADS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}

_Turn = Image.Transpose

#: What swaps the sides.
SIDEWAYS = {_Turn.TRANSPOSE, _Turn.ROTATE_270, _Turn.TRANSVERSE, _Turn.ROTATE_90}
# What brings the right edge to the left; the lower one to the top.
_TO_LEFT = {_Turn.FLIP_LEFT_RIGHT, _Turn.ROTATE_180, _Turn.ROTATE_270, _Turn.TRANSVERSE}
_TO_TOP = {_Turn.FLIP_TOP_BOTTOM, _Turn.ROTATE_180, _Turn.ROTATE_90, _Turn.TRANSVERSE}


def reduce_jpeg(
    image: JpegImagePlugin.JpegImageFile,
    data: bytes,
    size: tuple[int, int],
    resize: Resize,
    turn: Image.Transpose | None,
) -> Box | None:
    """Let a JPEG that is much larger than `size` be decoded at less.

    Parameters
    ----------
    image : PIL.JpegImagePlugin.JpegImageFile
        Opened, not yet decoded.
    data : bytes
        Its file.
    size : tuple of int
        (height, width) of the resized picture, upright.
    resize : {"squash", "crop", "pad"}
        How it gets there.
    turn : PIL.Image.Transpose or None
        What will bring the decoded picture upright.

    Returns
    -------
    tuple of float or None
        Where the picture lies in the decoded one once that is upright; a side
        that the scale does not divide is rounded up. None where nothing changed.
    """
    shape = image.size[::-1] if turn in SIDEWAYS else image.size
    most = surplus(shape, size, resize) / _LEAST
    scale = next((s for s in (8, 4, 2) if s <= most), 1)
    if scale == 1 or _head(data) not in _WAVES:
        return None
    # No mode is asked for: the decoder leaves the colours as they are.
    if image.draft(None, (image.width // scale, image.height // scale)) is None:
        return None
    across, down = shape[0] / scale, shape[1] / scale
    decoded = image.size[::-1] if turn in SIDEWAYS else image.size
    left = decoded[0] - across if turn in _TO_LEFT else 0.0
    top = decoded[1] - down if turn in _TO_TOP else 0.0
    return left, top, left + across, top + down


def _head(data: bytes) -> int:
    """Return the mark that a JPEG's head has, which says how it is coded; 0 if there is none."""
    at = 2
    while at + 4 <= len(data):
        mark = data[at + 1]
        if data[at] != 0xFF or mark == 0xFF:  # between two segments
            at += 1
        elif mark in {0x00, 0x01, *range(0xD0, 0xD9)}:  # without a length
            at += 2
        elif mark in _HEADS or mark in {0xD9, 0xDA}:
            return mark if mark in _HEADS else 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0
