"""Running tasks on a cluster: each is completed once, even if workers die.

Tasks come in; their results go out as they complete. Dask gives a task of a dead worker to
another one. When no new tasks are left, tasks that take much longer than usual also run on a
second worker, and the first result counts, so a task must be safe to run twice. Each worker
has at most two tasks at a time, so memory does not grow with the number of tasks.
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

__all__ = ["Task", "run_tasks"]

# Tasks of each worker: one runs while the next one waits.
_TASKS_PER_WORKER = 2
# A task that takes this many times the median time runs on a second worker too.
_SLOW = 3
# Number of recent tasks whose times are kept.
_REMEMBERED = 1000
_SECONDS_BETWEEN_CHECKS = 0.5
_SECONDS_WITHOUT_WORKERS = 60
_SECONDS_TO_END = 60

Answer = TypeVar("Answer")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task(Generic[Result]):
    """A piece of work for one worker.

    Parameters
    ----------
    run : callable
        Function without parameters, or of the object that all tasks share. It is sent to a
        worker, so it must be a function of a module, a partial of one, or a method.
    name : str
        Name for messages, such as "Rows 0 to 31".
    """

    run: Callable[..., Result]
    name: str


def run_tasks(
    cluster: Cluster,
    tasks: Iterable[Task[Result]],
    *,
    advice: str,
    shared: object = None,
    results: bool = True,
) -> Generator[tuple[int, Result], None, None]:
    """Run tasks on the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
        A cluster from `connect`.
    tasks : iterable of Task
        Tasks, which are consumed as workers become free.
    advice : str
        Text at the end of errors: which results are kept, and what to do next.
    shared : object, optional
        Object that is sent to every worker once and passed to each task's `run`.
    results : bool, default=True
        Whether to fetch the results from the workers, which takes one request for each
        task. Otherwise None is yielded.

    Yields
    ------
    int, object
        The index of a task and its result, in the order of completion.

    Raises
    ------
    ClusterError
        The scheduler or all workers are lost, or a task failed. The message of an error of
        featx is kept.
    """
    run = _Run(cluster, tasks, advice, shared, results)
    try:
        yield from run.results()
    except Exception:
        run.wait_for_submitted()
        raise
    finally:
        run.cancel()


@dataclass
class _Submitted:
    """A submitted task, its index, and the time of its submission."""

    index: int
    task: Task[Any]
    began: float


class _Run(Generic[Result]):
    """The state of `run_tasks`."""

    def __init__(
        self,
        cluster: Cluster,
        tasks: Iterable[Task[Result]],
        advice: str,
        shared: object,
        fetch: bool,
    ) -> None:
        self._cluster, self._client, self._advice = cluster, cluster.client, advice
        self._fetch = fetch
        self._shared: list[Future] = []
        if shared is not None:
            self._shared = [self._client.scatter(shared, broadcast=True, hash=False)]
        self._tasks, self._tasks_left = enumerate(tasks), True
        self._submitted: dict[Future, _Submitted] = {}
        # Filled by callbacks of Dask, so that no loop over all submitted tasks is needed.
        self._completed: SimpleQueue[Future] = SimpleQueue()
        self._done: set[int] = set()
        self._duplicated: set[int] = set()
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self._n_workers = self._count_workers()
        self._last_check = self._last_worker = time.monotonic()

    def results(self) -> Generator[tuple[int, Result], None, None]:
        """Yield the result of each task once."""
        while self._tasks_left or any(x.index not in self._done for x in self._submitted.values()):
            self._check()
            n_free = _TASKS_PER_WORKER * max(1, self._n_workers) - len(self._submitted)
            if self._tasks_left and n_free > 0:
                new = list(itertools.islice(self._tasks, n_free))
                self._tasks_left = len(new) == n_free
                for index, task in new:
                    self._submit(index, task)
            for future in self._newly_completed():
                submitted = self._submitted.pop(future)
                result = self._result(future, submitted)
                if submitted.index not in self._done:
                    self._done.add(submitted.index)
                    self._times.append(time.monotonic() - submitted.began)
                    yield submitted.index, result

    def wait_for_submitted(self) -> None:
        """Wait for running tasks after an error, so that they do not disturb the next run."""
        from distributed import wait as wait_for

        with contextlib.suppress(Exception):
            if self._client.status == "running" and self._count_workers():
                wait_for(list(self._submitted), timeout=_SECONDS_TO_END)

    def cancel(self) -> None:
        """Cancel the tasks that are still submitted."""
        with contextlib.suppress(Exception):
            if self._client.status == "running":
                self._client.cancel(list(self._submitted), force=True)

    def _submit(self, index: int, task: Task[Result]) -> None:
        future = self._client.submit(_run_on_worker, task, *self._shared, pure=False)
        self._submitted[future] = _Submitted(index, task, time.monotonic())
        future.add_done_callback(self._completed.put)

    def _newly_completed(self) -> list["Future"]:
        """Return completed futures; wait a moment for the first one."""
        completed = []
        with contextlib.suppress(Empty):
            completed.append(self._completed.get(timeout=_SECONDS_BETWEEN_CHECKS))
            while True:
                completed.append(self._completed.get_nowait())
        # A lost future had completed on a worker that died, and is computed again.
        lost = [future for future in completed if future.status in {"pending", "lost"}]
        for future in lost:
            future.add_done_callback(self._completed.put)
        return [future for future in completed if future not in lost]

    def _check(self) -> None:
        """Check the scheduler, the workers and slow tasks, at most twice a second.

        Requests that concern all workers take longer the more workers there are, so they are
        not made for each task.
        """
        self._check_scheduler()
        now = time.monotonic()
        if now - self._last_check < _SECONDS_BETWEEN_CHECKS:
            return
        self._last_check = now
        n_workers = self._count_workers()
        if n_workers:
            self._last_worker = now
        if now - self._last_worker > _SECONDS_WITHOUT_WORKERS:
            message = (
                f"{self._cluster.name} has had no workers for {_SECONDS_WITHOUT_WORKERS} s. "
                f"Start workers with: dask worker. {self._advice}"
            )
            raise ClusterError(message)
        if n_workers != self._n_workers and self._cluster.on_change is not None:
            self._cluster.on_change(f"{counted(n_workers, 'worker')}, {self._n_workers} before")
        self._n_workers = n_workers
        if self._times and not self._tasks_left:
            self._duplicate_slow(_SLOW * statistics.median(self._times))

    def _count_workers(self) -> int:
        return len(self._answer(self._client.scheduler.ncores()))

    def _answer(self, request: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for an answer of the scheduler as long as it runs.

        A busy scheduler may answer late. Dask itself would try to reach a lost scheduler for
        half a minute, long after its client knows of the loss.
        """
        answer = asyncio.run_coroutine_threadsafe(request, self._client.loop.asyncio_loop)
        try:
            while not wait([answer], timeout=_SECONDS_BETWEEN_CHECKS).done:
                self._check_scheduler()
            return answer.result()
        except OSError:
            # If the scheduler is lost, the client knows a moment after the broken connection.
            time.sleep(_SECONDS_BETWEEN_CHECKS)
            self._check_scheduler()
            raise
        finally:
            answer.cancel()

    def _check_scheduler(self) -> None:
        if self._client.status != "running":
            message = f"The scheduler of the cluster is lost. Start it again. {self._advice}"
            raise ClusterError(message)

    def _result(self, future: "Future", submitted: _Submitted) -> Result:
        """Return the result of a task, or raise its error."""
        from distributed import KilledWorker

        if future.status == "finished":
            if not self._fetch:
                return None  # type: ignore[return-value]  # as requested by the caller
            result: Result = self._answer(self._client.gather(future, asynchronous=True))
            return result
        self._check_scheduler()
        error = future.exception()
        if isinstance(error, ClusterError):
            raise error
        cause = error.__cause__ or error  # Dask wraps some errors
        reason = f"{type(cause).__name__}: {cause}"
        if isinstance(error, KilledWorker):
            reason = "every worker that ran it died, perhaps because of too little memory"
        message = f"{submitted.task.name} failed on the cluster: {reason}. {self._advice}"
        raise ClusterError(message)

    def _duplicate_slow(self, limit: float) -> None:
        """Submit tasks that run for longer than the limit once more; Dask selects idle workers."""
        n_idle = max(0, self._n_workers - len(self._submitted))
        began = time.monotonic() - limit
        known = self._duplicated | self._done
        slow = [s for s in self._submitted.values() if s.began < began and s.index not in known]
        for submitted in slow[:n_idle]:
            self._duplicated.add(submitted.index)
            self._submit(submitted.index, submitted.task)


def _run_on_worker(task: Task[Result], *shared: object) -> Result:
    """Run a task on a worker; errors of featx are sent as ClusterError with their message."""
    try:
        return task.run(*shared)
    except FeatxError as error:
        raise ClusterError(str(error)) from None
