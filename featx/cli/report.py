"""`featx report`: one page about a classifier, a sweep or a fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from featx.cli.console import AsJson, Overwrite, Quiet, gigabytes, print_json, say, start_backend
from featx.cli.models import Trust
from featx.text import counted

NAME = "report"


def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL|SWEEP|FINETUNED",
            help="A bundle of featx fit, or the folder of featx sweep or featx finetune.",
        ),
    ] = Path("model.skops"),
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    codes: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="The store the bundle was fitted on, if it was moved; may repeat."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="The table of labels or splits that featx fit had, if it was moved.",
        ),
    ] = None,
    heat_maps: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Mistakes, and hits, of which a heat map is drawn: a pass of their images.",
        ),
    ] = 6,
    trust: Trust = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page to look at and to hand on.

    Scores, confusions with their images, heat maps, and a map of the codes.
    The page is one file that needs nothing else. Images are shown by the thumbnails of
    their store; only for heat maps some go through VGG19 again.
    """
    from featx.report import prepare_report, run_report

    say(f"reading {source} and its codes", quiet=quiet)
    job = prepare_report(
        source,
        output,
        codes=codes or (),
        labels=labels,
        heat_maps=heat_maps,
        trust=trust,
        overwrite=overwrite,
    )
    if job.heat_maps is not None:
        images = counted(len(job.heat_maps.images), "image")
        say(f"heat maps of {images}, on {start_backend('auto')[1]}", quiet=quiet)
    path = run_report(job)
    n_bytes = path.stat().st_size
    if as_json:
        print_json({"page": str(path), "bytes": n_bytes})
        return
    print(f"{path}: a page of {gigabytes(n_bytes)} about {source}")
    say("Open it in a browser; it needs no other file.", quiet=quiet)
