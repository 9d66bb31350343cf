"""Leases: rows of stores, computed and written by the workers of a cluster.

Passes come in; the same stores are left that one process would have made. Workers share
the file system: each opens the stores, writes the rows of its lease without a lock, and
marks them done when they are on the disk, as one process does. So whatever dies, what is
done stays done, and a lease that is given twice writes the same bytes twice.
"""

import contextlib
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featx.cluster import Cluster, Task, given_out
from featx.errors import FeatxError, OptionError, StoreError
from featx.extraction.batching import settle_batch_size, whole_batches
from featx.extraction.passes import Pass, fill_rows, load_for
from featx.extraction.pipeline import n_decoders
from featx.extraction.prepare import ExtractionJob
from featx.extraction.timings import Pace
from featx.images import File, local_file
from featx.network import Backbone, WeightsSource, find_device, find_weights, joint_recipe
from featx.recipe import Recipe
from featx.store import Status, StoreWriter, open_store
from featx.text import counted

__all__ = ["Leases", "WorkerFacts", "ask_workers", "backbone_here"]

# Images of a lease, at least; a whole number of batches, so that they are those of one process.
_LEASE = 32
# And at most, on GPUs: a scheduler gives out some hundred leases a second, whoever computes them.
_LEASE_ON_GPU = 1024
# Leases of a GPU at least, so that workers end together.
_LEASES_OF_GPU = 8
_KEPT = "The rows done so far are kept, and the same command goes on where it stopped."


@dataclass(frozen=True)
class WorkerFacts:
    """What workers compute on: the same for all, with the memory of the one that has the least.

    Parameters
    ----------
    kind : {"cpu", "gpu"}
        What it is.
    description : str
        What is printed.
    backend, keras : str
        Keras's backend, and its version.
    free : int or None
        Bytes of memory, or None if nobody says.
    n_workers : int
        How many there are.
    """

    kind: str
    description: str
    backend: str
    keras: str
    free: int | None
    n_workers: int

    def free_bytes(self) -> int | None:
        """Return the memory that is free on each."""
        return self.free


def ask_workers(
    cluster: Cluster, source: WeightsSource, layers: Sequence[str], device: str
) -> WorkerFacts:
    """Ask what workers compute on, and refuse those that would make other codes.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.connected`.
    source : WeightsSource
        Of the weights.
    layers : sequence of str
        Layers of the codes.
    device : str
        See `find_device`.

    Raises
    ------
    OptionError
        A worker has no such device, other weights, or another kind of device or
        version of Keras than the rest.
    """
    found = cluster.ask(_describe, source, tuple(layers), device)
    for worker, each in found.items():
        if each["error"]:
            message = f"The worker {worker} cannot compute that: {each['error']}"
            raise OptionError(message)
        if each["weights"] != source.identity:
            message = (
                f"The worker {worker} has other weights than {source.spec}: "
                f"{each['weights'][:12]}, expected {source.identity[:12]}. Use --weights with a "
                "file that all workers share."
            )
            raise OptionError(message)
    if len({(each["kind"], each["backend"], each["keras"]) for each in found.values()}) > 1:
        message = (
            "The workers would not make one store: some compute on a GPU and some do not, or "
            "with other versions of Keras. Expected one kind. Use --device cpu, or other workers."
        )
        raise OptionError(message)
    first = next(iter(found.values()))
    known = [each["free"] for each in found.values() if each["free"] is not None]
    return WorkerFacts(
        kind=first["kind"],
        description=first["device"],
        backend=first["backend"],
        keras=first["keras"],
        free=min(known, default=None),
        n_workers=len(found),
    )


@dataclass(frozen=True)
class _Lease:
    """Rows for one worker, and all that it needs to compute and write them."""

    part: Pass
    files: Mapping[int, File]
    targets: tuple[Path, ...]
    source: WeightsSource
    device: str
    batch_size: int
    max_pixels: int


class Leases:
    """Computes on the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.connected`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sizes: dict[tuple[int, ...], int] = {}
        self._facts: dict[str, Any] = {}
        self._n_gpus = 0

    def begin(self, jobs: Sequence[ExtractionJob], passes: Sequence[Pass]) -> None:
        """Ask the workers what they are, and refuse those that would make another store."""
        first = jobs[0]
        folder = first.rest.target.absolute().parent
        # A file of this run: a folder of the same name on another disk does not have it.
        mark = folder / f".{first.rest.target.name}.{os.getpid()}.seen"
        mark.touch()
        try:
            image = local_file(first.files[passes[0].rows[0]])
            self._cluster.check([mark] if image is None else [mark, image])
        finally:
            mark.unlink()
        layers = [layer for each in passes for recipe in each.recipes for layer in recipe.layers]
        found = ask_workers(self._cluster, first.source, layers, first.device)
        self._n_gpus = found.n_workers if found.kind == "gpu" else 0
        for each in passes:
            size = settle_batch_size(first.batch_size, each.recipe, len(each.rows), found)
            self._sizes[each.rows] = size
        # As one process does, before time is taken; who joins later does it then.
        self._cluster.ask(_load_ahead, self._lease(jobs, passes[0], ()))
        self._facts = {
            "batch_size": self._sizes[passes[0].rows],
            "device": f"{found.description}, {counted(found.n_workers, 'worker')}",
            "backend": found.backend,
            "keras": found.keras,
        }

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
        size = self._sizes[each.rows]
        step = whole_batches(_images_of_lease(len(each.rows), self._n_gpus), size)
        starts = range(0, len(each.rows), step)
        # Made as they are given out: of a hundred million images they would fill memory.
        leases = (self._lease(jobs, each, each.rows[k : k + step]) for k in starts)
        tasks = (
            Task(partial(_fill, lease), f"Rows {lease.part.rows[0]} to {lease.part.rows[-1]}")
            for lease in leases
        )
        with contextlib.closing(given_out(self._cluster, tasks, kept=_KEPT, results=False)) as done:
            for number, _ in done:
                yield min(step, len(each.rows) - starts[number])
        for job in jobs:
            _check_arrived(job.rest.target, each.rows)

    def _lease(self, jobs: Sequence[ExtractionJob], each: Pass, rows: Sequence[int]) -> _Lease:
        first = jobs[0]
        return _Lease(
            part=each.narrowed(rows),
            files={row: first.files[row].absolute() for row in rows},
            targets=tuple(job.rest.target.absolute() for job in jobs),
            source=first.source,
            device=first.device,
            batch_size=self._sizes[each.rows],
            max_pixels=first.max_pixels,
        )


def _images_of_lease(n_images: int, n_gpus: int) -> int:
    """Return how many images a lease has, before it is made whole batches."""
    of_gpu = n_images // (_LEASES_OF_GPU * n_gpus) if n_gpus else 0
    return max(_LEASE, min(_LEASE_ON_GPU, of_gpu))


def _check_arrived(target: Path, rows: Sequence[int]) -> None:
    """Look whether every row says that it is done: a file system may lose what others wrote."""
    status = open_store(target).images.status[list(rows)]
    n_lost = int((status == Status.PENDING).sum())
    if n_lost:
        message = (
            f"{n_lost:,} of {counted(len(rows), 'row')} that workers wrote did not arrive in "
            f"{target}: this file system does not keep what several machines write into one file. "
            "Use another, or --cluster local:N. The same command goes on with what is missing."
        )
        raise StoreError(message)


# on the workers


def _describe(source: WeightsSource, layers: Sequence[str], device: str) -> dict[str, Any]:
    """Say what this worker computes on."""
    import keras

    try:
        found, weights = find_device(device), _found_here(source, layers).identity
    except FeatxError as error:
        return {"error": str(error)}
    return {
        "error": "",
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "kind": found.kind,
        "device": found.description,
        "weights": weights,
        "free": found.free_bytes(),
    }


def _found_here(source: WeightsSource, layers: Sequence[str]) -> WeightsSource:
    """Find weights as they lie here: those that come with featx in this machine's own place."""
    named = source.path is None or source.spec in {"bundled", "imagenet"}
    spec = source.spec if named else os.fspath(source.path.absolute())  # type: ignore[union-attr]
    return find_weights(spec, layers, rename=dict(source.rename))


_lock = threading.Lock()
_loaded: dict[tuple[Any, ...], Backbone] = {}


def _fill(lease: _Lease) -> None:
    """Compute and write the rows of a lease."""
    backbone = backbone_here(lease.part.recipes, lease.source, lease.device)
    with contextlib.ExitStack() as files:
        writers = [files.enter_context(StoreWriter(path)) for path in lease.targets]
        for _ in fill_rows(
            lease.part,
            backbone,
            lease.batch_size,
            lease.files,  # type: ignore[arg-type]  # asked for by row alone
            lease.max_pixels,
            writers,
            Pace(n_decoders(lease.files.values())),
        ):
            pass


def _load_ahead(lease: _Lease) -> None:
    """Load and compile what leases will need."""
    backbone = backbone_here(lease.part.recipes, lease.source, lease.device)
    backbone(np.zeros((lease.batch_size, *backbone.recipe.view_size, 3), np.uint8))


def backbone_here(recipes: tuple[Recipe, ...], source: WeightsSource, device: str) -> Backbone:
    """Return the backbone of some recipes on this worker; that of the one before is kept."""
    key = (recipes, source, device)
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            layers = joint_recipe(recipes).layers
            _loaded[key] = load_for(recipes, _found_here(source, layers), device)
        return _loaded[key]
