"""The table of predictions: its columns, and the files that it is written to.

Images and probabilities come in, batch by batch; rows go out, as they come.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.text import printable
from featx.workflows.predicting.prepare import PredictionJob

__all__ = ["WRITERS", "Columns", "columns_of"]

# A Parquet file of many small groups is slow to read.
_CELLS_A_GROUP = 1_000_000

Columns = dict[str, NDArray[Any]]


def columns_of(job: PredictionJob, images: slice, probabilities: NDArray[np.float64]) -> Columns:
    """Return the columns of some images' rows."""
    names = np.array([printable(name) for name in job.names(images)], dtype=object)
    classes = np.array([printable(name) for name in job.bundle.classes], dtype=object)
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
    columns: Columns = {"path": names, "label": labels[:, 0]}
    if job.top is None:
        return columns | {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    shares = np.take_along_axis(probabilities, best, axis=1)
    columns["p"] = shares[:, 0]
    for k in range(1, n_labels):
        columns |= {f"label_{k + 1}": labels[:, k], f"p_{k + 1}": shares[:, k]}
    return columns


@contextlib.contextmanager
def _csv(path: Path, none: Columns) -> Iterator[Callable[[Columns], None]]:
    import pandas as pd

    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(none).to_csv(file, index=False)
        yield lambda columns: pd.DataFrame(columns).to_csv(file, index=False, header=False)


@contextlib.contextmanager
def _jsonl(path: Path, none: Columns) -> Iterator[Callable[[Columns], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:

        def write(columns: Columns) -> None:
            for cells in zip(*(column.tolist() for column in columns.values()), strict=True):
                # JSON has no NaN.
                row = [None if isinstance(x, float) and math.isnan(x) else x for x in cells]
                file.write(json.dumps(dict(zip(none, row, strict=True)), ensure_ascii=False))
                file.write("\n")

        yield write


@contextlib.contextmanager
def _parquet(path: Path, none: Columns) -> Iterator[Callable[[Columns], None]]:
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

    def write(columns: Columns) -> None:
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


WRITERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
