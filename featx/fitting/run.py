"""Run a fit: a job goes in, a model and its score come out.

With an exact solver, codes become coordinates, a classifier is selected and cross-validated on
them, and becomes a pipeline of codes. With the streamed solver, a pipeline is fitted on blocks
of codes. Both go into a `Model`, with all that is known about them. This module knows codes,
but not images.
"""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import sklearn

from featx.cluster import Cluster
from featx.codes.matrix import Rows
from featx.dataset.fingerprints import Fingerprints
from featx.dataset.splits import DataSplit, small_class_notes
from featx.fitting.baselines import score_baselines
from featx.fitting.coordinates import coordinates_of
from featx.fitting.cross_validation import (
    HeldOutPredictions,
    fit_and_predict,
    predict_rows,
    without_duplicates,
)
from featx.fitting.model import Model
from featx.fitting.pipeline import CodePipeline
from featx.fitting.prepare import FitJob, prepare_fit
from featx.fitting.selection import fit_choice, threshold_of
from featx.fitting.sgd import fit_streamed
from featx.metrics.decisions import PositiveClass
from featx.metrics.evaluation import Evaluation
from featx.metrics.two_classes import ChosenThreshold
from featx.signatures import prepared_by

__all__ = ["Fit", "fit", "run_fit"]


@dataclass(frozen=True)
class Fit:
    """A fitted classifier and its score.

    Parameters
    ----------
    model : Model
        The classifier; `to_dict` returns its summary.
    evaluation : Evaluation
        Score on images that were neither searched nor fitted on.
    notes : tuple of str
        Warnings and other notes for the user.
    """

    model: Model
    evaluation: Evaluation
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the score and the facts of the fit as plain values for JSON.

        Returns
        -------
        dict
            What ``featx fit --json`` prints.
        """
        return self.model.summary


@prepared_by(prepare_fit)
def fit(job: FitJob) -> Fit:
    """Fit a classifier on codes, and score it on images that it was not fitted on.

    Images of the same group, and near-duplicates, are never in both the training set and the
    test set. With the solver "gram" (see `GramCoordinates`) the codes are read in blocks, and
    the result is the same as with scikit-learn on the codes.

    Returns
    -------
    Fit
        The classifier and its score.
    """
    return run_fit(job)


def run_fit(job: FitJob, *, cluster: Cluster | None = None) -> Fit:
    """Run a job, and save the model if the job has an output.

    Parameters
    ----------
    job : FitJob
        See `prepare_fit`.
    cluster : Cluster, optional
        Its workers compute the inner products of the codes, or the steps of the streamed
        solver; they open the stores at the same paths. The search and the fits run in this
        process. See `featx.cluster.connect`.

    Returns
    -------
    Fit
        The classifier and its score.

    Raises
    ------
    StoreError, FitError
        See `fit`.
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    began = time.perf_counter()
    fitted = _fit_exact(job, cluster) if job.solver.is_exact else _fit_streamed(job, cluster)
    evaluation = fitted.predictions.evaluation(job)
    notes = [*job.notes, *fitted.notes, *evaluation.notes]
    paths, output = job.joined.images.path[job.rows], job.settings.output
    summary = {
        "codes": [str(path) for path in job.joined.paths],
        "layers": list(job.joined.recipe.layers),
        "solver": job.solver.name,
        **fitted.facts,
        "without_duplicates": without_duplicates(job, fitted.split, fitted.predictions),
        "components": job.space.components,
        "whiten": job.space.whiten,
        "calibration": job.settings.calibration,
        "threshold": _threshold_facts(job, fitted.threshold),
        "seed": job.space.seed,
        "n_train": len(fitted.rows),
        **evaluation.to_dict(),
        "repeat_accuracies": list(fitted.predictions.repeat_accuracies),
        "duplicates": [
            {
                "first": str(paths[pair.first]),
                "second": str(paths[pair.second]),
                "same_bytes": pair.exact,
                "correlation": round(pair.correlation, 4),
            }
            for pair in job.duplicates
        ],
        "notes": notes,
        "seconds": round(time.perf_counter() - began, 2),
        "model": None if output is None else str(output),
    }
    provenance = {
        "codes": [str(path.absolute()) for path in job.joined.paths],
        "extraction": job.joined.provenance,
        "settings": job.settings.stored(),
        "scikit-learn": sklearn.__version__,
        "skops": version("skops"),
        "numpy": np.__version__,
        "fitted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows = job.rows[fitted.rows]
    digests, names = job.joined.images.sha256[rows], [job.group_names[k] for k in fitted.rows]
    model = Model(
        fitted.pipeline,
        job.joined.recipe,
        provenance,
        summary,
        tuple(map(str, digests)),
        Fingerprints.of(names, job.joined.thumbnails(rows)),
        positive=_positive_class(job, fitted.threshold),
    )
    if output is not None:
        model.save(output)
    return Fit(model, evaluation, tuple(notes))


def _positive_class(job: FitJob, threshold: ChosenThreshold | None) -> PositiveClass | None:
    """Return the positive class that the model keeps."""
    label = job.settings.positive
    if label is None or threshold is None:
        return None if label is None else PositiveClass(label)
    return PositiveClass(label, threshold.value, str(threshold.rule))


def _threshold_facts(job: FitJob, threshold: ChosenThreshold | None) -> dict[str, Any] | None:
    """Return the threshold of the saved model, with the scores that it was chosen by."""
    if threshold is None:
        return None
    recall, precision = (
        None if score is None else dataclasses.asdict(score)
        for score in (threshold.recall, threshold.precision)
    )
    return {
        "label": job.settings.positive,
        "value": threshold.value,
        "rule": str(threshold.rule),
        "chosen_on_positive": threshold.n_positive,
        "recall": recall,
        "precision": precision,
    }


@dataclass(frozen=True)
class _Fitted:
    """The result of a solver: a pipeline, its training rows, and predictions of other rows."""

    pipeline: CodePipeline
    rows: Rows
    split: DataSplit
    predictions: HeldOutPredictions
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    threshold: ChosenThreshold | None = None


def _fit_exact(job: FitJob, cluster: Cluster | None) -> _Fitted:
    coordinates = coordinates_of(job, cluster)
    selected, predictions = fit_and_predict(coordinates.problem, job)
    choice, on, notes = selected.choice, str(job.split.scored_on), list(selected.notes)
    if on == "folds":
        repeats = predictions.n_repeats
        on = f"{predictions.n_folds} folds" + (f", {repeats} times" if repeats > 1 else "")
        notes = [
            *small_class_notes(predictions.y, predictions.groups, job.settings.folds),
            *notes,
            *(f"In a fold of the cross-validation: {note}" for note in predictions.notes),
        ]
    if job.settings.refit:
        rows = np.arange(len(job.rows))
        model = fit_choice(coordinates.problem, rows, choice, job.space)
        selected = dataclasses.replace(selected, model=model, rows=rows)
        notes.append("The saved classifier is fitted on all images, including the scored ones.")
    facts = {
        "gflops": coordinates.gflops,
        "classifier": choice.kind.name,
        "normalise": choice.normalise,
        "parameters": dict(selected.model.parameters),
        "tried": [
            {
                "classifier": each.kind.name,
                "normalise": each.normalise,
                "value": each.value,
                "fraction": each.fraction,
                "accuracy": each.accuracy,
            }
            for each in choice.tried
        ],
        "scored_on": on,
        "baselines": score_baselines(job, choice.kind) if job.settings.baselines else None,
    }
    pipeline = coordinates.pipeline(selected, job.space, job.settings.calibration)
    return _Fitted(
        pipeline, selected.rows, job.split, predictions, facts, tuple(notes), selected.threshold
    )


def _fit_streamed(job: FitJob, cluster: Cluster | None) -> _Fitted:
    """Fit once, on the training set: without given splits, on all folds but the first."""
    split, on, notes = job.scored_splits[0], str(job.split.scored_on), []
    if on == "folds":
        on = f"one of {job.settings.folds} folds"
        notes.append("One fold is scored, and the classifier is only fitted on the other folds.")
    rows, calibration = split.fit_rows, job.settings.calibration
    codes = job.joined.matrix(job.rows).take(rows)
    found = fit_streamed(
        codes, job.y[rows], job.groups[rows], job.space, calibration, cluster=cluster
    )
    pipeline = found.pipeline
    threshold = threshold_of(job, rows[found.held_out], lambda: found.probabilities)
    if threshold is not None:
        notes += threshold.notes(str(job.settings.positive))
    predictions = predict_rows(
        job,
        pipeline.predict_proba,
        pipeline.classes_,
        split,
        None if threshold is None else threshold.value,
    )
    chosen = {"classifier": job.space.kinds[0].name, "normalise": job.space.normalise[0]}
    facts = {
        "gflops": None,
        **chosen,
        "parameters": {"C": found.value},
        "tried": [
            {**chosen, "value": value, "fraction": 1.0, "accuracy": accuracy}
            for value, accuracy in found.tried
        ],
        "scored_on": on,
        "baselines": None,
    }
    notes += found.notes
    return _Fitted(pipeline, rows, split, predictions, facts, tuple(notes), threshold)
