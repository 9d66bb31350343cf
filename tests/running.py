"""Running extractions without a network, for several test files and the processes they start."""

import dataclasses

import numpy as np

from featx.extraction import prepare_extraction, run_extraction

TINY = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}


class MeanColour:
    """A backbone without a network: each code is the image's mean colour, repeated."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        mean = images.astype("f4").mean(axis=(1, 2))
        widths = {layer: self.recipe.code_size(layer) for layer in self.recipe.layers}
        return {
            layer: np.tile(mean, (1, width // 3 + 1))[:, :width].astype(self.recipe.dtype)
            for layer, width in widths.items()
        }


def job_in(folder, **settings):
    """Prepare the extraction of folder/data into folder/codes.h5."""
    return prepare_extraction(
        **{"images": folder / "data", "output": folder / "codes.h5", **TINY, **settings}
    )


def run(job, backbone=None, progress=None):
    """Run a job with the backbone, or with a MeanColour."""
    job = dataclasses.replace(job, progress=progress or job.progress)
    return run_extraction(job, load=lambda recipe: backbone or MeanColour(recipe))


def stop_after(n_images):
    """Return a progress that interrupts the run when so many images are in the store."""

    def progress(done, total):
        if done >= n_images:
            raise KeyboardInterrupt

    return progress
