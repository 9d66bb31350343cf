"""What a training is shown: pixels, decoded once, or activations of a store.

Files of images, or stores of codes, come in; batches of rows go out. Pixels lie
in a file without a name, so that the system holds in memory what is used and a
killed run leaves nothing.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError, ImagesError
from featx.images import MAX_PIXELS, File, read_image
from featx.recipe import Recipe

__all__ = ["Activations", "Pixels", "read_pixels"]

Rows = NDArray[np.integer]

# Decoded pictures that may wait to be written.
_AHEAD = 64


class Pixels:
    """Images as the network sees them, all of one size.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, h, w, 3)
        RGB, usually memory-mapped.
    """

    is_activations = False

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def batch(self, rows: Rows, epoch: int) -> NDArray[np.uint8]:
        """Return some images; they are augmented on the device."""
        return self.pixels[rows]


class Activations:
    """Activations of the last frozen layer, as stores hold them.

    Parameters
    ----------
    plain : ndarray of shape (n, h, w, c)
        Of the images as they are, usually memory-mapped.
    copies : sequence of ndarray, each of shape (n, h, w, c)
        Of augmented copies, which epochs use in turn; none to train on `plain`.
    """

    is_activations = True

    def __init__(
        self, plain: NDArray[np.floating], copies: Sequence[NDArray[np.floating]] = ()
    ) -> None:
        self.plain, self.copies = plain, list(copies)

    def batch(self, rows: Rows, epoch: int) -> NDArray[np.float32]:
        """Return some activations: of a copy in training, plain in epoch 0."""
        use = self.copies and epoch > 0
        source = self.copies[(epoch - 1) % len(self.copies)] if use else self.plain
        return np.asarray(source[rows], np.float32)


def read_pixels(
    files: Sequence[File],
    rows: Rows,
    recipe: Recipe,
    folder: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pixels:
    """Decode images, once.

    Parameters
    ----------
    files : sequence of Path or Url
        Images, n of them.
    rows : ndarray of int
        Those that were read before; the others stay black.
    recipe : Recipe
        Their size, and how they get there.
    folder : Path
        Where the file without a name lies, n x h x w x 3 bytes.
    max_pixels : int, default=178956970
        Larger images are refused.
    progress : callable, optional
        Called with (images done, images in all).

    Raises
    ------
    ImagesError
        One cannot be read, though it could before.
    """
    shape = (len(files), *recipe.size, 3)
    with tempfile.TemporaryFile(dir=folder) as file:
        # The map keeps the file alive after it is closed.
        pixels = np.memmap(file, np.uint8, "w+", shape=shape)
    read = partial(
        read_image,
        size=recipe.size,
        resize=recipe.resize,
        jpeg=recipe.jpeg,
        max_pixels=max_pixels,
    )
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        for start in range(0, len(rows), _AHEAD):
            part = rows[start : start + _AHEAD]
            futures = [pool.submit(read, files[row]) for row in part]
            for row, future in zip(part, futures, strict=True):
                try:
                    pixels[row] = future.result().pixels
                except ImageError as error:
                    message = (
                        f"{files[row]} could be read before, and cannot now: {error}. Run the same "
                        "command again."
                    )
                    raise ImagesError(message) from error
            progress(start + len(part), len(rows))
    return Pixels(pixels)
