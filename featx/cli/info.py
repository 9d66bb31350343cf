"""`featx info`: what a store, a model or a weights file contains."""

import contextlib
import dataclasses
import json
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from featx.cli.check import check_command
from featx.cli.console import gigabytes, print_json, print_table, show
from featx.cli.options import AsJson, Quiet
from featx.cli.parsing import option
from featx.documents import FieldError, conform
from featx.errors import OptionError, StoreError
from featx.text import counted, storable


def command(
    file: Annotated[Path, typer.Argument(help="A store, a model or a weights file.")],
    bad: Annotated[
        bool, typer.Option("--bad", help="List the images that could not be read, and why.")
    ] = False,
    digest: Annotated[
        bool,
        typer.Option(
            "--digest", help="Print hashes of the recipe, the table of images and the codes."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compare a store with the files of its images, and look for wrong codes; exit "
            "with code 1 if something is found.",
        ),
    ] = False,
    root: Annotated[
        str | None,
        option("With --check: where the images are now, if they were moved.", "FOLDER"),
    ] = None,
    fetch: Annotated[
        bool, option("With --check: also read images from servers.", None, "--fetch")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what a store, a model or a weights file contains."""
    if (root is not None or fetch) and not check:
        message = "--root and --fetch belong to --check. Add --check, or leave them out."
        raise OptionError(message)
    if not file.is_file():
        what = f"{file} is a folder." if file.is_dir() else f"{file} does not exist."
        message = f"{what} Use a store (codes.h5), a model (model.skops) or a weights file."
        raise OptionError(message)
    kind = _kind(file)
    if kind != "store" and (bad or digest or check):
        message = (
            f"--bad, --digest and --check need a store, but {file} is not a store. Leave them out."
        )
        raise OptionError(message)
    if check:
        check_command(file, root, fetch=fetch, as_json=as_json, quiet=quiet)
        return
    facts = _store(file, digest=digest) if kind == "store" else _FACTS[kind](file)
    if as_json:
        print_json({"kind": kind, "file": str(file), **facts})
    elif bad:
        rows = [(image["path"], image["reason"]) for image in facts["bad"]]
        print_table(("path", "reason"), rows)
    else:
        _print(kind, facts)


def _kind(file: Path) -> str:
    """Return what a file is, by its content, not by its name."""
    from featx.hdf5 import attribute, is_hdf5, open_hdf5, read_errors
    from featx.store.layout import FORMAT

    kind = "HDF5 file" if (hdf5 := is_hdf5(file)) else "zip archive"

    def damaged(_: Exception) -> StoreError:
        return StoreError(f"{file} is a truncated or damaged {kind}. Make or copy it again.")

    with read_errors(file, StoreError, damaged):
        if hdf5:
            with open_hdf5(file) as opened:
                found = attribute(opened, "format") if "format" in opened.attrs else None
                return "store" if str(found) == FORMAT else "weights"
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return "model" if "schema.json" in archive.namelist() else "weights"
    message = f"{file} is not a store, a model or a weights file (.h5, .skops or .keras)."
    raise OptionError(message)


def _store(file: Path, *, digest: bool) -> dict[str, Any]:
    from featx.store import Status, open_store

    store = open_store(file)
    images = store.images
    facts: dict[str, Any] = {
        "complete": store.complete,
        "images": len(images),
        "status": {s.name.lower(): int((images.status == s).sum()) for s in Status},
        "splits": _counts(images.split),
        "classes": _counts(images.label),
        "groups": len({group for group in images.group if group is not None}),
        "codes": {
            name: {
                "shape": store.recipe.code_shape(name),
                "n_features": store.recipe.code_size(name),
            }
            for name in store.recipe.layers
        },
        "bytes": store.path.stat().st_size,
        "bad": [
            {"path": storable(images.path[row]), "reason": images.reason[row]}
            for row in (images.status == Status.FAILED).nonzero()[0]
        ],
        "recipe": json.loads(store.recipe.to_json()),
        "provenance": store.provenance,
    }
    if digest:
        facts["digest"] = store.digests()
    return facts


def _model(file: Path) -> dict[str, Any]:
    from featx.fitting import load_model

    model = load_model(file)
    return {
        "classes": list(model.classes),
        "positive": None if model.positive is None else dataclasses.asdict(model.positive),
        "recipe": json.loads(model.recipe.to_json()),
        "summary": model.summary,
        "provenance": model.provenance,
    }


def _weights(file: Path) -> dict[str, Any]:
    from featx.network.weights.matching import inspect_weights

    facts = dataclasses.asdict(inspect_weights(file))
    del facts["path"]  # it is in the output under "file"
    return {"layers" if name == "groups" else name: value for name, value in facts.items()}


_FACTS = {"model": _model, "weights": _weights}

# Lists of a summary that fit into a line; the others are left to --json.
_LINES = {"codes", "layers"}


def _counts(column: Iterable[str | None]) -> dict[str, int]:
    values = Counter(value for value in column if value is not None)
    return dict(sorted(values.items()))


def _print(kind: str, facts: dict[str, Any]) -> None:
    if kind == "weights":
        _print_weights(facts)
        return
    for name, value in {"kind": kind, **facts}.items():
        if name == "bytes":
            show(f"size: {gigabytes(value)}")
        elif name == "bad":
            show(f"bad: {counted(len(value), 'image')}{' (reasons: --bad)' if value else ''}")
        elif name == "summary":
            _print_summary(value)
        elif isinstance(value, dict):
            show(f"{name}:" if value else f"{name}: none")
            _print_lines(value)
        else:
            show(f"{name}: {_text(value)}")


def _print_summary(summary: dict[str, Any]) -> None:
    """Print the summary of a fit without its tables, which would fill the screen."""
    tables = {k for k, value in summary.items() if isinstance(value, list) and k not in _LINES}
    show("summary:")
    _print_lines({name: value for name, value in summary.items() if name not in tables})
    for note in summary.get("notes", ()):
        show(f"  note: {note}")
    more = [name for name in summary if name in tables - {"notes"} and summary[name]]
    if more:
        show(f"  more with --json: {', '.join(more)}")


def _print_weights(facts: dict[str, Any]) -> None:
    """Print the layers of a weights file, and the layers of VGG19 that it covers."""
    show(f"weights, {facts['layout']}, layers matched by {facts['matched_by']}")
    rows = [
        (each["name"], " ".join(map(str, each["shapes"])), each["dtype"], each["vgg19_layer"] or "")
        for each in facts["layers"]
    ]
    print_table(("layer", "shapes", "data type", "layer of VGG19"), rows)
    for word in ("covers", "missing", "mismatched", "repeated"):
        if facts[word]:
            show(f"{word}: {', '.join(facts[word])}")
    if facts["differences"]:
        show("other layers and settings than VGG19, so codes would be others:")
        others = [(each["name"], each["found"], each["expected"]) for each in facts["differences"]]
        print_table(("layer", "in the file", "in VGG19"), others)


def _print_lines(facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        show(f"  {name}: {_text(value)}")


def _text(value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return "none"
    if isinstance(value, dict):
        from featx.metrics import Score

        if {"value", "low", "high"} <= value.keys():
            others = [_text(value[name]) for name in value if name not in {"value", "low", "high"}]
            # A summary that another program changed is printed as it stands.
            with contextlib.suppress(FieldError):
                return " ".join([*others, str(conform(Score, value))])
        return ", ".join(f"{name} {_text(v)}" for name, v in value.items())
    if isinstance(value, list | tuple):
        joint = "x" if value and all(isinstance(v, int) for v in value) else ", "
        return joint.join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
