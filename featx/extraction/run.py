"""Running extractions: images go through the network once, for one or several stores.

Jobs come in, and each store is completed: rows of earlier stores are copied, the others are
computed, and each batch is written while the next one is computed. This module does not know
what the codes are used for.
"""

import contextlib
import dataclasses
import platform
import time
from collections.abc import Sequence, Set
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
from featx.extraction.executors import (
    Fill,
    LoadBackbone,
    absolute_spec,
    start_here,
    start_on_workers,
)
from featx.extraction.filling import copy_into, copy_rows
from featx.extraction.passes import divide_into_passes
from featx.extraction.prepare import ExtractionJob, prepare_extraction
from featx.extraction.resuming import ReusableRow, cannot_extend
from featx.extraction.timings import Pace, Timings
from featx.outputs import sole_writer
from featx.signatures import prepared_by
from featx.store import Status, StoreWriter, create_store, open_store

__all__ = ["Extraction", "extract", "run_extraction", "run_extractions"]


@dataclass(frozen=True)
class Extraction:
    """Result of an extraction.

    Parameters
    ----------
    path : Path
        The store.
    n_done, n_failed : int
        Number of images with codes, and of images that could not be read.
    n_computed : int
        Number of images that went through the network in this run.
    seconds : float
        Time from the first image to the last one.
    images_per_second : float
        Speed of this run; 0 if nothing was computed.
    timings : Timings
        How the time was spent; all 0 on a cluster.
    notes : tuple of str
        Notes for the user, such as the number of images that could not be read and kept their
        codes.
    """

    path: Path
    n_done: int
    n_failed: int
    n_computed: int
    seconds: float
    images_per_second: float
    timings: Timings
    notes: tuple[str, ...] = ()


@prepared_by(prepare_extraction)
def extract(job: ExtractionJob) -> Extraction:
    """Extract the codes of images into a store.

    If the store exists and was made with the same settings, extraction resumes: only images
    that are new, edited or not done yet, and layers that are missing, are computed. An image
    that cannot be read now keeps its codes.

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
        Returns the backbone of a recipe; by default VGG19 with the job's weights.
    cluster : Cluster, optional
        Compute on its workers instead of this process. The workers load the job's weights and
        share the file system; see `featx.cluster.connect`.

    Returns
    -------
    Extraction
        Where the store is, and how the run went.

    Raises
    ------
    OptionError
        The workers have another version of featx, or cannot read the files.
    ClusterError
        The scheduler or all workers are gone, or a worker failed. Finished rows are kept.
    WeightsError
        The weights do not fit VGG19.
    BusyError
        Another run is writing the store.
    ImagesError
        Layers are added to images that cannot be read. The store stays as it was.
    StoreError
        The disk is full, or a code does not fit the dtype of the store.
    """
    return run_extractions([job], load=load, cluster=cluster)[0]


def run_extractions(
    jobs: Sequence[ExtractionJob],
    *,
    load: LoadBackbone | None = None,
    cluster: Cluster | None = None,
) -> list[Extraction]:
    """Run jobs of the same images together, so that each image goes through the network once.

    Unfinished stores are resumed. Images that only some of the stores lack are computed for
    those stores only.

    Parameters
    ----------
    jobs : sequence of ExtractionJob
        Jobs that differ only in layers, pooling, dtype and output. The `progress` of the
        first one is called.
    load, cluster : optional
        See `run_extraction`.

    Returns
    -------
    list of Extraction
        The results, in the order of the jobs.

    Raises
    ------
    OptionError
        The jobs differ in other settings.
    WeightsError, BusyError, ImagesError, StoreError, ClusterError
        See `run_extraction`.
    """
    _check_one_pass(jobs)
    pace, started = Pace(), time.perf_counter()
    unfinished = [job for job in jobs if not job.remaining.is_empty]
    if unfinished:
        with contextlib.ExitStack() as locks:
            for job in unfinished:
                locks.enter_context(sole_writer(job.output))
                job.remaining.existing.check_unchanged()
            passes = divide_into_passes(unfinished)
            if cluster is None:
                start = partial(start_here, load=load)
            else:
                start = partial(start_on_workers, cluster=cluster)
            facts, fills = start(unfinished, passes) if passes else ({}, [])
            started = time.perf_counter()
            computed = {row for each in passes for row in each.rows}
            _fill(unfinished, computed, fills, facts, pace)
            for job in unfinished:
                target, existing = job.remaining.target, job.remaining.existing
                if target != existing.output:
                    target.replace(existing.output)
                elif existing.replaces:
                    existing.part_path.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    return [_result(job, pace, seconds) for job in jobs]


def _check_one_pass(jobs: Sequence[ExtractionJob]) -> None:
    """Check that one forward pass can compute the codes of all jobs."""
    first = jobs[0]
    for job in jobs:
        same_job = dataclasses.replace(
            job, recipe=first.recipe, output=first.output, remaining=first.remaining
        )
        layers, pool, dtype = first.recipe.layers, first.recipe.pool, first.recipe.dtype
        same_recipe = dataclasses.replace(job.recipe, layers=layers, pool=pool, dtype=dtype)
        if same_job != first or same_recipe != first.recipe:
            message = (
                f"{job.output} and {first.output} cannot be made in one pass: their settings may "
                "differ only in layers, pooling, dtype and output."
            )
            raise OptionError(message)


def _result(job: ExtractionJob, pace: Pace, seconds: float) -> Extraction:
    status = open_store(job.output).images.status
    return Extraction(
        path=job.output,
        n_done=int(np.sum(status == Status.DONE)),
        n_failed=int(np.sum(status == Status.FAILED)),
        n_computed=job.n_to_compute,
        seconds=seconds,
        images_per_second=job.n_to_compute / seconds,
        timings=pace.timings(seconds),
        notes=job.notes,
    )


def _fill(
    jobs: Sequence[ExtractionJob],
    computed: Set[int],
    fills: Sequence[Fill],
    facts: dict[str, Any],
    pace: Pace,
) -> None:
    """Create the target of each job, copy rows, compute the others, and mark it complete."""
    progress, n_images = jobs[0].progress or (lambda done, total: None), jobs[0].n_images
    copied = {each.row for job in jobs for each in job.remaining.copied} - computed
    n_done = n_images - len(computed) - len(copied)
    with contextlib.ExitStack() as files:
        writers = []
        for job in jobs:
            remaining = job.remaining
            present = _create_target(job, facts)
            writer = files.enter_context(StoreWriter(remaining.target))
            writers.append(writer)
            if remaining.resumes:
                reused = (each.row for each in (*remaining.copied, *remaining.extended))
                writer.mark_pending(np.sort(np.array([*remaining.rows, *reused], np.int64)))
            to_copy = [each for each in remaining.copied if each not in present]
            for n_copied in copy_rows(writer, to_copy):
                progress(n_done + min(len(present) + n_copied, len(copied)), n_images)
        n_done += len(copied)
        for fill in fills:
            with contextlib.closing(fill(writers, pace)) as written:
                for n_written in written:
                    n_done += n_written
                    progress(n_done, n_images)
        for job in jobs:
            _check_extended(job)
        for writer in writers:
            writer.finish()


def _check_extended(job: ExtractionJob) -> None:
    """Check that no image failed to which layers were added: its earlier codes would be lost.

    Raises
    ------
    ImagesError
        Some failed. The store stays as it was, and the finished rows of its part are kept.
    """
    rows = [each.row for each in job.remaining.extended]
    if not rows:
        return
    images = open_store(job.remaining.target).images
    failed = [row for row in rows if images.status[row] == Status.FAILED]
    if failed:
        reasons = [(str(images.path[row]), str(images.reason[row])) for row in failed]
        raise cannot_extend(job.remaining, job.recipe, reasons)


def _create_target(job: ExtractionJob, facts: dict[str, Any]) -> list[ReusableRow]:
    """Create the target unless it is resumed; return the rows that it has from the start."""
    remaining = job.remaining
    if remaining.resumes:
        return []
    # The part of an interrupted update of other images: its rows are copied before the new
    # part replaces it.
    part = remaining.existing.part
    present = [x for x in remaining.copied if part is not None and x.store.path == part.path]
    create_store(
        remaining.target,
        job.recipe,
        job.columns(),
        _provenance(job) | facts,
        fill=partial(copy_into, rows=present),
    )
    return present


def _provenance(job: ExtractionJob) -> dict[str, Any]:
    facts = {
        "featx": version("featx"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "root": str(job.listing.root.absolute()),
        "listing": dict(job.listed_by),
        "weights": absolute_spec(job.source),
        "max_pixels": job.max_pixels,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    if job.source.rename:
        facts["rename"] = dict(job.source.rename)
    return facts
