"""`featx predict`: images or a store to a table of labels and probabilities."""

from pathlib import Path
from typing import Annotated

import typer

from featx.cli.console import Overwrite, Quiet, progress_bar, say, start_backend
from featx.cli.settings import Device

NAME = "predict"


def command(
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or one store.")],
    model: Annotated[Path, typer.Option(help="The bundle.")] = Path("model.skops"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.csv or NAME.parquet.")
    ] = Path("predictions.csv"),
    weights: Annotated[
        str | None, typer.Option(help="Where the weights lie, if not where extract found them.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="float32|tf32|bfloat16", help="Arithmetic, if not extract's."),
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Predict labels and probabilities: columns path, label, and p_CLASS for each class."""
    from featx.workflows import prepare_prediction, run_prediction

    job = prepare_prediction(
        inputs,
        model=model,
        output=output,
        overwrite=overwrite,
        weights=weights,
        precision=precision,  # type: ignore[arg-type]  # the recipe checks it
        device=device,
    )
    if job.store is None:
        say(f"device {start_backend(device)[1]}", quiet=quiet)
    with progress_bar("predict", quiet=quiet) as progress:
        frame = run_prediction(job, progress=progress)
    n_failed = int(frame["label"].isna().sum())
    failed = f"; {n_failed} have no codes, and no label" if n_failed else ""
    print(f"{output}: {len(frame) - n_failed} predictions{failed}")
    for label, n in frame["label"].value_counts().items():
        say(f"  {n:6} {label}", quiet=quiet)
