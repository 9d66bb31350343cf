"""A matrix of codes that may be larger than memory, read in blocks.

The layers of one or several stores go in, with the rows to use; one matrix with the layers
side by side comes out. A block of rows or of columns is in memory at a time. This module
knows neither labels nor classifiers.
"""

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import OptionError, StoreError

__all__ = [
    "CodeMatrix",
    "Matrix",
    "Rows",
    "as_code_matrix",
    "check_finite",
    "signed_root",
    "split_columns",
]

Matrix = NDArray[np.floating]
Rows = NDArray[np.integer]

# One block at a time is converted to float64: large enough for a fast matrix product, and
# small enough to stay near the processor's cache.
_BLOCK_BYTES = 32_000_000
# Blocks of columns are not narrower, because files are read in pages.
_FEWEST_COLUMNS = 2048


class CodeMatrix:
    """Rows of codes, layers side by side, that are not in memory.

    Parameters
    ----------
    layers : sequence of ndarray, each of shape (n_rows, d)
        Codes of each layer, usually memory-mapped.
    rows : ndarray of int, shape (n,), or sequence of them
        The rows to use: one array for all layers, or one for each if the layers are from
        several stores.

    Attributes
    ----------
    shape : (int, int)
        Number of rows, and of columns of all layers.
    widths : tuple of int
        Number of columns of each layer.

    Examples
    --------
    >>> matrix = CodeMatrix([np.eye(3), np.ones((3, 2))], np.array([2, 0]))
    >>> matrix.shape, matrix.widths
    ((2, 5), (3, 2))
    >>> matrix.block(np.array([0]))
    array([[0., 0., 1., 1., 1.]])
    """

    def __init__(self, layers: Sequence[Matrix], rows: Rows | Sequence[Rows]) -> None:
        self.layers = list(layers)
        per_layer = [rows] * len(self.layers) if isinstance(rows, np.ndarray) else list(rows)
        # `column_blocks` computes with row numbers, so negative ones are replaced.
        self.rows = [
            np.arange(len(layer))[each] for layer, each in zip(self.layers, per_layer, strict=True)
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of columns of all layers."""
        return len(self.rows[0]), sum(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of columns of each layer."""
        return tuple(layer.shape[1] for layer in self.layers)

    @property
    def dtype(self) -> np.dtype:
        """The type that can hold the elements of all layers."""
        return np.result_type(*self.layers)

    @property
    def nbytes(self) -> int:
        """Size of the matrix in the stores, in bytes."""
        return sum(layer.dtype.itemsize * self.shape[0] * layer.shape[1] for layer in self.layers)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that the layers are mapped from, one for each mapped layer."""
        mapped = (layer for layer in self.layers if isinstance(layer, np.memmap))
        return tuple(Path(str(layer.filename)) for layer in mapped)

    def __getstate__(self) -> dict[str, Any]:
        # Another process gets the location of the codes instead of the codes themselves.
        return {"layers": [_location(layer) or layer for layer in self.layers], "rows": self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        layers: list[Any] = [
            np.memmap(*each) if isinstance(each, tuple) else each for each in state["layers"]
        ]
        self.layers = layers
        self.rows = state["rows"]

    def take(self, positions: Rows) -> Self:
        """Return the matrix of some of the rows, without reading them."""
        return type(self)(self.layers, [rows[positions] for rows in self.rows])

    def block(self, positions: Rows) -> Matrix:
        """Read some rows into memory, as (m, d)."""
        out = np.empty((len(positions), self.shape[1]), self.dtype)
        parts = split_columns(out, self.widths)
        for part, layer, rows in zip(parts, self.layers, self.rows, strict=True):
            # Row by row, because a selection of rows would be a copy of them.
            for target, row in zip(part, rows[positions], strict=True):
                target[:] = layer[row]
        return out

    def in_memory(self) -> Self:
        """Return the same matrix with its codes in memory."""
        blocks = [np.array(layer[rows]) for layer, rows in zip(self.layers, self.rows, strict=True)]
        return type(self)(blocks, np.arange(len(self)))

    def row_blocks(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield blocks of rows, in order, with their positions."""
        step = max(1, _BLOCK_BYTES // (8 * self.shape[1]))
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            yield slice(start, stop), self.block(np.arange(start, stop))

    def column_blocks(
        self, layer: int, *, root: bool = False, n_other: int = 0
    ) -> Iterator[tuple[slice, Matrix]]:
        """Yield blocks of columns of a layer, all rows, in float64.

        Parameters
        ----------
        layer : int
            Index of the layer.
        root : bool, default=False
            Whether to take the signed square root of each feature.
        n_other : int, default=0
            Number of rows of another matrix whose blocks must have the same columns.

        Yields
        ------
        slice, ndarray of shape (n, columns)
            Each block overwrites the previous one.
        """
        codes, rows = self.layers[layer], self.rows[layer]
        n = len(rows)
        # Consecutive rows, the usual case, are a view: no copy before the conversion.
        is_consecutive = n > 0 and np.array_equal(rows, rows[0] + np.arange(n))
        view = codes[rows[0] : rows[0] + n] if is_consecutive else None
        narrowest = min(_FEWEST_COLUMNS, _BLOCK_BYTES // 8)
        step = max(narrowest, _BLOCK_BYTES // (8 * max(1, n, n_other)))
        buffer = np.empty((n, min(step, codes.shape[1])))
        for start in range(0, codes.shape[1], step):
            part = slice(start, min(start + step, codes.shape[1]))
            block = buffer[:, : part.stop - start]
            # Columns are selected first, which is a view, so that only their pages are read.
            block[...] = codes[:, part][rows] if view is None else view[:, part]
            yield part, signed_root(block) if root else block


def split_columns(array: Matrix, widths: Sequence[int]) -> list[Matrix]:
    """Return the columns of each layer, as views of an array that has them side by side."""
    return np.split(array, np.cumsum(widths)[:-1], axis=1)


def _location(array: Matrix) -> tuple[Any, ...] | None:
    """Return arguments that let `numpy.memmap` map an array again; None if it is not mapped."""
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
        return None
    # The mapping starts at a page of the file; the array may start later.
    whole: Any = array
    while isinstance(whole, np.ndarray):
        whole = whole.base
    begin = np.frombuffer(whole, np.uint8).__array_interface__["data"][0]
    page = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    offset = page + array.__array_interface__["data"][0] - begin
    return str(array.filename), array.dtype, "r", offset, array.shape


def signed_root(codes: Matrix) -> Matrix:
    """Take the square root of absolute values in place, and keep the signs; return the array."""
    negative = codes < 0
    np.sqrt(np.abs(codes, out=codes), out=codes)
    return np.negative(codes, out=codes, where=negative)


def check_finite(values: Matrix, rows: Rows) -> None:
    """Check that all codes are finite.

    Parameters
    ----------
    values : ndarray of shape (n, d) or (n,)
        Codes, or their squared lengths.
    rows : ndarray of int, shape (n,)
        Rows of these codes in the store.

    Raises
    ------
    StoreError
        A code is not finite; the message has its row.
    """
    others = tuple(range(1, values.ndim))
    bad = rows[np.logical_not(np.isfinite(values).all(axis=others))]
    if len(bad):
        message = (
            f"The code of row {bad[0]} has a value that is not finite. Extract again with "
            "--overwrite."
        )
        raise StoreError(message)


def as_code_matrix(X: "CodeMatrix | ArrayLike", widths: Sequence[int] | None = None) -> CodeMatrix:
    """Return codes as a `CodeMatrix`.

    Parameters
    ----------
    X : CodeMatrix or array-like of shape (n, d)
        Codes.
    widths : sequence of int, optional
        Number of columns of each layer, if an array holds several layers side by side.

    Raises
    ------
    OptionError
        The codes do not have these numbers of columns.
    """
    if isinstance(X, CodeMatrix):
        if widths is None or X.widths == tuple(widths):
            return X
        expected, received = ("+".join(map(str, each)) for each in (widths, X.widths))
    else:
        array = np.asanyarray(X)
        if array.ndim == 2 and (widths is None or array.shape[1] == sum(widths)):
            layers = [array] if widths is None else split_columns(array, widths)
            return CodeMatrix(layers, np.arange(len(array)))
        expected = "d" if widths is None else str(sum(widths))
        received = str(array.shape)
    message = f"Expected codes of shape (n, {expected}), layers side by side. Received {received}."
    raise OptionError(message)
