"""Batches for the network: their size, padding, and smaller batches if memory runs out.

A recipe and a device come in, and a batch size goes out; images come in, and their codes go
out. This module knows neither files nor stores.
"""

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.extraction.settings import BatchSize
from featx.extraction.timings import Stage
from featx.network import Backbone, PossibleMemoryError, VGG19Backbone, activation_bytes
from featx.recipe import Recipe

__all__ = [
    "IN_NETWORK",
    "Batcher",
    "Codes",
    "Memory",
    "Views",
    "aligned_batches",
    "check_batch_size",
    "flat_codes",
    "settle_batch_size",
    "whole_batches",
]

logger = logging.getLogger(__name__)

#: Codes by layer.
Codes = dict[str, NDArray[np.floating]]
#: One image at one or several sizes.
Views = tuple[NDArray[np.uint8], ...]

#: Number of batches in the network at once. While one waits for its last thread, or for its
#: codes to be copied, the other one computes.
IN_NETWORK = 2

# Measured on two cores: with two batches in the network, batches of two images are as fast as
# batches of 32, and need less memory. A GPU needs more images to be busy.
_PIXELS_PER_PROCESSOR = 2 * 224 * 224
_PIXELS_PER_GPU = 64 * 224 * 224
_LARGEST = {"cpu": 64, "gpu": 512}
# If images have several shapes, a batch has few images of each shape, and the rest is padding.
# On a CPU, one image per batch needs no padding, and two batches keep two cores busy.
_MAX_OF_ONE_SHAPE = {"cpu": 1, "gpu": 8}
# The rest is left for other programs, and for errors of the estimate.
_FRACTION_OF_MEMORY = 0.5


def check_batch_size(batch_size: BatchSize) -> None:
    """Check that a batch size is "auto" or at least 1.

    Raises
    ------
    OptionError
        It is something else.
    """
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        message = f"--batch-size must be auto, or an integer from 1, but it is {batch_size!r}."
        raise OptionError(message)


def flat_codes(codes: Codes, layers: Sequence[str]) -> NDArray[np.floating]:
    """Return codes as one row for each image, (n, n_features), layers side by side."""
    return np.hstack([codes[layer].reshape(len(codes[layer]), -1) for layer in layers])


class Memory(Protocol):
    """A device with a known amount of free memory."""

    @property
    def kind(self) -> str:
        """Kind of processor: "cpu" or "gpu"."""

    def free_bytes(self) -> int | None:
        """Return the free memory in bytes; None if unknown."""


def aligned_batches(rows: Iterable[int], batch_size: int) -> Iterator[list[int]]:
    """Divide rows into batches in which each row has its place in the batches of all rows.

    Row r has place ``r % batch_size``, whichever other rows are computed. The last bits of a
    code depend on the place (with TensorFlow on a CPU, at the end of a batch), so a run that
    computes only some rows gives them the codes that a run of all rows gives them.

    Parameters
    ----------
    rows : iterable of int
        Rows, ascending.
    batch_size : int
        Images per batch.

    Yields
    ------
    list of int
        Rows of one batch, ascending, all with different places.

    Examples
    --------
    >>> list(aligned_batches(range(6), 4)), list(aligned_batches([0, 4, 5, 6, 7], 4))
    ([[0, 1, 2, 3], [4, 5]], [[0, 5, 6, 7], [4]])
    """
    waiting: list[deque[int]] = [deque() for _ in range(batch_size)]
    n_empty = batch_size
    for row in rows:
        same_place = waiting[row % batch_size]
        n_empty -= not same_place
        same_place.append(row)
        if not n_empty:
            yield sorted(each.popleft() for each in waiting)
            n_empty = sum(not each for each in waiting)
    while any(waiting):
        yield sorted(each.popleft() for each in waiting if each)


def whole_batches(n_images: int, batch_size: int) -> int:
    """Return the largest multiple of a batch size up to `n_images`, but at least one batch.

    Examples
    --------
    >>> whole_batches(32, 12), whole_batches(32, 49)
    (24, 49)
    """
    return batch_size * max(1, n_images // batch_size)


def settle_batch_size(
    batch_size: BatchSize,
    recipe: Recipe,
    n_images: int,
    device: Memory | None = None,
    *,
    earlier: int | None = None,
) -> int:
    """Return the number of images per batch, at most `n_images`.

    "auto" is the number of an earlier run that is resumed, or the number that keeps the device
    busy; and fewer if two such batches would fill more than half of its free memory.

    Parameters
    ----------
    batch_size : int or "auto"
        The requested size.
    recipe : Recipe
        Recipe of the codes, which determines the memory per image.
    n_images : int
        Number of images in total.
    device : Memory, optional
        Device of the network, such as a `Device`; a CPU by default.
    earlier : int, optional
        Images per batch of the rows that the store already has.

    Returns
    -------
    int
        Images per batch, at least 1.
    """
    check_batch_size(batch_size)
    if batch_size != "auto":
        return max(1, min(batch_size, n_images))
    kind = device.kind if device is not None else "cpu"
    pixels = _PIXELS_PER_GPU if kind == "gpu" else _PIXELS_PER_PROCESSOR * joblib.cpu_count()
    size = pixels // (recipe.size[0] * recipe.size[1] * recipe.n_views)
    if recipe.scales and kind == "cpu":
        size = _MAX_OF_ONE_SHAPE["cpu"]
    size = min(size, _LARGEST[kind]) if earlier is None else earlier
    free = device.free_bytes() if device is not None else None
    if free is not None:
        affordable = _FRACTION_OF_MEMORY * free / (IN_NETWORK * activation_bytes(recipe))
        size = min(size, int(affordable))
    return max(1, min(size, n_images))


class Batcher:
    """Run lists of images through a backbone in padded batches; several threads may call it.

    Parameters
    ----------
    backbone : Backbone
        Turns images into codes.
    batch_size : int
        Images per batch. If the recipe has scales, images have several shapes, and a batch
        has at most one image on a CPU and eight of a shape on a GPU. If memory runs out,
        the size is halved for this list and all later ones.
    stage : Stage, optional
        Records how long the network computes.
    """

    def __init__(self, backbone: Backbone, batch_size: int, stage: Stage | None = None) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        self._stage = stage or Stage()
        self._n_places = batch_size
        if backbone.recipe.scales:
            kind = backbone.device.kind if hasattr(backbone, "device") else "cpu"
            self.batch_size = min(batch_size, _MAX_OF_ONE_SHAPE[kind])
        self._lock = threading.Lock()
        self._own = threading.local()

    def __call__(self, images: Sequence[Views], rows: Sequence[int] | None = None) -> Codes:
        """Return the codes of images, one array for each layer.

        Parameters
        ----------
        images : sequence of tuple of ndarray, each of shape (height, width, 3), uint8
            Each image at the recipe's `view_size`, or at each of its scales.
        rows : sequence of int, optional
            Row of each image, which determines its place in a batch, as `aligned_batches`
            says; all places must differ. By default, images fill one batch after another.
            Not used with scales.

        Returns
        -------
        dict of str to ndarray
            Codes by layer, in the order of the images.

        Raises
        ------
        OptionError
            Memory runs out with a single image.
        Exception
            The network fails with one image too, so that the error was not for its memory.
        """
        if not self.backbone.recipe.scales:
            places: Sequence[int] = range(len(images))
            if rows is not None:
                places = [row % self._n_places for row in rows]
            return self._codes_of_one_shape([image for (image,) in images], places)
        of_scales = [self._codes_of_shapes(each) for each in zip(*images, strict=True)]
        codes = {name: [each[name] for each in of_scales] for name in of_scales[0]}
        # Only the backbone of VGG19 has scales.
        return cast("VGG19Backbone", self.backbone).join_scales(codes)

    def _codes_of_shapes(self, images: Sequence[NDArray[np.uint8]]) -> Codes:
        """Return the codes of images of any shapes, in order."""
        by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for k, image in enumerate(images):
            by_shape[image.shape].append(k)
        found: list[tuple[list[int], Codes]] = []
        for indices in by_shape.values():
            own = [images[k] for k in indices]
            found.append((indices, self._codes_of_one_shape(own, range(len(own)))))
        return _in_order(found)

    def _codes_of_one_shape(
        self, images: Sequence[NDArray[np.uint8]], places: Sequence[int]
    ) -> Codes:
        size, doubt = self.batch_size, None
        while True:
            batches: defaultdict[int, list[int]] = defaultdict(list)
            for k, place in enumerate(places):
                batches[place // size].append(k)
            try:
                found = [
                    (part, self._padded([images[k] for k in part], [places[k] for k in part], size))
                    for part in batches.values()
                ]
            except PossibleMemoryError as error:
                doubt = doubt or error
                if size == 1:
                    raise doubt.backend_error from None
                size //= 2
            except MemoryError as error:
                size = self._halve(size, error)
            else:
                self._reduce(size)
                return _in_order(found)

    def _padded(
        self, images: Sequence[NDArray[np.uint8]], places: Sequence[int], size: int
    ) -> Codes:
        batch = self._batch_of((size, *images[0].shape))
        own = [place % size for place in places]
        for place, image in zip(own, images, strict=True):
            batch[place] = image
        batch[sorted({*range(size)} - {*own})] = 0
        with self._stage.work():
            found = self.backbone(batch)
        if own == list(range(len(own))):  # without a copy
            return {layer: codes[: len(own)] for layer, codes in found.items()}
        return {layer: codes[own] for layer, codes in found.items()}

    def _batch_of(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array that this thread uses again: new memory takes longer than the images."""
        batch: NDArray[np.uint8] | None = getattr(self._own, "batch", None)
        if batch is None or batch.shape != shape:
            self._own.batch = batch = np.empty(shape, np.uint8)
        return batch

    def _halve(self, size: int, error: MemoryError) -> int:
        """Halve batches of a size that the memory does not hold; return the new size."""
        if size == 1:
            message = (
                "Memory runs out with a single image in the network. Use a smaller --size, an "
                "earlier --layer, or --device cpu."
            )
            raise OptionError(message) from error
        self._reduce(size // 2)
        return min(size // 2, self.batch_size)

    def _reduce(self, size: int) -> None:
        """Use at most this size from now on."""
        with self._lock:
            larger = self.batch_size
            if larger <= size:  # perhaps the other batch in the network has halved it already
                return
            self.batch_size = size
        logger.warning("out of memory: batch size reduced from %d to %d", larger, size)


def _in_order(parts: Sequence[tuple[Sequence[int], Codes]]) -> Codes:
    """Join the codes of images whose numbers are given."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.concatenate([indices for indices, _ in parts])
    found: Codes = {}
    for layer, first in parts[0][1].items():
        found[layer] = np.empty((len(order), *first.shape[1:]), first.dtype)
        for indices, codes in parts:
            found[layer][indices] = codes[layer]
    return found
