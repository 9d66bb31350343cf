"""A bundle, and the codes that it was fitted on, as the contents of a page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.classification import Bundle, Evaluation, FitJob, Score, load_bundle, prepare_fit
from featx.errors import FeatxError
from featx.outputs import spelt
from featx.report.contents import Contents, Missing, Pictures
from featx.report.gathering.evaluations import evaluation_of
from featx.report.gathering.looking import pictures_of, predict_scored
from featx.report.gathering.words import (
    bundle_commands,
    fit_facts,
    fit_lead,
    recipe_facts,
)

__all__ = ["of_bundle"]


def of_bundle(
    path: Path, codes: Sequence[Path | str], labels: Path | str | None, *, trust: bool
) -> Contents:
    """Return what a page says of a classifier; see `gather`."""
    bundle = load_bundle(path, trust=trust)
    summary = bundle.summary
    evaluation = evaluation_of(summary)
    return Contents(
        kind="classifier",
        name=spelt(str(path)),
        lead=fit_lead(bundle.recipe, summary),
        facts=(*recipe_facts(bundle.recipe, bundle.provenance["extraction"]), *fit_facts(summary)),
        bars=_bars(summary),
        scored_on=f"{summary['n_images']:,} images of {summary['scored_on']}",
        evaluation=evaluation,
        pictures=_pictures(path, bundle, evaluation, codes, labels),
        notes=tuple(spelt(note) for note in summary["notes"]),
        commands=bundle_commands(path, bundle),
        classifier=bundle,
    )


def _bars(summary: Mapping[str, Any]) -> tuple[tuple[str, Score], ...]:
    bars = [("this classifier", Score(**summary["accuracy"]))]
    if summary.get("without_copies"):
        without = summary["without_copies"]
        bars.append((f"without copies ({without['n_images']})", Score(**without["accuracy"])))
    if summary.get("baselines"):
        pixels = dict(summary["baselines"]["pixels"])
        bars.append((f"{pixels.pop('classifier')} on pixels", Score(**pixels)))
        bars.append(("majority class", Score(**summary["baselines"]["majority"])))
    return tuple(bars)


def _pictures(
    path: Path,
    bundle: Bundle,
    evaluation: Evaluation | Missing,
    codes: Sequence[Path | str],
    labels: Path | str | None,
) -> Pictures | Missing:
    stores = [Path(each) for each in codes or bundle.provenance["codes"]]
    again, named = f"featx report {spelt(str(path))}", spelt(", ".join(map(str, stores)))
    gone = [str(each) for each in stores if not each.is_file()]
    if gone:
        return Missing(
            f"The codes that it was fitted on are needed for the images, and "
            f"{spelt(', '.join(gone))} is not there. If it lies elsewhere: {again} --codes FILE. "
            f"If it is gone: {bundle_commands(path, bundle)[0].line}"
        )
    try:
        job = _job(bundle, stores, labels)
        bundle.check_recipe(job.joined.recipe, named)
        bundle.open_codes(stores)
        found = predict_scored(job, bundle)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, since their codes are of no use: {error}")
    if isinstance(evaluation, Evaluation) and _are_others(found.evaluation, evaluation):
        return Missing(
            f"{named} has {found.evaluation.n_images} images to score, and the classifier was "
            f"scored on {evaluation.n_images}, or on other labels. If a table gave labels or "
            f"splits: {again} --labels TABLE. If the images changed since: featx fit {named} "
            "--overwrite"
        )
    pictures = pictures_of(job, found)
    return dataclasses.replace(pictures, note=_note(found.evaluation, evaluation))


def _job(bundle: Bundle, stores: Sequence[Path], labels: Path | str | None) -> FitJob:
    """Return the fit again, as far as the bundle remembers its settings."""
    summary = bundle.summary
    # "5 folds", "5 folds, 3 times", "one of 5 folds"; else the name of a split.
    counts = [int(word) for word in str(summary["scored_on"]).split() if word.isdecimal()]
    return prepare_fit(
        stores,
        clf=summary["classifier"],
        layer=bundle.recipe.layers,
        normalise=summary["normalise"],
        road=summary["road"],
        class_weight=summary["parameters"].get("class_weight"),
        calibration=summary["calibration"],
        folds=counts[0] if counts else 5,
        labels=labels,
        baselines=False,
        partial=True,
        seed=summary["seed"],
    )


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
        f"{found.accuracy.value:.3f}, the score is {expected.accuracy.value:.3f}. The fit may have "
        "had settings that a bundle does not keep, such as --C, --set or --clf auto."
    )
