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
from collections.abc import Callable, Sequence
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
from featx.extraction.computing import Computing, Here
from featx.extraction.copying import copy_into, copy_rows
from featx.extraction.leases import Leases
from featx.extraction.passes import Pass, load_for, passes_of
from featx.extraction.pipeline import n_decoders
from featx.extraction.prepare import ExtractionJob, prepare_extraction
from featx.extraction.resuming import ReusableRow
from featx.extraction.settings import Progress
from featx.extraction.timings import Pace, Timings
from featx.network import Backbone, WeightsSource, load_backbone
from featx.outputs import remove_leftovers, sole_writer
from featx.recipe import Recipe
from featx.signatures import prepared_by
from featx.store import Status, StoreWriter, create_store, open_store

__all__ = ["Extraction", "extract", "run_extraction", "run_extractions"]

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
    shares : Timings
        How the time was spent.
    """

    path: Path
    n_done: int
    n_failed: int
    n_computed: int
    seconds: float
    images_per_second: float
    shares: Timings


@prepared_by(prepare_extraction)
def extract(job: ExtractionJob) -> Extraction:
    """Extract the codes of images into a store.

    If the store exists and was made with the same settings, extraction resumes: only images
    that are new, edited or not done yet, and layers that are missing, are computed.

    Returns
    -------
    Extraction
        Where the store is, and how the run went.
    """
    return run_extraction(job)


def run_extraction(
    job: ExtractionJob,
    *,
    load: LoadBackbone | None = None,
    cluster: Cluster | None = None,
) -> Extraction:
    """Run a job.

    Parameters
    ----------
    job : ExtractionJob
        See `prepare_extraction`.
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
    (found,) = _fill_stores([job], job.progress, here if cluster is None else Leases(cluster))
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


def _created(job: ExtractionJob, facts: dict[str, Any]) -> list[ReusableRow]:
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
