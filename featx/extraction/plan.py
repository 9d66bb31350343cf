"""The price of an extraction, before it is paid: disk, memory and time.

A job comes in; its plan goes out. Disk follows from the recipe and the number
of images; memory and time are measured, by running a few batches of the job's
own images, through the same pipeline, into a store that is thrown away.
"""

import dataclasses
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from featx.extraction.batching import IN_NETWORK, settle_batch_size
from featx.extraction.prepare import ExtractionJob, prepare_extraction
from featx.extraction.resuming import RemainingWork, find_existing
from featx.extraction.run import run_extraction
from featx.network import Backbone, load_backbone
from featx.signatures import prepared_by

__all__ = [
    "ExtractionPlan",
    "Forecast",
    "PeakMemory",
    "anonymous_bytes",
    "plan",
    "plan_extraction",
]

# The network compiles in the first batches; the pipeline is in its stride after them.
# Batches come out together that were in the network together, so these are multiples.
_WARM_UP = 2 * IN_NETWORK
_MEASURED = 4 * IN_NETWORK
_SECONDS_BETWEEN_LOOKS = 0.01
# Copies are not tried: a fair disk reads and writes so much.
_COPIED_BYTES_A_SECOND = 500e6


@dataclass(frozen=True)
class ExtractionPlan:
    """What an extraction will cost.

    Parameters
    ----------
    n_images : int
        Images in the list.
    n_computed : int
        Images that will go through the network; the others are done, or copied.
    n_copied : int
        Images whose codes will be copied from the store that stands there.
    code_sizes : dict of str to int
        Numbers an image, for each layer.
    new_bytes, free_bytes : int
        Bytes that the store, or its second copy, will add, and bytes that are free there.
    peak_bytes : int
        Anonymous memory of the process at its height.
    seconds : float
        From the first image to the last, as an extraction's own.
    images_per_second : float
        Once the network is compiled.
    device : str
        Where the network runs; empty where it has nothing to do.
    batch_size : int
        Images that it sees at once.
    """

    n_images: int
    n_computed: int
    n_copied: int
    code_sizes: dict[str, int]
    new_bytes: int
    free_bytes: int
    peak_bytes: int
    seconds: float
    images_per_second: float
    device: str
    batch_size: int


class Forecast:
    """How long a run will take, told by its first batches; call it as its progress.

    Examples
    --------
    >>> Forecast().images_per_second
    0.0
    """

    def __init__(self) -> None:
        self.start()
        self._points: list[tuple[float, int]] = []

    def start(self) -> None:
        """Begin to count; otherwise it begins when it is made."""
        self._began = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """Take note of a batch, until there are enough."""
        if not self.ready:
            self._points.append((time.perf_counter() - self._began, done))

    @property
    def ready(self) -> bool:
        """Whether as many batches have passed as a forecast needs."""
        return len(self._points) >= _WARM_UP + _MEASURED

    @property
    def images_per_second(self) -> float:
        """Images a second at full pace; of a run too short for one, those of its whole time."""
        if len(self._points) < 2:
            return 0.0
        # Batches that were in the network together come out together: between them is no pace.
        short = len(self._points) < _WARM_UP + IN_NETWORK
        since, before = (0.0, 0) if short else self._points[_WARM_UP - 1]
        until, after = self._points[-1]
        return (after - before) / (until - since)

    def seconds(self, n_images: int) -> float:
        """Return how long `n_images` take from the first to the last."""
        if not self.images_per_second:
            return self._points[0][0] if self._points else 0.0
        if n_images <= self._points[-1][1]:  # all of them have been
            return next(at for at, done in self._points if done >= n_images)
        began, first = self._points[0]
        return began + max(0, n_images - first) / self.images_per_second


class PeakMemory:
    """The largest anonymous memory of this process while the block ran; a context manager.

    Anonymous memory is what the process has for itself: not the files that it
    maps, its own programs among them. Where the system does not say it, all
    resident memory is taken.

    Attributes
    ----------
    n_bytes : int
        The largest so far.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self.n_bytes = anonymous_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.n_bytes = max(self.n_bytes, anonymous_bytes())
            if self._ended.wait(_SECONDS_BETWEEN_LOOKS):
                return


def plan_extraction(job: ExtractionJob) -> ExtractionPlan:
    """Say what a job will cost.

    Parameters
    ----------
    job : ExtractionJob
        See `prepare_extraction`.

    Returns
    -------
    ExtractionPlan
        Nothing is left on the disk.
    """
    forecast, device, size = Forecast(), "", 0
    with PeakMemory() as peak:
        if job.n_to_compute:
            backbone = load_backbone(job.recipe, job.source, device=job.device)
            device = backbone.device.description
            size = settle_batch_size(job.batch_size, job.recipe, job.n_to_compute, backbone.device)
            _run_sample(job, backbone, size, forecast)
    copied = len(job.rest.copies) * job.recipe.code_bytes() / _COPIED_BYTES_A_SECOND
    n_images = job.n_images
    return ExtractionPlan(
        n_images=n_images,
        n_computed=job.n_to_compute,
        n_copied=len(job.rest.copies),
        code_sizes={layer: job.recipe.code_size(layer) for layer in job.recipe.layers},
        new_bytes=job.new_bytes,
        free_bytes=shutil.disk_usage(job.output.absolute().parent).free,
        peak_bytes=peak.n_bytes,
        seconds=forecast.seconds(job.n_to_compute) + copied,
        images_per_second=forecast.images_per_second,
        device=device,
        batch_size=size,
    )


@prepared_by(prepare_extraction)
def plan(job: ExtractionJob) -> ExtractionPlan:
    """Estimate the disk space, memory and time of an extraction.

    A few batches of the images are run; nothing is left on disk.

    Returns
    -------
    ExtractionPlan
        Disk, memory, time and device.
    """
    return plan_extraction(job)


def anonymous_bytes() -> int:
    """Return the memory that this process has for itself, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(psutil.Process().memory_info().rss)


def _run_sample(
    job: ExtractionJob, backbone: Backbone, batch_size: int, forecast: Forecast
) -> None:
    """Run a few batches of the job's images into a store that goes again."""
    rows = np.array([*job.rest.rows, *(e.row for e in job.rest.extended)], np.int64)
    # Some more than are measured, so that the pipeline is full to the end of that.
    n_sample = min(len(rows), batch_size * (_WARM_UP + _MEASURED + IN_NETWORK + 1))
    # Spread over the list, along which the images may change in size.
    chosen = np.sort(rows)[np.linspace(0, len(rows) - 1, n_sample).astype(int)]
    records = tuple(job.listing.records[row] for row in chosen)
    # On the disk that the store will be on, so that writing is measured there.
    folder = job.rest.standing.output.absolute().parent
    with tempfile.TemporaryDirectory(prefix=".featx-plan-", dir=folder) as temporary:
        output = Path(temporary) / "sample.h5"
        sample = dataclasses.replace(
            job,
            listing=dataclasses.replace(job.listing, records=records),
            batch_size=batch_size,
            output=output,
            progress=forecast,
            rest=RemainingWork(
                find_existing(output), output, resumes=False, rows=tuple(range(n_sample))
            ),
        )
        forecast.start()
        run_extraction(sample, load=lambda recipe: backbone)
