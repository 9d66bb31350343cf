"""A matrix of codes that is larger than memory, seen block by block.

Layers of one or several stores come in, each with the rows that are wanted; one
matrix goes out, layers side by side, of which a block of rows or of columns is
in memory at a time. This file knows neither labels nor classifiers.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import OptionError

__all__ = ["CodeMatrix", "Matrix", "Rows", "as_code_matrix", "signed_root"]

Matrix = NDArray[np.floating]
Rows = NDArray[np.integer]

# One block is converted to float64 at a time: large enough for the matrix product,
# small enough to stay near the processor's cache.
_BLOCK_BYTES = 32_000_000
# A block of columns has at least so many: rows of a file are read by the page.
_FEWEST_COLUMNS = 2048


class CodeMatrix:
    """Rows of codes, layers side by side, that are not in memory.

    Parameters
    ----------
    layers : sequence of ndarray, each of shape (n_rows, d)
        Codes of each layer, usually memory-mapped.
    rows : ndarray of int, shape (n,), or sequence of them
        The rows to use; one array for all layers, or one for each where the
        layers come from several stores.

    Attributes
    ----------
    shape : (int, int)
        Rows, and columns of all layers.
    widths : tuple of int
        Columns of each layer.

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
        # NumPy's -1 is the last row; addresses of rows are computed below, so it is made plain.
        self.rows = [
            np.arange(len(layer))[each] for layer, each in zip(self.layers, per_layer, strict=True)
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns of all layers."""
        return len(self.rows[0]), sum(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each layer."""
        return tuple(layer.shape[1] for layer in self.layers)

    @property
    def dtype(self) -> np.dtype:
        """The type that holds every layer's numbers."""
        return np.result_type(*self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix as it lies in the stores."""
        return sum(layer.dtype.itemsize * self.shape[0] * layer.shape[1] for layer in self.layers)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that the layers are mapped from, one each."""
        mapped = (layer for layer in self.layers if isinstance(layer, np.memmap))
        return tuple(Path(str(layer.filename)) for layer in mapped)

    def __getstate__(self) -> dict[str, Any]:
        # To another process goes where the codes lie, not what they are.
        return {"layers": [_Mapped.of(layer) for layer in self.layers], "rows": self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        layers = state["layers"]
        self.layers = [each.map() if isinstance(each, _Mapped) else each for each in layers]
        self.rows = state["rows"]

    def take(self, positions: Rows) -> Self:
        """Return the matrix of some of its rows; nothing is read."""
        return type(self)(self.layers, [rows[positions] for rows in self.rows])

    def block(self, positions: Rows) -> Matrix:
        """Read some rows into memory, as (m, d)."""
        out = np.empty((len(positions), self.shape[1]), self.dtype)
        start = 0
        for layer, rows in zip(self.layers, self.rows, strict=True):
            stop = start + layer.shape[1]
            for place, row in enumerate(rows[positions]):
                out[place, start:stop] = layer[row]
            start = stop
        return out

    def in_memory(self) -> Self:
        """Return the same matrix, its numbers read."""
        blocks = [np.array(layer[rows]) for layer, rows in zip(self.layers, self.rows, strict=True)]
        return type(self)(blocks, np.arange(len(self)))

    def row_blocks(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield blocks of rows, in order, with their positions."""
        step = max(1, _BLOCK_BYTES // (8 * self.shape[1]))
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            yield slice(start, stop), self.block(np.arange(start, stop))

    def column_blocks(
        self, layer: int, *, root: bool = False, beside: int = 0
    ) -> Iterator[tuple[slice, Matrix]]:
        """Yield blocks of columns of a layer, all rows, in float64.

        Parameters
        ----------
        layer : int
            Its number.
        root : bool, default=False
            Whether to take the signed square root of each number.
        beside : int, default=0
            Rows of another matrix whose blocks should have the same columns.

        Yields
        ------
        slice, ndarray of shape (n, columns)
            Each block overwrites the one before.
        """
        codes, rows = self.layers[layer], self.rows[layer]
        n = len(rows)
        # Rows that are neighbours, as they mostly are, need no copy before the conversion.
        neighbours = n > 0 and np.array_equal(rows, rows[0] + np.arange(n))
        whole = codes[rows[0] : rows[0] + n] if neighbours else None
        step = max(min(_FEWEST_COLUMNS, _BLOCK_BYTES // 8), _BLOCK_BYTES // (8 * max(1, n, beside)))
        buffer = np.empty((n, min(step, codes.shape[1])))
        for start in range(0, codes.shape[1], step):
            part = slice(start, min(start + step, codes.shape[1]))
            block = buffer[:, : part.stop - start]
            # Columns first: a view, so that only the pages of the block are read.
            block[...] = codes[:, part][rows] if whole is None else whole[:, part]
            yield part, signed_root(block) if root else block


@dataclass(frozen=True)
class _Mapped:
    """Where an array lies that is mapped from a file."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: Matrix) -> "_Mapped | Matrix":
        """Return where an array lies, or itself if it is in memory, or not as its file has it."""
        if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
            return array
        # What is mapped begins at a page; the array, which may be a part of it, later.
        whole: Any = array
        while isinstance(whole, np.ndarray):
            whole = whole.base
        begin = np.frombuffer(whole, np.uint8).__array_interface__["data"][0]
        page = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        offset = page + array.__array_interface__["data"][0] - begin
        return cls(str(array.filename), offset, array.dtype, array.shape)

    def map(self) -> Matrix:
        """Map it again."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def signed_root(codes: Matrix) -> Matrix:
    """Take the square root of each number in place, its sign kept; return the array."""
    negative = codes < 0
    np.sqrt(np.abs(codes, out=codes), out=codes)
    return np.negative(codes, out=codes, where=negative)


def as_code_matrix(X: "CodeMatrix | ArrayLike", widths: Sequence[int] | None = None) -> CodeMatrix:
    """Return codes as a `CodeMatrix`.

    Parameters
    ----------
    X : CodeMatrix or array-like of shape (n, d)
        Codes.
    widths : sequence of int, optional
        Columns of each layer, where an array holds several side by side.

    Raises
    ------
    OptionError
        An array of another shape.
    """
    if isinstance(X, CodeMatrix):
        if widths is not None and X.widths != tuple(widths):
            message = (
                f"Expected codes of layers {'+'.join(map(str, widths))} numbers wide. Received "
                f"{'+'.join(map(str, X.widths))}."
            )
            raise OptionError(message)
        return X
    array = np.asanyarray(X)
    expected = sum(widths) if widths is not None else None
    if array.ndim != 2 or (expected is not None and array.shape[1] != expected):
        message = (
            f"Expected codes of shape (n, {'d' if expected is None else expected}), layers side "
            f"by side. Received shape {array.shape}."
        )
        raise OptionError(message)
    layers = [array] if widths is None else np.split(array, np.cumsum(widths)[:-1], axis=1)
    return CodeMatrix(layers, np.arange(len(array)))
