"""Unpacking within limits: a small archive cannot fill the memory or the disk.

A member of a zip file, or a compressed stream, comes in; its bytes or a copy go out, or an error
as soon as it grows more than a hundredfold. The sizes that an archive states are not trusted.
This module does not know the meaning of the bytes.
"""

import zipfile
from collections.abc import Iterator
from typing import IO

__all__ = ["SMALL", "GrowthError", "check_growth", "copy_within", "member_chunks", "read_member"]

#: Bytes that are never refused, because any memory has them.
SMALL = 64_000_000
# Photographs and trained weights hardly shrink; drawings and empty images do, by less than this.
_MOST_GROWTH = 100

_MEGABYTE = 1 << 20
# zipfile decompresses whatever it reads: 4 kB of bzip2 can become 80 MB.
_STEPS = {zipfile.ZIP_STORED: _MEGABYTE, zipfile.ZIP_DEFLATED: 1 << 16}
_SMALLEST_STEP = 1 << 12


class GrowthError(ValueError):
    """Raised if data would unpack to more than a hundred times their size."""


def check_growth(packed: int, unpacked: int, small: int = SMALL) -> None:
    """Refuse data that grow more than a hundredfold, unless they are small.

    Raises
    ------
    GrowthError
        They do.
    """
    if unpacked > max(small, _MOST_GROWTH * packed):
        message = f"{packed:,} bytes would unpack to {unpacked:,} or more"
        raise GrowthError(message)


def member_chunks(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, small: int = SMALL
) -> Iterator[bytes]:
    """Yield the bytes of a member of a zip file in chunks.

    Raises
    ------
    GrowthError
        They would be more than a hundred times those in the archive.
    """
    check_growth(member.compress_size, member.file_size, small)
    step = _STEPS.get(member.compress_type, _SMALLEST_STEP)
    with archive.open(member) as stream:  # which ends after `file_size` bytes
        while chunk := stream.read(step):
            yield chunk


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member of a zip file, under the limits of `member_chunks`."""
    return b"".join(member_chunks(archive, member))


def copy_within(stream: IO[bytes], target: IO[bytes], packed: int, small: int = SMALL) -> None:
    """Copy a stream that is being decompressed from `packed` bytes.

    Raises
    ------
    GrowthError
        It has more than a hundred times as many bytes.
    """
    n_bytes = 0
    while chunk := stream.read(_MEGABYTE):
        n_bytes += len(chunk)
        check_growth(packed, n_bytes, small)
        target.write(chunk)
