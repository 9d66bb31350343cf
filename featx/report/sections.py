"""The sections of a page: figures, tables and images, as the template takes them.

Contents come in; values by name go out. Every page has all names, because the template may
use any of them; a section without content is left out.
"""

from collections.abc import Sequence
from typing import Any

from featx.metrics.evaluation import Evaluation
from featx.metrics.intervals import Score
from featx.report.contents import CodeMap, Contents, ImageResults, Images, Missing, as_text
from featx.report.embedded_images import COLUMNS, heat_map_images, thumbnail_sheet
from featx.report.figures.codes_map import plot_map
from featx.report.figures.confusion import plot_confusion
from featx.report.figures.reliability import plot_reliability
from featx.report.figures.scores import plot_layers, plot_learning_curve
from featx.report.figures.training import plot_training
from featx.report.page_images import ConfusionCell, PageImages, confusion_cells, images_to_look_at
from featx.report.svg import as_svg, make_elements_buttons, make_points_buttons
from featx.workflows import Explanation

__all__ = ["figures_of", "images_of", "safe"]

_MAX_DUPLICATES = 40
_MAX_UNREADABLE = 200
_MAX_CONFUSIONS = 10


def safe(text: str) -> Any:
    """Return text that featx made, which the template does not escape."""
    from markupsafe import Markup

    return Markup(text)


def _figure(axes: Any, prefix: str) -> Any:
    return safe(as_svg(axes, prefix))


def figures_of(contents: Contents) -> dict[str, Any]:
    """Return the figures and tables that need no images."""
    evaluation, sweep, finetuned = contents.evaluation, contents.sweep, contents.finetuned
    found: dict[str, Any] = {
        "scores": [],
        "missing_scores": "",
        "per_class": (),
        "reliability": None,
        "layers": None,
        "learning_curve": None,
        "training": None,
    }
    if isinstance(evaluation, Evaluation):
        found["scores"] = _named_scores(evaluation)
        found["per_class"] = evaluation.per_class
        found["reliability"] = _figure(plot_reliability(evaluation), "reliability-")
    elif evaluation != contents.image_results:  # the same text is shown once
        found["missing_scores"] = evaluation.text
    if sweep is not None:
        found["layers"] = _figure(plot_layers(sweep.rows), "layers-")
        if len(sweep.learning_curve) > 1:
            found["learning_curve"] = _figure(plot_learning_curve(sweep.learning_curve), "curve-")
    if finetuned is not None:
        training = finetuned.training
        axes = plot_training(training.history, training.best, dict(contents.bars))
        found["training"] = _figure(axes, "training-")
    return found


def _named_scores(evaluation: Evaluation) -> list[tuple[str, Score, str]]:
    found = [
        ("accuracy", evaluation.accuracy, "fraction of images that are correct"),
        ("balanced accuracy", evaluation.balanced_accuracy, "mean recall of the classes"),
        ("macro F1", evaluation.macro_f1, "mean F1 score of the classes"),
        ("log loss", evaluation.log_loss, "lower is better"),
        ("Brier score", evaluation.brier, "0 to 2, lower is better"),
        ("calibration error", evaluation.calibration_error, "mean gap of confidence and accuracy"),
    ]
    if evaluation.top5 is not None:
        found.append(("top-5 accuracy", evaluation.top5, "true class among the five most probable"))
    return found


def images_of(contents: Contents) -> dict[str, Any]:
    """Return everything that shows images, and the data of the page's script."""
    results = contents.image_results
    found: dict[str, Any] = {
        "results": None,
        "missing_images": "",
        "confusion": None,
        "confusions": [],
        "wrong": [],
        "correct": [],
        "heat_maps": [],
        "missing_heat_maps": "",
        "duplicates": [],
        "n_duplicates": 0,
        "unreadable": (),
        "n_unreadable": 0,
        "code_map": None,
        "missing_map": "",
        "facts": [],
        "n_without_thumbnail": 0,
        "sheet": None,
        "data": {"images": [], "cells": {}, "columns": COLUMNS},
    }
    if isinstance(results, Missing):
        found["missing_images"] = results.text
        if isinstance(contents.evaluation, Evaluation):
            found["confusion"] = _figure(plot_confusion(contents.evaluation), "confusion-")
        return found
    page_images, cells = PageImages(results.images), confusion_cells(results)
    # The most important images come first, because the last ones may get no thumbnail.
    wrong, correct = (page_images.numbers(each) for each in images_to_look_at(results.images))
    found |= {"results": results, "wrong": wrong, "correct": correct}
    found |= _duplicates(results, page_images)
    if isinstance(contents.heat_maps, Missing):
        found["missing_heat_maps"] = contents.heat_maps.text
    else:
        found["heat_maps"] = [_heat_map(*each, page_images) for each in contents.heat_maps]
    mistakes = sorted((c for c in cells if c.row != c.column), key=lambda cell: -cell.n)
    for cell in mistakes:
        page_images.numbers(cell.images)
    found["confusions"] = mistakes[:_MAX_CONFUSIONS]
    found["confusion"] = _confusion(results.evaluation, cells)
    if isinstance(results.code_map, Missing):
        found["missing_map"] = results.code_map.text
    else:
        found["code_map"] = _map(results.images, results.code_map, page_images)
    found["unreadable"] = results.unreadable[:_MAX_UNREADABLE]
    found["n_unreadable"] = len(results.unreadable)
    of_cells = {
        cell.key: {
            "description": cell.description,
            "n": cell.n,
            "images": page_images.numbers(cell.images),
        }
        for cell in cells
    }
    found["facts"] = page_images.facts()
    found["n_without_thumbnail"] = page_images.n_without_thumbnail
    found["sheet"] = safe(thumbnail_sheet(page_images.thumbnails()))
    found["data"] = {"images": found["facts"], "cells": of_cells, "columns": COLUMNS}
    return found


def _heat_map(image_number: int, found: Explanation, page_images: PageImages) -> dict[str, Any]:
    image, heat = heat_map_images(found)
    (number,) = page_images.numbers([image_number])
    return {
        "number": number,
        "image": image,
        "heat": heat,
        "label": as_text(found.label),
        "predicted": as_text(found.predicted),
        "decision": found.decision_score,
        "positions": float(found.contributions.sum()),
        "constant": found.constant,
        "largest": float(abs(found.contributions).max()),
    }


def _duplicates(results: ImageResults, page_images: PageImages) -> dict[str, Any]:
    """Return pairs of near-duplicates, beginning with those whose labels differ."""
    label = results.images.label
    ordered = sorted(results.duplicates, key=lambda pair: label[pair.first] == label[pair.second])
    pairs = [
        {
            "images": page_images.numbers([pair.first, pair.second]),
            "exact": pair.exact,
            "correlation": pair.correlation,
            "conflict": label[pair.first] != label[pair.second],
        }
        for pair in ordered[:_MAX_DUPLICATES]
    ]
    return {"duplicates": pairs, "n_duplicates": len(results.duplicates)}


def _confusion(evaluation: Evaluation, cells: Sequence[ConfusionCell]) -> Any:
    svg = as_svg(plot_confusion(evaluation), "confusion-")
    buttons = {f"confusion-cell-{cell.key}": (cell.key, cell.description) for cell in cells}
    return safe(make_elements_buttons(svg, buttons))


def _map(images: Images, code_map: CodeMap, page_images: PageImages) -> Any:
    labels = [images.label[i] for i in code_map.images]
    svg = as_svg(plot_map(code_map.points, labels, code_map.explained_variance), "map-")
    numbers = page_images.numbers(code_map.images)
    classes: dict[str, list[tuple[str, str]]] = {label: [] for label in sorted(set(labels))}
    for number, i, label in zip(numbers, code_map.images, labels, strict=True):
        classes[label].append((str(number), f"{images.path[i]}, {label}"))
    return safe(make_points_buttons(svg, "map-", list(classes.values())))
