"""Predictions: images or stores and a bundle in, a table of probabilities out.

Rows are written as they come: however many images there are, a batch of them is in
memory.
"""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.choices import Precision
from featx.cluster import Cluster
from featx.fitting import Model
from featx.outputs import whole_file
from featx.workflows.predicting.classifying import Progress, probability_blocks
from featx.workflows.predicting.prepare import Inputs, PredictionJob, prepare_prediction
from featx.workflows.predicting.tables import WRITERS, Columns, columns_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict", "predictions", "run_prediction"]


def predict(  # noqa: PLR0913  flat, as on the command line
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
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """Predict labels and probabilities.

    The table is in memory as a whole. For more images than that allows, iterate
    over `featx.workflows.predictions`, which yields it batch by batch.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Images and folders of images, which may be archives or URLs; or a store, or
        several of the same images, which are joined.
    model : Path, str or Model, default="model.skops"
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
    OptionError, ExistsError, ModelError, StoreError, ImagesError
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


def run_prediction(
    job: PredictionJob, *, progress: Progress | None = None, cluster: Cluster | None = None
) -> "pd.DataFrame":
    """Run a job; parameters are those of `predictions`, the result that of `predict`."""
    import pandas as pd

    parts = list(_written(job, progress, cluster))
    none = columns_of(job, slice(0, 0), np.empty((0, len(job.bundle.classes))))
    columns = {name: np.concatenate([none[name], *(part[name] for part in parts)]) for name in none}
    return pd.DataFrame(columns)


def predictions(
    job: PredictionJob, *, progress: Progress | None = None, cluster: Cluster | None = None
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
    cluster : Cluster, optional
        Whose workers compute codes and classify them; they load the job's
        weights, and see the images under the same paths. See
        `featx.cluster.connected`.

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
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    import pandas as pd

    for columns in _written(job, progress, cluster):
        yield pd.DataFrame(columns)


def _written(
    job: PredictionJob, progress: Progress | None, cluster: Cluster | None
) -> Generator[Columns, None, None]:
    """Yield rows batch by batch, each after it was written."""
    with contextlib.ExitStack() as stack:
        write: Callable[[Columns], None] | None = None
        if job.output is not None:
            none = columns_of(job, slice(0, 0), np.empty((0, len(job.bundle.classes))))
            temporary = stack.enter_context(whole_file(job.output))
            write = stack.enter_context(WRITERS[job.output.suffix](temporary, none))
        blocks = stack.enter_context(contextlib.closing(probability_blocks(job, progress, cluster)))
        for images, probabilities in blocks:
            columns = columns_of(job, images, probabilities)
            if write is not None:
                write(columns)
            yield columns
