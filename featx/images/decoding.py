"""Decoding: one file becomes the pixels for the network, and what identifies the file.

A path or URL comes in; pixels at the size of the network, a thumbnail, a perceptual hash and the
digest of the bytes go out, or an error whose message is the reason in a few words. This module
does not know lists or labels. The message does not repeat the path: the caller adds it.

How a file becomes pixels is part of what makes a code, so each case has one rule:

* an orientation in EXIF (or XMP) is applied;
* of an animation, or of several pages, the first is read;
* colours become RGB by the rules of `featx.images.colours`, and grey of more than 8 bits by
  those of `featx.images.grey`;
* images are resized by the rules of `featx.images.resizing`;
* a damaged or truncated file is refused, never decoded in part;
* the format is found in the bytes, whatever the suffix is: JPEG, PNG, GIF, BMP, TIFF, WebP, PPM,
  AVIF, JPEG 2000, ICO (its largest image), DIB and, with pillow-heif, HEIC. Only TGA, whose bytes
  do not identify it, is found by its suffix. Other formats of Pillow are not for photographs, and
  some start other programs;
* an image with more pixels than a limit is refused before it is decoded, and so is an image more
  than a hundred times longer than wide. Pillow's own limit and switches, which belong to the
  whole program, change nothing (`featx.images.pillow`);
* with `jpeg="reduced"`, a JPEG is decoded at a half, a quarter or an eighth of its size if that is
  still three times the size for the network. The decoder then skips the highest frequencies of
  each block of 8x8 pixels, which resizing would average away: on photographs, the mean
  difference is below 0.5 of 255 grey levels, 99.9 % of the pixels are within 5 to 11, and all
  are within 17. Fine stripes and text are the worst case, with a mean of 6 and a maximum of 16
  (benchmarks/reduced_jpegs.py).

References
----------
.. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
   Functions", 2010. https://www.phash.org/docs/pubs/thesis_zauner.pdf
"""

import hashlib
import io
import struct
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from featx.choices import Jpeg, Resize
from featx.errors import ImageError
from featx.images.colours import to_rgb
from featx.images.grey import (
    BY_TAGS,
    Doubt,
    GreyRule,
    Samples,
    decode_lower_bits,
    deep_colours,
    range_doubt,
    samples_of,
)
from featx.images.libtiff import messages
from featx.images.phash import perceptual_hash
from featx.images.pillow import (
    as_pillow_image,
    limited_pixels,
    pillow_classes,
    too_many_pixels,
)
from featx.images.reasons import damage, stranger
from featx.images.reducing import SIDEWAYS, reduce_jpeg
from featx.images.resizing import resized, scaled_size
from featx.images.urls import Bytes, File, read_file
from featx.images.wholeness import check_whole

__all__ = ["MAX_PIXELS", "THUMBNAIL_SIZE", "DecodedImage", "read_image"]

#: Default limit of height times width; a larger image may be an attack on the memory.
MAX_PIXELS = 178_956_970

#: (height, width) of a thumbnail.
THUMBNAIL_SIZE = (32, 32)

_MAX_ASPECT = 100  # longer side divided by the shorter one

#: The transposition that undoes each EXIF orientation; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class DecodedImage:
    """An image file after decoding.

    Parameters
    ----------
    views : tuple of ndarray, each of shape (height, width, 3), uint8
        RGB pixels at the requested size, or at each of the scales; read-only.
    thumbnail : ndarray of shape (32, 32, 3), uint8
        The whole image, squashed; read-only.
    phash : int
        Perceptual hash [1]_ of the thumbnail, an unsigned 64-bit integer. The most
        significant bit is the lowest frequency, and the bits follow row by row, as in the
        hexadecimal text of `imagehash.phash`.
    sha256 : str
        Digest of the bytes of the file, in hexadecimal.
    doubt : {"", "dark", "clipped"}, default=""
        What looks wrong with the grey levels; see `featx.images.grey`.

    References
    ----------
    .. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
       Functions", 2010. https://www.phash.org/docs/pubs/thesis_zauner.pdf
    """

    views: tuple[np.ndarray, ...]
    thumbnail: np.ndarray
    phash: int
    sha256: str
    doubt: Doubt = ""

    @property
    def pixels(self) -> np.ndarray:
        """The largest view."""
        return self.views[-1]


def read_image(
    file: File | Bytes,
    size: tuple[int, int],
    resize: Resize,
    *,
    scales: Sequence[int] = (),
    jpeg: Jpeg = "reduced",
    grey: GreyRule = BY_TAGS,
    max_pixels: int = MAX_PIXELS,
) -> DecodedImage:
    """Read and decode one image file.

    Parameters
    ----------
    file : Path, Url or Bytes
        An image file, or its content.
    size : tuple of int
        (height, width) of the pixels.
    resize : {"squash", "crop", "pad"}
        How the image gets that size.
    scales : sequence of int, optional
        Shorter sides, ascending, for views of the whole image instead of `size` and `resize`
        (see `scaled_size`).
    jpeg : {"reduced", "full"}, default="reduced"
        Whether a large JPEG may be decoded at a fraction of its size.
    grey : GreyRule, optional
        How samples of more than 8 bits become 8 bits; by default, by what the file says.
    max_pixels : int, default=178956970
        Refuse images with more pixels.

    Returns
    -------
    DecodedImage
        Pixels, thumbnail, perceptual hash and digest.

    Raises
    ------
    ImageError
        The file cannot be read; the message is the reason, without the path. If the bytes
        could be read, the error has their `sha256`.
    """
    data = read_file(file)
    sha256 = hashlib.sha256(data).hexdigest()
    resize = "squash" if scales else resize
    try:
        with limited_pixels(max_pixels):
            image = _opened(data, file)
            reason = too_many_pixels(image.size, max_pixels) or _too_long(image.size)
            if reason:
                raise ImageError(reason)
            by_tags = grey.name == "tags" and image.format != "JPEG"
            samples = samples_of(image, data) if by_tags else None
            if image.format != "JPEG":
                _load(image, data)  # a PNG may have its EXIF after the pixels
            turn = _turn(image)
            sizes, box = [size], None
            if scales:
                shape = image.size if turn in SIDEWAYS else image.size[::-1]
                sizes = [scaled_size(shape, scale) for scale in scales]
            if image.format == "JPEG":
                if jpeg == "reduced":
                    box = reduce_jpeg(image, data, sizes[-1], resize, turn)
                _load(image, data)
            rgb, doubt = _colours(image, data, samples, grey.white)
            rgb = rgb if turn is None else rgb.transpose(turn)
    except ImageError as error:
        error.sha256 = sha256
        raise
    thumbnail = _pixels(resized(rgb, THUMBNAIL_SIZE, "squash", box))
    return DecodedImage(
        views=tuple(_pixels(resized(rgb, each, resize, box)) for each in sizes),
        thumbnail=thumbnail,
        phash=perceptual_hash(thumbnail),
        sha256=sha256,
        doubt=doubt,
    )


def _colours(
    image: Any, data: bytes, samples: Samples | None, white: float | None
) -> tuple[Image.Image, Doubt]:
    """Return a decoded image in RGB, and what looks wrong with its grey levels."""
    _rescale_transparent_colour(image, data)
    decoded = bright = as_pillow_image(image)
    check_whole(decoded, data, image.format)
    if samples is not None and samples.colour and white is not None:
        bright = deep_colours(decoded, _lower_bits(data, image.format), white)
    return to_rgb(bright, samples, white), range_doubt(decoded, samples, white)


def _opened(data: bytes, file: File | Bytes) -> Any:
    """Read the header of an image, in the formats of featx only."""
    if not data:
        reason = "empty file"
        raise ImageError(reason)
    formats, start = pillow_classes(), data[:64].ljust(64, b"\0")  # some tests need a few bytes
    for name, (factory, accept) in formats.items():
        # AVIF and WebP return a sentence if Pillow was built without them.
        if accept is not None and accept(start) is True:
            return _attempt(partial(factory, io.BytesIO(data), ""), data, name)
    if str(file).lower().endswith(".tga"):
        return _attempt(partial(formats["TGA"][0], io.BytesIO(data), ""), data, "TGA")
    raise ImageError(stranger(data))


def _load(image: Any, data: bytes) -> None:
    """Decode the first image of a file."""
    _attempt(image.load, data, image.format)


def _lower_bits(data: bytes, name: str) -> Image.Image:
    """Decode the lower 8 bits of 16-bit colours in a format."""
    image = _attempt(partial(pillow_classes()[name][0], io.BytesIO(data), ""), data, name)
    decode_lower_bits(image)
    _load(image, data)
    return as_pillow_image(image)


def _attempt(work: Callable[[], Any], data: bytes, name: str) -> Any:
    """Call a function of Pillow, and give a reason if it fails."""
    lines: list[str] = []
    try:
        with messages(lines) if name == "TIFF" else nullcontext():
            return work()
    except ImageError:
        raise
    except Exception as error:  # decoders raise any exception on damaged data
        raise ImageError(damage(error, data, name, lines)) from error


def _too_long(shape: tuple[int, int]) -> str | None:
    """Return the reason why an image of (width, height) is too long, if it is."""
    width, height = max(1, shape[0]), max(1, shape[1])
    if max(height, width) <= _MAX_ASPECT * min(height, width):
        return None
    return f"too long: {height}x{width} pixels, at most {_MAX_ASPECT} to 1: crop it"


def _rescale_transparent_colour(image: Any, data: bytes) -> None:
    """Bring the transparent colour of a PNG to 8 bits, as Pillow does with the pixels only."""
    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in ("L", "RGB") or key is None:
        return
    depth = data[24]  # bits per sample, in the header
    if image.mode == "L":
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _turn(image: Any) -> Image.Transpose | None:
    """Return the transposition that makes an image upright, if its EXIF has one."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (KeyError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return None  # an image with broken EXIF is used as it is


def _pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an RGB image, (height, width, 3); faster than `np.asarray`."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)
