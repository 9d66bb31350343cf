"""The contents of a page about a fine-tuning."""

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
from featx.report.contents import Contents, ImageResults, Missing
from featx.report.gathering.descriptions import (
    finetuning_commands,
    finetuning_facts,
    finetuning_lead,
    recipe_facts,
)
from featx.report.gathering.image_results import ShownPredictions, evaluation_from, image_results
from featx.store import open_store
from featx.text import counted, printable
from featx.workflows.finetuning.results import read_finetuned
from featx.workflows.heads import tuned_model

__all__ = ["finetuning_contents"]

#: What is compared, as run.json and as the page names it.
_COMPARED = {
    "tuned": "fine-tuned network",
    "fit_on_tuned": "featx fit on fine-tuned codes",
    "probe": "linear probe (featx fit)",
    "majority": "majority class",
}


def finetuning_contents(path: Path) -> Contents:
    """Return the contents of a page about a fine-tuning, from its run.json."""
    finetuned = read_finetuned(path)
    folder, facts = finetuned.folder, finetuned.facts
    recipe = Recipe.from_json(json.dumps(facts["recipe"]))
    evaluation, split = evaluation_from(facts["tuned_scores"]), facts["split"]
    model = _model(folder)
    try:
        provenance = open_store(folder / "codes.h5").provenance
    except FeatxError:
        provenance = {}
    return Contents(
        kind="fine-tuning",
        name=printable(str(folder)),
        lead=finetuning_lead(recipe, facts),
        facts=(*recipe_facts(recipe, provenance), *finetuning_facts(facts)),
        bars=tuple((words, finetuned.scores[name]) for name, words in _COMPARED.items()),
        scored_on=f"{counted(split['test'], 'test image')} ({split['test_from']})",
        evaluation=evaluation,
        image_results=_image_results(folder, facts, evaluation, model),
        notes=tuple(printable(note) for note in facts["notes"]),
        commands=finetuning_commands(folder, recipe, facts, provenance),
        finetuned=finetuned,
        model=model if isinstance(model, Model) else None,
    )


def _image_results(
    folder: Path,
    facts: Mapping[str, Any],
    evaluation: Evaluation | Missing,
    model: Model | Missing,
) -> ImageResults | Missing:
    """Predict the test set with the network's head, from the stored codes of the network."""
    store = folder / "tuned_codes.h5"
    # parts.csv is the name that 0.1 gave to split.csv.
    tables = [path for path in (folder / "split.csv", folder / "parts.csv") if path.is_file()]
    if isinstance(model, Missing):
        return model
    missing = [path for path in (store, *(tables or [folder / "split.csv"])) if not path.is_file()]
    if missing:
        return _missing(folder, missing)
    try:
        job = _job(store, tables[0], facts)
        rows = job.split.score_rows
        predictions = predict_rows(job, model.predict_proba, model.classes, rows)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, because their codes cannot be used: {error}")
    how = "The test set, predicted by the fine-tuned network."
    found = ShownPredictions(predictions, predictions.evaluation(job), how)
    note = ""
    if isinstance(evaluation, Evaluation) and found.evaluation.confusion != evaluation.confusion:
        note = (
            "The predictions from stored codes differ slightly from those of the score: their "
            f"accuracy is {found.evaluation.accuracy.value:.3f} instead of "
            f"{evaluation.accuracy.value:.3f}."
        )
    return dataclasses.replace(image_results(job, found), note=note)


def _model(folder: Path) -> Model | Missing:
    network = folder / "tuned.keras"
    if not network.is_file():
        return _missing(folder, [network])
    try:
        return tuned_model(network)
    except FeatxError as error:
        return Missing(f"Images cannot be shown, because the network cannot be used: {error}")


def _missing(folder: Path, paths: Sequence[Path]) -> Missing:
    return Missing(
        "Images cannot be shown, because the fine-tuned network and its codes are needed, and "
        f"{printable(', '.join(map(str, paths)))} does not exist. Run the same featx finetune -o "
        f"{printable(str(folder))} again with --overwrite."
    )


def _job(store: Path, table: Path, facts: Mapping[str, Any]) -> FitJob:
    return prepare_fit(
        store,
        **json.loads(facts["identity"]["probe"]),
        labels=table,
        split_column="split",
        group_column="group",
        baselines=False,
        seed=facts["training"]["seed"],
    )
