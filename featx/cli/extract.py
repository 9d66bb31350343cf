"""`featx extract`: images to a store."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli import options
from featx.cli.console import (
    Dtype,
    Overwrite,
    Pool,
    Quiet,
    Size,
    gigabytes,
    progress_bar,
    say,
    start_backend,
    stoppable,
)
from featx.errors import ImagesError
from featx.text import counted

if TYPE_CHECKING:
    from featx.cluster import Cluster
    from featx.extraction import Extraction, ExtractionJob

NAME = "extract"


def command(
    context: typer.Context,
    images: options.Images = None,
    recipe: options.Recipe = None,
    layer: options.Layers = None,
    pool: Pool = "none",
    size: Size = "224",
    resize: options.ResizeText = "squash",
    jpeg: options.JpegText = "reduced",
    weights: options.Weights = "bundled",
    rename: options.Rename = None,
    preprocess: options.PreprocessText = "caffe",
    precision: options.PrecisionText = "float32",
    device: options.DeviceOrAll = "auto",
    batch_size: options.BatchSizeText = "auto",
    dtype: Dtype = "float32",
    flip: options.Flip = False,
    crops: options.Crops = 1,
    scale: options.Scales = None,
    scales_join: options.ScalesJoinText = "mean",
    max_pixels: options.MaxPixels = 178_956_970,
    manifest: options.Manifest = None,
    group: options.Group = None,
    output: options.Store = Path("codes.h5"),
    overwrite: Overwrite = False,
    cluster: options.ClusterName = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if an image could not be read.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Extract the codes of images into a store.

    Without --layer it lists the layers. A store of that name and with these
    settings is gone on with: what it holds is not made again.
    """
    device, cluster = options.place(device, cluster)
    job = options.extraction_job(
        context,
        images,
        recipe,
        quiet=quiet,
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
    on = cluster if job.n_to_compute else None
    with stoppable(job.remaining.target), options.on_cluster(on, quiet=quiet) as workers:
        made = _run(job, workers, quiet=quiet)
    _report(job, made, strict=strict, quiet=quiet)
    say(_next(job, made), quiet=quiet)


def _next(job: "ExtractionJob", made: "Extraction") -> str:
    """Say what to type next: without labels there is nothing to fit yet."""
    if any(record.label is not None for record in job.listing.records):
        return f"Next: featx fit {made.path} --clf logistic"
    return (
        f"Next: featx fit {made.path} --labels TABLE.csv (columns path and label), or "
        f"featx predict {made.path} --model MODEL"
    )


def _run(job: "ExtractionJob", cluster: "Cluster | None", *, quiet: bool) -> "Extraction":
    """Run a job, and say on what where that is this process."""
    from featx.extraction import run_extraction, settle_batch_size

    if job.n_to_compute and cluster is None:
        found, name = start_backend(job.device)
        at_once = settle_batch_size(job.batch_size, job.recipe, job.n_to_compute, found)
        say(f"device {name}, {counted(at_once, 'image')} at a time", quiet=quiet)
    with progress_bar("extract", quiet=quiet) as progress:
        shown = progress if cluster is not None else _with_price(job, progress, quiet)
        return run_extraction(dataclasses.replace(job, progress=shown), cluster=cluster)


def _with_price(
    job: "ExtractionJob", progress: Callable[[int, int], None], quiet: bool
) -> Callable[[int, int], None]:
    """Show progress, and say time and memory once the first batches have told them."""
    from featx.extraction import Forecast, anonymous_bytes

    forecast, said = Forecast(), False

    def show(done: int, total: int) -> None:
        nonlocal said
        progress(done, total)
        if said or not job.n_to_compute:
            return
        forecast(done, total)
        if forecast.ready:
            said = True
            seconds = forecast.seconds(job.n_to_compute)
            say(
                f"{forecast.images_per_second:.1f} images/s: about {seconds:.0f} s in all, "
                f"{gigabytes(anonymous_bytes())} of memory",
                quiet=quiet,
            )

    return show


def _report(job: "ExtractionJob", made: "Extraction", *, strict: bool, quiet: bool) -> None:
    bad = f"featx info {made.path} --bad"
    if not made.n_done:
        message = f"Of {counted(made.n_failed, 'image')} none could be read. Reasons: {bad}"
        raise ImagesError(message)
    failed = f" {made.n_failed} could not be read: {bad}" if made.n_failed else ""
    if job.remaining.is_empty:
        print(f"{made.path}: codes of {counted(made.n_done, 'image')}, nothing to do.{failed}")
    elif not made.n_computed:
        print(
            f"{made.path}: codes of {counted(made.n_done, 'image')}, copied in "
            f"{made.seconds:.0f} s.{failed}"
        )
    else:
        print(
            f"{made.path}: codes of {counted(made.n_done, 'image')} in {made.seconds:.0f} s, "
            f"{made.images_per_second:.1f} images/s.{failed}"
        )
        shares = made.timings
        if shares.network == 0:  # workers computed, whose time is not ours
            return
        say(
            f"network {shares.network:.0%} of the time, decoding {shares.decode:.0%}, "
            f"writing {shares.write:.0%}; the network waited {shares.waiting:.0%}",
            quiet=quiet,
        )
    if strict and made.n_failed:
        message = (
            f"{counted(made.n_failed, 'image')} could not be read, and --strict was given. "
            f"Reasons: {bad}"
        )
        raise ImagesError(message)
