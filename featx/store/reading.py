"""Reading a store: the metadata when it is opened, the codes when they are needed.

A path comes in; a checked, read-only view goes out. Codes that are contiguous in the file,
as featx writes them, are memory-mapped. A copy that another tool has rewritten in chunks is
read through HDF5. This file does not know what the codes are used for.
"""

import hashlib
import itertools
import json
import reprlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import OptionError, StoreError
from featx.hdf5 import (
    NotInsideError,
    attribute,
    check_held,
    check_texts,
    inside,
    open_hdf5,
    read_errors,
)
from featx.recipe import Recipe
from featx.secrets import without_secrets
from featx.store.layout import FORMAT, FORMAT_VERSION, THUMBNAIL_SHAPE, Status
from featx.text import composed, counted, printable

__all__ = ["ImageTable", "Store", "adjacent_rows", "checked_selection", "open_store"]

_BLOCK_BYTES = 32_000_000
_ATTRIBUTES = ("format", "format_version", "recipe", "provenance")


@dataclass(frozen=True)
class ImageTable:
    """Metadata of the images, one array for each column, with rows in the store's order.

    Parameters
    ----------
    path : ndarray of str, shape (n,)
        Path relative to the root of the images, with "/".
    label, split, group : ndarray of str or None, shape (n,)
        Label, split and group of each image; None if it has none.
    status : ndarray of uint8, shape (n,)
        Status of each row (see `Status`).
    reason : ndarray of str, shape (n,)
        Why an image failed; empty for others.
    sha256 : ndarray of str, shape (n,)
        Digest of the image file; empty if unknown.
    phash : ndarray of uint64, shape (n,)
        Perceptual hash of the image.
    """

    path: NDArray[np.object_]
    label: NDArray[np.object_]
    split: NDArray[np.object_]
    group: NDArray[np.object_]
    status: NDArray[np.uint8]
    reason: NDArray[np.object_]
    sha256: NDArray[np.object_]
    phash: NDArray[np.uint64]

    @property
    def done(self) -> NDArray[np.bool_]:
        """Mask of the rows that hold codes, shape (n,)."""
        return np.asarray(self.status == Status.DONE)

    def __len__(self) -> int:
        return len(self.path)

    def __repr__(self) -> str:
        n_done, n_failed = int(self.done.sum()), int((self.status == Status.FAILED).sum())
        return f"<{counted(len(self), 'image')}: {n_done:,} done, {n_failed:,} failed>"


@dataclass(frozen=True)
class Store:
    """A store opened for reading. Use `open_store` to open one.

    Parameters
    ----------
    path : Path
        The file.
    recipe : Recipe
        Settings that determine its codes.
    provenance : dict
        Who made the codes, when, and from which files.
    classes : tuple of str
        Names of the labels, sorted.
    images : ImageTable
        Metadata of the images.
    complete : bool
        Whether no row is pending.
    """

    path: Path
    recipe: Recipe
    provenance: dict[str, Any]
    classes: tuple[str, ...]
    images: ImageTable
    complete: bool

    def __repr__(self) -> str:
        layers = ", ".join(self.recipe.layers)
        state = "complete" if self.complete else "not complete"
        return (
            f"<Store {printable(self.path)}: {counted(len(self.images), 'image')} of "
            f"{counted(len(self.classes), 'class', 'classes')}, codes of {layers} with "
            f"{self.recipe.n_features:,} features, {state}>"
        )

    def further_members(self) -> tuple[str, ...]:
        """Return the attributes, groups and datasets that are not part of the format.

        Other programs may have written them; featx ignores them.

        Returns
        -------
        tuple of str
            Their paths in the file.
        """
        own = {*_ATTRIBUTES, "classes", "complete", "images", "codes"}
        own |= {f"images/{name}" for name in ("thumbnail", *ImageTable.__dataclass_fields__)}
        own |= {f"codes/{layer}" for layer in self.recipe.layers}
        with self._opened() as file:
            found = [*file.attrs, *file]
            found += [f"{group}/{name}" for group in ("images", "codes") for name in file[group]]
        return tuple(name for name in found if name not in own)

    def codes(self, layer: str) -> NDArray[np.floating]:
        """Return the codes of a layer for all rows.

        The array is read-only, and memory-mapped if the file allows it. Rows that are not
        done have undefined values.

        Parameters
        ----------
        layer : str
            A layer of the store.

        Returns
        -------
        ndarray of shape (n, h, w, c) or (n, d)
            Codes with the store's dtype.

        Raises
        ------
        OptionError
            The store does not have the layer.
        """
        self.check_layers(layer)
        with self._opened() as file:
            dataset = inside(file, f"codes/{layer}")
            offset = dataset.id.get_offset()
            if offset is None:
                return np.asarray(dataset[...])
            return np.memmap(self.path, dataset.dtype, "r", offset, dataset.shape)

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        with _reading(self.path), open_hdf5(self.path) as file:
            yield file

    def flat_codes(self, layer: str) -> NDArray[np.floating]:
        """Return the result of `codes` as a matrix.

        Parameters
        ----------
        layer : str
            A layer of the store.

        Returns
        -------
        ndarray of shape (n, d)
            One row for each image.
        """
        codes = self.codes(layer)
        return codes.reshape(len(codes), self.recipe.code_size(layer))

    def read_rows(
        self, layer: str, rows: NDArray[np.integer], out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """Read some rows of a layer into memory.

        Adjacent rows are read together, directly into the result. This takes half the time
        of copying from a memory map.

        Parameters
        ----------
        layer : str
            A layer of the store.
        rows : ndarray of int, shape (m,)
            Rows of the store in any order. As in NumPy, -1 is the last one.
        out : ndarray of shape (m, d), optional
            Array for the result, with the store's dtype and contiguous rows.

        Returns
        -------
        ndarray of shape (m, d)
            The rows in the given order; `out` if it was given.

        Raises
        ------
        OptionError
            A row does not exist.
        """
        codes = self.flat_codes(layer)
        # Addresses are computed below, so rows that do not exist must raise an error here.
        rows = np.arange(len(codes))[checked_selection("rows", rows, len(codes))]
        if out is None:
            out = np.empty((len(rows), codes.shape[1]), codes.dtype)
        whole_rows = out.strides[0] == codes.strides[0]
        if isinstance(codes, np.memmap) and whole_rows:
            with _reading(self.path), self.path.open("rb", buffering=0) as file:
                for part in adjacent_rows(rows):
                    file.seek(codes.offset + int(rows[part.start]) * codes.strides[0])
                    _read_into(file, out[part])
        else:
            for i, row in enumerate(rows):
                out[i] = codes[row]
        return out

    def read_codes(self, layers: Iterable[str], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Read some rows of several layers into one matrix.

        Parameters
        ----------
        layers : iterable of str
            Layers of the store.
        rows : ndarray of int, shape (m,)
            Rows of the store, as for `read_rows`.

        Returns
        -------
        ndarray of shape (m, d)
            Concatenated layers in the given order.
        """
        widths = {layer: self.recipe.code_size(layer) for layer in layers}
        block = np.empty((len(rows), sum(widths.values())), self.recipe.dtype)
        start = 0
        for layer, width in widths.items():
            self.read_rows(layer, rows, out=block[:, start : start + width])
            start += width
        return block

    def row_blocks(self, rows: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
        """Yield rows in blocks of about 32 MB of codes, for streaming.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Rows of the store.

        Yields
        ------
        ndarray of int
            The next rows.
        """
        step = max(1, _BLOCK_BYTES // self.recipe.code_bytes())
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the thumbnails of the images.

        Returns
        -------
        ndarray of uint8, shape (n, 32, 32, 3)
            RGB images; zeros for rows that are not done.
        """
        with self._opened() as file:
            return np.asarray(file["images/thumbnail"][...])

    def check_layers(self, layers: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the requested layers in the store's order, or all of them for None.

        Parameters
        ----------
        layers : str, iterable of str or None
            Names of layers.

        Returns
        -------
        tuple of str
            The layers, each once.

        Raises
        ------
        OptionError
            The store does not have one of the layers.
        """
        if layers is None:
            return self.recipe.layers
        wanted = (layers,) if isinstance(layers, str) else tuple(layers)
        for layer in wanted:
            if layer not in self.recipe.layers:
                held = ", ".join(self.recipe.layers)
                message = (
                    f"{self.path} has no codes of the layer '{layer}'. "
                    f"Use --layer with one of: {held}."
                )
                raise OptionError(message)
        return self.recipe.with_layers(wanted).layers

    def digests(self) -> dict[str, str]:
        """Return the sha256 of the recipe, of the images' metadata and of the codes.

        Two stores with equal digests have equal contents, except for the provenance, which
        contains times. The codes of rows that are not done are ignored.

        Returns
        -------
        dict of str to str
            The digests "recipe", "images" and "codes".
        """
        images = hashlib.sha256(json.dumps(self.classes).encode())
        for name in self.images.__dataclass_fields__:
            images.update(_bytes(getattr(self.images, name)))
        images.update(self.thumbnails().tobytes())
        codes = hashlib.sha256()
        for layer in self.recipe.layers:
            matrix = self.flat_codes(layer)
            for row in np.flatnonzero(self.images.done):
                codes.update(np.ascontiguousarray(matrix[row]).data)
        return {
            "recipe": hashlib.sha256(self.recipe.to_json().encode()).hexdigest(),
            "images": images.hexdigest(),
            "codes": codes.hexdigest(),
        }


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : Path or str
        A file written by `featx extract`.

    Returns
    -------
    Store
        The store with its metadata. Codes are read when they are needed.

    Raises
    ------
    StoreError
        The file does not exist, is damaged, or is not a store that this version of featx
        can read.
    """
    path = Path(path)
    with _reading(path):
        _check_file(path)
        with open_hdf5(path) as file:
            _check_format(path, file)
            return _read(path, file)


def _check_file(path: Path) -> None:
    if path.is_dir():
        message = (
            f"{path} is a folder, not a store. If it holds images, extract their codes first: "
            f"featx extract {path} --layer block2_pool -o codes.h5"
        )
        raise StoreError(message)
    if not path.is_file():
        message = (
            f"There is no store {path}. Create it first: featx extract IMAGES --layer block2_pool "
            f"-o {path}"
        )
        raise StoreError(message)


def _reading(path: Path) -> AbstractContextManager[None]:
    """Return a context manager that raises every failure of reading a store as a StoreError."""
    return read_errors(path, StoreError, lambda error: _damaged(path, error))


def _damaged(path: Path, error: Exception) -> StoreError:
    if isinstance(error, NotInsideError):
        message = f"{path} {error}. A store written by featx never does. Do not trust this file."
    elif isinstance(error, OptionError):  # raised by the recipe
        message = f"{path} cannot be read: {error}"
    elif zipfile.is_zipfile(path):
        message = f"{path} is a zip archive, not a store. Inspect it with: featx info {path}"
    else:
        message = (
            f"{path} cannot be read as a store: it is incomplete, damaged, or not an HDF5 file. "
            "Create it again: featx extract --overwrite"
        )
    return StoreError(message)


def _check_format(path: Path, file: h5py.File) -> None:
    found = attribute(file, "format") if "format" in file.attrs else None
    if not isinstance(found, str) or found != FORMAT:
        message = (
            f"{path} is an HDF5 file, but not a store of featx. Inspect it with: featx info {path}"
        )
        raise StoreError(message)
    version = int(attribute(file, "format_version"))
    if not 1 <= version <= FORMAT_VERSION:
        message = (
            f"{path} has format {version}, but this version of featx reads format "
            f"{FORMAT_VERSION}. Upgrade featx: pip install --upgrade featx"
        )
        raise StoreError(message)


def _read(path: Path, file: h5py.File) -> Store:
    classes = np.array([composed(each) for each in _text(file, "classes")], dtype=object)
    paths = _text(file, "images/path")
    shape = paths.shape
    _require(len(shape) == classes.ndim == 1, f"paths or classes are not lists: {shape}")
    table = ImageTable(
        path=np.array([without_secrets(each) for each in paths], dtype=object),
        label=_labels(_numbers(file, "images/label", shape, "i"), classes),
        split=_none_if_empty(_text(file, "images/split", shape)),
        group=_none_if_empty(_text(file, "images/group", shape)),
        status=_numbers(file, "images/status", shape, "u"),
        reason=_fixed_text(_numbers(file, "images/reason", shape, "S")),
        sha256=_fixed_text(_numbers(file, "images/sha256", shape, "S")),
        phash=_numbers(file, "images/phash", shape, "u"),
    )
    _require(table.status.max(initial=0) <= max(Status), "a status is unknown")
    recipe = Recipe.from_json(attribute(file, "recipe"))
    for layer in recipe.layers:
        dataset = _dataset(file, f"codes/{layer}", (*shape, *recipe.code_shape(layer)))
        _require(dataset.dtype == recipe.dtype, f"codes of {layer} are not {recipe.dtype}")
    thumbnails = _dataset(file, "images/thumbnail", (*shape, *THUMBNAIL_SHAPE))
    _require(thumbnails.dtype == np.uint8, f"thumbnails are {thumbnails.dtype}")
    provenance = json.loads(attribute(file, "provenance"))
    _require(isinstance(provenance, dict), "provenance is not a JSON object")
    if "root" in provenance:
        provenance["root"] = without_secrets(str(provenance["root"]))
    return Store(
        path=path,
        recipe=recipe,
        provenance=provenance,
        classes=tuple(sorted(set(classes))),
        images=table,
        complete=bool(_numbers(file, "complete", (1,), "u")[0]),
    )


def _require(condition: object, found: str) -> None:
    """Raise an error, which `open_store` reports as damage, unless a condition holds."""
    if not condition:
        raise ValueError(found)


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...] | None = None) -> h5py.Dataset:
    """Return a dataset of a store after checking its shape and that the file holds it."""
    dataset = inside(file, name)
    fits = isinstance(dataset, h5py.Dataset) and shape in {None, dataset.shape}
    _require(fits, f"{name} is not a dataset of shape {shape}")
    check_held(file, dataset)
    return dataset


def _numbers(
    file: h5py.File, name: str, shape: tuple[int, ...], kind: Literal["i", "u", "S"]
) -> NDArray[Any]:
    dataset = _dataset(file, name, shape)
    _require(dataset.dtype.kind == kind, f"{name} holds {dataset.dtype}")
    return np.asarray(dataset[...])


def _labels(indices: NDArray[np.integer], classes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the names of labels; -1 becomes None."""
    fits = (indices >= -1) & (indices < len(classes))
    _require(fits.all(), f"labels are not those of {len(classes)} classes")
    # The index -1 selects the last name, None.
    names = np.array([*classes, None], dtype=object)
    return np.asarray(names[indices])


def _text(file: h5py.File, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.object_]:
    dataset = _dataset(file, name, shape)
    check_texts(file, dataset)
    return np.asarray(dataset.asstr("utf-8", "surrogateescape")[...], dtype=object)


def _fixed_text(values: NDArray[np.bytes_]) -> NDArray[np.object_]:
    return np.array([value.decode("utf-8", "replace") for value in values], dtype=object)


def _none_if_empty(values: NDArray[np.object_]) -> NDArray[np.object_]:
    return np.array([value or None for value in values], dtype=object)


def _read_into(file: FileIO, out: NDArray[np.generic]) -> None:
    left = out.reshape(-1).view(np.uint8).data
    while left:  # one call reads at most 2 GB
        n_read = file.readinto(left)
        if not n_read:
            message = (
                f"{file.name} became shorter while it was read. Create it again: featx extract "
                "--overwrite"
            )
            raise StoreError(message)
        left = left[n_read:]


def _bytes(values: NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    return json.dumps(list(values)).encode()


def checked_selection(
    name: str, selection: slice | ArrayLike, length: int
) -> slice | NDArray[np.integer]:
    """Return a selection of `length` items as a slice or as positions.

    Raises
    ------
    OptionError
        It selects something else than these items.
    """
    try:
        if isinstance(selection, slice):
            np.arange(length)[selection]
            return selection
        index = np.atleast_1d(np.asarray(selection))
        index = index if index.size else index.astype(np.intp)  # np.asarray([]) has floats
        positions: NDArray[np.integer] = np.arange(length)[index]
    except (IndexError, TypeError, ValueError) as error:
        raise OptionError(_not_a_selection(name, selection, length)) from error
    if positions.ndim != 1:
        raise OptionError(_not_a_selection(name, selection, length))
    return positions


def _not_a_selection(name: str, selection: object, length: int) -> str:
    return (
        f"{name} must be a slice, indices from {-length} to {length - 1}, or {length} values of "
        f"True and False, but it is {reprlib.repr(selection)}."
    )


def adjacent_rows(rows: NDArray[np.integer]) -> Iterator[slice]:
    """Yield a slice of `rows` for each sequence of consecutive numbers in it.

    Examples
    --------
    >>> [(part.start, part.stop) for part in adjacent_rows(np.array([3, 4, 5, 9, 10]))]
    [(0, 3), (3, 5)]
    """
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            yield slice(start, stop)
