"""Features of raw pixels: a baseline for codes.

Thumbnails from a store go in; rows of pixels and of colour histograms come out, for the
same classifiers.
"""

import numpy as np
from numpy.typing import NDArray

from featx.codes.matrix import CodeMatrix

__all__ = ["pixel_features"]

_SHADES = 4  # for each of red, green and blue


def pixel_features(thumbnails: NDArray[np.uint8]) -> CodeMatrix:
    """Return pixels and colour histograms, as two layers.

    Parameters
    ----------
    thumbnails : ndarray of shape (n, h, w, 3)
        RGB images, 0 to 255.

    Returns
    -------
    CodeMatrix of shape (n, 3 h w + 64)
        Pixel values minus 127.5, and the number of pixels with each of 64 colours.

    Examples
    --------
    >>> pixel_features(np.zeros((2, 32, 32, 3), np.uint8)).shape
    (2, 3136)
    """
    n = len(thumbnails)
    pixels = thumbnails.reshape(n, -1).astype(np.float32) - 127.5
    shades = thumbnails.reshape(n, -1, 3).astype(int) // (256 // _SHADES)
    colours = shades @ np.array([_SHADES**2, _SHADES, 1])
    histograms = np.zeros((n, _SHADES**3), np.float32)
    np.add.at(histograms, (np.arange(n)[:, None], colours), 1)
    return CodeMatrix([pixels, histograms], np.arange(n))
