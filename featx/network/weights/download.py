"""Keras's release of VGG19, from a cache or downloaded and verified.

The choice of the file, with or without the fully connected layers, comes in; the path of
a file with the right md5 goes out. This file does not know what a weights file holds.
"""

import hashlib
import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from featx.errors import WeightsError

__all__ = ["IMAGENET_URL", "NOTOP", "TOP", "Release", "cached_imagenet", "fetch_imagenet"]

logger = logging.getLogger(__name__)

#: Address of the folder with Keras's release files.
IMAGENET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"


@dataclass(frozen=True)
class Release:
    """One file of Keras's release.

    Parameters
    ----------
    name : str
        Name of the file.
    md5 : str
        Its md5 in hexadecimal, as in keras.applications.vgg19.
    size : str
        Its size with a unit, for messages.
    """

    name: str
    md5: str
    size: str


#: The 16 convolutions.
NOTOP = Release(
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "253f8cb515780f3b799900260a226db6", "80 MB"
)
#: The 16 convolutions and the classifier of ImageNet.
TOP = Release(
    "vgg19_weights_tf_dim_ordering_tf_kernels.h5", "cbe5617147190e668d6c5d5026f83318", "575 MB"
)


def cached_imagenet(*, top: bool) -> Path | None:
    """Return Keras's release file if a cache holds it with the right md5; download nothing.

    Parameters
    ----------
    top : bool
        Return the file that also has fc1 and fc2.
    """
    release = TOP if top else NOTOP
    for file in (_keras_cache() / release.name, _own_cache() / release.name):
        if file.is_file() and _md5(file) == release.md5:
            return file
    return None


def fetch_imagenet(*, top: bool, progress: bool = False) -> Path:
    """Return Keras's release file, from a cache or downloaded.

    Keras's own cache is searched first, then the cache of featx, whose folder the
    environment variable FEATX_CACHE can set. A downloaded file gets its final name only
    after its md5 was verified.

    Parameters
    ----------
    top : bool
        Return the file that also has fc1 and fc2.
    progress : bool, default=False
        Show a progress bar on stderr during a download.

    Returns
    -------
    Path
        The file, with a verified md5.

    Raises
    ------
    WeightsError
        No cache holds the file, and it cannot be downloaded.
    """
    release = TOP if top else NOTOP
    keras_file = _keras_cache() / release.name
    if keras_file.is_file():
        if _md5(keras_file) == release.md5:
            return keras_file
        logger.warning("%s is not used: its md5 differs from that of Keras's release.", keras_file)
    import pooch  # imported here because it imports requests, which is slow

    folder, url = _own_cache(), IMAGENET_URL + release.name
    if not (folder / release.name).is_file():
        logger.info("Downloading %s (%s) to %s", url, release.size, folder)
    pooch.get_logger().setLevel(logging.WARNING)  # the log line above replaces its messages
    with ExitStack() as stack:
        bar = stack.enter_context(_Bar(release.name)) if progress else False
        try:
            found = pooch.retrieve(
                url,
                known_hash=f"md5:{release.md5}",
                fname=release.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16),
            )
        except (OSError, ValueError) as error:
            raise WeightsError(_failure(error, url, release, folder)) from error
    return Path(found)


def _failure(error: Exception, url: str, release: Release, folder: Path) -> str:
    """Return the message for a failed download: the reason and the alternatives."""
    response = getattr(error, "response", None)
    if isinstance(error, OSError) and error.strerror:
        reason = f"{folder} cannot be written: {error.strerror}"
    elif response is not None:
        response.close()  # pooch leaves it open
        reason = f"the server returned status {response.status_code}"
    elif isinstance(error, OSError):
        reason = f"the connection to {urlsplit(url).netloc} failed ({type(error).__name__})"
    else:
        reason = "the downloaded file has another md5 and was deleted"
    only = " with a layer up to block5_pool" if release is TOP else ""
    return (
        f"Could not download {url}: {reason}. Expected a file of {release.size} with the md5 "
        f"{release.md5}, to be stored in {folder} (FEATX_CACHE sets another folder). Use --weights "
        f"bundled{only}, or download the file yourself and use --weights FILE."
    )


class _Bar:
    """A progress bar on stderr, with the methods that pooch calls."""

    total = 0  # bytes; pooch sets it

    def __init__(self, name: str) -> None:
        from rich.console import Console  # imported here because it is rarely needed
        from rich.progress import DownloadColumn, Progress

        columns = (*Progress.get_default_columns(), DownloadColumn())
        terminal = sys.stderr.isatty()
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not terminal)
        self._task = self._progress.add_task(name, total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, n_bytes: int) -> None:
        self._progress.update(self._task, advance=n_bytes, total=self.total)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Do nothing: the bar closes with its context, after a failure as well."""


def _keras_cache() -> Path:
    """Return the folder in which Keras keeps its own downloads."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def _own_cache() -> Path:
    """Return the folder in which featx keeps its downloads."""
    import pooch  # imported here because it imports requests, which is slow

    return Path(os.environ.get("FEATX_CACHE") or pooch.os_cache("featx")).expanduser()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        # Keras chose this checksum. It is not used for security, so FIPS mode allows it.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
