"""How long each stage of a run works, to show which one limits its speed.

Stages that threads enter and leave come in; fractions of the run's time go out. This module
does not know what the stages do.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import joblib

__all__ = ["Pace", "Stage", "Timings"]


@dataclass(frozen=True)
class Timings:
    """How the time of a run was spent, as fractions from 0 to 1; stages overlap.

    Parameters
    ----------
    decode : float
        Fraction of the time of all processors that decoding took. Waiting for a file, for a
        server, for another thread or for the global interpreter lock is not work.
    network : float
        Fraction of the time in which the network computed a batch: the utilisation of its device.
    write : float
        Fraction of the time in which codes were written, waiting for the disk included.
    waiting : float
        Fraction of the time in which the network had no batch: 1 - network.
    """

    decode: float
    network: float
    write: float
    waiting: float


class Stage:
    """One stage of a run; threads enter and leave it.

    Attributes
    ----------
    worked : float
        Seconds of processor time, of all threads together and of other processes.
    covered : float
        Seconds in which at least one thread of this process was in the stage.
    """

    def __init__(self) -> None:
        self.worked = self.covered = 0.0
        self._lock = threading.Lock()
        self._n_inside = 0
        self._started = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the time of the block, or of each call of the function that this decorates."""
        # The clock of the thread stops while it waits, so threads that share the lock of the
        # interpreter are not taken for threads that work.
        used = time.thread_time()
        with self._lock:
            if self._n_inside == 0:
                self._started = time.perf_counter()
            self._n_inside += 1
        try:
            yield
        finally:
            used = time.thread_time() - used
            with self._lock:
                self._n_inside -= 1
                self.worked += used
                if self._n_inside == 0:
                    self.covered += time.perf_counter() - self._started

    def add(self, seconds: float) -> None:
        """Count work of another process, in seconds of its processor time."""
        with self._lock:
            self.worked += seconds


class Pace:
    """The stages of one run.

    Parameters
    ----------
    n_processors : int, optional
        Number of processors that decode; by default all that this process may use.
    """

    def __init__(self, n_processors: int | None = None) -> None:
        self.n_processors = n_processors or int(joblib.cpu_count())
        self.decode, self.network, self.write = Stage(), Stage(), Stage()

    def timings(self, seconds: float) -> Timings:
        """Return how a run of so many seconds was spent."""
        network = min(1.0, self.network.covered / seconds)
        return Timings(
            decode=min(1.0, self.decode.worked / (seconds * self.n_processors)),
            network=network,
            write=min(1.0, self.write.covered / seconds),
            waiting=1.0 - network,
        )
