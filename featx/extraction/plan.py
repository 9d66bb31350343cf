"""The cost of an extraction, estimated before it starts: disk, memory and time.

A job comes in, and its plan goes out. The disk space follows from the recipe and the number
of images. Memory and time are measured: a few batches of the job's own images run through the
same pipeline into a temporary store.
"""

import dataclasses
import shutil
import threading
import time
from dataclasses import dataclass

import numpy as np
import psutil

from featx.extraction.batching import IN_NETWORK
from featx.extraction.prepare import ExtractionJob, extraction_of, prepare_extraction
from featx.extraction.run import run_extraction
from featx.network import Backbone, load_backbone
from featx.signatures import prepared_by
from featx.temporaries import remove_leftovers, temporary_folder

__all__ = [
    "ExtractionPlan",
    "Forecast",
    "PeakMemory",
    "anonymous_bytes",
    "plan",
    "plan_extraction",
]

# The first batches include the compilation of the network. Batches that were in the network
# together finish together, so these numbers are multiples.
_WARM_UP = 2 * IN_NETWORK
_MEASURED = 4 * IN_NETWORK
_SECONDS_BETWEEN_SAMPLES = 0.01
# Copying is not measured: this is what an ordinary disk reads and writes.
_COPIED_BYTES_PER_SECOND = 500e6


@dataclass(frozen=True)
class ExtractionPlan:
    """The estimated cost of an extraction.

    Parameters
    ----------
    n_images : int
        Number of images in the list.
    n_computed : int
        Images that will go through the network; the others are done or copied.
    n_copied : int
        Images whose codes will be copied from the existing store.
    n_unreadable : int
        Images that cannot be read now and will keep their codes.
    n_dropped : int
        Images of the existing store that are not in the list and will be removed.
    code_sizes : dict of str to int
        Features per image, for each layer.
    new_bytes, free_bytes : int
        Bytes that the store or its second copy will need, and free bytes on that disk.
    peak_bytes : int
        Peak of the anonymous memory of the process, in bytes.
    seconds : float
        Time from the first image to the last one.
    images_per_second : float
        Speed after the network is compiled.
    device : str
        Device of the network; empty if nothing is computed.
    batch_size : int
        Images per batch.
    """

    n_images: int
    n_computed: int
    n_copied: int
    n_unreadable: int
    n_dropped: int
    code_sizes: dict[str, int]
    new_bytes: int
    free_bytes: int
    peak_bytes: int
    seconds: float
    images_per_second: float
    device: str
    batch_size: int


class Forecast:
    """Estimate of the duration of a run from its first batches; use it as `progress`.

    Examples
    --------
    >>> Forecast().images_per_second
    0.0
    """

    def __init__(self) -> None:
        self.start()
        self._points: list[tuple[float, int]] = []

    def start(self) -> None:
        """Start the clock again; it also starts when the object is created."""
        self._started = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """Record a batch, unless enough are recorded."""
        if not self.ready:
            self._points.append((time.perf_counter() - self._started, done))

    @property
    def ready(self) -> bool:
        """Whether enough batches are recorded for a forecast."""
        return len(self._points) >= _WARM_UP + _MEASURED

    @property
    def images_per_second(self) -> float:
        """Images per second after the warm-up, or of the whole time if the run is short."""
        if len(self._points) < 2:
            return 0.0
        # Batches that were in the network together finish together, so the time between them
        # is not used.
        short = len(self._points) < _WARM_UP + IN_NETWORK
        since, before = (0.0, 0) if short else self._points[_WARM_UP - 1]
        until, after = self._points[-1]
        return (after - before) / (until - since)

    def seconds(self, n_images: int) -> float:
        """Return the duration of a run of `n_images`, from the first image to the last one."""
        if not self.images_per_second:
            return self._points[0][0] if self._points else 0.0
        if n_images <= self._points[-1][1]:  # all of them are done
            return next(at for at, done in self._points if done >= n_images)
        first_at, n_first = self._points[0]
        return first_at + max(0, n_images - n_first) / self.images_per_second


class PeakMemory:
    """The peak anonymous memory of this process during a block; a context manager.

    Anonymous memory is what the process has for itself, without mapped files such as its own
    programs. On systems that do not report it, resident memory is measured instead.

    Attributes
    ----------
    n_bytes : int
        The peak so far, in bytes.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self.n_bytes = anonymous_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.n_bytes = max(self.n_bytes, anonymous_bytes())
            if self._ended.wait(_SECONDS_BETWEEN_SAMPLES):
                return


def plan_extraction(job: ExtractionJob) -> ExtractionPlan:
    """Estimate the cost of a job.

    Parameters
    ----------
    job : ExtractionJob
        See `prepare_extraction`.

    Returns
    -------
    ExtractionPlan
        The estimate; nothing is left on the disk.
    """
    forecast, device, size = Forecast(), "", 0
    with PeakMemory() as peak:
        if job.n_to_compute:
            backbone = load_backbone(job.recipe, job.source, device=job.device)
            device = backbone.device.description
            size = job.images_per_batch(job.recipe, backbone.device)
            _run_sample(job, backbone, size, forecast)
    n_copied = len(job.remaining.copied)
    copying = n_copied * job.recipe.code_bytes() / _COPIED_BYTES_PER_SECOND
    return ExtractionPlan(
        n_images=job.n_images,
        n_computed=job.n_to_compute,
        n_copied=n_copied,
        n_unreadable=len(job.remaining.unreadable),
        n_dropped=job.remaining.n_dropped,
        code_sizes={layer: job.recipe.code_size(layer) for layer in job.recipe.layers},
        new_bytes=job.new_bytes,
        free_bytes=shutil.disk_usage(job.output.absolute().parent).free,
        peak_bytes=peak.n_bytes,
        seconds=forecast.seconds(job.n_to_compute) + copying,
        images_per_second=forecast.images_per_second,
        device=device,
        batch_size=size,
    )


@prepared_by(prepare_extraction)
def plan(job: ExtractionJob) -> ExtractionPlan:
    """Estimate the disk space, memory and time of an extraction.

    A few batches of the images are run; nothing is left on the disk.

    Returns
    -------
    ExtractionPlan
        Disk, memory, time and device.
    """
    return plan_extraction(job)


def anonymous_bytes() -> int:
    """Return the anonymous memory of this process, in bytes."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))  # only Linux reports what is shared


def _run_sample(
    job: ExtractionJob, backbone: Backbone, batch_size: int, forecast: Forecast
) -> None:
    """Extract a few batches of the job's images into a temporary store."""
    remaining = job.remaining
    rows = np.array([*remaining.rows, *(each.row for each in remaining.extended)], np.int64)
    # A few more than are measured, so that the pipeline stays full to the end.
    n_sample = min(len(rows), batch_size * (_WARM_UP + _MEASURED + IN_NETWORK + 1))
    # Spread over the list, since the size of the images may change along it.
    chosen = np.sort(rows)[np.linspace(0, len(rows) - 1, n_sample).astype(int)]
    records = tuple(job.listing.records[row] for row in chosen)
    listing = dataclasses.replace(job.listing, records=records)
    sample = dataclasses.replace(job, listing=listing, batch_size=batch_size, progress=forecast)
    # On the disk of the output, so that its speed is measured.
    target = remaining.existing.output.absolute()
    remove_leftovers(target.parent)
    with temporary_folder(target) as folder:
        sample = extraction_of(sample, job.recipe, job.source, folder / "sample.h5")
        forecast.start()
        run_extraction(sample, load=lambda recipe: backbone)
