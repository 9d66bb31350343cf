"""Opening HDF5 files, errors of reading them, and checks of files from other people.

A path comes in and an open file goes out; or an open file and a path inside it come in, and an
object goes out, or the reason why it is refused. An error of the operating system is reported as
such: a file is damaged only if its bytes were read and are wrong. HDF5 lets a file refer to other
files, whose data then look like its own, and lets it claim more values than any memory has.
Neither is accepted. This module does not know the meaning of the data.
"""

import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import h5py
import numpy as np

from featx.errors import FeatxError
from featx.text import system_error

__all__ = [
    "READ_FAILURES",
    "NotInsideError",
    "attribute",
    "check_held",
    "check_texts",
    "inside",
    "is_hdf5",
    "objects_inside",
    "open_hdf5",
    "read_errors",
]

#: Exceptions of h5py, zipfile and json for damaged files.
READ_FAILURES = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)

#: Bytes that are never refused, because any memory has them.
_SMALL = 64_000_000
# Deflate compresses zeros by a factor of 1,032; real data stay far below that.
_MAX_COMPRESSION = 1_000
_MAX_DEPTH = 100
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class NotInsideError(ValueError):
    """Raised if an object is not in the file; the message continues "FILE ..."."""


def open_hdf5(
    file: Path | str | BinaryIO, mode: Literal["r", "w"] = "r", **options: Any
) -> h5py.File:
    """Open an HDF5 file without a lock.

    HDF5's locks would refuse readers while another program has the file open, and everybody where
    the file system has no locks. Readers need none, and writers use `featx.outputs`.

    Parameters
    ----------
    file : Path, str or file object
        The file.
    mode : {"r", "w"}, default="r"
        Reading, or writing a new file.
    **options
        Further arguments of `h5py.File`.
    """
    for locking in (False, None, "best-effort"):
        try:
            return h5py.File(file, mode, locking=locking, **options)
        except OSError as error:
            # Within a process, HDF5 opens a file only with the locks that it was opened with.
            if "flag values don't match" not in str(error):
                raise
    return h5py.File(file, mode, locking=True, **options)


def is_hdf5(path: Path) -> bool:
    """Return whether a file starts as HDF5 does.

    Raises
    ------
    OSError
        The system cannot read the file; `h5py.is_hdf5` would return False.
    """
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, 0
        while start < size:  # a user's block of 512, 1024, ... bytes may precede the signature
            file.seek(start)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            start = max(512, 2 * start)
    return False


@contextmanager
def read_errors(
    path: Path, kind: type[FeatxError], damaged: Callable[[Exception], FeatxError]
) -> Iterator[None]:
    """Raise an error of the system as `kind`, and other failures of reading as damage.

    Parameters
    ----------
    path : Path
        The file that the block reads.
    kind : type
        Class of the error if the system cannot read the file.
    damaged : callable
        Returns the error if the bytes are wrong, from the original one. That may be an
        OptionError about a value in the file.
    """
    try:
        yield
    except READ_FAILURES as error:
        reason = system_error(error)
        if reason is None:
            raise damaged(error) from error
        message = (
            f"{path} cannot be read: {reason}. The operating system reports this; the file may be "
            "intact. Fix the cause and run the same command again."
        )
        raise kind(message) from error


def inside(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """Return an object that is in the file itself; other files are not opened.

    Parameters
    ----------
    group : h5py.Group
        An open file, or a group of it.
    path : str
        Names separated by "/", relative to `group`.

    Raises
    ------
    NotInsideError
        A name on the path is a link, or the data are in another file.
    KeyError
        There is no such object.
    """
    found = group
    for name in filter(None, path.split("/")):
        if not isinstance(found, h5py.Group) or name not in found.keys():  # noqa: SIM118
            raise KeyError(path)
        if not _is_hard(found, name):
            message = f"has a link instead of {path}"
            raise NotInsideError(message)
        found = found[name]
    if isinstance(found, h5py.Dataset):
        layout = found.id.get_create_plist()
        if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
            message = f"stores the data of {path} in another file"
            raise NotInsideError(message)
    return found


def check_held(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse a dataset that claims more values than the file can contain.

    Parameters
    ----------
    file : h5py.File
        The file.
    dataset : h5py.Dataset
        A dataset from `inside`.

    Raises
    ------
    NotInsideError
        The dataset claims too many values.
    """
    itemsize = dataset.id.get_type().get_size()
    n_bytes = itemsize * math.prod(dataset.shape or ())
    if dataset.chunks is not None:
        # A chunk is decompressed whole.
        n_bytes = max(n_bytes, itemsize * math.prod(dataset.chunks))
        is_held = n_bytes <= max(_SMALL, _MAX_COMPRESSION * dataset.id.get_storage_size())
    elif dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
        is_held = True  # it is in the header, which has 64 kB at most
    elif (offset := dataset.id.get_offset()) is None:  # never written, so HDF5 reads zeros
        is_held = n_bytes <= _SMALL
    else:
        is_held = offset + n_bytes <= file.id.get_filesize()
    if not is_held:
        message = (
            f"claims {n_bytes:,} bytes for {dataset.name.lstrip('/')}, but has only "
            f"{file.id.get_filesize():,} bytes"
        )
        raise NotInsideError(message)


def check_texts(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse texts that have more bytes than the file, because many rows refer to one text.

    Parameters
    ----------
    file : h5py.File
        The file.
    dataset : h5py.Dataset
        A dataset after `check_held`. Only texts of variable length are checked.

    Raises
    ------
    NotInsideError
        The texts have too many bytes.
    """
    n, n_file = math.prod(dataset.shape or ()), file.id.get_filesize()
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None or text.length is not None or not n:
        return
    limit = max(_SMALL, n_file)
    offset, n_bytes = dataset.id.get_offset(), 0
    if offset is not None:  # each row is a length of four bytes, and where the text is
        width = dataset.id.get_storage_size() // n
        rows = np.fromfile(file.filename, np.uint8, n * width, offset=offset).reshape(n, width)
        n_bytes = int(np.ascontiguousarray(rows[:, :4]).view("<u4").sum(dtype=np.int64))
    elif dataset.chunks is not None:
        rows_at_once = max(1, _SMALL // n_file)
        for start in range(0, n, rows_at_once):
            n_bytes += sum(map(len, dataset[start : start + rows_at_once]))
            if n_bytes > limit:
                break
    if n_bytes > limit:
        message = (
            f"has {n_bytes:,} bytes or more of texts in {dataset.name.lstrip('/')}, but only "
            f"{n_file:,} bytes: many rows refer to one text"
        )
        raise NotInsideError(message)


def attribute(group: h5py.Group, name: str, most: int = 1) -> Any:
    """Return an attribute, which may be a list of at most `most` texts of variable length.

    Raises
    ------
    NotInsideError
        It has more of them, which could all refer to one large text.
    KeyError
        The attribute does not exist.
    """
    found = group.attrs.get_id(name)
    if found.dtype.kind == "O" and math.prod(found.shape) > most:
        message = f"has {math.prod(found.shape):,} texts in the attribute {name}"
        raise NotInsideError(message)
    return group.attrs[name]


def objects_inside(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield each object of a file once, with its path; links are not followed.

    `h5py.Group.visititems` has no limit of depth: the paths of nested groups take memory that
    grows with the square of their number.

    Raises
    ------
    NotInsideError
        Groups are nested more than 100 deep.
    """
    seen = {h5py.h5o.get_info(file.id).addr}
    waiting = [("", file["/"], 1)]
    while waiting:
        prefix, group, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            message = f"has groups nested more than {_MAX_DEPTH} deep"
            raise NotInsideError(message)
        for name in group:
            if not _is_hard(group, name):
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append((f"{prefix}{name}/", item, depth + 1))
            if isinstance(item, h5py.Group | h5py.Dataset):
                yield prefix + name, item


def _is_hard(group: h5py.Group, name: str) -> bool:
    """Return whether a name is an object of the file itself, not a link."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)
