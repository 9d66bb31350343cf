"""Preparing predictions: images or stores and a bundle come in, a job goes out.

All that can go wrong before work starts goes wrong here: images are turned into codes by
the bundle's own recipe, with the same weights, or not at all. This file does not know
which labels are true.
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from featx.choices import Precision
from featx.codes.joining import JoinedStores, join_stores
from featx.errors import (
    ImagesError,
    ModelError,
    OptionError,
    RecipeMismatchError,
    WeightsError,
)
from featx.fitting import Model, load_model
from featx.images import File, ImageRecord, Url, as_file, as_folder, list_images
from featx.network import WeightsSource, check_device, find_weights
from featx.outputs import check_output
from featx.recipe import Recipe
from featx.store import open_store
from featx.workflows.heads import tuned_model

__all__ = [
    "FORMATS",
    "Inputs",
    "PredictionJob",
    "find_inputs",
    "open_model",
    "prepare_job",
    "prepare_prediction",
]

FORMATS = (".csv", ".parquet", ".jsonl")

logger = logging.getLogger(__name__)

Inputs = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class PredictionJob:
    """What a prediction will read and write; `prepare_prediction` makes it.

    Parameters
    ----------
    bundle : Model
        The classifier.
    records : tuple of ImageRecord
        Images, whose files have names that the user can open; empty if there
        are stores.
    joined : JoinedStores or None
        Codes that were extracted before.
    source : WeightsSource or None
        Weights that turn images into codes; None if there are stores.
    recipe : Recipe
        Of the images' codes.
    device : str
        Where the network is to run.
    top : int or None, default=None
        How many labels an image gets; None for the probabilities of all.
    output : Path or None, default=None
        The table.
    """

    bundle: Model
    records: tuple[ImageRecord, ...]
    joined: JoinedStores | None
    source: WeightsSource | None
    recipe: Recipe
    device: str
    top: int | None = None
    output: Path | None = None

    @property
    def n_images(self) -> int:
        """How many images there are, readable or not."""
        return len(self.records) if self.joined is None else len(self.joined.images)

    def names(self, images: slice) -> list[str]:
        """Return the names of some images: of files to open, or as the store has them."""
        if self.joined is None:
            return [record.file.as_posix() for record in self.records[images]]
        return [str(path) for path in self.joined.images.path[images]]


def prepare_prediction(  # noqa: PLR0913  flat, as on the command line
    inputs: Inputs,
    *,
    model: Path | str | Model = "model.skops",
    codes: Inputs | None = None,
    trust: bool = False,
    top: int | None = None,
    output: Path | str | None = None,
    overwrite: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
) -> PredictionJob:
    """Check everything that a prediction needs; TensorFlow is not imported.

    Parameters and errors are those of `predict`.

    Returns
    -------
    PredictionJob
    """
    target = None
    if output is not None:
        target = check_output(output, overwrite=overwrite, suffixes=FORMATS)
    check_device(device)
    if top is not None and top < 1:
        message = f"Cannot give {top} labels an image. Expected --top 1 or more."
        raise OptionError(message)
    bundle = open_model(model, codes, trust=trust)
    found = find_inputs(inputs, bundle)
    job = prepare_job(found, bundle, weights=weights, precision=precision, device=device)
    return dataclasses.replace(job, top=top, output=target)


def open_model(
    model: Path | str | Model, codes: Inputs | None = None, *, trust: bool = False
) -> Model:
    """Return a bundle that is ready to classify: parameters and errors are those of `predict`."""
    if isinstance(model, Model):
        bundle = model
    elif Path(model).suffix == ".keras":
        bundle = tuned_model(model)
    else:
        bundle = load_model(model, trust=trust)
    if codes and (bundle.span is None or hasattr(bundle.span, "codes_")):
        logger.warning("--codes was not needed: the bundle holds all that its classifier uses.")
    bundle.open_codes(codes or None)
    return bundle


def find_inputs(inputs: Inputs, bundle: Model) -> JoinedStores | tuple[ImageRecord, ...]:
    """Return the stores, or the images, that were given.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Images and folders of images; or one or several stores.
    bundle : Model
        Says which layers of the stores are read.

    Raises
    ------
    ImagesError, OptionError, StoreError
        There are none, or they do not go together.
    RecipeMismatchError
        The stores hold other codes than the classifier's.
    """
    files = [as_file(item) for item in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if not files:
        message = "No images, folder or store was given."
        raise ImagesError(message)
    stores = [
        file for file in files if isinstance(file, Path) and file.is_file() and h5py.is_hdf5(file)
    ]
    if not stores:
        return tuple(_records(files))
    if len(stores) < len(files):
        other = next(file for file in files if file not in stores)
        message = (
            f"Stores and images cannot be mixed: {stores[0]} is a store, and {other} is not. Give "
            "one kind at a time."
        )
        raise OptionError(message)
    return _joined(stores, bundle)


def prepare_job(
    found: JoinedStores | tuple[ImageRecord, ...],
    bundle: Model,
    *,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
) -> PredictionJob:
    """Return the job of classifying what was found, which writes nothing.

    Parameters
    ----------
    found : JoinedStores or tuple of ImageRecord
        What `find_inputs` returns.
    bundle : Model
        The classifier.
    weights, precision, device : optional
        See `predict`.

    Raises
    ------
    RecipeMismatchError, WeightsError
        The weights are not those of the classifier's codes, or not there.
    """
    if isinstance(found, JoinedStores):
        return PredictionJob(bundle, (), found, None, found.recipe, device)
    recipe = dataclasses.replace(bundle.recipe, precision=precision or bundle.recipe.precision)
    bundle.check_recipe(recipe, "This run")
    return PredictionJob(bundle, found, None, _source(bundle, weights), recipe, device)


def _joined(paths: Sequence[Path], bundle: Model) -> JoinedStores:
    """Join stores that hold the classifier's layers between them."""
    stores = [open_store(path) for path in paths]
    held = tuple(layer for store in stores for layer in store.recipe.layers)
    for store in stores:
        bundle.check_recipe(store.recipe.narrowed(held), str(store.path))
    joined = join_stores(paths, bundle.recipe.layers)
    for note in joined.notes if len(joined.stores) > 1 else ():
        logger.warning("%s", note)
    return joined


def _records(inputs: Sequence[File]) -> Iterator[ImageRecord]:
    """Yield images with names that the user can open."""
    for file in inputs:
        path = as_folder(file)
        if isinstance(path, Url) or path.is_dir():
            listing = list_images(str(path))
            for note in listing.notes:
                logger.warning("%s", note)
            yield from listing.records
        elif path.exists():
            yield ImageRecord(path.name, path, None, None, None)
        else:
            message = f"No image, folder or store {path}."
            raise ImagesError(message)


def _source(bundle: Model, weights: str | None) -> WeightsSource:
    """Find the weights that the classifier's codes were made with, renamed as they were."""
    try:
        extraction = bundle.provenance["extraction"]
        spec, rename = weights or str(extraction["weights"]), extraction.get("rename")
    except (AttributeError, LookupError, TypeError) as error:
        message = (
            "The bundle does not say which weights its codes were made with. It was changed. Make "
            "it again: featx fit --overwrite"
        )
        raise ModelError(message) from error
    try:
        source = find_weights(spec, bundle.recipe.layers, rename=rename)
    except (WeightsError, OptionError) as error:
        if not rename:
            raise
        message = (
            f"{error}\nThese renames are those of the classifier's codes. Use --weights with the "
            "file that extract had."
        )
        raise WeightsError(message) from error
    if source.identity != bundle.recipe.weights:
        message = (
            f"The weights {spec} are not those of the classifier's codes: {source.identity[:12]}, "
            f"expected {bundle.recipe.weights[:12]}. "
            "Use --weights with the file that extract had."
        )
        raise RecipeMismatchError(message)
    return source
