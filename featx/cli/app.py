"""The command `featx`: its verbs, and what is printed when one fails.

An error that featx raises on purpose is one message on stderr, with exit code 1; a command
line that cannot be read exits with code 2.
"""

import logging
import os
import sys
from typing import Annotated

import typer

from featx.cli import (
    compare,
    evaluate,
    explain,
    export,
    extract,
    finetune,
    fit,
    info,
    layers,
    plan,
    predict,
    report,
    sweep,
    weights,
)
from featx.cli.console import say
from featx.cli.parsing import check_arguments, flat
from featx.cli.streams import flushed_stdout, open_standard_streams
from featx.cli.version import version_lines
from featx.errors import FeatxError
from featx.text import escaped

__all__ = ["app", "main"]

_HELP = (
    "Extract codes (features) from any layer of VGG19, and fit and evaluate classifiers on them."
)

app = typer.Typer(
    name="featx",
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    *(plan, extract, fit, sweep, finetune, evaluate, compare, predict),
    *(explain, report, export, layers, info),
):
    app.command(verb.__name__.rpartition(".")[2])(flat(verb.command))
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line and exit."""
    # TensorFlow's C++ code reads this when it is first imported; the user's own value is kept.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    open_standard_streams()
    notes = logging.StreamHandler()
    notes.setFormatter(_Notes())
    # featx reports lost connections in its own errors, so Dask's messages are not shown.
    notes.addFilter(lambda record: not record.name.startswith("distributed"))
    logging.basicConfig(handlers=[notes], level=logging.WARNING)
    try:
        with flushed_stdout():
            check_arguments(sys.argv[1:])
            # See https://no-color.org; rich follows it by itself.
            app(color=False if os.environ.get("NO_COLOR") else None)
    except FeatxError as error:
        say(f"error: {error}", quiet=False)
        sys.exit(1)
    except OSError as error:  # an error of the operating system for which no verb has a message
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}.", quiet=False)
        sys.exit(1)


class _Notes(logging.Formatter):
    """Log records as notes; the note of a cluster's worker names the worker."""

    def format(self, record: logging.LogRecord) -> str:
        worker = getattr(record, "worker", None)
        return escaped(f"note: {super().format(record)}{f' (worker {worker})' if worker else ''}")


def _print_version(requested: bool) -> None:
    if requested:
        for line in version_lines():
            print(line, flush=True)
        raise typer.Exit


@app.callback(help=_HELP)
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of featx and its libraries, the weights and the devices.",
        ),
    ] = False,
) -> None:
    pass
