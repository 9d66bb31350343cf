"""The other side of `featx.images.processes`: a process that decodes images until its parent ends.

Chunks of files come in through a connection. Pixels go out through memory that both processes
share, and everything else through the connection. This module does not know how images are decoded:
the first message is the function that does it.
"""

import mmap
import os
import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from featx.errors import ImageError
from featx.images.decoding import DecodedImage
from featx.images.grey import Doubt
from featx.images.urls import Bytes

__all__ = ["Answer", "Outline", "serve"]


@dataclass(frozen=True)
class Outline:
    """A decoded image without its pixels, which are in the shared memory.

    Parameters
    ----------
    shapes : tuple of tuple of int
        Shapes of its views and of its thumbnail, in the order of the memory.
    phash, sha256, doubt
        See `DecodedImage`.
    """

    shapes: tuple[tuple[int, ...], ...]
    phash: int
    sha256: str
    doubt: Doubt


@dataclass(frozen=True)
class Answer:
    """The images of a chunk.

    Parameters
    ----------
    images : tuple of Outline or ImageError
        One for each file, in order.
    n_bytes : int
        Bytes of pixels in the shared memory, from its start.
    seconds : float
        Processor time that the chunk took.
    warnings : tuple of (str, type)
        Message and category of each warning, for the parent to issue.
    """

    images: tuple[Outline | ImageError, ...]
    n_bytes: int
    seconds: float
    warnings: tuple[tuple[str, type[Warning]], ...]


def serve(connection_number: int, memory_number: int) -> None:
    """Decode chunks until the parent closes the connection or ends.

    Parameters
    ----------
    connection_number, memory_number : int
        Descriptors of the connection to the parent and of the shared memory.
    """
    memory = _Memory(memory_number)
    with Connection(connection_number) as connection:
        try:
            connection.send(None)  # featx could be imported
            read = connection.recv()
            while True:
                connection.send_bytes(_answer(read, connection.recv(), memory))
        except (EOFError, OSError):  # the parent is gone
            return


def _answer(
    read: Callable[[Path | Bytes], DecodedImage], files: Sequence[str | Bytes], memory: "_Memory"
) -> bytes:
    """Return the pickled answer to a chunk, or the pickled error that ends the run."""
    started = time.process_time()
    images: list[DecodedImage | ImageError] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # the filters of the parent decide
            for file in files:
                try:
                    images.append(read(Path(file) if isinstance(file, str) else file))
                except ImageError as error:
                    images.append(ImageError(str(error), error.sha256))
        n_bytes = memory.write([a for each in images for a in _arrays(each)])
        answer = Answer(
            images=tuple(_outline(each) for each in images),
            n_bytes=n_bytes,
            seconds=time.process_time() - started,
            warnings=tuple((str(each.message), each.category) for each in caught),
        )
        return pickle.dumps(answer)
    except Exception as error:  # as in a thread, it ends the run
        return _pickled_error(error)


def _pickled_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)  # some exceptions can only be pickled
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data


def _arrays(image: DecodedImage | ImageError) -> tuple[np.ndarray, ...]:
    return () if isinstance(image, ImageError) else (*image.views, image.thumbnail)


def _outline(image: DecodedImage | ImageError) -> Outline | ImageError:
    if isinstance(image, ImageError):
        return image
    shapes = tuple(each.shape for each in _arrays(image))
    return Outline(shapes, image.phash, image.sha256, image.doubt)


class _Memory:
    """Shared memory that grows with the largest chunk."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._map: mmap.mmap | None = None

    def write(self, arrays: Sequence[np.ndarray]) -> int:
        """Write arrays one after another, and return their number of bytes."""
        n_bytes = sum(each.nbytes for each in arrays)
        if n_bytes and (self._map is None or len(self._map) < n_bytes):
            os.ftruncate(self._number, n_bytes)
            self._map = mmap.mmap(self._number, n_bytes)
        start = 0
        for each in arrays:
            shared = np.frombuffer(self._map, np.uint8, each.size, start)  # type: ignore[arg-type]
            shared[...] = each.reshape(-1)
            start += each.nbytes
        return n_bytes
