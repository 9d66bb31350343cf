"""The figures and images of a page, as the template takes them.

Contents come in; values by name go out. The names of images exist only if there are results
of images, and figures only if there is something to draw.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from featx.metrics import Evaluation
from featx.report.contents import CodeMap, Contents, ImageResults, Missing
from featx.report.embedded_images import COLUMNS, heat_map_images, thumbnail_sheet
from featx.report.figures.codes_map import plot_map
from featx.report.figures.confusion import plot_confusion
from featx.report.figures.reliability import plot_reliability
from featx.report.figures.scores import plot_layers, plot_learning_curve
from featx.report.figures.training import plot_training
from featx.report.page_images import PageImages, confusion_cells, images_to_look_at
from featx.report.svg import Button, as_svg
from featx.workflows import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["safe", "sections_of"]

_MAX_DUPLICATES = 40
_MAX_CONFUSIONS = 10

_Part = TypeVar("_Part")


def safe(text: str) -> Any:
    """Return text that featx made, which the template does not escape."""
    from markupsafe import Markup

    return Markup(text)


def sections_of(contents: Contents) -> dict[str, Any]:
    """Return the values of the template by name; what is missing is None."""
    evaluation, results = _present(contents.evaluation), _present(contents.image_results)
    code_map = None if results is None else results.code_map
    parts = (contents.evaluation, contents.image_results, code_map, contents.heat_maps)
    images: dict[str, Any] = {}
    buttons: dict[str, dict[str, list[Button]]] = {}
    if results is not None:
        images, buttons = _images(results, _present(contents.heat_maps) or ())
    return {
        **images,
        "contents": contents,
        "evaluation": evaluation,
        "results": results,
        "figures": {
            name: safe(as_svg(axes, f"{name}-", buttons.get(name)))
            for name, axes in _figures(contents, evaluation, results)
        },
        # Several parts may be missing for the same reason.
        "missing": list(dict.fromkeys(part.text for part in parts if isinstance(part, Missing))),
    }


def _present(part: _Part | Missing) -> _Part | None:
    return None if isinstance(part, Missing) else part


def _figures(
    contents: Contents, evaluation: Evaluation | None, results: ImageResults | None
) -> Iterator[tuple[str, "Axes"]]:
    """Yield the names and the axes of figures."""
    if contents.sweep is not None:
        yield "layers", plot_layers(contents.sweep.rows)
        if len(contents.sweep.learning_curve) > 1:
            yield "curve", plot_learning_curve(contents.sweep.learning_curve)
    if contents.finetuned is not None:
        training = contents.finetuned.training
        yield "training", plot_training(training.history, training.best, dict(contents.bars))
    if evaluation is not None:
        yield "reliability", plot_reliability(evaluation)
    counts = evaluation if results is None else results.evaluation
    if counts is not None:
        yield "confusion", plot_confusion(counts)
    if results is not None and isinstance(results.code_map, CodeMap):
        labels = [results.images.label[i] for i in results.code_map.images]
        yield "map", plot_map(results.code_map.points, labels, results.code_map.explained_variance)


def _images(
    results: ImageResults, heat_maps: Sequence[tuple[int, Explanation]]
) -> tuple[dict[str, Any], dict[str, dict[str, list[Button]]]]:
    """Return everything that shows images, and the buttons of figures by their id."""
    images, cells = results.images, confusion_cells(results)
    page_images = PageImages(images)
    numbers = page_images.numbers
    # The most important images come first, because the last ones may get no thumbnail.
    wrong, correct = map(numbers, images_to_look_at(images))
    pairs = [
        (pair, images.label[pair.first] != images.label[pair.second]) for pair in results.duplicates
    ]
    pairs.sort(key=lambda pair: not pair[1])
    found = {
        "wrong": wrong,
        "correct": correct,
        "duplicates": [
            (*numbers([pair.first, pair.second]), pair, conflict)
            for pair, conflict in pairs[:_MAX_DUPLICATES]
        ],
        "heat_maps": [
            (*numbers([i]), *heat_map_images(explanation), explanation)
            for i, explanation in heat_maps
        ],
    }
    mistakes = sorted((cell for cell in cells if not cell.is_correct), key=lambda cell: -cell.n)
    for cell in mistakes:
        numbers(cell.images)
    points: dict[str, list[Button]] = {}
    if isinstance(results.code_map, CodeMap):
        shown = results.code_map.images
        classes = sorted({images.label[i] for i in shown})
        points = {f"class-{k}": [] for k in range(len(classes))}
        for number, i in zip(numbers(shown), shown, strict=True):
            button = (str(number), f"{images.path[i]}, {images.label[i]}")
            points[f"class-{classes.index(images.label[i])}"].append(button)
    of_cells = {
        cell.key: {"description": cell.description, "n": cell.n, "images": numbers(cell.images)}
        for cell in cells
    }
    found |= {
        "mistakes": mistakes[:_MAX_CONFUSIONS],
        "sheet": safe(thumbnail_sheet(page_images.thumbnails())),
        "data": {"images": page_images.facts(), "cells": of_cells, "columns": COLUMNS},
    }
    buttons = {f"cell-{cell.key}": [(cell.key, cell.description)] for cell in cells}
    return found, {"confusion": buttons, "map": points}
