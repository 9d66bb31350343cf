"""Batches for the network: how many images at once, padded to one number, fewer if memory ends.

A recipe and a device come in and a batch size goes out; images come in and
their codes go out. This file knows neither files nor stores.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, cast

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.extraction.settings import BatchSize
from featx.network import Backbone, VGG19Backbone, activation_bytes
from featx.recipe import Recipe

__all__ = [
    "IN_NETWORK",
    "Batcher",
    "Memory",
    "Views",
    "check_batch_size",
    "settle_batch_size",
    "whole_batches",
]

logger = logging.getLogger(__name__)

#: One image at one or several sizes.
Views = tuple[NDArray[np.uint8], ...]

#: Batches that are in the network at once. While one waits for its last
#: thread, or for its codes to be copied, the other computes.
IN_NETWORK = 2

# Measured on two cores: with two batches in the network, two images in each are as fast as 32,
# and take less memory; four leave little between batches. A GPU needs more to be full.
_PIXELS_A_PROCESSOR = 2 * 224 * 224
_PIXELS_A_GPU = 64 * 224 * 224
_LARGEST = {"cpu": 64, "gpu": 512}
# Of images of several shapes, those of one shape are few in a batch, and the last ones are padded.
# One at a time fills two cores, with two batches in the network, and leaves nothing to pad.
_OF_ONE_SHAPE = {"cpu": 1, "gpu": 8}
# What is left is for what else runs, and for what the estimate of a batch misses.
_SHARE_OF_MEMORY = 0.5


def check_batch_size(batch_size: BatchSize) -> None:
    """Refuse a batch size that is neither "auto" nor a number from 1.

    Raises
    ------
    OptionError
        It is not.
    """
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        message = f"No such batch size: {batch_size}. Expected --batch-size auto, or 1 and more."
        raise OptionError(message)


class Memory(Protocol):
    """A device, as far as its memory goes."""

    @property
    def kind(self) -> str:
        """A processor, "cpu" or "gpu"."""

    def free_bytes(self) -> int | None:
        """Return the memory that is free there; None where that is not known."""


def whole_batches(n_images: int, batch_size: int) -> int:
    """Return the images of as many whole batches as there are in `n_images`, one at least.

    Examples
    --------
    >>> whole_batches(32, 12), whole_batches(32, 49)
    (24, 49)
    """
    return batch_size * max(1, n_images // batch_size)


def settle_batch_size(
    batch_size: BatchSize, recipe: Recipe, n_images: int, device: Memory | None = None
) -> int:
    """Return how many images to give the network at once, at most `n_images`.

    "auto" takes as many as keep the device busy, fewer where two such batches
    would fill more than half of its free memory.

    Parameters
    ----------
    batch_size : int or "auto"
        What was asked for.
    recipe : Recipe
        Says how much an image takes.
    n_images : int
        Images in all.
    device : Memory, optional
        Where the network runs, such as a `Device`; a CPU by default.
    """
    check_batch_size(batch_size)
    if batch_size != "auto":
        return max(1, min(batch_size, n_images))
    kind = device.kind if device is not None else "cpu"
    pixels = _PIXELS_A_GPU if kind == "gpu" else _PIXELS_A_PROCESSOR * joblib.cpu_count()
    fitting = pixels // (recipe.size[0] * recipe.size[1] * recipe.n_views)
    if recipe.scales and kind == "cpu":
        fitting = _OF_ONE_SHAPE["cpu"]
    free = device.free_bytes() if device is not None else None
    if free is not None:
        room = _SHARE_OF_MEMORY * free / (IN_NETWORK * activation_bytes(recipe))
        fitting = min(fitting, int(room))
    return max(1, min(fitting, _LARGEST[kind], n_images))


class Batcher:
    """Runs lists of images through a backbone, padded to one number; from several threads.

    Parameters
    ----------
    backbone : Backbone
        Turns images into codes.
    batch_size : int
        Images at once; of a recipe with scales, whose images have several shapes, one
        on a CPU and eight of a shape on a GPU at most. Where memory ends it is halved,
        for this list and all that follow.
    """

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        if backbone.recipe.scales:
            device = getattr(backbone, "device", None)
            kind = device.kind if device is not None else "cpu"
            self.batch_size = min(batch_size, _OF_ONE_SHAPE[kind])
        self._lock = threading.Lock()

    def __call__(self, images: Sequence[Views]) -> dict[str, NDArray[np.floating]]:
        """Return the codes of images, an array for each layer.

        Parameters
        ----------
        images : sequence of tuple of ndarray, each of shape (height, width, 3), uint8
            Each image at the recipe's `view_size`, or at each of its scales.

        Raises
        ------
        OptionError
            Memory ends with a single image.
        """
        of_scales = [self._of_all_shapes(each) for each in zip(*images, strict=True)]
        if not self.backbone.recipe.scales:
            return of_scales[0]
        codes = {name: [each[name] for each in of_scales] for name in of_scales[0]}
        # Of the backbones VGG19 alone has scales.
        return cast("VGG19Backbone", self.backbone).join_scales(codes)

    def _of_all_shapes(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> dict[str, NDArray[np.floating]]:
        """Return the codes of images of any shapes, in order."""
        places: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, image in enumerate(images):
            places[image.shape].append(place)
        if len(places) == 1:
            return self._of_one_shape(images)
        found: dict[str, NDArray[np.floating]] = {}
        for own in places.values():
            for name, codes in self._of_one_shape([images[place] for place in own]).items():
                if name not in found:
                    found[name] = np.empty((len(images), *codes.shape[1:]), codes.dtype)
                found[name][own] = codes
        return found

    def _of_one_shape(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.floating]]:
        while True:
            size = self.batch_size
            try:
                parts = [
                    self._padded(images[start : start + size], size)
                    for start in range(0, len(images), size)
                ]
            except MemoryError as error:
                self._halve(size, error)
            else:
                if len(parts) == 1:
                    return parts[0]
                return {layer: np.concatenate([p[layer] for p in parts]) for layer in parts[0]}

    def _padded(
        self, images: Sequence[NDArray[np.uint8]], size: int
    ) -> dict[str, NDArray[np.floating]]:
        batch = np.zeros((size, *images[0].shape), np.uint8)
        for i, image in enumerate(images):
            batch[i] = image
        return {layer: codes[: len(images)] for layer, codes in self.backbone(batch).items()}

    def _halve(self, size: int, error: MemoryError) -> None:
        with self._lock:
            if self.batch_size < size:  # the other batch in the network met the same
                return
            if size == 1:
                message = (
                    "Memory ends with one image at a time in the network. Use a smaller --size, "
                    "a layer that comes earlier, or --device cpu."
                )
                raise OptionError(message) from error
            self.batch_size = size // 2
        logger.warning(
            "memory ended with %d images at a time: going on with %d", size, self.batch_size
        )
