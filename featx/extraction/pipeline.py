"""The pipeline: image files in, batches of codes out, a few in memory at a time.

Files and a backbone come in; batches go out, each with the codes of its
readable images and the reasons of the others. Images are decoded ahead in
threads, and two batches are in the network at once, so that it never waits for
one of its own threads. A batch enters only when an earlier one was taken, so a
slow taker holds up the network, not the memory. This file does not know what
becomes of the batches.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError
from featx.extraction.batching import IN_NETWORK, Batcher
from featx.extraction.timings import Pace
from featx.images import MAX_PIXELS, DecodedImage, File, local_file, read_image
from featx.network import Backbone

__all__ = ["CodeBatch", "Failure", "n_decoders", "stream_codes"]

# Batches that are decoded, or about to be, beside those in the network.
_AHEAD = 3
# Threads for each processor where images come from a server.
_FETCHERS = 4


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
    codes : dict of str to ndarray, shape (m, ...)
        One array for each layer, in the recipe's dtype; empty where no image
        was readable.
    pictures : tuple of DecodedImage, length m
        The images themselves.
    failures : tuple of Failure
        The images of the batch that could not be read.
    """

    rows: NDArray[np.integer]
    codes: dict[str, NDArray[np.floating]]
    pictures: tuple[DecodedImage, ...]
    failures: tuple[Failure, ...]

    @property
    def n_images(self) -> int:
        """Images of the batch, readable or not."""
        return len(self.rows) + len(self.failures)


def n_decoders(files: Iterable[File]) -> int:
    """Return how many threads read and decode: one for each processor that this process may use.

    Threads that fetch images from a server wait most of their time, so there are more.
    """
    waits = any(local_file(file) is None for file in files)
    return int(joblib.cpu_count()) * (_FETCHERS if waits else 1)


def stream_codes(
    files: Sequence[File],
    backbone: Backbone,
    batch_size: int,
    rows: Sequence[int] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    pace: Pace | None = None,
) -> Generator[CodeBatch, None, None]:
    """Yield the codes of image files, batch by batch, in order.

    Parameters
    ----------
    files : sequence of Path or Url
        Images.
    backbone : Backbone
        Turns images into codes; it is called from two threads.
    batch_size : int
        Images at a time. The last batch is padded, so that the network sees
        one shape. Where memory ends the network gets half as many.
    rows : sequence of int, optional
        Positions of the files to use; all by default.
    max_pixels : int, default=178956970
        Larger images are refused, as images that cannot be read.
    pace : Pace, optional
        Told how long the stages work.

    Yields
    ------
    CodeBatch
    """
    recipe = backbone.recipe
    rows = range(len(files)) if rows is None else rows
    pace = pace or Pace(n_decoders(files[row] for row in rows))
    read = partial(
        read_image,
        size=recipe.view_size,
        resize=recipe.resize,
        scales=recipe.scales,
        jpeg=recipe.jpeg,
        max_pixels=max_pixels,
    )
    batcher = Batcher(backbone, batch_size)
    starts = iter(range(0, len(rows), batch_size))
    decoded: deque[tuple[Sequence[int], list[Future[DecodedImage]]]] = deque()
    inside: deque[Future[CodeBatch]] = deque()
    with _threads(pace.n_decoders) as decoders, _threads(IN_NETWORK) as network:

        def decode_next() -> None:
            start = next(starts, None)
            if start is not None:
                part = rows[start : start + batch_size]
                futures = [decoders.submit(_timed, pace, read, files[row]) for row in part]
                decoded.append((part, futures))

        for _ in range(_AHEAD):
            decode_next()
        while decoded or inside:
            while decoded and len(inside) < IN_NETWORK:
                inside.append(network.submit(_coded, *decoded.popleft(), batcher, pace))
                decode_next()
            yield inside.popleft().result()


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, at the end, leave what they have not begun."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(pace: Pace, read: Callable[[File], DecodedImage], file: File) -> DecodedImage:
    with pace.decode.work():
        return read(file)


def _coded(
    rows: Sequence[int], pictures: Sequence[Future[DecodedImage]], batcher: Batcher, pace: Pace
) -> CodeBatch:
    """Wait for the pictures of a batch and give the readable ones to the network."""
    readable, found, failures = [], [], []
    for row, picture in zip(rows, pictures, strict=True):
        try:
            found.append(picture.result())
            readable.append(row)
        except ImageError as error:
            failures.append(Failure(row, str(error), error.sha256))
    codes = {}
    if found:
        with pace.network.work():
            codes = batcher([picture.views for picture in found])
    return CodeBatch(np.array(readable, np.int64), codes, tuple(found), tuple(failures))
