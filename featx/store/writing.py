"""Writing rows into a store that was created before.

Codes and the facts of their images come in; bytes go to the rows' addresses,
and a row is marked done only when its bytes are safe on the disk. HDF5 takes
no part in it, so that a kill at any instant leaves the file valid. This file
does not know how codes are made.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from featx.errors import CodeRangeError, StoreError
from featx.store.layout import REASON_BYTES, THUMBNAIL_SHAPE, Status
from featx.store.reading import runs

__all__ = ["ImageFacts", "StoreWriter"]

#: What becomes known of an image while the store is written.
_WRITTEN = ("status", "reason", "sha256", "phash", "thumbnail")


@dataclass(frozen=True)
class ImageFacts:
    """What is learned of an image by reading it.

    Parameters
    ----------
    sha256 : str
        Of the file's bytes, hexadecimal.
    phash : int
        Perceptual hash, 64 bits.
    thumbnail : ndarray of uint8, shape (32, 32, 3)
        The image, small.
    """

    sha256: str
    phash: int
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class _Place:
    """Where a dataset lies in the file."""

    offset: int
    row_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize


class StoreWriter:
    """Writes rows of an existing store, in place; a context manager.

    Parameters
    ----------
    path : Path
        A store that `create_store` made.

    Raises
    ------
    StoreError
        The file cannot be opened for writing, or was rewritten in chunks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            with h5py.File(path, "r") as file:
                self._layers = tuple(file["codes"])
                names = [f"codes/{layer}" for layer in self._layers]
                names += [f"images/{name}" for name in _WRITTEN]
                self._places = {name: _place(path, file[name]) for name in [*names, "complete"]}
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def write_done(
        self,
        rows: NDArray[np.integer],
        codes: Mapping[str, NDArray[np.floating]],
        facts: Sequence[ImageFacts],
    ) -> None:
        """Write the codes of some rows, then mark them done.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Rows of the store, ascending.
        codes : mapping of str to ndarray of shape (m, ...)
            One array for each layer of the store.
        facts : sequence of ImageFacts, length m
            Of the images.

        Raises
        ------
        StoreError
            The disk is full, a code is not finite, or does not fit float16.
        """
        for layer in self._layers:
            place = self._places[f"codes/{layer}"]
            self._write(f"codes/{layer}", rows, _fitting(codes[layer], place.dtype, layer))
        self._write_facts(rows, facts, [""] * len(rows))
        self._mark(rows, Status.DONE)

    def write_failed(
        self, rows: NDArray[np.integer], reasons: Sequence[str], digests: Sequence[str | None]
    ) -> None:
        """Mark rows failed, each with its reason; their codes become NaN.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Rows of the store, ascending.
        reasons : sequence of str, length m
            In words; 256 bytes are kept.
        digests : sequence of str or None, length m
            sha256 of the files' bytes, where they could be read.
        """
        for layer in self._layers:
            place = self._places[f"codes/{layer}"]
            nan = np.full((1, *place.row_shape), np.nan, place.dtype)
            for row in rows:  # one at a time: a thousand bad images need no thousand codes
                self._write(f"codes/{layer}", np.array([row]), nan)
        nothing = np.zeros(THUMBNAIL_SHAPE, np.uint8)
        facts = [ImageFacts(digest or "", 0, nothing) for digest in digests]
        self._write_facts(rows, facts, reasons)
        self._mark(rows, Status.FAILED)

    def forget(self, rows: NDArray[np.integer]) -> None:
        """Mark rows pending, and the store incomplete, before their codes are written anew."""
        self._write("complete", np.array([0]), np.zeros(1, np.uint8))
        self._mark(rows, Status.PENDING)
        self._sync()

    def finish(self) -> None:
        """Say in the file that no row is pending.

        Raises
        ------
        StoreError
            Another run has replaced the file meanwhile.
        """
        if not self.path.exists() or not os.path.samestat(os.fstat(self._file), self.path.stat()):
            message = f"{self.path} was replaced by another run. Use one -o for each."
            raise StoreError(message)
        self._sync()
        self._write("complete", np.array([0]), np.ones(1, np.uint8))
        self._sync()

    def _write_facts(
        self, rows: NDArray[np.integer], facts: Sequence[ImageFacts], reasons: Sequence[str]
    ) -> None:
        # Every fact, whatever becomes of the row: an earlier run may have left others.
        texts = [reason.encode("utf-8", "replace")[:REASON_BYTES] for reason in reasons]
        self._write("images/reason", rows, np.array(texts, f"S{REASON_BYTES}"))
        self._write("images/sha256", rows, np.array([f.sha256.encode() for f in facts], "S64"))
        self._write("images/phash", rows, np.array([f.phash for f in facts], np.uint64))
        self._write("images/thumbnail", rows, np.stack([f.thumbnail for f in facts]))

    def _mark(self, rows: NDArray[np.integer], status: Status) -> None:
        # The order is the promise: a row that says it is done has its codes on the disk.
        self._sync()
        self._write("images/status", rows, np.full(len(rows), status, np.uint8))

    def _write(self, name: str, rows: NDArray[np.integer], values: NDArray[np.generic]) -> None:
        place = self._places[name]
        for part in runs(rows):
            data = _bytes(values[part], place.dtype)
            position = place.offset + int(rows[part.start]) * place.row_bytes
            try:
                while data:  # one call writes at most 2 GB
                    written = os.pwrite(self._file, data, position)
                    data, position = data[written:], position + written
            except OSError as error:
                raise self._cannot_write(error) from error

    def _sync(self) -> None:
        try:
            # The file's length is final from the start: its data alone must reach the disk.
            os.fdatasync(self._file) if hasattr(os, "fdatasync") else os.fsync(self._file)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> StoreError:
        return StoreError(
            f"Cannot write {self.path}: {error.strerror}. The rows done so far are kept. "
            "Mend that, then run the same command again: it goes on where it stopped."
        )


def _place(path: Path, dataset: h5py.Dataset) -> _Place:
    offset = dataset.id.get_offset()
    if offset is None:
        message = (
            f"{path} is a copy in chunks ({dataset.name}), which cannot be written in place. "
            "Go on with the original, or make it again: featx extract --overwrite"
        )
        raise StoreError(message)
    return _Place(offset, dataset.shape[1:], dataset.dtype)


def _bytes(values: NDArray[np.generic], dtype: np.dtype) -> memoryview:
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8).data


def _fitting(codes: NDArray[np.floating], dtype: np.dtype, layer: str) -> NDArray[np.floating]:
    """Convert codes to the store's dtype, or refuse what is not finite there."""
    with np.errstate(over="ignore"):
        fitting = np.ascontiguousarray(codes, dtype)
    if _all_finite(fitting):
        return fitting
    if not np.isfinite(codes).all():
        message = (
            f"The network gave a code of {layer} that is {codes[~np.isfinite(codes)][0]}. "
            "Its weights do not suit it: use others, or another --preprocess."
        )
        raise StoreError(message)
    raise CodeRangeError(layer, float(np.abs(codes).max()))


def _all_finite(values: NDArray[np.floating]) -> bool:
    if values.dtype == np.float16:
        # NumPy converts every float16 for isfinite; codes are seldom negative, and
        # then their bits, read as integers, have the order of their values.
        infinity = np.array(np.inf, np.float16).view(np.uint16)
        if values.view(np.uint16).max(initial=0) < infinity:
            return True
    return bool(np.isfinite(values).all())
