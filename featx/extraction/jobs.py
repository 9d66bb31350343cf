"""The extraction job: checked and priced before the first image is read.

Settings come in; a job goes out that knows what it will make, and what of it is
there already. Everything that can be refused is refused here. This file does
not know what the codes are for.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import OptionError
from featx.extraction.batching import BatchSize, check_batch_size
from featx.extraction.resuming import Rest, Standing, what_is_left, what_stands
from featx.images import MAX_PIXELS, File, Listing, list_images
from featx.network import WeightsSource, check_device, find_weights
from featx.outputs import check_output
from featx.recipe import (
    Dtype,
    Jpeg,
    Pool,
    Precision,
    Preprocess,
    Recipe,
    Resize,
    ScalesJoin,
    check_sizes,
    image_size,
)
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
    rest : Rest
        What is left to do there.
    """

    listing: Listing
    recipe: Recipe
    source: WeightsSource
    device: str
    batch_size: BatchSize
    max_pixels: int
    output: Path
    rest: Rest

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


def prepare_extraction(  # noqa: PLR0913  those of `extract`
    images: Path | str | None = None,
    *,
    layer: str | Sequence[str],
    pool: Pool = "none",
    size: int | str | tuple[int, int] = 224,
    resize: Resize = "squash",
    jpeg: Jpeg = "reduced",
    weights: str = "bundled",
    rename: Mapping[str, str] | None = None,
    preprocess: Preprocess = "caffe",
    precision: Precision = "float32",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    dtype: Dtype = "float32",
    flip: bool = False,
    crops: int = 1,
    scale: int | Sequence[int] = (),
    scales_join: ScalesJoin = "mean",
    max_pixels: int = MAX_PIXELS,
    manifest: Path | str | None = None,
    group: str | None = None,
    output: Path | str = "codes.h5",
    overwrite: bool = False,
    show_download: bool = False,
) -> ExtractionJob:
    """Check the settings of an extraction and say what it will make.

    Parameters and errors are those of `featx.extract`; `show_download` draws a bar if
    "imagenet" weights are fetched. Nothing else is written, and TensorFlow is
    not imported.

    Returns
    -------
    ExtractionJob
    """
    layers = (layer,) if isinstance(layer, str) else tuple(layer)
    scales = (scale,) if isinstance(scale, int) else tuple(scale)
    shape = image_size(size)
    check_sizes([shape], scales)
    settings = Recipe(
        weights="",
        layers=layers,
        pool=pool,
        size=shape,
        resize=resize,
        jpeg=jpeg,
        preprocess=preprocess,
        precision=precision,
        dtype=dtype,
        flip=flip,
        crops=crops,
        scales=scales,
        scales_join=scales_join,
    )
    check_batch_size(batch_size)
    check_device(device)
    if max_pixels < 1:
        message = f"No such limit: {max_pixels}. Expected --max-pixels 1 and more."
        raise OptionError(message)
    if images is not None and manifest is not None:
        message = f"Images come from a folder or from a manifest: received {images} and {manifest}."
        raise OptionError(message)
    output = check_output(output, overwrite=True)  # what stands there may be gone on with
    standing = what_stands(output, ignored=overwrite)
    listing = list_images(images or "data", manifest=manifest, group=group)
    source = find_weights(os.fspath(weights), layers, rename=rename, progress=show_download)
    if source.path is not None and output.exists() and output.samefile(source.path):
        message = f"{output} holds the weights: it is not replaced by codes. Choose another -o."
        raise OptionError(message)
    job = ExtractionJob(
        listing=listing,
        recipe=dataclasses.replace(settings, weights=source.identity),
        source=source,
        device=device,
        batch_size=batch_size,
        max_pixels=max_pixels,
        output=output,
        rest=Rest(standing, output, resumes=False, rows=tuple(range(len(listing.records)))),
    )
    return _going_on(job, standing)


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
    standing = what_stands(output, ignored=overwrite)
    return _going_on(
        dataclasses.replace(job, recipe=recipe, source=source, output=output), standing
    )


def _going_on(job: ExtractionJob, standing: Standing) -> ExtractionJob:
    """Return the job with what is left to do of it."""
    rest = what_is_left(standing, job.recipe, job.columns(), job.files, job.max_pixels)
    if rest.resumes or rest.copies or rest.extended:
        logger.info("%s: going on, %d of %d to do", job.output, len(rest.rows), job.n_images)
    return dataclasses.replace(job, rest=rest)
