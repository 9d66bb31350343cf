"""Evaluation: labelled images or stores and a model come in, scores go out.

Predictions are made by `featx.workflows.predicting`. Images that the model was fitted on,
found by the sha256 of their files, are scored separately. Near-duplicates of them are not
found, since a model holds no images.
"""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.dataset.folds import group_numbers
from featx.dataset.labels import check_columns, relabel
from featx.errors import ImagesError, OptionError
from featx.fitting import Model
from featx.images import read_digest
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
    "evaluate",
    "prepare_evaluation",
    "run_evaluation",
]


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEvaluation:
    """Scores of a model on images that it was not fitted on.

    Parameters
    ----------
    evaluation : Evaluation
        Scores on those images alone.
    n_training_images : int
        Number of further images, which the model was fitted on.
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
        Whether the model was fitted on each image.
    notes : tuple of str
        Warnings and other notes for the user.
    positive : str or None, default=None
        The class to find, of two.
    """

    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    fitted: NDArray[np.bool_]
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
    labelled = _labelled(job, settings.split, notes)
    return dataclasses.replace(labelled, positive=settings.positive or _positive_of(job.model))


@prepared_by(prepare_evaluation)
def evaluate(job: EvaluationJob) -> ModelEvaluation:
    """Score a model on labelled images that it was not fitted on.

    Images that the model was fitted on are found by the sha256 of their files, and scored
    separately. The probabilities of all images are in memory.

    Returns
    -------
    ModelEvaluation
        Scores on the images that the model was not fitted on, and its accuracy on the others.
    """
    return run_evaluation(job)


def run_evaluation(job: EvaluationJob) -> ModelEvaluation:
    """Run a job that `prepare_evaluation` returned; see `evaluate`."""
    classes, notes = job.model.classes, list(job.notes)
    probabilities = np.empty((len(job.y), len(classes)))
    for block in probability_blocks(job):
        probabilities[block.images] = block.probabilities
    readable = ~np.isnan(probabilities).any(axis=1)
    if not readable.all():
        n_unreadable = counted(int(np.sum(~readable)), "image")
        notes.append(f"Left out: {n_unreadable} that cannot be read.")
    scored = np.flatnonzero(readable & ~job.fitted)
    if not len(scored):
        n_fitted, n_others = int(np.sum(job.fitted)), int(np.sum(~job.fitted))
        message = (
            f"No image is left to score: the model was fitted on {n_fitted} of the images, and the "
            f"other {n_others} could not be read. Use images that the model was not fitted on."
        )
        raise ImagesError(message)
    every = slice(None)
    names = job.paths(every) if job.joined is not None else [str(file) for file in job.files(every)]
    labels = np.array(classes)[job.model.predicted_columns(probabilities)]
    evaluation = score_predictions(
        job.y[scored],
        probabilities[scored],
        classes,
        job.groups[scored],
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
            Sample.of(len(scored), job.groups[scored]),
        )
        evaluation = dataclasses.replace(evaluation, positive=positive)
    fitted = np.flatnonzero(readable & job.fitted)
    training_accuracy = None
    if len(fitted):
        training_accuracy = Score(float(np.mean(labels[fitted] == job.y[fitted])))
    notes += evaluation.notes
    return ModelEvaluation(evaluation, len(fitted), training_accuracy, tuple(notes))


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


def _labelled(job: PredictionJob, split: str | None, notes: list[str]) -> EvaluationJob:
    """Keep the images of the split that have a label and, in a store, codes."""
    label, splits, group = (job.column(name) for name in ("label", "split", "group"))
    chosen = np.ones(len(label), bool)
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
    return _compared(job.take(kept), label[kept].astype(str), group[kept], notes)


def _compared(
    job: PredictionJob, y: NDArray[np.str_], group: NDArray[np.object_], notes: list[str]
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
    if n_related := int(np.sum(np.isin(groups[~fitted], groups[fitted]))):
        notes.append(
            f"The scores may be too high: {counted(n_related, 'image')} in the same group as an "
            "image that the model was fitted on."
        )
    return EvaluationJob(**vars(job), y=y, groups=groups, fitted=fitted, notes=tuple(notes))


def _digests(job: PredictionJob) -> list[str]:
    """Return the sha256 of each image file; "" if it cannot be read."""
    if job.joined is not None:
        return [str(digest) for digest in job.joined.images.sha256]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        files = [record.file for record in job.records]
        return [digest.sha256 for digest in pool.map(read_digest, files)]
