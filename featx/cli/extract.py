"""`featx extract`: images to a store."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
)
from featx.cli.layers import print_layers
from featx.errors import ImagesError, OptionError
from featx.layers import deepest, layers_up_to, weight_shapes

if TYPE_CHECKING:
    from featx.extraction import Extraction, ExtractionJob

NAME = "extract"


def command(
    images: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of images, of class folders, or of train/, val/ and test/.",
            show_default="data",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="Layer to take codes from; may be repeated."),
    ] = None,
    pool: Pool = "none",
    size: Size = "224",
    resize: Annotated[
        str, typer.Option(metavar="squash|crop|pad", help="How an image gets there.")
    ] = "squash",
    weights: Annotated[
        str, typer.Option(metavar="bundled|imagenet|FILE|random:SEED", help="Of the network.")
    ] = "bundled",
    preprocess: Annotated[
        str,
        typer.Option(
            metavar="caffe|unit",
            help="BGR minus ImageNet's mean, as VGG19 was trained, or RGB/255.",
        ),
    ] = "caffe",
    batch_size: Annotated[str, typer.Option(metavar="auto|N", help="Images at once.")] = "auto",
    dtype: Dtype = "float32",
    manifest: Annotated[
        Path | None,
        typer.Option(help="A CSV with path and any of label, split, group, instead of IMAGES."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Regular expression that finds the group in the path.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The store.")] = Path("codes.h5"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Extract the codes of images into a store.

    Without --layer it lists the layers. A store that a run left incomplete is
    gone on with.
    """
    from featx.extraction import prepare_extraction, run_extraction
    from featx.recipe import image_size

    if not layer:
        print_layers(image_size(size), pool, dtype)
        say("Choose one: featx extract --layer block2_pool", quiet=False)
        raise typer.Exit(2)
    # The recipe checks the words that mypy cannot.
    job = prepare_extraction(
        images,
        layer=layer,
        pool=pool,  # type: ignore[arg-type]
        size=size,
        resize=resize,  # type: ignore[arg-type]
        weights=weights,
        preprocess=preprocess,  # type: ignore[arg-type]
        batch_size=_batch_size(batch_size),
        dtype=dtype,  # type: ignore[arg-type]
        manifest=manifest,
        group=group,
        output=output,
        overwrite=overwrite,
        show_download=not quiet,
    )
    for line in _plan(job):
        say(line, quiet=quiet)
    say(f"device {start_backend()}, {job.batch_size} images at a time", quiet=quiet)
    try:
        with progress_bar("extract", quiet=quiet) as progress:
            made = run_extraction(job, progress=progress)
    except KeyboardInterrupt:
        say(f"Stopped. {job.output} keeps what is done; the same command goes on.", quiet=False)
        raise typer.Exit(130) from None
    _report(made)
    say(f"Next: featx fit {made.path} --clf logistic", quiet=quiet)


def _batch_size(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isdecimal():
        return int(text)
    message = f"No such batch size: {text}. Expected --batch-size auto, or 1 and more."
    raise OptionError(message)


def _plan(job: "ExtractionJob") -> list[str]:
    """Say what will be made, before it is."""
    records, recipe = job.listing.records, job.recipe
    splits = {s: sum(r.split == s for r in records) for s in ("train", "val", "test")}
    counts = [f"{s} {n}" for s, n in splits.items() if n]
    n_classes = len({r.label for r in records if r.label is not None})
    counts.append(f"{n_classes} classes" if n_classes else "no labels")
    lines = [f"{len(records)} images in {job.listing.root} ({', '.join(counts)})"]
    lines += [f"note: {note}" for note in job.listing.notes]
    for name in recipe.layers:
        shape = recipe.code_shape(name)
        places = f"{'x'.join(map(str, shape))} = " if len(shape) > 1 else ""
        lines.append(f"{name}: {places}{recipe.code_size(name):,} numbers an image, {recipe.dtype}")
    free = shutil.disk_usage(job.output.absolute().parent).free
    lines.append(f"{job.output}: {gigabytes(job.n_bytes)} of codes ({gigabytes(free)} free)")
    if job.resumes:
        done = job.n_images - len(job.rows)
        lines.append(f"going on with {job.output}: {done} of {job.n_images} images are done")
    n_layers = sum(weight_shapes(x.name) is not None for x in layers_up_to(deepest(recipe.layers)))
    found = "made" if job.source.path is None else "found, their shapes are right"
    lines.append(
        f"weights {job.source.spec} ({job.source.identity[:12]}): all {n_layers} layers {found}"
    )
    return lines


def _report(made: "Extraction") -> None:
    if not made.n_done:
        message = (
            f"None of the {made.n_failed} images could be read. "
            f"Reasons: featx info {made.path} --bad"
        )
        raise ImagesError(message)
    failed = ""
    if made.n_failed:
        failed = f" {made.n_failed} could not be read: featx info {made.path} --bad"
    print(
        f"{made.path}: codes of {made.n_done} images in {made.seconds:.0f} s, "
        f"{made.images_per_second:.1f} images/s.{failed}"
    )
