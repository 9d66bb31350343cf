"""The summary and the provenance of a model, as far as a page shows them, checked.

The dictionaries of a `Model` come in; dataclasses go out. A model of another program, or one that
was changed, may hold anything under these names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from featx.choices import Calibration
from featx.documents import conform
from featx.finetuning.heads import Normalise
from featx.fitting import Model
from featx.fitting.settings import FitSettings
from featx.metrics import Score
from featx.metrics.decisions import PositiveClass
from featx.provenance import Provenance

__all__ = ["FitOrigin", "FitRecord", "records_of"]


@dataclass(frozen=True)
class PixelScore:
    """Accuracy of a classifier on raw pixels."""

    classifier: str
    value: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        """Check the interval, which comes from a file."""
        Score(self.value, self.low, self.high)

    @property
    def score(self) -> Score:
        """The accuracy alone."""
        return Score(self.value, self.low, self.high)


@dataclass(frozen=True)
class Baselines:
    """Accuracies to compare with."""

    majority: Score
    pixels: PixelScore


@dataclass(frozen=True)
class WithoutDuplicates:
    """Accuracy on images that have no near-duplicate."""

    n_images: int
    accuracy: Score


@dataclass(frozen=True)
class ThresholdRecord:
    """The probability from which on the saved classifier predicts the positive class."""

    label: str
    value: float
    rule: str

    @property
    def decision(self) -> str:
        """How the label follows from the probabilities, in words."""
        return PositiveClass(self.label, self.value, self.rule).decision


@dataclass(frozen=True)
class FitRecord:
    """The summary of a fit; `featx.fitting.run` writes it."""

    classifier: str
    normalise: Normalise
    calibration: Calibration
    solver: str
    seed: int
    seconds: float
    n_train: int
    labels: tuple[str, ...]
    n_images: int
    scored_on: str
    accuracy: Score
    parameters: Mapping[str, Any]
    codes: tuple[str, ...]
    notes: tuple[str, ...]
    repeat_accuracies: tuple[float, ...] = ()
    whiten: bool = False
    components: int | None = None
    without_duplicates: WithoutDuplicates | None = None
    baselines: Baselines | None = None
    threshold: ThresholdRecord | None = None


@dataclass(frozen=True)
class FitOrigin:
    """The codes that a model was fitted on, and the settings of `featx.fit`."""

    extraction: Provenance
    codes: tuple[str, ...]
    settings: Annotated[FitSettings, FitSettings.from_stored]


def records_of(model: Model) -> tuple[FitRecord, FitOrigin]:
    """Return the checked summary and provenance of a model.

    Raises
    ------
    FieldError
        A value does not fit.
    """
    return conform(FitRecord, model.summary), conform(FitOrigin, model.provenance)
