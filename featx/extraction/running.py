"""Running extractions: images go through the network once, for as many stores as they serve.

Jobs come in and stores are left, each filled by what it lacks: rows that an
earlier store has are copied, the others computed, and written while the next are
on their way. This file does not know what the codes are for.
"""

import contextlib
import dataclasses
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from featx.cluster import Cluster
from featx.errors import OptionError
from featx.extraction.batching import BatchSize
from featx.extraction.computing import Computing, Here
from featx.extraction.copying import copy_into, copy_rows
from featx.extraction.jobs import ExtractionJob, prepare_extraction
from featx.extraction.leases import Leases
from featx.extraction.pace import Pace, Shares
from featx.extraction.passes import Pass, load_for, passes_of
from featx.extraction.pipeline import n_decoders
from featx.extraction.resuming import Earlier
from featx.images import MAX_PIXELS
from featx.network import Backbone, WeightsSource, load_backbone
from featx.outputs import remove_leftovers, sole_writer
from featx.recipe import Dtype, Jpeg, Pool, Precision, Preprocess, Recipe, Resize, ScalesJoin
from featx.store import Status, StoreWriter, create_store, open_store

__all__ = ["Extraction", "extract", "run_extraction", "run_extractions"]

Progress = Callable[[int, int], None]
LoadBackbone = Callable[[Recipe], Backbone]


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
    flip: bool = False,
    crops: int = 1,
    scale: int | Sequence[int] = (),
    scales_join: ScalesJoin = "mean",
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
        "data" by default. It may be a zip or tar file, or a URL as s3://….
    layer : str or sequence of str
        Layers to take codes from; their names: `featx layers`.
    pool : {"none", "avg", "max", "avg+max", "grid:N", "bilinear"}, default="none"
        Keep the whole map of a layer; its mean or maximum over the places, or
        both, side by side; the means of N x N cells, in place; or the mean
        products of each two channels, for textures.
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
    flip : bool, default=False
        Whether a code is the mean of an image's and its mirror image's.
    crops : {1, 5, 10}, default=1
        The mean of the codes of four corners and the middle; with 10 of their
        mirror images too.
    scale : int or sequence of int, optional
        Shorter sides, in pixels, at which the network sees the whole image, its
        aspect kept, instead of `size` and `resize`.
    scales_join : {"mean", "stack"}, default="mean"
        What becomes of the codes of several scales.
    max_pixels : int, default=178956970
        Larger images are refused, as images that cannot be read.
    manifest : Path or str, optional
        A CSV with a column path and any of label, split, group, instead of
        `images`; paths are relative to it, or URLs.
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
        Where the store is, and how the run went.

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
        flip=flip,
        crops=crops,
        scale=scale,
        scales_join=scales_join,
        max_pixels=max_pixels,
        manifest=manifest,
        group=group,
        output=output,
        overwrite=overwrite,
    )
    return run_extraction(job, progress=progress)


def run_extraction(
    job: ExtractionJob,
    *,
    progress: Progress | None = None,
    load: LoadBackbone | None = None,
    cluster: Cluster | None = None,
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
    cluster : Cluster, optional
        Whose workers compute and write the rows, instead of this process; they
        load the job's weights, and share the file system. See
        `featx.cluster.connected`.

    Returns
    -------
    Extraction
        Its `shares` are 0 on a cluster: what workers wait for, Dask's dashboard
        shows.

    Raises
    ------
    OptionError
        The workers are not of this featx, or do not see the files.
    ClusterError
        The scheduler or all workers are gone, or a worker ended with an error.
        The rows that are done are kept.
    WeightsError
        The weights do not fit VGG19.
    BusyError
        Another run is writing the store.
    StoreError
        The disk is full, or a code does not fit the store's dtype.
    """
    load = load or partial(load_backbone, source=job.source, device=job.device)
    here = Here(lambda each: load(*each.recipes))
    (found,) = _fill_stores([job], progress, here if cluster is None else Leases(cluster))
    return found


def run_extractions(
    jobs: Sequence[ExtractionJob],
    *,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> list[Extraction]:
    """Run jobs of the same images side by side: each image goes through the network once.

    A job that was begun goes on; images that only some of the jobs lack go
    through the network for those alone.

    Parameters
    ----------
    jobs : sequence of ExtractionJob
        They differ in layers, pooling, dtype and output, and in nothing else.
    progress : callable, optional
        Called with (images done, images in all) after each batch that is safe
        in the stores.
    cluster : Cluster, optional
        See `run_extraction`.

    Returns
    -------
    list of Extraction
        In the order of the jobs.

    Raises
    ------
    OptionError
        The jobs are not of one pass.
    WeightsError, BusyError, StoreError, ClusterError
        See `run_extraction`.
    """
    _check_one_pass(jobs)
    first = jobs[0]
    here = Here(lambda each: load_for(each.recipes, first.source, first.device))
    return _fill_stores(jobs, progress, here if cluster is None else Leases(cluster))


def _check_one_pass(jobs: Sequence[ExtractionJob]) -> None:
    """Refuse jobs that differ in more than what one pass can give."""
    first = jobs[0]
    for job in jobs:
        alike = (
            dataclasses.replace(job, recipe=first.recipe, output=first.output, rest=first.rest)
            == first
        )
        recipe = dataclasses.replace(
            job.recipe,
            layers=first.recipe.layers,
            pool=first.recipe.pool,
            dtype=first.recipe.dtype,
        )
        if not alike or recipe != first.recipe:
            message = (
                f"{job.output} and {first.output} cannot be made in one pass. Expected the same "
                "images and settings, but for layers, pooling and dtype."
            )
            raise OptionError(message)


def _fill_stores(
    jobs: Sequence[ExtractionJob], progress: Progress | None, computing: Computing
) -> list[Extraction]:
    """Run jobs of one pass; see `run_extractions`."""
    pace, began = Pace(n_decoders(jobs[0].files)), time.perf_counter()
    undone = [job for job in jobs if not job.rest.nothing]
    if undone:
        with contextlib.ExitStack() as outputs:
            for job in undone:
                outputs.enter_context(sole_writer(job.output))
                job.rest.standing.check_unchanged()
                remove_leftovers(job.rest.standing.output)
            passes = passes_of(undone)
            computing.begin(undone, passes)
            began = time.perf_counter()
            _fill(undone, passes, computing, pace, progress or (lambda done, total: None))
            for job in undone:
                rest = job.rest
                if rest.target != rest.standing.output:
                    rest.target.replace(rest.standing.output)
                elif rest.standing.replaces:
                    rest.standing.part_path.unlink(missing_ok=True)
    seconds = time.perf_counter() - began
    return [_made(job, pace, seconds) for job in jobs]


def _made(job: ExtractionJob, pace: Pace, seconds: float) -> Extraction:
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


def _fill(
    jobs: Sequence[ExtractionJob],
    passes: Sequence[Pass],
    computing: Computing,
    pace: Pace,
    progress: Progress,
) -> None:
    """Bring the targets to their end: created, copied into, computed, finished."""
    n_images = jobs[0].n_images
    to_compute = {row for each in passes for row in each.rows}
    copied = {copy.row for job in jobs for copy in job.rest.copies} - to_compute
    n_seen = n_images - len(to_compute) - len(copied)
    with contextlib.ExitStack() as files:
        writers = []
        for job in jobs:
            given = _created(job, computing.facts() if passes else {})
            writer = files.enter_context(StoreWriter(job.rest.target))
            writers.append(writer)
            todo = [*job.rest.rows, *(e.row for e in (*job.rest.copies, *job.rest.extended))]
            if job.rest.resumes:
                writer.forget(np.sort(np.array(todo, np.int64)))
            for n_copied in copy_rows(writer, [c for c in job.rest.copies if c not in given]):
                progress(n_seen + min(len(given) + n_copied, len(copied)), n_images)
        n_seen += len(copied)
        for each in passes:
            with contextlib.closing(computing.fill(jobs, each, writers, pace)) as filled:
                for n_written in filled:
                    n_seen += n_written
                    progress(n_seen, n_images)
        for writer in writers:
            writer.finish()


def _created(job: ExtractionJob, facts: dict[str, Any]) -> list[Earlier]:
    """Create the target, unless it is gone on with; return the rows that it has from the start."""
    rest = job.rest
    if rest.resumes:
        return []
    # An update that was left, of other images: it gives its rows before it is replaced.
    part = rest.standing.part
    given = [c for c in rest.copies if part is not None and c.store.path == part.path]
    create_store(
        rest.target,
        job.recipe,
        job.columns(),
        _provenance(job) | facts,
        fill=partial(copy_into, copies=given),
    )
    return given


def _provenance(job: ExtractionJob) -> dict[str, Any]:
    facts = {
        "featx": version("featx"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "root": str(job.listing.root.absolute()),
        "weights": _lasting_spec(job.source),
        "max_pixels": job.max_pixels,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    if job.source.rename:
        facts["rename"] = dict(job.source.rename)
    return facts


def _lasting_spec(source: WeightsSource) -> str:
    """Return what to type for the same weights from another folder."""
    if source.path is None or source.spec in {"bundled", "imagenet"}:
        return source.spec
    return os.fspath(source.path.absolute())
