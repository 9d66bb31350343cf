"""Connecting: the name of a cluster comes in, and one that can be worked on goes out.

Workers run on other machines, or on this one: some that share its processors, or one for
each of its GPUs. They must be of this featx, and see the same files.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import joblib

from featx.errors import OptionError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "connected"]

_SECONDS_TO_CONNECT = 30
Found = TypeVar("Found")


@dataclass(frozen=True)
class Cluster:
    """A cluster that one is connected to; `connected` makes it.

    Parameters
    ----------
    client : distributed.Client
        Of Dask.
    name : str
        As it was given.
    told : callable, optional
        Called with a sentence when something happens to the workers.
    """

    client: "Client"
    name: str
    told: Callable[[str], None] | None = None

    @property
    def dashboard(self) -> str:
        """Address of the page on which Dask shows what happens."""
        return str(self.client.dashboard_link)

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses of the workers that are there now; the scheduler is asked."""
        return tuple(self.client.nthreads())

    def ask(self, function: Callable[..., Found], *given: Any) -> dict[str, Found]:
        """Call a function on every worker that is there.

        Parameters
        ----------
        function : callable
            Of a module.
        *given
            Its arguments.

        Returns
        -------
        dict
            By address.

        Raises
        ------
        OptionError
            There are no workers.
        """
        try:
            self.client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
        except TimeoutError as error:
            message = f"{self.name} has no workers. Start some: dask worker"
            raise OptionError(message) from error
        found: dict[str, Found] = self.client.run(function, *given)
        return found

    def check(self, paths: Sequence[Path]) -> None:
        """Make sure that all workers are of this featx and see some files.

        Parameters
        ----------
        paths : sequence of Path
            The files.

        Raises
        ------
        OptionError
            One is not, does not, or there are no workers.
        """
        found = self.ask(_describe, [path.absolute() for path in paths])
        for worker, (featx, unseen) in found.items():
            if featx != version("featx"):
                message = (
                    f"The worker {worker} has featx {featx}, and this is featx "
                    f"{version('featx')}. Install the same everywhere: pip install "
                    f"featx=={version('featx')}"
                )
                raise OptionError(message)
            if unseen:
                message = (
                    f"The worker {worker} does not see {unseen[0]}. Expected a file system that "
                    "all workers share, with everything under one path."
                )
                raise OptionError(message)


@contextlib.contextmanager
def connected(name: str, told: Callable[[str], None] | None = None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine; a context manager.

    What featx logs on the workers is logged here too, as records with the
    attribute `worker`, an address.

    Parameters
    ----------
    name : str
        "local:N" starts N workers here, which share its processors and go at the
        end, "gpus:N" one for each of its first N GPUs; "tcp://HOST:PORT" is a
        scheduler that runs; "file:PATH" the file that one wrote
        (``dask scheduler --scheduler-file PATH``).
    told : callable, optional
        Called with a sentence when something happens to the workers.

    Yields
    ------
    Cluster

    Raises
    ------
    OptionError
        The name is none of these, Dask is not installed, or nothing answers there.
    """
    kind, _, rest = name.partition(":")
    is_here = kind in {"local", "gpus"} and rest.isdecimal() and int(rest) > 0
    if not is_here and not (kind in {"tcp", "tls", "file"} and rest):
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
            if is_here:
                opened.enter_context(_before_libraries_load(int(rest)))
                local = opened.enter_context(_local(_environments(kind, int(rest))))
                client = opened.enter_context(Client(local))
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
        opened.enter_context(_closed_if_lost(client))
        client.forward_logging("featx", logging.WARNING)
        yield Cluster(client, name, told)


@contextlib.contextmanager
def _closed_if_lost(client: "Client") -> Iterator[None]:
    """Close a client whose scheduler is gone, without Dask's half a minute and its traceback."""
    try:
        yield
    finally:
        if client.status != "running":
            local = client.cluster
            if local is not None:
                local.shutdown_scheduler = False  # it would be asked to, for half a minute
            logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
            levels = [log.level for log in logs]
            for log in logs:
                log.setLevel(logging.CRITICAL)
            try:
                client.close()
            finally:
                for log, level in zip(logs, levels, strict=True):
                    log.setLevel(level)


def _before_libraries_load(n_workers: int) -> Any:
    """Return a context in which workers start with threads and memory as other processes have.

    Dask has BLAS use one thread, and malloc hand memory back at once, so that each batch's
    activations are mapped anew: 3.5 % of the time (benchmarks/README.md).
    """
    import dask

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    given = dict.fromkeys(names, _share(n_workers)) | {"MALLOC_TRIM_THRESHOLD_": None}
    return dask.config.set({"distributed.nanny.pre-spawn-environ": given})


def _share(n_workers: int) -> str:
    """Return how many processors each worker has."""
    return str(max(1, joblib.cpu_count() // n_workers))


def _environments(kind: str, n_workers: int) -> list[dict[str, str]]:
    """Return the environments of workers that divide this machine's processors, or GPUs too."""
    # Read by TensorFlow and by joblib when first needed.
    names = ("TF_NUM_INTRAOP_THREADS", "LOKY_MAX_CPU_COUNT")
    threads = dict.fromkeys(names, _share(n_workers))
    if kind == "local":
        return [threads] * n_workers
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = seen.split(",") if seen else [str(k) for k in range(n_workers)]
    return [threads | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:n_workers]]


def _local(environments: Sequence[dict[str, str]]) -> Any:
    """Return a cluster of this machine: a process for each environment."""
    from distributed import Nanny, Scheduler, SpecCluster

    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    workers = [
        {
            "cls": Nanny,
            "options": {
                "host": "127.0.0.1",
                "nthreads": 1,
                "memory_limit": 0,
                "silence_logs": logging.CRITICAL,  # errors of tasks come by themselves
                "env": environment,
            },
        }
        for environment in environments
    ]
    return SpecCluster(
        workers=dict(enumerate(workers)),
        worker=workers[0],
        scheduler={"cls": Scheduler, "options": {**here, "dashboard": True}},
        silence_logs=logging.ERROR,
    )


# on the workers


def _describe(paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """Return the version of featx that this worker has, and which of some files it does not see."""
    return version("featx"), [path for path in paths if not path.exists()]
