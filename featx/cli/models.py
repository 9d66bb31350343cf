"""The options of the verbs that open a bundle and classify with it."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Codes", "Model", "PrecisionText", "Trust", "Weights"]

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
