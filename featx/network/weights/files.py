"""A weights file, opened: plain HDF5, or the HDF5 inside a .keras archive.

A path comes in; an open h5py file and the model's config go out. The first bytes decide
what a file is, not its extension. Archives are unpacked to a temporary file without a
name, and refused if they would grow a hundredfold. This file does not know about layers.
"""

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from featx.errors import WeightsError
from featx.hdf5 import NotInsideError, attribute, is_hdf5, open_hdf5, read_errors
from featx.unpacking import GrowthError, member_chunks, read_member

__all__ = ["damaged", "open_weights"]

_ZIP_SIGNATURE = b"PK\x03\x04"
_INSIDE = "model.weights.h5"
# Bytes that any disk has: the 16 convolutions have 80 MB, all of VGG19 575 MB.
_SMALL = 1_000_000_000


@contextmanager
def open_weights(path: Path) -> Iterator[tuple[h5py.File, object]]:
    """Open a weights file for reading.

    Parameters
    ----------
    path : Path
        An HDF5 file or a .keras archive, with any extension.

    Yields
    ------
    file : h5py.File
        The weights.
    config : object
        The config of a .keras archive, as json.loads returned it; None for HDF5.

    Raises
    ------
    WeightsError
        The file cannot be opened, is damaged, or is not a weights file.
    """
    start = _first_bytes(path)
    with ExitStack() as stack:
        with read_errors(path, WeightsError, lambda error: damaged(path, error)):
            if start.startswith(_ZIP_SIGNATURE):
                file, config = _open_archive(path, stack)
            elif is_hdf5(path):
                file, config = stack.enter_context(open_hdf5(path)), None
            else:
                message = (
                    f"{path} is not a weights file: it starts with {start!r}. Expected HDF5 or a "
                    ".keras archive. Use --weights FILE with another file, or --weights bundled."
                )
                raise WeightsError(message)
            kind = attribute(file, "format") if "format" in file.attrs else ""
        if kind == "featx-codes":
            message = (
                f"{path} is a store of codes, not weights. Expected a VGG19 saved by Keras. "
                "Use --weights FILE with another file, or --weights bundled."
            )
            raise WeightsError(message)
        yield file, config


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return the error for a file that is incomplete or damaged, or refers to another file."""
    if isinstance(error, NotInsideError):
        message = (
            f"{path} {error}. Expected all weights in one file. Save the model again with Keras, "
            "or use --weights bundled."
        )
    else:
        message = (
            f"{path} is incomplete or damaged: it starts as a weights file, but cannot be read to "
            f"the end ({path.stat().st_size:,} bytes). Copy or download it again, or use --weights "
            "bundled."
        )
    return WeightsError(message)


def _first_bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe would block
        message = f"{path} is not a regular file. Expected a weights file: --weights FILE"
        raise WeightsError(message)
    try:
        with path.open("rb") as file:
            return file.read(24)
    except OSError as error:
        message = (
            f"{path} cannot be opened: {error.strerror}. Expected a readable weights file. "
            "Use --weights FILE with another file, or --weights bundled."
        )
        raise WeightsError(message) from error


def _open_archive(path: Path, stack: ExitStack) -> tuple[h5py.File, object]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    if _INSIDE not in archive.namelist():
        message = (
            f"{path} is a zip archive without {_INSIDE}. Expected a .keras archive. "
            "Save the model again with Keras: model.save('vgg19.keras')"
        )
        raise WeightsError(message)
    config = json.loads(read_member(archive, archive.getinfo("config.json")))
    # HDF5 needs random access, which a zip does not allow; a copy on disk takes no memory.
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    try:
        for chunk in member_chunks(archive, archive.getinfo(_INSIDE), _SMALL):
            copy.write(chunk)
    except GrowthError as error:
        message = (
            f"In {path}, {error}, which trained weights never do. Save the model again with Keras, "
            "or use --weights bundled."
        )
        raise WeightsError(message) from error
    return stack.enter_context(open_hdf5(copy)), config
