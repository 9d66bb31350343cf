"""The images that a page shows, with a number for each.

Images and their predictions come in; numbers go out, a limited number for each section, so
that the size of the page is bounded. An image in several sections is embedded once. This
file does not know HTML.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.report.contents import ImageResults, Images, as_text
from featx.text import counted

__all__ = [
    "MAX_IMAGES_PER_CELL",
    "MAX_IMAGES_TO_LOOK_AT",
    "MAX_THUMBNAILS",
    "ConfusionCell",
    "PageImages",
    "confusion_cells",
    "images_to_look_at",
]

MAX_IMAGES_PER_CELL = 24
MAX_IMAGES_TO_LOOK_AT = 24
#: Further images of a page have no thumbnail.
MAX_THUMBNAILS = 1500


@dataclass(frozen=True)
class ConfusionCell:
    """A cell of the confusion matrix with at least one image."""

    row: int
    column: int
    true: str
    predicted: str
    n: int
    images: tuple[int, ...]

    @property
    def key(self) -> str:
        """Name of the cell in the page's script."""
        return f"{self.row}-{self.column}"

    @property
    def is_correct(self) -> bool:
        """Whether the cell is on the diagonal."""
        return self.row == self.column

    @property
    def description(self) -> str:
        """The text that a screen reader reads."""
        images = counted(self.n, "image")
        predicted = "correctly" if self.is_correct else f"as {self.predicted}"
        return f"{images} of {self.true}, predicted {predicted}"


class PageImages:
    """The images that a page shows; each gets a number when it is first used."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._numbers: dict[int, int] = {}

    def numbers(self, images: Sequence[int] | NDArray[np.integer]) -> list[int]:
        """Return the numbers of images on the page."""
        return [self._numbers.setdefault(int(i), len(self._numbers)) for i in images]

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the thumbnails, by number, up to the maximum."""
        return self._images.thumbnails[list(self._numbers)[:MAX_THUMBNAILS]]

    def facts(self) -> list[dict[str, Any]]:
        """Return path, label and prediction of each image, by number."""
        images, found = self._images, []
        for number, i in enumerate(self._numbers):
            facts: dict[str, Any] = {"path": images.path[i], "label": images.label[i]}
            if images.predicted[i] is not None:
                facts["predicted"] = images.predicted[i]
                facts["p"] = round(float(images.confidence[i]), 3)
            if number >= MAX_THUMBNAILS:
                facts["bare"] = True
            found.append(facts)
        return found


def confusion_cells(results: ImageResults) -> list[ConfusionCell]:
    """Return the cells of the confusion matrix, with their most confident images."""
    images, evaluation = results.images, results.evaluation
    labels = [as_text(label) for label in evaluation.labels]
    by_cell: dict[tuple[str, str], list[int]] = {}
    for i in np.argsort(-images.confidence, kind="stable"):  # NaN, of unscored images, is last
        predicted = images.predicted[i]
        if predicted is not None:
            by_cell.setdefault((images.label[i], predicted), []).append(int(i))
    cells = []
    for row, column in np.argwhere(evaluation.confusion).tolist():
        true, predicted = labels[row], labels[column]
        shown = tuple(by_cell.get((true, predicted), ())[:MAX_IMAGES_PER_CELL])
        n = evaluation.confusion[row][column]
        cells.append(ConfusionCell(row, column, true, predicted, n, shown))
    return cells


def images_to_look_at(images: Images) -> tuple[list[int], list[int]]:
    """Return the most confident mistakes, and the least confident correct predictions."""
    scored = [i for i, label in enumerate(images.predicted) if label is not None]
    wrong = [i for i in scored if images.predicted[i] != images.label[i]]
    correct = [i for i in scored if images.predicted[i] == images.label[i]]
    wrong.sort(key=lambda i: -images.confidence[i])
    correct.sort(key=lambda i: images.confidence[i])
    return wrong[:MAX_IMAGES_TO_LOOK_AT], correct[:MAX_IMAGES_TO_LOOK_AT]
