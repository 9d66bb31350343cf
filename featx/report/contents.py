"""What a page says, before it is a page: plain values, whatever they were read from.

Nothing comes in; the names go out to what gathers them and to what draws them.
A part that could not be had is a `Missing`: why not, and what to type.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.finetuning.history import EpochRecord
from featx.fitting.model import Model
from featx.images import File
from featx.metrics.evaluation import Evaluation
from featx.metrics.intervals import Score
from featx.report.axes import shown
from featx.text import printable
from featx.workflows import Explanation

__all__ = [
    "CodeMap",
    "Command",
    "Contents",
    "Copy",
    "HeatMap",
    "Images",
    "LearningPoint",
    "Missing",
    "Pictures",
    "SweepPart",
    "SweepRow",
    "TuningPart",
    "as_text",
]

_LONGEST = 240  # letters of a path or a class


def as_text(word: str) -> str:
    """Return a path or a class as a page shows it, whatever is in it."""
    return shown(printable(word), _LONGEST)


@dataclass(frozen=True)
class Missing:
    """Why something is not there, in words that say what to type."""

    text: str


@dataclass(frozen=True)
class Command:
    """A command line, and what it is for."""

    what: str
    line: str


@dataclass(frozen=True)
class Images:
    """Images that a page may show, one entry an image in every field.

    Parameters
    ----------
    path, label : tuple of str
        As text that can be shown.
    thumbnails : ndarray of uint8, shape (n, 32, 32, 3)
        Small pictures.
    predicted : tuple of (str or None)
        None where an image was not scored.
    confidence : ndarray of float, shape (n,)
        Probability of the predicted class; NaN where an image was not scored.
    files : tuple of Path or Url
        Where each lay when its code was taken.
    sha256 : tuple of str
        Of the bytes that it had then.
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
        Which of the images.
    points : ndarray of float, shape (m, 2)
        Their first two principal components.
    shares : tuple of float
        Of the variance, that of the first and of the second.
    """

    images: NDArray[np.int64]
    points: NDArray[np.float64]
    shares: tuple[float, float]


@dataclass(frozen=True)
class Copy:
    """Two images, by number, that are one picture."""

    first: int
    second: int
    same_bytes: bool
    correlation: float


@dataclass(frozen=True)
class Pictures:
    """What is known image by image.

    Parameters
    ----------
    images : Images
        All that may be shown.
    evaluation : Evaluation
        Of their predictions.
    how : str
        Where the predictions come from, in a sentence.
    code_map : CodeMap or Missing
        The codes in two dimensions.
    copies : tuple of Copy
        Pictures that are there twice.
    unreadable : tuple of (str, str)
        Path and reason.
    note : str, default=""
        What is not as it should be.
    """

    images: Images
    evaluation: Evaluation
    how: str
    code_map: CodeMap | Missing
    copies: tuple[Copy, ...]
    unreadable: tuple[tuple[str, str], ...]
    note: str = ""


@dataclass(frozen=True)
class HeatMap:
    """One of the images, by number, and what its places add to the decision."""

    image: int
    explanation: Explanation


@dataclass(frozen=True)
class SweepRow:
    """A line of a sweep's table."""

    layers: tuple[str, ...]
    pool: str
    size: tuple[int, int]
    width: int
    accuracy: Score
    balanced_accuracy: Score
    bytes_per_image: float
    seconds_per_image: float | None
    mark: str = ""


@dataclass(frozen=True)
class LearningPoint:
    """A point of a learning curve."""

    n_train: int
    accuracy: Score


@dataclass(frozen=True)
class SweepPart:
    """What a sweep found: rows, findings in words, and the learning curve of the best."""

    rows: tuple[SweepRow, ...]
    findings: tuple[str, ...]
    curve: tuple[LearningPoint, ...]


@dataclass(frozen=True)
class TuningPart:
    """What a fine-tuning came to: epochs, the one that was kept, and what to ship."""

    history: tuple[EpochRecord, ...]
    best: int | None
    scores: Mapping[str, Score]
    gain: Score
    advice: str


@dataclass(frozen=True)
class Contents:
    """All that a page says.

    Parameters
    ----------
    kind : {"classifier", "sweep", "fine-tuning"}
        What the source is.
    name : str
        Its file or folder.
    lead : tuple of str
        The summary, a sentence each.
    facts : tuple of (str, str)
        The recipe and the rest of it, name and value.
    bars : tuple of (str, Score)
        Accuracies side by side, what counts most first.
    scored_on : str
        What these were scored on.
    evaluation : Evaluation or Missing
        The scores that the source holds.
    pictures : Pictures or Missing
        What is known image by image.
    notes : tuple of str
        What the user should know.
    commands : tuple of Command
        That made it, as far as is known, or that follow.
    sweep, tuning : SweepPart, TuningPart or None
        What only such a source has.
    classifier : Model or None
        What can explain its decisions; a sweep has none.
    heat_maps : tuple of HeatMap, or Missing
        Of the most telling images; empty where none are asked for.
    """

    kind: str
    name: str
    lead: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    bars: tuple[tuple[str, Score], ...]
    scored_on: str
    evaluation: Evaluation | Missing
    pictures: Pictures | Missing
    notes: tuple[str, ...]
    commands: tuple[Command, ...]
    sweep: SweepPart | None = None
    tuning: TuningPart | None = None
    classifier: Model | None = None
    heat_maps: tuple[HeatMap, ...] | Missing = ()
