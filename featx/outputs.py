"""Writing files: nothing is overwritten without permission, and no file is left half written.

A path comes in; it is checked before the work starts, and later a complete file appears there,
or none. This module does not know the contents of the files.
"""

import contextlib
import csv
import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from featx.errors import BusyError, ExistsError, OptionError, OutputError
from featx.temporaries import (
    NO_LOCKS,
    create_lock,
    create_temporary,
    remove_leftovers,
)
from featx.text import quoted

__all__ = [
    "check_output",
    "is_full",
    "log_missing_names",
    "made_folder",
    "sole_writer",
    "whole_file",
    "write_csv",
]

logger = logging.getLogger(__name__)

# A lock is ".NAME.lock", an unfinished store "NAME.part".
_ADDED_BYTES = len("..lock")
#: Texts that pandas.read_csv takes for a missing value by default; an empty one is one here, too.
_MISSING_IN_PANDAS = {
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
}
_NO_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


def check_output(path: Path | str, *, overwrite: bool, suffixes: Sequence[str] = ()) -> Path:
    """Check, before the work starts, that a file may be written.

    Parameters
    ----------
    path : Path or str
        The output file.
    overwrite : bool
        Whether an existing file may be replaced.
    suffixes : sequence of str, optional
        Allowed suffixes; any by default.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OptionError
        The suffix is not allowed, the folder does not exist or is not writable, or the path
        is a folder or a device.
    ExistsError
        The file exists and may not be replaced.
    """
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        names = " or ".join(f"-o NAME{suffix}" for suffix in suffixes)
        message = f"The format of {quoted(path.name)} is not clear from its name. Use {names}."
        raise OptionError(message)
    try:
        _check_place(_target(path), path)
        if path.exists() and not overwrite:
            message = f"{path} exists. Use --overwrite to replace it, or another -o."
            raise ExistsError(message)
    except OSError as error:  # a loop of links, a path that is too long, a folder without rights
        raise OptionError(_cannot_write(path, error)) from error
    return path


def _check_place(target: Path, path: Path) -> None:
    """Check that a file may be created or replaced at a place; `path` is its name in messages."""
    folder = target.absolute().parent
    if not folder.is_dir():
        raise OptionError(_no_folder(target))
    if not os.access(folder, os.W_OK):
        message = f"Cannot write {path}: the folder {folder} is not writable. Use another -o."
        raise OptionError(message)
    if target.exists() and not target.is_file():
        message = f"{path} is not a regular file and is never replaced. Use another -o."
        raise OptionError(message)
    longest = os.pathconf(folder, "PC_NAME_MAX") - _ADDED_BYTES
    if len(os.fsencode(target.name)) > longest:
        message = (
            f"The file name {quoted(target.name)} has {len(os.fsencode(target.name))} bytes, but "
            f"at most {longest} are possible there. Use -o with another name."
        )
        raise OptionError(message)


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Create a folder if there is none; if the block fails, a new folder is removed again.

    Raises
    ------
    OptionError
        It is a file, or it cannot be created.
    """
    new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        message = f"{folder} is not a folder, but the output is one. Use another -o."
        raise OptionError(message) from error
    except OSError as error:
        raise OptionError(_cannot_write(folder, error)) from error
    try:
        yield
    except BaseException:
        if new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; the file is renamed to `path` at the end.

    An existing file is replaced in one step, after the new bytes are on the disk, and its
    permissions are kept. If the block fails, the old file is kept, and the temporary file is
    removed. The temporary file is locked, so other runs can see that it is not a leftover.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    try:
        target = _target(path)
        remove_leftovers(target.parent)
        old = target.stat() if target.exists() else None
        temporary, file = create_temporary(target, 0o666 if old is None else 0o600)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    try:
        yield temporary
        if old is not None:
            temporary.chmod(stat.S_IMODE(old.st_mode))
        _sync(file)
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        os.close(file)


def log_missing_names(path: Path | str, names: Iterable[str | None]) -> None:
    """Log how to read a CSV file with names that pandas takes for missing values, such as NA."""
    missing = sorted({name for name in names if name in _MISSING_IN_PANDAS})
    if missing and Path(path).suffix.lower() == ".csv":
        logger.warning(
            "pandas.read_csv takes %s for a missing value. Read the table with: "
            "pandas.read_csv(%r, keep_default_na=False, na_values=[''])",
            *(" and ".join(map(quoted, missing)), str(path)),
        )


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; None becomes an empty cell.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with (
        whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([header, *rows])


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Keep every other run from writing `path` until the block ends.

    The lock is one of the operating system, on a hidden file next to `path`. It ends with the
    process, even if that is killed, and it does not block readers.

    Raises
    ------
    BusyError
        Another run, on this machine or on one that shares the folder, has the lock.
    """
    try:
        target = _target(path)
        remove_leftovers(target.parent)
        name = target.with_name(f".{target.name}.lock")
        lock = create_lock(name)
    except BlockingIOError as error:
        message = f"Another run is writing {path}. Wait until it ends, or use another -o."
        raise BusyError(message) from error
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            name.unlink()  # while it is locked: a later run creates its own
        os.close(lock)


def is_full(error: OSError) -> bool:
    """Return whether an error means that a disk, a quota or a file size is exhausted."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _target(path: Path) -> Path:
    """Return the file to write: that of a symbolic link, which is kept, or `path`."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def _sync(file: int) -> None:
    """Wait until the bytes of a file are on the disk."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # the file is complete in any case
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _no_folder(path: Path) -> str:
    folder = path.absolute().parent
    return f"Cannot write {path}: the folder {folder} does not exist. Create it, or use another -o."


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno in {errno.ENOENT, errno.ENOTDIR} and not path.absolute().parent.is_dir():
        return _no_folder(path)
    if is_full(error):
        free = shutil.disk_usage(path.parent).free / 1e9
        return (
            f"Not enough space for {path}: {free:.2f} GB are free in {path.parent}. "
            "Free some space, or use -o on another disk."
        )
    if error.errno in NO_LOCKS:
        return (
            f"Cannot write {path}: the file system of {path.absolute().parent} has no file locks "
            f"({os.strerror(error.errno)}), so featx cannot see whether another run writes the "
            "same file. Use -o on another disk; or, if no other run does, set "
            "HDF5_USE_FILE_LOCKING=FALSE and run the same command again."
        )
    # The text of an HDF5 error is a paragraph.
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"Cannot write {path}: {reason}. Use another -o."
