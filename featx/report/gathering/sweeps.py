"""The contents of a page about a sweep."""

import dataclasses
from pathlib import Path

from featx.errors import ModelError
from featx.fitting import prepare_fit
from featx.metrics import Score
from featx.provenance import Provenance
from featx.report.contents import Contents, ImageResults, Missing, or_missing
from featx.report.gathering.descriptions import recipe_facts, sweep_lead
from featx.report.gathering.image_results import NO_IMAGES, predict_held_out
from featx.text import printable
from featx.workflows.sweeping.prepare import store_name
from featx.workflows.sweeping.results import SweepRecord, read_sweep

__all__ = ["sweep_contents"]


def sweep_contents(path: Path) -> Contents:
    """Return the contents of a page about a sweep, from its sweep.json."""
    folder, sweep = path.parent, read_sweep(path)
    best, expected = sweep.best_row, sweep.expected_accuracy
    bars = [
        ("expected accuracy on new images (nested cross-validation)", expected),
        # Its own interval would not contain the accuracy on new images in 95 % of sweeps.
        ("best row (optimistic: it was selected by this score)", Score(best.accuracy.value)),
    ]
    if sweep.final:
        name = f"best row, scored once on the {sweep.final.scored_on} split"
        bars.append((name, sweep.final.accuracy))
    found = or_missing(NO_IMAGES, lambda: _image_results(folder, sweep))
    results, recipe = (found, ()) if isinstance(found, Missing) else found
    purposes = ("Codes of the best row", "Classifier on them", "Fine-tuning")
    return Contents(
        kind="sweep",
        name=printable(str(folder)),
        lead=sweep_lead(best, len(sweep.rows), expected),
        facts=recipe,
        bars=tuple(bars),
        scored_on="held-out images (cross-validation)",
        evaluation=results if isinstance(results, Missing) else results.evaluation,
        image_results=results,
        notes=tuple(map(printable, sweep.notes)),
        commands=dict(zip(purposes, map(printable, sweep.commands), strict=True)),
        sweep=sweep,
    )


def _image_results(
    folder: Path, sweep: SweepRecord
) -> tuple[ImageResults, tuple[tuple[str, str], ...]]:
    """Return the results of the best row, and the facts of its recipe."""
    best = sweep.best_row
    store = folder / store_name(best.size, best.pool)
    if not store.is_file():
        message = (
            f"the codes of the best row are needed, and {printable(str(store))} does not exist. "
            f"Run the same featx sweep -o {printable(str(folder))} again to make them."
        )
        raise ModelError(message)
    job = prepare_fit(store, layer=best.layers, baselines=False, repeats=1, **vars(sweep.fit))
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
    return results, recipe_facts(job.joined.recipe, Provenance.from_facts(job.joined.provenance))
