"""How long each stage of a run works, to show which one limits its speed.

Stages that threads enter and leave come in; fractions of the run's time go out. This module
does not know what the stages do.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Pace", "Stage", "Timings"]


@dataclass(frozen=True)
class Timings:
    """How the time of a run was spent, as fractions from 0 to 1; stages overlap.

    Parameters
    ----------
    decode : float
        Fraction of the time of all decoding threads in which they worked.
    network : float
        Fraction of the time in which the network had a batch.
    write : float
        Fraction of the time in which codes were written.
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
        Seconds of all threads together.
    covered : float
        Seconds in which at least one thread was in the stage.
    """

    def __init__(self) -> None:
        self.worked = self.covered = 0.0
        self._lock = threading.Lock()
        self._n_inside = 0
        self._started = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the time of the block, or of each call of the function that this decorates."""
        entered = time.perf_counter()
        with self._lock:
            if self._n_inside == 0:
                self._started = entered
            self._n_inside += 1
        try:
            yield
        finally:
            left = time.perf_counter()
            with self._lock:
                self._n_inside -= 1
                self.worked += left - entered
                if self._n_inside == 0:
                    self.covered += left - self._started


class Pace:
    """The stages of one run.

    Parameters
    ----------
    n_decoders : int
        Number of decoding threads.
    """

    def __init__(self, n_decoders: int) -> None:
        self.n_decoders = n_decoders
        self.decode, self.network, self.write = Stage(), Stage(), Stage()

    def timings(self, seconds: float) -> Timings:
        """Return how a run of so many seconds was spent."""
        network = min(1.0, self.network.covered / seconds)
        return Timings(
            decode=min(1.0, self.decode.worked / (seconds * self.n_decoders)),
            network=network,
            write=min(1.0, self.write.covered / seconds),
            waiting=1.0 - network,
        )
