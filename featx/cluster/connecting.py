"""Connecting to a cluster: its name comes in, and a connected cluster goes out.

Workers run on other machines or on this one, where they share its processors or have one GPU
each. They need the same version of featx and access to the same files. Whoever can connect to a
scheduler can run code as its user, so workers on this machine use TLS with a key that exists only
in memory and for one run.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import joblib

from featx.errors import OptionError
from featx.text import printable, quoted, system_error

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["Cluster", "connect"]

_SECONDS_TO_CONNECT = 30
_MOST_WORKERS_PER_PROCESSOR = 16
_MOST_SCHEDULER_BYTES = 10_000_000
Found = TypeVar("Found")


@dataclass(frozen=True)
class Cluster:
    """A connected cluster. Use `connect` to get one.

    Parameters
    ----------
    client : distributed.Client
        The client of Dask.
    name : str
        The name that was given to `connect`.
    on_change : callable, optional
        Function that is called with a text when the number of workers changes.
    """

    client: "Client"
    name: str
    on_change: Callable[[str], None] | None = None

    @property
    def dashboard(self) -> str:
        """Address of Dask's dashboard."""
        return str(self.client.dashboard_link)

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses of the current workers, as reported by the scheduler."""
        return tuple(self.client.nthreads())

    def run_on_all(self, function: Callable[..., Found], *args: Any) -> dict[str, Found]:
        """Call a function on every current worker.

        Parameters
        ----------
        function : callable
            A function of a module.
        *args
            Arguments of the function.

        Returns
        -------
        dict
            The results by the address of the worker.

        Raises
        ------
        OptionError
            There are no workers.
        """
        try:
            self.client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
        except TimeoutError as error:
            message = f"{self.name} has no workers. Start some with: dask worker"
            raise OptionError(message) from error
        found: dict[str, Found] = self.client.run(function, *args)
        return found

    def check(self, paths: Sequence[Path]) -> None:
        """Check that all workers have this version of featx and can read some files.

        Parameters
        ----------
        paths : sequence of Path
            The files.

        Raises
        ------
        OptionError
            A worker has another version or cannot find a file, or there are no workers.
        """
        found = self.run_on_all(_describe, [path.absolute() for path in paths])
        for worker, (featx, unseen) in found.items():
            if featx != version("featx"):
                message = (
                    f"The worker {worker} has featx {featx}, but this is featx "
                    f"{version('featx')}. Install the same version everywhere: pip install "
                    f"featx=={version('featx')}"
                )
                raise OptionError(message)
            if unseen:
                message = (
                    f"The worker {worker} cannot find {unseen[0]}. All workers need a shared file "
                    "system with the same paths. Use --cluster local:N on one machine."
                )
                raise OptionError(message)


@contextlib.contextmanager
def connect(
    name: str,
    on_change: Callable[[str], None] | None = None,
    *,
    security: "Security | None" = None,
) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine, as a context manager.

    Log messages of featx on the workers are logged here too, as records with the attribute
    `worker`, an address.

    Parameters
    ----------
    name : str
        "local:N" starts N workers on this machine, which share its processors and end with
        the context. "gpus:N" starts one worker for each of the first N GPUs.
        "tcp://HOST:PORT" and "tls://HOST:PORT" connect to a scheduler, and "file:PATH" to the
        scheduler that wrote the file (``dask scheduler --scheduler-file PATH``).
    on_change : callable, optional
        Function that is called with a text when the number of workers changes.
    security : distributed.Security, optional
        The keys of a scheduler that uses TLS. By default those of Dask's configuration:
        ``distributed.comm.tls`` in ``~/.config/dask``, or variables such as
        ``DASK_DISTRIBUTED__COMM__TLS__CA_FILE``.

    Yields
    ------
    Cluster
        The connected cluster.

    Raises
    ------
    OptionError
        The name has another form, Dask is not installed, or no scheduler answers.
    """
    kind, _, rest = name.partition(":")
    is_here = kind in {"local", "gpus"} and rest.isdecimal() and int(rest) > 0
    if not is_here and not (kind in {"tcp", "tls", "file"} and rest):
        message = (
            f"Unknown value {name!r} for --cluster. Use --cluster with local:N, tcp://HOST:PORT, "
            "tls://HOST:PORT, or file:PATH for the file of a scheduler."
        )
        raise OptionError(message)
    if is_here:
        _check_number(kind, int(rest))
    elif kind == "file":
        _check_scheduler_file(Path(rest))
    try:
        from distributed import Client
    except ImportError as error:
        message = "--cluster needs Dask, which is not installed: pip install 'featx[cluster]'"
        raise OptionError(message) from error
    with contextlib.ExitStack() as opened:
        try:
            if is_here:
                opened.enter_context(_worker_environment(int(rest)))
                local = opened.enter_context(_local(_environments(kind, int(rest))))
                client = opened.enter_context(Client(local))
            else:
                scheduler = {"scheduler_file": rest} if kind == "file" else {"address": name}
                client = Client(**scheduler, security=security, timeout=_SECONDS_TO_CONNECT)
                opened.enter_context(client)
        except TypeError as error:  # of Dask, for an address with TLS and no keys
            message = (
                f"The scheduler of {name} uses TLS, and Dask has no keys for it ({error}). Set "
                "ca-file, client.cert and client.key below distributed.comm.tls in ~/.config/dask, "
                "or DASK_DISTRIBUTED__COMM__TLS__CA_FILE and the like."
            )
            raise OptionError(message) from error
        except (OSError, ValueError) as error:
            message = (
                f"No scheduler answers at {name}: {error}. Start one with dask scheduler and dask "
                "worker, or use --cluster local:2."
            )
            raise OptionError(message) from error
        opened.enter_context(_closed_if_lost(client))
        client.forward_logging("featx", logging.WARNING)
        yield Cluster(client, name, on_change)


def _check_number(kind: str, n_workers: int) -> None:
    """Refuse more workers than a machine can start."""
    most = _MOST_WORKERS_PER_PROCESSOR * joblib.cpu_count()
    if n_workers > most:
        message = (
            f"--cluster {kind}:{n_workers} would start {n_workers:,} processes on "
            f"{joblib.cpu_count()} processors. Use at most {kind}:{most}."
        )
        raise OptionError(message)


def _check_scheduler_file(path: Path) -> None:
    """Refuse a file that does not name a scheduler; Dask would wait for it."""
    try:
        if not path.is_file():
            message = (
                f"The scheduler file {quoted(path)} does not exist, or is not a regular file. "
                f"Start a scheduler first: dask scheduler --scheduler-file {printable(path)}"
            )
            raise OptionError(message)
        found = json.loads(path.read_bytes()[:_MOST_SCHEDULER_BYTES])
        address = found.get("address") if isinstance(found, dict) else None
        reason = "" if isinstance(address, str) else "it has no address"
    except (OSError, RecursionError, UnicodeDecodeError) as error:
        reason = system_error(error) or str(error)
    except json.JSONDecodeError as error:
        reason = f"it is not JSON ({error})"
    if reason:
        message = (
            f"The scheduler file {quoted(path)} cannot be used: {reason}. Start a scheduler "
            f"again: dask scheduler --scheduler-file {printable(path)}"
        )
        raise OptionError(message)


@contextlib.contextmanager
def _closed_if_lost(client: "Client") -> Iterator[None]:
    """Close a client whose scheduler is lost without waiting, and without a traceback."""
    try:
        yield
    finally:
        if client.status != "running":
            local = client.cluster
            if local is not None:
                local.shutdown_scheduler = False  # would wait for half a minute
            disabled = logging.root.manager.disable
            logging.disable()
            try:
                client.close()
            finally:
                logging.disable(disabled)


def _worker_environment(n_workers: int) -> Any:
    """Return a context in which workers start with the threads and malloc of other processes.

    By default, Dask limits BLAS to one thread and makes malloc return memory immediately,
    which costs 3.5 % of the time (benchmarks/README.md).
    """
    import dask

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    values = dict.fromkeys(names, _n_threads(n_workers)) | {"MALLOC_TRIM_THRESHOLD_": None}
    return dask.config.set({"distributed.nanny.pre-spawn-environ": values})


def _n_threads(n_workers: int) -> str:
    """Return the number of processors of each worker."""
    return str(max(1, joblib.cpu_count() // n_workers))


def _environments(kind: str, n_workers: int) -> list[dict[str, str]]:
    """Return the environments of workers that share the processors, and the GPUs too."""
    # TensorFlow and joblib read these when they are first used.
    names = ("TF_NUM_INTRAOP_THREADS", "LOKY_MAX_CPU_COUNT")
    threads = dict.fromkeys(names, _n_threads(n_workers))
    if kind == "local":
        return [threads] * n_workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(k) for k in range(n_workers)]
    return [threads | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:n_workers]]


def _local(environments: Sequence[dict[str, str]]) -> Any:
    """Return a cluster on this machine with a process for each environment."""
    from distributed import Nanny, Scheduler, SpecCluster

    security = _temporary_security()
    here = {"host": "127.0.0.1", "protocol": "tls://", "security": security}
    options = {
        **here,
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,  # errors of tasks are reported by run_tasks
    }
    workers = [{"cls": Nanny, "options": {**options, "env": env}} for env in environments]
    dashboard = {"dashboard_address": "127.0.0.1:0", "dashboard": True}
    return SpecCluster(
        workers=dict(enumerate(workers)),
        worker=workers[0],
        scheduler={"cls": Scheduler, "options": here | dashboard},
        security=security,
        silence_logs=logging.ERROR,
    )


def _temporary_security() -> "Security":
    """Return a new key, without which nobody can connect to the workers."""
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError as error:
        message = (
            "Workers on this machine need the package cryptography, which is not installed: pip "
            "install 'featx[cluster]'"
        )
        raise OptionError(message) from error


# Code that runs on the workers.


def _describe(paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """Return the version of featx on this worker, and the files that it cannot find."""
    return version("featx"), [path for path in paths if not path.exists()]
