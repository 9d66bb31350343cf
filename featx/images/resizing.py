"""Fitting a picture to the network's size: squash, crop or pad.

An RGB picture of any size comes in, one of exactly the size asked for goes
out. Everything is one antialiased bilinear resampling by Pillow; a picture
that has the size already keeps its pixels. This file knows no file and no mode
but RGB.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from featx.choices import Resize
from featx.errors import ImageError
from featx.recipe import SCALE_STEP

__all__ = ["PAD_COLOUR", "Box", "array_views", "resize_array", "resized", "scaled_size", "surplus"]

#: ImageNet's mean to within one grey level, so that a border is about zero for the network.
PAD_COLOUR = (124, 117, 104)

#: Left, top, right, bottom; edges may lie inside a pixel.
Box = tuple[float, float, float, float]

_LONGEST = 4

_BILINEAR = Image.Resampling.BILINEAR


def resized(
    image: Image.Image, size: tuple[int, int], resize: Resize, box: Box | None = None
) -> Image.Image:
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
    box : tuple of float, optional
        Where the picture lies in `image`; all of it by default.

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
    if image.size == (width, height) and box is None:
        return image
    if resize == "squash":
        return image.resize((width, height), _BILINEAR, box=box)
    if resize == "crop":
        whole = box or (0.0, 0.0, float(image.width), float(image.height))
        return image.resize((width, height), _BILINEAR, box=_middle(whole, size))
    return _padded(image, size, box)


def scaled_size(shape: tuple[int, int], scale: int) -> tuple[int, int]:
    """Return the (height, width) of a picture whose shorter side becomes `scale`.

    Its aspect is kept as far as sides of multiples of 32 allow. One that is more
    than 4 to 1 becomes 4 to 1: a network applied to the whole of a longer one would
    take memory without bound.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the picture.
    scale : int
        Pixels, a multiple of 32.

    Examples
    --------
    >>> scaled_size((375, 500), 256), scaled_size((1000, 10), 64)
    ((256, 352), (256, 64))
    """
    shorter, longer = min(shape), max(shape)
    long_side = (
        min(round(scale * longer / shorter / SCALE_STEP), _LONGEST * scale // SCALE_STEP)
        * SCALE_STEP
    )
    return (scale, long_side) if shape[0] <= shape[1] else (long_side, scale)


def surplus(image: tuple[int, int], size: tuple[int, int], resize: Resize) -> float:
    """Return how many times a picture of (width, height) is larger than `resized` makes it.

    Of the two directions, the one in which that is less counts.

    Examples
    --------
    >>> surplus((400, 300), (100, 100), "crop"), surplus((400, 300), (100, 100), "pad")
    (3.0, 4.0)
    """
    height, width = size
    inner = _inside(image, size) if resize == "pad" else (width, height)
    return min(image[0] / inner[0], image[1] / inner[1])


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


def array_views(
    array: np.ndarray, size: tuple[int, int], resize: Resize, scales: Sequence[int] = ()
) -> tuple[np.ndarray, ...]:
    """Return an array at `size`, or at each of some scales, as `read_image` makes them.

    Parameters
    ----------
    array : ndarray of shape (h, w, 3), uint8
        RGB pixels.
    size, resize
        See `resize_array`.
    scales : sequence of int, optional
        Shorter sides, instead.

    Raises
    ------
    ImageError
        The array is no RGB picture of bytes.
    """
    sizes = [scaled_size(array.shape[:2], scale) for scale in scales] or [size]
    return tuple(resize_array(array, each, "squash" if scales else resize) for each in sizes)


def _middle(whole: Box, size: tuple[int, int]) -> Box:
    """Return the largest centred box of the shape of `size` inside another."""
    left, top, right, bottom = whole
    across, down = right - left, bottom - top
    height, width = size
    if across * height <= down * width:  # the picture is the narrower one: full width
        box_width, box_height = across, max(1.0, across * height / width)
    else:
        box_width, box_height = max(1.0, down * width / height), down
    left, top = left + (across - box_width) / 2, top + (down - box_height) / 2
    # Rounding must not push an edge out of the picture: Pillow refuses that.
    return left, top, min(right, left + box_width), min(bottom, top + box_height)


def _inside(shape: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which a picture just fits inside `size`."""
    height, width = size
    scale = min(width / shape[0], height / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _padded(image: Image.Image, size: tuple[int, int], box: Box | None) -> Image.Image:
    """Scale a picture to fit inside `size` and put it in the middle of a canvas."""
    height, width = size
    left, top, right, bottom = box or (0.0, 0.0, float(image.width), float(image.height))
    inner = _inside((right - left, bottom - top), size)
    alone = inner == image.size and box is None
    scaled = image if alone else image.resize(inner, _BILINEAR, box=box)
    if inner == (width, height):
        return scaled
    canvas = Image.new("RGB", (width, height), PAD_COLOUR)
    canvas.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas
