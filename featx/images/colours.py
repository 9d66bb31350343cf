"""Any picture to RGB: one rule for each way of storing colours.

A Pillow image of any mode comes in, an RGB image goes out, or an error whose
message is the reason. The rules:

* RGB is left as it is; grey is repeated; 1 bit becomes 0 or 255; a palette
  becomes its colours;
* transparency, stored in whatever way, is laid over white;
* CMYK, YCCK, YCbCr, HSV and LAB go through Pillow's own conversion. Colour
  profiles inside files are ignored;
* 16-bit grey is divided by 257 and rounded, so that 0 stays 0 and 65535
  becomes 255. Pillow itself reads 16-bit colour by its upper 8 bits;
* wider integers and floats are refused: nothing says which value is white.

This file knows no file and no size.
"""

import numpy as np
from PIL import Image

from featx.errors import ImageError

__all__ = ["to_rgb"]

WHITE = (255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture in RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        A picture of any mode; its pixels are left as they are.

    Returns
    -------
    PIL.Image.Image
        `image` itself if it is RGB already.

    Raises
    ------
    ImageError
        The mode has no fixed range, or Pillow knows no way to RGB.

    Examples
    --------
    >>> to_rgb(Image.new("LA", (1, 1), (0, 51))).getpixel((0, 0))
    (204, 204, 204)
    """
    if image.mode == "F":
        reason = "float pixels have no fixed range: save as 8 or 16 bit"
        raise ImageError(reason)
    if image.mode.startswith("I"):
        return _from_integers(image)
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode == "RGB":
        return image
    return _converted(image, "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """Convert as Pillow does, and say so where it cannot."""
    try:
        return image.convert(mode)
    except Exception as error:  # each conversion has errors of its own
        reason = f"mode {image.mode} cannot become {mode}: save as RGB"
        raise ImageError(reason) from error


def _from_integers(image: Image.Image) -> Image.Image:
    """Bring grey pixels of 16 bits, in whatever byte order, to 8."""
    pixels = np.asarray(image).astype(np.int32)
    if pixels.min() < 0 or pixels.max() > 65535:
        reason = "32-bit pixels have no fixed range: save as 8 or 16 bit"
        raise ImageError(reason)
    grey = (pixels + 128) // 257  # 257 is odd, so this is v / 257 rounded, without ties
    if "transparency" in image.info:
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency over white."""
    # Straight to RGB, Pillow would drop the transparency, and warn about some palettes.
    layer = _converted(image, "LA") if image.mode == "La" else image
    layer = layer if layer.mode == "RGBA" else _converted(layer, "RGBA")
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(layer, (0, 0), layer)
    return canvas
