"""Images that are embedded in the page, as data URIs.

Thumbnails become one sheet, a JPEG of which the page shows parts: a file for each of them
would have more bytes of headers than of pixels. Explanations become pairs of JPEGs.
"""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.report.figures.heatmap import draw_heat
from featx.workflows import Explanation

__all__ = ["COLUMNS", "heat_map_images", "thumbnail_sheet"]

#: Thumbnails in a row of a sheet.
COLUMNS = 32
_SIDE = 32
#: A sheet with more bytes gets a lower quality.
_MAX_SHEET_BYTES = 1_200_000
_SHEET_QUALITIES = (88, 75, 60, 45, 30, 15)
_HEAT_MAP_SIDE = 288  # pixels of the longer side: a pair of images has about 30 kB
_HEAT_MAP_QUALITY = 82


def thumbnail_sheet(thumbnails: NDArray[np.uint8]) -> str:
    """Return the data URI of thumbnails of shape (n, 32, 32, 3), row by row; "" without any.

    Examples
    --------
    >>> thumbnail_sheet(np.zeros((40, 32, 32, 3), np.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    n = len(thumbnails)
    if not n:
        return ""
    rows = math.ceil(n / COLUMNS)
    tiles = np.full((rows * COLUMNS, _SIDE, _SIDE, 3), 255, np.uint8)
    tiles[:n] = thumbnails
    pixels = tiles.reshape(rows, COLUMNS, _SIDE, _SIDE, 3).swapaxes(1, 2)
    image = Image.fromarray(pixels.reshape(rows * _SIDE, COLUMNS * _SIDE, 3))
    for quality in _SHEET_QUALITIES:
        content = _jpeg(image, quality)
        if len(content) <= _MAX_SHEET_BYTES:
            break
    return _uri(content)


def heat_map_images(explanation: Explanation) -> tuple[str, str]:
    """Return data URIs of the image as the network saw it, and of its heat map."""
    from matplotlib.figure import Figure

    pixels = explanation.pixels
    height, width = pixels.shape[:2]
    scale = _HEAT_MAP_SIDE / max(height, width)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw_heat(axes, pixels, explanation.contributions, explanation.extent)
    axes.set_aspect("auto")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    seen = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    images = (seen, Image.open(drawn).convert("RGB"))
    first, second = (_uri(_jpeg(image, _HEAT_MAP_QUALITY)) for image in images)
    return first, second


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    # Without subsampling, the colours of neighbouring thumbnails do not mix.
    image.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
