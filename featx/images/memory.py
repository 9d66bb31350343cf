"""Images in memory: an array, an image of Pillow or the bytes of a file become RGB pixels.

An image as a program has it comes in; an array of shape (height, width, 3), or a `Bytes` that is
read like a file, goes out. This module does not know lists or networks.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from featx.errors import ImageError, OptionError
from featx.images.colours import to_rgb
from featx.images.grey import BY_TAGS, GreyRule, samples_of
from featx.images.urls import Bytes, File, as_file, check_file

__all__ = ["as_rgb", "check_batch", "image_of"]


def as_rgb(item: Any) -> NDArray[np.uint8]:
    """Return an array in RGB; grey is repeated.

    Raises
    ------
    OptionError
        It is not of uint8, or not of shape (height, width) or (height, width, 3).
    """
    image = np.asarray(item)
    shaped = image.ndim in {2, 3} and image.shape[2:] in {(), (3,)} and image.size
    if image.dtype != np.uint8 or not shaped:
        message = (
            "X must contain paths, or uint8 images of shape (n, height, width, 3), but it has an "
            f"item of shape {image.shape} and dtype {image.dtype}. Convert images with values from "
            "0 to 1 by (255 * X).round().astype('uint8')."
        )
        raise OptionError(message)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def check_batch(items: Any) -> None:
    """Refuse one array instead of a list of arrays: its rows would be taken for images.

    Raises
    ------
    OptionError
        `items` has the shape of one image.
    """
    shape: tuple[int, ...] = getattr(items, "shape", ())
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in {1, 3, 4}):
        message = (
            f"An array of shape {shape} is one image, and a list of images was expected. Use "
            "[image], or an array of shape (n, height, width, 3)."
        )
        raise OptionError(message)


def image_of(item: Any, grey: GreyRule = BY_TAGS) -> File | Bytes | NDArray[np.uint8]:
    """Return an image as a file to read, or as RGB pixels.

    Parameters
    ----------
    item : Path, str, bytes, file object, PIL.Image.Image or ndarray
        A path or URL; the content of an image file, or a file that is open for reading bytes; or
        pixels. The EXIF orientation of a Pillow image is applied.
    grey : GreyRule, optional
        How a Pillow image of more than 8 bits becomes 8 bits.

    Raises
    ------
    ImageError
        The file object or the Pillow image cannot be read.
    OptionError
        It is something else.
    """
    match item:
        case str() | Path():
            return check_file(as_file(item))
        case bytes() | bytearray() | memoryview():
            return Bytes(bytes(item))
        case np.ndarray():
            return as_rgb(item)
        case Image.Image():
            return np.asarray(_decoded(item, grey))
    if not callable(getattr(item, "read", None)):
        message = (
            f"An image of type {type(item).__name__} was given. Use an array of uint8, a Pillow "
            "image, bytes, a file that is open for reading bytes, or a path."
        )
        raise OptionError(message)
    try:
        data = item.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed, or is read as text
        message = f"the file object cannot be read: {error}"
        raise ImageError(message) from error
    if not isinstance(data, bytes):
        message = "The file object gives text. Open it for reading bytes: open(path, 'rb')"
        raise OptionError(message)
    return Bytes(data)


def _decoded(image: Image.Image, grey: GreyRule) -> Image.Image:
    try:
        samples = samples_of(image) if grey.name == "tags" else None
        if samples is not None and samples.colour:
            samples = None  # Pillow has only the upper 8 bits
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return to_rgb(image, samples, grey.white)
    except ImageError:
        raise
    except Exception as error:  # decoders raise any exception on damaged data
        message = f"the Pillow image cannot be decoded: {error}"
        raise ImageError(message) from error
