"""`featx export`: a store to Parquet, CSV or npz."""

from pathlib import Path
from typing import Annotated

import typer

from featx.cli.console import Overwrite, Quiet, gigabytes
from featx.cli.options import Split

NAME = "export"


def command(
    codes: Annotated[Path, typer.Argument(help="A store.")] = Path("codes.h5"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.parquet, NAME.csv or NAME.npz.")
    ] = Path("codes.parquet"),
    split: Split = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write the codes into one file for tools that read no HDF5."""
    from featx.store import export

    path = export(codes, output, overwrite=overwrite, split=split)
    print(f"{path}: {gigabytes(path.stat().st_size)}")
