"""The pipeline: image files in, batches of codes out, a few in memory at a time.

Files and a backbone come in; batches go out, each with the codes of its
readable images and the reasons of the others. Decoding runs ahead in threads
while the network works. This file does not know what becomes of the batches.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError, OptionError
from featx.images import Picture, read_picture
from featx.network import Backbone
from featx.recipe import Recipe

__all__ = [
    "CodeBatch",
    "Failure",
    "auto_batch_size",
    "run_padded",
    "settle_batch_size",
    "stream_codes",
]

# 32 images at 224x224 keep two cores or a small GPU busy in 1 to 2 GB; larger
# batches were no faster on a CPU.
_BATCH_PIXELS = 32 * 224 * 224
_LARGEST_BATCH = 64
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Failure:
    """An image that could not be read.

    Parameters
    ----------
    row : int
        Its position among the files.
    reason : str
        Why, in words.
    sha256 : str or None
        Of its bytes, where there were any.
    """

    row: int
    reason: str
    sha256: str | None


@dataclass(frozen=True)
class CodeBatch:
    """The codes of some images.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)
        Positions of the readable images among the files, ascending.
    codes : dict of str to ndarray of float32, shape (m, ...)
        One array for each layer; empty where no image was readable.
    pictures : tuple of Picture, length m
        The images themselves.
    failures : tuple of Failure
        The images of the batch that could not be read.
    """

    rows: NDArray[np.integer]
    codes: dict[str, NDArray[np.float32]]
    pictures: tuple[Picture, ...]
    failures: tuple[Failure, ...]

    @property
    def n_images(self) -> int:
        """Images of the batch, readable or not."""
        return len(self.rows) + len(self.failures)


def settle_batch_size(batch_size: int | Literal["auto"], recipe: Recipe, n_images: int) -> int:
    """Return how many images to give the network at once, at most `n_images`.

    Raises
    ------
    OptionError
        `batch_size` is neither "auto" nor a number from 1.
    """
    if batch_size == "auto":
        return auto_batch_size(recipe, n_images)
    if not isinstance(batch_size, int) or batch_size < 1:
        message = f"No such batch size: {batch_size}. Expected --batch-size auto, or 1 and more."
        raise OptionError(message)
    return min(batch_size, n_images)


def auto_batch_size(recipe: Recipe, n_images: int) -> int:
    """Return a batch size that suits the image size, at most `n_images`."""
    fitting = _BATCH_PIXELS // (recipe.size[0] * recipe.size[1])
    return max(1, min(fitting, _LARGEST_BATCH, n_images))


def stream_codes(
    files: Sequence[Path], backbone: Backbone, batch_size: int, rows: Sequence[int] | None = None
) -> Iterator[CodeBatch]:
    """Yield the codes of image files, batch by batch, in order.

    Parameters
    ----------
    files : sequence of Path
        Images.
    backbone : Backbone
        Turns images into codes.
    batch_size : int
        Images at a time. The last batch is padded, so that the network sees
        one shape.
    rows : sequence of int, optional
        Positions of the files to use; all by default.

    Yields
    ------
    CodeBatch
    """
    for part, futures in _decoded(files, backbone.recipe, batch_size, rows):
        readable, pictures, failures = [], [], []
        for row, future in zip(part, futures, strict=True):
            try:
                pictures.append(future.result())
                readable.append(row)
            except ImageError as error:
                failures.append(Failure(row, str(error), error.sha256))
        codes = {}
        if pictures:
            codes = run_padded(backbone, [picture.pixels for picture in pictures], batch_size)
        yield CodeBatch(np.array(readable, np.int64), codes, tuple(pictures), tuple(failures))


def run_padded(
    backbone: Backbone, images: Sequence[NDArray[np.uint8]], batch_size: int
) -> dict[str, NDArray[np.float32]]:
    """Run at most `batch_size` images through a backbone, in a batch of just that size."""
    batch = np.zeros((batch_size, *backbone.recipe.size, 3), np.uint8)
    for i, image in enumerate(images):
        batch[i] = image
    return {layer: codes[: len(images)] for layer, codes in backbone(batch).items()}


def _decoded(
    files: Sequence[Path], recipe: Recipe, batch_size: int, rows: Sequence[int] | None
) -> Iterator[tuple[Sequence[int], list[Future[Picture]]]]:
    """Yield batches of pictures; those to come are read meanwhile."""
    rows = range(len(files)) if rows is None else rows
    ahead: deque[tuple[Sequence[int], list[Future[Picture]]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            futures = [
                pool.submit(read_picture, files[r], recipe.size, recipe.resize) for r in part
            ]
            ahead.append((part, futures))
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft()
        yield from ahead
