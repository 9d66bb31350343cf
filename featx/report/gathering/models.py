"""The contents of a page about a model of `featx fit`."""

import dataclasses
from pathlib import Path

from featx.errors import FitError, ModelError
from featx.fitting import Model, load_model, prepare_fit
from featx.metrics import Evaluation, Score
from featx.report.contents import Contents, ImageResults, Missing, or_missing
from featx.report.gathering.descriptions import (
    fit_facts,
    fit_lead,
    model_commands,
    recipe_facts,
    scored_images,
)
from featx.report.gathering.fit_records import FitRecord, records_of
from featx.report.gathering.image_results import NO_IMAGES, or_few_scores, predict_scored
from featx.report.settings import ReportSettings
from featx.text import counted, printable

__all__ = ["model_contents"]

#: Settings that a fit may choose, and the keys of its choices in the summary.
_CHOSEN = {"clf": "classifier", "normalise": "normalise", "solver": "solver"}


def model_contents(path: Path, settings: ReportSettings) -> Contents:
    """Return the contents of a page about a model.

    Raises
    ------
    ModelError
        The model cannot be read, or the codes or labels in the settings cannot be used.
    """
    model = load_model(path, trust=settings.trust)
    fit, origin = records_of(model)
    evaluation = or_few_scores(Evaluation.from_dict(model.summary))
    found = or_missing(NO_IMAGES, lambda: _image_results(path, model, evaluation, settings))
    if isinstance(found, Missing) and (settings.stores or settings.labels):
        raise ModelError(found.text)  # what the user names is used, or it is an error
    return Contents(
        kind="model",
        name=printable(str(path)),
        lead=fit_lead(model.recipe, fit),
        facts=(*recipe_facts(model.recipe, origin.extraction), *fit_facts(fit)),
        bars=_bars(fit),
        scored_on=scored_images(fit),
        evaluation=evaluation,
        image_results=found,
        notes=tuple(map(printable, fit.notes)),
        commands=model_commands(path, model.recipe, fit, origin),
        model=model,
    )


def _bars(fit: FitRecord) -> tuple[tuple[str, Score], ...]:
    bars = [("this classifier", fit.accuracy)]
    if without := fit.without_duplicates:
        bars.append((f"without duplicates ({without.n_images})", without.accuracy))
    if found := fit.baselines:
        bars.append((f"{found.pixels.classifier} on raw pixels", found.pixels.score))
        bars.append(("majority class", found.majority))
    return tuple(bars)


def _image_results(
    path: Path, model: Model, evaluation: Evaluation | Missing, given: ReportSettings
) -> ImageResults:
    fit, origin = records_of(model)
    stores = [Path(each) for each in given.stores or origin.codes]
    command, names = f"featx report {printable(str(path))}", printable(", ".join(map(str, stores)))
    commands = model_commands(path, model.recipe, fit, origin)
    stored = origin.settings.labels
    table = given.labels or (None if stored is None else str(stored))
    missing = [str(each) for each in stores if not each.is_file()]
    if missing:
        message = (
            "the codes that the model was fitted on are needed, and "
            f"{printable(', '.join(missing))} does not exist. If it was moved: {command} "
            f"--codes FILE. If it was deleted: {commands['Codes']}"
        )
        raise ModelError(message)
    if table is not None and not Path(table).is_file():
        message = (
            f"the table of labels or splits is needed, and {printable(str(table))} does not "
            f"exist. If it was moved: {command} --labels TABLE"
        )
        raise ModelError(message)
    # What the fit chose is a setting now, so nothing is searched.
    chosen = {name: getattr(fit, key) for name, key in _CHOSEN.items()}
    given_now = {
        "codes": stores,
        "labels": table,
        "repeats": 1,
        "baselines": False,
        "partial": True,
    }
    job = prepare_fit(**{**vars(origin.settings), **chosen, **given_now})
    model.check_recipe(job.joined.recipe, names)
    model.open_codes(stores)
    results = predict_scored(job, model)
    if isinstance(evaluation, Evaluation) and _differ(results.evaluation, evaluation):
        message = (
            f"the codes or the table changed since the fit: {names} has "
            f"{counted(results.evaluation.n_images, 'image')} to score, but the model was scored "
            f"on {evaluation.n_images}, or on other labels. Fit again: {commands['Classifier']} "
            "--overwrite"
        )
        raise FitError(message)
    return dataclasses.replace(results, note=_note(results.evaluation, evaluation))


def _differ(found: Evaluation, expected: Evaluation) -> bool:
    """Return whether two evaluations have other numbers of images per class."""
    counts = [
        {each.label: each.images for each in one.per_class if each.images}
        for one in (found, expected)
    ]
    return counts[0] != counts[1]


def _note(found: Evaluation, expected: Evaluation | Missing) -> str:
    """Return a note if the shown predictions differ from the scored ones."""
    if isinstance(expected, Missing):
        return ""
    accuracy = f"{found.accuracy.value:.3f}"
    if expected.n_repeats > 1:
        return (
            f"The score is the mean of {expected.n_repeats} repeats, "
            f"{expected.accuracy.value:.3f}, but the images are shown as predicted in the first "
            f"one, with an accuracy of {accuracy}."
        )
    if found.confusion == expected.confusion:
        return ""
    return (
        "The shown predictions differ slightly from those of the score, because for the score each "
        f"fold chose its own classifier and normalisation. Their accuracy is {accuracy}; that of "
        f"the score is {expected.accuracy.value:.3f}."
    )
