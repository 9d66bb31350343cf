"""Files of images: paths and URLs, and the bytes of a URL.

The text of a user or a table comes in; a `Path` or a `Url` goes out, and for a URL the bytes of
an image or the names of the files below it. The standard library reads members of zip and tar
files; fsspec, which comes with the extra "urls", reads everything else. A URL may be:

* ``s3://BUCKET/NAME``, ``gs://…``, ``https://…`` and any other that fsspec knows, which also
  finds the credentials;
* ``zip://NAME::ARCHIVE`` and ``tar://NAME::ARCHIVE``, where the archive is a path or a URL. A tar
  file may be compressed (gzip, bzip2, xz). Names cannot contain "::".

A URL is only a text, so it can be sent to another process. Open files belong to one process:
fsspec keeps connections, and this module keeps a few open archives.

A URL may contain a password or a signature. `Url.text` has it and is only given to fsspec; `str`
leaves it out, so it is neither stored nor shown.
"""

import functools
import os
import re
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from featx.errors import ImageError, ImagesError, OptionError
from featx.images.archives import Archive, archive_scheme
from featx.secrets import without_secrets
from featx.text import quoted

__all__ = [
    "NOT_FOUND",
    "Bytes",
    "File",
    "Url",
    "as_file",
    "as_folder",
    "as_typed",
    "check_file",
    "is_local",
    "local_file",
    "names_below",
    "read_file",
]

# One of fsspec's caches may precede a URL, and the rest is the archive that the URL is in.
_URL = re.compile(
    r"(?P<cache>(?:(?:simple|file|block)cache::)?)"
    r"(?P<own>(?P<scheme>[a-z][a-z0-9+.-]*)://.*?)(?P<rest>(?:::.*)?)",
    re.DOTALL | re.IGNORECASE,
)

#: Reason of a file that does not exist.
NOT_FOUND = "not found"

_WEB = ("http", "https")  # these have no listings
_LOCAL = ("file", "local")

# Packages that are needed in addition to the extra "urls".
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs"), "adlfs"),
}


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """URL of an image or a folder of images, as `as_file` returns it.

    It has the methods of a path that featx uses.

    Parameters
    ----------
    text : str
        The URL, with its secrets.

    Examples
    --------
    >>> Url("zip://::photos.zip") / "cat/1.jpg"
    Url('zip://cat/1.jpg::photos.zip')
    >>> Url("https://me:pass@host/cat/1.jpg?size=2&token=0f")
    Url('https://host/cat/1.jpg?size=2')
    """

    text: str

    def __str__(self) -> str:
        return without_secrets(self.text)

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __truediv__(self, path: Path | str) -> "Url":
        own = self._part("own")
        slash = "" if own.endswith("/") else "/"
        return Url(f"{self._part('cache')}{own}{slash}{path}{self._part('rest')}")

    @property
    def scheme(self) -> str:
        """The text before the first ``://``, in lower case."""
        return self._part("scheme").lower()

    @property
    def archive(self) -> str | None:
        """The archive of which this is a member, "" if it is not named, None for other URLs."""
        if self._part("cache") or self.scheme not in ("zip", "tar"):
            return None
        return self._part("rest").removeprefix("::")

    @property
    def name(self) -> str:
        """The path inside the archive; "" for the whole archive."""
        return "/".join(self.inside.parts).strip("/")

    @property
    def inside(self) -> PurePosixPath:
        """The path on the server, or in the archive."""
        path = self._part("own").partition("://")[2]
        if self.scheme in _WEB:
            # Not urlsplit, which raises ValueError for hosts such as [::1.
            _, slash, path = re.split("[?#]", path, maxsplit=1)[0].partition("/")
            path = slash + path
        return PurePosixPath(path)

    def absolute(self) -> "Url":
        """Return the URL with the absolute path of an archive on this machine."""
        if self.archive is None:
            return self
        return Url(f"{self._part('own')}::{_full(as_file(self.archive).absolute())}")

    def _part(self, name: str) -> str:
        found = _URL.fullmatch(self.text)
        return found[name] if found else ""


#: Where an image is.
File = Path | Url


@dataclass(frozen=True, slots=True)
class Bytes:
    """The content of an image file that is in memory; `read_file` returns it.

    Parameters
    ----------
    data : bytes
        The content.
    name : str, default="image in memory"
        Its name, of which the suffix counts if the format is not found in the content.
    """

    data: bytes = field(repr=False)
    name: str = "image in memory"

    def __str__(self) -> str:
        return self.name


def as_file(text: File | str, folder: File = Path()) -> File:
    """Return the path or URL that a text means.

    A path, or the archive in a URL, may be relative to `folder`. `check_file` checks whether
    a URL can be read here.

    Raises
    ------
    OptionError
        The text is empty, which would mean the working directory.
    """
    text = _full(text)
    if not text:
        message = "A path is empty. Use the path or the URL of an image, a folder or an archive."
        raise OptionError(message)
    found = _URL.fullmatch(text)
    if not found:
        return folder / text
    if found["scheme"].lower() in _LOCAL:  # a cache of it is not needed
        return Path(found["own"].partition("://")[2])
    url = Url(text)
    if not url.archive:
        return url
    return Url(f"{text.removesuffix(url.archive)}{_full(as_file(url.archive, folder))}")


def _full(file: File | str) -> str:
    """Return the text of a file, with the secrets of a URL."""
    return file.text if isinstance(file, Url) else str(file)


def check_file(file: File) -> File:
    """Return a file, unless it is a URL of a kind that cannot be read here.

    Raises
    ------
    OptionError
        URLs of this kind are unknown, a package is missing, or no archive is named.
    """
    if isinstance(file, Url):
        if file.archive is None:
            _check_scheme(file.scheme)
        elif file.archive:
            check_file(as_file(file.archive))
        else:
            message = f"{quoted(file)} has no archive. Use {file.scheme}://NAME::ARCHIVE."
            raise OptionError(message)
    return file


def as_folder(file: File) -> File:
    """Return an archive as the URL of all its members, and any other file as it is."""
    scheme = archive_scheme(str(file if isinstance(file, Path) else file.inside))
    if scheme is None or (isinstance(file, Path) and not file.is_file()):
        return file
    return Url(f"{scheme}://::{_full(file)}")


def as_typed(file: File) -> File | str:
    """Return a member of an archive as a user would type it, and any other file as it is.

    Examples
    --------
    >>> as_typed(Url("zip://::photos.zip")), as_typed(Url("zip://cats::photos.zip"))
    ('photos.zip', 'photos.zip/cats')
    """
    if not isinstance(file, Url) or not file.archive:
        return file
    archive = without_secrets(file.archive)
    return f"{archive}/{file.name}" if file.name else archive


def local_file(file: File) -> Path | None:
    """Return the file, or the archive with it, that is on the disk of this machine."""
    if isinstance(file, Path):
        return file
    return None if file.archive is None else local_file(as_file(file.archive))


def is_local(file: File) -> bool:
    """Return whether reading a file needs no server, whatever its URL is."""
    parts = map(as_file, file.text.split("::")) if isinstance(file, Url) else ()
    return all(isinstance(part, Path) or part.scheme in ("zip", "tar") for part in parts)


def read_file(file: File | Bytes) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    ImageError
        They cannot be read; the message is the reason, without the path or URL.
    OptionError
        A package is missing.
    """
    if isinstance(file, Bytes):
        return file.data
    try:
        if isinstance(file, Path):
            _check_regular(file)
            with file.open("rb", buffering=0) as stream:  # it is read in one piece
                return stream.readall()
        if file.archive is not None:
            return _opened(file.scheme, file.archive).read(file.name)
        system, path = _filesystem(file)
        return bytes(system.cat_file(path))
    except OptionError:
        raise
    except Exception as error:  # servers and archives raise any exception
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
            f"{quoted(folder)} cannot be listed, because web servers do not list folders. Use an "
            "image, an archive, or a table that lists the images: --manifest FILE.csv"
        )
        raise ImagesError(message)
    try:
        if folder.archive is not None:
            top, names = folder.name, _opened(folder.scheme, folder.archive, again=True).names
        else:
            system, top = _filesystem(folder)
            system.invalidate_cache()  # otherwise files added since would be missing
            names = system.find(top)
    except OptionError:
        raise
    except Exception as error:
        message = f"{quoted(folder)} cannot be listed: {_reason(error).rstrip('.')}."
        if folder.archive and folder.archive.startswith(_WEB):
            message += (
                " If the server does not send parts of files, download the whole archive: "
                f"simplecache::{without_secrets(folder.archive)}"
            )
        raise ImagesError(message) from error
    start = f"{top.strip('/')}/".lstrip("/")
    below = (name.lstrip("/") for name in names)
    return [name.removeprefix(start) for name in below if name.startswith(start)]


def _check_regular(file: Path) -> os.stat_result:
    """Refuse pipes and devices, which would be read forever."""
    facts = file.stat()
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        message = "not a regular file"
        raise OSError(message)
    return facts


# archives

_lock = threading.Lock()


def _opened(scheme: str, archive: str, *, again: bool = False) -> Archive:
    """Return an open archive; it is opened again if its file has changed."""
    file = as_file(archive)
    version: tuple[int, ...] = ()
    if isinstance(file, Path):
        facts = _check_regular(file)
        version = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    with _lock:  # otherwise two threads could decompress the same archive
        # On a server, a file may have changed without any sign of it.
        if again and isinstance(file, Url):
            _archive.cache_clear()
        return _archive(scheme, file, version)


@functools.lru_cache(maxsize=8)  # a manifest may name many archives
def _archive(scheme: str, file: File, version: tuple[int, ...]) -> Archive:
    """Open an archive, unless it is open in this version."""
    if isinstance(file, Path):
        return Archive(scheme, file.open("rb"))
    system, path = _filesystem(file)
    return Archive(scheme, system.open(path, "rb"))


def _forget() -> None:
    """Drop the archives of the parent process: a fork would share the positions in them."""
    global _lock  # noqa: PLW0603  a thread of the parent may hold it
    _lock = threading.Lock()
    _archive.cache_clear()


os.register_at_fork(after_in_child=_forget)


# fsspec


def _filesystem(url: Url) -> tuple[Any, str]:
    """Return the file system of a URL, which fsspec caches, and the path in it."""
    _check_scheme(url.scheme)
    for part in url.text.split("::"):
        if isinstance(file := as_file(part), Path) and file.exists():
            _check_regular(file)
    import fsspec

    system, path = fsspec.core.url_to_fs(url.text)
    return system, str(path)


@functools.cache
def _check_scheme(scheme: str) -> None:
    """Check that fsspec and the package for a scheme are installed.

    Raises
    ------
    OptionError
        A package is missing, or the scheme is unknown.
    """
    try:
        from fsspec import get_filesystem_class

        get_filesystem_class(scheme)
    except ImportError as error:
        command = f"pip install 'featx[urls]' {_PACKAGES.get(scheme, '')}".rstrip()
        message = f"{scheme}:// requires a package that is missing ({error}). Install it: {command}"
        raise OptionError(message) from error
    except ValueError as error:
        message = (
            f"Unknown kind of URL: {quoted(scheme + '://')}. Use s3://, gs://, https://, zip://, "
            "tar:// or another one that fsspec knows. A path is written without a scheme."
        )
        raise OptionError(message) from error


def _reason(error: Exception) -> str:
    """Return in a few words why there are no bytes."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return NOT_FOUND
        case PermissionError():
            return "permission denied"
        case IsADirectoryError():
            return "is a directory"
        case TimeoutError():
            return "timed out"
    if isinstance(status := getattr(error, "status", None), int):
        message = without_secrets(str(getattr(error, "message", "")))
        return f"the server answered {status} {message}".rstrip()
    text = error.strerror if isinstance(error, OSError) and error.filename else str(error)
    return " ".join(without_secrets(text or type(error).__name__).split())
