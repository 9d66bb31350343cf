"""Predictions: images or a store and a bundle in, a table of probabilities out.

Images are turned into codes by the bundle's own recipe, with the same weights
or not at all, and classified as they come; their codes are not kept.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from featx.classification import Bundle, load_bundle
from featx.errors import ImagesError, OptionError, RecipeMismatchError
from featx.extraction import settle_batch_size, stream_codes
from featx.images import list_images
from featx.network import WeightsSource, check_device, find_weights, load_backbone
from featx.outputs import check_output, spelt, whole_file
from featx.recipe import Precision, Recipe
from featx.store import Store, open_store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PredictionJob", "predict", "prepare_prediction", "run_prediction"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Inputs = Path | str | Sequence[Path | str]
_Probabilities = NDArray[np.floating]


def predict(  # noqa: PLR0913  flat, as on the command line
    inputs: Inputs,
    *,
    model: Path | str | Bundle = "model.skops",
    output: Path | str | None = None,
    overwrite: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """Predict labels and probabilities.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Images and folders of images, or one store.
    model : Path, str or Bundle, default="model.skops"
        What `featx fit` made.
    output : Path or str, optional
        Where to write the table, NAME.csv or NAME.parquet; not written by
        default.
    overwrite : bool, default=False
        Whether a file of that name may be replaced.
    weights : str, optional
        Where the weights lie now, if not where they lay at extraction.
    precision : {"float32", "tf32", "bfloat16"}, optional
        Arithmetic of the network, if not that of the extraction; probabilities
        then differ a little.
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "gpu" or "gpu:N".
    progress : callable, optional
        Called with (images done, images in all).

    Returns
    -------
    DataFrame of shape (n_images, 2 + n_classes)
        Columns path, label, and p_CLASS for each class. Images that cannot be
        read have no label, and NaN for probabilities.

    Raises
    ------
    OptionError, ExistsError, BundleError, StoreError, ImagesError
        Checked before work starts.
    RecipeMismatchError
        Codes or weights are not those that the bundle was fitted on.
    """
    job = prepare_prediction(
        inputs,
        model=model,
        output=output,
        overwrite=overwrite,
        weights=weights,
        precision=precision,
        device=device,
    )
    return run_prediction(job, progress=progress)


@dataclass(frozen=True)
class PredictionJob:
    """What a prediction will read and write; `prepare_prediction` makes it.

    Parameters
    ----------
    bundle : Bundle
        The classifier.
    files : tuple of Path
        Images, by names that the user can open; empty if there is a store.
    store : Store or None
        Codes that were extracted before.
    source : WeightsSource or None
        Weights that turn images into codes; None if there is a store.
    recipe : Recipe
        Of the images' codes.
    device : str
        Where the network is to run.
    output : Path or None
        The table.
    """

    bundle: Bundle
    files: tuple[Path, ...]
    store: Store | None
    source: WeightsSource | None
    recipe: Recipe
    device: str
    output: Path | None


def prepare_prediction(
    inputs: Inputs,
    *,
    model: Path | str | Bundle = "model.skops",
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
        target = check_output(output, overwrite=overwrite, suffixes=(".csv", ".parquet"))
    check_device(device)
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    paths = [Path(item) for item in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if not paths:
        message = "No images, folder or store was given."
        raise ImagesError(message)
    stores = [path for path in paths if path.is_file() and h5py.is_hdf5(path)]
    if stores and len(paths) > 1:
        message = f"One store at a time, and no images beside it. Received {len(paths)} inputs."
        raise OptionError(message)
    if stores:
        store = open_store(stores[0])
        bundle.check_recipe(store.recipe, str(store.path))
        return PredictionJob(bundle, (), store, None, store.recipe, device, target)
    recipe = dataclasses.replace(bundle.recipe, precision=precision or bundle.recipe.precision)
    bundle.check_recipe(recipe, "This run")
    source = _source(bundle, weights)
    return PredictionJob(bundle, tuple(_files(paths)), None, source, recipe, device, target)


def run_prediction(job: PredictionJob, *, progress: Progress | None = None) -> "pd.DataFrame":
    """Run a job; parameters and result are those of `predict`."""
    import pandas as pd

    classes = job.bundle.classes
    if job.store is not None:
        names, probabilities = list(job.store.images.path), _of_store(job.store, job.bundle)
    else:
        names, probabilities = [f.as_posix() for f in job.files], _of_images(job, progress)
    names = [spelt(name) for name in names]
    readable = ~np.isnan(probabilities).any(axis=1)
    labels = np.full(len(names), None, dtype=object)
    labels[readable] = np.array(classes, object)[probabilities[readable].argmax(axis=1)]
    columns = {"path": names, "label": labels}
    columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    frame = pd.DataFrame(columns)
    if job.output is not None:
        _write(frame, job.output)
    return frame


def _source(bundle: Bundle, weights: str | None) -> WeightsSource:
    """Find the weights that the classifier's codes were made with."""
    spec = weights or bundle.provenance["extraction"]["weights"]
    source = find_weights(spec, bundle.recipe.layers)
    if source.identity != bundle.recipe.weights:
        message = (
            f"The weights {spec} are not those of the classifier's codes: {source.identity[:12]}, "
            f"expected {bundle.recipe.weights[:12]}. "
            "Use --weights with the file that extract had."
        )
        raise RecipeMismatchError(message)
    return source


def _of_store(store: Store, bundle: Bundle) -> _Probabilities:
    probabilities = np.full((len(store.images), len(bundle.classes)), np.nan)
    for rows in store.row_blocks(np.flatnonzero(store.images.done)):
        codes = store.read_codes(bundle.recipe.layers, rows)
        probabilities[rows] = bundle.predict_proba(codes)
    return probabilities


def _of_images(job: PredictionJob, progress: Progress | None) -> _Probabilities:
    recipe, files = job.recipe, job.files
    backbone = load_backbone(recipe, cast("WeightsSource", job.source), job.device)
    batch_size = settle_batch_size("auto", recipe, len(files), backbone.device)
    probabilities = np.full((len(files), len(job.bundle.classes)), np.nan)
    n_seen, reasons = 0, []
    for batch in stream_codes(files, backbone, batch_size):
        if len(batch.rows):
            codes = [batch.codes[name].reshape(len(batch.rows), -1) for name in recipe.layers]
            probabilities[batch.rows] = job.bundle.predict_proba(np.hstack(codes))
        n_seen += batch.n_images
        reasons += [f"{files[failure.row]}: {failure.reason}" for failure in batch.failures]
        if progress is not None:
            progress(n_seen, len(files))
    if len(reasons) == len(files):
        message = f"None of the {len(files)} images could be read. The first is {reasons[0]}."
        raise ImagesError(message)
    return probabilities


def _files(inputs: Sequence[Path]) -> Iterator[Path]:
    """Yield image files by names that the user can open."""
    for path in inputs:
        if path.is_dir():
            listing = list_images(path)
            for note in listing.notes:
                logger.warning("%s", note)
            yield from (path / record.path for record in listing.records)
        elif path.exists():
            yield path
        else:
            message = f"No image, folder or store {path}."
            raise ImagesError(message)


def _write(frame: "pd.DataFrame", path: Path) -> None:
    with whole_file(path) as temporary:
        if path.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)
