"""Writing rows to an existing store.

Codes and metadata of images come in; bytes are written to the addresses of the rows, and a
row is marked as done only when its bytes are on the disk. HDF5 is not involved, so the file
stays valid if the process is killed at any time. Rows have addresses, so several threads may
write different rows without a lock. This file does not know how codes are computed.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from featx.errors import CodeRangeError, StoreError
from featx.hdf5 import open_hdf5
from featx.recipe import Recipe
from featx.store.layout import REASON_BYTES, THUMBNAIL_SHAPE, Status
from featx.store.reading import adjacent_rows

__all__ = ["ImageFacts", "StoreWriter"]

#: Columns that are written together with the codes.
_WRITTEN = ("status", "reason", "sha256", "phash", "thumbnail")


@dataclass(frozen=True)
class ImageFacts:
    """Metadata of an image that is known after reading it.

    Parameters
    ----------
    sha256 : str
        Digest of the image file, hexadecimal.
    phash : int
        Perceptual hash, 64 bits.
    thumbnail : ndarray of uint8, shape (32, 32, 3)
        Small version of the image, RGB.
    """

    sha256: str
    phash: int
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class _Region:
    """The bytes of a dataset in the file."""

    offset: int
    row_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize


class StoreWriter:
    """Context manager that writes rows of an existing store in place.

    Parameters
    ----------
    path : Path
        A store created by `create_store`.

    Raises
    ------
    StoreError
        The file cannot be opened for writing, or another tool has rewritten it in chunks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._write_errors():
            self._file = os.open(path, os.O_RDWR)
        try:
            with self._write_errors(), open_hdf5(path) as file:
                # /codes may have further members, which are not codes of the recipe.
                self._layers = Recipe.from_json(file.attrs["recipe"]).layers
                names = [f"codes/{layer}" for layer in self._layers]
                names += [f"images/{name}" for name in _WRITTEN]
                self._regions = {name: _region(path, file[name]) for name in [*names, "complete"]}
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write_done(
        self,
        rows: NDArray[np.integer],
        codes: Mapping[str, NDArray[np.floating]],
        facts: Sequence[ImageFacts],
    ) -> None:
        """Write the codes of some rows, then mark the rows as done.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Rows of the store, ascending.
        codes : mapping of str to ndarray of shape (m, ...)
            One array for each layer of the store.
        facts : sequence of ImageFacts, length m
            Metadata of the images.

        Raises
        ------
        StoreError
            The disk is full, a code is not finite, or a code is too large for float16.
        """
        self.write_codes(rows, codes, facts)
        self.mark(done=rows)

    def write_failed(
        self, rows: NDArray[np.integer], reasons: Sequence[str], digests: Sequence[str | None]
    ) -> None:
        """Mark rows as failed, each with its reason; their codes become NaN.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Rows of the store, ascending.
        reasons : sequence of str, length m
            Why the images failed; 256 bytes are stored.
        digests : sequence of str or None, length m
            sha256 of the image files that could be read.
        """
        self.write_reasons(rows, reasons, digests)
        self.mark(failed=rows)

    def write_codes(
        self,
        rows: NDArray[np.integer],
        codes: Mapping[str, NDArray[np.floating]],
        facts: Sequence[ImageFacts],
    ) -> None:
        """Write the codes of some rows, which `mark` must follow; see `write_done`.

        Several threads may write different rows at once.
        """
        for layer in self._layers:
            region = self._regions[f"codes/{layer}"]
            self._write(f"codes/{layer}", rows, _fitting(codes[layer], region.dtype, layer))
        self._write_facts(rows, facts, [""] * len(rows))

    def write_reasons(
        self, rows: NDArray[np.integer], reasons: Sequence[str], digests: Sequence[str | None]
    ) -> None:
        """Write the reasons of some rows, which `mark` must follow; see `write_failed`.

        Several threads may write different rows at once.
        """
        for layer in self._layers:
            region = self._regions[f"codes/{layer}"]
            nan = np.full((1, *region.row_shape), np.nan, region.dtype)
            for row in rows:  # one at a time, to save memory
                self._write(f"codes/{layer}", np.array([row]), nan)
        nothing = np.zeros(THUMBNAIL_SHAPE, np.uint8)
        facts = [ImageFacts(digest or "", 0, nothing) for digest in digests]
        self._write_facts(rows, facts, reasons)

    def mark(
        self, *, done: NDArray[np.integer] | None = None, failed: NDArray[np.integer] | None = None
    ) -> None:
        """Sync everything that has been written, then mark rows as done or failed.

        Parameters
        ----------
        done, failed : ndarray of int, shape (m,), optional
            Rows whose codes or reasons have been written.

        Raises
        ------
        StoreError
            The disk is full or broken; the rows stay pending.
        """
        # The order matters: the codes of a row must be on the disk before it is marked as done.
        self._sync()
        for rows, status in ((done, Status.DONE), (failed, Status.FAILED)):
            if rows is not None:
                self._write_status(rows, status)

    def mark_pending(self, rows: NDArray[np.integer]) -> None:
        """Mark rows as pending and the store as incomplete, before rows are written again."""
        self._write("complete", np.array([0]), np.zeros(1, np.uint8))
        self._sync()
        self._write_status(rows, Status.PENDING)
        self._sync()

    def finish(self) -> None:
        """Mark the store as complete.

        Raises
        ------
        StoreError
            Another run has replaced the file.
        """
        if not self.path.exists() or not os.path.samestat(os.fstat(self._file), self.path.stat()):
            message = f"Another run has replaced {self.path}. Use another -o for each run."
            raise StoreError(message)
        self._sync()
        self._write("complete", np.array([0]), np.ones(1, np.uint8))
        self._sync()

    def _write_facts(
        self, rows: NDArray[np.integer], facts: Sequence[ImageFacts], reasons: Sequence[str]
    ) -> None:
        # All columns are written in any case, since an earlier run may have written others.
        texts = [reason.encode("utf-8", "replace")[:REASON_BYTES] for reason in reasons]
        self._write("images/reason", rows, np.array(texts, f"S{REASON_BYTES}"))
        self._write("images/sha256", rows, np.array([f.sha256.encode() for f in facts], "S64"))
        self._write("images/phash", rows, np.array([f.phash for f in facts], np.uint64))
        self._write("images/thumbnail", rows, np.stack([f.thumbnail for f in facts]))

    def _write_status(self, rows: NDArray[np.integer], status: Status) -> None:
        self._write("images/status", rows, np.full(len(rows), status, np.uint8))

    def _write(self, name: str, rows: NDArray[np.integer], values: NDArray[np.generic]) -> None:
        region = self._regions[name]
        for part in adjacent_rows(rows):
            data = _bytes(values[part], region.dtype)
            position = region.offset + int(rows[part.start]) * region.row_bytes
            with self._write_errors():
                while data:  # one call writes at most 2 GB
                    written = os.pwrite(self._file, data, position)
                    data, position = data[written:], position + written

    def _sync(self) -> None:
        with self._write_errors():
            # The length of the file never changes, so syncing its data is enough.
            os.fdatasync(self._file) if hasattr(os, "fdatasync") else os.fsync(self._file)

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Report a failure of the system, such as a full disk, as a StoreError."""
        try:
            yield
        except OSError as error:
            message = (
                f"Cannot write {self.path}: {error.strerror}. The rows written so far are kept. "
                "Fix the cause and run the same command again; it resumes where it stopped."
            )
            raise StoreError(message) from error


def _region(path: Path, dataset: h5py.Dataset) -> _Region:
    offset = dataset.id.get_offset()
    if offset is None:
        message = (
            f"{path} is a copy with chunked data ({dataset.name}), which cannot be written in "
            "region. Resume with the original file, or start over: featx extract --overwrite"
        )
        raise StoreError(message)
    return _Region(offset, dataset.shape[1:], dataset.dtype)


def _bytes(values: NDArray[np.generic], dtype: np.dtype) -> memoryview:
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8).data


def _fitting(codes: NDArray[np.floating], dtype: np.dtype, layer: str) -> NDArray[np.floating]:
    """Convert codes to the store's dtype, and refuse codes that are not finite."""
    with np.errstate(over="ignore"):
        fitting = np.ascontiguousarray(codes, dtype)
    if _all_finite(fitting):
        return fitting
    if not np.isfinite(codes).all():
        message = (
            f"A code of {layer} is {codes[~np.isfinite(codes)][0]}. The weights are unusable with "
            "these settings. Use other --weights, or another --preprocess."
        )
        raise StoreError(message)
    raise CodeRangeError(layer, float(np.abs(codes).max()))


def _all_finite(values: NDArray[np.floating]) -> bool:
    if values.dtype == np.float16:
        # np.isfinite is slow for float16. The bits of values that are not negative, which
        # codes rarely are, have the same order as the values.
        infinity = np.array(np.inf, np.float16).view(np.uint16)
        if values.view(np.uint16).max(initial=0) < infinity:
            return True
    return bool(np.isfinite(values).all())
