"""Where an image lies: a path, or a URL; and how bytes are had from a URL.

Text comes in, as a user or a table has it; a `Path` or a `Url` goes out, and from a URL
the bytes of one image, or the names of what lies below it. Members of zip and tar files
are read by the standard library; all else is fsspec's, which comes with the extra
"urls". What a URL may be:

* ``s3://BUCKET/NAME``, ``gs://…``, ``https://…`` and whatever else fsspec knows, which
  also finds the credentials;
* ``zip://NAME::ARCHIVE`` and ``tar://NAME::ARCHIVE``, where the archive is a path or a
  URL; a tar file may be compressed (gzip, bzip2, xz). No name holds "::".

A URL is a text and nothing more, so it may be sent to another process. What is open
belongs to this one: connections are fsspec's, a few archives are kept here.
"""

import functools
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from featx.errors import ImageError, ImagesError, OptionError
from featx.images.archives import Archive, archive_scheme
from featx.text import quoted

__all__ = [
    "File",
    "Url",
    "as_file",
    "as_folder",
    "as_typed",
    "check_file",
    "local_file",
    "names_below",
    "read_url",
]

# The caches of fsspec may stand before what they keep.
_URL = re.compile(r"((simple|file|block)cache::)?[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ARCHIVED = re.compile(r"(zip|tar)://(.*?)(?:::(.*))?", re.DOTALL | re.IGNORECASE)

#: What has no listing.
_WEB = ("http", "https")

_PACKAGES = {
    **dict.fromkeys(_WEB, "'featx[urls]'"),
    **{"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"},
}

# Archives that are open at once; a manifest may name many.
_OPEN = 8


@dataclass(frozen=True, slots=True)
class Url:
    """Where an image lies, or a folder of images: what `as_file` makes of a URL.

    It has those methods of a path that featx needs.

    Parameters
    ----------
    text : str
        The URL.

    Examples
    --------
    >>> Url("zip://::photos.zip") / "cat/1.jpg"
    Url(text='zip://cat/1.jpg::photos.zip')
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, path: Path | str) -> "Url":
        cache, first, rest = self._parts()
        return Url(f"{cache}{first}{'' if first.endswith('/') else '/'}{path}{rest}")

    @property
    def scheme(self) -> str:
        """What stands before the first ``://``, in lower case."""
        return self._parts()[1].partition("://")[0].lower()

    @property
    def is_archive(self) -> bool:
        """Whether it is all that an archive holds."""
        return _archive_of(self) is not None and not _name_of(self)

    @property
    def inside(self) -> PurePosixPath:
        """The path on the server, or in the archive."""
        url = self._parts()[1]
        path = urlsplit(url).path if self.scheme in _WEB else url.partition("://")[2]
        return PurePosixPath(path)

    def as_posix(self) -> str:
        """Return the text."""
        return self.text

    def absolute(self) -> "Url":
        """Return the URL with the whole path of an archive on this machine."""
        archive = _archive_of(self)
        if archive is None:
            return self
        return Url(f"{self._parts()[1]}::{as_file(archive).absolute()}")

    def _parts(self) -> tuple[str, str, str]:
        """Return what stands before the URL's own part, that part, and what it lies in."""
        found = _URL.match(self.text)
        cache = (found[1] or "") if found else ""
        own, chained, rest = self.text[len(cache) :].partition("::")
        return cache, own, chained + rest


#: Where an image lies.
File = Path | Url


def as_file(text: Path | str, folder: File = Path()) -> File:
    """Return what a text names: a path, relative to `folder`, or a URL.

    An archive that a URL names may be relative to `folder`, too. Whether a URL can be read
    here, `check_file` says.
    """
    text = str(text)
    if not _URL.match(text):
        return folder / text
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    url = Url(text)
    archive = _archive_of(url)
    if not archive:
        return url
    return Url(f"{url.text.removesuffix(archive)}{as_file(archive, folder)}")


def check_file(file: File) -> File:
    """Return a file, unless it is a URL of a kind that cannot be read here.

    Raises
    ------
    OptionError
        There are no such URLs, a package is missing, or no archive is named.
    """
    if isinstance(file, Path):
        return file
    archive = _archive_of(file)
    if archive is None:
        _check_scheme(file.scheme)
    elif archive:
        check_file(as_file(archive))
    else:
        message = f"{quoted(file)} names no archive. Expected {file.scheme}://NAME::ARCHIVE."
        raise OptionError(message)
    return file


def as_folder(file: File) -> File:
    """Return an archive as the URL of all that it holds; anything else as it is."""
    scheme = archive_scheme(str(file if isinstance(file, Path) else file.inside))
    if scheme is None or (isinstance(file, Path) and not file.is_file()):
        return file
    return Url(f"{scheme}://::{file}")


def as_typed(file: File) -> File | str:
    """Return what lies in an archive as its user would say it; anything else as it is.

    Examples
    --------
    >>> as_typed(Url("zip://::photos.zip")), as_typed(Url("zip://cats::photos.zip"))
    ('photos.zip', 'photos.zip/cats')
    """
    if not isinstance(file, Url) or not (archive := _archive_of(file)):
        return file
    name = _name_of(file)
    return f"{archive}/{name}" if name else archive


def local_file(file: File) -> Path | None:
    """Return what is read from this machine's disk: the file, or the archive that it lies in."""
    if isinstance(file, Path):
        return file
    archive = _archive_of(file)
    return None if archive is None else local_file(as_file(archive))


def read_url(url: Url) -> bytes:
    """Return the bytes of an image.

    Raises
    ------
    ImageError
        They cannot be had; the message is the reason, without the URL.
    OptionError
        A package is missing.
    """
    archive = _archive_of(url)
    try:
        if archive is not None:
            return _opened(url.scheme, archive).read(_name_of(url))
        system, path = _filesystem(url)
        return bytes(system.cat_file(path))
    except (ImageError, OptionError):
        raise
    except Exception as error:  # servers and archives raise whatever happens to them
        raise ImageError(_reason(error)) from error


def names_below(folder: Url) -> list[str]:
    """Return the relative paths of all files below a URL, in no order.

    Raises
    ------
    ImagesError
        It has no listing, or cannot be read.
    """
    if folder.scheme in _WEB:
        message = (
            f"{quoted(folder)} cannot be listed: the web has no folders. Expected an image, an "
            "archive, or a table that lists the images: --manifest FILE.csv"
        )
        raise ImagesError(message)
    archive = _archive_of(folder)
    try:
        if archive is not None:
            top, names = _name_of(folder), _opened(folder.scheme, archive, anew=True).names
        else:
            system, top = _filesystem(folder)
            system.invalidate_cache()  # or what was added since would not be seen
            names = system.find(top)
    except (ImageError, OptionError):
        raise
    except Exception as error:
        hint = (
            f" Where a server gives no parts of files, simplecache::{archive} is fetched whole."
            if archive and archive.startswith(_WEB)
            else ""
        )
        message = f"{quoted(folder)} cannot be listed: {_reason(error).rstrip('.')}.{hint}"
        raise ImagesError(message) from error
    start = f"{top.strip('/')}/".lstrip("/")
    below = (name.lstrip("/") for name in names)
    return [name.removeprefix(start) for name in below if name.startswith(start)]


# archives


def _archive_of(url: Url) -> str | None:
    """Return the archive that a URL names a member of, "" if it names none; None for others."""
    found = _ARCHIVED.fullmatch(url.text)
    return None if found is None else found[3] or ""


def _name_of(url: Url) -> str:
    return str(url.inside).strip("/") if str(url.inside) != "." else ""


_lock = threading.Lock()
_archives: OrderedDict[tuple[object, ...], Archive] = OrderedDict()


def _opened(scheme: str, archive: str, *, anew: bool = False) -> Archive:
    """Return an archive that is open, and is still the one that lies there."""
    file = as_file(archive)
    key: tuple[object, ...] = (scheme, archive)
    if isinstance(file, Path):
        facts = file.stat()
        key += (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    with _lock:
        # A file's stamp tells; what a server has may be another by the time it is listed.
        if anew and isinstance(file, Url):
            _archives.pop(key, None)
        if key not in _archives:
            _archives[key] = Archive(scheme, _stream(file))
            if len(_archives) > _OPEN:
                _archives.popitem(last=False)
        _archives.move_to_end(key)
        return _archives[key]


def _forget() -> None:
    """Let go of what another process has open: a fork would share the position in it."""
    global _lock  # noqa: PLW0603  a thread that is not here may hold it
    _lock = threading.Lock()
    _archives.clear()


os.register_at_fork(after_in_child=_forget)


def _stream(file: File) -> IO[bytes]:
    """Open a file to be read from anywhere."""
    if isinstance(file, Path):
        return file.open("rb")
    _check_scheme(file.scheme)
    import fsspec

    stream: IO[bytes] = fsspec.open(file.text, "rb").open()
    return stream


# fsspec


def _filesystem(url: Url) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, which it keeps itself, and the path in it."""
    _check_scheme(url.scheme)
    import fsspec

    system, path = fsspec.core.url_to_fs(url.text)
    return system, str(path)


@functools.cache
def _check_scheme(scheme: str) -> None:
    """Make sure that fsspec is there, and what it needs for these URLs.

    Raises
    ------
    OptionError
        Something is missing, or there are no such URLs.
    """
    try:
        from fsspec import get_filesystem_class
    except ImportError as error:
        also = _PACKAGES.get(scheme, "")
        also = f" {also}" if also and scheme not in _WEB else ""
        message = f"{scheme}:// needs fsspec, which is not here: pip install 'featx[urls]'{also}"
        raise OptionError(message) from error
    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        what = f"pip install {package}" if package else str(error)
        message = f"{scheme}:// needs a package that is not here: {what}"
        raise OptionError(message) from error
    except ValueError as error:
        message = (
            f"There are no URLs {quoted(scheme + '://')}. Expected s3://, gs://, https://, zip://, "
            "tar:// or another that fsspec knows; a path needs no such beginning."
        )
        raise OptionError(message) from error


def _reason(error: Exception) -> str:
    """Say in a few words why there are no bytes."""
    status, message = getattr(error, "status", None), getattr(error, "message", "")
    if isinstance(error, FileNotFoundError):
        return "not found"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(status, int):
        return f"the server says {status} {message}".rstrip()
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be read: {text}"
