"""HDF5 files of strangers: objects that lie in the file itself, and are no larger than it.

An open file and a path inside come in; an object goes out, or the reason why not. HDF5
lets a file name others, whose numbers then look like its own, and lets it claim more
numbers than any memory holds; neither is taken from a file that somebody else made.
This file does not know what the numbers mean.
"""

import math
from collections.abc import Iterator

import h5py

__all__ = ["NotInsideError", "check_held", "inside", "objects_inside"]

#: Never refused: an array that memory holds anyway.
_SMALL = 64_000_000
# What deflate makes of zeros is 1,032 times as small; no true array comes near that.
_MOST_PACKED = 1_000
_DEEPEST = 100


class NotInsideError(ValueError):
    """What was asked for does not lie in the file; the message says where it does."""


def inside(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """Return an object that lies in the file itself; another file is not even opened.

    Parameters
    ----------
    group : h5py.Group
        An open file, or a group of it.
    path : str
        Names with "/" between them, from `group` on.

    Raises
    ------
    NotInsideError
        A name on the way is a link, or the numbers lie in another file.
    KeyError
        There is no such object.
    """
    found = group
    for name in filter(None, path.split("/")):
        if not isinstance(found, h5py.Group) or name not in found.keys():  # noqa: SIM118
            raise KeyError(path)
        if not _is_hard(found, name):
            message = f"has a link to somewhere else for {path}"
            raise NotInsideError(message)
        found = found[name]
    if isinstance(found, h5py.Dataset):
        layout = found.id.get_create_plist()
        if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
            message = f"keeps the numbers of {path} in another file"
            raise NotInsideError(message)
    return found


def check_held(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse a dataset that claims more numbers than the file can hold.

    Parameters
    ----------
    file : h5py.File
        The file.
    dataset : h5py.Dataset
        One of `inside`.

    Raises
    ------
    NotInsideError
        It claims too many.
    """
    itemsize = dataset.id.get_type().get_size()
    n_bytes = itemsize * math.prod(dataset.shape or ())
    if dataset.chunks is not None:
        n_bytes = max(n_bytes, itemsize * math.prod(dataset.chunks))  # one is unpacked whole
        is_held = n_bytes <= max(_SMALL, _MOST_PACKED * dataset.id.get_storage_size())
    elif dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
        is_held = True  # it lies in the head, of 64 kB at most
    else:
        offset = dataset.id.get_offset()
        if offset is None:  # never written: HDF5 gives zeros
            is_held = n_bytes <= _SMALL
        else:
            is_held = offset + n_bytes <= file.id.get_filesize()
    if not is_held:
        message = (
            f"claims {n_bytes:,} bytes for {dataset.name.lstrip('/')}, which a file of "
            f"{file.id.get_filesize():,} bytes does not hold"
        )
        raise NotInsideError(message)


def objects_inside(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield each object of a file once, with its path; links are not followed.

    Not by `h5py.Group.visititems`, which goes as deep as a file's groups do: the paths
    of groups in groups take memory by the square of their number.

    Raises
    ------
    NotInsideError
        Groups lie in each other more than 100 deep.
    """
    seen = {h5py.h5o.get_info(file.id).addr}
    waiting = [("", file["/"], 1)]
    while waiting:
        prefix, group, depth = waiting.pop()
        if depth > _DEEPEST:
            message = f"has groups in groups more than {_DEEPEST} deep"
            raise NotInsideError(message)
        for name in group:
            if not _is_hard(group, name):
                continue
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                continue
            seen.add(place)
            if isinstance(item, h5py.Group):
                waiting.append((f"{prefix}{name}/", item, depth + 1))
            if isinstance(item, h5py.Group | h5py.Dataset):
                yield prefix + name, item


def _is_hard(group: h5py.Group, name: str) -> bool:
    """Say whether a name is an object of the file itself."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)
