"""Many small pictures as one: a sheet, of which a page shows a part here and there.

Thumbnails come in; one JPEG goes out, as the data URI of a style sheet. A file for
each would spend more bytes on headers than on pictures.
"""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["COLUMNS", "Sheet", "make_sheet"]

#: Pictures in a row of a sheet.
COLUMNS = 32
_SIDE = 32
#: More bytes than this, of pictures that compress badly, are made fewer by quality.
_MOST_BYTES = 1_200_000
_QUALITIES = (88, 75, 60, 45, 30, 15)


@dataclass(frozen=True)
class Sheet:
    """Pictures side by side.

    Parameters
    ----------
    uri : str
        A data URI; empty where there are no pictures.
    rows : int
        Of 32 pictures each.
    """

    uri: str
    rows: int


def make_sheet(thumbnails: NDArray[np.uint8]) -> Sheet:
    """Put thumbnails into a sheet, row by row.

    Parameters
    ----------
    thumbnails : ndarray of uint8, shape (n, 32, 32, 3)

    Examples
    --------
    >>> sheet = make_sheet(np.zeros((40, 32, 32, 3), np.uint8))
    >>> sheet.rows, sheet.uri[:23]
    (2, 'data:image/jpeg;base64,')
    """
    n = len(thumbnails)
    if not n:
        return Sheet("", 0)
    rows = math.ceil(n / COLUMNS)
    tiles = np.full((rows * COLUMNS, _SIDE, _SIDE, 3), 255, np.uint8)
    tiles[:n] = thumbnails
    pixels = tiles.reshape(rows, COLUMNS, _SIDE, _SIDE, 3).swapaxes(1, 2)
    picture = Image.fromarray(pixels.reshape(rows * _SIDE, COLUMNS * _SIDE, 3))
    for quality in _QUALITIES:
        file = io.BytesIO()
        # Colours at full resolution, else those of neighbours run into each other.
        picture.save(file, "JPEG", quality=quality, subsampling=0)
        if file.tell() <= _MOST_BYTES:
            break
    text = base64.b64encode(file.getvalue()).decode()
    return Sheet(f"data:image/jpeg;base64,{text}", rows)
