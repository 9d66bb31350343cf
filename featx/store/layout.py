"""Format 1 of the store: the layout of the file, and its creation.

A recipe and the columns that describe the images come in; a file of its final size goes
out, with all rows pending. This file does not know where images or codes come from.

The file is ordinary HDF5. Its datasets are contiguous and allocated when it is created, so
every row has a fixed address. Rows are then written at that address without HDF5. The HDF5
metadata never changes again, so the file stays valid if the process is killed at any time.

========================  =======================  ==================================
name                      type                     meaning
========================  =======================  ==================================
attribute format          str                      "featx-codes"
attribute format_version  int                      1
attribute recipe          str (JSON)               settings that determine the codes
attribute provenance      str (JSON)               who made them, when, from which files
/classes                  str (k,)                 names of the labels
/complete                 uint8 (1,)               1 when no row is pending
/images/path              str (n,)                 relative, with "/"
/images/label             int32 (n,)               index into /classes, -1 for none
/images/split             str (n,)                 train, val, test, or "" for none
/images/group             str (n,)                 "" for none
/images/status            uint8 (n,)               0 pending, 1 done, 2 failed
/images/reason            bytes (n,) of 256        why an image failed, UTF-8
/images/sha256            bytes (n,) of 64         digest of the image file, hexadecimal
/images/thumbnail         uint8 (n, 32, 32, 3)     small version of the image, RGB
/images/phash             uint64 (n,)              perceptual hash of the image
/codes/LAYER              float (n, h, w, c)       or (n, d); NaN for failed images,
                                                   undefined for pending ones
========================  =======================  ==================================
"""

import enum
import errno
import json
import math
import os
import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from featx.errors import StoreError
from featx.hdf5 import open_hdf5
from featx.outputs import is_full, whole_file
from featx.recipe import Recipe

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "REASON_BYTES",
    "THUMBNAIL_SHAPE",
    "Status",
    "create_store",
    "encode_path",
    "store_bytes",
]

FORMAT = "featx-codes"
FORMAT_VERSION = 1
THUMBNAIL_SHAPE = (32, 32, 3)
REASON_BYTES = 256
# Rows that start on a page can be memory-mapped without a copy.
_PAGE = 4096
# Size of a store without its codes: the headers of HDF5 and the gaps before pages; a row of
# /images with its references into the HDF5 heap; and the overhead of each string in the heap.
_HEAD_BYTES = 24_000
_FACT_BYTES = math.prod(THUMBNAIL_SHAPE) + REASON_BYTES + 64 + 8 + 4 + 1 + 3 * 16
_HEAP_ITEM = 16


class Status(enum.IntEnum):
    """State of a row."""

    PENDING = 0
    DONE = 1
    FAILED = 2


def create_store(
    path: Path,
    recipe: Recipe,
    columns: Mapping[str, Sequence[str | None]],
    provenance: Mapping[str, object],
    *,
    fill: Callable[[Path], None] | None = None,
) -> None:
    """Create a store with reserved space, in which every row is pending.

    The file gets its final name only when it is complete. An existing file is replaced.

    Parameters
    ----------
    path : Path
        The new store.
    recipe : Recipe
        Settings of its codes.
    columns : mapping of str to sequence of str or None
        "path", "label", "split" and "group" of the images, in order.
    provenance : mapping
        Any values that JSON can hold.
    fill : callable, optional
        Function that is called with the temporary name of the file, to write rows before
        the file gets its final name.

    Raises
    ------
    StoreError
        The disk does not have enough space.
    OutputError
        The folder is missing or cannot be written.
    """
    n_bytes = store_bytes(recipe, columns)
    with whole_file(path) as temporary:
        _check_room(path, n_bytes)  # before the disk is filled
        with open_hdf5(temporary, "w", alignment_threshold=_PAGE, alignment_interval=_PAGE) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["recipe"] = recipe.to_json()
            file.attrs["provenance"] = json.dumps(provenance)
            _lay_out_images(file, columns)
            for layer in recipe.layers:
                shape = (len(columns["path"]), *recipe.code_shape(layer))
                _reserve(file, f"codes/{layer}", shape, np.dtype(recipe.dtype))
        try:
            _reserve_space(temporary)
        except OSError as error:
            raise _no_room(path, n_bytes) if is_full(error) else error from error
        if fill is not None:
            fill(temporary)


def store_bytes(recipe: Recipe, columns: Mapping[str, Sequence[str | None]]) -> int:
    """Return the size of a store in bytes, to within 10 kB, for arguments of `create_store`."""
    n_images = len(columns["path"])
    names = sum(
        _HEAP_ITEM + -len(encode_path(value or "")) // 8 * -8
        for name in ("path", "split", "group")
        for value in columns[name]
    )
    return _HEAD_BYTES + n_images * (_FACT_BYTES + recipe.code_bytes()) + names


def encode_path(path: str) -> bytes:
    """Encode a path as UTF-8; bytes of names that are not UTF-8 are kept."""
    return path.encode("utf-8", "surrogateescape")


def _lay_out_images(file: h5py.File, columns: Mapping[str, Sequence[str | None]]) -> None:
    n_images = len(columns["path"])
    classes = sorted({label for label in columns["label"] if label is not None})
    index = {label: i for i, label in enumerate(classes)}
    text = h5py.string_dtype("utf-8")
    file.create_dataset("classes", data=[encode_path(label) for label in classes], dtype=text)
    images = file.create_group("images")
    for name in ("path", "split", "group"):
        values = [encode_path(value or "") for value in columns[name]]
        images.create_dataset(name, data=values, dtype=text)
    labels = [-1 if label is None else index[label] for label in columns["label"]]
    images.create_dataset("label", data=np.array(labels, np.int32))
    for name, dtype in (
        ("status", "u1"),
        ("reason", f"S{REASON_BYTES}"),
        ("sha256", "S64"),
        ("phash", "u8"),
    ):
        _reserve(file, f"images/{name}", (n_images,), np.dtype(dtype))
    _reserve(file, "images/thumbnail", (n_images, *THUMBNAIL_SHAPE), np.dtype("u1"))
    _reserve(file, "complete", (1,), np.dtype("u1"))


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Create a dataset with a fixed address, without writing it: a hole in the file reads as 0."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan, lcpl=links)


def _reserve_space(path: Path) -> None:
    """Allocate the holes of a file, so that too little space is found now."""
    if hasattr(os, "posix_fallocate"):  # macOS cannot reserve space
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                    raise  # otherwise the file system cannot reserve space either


def _check_room(path: Path, n_bytes: int) -> None:
    """Refuse a file that is larger than the free space or the system's limit for files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and limit < n_bytes:
        raise _no_room(
            path, n_bytes, f"the system limits files to {limit / 1e9:.2f} GB (ulimit -f)"
        )
    if shutil.disk_usage(path.absolute().parent).free < n_bytes:
        raise _no_room(path, n_bytes)


def _no_room(path: Path, n_bytes: int, reason: str = "") -> StoreError:
    free = shutil.disk_usage(path.parent).free
    reason = reason or f"{free / 1e9:.2f} GB are free in {path.parent}"
    return StoreError(
        f"There is not enough space for {path}: {reason}, but the store needs "
        f"{n_bytes / 1e9:.2f} GB. Use --pool avg, --dtype float16, or -o on another disk."
    )
