"""Run a sweep: passes over the images, then the candidates, then the conclusions.

A job comes in. Images go through the network once for each size, into one store for each
pooling. All candidates are cross-validated on the same folds, and so is the selection of the
best one.
"""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featx.cluster import Cluster
from featx.documents import FieldError, conform, read_json
from featx.errors import FitError, StoreError
from featx.extraction import run_extractions
from featx.fitting import FitJob, prepare_fit, run_fit
from featx.fitting.cross_validation import HeldOutPredictions, cross_validate, select_nested
from featx.fitting.learning_curve import learning_curve
from featx.fitting.settings import ClassifierSettings
from featx.metrics import Evaluation
from featx.outputs import whole_file
from featx.recipe import size_text
from featx.signatures import prepared_by, values_of
from featx.workflows.sweeping.prepare import Candidate, SweepJob, prepare_sweep
from featx.workflows.sweeping.results import Sweep, SweepRow, write_sweep
from featx.workflows.sweeping.verdict import (
    cheapest_not_worse,
    domain_verdict,
    more_images_verdict,
    next_commands,
)

__all__ = ["run_sweep", "sweep"]


@prepared_by(prepare_sweep)
def sweep(job: SweepJob) -> Sweep:
    """Measure which layer, pooling and image size suit a set of images best.

    Returns
    -------
    Sweep
        The scores of all candidates, the best one, and the accuracy to expect on new images.
    """
    return run_sweep(job)


def run_sweep(job: SweepJob, *, cluster: Cluster | None = None) -> Sweep:
    """Run a job; see `sweep`.

    Parameters
    ----------
    job : SweepJob
        The result of `prepare_sweep`.
    cluster : Cluster, optional
        Its workers extract the codes and compute their inner products. They need to see the
        folder of the sweep. See `featx.cluster.connect`.
    """
    began = time.perf_counter()
    deadline = np.inf if job.settings.budget is None else began + job.settings.budget
    seconds = _extract(job, deadline, cluster)
    rows, row_notes = _evaluate(job, seconds, deadline, cluster)
    best = max(rows, key=lambda row: row.accuracy.value)  # the cheapest of equal ones
    selected, which = select_nested([row.held_out for row in rows])
    job.progress.stage("learning curve")
    fit = _fit_job(job, best)
    chosen = {k: _in_decades(_fit_job(job, rows[k])) for k in which}
    curve, curve_notes = learning_curve([chosen[k] for k in which], cluster=cluster)
    found = Sweep(
        folder=job.folder,
        expected_accuracy=selected.accuracy,
        rows=tuple(rows),
        best=best,
        cheapest=cheapest_not_worse(rows, best),
        selected_in_folds=tuple(rows[k] for k in which),
        final=None if fit.split.scored_on == "folds" else run_fit(fit, cluster=cluster),
        learning_curve=tuple(curve),
        domain_verdict=domain_verdict(rows),
        more_images_verdict=more_images_verdict(curve),
        commands=next_commands(job.settings, best),
        fit=values_of(job.settings, ClassifierSettings),
        notes=tuple(dict.fromkeys([*job.notes, *fit.notes, *row_notes, *curve_notes])),
        seconds=round(time.perf_counter() - began, 1),
    )
    write_sweep(found)
    return found


def known_seconds(passes: Path) -> dict[str, float]:
    """Return seconds per image by size, of the passes of earlier runs."""
    with contextlib.suppress(OSError, FieldError):
        return conform(dict[str, float], read_json(passes))
    return {}


def _extract(
    job: SweepJob, deadline: float, cluster: Cluster | None
) -> dict[tuple[int, int], float | None]:
    """Fill the stores, and return seconds per image by size; None if not known."""
    passes = job.folder / "passes.json"
    known = known_seconds(passes)
    seconds: dict[tuple[int, int], float | None] = {}
    for size in job.sizes:
        if seconds and time.perf_counter() > deadline:
            break
        jobs = [
            dataclasses.replace(each, progress=job.progress.images)
            for (own, _), each in job.extractions.items()
            if own == size
        ]
        names = ", ".join(each.output.name for each in jobs)
        job.progress.stage(f"images at {size_text(size)} pixels: one pass for {names}")
        done = run_extractions(jobs, cluster=cluster)
        if n_computed := max(each.n_computed for each in done):
            known[size_text(size)] = done[0].seconds / n_computed
            with whole_file(passes) as temporary:
                temporary.write_text(json.dumps(known))
        seconds[size] = known.get(size_text(size))
    return seconds


def _evaluate(
    job: SweepJob,
    seconds: Mapping[tuple[int, int], float | None],
    deadline: float,
    cluster: Cluster | None,
) -> tuple[list[SweepRow], list[str]]:
    """Cross-validate the candidates, the cheapest first, until the budget ends."""
    candidates = [each for each in job.candidates if each.size in seconds]
    rows: list[SweepRow] = []
    notes: list[str] = []
    for n_done, candidate in enumerate(candidates):
        if rows and time.perf_counter() > deadline:
            left = [str(each) for each in job.candidates if each not in candidates[:n_done]]
            notes.append(
                f"The budget ended: {len(left)} of {len(job.candidates)} candidates were not "
                f"evaluated ({'; '.join(left)}). Run the same command without --budget to resume."
            )
            break
        fit = _in_decades(_fit_job(job, candidate))
        if not fit.solver.is_exact:
            notes.append(
                f"{candidate} is left out, since no exact solver fits in memory for "
                f"{len(fit.rows)} images."
            )
            continue
        held_out = _held_out(job.folder, fit, cluster)
        if rows and not np.array_equal(held_out.y, rows[0].held_out.y):
            message = (
                f"{fit.joined.path} holds other images than the other stores in {job.folder}. Run "
                "the same command again with --overwrite."
            )
            raise StoreError(message)
        evaluation = held_out.evaluation()
        rows.append(_row(job, candidate, held_out, evaluation, seconds[candidate.size]))
        notes += [*held_out.notes, *evaluation.notes]
        job.progress.candidates(n_done + 1, len(candidates))
    if not rows:
        message = "No candidate could be evaluated. Use --pool avg, which gives fewer features."
        raise FitError(message)
    return rows, notes


def _fit_job(job: SweepJob, candidate: Candidate) -> FitJob:
    codes = job.extraction(candidate).output
    fit = values_of(job.settings, ClassifierSettings)
    # Repeats would multiply the time of all candidates, which are compared on the same folds.
    return prepare_fit(codes, layer=candidate.layers, baselines=False, repeats=1, **fit)


def _in_decades(fit: FitJob) -> FitJob:
    """Return a fit that tries one penalty per decade, which takes a third of the time."""
    return dataclasses.replace(fit, space=dataclasses.replace(fit.space, is_fine=False))


def _row(
    job: SweepJob,
    candidate: Candidate,
    held_out: HeldOutPredictions,
    evaluation: Evaluation,
    seconds: float | None,
) -> SweepRow:
    recipe = job.recipe(candidate)
    if seconds is not None:
        deepest = max(each.gflop for each in job.candidates if each.size == candidate.size)
        seconds = round(seconds * candidate.gflop / deepest, 6)
    return SweepRow(
        **vars(candidate),
        n_features=recipe.n_features,
        accuracy=evaluation.accuracy,
        balanced_accuracy=evaluation.balanced_accuracy,
        bytes_per_image=recipe.code_bytes(),
        seconds_per_image=seconds,
        held_out=held_out,
    )


def _held_out(folder: Path, fit: FitJob, cluster: Cluster | None) -> HeldOutPredictions:
    """Return predictions for held-out images, from the folder if it has them already."""
    path = folder / f"held-out-{_digest(fit)}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), np.load(path) as found:
        texts = {name: tuple(found[name].tolist()) for name in ("classes", "notes")}
        return HeldOutPredictions(**{**found, **texts})
    held_out = cross_validate(fit, cluster=cluster)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        notes = np.array(held_out.notes, dtype=str)  # an array of no notes would be of numbers
        # An array of None cannot be read again without pickle.
        facts = {name: value for name, value in vars(held_out).items() if value is not None}
        np.savez_compressed(file, **{**facts, "notes": notes})
    return held_out


def _digest(fit: FitJob) -> str:
    """Return a name for the codes, images and settings that predictions depend on."""
    digest = hashlib.sha256()
    space = fit.space
    settings = [
        fit.joined.recipe.to_json(),
        [kind.name for kind in space.kinds],
        space.normalise,
        dict(space.settings),
        space.seed,
        fit.settings.folds,
        fit.settings.calibration,
    ]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for values in (fit.rows, fit.groups, fit.split.search_rows, fit.split.score_rows):
        digest.update(np.asarray(values, np.int64).tobytes())
    # Codes depend on nothing but the recipe and the bytes of the images.
    for column in (fit.y, fit.joined.images.sha256):
        digest.update("\n".join(column).encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
