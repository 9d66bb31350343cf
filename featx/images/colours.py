"""Colours: an image of any mode becomes RGB, with one rule for each way of storing colours.

A Pillow image comes in; an RGB image goes out, or an error whose message is the reason. The
rules:

* RGB is not changed, grey is repeated, 1 bit becomes 0 or 255, and a palette becomes its colours;
* transparency of any kind is composited on white;
* CMYK, YCCK, YCbCr, HSV and LAB are converted by Pillow. Colour profiles in files are ignored;
* grey of more than 8 bits becomes 8 bits by the rules of `featx.images.grey`. Of 16-bit colour,
  the upper 8 bits are read.

This module does not know files or sizes.
"""

import numpy as np
from PIL import Image

from featx.errors import ImageError
from featx.images.grey import Samples, eight_bits

__all__ = ["to_rgb"]

WHITE = (255, 255, 255)


def to_rgb(
    image: Image.Image, samples: Samples | None = None, white: float | None = None
) -> Image.Image:
    """Return an image in RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of any mode; it is not changed.
    samples : Samples, optional
        What its file says of its samples; by default, integers are 16-bit grey, which is
        the rule of featx 0.1.
    white : float, optional
        The value of white.

    Returns
    -------
    PIL.Image.Image
        `image` itself if it is RGB already.

    Raises
    ------
    ImageError
        The mode has no fixed range, or Pillow cannot convert it to RGB.

    Examples
    --------
    >>> to_rgb(Image.new("LA", (1, 1), (0, 51))).getpixel((0, 0))
    (204, 204, 204)
    """
    if samples is not None and not samples.colour:
        return eight_bits(image, samples, white).convert("RGB")
    if image.mode == "F":
        reason = "float pixels have no fixed range: save as 8 or 16 bit"
        raise ImageError(reason)
    if image.mode.startswith("I"):
        return _from_integers(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else _converted(image, "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except Exception as error:  # each conversion raises its own exceptions
        reason = f"mode {image.mode} cannot become {mode}: save as RGB"
        raise ImageError(reason) from error


def _from_integers(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey, in any byte order, to 8 bits."""
    pixels = np.asarray(image).astype(np.int32)
    if pixels.min() < 0 or pixels.max() > 65535:
        reason = "32-bit pixels have no fixed range: save as 8 or 16 bit"
        raise ImageError(reason)
    grey = (pixels + 128) // 257  # v / 257 rounded; 257 is odd, so there are no ties
    if "transparency" in image.info:
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Composite an image with transparency on white."""
    # Converting to RGB at once would drop the transparency, and warn about some palettes.
    layer = _converted(image, "LA") if image.mode == "La" else image
    layer = layer if layer.mode == "RGBA" else _converted(layer, "RGBA")
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(layer, (0, 0), layer)
    return canvas
