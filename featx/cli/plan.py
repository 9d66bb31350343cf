"""`featx plan`: what an extraction will cost."""

import dataclasses

import typer

from featx.cli.console import duration, gigabytes, print_json, print_table, start_backend
from featx.cli.extract import checked_job
from featx.cli.options import AsJson, ExtractionOptions, Preset, Quiet
from featx.text import counted


def command(
    context: typer.Context,
    options: ExtractionOptions,
    preset: Preset = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Estimate disk space, memory and time of an extraction and a fit.

    It takes the options of extract. A few batches of the images are run to measure the
    speed; no file is written.
    """
    from featx.dataset.folds import DEFAULT_FOLDS, usual_repeats
    from featx.extraction import plan_extraction
    from featx.fitting.solvers import choose_solver

    job = checked_job(context, options, preset, quiet=quiet)
    if job.n_to_compute:
        start_backend(job.device)
    plan = plan_extraction(job)
    labels = {record.label for record in job.listing.records} - {None}
    has_splits = any(record.split for record in job.listing.records)
    solver = choose_solver(
        plan.n_images,
        sum(plan.code_sizes.values()),
        len(labels),
        n_searches=1 if has_splits else 1 + DEFAULT_FOLDS * usual_repeats(plan.n_images),
    )
    if as_json:
        print_json({**dataclasses.asdict(plan), "fit": dataclasses.asdict(solver)})
        return
    batch = f"{counted(plan.batch_size, 'image')} per batch"
    fit = f"about {duration(solver.seconds)}, {gigabytes(solver.n_bytes)} of memory"
    rows = [
        ("images", f"{plan.n_images}"),
        ("  to compute", f"{plan.n_computed}"),
        ("  to copy", f"{plan.n_copied}"),
        *([("  to remove", f"{plan.n_dropped}")] if plan.n_dropped else []),
        ("features per image", f"{sum(plan.code_sizes.values()):,}"),
        ("disk space", f"{gigabytes(plan.new_bytes)} ({gigabytes(plan.free_bytes)} free)"),
        ("memory", gigabytes(plan.peak_bytes)),
        ("time", f"{duration(plan.seconds)} at {plan.images_per_second:.1f} images/s"),
        ("device", f"{plan.device}, {batch}" if plan.device else "none"),
        ("fit", f"solver {solver.name}, {fit}"),
    ]
    print_table(("quantity", "estimate"), rows)
