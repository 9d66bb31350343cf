"""A cluster: leases of rows, each computed and written by one of Dask's workers.

An extraction job and the name of a cluster come in; the same store is left that one
process would have made. Workers share the file system: each opens the store, writes the
rows of its lease without a lock, and marks them done when they are on the disk, as one
process does. So whatever dies, what is done stays done.

A lease that a dead worker had is given to another by Dask. At the end, when no lease is
left to give, those that take much longer than usual are given to a second worker as
well: both write the same bytes, and the first to end counts. Two leases a worker are out
at a time, so that memory does not grow with the images.
"""

import contextlib
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from featx.errors import FeatxError, OptionError, StoreError
from featx.extraction.batching import settle_batch_size
from featx.extraction.jobs import ExtractionJob
from featx.extraction.pace import Pace
from featx.extraction.passes import Pass, fill_rows, load_pass
from featx.extraction.running import Extraction, Progress, fill_stores
from featx.network import Backbone, WeightsSource, find_device, find_weights
from featx.store import Status, StoreWriter, open_store

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Cluster", "connected", "run_extraction_on"]

# Images of a lease, at least; a whole number of batches, so that they are those of one process.
_LEASE = 32
# And at most, on GPUs: a scheduler gives out some hundred leases a second, whoever computes them.
_LEASE_ON_GPU = 1024
# Leases of a GPU at least, so that workers end together.
_LEASES_OF_GPU = 8
# Leases of a worker that are out: while it computes one, the next waits there.
_OUT = 2
# Times the usual, from which on a lease is given to a second worker.
_SLOW = 3
# Leases whose times say what is usual.
_REMEMBERED = 1000
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_CONNECT = 30
_SECONDS_WITHOUT_WORKERS = 60
_SECONDS_TO_END = 60


@dataclass(frozen=True)
class Cluster:
    """A cluster that one is connected to.

    Parameters
    ----------
    client : distributed.Client
        Of Dask.
    name : str
        As it was given.
    """

    client: "Client"
    name: str

    @property
    def dashboard(self) -> str:
        """Address of the page on which Dask shows what happens."""
        return str(self.client.dashboard_link)

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses of the workers that are there now."""
        return tuple(self.client.nthreads())


@contextlib.contextmanager
def connected(name: str) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine; a context manager.

    Parameters
    ----------
    name : str
        "local:N" starts N workers here, which share its processors and go at the end;
        "tcp://HOST:PORT" is a scheduler that runs; "file:PATH" the file that one wrote
        (``dask scheduler --scheduler-file PATH``).

    Yields
    ------
    Cluster

    Raises
    ------
    OptionError
        The name is none of these, Dask is not installed, or nothing answers there.
    """
    kind, _, rest = name.partition(":")
    is_local = kind == "local" and rest.isdecimal() and int(rest) > 0
    if not is_local and not (kind in {"tcp", "tls", "file"} and rest):
        message = (
            f"No such cluster: {name}. Expected --cluster local:N, tcp://HOST:PORT or "
            "file:PATH, the scheduler's file."
        )
        raise OptionError(message)
    try:
        from distributed import Client
    except ImportError as error:
        message = "A cluster is Dask's, which is not installed: pip install 'featx[cluster]'"
        raise OptionError(message) from error
    with contextlib.ExitStack() as opened:
        try:
            if is_local:
                cluster = opened.enter_context(_local(int(rest)))
                client = opened.enter_context(Client(cluster))
            elif kind == "file":
                client = opened.enter_context(
                    Client(scheduler_file=rest, timeout=_SECONDS_TO_CONNECT)
                )
            else:
                client = opened.enter_context(Client(name, timeout=_SECONDS_TO_CONNECT))
        except (OSError, ValueError) as error:
            message = (
                f"No scheduler answers at {name}: {error}. Start one (dask scheduler, dask "
                "worker), or use --cluster local:2."
            )
            raise OptionError(message) from error
        yield Cluster(client, name)


def _local(n_workers: int) -> Any:
    """Return a cluster of this machine, whose workers divide its processors."""
    from distributed import LocalCluster

    share = str(max(1, joblib.cpu_count() // n_workers))
    # Read by TensorFlow, by BLAS (for which Dask says 1) and by joblib when first needed.
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        env=dict.fromkeys(names, share),
        silence_logs=40,
    )


def run_extraction_on(
    cluster: Cluster,
    job: ExtractionJob,
    *,
    progress: Progress | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Extraction:
    """Run a job on a cluster.

    Parameters
    ----------
    cluster : Cluster
        See `connected`.
    job : ExtractionJob
        See `prepare_extraction`.
    progress : callable, optional
        Called with (images done, images in all) after each lease that is safe in the
        store.
    told : callable, optional
        Called with a sentence when something happens to the workers.

    Returns
    -------
    Extraction
        Its `shares` are 0: what workers wait for, Dask's dashboard shows.

    Raises
    ------
    OptionError
        The workers are not of this featx, or do not see the files.
    StoreError
        The scheduler or all workers are gone, or what `run_extraction` says. The rows
        that are done are kept.
    """
    (found,) = fill_stores([job], progress, _Leases(cluster, told))
    return found


@dataclass(frozen=True)
class _Lease:
    """Rows for one worker, and all that it needs to compute and write them."""

    part: Pass
    files: Mapping[int, Path]
    targets: tuple[Path, ...]
    source: WeightsSource
    device: str
    batch_size: int
    max_pixels: int


@dataclass(frozen=True)
class _Memory:
    """What a worker computes on, and the memory that is free there."""

    kind: str
    free: int | None

    def free_bytes(self) -> int | None:
        return self.free


class _Leases:
    """Computes on a cluster's workers."""

    def __init__(self, cluster: Cluster, told: Callable[[str], None]) -> None:
        self._cluster, self._told = cluster, told
        self._sizes: dict[tuple[int, ...], int] = {}
        self._facts: dict[str, Any] = {}
        self._on_gpus = 0

    def begin(self, jobs: Sequence[ExtractionJob], passes: Sequence[Pass]) -> None:
        """Ask the workers what they are, and refuse those that would make another store."""
        client, first = self._cluster.client, jobs[0]
        try:
            client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
        except TimeoutError as error:
            message = f"{self._cluster.name} has no workers. Start some: dask worker"
            raise OptionError(message) from error
        folder = first.rest.target.absolute().parent
        # A file of this run: a folder of the same name on another disk does not have it.
        mark = folder / f".{first.rest.target.name}.{os.getpid()}.seen"
        mark.touch()
        try:
            paths = (mark, first.files[passes[0].rows[0]].absolute())
            found = client.run(_describe, first.source, first.recipe.layers, first.device, paths)
        finally:
            mark.unlink()
        for worker, each in found.items():
            _check(worker, each, first.source, paths)
        of_one = next(iter(found.values()))
        kinds = {each["kind"] for each in found.values()}
        backends = {(each["backend"], each["keras"]) for each in found.values()}
        if len(kinds) > 1 or len(backends) > 1:
            message = (
                "The workers would not make one store: some compute on a GPU and some do not, or "
                "with other versions of Keras. Expected one kind. Use --device cpu, or other "
                "workers."
            )
            raise OptionError(message)
        self._on_gpus = len(found) if of_one["kind"] == "gpu" else 0
        # As one process would, with the memory of the worker that has the least.
        known = [each["free"] for each in found.values() if each["free"] is not None]
        memory = _Memory(of_one["kind"], min(known, default=None))
        for each in passes:
            size = settle_batch_size(first.batch_size, each.recipes[0], len(each.rows), memory)
            self._sizes[each.rows] = size
        # As one process does, before time is taken; who joins later does it then.
        client.run(_load_ahead, self._lease(jobs, passes[0], (), ()))
        self._facts = {
            "batch_size": self._sizes[passes[0].rows],
            "device": f"{of_one['device']}, {len(found)} workers",
            "backend": of_one["backend"],
            "keras": of_one["keras"],
        }

    def _lease(
        self,
        jobs: Sequence[ExtractionJob],
        each: Pass,
        files: Sequence[Path],
        rows: Sequence[int],
    ) -> _Lease:
        first = jobs[0]
        return _Lease(
            part=each.narrowed(rows),
            files={row: files[row].absolute() for row in rows},
            targets=tuple(job.rest.target.absolute() for job in jobs),
            source=first.source,
            device=first.device,
            batch_size=self._sizes[each.rows],
            max_pixels=first.max_pixels,
        )

    def facts(self) -> dict[str, Any]:
        """Return device, batch size and backend of the workers."""
        return self._facts

    def fill(
        self,
        jobs: Sequence[ExtractionJob],
        each: Pass,
        writers: Sequence[StoreWriter],
        pace: Pace,
    ) -> Generator[int, None, None]:
        """Give leases out until all rows are written."""
        size, files = self._sizes[each.rows], jobs[0].files
        step = size * max(1, _images_of_lease(len(each.rows), self._on_gpus) // size)
        leases = deque(
            self._lease(jobs, each, files, each.rows[k : k + step])
            for k in range(0, len(each.rows), step)
        )
        yield from _given_out(self._cluster, leases, self._told)
        for job in jobs:
            _check_arrived(job.rest.target, each.rows)


def _images_of_lease(n_images: int, n_gpus: int) -> int:
    """Return how many images a lease has, before it is made whole batches."""
    of_gpu = n_images // (_LEASES_OF_GPU * n_gpus) if n_gpus else 0
    return max(_LEASE, min(_LEASE_ON_GPU, of_gpu))


def _given_out(
    cluster: Cluster, leases: deque[_Lease], told: Callable[[str], None]
) -> Generator[int, None, None]:
    """Give leases to workers; yield how many rows of each are done, once.

    What a lease costs here does not grow with the workers: those that have ended come
    through a queue, and what concerns all workers is looked at twice a second.
    """
    from distributed import wait

    client = cluster.client
    out: dict[Future, tuple[_Lease, float]] = {}
    ended: SimpleQueue[Future] = SimpleQueue()
    doubled: set[tuple[int, ...]] = set()
    done: set[tuple[int, ...]] = set()
    times: deque[float] = deque(maxlen=_REMEMBERED)
    n_workers = len(cluster.workers)
    looked = seen = time.monotonic()

    def give(lease: _Lease, worker: str | None = None) -> None:
        future = client.submit(_fill_lease, lease, pure=False, workers=worker)
        out[future] = lease, time.monotonic()
        future.add_done_callback(ended.put)

    try:
        while leases or any(lease.part.rows not in done for lease, _ in out.values()):
            _check_alive(client)
            if time.monotonic() - looked >= _SECONDS_BETWEEN_LOOKS:
                looked, n_before, n_workers = time.monotonic(), n_workers, len(cluster.workers)
                seen = looked if n_workers else seen
                if looked - seen > _SECONDS_WITHOUT_WORKERS:
                    message = (
                        f"{cluster.name} has had no worker for {_SECONDS_WITHOUT_WORKERS} s. The "
                        "rows done so far are kept. Start workers, and run the same command: it "
                        "goes on where it stopped."
                    )
                    raise StoreError(message)
                if n_workers != n_before:
                    told(f"{n_workers} workers, {n_before} before")
                if not leases and times:
                    usual = statistics.median(times)
                    for lease, idle in _late(client, out, doubled, _SLOW * usual):
                        give(lease, idle)
            while leases and len(out) < _OUT * max(1, n_workers):
                give(leases.popleft())
            for future in _taken(ended):
                lease, began = out.pop(future)
                _check_ended(client, future, lease)
                if lease.part.rows not in done:
                    done.add(lease.part.rows)
                    times.append(time.monotonic() - began)
                    yield len(lease.part.rows)
    except Exception:
        # Until these have ended, a run that goes on would find the store changed under it.
        with contextlib.suppress(Exception):
            if client.status == "running" and cluster.workers:
                wait(list(out), timeout=_SECONDS_TO_END)
        raise
    finally:
        # What is out still may write: the same bytes, into rows that are done.
        with contextlib.suppress(Exception):
            client.cancel(list(out), force=True)


def _taken(ended: "SimpleQueue[Future]") -> Iterator["Future"]:
    """Yield what has ended; wait for the first of them until it is time to look at the workers."""
    with contextlib.suppress(Empty):
        yield ended.get(timeout=_SECONDS_BETWEEN_LOOKS)
        while True:
            yield ended.get_nowait()


def _late(
    client: "Client",
    out: dict["Future", tuple[_Lease, float]],
    doubled: set[tuple[int, ...]],
    limit: float,
) -> Iterator[tuple[_Lease, str]]:
    """Yield leases that are out for longer, each once, and a worker that has none."""
    processing = client.processing()
    running = {key for keys in processing.values() for key in keys}
    idle = [worker for worker, keys in processing.items() if not keys]
    for future, (lease, began) in list(out.items()):
        late = time.monotonic() - began > limit
        if idle and late and future.key in running and lease.part.rows not in doubled:
            doubled.add(lease.part.rows)
            yield lease, idle.pop()


def _check_arrived(target: Path, rows: Sequence[int]) -> None:
    """Look whether every row says that it is done: a file system may lose what others wrote."""
    status = open_store(target).images.status[list(rows)]
    n_lost = int((status == Status.PENDING).sum())
    if n_lost:
        message = (
            f"{n_lost} of {len(rows)} rows that workers wrote did not arrive in {target}: this "
            "file system does not keep what several machines write into one file. Use another, or "
            "--cluster local:N. The same command goes on with what is missing."
        )
        raise StoreError(message)


def _check_alive(client: "Client") -> None:
    if client.status != "running":
        message = (
            "The cluster's scheduler is gone. The rows done so far are kept. Start it again, and "
            "run the same command: it goes on where it stopped."
        )
        raise StoreError(message)


def _check_ended(client: "Client", future: "Future", lease: _Lease) -> None:
    """Raise what a lease ended with, if that was an error."""
    from distributed import KilledWorker

    # One that is lost had ended, its rows written, on a worker that died since.
    if future.status in {"finished", "lost"}:
        return
    _check_alive(client)
    error = future.exception() if future.status == "error" else None
    if isinstance(error, FeatxError):
        raise error
    reason = f"{type(error).__name__}: {error}" if error is not None else future.status
    if isinstance(error, KilledWorker):
        reason = "each worker that had it died, perhaps of too little memory"
    first, last = lease.part.rows[0], lease.part.rows[-1]
    message = (
        f"Rows {first} to {last} could not be computed on the cluster: {reason}. The rows done so "
        "far are kept. Mend that, then run the same command again: it goes on where it stopped."
    )
    raise StoreError(message)


def _check(
    worker: str, found: Mapping[str, Any], source: WeightsSource, paths: Sequence[Path]
) -> None:
    """Refuse a worker that would make other codes, or elsewhere."""
    if found["featx"] != version("featx"):
        message = (
            f"The worker {worker} has featx {found['featx']}, and this is featx "
            f"{version('featx')}. Install the same everywhere: pip install "
            f"featx=={version('featx')}"
        )
        raise OptionError(message)
    unseen = [path for path, sees in zip(paths, found["sees"], strict=True) if not sees]
    if unseen:
        message = (
            f"The worker {worker} does not see {unseen[0]}. Expected images and store on a file "
            "system that all workers share, under one path."
        )
        raise OptionError(message)
    if found["weights"] != source.identity:
        message = (
            f"The worker {worker} has other weights than {source.spec}: {found['weights'][:80]}, "
            f"expected {source.identity[:12]}. Use --weights with a file that all workers share."
        )
        raise OptionError(message)


# on the workers


def _describe(
    source: WeightsSource, layers: Sequence[str], device: str, paths: Sequence[Path]
) -> dict[str, Any]:
    """Say what this worker is, and what it sees."""
    import keras

    found = find_device(device)
    try:
        weights = _found(source, layers).identity
    except FeatxError as error:
        weights = str(error)
    return {
        "featx": version("featx"),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "kind": found.kind,
        "device": found.description,
        "sees": [path.exists() for path in paths],
        "weights": weights,
        "free": found.free_bytes(),
    }


def _found(source: WeightsSource, layers: Sequence[str]) -> WeightsSource:
    """Find weights as they lie here: those that come with featx in this machine's own place."""
    named = source.path is None or source.spec in {"bundled", "imagenet"}
    spec = source.spec if named else os.fspath(source.path.absolute())  # type: ignore[union-attr]
    return find_weights(spec, layers, rename=dict(source.rename))


_lock = threading.Lock()
_loaded: dict[tuple[Any, ...], Backbone] = {}


def _fill_lease(lease: _Lease) -> int:
    """Compute and write the rows of a lease; return how many."""
    try:
        backbone = _backbone_of(lease)
        with contextlib.ExitStack() as files:
            writers = [files.enter_context(StoreWriter(path)) for path in lease.targets]
            written = fill_rows(
                lease.part,
                backbone,
                lease.batch_size,
                lease.files,  # type: ignore[arg-type]  # asked for by row alone
                lease.max_pixels,
                writers,
                Pace(int(joblib.cpu_count())),
            )
            return sum(written)
    except FeatxError as error:
        # Of this one class, whatever it was: others have arguments that do not travel.
        raise StoreError(str(error)) from None


def _load_ahead(lease: _Lease) -> None:
    """Load and compile what leases will need."""
    try:
        backbone = _backbone_of(lease)
    except FeatxError as error:
        raise StoreError(str(error)) from None
    shape = backbone.recipe.view_size
    backbone(np.zeros((lease.batch_size, *shape, 3), np.uint8))


def _backbone_of(lease: _Lease) -> Backbone:
    """Return the backbone of a lease; that of the one before is kept."""
    key = (lease.part.recipes, lease.source, lease.device)
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            source = _found(lease.source, lease.part.recipes[0].layers)
            _loaded[key] = load_pass(lease.part, source, lease.device)
        return _loaded[key]
