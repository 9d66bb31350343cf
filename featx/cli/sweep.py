"""`featx sweep`: which layer, pooling and size serve a set of images best."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli import options
from featx.cli.console import (
    AsJson,
    Overwrite,
    Quiet,
    gigabytes,
    print_json,
    print_table,
    progress_bar,
    say,
    say_notes,
    start_backend,
    stoppable,
)
from featx.errors import OptionError
from featx.text import counted

if TYPE_CHECKING:
    from featx.workflows.sweeping import Sweep, SweepRow

NAME = "sweep"

_UNITS = {"s": 1, "m": 60, "h": 3600}


def command(
    images: options.Images = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A layer beside the five pooling layers; may repeat."),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="none|avg|max|avg+max|grid:N|bilinear",
            help="What becomes of a map; may repeat.",
            show_default="avg, max, avg+max, grid:2, and none where the disk has room",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="224|HxW",
            help="Image size for the network; may repeat, a pass each.",
            show_default="224",
        ),
    ] = None,
    clf: options.Clf = "logistic",
    normalise: options.Normalise = "l2",
    class_weight: options.ClassWeight = None,
    folds: options.Folds = 5,
    weights: options.Weights = "bundled",
    rename: options.Rename = None,
    preprocess: options.PreprocessText = "caffe",
    resize: options.ResizeText = "squash",
    precision: options.PrecisionText = "float32",
    flip: options.Flip = False,
    crops: options.Crops = 1,
    scale: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PIXELS",
            help="Shorter side of the whole image, instead of --size; may repeat, a pass each.",
        ),
    ] = None,
    device: options.DeviceOrAll = "auto",
    manifest: options.Manifest = None,
    group: options.Group = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Begin nothing new after that: 90s, 10m, 2h."),
    ] = None,
    output: options.Folder = Path("sweep"),
    overwrite: Overwrite = False,
    seed: options.Seed = 0,
    cluster: options.ClusterName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure which layer, pooling and size serve these images best.

    Images go through the network once a size. Every candidate is judged on the
    same images, each while it was held out, and so is taking the best of them.
    A sweep that was stopped goes on by the same command.
    """
    from featx.workflows.sweeping import Progress, prepare_sweep, run_sweep

    device, cluster = options.place(device, cluster)
    job = prepare_sweep(
        images,
        layer=layer or (),
        pool=pool or (),
        size=size or 224,
        clf=clf,
        normalise=normalise,
        class_weight=class_weight,
        folds=folds,
        weights=weights,
        rename=options.renames(rename),
        preprocess=preprocess,
        resize=resize,
        precision=precision,
        flip=flip,
        crops=crops,
        scale=scale or (),
        device=device,
        manifest=manifest,
        group=group,
        budget=None if budget is None else _seconds(budget),
        output=output,
        overwrite=overwrite,
        seed=seed,
    )
    first = next(iter(job.extractions.values()))
    n_bytes = sum(each.new_bytes for each in job.extractions.values())
    say(
        f"{counted(first.n_images, 'image')} in {first.listing.root}; "
        f"{counted(len(job.candidates), 'candidate')}, {gigabytes(n_bytes)} of disk for "
        f"{counted(len(job.extractions), 'store')}",
        quiet=quiet,
    )
    say_notes(job.notes, quiet=quiet)
    if cluster is None:
        say(f"device {start_backend(device)[1]}", quiet=quiet)
    with (
        options.on_cluster(cluster, quiet=quiet) as workers,
        progress_bar("images", quiet=quiet) as images_done,
        stoppable(output),
    ):
        told = Progress(
            stage=lambda text: say(text, quiet=quiet),
            images=images_done,
            candidates=_counted(quiet),
        )
        found = run_sweep(job, progress=told, cluster=workers)
    if as_json:
        print_json(found.facts)
        return
    say_notes([note for note in found.facts["notes"] if note not in job.notes], quiet=quiet)
    _print(found)


def _counted(quiet: bool) -> Callable[[int, int], None]:
    """Return what says now and then how many candidates are judged."""

    def count(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            say(f"{done} of {counted(total, 'candidate')} judged", quiet=quiet)

    return count


def _print(found: "Sweep") -> None:
    from featx.recipe import size_text

    in_order = sorted(found.rows, key=lambda row: (row.size, row.pool, len(row.layers), row.layers))
    print_table(
        ("layer", "pool", "size", "numbers", "accuracy", "95 %", "balanced", "kB", "ms", ""),
        [
            (
                " + ".join(row.layers),
                row.pool,
                size_text(row.size),
                f"{row.width:,}",
                f"{row.accuracy.value:.3f}",
                f"{row.accuracy.low:.3f} to {row.accuracy.high:.3f}",
                f"{row.balanced_accuracy.value:.3f}",
                f"{row.bytes_per_image / 1000:,.1f}",
                f"{1000 * row.seconds_per_image:.0f}" if row.seconds_per_image > 0 else "-",
                _mark(row, found),
            )
            for row in in_order
        ],
    )
    print(f"best: {found.best.candidate}: accuracy {found.best.accuracy}")
    if found.cheapest is not found.best:
        print(f"cheapest that cannot be told from it: {found.cheapest.candidate}")
    print(f"sweep and take the best, as on other images: accuracy {found.chosen}")
    if found.final is not None:
        on = found.final.to_dict()["scored_on"]
        print(f"the best, scored once on {on}: accuracy {found.final.evaluation.accuracy}")
    print(found.case.text)
    print(found.more.text)
    extract, fit, tuning = found.commands
    print(f"Next: {extract}")
    print(f"      {fit}")
    print(f"To see whether a network that goes on learning is better: {tuning}")


def _mark(row: "SweepRow", found: "Sweep") -> str:
    if row is found.best:
        return "best"
    return "cheapest" if row is found.cheapest else ""


def _seconds(text: str) -> float:
    """Read a time.

    Examples
    --------
    >>> _seconds("90s"), _seconds("1.5h")
    (90.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        message = f"No such time: {text}. Expected --budget 90s, 10m or 2h."
        raise OptionError(message)
    return float(found[1]) * _UNITS[found[2]]
