"""Which images a page shows, and where.

Images and their predictions come in; numbers go out, a few for each place of the
page, so that its size stays bounded. An image that stands at several places is kept
once. This file knows no HTML.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.report.contents import Images, Pictures, as_text
from featx.text import counted

__all__ = ["MOST_A_CELL", "MOST_TELLING", "MOST_THUMBNAILS", "Cell", "Shelf", "cells_of", "telling"]

MOST_A_CELL = 24
MOST_TELLING = 24
#: Of a page; further images are named without a picture.
MOST_THUMBNAILS = 1500


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix, that is not empty."""

    row: int
    column: int
    true: str
    predicted: str
    n: int
    images: tuple[int, ...]

    @property
    def key(self) -> str:
        """Its name for the page's script."""
        return f"{self.row}-{self.column}"

    @property
    def words(self) -> str:
        """What is read aloud."""
        images = counted(self.n, "image")
        if self.row == self.column:
            return f"{images} of {self.true}, predicted right"
        return f"{images} of {self.true}, predicted as {self.predicted}"


class Shelf:
    """The images that a page shows; each gets a number when it is first asked for."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._numbers: dict[int, int] = {}

    def put(self, images: Sequence[int] | NDArray[np.integer]) -> list[int]:
        """Return the numbers of some images on the page."""
        return [self._numbers.setdefault(int(i), len(self._numbers)) for i in images]

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return those that a sheet has room for, by number."""
        return self._images.thumbnails[list(self._numbers)[:MOST_THUMBNAILS]]

    @property
    def n_without(self) -> int:
        """How many images have no thumbnail, since there was no room."""
        return max(0, len(self._numbers) - MOST_THUMBNAILS)

    def facts(self) -> list[dict[str, Any]]:
        """Return what is said of each image, by number."""
        of, found = self._images, []
        for number, i in enumerate(self._numbers):
            facts: dict[str, Any] = {"path": of.path[i], "label": of.label[i]}
            if of.predicted[i] is not None:
                facts |= {"predicted": of.predicted[i], "p": round(float(of.confidence[i]), 3)}
            if number >= MOST_THUMBNAILS:
                facts["bare"] = True
            found.append(facts)
        return found


def cells_of(pictures: Pictures) -> list[Cell]:
    """Return the cells of the confusion matrix, with their most confident images."""
    images, labels = pictures.images, [as_text(label) for label in pictures.evaluation.labels]
    held: dict[tuple[str, str], list[int]] = {}
    for i in np.argsort(-images.confidence, kind="stable"):  # those not scored, NaN, stand last
        predicted = images.predicted[i]
        if predicted is not None:
            held.setdefault((images.label[i], predicted), []).append(int(i))
    return [
        Cell(
            row,
            column,
            true,
            predicted,
            int(pictures.evaluation.confusion[row][column]),
            tuple(held.get((true, predicted), ())[:MOST_A_CELL]),
        )
        for row, true in enumerate(labels)
        for column, predicted in enumerate(labels)
        if pictures.evaluation.confusion[row][column]
    ]


def telling(images: Images) -> tuple[list[int], list[int]]:
    """Return the most confident mistakes, and the least certain hits."""
    scored = [i for i, label in enumerate(images.predicted) if label is not None]
    wrong = [i for i in scored if images.predicted[i] != images.label[i]]
    right = [i for i in scored if images.predicted[i] == images.label[i]]
    wrong.sort(key=lambda i: -images.confidence[i])
    right.sort(key=lambda i: images.confidence[i])
    return wrong[:MOST_TELLING], right[:MOST_TELLING]
