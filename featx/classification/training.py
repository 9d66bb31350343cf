"""Fitting: a job in, a bundle with an honest score out.

By the road of the job, codes become coordinates, the classifier that was
chosen and scored on them comes back to codes, and goes with all that is known
of it into a bundle. This file knows codes, never images.
"""

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from featx.classification.bundle import Bundle
from featx.classification.calibration import Decisions
from featx.classification.codes import CodeMatrix, Matrix, Rows
from featx.classification.duplicates import Pair
from featx.classification.evaluation import Evaluation
from featx.classification.joining import Joined
from featx.classification.preparing import FitJob, prepare_fit
from featx.classification.scoring import (
    Final,
    evaluate_rows,
    folds_of,
    score,
    score_baselines,
    without_copies,
)
from featx.classification.search import Model, Options, Problem, train
from featx.classification.span import ExactSpan, UnitRows
from featx.classification.streaming import fit_streamed
from featx.errors import StoreError

__all__ = ["Fit", "fit", "run_fit"]


@dataclass(frozen=True)
class Fit:
    """A fitted classifier, how it was fitted, and how good it is.

    Parameters
    ----------
    bundle : Bundle
        The classifier; its summary holds all that `to_dict` returns.
    evaluation : Evaluation
        Of images that the search and the fit behind each prediction never saw.
    notes : tuple of str
        What the user should know: images left out, small classes, and so on.
    """

    bundle: Bundle
    evaluation: Evaluation
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return scores and facts as plain values that JSON can hold."""
        return self.bundle.summary


def fit(codes: Path | str | Sequence[Path | str] = "codes.h5", **settings: Any) -> Fit:
    """Fit a classifier on codes and score it honestly.

    Images of one group, and copies of one picture, never stand on both sides
    of a fold. On the exact span (see `ExactSpan`) the codes are never in
    memory as a whole, and the answer is that of scikit-learn on them.

    Parameters
    ----------
    codes : Path, str or sequence of them, default="codes.h5"
        A store, or several of the same images, which are joined.
    **settings
        Those of `prepare_fit`.

    Returns
    -------
    Fit

    Raises
    ------
    OptionError, ExistsError
        A setting that cannot be; checked before any work.
    StoreError, RecipeMismatchError
        A store cannot be read, is not complete, or does not go with another.
    FitError
        The labels allow no classifier or no score.
    """
    return run_fit(prepare_fit(codes, **settings))


def run_fit(job: FitJob) -> Fit:
    """Run a job; parameters and result are those of `fit`."""
    began = time.perf_counter()
    done = _run_exact(job) if job.road.is_exact else _run_streamed(job)
    notes = [*job.notes, *done.notes]
    summary = {
        "codes": [str(path) for path in job.joined.paths],
        "layers": list(job.joined.recipe.layers),
        "road": job.road.name,
        **done.facts,
        "calibration": job.calibration,
        "seed": job.options.seed,
        "n_train": len(done.rows),
        **done.evaluation.to_dict(),
        "copies": [_copy(pair, job) for pair in job.copies],
        "notes": notes,
        "seconds": round(time.perf_counter() - began, 2),
        "model": None if job.output is None else str(job.output),
    }
    bundle = Bundle(
        done.pipeline,
        job.joined.recipe,
        _provenance(job.joined),
        summary,
        tuple(str(digest) for digest in job.joined.images.sha256[job.rows[done.rows]]),
    )
    if job.output is not None:
        bundle.save(job.output)
    return Fit(bundle, done.evaluation, tuple(notes))


@dataclass(frozen=True)
class _Done:
    """What a road came to."""

    pipeline: Pipeline
    rows: Rows
    evaluation: Evaluation
    facts: dict[str, Any]
    notes: tuple[str, ...]


def _run_exact(job: FitJob) -> _Done:
    view = _view(job)
    scored = score(view.problem, job)
    final, notes, choice = scored.final, list(scored.notes), scored.final.choice
    if job.refit:
        every = np.arange(len(job.rows))
        model = train(view.problem, every, choice, job.options)
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
        "without_copies": scored.without_copies,
        "baselines": score_baselines(job, scored) if job.baselines else None,
    }
    return _Done(
        view.on_codes(final, job.options), final.rows, scored.evaluation, facts, tuple(notes)
    )


def _run_streamed(job: FitJob) -> _Done:
    """Fit by descent; without splits, the first fold alone is scored, and is not fitted on."""
    part, on, notes = job.division, str(job.division.scored_on), []
    if on == "folds":
        part, on = folds_of(job)[0], f"one of {job.n_folds} folds"
        notes.append("The classifier is fitted on the other folds only; one fold is scored.")
    codes, fitted = job.joined.matrix(job.rows), part.fitted
    found = fit_streamed(
        codes.take(fitted),
        job.y[fitted],
        job.keys[fitted],
        job.options,
        job.options.normalise[0],
        job.calibration,
    )
    classes = np.unique(job.y)
    columns = np.searchsorted(classes, found.pipeline.classes_)
    shares = np.zeros((len(part.scored), len(classes)))
    for where, block in codes.take(part.scored).row_blocks():
        shares[where, columns] = found.pipeline.predict_proba(block)
    facts = {
        "gflops": None,
        "classifier": found.kind.name,
        "normalise": job.options.normalise[0],
        "parameters": {"C": found.value},
        "tried": [
            _tried(found.kind.name, job.options.normalise[0], value, 1.0, accuracy)
            for value, accuracy in found.tried
        ],
        "scored_on": on,
        "without_copies": without_copies(job, classes, shares, part),
        "baselines": None,
    }
    evaluation = evaluate_rows(job, classes, shares, part.scored)
    return _Done(found.pipeline, fitted, evaluation, facts, (*notes, *found.notes))


@dataclass(frozen=True)
class _View:
    """The rows of a job as coordinates, and the way back to codes."""

    codes: CodeMatrix
    problem: Problem
    spans: Mapping[str, ExactSpan]  # by normalisation; none on the primal road
    gflops: float | None

    def on_codes(self, final: Final, options: Options) -> Pipeline:
        """Return the classifier from codes to probabilities."""
        choice, model = final.choice, final.model
        span = self.spans.get(choice.normalise)
        steps: list[tuple[str, BaseEstimator]] = []
        if span is not None and choice.kind.needs_rows:
            # Of the rows that it was fitted on alone: others are none of its business.
            narrow = span.narrowed(final.rows)
            steps.append(("span", narrow))
            own = Problem({choice.normalise: narrow.coordinates_}, self.problem.y[final.rows])
            model = train(own, np.arange(len(final.rows)), choice, options)
        elif choice.normalise != "none":
            root = choice.normalise == "sqrt-l2"
            steps.append(("unit", UnitRows(self.codes.widths, root=root)))
        if span is not None and not choice.kind.needs_rows:
            model = _moved(model, span)
        if model.centre is not None:
            steps.append(("centre", model.centre))
        return Pipeline(
            [*steps, ("decisions", Decisions(model.estimator)), ("calibration", final.calibrator)]
        )


def _view(job: FitJob) -> _View:
    codes = job.joined.matrix(job.rows)
    coordinates: dict[str, Matrix] = {}
    spans: dict[str, ExactSpan] = {}
    gflops = None
    for normalise in job.options.normalise:
        root, unit = normalise == "sqrt-l2", normalise != "none"
        if job.road.name == "primal":
            block = codes.block(np.arange(len(codes)))
            _check_finite(block, codes)
            coordinates[normalise] = (
                UnitRows(codes.widths, root=root).transform(block)
                if unit
                else block.astype(np.float64)
            )
            continue
        same = next((s for s in spans.values() if (s.root, s.unit) == (root, unit)), None)
        if same is None:
            began = time.perf_counter()
            same = ExactSpan(unit=unit, root=root).fit(codes)
            gflops = round(same.n_flops_ / (time.perf_counter() - began) / 1e9, 1)
        spans[normalise], coordinates[normalise] = same, same.coordinates_
    return _View(codes, Problem(coordinates, job.y), spans, gflops)


def _moved(model: Model, span: ExactSpan) -> Model:
    """Return a linear model of coordinates as one of codes."""
    estimator = copy.copy(model.estimator)
    estimator.coef_ = span.to_code_space(estimator.coef_)
    estimator.n_features_in_ = estimator.coef_.shape[-1]
    centre = None
    if model.centre is not None:
        centre = copy.copy(model.centre)
        centre.mean_ = span.to_code_space(centre.mean_)
    return Model(centre, estimator, model.parameters)


def _check_finite(block: Matrix, codes: CodeMatrix) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        message = (
            f"The code of row {codes.rows[0][bad[0]]} is not finite. Extract again with "
            "--overwrite."
        )
        raise StoreError(message)


def _tried(
    classifier: str, normalise: str, value: Any, share: float, accuracy: float
) -> dict[str, Any]:
    return {
        "classifier": classifier,
        "normalise": normalise,
        "value": value,
        "share": share,
        "accuracy": accuracy,
    }


def _copy(pair: Pair, job: FitJob) -> dict[str, Any]:
    paths = job.joined.images.path[job.rows]
    return {
        "first": str(paths[pair.first]),
        "second": str(paths[pair.second]),
        "same_bytes": pair.exact,
        "correlation": round(pair.correlation, 4),
    }


def _provenance(joined: Joined) -> dict[str, Any]:
    return {
        "codes": [str(path.absolute()) for path in joined.paths],
        "extraction": joined.provenance,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "fitted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
