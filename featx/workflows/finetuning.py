"""Fine-tuning, from images to a network and to the sentence that says what to ship.

Images come in. Their codes are fitted first: the probe. The network begins as
the probe and is trained; it is then compared with the probe, with the majority
class and with a classifier on its own codes, all on images that neither the
training, nor what ended it, nor any fit has seen. This file knows the order of
things; each of them is done in its own room.

References
----------
.. [1] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
   Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
   https://arxiv.org/abs/2202.10054
"""

import csv
import dataclasses
import json
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from featx.classification import Bundle, Fit, Score, fit, load_bundle
from featx.classification.division import check_leaks, divide, usable_rows
from featx.classification.duplicates import find_duplicates
from featx.classification.evaluation import (
    evaluate,
    paired_difference,
    right_by_majority,
    wilson,
)
from featx.classification.folds import make_folds, together
from featx.errors import FitError, OptionError, RecipeMismatchError
from featx.extraction import ExtractionJob, prepare_extraction, run_extraction
from featx.extraction.resuming import what_is_left, what_stands
from featx.finetuning.augmentation import reseed
from featx.finetuning.checkpoints import load_checkpoint
from featx.finetuning.heads import Head, random_head
from featx.finetuning.history import write_history
from featx.finetuning.network import Network, build_network
from featx.finetuning.options import Tuning, hidden_sizes
from featx.finetuning.pictures import Activations, Pixels, read_pixels
from featx.finetuning.steps import Epoch, Labels, as_array, logits
from featx.finetuning.training import Trained, check_same, train
from featx.finetuning.tuned import save_tuned
from featx.layers import find_layer
from featx.network import WeightsSource, find_device, find_weights, memory_errors, read_weights
from featx.outputs import whole_file
from featx.recipe import Recipe
from featx.store import Store, open_store
from featx.workflows.heads import head_of

__all__ = ["FinetuneJob", "Finetuned", "finetune", "prepare_finetune", "run_finetune"]

Clf = Literal["logistic", "ridge", "linear-svm"]
HeadInit = Literal["probe", "random"]
Rows = NDArray[np.integer]

# One of so many folds of the training part stops: about 15 %.
_STOP_FOLDS = 7
# Without splits, one of so many folds is what the comparison is scored on.
_UNTOUCHED_FOLDS = 5
_FORMAT = "featx-finetuning"
_SCORES = ("majority", "probe", "tuned", "fit_on_tuned")
_RESULTS = ("tuned.keras", "tuned.weights.h5", "probe.skops", "fit_on_tuned.skops", "history.csv")


@dataclass(frozen=True)
class FinetuneJob:
    """What a fine-tuning will do; `prepare_finetune` makes it, and no image was read yet.

    Parameters
    ----------
    extraction : ExtractionJob
        Of the codes that the probe is fitted on.
    tuning : Tuning
        How the network is trained.
    hidden : tuple of int
        Widths of the head's hidden layers.
    head_init : {"probe", "random"}
        What the head begins as.
    probe : dict
        Settings of `featx.fit` for the probe.
    fitted_before : frozenset of str
        sha256 of images that a given bundle was fitted on.
    cache : int or None
        Augmented copies of the frozen layers' activations to keep; 0 for the
        images as they are; None to compute them in every epoch.
    folder : Path
        Where all goes.
    notes : tuple of str
        What the user should know.
    """

    extraction: ExtractionJob
    tuning: Tuning
    hidden: tuple[int, ...]
    head_init: HeadInit
    probe: dict[str, Any]
    fitted_before: frozenset[str]
    cache: int | None
    folder: Path
    notes: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """Of the codes that the head takes."""
        return self.extraction.recipe

    @property
    def cut(self) -> str:
        """The layer after which the network is cut."""
        return self.recipe.layers[0]


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

    Raises
    ------
    OptionError
        A setting that cannot be, or differs from the run's that is gone on with.
    ImagesError, WeightsError, StoreError, FitError
        See `featx.extract` and `featx.fit`.
    """
    return run_finetune(prepare_finetune(images, **settings))


def prepare_finetune(  # noqa: PLR0913  flat, as on the command line
    images: Path | str | None = None,
    *,
    layer: str | None = None,
    pool: str | None = None,
    size: int | str | tuple[int, int] | None = None,
    init: str | None = None,
    rename: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    resize: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    clf: Clf | None = None,
    from_bundle: Path | str | Bundle | None = None,
    head: str = "linear",
    head_init: HeadInit | None = None,
    cache: int | None = None,
    manifest: Path | str | None = None,
    group: str | None = None,
    output: Path | str = "tuned",
    overwrite: bool = False,
    **tuning: Any,
) -> FinetuneJob:
    """Check everything that a fine-tuning needs; no image is read.

    Parameters
    ----------
    images : Path or str, default="data"
        A folder.
    layer : str, default="block5_pool"
        Where the network is cut; its codes are the head's.
    pool : {"none", "avg", "max"}, default="avg"
        What becomes of a map before the head.
    size : int, str or tuple of int, default=224
        Image size that the network sees, (height, width) in pixels.
    init : str, default="bundled"
        Weights to begin with, as `featx.extract` takes them; "random" is
        "random:0".
    rename : mapping of str to str, optional
        Name in a weights file -> layer of VGG19.
    preprocess : {"caffe", "unit"}, default="caffe"
        See `Recipe`.
    resize : {"squash", "crop", "pad"}, default="squash"
        See `Recipe`.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Of the network; weights stay float32.
    device : str, default="auto"
        "auto", "cpu", "gpu" or "gpu:N".
    clf : {"logistic", "ridge", "linear-svm"}, default="logistic"
        The probe.
    from_bundle : Path, str or Bundle, optional
        A bundle of one of these, whose recipe, classifier and settings are used.
    head : str, default="linear"
        "linear", or as in "mlp:1024,1024", whose numbers begin at random.
    head_init : {"probe", "random"}, optional
        What the head begins as: the probe where it is linear, by default [1]_.
    cache : int, optional
        Keep activations of the frozen layers: 0 of the images as they are,
        else of so many augmented copies. By default they are computed anew.
    manifest, group : optional
        See `featx.extract`.
    output : Path or str, default="tuned"
        A folder. If it holds a run that was stopped, that goes on.
    overwrite : bool, default=False
        Whether to begin anew.
    **tuning
        Those of `featx.finetuning.options.Tuning`; from random weights
        `freeze_until` is "none" and `block_decay` 1 by default.

    Returns
    -------
    FinetuneJob

    Raises
    ------
    OptionError, ImagesError, WeightsError
        See `finetune`.
    """
    given = {"layer": layer, "pool": pool, "size": size, "init": init, "rename": rename}
    given |= {"preprocess": preprocess, "resize": resize, "precision": precision, "clf": clf}
    chosen, probe, fitted_before = _from_bundle(from_bundle, given)
    hidden = hidden_sizes(head)
    head_init = head_init or ("random" if hidden else "probe")
    if head_init not in {"probe", "random"}:
        message = f"No head begins as '{head_init}'. Use --head-init probe or random."
        raise OptionError(message)
    if hidden and head_init == "probe":
        message = (
            f"--head {head} has layers that no probe has. Use --head-init random, or --head linear."
        )
        raise OptionError(message)
    if cache is not None and cache < 0:
        message = f"No such number of copies: --cache {cache}. Expected 0 or more."
        raise OptionError(message)
    find_layer(chosen["layer"])
    settings, notes = _tuning(tuning, chosen["layer"], chosen["init"]), []
    if cache is not None and settings.freeze_until == "none":
        message = "--cache keeps activations of frozen layers, and none is. Use --freeze-until."
        raise OptionError(message)
    if cache == 0 and settings.augment != "none":
        notes.append(
            "--cache 0 keeps the images as they are: nothing is augmented. For K augmented "
            "copies: --cache K."
        )
        settings = dataclasses.replace(settings, augment="none")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        message = f"{folder} is a file. Expected a folder: choose another -o."
        raise OptionError(message)
    if not folder.absolute().parent.is_dir():
        message = f"No folder {folder.absolute().parent} to make {folder.name} in. Make it first."
        raise OptionError(message)
    if folder.is_dir() and not _is_own(folder):
        message = f"{folder} holds other files than a fine-tuning's. Choose another -o."
        raise OptionError(message)
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        job = prepare_extraction(
            images,
            layer=chosen["layer"],
            pool=chosen["pool"],
            size=chosen["size"],
            resize=chosen["resize"],
            jpeg=chosen["jpeg"],
            weights=chosen["init"],
            rename=chosen["rename"],
            preprocess=chosen["preprocess"],
            precision=chosen["precision"],
            device=device,
            manifest=manifest,
            group=group,
            output=folder / "codes.h5",
            overwrite=overwrite,
        )
        _check_images(job, chosen.get("identity"))
    except BaseException:
        if new:
            folder.rmdir()
        raise
    if overwrite:
        for name in ("checkpoint.h5", "run.json"):
            (folder / name).unlink(missing_ok=True)
    return FinetuneJob(
        extraction=job,
        tuning=settings,
        hidden=hidden,
        head_init=head_init,
        probe=probe,
        fitted_before=fitted_before,
        cache=cache,
        folder=folder,
        notes=tuple(notes),
    )


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
    run_extraction(job.extraction, progress=told.images)
    store = open_store(folder / "codes.h5")
    try:
        parts = _divide(store, job)
    except FitError:
        # Codes of images that cannot do are of no use, unless another bundle would serve.
        if not job.fitted_before and [path.name for path in folder.iterdir()] == ["codes.h5"]:
            (folder / "codes.h5").unlink()
            folder.rmdir()
        raise
    identity = _identity(job, store, parts)
    finished = _finished(job, identity, told)
    if finished is not None:
        return finished
    _check_going_on(job, identity)
    _write_parts(folder / "parts.csv", store, parts)
    told.stage(
        f"{len(parts.fitted)} images to train on, {len(parts.stopping)} to stop on, "
        f"{len(parts.untouched)} untouched to compare on ({parts.where})"
    )
    probe = _fit_on(folder / "codes.h5", job, folder / "probe.skops")
    told.stage(f"probe: accuracy {probe.evaluation.accuracy}")
    classes = probe.bundle.classes
    head = _head(job, probe.bundle)
    device = find_device(job.extraction.device)
    weights = read_weights(job.extraction.source, job.recipe.layers)
    network = build_network(job.recipe, weights, head, job.tuning, device)
    shown = _shown(job, store, network, told)
    trained = train(
        network,
        shown,
        _labels(parts, classes, job.tuning.class_weight is not None),
        job.tuning,
        folder / "checkpoint.h5",
        identity=identity,
        progress=told.epoch,
    )
    untouched = parts.untouched
    y = parts.y[untouched].astype(str)
    found = logits(network, shown, untouched, trained.micro_batch)
    tuned = evaluate(
        y, softmax(found, axis=1), classes, parts.keys[untouched], seed=job.tuning.seed
    )
    fitted_on = tuple(
        str(digest) for digest in store.images.sha256[np.union1d(parts.fitted, parts.stopping)]
    )
    brief = {"classifier": "finetuned VGG19", "layers": [job.cut], "n_train": len(fitted_on)}
    save_tuned(
        network, folder, fitted_on, {**brief, "accuracy": dataclasses.asdict(tuned.accuracy)}
    )
    write_history(folder, trained)
    told.stage("codes of the tuned network, and a classifier on them")
    again = _fit_on_tuned(job, told)
    scores = {
        "majority": wilson(right_by_majority(parts.y[parts.fitted].astype(str), y), len(untouched)),
        "probe": probe.evaluation.accuracy,
        "tuned": tuned.accuracy,
        "fit_on_tuned": again.evaluation.accuracy,
    }
    gain = _gain(found, parts, probe.bundle, store, job)
    advice = _advice(scores, gain)
    facts = {
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
        **{name: dataclasses.asdict(score) for name, score in scores.items()},
        "gain": dataclasses.asdict(gain),
        "advice": advice,
        "tuned_scores": tuned.to_dict(),
        "probe_scores": probe.to_dict(),
        "fit_on_tuned_scores": again.to_dict(),
        "history": [dataclasses.asdict(epoch) for epoch in trained.history],
        "best_epoch": trained.best,
        "ended": trained.ended,
        "resumed_epochs": trained.resumed,
        "micro_batch": trained.micro_batch,
        "notes": [*job.notes, *parts.notes],
        "seconds": round(time.perf_counter() - began, 1),
    }
    with whole_file(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=2))
    return Finetuned(folder, scores, gain, trained, advice, facts)


@dataclass(frozen=True)
class _Parts:
    """Rows of the store: what is trained on, what stops, and what nobody sees."""

    y: NDArray[np.object_]  # of every row of the store
    keys: NDArray[np.int32]  # of every row: equal where images belong together
    fitted: Rows
    stopping: Rows
    untouched: Rows
    where: str
    notes: tuple[str, ...]


def _divide(store: Store, job: FinetuneJob) -> _Parts:
    """Divide the images: what the comparison is scored on is taken first."""
    images, seed = store.images, job.tuning.seed
    rows, notes = usable_rows(store.path, images)
    y = images.label[rows].astype(str)
    copies = find_duplicates(images.sha256[rows], images.phash[rows], store.thumbnails()[rows])
    keys = together(images.group[rows], pairs=[(pair.first, pair.second) for pair in copies])
    division, said = divide(store.path, images.split[rows])
    notes += said
    known = np.isin(images.sha256[rows].astype(str), list(job.fitted_before))
    if division.scored_on == "folds":
        free = division.fitted[~np.isin(keys[division.fitted], keys[known])]
        pairs = make_folds(y[free], keys[free], seed, _UNTOUCHED_FOLDS)
        if not pairs:
            message = (
                "No images are left to compare on: the bundle was fitted on nearly all of them, "
                "or classes are too small. Make a val split: data/train/CLASS, data/val/CLASS, "
                "and fit again, or leave out --from-bundle."
            )
            raise FitError(message)
        untouched = free[pairs[0][1]]
        rest = np.setdiff1d(division.fitted, untouched)
        where = f"a fold of {_UNTOUCHED_FOLDS}"
        stopping = np.zeros(0, int)
    else:
        untouched = division.scored[~known[division.scored]]
        if len(untouched) < len(division.scored):
            notes.append(
                f"{len(division.scored) - len(untouched)} images of {division.scored_on} are left "
                "out: the bundle was fitted on them."
            )
        if not len(untouched):
            message = (
                f"The bundle was fitted on all images of {division.scored_on}, so nothing is left "
                "to compare on. Fit it again without --refit all, or leave out --from-bundle."
            )
            raise FitError(message)
        where = division.scored_on
        notes += check_leaks(y, keys, dataclasses.replace(division, scored=untouched))
        # With all three splits val stops, whole.
        rest = division.searched
        stopping = np.setdiff1d(division.fitted, division.searched)
    if not len(stopping):
        pairs = make_folds(y[rest], keys[rest], seed, _STOP_FOLDS)
        if not pairs:
            message = (
                "Too few images to hold some out that stop the training. Add images, or use "
                "featx fit."
            )
            raise FitError(message)
        stopping, rest = rest[pairs[0][1]], rest[pairs[0][0]]
    # A class that only stops cannot be learned; its images would count as wrong in every epoch.
    unknown = np.isin(keys[stopping], keys[stopping][~np.isin(y[stopping], y[rest])])
    rest, stopping = np.concatenate([rest, stopping[unknown]]), stopping[~unknown]
    every = np.full(len(images), None, dtype=object)
    every[rows] = y
    number = np.arange(len(images), dtype=np.int32) + len(images)
    number[rows] = keys
    return _Parts(
        every,
        number,
        np.sort(rows[rest]),
        np.sort(rows[stopping]),
        np.sort(rows[untouched]),
        where,
        tuple(notes),
    )


def _write_parts(path: Path, store: Store, parts: _Parts) -> None:
    """Write the parts as a table that `featx fit --labels` reads: fitted is train."""
    split = {int(row): "train" for row in parts.fitted}
    split |= {int(row): "val" for row in parts.untouched}
    split |= {int(row): "" for row in parts.stopping}
    with (
        whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group", "part"])
        for row, name in sorted(split.items()):
            facts = store.images
            part = {"train": "fitted", "val": "untouched", "": "stopping"}[name]
            writer.writerow([facts.path[row], facts.label[row], name, facts.group[row] or "", part])


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
    extraction = _extraction(job, recipe, source, target, ignored=True)
    run_extraction(extraction, progress=told.images)
    return _fit_on(target, job, job.folder / "fit_on_tuned.skops")


def _head(job: FinetuneJob, probe: Bundle) -> Head:
    if job.head_init == "probe":
        return head_of(probe)
    return random_head(probe.classes, job.recipe.width, job.hidden, job.tuning.seed)


def _shown(
    job: FinetuneJob, store: Store, network: Network, told: Progress
) -> Pixels | Activations:
    files = job.extraction.files
    if job.cache is None:
        told.stage("reading the images")
        return read_pixels(
            files,
            np.flatnonzero(store.images.done),
            job.recipe,
            job.folder,
            max_pixels=job.extraction.max_pixels,
            progress=told.images,
        )
    told.stage(f"activations of {job.tuning.freeze_until}, kept in {job.folder}")
    frozen = dataclasses.replace(
        job.recipe, layers=(job.tuning.freeze_until,), pool="none", dtype="float32"
    )
    stores = [_frozen(job, frozen, copy, network, told) for copy in range(job.cache + 1)]
    plain, *copies = (each.codes(job.tuning.freeze_until) for each in stores)
    return Activations(plain, copies)


def _frozen(job: FinetuneJob, recipe: Recipe, copy: int, network: Network, told: Progress) -> Store:
    """Extract the frozen layers' activations, of the images or of an augmented copy."""
    target, tuning = job.folder / f"frozen-{copy}.h5", job.tuning
    load = None
    if copy:
        # No recipe can ask for these codes, and no classifier takes them for others.
        made = f"{recipe.weights}, {tuning.augment} copy {copy} of seed {tuning.seed}"
        recipe = dataclasses.replace(recipe, weights=made)
        load = partial(_AugmentedBackbone, network, tuning.seed, copy)
    extraction = _extraction(job, recipe, job.extraction.source, target)
    run_extraction(extraction, progress=told.images, load=load)
    return open_store(target)


def _extraction(
    job: FinetuneJob, recipe: Recipe, source: WeightsSource, target: Path, *, ignored: bool = False
) -> ExtractionJob:
    """Return an extraction of the job's images into another store, gone on with if it is begun."""
    standing = what_stands(target, ignored=ignored)
    other = dataclasses.replace(job.extraction, recipe=recipe, source=source, output=target)
    rest = what_is_left(standing, recipe, other.columns(), other.files, other.max_pixels)
    return dataclasses.replace(other, rest=rest)


class _AugmentedBackbone:
    """The frozen layers of a network, of images that were changed at random."""

    def __init__(self, network: Network, seed: int, copy: int, recipe: Recipe) -> None:
        self.recipe = recipe
        self._network, self._seed, self._copy = network, seed, copy
        self._lock = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        import keras

        (layer,) = self.recipe.layers
        with self._lock, self._network.device.scope(), memory_errors(len(images)):
            changed = keras.ops.concatenate([self._changed(image) for image in images])
            return {layer: as_array(self._network.start(changed)).astype(np.float32)}

    def _changed(self, image: NDArray[np.uint8]) -> Any:
        # Images come in any order and any batch, in a run that goes on in others than before:
        # what is drawn for one follows from it alone.
        reseed(self._network.drawing, self._seed, zlib.crc32(image.tobytes(), self._copy))
        return self._network.changes(image[np.newaxis], training=True)


def _labels(parts: _Parts, classes: Sequence[str], balanced: bool) -> Labels:
    known = [row for row in range(len(parts.y)) if parts.y[row] in classes]
    numbers = np.zeros(len(parts.y), np.int64)
    numbers[known] = np.searchsorted(classes, parts.y[known].astype(str))
    weights = np.ones(len(parts.y))
    if balanced:
        counts = np.bincount(numbers[parts.fitted], minlength=len(classes))
        weights = (len(parts.fitted) / (len(classes) * np.maximum(counts, 1)))[numbers]
    return Labels(numbers, weights, parts.fitted, parts.stopping)


def _identity(job: FinetuneJob, store: Store, parts: _Parts) -> dict[str, Any]:
    """Return what a run must share with the one that it goes on from."""
    import hashlib

    digest = hashlib.sha256()
    for name in ("fitted", "stopping", "untouched"):
        for row in getattr(parts, name):
            line = f"{store.images.sha256[row]} {parts.y[row]} {name}\n"
            digest.update(line.encode(errors="surrogateescape"))
    counts = f"{len(parts.fitted)} + {len(parts.stopping)} + {len(parts.untouched)}"
    return {
        "recipe": job.recipe.to_json(),
        "images": f"{counts} ({digest.hexdigest()[:12]})",
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


def _gain(
    found: NDArray[np.float64], parts: _Parts, probe: Bundle, store: Store, job: FinetuneJob
) -> Score:
    """Compare the network, whose logits are given, with its probe, image by image."""
    rows, classes = parts.untouched, np.array(probe.classes)
    codes = store.flat_codes(job.cut)[rows]
    expected = probe.predict_proba(codes).argmax(axis=1)
    y = parts.y[rows].astype(str)
    return paired_difference(
        classes[found.argmax(axis=1)] == y,
        classes[expected] == y,
        parts.keys[rows],
        job.tuning.seed,
    )


def _advice(scores: Mapping[str, Score], gain: Score) -> str:
    """Say what to ship: the simpler one, unless the other is better beyond doubt."""
    again = scores["fit_on_tuned"].value - scores["probe"].value
    if gain.low > 0:
        return (
            f"Ship the tuned network: {gain.value:+.3f} in accuracy over its probe, "
            f"{gain.low:+.3f} to {gain.high:+.3f} with 95 % confidence."
        )
    if gain.high < 0:
        return (
            f"Ship the probe: tuning lost {-gain.value:.3f}, {-gain.high:.3f} to {-gain.low:.3f} "
            "with 95 % confidence. A smaller --lr, or more images, may help."
        )
    return (
        f"Ship the probe, which is simpler: tuning changed accuracy by {gain.value:+.3f}, "
        f"{gain.low:+.3f} to {gain.high:+.3f} with 95 % confidence, and a classifier on the tuned "
        f"codes by {again:+.3f}. More images would tell."
    )


def _tuning(given: Mapping[str, Any], layer: str, init: str) -> Tuning:
    """Make the settings; some defaults depend on the cut, and on what the network begins as."""
    given = {name: value for name, value in given.items() if value is not None}
    unknown = set(given) - {field.name for field in dataclasses.fields(Tuning)}
    if unknown:
        message = f"No such settings: {', '.join(sorted(unknown))}."
        raise OptionError(message)
    if given.get("batch_size") == "auto":
        del given["batch_size"]
    if init.startswith("random"):
        # Nothing is worth keeping, and no block is nearer to its end than another.
        defaults: dict[str, Any] = {"freeze_until": "none", "block_decay": 1.0}
    else:
        blocks = ("none", *(f"block{k}_pool" for k in range(1, 6)))
        # All but the last block that the cut leaves.
        defaults = {"freeze_until": blocks[int(layer[5]) - 1 if layer.startswith("block") else 5]}
    tuning = Tuning(**defaults | given)
    tuning.frozen(layer)
    return tuning


def _is_own(folder: Path) -> bool:
    """Return whether a folder is empty, or what a fine-tuning left, were it killed at once."""
    names = [path.name for path in folder.iterdir()]
    begun = all(name.lstrip(".").startswith("codes.h5") for name in names)
    return begun or {"codes.h5", "parts.csv"} <= set(names)


def _check_images(job: ExtractionJob, identity: str | None) -> None:
    """Refuse what can be known before an image is read; `identity` is of a bundle's weights."""
    if identity not in {None, job.recipe.weights}:
        message = (
            f"The weights {job.source.spec} are not those that the bundle was fitted with: "
            f"{job.recipe.weights[:12]}, expected {identity[:12]}. Put them there, or leave out "
            "--from-bundle."
        )
        raise RecipeMismatchError(message)
    labels = {record.label for record in job.listing.records if record.label}
    if len(labels) < 2:
        message = (
            f"{job.listing.root} has images of {', '.join(sorted(labels)) or 'no class'}. Expected "
            "two classes or more: data/CLASS/…, or data/train/CLASS/… and data/val/CLASS/…"
        )
        raise FitError(message)


def _from_bundle(
    bundle: Path | str | Bundle | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], frozenset[str]]:
    """Return the settings of the network and of the probe, and what a bundle was fitted on."""
    defaults = {
        "layer": "block5_pool",
        "pool": "avg",
        "size": 224,
        "init": "bundled",
        "rename": None,
        "preprocess": "caffe",
        "resize": "squash",
        "jpeg": "reduced",
        "precision": "float32",
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("init") == "random":
        chosen["init"] = "random:0"
    if bundle is None:
        clf = chosen.pop("clf", "logistic")
        if clf not in {"logistic", "ridge", "linear-svm"}:
            message = f"No probe '{clf}'. Use --clf logistic, ridge or linear-svm."
            raise OptionError(message)
        return defaults | chosen, {"clf": clf}, frozenset()
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    if chosen:
        flags = ", ".join(f"--{name}" for name in chosen)
        message = f"The bundle says {flags}. Leave that out, or leave out --from-bundle."
        raise OptionError(message)
    head_of(bundle)  # refuses what no head can begin as
    recipe, facts, extraction = bundle.recipe, bundle.summary, bundle.provenance["extraction"]
    of_bundle = {
        "layer": recipe.layers[0],
        "pool": recipe.pool,
        "size": recipe.size,
        "init": extraction["weights"],
        "rename": extraction.get("rename"),
        "identity": recipe.weights,
        "preprocess": recipe.preprocess,
        "resize": recipe.resize,
        "jpeg": recipe.jpeg,
        "precision": recipe.precision,
    }
    probe = {
        "clf": facts["classifier"],
        "normalise": facts["normalise"],
        "settings": facts["parameters"],
    }
    return of_bundle, probe, frozenset(bundle.fitted_on)
