"""Classifying: a job comes in, and probabilities go out, block by block.

Images are classified as their codes come, which are not kept: a batch of them is in
memory, however many there are. On a cluster workers do both, and send probabilities.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from featx.cluster import Cluster, Task, given_out
from featx.codes.joining import JoinedStores
from featx.errors import ImagesError, OptionError, StoreError
from featx.extraction import (
    ask_workers,
    backbone_here,
    settle_batch_size,
    stream_codes,
    whole_batches,
)
from featx.fitting import Model
from featx.images import File, local_file
from featx.network import Backbone, WeightsSource, load_backbone
from featx.recipe import Recipe
from featx.text import counted
from featx.workflows.predicting.prepare import PredictionJob

__all__ = ["Progress", "probability_blocks"]

# As many codes as a bundle takes at once, in float64: a classifier that compares with the
# codes it was fitted on passes over them once a block.
_CODE_BYTES = 128_000_000
# Of many classes and narrow codes, the probabilities are what fills memory.
_PROBABILITY_BYTES = 16_000_000
# Images of a worker's task, at least; whole batches.
_IMAGES_A_TASK = 32

Progress = Callable[[int, int], None]
_Block = tuple[slice, NDArray[np.float64]]


def probability_blocks(
    job: PredictionJob, progress: Progress | None = None, cluster: Cluster | None = None
) -> Generator[_Block, None, None]:
    """Yield which images were classified, and the probabilities of all classes.

    Parameters
    ----------
    job : PredictionJob
        What `prepare_prediction` returns.
    progress : callable, optional
        Called with (images done, images in all).
    cluster : Cluster, optional
        Whose workers classify images; see `featx.cluster.connected`.

    Yields
    ------
    slice, ndarray of shape (n_images, n_classes)
        In the order of the images; NaN where an image has no code.

    Raises
    ------
    ImagesError
        No image could be read.
    OptionError
        Stores are to be classified on a cluster.
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    if job.joined is None:
        blocks = _of_images(job, cluster)
    elif cluster is None:
        blocks = _of_stores(job.joined, job.bundle)
    else:
        message = (
            f"{job.joined.path} is a store, whose codes are classified in this process. Leave out "
            "--cluster, or give images."
        )
        raise OptionError(message)
    for images, probabilities in blocks:
        yield images, probabilities
        if progress is not None:
            progress(images.stop, job.n_images)


def _of_stores(joined: JoinedStores, bundle: Model) -> Iterator[_Block]:
    n_images, n_classes = len(joined.images), len(bundle.classes)
    step = min(_CODE_BYTES // (8 * joined.recipe.width), _PROBABILITY_BYTES // (8 * n_classes))
    for start in range(0, n_images, max(1, step)):
        images = slice(start, min(start + max(1, step), n_images))
        rows = np.flatnonzero(joined.images.done[images])
        probabilities = np.full((images.stop - start, n_classes), np.nan)
        if len(rows):
            probabilities[rows] = bundle.predict_proba(_read_codes(joined, start + rows))
        yield images, probabilities


def _read_codes(joined: JoinedStores, images: NDArray[np.integer]) -> NDArray[np.floating]:
    """Read the codes of some images, (m, d), layers side by side.

    Not through a memory map, whose pages would count as memory of this process.
    """
    recipe = joined.recipe
    block = np.empty((len(images), recipe.width), recipe.dtype)
    start = 0
    for layer in recipe.layers:
        store, rows = joined.find_layer(layer)
        part = block[:, start : start + recipe.code_size(layer)]
        try:
            store.read_rows(layer, rows[images], out=part)
        except OSError as error:  # or it would be taken for one of the output
            message = f"{store.path} cannot be read: {error.strerror or error}."
            raise StoreError(message) from error
        start += part.shape[1]
    return block


def _of_images(job: PredictionJob, cluster: Cluster | None) -> Iterator[_Block]:
    """Yield the probabilities of images in their order; refuse a job of which none can be read."""
    files = [record.file for record in job.records]
    found = _here(job, files) if cluster is None else _on_workers(job, files, cluster)
    n_failed, first = 0, ""
    # Closed when the caller ends early, so that no thread goes on decoding.
    with contextlib.closing(found):
        for each in found:
            for row, reason in each.failures:
                first = first or f"{files[row]}: {reason}"
            n_failed += len(each.failures)
            yield slice(each.start, each.start + len(each.shares)), each.shares
    if n_failed == len(files):
        message = f"Of {counted(len(files), 'image')} none could be read. The first is {first}."
        raise ImagesError(message)


@dataclass(frozen=True)
class _Classified:
    """Probabilities of neighbouring images, NaN where one cannot be read, and why."""

    start: int
    shares: NDArray[np.float64]
    failures: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Share:
    """Images for one worker, and what it turns them into codes with."""

    start: int
    files: tuple[File, ...]
    recipe: Recipe
    source: WeightsSource
    device: str
    batch_size: int

    def classify(self, bundle: Model) -> list[_Classified]:
        """Return what their images are, batch by batch."""
        backbone = backbone_here((self.recipe,), self.source, self.device)
        batches = _classified(self.files, backbone, self.batch_size, bundle, self.start)
        return list(batches)


def _here(job: PredictionJob, files: Sequence[File]) -> Generator[_Classified, None, None]:
    """Classify images in this process."""
    backbone = load_backbone(job.recipe, cast("WeightsSource", job.source), job.device)
    batch_size = settle_batch_size("auto", job.recipe, len(files), backbone.device)
    return _classified(files, backbone, batch_size, job.bundle)


def _classified(
    files: Sequence[File], backbone: Backbone, batch_size: int, bundle: Model, start: int = 0
) -> Generator[_Classified, None, None]:
    """Yield what images are, of which the first has the number `start`."""
    layers, n_seen = backbone.recipe.layers, 0
    with contextlib.closing(stream_codes(files, backbone, batch_size)) as batches:
        for batch in batches:
            shares = np.full((batch.n_images, len(bundle.classes)), np.nan)
            if len(batch.rows):
                codes = [batch.codes[name].reshape(len(batch.rows), -1) for name in layers]
                shares[batch.rows - n_seen] = bundle.predict_proba(np.hstack(codes))
            failures = tuple((start + each.row, each.reason) for each in batch.failures)
            yield _Classified(start + n_seen, shares, failures)
            n_seen += batch.n_images


def _on_workers(
    job: PredictionJob, files: Sequence[File], cluster: Cluster
) -> Generator[_Classified, None, None]:
    """Classify images on a cluster; what comes too early waits for its turn."""
    source = cast("WeightsSource", job.source)
    image = local_file(files[0])
    cluster.check([] if image is None else [image])
    found = ask_workers(cluster, source, job.recipe.layers, job.device)
    size = settle_batch_size("auto", job.recipe, len(files), found)
    step = whole_batches(_IMAGES_A_TASK, size)
    starts = range(0, len(files), step)
    tasks = (
        Task(
            _Share(
                start,
                tuple(path.absolute() for path in files[start : start + step]),
                job.recipe,
                source,
                job.device,
                size,
            ).classify,
            f"Images {start} to {min(start + step, len(files)) - 1}",
        )
        for start in starts
    )
    waiting: dict[int, list[_Classified]] = {}
    turn = 0
    kept = "Run the same command again."
    with contextlib.closing(given_out(cluster, tasks, kept=kept, shared=job.bundle)) as ended:
        for number, batches in ended:
            waiting[number] = batches
            while turn in waiting:
                yield from waiting.pop(turn)
                turn += 1
