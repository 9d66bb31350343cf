"""A finished fine-tuning, and the codes of its network, as the contents of a page."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.fitting import FitJob, Model, prepare_fit
from featx.fitting.cross_validation import predict_rows
from featx.metrics import Evaluation
from featx.recipe import Recipe
from featx.report.contents import Contents, Missing, Pictures, TuningPart
from featx.report.gathering.evaluations import evaluation_of
from featx.report.gathering.looking import ShownPredictions, pictures_of
from featx.report.gathering.words import (
    recipe_facts,
    tuning_commands,
    tuning_facts,
    tuning_lead,
)
from featx.store import open_store
from featx.text import counted, printable
from featx.workflows.finetuning import read_finetuned
from featx.workflows.heads import tuned_model

__all__ = ["of_tuning"]

#: What is compared: names in run.json, and for people.
_COMPARED = {
    "tuned": "tuned network",
    "fit_on_tuned": "fit on tuned codes",
    "probe": "probe (featx fit)",
    "majority": "majority class",
}


def of_tuning(path: Path) -> Contents:
    """Return the contents of a page about a fine-tuning, from its run.json."""
    finetuned = read_finetuned(path)
    folder, facts = finetuned.folder, finetuned.facts
    recipe = Recipe.from_json(json.dumps(facts["recipe"]))
    scores = {words: finetuned.scores[name] for name, words in _COMPARED.items()}
    evaluation, split = evaluation_of(facts["tuned_scores"]), facts["split"]
    bundle = _classifier(folder)
    pictures = _pictures(folder, facts, evaluation, bundle)
    provenance = _provenance(folder)
    return Contents(
        kind="fine-tuning",
        name=printable(str(folder)),
        lead=tuning_lead(recipe, facts),
        facts=(*recipe_facts(recipe, provenance), *tuning_facts(facts)),
        bars=tuple(scores.items()),
        scored_on=f"{counted(split['test'], 'test image')} ({split['test_from']})",
        evaluation=evaluation,
        pictures=pictures,
        notes=tuple(printable(note) for note in facts["notes"]),
        commands=tuning_commands(folder, recipe, facts, provenance),
        tuning=TuningPart(
            history=finetuned.training.history,
            best=finetuned.training.best,
            scores=scores,
            gain=finetuned.gain,
            advice=finetuned.advice,
        ),
        classifier=bundle if isinstance(bundle, Model) else None,
    )


def _provenance(folder: Path) -> Mapping[str, Any]:
    """Return who made the first codes, where they are still there."""
    try:
        return open_store(folder / "codes.h5").provenance
    except FeatxError:
        return {}


def _pictures(
    folder: Path,
    facts: Mapping[str, Any],
    evaluation: Evaluation | Missing,
    bundle: Model | Missing,
) -> Pictures | Missing:
    """Predict the untouched images by the network's head, from the codes that it leaves."""
    store, table = folder / "tuned_codes.h5", folder / "split.csv"
    if isinstance(bundle, Missing):
        return bundle
    gone = [path for path in (store, table) if not path.is_file()]
    if gone:
        return _gone(folder, gone)
    try:
        job = _job(store, table, facts)
        rows = job.split.score_rows
        predictions = predict_rows(job, bundle.predict_proba, bundle.classes, rows)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, since their codes are of no use: {error}")
    how = "The test set, predicted by the tuned network."
    found = ShownPredictions(predictions, predictions.evaluation(job), how)
    note = ""
    if isinstance(evaluation, Evaluation) and found.evaluation.confusion != evaluation.confusion:
        note = (
            "The network's codes, taken anew, give not quite the predictions of the score: an "
            f"accuracy of {found.evaluation.accuracy.value:.3f} beside "
            f"{evaluation.accuracy.value:.3f}."
        )
    return dataclasses.replace(pictures_of(job, found), note=note)


def _classifier(folder: Path) -> Model | Missing:
    network = folder / "tuned.keras"
    if not network.is_file():
        return _gone(folder, [network])
    try:
        return tuned_model(network)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, since the tuned network is of no use: {error}")


def _gone(folder: Path, paths: Sequence[Path]) -> Missing:
    return Missing(
        f"The tuned network and its codes are needed for the images, and "
        f"{printable(', '.join(map(str, paths)))} is not there. Make it again by the same featx "
        f"finetune -o {printable(str(folder))} --overwrite."
    )


def _job(store: Path, table: Path, facts: Mapping[str, Any]) -> FitJob:
    settings = json.loads(facts["identity"]["probe"])
    return prepare_fit(
        store,
        **settings,
        labels=table,
        split_column="split",
        group_column="group",
        baselines=False,
        seed=facts["training"]["seed"],
    )
