"""The sections of a page: figures, tables and images, as the template takes them.

Contents come in; values by name go out. Each name is there for every page, so that
the template asks for none in vain; a section that has nothing is left out.
"""

from collections.abc import Sequence
from typing import Any

from featx.metrics.evaluation import Evaluation
from featx.metrics.intervals import Score
from featx.report.contents import CodeMap, Contents, HeatMap, Missing, Pictures, as_text
from featx.report.figures import (
    plot_confusion,
    plot_layers,
    plot_learning_curve,
    plot_map,
    plot_reliability,
    plot_training,
)
from featx.report.heat_map_images import heat_pictures
from featx.report.interactive import mark_parts, mark_points
from featx.report.shelf import Cell, Shelf, cells_of, telling
from featx.report.svg import as_svg
from featx.report.thumbnails import COLUMNS, make_sheet

__all__ = ["figures_of", "images_of", "safe"]

_MOST_COPIES = 40
_MOST_UNREADABLE = 200
_MOST_CONFUSIONS = 10


def safe(text: str) -> Any:
    """Return text of featx's own making, which the template does not escape."""
    from markupsafe import Markup

    return Markup(text)


def _figure(axes: Any, prefix: str) -> Any:
    return safe(as_svg(axes, prefix))


def figures_of(contents: Contents) -> dict[str, Any]:
    """Return the figures and tables that need no images."""
    evaluation, sweep, tuning = contents.evaluation, contents.sweep, contents.tuning
    found: dict[str, Any] = {
        "scores": [],
        "missing_scores": "",
        "per_class": (),
        "reliability": None,
        "layers": None,
        "curve": None,
        "training": None,
    }
    if isinstance(evaluation, Evaluation):
        found["scores"] = _named_scores(evaluation)
        found["per_class"] = evaluation.per_class
        found["reliability"] = _figure(plot_reliability(evaluation), "reliability-")
    elif evaluation != contents.pictures:  # else it is said once
        found["missing_scores"] = evaluation.text
    if sweep is not None:
        found["layers"] = _figure(plot_layers(sweep.rows), "layers-")
        if len(sweep.curve) > 1:
            found["curve"] = _figure(plot_learning_curve(sweep.curve), "curve-")
    if tuning is not None:
        figure = plot_training(tuning.history, tuning.best, tuning.scores)
        found["training"] = _figure(figure, "training-")
    return found


def _named_scores(evaluation: Evaluation) -> list[tuple[str, Score, str]]:
    found = [
        ("accuracy", evaluation.accuracy, "share of images that are right"),
        ("balanced accuracy", evaluation.balanced_accuracy, "mean recall of the classes"),
        ("macro F1", evaluation.macro_f1, "mean of the classes"),
        ("log loss", evaluation.log_loss, "less is better"),
        ("Brier score", evaluation.brier, "0 to 2, less is better"),
        ("calibration error", evaluation.calibration_error, "confidence and accuracy apart"),
    ]
    if evaluation.top5 is not None:
        found.append(("top-5 accuracy", evaluation.top5, "right among the five likeliest"))
    return found


def images_of(contents: Contents) -> dict[str, Any]:
    """Return what shows images, and the data of the page's script."""
    pictures = contents.pictures
    found: dict[str, Any] = {
        "pictures": None,
        "missing_pictures": "",
        "confusion": None,
        "confusions": [],
        "wrong": [],
        "hits": [],
        "heat_maps": [],
        "missing_heat_maps": "",
        "copies": [],
        "n_copies": 0,
        "unreadable": (),
        "n_unreadable": 0,
        "code_map": None,
        "missing_map": "",
        "facts": [],
        "n_without": 0,
        "sheet": None,
        "data": {"images": [], "cells": {}, "columns": COLUMNS},
    }
    if isinstance(pictures, Missing):
        found["missing_pictures"] = pictures.text
        if isinstance(contents.evaluation, Evaluation):
            found["confusion"] = _figure(plot_confusion(contents.evaluation), "confusion-")
        return found
    shelf, cells = Shelf(pictures.images), cells_of(pictures)
    # What tells most is put first: a full sheet leaves out what comes last.
    wrong, right = telling(pictures.images)
    found |= {"pictures": pictures, "wrong": shelf.put(wrong), "hits": shelf.put(right)}
    found |= _copies(pictures, shelf)
    if isinstance(contents.heat_maps, Missing):
        found["missing_heat_maps"] = contents.heat_maps.text
    else:
        found["heat_maps"] = [_heat_map(each, shelf) for each in contents.heat_maps]
    mistakes = sorted((c for c in cells if c.row != c.column), key=lambda cell: -cell.n)
    for cell in mistakes:
        shelf.put(cell.images)
    found["confusions"] = mistakes[:_MOST_CONFUSIONS]
    found["confusion"] = _confusion(pictures.evaluation, cells)
    if isinstance(pictures.code_map, Missing):
        found["missing_map"] = pictures.code_map.text
    else:
        found["code_map"] = _map(pictures, pictures.code_map, shelf)
    found["unreadable"] = pictures.unreadable[:_MOST_UNREADABLE]
    found["n_unreadable"] = len(pictures.unreadable)
    shown = {
        cell.key: {"words": cell.words, "n": cell.n, "images": shelf.put(cell.images)}
        for cell in cells
    }
    found["facts"] = shelf.facts()
    found["n_without"] = shelf.n_without
    sheet = make_sheet(shelf.thumbnails())
    found["sheet"] = safe(sheet.uri)
    found["data"] = {"images": found["facts"], "cells": shown, "columns": COLUMNS}
    return found


def _heat_map(heat_map: HeatMap, shelf: Shelf) -> dict[str, Any]:
    found = heat_map.explanation
    image, heat = heat_pictures(found)
    (number,) = shelf.put([heat_map.image])
    return {
        "number": number,
        "image": image,
        "heat": heat,
        "label": as_text(found.label),
        "says": as_text(found.predicted),
        "decision": found.decision,
        "places": float(found.contributions.sum()),
        "constant": found.constant,
        "strongest": float(abs(found.contributions).max()),
    }


def _copies(pictures: Pictures, shelf: Shelf) -> dict[str, Any]:
    """Return pairs of copies, those first whose labels differ."""
    label = pictures.images.label
    ordered = sorted(pictures.copies, key=lambda pair: label[pair.first] == label[pair.second])
    pairs = [
        {
            "images": shelf.put([pair.first, pair.second]),
            "same_bytes": pair.same_bytes,
            "correlation": pair.correlation,
            "conflict": label[pair.first] != label[pair.second],
        }
        for pair in ordered[:_MOST_COPIES]
    ]
    return {"copies": pairs, "n_copies": len(pictures.copies)}


def _confusion(evaluation: Evaluation, cells: Sequence[Cell]) -> Any:
    svg = as_svg(plot_confusion(evaluation), "confusion-")
    parts = {f"confusion-cell-{cell.key}": (cell.key, cell.words) for cell in cells}
    return safe(mark_parts(svg, parts))


def _map(pictures: Pictures, code_map: CodeMap, shelf: Shelf) -> Any:
    images = pictures.images
    labels = [images.label[i] for i in code_map.images]
    svg = as_svg(plot_map(code_map.points, labels, code_map.shares), "map-")
    numbers = shelf.put(code_map.images)
    classes: dict[str, list[tuple[str, str]]] = {label: [] for label in sorted(set(labels))}
    for number, i, label in zip(numbers, code_map.images, labels, strict=True):
        classes[label].append((str(number), f"{images.path[i]}, {label}"))
    return safe(mark_points(svg, "map-", list(classes.values())))
