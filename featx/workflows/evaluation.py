"""Evaluation: labelled images or stores and a model come in, scores go out.

Predictions are made by `featx.workflows.predicting`. Images that tell nothing new about the model
are scored separately: those that it was fitted on, found by the sha256 of their files, their
near-duplicates and images of their groups, found by the fingerprints that a model holds instead of
images.
"""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.choices import Duplicates
from featx.dataset.duplicates import find_duplicates
from featx.dataset.folds import group_numbers
from featx.dataset.labels import check_columns, relabel
from featx.errors import ImagesError, OptionError
from featx.fitting import Model
from featx.images import THUMBNAIL_SIZE, read_digest
from featx.metrics import Evaluation, Score, score_predictions
from featx.metrics.decisions import PositiveClass
from featx.metrics.intervals import Sample
from featx.metrics.two_classes import check_positive, score_positive
from featx.signatures import prepared_by, takes_fields_of
from featx.tables import table_name
from featx.text import counted
from featx.workflows.predicting.classifying import probability_blocks
from featx.workflows.predicting.prepare import PredictionJob, listed, prepare_job
from featx.workflows.settings import EvaluationSettings

__all__ = [
    "EvaluationJob",
    "ModelEvaluation",
    "classified",
    "evaluate",
    "known_images",
    "prepare_evaluation",
    "run_evaluation",
]


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEvaluation:
    """Scores of a model on images that are new to it.

    Parameters
    ----------
    evaluation : Evaluation
        Scores on those images alone.
    n_training_images : int
        Number of further images, which the model was fitted on, on near-duplicates of them or on
        other images of their groups.
    training_accuracy : Score or None
        Accuracy on these; None if there are none. It has no interval, because it says nothing
        about new images.
    notes : tuple of str
        Warnings and other notes for the user: images left out, unknown labels.
    """

    evaluation: Evaluation
    n_training_images: int
    training_accuracy: Score | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and notes as plain values that JSON can hold.

        Returns
        -------
        dict
            The output of ``featx evaluate --json``.
        """
        found = self.training_accuracy
        accuracy = None if found is None else dataclasses.asdict(found)
        return {
            **self.evaluation.to_dict(),
            "training_images": {"n_images": self.n_training_images, "accuracy": accuracy},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class EvaluationJob(PredictionJob):
    """An evaluation that is ready to run; `prepare_evaluation` makes it.

    It is a prediction for labelled images.

    Parameters
    ----------
    y : ndarray of str, shape (n,)
        Labels of the images.
    groups : ndarray of int, shape (n,)
        Equal for images of one group or with equal bytes.
    fitted : ndarray of bool, shape (n,)
        Whether the model was fitted on each image, by its bytes.
    of_known_group : ndarray of bool, shape (n,)
        Whether the model was fitted on an image of the same group.
    duplicates : {"together", "keep"}
        Whether near-duplicates are found.
    notes : tuple of str
        Warnings and other notes for the user.
    positive : str or None, default=None
        The class to find, of two.
    """

    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    fitted: NDArray[np.bool_]
    of_known_group: NDArray[np.bool_]
    duplicates: Duplicates
    notes: tuple[str, ...]
    positive: str | None = None


@takes_fields_of(EvaluationSettings)
def prepare_evaluation(settings: EvaluationSettings) -> EvaluationJob:
    """Check the settings of an evaluation and plan its work; TensorFlow is not imported.

    The files of labelled images are read once, to find those that the model was fitted on.

    Returns
    -------
    EvaluationJob
        For `run_evaluation`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.
    ImagesError
        No image has a label, or the model was fitted on all of them.
    ModelError, StoreError, FitError, WeightsError
        The model, the stores, the table or the weights cannot be found or used.
    RecipeMismatchError
        The codes or the weights differ from those that the model was fitted on.
    """
    # With a manifest, --path-column names a column of the manifest.
    path_column = settings.path_column if settings.manifest is None else None
    check_columns(dataclasses.replace(settings, path_column=path_column))
    records = listed(settings.inputs, settings.manifest, settings.path_column, labelled=True)
    job = prepare_job(settings, settings.inputs, records, labelled=True)
    if settings.positive is not None:
        check_positive(settings.positive, job.model.classes)
    job, notes = _relabelled(job, settings)
    labelled = _labelled(job, settings, notes)
    return dataclasses.replace(labelled, positive=settings.positive or _positive_of(job.model))


@prepared_by(prepare_evaluation)
def evaluate(job: EvaluationJob) -> ModelEvaluation:
    """Score a model on labelled images that it was not fitted on.

    Images that the model was fitted on are found by the sha256 of their files, and scored
    separately, and so are near-duplicates of them and images of their groups. The probabilities
    and thumbnails of all images are in memory.

    Returns
    -------
    ModelEvaluation
        Scores on the images that the model was not fitted on, and its accuracy on the others.
    """
    return run_evaluation(job)


def run_evaluation(job: EvaluationJob) -> ModelEvaluation:
    """Run a job that `prepare_evaluation` returned; see `evaluate`."""
    classes, notes = job.model.classes, list(job.notes)
    probabilities, thumbnails = classified(job)
    known, groups, known_notes = known_images(job, thumbnails)
    notes += known_notes
    readable = ~np.isnan(probabilities).any(axis=1)
    if not readable.all():
        n_unreadable = counted(int(np.sum(~readable)), "image")
        notes.append(f"Left out: {n_unreadable} that cannot be read.")
    scored = np.flatnonzero(readable & ~known)
    if not len(scored):
        n_fitted, n_others = int(np.sum(known)), int(np.sum(~known))
        message = (
            f"No image is left to score: the model was fitted on {n_fitted} of the images, on "
            f"near-duplicates of them or on their groups, and the other {n_others} could not be "
            "read. Use other images, or --duplicates keep to count near-duplicates as new images."
        )
        raise ImagesError(message)
    every = slice(None)
    names = job.paths(every) if job.joined is not None else [str(file) for file in job.files(every)]
    labels = np.array(classes)[job.model.predicted_columns(probabilities)]
    evaluation = score_predictions(
        job.y[scored],
        probabilities[scored],
        classes,
        groups[scored],
        predicted=labels[scored],
        paths=[names[row] for row in scored],
    )
    if job.positive is not None:
        positive = score_positive(
            _decided(job.positive, job.model),
            job.y[scored],
            probabilities[scored],
            labels[scored],
            classes,
            Sample.of(len(scored), groups[scored]),
        )
        evaluation = dataclasses.replace(evaluation, positive=positive)
    fitted = np.flatnonzero(readable & known)
    training_accuracy = None
    if len(fitted):
        training_accuracy = Score(float(np.mean(labels[fitted] == job.y[fitted])))
    notes += evaluation.notes
    return ModelEvaluation(evaluation, len(fitted), training_accuracy, tuple(notes))


def classified(job: EvaluationJob) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return the probabilities of all images, NaN if one cannot be read, and their thumbnails."""
    probabilities = np.empty((len(job.y), len(job.model.classes)))
    thumbnails = np.zeros((len(job.y), *THUMBNAIL_SIZE, 3), np.uint8)
    if job.joined is not None:
        thumbnails = job.joined.thumbnails(np.arange(len(job.y)))
    for block in probability_blocks(job):
        probabilities[block.images] = block.probabilities
        if block.thumbnails is not None:
            thumbnails[block.images] = block.thumbnails
    return probabilities, thumbnails


def known_images(
    job: EvaluationJob, thumbnails: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.int32], list[str]]:
    """Return which images tell nothing new about the model, the groups of all, and notes.

    These are the training images, near-duplicates of them, and images of their groups.
    """
    groups, near, notes = job.groups, np.zeros(len(job.y), bool), []
    fingerprints = job.model.fingerprints
    if job.duplicates == "together":
        # Thumbnails decide, so that images and their store give the same pairs.
        nothing = np.full(len(job.y), "", object), np.zeros(len(job.y), np.uint64)
        pairs = [(pair.first, pair.second) for pair in find_duplicates(*nothing, thumbnails)]
        groups = group_numbers(map(str, groups), pairs=pairs)
        if fingerprints is not None:
            near = fingerprints.are_near(thumbnails) & ~job.fitted
    seen = job.fitted | near | job.of_known_group
    related = np.isin(groups, groups[seen]) & ~job.fitted & ~near
    if n_near := int(np.sum(near)):
        notes.append(
            f"{counted(n_near, 'near-duplicate')} of images that the model was fitted on, scored "
            "with the training images. Use --duplicates keep to score them as new images."
        )
    if n_related := int(np.sum(related)):
        notes.append(
            f"{counted(n_related, 'image')} in the same group as an image that the model was "
            "fitted on, scored with the training images."
        )
    if fingerprints is None and job.model.fitted_on and job.duplicates == "together":
        notes.append(
            "The scores may be too high if there are near-duplicates of training images, or "
            "images of their groups: the model was fitted by featx 0.1, and does not know these. "
            "Fit it again: featx fit --overwrite"
        )
    return seen | related, groups, notes


def _positive_of(model: Model) -> str | None:
    return None if model.positive is None else model.positive.label


def _decided(label: str, model: Model) -> PositiveClass:
    """Return a class with the probability from which on the model predicts it."""
    own = model.positive
    if own is None or own.threshold is None:
        return PositiveClass(label)
    if own.label == label:
        return own
    return PositiveClass(label, 1 - own.threshold, own.rule)


def _relabelled(
    job: PredictionJob, settings: EvaluationSettings
) -> tuple[PredictionJob, list[str]]:
    if settings.labels is None:
        return job, []
    if job.joined is None:
        message = (
            f"--labels {table_name(settings.labels)} is for the images of a store, but the input "
            "is image files. List these with their labels in a table: --manifest TABLE"
        )
        raise OptionError(message)
    images, notes = relabel(job.joined.images, settings)
    return dataclasses.replace(job, joined=dataclasses.replace(job.joined, images=images)), notes


def _labelled(job: PredictionJob, settings: EvaluationSettings, notes: list[str]) -> EvaluationJob:
    """Keep the images of the split that have a label and, in a store, codes."""
    label, splits, group = (job.column(name) for name in ("label", "split", "group"))
    chosen, split = np.ones(len(label), bool), settings.split
    if split is not None:
        chosen = splits == split
        if not chosen.any():
            found = sorted({each for each in splits if each is not None})
            own = f"their splits are {', '.join(found)}" if found else "they have no splits"
            message = f"No image belongs to the split '{split}'; {own}. Use another --split."
            raise ImagesError(message)
    has_label = np.array([each is not None for each in label], bool)
    rows = chosen & has_label
    if not rows.any():
        message = (
            "No image has a label, so there is nothing to score. Labels come from class folders "
            "(data/CLASS/… or data/train/CLASS/…), from a table that lists images "
            "(--manifest TABLE) or, for a store, from a table of its paths (--labels TABLE)."
        )
        raise ImagesError(message)
    if n_without := int(np.sum(chosen & ~has_label)):
        notes.append(f"Left out: {counted(n_without, 'image')} without a label.")
    if job.joined is not None:
        if n_without := int(np.sum(rows & ~job.joined.images.done)):
            notes.append(f"Left out: {counted(n_without, 'image')} without codes.")
        rows &= job.joined.images.done
        if not rows.any():
            message = (
                f"No image of {job.joined.path} has both a label and codes. List the images "
                f"without codes: featx info {job.joined.path} --bad"
            )
            raise ImagesError(message)
    kept = np.flatnonzero(rows)
    y = label[kept].astype(str)
    return _compared(job.take(kept), y, group[kept], settings.duplicates, notes)


def _compared(
    job: PredictionJob,
    y: NDArray[np.str_],
    group: NDArray[np.object_],
    duplicates: Duplicates,
    notes: list[str],
) -> EvaluationJob:
    """Find the images that the model was fitted on, and what else makes a score too high."""
    model, digests = job.model, _digests(job)
    fitted_digests = set(model.fitted_on)
    fitted = np.array([bool(digest) and digest in fitted_digests for digest in digests], bool)
    if fitted.all():
        message = (
            f"No image is left to score: the model was fitted on all {len(y)} labelled images. Use "
            "images that the model was not fitted on."
        )
        raise ImagesError(message)
    groups = group_numbers(group, digests)
    if not fitted_digests:
        notes.append(
            "The scores may be too high: the model does not record which images it was fitted on."
        )
    of_known_group = np.zeros(len(y), bool)
    if model.fingerprints is not None:
        of_known_group = model.fingerprints.have_group(group)
    return EvaluationJob(
        **vars(job),
        y=y,
        groups=groups,
        fitted=fitted,
        of_known_group=of_known_group,
        duplicates=duplicates,
        notes=tuple(notes),
    )


def _digests(job: PredictionJob) -> list[str]:
    """Return the sha256 of each image file; "" if it cannot be read."""
    if job.joined is not None:
        return [str(digest) for digest in job.joined.images.sha256]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        files = [record.file for record in job.records]
        return [digest.sha256 for digest in pool.map(read_digest, files)]
