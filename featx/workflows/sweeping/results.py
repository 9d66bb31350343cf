"""The results of a sweep, and the files that hold them: sweep.json and sweep.csv."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featx.errors import ModelError
from featx.fitting import Fit
from featx.fitting.cross_validation import HeldOutPredictions, compare
from featx.fitting.learning_curve import LearningPoint
from featx.metrics import Score
from featx.outputs import whole_file, write_csv
from featx.recipe import size_text
from featx.text import printable
from featx.workflows.sweeping.prepare import Candidate

__all__ = ["ScoredCandidate", "Sweep", "SweepRow", "Verdict", "read_sweep", "write_sweep"]

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
    rows : tuple of SweepRow
        The candidates, the cheapest first.
    best : SweepRow
        The row with the highest accuracy.
    cheapest : SweepRow
        The cheapest row that is not significantly worse than the best.
    expected_accuracy : Score
        Accuracy to expect on new images, by nested cross-validation: the best candidate is
        selected again inside each fold.
    selected_in_folds : tuple of Candidate
        The candidate that was selected in each fold.
    final : Fit or None
        With given splits: the best candidate, scored once on the held-out split.
    learning_curve : tuple of LearningPoint
        Accuracy of the best candidate by number of training images.
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
    rows: tuple[SweepRow, ...]
    best: SweepRow
    cheapest: SweepRow
    expected_accuracy: Score
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


def read_sweep(path: Path | str) -> dict[str, Any]:
    """Read the results of a sweep.

    Parameters
    ----------
    path : Path or str
        The folder of the sweep, or the sweep.json in it.

    Returns
    -------
    dict
        The content of sweep.json; see `Sweep.to_dict`.

    Raises
    ------
    ModelError
        The file cannot be read, or another version of featx wrote it.
    """
    path = Path(path)
    path = path / "sweep.json" if path.is_dir() else path
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = f"{facts['format']} version {facts.get('format_version', 1)}"
        if found != f"{_FORMAT} version {_FORMAT_VERSION}":
            raise ValueError(found)
    except (OSError, ValueError, LookupError, TypeError) as error:
        message = (
            f"{printable(str(path))} cannot be read as the result of a sweep ({error!r}): it is "
            "damaged, or another version of featx wrote it. Run the sweep again; it reuses the "
            f"stores in the folder: featx sweep IMAGES -o {printable(str(path.parent))}"
        )
        raise ModelError(message) from error
    return facts
