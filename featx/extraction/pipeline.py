"""The pipeline from image files to batches of codes, with a few batches in memory at a time.

Files and a backbone come in. Batches go out, with the codes of the readable images and the
reasons why others could not be read. Threads decode images ahead, and two batches are in the
network at once, so that all its threads stay busy. A new batch starts only when an earlier one
is taken, so a slow consumer slows the network down instead of filling the memory. At the end,
images whose grey levels look wrong are counted in a note. This module does not know what happens
to the batches.
"""

import itertools
import logging
import math
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError
from featx.extraction.batching import IN_NETWORK, Batcher, aligned_batches
from featx.extraction.decoders import Chunks, Decoders, n_decoders
from featx.extraction.settings import DecoderChoice
from featx.extraction.timings import Pace
from featx.images import MAX_PIXELS, DecodedImage, File, GreyRule, read_image
from featx.network import Backbone
from featx.text import counted

__all__ = ["CodeBatch", "Failure", "stream_codes"]

logger = logging.getLogger(__name__)

# Batches that are decoded or waiting to be, in addition to those in the network.
_AHEAD = 3
# Images ahead for each decoder, if batches are small.
_IMAGES_AHEAD = 2


@dataclass(frozen=True)
class Failure:
    """An image that could not be read.

    Parameters
    ----------
    row : int
        Index of the file.
    reason : str
        Why it could not be read.
    sha256 : str or None
        SHA-256 of the file, if it could be opened.
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
        Indices of the readable images among the files, ascending.
    codes : dict of str to ndarray, shape (m, ...)
        One array for each layer, in the recipe's dtype; empty if no image was readable.
    images : tuple of DecodedImage, length m
        The readable images.
    failures : tuple of Failure
        The other images of the batch.
    """

    rows: NDArray[np.integer]
    codes: dict[str, NDArray[np.floating]]
    images: tuple[DecodedImage, ...]
    failures: tuple[Failure, ...]

    @property
    def n_images(self) -> int:
        """Number of images, readable or not."""
        return len(self.rows) + len(self.failures)


def stream_codes(
    files: Sequence[File] | Mapping[int, File],
    backbone: Backbone,
    batch_size: int,
    rows: Sequence[int] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    pace: Pace | None = None,
    decoders: DecoderChoice = "auto",
) -> Generator[CodeBatch, None, None]:
    """Yield the codes of image files in batches.

    Parameters
    ----------
    files : sequence of Path or Url, or mapping of int to such
        Image files, in order or by index.
    backbone : Backbone
        Turns images into codes; it is called from two threads.
    batch_size : int
        Images per batch. Incomplete batches are padded, so that the network always gets the
        same shape. If memory runs out, batches are halved.
    rows : sequence of int, optional
        Indices of the files to use, ascending; all by default. Each file has the place in its
        batch that it has if all are used; see `aligned_batches`.
    max_pixels : int, default=178956970
        An image with more pixels counts as unreadable.
    pace : Pace, optional
        Records how long the stages work.
    decoders : int, "auto" or "threads", default="auto"
        Number of processes that decode; see `Decoders`.

    Yields
    ------
    CodeBatch
        Codes of `batch_size` images, except in the last batches. All files come in order, some
        of them in the order of `aligned_batches`.
    """
    recipe = backbone.recipe
    rows = range(len(files)) if rows is None else rows
    pace = pace or Pace()
    read = partial(
        read_image,
        size=recipe.view_size,
        resize=recipe.resize,
        scales=recipe.scales,
        jpeg=recipe.jpeg,
        grey=GreyRule(recipe.grey, recipe.white),
        max_pixels=max_pixels,
    )
    batcher = Batcher(backbone, batch_size, pace.network)
    parts = aligned_batches(rows, batch_size)
    inside: deque[Future[CodeBatch]] = deque()
    doubts: Counter[str] = Counter()
    n_threads = n_decoders(files[row] for row in rows)
    with ExitStack() as pools:
        decoding = Decoders(read, decoders, n_threads, pace)
        network = ThreadPoolExecutor(IN_NETWORK)
        # If the consumer stops early, the network must not wait for images that nobody needs.
        pools.callback(decoding.close)
        pools.callback(network.shutdown, cancel_futures=True)
        pools.callback(decoding.stop)

        started = ((part, decoding.start([files[row] for row in part])) for part in parts)
        ahead = max(_AHEAD, math.ceil(_IMAGES_AHEAD * decoding.n_workers / batch_size))
        decoded = deque(itertools.islice(started, ahead))
        while decoded or inside:
            while decoded and len(inside) < IN_NETWORK:
                inside.append(network.submit(_compute, *decoded.popleft(), decoding, batcher))
                decoded.extend(itertools.islice(started, 1))  # the next one, if any is left
            batch = inside.popleft().result()
            decoding.reconsider()
            doubts.update(image.doubt for image in batch.images)
            yield batch
    _log_doubts(doubts, recipe.white)


def _log_doubts(doubts: Counter[str], white: float | None) -> None:
    """Count the images whose grey levels look wrong."""
    if doubts["dark"]:
        logger.warning(
            "%s of more than 8 bits %s less than a sixteenth of the range: almost black. "
            "If white is another value in these images, such as 4095 for 12 bits in 16, extract "
            "their codes with --white 4095.",
            counted(doubts["dark"], "image"),
            "uses" if doubts["dark"] == 1 else "use",
        )
    if doubts["clipped"]:
        logger.warning(
            "%s brighter than --white %g in more than half of the pixels. Extract the codes with "
            "the value of white in these images.",
            f"{counted(doubts['clipped'], 'image')} {'is' if doubts['clipped'] == 1 else 'are'}",
            white,
        )


def _compute(
    rows: Sequence[int], chunks: Chunks, decoders: Decoders, batcher: Batcher
) -> CodeBatch:
    """Wait for the images of a batch and compute the codes of the readable ones."""
    readable, images, failures = [], [], []
    for row, image in zip(rows, decoders.images(chunks), strict=True):
        if isinstance(image, ImageError):
            failures.append(Failure(row, str(image), image.sha256))
        else:
            images.append(image)
            readable.append(row)
    codes = batcher([image.views for image in images], readable) if images else {}
    return CodeBatch(np.array(readable, np.int64), codes, tuple(images), tuple(failures))
