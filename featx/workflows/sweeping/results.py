"""The results of a sweep, and the files that hold them: sweep.json and sweep.csv."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featx.documents import FieldError, check_format, conform, read_json
from featx.errors import ModelError
from featx.fitting import Fit
from featx.fitting.cross_validation import HeldOutPredictions, compare
from featx.fitting.learning_curve import LearningPoint
from featx.fitting.settings import ClassifierSettings
from featx.metrics import Score
from featx.outputs import whole_file, write_csv
from featx.recipe import Recipe, size_text
from featx.text import printable
from featx.workflows.sweeping.prepare import Candidate

__all__ = [
    "CurvePoint",
    "FinalScore",
    "ScoredCandidate",
    "Sweep",
    "SweepRecord",
    "SweepRow",
    "Verdict",
    "read_sweep",
    "write_sweep",
]

_FORMAT, _FORMAT_VERSION = "featx-sweep", 2
_COLUMNS = (
    "layers", "pool", "size", "n_features", "accuracy", "low", "high",
    "balanced_accuracy", "bytes_per_image", "seconds_per_image",
)  # fmt: skip


@dataclass(frozen=True)
class ScoredCandidate(Candidate):
    """A candidate and its scores, as sweep.json holds them.

    Parameters
    ----------
    n_features : int
        Features per image.
    accuracy, balanced_accuracy : Score
        Scores on held-out images.
    bytes_per_image : float
        Disk space of an image's codes.
    seconds_per_image : float or None
        Time of an image in the network: the time of the pass, times the fraction of its
        arithmetic that the candidate's layers need. None if not known.
    """

    n_features: int
    accuracy: Score
    balanced_accuracy: Score
    bytes_per_image: float
    seconds_per_image: float | None

    def __post_init__(self) -> None:
        """Check that there are such codes."""
        Recipe(weights="", layers=self.layers, pool=self.pool, size=self.size)


@dataclass(frozen=True)
class SweepRow(ScoredCandidate):
    """A candidate, its scores and its predictions.

    Parameters
    ----------
    held_out : HeldOutPredictions
        Predictions for held-out images; not in sweep.json.
    """

    held_out: HeldOutPredictions = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """A conclusion of a sweep, and the difference that it is drawn from.

    Parameters
    ----------
    verdict : str
        A word for programs, such as "different", "undecided" or "more".
    text : str
        A sentence for people.
    difference : Score or None
        Difference of two accuracies, with its interval; None if there are not two.
    """

    verdict: str
    text: str
    difference: Score | None = None


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Parameters
    ----------
    folder : Path
        Folder with the stores, sweep.json and sweep.csv.
    expected_accuracy : Score
        Accuracy to expect on new images, by nested cross-validation: the best candidate is
        selected again inside each fold. This is the result of the sweep.
    rows : tuple of SweepRow
        The candidates, the cheapest first.
    best : SweepRow
        The row with the highest accuracy, which is optimistic, because it was chosen by it.
    cheapest : SweepRow
        The cheapest row that is not significantly worse than the best.
    selected_in_folds : tuple of Candidate
        The candidate that was selected in each fold.
    final : Fit or None
        With given splits: the best candidate, scored once on the held-out split.
    learning_curve : tuple of LearningPoint
        Accuracy by number of training images, in each fold of the candidate that was selected
        there. The last point is the expected accuracy.
    domain_verdict : Verdict
        Whether the images differ from ImageNet's.
    more_images_verdict : Verdict
        Whether more training images would help.
    commands : tuple of str
        Commands to run next.
    fit : dict
        Settings of the classifier, as keyword arguments of `featx.fit`.
    notes : tuple of str
        Warnings and other notes for the user.
    seconds : float
        Time of this run.
    """

    folder: Path
    expected_accuracy: Score
    rows: tuple[SweepRow, ...]
    best: SweepRow
    cheapest: SweepRow
    selected_in_folds: tuple[Candidate, ...]
    final: Fit | None
    learning_curve: tuple[LearningPoint, ...]
    domain_verdict: Verdict
    more_images_verdict: Verdict
    commands: tuple[str, ...]
    fit: Mapping[str, Any]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain values that JSON can hold.

        Returns
        -------
        dict
            The content of ``sweep.json``.
        """
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            **{name: _plain(value) for name, value in vars(self).items() if name != "folder"},
            "best": str(self.best),
            "cheapest": str(self.cheapest),
            "best_minus_cheapest": _plain(compare(self.best.held_out, self.cheapest.held_out)),
            "selected_in_folds": [str(each) for each in self.selected_in_folds],
            "learning_curve": [
                {**_plain(point), "accuracy": _plain(point.accuracy)}
                for point in self.learning_curve
            ],
        }


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve, as sweep.json holds it.

    Parameters
    ----------
    n_train : int
        Mean number of training images.
    accuracy : Score
        Accuracy on held-out images.
    """

    n_train: int
    accuracy: Score


@dataclass(frozen=True)
class FinalScore:
    """The score of the best candidate on the held-out split, as sweep.json holds it.

    Parameters
    ----------
    scored_on : str
        Name of the split.
    accuracy : Score
        Accuracy on it.
    """

    scored_on: str
    accuracy: Score


@dataclass(frozen=True)
class SweepRecord:
    """The content of sweep.json, as far as it is used; `Sweep` describes the fields.

    Parameters
    ----------
    rows, best, cheapest, expected_accuracy, final, learning_curve, domain_verdict, \
            more_images_verdict, commands, fit, notes
        See `Sweep`; `best` and `cheapest` are texts of rows.
    """

    rows: tuple[ScoredCandidate, ...]
    best: str
    cheapest: str
    expected_accuracy: Score
    final: FinalScore | None
    learning_curve: tuple[CurvePoint, ...]
    domain_verdict: Verdict
    more_images_verdict: Verdict
    commands: tuple[str, str, str]
    fit: ClassifierSettings
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the named rows exist."""
        names = [str(row) for row in self.rows]
        for name in ("best", "cheapest"):
            if getattr(self, name) not in names:
                message = f"{name} is {getattr(self, name)!r:.80}, which is not one of the rows"
                raise ValueError(message)

    @property
    def best_row(self) -> ScoredCandidate:
        """The row with the highest accuracy, which is optimistic."""
        return next(row for row in self.rows if str(row) == self.best)

    @property
    def findings(self) -> tuple[str, str]:
        """The verdicts as text."""
        return self.domain_verdict.text, self.more_images_verdict.text


def _plain(value: Any) -> Any:
    """Return a result as JSON has it, without predictions for single images."""
    if isinstance(value, Fit):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        facts = vars(value).items()
        return {k: _plain(v) for k, v in facts if not isinstance(v, HeldOutPredictions)}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def write_sweep(found: Sweep) -> None:
    """Write sweep.json and sweep.csv into the folder of a sweep."""
    with whole_file(found.folder / "sweep.json") as temporary:
        temporary.write_text(json.dumps(found.to_dict(), indent=2))
    table = []
    for row in found.rows:
        cells = {
            **vars(row),
            **dataclasses.asdict(row.accuracy),
            "accuracy": row.accuracy.value,
            "balanced_accuracy": row.balanced_accuracy.value,
            "layers": "+".join(row.layers),
            "size": size_text(row.size),
        }
        table.append([cells[name] for name in _COLUMNS])
    write_csv(found.folder / "sweep.csv", _COLUMNS, table)


def read_sweep(path: Path | str) -> SweepRecord:
    """Read the results of a sweep.

    Parameters
    ----------
    path : Path or str
        The folder of the sweep, or the sweep.json in it.

    Returns
    -------
    SweepRecord
        The content of sweep.json.

    Raises
    ------
    ModelError
        The file cannot be read, or another version of featx wrote it.
    """
    path = Path(path)
    path = path / "sweep.json" if path.is_dir() else path
    name, folder = printable(str(path)), printable(str(path.parent))
    remedy = (
        f"Run the sweep again; it reuses the stores in the folder: featx sweep IMAGES -o {folder}"
    )
    try:
        facts = read_json(path)
        check_format(facts, _FORMAT, _FORMAT_VERSION)
        return conform(SweepRecord, facts)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or error}. {remedy}"
        raise ModelError(message) from error
    except FieldError as error:
        message = (
            f"{name} does not hold the results of a sweep: {printable(error)}. It was changed, or "
            f"another version of featx wrote it. {remedy}"
        )
        raise ModelError(message) from error
