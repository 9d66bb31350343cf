"""Resizing an image to the input of the network: squash, crop or pad.

An RGB image of any size comes in, and one of exactly the requested size goes out. Pillow
resizes in one step, bilinear and antialiased; an image that has the size already keeps its
pixels. This module does not know files, or modes other than RGB.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from featx.choices import Resize
from featx.errors import ImageError
from featx.recipe import SCALE_STEP

__all__ = ["PAD_COLOUR", "Box", "array_views", "resized", "scaled_size", "surplus"]

#: Mean of ImageNet to within one grey level, so that the network sees borders as about zero.
PAD_COLOUR = (124, 117, 104)

#: Left, top, right, bottom; edges may be inside a pixel.
Box = tuple[float, float, float, float]

_MAX_ASPECT = 4

_BILINEAR = Image.Resampling.BILINEAR


def resized(
    image: Image.Image, size: tuple[int, int], resize: Resize, box: Box | None = None
) -> Image.Image:
    """Return an RGB image at `size`.

    Parameters
    ----------
    image : PIL.Image.Image
        An RGB image; it is not changed.
    size : tuple of int
        (height, width) in pixels.
    resize : {"squash", "crop", "pad"}
        * squash stretches the whole image;
        * crop takes the largest centred box with the aspect ratio of `size`;
        * pad keeps the whole image and its aspect ratio, and adds borders of `PAD_COLOUR`.
    box : tuple of float, optional
        The part of `image` to use; all of it by default.

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
    if resize == "pad":
        return _padded(image, size, box)
    if resize == "crop":
        whole = box or (0.0, 0.0, float(image.width), float(image.height))
        box = _centred(whole, size)
    return image.resize((width, height), _BILINEAR, box=box)


def scaled_size(shape: tuple[int, int], scale: int) -> tuple[int, int]:
    """Return the (height, width) of an image whose shorter side becomes `scale`.

    The aspect ratio is kept as far as multiples of 32 allow. Ratios above 4 to 1 become 4 to
    1, because the memory of the network grows with the longer side.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the image.
    scale : int
        Pixels, a multiple of 32.

    Examples
    --------
    >>> scaled_size((375, 500), 256), scaled_size((1000, 10), 64)
    ((256, 352), (256, 64))
    """
    steps = round(scale * max(shape) / min(shape) / SCALE_STEP)
    longer = min(steps, _MAX_ASPECT * scale // SCALE_STEP) * SCALE_STEP
    return (scale, longer) if shape[0] <= shape[1] else (longer, scale)


def surplus(image: tuple[int, int], size: tuple[int, int], resize: Resize) -> float:
    """Return how many times an image of (width, height) is larger than its resized content.

    The smaller of the factors for width and height counts.

    Examples
    --------
    >>> surplus((400, 300), (100, 100), "crop"), surplus((400, 300), (100, 100), "pad")
    (3.0, 4.0)
    """
    height, width = size
    inner = _inside(image, size) if resize == "pad" else (width, height)
    return min(image[0] / inner[0], image[1] / inner[1])


def array_views(
    array: np.ndarray, size: tuple[int, int], resize: Resize, scales: Sequence[int] = ()
) -> tuple[np.ndarray, ...]:
    """Return the pixels of an array at `size`, or at each of some scales, as `read_image` does.

    Parameters
    ----------
    array : ndarray of shape (h, w, 3), uint8
        RGB pixels.
    size : tuple of int
        (height, width) of the result.
    resize : {"squash", "crop", "pad"}
        See `resized`.
    scales : sequence of int, optional
        Shorter sides, instead of `size` and `resize`.

    Returns
    -------
    tuple of ndarray, each of shape (height, width, 3), uint8

    Raises
    ------
    ImageError
        The array is not an RGB image of bytes.

    Examples
    --------
    >>> (view,) = array_views(np.zeros((300, 400, 3), np.uint8), (224, 224), "pad")
    >>> view.shape
    (224, 224, 3)
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        reason = (
            f"an array of shape {array.shape} and dtype {array.dtype}: "
            "expected (height, width, 3) and uint8"
        )
        raise ImageError(reason)
    image = Image.fromarray(array)
    sizes = [scaled_size(array.shape[:2], scale) for scale in scales] or [size]
    return tuple(np.asarray(resized(image, each, "squash" if scales else resize)) for each in sizes)


def _centred(whole: Box, size: tuple[int, int]) -> Box:
    """Return the largest centred box with the aspect ratio of `size` inside another box."""
    left, top, right, bottom = whole
    full_width, full_height = right - left, bottom - top
    height, width = size
    if full_width * height <= full_height * width:  # the image is the narrower one
        box_width, box_height = full_width, max(1.0, full_width * height / width)
    else:
        box_width, box_height = max(1.0, full_height * width / height), full_height
    left, top = left + (full_width - box_width) / 2, top + (full_height - box_height) / 2
    # Pillow refuses an edge that rounding moved outside the image.
    return left, top, min(right, left + box_width), min(bottom, top + box_height)


def _inside(shape: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (width, height) inside `size` with an image's aspect ratio."""
    height, width = size
    scale = min(width / shape[0], height / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _padded(image: Image.Image, size: tuple[int, int], box: Box | None) -> Image.Image:
    """Scale an image to fit inside `size`, and centre it between borders."""
    height, width = size
    left, top, right, bottom = box or (0.0, 0.0, float(image.width), float(image.height))
    inner = _inside((right - left, bottom - top), size)
    unchanged = inner == image.size and box is None
    scaled = image if unchanged else image.resize(inner, _BILINEAR, box=box)
    if inner == (width, height):
        return scaled
    canvas = Image.new("RGB", (width, height), PAD_COLOUR)
    canvas.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas
