"""One file to one picture: pixels for the network, and what identifies it.

A path comes in; pixels at the network's size, a thumbnail, a perceptual hash
and the digest of the bytes go out, or an error whose message is the reason in
a few words. This file knows no list and no label, and the message does not
repeat the path: whoever holds the list adds it.

How a file becomes pixels is part of what makes a code, so each case has one rule:

* an orientation in EXIF (or XMP) is applied;
* of an animation, or of several pages, the first is read;
* colours become RGB by the rules of `featx.images.colours`;
* the size is met by the rules of `featx.images.resizing`;
* a damaged or truncated file is refused, never half a picture;
* the format is found in the bytes, whatever the suffix says: JPEG, PNG, GIF,
  BMP, TIFF, WebP, PPM, AVIF or JPEG 2000. Pillow reads more; those are not
  photographs, and some start other programs;
* more pixels than a limit, which the head says before anything is decoded, are
  refused, and so is a picture more than a hundred times longer than wide
  (`featx.images.limits`); for TIFF and WebP, Pillow's own limit holds besides;
* with `jpeg="reduced"` a JPEG is decoded at a half, a quarter or an eighth of its
  size, where that is still three times what the network needs. The decoder then
  leaves out the finest waves of each block of 8x8 pixels, which the resizing would
  average away: on photographs the pixels stay within 0.5 grey levels of 255 in
  the mean, 99.9 % of them within 5 to 11, all within 17. The worst are fine
  stripes and text, with 6 in the mean and 16 at most (benchmarks/reduced_jpegs.py).

References
----------
.. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
   Functions", 2010. https://www.phash.org/docs/pubs/thesis_zauner.pdf
"""

import hashlib
import io
import stat
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from featx.choices import Jpeg, Resize
from featx.errors import ImageError
from featx.images.colours import to_rgb
from featx.images.limits import MAX_PIXELS, check_shape
from featx.images.reducing import SIDEWAYS, reduce_jpeg
from featx.images.resizing import Box, resized, scaled_size
from featx.images.urls import File, Url, read_url

__all__ = ["MAX_PIXELS", "THUMBNAIL_SIZE", "DecodedImage", "read_digest", "read_image"]

#: (height, width) of a thumbnail.
THUMBNAIL_SIZE = (32, 32)

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")

#: What undoes each orientation of EXIF; 1 is upright.
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
    """What featx takes from one image file.

    Parameters
    ----------
    views : tuple of ndarray, each of shape (height, width, 3), uint8
        RGB at the size asked for, or at each of the scales; read-only.
    thumbnail : ndarray of shape (32, 32, 3), uint8
        The whole picture, squashed; read-only.
    phash : int
        Perceptual hash of the thumbnail, 64 bits without sign. The most
        significant bit is the lowest frequency; rows follow one another, as in
        the hexadecimal that `imagehash.phash` prints.
    sha256 : str
        Digest of the file's bytes, in hexadecimal.
    """

    views: tuple[np.ndarray, ...]
    thumbnail: np.ndarray
    phash: int
    sha256: str

    @property
    def pixels(self) -> np.ndarray:
        """The largest of the views."""
        return self.views[-1]


def read_image(
    file: File,
    size: tuple[int, int],
    resize: Resize,
    *,
    scales: Sequence[int] = (),
    jpeg: Jpeg = "reduced",
    max_pixels: int = MAX_PIXELS,
) -> DecodedImage:
    """Read one image file, once.

    Parameters
    ----------
    file : Path or Url
        An image file.
    size : tuple of int
        (height, width) that the network sees, in pixels.
    resize : {"squash", "crop", "pad"}
        How the picture gets there.
    scales : sequence of int, optional
        Shorter sides, ascending, at which the whole picture is wanted instead of `size`
        and `resize` (see `scaled_size`).
    jpeg : {"reduced", "full"}, default="reduced"
        Whether a large JPEG may be decoded at a part of its size.
    max_pixels : int, default=178956970
        Larger pictures are refused.

    Returns
    -------
    DecodedImage
        Pixels, thumbnail, perceptual hash and digest.

    Raises
    ------
    ImageError
        The file cannot be read; the message is the reason, without the path.
        Once the bytes were read, the error has their `sha256`.
    """
    data = _read_bytes(file)
    sha256 = hashlib.sha256(data).hexdigest()
    resize = "squash" if scales else resize
    try:
        rgb, box, sizes = _decoded(data, size, resize, scales, jpeg, max_pixels)
    except ImageError as error:
        error.sha256 = sha256
        raise
    thumbnail = resized(rgb, THUMBNAIL_SIZE, "squash", box)
    return DecodedImage(
        views=tuple(np.asarray(resized(rgb, each, resize, box)) for each in sizes),
        thumbnail=np.asarray(thumbnail),
        phash=_phash(thumbnail),
        sha256=sha256,
    )


def read_digest(file: File) -> str:
    """Return the sha256 of a file's bytes in hexadecimal, or "" where there are none to read."""
    try:
        return hashlib.sha256(_read_bytes(file)).hexdigest()
    except ImageError:
        return ""


def _read_bytes(file: File) -> bytes:
    """Return a file's bytes, or say in words why not."""
    if isinstance(file, Url):
        return read_url(file)
    try:
        mode = file.stat().st_mode
        if stat.S_ISREG(mode):
            return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        reason = "not found"
    except PermissionError:
        reason = "permission denied"
    except OSError as error:
        reason = f"cannot be opened: {(error.strerror or str(error)).lower()}"
    except ValueError:  # a zero byte inside the path
        reason = "not a file name"
    else:  # a pipe would block for ever
        reason = "is a directory" if stat.S_ISDIR(mode) else "not a regular file"
    raise ImageError(reason)


def _decoded(  # noqa: PLR0917  of one caller
    data: bytes,
    size: tuple[int, int],
    resize: Resize,
    scales: Sequence[int],
    jpeg: Jpeg,
    max_pixels: int,
) -> tuple[Image.Image, Box | None, list[tuple[int, int]]]:
    """Return the first picture, upright and in RGB, where it lies if not everywhere, and sizes."""
    image = _opened(data)
    check_shape(image.size, max_pixels)
    box, sizes = None, [size]
    if scales:
        shape = image.size if _turn(image) in SIDEWAYS else image.size[::-1]
        sizes = [scaled_size(shape, scale) for scale in scales]
    if jpeg == "reduced" and isinstance(image, JpegImagePlugin.JpegImageFile):
        box = reduce_jpeg(image, data, sizes[-1], resize, _turn(image))
    try:
        image.load()
    except Exception as error:  # decoders raise whatever the damage leads them to
        raise ImageError(_damage(error)) from error
    _rescale_key(image, data)
    rgb = to_rgb(image)
    turn = _turn(image)
    return (rgb if turn is None else rgb.transpose(turn)), box, sizes


def _opened(data: bytes) -> ImageFile.ImageFile:
    """Read the head of an image, as `PIL.Image.open` does, by the formats of featx alone.

    Not by that function, because it warns about large pictures, and a warning
    cannot be caught in one thread alone.
    """
    if not data:
        reason = "empty file"
        raise ImageError(reason)
    Image.init()
    for name in _FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        answer = accept(data[:16]) if accept is not None else False
        # AVIF and WebP answer with a sentence where Pillow was built without them.
        if not answer or isinstance(answer, str):
            continue
        if name == "JPEG":
            # Its factory also looks for a second picture, and warns if that is broken.
            factory = JpegImagePlugin.JpegImageFile
        opener = cast("Callable[[io.BytesIO, str], ImageFile.ImageFile]", factory)
        try:
            return opener(io.BytesIO(data), "")
        except Exception as error:
            raise ImageError(_damage(error, name)) from error
    reason = "not an image that Pillow can read"
    raise ImageError(reason)


def _damage(error: Exception, name: str = "") -> str:
    """Say in words what a decoder stumbled on."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return "too many pixels: scale it down"
    # The last of these is how a head that ends too early reads.
    if isinstance(error, EOFError) or "truncated" in text.lower() or "requires a buffer" in text:
        return "truncated: the file ends before its picture does"
    return f"damaged {name}: {text}" if name else f"damaged: {text}"


def _rescale_key(image: Image.Image, data: bytes) -> None:
    """Bring a PNG's transparent colour to 8 bits where Pillow did so to the pixels alone."""
    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in ("L", "RGB") or key is None:
        return
    depth = data[24]  # of the head, IHDR, which comes first: bits a sample
    if image.mode == "L":
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what brings a picture upright, if its orientation can be read and asks for it."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (KeyError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return None  # a picture with a broken EXIF is shown as it is


def _phash(thumbnail: Image.Image) -> int:
    """Return a thumbnail's perceptual hash."""
    import imagehash  # lazily: brings scipy; threads meet at the import lock

    bits = imagehash.phash(thumbnail).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
