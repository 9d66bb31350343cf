"""How large a picture may be: featx's own limit, whatever Pillow's is.

A size comes in, an error whose message is the reason goes out. Pillow's readers
of TIFF and WebP look at `PIL.Image.MAX_IMAGE_PIXELS` besides, which belongs to
the whole program and is left alone. This file knows no file.
"""

from featx.errors import ImageError

__all__ = ["MAX_PIXELS", "check_shape"]

#: Height times width; a larger picture is taken for an attack on the memory.
MAX_PIXELS = 178_956_970

_LONGEST = 100  # times the shorter side


def check_shape(image: tuple[int, int], max_pixels: int) -> None:
    """Refuse a picture of (width, height) that is too large, or too long.

    Raises
    ------
    ImageError
        The message is the reason.
    """
    width, height = max(1, image[0]), max(1, image[1])
    if height * width > max_pixels:
        reason = (
            f"too many pixels, {height}x{width}, at most {max_pixels:,}: scale it down, or use "
            "--max-pixels"
        )
        raise ImageError(reason)
    if max(height, width) > _LONGEST * min(height, width):
        reason = (
            f"{height}x{width} pixels: no picture has sides of more than {_LONGEST} to 1: crop it"
        )
        raise ImageError(reason)
