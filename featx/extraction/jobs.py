"""The extraction job: checked and priced first, then run into a store.

Settings come in; a job goes out that knows what it will make, and running it
leaves a store. Everything that can be refused is refused before the first
image is read. This file does not know what the codes are for.
"""

import dataclasses
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

from featx.errors import OptionError
from featx.extraction.pipeline import CodeBatch, settle_batch_size, stream_codes
from featx.extraction.resuming import open_started, rows_to_do
from featx.images import Listing, list_images
from featx.network import Backbone, WeightsSource, device_name, find_weights, load_backbone
from featx.outputs import check_output
from featx.recipe import Dtype, Pool, Preprocess, Recipe, Resize, image_size
from featx.store import ImageFacts, Status, StoreWriter, create_store, open_store

__all__ = ["Extraction", "ExtractionJob", "extract", "prepare_extraction", "run_extraction"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
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
    batch_size : int
        Images that the network sees at once.
    output : Path
        The store.
    rows : tuple of int
        Rows still to do: all, or the rest of a store that was left incomplete.
    resumes : bool
        Whether the store exists and is gone on with.
    """

    listing: Listing
    recipe: Recipe
    source: WeightsSource
    batch_size: int
    output: Path
    rows: tuple[int, ...]
    resumes: bool

    @property
    def n_images(self) -> int:
        """Images in the store."""
        return len(self.listing.records)

    @property
    def n_bytes(self) -> int:
        """Bytes of codes in the store."""
        return self.n_images * self.recipe.code_bytes()

    @property
    def files(self) -> list[Path]:
        """Where the images lie, in order."""
        return [record.file for record in self.listing.records]

    def columns(self) -> dict[str, list[str | None]]:
        """Return the facts of the images that are known before they are read."""
        return {name: [getattr(r, name) for r in self.listing.records] for name in _COLUMNS}


@dataclass(frozen=True)
class Extraction:
    """What an extraction has made.

    Parameters
    ----------
    path : Path
        The store.
    n_done, n_failed : int
        Images of the store with codes, and images that could not be read.
    seconds : float
        Time from the first image to the last.
    images_per_second : float
        Of this run.
    """

    path: Path
    n_done: int
    n_failed: int
    seconds: float
    images_per_second: float


def extract(  # noqa: PLR0913  flat, as on the command line
    images: Path | str | None = None,
    *,
    layer: str | Sequence[str],
    pool: Pool = "none",
    size: int | str | tuple[int, int] = 224,
    resize: Resize = "squash",
    weights: str = "bundled",
    preprocess: Preprocess = "caffe",
    batch_size: int | Literal["auto"] = "auto",
    dtype: Dtype = "float32",
    manifest: Path | str | None = None,
    group: str | None = None,
    output: Path | str = "codes.h5",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Extract the codes of images into a store.

    A store of the same name that a run left incomplete is gone on with, if
    its recipe and images are the same.

    Parameters
    ----------
    images : Path or str, optional
        A folder of images, of class folders, or of train/, val/ and test/;
        "data" by default.
    layer : str or sequence of str
        Layers to take codes from; their names: `featx layers`.
    pool : {"none", "avg", "max"}, default="none"
        Keep the whole map of a layer, or its mean or maximum over the places.
    size : int, str or (int, int), default=224
        Image size that the network sees, in pixels: one number, "HxW" or
        (height, width).
    resize : {"squash", "crop", "pad"}, default="squash"
        Stretch the image to that size, cut out its middle, or add a border.
    weights : str, default="bundled"
        "bundled", "imagenet" (Keras's release), an h5 or keras file, or
        "random:SEED".
    preprocess : {"caffe", "unit"}, default="caffe"
        BGR minus ImageNet's mean, which VGG19's weights expect, or RGB / 255,
        for networks that were trained so.
    batch_size : int or "auto", default="auto"
        Images that the network sees at once.
    dtype : {"float32", "float16"}, default="float32"
        Numbers that the store keeps.
    manifest : Path or str, optional
        A CSV with a column path and any of label, split, group, instead of
        `images`; paths are relative to it.
    group : str, optional
        A regular expression that finds the group (a patient, a site) in the
        path.
    output : Path or str, default="codes.h5"
        The store.
    overwrite : bool, default=False
        Whether a store of that name may be replaced.
    progress : callable, optional
        Called with (images done, images in all) after each batch.

    Returns
    -------
    Extraction

    Raises
    ------
    OptionError, ImagesError, WeightsError, ExistsError, StoreError
        See their own words; all but a full disk is found before work starts.
    """
    job = prepare_extraction(
        images,
        layer=layer,
        pool=pool,
        size=size,
        resize=resize,
        weights=weights,
        preprocess=preprocess,
        batch_size=batch_size,
        dtype=dtype,
        manifest=manifest,
        group=group,
        output=output,
        overwrite=overwrite,
    )
    return run_extraction(job, progress=progress)


def prepare_extraction(  # noqa: PLR0913  those of `extract`
    images: Path | str | None = None,
    *,
    layer: str | Sequence[str],
    pool: Pool = "none",
    size: int | str | tuple[int, int] = 224,
    resize: Resize = "squash",
    weights: str = "bundled",
    preprocess: Preprocess = "caffe",
    batch_size: int | Literal["auto"] = "auto",
    dtype: Dtype = "float32",
    manifest: Path | str | None = None,
    group: str | None = None,
    output: Path | str = "codes.h5",
    overwrite: bool = False,
    show_download: bool = False,
) -> ExtractionJob:
    """Check the settings of an extraction and say what it will make.

    Parameters and errors are those of `extract`; `show_download` draws a bar if
    "imagenet" weights are fetched. Nothing else is written, and TensorFlow is
    not imported.

    Returns
    -------
    ExtractionJob
    """
    layers = (layer,) if isinstance(layer, str) else tuple(layer)
    settings = Recipe(
        weights="",
        layers=layers,
        pool=pool,
        size=image_size(size),
        resize=resize,
        preprocess=preprocess,
        dtype=dtype,
    )
    settle_batch_size(batch_size, settings, 1)  # a wrong one is refused before images are listed
    if images is not None and manifest is not None:
        message = f"Images come from a folder or from a manifest: received {images} and {manifest}."
        raise OptionError(message)
    output = check_output(output, overwrite=True)  # what stands there may be gone on with
    started = None if overwrite else open_started(output)
    listing = list_images(images or "data", manifest=manifest, group=group)
    source = find_weights(os.fspath(weights), layers, progress=show_download)
    if source.path is not None and output.exists() and output.samefile(source.path):
        message = f"{output} holds the weights: it is not replaced by codes. Choose another -o."
        raise OptionError(message)
    recipe = dataclasses.replace(settings, weights=source.identity)
    n_images = len(listing.records)
    job = ExtractionJob(
        listing=listing,
        recipe=recipe,
        source=source,
        batch_size=settle_batch_size(batch_size, recipe, n_images),
        output=output,
        rows=tuple(range(n_images)),
        resumes=False,
    )
    if started is None:
        return job
    rows = rows_to_do(started, recipe, job.columns(), job.files)
    logger.info("%s: going on, %d of %d to do", output, len(rows), n_images)
    return dataclasses.replace(job, rows=rows, resumes=True)


def run_extraction(
    job: ExtractionJob,
    *,
    progress: Progress | None = None,
    backbone: Backbone | None = None,
) -> Extraction:
    """Run a job.

    Parameters
    ----------
    job : ExtractionJob
        See `prepare_extraction`.
    progress : callable, optional
        Called with (images done, images in all) after each batch.
    backbone : Backbone, optional
        What turns images into codes; by default VGG19 with the job's weights.

    Returns
    -------
    Extraction

    Raises
    ------
    WeightsError
        The weights do not fit VGG19.
    StoreError
        The disk is full, or a code does not fit the store's dtype.
    """
    if backbone is None:
        backbone = load_backbone(job.recipe, job.source)
    if not job.resumes:
        create_store(job.output, job.recipe, job.columns(), _provenance(job))
    began, n_seen = time.perf_counter(), job.n_images - len(job.rows)
    with StoreWriter(job.output) as writer:
        if job.resumes:
            writer.forget(np.array(job.rows, np.int64))
        for batch in stream_codes(job.files, backbone, job.batch_size, job.rows):
            _write(writer, batch)
            n_seen += batch.n_images
            if progress is not None:
                progress(n_seen, job.n_images)
        writer.finish()
    seconds = time.perf_counter() - began
    status = open_store(job.output).images.status
    return Extraction(
        path=job.output,
        n_done=int(np.sum(status == Status.DONE)),
        n_failed=int(np.sum(status == Status.FAILED)),
        seconds=seconds,
        images_per_second=len(job.rows) / seconds,
    )


def _write(writer: StoreWriter, batch: CodeBatch) -> None:
    if len(batch.rows):
        facts = [ImageFacts(p.sha256, p.phash, p.thumbnail) for p in batch.pictures]
        writer.write_done(batch.rows, batch.codes, facts)
    for failure in batch.failures:
        writer.write_failed(failure.row, failure.reason, failure.sha256)


def _provenance(job: ExtractionJob) -> dict[str, Any]:
    import keras

    return {
        "featx": version("featx"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "root": os.fspath(job.listing.root.absolute()),
        "weights": _lasting_spec(job.source),
        "batch_size": job.batch_size,
        "device": device_name(),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
    }


def _lasting_spec(source: WeightsSource) -> str:
    """Return what to type for the same weights from another folder."""
    if source.path is None or source.spec in {"bundled", "imagenet"}:
        return source.spec
    return os.fspath(source.path.absolute())
