"""`featx extract`: from images to a store."""

import dataclasses
import shlex
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli.console import (
    gigabytes,
    on_cluster,
    place,
    progress_bar,
    say,
    say_notes,
    show,
    start_backend,
    stoppable,
)
from featx.cli.layers import print_layers
from featx.cli.options import ClusterName, ExtractionOptions, GpusExtractionOptions, Preset, Quiet
from featx.errors import ImagesError
from featx.flags import flags_of
from featx.layers import deepest, layers_up_to, weight_shapes
from featx.secrets import without_secrets
from featx.text import counted

if TYPE_CHECKING:
    from featx.cluster import Cluster
    from featx.extraction import Extraction, ExtractionJob


def command(
    context: typer.Context,
    options: GpusExtractionOptions,
    preset: Preset = None,
    cluster: ClusterName = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 1 if any image cannot be read.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Extract codes (features) of images to an HDF5 store.

    Without --layer, the layers are listed. If the store exists with the same settings,
    extraction resumes and nothing is recomputed.
    """
    device, cluster = place(options.device, cluster)
    options = dataclasses.replace(options, device=device)
    job = checked_job(context, options, preset, quiet=quiet)
    on = cluster if job.n_to_compute else None
    with stoppable(job.remaining.target), on_cluster(on, quiet=quiet) as workers:
        done = _run(job, workers, quiet=quiet)
    _report(job, done, strict=strict, quiet=quiet)
    say(_next(job, done), quiet=quiet)


def checked_job(
    context: typer.Context, options: ExtractionOptions, preset: str | None, *, quiet: bool
) -> "ExtractionJob":
    """Check the options of `extract` or `plan`, and print what will be made.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.
    Exit
        No layer was given; the layers were listed.
    """
    from featx.extraction import prepare_extraction

    if preset is not None:
        options = _with_preset(context, options, preset, quiet=quiet)
    if not options.layer:
        print_layers(options.size, options.pool, options.dtype)
        images = without_secrets(options.images or "")
        folder = f" {shlex.quote(images)}" if images else ""
        verb = context.info_name
        say(f"No --layer was given. Use: featx {verb}{folder} --layer block2_pool", quiet=False)
        raise typer.Exit(2)
    job = prepare_extraction(**options.as_settings(), show_download=not quiet)
    _say_job(job, quiet=quiet)
    return job


def _with_preset(
    context: typer.Context, options: ExtractionOptions, name: str, *, quiet: bool
) -> ExtractionOptions:
    """Return the options with the settings of a preset, except those that the user typed."""
    from featx.extraction.presets import find_preset

    # By its name: typer has this kind from click, or from its own copy of click.
    sources = {setting: context.get_parameter_source(setting) for setting in vars(options)}
    typed = {name for name, source in sources.items() if source and source.name != "DEFAULT"}
    added = {k: value for k, value in find_preset(name).settings.items() if k not in typed}
    say(f"preset {name}: {' '.join(flags_of(added))}", quiet=quiet)
    return dataclasses.replace(options, **added)


def _next(job: "ExtractionJob", done: "Extraction") -> str:
    """Return the next command to type; images without labels cannot be fitted on yet."""
    if any(record.label is not None for record in job.listing.records):
        return f"Next: featx fit {done.path} --clf logistic"
    return (
        f"Next: featx fit {done.path} --labels TABLE.csv (columns path and label), or "
        f"featx predict {done.path} --model MODEL"
    )


def _run(job: "ExtractionJob", cluster: "Cluster | None", *, quiet: bool) -> "Extraction":
    """Run a job, and print the device if it is of this process."""
    from featx.extraction import run_extraction

    if job.n_to_compute and cluster is None:
        found, name = start_backend(job.device)
        n_images = job.images_per_batch(job.recipe, found)
        say(f"device {name}, {counted(n_images, 'image')} per batch", quiet=quiet)
    with progress_bar("extract", quiet=quiet) as progress:
        shown = progress if cluster is not None else _with_forecast(job, progress, quiet)
        return run_extraction(dataclasses.replace(job, progress=shown), cluster=cluster)


def _with_forecast(
    job: "ExtractionJob", progress: Callable[[int, int], None], quiet: bool
) -> Callable[[int, int], None]:
    """Show progress, and print the total time and the memory after the first batches."""
    from featx.extraction.plan import Forecast, anonymous_bytes

    forecast, printed = Forecast(), False

    def show(done: int, total: int) -> None:
        nonlocal printed
        progress(done, total)
        if printed or not job.n_to_compute:
            return
        forecast(done, total)
        if forecast.ready:
            printed = True
            seconds = forecast.seconds(job.n_to_compute)
            say(
                f"{forecast.images_per_second:.1f} images/s: about {seconds:.0f} s in total, "
                f"{gigabytes(anonymous_bytes())} of memory",
                quiet=quiet,
            )

    return show


def _report(job: "ExtractionJob", done: "Extraction", *, strict: bool, quiet: bool) -> None:
    reasons = f"featx info {done.path} --bad"
    if not done.n_done:
        message = f"None of {counted(done.n_failed, 'image')} could be read. Reasons: {reasons}"
        raise ImagesError(message)
    failed = f" {done.n_failed} could not be read: {reasons}" if done.n_failed else ""
    what = f"{done.path}: codes of {counted(done.n_done, 'image')}"
    if job.remaining.is_empty:
        show(f"{what}, nothing to do.{failed}")
    elif not done.n_computed:
        show(f"{what}, copied in {done.seconds:.0f} s.{failed}")
    else:
        times, speed = done.timings, f"{done.images_per_second:.1f} images/s"
        if times.network > 0:  # on a cluster, the time of the workers is not known
            say(
                f"decoding used {times.decode:.0%} of the processors' time, and codes were "
                f"written {times.write:.0%} of the time",
                quiet=quiet,
            )
            speed += f", network busy {times.network:.0%} of the time"
        show(f"{what} in {done.seconds:.0f} s, {speed}.{failed}")
    if strict and (n_unread := done.n_failed + len(job.remaining.unreadable)):
        if not done.n_failed:
            reasons = f"featx info --check {done.path}"
        message = (
            f"{counted(n_unread, 'image')} could not be read, and --strict was given. "
            f"Reasons: {reasons}"
        )
        raise ImagesError(message)


def _say_job(job: "ExtractionJob", *, quiet: bool) -> None:
    """Print what will be made: images, codes, disk space, earlier work and weights."""
    from featx.images import as_typed

    records, recipe, rest = job.listing.records, job.recipe, job.remaining
    splits = {s: sum(r.split == s for r in records) for s in ("train", "val", "test")}
    counts = [f"{s} {n}" for s, n in splits.items() if n]
    n_classes = len({r.label for r in records if r.label is not None})
    counts.append(counted(n_classes, "class", "classes") if n_classes else "no labels")
    if groups := {r.group for r in records if r.group is not None}:
        counts.append(counted(len(groups), "group"))
    found = f"{counted(len(records), 'image')} in {as_typed(job.listing.root)}"
    say(f"{found} ({', '.join(counts)})", quiet=quiet)
    say_notes(job.notes, quiet=quiet)
    for name in recipe.layers:
        shape = recipe.code_shape(name)
        positions = f"{'x'.join(map(str, shape))} = " if len(shape) > 1 else ""
        width = f"{positions}{recipe.code_size(name):,}"
        say(f"{name}: {width} features per image, {recipe.dtype}", quiet=quiet)
    if not rest.resumes:
        free = gigabytes(shutil.disk_usage(job.output.absolute().parent).free)
        say(f"{rest.target}: {gigabytes(job.new_bytes)} on disk ({free} free)", quiet=quiet)
    for line in (*_earlier_lines(job), _weights_line(job)):
        say(line, quiet=quiet)


def _weights_line(job: "ExtractionJob") -> str:
    source = job.source
    layers = layers_up_to(deepest(job.recipe.layers))
    n_layers = counted(sum(weight_shapes(x.name) is not None for x in layers), "layer")
    what = f"{n_layers} with random weights" if source.path is None else f"{n_layers} found"
    renamed = f", {len(source.rename)} renamed" if source.rename else ""
    return f"weights {source.spec} ({source.identity[:12]}): {what}{renamed}"


def _earlier_lines(job: "ExtractionJob") -> list[str]:
    """Return lines on the work of earlier runs that is kept."""
    rest = job.remaining
    n_kept = f"{rest.n_kept:,} of {counted(job.n_images, 'image is', 'images are')} done"
    edited = counted(rest.n_edited, "image has", "images have")
    dropped = counted(rest.n_dropped, "image of the store is", "images of the store are")
    lines = {
        f"resuming {rest.target}: {n_kept}": rest.resumes,
        f"{edited} changed since the last run and will be read again": rest.n_edited,
        f"codes of {counted(len(rest.copied), 'image')} are copied from the existing store": (
            rest.copied
        ),
        f"missing layers are computed for {counted(len(rest.extended), 'image')}": rest.extended,
        f"{dropped} no longer listed and will be removed": rest.n_dropped,
    }
    return [line for line, applies in lines.items() if applies]
