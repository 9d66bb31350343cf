"""The table of predictions: a job comes in, rows go out and are written as they come.

However many images there are, one batch of them is in memory.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featx.cluster import Cluster
from featx.metrics.decisions import ranked_columns
from featx.outputs import log_missing_names, whole_file
from featx.signatures import prepared_by
from featx.text import storable
from featx.workflows.predicting.classifying import Block, probability_blocks
from featx.workflows.predicting.prepare import PredictionJob, prepare_prediction
from featx.workflows.predicting.tables import WRITERS, Columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict", "predictions", "run_prediction"]


@prepared_by(prepare_prediction)
def predict(job: PredictionJob) -> "pd.DataFrame":
    """Predict labels and probabilities.

    The whole table is in memory. For more images than that allows, iterate over
    `featx.workflows.predictions`, which yields it batch by batch.

    Returns
    -------
    DataFrame of shape (n_images, 4 + n_classes)
        Columns path, file, label, p_CLASS for each class, and reason; with `top`, path, file,
        label, p, label_2, p_2 and so on, and reason. A column threshold after label is in the
        table if the model has one: label is then the positive class where its probability is
        at least the threshold, and otherwise the other class. The path is as in a store of the same
        folder, and the file as one opens it; the file of a row of a store is not known.
        Images that cannot be read have no label, the probability NaN, and a reason. The CSV
        file of `output` is read by ``pandas.read_csv(path, keep_default_na=False,
        na_values=[""])`` if a class has a name such as NA, None or nan, which pandas otherwise
        takes for a missing value.
    """
    parts = [_no_rows(job), *_written(job, None)]
    return _frame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


@prepared_by(prepare_prediction)
def predictions(job: PredictionJob) -> "Generator[pd.DataFrame, None, None]":
    """Predict labels and probabilities, batch by batch.

    The settings are checked at once, and images are read as the batches are requested. The
    output appears when all batches were yielded; if the iteration ends earlier, no file
    remains.

    Yields
    ------
    DataFrame of shape (n_images, n_columns)
        Rows in the order of the images, with the columns of `featx.predict`.
    """
    return run_prediction(job)


def run_prediction(
    job: PredictionJob, *, cluster: Cluster | None = None
) -> "Generator[pd.DataFrame, None, None]":
    """Run a job, and yield its table batch by batch.

    Parameters
    ----------
    job : PredictionJob
        The result of `prepare_prediction`.
    cluster : Cluster, optional
        Its workers compute and classify codes, instead of this process. They load the job's
        weights, and see the images under the same paths. See `featx.cluster.connect`.

    Yields
    ------
    DataFrame of shape (n_images, n_columns)
        Rows in the order of the images, with the columns of `featx.predict`.

    Raises
    ------
    ImagesError
        No image could be read.
    OutputError
        The table cannot be written.
    ClusterError
        The cluster is lost, or a worker failed.
    """
    for columns in _written(job, cluster):
        yield _frame(columns)


def _frame(columns: Columns) -> "pd.DataFrame":
    """Return columns as a frame; text has one dtype in all batches, even if all values are None."""
    import pandas as pd

    text = pd.Series([""]).dtype  # object before pandas 3, str since then
    return pd.DataFrame(
        {
            name: pd.Series(column, dtype=text) if column.dtype == object else column
            for name, column in columns.items()
        }
    )


def _written(job: PredictionJob, cluster: Cluster | None) -> Generator[Columns, None, None]:
    """Yield rows batch by batch, after each batch was written."""
    with contextlib.ExitStack() as stack:
        write: Callable[[Columns], None] | None = None
        if job.output is not None:
            log_missing_names(job.output, job.model.classes)
            temporary = stack.enter_context(whole_file(job.output))
            write = stack.enter_context(WRITERS[job.output.suffix](temporary, _no_rows(job)))
        blocks = stack.enter_context(contextlib.closing(probability_blocks(job, cluster)))
        for block in blocks:
            columns = _columns_of(job, block)
            if write is not None:
                write(columns)
            yield columns


def _no_rows(job: PredictionJob) -> Columns:
    return _columns_of(job, Block(slice(0, 0), np.empty((0, len(job.model.classes))), {}))


def _columns_of(job: PredictionJob, block: Block) -> Columns:
    """Return the columns of some images' rows."""
    images, probabilities, reasons, _ = block
    numbers = range(images.start, images.stop)
    first: Columns = {"path": _texts(job.paths(images)), "file": _texts(job.files(images))}
    last: Columns = {"reason": _texts(reasons.get(k) for k in numbers)}
    classes = np.array([storable(name) for name in job.model.classes], dtype=object)
    readable = ~np.isnan(probabilities).any(axis=1)
    n_labels = 1 if job.top is None else min(job.top, len(classes))
    best = ranked_columns(probabilities, job.model.predicted_columns(probabilities), n_labels)
    labels = np.full(best.shape, None, dtype=object)
    labels[readable] = classes[best[readable]]
    positive, decided = job.model.positive, {"label": labels[:, 0]}
    if positive is not None and positive.threshold is not None:
        decided["threshold"] = np.full(len(labels), positive.threshold)
    columns: Columns = {**first, **decided}
    if job.top is None:
        scores = {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
        return {**columns, **scores, **last}
    highest = np.take_along_axis(probabilities, best, axis=1)
    for k in range(n_labels):
        suffix = f"_{k + 1}" if k else ""
        columns |= {f"label{suffix}": labels[:, k], f"p{suffix}": highest[:, k]}
    return columns | last


def _texts(names: Iterable[str | None]) -> NDArray[np.object_]:
    """Return a column of text; None where there is none."""
    return np.array([None if name is None else storable(name) for name in names], dtype=object)
