"""Prepare predictions: images or stores and a model come in, a job goes out.

Everything that can be wrong is found here, before work starts. Images are turned into codes
by the recipe of the model, with the same weights, or not at all. This file does not know
which labels are true.
"""

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.codes.joining import JoinedStores, join_stores
from featx.documents import FieldError
from featx.errors import (
    ImagesError,
    ModelError,
    OptionError,
    RecipeMismatchError,
    WeightsError,
)
from featx.fitting import Model, load_model
from featx.hdf5 import is_hdf5
from featx.images import File, ImageRecord, Listing, Url, as_file, as_folder, list_images
from featx.network import WeightsSource, check_device, find_weights
from featx.outputs import check_output
from featx.provenance import Provenance
from featx.recipe import Recipe
from featx.signatures import takes_fields_of
from featx.store import open_store
from featx.tables import TableSource, table_name
from featx.text import quoted
from featx.workflows.heads import tuned_model
from featx.workflows.predicting.tables import WRITERS
from featx.workflows.settings import (
    Inputs,
    ModelSettings,
    PredictionSettings,
    Progress,
    RunSettings,
)

__all__ = [
    "PredictionJob",
    "listed",
    "prepare_job",
    "prepare_network",
    "prepare_prediction",
    "read_model",
]

_NO_WEIGHTS = (
    "The model does not record the weights that its codes were extracted with, so the file was "
    "changed. Fit it again: featx fit --overwrite"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionJob:
    """A prediction that is ready to run; `prepare_prediction` makes it.

    Parameters
    ----------
    model : Model
        The model.
    records : tuple of ImageRecord
        The images; empty if the input is stores.
    joined : JoinedStores or None
        Codes that were extracted before; None if the input is images.
    source : WeightsSource or None
        Weights of the network; None if the input is stores.
    recipe : Recipe
        Recipe of the images' codes.
    device : str
        Where the network runs.
    top : int or None, default=None
        Number of labels for each image; None for the probabilities of all classes.
    output : Path or None, default=None
        The table to write.
    progress : callable or None, default=None
        Called with (images done, images in total) after each batch.
    """

    model: Model
    records: tuple[ImageRecord, ...]
    joined: JoinedStores | None
    source: WeightsSource | None
    recipe: Recipe
    device: str
    top: int | None = None
    output: Path | None = None
    progress: Progress | None = None

    @property
    def n_images(self) -> int:
        """Number of images, readable or not."""
        return len(self.records) if self.joined is None else len(self.joined.images)

    def column(self, name: str) -> NDArray[np.object_]:
        """Return the label, split or group of all images; None where one is not known."""
        if self.joined is None:
            return np.array([getattr(record, name) for record in self.records], dtype=object)
        found: NDArray[np.object_] = getattr(self.joined.images, name)
        return found

    def take(self, images: NDArray[np.integer]) -> "PredictionJob":
        """Return the job with only some of its images."""
        if self.joined is None:
            return dataclasses.replace(self, records=tuple(self.records[k] for k in images))
        return dataclasses.replace(self, joined=self.joined.take(images))

    def paths(self, images: slice) -> list[str]:
        """Return the paths of some images, as a store of the same folder has them."""
        if self.joined is None:
            return [record.path for record in self.records[images]]
        return [str(path) for path in self.joined.images.path[images]]

    def files(self, images: slice) -> list[str | None]:
        """Return the files of some images, as one opens them; None if only codes are known."""
        if self.joined is None:
            return [str(record.file) for record in self.records[images]]
        return [None] * len(self.joined.images.path[images])


@takes_fields_of(PredictionSettings)
def prepare_prediction(settings: PredictionSettings) -> PredictionJob:
    """Check the settings of a prediction and plan its work; TensorFlow is not imported.

    Returns
    -------
    PredictionJob
        For `run_prediction`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.
    ImagesError, StoreError, ModelError, WeightsError
        The images, stores, model or weights cannot be found or used.
    RecipeMismatchError
        The codes or the weights differ from those that the model was fitted on.
    ExistsError
        The table exists.
    """
    output = None
    if settings.output is not None:
        output = check_output(
            settings.output, overwrite=settings.overwrite, suffixes=tuple(WRITERS)
        )
    if settings.top is not None and settings.top < 1:
        message = f"--top must be 1 or more, but it is {settings.top}."
        raise OptionError(message)
    if settings.path_column is not None and settings.manifest is None:
        message = "--path-column names a column of a table. Use it with --manifest TABLE."
        raise OptionError(message)
    records = listed(settings.inputs, settings.manifest, settings.path_column)
    job = prepare_job(settings, settings.inputs, records)
    return dataclasses.replace(job, top=settings.top, output=output)


def read_model(model: Path | str | Model, *, trust: bool = False) -> Model:
    """Return the model of a file of `featx fit` or `featx finetune`, or a model in memory."""
    if isinstance(model, Model):
        return model
    if Path(model).suffix == ".keras":
        return tuned_model(model)
    return load_model(model, trust=trust)


def _open_model(settings: ModelSettings) -> Model:
    """Return the model of the settings, ready to classify."""
    model = read_model(settings.model, trust=settings.trust)
    if settings.codes and not model.lacks_codes:
        logger.warning("--codes was not needed: the model holds everything that it uses.")
    model.open_codes(settings.codes or None)
    return model


def listed(
    inputs: Inputs, manifest: TableSource | None, path_column: str | None, *, labelled: bool = False
) -> tuple[ImageRecord, ...]:
    """Return the images of a manifest, or an empty tuple without a manifest.

    Raises
    ------
    OptionError
        There are also `inputs`.
    """
    if manifest is None:
        return ()
    if not isinstance(inputs, Sequence) or len(inputs):
        message = (
            f"Both INPUTS and --manifest {table_name(manifest)} were given. Use only one of them."
        )
        raise OptionError(message)
    return _noted(list_images(manifest=manifest, path_column=path_column, labelled=labelled))


def _noted(listing: Listing) -> tuple[ImageRecord, ...]:
    """Return the images of a listing, and log its notes."""
    for note in listing.notes:
        logger.warning("%s", note)
    return listing.records


def prepare_job(
    settings: RunSettings,
    inputs: Inputs,
    records: tuple[ImageRecord, ...] = (),
    *,
    labelled: bool = False,
) -> PredictionJob:
    """Return a job that classifies an input and writes nothing.

    Parameters
    ----------
    settings : RunSettings
        The model, and how it classifies images.
    inputs : Path, str or sequence of them
        Images and folders of images; or one or several stores.
    records : tuple of ImageRecord, optional
        Images that were found already, instead of `inputs`.
    labelled : bool, default=False
        Folders mean labels and splits. Otherwise every image of a folder is used, and has none.

    Raises
    ------
    ImagesError, OptionError, StoreError
        Nothing was found, or stores and images are mixed.
    ModelError, WeightsError
        The model or the weights cannot be found or used.
    RecipeMismatchError
        The codes or the weights differ from those that the model was fitted on.
    """
    check_device(settings.device)
    model = _open_model(settings)
    found = records or _find_inputs(inputs, model, labelled)
    device, progress = settings.device, settings.progress
    if isinstance(found, JoinedStores):
        return PredictionJob(model, (), found, None, found.recipe, device, progress=progress)
    recipe, source = _network_of(model, settings)
    return PredictionJob(model, found, None, source, recipe, device, progress=progress)


def prepare_network(settings: ModelSettings) -> tuple[Model, Recipe, WeightsSource]:
    """Return the model of some settings, with the recipe and the weights of its network."""
    check_device(settings.device)
    model = _open_model(settings)
    return model, *_network_of(model, settings)


def _network_of(model: Model, settings: ModelSettings) -> tuple[Recipe, WeightsSource]:
    precision = settings.precision or model.recipe.precision
    recipe = dataclasses.replace(model.recipe, precision=precision)
    model.check_recipe(recipe, "This run")
    return recipe, _source(model, settings.weights)


def _find_inputs(
    inputs: Inputs, model: Model, labelled: bool
) -> JoinedStores | tuple[ImageRecord, ...]:
    """Return the stores, with the layers of the model, or the images of an input."""
    given: list[Any] = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    for each in given:
        if not isinstance(each, str | os.PathLike):
            message = (
                f"An input of type {type(each).__name__} was given, and a path or a URL was "
                "expected. For arrays and other images in memory: featx.load_predictor(MODEL)"
            )
            raise OptionError(message)
    files = [as_file(each) for each in given]
    if not files:
        message = "No images, folder or store was given."
        raise ImagesError(message)
    stores = [file for file in files if isinstance(file, Path) and _is_store(file)]
    if not stores:
        return tuple(_records(files, labelled))
    if len(stores) < len(files):
        other = next(file for file in files if file not in stores)
        message = (
            f"Stores and images cannot be mixed, but {stores[0]} is a store and {other} is not. "
            "Use one kind of input at a time."
        )
        raise OptionError(message)
    return _joined(stores, model)


def _is_store(file: Path) -> bool:
    try:
        return file.is_file() and is_hdf5(file)
    except OSError as error:  # such as a name that is too long
        message = f"{quoted(str(file)[:200])} cannot be read: {error.strerror or error}."
        raise ImagesError(message) from error


def _joined(paths: Sequence[Path], model: Model) -> JoinedStores:
    """Join stores that together hold the layers of the model."""
    stores = [open_store(path) for path in paths]
    layers = tuple(layer for store in stores for layer in store.recipe.layers)
    for store in stores:
        model.check_recipe(store.recipe.with_layers(layers), str(store.path))
    joined = join_stores(paths, model.recipe.layers)
    for note in joined.notes if len(joined.stores) > 1 else ():
        logger.warning("%s", note)
    return joined


def _records(inputs: Sequence[File], labelled: bool) -> Iterator[ImageRecord]:
    """Yield the images of files and folders."""
    for file in inputs:
        path = as_folder(file)
        if isinstance(path, Url) or path.is_dir():
            yield from _noted(list_images(path, labelled=labelled))
        elif path.exists():
            yield ImageRecord(path.name, path)
        else:
            message = f"There is no image, folder or store {path}."
            raise ImagesError(message)


def _source(model: Model, weights: str | None) -> WeightsSource:
    """Find the weights that the codes were extracted with, with the same renamed layers."""
    try:
        made = Provenance.from_facts(model.provenance.get("extraction"))
    except FieldError as error:
        raise ModelError(_NO_WEIGHTS) from error
    spec, rename = weights or made.weights, made.rename
    if spec is None:
        raise ModelError(_NO_WEIGHTS)
    try:
        source = find_weights(spec, model.recipe.layers, rename=rename)
    except (WeightsError, OptionError) as error:
        if not rename:
            raise
        message = (
            f"{error}\nThe model's codes were extracted with these renamed layers. Use --weights "
            "with the file of that extraction."
        )
        raise WeightsError(message) from error
    if source.identity != model.recipe.weights:
        message = (
            f"The weights {spec} are {source.identity[:12]}, but the model's codes were extracted "
            f"with {model.recipe.weights[:12]}. Use --weights with the file of that extraction."
        )
        raise RecipeMismatchError(message)
    return source
