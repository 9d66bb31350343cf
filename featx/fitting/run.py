"""Fitting: a job in, a bundle with an honest score out.

By the road of the job, codes become coordinates, the classifier that was
chosen and scored on them comes back to codes, and goes with all that is known
of it into a bundle. This file knows codes, never images.
"""

import dataclasses
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sklearn
from sklearn.pipeline import Pipeline

from featx.cluster import Cluster
from featx.codes.matrix import Rows
from featx.dataset.duplicates import DuplicatePair
from featx.fitting.coordinates import coordinates_of
from featx.fitting.cross_validation import (
    evaluate_rows,
    score,
    score_baselines,
    without_duplicates,
)
from featx.fitting.model import Model
from featx.fitting.prepare import FitJob, prepare_fit
from featx.fitting.selection import train
from featx.fitting.sgd import fit_streamed
from featx.metrics.evaluation import Evaluation
from featx.signatures import prepared_by

__all__ = ["Fit", "fit", "run_fit"]


@dataclass(frozen=True)
class Fit:
    """A fitted classifier, how it was fitted, and how good it is.

    Parameters
    ----------
    model : Model
        The classifier; its summary holds all that `to_dict` returns.
    evaluation : Evaluation
        Of images that the search and the fit behind each prediction never saw.
    notes : tuple of str
        What the user should know: images left out, small classes, and so on.
    """

    model: Model
    evaluation: Evaluation
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return scores and facts as plain values that JSON can hold.

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
    the result is that of scikit-learn on the codes.

    Returns
    -------
    Fit
        The classifier and its score.
    """
    return run_fit(job)


def run_fit(job: FitJob, *, cluster: Cluster | None = None) -> Fit:
    """Run a job; result and errors are those of `fit`.

    Parameters
    ----------
    job : FitJob
        See `prepare_fit`.
    cluster : Cluster, optional
        Whose workers compute the inner products of the span, by tiles, or take the
        steps of the streamed road; they see the stores under the same paths. The
        search and the fits on the span stay in this process. See
        `featx.cluster.connected`.

    Returns
    -------
    Fit
        The model is saved, if the job has an output.

    Raises
    ------
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    began = time.perf_counter()
    done = _run_exact(job, cluster) if job.solver.is_exact else _run_streamed(job, cluster)
    notes = [*job.notes, *done.notes]
    summary = {
        "codes": [str(path) for path in job.joined.paths],
        "layers": list(job.joined.recipe.layers),
        "solver": job.solver.name,
        **done.facts,
        "components": job.space.components,
        "whiten": job.space.whiten,
        "calibration": job.settings.calibration,
        "seed": job.space.seed,
        "n_train": len(done.rows),
        **done.evaluation.to_dict(),
        "duplicates": [_duplicate(pair, job) for pair in job.duplicates],
        "notes": notes,
        "seconds": round(time.perf_counter() - began, 2),
        "model": None if job.output is None else str(job.output),
    }
    model = Model(
        done.pipeline,
        job.joined.recipe,
        _provenance(job),
        summary,
        tuple(str(digest) for digest in job.joined.images.sha256[job.rows[done.rows]]),
    )
    if job.output is not None:
        model.save(job.output)
    return Fit(model, done.evaluation, tuple(notes))


@dataclass(frozen=True)
class _Done:
    """What a road came to."""

    pipeline: Pipeline
    rows: Rows
    evaluation: Evaluation
    facts: dict[str, Any]
    notes: tuple[str, ...]


def _run_exact(job: FitJob, cluster: Cluster | None) -> _Done:
    view = coordinates_of(job, cluster)
    scored = score(view.problem, job)
    final, notes, choice = scored.final, list(scored.notes), scored.final.choice
    if job.settings.refit:
        every = np.arange(len(job.rows))
        model = train(view.problem, every, choice, job.space)
        final = dataclasses.replace(final, model=model, rows=every)
        notes.append("The saved classifier is fitted on all images, those of the score too.")
    facts = {
        "gflops": view.gflops,
        "classifier": choice.kind.name,
        "normalise": choice.normalise,
        "parameters": dict(final.model.parameters),
        "tried": [
            _tried(each.kind.name, each.normalise, each.value, each.share, each.accuracy)
            for each in choice.tried
        ],
        "scored_on": scored.on,
        "without_duplicates": scored.without_duplicates,
        "baselines": score_baselines(job, scored) if job.settings.baselines else None,
    }
    return _Done(
        view.on_codes(final, job.space), final.rows, scored.evaluation, facts, tuple(notes)
    )


def _run_streamed(job: FitJob, cluster: Cluster | None) -> _Done:
    """Fit by descent; without splits, the first fold alone is scored, and is not fitted on."""
    part, on, notes = job.split, str(job.split.scored_on), []
    if on == "folds":
        part, on = job.scored_splits[0], f"one of {job.settings.folds} folds"
        notes.append("The classifier is fitted on the other folds only; one fold is scored.")
    codes, fitted = job.joined.matrix(job.rows), part.fit_rows
    found = fit_streamed(
        codes.take(fitted),
        job.y[fitted],
        job.groups[fitted],
        job.space,
        job.space.normalise[0],
        job.settings.calibration,
        cluster=cluster,
    )
    classes = np.unique(job.y)
    columns = np.searchsorted(classes, found.pipeline.classes_)
    shares = np.zeros((len(part.score_rows), len(classes)))
    for where, block in codes.take(part.score_rows).row_blocks():
        shares[where, columns] = found.pipeline.predict_proba(block)
    facts = {
        "gflops": None,
        "classifier": found.kind.name,
        "normalise": job.space.normalise[0],
        "parameters": {"C": found.value},
        "tried": [
            _tried(found.kind.name, job.space.normalise[0], value, 1.0, accuracy)
            for value, accuracy in found.tried
        ],
        "scored_on": on,
        "without_duplicates": without_duplicates(job, classes, shares, part),
        "baselines": None,
    }
    evaluation = evaluate_rows(job, classes, shares, part.score_rows)
    return _Done(found.pipeline, fitted, evaluation, facts, (*notes, *found.notes))


def _tried(
    classifier: str, normalise: str, value: Any, fraction: float, accuracy: float
) -> dict[str, Any]:
    return {
        "classifier": classifier,
        "normalise": normalise,
        "value": value,
        "fraction": fraction,
        "accuracy": accuracy,
    }


def _duplicate(pair: DuplicatePair, job: FitJob) -> dict[str, Any]:
    paths = job.joined.images.path[job.rows]
    return {
        "first": str(paths[pair.first]),
        "second": str(paths[pair.second]),
        "same_bytes": pair.exact,
        "correlation": round(pair.correlation, 4),
    }


def _provenance(job: FitJob) -> dict[str, Any]:
    return {
        "codes": [str(path.absolute()) for path in job.joined.paths],
        "extraction": job.joined.provenance,
        "settings": job.settings.stored(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "fitted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
