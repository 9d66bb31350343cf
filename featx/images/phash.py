"""The perceptual hash of a thumbnail: 64 bits that similar images share.

A thumbnail comes in and the bits of `imagehash.phash` go out, most of the time without imagehash:
its two cosine transforms and its median take longer than everything else around the decoder, and
threads cannot share that work.

References
----------
.. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
   Functions", 2010. https://www.phash.org/docs/pubs/thesis_zauner.pdf
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["perceptual_hash"]

_SIDE = 32  # of the grey image
_N_FREQUENCIES = 8  # in each direction

# Pillow's grey, of fixed-point arithmetic.
_TO_GREY, _HALF, _SHIFT = np.array([19595, 38470, 7471], np.int32), 0x8000, 16

# Frequencies are up to 1e6, and their rounding errors are below 1e-8. If the two in the middle
# differ by more than this, rounding changes no bit.
_CLEAR_MEDIAN = 1e-3


def perceptual_hash(thumbnail: NDArray[np.uint8]) -> int:
    """Return the perceptual hash [1]_ of a thumbnail, with the bits of `imagehash.phash`.

    Parameters
    ----------
    thumbnail : ndarray of shape (32, 32, 3), uint8
        RGB pixels.

    Returns
    -------
    int
        An unsigned 64-bit integer: whether each of the lowest 8 x 8 frequencies is above
        their median. The most significant bit is the lowest frequency.

    References
    ----------
    .. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
       Functions", 2010. https://www.phash.org/docs/pubs/thesis_zauner.pdf
    """
    grey = (thumbnail @ _TO_GREY + _HALF) >> _SHIFT
    rows, columns = _cosines()
    frequencies = rows @ grey.astype(np.float64) @ columns
    middle = frequencies.size // 2
    ordered = np.sort(frequencies, axis=None)
    below, above = ordered.item(middle - 1), ordered.item(middle)
    if above - below > _CLEAR_MEDIAN:
        bits = frequencies > (below + above) / 2
    else:  # such as an image of one colour, whose bits are rounding errors of imagehash
        import imagehash  # brings scipy, so it is imported late

        bits = imagehash.phash(Image.fromarray(thumbnail)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@cache
def _cosines() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest frequencies of the cosine transform of type II, (8, 32) and (32, 8)."""
    frequency, position = np.ogrid[:_N_FREQUENCIES, :_SIDE]
    cosines = 2 * np.cos(np.pi * frequency * (2 * position + 1) / (2 * _SIDE))
    return cosines, np.ascontiguousarray(cosines.T)
