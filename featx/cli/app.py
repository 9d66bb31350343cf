"""The command `featx`: its verbs, and what happens when one fails.

An error that featx raises on purpose is printed as one message on stderr, with
exit code 1; a command line that cannot be read exits with 2.
"""

import io
import logging
import os
import sys
from typing import Annotated

import typer

from featx.cli import (
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
from featx.cli.completion import with_completion
from featx.cli.version import version_lines
from featx.errors import FeatxError

__all__ = ["app", "main"]

app = typer.Typer(
    name="featx",
    help="CNN codes from any layer of VGG19 into HDF5, and classifiers you can trust on them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    *(plan, extract, fit, sweep, finetune, evaluate, predict),
    *(explain, report, export, layers, info),
):
    app.command(verb.NAME)(with_completion(verb.command))
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line and exit."""
    # TensorFlow's C++ side reads this when it is first imported; a user's own value wins.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A label or path that the terminal cannot show must not cost the result.
        sys.stdout.reconfigure(errors="backslashreplace")
    notes = logging.StreamHandler()
    notes.setFormatter(_Notes())
    # What Dask has to say of its connections, the cluster's errors say in featx's words.
    notes.addFilter(lambda record: not record.name.startswith("distributed"))
    logging.basicConfig(handlers=[notes], level=logging.WARNING)
    try:
        # https://no-color.org; rich heeds it by itself.
        app(color=False if os.environ.get("NO_COLOR") else None)
    except FeatxError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # of the system, which the verb had no better words for
        where = f" {error.filename}" if error.filename else ""
        print(f"error: the system refused{where}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(1)


class _Notes(logging.Formatter):
    """Notes; those of a cluster's worker name it."""

    def format(self, record: logging.LogRecord) -> str:
        worker = getattr(record, "worker", None)
        return f"note: {super().format(record)}{f' (worker {worker})' if worker else ''}"


def _print_version(asked: bool) -> None:
    if asked:
        for line in version_lines():
            print(line, flush=True)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version, then what it runs with.",
        ),
    ] = False,
) -> None:
    """CNN codes from any layer of VGG19 into HDF5, and classifiers you can trust on them."""
