"""Decoding in another process, which does not wait for the global interpreter lock of this one.

Files come in, and decoded images or the reasons against them go out, as from `read_image`. One
object is one other process, which one thread at a time may use:

* it is a new Python that imports featx only, with the import path of this one. So it starts from an
  unguarded script, a notebook and a thread, and inherits neither locks nor a GPU;
* pixels come back through memory without a name, and everything else through a socket. The process
  ends when the socket closes, so a killed run leaves nothing behind;
* if it ends in the middle of a chunk, another one takes its place and makes the images again, one
  by one. An image with which it ends again cannot be read;
* members of archives, and files on servers, are read here: an archive is opened once, and what
  this program has registered with fsspec works.

This module does not know what the images are for.
"""

import contextlib
import hashlib
import math
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError, OptionError
from featx.images.decoding import DecodedImage
from featx.images.serving import Answer
from featx.images.urls import Bytes, File, read_file

__all__ = ["Decoded", "DecodingProcess", "Source", "source_of"]

#: A decoded image, or why there is none.
Decoded = DecodedImage | ImageError
#: What another process decodes: a path, bytes, or the reason why there are no bytes.
Source = str | Bytes | ImageError

_START = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from featx.images.serving import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
)
# Each process works in one thread; libraries of linear algebra would start more.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Seconds that a process has to end after its connection broke, before it is killed.
_GRACE = 5


class DecodingProcess:
    """Another process that decodes images; it starts with the first chunk.

    Parameters
    ----------
    read : callable
        Returns the `DecodedImage` of a Path or Bytes, or raises ImageError. It is pickled, so it
        must be a function of a module, or a `functools.partial` of one.
    """

    def __init__(self, read: Callable[[File | Bytes], DecodedImage]) -> None:
        self._read = read
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._memory = _Memory()
        self._lock = threading.Lock()  # of the next two, and of starting and killing
        self._killed = self._busy = False

    def decode(self, sources: Sequence[Source]) -> tuple[list[Decoded], float]:
        """Decode a chunk of images.

        Parameters
        ----------
        sources : sequence of Source
            What `source_of` returned for each file.

        Returns
        -------
        list of DecodedImage or ImageError
            One for each file, in order.
        float
            Seconds of processor time of the other process.

        Raises
        ------
        CancelledError
            `kill` was called.
        OptionError
            The process does not start.
        Exception
            Any error of `read` that is not an ImageError.
        """
        with self._lock:
            if self._killed:
                raise CancelledError
            self._busy = True
        try:
            readable = [each for each in sources if not isinstance(each, ImageError)]
            images, seconds = self._decode_all(readable)
        finally:
            self._busy = False
        decoded = iter(images)
        return [
            each if isinstance(each, ImageError) else next(decoded) for each in sources
        ], seconds

    def kill(self) -> None:
        """Cancel the call of `decode` that is running, if any, and refuse later ones."""
        with self._lock:
            self._killed = True
            if self._process is not None and self._busy:
                self._process.kill()

    def close(self) -> None:
        """End the process and release its memory; no call of `decode` may be running."""
        self._wait()
        self._memory.close()

    def _decode_all(self, sources: Sequence[str | Bytes]) -> tuple[list[Decoded], float]:
        """Decode a chunk, one by one if the process ends."""
        with contextlib.suppress(_EndedError):
            return self._decode(sources)
        images, seconds = [], 0.0
        for each in sources:
            image, more = self._decode_again(each)
            images.append(image)
            seconds += more
        return images, seconds

    def _decode_again(self, source: str | Bytes) -> tuple[Decoded, float]:
        """Decode one image of a chunk in which the process ended."""
        try:
            (image,), seconds = self._decode([source])
        except _EndedError as error:
            file = Path(source) if isinstance(source, str) else source
            sha256 = None
            with contextlib.suppress(ImageError):
                sha256 = hashlib.sha256(read_file(file)).hexdigest()
            return ImageError(f"decoding it ended the process twice ({error})", sha256), 0.0
        return image, seconds

    def _decode(self, sources: Sequence[str | Bytes]) -> tuple[list[Decoded], float]:
        if not sources:
            return [], 0.0
        try:
            connection = self._connection or self._started()
            connection.send(sources)
            answer = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError) as error:
            status = self._wait()
            if self._killed:
                raise CancelledError from error
            raise _EndedError(status) from error
        if isinstance(answer, Exception):
            raise answer
        for text, category in answer.warnings:
            warnings.warn(text, category, stacklevel=2)
        return list(self._memory.images(answer)), answer.seconds

    def _started(self) -> Connection:
        """Start the process and return the connection to it."""
        own, other = socket.socketpair()
        self._connection = connection = Connection(own.detach())
        with other, self._lock:
            if self._killed:
                raise CancelledError
            numbers = other.fileno(), self._memory.number
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _START, *map(str, numbers), *_import_path()],
                    pass_fds=numbers,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | _ONE_THREAD,
                    process_group=0,  # Ctrl-C is for the parent, which then ends this process
                )
            except OSError as error:
                raise _cannot_start(str(error)) from error
        try:
            connection.recv()
        except (EOFError, OSError) as error:
            status = self._wait()
            if self._killed:
                raise CancelledError from error
            raise _cannot_start(status) from error
        connection.send(self._read)
        return connection

    def _wait(self) -> str:
        """Close the connection, wait for the end of the process, and return how it ended."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return "not started"
        try:
            status = process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def source_of(file: File) -> Source:
    """Return what another process decodes: a path, or the bytes of any other file.

    Raises
    ------
    OptionError
        A package is missing that reads such a URL.
    """
    if isinstance(file, Path):
        return os.fspath(file.absolute())
    try:
        return Bytes(read_file(file), str(file))
    except ImageError as error:
        return error


class _EndedError(Exception):
    """The process ended during a chunk; the message is how."""


class _Memory:
    """Memory that two processes share through its descriptor; it has no name."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self.number = os.memfd_create("featx")
        else:
            with tempfile.TemporaryFile() as file:
                self.number = os.dup(file.fileno())
        self._map: mmap.mmap | None = None
        self._free: list[mmap.mmap] = []

    def images(self, answer: Answer) -> Iterator[Decoded]:
        """Yield the images of an answer; their pixels are copied, since the next chunk follows."""
        if self._map is None or len(self._map) < answer.n_bytes:
            self._map = mmap.mmap(self.number, answer.n_bytes) if answer.n_bytes else None
        pixels = self._block(answer.n_bytes)
        if self._map is not None:
            pixels[...] = np.frombuffer(self._map, np.uint8, answer.n_bytes)
        pixels.flags.writeable = False
        start = 0
        for each in answer.images:
            if isinstance(each, ImageError):
                yield each
                continue
            arrays = []
            for shape in each.shapes:
                stop = start + math.prod(shape)
                arrays.append(pixels[start:stop].reshape(shape))
                start = stop
            *views, thumbnail = arrays
            # A thumbnail is kept longer than pixels, and must not keep those of the whole chunk.
            thumbnail = np.frombuffer(thumbnail.tobytes(), np.uint8).reshape(thumbnail.shape)
            yield DecodedImage(tuple(views), thumbnail, each.phash, each.sha256, each.doubt)

    def _block(self, n_bytes: int) -> NDArray[np.uint8]:
        """Return memory that is used again when no image refers to it: new pages are slow."""
        memory = self._free.pop() if self._free else None
        if memory is None or len(memory) < n_bytes:
            memory = mmap.mmap(-1, max(1, n_bytes))
        block = np.frombuffer(memory, np.uint8, n_bytes)
        # Views of a view refer to the array that refers to the memory.
        weakref.finalize(block, self._free.append, memory).atexit = False
        return block

    def close(self) -> None:
        """Release the memory."""
        self._map = None
        os.close(self.number)


def _import_path() -> list[str]:
    return [each for each in sys.path if isinstance(each, str)]


def _cannot_start(reason: str) -> OptionError:
    message = (
        f"A process that decodes images cannot be started with {sys.executable} ({reason}). "
        "Use --decoders threads."
    )
    return OptionError(message)
