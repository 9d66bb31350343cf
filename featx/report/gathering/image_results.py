"""The results for each image: its prediction, and its place in the map of the codes.

The job of a fit comes in; `ImageResults` go out. Predictions are made by the model if it was
not fitted on the scored images, and by cross-validation otherwise. This file does not know
HTML.
"""

import numpy as np
from numpy.typing import NDArray

from featx.codes.gram import GramCoordinates
from featx.errors import FitError
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
from featx.provenance import Provenance
from featx.report.contents import CodeMap, ImageResults, Images, Missing, as_text, or_missing
from featx.store import Status

__all__ = [
    "NO_IMAGES",
    "image_results",
    "or_few_scores",
    "predict_held_out",
    "predict_scored",
]

#: First part of a message; the reason follows.
NO_IMAGES = "Images cannot be shown"

# More points would hide each other, and each of them has a thumbnail in the page.
_MAX_POINTS = 600

Rows = NDArray[np.integer]


def predict_scored(job: FitJob, model: Model) -> ImageResults:
    """Predict the images that a model was scored on, by classifiers not fitted on them.

    Parameters
    ----------
    job : FitJob
        The codes and settings that the model was fitted with.
    model : Model
        It predicts the images itself, unless it was fitted on them.

    """
    on = job.split.scored_on
    if on == "folds" and job.solver.is_exact:
        return predict_held_out(job)
    split = job.scored_splits[0]
    where = f"the {on} split" if on != "folds" else "the fold that was held out"
    if job.solver.is_exact and model.summary["n_train"] > len(split.fit_rows):
        _, predictions = fit_and_predict(coordinates_of(job).problem, job)
        by = (
            "a classifier that was fitted again without them, because the saved one was fitted on "
            "all images"
        )
    else:
        threshold = None if model.positive is None else model.positive.threshold
        predictions = predict_rows(job, model.predict_proba, model.classes, split, threshold)
        by = "this classifier, which was not fitted on them"
    return image_results(job, predictions, f"The images of {where} are predicted by {by}.")


def predict_held_out(job: FitJob) -> ImageResults:
    """Predict images by cross-validation: the training images, if there are splits."""
    how = (
        f"Cross-validation with {job.settings.folds} folds, repeated for this page: each image is "
        "predicted by a classifier that was fitted without its fold."
    )
    return image_results(job, cross_validate(job), how)


def image_results(job: FitJob, known: HeldOutPredictions, how: str) -> ImageResults:
    """Return what is known about each image of a job, some of which were predicted."""
    n, table = len(job.rows), job.joined.images
    root = as_file(Provenance.from_facts(job.joined.provenance).root or ".")
    classes = np.array([as_text(label) for label in known.classes], object)
    predicted, confidence = np.full(n, None, object), np.full(n, np.nan)
    columns = np.searchsorted(known.classes, known.predicted)
    predicted[known.rows] = classes[columns]
    confidence[known.rows] = known.probabilities[np.arange(len(columns)), columns]
    images = Images(
        path=tuple(as_text(str(path)) for path in table.path[job.rows]),
        label=tuple(as_text(str(label)) for label in job.y),
        thumbnails=job.joined.thumbnails(job.rows),
        predicted=tuple(predicted),
        confidence=confidence,
        files=tuple(as_file(str(path), root) for path in table.path[job.rows]),
        sha256=tuple(map(str, table.sha256[job.rows])),
    )
    failed = table.status == Status.FAILED
    return ImageResults(
        images=images,
        evaluation=known.evaluation(job),
        how=how,
        code_map=or_missing("There is no map of the codes", lambda: _code_map(job)),
        duplicates=tuple(job.duplicates),
        unreadable=tuple(
            (as_text(str(path)), as_text(str(reason)))
            for path, reason in zip(table.path[failed], table.reason[failed], strict=True)
        ),
    )


def or_few_scores(found: Evaluation | None) -> Evaluation | Missing:
    """Return an evaluation, or why there is none."""
    return found or Missing(
        "Some scores are missing, because an earlier version of featx did not store them. Fit "
        "again: featx fit CODES --overwrite"
    )


def _code_map(job: FitJob) -> CodeMap:
    """Return the first two principal components of the normalised codes.

    If there are more than 600 images, a stratified random sample is used, with seed 0.
    """
    rows, normalise = _sampled(job.y), job.space.normalise[0]
    gram = GramCoordinates(unit=normalise != "none", root=normalise == "sqrt-l2")
    gram.fit(job.joined.matrix(job.rows[rows]))
    centred = gram.coordinates_ - gram.coordinates_.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    if len(lengths) < 2 or not lengths[1] > 1e-9 * lengths[0] > 0:
        message = "they vary in fewer than two dimensions."
        raise FitError(message)
    points = left[:, :2] * lengths[:2]
    # The sign of a component is arbitrary: the farthest point gets a positive value.
    points *= np.where(points.max(axis=0) >= -points.min(axis=0), 1, -1)
    first, second, *_ = map(float, lengths**2 / np.sum(lengths**2))
    return CodeMap(rows, points, (first, second))


def _sampled(y: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the rows of the map: all, or the same fraction of each class."""
    if len(y) <= _MAX_POINTS:
        return np.arange(len(y))
    order = np.random.default_rng(0).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # by class, in random order within each
    positions = np.linspace(0, len(y) - 1, _MAX_POINTS).round().astype(int)
    return np.sort(order[positions])
