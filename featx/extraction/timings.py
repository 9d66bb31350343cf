"""The pace of a run: how long each of its stages worked, and how long nothing did.

Stages that several threads enter and leave come in; shares of the run's time go
out, so that a user sees which stage is the wall. This file does not know what
the stages do.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Pace", "Stage", "Timings"]


@dataclass(frozen=True)
class Timings:
    """How a run's time was spent, each from 0 to 1; stages overlap.

    Parameters
    ----------
    decode : float
        Of the time of all decoding threads, the part in which they worked.
    network : float
        Part of the time in which the network had a batch.
    write : float
        Part of the time in which the writer wrote.
    waiting : float
        Part of the time in which the network had nothing: 1 - network.
    """

    decode: float
    network: float
    write: float
    waiting: float


class Stage:
    """One stage of a run; its workers enter and leave it, from any thread.

    Attributes
    ----------
    worked : float
        Seconds of all workers together.
    covered : float
        Seconds in which at least one worker was inside.
    """

    def __init__(self) -> None:
        self.worked = self.covered = 0.0
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the block as work."""
        began = time.perf_counter()
        with self._lock:
            if self._inside == 0:
                self._since = began
            self._inside += 1
        try:
            yield
        finally:
            ended = time.perf_counter()
            with self._lock:
                self._inside -= 1
                self.worked += ended - began
                if self._inside == 0:
                    self.covered += ended - self._since


class Pace:
    """The stages of one run.

    Parameters
    ----------
    n_decoders : int
        Threads that decode.
    """

    def __init__(self, n_decoders: int) -> None:
        self.n_decoders = n_decoders
        self.decode, self.network, self.write = Stage(), Stage(), Stage()

    def shares(self, seconds: float) -> Timings:
        """Return how a run of so many seconds was spent."""
        busy = min(1.0, self.network.covered / seconds)
        return Timings(
            decode=min(1.0, self.decode.worked / (seconds * self.n_decoders)),
            network=busy,
            write=min(1.0, self.write.covered / seconds),
            waiting=1.0 - busy,
        )
