"""Several codes of the same images, judged on the same folds, and the choice of one judged too.

Jobs come in that differ in their codes alone; what each predicts about images that
it never saw goes out, with what it could say of itself before it saw them. The best
of many is flattered by chance: `select_nested` repeats the whole choice inside each
training part, so that its score is that of whoever does the same.

References
----------
.. [1] G. C. Cawley and N. L. C. Talbot, "On Over-fitting in Model Selection and
   Subsequent Selection Bias in Performance Evaluation", JMLR 2010.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.cluster import Cluster
from featx.codes.matrix import Matrix, Rows
from featx.dataset.folds import make_folds
from featx.dataset.splits import DataSplit
from featx.errors import FitError
from featx.fitting.coordinates import coordinates_of
from featx.fitting.cross_validation import hold_out
from featx.fitting.prepare import FitJob
from featx.metrics.evaluation import Evaluation, score_predictions
from featx.metrics.intervals import Score, paired_difference, wilson

__all__ = [
    "Judged",
    "LearningPoint",
    "compare",
    "cross_validate",
    "learning_curve",
    "select_nested",
]

# Of a class, in the training part; with fewer a point of the curve says little.
_FEWEST_A_CLASS = 5


@dataclass(frozen=True)
class Judged:
    """What a classifier on some codes predicts about images that it never saw.

    Parameters
    ----------
    inside : ndarray of shape (n_parts,)
        Accuracy that the search found inside the training part of each fold.
    shares : ndarray of shape (n, k)
        Probabilities of the judged rows, by class, each row while it was held out.
    part : ndarray of int, shape (n,)
        The fold that held out each row.
    y : ndarray of str, shape (n,)
        Labels of the rows.
    groups : ndarray of int, shape (n,)
        Equal where images belong together.
    classes : tuple of str
        In the order of the shares.
    seed : int
        Of the bootstrap.
    notes : tuple of str
        What the user should know.
    """

    inside: NDArray[np.float64]
    shares: Matrix
    part: NDArray[np.int64]
    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    classes: tuple[str, ...]
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which rows were predicted right."""
        found: NDArray[np.bool_] = np.array(self.classes)[self.shares.argmax(axis=1)] == self.y
        return found

    @property
    def accuracy(self) -> Score:
        """Share of them that is right, with Wilson's interval; no bootstrap is drawn for it."""
        return wilson(int(self.right.sum()), len(self.y))

    def evaluation(self) -> Evaluation:
        """Score the predictions."""
        return score_predictions(
            self.y, self.shares, list(self.classes), self.groups, seed=self.seed
        )


def cross_validate(job: FitJob, cluster: Cluster | None = None) -> Judged:
    """Judge the codes of a job on rows held out; with given splits on folds of the training part.

    Parameters
    ----------
    job : FitJob
        By an exact road. What its `split` scores, with given splits, is not
        looked at.
    cluster : Cluster, optional
        See `coordinates_of`.

    Returns
    -------
    Judged

    Raises
    ------
    FitError
        The labels allow no folds.
    """
    problem, classes = coordinates_of(job, cluster).problem, np.unique(job.y)
    parts = _parts(job)
    held = [hold_out(problem, job, part) for part in parts]
    rows = np.concatenate([part.score_rows for part in parts])
    order = np.argsort(rows)
    of_part = np.repeat(np.arange(len(parts)), [len(part.score_rows) for part in parts])
    return Judged(
        inside=np.array([each.final.choice.accuracy for each in held]),
        shares=np.concatenate([each.shares for each in held])[order],
        part=of_part[order],
        y=job.y[rows[order]],
        groups=job.groups[rows[order]],
        classes=tuple(str(label) for label in classes),
        seed=job.space.seed,
        notes=tuple(dict.fromkeys(note for each in held for note in each.notes)),
    )


def select_nested(judged: Sequence[Judged]) -> tuple[Judged, list[int]]:
    """Return the score of choosing the best: in each fold by what was known inside it.

    Parameters
    ----------
    judged : sequence of Judged
        Of the same rows and folds, the cheapest first: of equals it is chosen.

    Returns
    -------
    Judged
        Each fold is predicted by what was chosen in its training part.
    list of int
        What that was, by fold.
    """
    # Not a number where there were too few images to search on: the last to be taken.
    inside = np.nan_to_num(np.stack([each.inside for each in judged]), nan=-1.0)
    chosen = [int(k) for k in inside.argmax(axis=0)]
    first = judged[0]
    shares = first.shares.copy()
    for part, k in enumerate(chosen):
        rows = first.part == part
        shares[rows] = judged[k].shares[rows]
    return dataclasses.replace(first, inside=inside.max(axis=0), shares=shares, notes=()), chosen


def compare(one: Judged, other: Judged) -> Score:
    """Return by how much `one` is more accurate, with the interval of the paired bootstrap."""
    return paired_difference(one.right, other.right, one.groups, one.seed)


@dataclass(frozen=True)
class LearningPoint:
    """Accuracy after learning from a share of the images.

    Parameters
    ----------
    share : float
        Of the training part of each fold.
    n_train : int
        Images that it holds, as a mean over folds.
    judged : Judged
        On the same rows for each share.
    """

    share: float
    n_train: int
    judged: Judged

    @property
    def accuracy(self) -> Score:
        """With Wilson's interval."""
        return self.judged.accuracy


def learning_curve(
    job: FitJob,
    shares: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    cluster: Cluster | None = None,
) -> tuple[list[LearningPoint], list[str]]:
    """Judge a job's codes after learning from shares of each training part.

    Images that belong together are drawn together, and of every class as many as
    its share; a smaller share's images are among those of a larger one.

    Parameters
    ----------
    job : FitJob
        By an exact road.
    shares : sequence of float, default=(0.1, 0.25, 0.5, 1.0)
        From above 0 to 1.
    cluster : Cluster, optional
        See `coordinates_of`.

    Returns
    -------
    list of LearningPoint
        Without shares that leave fewer than five images of a class.
    list of str
        Which were left out, in words.
    """
    problem, parts = coordinates_of(job, cluster).problem, _parts(job)
    classes = tuple(str(label) for label in np.unique(job.y))
    rows = np.concatenate([part.score_rows for part in parts])
    of_part = np.repeat(np.arange(len(parts)), [len(part.score_rows) for part in parts])
    points, notes = [], []
    for share in shares:
        fitted = [_drawn(job, part.search_rows, share) for part in parts]
        least = min(int(np.unique(job.y[own], return_counts=True)[1].min()) for own in fitted)
        if share < 1 and least < _FEWEST_A_CLASS:
            notes.append(
                f"{share:.0%} of the images leave {least} of a class to learn from: that point of "
                f"the curve is left out, since fewer than {_FEWEST_A_CLASS} say little."
            )
            continue
        held = [
            hold_out(problem, job, dataclasses.replace(part, search_rows=own, fit_rows=own))
            for part, own in zip(parts, fitted, strict=True)
        ]
        judged = Judged(
            inside=np.array([each.final.choice.accuracy for each in held]),
            shares=np.concatenate([each.shares for each in held]),
            part=of_part,
            y=job.y[rows],
            groups=job.groups[rows],
            classes=classes,
            seed=job.space.seed,
        )
        points.append(LearningPoint(share, round(np.mean([len(own) for own in fitted])), judged))
    return points, notes


def _parts(job: FitJob) -> list[DataSplit]:
    """Return folds of all rows, or, with given splits, of those that choices are made on."""
    if job.split.scored_on == "folds":
        return dataclasses.replace(
            job, settings=dataclasses.replace(job.settings, repeats=1)
        ).scored_splits
    rows = job.split.search_rows
    pairs = make_folds(job.y[rows], job.groups[rows], job.space.seed, job.settings.folds)
    if not pairs:
        message = (
            "Fewer than two classes of the training part have two images that do not belong "
            "together, so nothing can be held out to choose on. Add images."
        )
        raise FitError(message)
    nothing = np.zeros(0, int)
    return [
        DataSplit(rows[fitted], nothing, rows[fitted], rows[held], "folds")
        for fitted, held in pairs
    ]


def _drawn(job: FitJob, rows: Rows, share: float) -> Rows:
    """Return a share of each class of some rows, in the rows' order; what belongs together stays.

    The order of the draw is one for all shares.
    """
    if share == 1:
        return rows
    keys, of_row = np.unique(job.groups, return_inverse=True)
    place = np.random.default_rng(job.space.seed).permutation(len(keys))[of_row[rows]]
    kept = np.zeros(len(rows), bool)
    for label in np.unique(job.y[rows]):
        own = np.flatnonzero(job.y[rows] == label)
        own = own[np.argsort(place[own], kind="stable")]
        last = place[own[max(1, round(share * len(own))) - 1]]
        kept[own[place[own] <= last]] = True
    return rows[kept]
