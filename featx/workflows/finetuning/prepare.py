"""The fine-tuning job: checked before the first image is read.

Settings, or a model that implies them, come in; a job goes out. Everything that can be
refused before there are codes is refused here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.documents import FieldError, conform
from featx.errors import FitError, ModelError, OptionError, RecipeMismatchError
from featx.extraction import ExtractionJob, prepare_extraction
from featx.extraction.settings import DeviceSettings, ImageSettings
from featx.finetuning.settings import hidden_sizes
from featx.fitting import Model, load_model
from featx.layers import find_layer
from featx.outputs import made_folder
from featx.provenance import Provenance
from featx.recipe import Recipe, size_text
from featx.signatures import takes_fields_of, values_of
from featx.store import open_store
from featx.temporaries import is_temporary
from featx.text import printable
from featx.workflows.finetuning.results import ProbeFacts
from featx.workflows.finetuning.settings import FinetuneProgress, FinetuneSettings
from featx.workflows.heads import head_of

__all__ = ["FinetuneJob", "prepare_finetune"]

# Defaults that are not those of `prepare_extraction`.
_DEFAULTS = {"layer": "block5_pool", "pool": "avg", "weights": "bundled"}
# The settings that a model implies, and those of them that are in its recipe.
_IMPLIED = (
    *("layer", "pool", "size", "init", "rename", "preprocess", "resize", "precision", "clf"),
    *("grey", "white"),
)
_IN_RECIPE = ("pool", "size", "preprocess", "resize", "jpeg", "grey", "white", "precision")


@dataclass(frozen=True)
class FinetuneJob:
    """A fine-tuning that is ready to run; `prepare_finetune` makes it.

    Parameters
    ----------
    settings : FinetuneSettings
        The settings, with defaults that depend on other settings filled in.
    extraction : ExtractionJob
        The extraction of the codes that the linear probe is fitted on.
    probe : mapping of str to object
        Settings of `featx.fit` for the linear probe.
    given_model : Model or None
        The model of `from_model`. Images that it was fitted on cannot be test images.
    notes : tuple of str
        Warnings and other notes for the user.
    progress : FinetuneProgress
        Functions that are called while the fine-tuning runs.
    """

    settings: FinetuneSettings
    extraction: ExtractionJob
    probe: Mapping[str, Any]
    given_model: Model | None
    notes: tuple[str, ...]
    progress: FinetuneProgress

    @property
    def recipe(self) -> Recipe:
        """Recipe of the codes that the head takes."""
        return self.extraction.recipe

    @property
    def cut(self) -> str:
        """The last layer of the network, after which the head begins."""
        return self.recipe.layers[0]

    @property
    def folder(self) -> Path:
        """The folder of all results."""
        return Path(self.settings.output)


@takes_fields_of(FinetuneSettings)
def prepare_finetune(settings: FinetuneSettings) -> FinetuneJob:
    """Check the settings of a fine-tuning and plan its work.

    No image is read, and TensorFlow is not imported.

    Returns
    -------
    FinetuneJob
        For `run_finetune`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed, or the folder holds a run with other
        settings.
    ImagesError, WeightsError, ModelError
        The images, the weights or the model cannot be found.
    FitError
        The images belong to fewer than two classes.
    RecipeMismatchError
        The model was fitted with other weights.
    """
    network, probe, model = _network_and_probe(settings)
    find_layer(network["layer"])
    settings, notes = _completed(settings, network["layer"], network["weights"])
    folder = _check_own_folder(Path(settings.output))
    with made_folder(folder):
        try:
            extraction = prepare_extraction(
                **network,
                **values_of(settings, ImageSettings, DeviceSettings),
                output=folder / "codes.h5",
                overwrite=settings.overwrite,
            )
        except RecipeMismatchError as error:
            raise _other_run(folder) from error
        _check_views(extraction.recipe)
        _check_images(extraction, model)
    if settings.overwrite:
        for name in ("checkpoint.h5", "run.json"):
            (folder / name).unlink(missing_ok=True)
    progress = settings.progress or FinetuneProgress()
    notes = (*notes, *extraction.notes)
    if model is not None and model.positive is not None and model.positive.threshold is not None:
        notes = (
            *notes,
            "The threshold of the model is left out: the fine-tuned network predicts the more "
            "probable class.",
        )
    return FinetuneJob(settings, extraction, probe, model, notes, progress)


def _network_and_probe(
    settings: FinetuneSettings,
) -> tuple[dict[str, Any], dict[str, Any], Model | None]:
    """Return settings of the extraction and of the probe, and the model that implies them."""
    given = {name: value for name in _IMPLIED if (value := getattr(settings, name)) is not None}
    if settings.from_model is None:
        probe = {"clf": given.pop("clf", "logistic")}
        if "init" in given:
            init = given.pop("init")
            given["weights"] = "random:0" if init == "random" else init
        return _DEFAULTS | given, probe, None
    given_model = settings.from_model
    model = given_model if isinstance(given_model, Model) else load_model(given_model)
    if given:
        flags = ", ".join(f"--{name}" for name in given)
        message = (
            f"--from-model cannot be combined with {flags}, which the model implies. Leave out "
            "one of them."
        )
        raise OptionError(message)
    head_of(model)  # raises if the classifier cannot be a head
    _check_views(model.recipe)
    recipe, names = model.recipe, {"classifier": "clf", "parameters": "settings"}
    try:
        made = Provenance.from_facts(model.provenance.get("extraction"))
        facts = {names.get(name, name): value for name, value in model.summary.items()}
        probe = vars(conform(ProbeFacts, facts))
    except FieldError as error:
        message = (
            f"The model does not record how it was made: {printable(error)}. It was changed, or "
            "another version of featx saved it. Fit it again: featx fit --overwrite"
        )
        raise ModelError(message) from error
    network = {
        "layer": recipe.layers[0],
        "weights": made.weights or _DEFAULTS["weights"],
        "rename": made.rename,
        **{name: getattr(recipe, name) for name in _IN_RECIPE},
    }
    return network, probe, model


def _completed(
    settings: FinetuneSettings, layer: str, init: str
) -> tuple[FinetuneSettings, tuple[str, ...]]:
    """Fill in the defaults that depend on other settings, and check what depends on them."""
    random, hidden = init.startswith("random"), hidden_sizes(settings.head)
    freeze_until, decay = settings.freeze_until, settings.block_decay
    if random:
        # Random weights are not worth keeping, and no block is better than another.
        freeze_until, decay = freeze_until or "none", 1.0 if decay is None else decay
    settings = dataclasses.replace(
        settings,
        freeze_until=freeze_until or settings.last_frozen(layer),
        block_decay=settings.decay if decay is None else decay,
        batch_size=settings.images_per_step,
        head_init=settings.head_init or ("random" if hidden else "probe"),
    )
    settings.frozen(layer)
    if hidden and settings.head_init == "probe":
        message = (
            f"--head {settings.head} has hidden layers, which a linear probe does not have. Use "
            "--head-init random, or --head linear."
        )
        raise OptionError(message)
    cache = settings.cache
    if cache is None:
        return settings, ()
    if cache < 0:
        message = f"--cache must be 0 or more, but it is {cache}."
        raise OptionError(message)
    if settings.freeze_until == "none":
        message = (
            "--cache stores the activations of the frozen layers, but no layer is frozen. Use "
            "--freeze-until LAYER, or leave out --cache."
        )
        raise OptionError(message)
    if cache > 0 or settings.augment == "none":
        return settings, ()
    note = "--cache 0 turns augmentation off. Use --cache K to store K augmented copies."
    return dataclasses.replace(settings, augment="none"), (note,)


def _check_own_folder(folder: Path) -> Path:
    """Refuse a folder that holds files that featx finetune did not write."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not is_temporary(path)}
        # A run that is killed early leaves only codes.h5, its lock or its part.
        only_codes = all(name.lstrip(".").startswith("codes.h5") for name in names)
        # parts.csv is the name that 0.1 gave to split.csv.
        if not only_codes and not ("codes.h5" in names and names & {"split.csv", "parts.csv"}):
            message = f"{folder} holds files that featx finetune did not write. Choose another -o."
            raise OptionError(message)
    return folder


def _other_run(folder: Path) -> OptionError:
    """Return the error of a folder whose codes were extracted with other settings."""
    codes = folder / "codes.h5"
    recipe = open_store(codes).recipe
    flags = " ".join(f"--layer {layer}" for layer in recipe.layers)
    message = (
        f"{folder} holds a run with other settings: {flags} --pool {recipe.pool} --size "
        f"{size_text(recipe.size)}; featx info {codes} lists all of them. Use these settings to "
        "resume, --overwrite to start over, or another -o."
    )
    return OptionError(message)


def _check_images(job: ExtractionJob, model: Model | None) -> None:
    """Refuse weights that differ from a model's, and images of fewer than two classes."""
    if model is not None and model.recipe.weights != job.recipe.weights:
        message = (
            f"The model was fitted with other weights than those of {job.source.spec}: expected "
            f"{model.recipe.weights[:12]}, found {job.recipe.weights[:12]}. Put the original file "
            "there, or leave out --from-model."
        )
        raise RecipeMismatchError(message)
    labels = {record.label for record in job.listing.records if record.label}
    if len(labels) < 2:
        message = (
            f"{job.listing.root} has images of {', '.join(sorted(labels)) or 'no class'}. Expected "
            "two classes or more: data/CLASS/…, or data/train/CLASS/… and data/val/CLASS/…"
        )
        raise FitError(message)


def _check_views(recipe: Recipe) -> None:
    """Refuse codes of several views, and second-order codes, whose root has no slope at 0."""
    flags = {
        "--scale": recipe.scales,
        "--flip": recipe.flip,
        "--crops": recipe.crops > 1,
        "--pool bilinear": recipe.pool == "bilinear",
    }
    given = [flag for flag, value in flags.items() if value]
    if given:
        message = (
            f"Fine-tuning does not support codes with {', '.join(given)}. Use --pool none, avg, "
            "max, avg+max or grid:N. For --from-model, extract codes without these options, fit "
            "a model on them, and use that one."
        )
        raise OptionError(message)
