"""The inputs of a training: images that are decoded once, or activations that are stored.

A job and a store come in; pixels or activations go out. Activations are extracted if they
are not in the job's folder yet.
"""

import dataclasses
import threading
import zlib
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.extraction import extraction_of, run_extraction
from featx.finetuning.augmentation import reseed
from featx.finetuning.inputs import Activations, TrainingInputs, read_pixels
from featx.finetuning.network import Network
from featx.finetuning.trainer import as_array
from featx.network.devices import memory_errors
from featx.recipe import Recipe
from featx.store import Store, open_store
from featx.workflows.finetuning.prepare import FinetuneJob

__all__ = ["read_inputs"]


def read_inputs(job: FinetuneJob, store: Store, network: Network) -> TrainingInputs:
    """Decode the images, or with `cache` extract the activations of the last frozen layer.

    Parameters
    ----------
    job : FinetuneJob
        Its setting `cache` is the number of augmented copies.
    store : Store
        Codes of the images. Images that could not be read then are left out.
    network : Network
        The network before training, whose augmentation is used.
    """
    n_copies = job.settings.cache
    if n_copies is None:
        job.progress.stage("reading the images")
        return read_pixels(
            job.extraction.files,
            np.flatnonzero(store.images.done),
            job.recipe,
            job.folder,
            max_pixels=job.extraction.max_pixels,
            progress=job.progress.images,
        )
    layer = job.settings.last_frozen(job.cut)
    job.progress.stage(f"activations of {layer}, stored in {job.folder}")
    recipe = dataclasses.replace(job.recipe, layers=(layer,), pool="none", dtype="float32")
    copies = range(n_copies + 1)
    plain, *others = (_extracted(job, recipe, copy, network).codes(layer) for copy in copies)
    return Activations(plain, others)


def _extracted(job: FinetuneJob, recipe: Recipe, copy: int, network: Network) -> Store:
    """Extract the activations of the images, or of augmented copy number 1, 2, …."""
    target, settings = job.folder / f"frozen-{copy}.h5", job.settings
    load = None
    if copy:
        # This name of the weights keeps the store from being used as codes of the images.
        weights = f"{recipe.weights}, {settings.augment} copy {copy} of seed {settings.seed}"
        recipe = dataclasses.replace(recipe, weights=weights)
        load = partial(_AugmentedBackbone, network, settings.seed, copy)
    extraction = extraction_of(job.extraction, recipe, job.extraction.source, target)
    run_extraction(extraction, load=load)
    return open_store(target)


class _AugmentedBackbone:
    """The frozen layers of a network, applied to randomly changed images."""

    def __init__(self, network: Network, seed: int, copy: int, recipe: Recipe) -> None:
        self.recipe = recipe
        self._network, self._seed, self._copy = network, seed, copy
        self._lock = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        import keras

        (layer,) = self.recipe.layers
        with self._lock, self._network.computing(), memory_errors(len(images)):
            changed = keras.ops.concatenate([self._augmented(image) for image in images])
            return {layer: as_array(self._network.frozen_part(changed)).astype(np.float32)}

    def _augmented(self, image: NDArray[np.uint8]) -> Any:
        # The seed depends on the image alone, because a resumed run has other batches.
        reseed(self._network.random_layers, self._seed, zlib.crc32(image.tobytes(), self._copy))
        return self._network.augment(image[np.newaxis], training=True)
