"""The run of a fine-tuning: linear probe, training, comparison, files.

A job comes in; a result and its files go out. A linear probe is fitted on codes of the
images. The network begins as that probe and is trained. Network, probe, majority class and
a classifier on the network's own codes are compared on the test set, which no training, no
early stopping and no fit has seen.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from featx.dataset.fingerprints import Fingerprints
from featx.errors import FitError, ModelError
from featx.extraction import extraction_of, run_extraction
from featx.finetuning.heads import random_head
from featx.finetuning.history import TrainingResult, write_history
from featx.finetuning.network import Network
from featx.finetuning.settings import TrainingSettings, hidden_sizes
from featx.finetuning.trainer import logits
from featx.finetuning.training import check_resumable, train
from featx.finetuning.tuned import save_tuned
from featx.fitting import Fit, Model, fit
from featx.metrics.decisions import predicted_columns
from featx.metrics.evaluation import Evaluation, majority_score, score_predictions
from featx.metrics.intervals import paired_difference
from featx.network import find_device, find_weights, read_weights
from featx.signatures import prepared_by, values_of
from featx.store import Store, open_store
from featx.text import counted
from featx.workflows.finetuning.comparison import advice_of
from featx.workflows.finetuning.inputs import read_inputs
from featx.workflows.finetuning.prepare import FinetuneJob, prepare_finetune
from featx.workflows.finetuning.results import Finetuned, read_finetuned, write_run
from featx.workflows.finetuning.split import (
    FinetuneSplit,
    labels_of,
    split_digest,
    split_images,
    write_split,
)
from featx.workflows.heads import head_of

__all__ = ["finetune", "run_finetune"]

_RESULTS = ("tuned.keras", "tuned.weights.h5", "probe.skops", "fit_on_tuned.skops", "history.csv")


@prepared_by(prepare_finetune)
def finetune(job: FinetuneJob) -> Finetuned:
    """Fine-tune a network on images, and compare it with a linear probe.

    Returns
    -------
    Finetuned
        The scores of the tuned network and of the probe; the files are in `output`.
    """
    return run_finetune(job)


def run_finetune(job: FinetuneJob) -> Finetuned:
    """Run a job of `prepare_finetune`.

    Raises
    ------
    OptionError
        The folder holds an unfinished run with other settings, or the memory is too small.
    FitError
        There are too few images or classes.
    ImagesError, WeightsError, StoreError, OutputError
        A file cannot be read or written.
    """
    progress, start, folder = job.progress, time.perf_counter(), job.folder
    extraction = dataclasses.replace(job.extraction, progress=progress.images)
    job = dataclasses.replace(job, extraction=extraction)
    run_extraction(extraction)
    store = open_store(folder / "codes.h5")
    split = _split(job, store)
    identity = _identity(job, store, split)
    finished = _finished_run(job, identity)
    if finished is not None:
        progress.stage(f"{folder} holds the finished run; use --overwrite to start over")
        return finished
    write_split(folder / "split.csv", store, split)
    progress.stage(
        f"{counted(len(split.train_rows), 'training image')}, {len(split.stopping_rows)} for early "
        f"stopping, {counted(len(split.test_rows), 'test image')} ({split.test_from})"
    )
    probe = _fit_on(folder / "codes.h5", job, folder / "probe.skops")
    progress.stage(f"linear probe: accuracy {probe.evaluation.accuracy}")
    network = _network(job, probe.model)
    training, found = _train(job, store, split, network, identity)
    y, groups = split.y[split.test_rows].astype(str), split.groups[split.test_rows]
    classes = probe.model.classes
    tuned = score_predictions(y, softmax(found, axis=1), classes, groups)
    _save(job, store, split, network, tuned)
    write_history(folder, training)
    progress.stage("codes of the fine-tuned network, and a classifier on them")
    again = _fit_on_tuned(job)
    scores = {
        "majority": majority_score(y, groups),
        "probe": probe.evaluation.accuracy,
        "tuned": tuned.accuracy,
        "fit_on_tuned": again.evaluation.accuracy,
    }
    by_probe = probe.model.predict_proba(store.flat_codes(job.cut)[split.test_rows])
    tuned_is_correct, probe_is_correct = (
        np.array(classes)[predicted_columns(each)] == y for each in (found, by_probe)
    )
    gain = paired_difference(tuned_is_correct, probe_is_correct, groups)
    facts = {
        "identity": identity,
        "recipe": json.loads(job.recipe.to_json()),
        "training": values_of(job.settings, TrainingSettings),
        "head": _head_facts(job),
        "split": {
            "train": len(split.train_rows),
            "early_stopping": len(split.stopping_rows),
            "test": len(split.test_rows),
            "test_from": split.test_from,
        },
        "notes": [*job.notes, *split.notes, *tuned.notes],
        **{name: dataclasses.asdict(score) for name, score in scores.items()},
        "gain": dataclasses.asdict(gain),
        "advice": advice_of(scores, gain, best=training.best),
        "tuned_scores": tuned.to_dict(),
        "probe_scores": probe.to_dict(),
        "fit_on_tuned_scores": again.to_dict(),
        "history": [dataclasses.asdict(record) for record in training.history],
        "best_epoch": training.best,
        "ended": training.ended,
        "resumed_epochs": training.resumed,
        "micro_batch": training.micro_batch,
        "seconds": round(time.perf_counter() - start, 1),
    }
    return write_run(folder, facts)


def _split(job: FinetuneJob, store: Store) -> FinetuneSplit:
    try:
        return split_images(store, job.given_model, job.settings.seed, job.settings.duplicates)
    except FitError:
        # Codes of unsuitable images are useless, unless another model is given next time.
        if job.given_model is None and [path.name for path in job.folder.iterdir()] == ["codes.h5"]:
            (job.folder / "codes.h5").unlink()
            job.folder.rmdir()
        raise


def _fit_on(codes: Path, job: FinetuneJob, output: Path) -> Fit:
    return fit(
        codes,
        **job.probe,
        labels=job.folder / "split.csv",
        split_column="split",
        group_column="group",
        duplicates=job.settings.duplicates,
        baselines=False,
        output=output,
        overwrite=True,
        seed=job.settings.seed,
    )


def _fit_on_tuned(job: FinetuneJob) -> Fit:
    """Extract codes with the tuned weights, and fit on them as the probe was fitted."""
    target = job.folder / "tuned_codes.h5"
    source = find_weights(str(job.folder / "tuned.weights.h5"), job.recipe.layers)
    recipe = dataclasses.replace(job.recipe, weights=source.identity)
    run_extraction(extraction_of(job.extraction, recipe, source, target, overwrite=True))
    return _fit_on(target, job, job.folder / "fit_on_tuned.skops")


def _network(job: FinetuneJob, probe: Model) -> Network:
    settings = job.settings
    if settings.head_init == "probe":
        head = head_of(probe)
    else:
        hidden = hidden_sizes(settings.head)
        head = random_head(probe.classes, job.recipe.n_features, hidden, settings.seed)
    weights = read_weights(job.extraction.source, job.recipe.layers)
    return Network(job.recipe, weights, head, settings, find_device(job.extraction.device))


def _train(
    job: FinetuneJob,
    store: Store,
    split: FinetuneSplit,
    network: Network,
    identity: Mapping[str, Any],
) -> tuple[TrainingResult, NDArray[np.float64]]:
    """Train the network, and return the result and the logits of the test set."""
    inputs = read_inputs(job, store, network)
    balanced = job.settings.class_weight == "balanced"
    result = train(
        network,
        inputs,
        labels_of(split, network.head.classes, balanced=balanced),
        job.settings,
        job.folder / "checkpoint.h5",
        identity=identity,
        progress=job.progress.epoch,
    )
    return result, logits(network, inputs, split.test_rows, result.micro_batch)


def _save(
    job: FinetuneJob, store: Store, split: FinetuneSplit, network: Network, tuned: Evaluation
) -> None:
    """Write the network, with the images that it was trained on."""
    rows = np.union1d(split.train_rows, split.stopping_rows)
    fitted_on = tuple(str(digest) for digest in store.images.sha256[rows])
    summary = {
        "classifier": "finetuned VGG19",
        "layers": [job.cut],
        "n_train": len(fitted_on),
        "accuracy": dataclasses.asdict(tuned.accuracy),
    }
    known = Fingerprints.of(store.images.group[rows], store.thumbnails()[rows])
    save_tuned(network, job.folder, fitted_on, summary, known)


def _head_facts(job: FinetuneJob) -> dict[str, Any]:
    return {"hidden": list(hidden_sizes(job.settings.head)), "init": job.settings.head_init}


def _identity(job: FinetuneJob, store: Store, split: FinetuneSplit) -> dict[str, Any]:
    """Return what a resumed run must share with the earlier one, besides the settings."""
    head = _head_facts(job)
    return {
        "recipe": job.recipe.to_json(),
        "images": split_digest(split, store),
        "head": [*head["hidden"], head["init"]],
        "probe": json.dumps(job.probe, sort_keys=True, default=str),
        "cache": job.settings.cache,
    }


def _finished_run(job: FinetuneJob, identity: Mapping[str, Any]) -> Finetuned | None:
    """Return the result of a finished run; refuse an unfinished one with other settings."""
    facts = {"training": values_of(job.settings, TrainingSettings), "identity": identity}
    if all((job.folder / name).exists() for name in _RESULTS):
        with contextlib.suppress(ModelError):
            earlier = read_finetuned(job.folder / "run.json")
            if all(earlier.facts.get(name) == value for name, value in facts.items()):
                return earlier
    check_resumable(job.folder / "checkpoint.h5", job.settings, identity)
    return None
