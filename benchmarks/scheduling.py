"""Whether the one process that gives leases out is the wall: 1,000 workers with a fake backbone.

    python benchmarks/scheduling.py live [--workers 10 100 300]
    python benchmarks/scheduling.py virtual [--workers 10 100 1000] [--costs MS MS]
    python benchmarks/scheduling.py memory

*live*: `featx extract --cluster`'s own loop, leases and all, on a real scheduler of Dask in a
process of its own. Workers are Dask's too, all in a third process; instead of computing they
sleep for as long as a lease takes, and write nothing. Processor time of each of the three
processes is counted, so that other work on this machine disturbs it little.

*virtual*: the same loop on a clock of its own and a scheduler in some lines, for what a few
cores cannot show: 1,000 workers of uneven speed, of which some die and some join late, with and
without giving slow leases twice. What a lease costs is taken from *live*. Seeded: the same
figures each time.

*memory*: what the list of images and the leases take there, an image.
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
# Of workers' speeds, and of one worker's leases: sigma of a logarithmic normal distribution.
SPREAD, JITTER = 0.3, 0.1
# A lease of the live run, on a worker of usual speed. Where that is more than the machine can
# give out, workers wait, and the rate is the wall.
SECONDS = 1.0
ROWS = 32
# Of the virtual cases: a CPU of two cores at block5_pool, and a GPU.
SECONDS_OF_LEASES = (5.7, 0.2)
# Milliseconds a lease, of giving out and of the scheduler, as *live* found them here.
COSTS = (0.8, 1.5)


def leases_of(n: int, rows: int = ROWS) -> Iterator[Task[None]]:
    """Yield leases as `featx extract --layer block5_pool --pool avg` makes them."""
    recipe = Recipe(weights="random:0", layers=(LAYER,), pool="avg")
    share = PassOutput(0, {LAYER: LAYER}, {})
    whole = Pass((recipe,), (0,), (share,))
    source = find_weights("random:0", (LAYER,))
    for k in range(n):
        lease = _lease(whole, source, range(k * rows, (k + 1) * rows))
        yield Task(
            partial(executors._fill_chunk, lease), f"Rows {k * rows} to {(k + 1) * rows - 1}"
        )


def _lease(whole: Pass, source: WeightsSource, rows: range) -> executors._Chunk:
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


def _scheduler(said: multiprocessing.Queue) -> None:
    from distributed import Scheduler

    _quiet()

    async def run() -> None:
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            said.put(scheduler.address)
            await scheduler.finished()

    asyncio.run(run())


def _workers(address: str, n: int, seconds: float, slept: object, said: object) -> None:
    """Run Dask's workers, on which a lease is a sleep."""
    from distributed import Worker

    own = threading.local()

    def sleep(lease: executors._Chunk) -> None:
        # A thread is a worker: its speed stays.
        if not hasattr(own, "pace"):
            own.pace = drawn.lognormvariate(0, SPREAD)
        began = time.perf_counter()
        time.sleep(seconds * own.pace * drawn.lognormvariate(0, JITTER))
        with slept.get_lock():
            slept.value += time.perf_counter() - began

    # Sent by name, so that the process that gives leases out sends what it always sends.
    executors._fill_chunk = sleep
    drawn = random.Random(0)

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "host": "127.0.0.1"}
            there = [Worker(address, local_directory=folder, **given) for _ in range(n)]
            for k in range(0, n, 50):
                await asyncio.gather(*there[k : k + 50])
            said.put("there")
            await there[0].finished()

    _quiet()
    asyncio.run(run())


def _quiet() -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


def live(n_workers: int, n_leases: int, seconds: float) -> dict:
    """Give leases out to sleeping workers; return rates, and each process's time a lease."""
    from distributed import Client

    context = multiprocessing.get_context("spawn")
    said, slept = context.Queue(), context.Value("d", 0.0)
    scheduler = context.Process(target=_scheduler, args=(said,), daemon=True)
    scheduler.start()
    address = said.get(timeout=60)
    given = (address, n_workers, seconds, slept, said)
    workers = context.Process(target=_workers, args=given, daemon=True)
    workers.start()
    assert said.get(timeout=300) == "there"
    processes = [psutil.Process(), psutil.Process(scheduler.pid), psutil.Process(workers.pid)]
    try:
        with Client(address) as client:
            cluster, seen = Cluster(client, "live"), 0
            before = [_processor_seconds(each) for each in processes]
            began = time.perf_counter()
            for _ in run_tasks(cluster, leases_of(n_leases), advice="", results=False):
                seen += 1
            whole = time.perf_counter() - began
            after = [_processor_seconds(each) for each in processes]
    finally:
        workers.kill()
        scheduler.kill()
    assert seen == n_leases
    costs = [(b - a) / n_leases for a, b in zip(before, after, strict=True)]
    return {
        "rate": n_leases / whole,
        "giving": costs[0],
        "scheduler": costs[1],
        "workers": costs[2],
        "efficiency": slept.value / (n_workers * whole),
    }


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def print_live(workers: list[int], seconds: float) -> None:
    print("| workers | leases/s | of the workers' time at work | ms a lease: giving out "
          "| scheduler | all workers |")  # fmt: skip
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
class _Given:
    """What `Client.submit` returns: a lease that is somewhere."""

    key: int
    task: Task[None]
    only: str | None
    status: str = "pending"
    told: Callable[["_Given"], None] = lambda given: None

    def add_done_callback(self, told: Callable[["_Given"], None]) -> None:
        self.told = told


@dataclass
class _Worker:
    """Computes the first of its leases; the others wait."""

    pace: float
    since: float
    leases: deque[_Given] = field(default_factory=deque)


class VirtualCluster:
    """A scheduler and its workers on a clock of their own; stands for Dask's client.

    Each lease takes `giving` seconds of the process that gives leases out, and `scheduling` of
    the scheduler, which do one thing at a time; then it is at a worker that has the fewest. One
    that has none takes a waiting lease from one that has two, as Dask's workers do. What a dead
    worker had is given to others.
    """

    status = "running"

    def __init__(self, seconds: float, giving: float, scheduling: float, seed: int = 0) -> None:
        self.now = self.busy = self.scheduler_busy = self.worked = self.there = 0.0
        self._seconds, self._giving, self._scheduling = seconds, giving, scheduling
        self._scheduler_free_at = 0.0
        self._drawn = random.Random(seed)
        self._workers: dict[str, _Worker] = {}
        self._open: deque[str] = deque()  # workers that have room, or had it
        self._ended: deque[_Given] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    # what happens there

    def join(self, n_workers: int, slow: float = 1) -> list[str]:
        """Add workers; return their names."""
        names = [f"worker-{next(self._count)}" for _ in range(n_workers)]
        for name in names:
            pace = slow * self._drawn.lognormvariate(0, SPREAD)
            self._workers[name] = _Worker(pace, self.now)
            self._open.extend([name] * 2)
            self._take_from_others(name)
        return names

    def kill(self, name: str) -> None:
        """Take a worker away; others get what it had."""
        worker = self._workers.pop(name)
        self.there += self.now - worker.since
        for given in worker.leases:
            given.only = None
            self._assign(given)

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Let something happen later."""
        heapq.heappush(self._events, (when, next(self._count), what))

    def _assign(self, given: _Given) -> None:
        name = given.only if given.only in self._workers else self._with_room()
        worker = self._workers[name]
        worker.leases.append(given)
        if len(worker.leases) == 1:
            self._start(name)

    def _with_room(self) -> str:
        while self._open:
            name = self._open.popleft()
            if name in self._workers and len(self._workers[name].leases) < 2:
                return name
        return min(self._workers, key=lambda name: len(self._workers[name].leases))

    def _start(self, name: str) -> None:
        worker = self._workers[name]
        took = self._seconds * worker.pace * self._drawn.lognormvariate(0, JITTER)
        self.at(self.now + took, lambda: self._end(name, worker, took))

    def _end(self, name: str, worker: _Worker, took: float) -> None:
        if self._workers.get(name) is not worker:
            return  # it died
        given = worker.leases.popleft()
        given.status = "finished"
        self.worked += took
        self._open.append(name)
        if worker.leases:
            self._start(name)
        else:
            self._take_from_others(name)
        given.told(given)

    def _take_from_others(self, name: str) -> None:
        for other in self._workers.values():
            if len(other.leases) > 1 and other.leases[-1].only is None:
                self._workers[name].leases.append(other.leases.pop())
                self._start(name)
                return

    # what the loop of featx asks

    def submit(self, _: object, task: Task[None], *, pure: bool, workers: str | None) -> _Given:
        """Take a lease; the time it costs passes."""
        assert not pure
        self.now += self._giving
        self.busy += self._giving
        self._scheduler_free_at = max(self._scheduler_free_at, self.now) + self._scheduling
        self.scheduler_busy += self._scheduling
        given = _Given(next(self._count), task, workers)
        self.at(self._scheduler_free_at, lambda: self._assign(given))
        return given

    @property
    def scheduler(self) -> "VirtualCluster":
        """What is asked of the scheduler is asked here."""
        return self

    def ncores(self) -> dict[str, int]:
        """Return the workers that are there, of one thread each."""
        return dict.fromkeys(self._workers, 1)

    def processing(self) -> dict[str, list[int]]:
        """Return what each worker has."""
        return {name: [g.key for g in each.leases] for name, each in self._workers.items()}

    def cancel(self, given: list[_Given], force: bool) -> None:
        """Nothing is left to do."""

    def monotonic(self) -> float:
        """Stand for the clock, `time`."""
        return self.now

    def put(self, given: _Given) -> None:
        """Stand for the queue of what has ended."""
        self._ended.append(given)

    def get(self, timeout: float = 0) -> _Given:
        """Let time pass until something ends."""
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

    def run(self, leases: Iterable[Task[None]], *, twice: bool = True) -> dict:
        """Give leases out by featx's own loop; return what came of it."""
        told: set[str] = set()
        began = self.now
        slow = cluster_tasks._SLOW if twice else float("inf")
        with (
            mock.patch.object(cluster_tasks, "time", self),
            mock.patch.object(cluster_tasks, "SimpleQueue", return_value=self),
            mock.patch.object(cluster_tasks, "_SLOW", slow),
            # Answers are there at once.
            mock.patch.object(cluster_tasks._Run, "_answer", lambda run, answer: answer),
        ):
            cluster = Cluster(self, "virtual", told.add)
            n_leases = sum(1 for _ in run_tasks(cluster, leases, advice="", results=False))
        whole = self.now - began
        there = self.there + sum(self.now - each.since for each in self._workers.values())
        return {
            "leases": n_leases,
            "seconds": whole,
            "rate": n_leases / whole,
            "giving": self.busy / whole,
            "scheduler": self.scheduler_busy / whole,
            "efficiency": self.worked / there,
            "told": told,
        }


def case(n_workers: int, seconds: float, costs: tuple[float, float], *, twice: bool) -> dict:
    """Run 50 leases a worker; 2 % die, 5 % join late, and 1 % are ten times as slow."""
    cluster = VirtualCluster(seconds, *costs)
    drawn = random.Random(1)
    n_late, n_slow = n_workers // 20, max(1, n_workers // 100)
    first = cluster.join(n_workers - n_late - n_slow)
    cluster.join(n_slow, slow=10)
    for name in first[: n_workers // 50]:
        cluster.at(drawn.uniform(0, 40 * seconds), lambda name=name: cluster.kill(name))
    cluster.at(10 * seconds, lambda: cluster.join(n_late))
    n_leases = 50 * n_workers
    found = cluster.run(leases_of(n_leases, rows=1), twice=twice)
    assert found["leases"] == n_leases
    return found


def print_virtual(workers: list[int], costs: tuple[float, float]) -> None:
    print("| workers | a lease, s | leases/s | giving out, busy | scheduler, busy | workers "
          "at work | the whole, s | leases given once, s |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n in workers:
        for seconds in SECONDS_OF_LEASES:
            twice, once = (case(n, seconds, costs, twice=each) for each in (True, False))
            print(
                f"| {n:,} | {seconds} | {twice['rate']:.0f} | {twice['giving']:.3f} | "
                f"{twice['scheduler']:.3f} | {twice['efficiency']:.3f} | "
                f"{twice['seconds']:.0f} | {once['seconds']:.0f} |"
            )


# memory


def print_memory(n_images: int = 32 * 2000) -> None:
    """Say what an image takes in the process that gives leases out."""
    tracemalloc.start()
    listed = [
        ImageRecord(f"class/n{k:08}.jpg", Path(f"/shared/images/class/n{k:08}.jpg"), "class", None,
                    None)
        for k in range(n_images)
    ]  # fmt: skip
    rows = tuple(range(n_images))
    of_all = tracemalloc.get_traced_memory()[0] / len(listed)
    lease = next(leases_of(1))
    print("| bytes an image, in the list of images and of rows | bytes of a lease as sent |")
    print("| --- | --- |")
    print(f"| {of_all:.0f} | {len(pickle.dumps(lease)):,} |")
    assert len(rows) == n_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["live", "virtual", "memory"])
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a lease; live")
    parser.add_argument("--costs", type=float, nargs=2, default=COSTS, help="ms a lease; virtual")
    given = parser.parse_args()
    if given.what == "live":
        print_live(given.workers or [10, 100, 300], given.seconds)
    elif given.what == "memory":
        print_memory()
    else:
        giving, scheduler = given.costs
        print_virtual(given.workers or [10, 100, 1000], (giving / 1e3, scheduler / 1e3))


if __name__ == "__main__":
    main()
