"""The run of a fine-tuning: probe, training, comparison, files.

A job comes in. Codes of its images are fitted first: the probe. The network
begins as the probe and is trained; it is then compared with the probe, with the
majority class and with a classifier on its own codes, all on images that neither
the training, nor what ended it, nor any fit has seen. This file knows the order
of things; each of them is done in its own room.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from featx.errors import FitError
from featx.extraction import extraction_of, run_extraction
from featx.finetuning.checkpoints import load_checkpoint
from featx.finetuning.heads import Head, random_head
from featx.finetuning.history import write_history
from featx.finetuning.network import Network, build_network
from featx.finetuning.steps import Epoch, Shown, logits
from featx.finetuning.training import Trained, check_same, train
from featx.finetuning.tuned import save_tuned
from featx.fitting import Fit, Model, fit
from featx.metrics import Score
from featx.metrics.evaluation import Evaluation, count_majority_correct, score_predictions
from featx.metrics.intervals import wilson
from featx.network import find_device, find_weights, read_weights
from featx.outputs import whole_file
from featx.store import Store, open_store
from featx.text import counted
from featx.workflows.finetuning.comparing import advice_of, gain_of
from featx.workflows.finetuning.parts import (
    Parts,
    divide_parts,
    labels_of,
    parts_digest,
    write_parts,
)
from featx.workflows.finetuning.prepare import FinetuneJob, prepare_finetune
from featx.workflows.finetuning.showing import read_activations, read_images
from featx.workflows.heads import head_of

__all__ = ["Finetuned", "Progress", "finetune", "run_finetune"]

_FORMAT = "featx-finetuning"
_SCORES = ("majority", "probe", "tuned", "fit_on_tuned")
_RESULTS = ("tuned.keras", "tuned.weights.h5", "probe.skops", "fit_on_tuned.skops", "history.csv")


@dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning came to.

    Parameters
    ----------
    folder : Path
        Where it lies.
    scores : mapping of str to Score
        Accuracy of "majority", "probe", "tuned" and "fit_on_tuned", on the same
        untouched images.
    gain : Score
        Accuracy of the tuned network less the probe's, with the interval of the
        paired bootstrap.
    trained : Trained
        Epoch by epoch.
    advice : str
        What to ship.
    facts : dict
        All of run.json.
    """

    folder: Path
    scores: Mapping[str, Score]
    gain: Score
    trained: Trained
    advice: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """What is told while a fine-tuning runs.

    Parameters
    ----------
    stage : callable
        Called with a sentence when something begins or is known.
    images : callable
        Called with (images done, images in all) while images are read.
    epoch : callable
        Called after each epoch, with the most there are.
    """

    stage: Callable[[str], None] = lambda text: None
    images: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[Epoch, int], None] = lambda epoch, most: None


def finetune(images: Path | str | None = None, **settings: Any) -> Finetuned:
    """Fine-tune a network on images, and compare it with its probe.

    Parameters
    ----------
    images : Path or str, default="data"
        A folder.
    **settings
        Those of `prepare_finetune`.

    Returns
    -------
    Finetuned
        The tuned network beside its probe; its files are in `output`.

    Raises
    ------
    OptionError
        A setting that cannot be, or differs from the run's that is gone on with.
    ImagesError, WeightsError, StoreError, FitError
        See `featx.extract` and `featx.fit`.
    """
    return run_finetune(prepare_finetune(images, **settings))


def run_finetune(job: FinetuneJob, *, progress: Progress | None = None) -> Finetuned:
    """Run a job; its result and errors are those of `finetune`.

    Parameters
    ----------
    job : FinetuneJob
        What to do.
    progress : Progress, optional
        Told what happens.
    """
    told, began, folder = progress or Progress(), time.perf_counter(), job.folder
    run_extraction(dataclasses.replace(job.extraction, progress=told.images))
    store = open_store(folder / "codes.h5")
    parts = _parts(job, store)
    identity = _identity(job, store, parts)
    finished = _finished(job, identity, told)
    if finished is not None:
        return finished
    _check_going_on(job, identity)
    write_parts(folder / "parts.csv", store, parts)
    told.stage(
        f"{counted(len(parts.fitted), 'image')} to train on, {len(parts.stopping)} to stop on, "
        f"{len(parts.untouched)} untouched to compare on ({parts.where})"
    )
    probe = _fit_on(folder / "codes.h5", job, folder / "probe.skops")
    told.stage(f"probe: accuracy {probe.evaluation.accuracy}")
    network = _network(job, probe.model)
    trained, found = _train(job, store, parts, network, identity=identity, told=told)
    y, classes = parts.y[parts.untouched].astype(str), probe.model.classes
    groups = parts.groups[parts.untouched]
    tuned = score_predictions(y, softmax(found, axis=1), classes, groups, seed=job.tuning.seed)
    _save(job, store, parts, network, tuned)
    write_history(folder, trained)
    told.stage("codes of the tuned network, and a classifier on them")
    again = _fit_on_tuned(job, told)
    scores = {
        "majority": wilson(count_majority_correct(parts.y[parts.fitted].astype(str), y), len(y)),
        "probe": probe.evaluation.accuracy,
        "tuned": tuned.accuracy,
        "fit_on_tuned": again.evaluation.accuracy,
    }
    gain = gain_of(found, parts, probe.model, store, job.tuning.seed)
    facts = {
        **_facts(job, parts, identity),
        **{name: dataclasses.asdict(score) for name, score in scores.items()},
        "gain": dataclasses.asdict(gain),
        "advice": advice_of(scores, gain, best=trained.best),
        "tuned_scores": tuned.to_dict(),
        "probe_scores": probe.to_dict(),
        "fit_on_tuned_scores": again.to_dict(),
        "history": [dataclasses.asdict(epoch) for epoch in trained.history],
        "best_epoch": trained.best,
        "ended": trained.ended,
        "resumed_epochs": trained.resumed,
        "micro_batch": trained.micro_batch,
        "seconds": round(time.perf_counter() - began, 1),
    }
    with whole_file(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=2))
    return Finetuned(folder, scores, gain, trained, facts["advice"], facts)


def _parts(job: FinetuneJob, store: Store) -> Parts:
    try:
        return divide_parts(store, job.fitted_before, job.tuning.seed)
    except FitError:
        # Codes of images that cannot do are of no use, unless another bundle would serve.
        if not job.fitted_before and [path.name for path in job.folder.iterdir()] == ["codes.h5"]:
            (job.folder / "codes.h5").unlink()
            job.folder.rmdir()
        raise


def _fit_on(codes: Path, job: FinetuneJob, output: Path) -> Fit:
    return fit(
        codes,
        **job.probe,
        labels=job.folder / "parts.csv",
        split_column="split",
        group_column="group",
        baselines=False,
        output=output,
        overwrite=True,
        seed=job.tuning.seed,
    )


def _fit_on_tuned(job: FinetuneJob, told: Progress) -> Fit:
    """Extract codes with the tuned weights, and fit on them as the probe was fitted."""
    target = job.folder / "tuned_codes.h5"
    source = find_weights(str(job.folder / "tuned.weights.h5"), job.recipe.layers)
    recipe = dataclasses.replace(job.recipe, weights=source.identity)
    extraction = extraction_of(job.extraction, recipe, source, target, overwrite=True)
    run_extraction(dataclasses.replace(extraction, progress=told.images))
    return _fit_on(target, job, job.folder / "fit_on_tuned.skops")


def _network(job: FinetuneJob, probe: Model) -> Network:
    weights = read_weights(job.extraction.source, job.recipe.layers)
    device = find_device(job.extraction.device)
    return build_network(job.recipe, weights, _head(job, probe), job.tuning, device)


def _head(job: FinetuneJob, probe: Model) -> Head:
    if job.head_init == "probe":
        return head_of(probe)
    return random_head(probe.classes, job.recipe.n_features, job.hidden, job.tuning.seed)


def _train(
    job: FinetuneJob,
    store: Store,
    parts: Parts,
    network: Network,
    *,
    identity: Mapping[str, Any],
    told: Progress,
) -> tuple[Trained, NDArray[np.float64]]:
    """Train, and return the logits of the untouched part beside what it came to."""
    shown: Shown
    if job.cache is None:
        told.stage("reading the images")
        shown = read_images(job, store, told.images)
    else:
        told.stage(f"activations of {job.tuning.freeze_until}, kept in {job.folder}")
        shown = read_activations(job, network, told.images)
    labels = labels_of(parts, network.head.classes, balanced=job.tuning.class_weight == "balanced")
    trained = train(
        network,
        shown,
        labels,
        job.tuning,
        job.folder / "checkpoint.h5",
        identity=identity,
        progress=told.epoch,
    )
    return trained, logits(network, shown, parts.untouched, trained.micro_batch)


def _save(
    job: FinetuneJob, store: Store, parts: Parts, network: Network, tuned: Evaluation
) -> None:
    """Write the network, with what it was trained on."""
    rows = np.union1d(parts.fitted, parts.stopping)
    fitted_on = tuple(str(digest) for digest in store.images.sha256[rows])
    summary = {
        "classifier": "finetuned VGG19",
        "layers": [job.cut],
        "n_train": len(fitted_on),
        "accuracy": dataclasses.asdict(tuned.accuracy),
    }
    save_tuned(network, job.folder, fitted_on, summary)


def _facts(job: FinetuneJob, parts: Parts, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return of run.json what is known before the training."""
    return {
        "format": _FORMAT,
        "identity": identity,
        "recipe": json.loads(job.recipe.to_json()),
        "tuning": dataclasses.asdict(job.tuning),
        "head": {"hidden": list(job.hidden), "init": job.head_init},
        "parts": {
            "fitted": len(parts.fitted),
            "stopping": len(parts.stopping),
            "untouched": len(parts.untouched),
            "where": parts.where,
        },
        "notes": [*job.notes, *parts.notes],
    }


def _identity(job: FinetuneJob, store: Store, parts: Parts) -> dict[str, Any]:
    """Return what a run must share with the one that it goes on from."""
    return {
        "recipe": job.recipe.to_json(),
        "images": parts_digest(parts, store),
        "head": [*job.hidden, job.head_init],
        "probe": json.dumps(job.probe, sort_keys=True, default=str),
        "cache": job.cache,
    }


def _check_going_on(job: FinetuneJob, identity: Mapping[str, Any]) -> None:
    """Refuse other settings than the run's that is gone on with, before a file of it is touched."""
    checkpoint = job.folder / "checkpoint.h5"
    if checkpoint.exists():
        facts = {"tuning": dataclasses.asdict(job.tuning), "identity": identity}
        check_same(checkpoint, facts, load_checkpoint(checkpoint)[1])


def _finished(job: FinetuneJob, identity: Mapping[str, Any], told: Progress) -> Finetuned | None:
    """Return what an earlier run of the same settings came to, if it came to its end."""
    try:
        facts = json.loads((job.folder / "run.json").read_text())
    except (OSError, ValueError):
        return None
    same = facts["identity"] == identity and facts["tuning"] == dataclasses.asdict(job.tuning)
    if not same or not all((job.folder / name).exists() for name in _RESULTS):
        return None
    told.stage(f"{job.folder} has all of this run already; --overwrite begins anew")
    history = tuple(Epoch(**each) for each in facts["history"])
    return Finetuned(
        job.folder,
        {name: Score(**facts[name]) for name in _SCORES},
        Score(**facts["gain"]),
        Trained(
            history,
            facts["best_epoch"],
            facts["ended"],
            resumed=len(history) - 1,
            micro_batch=facts["micro_batch"],
        ),
        facts["advice"],
        facts,
    )
