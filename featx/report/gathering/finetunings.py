"""The contents of a page about a fine-tuning."""

import dataclasses
from pathlib import Path

from featx.errors import FeatxError, ModelError
from featx.fitting import Model, prepare_fit
from featx.fitting.cross_validation import predict_rows
from featx.metrics import Evaluation
from featx.provenance import Provenance
from featx.report.contents import Contents, ImageResults, Missing, or_missing
from featx.report.gathering.descriptions import (
    finetuning_commands,
    finetuning_facts,
    finetuning_lead,
    recipe_facts,
)
from featx.report.gathering.image_results import NO_IMAGES, image_results, or_few_scores
from featx.store import open_store
from featx.text import counted, printable
from featx.workflows.finetuning.results import RunRecord, read_finetuned
from featx.workflows.heads import tuned_model

__all__ = ["finetuning_contents"]

#: Names of the compared classifiers in run.json, and on the page.
_COMPARED = {
    "tuned": "fine-tuned network",
    "fit_on_tuned": "featx fit on fine-tuned codes",
    "probe": "linear probe (featx fit)",
    "majority": "majority class",
}


def finetuning_contents(path: Path) -> Contents:
    """Return the contents of a page about a fine-tuning, from its run.json."""
    finetuned = read_finetuned(path)
    folder, record = finetuned.folder, finetuned.record
    recipe, split = record.recipe, record.split
    evaluation = or_few_scores(record.tuned_scores)
    model = or_missing(NO_IMAGES, lambda: tuned_model(_existing(folder, "tuned.keras")))
    try:
        made = Provenance.from_facts(open_store(folder / "codes.h5").provenance)
    except FeatxError:
        made = Provenance()
    return Contents(
        kind="fine-tuning",
        name=printable(str(folder)),
        lead=finetuning_lead(record),
        facts=(*recipe_facts(recipe, made), *finetuning_facts(record)),
        bars=tuple((words, finetuned.scores[name]) for name, words in _COMPARED.items()),
        scored_on=f"{counted(split.test, 'test image')} ({split.test_from})",
        evaluation=evaluation,
        image_results=or_missing(
            NO_IMAGES, lambda: _image_results(folder, record, evaluation, model)
        ),
        notes=tuple(map(printable, record.notes)),
        commands=finetuning_commands(folder, record, made),
        finetuned=finetuned,
        model=model if isinstance(model, Model) else None,
    )


def _image_results(
    folder: Path,
    record: RunRecord,
    evaluation: Evaluation | Missing,
    model: Model | Missing,
) -> ImageResults | Missing:
    """Predict the test set with the network's head, from the stored codes of the network."""
    if isinstance(model, Missing):
        return model
    job = prepare_fit(
        _existing(folder, "tuned_codes.h5"),
        **vars(record.identity.probe),
        # parts.csv is the name that 0.1 gave to split.csv.
        labels=_existing(folder, "split.csv", "parts.csv"),
        split_column="split",
        group_column="group",
        baselines=False,
        seed=record.training.seed,
    )
    predictions = predict_rows(job, model.predict_proba, model.classes, job.split)
    how = "The test set, predicted by the fine-tuned network."
    results = image_results(job, predictions, how)
    found = results.evaluation
    if isinstance(evaluation, Missing) or found.confusion == evaluation.confusion:
        return results
    note = (
        "The predictions from stored codes differ slightly from those of the score: their "
        f"accuracy is {found.accuracy.value:.3f} instead of {evaluation.accuracy.value:.3f}."
    )
    return dataclasses.replace(results, note=note)


def _existing(folder: Path, *names: str) -> Path:
    """Return the first of these files that exists."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    message = (
        "the fine-tuned network and its codes are needed, and "
        f"{printable(str(folder / names[0]))} does not exist. Run the same featx finetune -o "
        f"{printable(str(folder))} again with --overwrite."
    )
    raise ModelError(message)
