"""A store seen by pandas and by scikit-learn.

A path comes in; a DataFrame, or X and y, goes out. pandas is imported only
where a frame is made. This file does not know what is done with them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import OptionError, StoreError
from featx.store.layout import Status
from featx.store.reading import Store, open_store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["labelled_rows", "read_arrays", "read_frame", "select_rows"]

Which = Literal["done", "all"]


def select_rows(
    store: Store, split: str | None = None, status: Which = "done"
) -> NDArray[np.integer]:
    """Return the rows of a split (of all splits for None), by default the done ones.

    Raises
    ------
    OptionError
        The store has no such split, or `status` is neither "done" nor "all".
    """
    if status not in get_args(Which):
        message = f"No such status: {status!r}. Expected one of {', '.join(get_args(Which))}."
        raise OptionError(message)
    chosen = store.images.done if status == "done" else np.ones(len(store.images), bool)
    if split is not None:
        held = sorted({s for s in store.images.split if s is not None})
        if split not in held:
            splits = f"its splits are {', '.join(held)}" if held else "it has no splits"
            message = f"{store.path} has no split '{split}'; {splits}."
            raise OptionError(message)
        chosen = chosen & (store.images.split == split)
    return np.flatnonzero(chosen)


def labelled_rows(store: Store, rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return those of `rows` that have a label.

    Raises
    ------
    StoreError
        None has one.
    """
    chosen = rows[[label is not None for label in store.images.label[rows]]]
    if not len(chosen):
        message = (
            f"No image in {store.path} is done and has a label. Labels come from class folders "
            "(data/train/CLASS/…) or from a manifest: featx extract --manifest table.csv"
        )
        raise StoreError(message)
    return chosen


def read_frame(
    path: Path | str,
    layer: str | Sequence[str] | None = None,
    split: str | None = None,
    status: Which = "done",
) -> "pd.DataFrame":
    """Read a store as a frame: one row an image, one column a number of its code.

    Parameters
    ----------
    path : Path or str
        A store.
    layer : str or sequence of str, optional
        Layers to read, side by side; all of the store by default.
    split : {"train", "val", "test"}, optional
        Only the images of that split.
    status : {"done", "all"}, default="done"
        With "all" the frame also has the images whose codes failed or were
        not made yet; their codes are NaN.

    Returns
    -------
    DataFrame of shape (n_images, code_size)
        In the store's dtype and order. Index levels: path, label, split,
        group, status.

    Raises
    ------
    StoreError
        The file is no store, or a damaged one.
    OptionError
        No such layer or split in it.
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
    # Objects, since pandas' own text holds only UTF-8, and a file's name may be anything.
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
    """Read the labelled, done rows of a store as X and y.

    X is memory-mapped, read-only, where the store allows: one layer, and rows
    that are neighbours in the file. A few columns of a wide store cost only
    the pages they lie in.

    Parameters
    ----------
    path : Path or str
        A store.
    layer : str or sequence of str, optional
        Layers to read, side by side; all of the store by default.
    split : {"train", "val", "test"}, optional
        Only the images of that split.
    rows : slice, array of int or of bool, optional
        Which of the labelled, done images, counted from 0; all by default.
    columns : slice, array of int or of bool, optional
        Which numbers of the codes; all by default.

    Returns
    -------
    X : ndarray of shape (n_images, n_columns)
        Codes in the store's dtype.
    y : ndarray of str, shape (n_images,)
        Labels.

    Raises
    ------
    StoreError
        The file is no store, a damaged one, or no image has a label.
    OptionError
        No such layer or split in it.
    """
    store = open_store(path)
    layers = store.check_layers(layer)
    chosen = labelled_rows(store, select_rows(store, split))
    if rows is not None:
        chosen = chosen[_index(rows)]
    labels = store.images.label[chosen].astype(str)
    if len(layers) == 1 and _are_neighbours(chosen):
        codes = store.flat_codes(layers[0])[chosen[0] : chosen[-1] + 1]
        return (codes if columns is None else codes[:, _index(columns)]), labels
    if columns is None:
        return store.read_codes(layers, chosen), labels
    positions = np.arange(store.recipe.with_layers(layers).n_features)[_index(columns)]
    return _read_columns(store, layers, chosen, positions), labels


def _are_neighbours(rows: NDArray[np.integer]) -> bool:
    return len(rows) > 0 and bool(np.all(np.diff(rows) == 1))


def _index(selection: slice | ArrayLike) -> slice | NDArray[np.integer]:
    if isinstance(selection, slice):
        return selection
    index = np.asarray(selection)
    return index if index.size else index.astype(np.intp)  # an empty list is of floats


def _read_columns(
    store: Store,
    layers: Sequence[str],
    rows: NDArray[np.integer],
    positions: NDArray[np.integer],
) -> NDArray[np.floating]:
    """Read columns that lie anywhere in several layers put side by side."""
    out = np.empty((len(rows), len(positions)), store.recipe.dtype)
    start = 0
    for layer in layers:
        width = store.recipe.code_size(layer)
        here = (positions >= start) & (positions < start + width)
        out[:, here] = store.flat_codes(layer)[np.ix_(rows, positions[here] - start)]
        start += width
    return out
