"""Where the images of a pass go through the network: a contract, and this process.

Passes and writers come in; rows are written. `featx.extraction.leases` keeps the same
contract on the workers of a cluster.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from featx.extraction.batching import settle_batch_size
from featx.extraction.passes import Pass, fill_rows
from featx.extraction.prepare import ExtractionJob
from featx.extraction.timings import Pace
from featx.network import Backbone
from featx.store import StoreWriter

__all__ = ["Computing", "Here"]


class Computing(Protocol):
    """Where images go through the network: in this process, or elsewhere."""

    def begin(self, jobs: Sequence[ExtractionJob], passes: Sequence[Pass]) -> None:
        """Get ready for passes, before time is taken."""

    def facts(self) -> dict[str, Any]:
        """Return what the stores' provenance says of it."""

    def fill(
        self,
        jobs: Sequence[ExtractionJob],
        each: Pass,
        writers: Sequence[StoreWriter],
        pace: Pace,
    ) -> Generator[int, None, None]:
        """Write the rows of a pass into the targets; yield how many more are safe by then."""


class Here:
    """Computes in this process.

    Parameters
    ----------
    load : callable
        Makes the backbone of a pass.
    """

    def __init__(self, load: Callable[[Pass], Backbone]) -> None:
        self._load = load
        self._loaded: dict[tuple[int, ...], tuple[Backbone, int]] = {}

    def begin(self, jobs: Sequence[ExtractionJob], passes: Sequence[Pass]) -> None:
        """Load the backbones, and settle how many images each sees at once."""
        for each in passes:
            backbone = self._load(each)
            device = getattr(backbone, "device", None)
            size = settle_batch_size(jobs[0].batch_size, backbone.recipe, len(each.rows), device)
            self._loaded[each.rows] = backbone, size

    def facts(self) -> dict[str, Any]:
        """Return device, batch size and backend of the first pass."""
        import keras

        backbone, size = next(iter(self._loaded.values()))
        device = getattr(backbone, "device", None)
        return {
            "batch_size": size,
            "device": device.description if device is not None else "",
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
        }

    def fill(
        self,
        jobs: Sequence[ExtractionJob],
        each: Pass,
        writers: Sequence[StoreWriter],
        pace: Pace,
    ) -> Generator[int, None, None]:
        """Write the rows of a pass into the targets, batch by batch."""
        backbone, size = self._loaded[each.rows]
        first = jobs[0]
        return fill_rows(each, backbone, size, first.files, first.max_pixels, writers, pace)
