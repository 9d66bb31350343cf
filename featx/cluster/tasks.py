"""Giving tasks out: each is done once, whatever happens to the workers.

Tasks come in, and what they return goes out as they end. One that a dead worker had is
given to another by Dask. At the end, when no task is left to give, those that take much
longer than usual are given to a second worker as well, and the first to end counts: so a
task must not mind being done twice. Two a worker are out at a time, so that memory does
not grow with their number.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from featx.cluster.connecting import Cluster
from featx.errors import ClusterError, FeatxError
from featx.text import counted

if TYPE_CHECKING:
    from distributed import Future

__all__ = ["Task", "given_out"]

# Tasks of a worker that are out: while it does one, the next waits there.
_OUT = 2
# Times the usual, from which on a task is given to a second worker.
_SLOW = 3
# Of the tasks that ended last, whose times are the usual.
_REMEMBERED = 1000
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_WITHOUT_WORKERS = 60
_SECONDS_TO_END = 60

Answer = TypeVar("Answer")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task(Generic[Result]):
    """Something for one worker to do.

    Parameters
    ----------
    run : callable
        Without parameters, or of what all tasks share; a partial of a function of
        a module, or a method, since it travels.
    name : str
        In messages: "Rows 0 to 31".
    """

    run: Callable[..., Result]
    name: str


def given_out(
    cluster: Cluster,
    tasks: Iterable[Task[Result]],
    *,
    kept: str,
    shared: object = None,
    results: bool = True,
) -> Generator[tuple[int, Result], None, None]:
    """Have tasks done by the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
        See `connected`.
    tasks : iterable of Task
        They are taken as workers come free.
    kept : str
        What errors say of the work that is done, and of what to do next.
    shared : object, optional
        Goes to every worker once, and from there to each task's `run`.
    results : bool, default=True
        Whether what tasks return is fetched from the workers, which is one more
        question for each; else None is yielded instead.

    Yields
    ------
    int, object
        The number of a task and what it returned, in the order in which they end.

    Raises
    ------
    ClusterError
        The scheduler or all workers are gone, or a task ended with an error: if that
        was one of featx's, in its words.
    """
    giving = _Giving(cluster, tasks, kept, shared, results)
    try:
        yield from giving.results()
    except Exception:
        giving.wait_for_what_is_out()
        raise
    finally:
        giving.cancel()


@dataclass
class _Out:
    """A task that is out: its number, and since when."""

    number: int
    task: Task[Any]
    began: float


class _Giving(Generic[Result]):
    """Tasks on their way."""

    def __init__(
        self,
        cluster: Cluster,
        tasks: Iterable[Task[Result]],
        kept: str,
        shared: object,
        fetches: bool,
    ) -> None:
        self._cluster, self._client, self._kept = cluster, cluster.client, kept
        self._fetches = fetches
        self._shared: list[Future] = []
        if shared is not None:
            self._shared = [self._client.scatter(shared, broadcast=True, hash=False)]
        self._tasks, self._left = enumerate(tasks), True
        self._out: dict[Future, _Out] = {}
        # Dask puts those that ended there: looking through all that are out would take the
        # longer, the more workers there are.
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._done: set[int] = set()
        self._doubled: set[int] = set()
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self._n_workers, self._seen = self._count_workers(), time.monotonic()
        self._looked = time.monotonic()

    def results(self) -> Generator[tuple[int, Result], None, None]:
        """Yield what tasks return, once each."""
        while self._left or any(each.number not in self._done for each in self._out.values()):
            self._look()
            n_wanted = _OUT * max(1, self._n_workers) - len(self._out)
            if self._left and n_wanted > 0:
                given = list(itertools.islice(self._tasks, n_wanted))
                self._left = len(given) == n_wanted
                for number, task in given:
                    self._give(number, task)
            for future in self._ended_by_now():
                out = self._out.pop(future)
                result = self._result(future, out)
                if out.number not in self._done:
                    self._done.add(out.number)
                    self._times.append(time.monotonic() - out.began)
                    yield out.number, result

    def wait_for_what_is_out(self) -> None:
        """Wait a while: until these have ended, a run that goes on would meet what they do."""
        from distributed import wait as wait_for

        with contextlib.suppress(Exception):
            if self._client.status == "running" and self._count_workers():
                wait_for(list(self._out), timeout=_SECONDS_TO_END)

    def cancel(self) -> None:
        """Give up what is still out."""
        with contextlib.suppress(Exception):
            if self._client.status == "running":
                self._client.cancel(list(self._out), force=True)

    def _give(self, number: int, task: Task[Result], worker: str | None = None) -> None:
        future = self._client.submit(_done_here, task, *self._shared, pure=False, workers=worker)
        self._out[future] = _Out(number, task, time.monotonic())
        future.add_done_callback(self._ended.put)

    def _ended_by_now(self) -> list["Future"]:
        """Return what has ended; wait a moment for the first."""
        ended = []
        with contextlib.suppress(Empty):
            ended.append(self._ended.get(timeout=_SECONDS_BETWEEN_LOOKS))
            while True:
                ended.append(self._ended.get_nowait())
        # One that is lost had ended on a worker that died, and is computed again.
        for future in ended:
            if future.status in {"pending", "lost"}:
                future.add_done_callback(self._ended.put)
        return [each for each in ended if each.status not in {"pending", "lost"}]

    def _look(self) -> None:
        """See now and then whether scheduler and workers are there, and who is late.

        By the clock, not by the task: what concerns all workers takes the longer, the more
        there are.
        """
        self._check_alive()
        now = time.monotonic()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        n_workers = self._count_workers()
        if n_workers:
            self._seen = now
        if now - self._seen > _SECONDS_WITHOUT_WORKERS:
            message = (
                f"{self._cluster.name} has had no worker for {_SECONDS_WITHOUT_WORKERS} s. "
                f"Start workers. {self._kept}"
            )
            raise ClusterError(message)
        if n_workers != self._n_workers and self._cluster.told is not None:
            self._cluster.told(f"{counted(n_workers, 'worker')}, {self._n_workers} before")
        self._n_workers = n_workers
        if self._times and not self._left:
            self._double_slow(_SLOW * statistics.median(self._times))

    def _count_workers(self) -> int:
        return len(self._answer(self._client.scheduler.ncores()))

    def _answer(self, asked: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for an answer of the cluster, for as long as its scheduler is there.

        However long that takes: one that has much to do answers late. But Dask asks one that
        is gone for half a minute, when its client has long learnt of it.
        """
        answer = asyncio.run_coroutine_threadsafe(asked, self._client.loop.asyncio_loop)
        try:
            while not wait([answer], timeout=_SECONDS_BETWEEN_LOOKS).done:
                self._check_alive()
            return answer.result()
        except OSError:
            # The connection broke; the client learns a moment later if the scheduler did it.
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            self._check_alive()
            raise
        finally:
            answer.cancel()

    def _check_alive(self) -> None:
        if self._client.status != "running":
            message = f"The cluster's scheduler is gone. Start it again. {self._kept}"
            raise ClusterError(message)

    def _result(self, future: "Future", out: _Out) -> Result:
        """Return what a task returned; raise what it ended with, if that was an error."""
        from distributed import KilledWorker

        if future.status == "finished":
            if not self._fetches:
                return None  # type: ignore[return-value]  # as it was asked for
            result: Result = self._answer(self._client.gather(future, asynchronous=True))
            return result
        self._check_alive()
        error = future.exception() if future.status == "error" else None
        if isinstance(error, ClusterError):
            raise error
        # Of an error that Dask wraps, what it was.
        cause = error.__cause__ or error if error is not None else None
        reason = f"{type(cause).__name__}: {cause}" if cause is not None else future.status
        if isinstance(error, KilledWorker):
            reason = "each worker that had it died, perhaps of too little memory"
        message = f"{out.task.name}: not done on the cluster: {reason}. Mend that. {self._kept}"
        raise ClusterError(message)

    def _double_slow(self, limit: float) -> None:
        """Give tasks that are out for longer to a worker that has none, each once."""
        now = time.monotonic()
        slow = {
            future.key: out
            for future, out in self._out.items()
            if now - out.began > limit
            and out.number not in self._doubled
            and out.number not in self._done
        }
        if not slow:
            return
        processing = self._answer(self._client.scheduler.processing())
        idle = [worker for worker, keys in processing.items() if not keys]
        running = {key for keys in processing.values() for key in keys}
        late = [out for key, out in slow.items() if key in running]
        for out, worker in zip(late, idle, strict=False):
            self._doubled.add(out.number)
            self._give(out.number, out.task, worker)


def _done_here(task: Task[Result], *shared: object) -> Result:
    """Do a task on a worker; errors of featx travel as one class, in their words."""
    try:
        return task.run(*shared)
    except FeatxError as error:
        raise ClusterError(str(error)) from None
