"""What a training is shown: images decoded once, or activations that are kept.

A job and a store come in; pixels or activations go out, which were extracted
before, or are now.
"""

import dataclasses
import threading
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.extraction import extraction_of, run_extraction
from featx.finetuning.augmentation import reseed
from featx.finetuning.image_loading import Activations, Pixels, read_pixels
from featx.finetuning.network import Network
from featx.finetuning.steps import as_array
from featx.network import memory_errors
from featx.recipe import Recipe
from featx.store import Store, open_store
from featx.workflows.finetuning.prepare import FinetuneJob

__all__ = ["read_activations", "read_images"]

Progress = Callable[[int, int], None]


def read_images(job: FinetuneJob, store: Store, progress: Progress) -> Pixels:
    """Decode the images that could be read when their codes were extracted.

    Parameters
    ----------
    job : FinetuneJob
        Says which and how.
    store : Store
        Their codes.
    progress : callable
        Called with (images done, images in all).
    """
    return read_pixels(
        job.extraction.files,
        np.flatnonzero(store.images.done),
        job.recipe,
        job.folder,
        max_pixels=job.extraction.max_pixels,
        progress=progress,
    )


def read_activations(job: FinetuneJob, network: Network, progress: Progress) -> Activations:
    """Return the frozen layers' activations, extracted once, of images and augmented copies.

    Parameters
    ----------
    job : FinetuneJob
        Its `cache` is the number of copies.
    network : Network
        As it is before training: it augments.
    progress : callable
        Called with (images done, images in all), for each copy anew.
    """
    frozen = job.tuning.freeze_until
    recipe = dataclasses.replace(job.recipe, layers=(frozen,), pool="none", dtype="float32")
    copies = range((job.cache or 0) + 1)
    stores = [_frozen(job, recipe, copy, network, progress) for copy in copies]
    plain, *others = (each.codes(frozen) for each in stores)
    return Activations(plain, others)


def _frozen(
    job: FinetuneJob, recipe: Recipe, copy: int, network: Network, progress: Progress
) -> Store:
    """Extract the frozen layers' activations, of the images or of an augmented copy."""
    target, tuning = job.folder / f"frozen-{copy}.h5", job.tuning
    load = None
    if copy:
        # No recipe can ask for these codes, and no classifier takes them for others.
        made = f"{recipe.weights}, {tuning.augment} copy {copy} of seed {tuning.seed}"
        recipe = dataclasses.replace(recipe, weights=made)
        load = partial(_AugmentedBackbone, network, tuning.seed, copy)
    extraction = extraction_of(job.extraction, recipe, job.extraction.source, target)
    run_extraction(dataclasses.replace(extraction, progress=progress), load=load)
    return open_store(target)


class _AugmentedBackbone:
    """The frozen layers of a network, of images that were changed at random."""

    def __init__(self, network: Network, seed: int, copy: int, recipe: Recipe) -> None:
        self.recipe = recipe
        self._network, self._seed, self._copy = network, seed, copy
        self._lock = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        import keras

        (layer,) = self.recipe.layers
        with self._lock, self._network.computing(), memory_errors(len(images)):
            changed = keras.ops.concatenate([self._changed(image) for image in images])
            return {layer: as_array(self._network.start(changed)).astype(np.float32)}

    def _changed(self, image: NDArray[np.uint8]) -> Any:
        # Images come in any order and any batch, in a run that goes on in others than before:
        # what is drawn for one follows from it alone.
        reseed(self._network.drawing, self._seed, zlib.crc32(image.tobytes(), self._copy))
        return self._network.changes(image[np.newaxis], training=True)
