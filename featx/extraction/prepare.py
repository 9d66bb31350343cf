"""The extraction job: checked and priced before the first image is read.

Settings come in; a job goes out that knows what it will make, and what of it is
there already. Everything that can be refused is refused here. This file does
not know what the codes are for.
"""

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from featx.errors import OptionError
from featx.extraction.batching import check_batch_size
from featx.extraction.resuming import ExistingStore, RemainingWork, find_existing, remaining_work
from featx.extraction.settings import BatchSize, ExtractionSettings, Progress
from featx.images import File, Listing, list_images
from featx.network import WeightsSource, check_device, find_weights
from featx.outputs import check_output
from featx.recipe import Recipe, check_sizes, image_size
from featx.signatures import takes_fields_of
from featx.store import store_bytes

__all__ = ["ExtractionJob", "extraction_of", "prepare_extraction"]

logger = logging.getLogger(__name__)

_COLUMNS = ("path", "label", "split", "group")


@dataclass(frozen=True)
class ExtractionJob:
    """What an extraction will make; `prepare_extraction` makes it.

    Parameters
    ----------
    listing : Listing
        The images.
    recipe : Recipe
        Of the codes.
    source : WeightsSource
        Where the weights come from.
    device : str
        Where the network is to run, as `extract` takes it.
    batch_size : int or "auto"
        Images that the network is to see at once.
    max_pixels : int
        Larger images are refused.
    output : Path
        The store.
    rest : RemainingWork
        What is left to do there.
    progress : callable, optional
        Called with (images done, images in total) after each batch that is safe in the
        store.
    """

    listing: Listing
    recipe: Recipe
    source: WeightsSource
    device: str
    batch_size: BatchSize
    max_pixels: int
    output: Path
    rest: RemainingWork
    progress: Progress | None = None

    @property
    def n_images(self) -> int:
        """Images in the store."""
        return len(self.listing.records)

    @property
    def n_bytes(self) -> int:
        """Bytes that the store takes, within one per cent of a megabyte."""
        return store_bytes(self.recipe, self.columns())

    @property
    def new_bytes(self) -> int:
        """Bytes that the run will add: none in place, all for a store or a second copy."""
        return 0 if self.rest.resumes else self.n_bytes

    @property
    def files(self) -> list[File]:
        """Where the images lie, in order."""
        return [record.file for record in self.listing.records]

    @property
    def n_to_compute(self) -> int:
        """Images that go through the network."""
        return len(self.rest.rows) + len(self.rest.extended)

    def columns(self) -> dict[str, list[str | None]]:
        """Return the facts of the images that are known before they are read."""
        return {name: [getattr(r, name) for r in self.listing.records] for name in _COLUMNS}


@takes_fields_of(ExtractionSettings)
def prepare_extraction(settings: ExtractionSettings) -> ExtractionJob:
    """Check the settings of an extraction and plan its work.

    Nothing is written, except weights that have to be downloaded, and TensorFlow is not
    imported.

    Returns
    -------
    ExtractionJob
        For `run_extraction` and `plan_extraction`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.
    ImagesError, WeightsError
        The images or the weights cannot be found.
    ExistsError, RecipeMismatchError, StoreError
        The output exists and cannot be resumed with these settings.
    """
    check_sizes([image_size(settings.size)], settings.scales)
    recipe = settings.recipe(weights="", dtype=settings.dtype)
    check_batch_size(settings.batch_size)
    check_device(settings.device)
    if settings.max_pixels < 1:
        message = f"--max-pixels must be 1 or more, but it is {settings.max_pixels}."
        raise OptionError(message)
    images, manifest = settings.images, settings.manifest
    if images is not None and manifest is not None:
        message = (
            f"Both a folder ({images}) and a manifest ({manifest}) were given. Use only one of "
            "them."
        )
        raise OptionError(message)
    output = check_output(settings.output, overwrite=True)  # an existing store may be resumed
    existing = find_existing(output, ignored=settings.overwrite)
    listing = list_images(images or "data", manifest=manifest, group=settings.group)
    source = find_weights(
        os.fspath(settings.weights),
        recipe.layers,
        rename=settings.rename,
        progress=settings.show_download,
    )
    if source.path is not None and output.exists() and output.samefile(source.path):
        message = f"{output} holds the weights and is not overwritten. Choose another -o."
        raise OptionError(message)
    job = ExtractionJob(
        listing=listing,
        recipe=dataclasses.replace(recipe, weights=source.identity),
        source=source,
        device=settings.device,
        batch_size=settings.batch_size,
        max_pixels=settings.max_pixels,
        output=output,
        rest=RemainingWork(
            existing, output, resumes=False, rows=tuple(range(len(listing.records)))
        ),
        progress=settings.progress,
    )
    return _resumed(job, existing)


def extraction_of(
    job: ExtractionJob,
    recipe: Recipe,
    source: WeightsSource,
    output: Path,
    *,
    overwrite: bool = False,
) -> ExtractionJob:
    """Return an extraction of a job's images by another recipe, into another store.

    Parameters
    ----------
    job : ExtractionJob
        Of the images.
    recipe : Recipe
        Of the codes.
    source : WeightsSource
        Where the weights come from.
    output : Path
        The store; one that is begun there is gone on with.
    overwrite : bool, default=False
        Whether to begin anew.

    Raises
    ------
    RecipeMismatchError, ExistsError, StoreError
        What stands there cannot be gone on with.
    """
    standing = find_existing(output, ignored=overwrite)
    return _resumed(dataclasses.replace(job, recipe=recipe, source=source, output=output), standing)


def _resumed(job: ExtractionJob, standing: ExistingStore) -> ExtractionJob:
    """Return the job with what is left to do of it."""
    rest = remaining_work(standing, job.recipe, job.columns(), job.files, job.max_pixels)
    if rest.resumes or rest.copies or rest.extended:
        logger.info("%s: going on, %d of %d to do", job.output, len(rest.rows), job.n_images)
    return dataclasses.replace(job, rest=rest)
