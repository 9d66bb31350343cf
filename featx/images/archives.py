"""Archives as folders: the names in a zip or tar file, and the bytes of each member.

An open file comes in; names and bytes go out. A compressed tar can only be read from its start,
so it is decompressed once, into a temporary file. What would grow a hundredfold is refused. This
module does not know URLs.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import posixpath
import tarfile
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Callable
from typing import IO, Any

from featx.unpacking import SMALL, GrowthError, copy_within, read_member

__all__ = ["ARCHIVES", "Archive", "archive_scheme"]

#: Endings of archives, in lower case, and their kind.
ARCHIVES = {
    ".zip": "zip",
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
}

#: Bytes of an unpacked tar that any disk has.
_SMALL_TAR = 256_000_000

# By the first bytes of a file.
_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def archive_scheme(name: str) -> str | None:
    """Return "zip" or "tar" if a file name ends like that of an archive.

    Examples
    --------
    >>> archive_scheme("photos.TGZ"), archive_scheme("photos")
    ('tar', None)
    """
    return next((ARCHIVES[end] for end in ARCHIVES if name.lower().endswith(end)), None)


class Archive:
    """An open archive that threads may share.

    Parameters
    ----------
    scheme : {"zip", "tar"}
        Kind of the archive.
    file : file object
        A seekable stream of its bytes. It is closed when the archive is no longer used.

    Raises
    ------
    Exception
        Any exception of `zipfile` and `tarfile` on damaged data.
    """

    def __init__(self, scheme: str, file: IO[bytes]) -> None:
        self._lock = threading.Lock()
        with contextlib.ExitStack() as opened:
            opened.enter_context(file)
            members, self._read = (_zip if scheme == "zip" else _tar)(file, opened)
            self._members = {posixpath.normpath(name): member for name, member in members}
            weakref.finalize(self, opened.pop_all().close)

    @property
    def names(self) -> list[str]:
        """Names of the files, in the order of the archive."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises
        ------
        FileNotFoundError
            There is no file of that name.
        Exception
            Any exception of `zipfile` and `tarfile` on damaged data.
        """
        member = self._members.get(posixpath.normpath(name))
        if member is None:
            raise FileNotFoundError(name)
        with self._lock:  # all threads share one position in the file
            return self._read(member)


_Opened = tuple[list[tuple[str, Any]], Callable[[Any], bytes]]


def _zip(file: IO[bytes], opened: contextlib.ExitStack) -> _Opened:
    archive = opened.enter_context(zipfile.ZipFile(file))
    members = [(info.filename, info) for info in archive.infolist() if not info.is_dir()]
    return members, lambda info: read_member(archive, info)


def _tar(file: IO[bytes], opened: contextlib.ExitStack) -> _Opened:
    start = file.read(8)
    file.seek(0)
    for mark, decompressor in _DECOMPRESSORS.items():
        if start.startswith(mark):
            whole = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            with decompressor(file) as stream:
                copy_within(stream, whole, _size(file), _SMALL_TAR)
            file = whole
    n_bytes = _size(file)
    file.seek(0)
    archive = opened.enter_context(tarfile.TarFile(fileobj=file))

    def read(member: Any) -> bytes:
        found = archive.extractfile(member)
        if found is None:
            raise FileNotFoundError(member)
        with found:
            data = found.read(max(SMALL, n_bytes) + 1)
        if len(data) > max(SMALL, n_bytes):  # a file with holes, which take no space in a tar
            message = f"it has more bytes than the whole tar file, {n_bytes:,}"
            raise GrowthError(message)
        return data

    members = [(m.name, m) for m in archive.getmembers() if m.isfile() or m.issym() or m.islnk()]
    return members, read


def _size(file: IO[bytes]) -> int:
    """Return the size of an open file, whose position is kept."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size
