"""Export of a store to Parquet, CSV or npz, for use without HDF5 and without Python.

A store and a file name come in; a file goes out. Rows are streamed, so the export of any
store needs little memory.
"""

import csv
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.outputs import check_output, log_missing_names, whole_file
from featx.store.frames import select_rows
from featx.store.reading import Store, open_store
from featx.text import storable

__all__ = ["WIDEST_TABLE", "export"]

#: Codes with more features are not exported with a column for each feature.
WIDEST_TABLE = 20_000
_METADATA = ("path", "label", "split", "group")


def export(
    codes: Path | str, output: Path | str, *, overwrite: bool = False, split: str | None = None
) -> Path:
    r"""Write the rows of a store that are done to a Parquet, CSV or npz file.

    Parquet and CSV files have the columns path, label, split and group, and one column for
    each feature. Parquet would need gigabytes of metadata for more than 20,000 columns, so
    codes with more features become one column for each layer, with a list in each cell.
    Bytes of a name that are not UTF-8 become ``\xNN`` in Parquet. A CSV file with names such as
    NA is read by ``pandas.read_csv(path, keep_default_na=False, na_values=[""])``. An npz file
    holds the metadata as arrays of text, and an array of codes for each layer with the shape in
    the store.

    Parameters
    ----------
    codes : Path or str
        A store.
    output : Path or str
        A file that ends in .parquet, .csv or .npz.
    overwrite : bool, default=False
        Replace the file if it exists.
    split : {"train", "val", "test"}, optional
        Export only the images of this split.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    OptionError
        The file has another extension, its folder is missing, or codes for CSV have more
        than 20,000 features.
    ExistsError
        The file exists and `overwrite` is False.
    StoreError
        The store cannot be read.
    OutputError
        The file cannot be written.
    """
    output = check_output(output, overwrite=overwrite, suffixes=tuple(_WRITERS))
    store = open_store(codes)
    n_features = store.recipe.n_features
    if output.suffix == ".csv" and n_features > WIDEST_TABLE:
        message = (
            f"A CSV file can have at most {WIDEST_TABLE:,} features, but the codes have "
            f"{n_features:,}. Extract with --pool avg, or export to "
            f"{output.with_suffix('.parquet')}."
        )
        raise OptionError(message)
    with whole_file(output) as temporary:
        _WRITERS[output.suffix](store, select_rows(store, split), temporary)
    log_missing_names(output, (*store.images.label, *store.images.group))
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
    schema = pa.schema([(name, pa.string()) for name in _METADATA] + columns)
    # Compression would take ten times as long as writing, and save a tenth of the size.
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for block in store.row_blocks(rows):
            texts = [getattr(store.images, name)[block] for name in _METADATA]
            arrays = [pa.array([v and storable(v) for v in each], pa.string()) for each in texts]
            if as_lists:
                for layer, width in widths.items():
                    flat = store.read_rows(layer, block).reshape(-1)
                    arrays.append(pa.FixedSizeListArray.from_arrays(flat, width))
            else:
                arrays += [
                    pa.array(column) for column in store.read_codes(store.recipe.layers, block).T
                ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _write_csv(store: Store, rows: NDArray[np.integer], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow([*_METADATA, *store.recipe.code_names()])
        for block in store.row_blocks(rows):
            metadata = zip(*(getattr(store.images, name)[block] for name in _METADATA), strict=True)
            codes = store.read_codes(store.recipe.layers, block)
            for texts, code in zip(metadata, codes, strict=True):
                # str of a NumPy number is the shortest text that is read back exactly.
                writer.writerow([*(value or "" for value in texts), *map(str, code)])


def _write_npz(store: Store, rows: NDArray[np.integer], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in _METADATA:
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
