"""The extraction job: checked and priced first, then run into a store.

Settings come in; a job goes out that knows what it will make, and running it
leaves a store. Everything that can be refused is refused before the first
image is read. This file does not know what the codes are for.
"""

import contextlib
import dataclasses
import logging
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from featx.errors import OptionError, StoreError
from featx.extraction.batching import BatchSize, check_batch_size, settle_batch_size
from featx.extraction.pace import Pace, Shares
from featx.extraction.pipeline import CodeBatch, n_decoders, stream_codes
from featx.extraction.resuming import Earlier, Rest, Standing, what_is_left, what_stands
from featx.images import MAX_PIXELS, Listing, list_images
from featx.network import Backbone, WeightsSource, check_device, find_weights, load_backbone
from featx.outputs import check_output, remove_leftovers, sole_writer
from featx.recipe import Dtype, Jpeg, Pool, Precision, Preprocess, Recipe, Resize, image_size
from featx.store import ImageFacts, Status, StoreWriter, create_store, open_store, store_bytes

__all__ = [
    "Extraction",
    "ExtractionJob",
    "extract",
    "extraction_of",
    "prepare_extraction",
    "run_extraction",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
LoadBackbone = Callable[[Recipe], Backbone]
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
    def files(self) -> list[Path]:
        """Where the images lie, in order."""
        return [record.file for record in self.listing.records]

    @property
    def n_to_compute(self) -> int:
        """Images that go through the network."""
        return len(self.rest.rows) + len(self.rest.extended)

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
    n_computed : int
        Images that went through the network in this run.
    seconds : float
        Time from the first image to the last.
    images_per_second : float
        Of this run; 0 where it computed nothing.
    shares : Shares
        How the time was spent.
    """

    path: Path
    n_done: int
    n_failed: int
    n_computed: int
    seconds: float
    images_per_second: float
    shares: Shares


def extract(  # noqa: PLR0913  flat, as on the command line
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
    max_pixels: int = MAX_PIXELS,
    manifest: Path | str | None = None,
    group: str | None = None,
    output: Path | str = "codes.h5",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Extract the codes of images into a store.

    A store of the same name is gone on with, if its settings are the same:
    where a run left it incomplete, where images were added, removed, renamed or
    edited, and where there are further layers. What it holds is not made again.

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
    jpeg : {"reduced", "full"}, default="reduced"
        Whether JPEGs much larger than `size` may be decoded at a part of their
        size, which is faster; see `featx.images.decoding`.
    weights : str, default="bundled"
        "bundled", "imagenet" (Keras's release), an h5 or keras file, or
        "random:SEED".
    rename : mapping of str to str, optional
        Name of a layer in that file -> the layer of VGG19 that it is, where the
        file's names are its maker's own.
    preprocess : {"caffe", "unit"}, default="caffe"
        BGR minus ImageNet's mean, which VGG19's weights expect, or RGB / 255,
        for networks that were trained so.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Arithmetic of the network.
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "gpu" or "gpu:N".
    batch_size : int or "auto", default="auto"
        Images that the network sees at once; halved where memory ends.
    dtype : {"float32", "float16"}, default="float32"
        Numbers that the store keeps.
    max_pixels : int, default=178956970
        Larger images are refused, as images that cannot be read.
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
    OptionError, ImagesError, WeightsError, OutputError, StoreError
        See their own words; all but what happens to the disk and the memory
        meanwhile is found before work starts.
    """
    job = prepare_extraction(
        images,
        layer=layer,
        pool=pool,
        size=size,
        resize=resize,
        jpeg=jpeg,
        weights=weights,
        rename=rename,
        preprocess=preprocess,
        precision=precision,
        device=device,
        batch_size=batch_size,
        dtype=dtype,
        max_pixels=max_pixels,
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
    jpeg: Jpeg = "reduced",
    weights: str = "bundled",
    rename: Mapping[str, str] | None = None,
    preprocess: Preprocess = "caffe",
    precision: Precision = "float32",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    dtype: Dtype = "float32",
    max_pixels: int = MAX_PIXELS,
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
        jpeg=jpeg,
        preprocess=preprocess,
        precision=precision,
        dtype=dtype,
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


def run_extraction(
    job: ExtractionJob,
    *,
    progress: Progress | None = None,
    load: LoadBackbone | None = None,
) -> Extraction:
    """Run a job.

    Parameters
    ----------
    job : ExtractionJob
        See `prepare_extraction`.
    progress : callable, optional
        Called with (images done, images in all) after each batch that is safe
        in the store.
    load : callable, optional
        Makes the backbone of a recipe; by default VGG19 with the job's weights.

    Returns
    -------
    Extraction

    Raises
    ------
    WeightsError
        The weights do not fit VGG19.
    BusyError
        Another run is writing the store.
    StoreError
        The disk is full, or a code does not fit the store's dtype.
    """
    pace, began = Pace(n_decoders()), time.perf_counter()
    rest = job.rest
    if not rest.nothing:
        with sole_writer(job.output):
            rest.standing.check_unchanged()
            remove_leftovers(rest.standing.output)
            default = partial(load_backbone, source=job.source, device=job.device)
            passes = _passes(job, load or default)
            began = time.perf_counter()
            _fill(job, passes, pace, progress or (lambda done, total: None))
            if rest.target != rest.standing.output:
                rest.target.replace(rest.standing.output)
            elif rest.standing.replaces:
                rest.standing.part_path.unlink(missing_ok=True)
    seconds = time.perf_counter() - began
    status = open_store(job.output).images.status
    return Extraction(
        path=job.output,
        n_done=int(np.sum(status == Status.DONE)),
        n_failed=int(np.sum(status == Status.FAILED)),
        n_computed=job.n_to_compute,
        seconds=seconds,
        images_per_second=job.n_to_compute / seconds,
        shares=pace.shares(seconds),
    )


@dataclass(frozen=True)
class _Pass:
    """Rows that go through the network, for all layers or for those that they lack."""

    backbone: Backbone
    batch_size: int
    rows: tuple[int, ...]
    earlier: dict[int, Earlier]


def _passes(job: ExtractionJob, load: LoadBackbone) -> list[_Pass]:
    """Group the rows by the layers that they lack, and load what computes those."""
    groups: defaultdict[tuple[str, ...], dict[int, Earlier | None]] = defaultdict(dict)
    for row in job.rest.rows:
        groups[job.recipe.layers][row] = None
    for earlier in job.rest.extended:
        held = earlier.store.recipe.layers
        missing = tuple(layer for layer in job.recipe.layers if layer not in held)
        groups[missing][earlier.row] = earlier
    passes = []
    for layers, rows in groups.items():
        backbone = load(job.recipe.narrowed(layers))
        size = settle_batch_size(
            job.batch_size, backbone.recipe, len(rows), getattr(backbone, "device", None)
        )
        known = {row: found for row, found in rows.items() if found is not None}
        passes.append(_Pass(backbone, size, tuple(sorted(rows)), known))
    return passes


def _fill(job: ExtractionJob, passes: Sequence[_Pass], pace: Pace, progress: Progress) -> None:
    """Bring the target to its end: created, copied into, computed, finished."""
    rest, n_images = job.rest, job.n_images
    copies = rest.copies
    if not rest.resumes:
        # An update that was left, of other images: it gives its rows before it is replaced.
        part = rest.standing.part
        given = [c for c in copies if part is not None and c.store.path == part.path]
        copies = tuple(c for c in copies if c not in given)
        create_store(
            rest.target,
            job.recipe,
            job.columns(),
            _provenance(job, passes),
            fill=partial(_copy_into, copies=given),
        )
    with StoreWriter(rest.target) as writer:
        todo = [*rest.rows, *(e.row for e in (*rest.copies, *rest.extended))]
        if rest.resumes:
            writer.forget(np.sort(np.array(todo, np.int64)))
        n_seen = n_images - len(todo) + len(rest.copies) - len(copies)
        for n_copied in _copy(writer, copies):
            progress(n_seen + n_copied, n_images)
        n_seen += len(copies)
        for each in passes:
            batches = stream_codes(
                job.files,
                each.backbone,
                each.batch_size,
                each.rows,
                max_pixels=job.max_pixels,
                pace=pace,
            )
            write = partial(_write, writer, each.earlier, pace)
            # Closed in any case, so that nothing writes any more when the file is closed.
            with contextlib.closing(_written_beside(batches, write)) as written:
                for n_written in written:
                    n_seen += n_written
                    progress(n_seen, n_images)
        writer.finish()


def _written_beside(
    batches: Generator[CodeBatch, None, None], write: Callable[[CodeBatch], None]
) -> Generator[int, None, None]:
    """Write each batch while the next is computed; yield how many images are safe by then."""
    with contextlib.closing(batches), ThreadPoolExecutor(1) as hand:
        before: tuple[Future[None], int] | None = None
        for batch in batches:
            if before is not None:
                before[0].result()
                yield before[1]
            before = hand.submit(write, batch), batch.n_images
        if before is not None:
            before[0].result()
            yield before[1]


def _write(
    writer: StoreWriter, earlier: Mapping[int, Earlier], pace: Pace, batch: CodeBatch
) -> None:
    with pace.write.work():
        batch = _completed(batch, earlier)
        if len(batch.rows):
            facts = [ImageFacts(p.sha256, p.phash, p.thumbnail) for p in batch.pictures]
            writer.write_done(batch.rows, batch.codes, facts)
        if batch.failures:
            failures = batch.failures
            writer.write_failed(
                np.array([f.row for f in failures]),
                [f.reason for f in failures],
                [f.sha256 for f in failures],
            )


def _completed(batch: CodeBatch, earlier: Mapping[int, Earlier]) -> CodeBatch:
    """Add the layers that the earlier store holds, if the pass computes only the others."""
    if not earlier or not len(batch.rows):
        return batch
    found = [earlier[row] for row in batch.rows.tolist()]
    if any(f.sha256 != p.sha256 for f, p in zip(found, batch.pictures, strict=True)):
        message = "Images were edited while the run went on. Run the same command again."
        raise StoreError(message)
    return dataclasses.replace(batch, codes=batch.codes | _codes_of(found))


def _codes_of(earlier: Sequence[Earlier]) -> dict[str, NDArray[np.floating]]:
    """Read the codes of rows that lie in one earlier store."""
    store, rows = earlier[0].store, np.array([e.source_row for e in earlier])
    return {
        layer: store.read_rows(layer, rows).reshape(-1, *store.recipe.code_shape(layer))
        for layer in store.recipe.layers
    }


def _copy_into(path: Path, copies: Sequence[Earlier]) -> None:
    with StoreWriter(path) as writer:
        for _ in _copy(writer, copies):
            pass


def _copy(writer: StoreWriter, copies: Sequence[Earlier]) -> Iterator[int]:
    """Copy rows of earlier stores, block by block; yield how many are safe by then."""
    n_copied = 0
    stores = {copy.store.path: copy.store for copy in copies}
    for path, store in stores.items():
        own = [copy for copy in copies if copy.store.path == path]
        thumbnails = store.thumbnails()
        for block in store.row_blocks(np.arange(len(own))):
            part = [own[k] for k in block]
            phashes = (int(store.images.phash[copy.source_row]) for copy in part)
            facts = [
                ImageFacts(copy.sha256, phash, thumbnails[copy.source_row])
                for copy, phash in zip(part, phashes, strict=True)
            ]
            writer.write_done(np.array([copy.row for copy in part]), _codes_of(part), facts)
            n_copied += len(part)
            yield n_copied


def _provenance(job: ExtractionJob, passes: Sequence[_Pass]) -> dict[str, Any]:
    facts = {
        "featx": version("featx"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "root": os.fspath(job.listing.root.absolute()),
        "weights": _lasting_spec(job.source),
        "max_pixels": job.max_pixels,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    if job.source.rename:
        facts["rename"] = dict(job.source.rename)
    if passes:  # else every row is copied
        import keras

        device = getattr(passes[0].backbone, "device", None)
        facts |= {
            "batch_size": passes[0].batch_size,
            "device": device.description if device is not None else "",
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
        }
    return facts


def _lasting_spec(source: WeightsSource) -> str:
    """Return what to type for the same weights from another folder."""
    if source.path is None or source.spec in {"bundled", "imagenet"}:
        return source.spec
    return os.fspath(source.path.absolute())
