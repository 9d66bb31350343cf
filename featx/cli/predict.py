"""`featx predict`: images or stores to a table of labels and probabilities."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from featx.cli import settings
from featx.cli.console import Overwrite, Quiet, progress_bar, say, start_backend
from featx.spelling import counted

NAME = "predict"

# What every verb takes that opens a bundle and classifies with it.
Model = Annotated[Path, typer.Option(help="The bundle.")]
Codes = Annotated[
    list[Path] | None,
    typer.Option(
        "--codes", metavar="FILE", help="Store that the classifier was fitted on, if it moved."
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Open a .joblib bundle, which runs code of its maker.")
]
Weights = Annotated[
    str | None, typer.Option(help="Where the weights lie, if not where extract found them.")
]
PrecisionText = Annotated[
    str | None,
    typer.Option(
        "--precision", metavar="float32|tf32|bfloat16", help="Arithmetic, if not extract's."
    ),
]


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
    device: settings.DeviceOrAll = "auto",
    cluster: settings.ClusterName = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Predict labels and probabilities: columns path, label, and p_CLASS for each class.

    With --top K: path, label, p, label_2, p_2 and so on.
    """
    from featx.workflows import predictions, prepare_prediction

    device, cluster = settings.place(device, cluster)
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
        settings.on_cluster(cluster, quiet=quiet) as workers,
        progress_bar("predict", quiet=quiet) as progress,
    ):
        for frame in predictions(job, progress=progress, cluster=workers):
            counts.update(frame["label"].dropna())
    n_failed = job.n_images - counts.total()
    failed = f"; {counted(n_failed, 'has', 'have')} no codes, and no label" if n_failed else ""
    print(f"{output}: {counted(counts.total(), 'prediction')}{failed}")
    for label, n in counts.most_common():
        say(f"  {n:6} {label}", quiet=quiet)
