"""The contents of a page about a model of `featx fit`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.fitting import FitJob, Model, load_model, prepare_fit
from featx.metrics import Evaluation, Score
from featx.report.contents import Contents, ImageResults, Missing
from featx.report.gathering.descriptions import (
    fit_facts,
    fit_lead,
    model_commands,
    recipe_facts,
    scored_images,
)
from featx.report.gathering.image_results import evaluation_from, image_results, predict_scored
from featx.text import counted, printable

__all__ = ["model_contents"]

#: Settings that a fit may choose, and the keys of its choices in the summary.
_CHOSEN = {"clf": "classifier", "normalise": "normalise", "solver": "solver"}


def model_contents(
    path: Path, codes: Sequence[Path | str], labels: Path | str | None, *, trust: bool
) -> Contents:
    """Return the contents of a page about a model; see `gather`."""
    model = load_model(path, trust=trust)
    summary = model.summary
    evaluation = evaluation_from(summary)
    return Contents(
        kind="model",
        name=printable(str(path)),
        lead=fit_lead(model.recipe, summary),
        facts=(*recipe_facts(model.recipe, model.provenance["extraction"]), *fit_facts(summary)),
        bars=_bars(summary),
        scored_on=scored_images(summary),
        evaluation=evaluation,
        image_results=_image_results(path, model, evaluation, codes, labels),
        notes=tuple(printable(note) for note in summary["notes"]),
        commands=model_commands(path, model),
        model=model,
    )


def _bars(summary: Mapping[str, Any]) -> tuple[tuple[str, Score], ...]:
    bars = [("this classifier", Score(**summary["accuracy"]))]
    if summary.get("without_duplicates"):
        without = summary["without_duplicates"]
        name = f"without duplicates ({without['n_images']})"
        bars.append((name, Score(**without["accuracy"])))
    if summary.get("baselines"):
        pixels = dict(summary["baselines"]["pixels"])
        bars.append((f"{pixels.pop('classifier')} on raw pixels", Score(**pixels)))
        bars.append(("majority class", Score(**summary["baselines"]["majority"])))
    return tuple(bars)


def _image_results(
    path: Path,
    model: Model,
    evaluation: Evaluation | Missing,
    codes: Sequence[Path | str],
    labels: Path | str | None,
) -> ImageResults | Missing:
    stores = [Path(each) for each in codes or model.provenance["codes"]]
    command, names = f"featx report {printable(str(path))}", printable(", ".join(map(str, stores)))
    table = labels or model.provenance["settings"]["labels"]
    missing = [str(each) for each in stores if not each.is_file()]
    if missing:
        return Missing(
            "Images cannot be shown, because the codes that the model was fitted on are needed, "
            f"and {printable(', '.join(missing))} does not exist. If it was moved: {command} "
            f"--codes FILE. If it was deleted: {model_commands(path, model)[0].line}"
        )
    if table is not None and not Path(table).is_file():
        return Missing(
            "Images cannot be shown, because the table of labels or splits is needed, and "
            f"{printable(str(table))} does not exist. If it was moved: {command} --labels TABLE"
        )
    try:
        job = _job(model, stores, table)
        model.check_recipe(job.joined.recipe, names)
        model.open_codes(stores)
        found = predict_scored(job, model)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, because their codes cannot be used: {error}")
    if isinstance(evaluation, Evaluation) and _differ(found.evaluation, evaluation):
        return Missing(
            f"Images cannot be shown, because the codes or the table changed since the fit: "
            f"{names} has {counted(found.evaluation.n_images, 'image')} to score, but the model "
            f"was scored on {evaluation.n_images}, or on other labels. Fit again: "
            f"{model_commands(path, model)[1].line} --overwrite"
        )
    results = image_results(job, found)
    return dataclasses.replace(results, note=_note(found.evaluation, evaluation))


def _job(model: Model, stores: Sequence[Path], table: Path | str | None) -> FitJob:
    """Return the job of the same fit, whose choices are settings now, so nothing is searched."""
    chosen = {name: model.summary[key] for name, key in _CHOSEN.items()}
    settings = model.provenance["settings"] | chosen | {"labels": table, "repeats": 1}
    return prepare_fit(stores, **settings, baselines=False, partial=True)


def _differ(found: Evaluation, expected: Evaluation) -> bool:
    """Return whether two evaluations have other numbers of images per class."""
    counts = [
        {each.label: each.images for each in one.per_class if each.images}
        for one in (found, expected)
    ]
    return counts[0] != counts[1]


def _note(found: Evaluation, expected: Evaluation | Missing) -> str:
    """Return a note if the shown predictions are not those of the score."""
    if isinstance(expected, Missing):
        return ""
    accuracy = f"{found.accuracy.value:.3f}"
    if expected.n_repeats > 1:
        return (
            f"The score is the mean of {expected.n_repeats} repeats, but the images are shown as "
            f"predicted in the first one, with an accuracy of {accuracy}."
        )
    if found.confusion == expected.confusion:
        return ""
    return (
        f"The shown predictions differ slightly from those of the score: their accuracy is "
        f"{accuracy} instead of {expected.accuracy.value:.3f}, because for the score each fold "
        "chose its own classifier and normalisation."
    )
