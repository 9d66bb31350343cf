"""`featx weights fetch`: download the weights that featx does not bundle."""

from typing import Annotated

import typer

from featx.cli.completion import with_completion
from featx.cli.console import Quiet, gigabytes
from featx.errors import OptionError

app = typer.Typer(help="Weights beyond the bundled ones.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Weights beyond the bundled ones."""


@app.command("fetch")
@with_completion
def fetch(
    name: Annotated[str, typer.Argument(metavar="imagenet", help="Keras's release.")],
    top: Annotated[
        bool, typer.Option("--top", help="With the layers fc1 and fc2 (575 MB, not 80 MB).")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Download Keras's release of VGG19 and check its digest."""
    from featx.network import fetch_imagenet

    if name != "imagenet":
        message = f"No weights '{name}' to fetch. Use: featx weights fetch imagenet"
        raise OptionError(message)
    path = fetch_imagenet(top=top, progress=not quiet)
    print(f"{path}: {gigabytes(path.stat().st_size)}. Use it with --weights imagenet")
