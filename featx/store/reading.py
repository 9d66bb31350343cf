"""Reading a store: its facts at once, its codes when asked.

A path comes in; a checked, read-only view goes out. Codes are memory-mapped
where they lie contiguous in the file, which is how featx writes them; a copy
that another tool has rewritten in chunks is read through HDF5. This file does
not know what the codes are for.
"""

import hashlib
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from featx.errors import FeatxError, OptionError, StoreError
from featx.hdf5 import NotInsideError, check_held, inside
from featx.recipe import Recipe
from featx.store.layout import FORMAT, FORMAT_VERSION, THUMBNAIL_SHAPE, Status

__all__ = ["ImageTable", "Store", "open_store", "runs"]

_BLOCK_BYTES = 32_000_000

# What h5py, and the JSON in the file, meet damage with.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class ImageTable:
    """The facts of the images, one array a fact, rows in the store's order.

    Parameters
    ----------
    path : ndarray of str, shape (n,)
        Relative to the images' root, with "/".
    label, split, group : ndarray of str or None, shape (n,)
        None where there is none.
    status : ndarray of uint8, shape (n,)
        See `Status`.
    reason, sha256 : ndarray of str, shape (n,)
        Why a failed image failed; hash of the file's bytes. Empty if unknown.
    phash : ndarray of uint64, shape (n,)
        Perceptual hash.
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
        """Which rows hold codes, shape (n,)."""
        return np.asarray(self.status == Status.DONE)

    def __len__(self) -> int:
        return len(self.path)


@dataclass(frozen=True)
class Store:
    """A store that was opened for reading; `open_store` makes it.

    Parameters
    ----------
    path : Path
        The file.
    recipe : Recipe
        Of its codes.
    provenance : dict
        Who made them, when and from where.
    classes : tuple of str
        Names of the labels, sorted.
    images : ImageTable
        The facts of the images.
    complete : bool
        Whether no row is pending.
    """

    path: Path
    recipe: Recipe
    provenance: dict[str, Any]
    classes: tuple[str, ...]
    images: ImageTable
    complete: bool

    def codes(self, layer: str) -> NDArray[np.floating]:
        """Return the codes of a layer, every row, as (n, h, w, c) or (n, d).

        Read-only and memory-mapped where the file allows. Rows that are not
        done mean nothing.

        Parameters
        ----------
        layer : str
            A layer of the store.

        Returns
        -------
        ndarray of shape (n, h, w, c) or (n, d)
            With the store's dtype.

        Raises
        ------
        OptionError
            The store holds no codes of that layer.
        """
        self.check_layers(layer)
        with h5py.File(self.path, "r") as file:
            dataset = inside(file, f"codes/{layer}")
            offset = dataset.id.get_offset()
            if offset is None:
                try:
                    return np.asarray(dataset[...])
                except _DAMAGE as error:
                    raise _damaged(self.path) from error
            shape, dtype = dataset.shape, dataset.dtype
        return np.memmap(self.path, dtype, "r", offset, shape)

    def flat_codes(self, layer: str) -> NDArray[np.floating]:
        """Return the codes of a layer as a matrix, (n, d).

        Parameters
        ----------
        layer : str
            A layer of the store.

        Returns
        -------
        ndarray of shape (n, d)
            What `codes` returns, in another shape.
        """
        codes = self.codes(layer)
        return codes.reshape(len(codes), self.recipe.code_size(layer))

    def read_rows(
        self, layer: str, rows: NDArray[np.integer], out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """Read some rows of a layer into memory, as (m, d).

        Neighbouring rows are read together, straight into their place: half
        the time of copying out of a memory map, which faults page by page.

        Parameters
        ----------
        layer : str
            A layer of the store.
        rows : ndarray of int, shape (m,)
            Rows of the store, in any order; as in NumPy, -1 is the last.
        out : ndarray of shape (m, d), optional
            Where to put them, with the store's dtype and its rows contiguous.

        Returns
        -------
        ndarray of shape (m, d)
            The rows, in the order asked for; `out` where that was given.
        """
        codes = self.flat_codes(layer)
        # What follows computes addresses: a row that is not there must fail here.
        rows = np.arange(len(codes))[rows]
        if out is None:
            out = np.empty((len(rows), codes.shape[1]), codes.dtype)
        whole_rows = out.strides[0] == codes.strides[0]
        if isinstance(codes, np.memmap) and whole_rows:
            with self.path.open("rb", buffering=0) as file:
                for part in runs(rows):
                    file.seek(codes.offset + int(rows[part.start]) * codes.strides[0])
                    _read_into(file, out[part])
        else:
            for i, row in enumerate(rows):
                out[i] = codes[row]
        return out

    def read_codes(self, layers: Iterable[str], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Read some rows of some layers into one block, (m, d), layers side by side.

        Parameters
        ----------
        layers : iterable of str
            Layers of the store.
        rows : ndarray of int, shape (m,)
            Rows of the store, as `read_rows` takes them.

        Returns
        -------
        ndarray of shape (m, d)
            Layers side by side, in the order asked for.
        """
        widths = {layer: self.recipe.code_size(layer) for layer in layers}
        block = np.empty((len(rows), sum(widths.values())), self.recipe.dtype)
        start = 0
        for layer, width in widths.items():
            self.read_rows(layer, rows, out=block[:, start : start + width])
            start += width
        return block

    def row_blocks(self, rows: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
        """Yield rows in stretches of a few megabytes of codes, so that n of them stream.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Rows of the store.

        Yields
        ------
        ndarray of int
            The next of them.
        """
        step = max(1, _BLOCK_BYTES // self.recipe.code_bytes())
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the thumbnails; zeros where a row is not done.

        Returns
        -------
        ndarray of uint8, shape (n, 32, 32, 3)
            RGB.
        """
        with h5py.File(self.path, "r") as file:
            return np.asarray(file["images/thumbnail"][...])

    def check_layers(self, layers: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the layers asked for, in the store's order; all of them for None.

        Parameters
        ----------
        layers : str, iterable of str or None
            Names.

        Returns
        -------
        tuple of str
            Without repeats.

        Raises
        ------
        OptionError
            The store holds no codes of one of them.
        """
        if layers is None:
            return self.recipe.layers
        wanted = (layers,) if isinstance(layers, str) else tuple(layers)
        for layer in wanted:
            if layer not in self.recipe.layers:
                held = ", ".join(self.recipe.layers)
                message = (
                    f"{self.path} holds codes of {held}, not of '{layer}'. "
                    "Use --layer with one of them."
                )
                raise OptionError(message)
        return self.recipe.with_layers(wanted).layers

    def digests(self) -> dict[str, str]:
        """Return the sha256 of the recipe, of the images' facts and of the codes.

        Two stores with equal digests hold the same; provenance, which holds
        times, does not count. Rows that are not done count by their status.

        Returns
        -------
        dict of str to str
            The keys are "recipe", "images" and "codes".
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
        A file that `featx extract` wrote.

    Returns
    -------
    Store
        Its facts; codes are read when they are asked for.

    Raises
    ------
    StoreError
        There is no such file, it is damaged, or it is not a store that this
        version of featx can read.
    """
    path = Path(path)
    if path.is_dir():
        message = (
            f"{path} is a folder, not a store. If it holds images, make a store of them first: "
            f"featx extract {path} --layer block2_pool -o codes.h5"
        )
        raise StoreError(message)
    if not path.is_file():
        message = (
            f"No store {path}. Make one first: featx extract IMAGES --layer block2_pool -o {path}"
        )
        raise StoreError(message)
    try:
        with h5py.File(path, "r") as file:
            _check_format(path, file)
            return _read(path, file)
    except OptionError as error:  # of the recipe
        message = f"{path} cannot be read: {error}"
        raise StoreError(message) from error
    except FeatxError:
        raise
    except NotInsideError as error:
        message = f"{path} {error}. Expected a store as featx writes it. Do not trust this file."
        raise StoreError(message) from error
    except _DAMAGE as error:
        if zipfile.is_zipfile(path):
            message = f"{path} is a zip archive, not a store. What it is: featx info {path}"
            raise StoreError(message) from error
        raise _damaged(path) from error


def _damaged(path: Path) -> StoreError:
    message = (
        f"{path} cannot be read as a store: it is cut short, damaged, or no HDF5 file. "
        "Make it again: featx extract --overwrite"
    )
    return StoreError(message)


def _check_format(path: Path, file: h5py.File) -> None:
    found = file.attrs.get("format")
    if not isinstance(found, str) or found != FORMAT:
        message = (
            f"{path} is an HDF5 file, but not a featx store. See what it holds: featx info {path}"
        )
        raise StoreError(message)
    version = int(file.attrs["format_version"])
    if not 1 <= version <= FORMAT_VERSION:
        message = (
            f"{path} has format {version}; this featx reads format {FORMAT_VERSION}. "
            "Use a newer one: pip install --upgrade featx"
        )
        raise StoreError(message)


def _read(path: Path, file: h5py.File) -> Store:
    classes = _text(file, "classes")
    paths = _text(file, "images/path")
    shape = paths.shape
    if len(shape) != 1 or classes.ndim != 1:
        message = f"paths have the shape {shape}, classes {classes.shape}"
        raise ValueError(message)
    table = ImageTable(
        path=paths,
        label=_labels(_numbers(file, "images/label", shape, "i"), classes),
        split=_none_if_empty(_text(file, "images/split", shape)),
        group=_none_if_empty(_text(file, "images/group", shape)),
        status=_numbers(file, "images/status", shape, "u"),
        reason=_fixed_text(_numbers(file, "images/reason", shape, "S")),
        sha256=_fixed_text(_numbers(file, "images/sha256", shape, "S")),
        phash=_numbers(file, "images/phash", shape, "u"),
    )
    if len(table) and int(table.status.max()) > max(Status):
        message = f"a status is {table.status.max()}"
        raise ValueError(message)
    recipe = Recipe.from_json(file.attrs["recipe"])
    for layer in recipe.layers:
        dataset = _dataset(file, f"codes/{layer}", (*shape, *recipe.code_shape(layer)))
        if dataset.dtype != recipe.dtype:
            message = f"codes of {layer} are not {recipe.dtype}"
            raise ValueError(message)
    _dataset(file, "images/thumbnail", (*shape, *THUMBNAIL_SHAPE))
    provenance = json.loads(file.attrs["provenance"])
    if not isinstance(provenance, dict):
        message = "provenance is no JSON object"
        raise TypeError(message)
    return Store(
        path=path,
        recipe=recipe,
        provenance=provenance,
        classes=tuple(classes),
        images=table,
        complete=bool(_numbers(file, "complete", (1,), "u")[0]),
    )


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...] | None = None) -> h5py.Dataset:
    """Return a dataset of a store, of the shape expected, which the file holds indeed."""
    dataset = inside(file, name)
    if not isinstance(dataset, h5py.Dataset) or shape not in {None, dataset.shape}:
        message = f"{name} is no dataset of shape {shape}"
        raise ValueError(message)
    check_held(file, dataset)
    return dataset


def _numbers(
    file: h5py.File, name: str, shape: tuple[int, ...], kind: Literal["i", "u", "S"]
) -> NDArray[Any]:
    dataset = _dataset(file, name, shape)
    if dataset.dtype.kind != kind:
        message = f"{name} holds {dataset.dtype}"
        raise ValueError(message)
    return np.asarray(dataset[...])


def _labels(indices: NDArray[np.integer], classes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the names of labels; -1 is none."""
    if len(indices) and not (indices.min() >= -1 and indices.max() < len(classes)):
        message = f"labels are {indices.min()} to {indices.max()}, of {len(classes)} classes"
        raise ValueError(message)
    # -1 takes the last of the names, which is None.
    names = np.array([*classes, None], dtype=object)
    return np.asarray(names[indices])


def _text(file: h5py.File, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.object_]:
    values = _dataset(file, name, shape).asstr("utf-8", "surrogateescape")[...]
    return np.asarray(values, dtype=object)


def _fixed_text(values: NDArray[np.bytes_]) -> NDArray[np.object_]:
    return np.array([value.decode("utf-8", "replace") for value in values], dtype=object)


def _none_if_empty(values: NDArray[np.object_]) -> NDArray[np.object_]:
    return np.array([value or None for value in values], dtype=object)


def _read_into(file: FileIO, out: NDArray[np.generic]) -> None:
    left = out.reshape(-1).view(np.uint8).data
    while left:  # one call reads at most 2 GB
        n_read = file.readinto(left)
        if not n_read:
            message = f"{file.name} was cut short while it was read. Make it again."
            raise StoreError(message)
        left = left[n_read:]


def _bytes(values: NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    return json.dumps(list(values)).encode()


def runs(rows: NDArray[np.integer]) -> Iterator[slice]:
    """Yield the stretches of consecutive numbers in `rows`, as slices of `rows`.

    Examples
    --------
    >>> [(part.start, part.stop) for part in runs(np.array([3, 4, 5, 9, 10]))]
    [(0, 3), (3, 5)]
    """
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            yield slice(start, stop)
