"""The contents of a page, before it is a page: plain values.

`featx.report.gathering` fills these classes and `featx.report.page` shows them. A part that
is not available is a `Missing`, which states why, and what to type to get it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featx.dataset.duplicates import DuplicatePair
from featx.errors import FeatxError
from featx.fitting.model import Model
from featx.images import File
from featx.metrics.evaluation import Evaluation
from featx.metrics.intervals import Score
from featx.report.axes import shown
from featx.text import printable
from featx.workflows import Explanation, Finetuned
from featx.workflows.sweeping.results import SweepRecord

__all__ = [
    "CodeMap",
    "Contents",
    "ImageResults",
    "Images",
    "Missing",
    "as_text",
    "or_missing",
]

_MAX_CHARACTERS = 240  # of a path or a class

_Part = TypeVar("_Part")


def as_text(name: str) -> str:
    """Return a path or a class as a page shows it, whatever it contains."""
    return shown(printable(name), _MAX_CHARACTERS)


@dataclass(frozen=True)
class Missing:
    """Why a part of the page is missing, and what to type to get it."""

    text: str


def or_missing(consequence: str, make: Callable[[], _Part]) -> _Part | Missing:
    """Return the result of `make`; if it raises an error of featx, a `Missing` with its text."""
    try:
        return make()
    except FeatxError as error:
        return Missing(f"{consequence}: {error}")


@dataclass(frozen=True)
class Images:
    """Images that a page may show; every field has one entry for each image.

    Parameters
    ----------
    path, label : tuple of str
        Text that can be shown.
    thumbnails : ndarray of uint8, shape (n, 32, 32, 3)
        The thumbnails of the store.
    predicted : tuple of (str or None)
        Predicted class; None if the image was not scored.
    confidence : ndarray of float, shape (n,)
        Probability of the predicted class; NaN if the image was not scored.
    files : tuple of Path or Url
        Where each image was when its code was extracted.
    sha256 : tuple of str
        sha256 of its bytes at that time.
    """

    path: tuple[str, ...]
    label: tuple[str, ...]
    thumbnails: NDArray[np.uint8]
    predicted: tuple[str | None, ...]
    confidence: NDArray[np.float64]
    files: tuple[File, ...]
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class CodeMap:
    """Codes in two dimensions.

    Parameters
    ----------
    images : ndarray of int, shape (m,)
        Numbers of the images.
    points : ndarray of float, shape (m, 2)
        Their first two principal components.
    explained_variance : (float, float)
        Fractions of the variance that the two components explain.
    """

    images: NDArray[np.int64]
    points: NDArray[np.float64]
    explained_variance: tuple[float, float]


@dataclass(frozen=True)
class ImageResults:
    """The results for each image.

    Parameters
    ----------
    images : Images
        All images that may be shown.
    evaluation : Evaluation
        Scores of their predictions.
    how : str
        How the predictions were made, in a sentence.
    code_map : CodeMap or Missing
        The codes in two dimensions.
    duplicates : tuple of DuplicatePair
        Near-duplicates, by numbers of the images.
    unreadable : tuple of (str, str)
        Path of each unreadable file, and the reason.
    note : str, default=""
        A warning about the predictions.
    """

    images: Images
    evaluation: Evaluation
    how: str
    code_map: CodeMap | Missing
    duplicates: tuple[DuplicatePair, ...]
    unreadable: tuple[tuple[str, str], ...]
    note: str = ""


@dataclass(frozen=True)
class Contents:
    """The contents of a page.

    Parameters
    ----------
    kind : {"model", "sweep", "fine-tuning"}
        What the page is about.
    name : str
        Its file or folder.
    lead : tuple of str
        The summary, in sentences.
    facts : tuple of (str, str)
        Names and values of the recipe and of other settings.
    bars : tuple of (str, Score)
        Accuracies to compare, the most important first.
    scored_on : str
        The images that these accuracies are of.
    evaluation : Evaluation or Missing
        The scores that the source contains.
    image_results : ImageResults or Missing
        What is known about each image.
    notes : tuple of str
        Warnings and other notes for the user.
    commands : mapping of str to str
        By purpose: commands that made the source, or that follow.
    sweep : SweepRecord, optional
        The results of a sweep.
    finetuned : Finetuned, optional
        The results of a fine-tuning.
    model : Model, optional
        A model that can explain its predictions; a sweep has none.
    heat_maps : tuple of (int, Explanation), or Missing
        Images to look at, by number, with the explanations of their predictions; empty if
        none are requested.
    """

    kind: str
    name: str
    lead: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    bars: tuple[tuple[str, Score], ...]
    scored_on: str
    evaluation: Evaluation | Missing
    image_results: ImageResults | Missing
    notes: tuple[str, ...]
    commands: Mapping[str, str]
    sweep: SweepRecord | None = None
    finetuned: Finetuned | None = None
    model: Model | None = None
    heat_maps: tuple[tuple[int, Explanation], ...] | Missing = ()
