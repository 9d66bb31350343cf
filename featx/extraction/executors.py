"""The rows of passes are computed in this process or on the workers of a cluster.

Passes and the writers of stores come in; the rows are written, with the same numbers in both
cases. Workers share the file system: each worker opens the stores, writes the rows of its
chunk without a lock, and marks them done when they are on the disk. Rows that are done
therefore survive any crash, and a chunk that two workers compute is written twice with the
same numbers.
"""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featx.cluster import Cluster, Task, run_tasks
from featx.errors import FeatxError, OptionError, StoreError
from featx.extraction.batching import Memory, whole_batches
from featx.extraction.filling import fill_rows
from featx.extraction.passes import Pass
from featx.extraction.pipeline import stream_codes
from featx.extraction.prepare import ExtractionJob
from featx.extraction.timings import Pace
from featx.images import File, local_file
from featx.network import Backbone, WeightsSource, find_device, find_weights, load_backbone
from featx.network.backbone import joint_recipe
from featx.recipe import Recipe
from featx.store import Status, StoreWriter, open_store
from featx.text import counted

__all__ = [
    "Fill",
    "LoadBackbone",
    "WorkerInfo",
    "absolute_spec",
    "cached_backbone",
    "describe_workers",
    "start_here",
    "start_on_workers",
]

logger = logging.getLogger(__name__)

LoadBackbone = Callable[[Recipe], Backbone]
Fill = Callable[[Sequence[StoreWriter], Pace], Generator[int, None, None]]

# The smallest chunk. Chunks are whole batches, so that batches are those of a local run.
_MIN_CHUNK = 32
# The largest chunk on GPUs: a scheduler hands out only some hundred tasks per second.
_MAX_CHUNK_ON_GPU = 1024
# Each GPU gets at least so many chunks, so that all workers finish at about the same time.
_CHUNKS_PER_GPU = 8
_KEPT = "Finished rows are kept, and the same command resumes the run."


def start_here(
    jobs: Sequence[ExtractionJob], passes: Sequence[Pass], load: LoadBackbone | None = None
) -> tuple[dict[str, Any], list[Fill]]:
    """Load the network in this process; `load` returns another backbone for a recipe.

    Returns
    -------
    dict
        Device, batch size and backend of the first pass.
    list of callable
        One for each pass: it writes the rows, and yields the number of rows of each batch.
    """
    import keras

    job = jobs[0]
    fills: list[Fill] = []
    devices, sizes = [], []
    for each in passes:
        backbone = (
            load(each.recipe) if load else load_backbone(each.recipes, job.source, job.device)
        )
        device = getattr(backbone, "device", None)
        size = _batch_size(job, each, device)
        devices.append(device.description if device is not None else "")
        sizes.append(size)
        stream = partial(
            stream_codes,
            job.files,
            backbone,
            size,
            each.rows,
            max_pixels=job.max_pixels,
            decoders=job.decoders,
        )
        fills.append(partial(fill_rows, each, stream))
    facts = {
        "batch_size": sizes[0],
        "device": devices[0],
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
    }
    return facts, fills


def _batch_size(job: ExtractionJob, each: Pass, device: Memory | None) -> int:
    """Return the images per batch of a pass; say so if it is not that of the earlier rows."""
    size, earlier = job.images_per_batch(each.recipe, device), job.remaining.batch_size
    if job.remaining.resumes and earlier is not None and size != earlier:
        logger.warning(
            "The earlier rows were computed in batches of %d images and the others in batches of "
            "%d, so their codes may differ in the last bits from those of one run. %s",
            earlier,
            size,
            "The memory does not hold more."
            if job.batch_size == "auto"
            else f"Use --batch-size {earlier} to avoid that.",
        )
    return size


@dataclass(frozen=True)
class _Chunk:
    """Rows for one worker, and everything that it needs to compute and write them."""

    part: Pass
    files: Sequence[File] | Mapping[int, File]
    targets: tuple[Path, ...]
    source: WeightsSource
    device: str
    batch_size: int
    max_pixels: int

    def narrowed(self, rows: Sequence[int]) -> "_Chunk":
        """Return the chunk for some of its rows."""
        files = {row: self.files[row].absolute() for row in rows}
        return dataclasses.replace(self, part=self.part.narrowed(rows), files=files)


def start_on_workers(
    jobs: Sequence[ExtractionJob], passes: Sequence[Pass], cluster: Cluster
) -> tuple[dict[str, Any], list[Fill]]:
    """Check the workers of a cluster and load the network there; see `start_here`."""
    job, targets = jobs[0], tuple(each.remaining.target.absolute() for each in jobs)
    if isinstance(job.decoders, int):
        message = (
            f"--decoders {job.decoders} was given with a cluster, whose workers decode in threads. "
            "Leave it out, or start several workers on each machine: --cluster local:N."
        )
        raise OptionError(message)
    # A file of this run: the same folder name on another disk does not contain it.
    marker = targets[0].with_name(f".{targets[0].name}.{os.getpid()}.seen")
    marker.touch()
    try:
        image = local_file(job.files[passes[0].rows[0]])
        cluster.check([marker] if image is None else [marker, image])
    finally:
        marker.unlink()
    layers = [layer for each in passes for recipe in each.recipes for layer in recipe.layers]
    workers = describe_workers(cluster, job.source, layers, job.device)
    chunks = [
        _Chunk(
            part=each,
            files=job.files,
            targets=targets,
            source=job.source,
            device=job.device,
            batch_size=_batch_size(job, each, workers),
            max_pixels=job.max_pixels,
        )
        for each in passes
    ]
    # Loaded before the clock starts, as in a local run. Workers that join later load then.
    cluster.run_on_all(_load_network, chunks[0].narrowed(()))
    facts = {
        "batch_size": chunks[0].batch_size,
        "device": f"{workers.description}, {counted(workers.n_workers, 'worker')}",
        "backend": workers.backend,
        "keras": workers.keras,
    }
    n_gpus = workers.n_workers if workers.kind == "gpu" else 0
    return facts, [partial(_fill_on_workers, cluster, chunk, n_gpus) for chunk in chunks]


def _fill_on_workers(
    cluster: Cluster, whole: _Chunk, n_gpus: int, writers: Sequence[StoreWriter], pace: Pace
) -> Generator[int, None, None]:
    """Hand out chunks until all rows are written; yield the rows of each finished chunk."""
    rows = whole.part.rows
    step = whole_batches(images_per_chunk(len(rows), n_gpus), whole.batch_size)
    starts = range(0, len(rows), step)
    # Tasks are made one by one: those of a hundred million images would fill the memory.
    tasks = (_task(whole.narrowed(rows[k : k + step])) for k in starts)
    running = run_tasks(cluster, tasks, advice=_KEPT, results=False)
    with contextlib.closing(running) as done:
        for number, _ in done:
            yield min(step, len(rows) - starts[number])
    for target in whole.targets:
        _check_arrived(target, rows)


def _task(chunk: _Chunk) -> Task[None]:
    first, last = chunk.part.rows[0], chunk.part.rows[-1]
    return Task(partial(_fill_chunk, chunk), f"Rows {first} to {last}")


def images_per_chunk(n_images: int, n_gpus: int) -> int:
    """Return the number of images of a chunk, before it is rounded to whole batches."""
    share = n_images // (_CHUNKS_PER_GPU * n_gpus) if n_gpus else 0
    return max(_MIN_CHUNK, min(_MAX_CHUNK_ON_GPU, share))


def _check_arrived(target: Path, rows: Sequence[int]) -> None:
    """Check that every row is marked: some file systems lose what several machines write."""
    status = open_store(target).images.status[list(rows)]
    n_lost = int((status == Status.PENDING).sum())
    if n_lost:
        message = (
            f"{target} lacks {n_lost:,} of {counted(len(rows), 'row')} that workers wrote. "
            "This file system loses data when several machines write to the same file. Write to "
            "another file system, or use --cluster local:N. The same command computes the missing "
            "rows."
        )
        raise StoreError(message)


@dataclass(frozen=True)
class WorkerInfo:
    """The device, Keras and weights of one worker, or of all workers if these are equal.

    Parameters
    ----------
    kind : {"cpu", "gpu"}
        Kind of processor.
    description : str
        Name of the device, for messages.
    backend, keras : str
        Backend and version of Keras.
    weights : str
        Identity of the weights.
    free : int or None
        Free memory in bytes, the smallest of all workers; None if unknown.
    n_workers : int, default=1
        Number of workers.
    """

    kind: str
    description: str
    backend: str
    keras: str
    weights: str
    free: int | None
    n_workers: int = 1

    def free_bytes(self) -> int | None:
        """Return the free memory of each worker, in bytes; None if unknown."""
        return self.free


def describe_workers(
    cluster: Cluster, source: WeightsSource, layers: Sequence[str], device: str
) -> WorkerInfo:
    """Check that all workers would compute the same codes, and describe their device.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.connect`.
    source : WeightsSource
        Weights of the network.
    layers : sequence of str
        Layers of the codes.
    device : str
        See `find_device`.

    Returns
    -------
    WorkerInfo
        Their common device.

    Raises
    ------
    OptionError
        A worker lacks the device or has other weights, or workers differ in the kind of
        device or the version of Keras.
    """
    workers = []
    for name, found in cluster.run_on_all(_describe, source, tuple(layers), device).items():
        if isinstance(found, str):
            message = f"Worker {name} cannot compute these codes: {found}"
            raise OptionError(message)
        if found.weights != source.identity:
            message = (
                f"Worker {name} has other weights for {source.spec}: {found.weights[:12]}, but "
                f"{source.identity[:12]} was expected. Use --weights with a file that all workers "
                "share."
            )
            raise OptionError(message)
        workers.append(found)
    if len({(each.kind, each.backend, each.keras) for each in workers}) > 1:
        message = (
            "The workers would compute different codes: some of them have a GPU and some do not, "
            "or their versions of Keras differ. Use --device cpu, or workers of one kind."
        )
        raise OptionError(message)
    free = min((each.free for each in workers if each.free is not None), default=None)
    return dataclasses.replace(workers[0], free=free, n_workers=len(workers))


def absolute_spec(source: WeightsSource) -> str:
    """Return the value of --weights that works from any folder and on any worker."""
    if source.path is None or source.spec in {"bundled", "imagenet"}:
        return source.spec
    return os.fspath(source.path.absolute())


# The functions below run on the workers.


def _describe(source: WeightsSource, layers: Sequence[str], device: str) -> WorkerInfo | str:
    """Describe this worker, or return why it cannot compute the codes."""
    import keras

    try:
        found, weights = find_device(device), _find_local_weights(source, layers).identity
    except FeatxError as error:
        return str(error)
    backend, free = keras.backend.backend(), found.free_bytes()
    return WorkerInfo(found.kind, found.description, backend, keras.__version__, weights, free)


def _find_local_weights(source: WeightsSource, layers: Sequence[str]) -> WeightsSource:
    """Find weights on this machine, which keeps bundled and downloaded ones in its own folders."""
    return find_weights(absolute_spec(source), layers, rename=dict(source.rename))


_lock = threading.Lock()
_loaded: dict[tuple[Any, ...], Backbone] = {}


def _fill_chunk(chunk: _Chunk) -> None:
    """Compute and write the rows of a chunk."""
    backbone = cached_backbone(chunk.part.recipes, chunk.source, chunk.device)
    with contextlib.ExitStack() as files:
        writers = [files.enter_context(StoreWriter(path)) for path in chunk.targets]
        # Processes would start again for each chunk, which takes as long as decoding it.
        stream = partial(
            stream_codes,
            chunk.files,
            backbone,
            chunk.batch_size,
            chunk.part.rows,
            max_pixels=chunk.max_pixels,
            decoders="threads",
        )
        filling = fill_rows(chunk.part, stream, writers, Pace())
        for _ in filling:
            pass


def _load_network(chunk: _Chunk) -> None:
    """Load and compile the network that chunks need."""
    backbone = cached_backbone(chunk.part.recipes, chunk.source, chunk.device)
    backbone(np.zeros((chunk.batch_size, *backbone.recipe.view_size, 3), np.uint8))


def cached_backbone(recipes: tuple[Recipe, ...], source: WeightsSource, device: str) -> Backbone:
    """Return the backbone of some recipes on this worker; the last one is kept in memory."""
    key = (recipes, source, device)
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            layers = joint_recipe(recipes).layers
            local_source = _find_local_weights(source, layers)
            _loaded[key] = load_backbone(recipes, local_source, device)
        return _loaded[key]
