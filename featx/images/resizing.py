"""Fitting a picture to the network's size: squash, crop or pad.

An RGB picture of any size comes in, one of exactly the size asked for goes
out. Everything is one antialiased bilinear resampling by Pillow; a picture
that has the size already keeps its pixels. This file knows no file and no mode
but RGB.
"""

import numpy as np
from PIL import Image

from featx.errors import ImageError
from featx.recipe import Resize

__all__ = ["PAD_COLOUR", "resize_array", "resized"]

#: ImageNet's mean to within one grey level, so that a border is about zero for the network.
PAD_COLOUR = (124, 117, 104)

_BILINEAR = Image.Resampling.BILINEAR


def resized(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """Return an RGB picture at `size`.

    Parameters
    ----------
    image : PIL.Image.Image
        An RGB picture; it is left as it is.
    size : tuple of int
        (height, width) in pixels.
    resize : {"squash", "crop", "pad"}
        * squash stretches the whole picture;
        * crop takes the largest box of the right shape out of the middle;
        * pad shows the whole picture, unstretched, between borders of
          `PAD_COLOUR`.

    Returns
    -------
    PIL.Image.Image
        `image` itself if it has the size already.

    Examples
    --------
    >>> resized(Image.new("RGB", (400, 300)), (224, 112), "crop").size
    (112, 224)
    """
    height, width = size
    if image.size == (width, height):
        return image
    if resize == "squash":
        return image.resize((width, height), _BILINEAR)
    if resize == "crop":
        return image.resize((width, height), _BILINEAR, box=_middle(image.size, size))
    return _padded(image, size)


def resize_array(array: np.ndarray, size: tuple[int, int], resize: Resize) -> np.ndarray:
    """Return the pixels of an array at `size`, as `resized` makes them.

    Parameters
    ----------
    array : ndarray of shape (h, w, 3), uint8
        RGB pixels; they are left as they are.
    size : tuple of int
        (height, width) in pixels.
    resize : {"squash", "crop", "pad"}
        As for `resized`.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        `array` itself if it has the size already.

    Raises
    ------
    ImageError
        The array is no RGB picture of bytes.

    Examples
    --------
    >>> resize_array(np.zeros((300, 400, 3), np.uint8), (224, 224), "pad").shape
    (224, 224, 3)
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        reason = (
            f"an array of shape {array.shape} and dtype {array.dtype}: "
            "expected (height, width, 3) and uint8"
        )
        raise ImageError(reason)
    if array.shape[:2] == size:
        return array
    return np.asarray(resized(Image.fromarray(array), size, resize))


def _middle(image: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred box of the shape of `size`: left, top, right, bottom."""
    across, down = image
    height, width = size
    if across * height <= down * width:  # the picture is the narrower one: full width
        box_width, box_height = float(across), max(1.0, across * height / width)
    else:
        box_width, box_height = max(1.0, down * width / height), float(down)
    left, top = (across - box_width) / 2, (down - box_height) / 2
    # Rounding must not push an edge out of the picture: Pillow refuses that.
    return left, top, min(float(across), left + box_width), min(float(down), top + box_height)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture to fit inside `size` and put it in the middle of a canvas."""
    height, width = size
    scale = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    scaled = image if inner == image.size else image.resize(inner, _BILINEAR)
    if inner == (width, height):
        return scaled
    canvas = Image.new("RGB", (width, height), PAD_COLOUR)
    canvas.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas
