"""Models with names of the past: of featx 0.1, and of an old skops.

A file of format 2 comes in; its content goes out as format 3 has it. Types, settings and
results were renamed between the two, and nothing else changed. skops 0.13 saved some types of
scikit-learn under a name from which no other version can import them.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

__all__ = [
    "OLD_FORMAT",
    "RENAMED_TYPES",
    "renamed_content",
    "renamed_summary",
    "with_present_names",
]

#: Format and version of the models of 0.1.
OLD_FORMAT = ("featx-bundle", 2)
#: Types in these files, and their present names.
RENAMED_TYPES = {
    "featx.classification.calibration.Decided": "featx.fitting.calibration.PrecomputedScores",
    "featx.classification.calibration.Decisions": "featx.fitting.calibration.DecisionScores",
    "featx.classification.calibration.Temperature": "featx.fitting.calibration.TemperatureScaling",
    "featx.classification.codes.CodeMatrix": "featx.codes.matrix.CodeMatrix",
    "featx.classification.components.PrincipalComponents": (
        "featx.codes.components.PrincipalComponents"
    ),
    "featx.classification.estimators.Centroids": "featx.fitting.estimators.Centroids",
    "featx.classification.estimators.StableNeighbours": (
        "featx.fitting.estimators.StableNeighbours"
    ),
    "featx.classification.span.CentredRows": "featx.codes.scaling.CentredRows",
    "featx.classification.span.ExactSpan": "featx.codes.gram.GramCoordinates",
    "featx.classification.span.UnitRows": "featx.codes.scaling.UnitRows",
}
# Modules in files of skops 0.13, and their names.
_RENAMED_MODULES = {"_loss": "sklearn._loss._loss"}
_OLD_NAMES = (b"featx.classification.", b'"_loss"')
_SCHEMA = "schema.json"
_STEPS = {"span": "gram"}
_SUMMARY = {"road": "solver", "copies": "duplicates", "without_copies": "without_duplicates"}
_SETTINGS = {"road": "solver"}
_TRIED = {"share": "fraction"}


def with_present_names(path: Path) -> Path | io.BytesIO:
    """Return a .skops file, or a copy with the present names of types if it has old ones.

    Nothing of the file is run.
    """
    with zipfile.ZipFile(path) as archive:
        schema = archive.read(_SCHEMA)
        if not any(name in schema for name in _OLD_NAMES):
            return path
        renamed = io.BytesIO()
        with zipfile.ZipFile(renamed, "w") as target:
            for member in archive.infolist():
                content = archive.read(member)
                if member.filename == _SCHEMA:
                    content = json.dumps(json.loads(content, object_hook=_renamed_type)).encode()
                target.writestr(member.filename, content)
    return renamed


def renamed_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a model of format 2 as format 3 has it."""
    provenance = json.loads(content["provenance"])
    provenance["settings"] = _renamed(provenance.get("settings", {}), _SETTINGS)
    classifier = content["classifier"]
    if isinstance(classifier, Pipeline):
        classifier = Pipeline([(_STEPS.get(name, name), step) for name, step in classifier.steps])
    return {
        **content,
        "classifier": classifier,
        "provenance": json.dumps(provenance),
        "summary": json.dumps(renamed_summary(json.loads(content["summary"]))),
    }


def renamed_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of a fit of 0.1 under their present names."""
    renamed = _renamed(summary, _SUMMARY)
    if "tried" in renamed:
        renamed["tried"] = [_renamed(each, _TRIED) for each in renamed["tried"]]
    return renamed


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    renamed = {names.get(name, name): value for name, value in values.items()}
    if renamed.get("solver") == "span":
        renamed["solver"] = "gram"
    return renamed


def _renamed_type(node: dict[str, Any]) -> dict[str, Any]:
    present = RENAMED_TYPES.get(f"{node.get('__module__')}.{node.get('__class__')}")
    if present is not None:
        node["__module__"], node["__class__"] = present.rsplit(".", 1)
    module = node.get("__module__")
    if isinstance(module, str):
        node["__module__"] = _RENAMED_MODULES.get(module, module)
    return node
