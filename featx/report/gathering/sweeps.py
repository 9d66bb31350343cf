"""The contents of a page about a sweep."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.fitting import FitJob, prepare_fit
from featx.metrics import Score
from featx.report.contents import (
    Contents,
    ImageResults,
    LearningPoint,
    Missing,
    SweepPart,
    SweepRow,
)
from featx.report.gathering.descriptions import recipe_facts, sweep_commands, sweep_lead
from featx.report.gathering.image_results import image_results, predict_held_out
from featx.text import printable
from featx.workflows.sweeping.prepare import store_name
from featx.workflows.sweeping.results import read_sweep

__all__ = ["sweep_contents"]


def sweep_contents(path: Path) -> Contents:
    """Return the contents of a page about a sweep, from its sweep.json."""
    folder, facts = path.parent, read_sweep(path)
    rows = [_row(row, facts) for row in facts["rows"]]
    best = next(row for row in rows if "best" in row.mark)
    expected = Score(**facts["expected_accuracy"])
    bars = [
        ("best row, selected by this score", best.accuracy),
        ("expected accuracy on new images (nested cross-validation)", expected),
    ]
    if facts["final"]:
        final = facts["final"]
        bars.append((f"best row, scored once on {final['scored_on']}", Score(**final["accuracy"])))
    results, job = _image_results(folder, facts, best)
    return Contents(
        kind="sweep",
        name=printable(str(folder)),
        lead=sweep_lead(best, len(rows), expected),
        facts=() if job is None else recipe_facts(job.joined.recipe, job.joined.provenance),
        bars=tuple(bars),
        scored_on="held-out images, in folds",
        evaluation=results if isinstance(results, Missing) else results.evaluation,
        image_results=results,
        notes=tuple(printable(note) for note in facts["notes"]),
        commands=sweep_commands(facts["commands"]),
        sweep=SweepPart(
            rows=tuple(rows),
            findings=tuple(
                facts[name]["text"] for name in ("domain_verdict", "more_images_verdict")
            ),
            learning_curve=tuple(
                LearningPoint(point["n_train"], Score(**point["accuracy"]))
                for point in facts["learning_curve"]
            ),
        ),
    )


def _row(row: Mapping[str, Any], facts: Mapping[str, Any]) -> SweepRow:
    height, width = row["size"]
    scores = {name: Score(**row[name]) for name in ("accuracy", "balanced_accuracy")}
    values = {**row, **scores, "layers": tuple(row["layers"]), "size": (int(height), int(width))}
    found = SweepRow(**values)
    marks = [word for word in ("best", "cheapest") if facts[word] == str(found)]
    return dataclasses.replace(found, mark=" and ".join(marks))


def _image_results(
    folder: Path, facts: Mapping[str, Any], best: SweepRow
) -> tuple[ImageResults | Missing, FitJob | None]:
    store = folder / store_name(best.size, best.pool)
    if not store.is_file():
        return Missing(
            "Images cannot be shown, because the codes of the best row are needed, and "
            f"{printable(str(store))} does not exist. Run the same featx sweep -o "
            f"{printable(str(folder))} again to make them."
        ), None
    try:
        job = prepare_fit(store, layer=best.layers, baselines=False, **facts["fit"])
        # A sweep searches penalties in steps of a factor of ten only.
        space = dataclasses.replace(job.space, is_fine=False)
        found = predict_held_out(dataclasses.replace(job, space=space))
    except FeatxError as error:
        return Missing(f"Images cannot be shown, because their codes cannot be used: {error}"), None
    note = ""
    if abs(found.evaluation.accuracy.value - best.accuracy.value) > 1e-9:
        note = (
            "The shown predictions differ from those of the sweep: their accuracy is "
            f"{found.evaluation.accuracy.value:.3f} instead of {best.accuracy.value:.3f}, because "
            "images or settings changed. Run the same featx sweep again."
        )
    return dataclasses.replace(image_results(job, found), note=note), job
