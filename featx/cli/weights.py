"""`featx weights fetch`: download weights that are not part of featx."""

from typing import Annotated

import typer

from featx.cli.console import gigabytes, show
from featx.cli.options import Quiet
from featx.cli.parsing import flat
from featx.errors import OptionError

app = typer.Typer(help="Download weights that are not part of featx.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Download weights that are not part of featx."""


@app.command("fetch")
@flat
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="imagenet", help="The VGG19 weights that Keras publishes.")
    ],
    top: Annotated[
        bool, typer.Option("--top", help="Include the layers fc1 and fc2 (575 MB, not 80 MB).")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Download the VGG19 weights that Keras publishes, and check them."""
    from featx.network.weights.download import fetch_imagenet

    if name != "imagenet":
        message = f"Unknown weights '{name}'. Use: featx weights fetch imagenet"
        raise OptionError(message)
    path = fetch_imagenet(top=top, progress=not quiet)
    show(f"{path}: {gigabytes(path.stat().st_size)}. Use it with --weights imagenet")
