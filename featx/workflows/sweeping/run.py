"""The run of a sweep: passes, candidates, and what follows from them.

A job comes in. Images go through the network once a size, into a store for each
pooling; every candidate is judged on the same held-out images; the choice of the
best is judged too. This file knows the order of things; each of them is done in
its own room.
"""

import contextlib
import csv
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.cluster import Cluster
from featx.errors import FitError, StoreError
from featx.extraction import ExtractionJob, run_extractions
from featx.fitting import Fit, FitJob, prepare_fit, run_fit
from featx.fitting.nested_selection import (
    Judged,
    LearningPoint,
    compare,
    cross_validate,
    learning_curve,
    select_nested,
)
from featx.layers import gflop
from featx.metrics import Score
from featx.outputs import whole_file
from featx.recipe import size_text
from featx.workflows.sweeping.prepare import Candidate, SweepJob, prepare_sweep
from featx.workflows.sweeping.verdict import (
    SweepRow,
    Verdict,
    cheapest_within,
    commands_of,
    judge_case,
    judge_curve,
)

__all__ = ["Progress", "Sweep", "run_sweep", "sweep"]

_FORMAT = "featx-sweep"


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Parameters
    ----------
    folder : Path
        Where it lies: stores, sweep.json, sweep.csv.
    rows : tuple of SweepRow
        The candidates, the cheapest first.
    best, cheapest : SweepRow
        Of the highest accuracy; and the cheapest that cannot be told from it.
    chosen : Score
        Accuracy of sweeping and taking the best: what to expect on other images.
    final : Fit or None
        With given splits: the best one, scored once on what was kept apart.
    curve : tuple of LearningPoint
        Of the best.
    case, more : Verdict
        Whether the images are different from ImageNet's, and whether more would help.
    commands : tuple of str
        What to type next.
    facts : dict
        All of sweep.json.
    """

    folder: Path
    rows: tuple[SweepRow, ...]
    best: SweepRow
    cheapest: SweepRow
    chosen: Score
    final: Fit | None
    curve: tuple[LearningPoint, ...]
    case: Verdict
    more: Verdict
    commands: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """What is told while a sweep runs.

    Parameters
    ----------
    stage : callable
        Called with a sentence when something begins or is known.
    images : callable
        Called with (images done, images in all) while images are read.
    candidates : callable
        Called with (candidates judged, candidates in all).
    """

    stage: Callable[[str], None] = lambda text: None
    images: Callable[[int, int], None] = lambda done, total: None
    candidates: Callable[[int, int], None] = lambda done, total: None


def sweep(images: Path | str | None = None, **settings: Any) -> Sweep:
    """Measure which layer, pooling and size serve a set of images best.

    Parameters
    ----------
    images : Path or str, default="data"
        A folder.
    **settings
        Those of `prepare_sweep`.

    Returns
    -------
    Sweep
        All candidates, the best, and what choosing it is worth.

    Raises
    ------
    OptionError
        A setting that cannot be.
    ImagesError, WeightsError, StoreError, FitError
        See `featx.extract` and `featx.fit`.
    """
    return run_sweep(prepare_sweep(images, **settings))


def run_sweep(
    job: SweepJob, *, progress: Progress | None = None, cluster: Cluster | None = None
) -> Sweep:
    """Run a job; its result and errors are those of `sweep`.

    Parameters
    ----------
    job : SweepJob
        What to do.
    progress : Progress, optional
        Told what happens.
    cluster : Cluster, optional
        Whose workers extract the codes and compute their inner products; see
        `featx.cluster.connected`. The folder lies on a file system that they share.
    """
    told, began = progress or Progress(), time.perf_counter()
    ends = None if job.budget is None else began + job.budget
    seconds, notes = _extract(job, ends, told, cluster), list(job.notes)
    rows, said = _judged(job, seconds, ends, told, cluster)
    notes += said
    best = max(rows, key=lambda row: row.accuracy.value)  # of equals the cheapest
    chosen, which = select_nested([row.judged for row in rows])
    told.stage("the learning curve of the best")
    curve, said = learning_curve(_in_decades(_fit_job(job, best.candidate)), cluster=cluster)
    notes += said
    final = _final(job, best, cluster)
    found = Sweep(
        folder=job.folder,
        rows=tuple(rows),
        best=best,
        cheapest=cheapest_within(rows, best),
        chosen=chosen.accuracy,
        final=final,
        curve=tuple(curve),
        case=judge_case(rows),
        more=judge_curve(curve),
        commands=commands_of(job, best.candidate),
        facts={},
    )
    found.facts.update(
        _facts(found),
        chosen_in_folds=[str(rows[k].candidate) for k in which],
        fit=job.fit,
        notes=list(dict.fromkeys(notes)),
        seconds=round(time.perf_counter() - began, 1),
    )
    _write(found)
    return found


def _extract(
    job: SweepJob, ends: float | None, told: Progress, cluster: Cluster | None
) -> dict[tuple[int, int], float | None]:
    """Make the stores, a pass a size; return seconds an image by size, None where not known."""
    known = _earlier_seconds(job.folder)
    seconds: dict[tuple[int, int], float | None] = {}
    for size in job.sizes:
        if seconds and ends is not None and time.perf_counter() > ends:
            break
        jobs = [each for (own, _), each in job.extractions.items() if own == size]
        told.stage(f"images at {size_text(size)}: one pass for {', '.join(_names(jobs))}")
        jobs = [dataclasses.replace(each, progress=told.images) for each in jobs]
        made = run_extractions(jobs, cluster=cluster)
        n_computed = max(each.n_computed for each in made)
        seconds[size] = known.get(size_text(size))
        if n_computed:
            seconds[size] = made[0].seconds / n_computed
            known[size_text(size)] = made[0].seconds / n_computed
            with whole_file(job.folder / "passes.json") as temporary:
                temporary.write_text(json.dumps(known))
    return seconds


def _names(jobs: Sequence[ExtractionJob]) -> list[str]:
    return [job.output.name for job in jobs]


def _earlier_seconds(folder: Path) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads((folder / "passes.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def _judged(
    job: SweepJob,
    seconds: Mapping[tuple[int, int], float | None],
    ends: float | None,
    told: Progress,
    cluster: Cluster | None,
) -> tuple[list[SweepRow], list[str]]:
    """Judge the candidates, the cheapest first, until the budget ends."""
    candidates = [each for each in job.candidates if each.size in seconds]
    rows: list[SweepRow] = []
    notes: list[str] = []
    for place, candidate in enumerate(candidates):
        if rows and ends is not None and time.perf_counter() > ends:
            left = [str(each) for each in job.candidates if each not in candidates[:place]]
            notes.append(
                f"The budget ended: {len(left)} of {len(job.candidates)} candidates were not "
                f"tried: {'; '.join(left)}. The same command without --budget goes on."
            )
            break
        fit = _in_decades(_fit_job(job, candidate))
        if not fit.solver.is_exact:
            notes.append(
                f"{candidate}: left out, since {len(fit.rows)} images leave no exact road."
            )
            continue
        path = _kept(job.folder, fit)
        judged = _judged_before(path, fit) or _judge_and_keep(path, fit, cluster)
        if rows and not np.array_equal(judged.y, rows[0].judged.y):
            message = (
                f"{fit.joined.path} holds other images than {job.folder}'s other stores. Run the "
                "same command again with --overwrite."
            )
            raise StoreError(message)
        rows.append(_row(job, candidate, judged, seconds[candidate.size]))
        notes += judged.notes
        told.candidates(place + 1, len(candidates))
    if not rows:
        message = "No candidate could be judged. Use --pool avg, whose codes are narrow."
        raise FitError(message)
    return rows, notes


def _fit_job(job: SweepJob, candidate: Candidate) -> FitJob:
    codes = job.extraction(candidate).output
    return prepare_fit(codes, layer=candidate.layers, baselines=False, **job.fit)


def _in_decades(fit: FitJob) -> FitJob:
    """Return a fit that looks for its penalty by decades only: a third of the time."""
    return dataclasses.replace(fit, space=dataclasses.replace(fit.space, is_fine=False))


def _row(job: SweepJob, candidate: Candidate, judged: Judged, seconds: float | None) -> SweepRow:
    recipe, evaluation = job.recipe(candidate), judged.evaluation()
    deepest = max(
        gflop(layer, size)
        for (size, _), each in job.extractions.items()
        if size == candidate.size
        for layer in each.recipe.layers
    )
    return SweepRow(
        candidate=candidate,
        width=recipe.n_features,
        accuracy=evaluation.accuracy,
        balanced_accuracy=evaluation.balanced_accuracy,
        bytes_per_image=recipe.code_bytes(),
        seconds_per_image=float("nan") if seconds is None else seconds * candidate.gflop / deepest,
        judged=judged,
    )


def _kept(folder: Path, fit: FitJob) -> Path:
    """Return where what was found about some codes is kept: other codes or settings, other name."""
    digest = hashlib.sha256()
    options = fit.space
    settings = [
        fit.joined.recipe.to_json(),
        [kind.name for kind in options.kinds],
        options.normalise,
        dict(options.settings),
        options.seed,
        fit.settings.folds,
        fit.settings.calibration,
    ]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for values in (fit.rows, fit.groups, fit.split.search_rows, fit.split.score_rows):
        digest.update(np.asarray(values, np.int64).tobytes())
    # Codes follow from the recipe and the images' bytes.
    for column in (fit.y, fit.joined.images.sha256):
        digest.update("\n".join(column).encode(errors="surrogateescape"))
    return folder / f"judged-{digest.hexdigest()[:16]}.npz"


def _judged_before(path: Path, fit: FitJob) -> Judged | None:
    with contextlib.suppress(OSError, ValueError, KeyError), np.load(path) as found:
        return Judged(
            inside=found["inside"],
            shares=found["shares"],
            part=found["part"],
            y=found["y"],
            groups=found["keys"],
            classes=tuple(str(label) for label in found["classes"]),
            seed=fit.space.seed,
            notes=tuple(str(note) for note in found["notes"]),
        )
    return None


def _judge_and_keep(path: Path, fit: FitJob, cluster: Cluster | None) -> Judged:
    judged = cross_validate(fit, cluster)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            inside=judged.inside,
            shares=judged.shares,
            part=judged.part,
            y=judged.y,
            keys=judged.groups,
            classes=np.array(judged.classes),
            notes=np.array(judged.notes, dtype=str),
        )
    return judged


def _final(job: SweepJob, best: SweepRow, cluster: Cluster | None) -> Fit | None:
    """Score the best once on what was kept apart, if anything was."""
    fit = _fit_job(job, best.candidate)
    return None if fit.split.scored_on == "folds" else run_fit(fit, cluster=cluster)


def _facts(found: Sweep) -> dict[str, Any]:
    """Return what sweep.json says, as plain values."""
    final = found.final
    return {
        "format": _FORMAT,
        "rows": [_row_facts(row) for row in found.rows],
        "best": str(found.best.candidate),
        "cheapest": str(found.cheapest.candidate),
        "best_less_cheapest": dataclasses.asdict(compare(found.best.judged, found.cheapest.judged)),
        "chosen": dataclasses.asdict(found.chosen),
        "final": None if final is None else final.to_dict(),
        "curve": [
            {
                "share": point.share,
                "n_train": point.n_train,
                "accuracy": dataclasses.asdict(point.accuracy),
            }
            for point in found.curve
        ],
        "case": _verdict_facts(found.case),
        "more": _verdict_facts(found.more),
        "commands": list(found.commands),
    }


def _row_facts(row: SweepRow) -> dict[str, Any]:
    seconds = row.seconds_per_image
    return {
        "layers": list(row.layers),
        "pool": row.pool,
        "size": list(row.size),
        "width": row.width,
        "accuracy": dataclasses.asdict(row.accuracy),
        "balanced_accuracy": dataclasses.asdict(row.balanced_accuracy),
        "bytes_per_image": row.bytes_per_image,
        "seconds_per_image": None if np.isnan(seconds) else round(seconds, 6),
    }


def _verdict_facts(verdict: Verdict) -> dict[str, Any]:
    difference = verdict.difference
    return {
        "word": verdict.word,
        "text": verdict.text,
        "difference": None if difference is None else dataclasses.asdict(difference),
    }


def _write(found: Sweep) -> None:
    with whole_file(found.folder / "sweep.json") as temporary:
        temporary.write_text(json.dumps(found.facts, indent=2))
    columns: Sequence[str] = [
        "layers", "pool", "size", "width", "accuracy", "low", "high",
        "balanced_accuracy", "bytes_per_image", "seconds_per_image",
    ]  # fmt: skip
    with (
        whole_file(found.folder / "sweep.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in found.rows:
            facts = _row_facts(row)
            writer.writerow(
                [
                    "+".join(row.layers),
                    row.pool,
                    size_text(row.size),
                    row.width,
                    row.accuracy.value,
                    row.accuracy.low,
                    row.accuracy.high,
                    row.balanced_accuracy.value,
                    row.bytes_per_image,
                    facts["seconds_per_image"],
                ]
            )
