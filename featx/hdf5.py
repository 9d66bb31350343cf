"""Checks of HDF5 files from other people: datasets are in the file, and no larger than it.

An open file and a path inside it come in; an object goes out, or the reason why it is refused.
HDF5 lets a file refer to other files, whose data then look like its own, and lets it claim more
values than any memory has. Neither is accepted. This module does not know the meaning of the data.
"""

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator

import h5py

__all__ = ["READ_FAILURES", "NotInsideError", "check_held", "inside", "objects_inside"]

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


class NotInsideError(ValueError):
    """Raised if an object is not in the file; the message continues "FILE ..."."""


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
