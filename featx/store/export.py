"""A store as one plain file, for people who want no HDF5 and no Python.

A store and a file name come in; Parquet, CSV or npz goes out, streamed, so
that memory stays at a few rows whatever the store's size. This file does not
know what reads them.
"""

import csv
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.outputs import check_output, whole_file
from featx.store.frames import select_rows
from featx.store.reading import Store, open_store
from featx.text import printable

__all__ = ["WIDEST_TABLE", "export"]

#: Codes wider than this do not become one column a number.
WIDEST_TABLE = 20_000
_FACTS = ("path", "label", "split", "group")


def export(
    codes: Path | str, output: Path | str, *, overwrite: bool = False, split: str | None = None
) -> Path:
    r"""Write the done rows of a store into a Parquet, CSV or npz file.

    Parquet and CSV have the columns path, label, split and group, then one
    column a number. Codes wider than 20,000 numbers become one column a layer
    in Parquet, each cell a list, since a column a number takes Parquet
    gigabytes of metadata; bytes of a name that are not UTF-8 stand there as
    ``\xNN``. An npz holds the facts as arrays of text and the
    codes of each layer under its name, with the store's shape.

    Parameters
    ----------
    codes : Path or str
        A store.
    output : Path or str
        A name that ends in .parquet, .csv or .npz.
    overwrite : bool, default=False
        Whether a file of that name may be replaced.
    split : {"train", "val", "test"}, optional
        Only the images of that split.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    OptionError
        Another ending, a missing folder, or a CSV of codes wider than 20,000
        numbers.
    ExistsError
        The file exists and may not be replaced.
    StoreError
        The store cannot be read.
    OutputError
        The file cannot be written.
    """
    output = check_output(output, overwrite=overwrite, suffixes=tuple(_WRITERS))
    store = open_store(codes)
    width = store.recipe.n_features
    if output.suffix == ".csv" and width > WIDEST_TABLE:
        message = (
            f"A CSV of {width:,} columns opens nowhere; the limit is {WIDEST_TABLE:,}. "
            f"Extract with --pool avg, or export to {output.with_suffix('.parquet')}."
        )
        raise OptionError(message)
    with whole_file(output) as temporary:
        _WRITERS[output.suffix](store, select_rows(store, split), temporary)
    return output


def _write_parquet(store: Store, rows: NDArray[np.integer], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = pa.from_numpy_dtype(np.dtype(store.recipe.dtype))
    widths = {layer: store.recipe.code_size(layer) for layer in store.recipe.layers}
    as_lists = store.recipe.n_features > WIDEST_TABLE
    if as_lists:
        columns = [(layer, pa.list_(number, width)) for layer, width in widths.items()]
    else:
        columns = [(name, number) for name in store.recipe.code_names()]
    schema = pa.schema([(name, pa.string()) for name in _FACTS] + columns)
    # Compressing codes costs ten times as long as writing them, and saves a tenth.
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for block in store.row_blocks(rows):
            facts = [_texts(getattr(store.images, name)[block]) for name in _FACTS]
            arrays = [pa.array(values, pa.string()) for values in facts]
            if as_lists:
                for layer, width in widths.items():
                    flat = store.read_rows(layer, block).reshape(-1)
                    arrays.append(pa.FixedSizeListArray.from_arrays(flat, width))
            else:
                arrays += [
                    pa.array(column) for column in store.read_codes(store.recipe.layers, block).T
                ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _texts(values: NDArray[np.object_]) -> list[str | None]:
    """Return facts as text that Parquet can hold."""
    return [None if value is None else printable(value) for value in values]


def _write_csv(store: Store, rows: NDArray[np.integer], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow([*_FACTS, *store.recipe.code_names()])
        for block in store.row_blocks(rows):
            facts = zip(*(getattr(store.images, name)[block] for name in _FACTS), strict=True)
            for fact, code in zip(facts, store.read_codes(store.recipe.layers, block), strict=True):
                # str of a NumPy number is the shortest text that reads back as the same number.
                writer.writerow([*(value or "" for value in fact), *map(str, code)])


def _write_npz(store: Store, rows: NDArray[np.integer], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in _FACTS:
            values = [value or "" for value in getattr(store.images, name)[rows]]
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.array(values, str), allow_pickle=False)
        for layer in store.recipe.layers:
            dtype = np.dtype(store.recipe.dtype)
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (len(rows), *store.recipe.code_shape(layer)),
            }
            with archive.open(f"{layer}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for block in store.row_blocks(rows):
                    file.write(store.read_rows(layer, block).tobytes())


_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".npz": _write_npz}
