"""`featx evaluate`: labelled images or stores to the scores of a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from featx.cli.console import (
    AsJson,
    Quiet,
    print_json,
    progress_bar,
    say,
    say_notes,
    start_backend,
)
from featx.cli.models import Codes, Model, PrecisionText, Trust, Weights
from featx.cli.options import Device, Split
from featx.cli.scores import print_scores
from featx.text import counted

NAME = "evaluate"


def command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of labelled images; or stores, which are joined."),
    ] = None,
    model: Model = Path("model.skops"),
    split: Split = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="A CSV with path, label and any of split, group, instead of INPUTS."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Other labels, by path, for the images of a store."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of that table; label by default.")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of that table; split by default.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of that table; group by default.")
    ] = None,
    codes: Codes = None,
    trust: Trust = False,
    weights: Weights = None,
    precision: PrecisionText = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a bundle on labelled images that it was not fitted on.

    Images that it was fitted on, by the bytes of their files, are scored apart.
    """
    import dataclasses

    from featx.workflows import prepare_evaluation, run_evaluation

    job = prepare_evaluation(
        inputs or (),
        model=model,
        manifest=manifest,
        labels=labels,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        split=split,  # type: ignore[arg-type]
        codes=codes,
        trust=trust,
        weights=weights,
        precision=precision,  # type: ignore[arg-type]  # the recipe checks it
        device=device,
    )
    if job.prediction.joined is None:
        say(f"device {start_backend(device)[1]}", quiet=quiet)
    with progress_bar("evaluate", quiet=quiet) as progress:
        found = run_evaluation(dataclasses.replace(job, progress=progress))
    say_notes(found.notes, quiet=quiet)
    if as_json:
        print_json(found.to_dict())
        return
    n_images = found.evaluation.n_images
    print(f"{model}: scored on {counted(n_images, 'image')}")
    print_scores(found.evaluation, quiet=quiet)
    if found.on_fitted_on is not None:
        were = counted(found.n_fitted_on, "image was", "images were")
        print(f"{were} fitted on: accuracy {found.on_fitted_on}, not counted above")
