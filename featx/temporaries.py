"""Temporary files next to an output, locks, and the leftovers of killed runs.

An output comes in; a new file or folder next to it goes out, with a name that cannot be foreseen.
It stays locked as long as its run lives, so another run can see whether it is a leftover. The
system releases the locks of a killed process. This module does not know what is written.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "NO_LOCKS",
    "create_lock",
    "create_temporary",
    "is_temporary",
    "remove_leftovers",
    "temporary_folder",
]

#: Errors of file systems without locks.
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
#: The variable with which users turn off the locks of HDF5; featx reads it, too.
_LOCKING_VARIABLE = "HDF5_USE_FILE_LOCKING"
_NAME = re.compile(r"^\..*\.featx-[0-9a-f]{12}\.tmp$", re.DOTALL)
# Bytes of the output's name in the name of its temporary file: names have a limit of about 255.
_SHOWN_BYTES = 150


def create_temporary(target: Path, mode: int) -> tuple[Path, int]:
    """Create a file next to `target` and lock it, if the file system has locks.

    Parameters
    ----------
    target : Path
        The output.
    mode : int
        Its permissions, from which those of the umask are taken away.

    Returns
    -------
    path : Path
        The new file.
    file : int
        Its descriptor, which holds the lock. The caller closes it.
    """
    while True:
        path = _temporary_name(target)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        if _lock_new(file, path):
            return path, file


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder next to `target`; at the end it is removed with its content."""
    while True:
        path = _temporary_name(target)
        path.mkdir(0o700)
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        if _lock_new(file, path):
            break
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(file)


def create_lock(path: Path) -> int:
    """Create a lock file and lock it; return its descriptor, which the caller closes.

    Raises
    ------
    BlockingIOError
        Another run has locked it.
    OSError
        The file system has no locks, and the user has not turned them off.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS or not _locks_are_off():
                os.close(file)
                if error.errno in NO_LOCKS:
                    path.unlink()
                raise
        if _is_at(file, path):
            return file
        os.close(file)  # the run that had it has just ended


def is_temporary(path: Path) -> bool:
    """Return whether a name is that of a temporary file of a run, living or killed."""
    return _NAME.search(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of killed runs in a folder.

    Those that a living run has locked are kept; where locks do not exist, all of them are.
    """
    with contextlib.suppress(OSError):
        for path in filter(is_temporary, list(folder.iterdir())):
            with contextlib.suppress(OSError):
                _remove_leftover(path)


def _remove_leftover(path: Path) -> None:
    access = os.O_RDONLY if path.is_dir() else os.O_RDWR
    file = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
            return
        # Keras writes NAME.SUFFIX first, which belongs to NAME.
        for other in [each for each in path.parent.iterdir() if each.name.startswith(path.name)]:
            other.unlink()
    finally:
        os.close(file)


def _temporary_name(target: Path) -> Path:
    start = os.fsencode(target.name)[:_SHOWN_BYTES].decode(errors="ignore")
    return target.with_name(f".{start}.featx-{secrets.token_hex(6)}.tmp")


def _lock_new(file: int, path: Path) -> bool:
    """Lock a new file; return False, and close it, if another run removed it before."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if _is_at(file, path):
        return True
    os.close(file)
    return False


def _locks_are_off() -> bool:
    return os.environ.get(_LOCKING_VARIABLE, "").upper() in {"FALSE", "0"}


def _is_at(file: int, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False
