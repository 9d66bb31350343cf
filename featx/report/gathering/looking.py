"""Image by image: what each was taken for, and where its code lies.

A fit's job comes in, with probabilities of some of its rows; pictures go out, ready
for a page. How the probabilities are had is here too: from the bundle, where it never
saw what was scored, else held out anew. This file knows no HTML.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from featx.codes import GramCoordinates
from featx.codes.matrix import Matrix
from featx.errors import FeatxError
from featx.fitting import FitJob, Model
from featx.fitting.coordinates import coordinates_of
from featx.fitting.cross_validation import evaluate_rows, hold_out
from featx.fitting.nested_selection import cross_validate
from featx.images import as_file
from featx.metrics.evaluation import Evaluation, score_predictions
from featx.report.contents import CodeMap, Copy, Images, Missing, Pictures, as_text
from featx.store import Status

__all__ = ["Predicted", "code_map", "pictures_of", "predict_held_out", "predict_scored"]

#: Points of a map: more of them hide each other, and each has its picture in the page.
MOST_POINTS = 600

Rows = NDArray[np.integer]


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Probabilities (n, k) of some rows of a job, their score, and where they come from."""

    rows: Rows
    shares: Matrix
    classes: tuple[str, ...]
    evaluation: Evaluation
    how: str


def predict_scored(job: FitJob, bundle: Model) -> Predicted:
    """Predict the images that a bundle was scored on, without a look at them before.

    Parameters
    ----------
    job : FitJob
        Of the codes and settings that it was fitted with.
    bundle : Model
        It predicts by itself where it was not fitted on these images.

    Returns
    -------
    Predicted
    """
    on = job.split.scored_on
    if on == "folds" and job.solver.is_exact:
        return predict_held_out(job)
    split = job.scored_splits[0]
    where = on if on != "folds" else "the fold that was kept apart"
    every = np.unique(job.y)
    if job.solver.is_exact and bundle.summary["n_train"] > len(split.fit_rows):
        shares = hold_out(coordinates_of(job).problem, job, split).shares
        how = (
            f"The images of {where}, predicted by a classifier that was fitted anew without them: "
            "the saved one was fitted on all images."
        )
    else:
        shares = np.zeros((len(split.score_rows), len(every)))
        columns = np.searchsorted(every, bundle.classes)
        for part, block in job.joined.matrix(job.rows[split.score_rows]).row_blocks():
            shares[np.ix_(np.arange(len(split.score_rows))[part], columns)] = bundle.predict_proba(
                block
            )
        how = f"The images of {where}, predicted by this classifier, which was not fitted on them."
    classes = tuple(str(label) for label in every)
    evaluation = evaluate_rows(job, every, shares, split.score_rows)
    return Predicted(split.score_rows, shares, classes, evaluation, how)


def predict_held_out(job: FitJob) -> Predicted:
    """Predict images while they are held out; with given splits, those of the training part."""
    judged = cross_validate(job)
    rows = np.sort(job.split.search_rows)
    evaluation = score_predictions(
        judged.y,
        judged.shares,
        judged.classes,
        judged.groups,
        paths=list(job.joined.images.path[job.rows[rows]]),
        seed=judged.seed,
    )
    how = (
        f"Predictions of {job.settings.folds} folds, taken anew: each image is predicted by a "
        "classifier that was fitted without its fold."
    )
    return Predicted(rows, judged.shares, judged.classes, evaluation, how)


def pictures_of(job: FitJob, found: Predicted) -> Pictures:
    """Return all that is known image by image.

    Parameters
    ----------
    job : FitJob
        Whose images.
    found : Predicted
        About some of them.

    Returns
    -------
    Pictures
    """
    n, table = len(job.rows), job.joined.images
    root = as_file(job.joined.provenance.get("root", ""))
    predicted: list[str | None] = [None] * n
    confidence = np.full(n, np.nan)
    best = found.shares.argmax(axis=1)
    for row, column, share in zip(found.rows, best, found.shares.max(axis=1), strict=True):
        predicted[row] = as_text(found.classes[column])
        confidence[row] = share
    images = Images(
        path=tuple(as_text(str(path)) for path in table.path[job.rows]),
        label=tuple(as_text(str(label)) for label in job.y),
        thumbnails=job.joined.thumbnails(job.rows),
        predicted=tuple(predicted),
        confidence=confidence,
        files=tuple(as_file(str(path), root) for path in table.path[job.rows]),
        sha256=tuple(str(digest) for digest in table.sha256[job.rows]),
    )
    failed = np.flatnonzero(table.status == Status.FAILED)
    return Pictures(
        images=images,
        evaluation=found.evaluation,
        how=found.how,
        code_map=code_map(job, job.space.normalise[0]),
        copies=tuple(
            Copy(pair.first, pair.second, pair.exact, pair.correlation) for pair in job.duplicates
        ),
        unreadable=tuple(
            (as_text(str(table.path[row])), as_text(str(table.reason[row]))) for row in failed
        ),
    )


def code_map(job: FitJob, normalise: str) -> CodeMap | Missing:
    """Return the first two principal components of codes, off their exact span.

    Of more than 600 images some are drawn: of each class its share, seed 0.

    Parameters
    ----------
    job : FitJob
        Whose codes.
    normalise : str
        What rows pass through first.
    """
    rows = _drawn(job.y)
    try:
        span = GramCoordinates(unit=normalise != "none", root=normalise == "sqrt-l2").fit(
            job.joined.matrix(job.rows[rows])
        )
    except FeatxError as error:
        return Missing(f"No map of the codes: {error}")
    centred = span.coordinates_ - span.coordinates_.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    if len(lengths) < 2 or not lengths[1] > 1e-9 * lengths[0] > 0:
        return Missing("No map of the codes: they vary in fewer than two directions.")
    points = left[:, :2] * lengths[:2]
    # The sign of a component is anyone's: the longer arm points up and to the right.
    points *= np.where(points.max(axis=0) >= -points.min(axis=0), 1, -1)
    of_variance = lengths**2 / np.sum(lengths**2)
    return CodeMap(rows, points, (float(of_variance[0]), float(of_variance[1])))


def _drawn(y: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the rows of a map: all, or of every class its share."""
    if len(y) <= MOST_POINTS:
        return np.arange(len(y))
    order = np.random.default_rng(0).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # class by class, each at random
    places = np.linspace(0, len(y) - 1, MOST_POINTS).round().astype(int)
    return np.sort(order[places])
