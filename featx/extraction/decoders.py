"""The threads that decode images, themselves or each with the help of another process.

Files come in, and futures of their images go out. Threads share the global interpreter lock. They
need it for a small part of each image, but with many cores these parts add up, and more threads
only wait. Other processes have their own locks, but each takes a moment to start and tens of
megabytes. So threads start, and the first batches tell whether processes would be faster. This
module does not know the network or the store.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import joblib

from featx.errors import ImageError, OptionError
from featx.extraction.batching import IN_NETWORK
from featx.extraction.settings import DecoderChoice
from featx.extraction.timings import Pace
from featx.images import DecodedImage, File, local_file
from featx.images.processes import Decoded, DecodingProcess, source_of
from featx.images.urls import Bytes
from featx.text import counted

__all__ = ["Chunks", "Decoders", "check_decoders", "n_decoders"]

logger = logging.getLogger(__name__)

#: The images of some files, in order, in parts.
Chunks = Sequence[Future[list[Decoded]]]

# Threads per processor if images come from a server.
_FETCHERS = 4
# Larger chunks would save less than a microsecond per image.
_MAX_CHUNK = 16
# With two cores, a network on the CPU needs both, and one thread keeps the other one busy.
_MIN_PROCESSORS = 3
_MAX_PROCESSES = 32
# Measured over so many seconds: processes are started if the network has nothing to do for more
# than this fraction of the time, although more than this fraction of the processors is free.
_SECONDS, _IDLE_NETWORK, _FREE_PROCESSORS = 1.0, 0.1, 0.25
# Of the time in which a batch is in the network or waits for its images. If the network is just
# fast enough, one of two batches waits.
_WAITING_FOR_IMAGES = 0.5


def check_decoders(decoders: DecoderChoice) -> None:
    """Check that a number of decoding processes is "auto", "threads" or at least 1.

    Raises
    ------
    OptionError
        It is something else.
    """
    is_number = isinstance(decoders, int) and decoders is not True and decoders >= 1
    if not is_number and decoders not in {"auto", "threads"}:
        message = (
            "--decoders must be auto, threads, or a number of processes from 1, but it is "
            f"{decoders!r}."
        )
        raise OptionError(message)


def n_decoders(files: Iterable[File]) -> int:
    """Return the number of decoding threads: one per available processor, or more.

    There are more if images come from a server, since most threads wait for it then.
    """
    waits = any(local_file(file) is None for file in files)
    return int(joblib.cpu_count()) * (_FETCHERS if waits else 1)


class Decoders:
    """Threads that decode files ahead, and the processes that do it for them.

    Parameters
    ----------
    read : callable
        Returns the `DecodedImage` of a file, or raises ImageError; see `DecodingProcess`.
    choice : int, "auto" or "threads"
        Number of processes; "threads" starts none, and "auto" as many as there are
        processors, if threads are too slow for the network. If images come from a server,
        threads wait for it and not for each other, so "auto" starts none.
    n_threads : int
        Number of threads, at least one for each process.
    pace : Pace
        Gets the work of the threads and processes, and tells how busy the network is.
    """

    def __init__(
        self,
        read: Callable[[File | Bytes], DecodedImage],
        choice: DecoderChoice,
        n_threads: int,
        pace: Pace,
    ) -> None:
        self._read, self._choice, self._pace = read, choice, pace
        self._n_workers = n_threads
        self._processes: list[DecodingProcess] = []
        self._in_processes = False
        self._idle: queue.LifoQueue[DecodingProcess] = queue.LifoQueue()
        self._stopped = False
        self._watch: _Watch | None = None
        if isinstance(choice, int):
            n_threads = max(n_threads, choice)
            self._use_processes(choice)
        elif choice == "auto" and _MIN_PROCESSORS <= joblib.cpu_count() == n_threads:
            self._watch = _Watch(pace)
        self._threads = ThreadPoolExecutor(n_threads)

    @property
    def n_workers(self) -> int:
        """Number of threads or processes that decode."""
        return self._n_workers

    def start(self, files: Sequence[File]) -> Chunks:
        """Start decoding files, in chunks: a future for each image would take longer."""
        size = max(1, min(_MAX_CHUNK, len(files) // self._n_workers))
        starts = range(0, len(files), size)
        return [self._threads.submit(self._decode, files[k : k + size]) for k in starts]

    def images(self, chunks: Chunks) -> list[Decoded]:
        """Wait for images, and return them or the reasons against them, in order."""
        started = time.perf_counter()
        found = [image for chunk in chunks for image in chunk.result()]
        if self._watch is not None:
            self._watch.add_waiting(time.perf_counter() - started)
        return found

    def reconsider(self) -> None:
        """Start processes if threads turned out to be too slow; called after each batch."""
        if self._watch is not None and self._watch.are_threads_too_slow():
            self._watch = None
            self._use_processes(min(int(joblib.cpu_count()), _MAX_PROCESSES))
            logger.info(
                "the network waits for images: decoding in %s",
                counted(self._n_workers, "process", "processes"),
            )

    def stop(self) -> None:
        """Cancel everything that was started and is not finished."""
        self._stopped = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """Stop, and wait for the end of all threads and processes."""
        self.stop()
        self._threads.shutdown()
        for process in self._processes:
            process.close()

    def _use_processes(self, n_processes: int) -> None:
        new = [DecodingProcess(self._read) for _ in range(n_processes)]
        self._processes, self._n_workers = new, n_processes
        for each in new:
            self._idle.put(each)
        self._in_processes = True

    def _decode(self, files: Sequence[File]) -> list[Decoded]:
        if not self._in_processes:
            return self._decode_here(files)
        sources = [source_of(file) for file in files]  # before a process is occupied
        process = self._idle.get()
        try:
            images, seconds = process.decode(sources)
        except OptionError as error:
            if isinstance(self._choice, int):
                raise
            if self._in_processes:  # later chunks are decoded here
                self._in_processes = False
                logger.warning("%s", error)
            return self._decode_here(files)
        finally:
            self._idle.put(process)
        self._pace.decode.add(seconds)
        return images

    def _decode_here(self, files: Sequence[File]) -> list[Decoded]:
        with self._pace.decode.work():
            return [self._decoded(file) for file in files]

    def _decoded(self, file: File) -> Decoded:
        if self._stopped:
            raise CancelledError
        try:
            return self._read(file)
        except ImageError as error:
            return error


class _Watch:
    """Tells whether threads are too slow for a network, although processors are free."""

    def __init__(self, pace: Pace) -> None:
        self._pace, self._lock = pace, threading.Lock()
        self._waited = 0.0
        self._start: tuple[float, float, float] | None = None

    def add_waiting(self, seconds: float) -> None:
        """Count the time in which a batch waited for its images."""
        with self._lock:
            self._waited += seconds

    def are_threads_too_slow(self) -> bool:
        """Return whether they were since the last answer; False until enough time has passed."""
        now = time.perf_counter(), time.process_time(), self._pace.network.covered
        if self._start is None:  # the first batch also compiles the network
            self._start, self._waited = now, 0.0
            return False
        seconds, used, busy = (new - old for new, old in zip(now, self._start, strict=True))
        if seconds < _SECONDS:
            return False
        with self._lock:
            waited, self._waited = self._waited, 0.0
        self._start = now
        return (
            1 - busy / seconds > _IDLE_NETWORK
            and waited / (IN_NETWORK * seconds) > _WAITING_FOR_IMAGES
            and 1 - used / (seconds * joblib.cpu_count()) > _FREE_PROCESSORS
        )
