"""`featx info`: what a store, a bundle or a weights file holds."""

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli.console import AsJson, Quiet, gigabytes, print_json, print_table
from featx.errors import OptionError, StoreError
from featx.text import counted, printable

if TYPE_CHECKING:
    from featx.store import Store

NAME = "info"


def command(
    file: Annotated[Path, typer.Argument(help="A store, a bundle or a weights file.")],
    bad: Annotated[
        bool, typer.Option("--bad", help="List the images that could not be read, with reasons.")
    ] = False,
    digest: Annotated[
        bool, typer.Option("--digest", help="Hash the recipe, the images' facts and the codes.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what a store, a bundle or a weights file holds."""
    if not file.is_file():
        what = f"{file} is a folder." if file.is_dir() else f"No file {file}."
        message = (
            f"{what} Expected a store (codes.h5), a bundle (model.skops) or a weights file: "
            "featx info FILE"
        )
        raise OptionError(message)
    kind = _kind(file)
    if kind != "store" and (bad or digest):
        message = f"{file} is no store: --bad and --digest ask about the images and codes of one."
        raise OptionError(message)
    facts = _store(file, digest=digest) if kind == "store" else _FACTS[kind](file)
    if as_json:
        print_json({"kind": kind, "file": str(file), **facts})
    elif bad:
        rows = [(image["path"], image["reason"]) for image in facts["bad"]]
        print_table(("path", "reason"), rows)
    else:
        _print(kind, facts)


def _kind(file: Path) -> str:
    """Tell what a file is by its content; its name does not decide."""
    import h5py

    from featx.store import FORMAT

    if h5py.is_hdf5(file):
        try:
            with h5py.File(file, "r") as opened:
                return "store" if str(opened.attrs.get("format")) == FORMAT else "weights"
        # What h5py makes of damage.
        except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
            message = f"{file} is an HDF5 file that is cut short or damaged. Make or copy it again."
            raise StoreError(message) from error
    if zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as archive:
                return "bundle" if "schema.json" in archive.namelist() else "weights"
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            message = f"{file} is a zip archive that is damaged. Make or copy it again."
            raise OptionError(message) from error
    message = f"{file} is no store, no bundle and no weights file. Expected .h5, .keras or .skops."
    raise OptionError(message)


def _store(file: Path, *, digest: bool) -> dict[str, Any]:
    from featx.store import Status, open_store

    store = open_store(file)
    images = store.images
    facts: dict[str, Any] = {
        "complete": store.complete,
        "images": len(images),
        "status": {s.name.lower(): int((images.status == s).sum()) for s in Status},
        "splits": _counts(store, "split"),
        "classes": _counts(store, "label"),
        "groups": len({group for group in images.group if group is not None}),
        "codes": {
            name: {
                "shape": store.recipe.code_shape(name),
                "width": store.recipe.code_size(name),
            }
            for name in store.recipe.layers
        },
        "bytes": store.path.stat().st_size,
        "bad": [
            {"path": printable(images.path[row]), "reason": images.reason[row]}
            for row in (images.status == Status.FAILED).nonzero()[0]
        ],
        "recipe": json.loads(store.recipe.to_json()),
        "provenance": store.provenance,
    }
    if digest:
        facts["digest"] = store.digests()
    return facts


def _bundle(file: Path) -> dict[str, Any]:
    from featx.fitting import load_model

    bundle = load_model(file)
    return {
        "classes": list(bundle.classes),
        "recipe": json.loads(bundle.recipe.to_json()),
        "summary": bundle.summary,
        "provenance": bundle.provenance,
    }


def _weights(file: Path) -> dict[str, Any]:
    from featx.network import inspect_weights

    found = inspect_weights(file)
    return {
        "layout": found.layout,
        "layers": [
            {
                "name": group.name,
                "shapes": group.shapes,
                "dtype": group.dtype,
                "vgg19_layer": group.vgg19_layer,
            }
            for group in found.groups
        ],
        "covers": list(found.covers),
        "matched_by": found.matched_by,
        "missing": list(found.missing),
        "mismatched": list(found.mismatched),
        "repeated": list(found.repeated),
    }


_FACTS = {"bundle": _bundle, "weights": _weights}

# What a summary holds that is no line.
_TABLES = (
    *("tried", "reliability", "labels", "per_class", "confusion", "confusions", "duplicates"),
    *("probabilities", "predictions", "notes"),
)


def _counts(store: "Store", column: str) -> dict[str, int]:
    values = Counter(value for value in getattr(store.images, column) if value is not None)
    return dict(sorted(values.items()))


def _print(kind: str, facts: dict[str, Any]) -> None:
    if kind == "weights":
        _print_weights(facts)
        return
    for name, value in {"kind": kind, **facts}.items():
        if name == "bytes":
            print(f"size: {gigabytes(value)}")
        elif name == "bad":
            print(f"bad: {counted(len(value), 'image')}{' (reasons: --bad)' if value else ''}")
        elif name == "summary":
            _print_summary(value)
        elif isinstance(value, dict):
            print(f"{name}:" if value else f"{name}: none")
            _print_lines(value)
        else:
            print(f"{name}: {_text(value)}")


def _print_summary(summary: dict[str, Any]) -> None:
    """Print what a fit said of itself; tables of it would fill the screen."""
    print("summary:")
    _print_lines({name: value for name, value in summary.items() if name not in _TABLES})
    for note in summary.get("notes", ()):
        print(f"  note: {note}")
    left = [name for name in _TABLES if summary.get(name)]
    if left:
        print(f"  more, by --json: {', '.join(left)}")


def _print_weights(facts: dict[str, Any]) -> None:
    """Print the layers of a weights file, and the layers of VGG19 that it covers."""
    print(f"weights, {facts['layout']}, layers matched by {facts['matched_by']}")
    rows = [
        (
            group["name"],
            " ".join(map(str, group["shapes"])),
            group["dtype"],
            group["vgg19_layer"] or "",
        )
        for group in facts["layers"]
    ]
    print_table(("layer", "shapes", "data type", "layer of VGG19"), rows)
    for word in ("covers", "missing", "mismatched", "repeated"):
        if facts[word]:
            print(f"{word}: {', '.join(facts[word])}")


def _print_lines(facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        print(f"  {name}: {_text(value)}")


def _text(value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return "none"
    if isinstance(value, dict):
        if {"value", "low", "high"} <= value.keys():
            others = [_text(value[name]) for name in value if name not in {"value", "low", "high"}]
            score = (
                f"{value['value']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f})"
            )
            return " ".join([*others, score])
        return ", ".join(f"{name} {_text(v)}" for name, v in value.items())
    if isinstance(value, list | tuple):
        joint = "x" if value and all(isinstance(v, int) for v in value) else ", "
        return joint.join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
