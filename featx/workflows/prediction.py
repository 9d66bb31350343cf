"""Predictions: images or stores and a bundle in, a table of probabilities out.

Images are turned into codes by the bundle's own recipe, with the same weights
or not at all, and classified as they come; their codes are not kept. Rows are
written as they come, too: however many images there are, a batch of them is in
memory. This file does not know which labels are true.
"""

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from featx.classification import Bundle, load_bundle
from featx.classification.joining import Joined, join_stores
from featx.errors import (
    BundleError,
    ImagesError,
    OptionError,
    RecipeMismatchError,
    StoreError,
    WeightsError,
)
from featx.extraction import settle_batch_size, stream_codes
from featx.images import ImageRecord, list_images
from featx.network import WeightsSource, check_device, find_weights, load_backbone
from featx.outputs import check_output, spelt, whole_file
from featx.recipe import Precision, Recipe
from featx.store import open_store
from featx.workflows.heads import tuned_bundle

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Inputs",
    "PredictionJob",
    "Progress",
    "find_inputs",
    "open_bundle",
    "predict",
    "predictions",
    "prepare_job",
    "prepare_prediction",
    "probability_blocks",
    "run_prediction",
]

FORMATS = (".csv", ".parquet", ".jsonl")
# As many codes as a bundle takes at once, in float64: a classifier that compares with the
# codes it was fitted on passes over them once a block.
_CODE_BYTES = 128_000_000
# Of many classes and narrow codes, the probabilities are what fills memory.
_PROBABILITY_BYTES = 16_000_000
# A Parquet file of many small groups is slow to read.
_CELLS_A_GROUP = 1_000_000

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Inputs = Path | str | Sequence[Path | str]
_Columns = dict[str, NDArray[Any]]
_Block = tuple[slice, NDArray[np.float64]]


def predict(  # noqa: PLR0913  flat, as on the command line
    inputs: Inputs,
    *,
    model: Path | str | Bundle = "model.skops",
    codes: Inputs | None = None,
    trust: bool = False,
    top: int | None = None,
    output: Path | str | None = None,
    overwrite: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """Predict labels and probabilities.

    The table is in memory as a whole. For more images than that allows, iterate
    over `featx.workflows.predictions`, which yields it batch by batch.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Images and folders of images; or a store, or several of the same
        images, which are joined.
    model : Path, str or Bundle, default="model.skops"
        What `featx fit` made, or the tuned.keras of `featx finetune`.
    codes : Path, str or sequence of them, optional
        The stores that the classifier was fitted on, if it compares with their
        codes and they lie elsewhere now.
    trust : bool, default=False
        Whether to open a .joblib bundle, which can run any code of its maker.
    top : int, optional
        Give this many labels an image, the most probable first, rather than the
        probability of every class.
    output : Path or str, optional
        Where to write the table, NAME.csv, NAME.parquet or NAME.jsonl (one JSON
        object a line); not written by default.
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
        Columns path, label, and p_CLASS for each class; with `top`, path, label,
        p, label_2, p_2 and so on. Images that cannot be read have no label, and
        NaN for probabilities.

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
        codes=codes,
        trust=trust,
        top=top,
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
    records : tuple of ImageRecord
        Images, whose files have names that the user can open; empty if there
        are stores.
    joined : Joined or None
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

    bundle: Bundle
    records: tuple[ImageRecord, ...]
    joined: Joined | None
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
    model: Path | str | Bundle = "model.skops",
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
    bundle = open_bundle(model, codes, trust=trust)
    found = find_inputs(inputs, bundle)
    job = prepare_job(found, bundle, weights=weights, precision=precision, device=device)
    return dataclasses.replace(job, top=top, output=target)


def open_bundle(
    model: Path | str | Bundle, codes: Inputs | None = None, *, trust: bool = False
) -> Bundle:
    """Return a bundle that is ready to classify: parameters and errors are those of `predict`."""
    if isinstance(model, Bundle):
        bundle = model
    elif Path(model).suffix == ".keras":
        bundle = tuned_bundle(model)
    else:
        bundle = load_bundle(model, trust=trust)
    if codes and (bundle.span is None or hasattr(bundle.span, "codes_")):
        logger.warning("--codes was not needed: the bundle holds all that its classifier uses.")
    bundle.open_codes(codes or None)
    return bundle


def find_inputs(inputs: Inputs, bundle: Bundle) -> Joined | tuple[ImageRecord, ...]:
    """Return the stores, or the images, that were given.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Images and folders of images; or one or several stores.
    bundle : Bundle
        Says which layers of the stores are read.

    Raises
    ------
    ImagesError, OptionError, StoreError
        There are none, or they do not go together.
    RecipeMismatchError
        The stores hold other codes than the classifier's.
    """
    paths = [Path(item) for item in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if not paths:
        message = "No images, folder or store was given."
        raise ImagesError(message)
    stores = [path for path in paths if path.is_file() and h5py.is_hdf5(path)]
    if not stores:
        return tuple(_records(paths))
    if len(stores) < len(paths):
        other = next(path for path in paths if path not in stores)
        message = (
            f"Stores and images cannot be mixed: {stores[0]} is a store, and {other} is not. Give "
            "one kind at a time."
        )
        raise OptionError(message)
    return _joined(stores, bundle)


def prepare_job(
    found: Joined | tuple[ImageRecord, ...],
    bundle: Bundle,
    *,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
) -> PredictionJob:
    """Return the job of classifying what was found, which writes nothing.

    Parameters
    ----------
    found : Joined or tuple of ImageRecord
        What `find_inputs` returns.
    bundle : Bundle
        The classifier.
    weights, precision, device : optional
        See `predict`.

    Raises
    ------
    RecipeMismatchError, WeightsError
        The weights are not those of the classifier's codes, or not there.
    """
    if isinstance(found, Joined):
        return PredictionJob(bundle, (), found, None, found.recipe, device)
    recipe = dataclasses.replace(bundle.recipe, precision=precision or bundle.recipe.precision)
    bundle.check_recipe(recipe, "This run")
    return PredictionJob(bundle, found, None, _source(bundle, weights), recipe, device)


def run_prediction(job: PredictionJob, *, progress: Progress | None = None) -> "pd.DataFrame":
    """Run a job; parameters and result are those of `predict`."""
    import pandas as pd

    parts = list(_written(job, progress))
    none = _columns(job, slice(0, 0), np.empty((0, len(job.bundle.classes))))
    columns = {name: np.concatenate([none[name], *(part[name] for part in parts)]) for name in none}
    return pd.DataFrame(columns)


def predictions(
    job: PredictionJob, *, progress: Progress | None = None
) -> "Generator[pd.DataFrame, None, None]":
    """Yield the table of a job, batch by batch, in the order of the images.

    The job's output gets its name when all was yielded; a caller who ends
    earlier leaves no file.

    Parameters
    ----------
    job : PredictionJob
        What `prepare_prediction` returns.
    progress : callable, optional
        Called with (images done, images in all).

    Yields
    ------
    DataFrame of shape (n_images, n_columns)
        Columns as `predict` returns them.

    Raises
    ------
    ImagesError
        No image could be read.
    OutputError
        The table cannot be written.
    """
    import pandas as pd

    for columns in _written(job, progress):
        yield pd.DataFrame(columns)


def probability_blocks(
    job: PredictionJob, progress: Progress | None = None
) -> Generator[_Block, None, None]:
    """Yield which images were classified, and the probabilities of all classes.

    Parameters
    ----------
    job : PredictionJob
        What `prepare_prediction` returns.
    progress : callable, optional
        Called with (images done, images in all).

    Yields
    ------
    slice, ndarray of shape (n_images, n_classes)
        In the order of the images; NaN where an image has no code.
    """
    blocks = _of_images(job) if job.joined is None else _of_stores(job.joined, job.bundle)
    for images, probabilities in blocks:
        yield images, probabilities
        if progress is not None:
            progress(images.stop, job.n_images)


def _joined(paths: Sequence[Path], bundle: Bundle) -> Joined:
    """Join stores that hold the classifier's layers between them."""
    stores = [open_store(path) for path in paths]
    held = tuple(layer for store in stores for layer in store.recipe.layers)
    for store in stores:
        bundle.check_recipe(store.recipe.narrowed(held), str(store.path))
    joined = join_stores(paths, bundle.recipe.layers)
    for note in joined.notes if len(joined.stores) > 1 else ():
        logger.warning("%s", note)
    return joined


def _records(inputs: Sequence[Path]) -> Iterator[ImageRecord]:
    """Yield images with names that the user can open."""
    for path in inputs:
        if path.is_dir():
            listing = list_images(path)
            for note in listing.notes:
                logger.warning("%s", note)
            yield from listing.records
        elif path.exists():
            yield ImageRecord(path.name, path, None, None, None)
        else:
            message = f"No image, folder or store {path}."
            raise ImagesError(message)


def _source(bundle: Bundle, weights: str | None) -> WeightsSource:
    """Find the weights that the classifier's codes were made with, renamed as they were."""
    try:
        extraction = bundle.provenance["extraction"]
        spec, rename = weights or str(extraction["weights"]), extraction.get("rename")
    except (AttributeError, LookupError, TypeError) as error:
        message = (
            "The bundle does not say which weights its codes were made with. It was changed. Make "
            "it again: featx fit --overwrite"
        )
        raise BundleError(message) from error
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


# probabilities


def _of_stores(joined: Joined, bundle: Bundle) -> Iterator[_Block]:
    n_images, n_classes = len(joined.images), len(bundle.classes)
    step = min(_CODE_BYTES // (8 * joined.recipe.width), _PROBABILITY_BYTES // (8 * n_classes))
    for start in range(0, n_images, max(1, step)):
        images = slice(start, min(start + max(1, step), n_images))
        rows = np.flatnonzero(joined.images.done[images])
        probabilities = np.full((images.stop - start, n_classes), np.nan)
        if len(rows):
            probabilities[rows] = bundle.predict_proba(_read_codes(joined, start + rows))
        yield images, probabilities


def _read_codes(joined: Joined, images: NDArray[np.integer]) -> NDArray[np.floating]:
    """Read the codes of some images, (m, d), layers side by side.

    Not through a memory map, whose pages would count as memory of this process.
    """
    recipe = joined.recipe
    block = np.empty((len(images), recipe.width), recipe.dtype)
    start = 0
    for layer in recipe.layers:
        store, rows = joined.of_layer(layer)
        part = block[:, start : start + recipe.code_size(layer)]
        try:
            store.read_rows(layer, rows[images], out=part)
        except OSError as error:  # or it would be taken for one of the output
            message = f"{store.path} cannot be read: {error.strerror or error}."
            raise StoreError(message) from error
        start += part.shape[1]
    return block


def _of_images(job: PredictionJob) -> Iterator[_Block]:
    recipe, files = job.recipe, [record.file for record in job.records]
    backbone = load_backbone(recipe, cast("WeightsSource", job.source), job.device)
    batch_size = settle_batch_size("auto", recipe, len(files), backbone.device)
    n_seen = n_failed = 0
    first = ""
    # Closed when the caller ends early, so that no thread goes on decoding.
    with contextlib.closing(stream_codes(files, backbone, batch_size)) as batches:
        for batch in batches:
            images = slice(n_seen, n_seen + batch.n_images)
            probabilities = np.full((batch.n_images, len(job.bundle.classes)), np.nan)
            if len(batch.rows):
                codes = [batch.codes[name].reshape(len(batch.rows), -1) for name in recipe.layers]
                probabilities[batch.rows - n_seen] = job.bundle.predict_proba(np.hstack(codes))
            n_seen += batch.n_images
            n_failed += len(batch.failures)
            if batch.failures and not first:
                first = f"{files[batch.failures[0].row]}: {batch.failures[0].reason}"
            yield images, probabilities
    if n_failed == len(files):
        message = f"None of the {len(files)} images could be read. The first is {first}."
        raise ImagesError(message)


# the table


def _columns(job: PredictionJob, images: slice, probabilities: NDArray[np.float64]) -> _Columns:
    """Return the columns of some images' rows."""
    names = np.array([spelt(name) for name in job.names(images)], dtype=object)
    classes = np.array([spelt(name) for name in job.bundle.classes], dtype=object)
    readable = ~np.isnan(probabilities).any(axis=1)
    # Stable, and of -p: of equal ones the first, as argmax has it.
    n_labels = 1 if job.top is None else min(job.top, len(classes))
    best = (
        probabilities.argmax(axis=1)[:, None]
        if n_labels == 1
        else np.argsort(-probabilities, axis=1, kind="stable")[:, :n_labels]
    )
    labels = np.full(best.shape, None, dtype=object)
    labels[readable] = classes[best[readable]]
    columns: _Columns = {"path": names, "label": labels[:, 0]}
    if job.top is None:
        return columns | {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    shares = np.take_along_axis(probabilities, best, axis=1)
    columns["p"] = shares[:, 0]
    for k in range(1, n_labels):
        columns |= {f"label_{k + 1}": labels[:, k], f"p_{k + 1}": shares[:, k]}
    return columns


def _written(job: PredictionJob, progress: Progress | None) -> Generator[_Columns, None, None]:
    """Yield rows batch by batch, each after it was written."""
    with contextlib.ExitStack() as stack:
        write: Callable[[_Columns], None] | None = None
        if job.output is not None:
            none = _columns(job, slice(0, 0), np.empty((0, len(job.bundle.classes))))
            temporary = stack.enter_context(whole_file(job.output))
            write = stack.enter_context(_WRITERS[job.output.suffix](temporary, none))
        blocks = stack.enter_context(contextlib.closing(probability_blocks(job, progress)))
        for images, probabilities in blocks:
            columns = _columns(job, images, probabilities)
            if write is not None:
                write(columns)
            yield columns


@contextlib.contextmanager
def _csv(path: Path, none: _Columns) -> Iterator[Callable[[_Columns], None]]:
    import pandas as pd

    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(none).to_csv(file, index=False)
        yield lambda columns: pd.DataFrame(columns).to_csv(file, index=False, header=False)


@contextlib.contextmanager
def _jsonl(path: Path, none: _Columns) -> Iterator[Callable[[_Columns], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:

        def write(columns: _Columns) -> None:
            for cells in zip(*(column.tolist() for column in columns.values()), strict=True):
                # JSON has no NaN.
                row = [None if isinstance(x, float) and math.isnan(x) else x for x in cells]
                file.write(json.dumps(dict(zip(none, row, strict=True)), ensure_ascii=False))
                file.write("\n")

        yield write


@contextlib.contextmanager
def _parquet(path: Path, none: _Columns) -> Iterator[Callable[[_Columns], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            (name, pa.string() if column.dtype == object else pa.float64())
            for name, column in none.items()
        ]
    )
    kept: list[pa.RecordBatch] = []

    def flush() -> None:
        if kept:
            table = pa.Table.from_batches(kept, schema)
            writer.write_table(table, row_group_size=len(table))
            kept.clear()

    def write(columns: _Columns) -> None:
        arrays = [
            pa.array(column, field.type, from_pandas=True)  # NaN: no value
            for field, column in zip(schema, columns.values(), strict=True)
        ]
        kept.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        if sum(len(batch) for batch in kept) * len(schema) >= _CELLS_A_GROUP:
            flush()

    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        yield write
        flush()


_WRITERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
