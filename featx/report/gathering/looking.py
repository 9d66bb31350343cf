"""Image by image: what each was taken for, and where its code lies.

A fit's job comes in, with probabilities of some of its rows; pictures go out, ready
for a page. How the probabilities are had is here too: from the bundle, where it never
saw what was scored, else held out anew. This file knows no HTML.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from featx.codes import GramCoordinates
from featx.errors import FeatxError
from featx.fitting import FitJob, Model
from featx.fitting.coordinates import coordinates_of
from featx.fitting.cross_validation import (
    HeldOutPredictions,
    cross_validate,
    fit_and_predict,
    predict_rows,
)
from featx.images import as_file
from featx.metrics.evaluation import Evaluation
from featx.report.contents import CodeMap, Copy, Images, Missing, Pictures, as_text
from featx.store import Status

__all__ = ["ShownPredictions", "code_map", "pictures_of", "predict_held_out", "predict_scored"]

#: Points of a map: more of them hide each other, and each has its picture in the page.
MOST_POINTS = 600

Rows = NDArray[np.integer]


@dataclasses.dataclass(frozen=True)
class ShownPredictions:
    """Held-out predictions of a job, their score, and a sentence on how they were made."""

    predictions: HeldOutPredictions
    evaluation: Evaluation
    how: str


def predict_scored(job: FitJob, bundle: Model) -> ShownPredictions:
    """Predict the images that a model was scored on, by classifiers not fitted on them.

    Parameters
    ----------
    job : FitJob
        The codes and settings that the model was fitted with.
    bundle : Model
        It predicts the images itself, unless it was fitted on them.

    Returns
    -------
    ShownPredictions
    """
    on = job.split.scored_on
    if on == "folds" and job.solver.is_exact:
        return predict_held_out(job)
    split = job.scored_splits[0]
    where = on if on != "folds" else "the fold that was held out"
    if job.solver.is_exact and bundle.summary["n_train"] > len(split.fit_rows):
        _, predictions = fit_and_predict(coordinates_of(job).problem, job)
        how = (
            f"Predictions of the images of {where} by a classifier that was fitted again without "
            "them, because the saved one was fitted on all images."
        )
    else:
        predictions = predict_rows(job, bundle.predict_proba, bundle.classes, split.score_rows)
        how = (
            f"Predictions of the images of {where} by this classifier, which was not fitted on "
            "them."
        )
    return ShownPredictions(predictions, predictions.evaluation(job), how)


def predict_held_out(job: FitJob) -> ShownPredictions:
    """Predict images by cross-validation; of a given split, the training images."""
    predictions = cross_validate(job)
    how = (
        f"Predictions of {job.settings.folds} folds, made again for this page: each image is "
        "predicted by a classifier that was fitted without its fold."
    )
    return ShownPredictions(predictions, predictions.evaluation(job), how)


def pictures_of(job: FitJob, found: ShownPredictions) -> Pictures:
    """Return all that is known image by image.

    Parameters
    ----------
    job : FitJob
        Whose images.
    found : ShownPredictions
        Predictions of some of them.

    Returns
    -------
    Pictures
    """
    n, table = len(job.rows), job.joined.images
    root = as_file(job.joined.provenance.get("root", ""))
    predicted: list[str | None] = [None] * n
    confidence = np.full(n, np.nan)
    known = found.predictions
    confidence[known.rows] = known.probabilities.max(axis=1)
    for row, column in zip(known.rows, known.probabilities.argmax(axis=1), strict=True):
        predicted[row] = as_text(known.classes[column])
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
