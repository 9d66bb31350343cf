"""The contents of a page about a sweep."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.errors import ModelError
from featx.fitting import prepare_fit
from featx.metrics import Score
from featx.report.contents import (
    Contents,
    ImageResults,
    LearningPoint,
    Missing,
    SweepPart,
    or_missing,
)
from featx.report.gathering.descriptions import recipe_facts, sweep_lead
from featx.report.gathering.image_results import NO_IMAGES, predict_held_out
from featx.text import printable
from featx.workflows.sweeping.prepare import store_name
from featx.workflows.sweeping.results import ScoredCandidate, read_sweep

__all__ = ["sweep_contents"]


def sweep_contents(path: Path) -> Contents:
    """Return the contents of a page about a sweep, from its sweep.json."""
    folder, facts = path.parent, read_sweep(path)
    part = _part(facts)
    best = next(row for row in part.rows if str(row) == part.best)
    expected = Score(**facts["expected_accuracy"])
    bars = [
        ("best row, selected by this score", best.accuracy),
        ("expected accuracy on new images (nested cross-validation)", expected),
    ]
    if facts["final"]:
        final = facts["final"]
        name = f"best row, scored once on the {final['scored_on']} split"
        bars.append((name, Score(**final["accuracy"])))
    found = or_missing(NO_IMAGES, lambda: _image_results(folder, facts, best))
    results, recipe = (found, ()) if isinstance(found, Missing) else found
    purposes = ("Codes of the best row", "Classifier on them", "Fine-tuning")
    return Contents(
        kind="sweep",
        name=printable(str(folder)),
        lead=sweep_lead(best, len(part.rows), expected),
        facts=recipe,
        bars=tuple(bars),
        scored_on="held-out images (cross-validation)",
        evaluation=results if isinstance(results, Missing) else results.evaluation,
        image_results=results,
        notes=tuple(map(printable, facts["notes"])),
        commands=dict(zip(purposes, map(printable, facts["commands"]), strict=True)),
        sweep=part,
    )


def _part(facts: Mapping[str, Any]) -> SweepPart:
    return SweepPart(
        rows=tuple(map(_row, facts["rows"])),
        best=facts["best"],
        cheapest=facts["cheapest"],
        findings=tuple(facts[name]["text"] for name in ("domain_verdict", "more_images_verdict")),
        learning_curve=tuple(
            LearningPoint(point["n_train"], Score(**point["accuracy"]))
            for point in facts["learning_curve"]
        ),
    )


def _row(row: Mapping[str, Any]) -> ScoredCandidate:
    height, width = row["size"]
    scores = {name: Score(**row[name]) for name in ("accuracy", "balanced_accuracy")}
    values = {**row, **scores, "layers": tuple(row["layers"]), "size": (int(height), int(width))}
    return ScoredCandidate(**values)


def _image_results(
    folder: Path, facts: Mapping[str, Any], best: ScoredCandidate
) -> tuple[ImageResults, tuple[tuple[str, str], ...]]:
    """Return the results of the best row, and the facts of its recipe."""
    store = folder / store_name(best.size, best.pool)
    if not store.is_file():
        message = (
            f"the codes of the best row are needed, and {printable(str(store))} does not exist. "
            f"Run the same featx sweep -o {printable(str(folder))} again to make them."
        )
        raise ModelError(message)
    job = prepare_fit(store, layer=best.layers, baselines=False, **facts["fit"])
    # A sweep searches penalties in steps of a factor of ten only.
    space = dataclasses.replace(job.space, is_fine=False)
    results = predict_held_out(dataclasses.replace(job, space=space))
    accuracy, expected = results.evaluation.accuracy.value, best.accuracy.value
    note = (
        f"The shown predictions differ from those of the sweep: their accuracy is {accuracy:.3f} "
        f"instead of {expected:.3f}, because images or settings changed. Run the same featx sweep "
        "again."
    )
    results = dataclasses.replace(results, note=note if abs(accuracy - expected) > 1e-9 else "")
    return results, recipe_facts(job.joined.recipe, job.joined.provenance)
