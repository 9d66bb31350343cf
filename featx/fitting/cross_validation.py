"""Choosing, fitting and scoring: what is scored was never looked at before.

Coordinates and a job come in; a classifier and its score go out. What is
chosen is chosen inside the training part. With given splits the classifier is
fitted on train and scored on val, or on train and val and scored on test;
without, folds are scored, each with a search of its own.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from featx.codes.gram import GramCoordinates
from featx.codes.matrix import Matrix, Rows
from featx.codes.pixels import pixel_features
from featx.dataset.splits import (
    DataSplit,
    inner_folds,
    shares_training_group,
    small_class_notes,
)
from featx.errors import FitError
from featx.fitting.calibration import calibrate
from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.prepare import FitJob
from featx.fitting.selection import Choice, search, train
from featx.fitting.single_fit import FittedClassifier, Problem
from featx.metrics.evaluation import Evaluation, count_majority_correct, score_predictions
from featx.metrics.intervals import wilson

__all__ = [
    "Final",
    "Held",
    "Scored",
    "evaluate_rows",
    "hold_out",
    "score",
    "score_baselines",
    "without_duplicates",
]


@dataclass(frozen=True)
class Final:
    """What was chosen, fitted on some rows, with its calibration."""

    choice: Choice
    model: FittedClassifier
    calibrator: BaseEstimator
    rows: Rows

    def probabilities(self, X: Matrix, classes: NDArray[np.str_]) -> Matrix:
        """Return probabilities of all classes; 0 for those that it does not know."""
        out = np.zeros((len(X), len(classes)))
        columns = np.searchsorted(classes, self.model.classes)
        out[:, columns] = self.calibrator.predict_proba(self.model.decide(X))
        return out


@dataclass(frozen=True)
class Scored:
    """A final classifier, and its score on rows that were kept apart."""

    final: Final
    on: str
    evaluation: Evaluation
    parts: tuple[DataSplit, ...]
    without_duplicates: dict[str, Any] | None
    notes: tuple[str, ...]


def score(problem: Problem, job: FitJob) -> Scored:
    """Choose, fit and score: on the rows that were kept apart, or else on folds.

    Parameters
    ----------
    problem : Problem
        Coordinates and labels of the job's rows.
    job : FitJob
        What is chosen from, and which rows are scored.

    Raises
    ------
    FitError
        The training part is all of one class, or nothing can be held out.
    """
    classes, split = np.unique(job.y), job.split
    final, notes = _choose(problem, job, split)
    if split.scored_on != "folds":
        X = problem.coordinates[final.choice.normalise][split.score_rows]
        shares = final.probabilities(X, classes)
        evaluation = evaluate_rows(job, classes, shares, split.score_rows)
        without = without_duplicates(job, classes, shares, split)
        return Scored(final, split.scored_on, evaluation, (split,), without, tuple(notes))
    parts = job.scored_splits
    shares, of_folds = _held_out(problem, job, parts, classes)
    evaluation = evaluate_rows(job, classes, shares, split.score_rows)
    n_folds = len(parts) // job.settings.repeats
    on = f"{n_folds} folds" + (
        f", {job.settings.repeats} times" if job.settings.repeats > 1 else ""
    )
    y, keys = job.y[split.score_rows], job.groups[split.score_rows]
    notes = [
        *small_class_notes(y, keys, job.settings.folds),
        *notes,
        *(f"In a fold that was scored: {note}" for note in of_folds),
    ]
    return Scored(final, on, evaluation, tuple(parts), None, tuple(notes))


def evaluate_rows(job: FitJob, classes: NDArray[np.str_], shares: Matrix, rows: Rows) -> Evaluation:
    """Score probabilities (n_repeats x n, k) of some rows, once or several times over."""
    n_repeats = len(shares) // len(rows)
    return score_predictions(
        np.tile(job.y[rows], n_repeats),
        shares,
        [str(label) for label in classes],
        np.tile(job.groups[rows], n_repeats),
        n_repeats=n_repeats,
        paths=list(job.joined.images.path[job.rows[rows]]),
        seed=job.space.seed,
    )


def without_duplicates(
    job: FitJob, classes: NDArray[np.str_], shares: Matrix, split: DataSplit
) -> dict[str, Any] | None:
    """Score again without what has a copy among the fitted rows; None if that changes nothing."""
    apart = ~shares_training_group(job.groups, split)
    if apart.all() or not apart.any():
        return None
    evaluation = evaluate_rows(job, classes, shares[apart], split.score_rows[apart])
    return {
        "n_images": evaluation.n_images,
        "accuracy": dataclasses.asdict(evaluation.accuracy),
        "balanced_accuracy": dataclasses.asdict(evaluation.balanced_accuracy),
    }


def _held_out(
    problem: Problem, job: FitJob, parts: Sequence[DataSplit], classes: NDArray[np.str_]
) -> tuple[Matrix, list[str]]:
    """Return probabilities of the scored rows, repeat after repeat, and notes."""
    rows = job.split.score_rows
    place = {int(row): k for k, row in enumerate(rows)}
    n_repeats = sum(len(part.score_rows) for part in parts) // len(rows)
    shares = np.zeros((n_repeats, len(rows), len(classes)))
    notes: list[str] = []
    per_repeat = len(parts) // n_repeats
    for k, part in enumerate(parts):
        held = hold_out(problem, job, part)
        shares[k // per_repeat, [place[int(row)] for row in part.score_rows]] = held.shares
        notes += [note for note in held.notes if note not in notes]
    return shares.reshape(-1, len(classes)), notes


@dataclass(frozen=True)
class Held:
    """What was chosen and fitted inside a part, and what it says of the rows held out.

    Parameters
    ----------
    final : Final
        The classifier.
    shares : ndarray of shape (n, k)
        Probabilities of the part's scored rows, by class of the job.
    notes : tuple of str
        What the user should know.
    """

    final: Final
    shares: Matrix
    notes: tuple[str, ...]


def hold_out(problem: Problem, job: FitJob, part: DataSplit) -> Held:
    """Choose, fit and calibrate inside a part, and predict the rows that it scores.

    Parameters
    ----------
    problem : Problem
        Coordinates and labels of the job's rows.
    job : FitJob
        What is chosen from.
    part : DataSplit
        Its `scored` rows are looked at last.

    Raises
    ------
    FitError
        The training part is all of one class.
    """
    final, notes = _choose(problem, job, part)
    X = problem.coordinates[final.choice.normalise][part.score_rows]
    return Held(final, final.probabilities(X, np.unique(job.y)), tuple(notes))


def _choose(problem: Problem, job: FitJob, part: DataSplit) -> tuple[Final, list[str]]:
    """Choose inside a part, fit what was chosen, and calibrate on what was held out."""
    notes = []
    space = job.space
    if len(np.unique(job.y[part.fit_rows])) < 2:
        message = "The training images are all of one class. A classifier needs two."
        raise FitError(message)
    rows, pairs = inner_folds(part, job.y, job.groups, space.seed)
    choice = search(problem, rows, pairs, space)
    if not pairs and (choice.kind.parameter or len(space.kinds) > 1):
        notes.append("Too few images to choose settings on: scikit-learn's default was used.")
    model = train(problem, part.fit_rows, choice, space)
    if not (choice.converged and model.converged):
        notes.append(
            f"{choice.kind.name} ended before it converged. Use --set max_iter=100000, or --C "
            "with smaller values."
        )
    found, y = choice.decisions, job.y[choice.rows]
    known = np.unique(job.y[rows])
    wide = np.full((len(found), len(model.classes)), -np.inf)
    wide[:, np.searchsorted(model.classes, known)] = found
    calibrator = calibrate(wide, y, model.classes, job.settings.calibration)
    if not pairs and job.settings.calibration != "none":
        notes.append("Too few images to calibrate on: probabilities are as the decisions are.")
    return Final(choice, model, calibrator, part.fit_rows), notes


def score_baselines(job: FitJob, scored: Scored) -> dict[str, Any]:
    """Score the majority class, and the same classifier on pixels and colours."""
    n_right = n_scored = 0
    for part in scored.parts:
        n_right += count_majority_correct(job.y[part.fit_rows], job.y[part.score_rows])
        n_scored += len(part.score_rows)
    n_images = len(job.split.score_rows)
    majority = wilson(n_right * n_images / n_scored, n_images)
    kind = scored.final.choice.kind
    # What looks at single columns takes hours on thousands of pixels.
    kind = kind if kind.is_rotation_invariant else CLASSIFIERS["logistic"]
    settings = job.space.settings if kind is scored.final.choice.kind else {}
    # Without components, which are for small files: the baseline is to be a good one.
    space = dataclasses.replace(
        job.space,
        kinds=(kind,),
        normalise=("l2",),
        settings=settings,
        is_fine=False,
        components=None,
        whiten=False,
    )
    own = dataclasses.replace(
        job, space=space, settings=dataclasses.replace(job.settings, repeats=1)
    )
    span = GramCoordinates().fit(pixel_features(job.joined.thumbnails(job.rows)))
    problem = Problem({"l2": span.coordinates_}, job.y)
    evaluation = score(problem, own).evaluation
    return {
        "majority": dataclasses.asdict(majority),
        "pixels": {"classifier": kind.name, **dataclasses.asdict(evaluation.accuracy)},
    }
