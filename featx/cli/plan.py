"""`featx plan`: what an extraction will cost."""

import dataclasses
from pathlib import Path

import typer

from featx.cli import options
from featx.cli.console import (
    AsJson,
    Dtype,
    Overwrite,
    Pool,
    Quiet,
    Size,
    duration,
    gigabytes,
    print_json,
    print_table,
    say,
    start_backend,
)
from featx.text import counted

NAME = "plan"


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
    device: options.Device = "auto",
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
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what an extraction and a fit will cost: disk, memory, time.

    The options are those of extract. It runs a few batches of the images, and
    leaves nothing behind.
    """
    from featx.dataset.folds import DEFAULT_FOLDS
    from featx.extraction import plan_extraction
    from featx.fitting.solvers import choose_solver

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
    if job.n_to_compute:
        start_backend(job.device)
    plan = plan_extraction(job)
    labels = {record.label for record in job.listing.records} - {None}
    has_splits = any(record.split for record in job.listing.records)
    road = choose_solver(
        plan.n_images,
        sum(plan.code_sizes.values()),
        len(labels),
        n_searches=1 if has_splits else 1 + DEFAULT_FOLDS,
    )
    if as_json:
        print_json({**dataclasses.asdict(plan), "fit": dataclasses.asdict(road)})
        return
    at_once = counted(plan.batch_size, "image")
    rows = [
        ("images", f"{plan.n_images}"),
        ("  through the network", f"{plan.n_computed}"),
        ("  copied", f"{plan.n_copied}"),
        ("numbers an image", f"{sum(plan.code_sizes.values()):,}"),
        ("disk", f"{gigabytes(plan.new_bytes)} of {gigabytes(plan.free_bytes)} free"),
        ("memory", gigabytes(plan.peak_bytes)),
        ("time", f"{duration(plan.seconds)} at {plan.images_per_second:.1f} images/s"),
        ("device", f"{plan.device}, {at_once} at a time" if plan.device else "none"),
        ("fit", f"road {road.name}, about {duration(road.seconds)}, {gigabytes(road.n_bytes)}"),
    ]
    print_table(("what", "how much"), rows)
    if plan.new_bytes > plan.free_bytes:
        say(
            "The disk is too small: use --pool avg, --dtype float16, or -o on another disk.",
            quiet=quiet,
        )
