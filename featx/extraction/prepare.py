"""Preparing an extraction: settings are checked before the first image is read.

Settings come in. A job goes out that knows what it will compute and which rows exist
already. This module does not know what the codes are used for.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import OptionError
from featx.extraction.batching import Memory, check_batch_size, settle_batch_size
from featx.extraction.decoders import check_decoders
from featx.extraction.existing import ExistingStore, find_existing
from featx.extraction.resuming import RemainingWork, remaining_work
from featx.extraction.settings import (
    BatchSize,
    DecoderChoice,
    ExtractionSettings,
    ImageSettings,
    Progress,
)
from featx.images import File, Listing, as_file, list_images
from featx.network import WeightsSource, check_device, find_weights
from featx.outputs import check_output
from featx.recipe import Recipe, check_sizes, image_size
from featx.signatures import takes_fields_of
from featx.store.layout import store_bytes
from featx.tables import table_name

__all__ = ["ExtractionJob", "columns_of", "extraction_of", "prepare_extraction"]

logger = logging.getLogger(__name__)

_COLUMNS = ("path", "label", "split", "group")


def columns_of(listing: Listing) -> dict[str, list[str | None]]:
    """Return what is known of images before they are read, by column."""
    return {name: [getattr(each, name) for each in listing.records] for name in _COLUMNS}


@dataclass(frozen=True)
class ExtractionJob:
    """A checked extraction that is ready to run; `prepare_extraction` makes it.

    Parameters
    ----------
    listing : Listing
        The images.
    recipe : Recipe
        Recipe of the codes.
    source : WeightsSource
        Weights of the network.
    device : str
        Device of the network, as `extract` takes it.
    batch_size : int or "auto"
        Images per batch.
    decoders : int, "auto" or "threads"
        Number of processes that decode.
    max_pixels : int
        An image with more pixels is recorded as unreadable.
    output : Path
        The store.
    remaining : RemainingWork
        What remains to be done.
    listed_by : mapping of str to str
        Arguments of `list_images` that list the images again, for the provenance.
    progress : callable, optional
        Called with (images done, images in total) after each batch is safe in the store.
    """

    listing: Listing
    recipe: Recipe
    source: WeightsSource
    device: str
    batch_size: BatchSize
    decoders: DecoderChoice
    max_pixels: int
    output: Path
    remaining: RemainingWork
    listed_by: Mapping[str, str] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def n_images(self) -> int:
        """Number of images in the store."""
        return len(self.listing.records)

    @property
    def n_bytes(self) -> int:
        """Size of the store in bytes, exact to one per cent and a few kilobytes."""
        return store_bytes(self.recipe, self.columns())

    @property
    def new_bytes(self) -> int:
        """Bytes that the run adds: none in place, otherwise those of a whole store."""
        return 0 if self.remaining.resumes else self.n_bytes

    @property
    def files(self) -> list[File]:
        """Image files, in order."""
        return [record.file for record in self.listing.records]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user: images that were left out, or cannot be read now."""
        return (*self.listing.notes, *self.remaining.notes)

    @property
    def n_to_compute(self) -> int:
        """Number of images that go through the network."""
        return len(self.remaining.rows) + len(self.remaining.extended)

    def images_per_batch(self, recipe: Recipe, device: Memory | None) -> int:
        """Return the batch size of a run, for all rows of the store and not only those left.

        Codes of batches of other sizes may differ in their last bits, so a resumed run uses the
        size of the earlier run, and an incomplete batch is padded.

        Parameters
        ----------
        recipe : Recipe
            Recipe of the codes that are computed.
        device : Memory or None
            See `settle_batch_size`.
        """
        earlier = self.remaining.batch_size
        return settle_batch_size(self.batch_size, recipe, self.n_images, device, earlier=earlier)

    def columns(self) -> dict[str, list[str | None]]:
        """Return what is known of the images before they are read."""
        return columns_of(self.listing)


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
    check_decoders(settings.decoders)
    check_device(settings.device)
    if settings.max_pixels < 1:
        message = f"--max-pixels must be 1 or more, but it is {settings.max_pixels}."
        raise OptionError(message)
    images, manifest = settings.images, settings.manifest
    if images is not None and manifest is not None:
        message = (
            f"Both a folder ({images}) and a manifest ({table_name(manifest)}) were given. Use "
            "only one of them."
        )
        raise OptionError(message)
    # An existing store may be resumed.
    output = check_output(settings.output, overwrite=True, suffixes=(".h5", ".hdf5"))
    existing = find_existing(output, ignored=settings.overwrite)
    if settings.grey is None and settings.white is None:
        recipe = dataclasses.replace(recipe, grey=existing.grey)
    listing = list_images(
        images or "data",
        manifest=manifest,
        path_column=settings.path_column,
        group=settings.group,
    )
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
        decoders=settings.decoders,
        max_pixels=settings.max_pixels,
        output=output,
        remaining=RemainingWork(existing, output, resumes=False, rows=()),
        listed_by=_listed_by(settings, listing),
        progress=settings.progress,
    )
    return _with_remaining_work(job, existing, prune=settings.prune)


def _listed_by(settings: ImageSettings, listing: Listing) -> dict[str, str]:
    """Return arguments of `list_images` that list the same images from any folder."""
    given = {"path_column": settings.path_column}
    if settings.manifest is None:
        images = as_file(settings.images or "data")
        given["images"] = str((images if isinstance(images, Path) else listing.root).absolute())
    else:  # a table in memory cannot be read again
        table = settings.manifest
        given["manifest"] = str(Path(table).absolute()) if isinstance(table, str | Path) else ""
    return {name: value for name, value in given.items() if value is not None}


def extraction_of(
    job: ExtractionJob,
    recipe: Recipe,
    source: WeightsSource,
    output: Path,
    *,
    overwrite: bool = False,
) -> ExtractionJob:
    """Return an extraction of the same images with another recipe, into another store.

    Parameters
    ----------
    job : ExtractionJob
        An extraction of the images.
    recipe : Recipe
        Recipe of the codes.
    source : WeightsSource
        Weights of the network.
    output : Path
        The store; an unfinished one is resumed, and rows that are not in the list are removed.
    overwrite : bool, default=False
        Replace the store if it exists, instead of resuming it.

    Returns
    -------
    ExtractionJob
        For `run_extraction`.

    Raises
    ------
    RecipeMismatchError, ExistsError, StoreError
        The output exists and cannot be resumed.
    """
    existing = find_existing(output, ignored=overwrite)
    job = dataclasses.replace(job, recipe=recipe, source=source, output=output)
    return _with_remaining_work(job, existing, prune=True)


def _with_remaining_work(
    job: ExtractionJob, existing: ExistingStore, *, prune: bool
) -> ExtractionJob:
    """Find out what remains to be done."""
    found = remaining_work(
        existing, job.recipe, job.columns(), job.files, job.max_pixels, prune=prune
    )
    if found.resumes or found.copied or found.extended:
        logger.info("%s: resumed, %d of %d to do", job.output, len(found.rows), job.n_images)
    return dataclasses.replace(job, remaining=found)
