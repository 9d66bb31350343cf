"""Measure the cost of distributing chunks of rows to up to 1,000 workers that compute nothing.

    python benchmarks/scheduling.py live [--workers 10 100 300]
    python benchmarks/scheduling.py virtual [--workers 10 100 1000] [--costs MS MS]
    python benchmarks/scheduling.py memory

*live*: the loop of `featx extract --cluster` with a real Dask scheduler in its own process. The
workers are Dask's too, all in a third process; instead of computing, they sleep as long as a chunk
takes, and write nothing. The processor time of each process is measured, so that other programs on
this machine have little influence.

*virtual*: the same loop with a simulated clock and scheduler, for what a few cores cannot show:
1,000 workers of different speeds, some of which die or join late, with and without submitting slow
chunks a second time. The costs of a chunk are those of *live*. The figures are the same in each
run.

*memory*: the bytes per image of the lists of images and rows, and the size of a chunk.
"""

import argparse
import asyncio
import heapq
import itertools
import logging
import multiprocessing
import pickle
import queue
import random
import tempfile
import threading
import time
import tracemalloc
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import psutil

from featx.cluster import Cluster, Task, run_tasks
from featx.cluster import tasks as cluster_tasks
from featx.extraction import executors
from featx.extraction.passes import Pass, PassOutput
from featx.images import ImageRecord
from featx.network import WeightsSource, find_weights
from featx.recipe import Recipe

LAYER = "block5_pool"
# Sigma of the log-normal distributions of the speeds of workers, and of the chunks of a worker.
SPREAD, JITTER = 0.3, 0.1
# Seconds per chunk of the live run, on a worker of average speed.
SECONDS = 1.0
ROWS = 32
# Seconds per chunk of the virtual cases: two CPU cores at block5_pool, and a GPU.
SECONDS_OF_CHUNKS = (5.7, 0.2)
# Milliseconds per chunk of the client and of the scheduler, measured by *live*.
COSTS = (0.8, 1.5)


def chunks_of(n: int, rows: int = ROWS) -> Iterator[Task[None]]:
    """Yield chunks as `featx extract --layer block5_pool --pool avg` makes them."""
    recipe = Recipe(weights="random:0", layers=(LAYER,), pool="avg")
    output = PassOutput(0, {LAYER: LAYER}, {})
    whole = Pass((recipe,), (0,), (output,))
    source = find_weights("random:0", (LAYER,))
    for k in range(n):
        chunk = _chunk(whole, source, range(k * rows, (k + 1) * rows))
        yield Task(
            partial(executors._fill_chunk, chunk), f"Rows {k * rows} to {(k + 1) * rows - 1}"
        )


def _chunk(whole: Pass, source: WeightsSource, rows: range) -> executors._Chunk:
    return executors._Chunk(
        part=whole.narrowed(rows),
        files={row: Path(f"/shared/images/train/class/n{row:08}.jpg") for row in rows},
        targets=(Path("/shared/codes.h5.part"),),
        source=source,
        device="auto",
        batch_size=len(rows),
        max_pixels=10**8,
    )


# live


def _scheduler(messages: multiprocessing.Queue) -> None:
    from distributed import Scheduler

    _quiet()

    async def run() -> None:
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            messages.put(scheduler.address)
            await scheduler.finished()

    asyncio.run(run())


def _workers(address: str, n: int, seconds: float, slept: object, messages: object) -> None:
    """Run Dask workers that sleep for each chunk."""
    from distributed import Worker

    own = threading.local()

    def sleep(chunk: executors._Chunk) -> None:
        # Each thread is a worker with its own speed.
        if not hasattr(own, "pace"):
            own.pace = rng.lognormvariate(0, SPREAD)
        started = time.perf_counter()
        time.sleep(seconds * own.pace * rng.lognormvariate(0, JITTER))
        with slept.get_lock():
            slept.value += time.perf_counter() - started

    # Functions are sent by name, so the client sends the same bytes as always.
    executors._fill_chunk = sleep
    rng = random.Random(0)

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "host": "127.0.0.1"}
            workers = [Worker(address, local_directory=folder, **settings) for _ in range(n)]
            for k in range(0, n, 50):
                await asyncio.gather(*workers[k : k + 50])
            messages.put("ready")
            await workers[0].finished()

    _quiet()
    asyncio.run(run())


def _quiet() -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


def live(n_workers: int, n_chunks: int, seconds: float) -> dict:
    """Send chunks to sleeping workers; return rates, and the time per chunk of each process."""
    from distributed import Client

    context = multiprocessing.get_context("spawn")
    messages, slept = context.Queue(), context.Value("d", 0.0)
    scheduler = context.Process(target=_scheduler, args=(messages,), daemon=True)
    scheduler.start()
    address = messages.get(timeout=60)
    args = (address, n_workers, seconds, slept, messages)
    workers = context.Process(target=_workers, args=args, daemon=True)
    workers.start()
    assert messages.get(timeout=300) == "ready"
    processes = [psutil.Process(), psutil.Process(scheduler.pid), psutil.Process(workers.pid)]
    try:
        with Client(address) as client:
            cluster, seen = Cluster(client, "live"), 0
            before = [_processor_seconds(each) for each in processes]
            started = time.perf_counter()
            for _ in run_tasks(cluster, chunks_of(n_chunks), advice="", results=False):
                seen += 1
            whole = time.perf_counter() - started
            after = [_processor_seconds(each) for each in processes]
    finally:
        workers.kill()
        scheduler.kill()
    assert seen == n_chunks
    costs = [(b - a) / n_chunks for a, b in zip(before, after, strict=True)]
    return {
        "rate": n_chunks / whole,
        "giving": costs[0],
        "scheduler": costs[1],
        "workers": costs[2],
        "efficiency": slept.value / (n_workers * whole),
    }


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def print_live(workers: list[int], seconds: float) -> None:
    print("| workers | chunks/s | workers busy | ms per chunk: client | scheduler "
          "| all workers |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- |")
    for n in workers:
        found = live(n, max(500, 5 * n), seconds)
        print(
            f"| {n:,} | {found['rate']:.0f} | {found['efficiency']:.3f} | "
            f"{1e3 * found['giving']:.2f} | {1e3 * found['scheduler']:.2f} | "
            f"{1e3 * found['workers']:.2f} |", flush=True
        )  # fmt: skip


# virtual


@dataclass(eq=False)
class _Submitted:
    """A submitted chunk, as `Client.submit` returns it."""

    key: int
    task: Task[None]
    status: str = "pending"
    callback: Callable[["_Submitted"], None] = lambda submitted: None

    def add_done_callback(self, callback: Callable[["_Submitted"], None]) -> None:
        self.callback = callback


@dataclass
class _Worker:
    """A worker that computes the first of its chunks, while the others wait."""

    pace: float
    since: float
    chunks: deque[_Submitted] = field(default_factory=deque)


class VirtualCluster:
    """A scheduler and workers with a simulated clock, in place of Dask's client.

    Each chunk takes `client_cost` seconds of the client and `scheduler_cost` seconds of the
    scheduler, which do one thing at a time; then it is assigned to a worker with the fewest
    chunks. A worker without chunks takes a waiting one from a worker that has two, as Dask's
    workers do. The chunks of a dead worker are assigned to others.
    """

    status = "running"

    def __init__(
        self, seconds: float, client_cost: float, scheduler_cost: float, seed: int = 0
    ) -> None:
        self.now = self.busy = self.scheduler_busy = self.worked = self.worker_seconds = 0.0
        self._seconds, self._client_cost, self._scheduler_cost = (
            seconds,
            client_cost,
            scheduler_cost,
        )
        self._scheduler_free_at = 0.0
        self._rng = random.Random(seed)
        self._workers: dict[str, _Worker] = {}
        self._open: deque[str] = deque()  # workers that have room, or had it
        self._ended: deque[_Submitted] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    # events

    def join(self, n_workers: int, slow: float = 1) -> list[str]:
        """Add workers; return their names."""
        names = [f"worker-{next(self._count)}" for _ in range(n_workers)]
        for name in names:
            pace = slow * self._rng.lognormvariate(0, SPREAD)
            self._workers[name] = _Worker(pace, self.now)
            self._open.extend([name] * 2)
            self._take_from_others(name)
        return names

    def kill(self, name: str) -> None:
        """Remove a worker, and assign its chunks to others."""
        worker = self._workers.pop(name)
        self.worker_seconds += self.now - worker.since
        for submitted in worker.chunks:
            self._assign(submitted)

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Call a function at a later time."""
        heapq.heappush(self._events, (when, next(self._count), what))

    def _assign(self, submitted: _Submitted) -> None:
        name = self._with_room()
        worker = self._workers[name]
        worker.chunks.append(submitted)
        if len(worker.chunks) == 1:
            self._start(name)

    def _with_room(self) -> str:
        while self._open:
            name = self._open.popleft()
            if name in self._workers and len(self._workers[name].chunks) < 2:
                return name
        return min(self._workers, key=lambda name: len(self._workers[name].chunks))

    def _start(self, name: str) -> None:
        worker = self._workers[name]
        took = self._seconds * worker.pace * self._rng.lognormvariate(0, JITTER)
        self.at(self.now + took, lambda: self._end(name, worker, took))

    def _end(self, name: str, worker: _Worker, took: float) -> None:
        if self._workers.get(name) is not worker:
            return  # it died
        submitted = worker.chunks.popleft()
        submitted.status = "finished"
        self.worked += took
        self._open.append(name)
        if worker.chunks:
            self._start(name)
        else:
            self._take_from_others(name)
        submitted.callback(submitted)

    def _take_from_others(self, name: str) -> None:
        for other in self._workers.values():
            if len(other.chunks) > 1:
                self._workers[name].chunks.append(other.chunks.pop())
                self._start(name)
                return

    # the interface that featx uses

    def submit(self, _: object, task: Task[None], *, pure: bool) -> _Submitted:
        """Submit a chunk, and advance the clock by its cost."""
        assert not pure
        self.now += self._client_cost
        self.busy += self._client_cost
        self._scheduler_free_at = max(self._scheduler_free_at, self.now) + self._scheduler_cost
        self.scheduler_busy += self._scheduler_cost
        submitted = _Submitted(next(self._count), task)
        self.at(self._scheduler_free_at, lambda: self._assign(submitted))
        return submitted

    @property
    def scheduler(self) -> "VirtualCluster":
        """The scheduler is this object."""
        return self

    def ncores(self) -> dict[str, int]:
        """Return the current workers, each with one thread."""
        return dict.fromkeys(self._workers, 1)

    def cancel(self, submitted: list[_Submitted], force: bool) -> None:
        """Do nothing."""

    def monotonic(self) -> float:
        """Return the simulated time; replaces `time.monotonic`."""
        return self.now

    def put(self, submitted: _Submitted) -> None:
        """Add a finished chunk; replaces the queue."""
        self._ended.append(submitted)

    def get(self, timeout: float = 0) -> _Submitted:
        """Advance the clock until a chunk is finished."""
        until = self.now + timeout
        while not self._ended and self._events and self._events[0][0] <= until:
            when, _, what = heapq.heappop(self._events)
            self.now = max(self.now, when)
            what()
        if self._ended:
            return self._ended.popleft()
        self.now = until
        raise queue.Empty

    get_nowait = get

    def run(self, chunks: Iterable[Task[None]], *, twice: bool = True) -> dict:
        """Run chunks with the loop of featx; return counts, rates and times."""
        changes: set[str] = set()
        started = self.now
        slow = cluster_tasks._SLOW if twice else float("inf")
        with (
            mock.patch.object(cluster_tasks, "time", self),
            mock.patch.object(cluster_tasks, "SimpleQueue", return_value=self),
            mock.patch.object(cluster_tasks, "_SLOW", slow),
            # The scheduler answers at once.
            mock.patch.object(cluster_tasks._Run, "_answer", lambda run, answer: answer),
        ):
            cluster = Cluster(self, "virtual", changes.add)
            n_chunks = sum(1 for _ in run_tasks(cluster, chunks, advice="", results=False))
        whole = self.now - started
        present = self.worker_seconds + sum(
            self.now - each.since for each in self._workers.values()
        )
        return {
            "chunks": n_chunks,
            "seconds": whole,
            "rate": n_chunks / whole,
            "giving": self.busy / whole,
            "scheduler": self.scheduler_busy / whole,
            "efficiency": self.worked / present,
            "changes": changes,
        }


def case(n_workers: int, seconds: float, costs: tuple[float, float], *, twice: bool) -> dict:
    """Run 50 chunks per worker; 2 % die, 5 % join late, and 1 % are ten times as slow."""
    cluster = VirtualCluster(seconds, *costs)
    rng = random.Random(1)
    n_late, n_slow = n_workers // 20, max(1, n_workers // 100)
    first = cluster.join(n_workers - n_late - n_slow)
    cluster.join(n_slow, slow=10)
    for name in first[: n_workers // 50]:
        cluster.at(rng.uniform(0, 40 * seconds), lambda name=name: cluster.kill(name))
    cluster.at(10 * seconds, lambda: cluster.join(n_late))
    n_chunks = 50 * n_workers
    found = cluster.run(chunks_of(n_chunks, rows=1), twice=twice)
    assert found["chunks"] == n_chunks
    return found


def print_virtual(workers: list[int], costs: tuple[float, float]) -> None:
    print("| workers | s per chunk | chunks/s | client busy | scheduler busy | workers busy "
          "| total, s | without duplicates, s |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n in workers:
        for seconds in SECONDS_OF_CHUNKS:
            twice, once = (case(n, seconds, costs, twice=each) for each in (True, False))
            print(
                f"| {n:,} | {seconds} | {twice['rate']:.0f} | {twice['giving']:.3f} | "
                f"{twice['scheduler']:.3f} | {twice['efficiency']:.3f} | "
                f"{twice['seconds']:.0f} | {once['seconds']:.0f} |"
            )


# memory


def print_memory(n_images: int = 32 * 2000) -> None:
    """Print the bytes per image in the client, and the size of a chunk."""
    tracemalloc.start()
    listed = [
        ImageRecord(f"class/n{k:08}.jpg", Path(f"/shared/images/class/n{k:08}.jpg"), "class", None,
                    None)
        for k in range(n_images)
    ]  # fmt: skip
    rows = tuple(range(n_images))
    of_all = tracemalloc.get_traced_memory()[0] / len(listed)
    chunk = next(chunks_of(1))
    print("| bytes per image, in the lists of images and rows | bytes of a chunk |")
    print("| --- | --- |")
    print(f"| {of_all:.0f} | {len(pickle.dumps(chunk)):,} |")
    assert len(rows) == n_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["live", "virtual", "memory"])
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="Seconds per chunk; live.")
    parser.add_argument(
        "--costs", type=float, nargs=2, default=COSTS, help="Milliseconds per chunk; virtual."
    )
    args = parser.parse_args()
    if args.what == "live":
        print_live(args.workers or [10, 100, 300], args.seconds)
    elif args.what == "memory":
        print_memory()
    else:
        giving, scheduler = args.costs
        print_virtual(args.workers or [10, 100, 1000], (giving / 1e3, scheduler / 1e3))


if __name__ == "__main__":
    main()
