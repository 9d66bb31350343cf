"""Comparison: two models and labelled images come in, a paired difference of accuracies goes out.

Both models classify the same images, and images that one of them was fitted on are left out. What
makes an image unfit for one model is found by `featx.workflows.evaluation`. The accuracies are
those of the labels that the models predict, by their thresholds if they have one.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import ImagesError, RecipeMismatchError
from featx.fitting import Model
from featx.hdf5 import is_hdf5
from featx.metrics import Score
from featx.metrics.intervals import group_notes, paired_difference, proportion
from featx.metrics.sample_size import design_effect, detectable_difference, images_needed
from featx.recipe import Recipe
from featx.signatures import prepared_by, takes_fields_of, values_of
from featx.store import open_store
from featx.text import counted, printable, quoted_list
from featx.workflows.evaluation import (
    EvaluationJob,
    classified,
    known_images,
    prepare_evaluation,
)
from featx.workflows.predicting.prepare import read_model
from featx.workflows.settings import ComparisonSettings, Inputs, LabelledInputSettings, Progress

__all__ = [
    "Comparison",
    "ComparisonJob",
    "Disagreement",
    "compare",
    "prepare_comparison",
    "run_comparison",
]


@dataclass(frozen=True)
class Disagreement:
    """An image that only one of two models predicts correctly.

    Parameters
    ----------
    path : str
        Its path.
    label : str
        Its label.
    baseline, model : str
        What the models predict.
    """

    path: str
    label: str
    baseline: str
    model: str


@dataclass(frozen=True)
class Comparison:
    """Accuracies of two models on the same images, and their difference.

    Parameters
    ----------
    names : (str, str)
        Names of the baseline and of the model.
    n_images, n_groups : int
        Numbers of images and of groups of images.
    baseline, model : Score
        Accuracies.
    difference : Score
        Accuracy of the model minus that of the baseline.
    both_correct, only_baseline_correct, only_model_correct, both_wrong : int
        Numbers of images.
    disagreements : tuple of Disagreement
        The images that only one of both predicts correctly.
    images_needed : int or None
        About how many images like these would show a difference of this size in 80 % of cases;
        None if these images show it, or if there is no difference.
    detectable_difference : float or None
        The smallest difference that this number of images shows in 80 % of cases; None if both
        are correct on the same images.
    verdict : str
        The conclusion, in words.
    notes : tuple of str
        Warnings and other notes for the user.
    """

    names: tuple[str, str]
    n_images: int
    n_groups: int
    baseline: Score
    model: Score
    difference: Score
    both_correct: int
    only_baseline_correct: int
    only_model_correct: int
    both_wrong: int
    disagreements: tuple[Disagreement, ...]
    images_needed: int | None
    detectable_difference: float | None
    verdict: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values that JSON can hold.

        Returns
        -------
        dict
            The output of ``featx compare --json``.
        """
        facts = dataclasses.asdict(self)
        lists = ("names", "disagreements", "notes")
        return {**facts, **{name: list(facts[name]) for name in lists}}


@dataclass(frozen=True)
class ComparisonJob:
    """A comparison that is ready to run; `prepare_comparison` makes it.

    Parameters
    ----------
    names : (str, str)
        Names of the baseline and of the model.
    baseline, model : EvaluationJob
        The same images in the same order, for each model.
    notes : tuple of str
        Warnings and other notes for the user.
    """

    names: tuple[str, str]
    baseline: EvaluationJob
    model: EvaluationJob
    notes: tuple[str, ...]

    def with_progress(self, progress: Progress) -> "ComparisonJob":
        """Return the job with a function that is called after each batch, for both models."""
        baseline, model = (
            dataclasses.replace(each, progress=progress) for each in (self.baseline, self.model)
        )
        return dataclasses.replace(self, baseline=baseline, model=model)


@takes_fields_of(ComparisonSettings)
def prepare_comparison(settings: ComparisonSettings) -> ComparisonJob:
    """Check the settings of a comparison and plan its work; TensorFlow is not imported.

    Returns
    -------
    ComparisonJob
        For `run_comparison`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.
    ImagesError
        No image has a label, or each of them was used to fit one of the models.
    ModelError, StoreError, FitError, WeightsError
        The models, the stores, the table or the weights cannot be found or used.
    RecipeMismatchError
        The codes or the weights differ from those that a model was fitted on.
    """
    given = (settings.baseline, settings.model)
    names = _names(given)
    jobs = []
    for each, name in zip(given, names, strict=True):
        model = read_model(each, trust=settings.trust)
        values = {
            **values_of(settings, LabelledInputSettings),
            "model": model,
            "inputs": _own_stores(settings.inputs, model),
            "codes": None,
        }
        if settings.codes is not None and model.lacks_codes:
            values["codes"] = _own_stores(settings.codes, model)
        try:
            jobs.append(prepare_evaluation(**values))
        except ImagesError as error:
            message = f"{name}: {error}"
            raise ImagesError(message) from error
    first, second, notes = _on_same_images(*jobs)
    return ComparisonJob(names, first, second, (*_notes_of(names, (first, second)), *notes))


@prepared_by(prepare_comparison)
def compare(job: ComparisonJob) -> Comparison:
    """Compare the accuracies of two models on the same labelled images.

    Images that one of the models was fitted on are left out. The difference has a paired
    interval: images that are easy or hard for both do not widen it. If the interval contains 0,
    the result says about how many images like these would show a difference of this size [1]_
    [2]_.

    Returns
    -------
    Comparison
        Both accuracies, their difference and the images that only one model predicts correctly.

    References
    ----------
    .. [1] O. S. Miettinen, "The Matched Pairs Design in the Case of All-or-None Responses",
       Biometrics 24(2), 1968. https://doi.org/10.2307/2528039
    .. [2] R. J. Connor, "Sample Size for Testing Differences in Proportions for the Paired-Sample
       Design", Biometrics 43(1), 1987. https://doi.org/10.2307/2531961
    """
    return run_comparison(job)


def run_comparison(job: ComparisonJob) -> Comparison:
    """Run a job that `prepare_comparison` returned; see `compare`."""
    jobs = job.baseline, job.model
    found = [classified(each) for each in jobs]
    labels = [_labels(each, p) for each, (p, _) in zip(jobs, found, strict=True)]
    known = [known_images(each, t) for each, (_, t) in zip(jobs, found, strict=True)]
    readable = np.array([each != "" for each in labels]).all(axis=0)
    notes = list(job.notes)
    if n_unreadable := int(np.sum(~readable)):
        notes.append(f"Left out: {counted(n_unreadable, 'image')} that cannot be read.")
    is_new = readable & ~known[0][0] & ~known[1][0]
    if n_known := int(np.sum(readable & ~is_new)):
        notes.append(
            f"Left out: {counted(n_known, 'image')} that are near-duplicates, or of the groups, of "
            "images that one of the models was fitted on."
        )
    if not is_new.any():
        message = (
            "No image is left to compare the models on: the others cannot be read, or are "
            "near-duplicates of images that one of the models was fitted on. Use other images."
        )
        raise ImagesError(message)
    y, groups = job.baseline.y[is_new], known[0][1][is_new]
    by_baseline, by_model = (each[is_new] for each in labels)
    old, new = by_baseline == y, by_model == y
    difference = paired_difference(new, old, groups)
    n_images, n_groups = len(y), len(np.unique(groups))
    notes += group_notes(n_groups)
    discordant = float(np.mean(old != new))
    effect = design_effect(new.astype(float) - old, groups)
    needed = detectable = None
    if discordant:
        detectable = detectable_difference(n_images, discordant, effect)
        if difference.value and not (difference.is_above(0) or difference.is_below(0)):
            needed = _rounded_up(images_needed(difference.value, discordant, effect))
    paths = np.array(job.baseline.paths(slice(None)), dtype=object)[is_new]
    return Comparison(
        names=job.names,
        n_images=n_images,
        n_groups=n_groups,
        baseline=proportion(old, groups),
        model=proportion(new, groups),
        difference=difference,
        both_correct=int(np.sum(old & new)),
        only_baseline_correct=int(np.sum(old & ~new)),
        only_model_correct=int(np.sum(~old & new)),
        both_wrong=int(np.sum(~old & ~new)),
        disagreements=tuple(
            Disagreement(str(paths[i]), str(y[i]), str(by_baseline[i]), str(by_model[i]))
            for i in np.flatnonzero(old != new)
        ),
        images_needed=needed,
        detectable_difference=detectable,
        verdict=_verdict(job.names, difference, n_images, needed, detectable),
        notes=tuple(notes),
    )


def _labels(job: EvaluationJob, probabilities: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return the label that the model predicts for each image; "" if it cannot be read."""
    readable = ~np.isnan(probabilities).any(axis=1)
    classes = np.array(job.model.classes, dtype=object)
    found = classes[job.model.predicted_columns(probabilities)]
    return np.where(readable, found, "").astype(str)


def _verdict(
    names: tuple[str, str],
    difference: Score,
    n_images: int,
    needed: int | None,
    detectable: float | None,
) -> str:
    """Return the conclusion in words."""
    baseline, model = names
    images = counted(n_images, "image")
    if difference.interval is None:
        return (
            "The images are of one group, so these accuracies say nothing about images of other "
            "groups. Use images of more groups."
        )
    if difference.is_above(0) or difference.is_below(0):
        better = "more" if difference.value > 0 else "less"
        size = f"{abs(difference.value):.3f}"
        return f"{model} is {better} accurate than {baseline}, by {size} ({_ends(difference)})."
    first = f"No significant difference between {baseline} and {model} on {images}."
    if detectable is None:
        return f"{first} Both are correct on the same images."
    smallest = f"{images} show differences of about {detectable:.3f} or more"
    if needed is None:
        return f"{first} Both have the same accuracy; {smallest}, in 80 % of cases."
    return (
        f"{first} About {needed:,} images like these would show a difference of "
        f"{abs(difference.value):.3f} in 80 % of cases; {smallest}."
    )


def _ends(difference: Score) -> str:
    return f"95 % interval of the difference: {difference.ends('+.3f')}"


def _rounded_up(n: int) -> int:
    """Return a number of images with two digits, since it is an estimate."""
    unit = int(10 ** max(0, len(str(n)) - 2))
    return math.ceil(n / unit) * unit


def _names(models: Sequence[Path | str | Model]) -> tuple[str, str]:
    """Return names of the models: their files, or their places if they are in memory."""
    names = [
        place if isinstance(each, Model) else printable(str(each))
        for each, place in zip(models, ("the baseline", "the model"), strict=True)
    ]
    if names[0] == names[1]:
        return "the baseline", "the model"
    return names[0], names[1]


def _own_stores(inputs: Inputs, model: Model) -> Inputs:
    """Return the stores with codes of the model's recipe; all inputs, if that leaves none.

    Inputs that are images are returned as they are, and so are stores that fit no model, whose
    mismatch `prepare_evaluation` describes.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    files = [each for each in given if isinstance(each, str | Path)]
    if len(files) < len(given) or not files or not all(map(_is_store, files)):
        return inputs
    kept, needed = [], set(model.recipe.layers)
    for each in files:
        recipe = open_store(each).recipe
        if needed & set(recipe.layers) and _fits(model, recipe, str(each)):
            kept.append(each)
            needed -= set(recipe.layers)
    return kept or inputs


def _is_store(file: Path | str) -> bool:
    try:
        return Path(file).is_file() and is_hdf5(Path(file))
    except OSError:  # such as a name that is too long, which is reported later
        return False


def _fits(model: Model, recipe: Recipe, name: str) -> bool:
    try:
        model.check_recipe(recipe.with_layers(model.recipe.layers), name)
    except RecipeMismatchError:
        return False
    return True


def _on_same_images(
    baseline: EvaluationJob, model: EvaluationJob
) -> tuple[EvaluationJob, EvaluationJob, list[str]]:
    """Return both jobs for the images that both models can be scored on, and notes.

    Raises
    ------
    ImagesError
        No image is left, or two stores give an image different labels.
    """
    first, second = np.arange(len(baseline.y)), np.arange(len(model.y))
    if baseline.joined is not None and model.joined is not None:
        keys = [
            list(zip(job.joined.images.path, job.joined.images.sha256, strict=True))
            for job in (baseline, model)
            if job.joined is not None
        ]
        row_of = {key: row for row, key in enumerate(keys[1])}
        first = np.array([k for k, key in enumerate(keys[0]) if key in row_of], dtype=int)
        second = np.array([row_of[keys[0][k]] for k in first], dtype=int)
    notes = []
    if n_others := len(baseline.y) + len(model.y) - 2 * len(first):
        n_images = counted(n_others, "image")
        notes.append(f"Left out: {n_images} that only the stores of one of the models have.")
    is_fitted = baseline.fitted[first] | model.fitted[second]
    if n_fitted := int(is_fitted.sum()):
        n_images = counted(n_fitted, "image")
        notes.append(f"Left out: {n_images} that one of the models was fitted on.")
    first, second = first[~is_fitted], second[~is_fitted]
    if not len(first):
        message = (
            f"No image is left to compare the models on. {' '.join(notes)} Use images that "
            "neither model was fitted on."
        )
        raise ImagesError(message)
    if n_differ := int(np.sum(baseline.y[first] != model.y[second])):
        message = (
            f"The stores of both models have different labels for {counted(n_differ, 'image')}. "
            "Give the labels of both in a table: --labels TABLE"
        )
        raise ImagesError(message)
    return _only(baseline, first), _only(model, second), notes


def _only(job: EvaluationJob, rows: NDArray[np.integer]) -> EvaluationJob:
    """Return the job with only some of its images."""
    taken = {name: getattr(job, name)[rows] for name in ("y", "groups", "fitted", "of_known_group")}
    fewer = job.take(rows)
    return dataclasses.replace(job, records=fewer.records, joined=fewer.joined, **taken)


def _notes_of(names: tuple[str, str], jobs: Sequence[EvaluationJob]) -> list[str]:
    """Return the notes of both evaluations, with the model's name if only one has a note."""
    shared = set(jobs[0].notes) & set(jobs[1].notes)
    notes = [note for note in jobs[0].notes if note in shared]
    for name, job in zip(names, jobs, strict=True):
        notes += [f"{name}: {note}" for note in job.notes if note not in shared]
        unknown = Counter(job.y[~np.isin(job.y, job.model.classes)].tolist())
        if unknown:
            labels = quoted_list(label for label, _ in unknown.most_common())
            notes.append(
                f"{name}: {counted(unknown.total(), 'image')} of classes that it does not know "
                f"({labels}) count as wrong."
            )
    return notes
