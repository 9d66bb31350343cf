"""`featx report`: one page about a classifier, a sweep or a fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from featx.cli.console import AsJson, Overwrite, Quiet, gigabytes, print_json, say
from featx.cli.predict import Trust

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
            metavar="TABLE", help="The table of labels or splits that featx fit was given."
        ),
    ] = None,
    trust: Trust = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page to look at: scores, confusions with their images, a map.

    The page is one file that needs no network. Nothing goes through the network again:
    images are shown by the thumbnails of their store.
    """
    from featx.report import write_report

    say(f"reading {source} and its codes", quiet=quiet)
    path = write_report(
        source, output, codes=codes or (), labels=labels, trust=trust, overwrite=overwrite
    )
    n_bytes = path.stat().st_size
    if as_json:
        print_json({"page": str(path), "bytes": n_bytes})
        return
    print(f"{path}: a page of {gigabytes(n_bytes)} about {source}")
    say("Open it in a browser; it needs no other file.", quiet=quiet)
