"""Tables of predictions: columns come in block by block, and are written to a file at once.

A writer takes the path and the columns without rows, and yields a function that writes rows.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

__all__ = ["WRITERS", "Columns"]

# A Parquet file of many small row groups is slow to read.
_CELLS_PER_GROUP = 1_000_000

Columns = dict[str, NDArray[Any]]


@contextlib.contextmanager
def _csv(path: Path, no_rows: Columns) -> Iterator[Callable[[Columns], None]]:
    import pandas as pd

    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(no_rows).to_csv(file, index=False)
        yield lambda columns: pd.DataFrame(columns).to_csv(file, index=False, header=False)


@contextlib.contextmanager
def _jsonl(path: Path, no_rows: Columns) -> Iterator[Callable[[Columns], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:

        def write(columns: Columns) -> None:
            for cells in zip(*(column.tolist() for column in columns.values()), strict=True):
                # JSON has no NaN.
                row = [None if isinstance(x, float) and math.isnan(x) else x for x in cells]
                file.write(json.dumps(dict(zip(no_rows, row, strict=True)), ensure_ascii=False))
                file.write("\n")

        yield write


@contextlib.contextmanager
def _parquet(path: Path, no_rows: Columns) -> Iterator[Callable[[Columns], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            (name, pa.string() if column.dtype == object else pa.float64())
            for name, column in no_rows.items()
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
            pa.array(column, field.type, from_pandas=True)  # NaN becomes a missing value
            for field, column in zip(schema, columns.values(), strict=True)
        ]
        kept.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        if sum(len(batch) for batch in kept) * len(schema) >= _CELLS_PER_GROUP:
            flush()

    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        yield write
        flush()


#: Writers of tables, by the suffix of the file.
WRITERS = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}
