"""A store as a pandas DataFrame, or as X and y for scikit-learn.

A path comes in; a DataFrame, or X and y, goes out. pandas is imported only when a
DataFrame is created.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import OptionError, StoreError
from featx.store.layout import Status
from featx.store.reading import Store, checked_selection, open_store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["labelled_rows", "read_arrays", "read_frame", "select_rows"]

RowStatus = Literal["done", "all"]


def select_rows(
    store: Store, split: str | None = None, status: RowStatus = "done"
) -> NDArray[np.integer]:
    """Return the rows of a split, or of all splits for None, by default those that are done.

    Raises
    ------
    OptionError
        The store does not have the split, or `status` is not "done" or "all".
    """
    if status not in get_args(RowStatus):
        message = f"status must be one of {', '.join(get_args(RowStatus))}, but it is {status!r}."
        raise OptionError(message)
    chosen = store.images.done if status == "done" else np.ones(len(store.images), bool)
    if split is not None:
        held = sorted({s for s in store.images.split if s is not None})
        if split not in held:
            advice = f"Use one of: {', '.join(held)}." if held else "It has no splits."
            message = f"{store.path} has no split '{split}'. {advice}"
            raise OptionError(message)
        chosen = chosen & (store.images.split == split)
    return np.flatnonzero(chosen)


def labelled_rows(store: Store, rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the rows among `rows` that have a label.

    Raises
    ------
    StoreError
        None of the rows has a label.
    """
    chosen = rows[[label is not None for label in store.images.label[rows]]]
    if not len(chosen):
        message = (
            f"No image in {store.path} is done and has a label. Labels come from class folders "
            "(data/train/CLASS/…) or from a manifest: featx extract --manifest FILE.csv"
        )
        raise StoreError(message)
    return chosen


def read_frame(
    path: Path | str,
    layer: str | Sequence[str] | None = None,
    split: str | None = None,
    status: RowStatus = "done",
) -> "pd.DataFrame":
    """Read a store as a DataFrame with a row for each image and a column for each feature.

    Parameters
    ----------
    path : Path or str
        A store.
    layer : str or sequence of str, optional
        Layers to read, concatenated; by default all layers of the store.
    split : {"train", "val", "test"}, optional
        Read only the images of this split.
    status : {"done", "all"}, default="done"
        With "all", include images that failed or are pending; their codes are NaN.

    Returns
    -------
    DataFrame of shape (n_images, n_features)
        Codes in the store's dtype and order. The index levels are path, label, split,
        group and status.

    Raises
    ------
    StoreError
        The file is not a store, or is damaged.
    OptionError
        The store does not have the layer or the split.
    """
    import pandas as pd

    store = open_store(path)
    layers = store.check_layers(layer)
    rows = select_rows(store, split, status)
    table = store.images
    codes = store.read_codes(layers, rows)
    codes[~table.done[rows]] = np.nan
    names = [Status(s).name.lower() for s in table.status[rows]]
    levels = [table.path[rows], table.label[rows], table.split[rows], table.group[rows], names]
    # The text type of pandas holds only UTF-8, and file names may hold any bytes.
    index = pd.MultiIndex.from_arrays(
        [pd.Index(level, dtype=object) for level in levels],
        names=["path", "label", "split", "group", "status"],
    )
    columns = pd.Index(store.recipe.with_layers(layers).code_names(), dtype=object)
    return pd.DataFrame(codes, index=index, columns=columns, copy=False)


def read_arrays(
    path: Path | str,
    layer: str | Sequence[str] | None = None,
    split: str | None = None,
    rows: slice | ArrayLike | None = None,
    columns: slice | ArrayLike | None = None,
) -> tuple[NDArray[np.floating], NDArray[np.str_]]:
    """Read the rows of a store that are done and have a label as X and y.

    X is read-only and memory-mapped if it has one layer and the rows are adjacent in the
    file. Reading a few columns then loads only the pages that hold them.

    Parameters
    ----------
    path : Path or str
        A store.
    layer : str or sequence of str, optional
        Layers to read, concatenated; by default all layers of the store.
    split : {"train", "val", "test"}, optional
        Read only the images of this split.
    rows : slice, array of int or of bool, optional
        Indices among the images that are done and have a label; by default all of them.
    columns : slice, array of int or of bool, optional
        Indices of the features; by default all of them.

    Returns
    -------
    X : ndarray of shape (n_images, n_features)
        Codes in the store's dtype.
    y : ndarray of str, shape (n_images,)
        Labels.

    Raises
    ------
    StoreError
        The file is not a store, is damaged, or no image has a label.
    OptionError
        The store does not have the layer, the split, the rows or the columns.
    """
    store = open_store(path)
    layers = store.check_layers(layer)
    chosen = labelled_rows(store, select_rows(store, split))
    if rows is not None:
        chosen = chosen[checked_selection("rows", rows, len(chosen))]
    n_features = store.recipe.with_layers(layers).n_features
    if columns is not None:
        columns = checked_selection("columns", columns, n_features)
    labels = store.images.label[chosen].astype(str)
    if len(layers) == 1 and len(chosen) and bool(np.all(np.diff(chosen) == 1)):
        codes = store.flat_codes(layers[0])[chosen[0] : chosen[-1] + 1]
        return (codes if columns is None else codes[:, columns]), labels
    if columns is None:
        return store.read_codes(layers, chosen), labels
    positions = np.arange(n_features)[columns]
    return _read_columns(store, layers, chosen, positions), labels


def _read_columns(
    store: Store,
    layers: Sequence[str],
    rows: NDArray[np.integer],
    positions: NDArray[np.integer],
) -> NDArray[np.floating]:
    """Read some columns of several concatenated layers."""
    out = np.empty((len(rows), len(positions)), store.recipe.dtype)
    start = 0
    for layer in layers:
        width = store.recipe.code_size(layer)
        here = (positions >= start) & (positions < start + width)
        out[:, here] = store.flat_codes(layer)[np.ix_(rows, positions[here] - start)]
        start += width
    return out
