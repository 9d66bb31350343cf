"""Descriptions of recipes, scores and settings, and the commands that they come from.

A command is derived from what is known. It has the same result as the one that was typed,
but may have other options.
"""

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from featx.extraction import prepare_extraction
from featx.fitting import prepare_fit
from featx.fitting.settings import FitSettings
from featx.flags import flags_of
from featx.metrics import Score
from featx.provenance import Provenance
from featx.recipe import Recipe, size_text
from featx.report.gathering.fit_records import FitOrigin, FitRecord
from featx.text import counted, printable
from featx.workflows.finetuning.results import RunRecord
from featx.workflows.sweeping.results import ScoredCandidate

__all__ = [
    "finetuning_commands",
    "finetuning_facts",
    "finetuning_lead",
    "fit_facts",
    "fit_lead",
    "model_commands",
    "recipe_facts",
    "scored_images",
    "sweep_lead",
]

_POOLS = {
    "none": "the whole feature map",
    "avg": "the mean of each feature map",
    "max": "the maximum of each feature map",
    "avg+max": "the mean and the maximum of each feature map",
    "bilinear": "the mean products of each pair of channels, with signed square root",
}
_RESIZES = {"squash": "stretched", "crop": "cropped to the centre", "pad": "padded"}
_NORMALISES = {
    "l2": "unit length",
    "centre": "unit length, minus the mean, scaled to unit length again",
    "sqrt-l2": "signed square root, unit length",
    "none": "codes are not changed",
}
_CALIBRATIONS = {
    "temperature": "temperature scaling, on held-out images",
    "sigmoid": "sigmoid, on held-out images",
    "isotonic": "isotonic regression, on held-out images",
    "none": "none",
}
_HEAD_INITS = {"probe": "from the linear probe", "random": "at random"}


def fit_lead(recipe: Recipe, fit: FitRecord) -> tuple[str, ...]:
    """Describe a classifier and its accuracy in two sentences."""
    accuracy = fit.accuracy
    return (
        f"The {fit.classifier} classifier uses {_codes(recipe)}. It was fitted on "
        f"{fit.n_train:,} images of {len(fit.labels)} classes.",
        f"Its accuracy on {scored_images(fit)} is {_percent(accuracy.value)} "
        f"({_interval(accuracy)}). None of these images was used to choose or to fit the "
        "classifier that predicts it.",
    )


def scored_images(fit: FitRecord) -> str:
    """Describe the images that a classifier was scored on."""
    n, where = fit.n_images, fit.scored_on
    if "fold" in where:
        return f"{counted(n, 'held-out image')} ({where})"
    return f"{counted(n, 'image')} of the {where} split"


def sweep_lead(best: ScoredCandidate, n_rows: int, expected: Score) -> tuple[str, ...]:
    """Describe the result of a sweep; the nested score is the first sentence."""
    layers, size = " + ".join(best.layers), size_text(best.size)
    return (
        "The expected accuracy on new images (nested cross-validation) is "
        f"{_percent(expected.value)} ({_interval(expected)}). It was estimated by selecting the "
        "best row again in the training set of each fold.",
        f"Of {counted(n_rows, 'combination')} of layers, pooling and image size, the most accurate "
        f"is {layers} with --pool {best.pool} at {size} pixels. Its own accuracy, "
        f"{_percent(best.accuracy.value)}, is optimistic, because the highest of many accuracies "
        "is partly due to chance.",
    )


def finetuning_lead(record: RunRecord) -> tuple[str, ...]:
    """Describe what was trained, and the advice."""
    recipe, split, frozen = record.recipe, record.split, record.training.freeze_until
    layers = "" if frozen in {None, "none"} else f", with the layers up to {frozen} frozen"
    return (
        f"VGG19 up to {recipe.layers[0]} was fine-tuned at {size_text(recipe.size)} pixels"
        f"{layers}: {counted(split.train, 'training image')}, {split.early_stopping:,} for "
        f"early stopping, {counted(split.test, 'test image')} ({split.test_from}).",
        record.advice,
    )


def recipe_facts(recipe: Recipe, made: Provenance) -> tuple[tuple[str, str], ...]:
    """Return names and values of a recipe.

    Parameters
    ----------
    recipe : Recipe
        The recipe of codes.
    made : Provenance
        How they were extracted, such as the file of the weights.
    """
    weights = printable(made.weights or recipe.weights[:12])
    if not recipe.weights.startswith("random:"):
        weights += f" (sha256 {recipe.weights[:12]}…)"
    colours = "BGR minus the ImageNet mean" if recipe.preprocess == "caffe" else "RGB / 255"
    found = [
        ("layer" if len(recipe.layers) == 1 else "layers", " + ".join(recipe.layers)),
        ("pooling", f"{recipe.pool}: {_pool(recipe.pool)}"),
        ("features per image", f"{recipe.n_features:,} ({recipe.dtype})"),
        ("image size", _size(recipe)),
        ("weights", weights),
        ("colours", colours),
        ("precision", recipe.precision),
    ]
    if made.created is not None:
        found.append(
            ("codes extracted", f"{made.created:%Y-%m-%d %H:%M UTC}, {made.device or 'copied'}")
        )
    return tuple(found)


def fit_facts(fit: FitRecord) -> tuple[tuple[str, str], ...]:
    """Return names and values of a fit."""
    settings = ", ".join(f"{name} = {_number(v)}" for name, v in fit.parameters.items())
    whitened = ", each divided by its standard deviation" if fit.whiten else ""
    components, repeats = fit.components, [_percent(each) for each in sorted(fit.repeat_accuracies)]
    return (
        ("classifier", f"{fit.classifier}{f' ({settings})' if settings else ''}"),
        ("normalisation", f"{fit.normalise}: {_NORMALISES[fit.normalise]}"),
        ("calibration", _CALIBRATIONS[fit.calibration]),
        *([("predicted label", printable(fit.threshold.decision))] if fit.threshold else []),
        ("solver", fit.solver),
        ("fitted on", f"{fit.n_train:,} images"),
        *([("principal components", f"{components}{whitened}")] if components else []),
        ("scored on", scored_images(fit)),
        *(
            [("accuracy of single repeats", f"{repeats[0]} to {repeats[-1]}")]
            if len(repeats) > 1
            else []
        ),
        ("seed", f"{fit.seed}"),
        ("duration of the fit", f"{fit.seconds:g} s"),
    )


def finetuning_facts(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """Return names and values of a fine-tuning."""
    names = {
        "freeze_until": "frozen up to",
        "augment": "augmentation",
        "optimizer": "optimizer",
        "lr": "learning rate",
        "schedule": "schedule",
        "block_decay": "learning rate factor per block",
        "weight_decay": "weight decay",
        "dropout": "dropout",
        "batch_size": "batch size",
        "class_weight": "class weight",
        "seed": "seed",
    }
    training, head, n_epochs = record.training, record.head, len(record.history) - 1
    hidden = " - ".join(map(str, head.hidden)) or "linear"
    return (
        ("head", f"{hidden}, initialised {_HEAD_INITS[head.init]}"),
        *(
            (words, _number(getattr(training, name)))
            for name, words in names.items()
            if getattr(training, name) not in {None, "none", 0}
        ),
        ("epochs", f"{n_epochs} ({record.ended}); the best is epoch {record.best_epoch}"),
        ("duration", f"{record.seconds:g} s"),
    )


def model_commands(path: Path, recipe: Recipe, fit: FitRecord, origin: FitOrigin) -> dict[str, str]:
    """Return the commands that make a model and use it, by purpose."""
    stores = [_typed(each) for each in fit.codes]
    name = stores[0] if len(stores) == 1 else "codes.h5"
    flags = map(printable, _fit_flags(origin.settings))
    there = _typed(path)
    return {
        "Codes": f"featx extract {_flags(recipe, origin.extraction)} -o {name}",
        "Classifier": f"featx fit {' '.join([*stores, *flags])} -o {there}",
        "Predictions": f"featx predict IMAGES --model {there}",
        "Scores on other images": f"featx evaluate IMAGES --model {there}",
    }


def finetuning_commands(folder: Path, record: RunRecord, made: Provenance) -> dict[str, str]:
    """Return the commands that make a tuned network and use it, by purpose."""
    recipe, training = record.recipe, record.training
    flags = _flags(recipe, made).replace("--weights", "--init")
    own = flags_of(
        {name: getattr(training, name) for name in ("freeze_until", "augment", "lr", "epochs")}
    )
    weights, layer = _typed(folder / "tuned.weights.h5"), recipe.layers[0]
    return {
        "Fine-tuned network": f"featx finetune {flags} {' '.join(own)} -o {_typed(folder)}",
        "Predictions": f"featx predict IMAGES --model {_typed(folder / 'tuned.keras')}",
        "Codes of the network": f"featx extract --weights {weights} --layer {layer}",
    }


def _fit_flags(given: FitSettings) -> list[str]:
    """Return the options of a fit that differ from the defaults, and the classifier."""
    others = {
        **{name: value for name, value in vars(given).items() if name not in {"clf", "settings"}},
        "C": None if given.C is None else ",".join(f"{each:g}" for each in np.atleast_1d(given.C)),
        "set": given.settings,
    }
    return [*flags_of({"clf": given.clf}), *flags_of(others, prepare_fit)]


def _flags(recipe: Recipe, made: Provenance) -> str:
    """Return the images and the options of an extraction that differ from the defaults."""
    given = {
        "layer": recipe.layers,
        **{name: value for name, value in vars(recipe).items() if name not in {"layers", "scales"}},
        "size": None if recipe.scales else size_text(recipe.size),
        "weights": made.weights or "bundled",
        "scale": recipe.scales,
        "rename": made.rename,
    }
    images = _typed(made.root or "IMAGES")
    return " ".join([images, *map(printable, flags_of(given, prepare_extraction))])


def _typed(text: object) -> str:
    """Return an argument quoted for a shell."""
    return shlex.quote(printable(text))


def _size(recipe: Recipe) -> str:
    """Describe what the network sees of an image."""
    if recipe.scales:
        joined = " and ".join(map(str, recipe.scales))
        how = {"mean": ", averaged", "stack": ", concatenated"}[recipe.scales_join]
        found = f"the whole image, shorter side {joined} pixels"
        found += how if len(recipe.scales) > 1 else ""
    else:
        found = f"{size_text(recipe.size)} pixels, {_RESIZES[recipe.resize]}"
    found += ", mean of four corners and the centre" if recipe.crops > 1 else ""
    return found + (", and of the mirror images" if recipe.flip else "")


def _codes(recipe: Recipe) -> str:
    size = "+".join(map(str, recipe.scales)) or size_text(recipe.size)
    return (
        f"codes of {' + '.join(recipe.layers)} at {size} pixels ({_pool(recipe.pool)}, "
        f"{recipe.n_features:,} features per image)"
    )


def _pool(pool: str) -> str:
    n = pool.removeprefix("grid:")
    return _POOLS.get(pool, f"means of {n} x {n} cells")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"


def _interval(score: Score) -> str:
    if score.interval is None:
        return "no interval"
    low, high = score.interval
    return f"95\u00a0% interval {_percent(low)} to {_percent(high)}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
