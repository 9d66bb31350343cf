"""Evaluation: labelled images or stores and a bundle in, scores out.

Predictions are made as `featx.workflows.prediction` makes them. An image that
the classifier was fitted on, by the bytes of its file, says nothing about
others: it is scored apart. What this file cannot see is another file of the
same picture, since a bundle holds no pictures.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from featx.choices import Precision
from featx.dataset.folds import group_numbers
from featx.dataset.labels import check_columns, relabel
from featx.errors import ImagesError, OptionError
from featx.fitting import Model
from featx.images import ImageRecord, list_images, read_digest
from featx.metrics import Evaluation, Score, score_predictions
from featx.metrics.intervals import wilson
from featx.network import check_device
from featx.text import counted
from featx.workflows.predicting import (
    Inputs,
    PredictionJob,
    Progress,
    find_inputs,
    open_model,
    prepare_job,
    probability_blocks,
)

__all__ = [
    "EvaluationJob",
    "ModelEvaluation",
    "evaluate_model",
    "prepare_evaluation",
    "run_evaluation",
]

_LABELS_SHOWN = 5

logger = logging.getLogger(__name__)

_Texts = NDArray[np.object_]


@dataclass(frozen=True)
class ModelEvaluation:
    """How good a classifier is on images that it was not fitted on.

    Parameters
    ----------
    evaluation : Evaluation
        Of those images alone.
    n_fitted_on : int
        How many further images the classifier was fitted on.
    on_fitted_on : Score or None
        Its accuracy on these, with Wilson's interval; None where there are none.
    notes : tuple of str
        What the user should know: images left out, labels that are unknown.
    """

    evaluation: Evaluation
    n_fitted_on: int
    on_fitted_on: Score | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return scores and facts as plain values that JSON can hold.

        Returns
        -------
        dict
            What ``featx evaluate --json`` prints.
        """
        accuracy = None if self.on_fitted_on is None else dataclasses.asdict(self.on_fitted_on)
        return {
            **self.evaluation.to_dict(),
            "fitted_on": {"n_images": self.n_fitted_on, "accuracy": accuracy},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class EvaluationJob:
    """What an evaluation will classify and compare; `prepare_evaluation` makes it.

    Parameters
    ----------
    prediction : PredictionJob
        Of the labelled images.
    y : ndarray of str, shape (n,)
        Their labels.
    groups : ndarray of int, shape (n,)
        Equal where images are of one group or have equal bytes.
    fitted : ndarray of bool, shape (n,)
        Which of them the classifier was fitted on.
    notes : tuple of str
        What the user should know.
    """

    prediction: PredictionJob
    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    fitted: NDArray[np.bool_]
    notes: tuple[str, ...]


def evaluate_model(  # noqa: PLR0913  flat, as on the command line
    inputs: Inputs = (),
    *,
    model: Path | str | Model = "model.skops",
    manifest: Path | str | None = None,
    labels: Path | str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    split: str | None = None,
    codes: Inputs | None = None,
    trust: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ModelEvaluation:
    """Score a classifier on labelled images that it was not fitted on.

    Probabilities of all images are in memory. Images that the classifier was
    fitted on are found by the sha256 of their files, and scored apart.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Folders of labelled images; or a store, or several of the same images,
        which are joined.
    model : Path, str or Model, default="model.skops"
        What `featx fit` made.
    manifest : Path or str, optional
        A table that lists images with their labels, instead of `inputs`; see
        `featx.images.list_images`.
    labels : Path or str, optional
        A table that gives the images of stores, by path, other labels, splits
        or groups.
    label_column, split_column, group_column : str, optional
        Names of its columns.
    split : {"train", "val", "test"}, optional
        Only the images of that split.
    codes : Path, str or sequence of them, optional
        The stores that the classifier was fitted on, if it compares with their
        codes and they lie elsewhere now.
    trust : bool, default=False
        Whether to open a .joblib bundle, which can run any code of its maker.
    weights : str, optional
        Where the weights lie now, if not where they lay at extraction.
    precision : {"float32", "tf32", "bfloat16"}, optional
        Arithmetic of the network, if not that of the extraction.
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "gpu" or "gpu:N".
    progress : callable, optional
        Called with (images done, images in all).

    Returns
    -------
    ModelEvaluation
        Scores of the images that it was not fitted on, the others apart.

    Raises
    ------
    OptionError, ModelError, StoreError, FitError
        Checked before work starts.
    ImagesError
        There are no labels, or no images but those that were fitted on.
    RecipeMismatchError
        Codes or weights are not those that the bundle was fitted on.
    """
    job = prepare_evaluation(
        inputs,
        model=model,
        manifest=manifest,
        labels=labels,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        split=split,
        codes=codes,
        trust=trust,
        weights=weights,
        precision=precision,
        device=device,
    )
    return run_evaluation(job, progress=progress)


def prepare_evaluation(  # noqa: PLR0913  flat, as on the command line
    inputs: Inputs = (),
    *,
    model: Path | str | Model = "model.skops",
    manifest: Path | str | None = None,
    labels: Path | str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    split: str | None = None,
    codes: Inputs | None = None,
    trust: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
) -> EvaluationJob:
    """Check everything that an evaluation needs; TensorFlow is not imported.

    Parameters and errors are those of `evaluate_model`. The files of labelled
    images are read once, to know which of them were fitted on.

    Returns
    -------
    EvaluationJob
    """
    columns = {
        "label_column": label_column,
        "split_column": split_column,
        "group_column": group_column,
    }
    check_columns(labels, *columns.values())
    check_device(device)
    bundle = open_model(model, codes, trust=trust)
    found = find_inputs(inputs, bundle) if manifest is None else _listed(inputs, manifest)
    job = prepare_job(found, bundle, weights=weights, precision=precision, device=device)
    notes: list[str] = []
    if labels is not None:
        job, notes = _relabelled(job, labels, columns)
    return _labelled(job, split, notes)


def run_evaluation(job: EvaluationJob, *, progress: Progress | None = None) -> ModelEvaluation:
    """Run a job; parameters and result are those of `evaluate_model`."""
    bundle, notes = job.prediction.bundle, list(job.notes)
    probabilities = np.empty((len(job.y), len(bundle.classes)))
    for images, block in probability_blocks(job.prediction, progress):
        probabilities[images] = block
    known = ~np.isnan(probabilities).any(axis=1)
    if not known.all():
        notes.append(f"{counted(int(np.sum(~known)), 'image')} that cannot be read left out.")
    scored = np.flatnonzero(known & ~job.fitted)
    if not len(scored):
        n_fitted, n_others = int(np.sum(job.fitted)), int(np.sum(~job.fitted))
        message = (
            f"The classifier was fitted on {counted(n_fitted, 'image')} of these, and "
            f"{counted(n_others, 'other')} could not be read, so nothing is left to score. "
            "Give images that it never saw."
        )
        raise ImagesError(message)
    names = job.prediction.names(slice(None))
    evaluation = score_predictions(
        job.y[scored],
        probabilities[scored],
        bundle.classes,
        job.groups[scored],
        paths=[names[row] for row in scored],
    )
    fitted = np.flatnonzero(known & job.fitted)
    on_fitted = None
    if len(fitted):
        answers = np.array(bundle.classes)[probabilities[fitted].argmax(axis=1)]
        on_fitted = wilson(int(np.sum(answers == job.y[fitted])), len(fitted))
    return ModelEvaluation(evaluation, len(fitted), on_fitted, tuple(notes))


# what is to be scored


def _listed(inputs: Inputs, manifest: Path | str) -> tuple[ImageRecord, ...]:
    """Return the images of a manifest."""
    if not isinstance(inputs, Sequence) or len(inputs):
        message = "Images come from INPUT or from --manifest, not from both. Leave one of them out."
        raise OptionError(message)
    listing = list_images(manifest=manifest)
    for note in listing.notes:
        logger.warning("%s", note)
    return listing.records


def _relabelled(
    job: PredictionJob, labels: Path | str, columns: dict[str, str | None]
) -> tuple[PredictionJob, list[str]]:
    if job.joined is None:
        message = (
            f"--labels {labels} gives labels to the images of a store. For image files, list them "
            "with their labels in a table of its own: --manifest TABLE"
        )
        raise OptionError(message)
    images, notes = relabel(job.joined.images, labels, **columns)
    return dataclasses.replace(job, joined=dataclasses.replace(job.joined, images=images)), notes


def _labelled(job: PredictionJob, split: str | None, notes: list[str]) -> EvaluationJob:
    """Keep the images of the split that have a label, and codes where a store should hold them."""
    label, splits, group = _facts(job)
    chosen = np.ones(len(label), bool)
    if split is not None:
        chosen = splits == split
        if not chosen.any():
            held = sorted({each for each in splits if each is not None})
            there = f"their splits are {', '.join(held)}" if held else "they have no splits"
            message = f"No image belongs to the split '{split}'; {there}. Use another --split."
            raise ImagesError(message)
    has_label = np.array([each is not None for each in label], bool)
    rows = chosen & has_label
    if not rows.any():
        message = (
            "No image has a label, so there is nothing to compare with. Labels come from class "
            "folders (data/CLASS/… or data/train/CLASS/…), from a table that lists images "
            "(--manifest TABLE) or, for a store, from one of its paths (--labels TABLE)."
        )
        raise ImagesError(message)
    if n_without := int(np.sum(chosen & ~has_label)):
        notes = [*notes, f"{counted(n_without, 'image')} without a label left out."]
    if job.joined is not None:
        if n_without := int(np.sum(rows & ~job.joined.images.done)):
            notes = [*notes, f"{counted(n_without, 'image')} without codes left out."]
        rows &= job.joined.images.done
        if not rows.any():
            message = f"No image of {job.joined.path} has both a label and codes: featx info --bad"
            raise ImagesError(message)
    places = np.flatnonzero(rows)
    job = _narrowed(job, places)
    return _compared(job, label[places].astype(str), group[places], notes)


def _compared(
    job: PredictionJob, y: NDArray[np.str_], group: _Texts, notes: list[str]
) -> EvaluationJob:
    """Find out which images were fitted on, and what else makes a score less than it seems."""
    bundle, digests = job.bundle, _digests(job)
    of_fit = set(bundle.fitted_on)
    fitted = np.array([bool(digest) and digest in of_fit for digest in digests], bool)
    if fitted.all():
        message = (
            f"The classifier was fitted on every labelled image ({len(y)}), so nothing is left to "
            "score. Give images that it never saw."
        )
        raise ImagesError(message)
    groups = group_numbers(group, digests)
    if not of_fit:
        notes = [*notes, "The bundle does not say what it was fitted on: the score may flatter."]
    if n_beside := int(np.sum(np.isin(groups[~fitted], groups[fitted]))):
        notes = [
            *notes,
            f"{counted(n_beside, 'image')} of the group of an image that was fitted on: the score "
            "may flatter.",
        ]
    strange = Counter(y[~fitted & ~np.isin(y, bundle.classes)].tolist())
    if strange:
        shown = ", ".join(label for label, _ in strange.most_common(_LABELS_SHOWN))
        more = f" and {len(strange) - _LABELS_SHOWN} more" if len(strange) > _LABELS_SHOWN else ""
        notes = [
            *notes,
            f"{counted(strange.total(), 'image')} of classes that the classifier does not know "
            f"({shown}{more}): they count as wrong.",
        ]
    return EvaluationJob(job, y, groups, fitted, tuple(notes))


def _facts(job: PredictionJob) -> tuple[_Texts, _Texts, _Texts]:
    """Return label, split and group of all images; None where there is none."""
    if job.joined is not None:
        images = job.joined.images
        return images.label, images.split, images.group
    facts = [(record.label, record.split, record.group) for record in job.records]
    label, split, group = np.array(facts, dtype=object).reshape(-1, 3).T
    return label, split, group


def _narrowed(job: PredictionJob, places: NDArray[np.integer]) -> PredictionJob:
    """Return the job of some of its images."""
    if job.joined is None:
        return dataclasses.replace(job, records=tuple(job.records[place] for place in places))
    return dataclasses.replace(job, joined=job.joined.take(places))


def _digests(job: PredictionJob) -> list[str]:
    """Return the sha256 of each image's file; "" where it cannot be read."""
    if job.joined is not None:
        return [str(digest) for digest in job.joined.images.sha256]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        return list(pool.map(read_digest, [record.file for record in job.records]))
