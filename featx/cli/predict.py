"""`featx predict`: images or stores to a table of labels and probabilities."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from featx.cli import options
from featx.cli.console import Overwrite, Quiet, progress_bar, say, start_backend
from featx.cli.models import Codes, Model, PrecisionText, Trust, Weights
from featx.text import counted

NAME = "predict"


def command(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Images and folders, archives, URLs of them; or stores, joined."),
    ],
    model: Model = Path("model.skops"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.csv, NAME.parquet or NAME.jsonl.")
    ] = Path("predictions.csv"),
    top: Annotated[
        int | None,
        typer.Option(metavar="K", help="The K most probable labels, not p of every class."),
    ] = None,
    codes: Codes = None,
    trust: Trust = False,
    weights: Weights = None,
    precision: PrecisionText = None,
    device: options.DeviceOrAll = "auto",
    cluster: options.ClusterName = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Predict labels and probabilities, as a table.

    Its columns are path, label, and p_CLASS for each class;
    with --top K: path, label, p, label_2, p_2 and so on.
    """
    import dataclasses

    from featx.workflows import prepare_prediction, run_prediction

    device, cluster = options.place(device, cluster)
    job = prepare_prediction(
        inputs,
        model=model,
        codes=codes,
        trust=trust,
        top=top,
        output=output,
        overwrite=overwrite,
        weights=weights,
        precision=precision,  # type: ignore[arg-type]  # the recipe checks it
        device=device,
    )
    if job.joined is None and cluster is None:
        say(f"device {start_backend(device)[1]}", quiet=quiet)
    counts: Counter[str] = Counter()
    with (
        options.on_cluster(cluster, quiet=quiet) as workers,
        progress_bar("predict", quiet=quiet) as progress,
    ):
        for frame in run_prediction(dataclasses.replace(job, progress=progress), cluster=workers):
            counts.update(frame["label"].dropna())
    n_failed = job.n_images - counts.total()
    failed = ""
    if n_failed:
        failed = "; " + counted(
            n_failed,
            "image could not be read, and its row has no label",
            "images could not be read, and their rows have no label",
        )
    print(f"{output}: {counted(counts.total(), 'prediction')}{failed}")
    for label, n in counts.most_common():
        say(f"  {n:6} {label}", quiet=quiet)
