"""Digests of files: what identifies the bytes of an image.

A path or URL comes in; the sha256 of its bytes goes out, or the reason why it cannot be read now.
No image is decoded.
"""

import hashlib
from dataclasses import dataclass

from featx.errors import ImageError
from featx.images.urls import NOT_FOUND, File, read_file

__all__ = ["FileDigest", "read_digest"]


@dataclass(frozen=True, slots=True)
class FileDigest:
    """The digest of a file.

    Parameters
    ----------
    sha256 : str
        Digest of the bytes, in hexadecimal; "" if they cannot be read.
    reason : str
        Why they cannot be read; "" if they were read.
    """

    sha256: str = ""
    reason: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether the file does not exist."""
        return self.reason == NOT_FOUND


def read_digest(file: File) -> FileDigest:
    """Return the digest of the bytes of a file, or the reason why they cannot be read."""
    try:
        return FileDigest(hashlib.sha256(read_file(file)).hexdigest())
    except ImageError as error:
        return FileDigest(reason=str(error))
