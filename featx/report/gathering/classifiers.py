"""A bundle, and the codes that it was fitted on, as the contents of a page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.fitting import FitJob, Model, load_model, prepare_fit
from featx.metrics import Evaluation, Score
from featx.report.contents import Contents, Missing, Pictures
from featx.report.gathering.evaluations import evaluation_of
from featx.report.gathering.looking import pictures_of, predict_scored
from featx.report.gathering.words import (
    bundle_commands,
    fit_facts,
    fit_lead,
    recipe_facts,
)
from featx.text import counted, printable

__all__ = ["of_bundle"]

#: Settings that a fit may choose itself, and where its summary has what it chose.
_CHOSEN = {"clf": "classifier", "normalise": "normalise", "solver": "solver"}


def of_bundle(
    path: Path, codes: Sequence[Path | str], labels: Path | str | None, *, trust: bool
) -> Contents:
    """Return what a page says of a classifier; see `gather`."""
    bundle = load_model(path, trust=trust)
    summary = bundle.summary
    evaluation = evaluation_of(summary)
    return Contents(
        kind="classifier",
        name=printable(str(path)),
        lead=fit_lead(bundle.recipe, summary),
        facts=(*recipe_facts(bundle.recipe, bundle.provenance["extraction"]), *fit_facts(summary)),
        bars=_bars(summary),
        scored_on=f"{counted(summary['n_images'], 'image')} of {summary['scored_on']}",
        evaluation=evaluation,
        pictures=_pictures(path, bundle, evaluation, codes, labels),
        notes=tuple(printable(note) for note in summary["notes"]),
        commands=bundle_commands(path, bundle),
        classifier=bundle,
    )


def _bars(summary: Mapping[str, Any]) -> tuple[tuple[str, Score], ...]:
    bars = [("this classifier", Score(**summary["accuracy"]))]
    if summary.get("without_duplicates"):
        without = summary["without_duplicates"]
        bars.append((f"without copies ({without['n_images']})", Score(**without["accuracy"])))
    if summary.get("baselines"):
        pixels = dict(summary["baselines"]["pixels"])
        bars.append((f"{pixels.pop('classifier')} on pixels", Score(**pixels)))
        bars.append(("majority class", Score(**summary["baselines"]["majority"])))
    return tuple(bars)


def _pictures(
    path: Path,
    bundle: Model,
    evaluation: Evaluation | Missing,
    codes: Sequence[Path | str],
    labels: Path | str | None,
) -> Pictures | Missing:
    stores = [Path(each) for each in codes or bundle.provenance["codes"]]
    again, named = f"featx report {printable(str(path))}", printable(", ".join(map(str, stores)))
    table = labels or bundle.provenance["settings"]["labels"]
    gone = [str(each) for each in stores if not each.is_file()]
    if gone:
        return Missing(
            f"The codes that it was fitted on are needed for the images, and "
            f"{printable(', '.join(gone))} is not there. If it lies elsewhere: {again} --codes FILE. "
            f"If it is gone: {bundle_commands(path, bundle)[0].line}"
        )
    if table is not None and not Path(table).is_file():
        return Missing(
            f"The table that gave labels or splits is needed for the images, and "
            f"{printable(str(table))} is not there. If it lies elsewhere: {again} --labels TABLE"
        )
    try:
        job = _job(bundle, stores, table)
        bundle.check_recipe(job.joined.recipe, named)
        bundle.open_codes(stores)
        found = predict_scored(job, bundle)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, since their codes are of no use: {error}")
    if isinstance(evaluation, Evaluation) and _are_others(found.evaluation, evaluation):
        return Missing(
            f"{named} has {counted(found.evaluation.n_images, 'image')} to score, and the "
            f"classifier was scored on {evaluation.n_images}, or on other labels: codes or table "
            f"changed since. Fit again: {bundle_commands(path, bundle)[1].line} --overwrite"
        )
    pictures = pictures_of(job, found)
    return dataclasses.replace(pictures, note=_note(found.evaluation, evaluation))


def _job(bundle: Model, stores: Sequence[Path], table: Path | str | None) -> FitJob:
    """Return the fit again; what it chose itself is taken as chosen, to spare the search."""
    chosen = {name: bundle.summary[of] for name, of in _CHOSEN.items()}
    settings = bundle.provenance["settings"] | chosen | {"labels": table, "repeats": 1}
    return prepare_fit(stores, **settings, baselines=False, partial=True)


def _are_others(found: Evaluation, expected: Evaluation) -> bool:
    """Say whether two evaluations are of different images, as far as counts tell."""
    held = [
        {each.label: each.images for each in one.per_class if each.images}
        for one in (found, expected)
    ]
    return held[0] != held[1]


def _note(found: Evaluation, expected: Evaluation | Missing) -> str:
    """Say how predictions that were taken anew differ from those of the score."""
    if isinstance(expected, Missing):
        return ""
    if expected.n_repeats > 1:
        return (
            f"The score is the mean of {expected.n_repeats} repeats; the images are shown as the "
            f"first predicts them, with an accuracy of {found.accuracy.value:.3f}."
        )
    if found.confusion == expected.confusion:
        return ""
    return (
        "These predictions are not quite those of the score: they have an accuracy of "
        f"{found.accuracy.value:.3f}, the score is {expected.accuracy.value:.3f}. In the score "
        "each fold chose its own classifier and normalisation."
    )
