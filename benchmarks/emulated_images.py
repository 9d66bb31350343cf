"""Images whose decoding takes a given time and no processor.

Another process that decodes finds these functions by their names. Importing this module replaces
the decoder of featx in the whole process.
"""

import functools
import time

import numpy as np
from PIL import Image

from featx.images import DecodedImage, decoding


@functools.cache
def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@functools.cache
def read_once(file: object, size: tuple[int, int]) -> DecodedImage:
    return decoding.read_image(file, size, "squash")


def read_asleep(
    file: object, seconds: float, size: tuple[int, int], **settings: object
) -> DecodedImage:
    """Read a file as `read_image` does, but sleep instead of decoding and resizing."""
    if seconds:  # time.sleep(0) lets other processes run
        time.sleep(seconds)
    return decoding.read_image(file, size, **settings)


def sleep_only(
    file: object, seconds: float, size: tuple[int, int], **settings: object
) -> DecodedImage:
    """Sleep, and return an image that was read before."""
    time.sleep(seconds)
    return read_once(file, size)


decoding._load = lambda image, data: None
decoding._colours = lambda *_: (noise(400, 400), "")
decoding.resized = lambda image, size, *_: noise(*size)
