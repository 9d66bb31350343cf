"""Classification: a job comes in, and probabilities go out, block by block.

Images are classified as soon as their codes are computed, and codes are not kept: one batch
is in memory, however many images there are. On a cluster, workers compute and classify the
codes and send back probabilities.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from featx.cluster import Cluster, Task, run_tasks
from featx.codes.joining import JoinedStores
from featx.errors import ImagesError, OptionError, StoreError
from featx.extraction.batching import flat_codes, settle_batch_size, whole_batches
from featx.extraction.executors import cached_backbone, describe_workers
from featx.extraction.pipeline import stream_codes
from featx.fitting import Model
from featx.images import THUMBNAIL_SIZE, File, local_file
from featx.network import Backbone, WeightsSource, load_backbone
from featx.recipe import Recipe
from featx.workflows.predicting.prepare import PredictionJob

__all__ = ["Block", "probability_blocks"]

# Bytes of codes, as float64, that the model gets at once. Large blocks are faster for a
# classifier that compares with the codes it was fitted on: it reads those once per block.
_CODE_BYTES = 128_000_000
# With many classes and few features, probabilities take more memory than codes.
_PROBABILITY_BYTES = 16_000_000
# Smallest number of images in a worker's task, rounded up to whole batches.
_IMAGES_PER_TASK = 32


class Block(NamedTuple):
    """Consecutive images with the probabilities of all classes."""

    images: slice
    probabilities: NDArray[np.float64]
    #: Why images have no probabilities, by their number.
    reasons: dict[int, str]
    #: Thumbnails, (n, 32, 32, 3), zeros for images without probabilities; None for a store.
    thumbnails: NDArray[np.uint8] | None = None


# Probabilities and thumbnails of consecutive images, and the numbers of those that could not be
# read, with why.
_Batch = tuple[NDArray[np.float64], NDArray[np.uint8], list[tuple[int, str]]]


def probability_blocks(
    job: PredictionJob, cluster: Cluster | None = None
) -> Generator[Block, None, None]:
    """Yield the images that were classified, and the probabilities of all classes.

    Parameters
    ----------
    job : PredictionJob
        The result of `prepare_prediction`.

    cluster : Cluster, optional
        Its workers classify images; see `featx.cluster.connect`.

    Yields
    ------
    Block
        Blocks in the order of the images; NaN for an image without codes, and its reason.

    Raises
    ------
    ImagesError
        No image could be read.
    OptionError
        The input is stores and there is a cluster.
    ClusterError
        The cluster is lost, or a worker failed.
    """
    if job.joined is None:
        blocks = _of_images(job, cluster)
    elif cluster is None:
        blocks = _of_stores(job.joined, job.model)
    else:
        message = (
            f"{job.joined.path} is a store, and stores are classified in this process. Leave out "
            "--cluster, or use images as input."
        )
        raise OptionError(message)
    for block in blocks:
        yield block
        if job.progress is not None:
            job.progress(block.images.stop, job.n_images)


def _of_stores(joined: JoinedStores, model: Model) -> Iterator[Block]:
    n_images, n_classes = len(joined.images), len(model.classes)
    step = min(_CODE_BYTES // (8 * joined.recipe.n_features), _PROBABILITY_BYTES // (8 * n_classes))
    step = max(1, step)
    for start in range(0, n_images, step):
        images = slice(start, min(start + step, n_images))
        rows = np.flatnonzero(joined.images.done[images])
        probabilities = np.full((images.stop - start, n_classes), np.nan)
        if len(rows):
            probabilities[rows] = model.predict_proba(_read_codes(joined, start + rows))
        lacking = np.flatnonzero(~joined.images.done[images]) + start
        reasons = {int(k): joined.images.reason[k] or "not extracted yet" for k in lacking}
        yield Block(images, probabilities, reasons)


def _read_codes(joined: JoinedStores, images: NDArray[np.integer]) -> NDArray[np.floating]:
    """Read the codes of some images, (m, d), layers side by side.

    A memory map is not used, since its pages would count as memory of this process.
    """
    recipe = joined.recipe
    block = np.empty((len(images), recipe.n_features), recipe.dtype)
    start = 0
    for layer in recipe.layers:
        store, rows = joined.find_layer(layer)
        part = block[:, start : start + recipe.code_size(layer)]
        try:
            store.read_rows(layer, rows[images], out=part)
        except OSError as error:  # otherwise reported as an error of the output file
            message = f"{store.path} cannot be read: {error.strerror or error}."
            raise StoreError(message) from error
        start += part.shape[1]
    return block


def _of_images(job: PredictionJob, cluster: Cluster | None) -> Iterator[Block]:
    """Yield the probabilities of images; raise an error if none of them can be read."""
    files = [record.file for record in job.records]
    batches = _here(job, files) if cluster is None else _on_workers(job, files, cluster)
    start = n_failed = 0
    first = ""
    # Closing stops the decoding threads if the caller stops early.
    with contextlib.closing(batches):
        for probabilities, thumbnails, failures in batches:
            for row, reason in failures:
                first = first or f"{files[start + row]}: {reason}"
            n_failed += len(failures)
            reasons = {start + row: reason for row, reason in failures}
            own = slice(start, start + len(probabilities))
            yield Block(own, probabilities, reasons, thumbnails)
            start += len(probabilities)
    if n_failed == len(files):
        message = f"No image could be read. The first of {len(files)} is {first}."
        raise ImagesError(message)


def _here(job: PredictionJob, files: Sequence[File]) -> Generator[_Batch, None, None]:
    """Classify images in this process."""
    backbone = load_backbone(job.recipe, cast("WeightsSource", job.source), job.device)
    batch_size = settle_batch_size("auto", job.recipe, len(files), backbone.device)
    return _classified(files, backbone, batch_size, job.model)


def _classified(
    files: Sequence[File], backbone: Backbone, batch_size: int, model: Model
) -> Generator[_Batch, None, None]:
    """Yield the probabilities of images, and which images of the batch could not be read."""
    layers, n_seen = backbone.recipe.layers, 0
    with contextlib.closing(stream_codes(files, backbone, batch_size)) as batches:
        for batch in batches:
            probabilities = np.full((batch.n_images, len(model.classes)), np.nan)
            thumbnails = np.zeros((batch.n_images, *THUMBNAIL_SIZE, 3), np.uint8)
            if len(batch.rows):
                thumbnails[batch.rows - n_seen] = [each.thumbnail for each in batch.images]
                codes = flat_codes(batch.codes, layers)
                probabilities[batch.rows - n_seen] = model.predict_proba(codes)
            yield (
                probabilities,
                thumbnails,
                [(each.row - n_seen, each.reason) for each in batch.failures],
            )
            n_seen += batch.n_images


def _classified_by_worker(
    files: Sequence[File],
    network: tuple[tuple[Recipe], WeightsSource, str],
    batch_size: int,
    model: Model,
) -> list[_Batch]:
    return list(_classified(files, cached_backbone(*network), batch_size, model))


def _on_workers(
    job: PredictionJob, files: Sequence[File], cluster: Cluster
) -> Generator[_Batch, None, None]:
    """Classify images on a cluster; results that arrive early wait for their turn."""
    source = cast("WeightsSource", job.source)
    image = local_file(files[0])
    cluster.check([] if image is None else [image])
    found = describe_workers(cluster, source, job.recipe.layers, job.device)
    batch_size = settle_batch_size("auto", job.recipe, len(files), found)
    step = whole_batches(_IMAGES_PER_TASK, batch_size)
    network = (job.recipe,), source, job.device

    def task(start: int) -> Task[list[_Batch]]:
        own = [path.absolute() for path in files[start : start + step]]
        work = partial(_classified_by_worker, own, network, batch_size)
        return Task(work, f"Images {start} to {start + len(own) - 1}")

    tasks = (task(start) for start in range(0, len(files), step))
    waiting: dict[int, list[_Batch]] = {}
    turn = 0
    kept = "Run the same command again."
    with contextlib.closing(run_tasks(cluster, tasks, advice=kept, shared=job.model)) as ended:
        for number, batches in ended:
            waiting[number] = batches
            while turn in waiting:
                yield from waiting.pop(turn)
                turn += 1
