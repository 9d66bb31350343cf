"""`featx export`: from a store to Parquet, CSV or npz."""

from featx.cli.console import gigabytes, show
from featx.cli.options import ExportOptions, Quiet


def command(options: ExportOptions, quiet: Quiet = False) -> None:
    """Export codes to one file for tools that do not read HDF5."""
    from featx.store import export

    path = export(**options.as_settings())
    show(f"{path}: {gigabytes(path.stat().st_size)}")
