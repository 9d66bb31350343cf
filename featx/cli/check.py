"""`featx info --check`: a store against the files of its images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from featx.cli.console import print_json, say_notes, show
from featx.text import counted, quoted, quoted_list

if TYPE_CHECKING:
    from featx.extraction import ResumeForecast, StoreCheck

__all__ = ["check_command"]


def check_command(file: Path, root: str | None, *, fetch: bool, as_json: bool, quiet: bool) -> None:
    """Check a store and print what was found.

    Raises
    ------
    Exit
        A file is missing, changed or unreadable, or a code is suspicious.
    """
    from featx.extraction import check_store

    found = check_store(file, root, fetch=fetch)
    if as_json:
        facts = dataclasses.asdict(found) | {"is_sound": found.is_sound}
        del facts["path"]  # it is in the output under "file"
        print_json({"kind": "check", "file": str(file), **facts})
    else:
        _print(found)
        say_notes(found.notes, quiet=quiet)
    if not found.is_sound:
        raise typer.Exit(1)


def _print(found: "StoreCheck") -> None:
    reasons = [f"{path} ({reason})" for path, reason in found.unreadable]
    show(f"files: {counted(found.n_images, 'image')} of {quoted(found.root)}")
    show(f"  unchanged: {found.n_unchanged:,}")
    for name, paths in (
        ("missing", found.missing),
        ("changed", found.changed),
        ("unreadable", reasons),
        ("not in the store", found.not_in_store),
    ):
        show(f"  {name}: {_number_and_names(paths)}")
    show(f"codes: {counted(found.n_done, 'image is', 'images are')} done")
    show(f"  with NaN or infinity: {_number_and_names(found.not_finite)}")
    show(f"  with zeros only: {_number_and_names(found.zeros)}")
    if found.resume is not None:
        _print_forecast(found.resume)


def _print_forecast(forecast: "ResumeForecast") -> None:
    show("the same extract command:")
    show(f"  keeps the codes of: {counted(forecast.n_kept, 'image')}")
    show(f"  computes: {counted(forecast.n_computed, 'image')}")
    show(f"  removes: {counted(forecast.n_dropped, 'image')}")
    if forecast.refusal:
        show(f"  is refused: {forecast.refusal}")


def _number_and_names(names: Sequence[str]) -> str:
    return f"{len(names):,} ({quoted_list(names)})" if names else "0"
