"""Recipes, scores and settings in words, and the commands that they come from.

A command is put together from what is known: it gives the same, and need not be
what was typed.
"""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from featx.extraction import prepare_extraction
from featx.fitting import Model, prepare_fit
from featx.flags import flags_of
from featx.metrics import Score
from featx.recipe import Recipe, size_text
from featx.report.contents import Command, SweepRow
from featx.text import counted, printable

__all__ = [
    "bundle_commands",
    "fit_facts",
    "fit_lead",
    "recipe_facts",
    "sweep_commands",
    "sweep_lead",
    "tuning_commands",
    "tuning_facts",
    "tuning_lead",
]

_POOLS = {
    "none": "every number of the map",
    "avg": "the mean of each map",
    "max": "the largest number of each map",
    "avg+max": "the mean and the largest number of each map",
    "bilinear": "the mean products of each two channels, square-rooted",
}
_RESIZES = {"squash": "stretched", "crop": "cropped to the middle", "pad": "padded"}
_NORMALISES = {
    "l2": "rows of unit length",
    "centre": "rows of unit length, less their mean, at unit length again",
    "sqrt-l2": "signed square roots, at unit length",
    "none": "codes as they are",
}
_CALIBRATIONS = {
    "temperature": "temperature, on rows held out",
    "sigmoid": "sigmoid, on rows held out",
    "isotonic": "isotonic, on rows held out",
    "none": "none",
}


def fit_lead(recipe: Recipe, summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what a classifier is and how good it is, in two sentences."""
    accuracy = Score(**summary["accuracy"])
    return (
        f"The classifier is {summary['classifier']}, on {_codes(recipe)}, fitted on "
        f"{summary['n_train']:,} images of {len(summary['labels'])} classes.",
        f"Of {counted(summary['n_images'], 'image')} of {summary['scored_on']}, which neither the "
        f"choice nor the fit behind each prediction saw, it gets {_share(accuracy.value)} right "
        f"(95 % interval {_share(accuracy.low)} to {_share(accuracy.high)}).",
    )


def sweep_lead(best: SweepRow, n_rows: int, chosen: Score) -> tuple[str, ...]:
    """Say what a sweep found, in two sentences."""
    layers, size = " + ".join(best.layers), size_text(best.size)
    return (
        f"Of {counted(n_rows, 'code')}, {layers} with --pool {best.pool} at {size} pixels is the "
        f"most accurate: {_share(best.accuracy.value)} (95 % interval {_share(best.accuracy.low)} "
        f"to {_share(best.accuracy.high)}).",
        "The best of many is flattered by chance. To sweep and take the best, chosen inside each "
        f"training part and scored outside, gets {_share(chosen.value)} right "
        f"({_share(chosen.low)} to {_share(chosen.high)}): that is what to expect on other images.",
    )


def tuning_lead(recipe: Recipe, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what was tuned, and what to ship."""
    split, training = facts["split"], facts["training"]
    frozen = training["freeze_until"]
    return (
        f"VGG19 cut after {recipe.layers[0]} at {size_text(recipe.size)} pixels"
        f"{f', all up to {frozen} frozen' if frozen else ''}, trained on {split['train']:,} "
        f"images, with {split['early_stopping']:,} for early stopping and {split['test']:,} for "
        f"the test ({split['test_from']}).",
        facts["advice"],
    )


def recipe_facts(recipe: Recipe, provenance: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a recipe, name by name.

    Parameters
    ----------
    recipe : Recipe
        Of codes.
    provenance : mapping of str to object
        Of the extraction; it knows where the weights came from.
    """
    weights = printable(str(provenance.get("weights", recipe.weights[:12])))
    if not recipe.weights.startswith("random:"):
        weights += f" (sha256 {recipe.weights[:12]}…)"
    colours = "BGR less ImageNet's mean" if recipe.preprocess == "caffe" else "RGB / 255"
    found = [
        ("layer" if len(recipe.layers) == 1 else "layers", " + ".join(recipe.layers)),
        ("pooling", f"{recipe.pool}: {_pool(recipe.pool)}"),
        ("numbers an image", f"{recipe.n_features:,} ({recipe.dtype})"),
        ("image size", _size(recipe)),
        ("weights", weights),
        ("colours", colours),
        ("arithmetic", recipe.precision),
    ]
    if provenance.get("created"):
        made = datetime.fromisoformat(provenance["created"]).strftime("%Y-%m-%d %H:%M UTC")
        found.append(("codes made", f"{made}, {provenance.get('device') or 'copied'}"))
    return tuple(found)


def fit_facts(summary: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return how a classifier was fitted, name by name."""
    settings = ", ".join(f"{name} = {_number(v)}" for name, v in summary["parameters"].items())
    return (
        ("classifier", f"{summary['classifier']}{f' ({settings})' if settings else ''}"),
        ("normalisation", f"{summary['normalise']}: {_NORMALISES[summary['normalise']]}"),
        ("calibration", _CALIBRATIONS[summary["calibration"]]),
        ("solver", summary["solver"]),
        ("fitted on", f"{summary['n_train']:,} images"),
        *_components(summary),
        ("scored on", f"{counted(summary['n_images'], 'image')} of {summary['scored_on']}"),
        ("seed", f"{summary['seed']}"),
        ("time of the fit", f"{summary['seconds']:g} s"),
    )


def _components(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    if summary["components"] is None:
        return []
    whitened = ", each divided by its deviation" if summary["whiten"] else ""
    return [("principal components", f"{summary['components']}{whitened}")]


def tuning_facts(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return how a network was tuned, name by name."""
    names = {
        "freeze_until": "frozen up to",
        "augment": "augmented by",
        "optimizer": "optimizer",
        "lr": "learning rate",
        "schedule": "schedule",
        "block_decay": "rate of each earlier block",
        "weight_decay": "weight decay",
        "dropout": "dropout",
        "batch_size": "batch",
        "class_weight": "class weight",
        "seed": "seed",
    }
    training, head = facts["training"], facts["head"]
    hidden = " - ".join(map(str, head["hidden"])) or "linear"
    return (
        ("head", f"{hidden}, begun as {'its probe' if head['init'] == 'probe' else 'random'}"),
        *((words, _number(training[name])) for name, words in names.items() if training.get(name)),
        ("epochs", f"{len(facts['history']) - 1}; kept: {facts['best_epoch']} ({facts['ended']})"),
        ("time", f"{facts['seconds']:g} s"),
    )


def bundle_commands(path: Path, bundle: Model) -> tuple[Command, ...]:
    """Return what makes such a bundle, and what to do with it; codes first."""
    summary, made = bundle.summary, bundle.provenance["extraction"]
    stores = [str(each) for each in summary["codes"]]
    name = _typed(stores[0]) if len(stores) == 1 else "codes.h5"
    fit = ["featx fit", *map(_typed, stores)]
    fit += map(printable, _fit_flags(bundle.provenance["settings"]))
    return (
        Command("Codes", f"featx extract {_flags(bundle.recipe, made)} -o {name}"),
        Command("The classifier", f"{' '.join(fit)} -o {_typed(str(path))}"),
        Command("Classify images", f"featx predict IMAGES --model {_typed(str(path))}"),
        Command("Score it on other images", f"featx evaluate IMAGES --model {_typed(str(path))}"),
    )


def sweep_commands(commands: Sequence[str]) -> tuple[Command, ...]:
    """Return what a sweep says to type next, each with what it is for."""
    whats = ("Codes of the best", "A classifier on them", "A network that goes on learning")
    named = dict(enumerate(whats))
    return tuple(Command(named.get(k, "Then"), printable(line)) for k, line in enumerate(commands))


def tuning_commands(
    folder: Path, recipe: Recipe, facts: Mapping[str, Any], provenance: Mapping[str, Any]
) -> tuple[Command, ...]:
    """Return what makes such a network, and what to do with it."""
    training, there = facts["training"], _typed(str(folder))
    flags = _flags(recipe, provenance).replace("--weights", "--init")
    own = flags_of({name: training[name] for name in ("freeze_until", "augment", "lr", "epochs")})
    model = _typed(str(folder / "tuned.keras"))
    weights = _typed(str(folder / "tuned.weights.h5"))
    return (
        Command("The network", f"featx finetune {flags} {' '.join(own)} -o {there}"),
        Command("Classify images by it", f"featx predict IMAGES --model {model}"),
        Command("Codes of it", f"featx extract --weights {weights} --layer {recipe.layers[0]}"),
    )


def _fit_flags(given: Mapping[str, Any]) -> list[str]:
    """Return options of a fit; those that are usual are left out, but for the classifier."""
    penalties = given.get("C")
    others = {
        **{name: value for name, value in given.items() if name not in {"clf", "settings"}},
        "C": None if penalties is None else ",".join(f"{each:g}" for each in penalties),
        "set": given.get("settings"),
    }
    return [*flags_of({"clf": given["clf"]}), *flags_of(others, prepare_fit)]


def _flags(recipe: Recipe, provenance: Mapping[str, Any]) -> str:
    """Return images and options of an extraction; those that are usual are left out."""
    given = {
        "layer": recipe.layers,
        "pool": recipe.pool,
        "size": None if recipe.scales else size_text(recipe.size),
        "crops": recipe.crops,
        "scales_join": recipe.scales_join,
        "resize": recipe.resize,
        "jpeg": recipe.jpeg,
        "preprocess": recipe.preprocess,
        "precision": recipe.precision,
        "dtype": recipe.dtype,
        "weights": str(provenance.get("weights", "bundled")),
        "scale": recipe.scales,
        "flip": recipe.flip,
        "rename": provenance.get("rename"),
    }
    images = _typed(str(provenance.get("root", "IMAGES")))
    return " ".join([images, *map(printable, flags_of(given, prepare_extraction))])


def _typed(text: str) -> str:
    """Return a word as a shell takes it."""
    return shlex.quote(printable(text))


def _size(recipe: Recipe) -> str:
    """Say what the network sees of an image."""
    if recipe.scales:
        joined = " and ".join(map(str, recipe.scales))
        how = {"mean": ", averaged", "stack": ", side by side"}[recipe.scales_join]
        found = f"the whole, {joined} pixels its shorter side"
        found += how if len(recipe.scales) > 1 else ""
    else:
        found = f"{size_text(recipe.size)} pixels, {_RESIZES[recipe.resize]}"
    found += ", mean of four corners and the middle" if recipe.crops > 1 else ""
    return found + (", and of the mirror image" if recipe.flip else "")


def _codes(recipe: Recipe) -> str:
    layers = " + ".join(recipe.layers)
    return (
        f"codes of {layers} at {'+'.join(map(str, recipe.scales)) or size_text(recipe.size)} "
        f"pixels ({_pool(recipe.pool)}, "
        f"{recipe.n_features:,} numbers an image)"
    )


def _pool(pool: str) -> str:
    if pool.startswith("grid:"):
        n = pool.removeprefix("grid:")
        return f"means of {n} x {n} cells"
    return _POOLS[pool]


def _share(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
