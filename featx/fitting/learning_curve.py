"""Learning curve: accuracy against the number of training images.

Jobs come in, one for each fold; the cross-validated accuracy on fractions of each training set
goes out, which shows whether more images would help.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.cluster import Cluster
from featx.codes.matrix import Rows
from featx.fitting.coordinates import coordinates_of
from featx.fitting.cross_validation import HeldOutPredictions, cross_validate, join_folds
from featx.fitting.prepare import FitJob
from featx.metrics.intervals import Score
from featx.text import counted

__all__ = ["LearningPoint", "learning_curve"]

# With fewer training images of a class, a point of the curve means little.
_FEWEST_PER_CLASS = 5


@dataclass(frozen=True)
class LearningPoint:
    """Held-out predictions after fitting on a fraction of the images.

    Parameters
    ----------
    fraction : float
        Fraction of the training set of each fold.
    n_train : int
        Mean number of training images.
    predictions : HeldOutPredictions
        Predictions for the same rows at every fraction.
    """

    fraction: float
    n_train: int
    predictions: HeldOutPredictions

    @property
    def accuracy(self) -> Score:
        """Accuracy on held-out images."""
        return self.predictions.accuracy


def learning_curve(
    jobs: Sequence[FitJob],
    fractions: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    cluster: Cluster | None = None,
) -> tuple[list[LearningPoint], list[str]]:
    """Cross-validate on fractions of each training set.

    Each class keeps the same fraction of its images, images of one group stay together, and the
    images of a smaller fraction are among those of a larger one.

    The best of several candidates on all images owes some of its accuracy to chance, so it would
    seem to gain by the last images. A candidate that was selected inside the training set of a
    fold does not (see `select_nested`), and so each fold has its own job.

    Parameters
    ----------
    jobs : sequence of FitJob
        The job of each of the training folds, with an exact solver. All jobs have the same images,
        folds and seed; they differ in their codes.
    fractions : sequence of float, default=(0.1, 0.25, 0.5, 1.0)
        Fractions of the training set, greater than 0 and at most 1.
    cluster : Cluster, optional
        See `coordinates_of`.

    Returns
    -------
    list of LearningPoint
        One point for each fraction that leaves at least five images of each class.
    list of str
        Notes about the other fractions.
    """
    job, notes = jobs[0], []
    splits = job.training_folds
    drawings: dict[float, list[Rows]] = {}
    for fraction in fractions:
        drawn = [_draw(job, split.search_rows, fraction) for split in splits]
        fewest = min(int(np.unique(job.y[rows], return_counts=True)[1].min()) for rows in drawn)
        if fraction < 1 and fewest < _FEWEST_PER_CLASS:
            notes.append(
                f"The learning curve has no point at {fraction:.0%} of the images, which leaves "
                f"{counted(fewest, 'training image')} of a class; it needs {_FEWEST_PER_CLASS}."
            )
            continue
        drawings[fraction] = drawn
    parts: dict[float, list[HeldOutPredictions]] = {fraction: [] for fraction in drawings}
    for own in {id(each): each for each in jobs}.values():
        problem = coordinates_of(own, cluster).problem  # of one job at a time, to save memory
        for fraction, drawn in drawings.items():
            smaller = [
                dataclasses.replace(split, search_rows=rows, fit_rows=rows)
                for split, rows, of in zip(splits, drawn, jobs, strict=True)
                if of is own
            ]
            parts[fraction].append(cross_validate(own, smaller, problem=problem))
    points = [
        LearningPoint(
            fraction, round(np.mean([len(rows) for rows in drawn])), join_folds(parts[fraction])
        )
        for fraction, drawn in drawings.items()
    ]
    return points, notes


def _draw(job: FitJob, rows: Rows, fraction: float) -> Rows:
    """Return a fraction of the rows of each class, whole groups, in one order for all fractions."""
    if fraction == 1:
        return rows
    groups, group_of = np.unique(job.groups, return_inverse=True)
    rank = np.random.default_rng(job.space.seed).permutation(len(groups))[group_of[rows]]
    kept = np.zeros(len(rows), bool)
    for label in np.unique(job.y[rows]):
        own = np.flatnonzero(job.y[rows] == label)
        own = own[np.argsort(rank[own], kind="stable")]
        last = rank[own[max(1, round(fraction * len(own))) - 1]]
        kept[own[rank[own] <= last]] = True
    return rows[kept]
