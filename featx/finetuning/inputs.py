"""The inputs of a training: decoded images, or activations from stores.

Image files, or arrays of activations, come in; batches of rows go out, each loaded while the
one before it is used. The decoded pixels are in a memory-mapped file without a name: the
operating system keeps in memory what is used, and a killed run leaves no file behind.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError, ImagesError
from featx.images import MAX_PIXELS, File, GreyRule, read_image
from featx.recipe import Recipe

__all__ = ["Activations", "Pixels", "TrainingInputs", "load_ahead", "read_pixels"]

Rows = NDArray[np.integer]


class Pixels:
    """Images at the size of the network's input.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, h, w, 3)
        RGB, usually memory-mapped.
    """

    is_activations = False

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def batch(self, rows: Rows, epoch: int) -> NDArray[np.uint8]:
        """Return images; the network augments them on the device."""
        return self.pixels[rows]


class Activations:
    """Activations of the last frozen layer.

    Parameters
    ----------
    plain : ndarray of shape (n, h, w, c)
        Activations of the images, usually memory-mapped.
    copies : sequence of ndarray, each of shape (n, h, w, c)
        Activations of augmented versions of the images, which the epochs use in turn. If there
        are none, the network is trained on `plain`.
    """

    is_activations = True

    def __init__(
        self, plain: NDArray[np.floating], copies: Sequence[NDArray[np.floating]] = ()
    ) -> None:
        self.plain, self.copies = plain, list(copies)

    def batch(self, rows: Rows, epoch: int) -> NDArray[np.float32]:
        """Return activations: of a copy in training, and of the images in epoch 0."""
        augmented = self.copies and epoch > 0
        source = self.copies[(epoch - 1) % len(self.copies)] if augmented else self.plain
        return np.asarray(source[rows], np.float32)


#: Inputs of a training: images, or activations of the last frozen layer.
TrainingInputs = Pixels | Activations


def load_ahead(
    inputs: TrainingInputs, parts: Iterable[Rows], epoch: int
) -> Generator[NDArray[Any], None, None]:
    """Yield the inputs of each part; a thread loads the next part in the meantime.

    Memory holds the inputs of two parts. Close the generator if not all parts are used.

    Parameters
    ----------
    inputs : TrainingInputs
        Images or activations.
    parts : iterable of ndarray of int
        The rows of each part.
    epoch : int
        Number of the epoch; 0 is without augmentation.

    Yields
    ------
    ndarray, shape (m, ...)
        The inputs of the next part, in the order of the parts.
    """
    loading: deque[Future[NDArray[Any]]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for rows in parts:
            loading.append(thread.submit(inputs.batch, rows, epoch))
            if len(loading) > 1:
                yield loading.popleft().result()
        if loading:
            yield loading.popleft().result()


def read_pixels(
    files: Sequence[File],
    rows: Rows,
    recipe: Recipe,
    folder: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pixels:
    """Decode images.

    Parameters
    ----------
    files : sequence of Path or Url
        The n images.
    rows : ndarray of int
        Images to decode; the others stay black.
    recipe : Recipe
        The size, and how an image gets it.
    folder : Path
        Folder of the memory-mapped file, which takes n x h x w x 3 bytes.
    max_pixels : int, default=178956970
        An image with more pixels cannot be read.
    progress : callable, optional
        Called with (images done, images in total).

    Raises
    ------
    ImagesError
        An image cannot be read.
    """
    shape = (len(files), *recipe.size, 3)
    with tempfile.TemporaryFile(dir=folder) as file:
        # The memory map keeps the file after it is closed.
        pixels = np.memmap(file, np.uint8, "w+", shape=shape)
    rule = GreyRule(recipe.grey, recipe.white)
    read = partial(read_image, jpeg=recipe.jpeg, grey=rule, max_pixels=max_pixels)

    def decode(row: int) -> None:
        try:
            pixels[row] = read(files[row], recipe.size, recipe.resize).pixels
        except ImageError as error:
            message = (
                f"{files[row]} could be read before, but now it cannot: {error}. Run the same "
                "command again."
            )
            raise ImagesError(message) from error

    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        for n_done, _ in enumerate(pool.map(decode, rows), 1):
            progress(n_done, len(rows))
    return Pixels(pixels)
