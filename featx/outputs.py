"""Writing files: nothing is overwritten without permission, and no file is left half written.

A path comes in; it is checked before the work starts, and later a complete file appears there,
or none. This module does not know the contents of the files.
"""

import contextlib
import csv
import errno
import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from featx.errors import BusyError, ExistsError, OptionError, OutputError

__all__ = [
    "check_output",
    "is_full",
    "made_folder",
    "remove_leftovers",
    "sole_writer",
    "whole_file",
    "write_csv",
]


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
    folder = path.absolute().parent
    if suffixes and path.suffix not in suffixes:
        names = " or ".join(f"-o NAME{suffix}" for suffix in suffixes)
        message = f"The format of {path.name} is not clear from its name. Use {names}."
    elif not folder.is_dir():
        message = _no_folder(path)
    elif not os.access(folder, os.W_OK):
        message = f"Cannot write {path}: the folder {path.parent} is not writable. Use another -o."
    elif path.exists() and not path.is_file():
        message = f"{path} is not a regular file and is never replaced. Use another -o."
    elif path.exists() and not overwrite:
        message = f"{path} exists. Use --overwrite to replace it, or another -o."
        raise ExistsError(message)
    else:
        return path
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
        message = f"{folder} is a file, but the output is a folder. Use another -o."
        raise OptionError(message) from error
    except OSError as error:
        raise OptionError(_cannot_write(folder, error)) from error
    try:
        yield
    except BaseException:
        if new:
            folder.rmdir()
        raise


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; the file is renamed to `path` at the end.

    An existing file is replaced in one step. If the block fails, it is kept, and the
    temporary file is removed.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    target = path.resolve() if path.is_symlink() else path  # a link is kept
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
    import filelock

    target = path.resolve()
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        message = f"Another run is writing {path}. Wait until it ends, or use another -o."
        raise BusyError(message) from error
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is locked: a later run creates its own
        lock.release()


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of killed runs; only the sole writer may call this."""
    target = path.resolve()
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def is_full(error: OSError) -> bool:
    """Return whether an error means that a disk, a quota or a file size is exhausted."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _no_folder(path: Path) -> str:
    folder = path.absolute().parent
    return f"Cannot write {path}: the folder {folder} does not exist. Create it, or use another -o."


def _cannot_write(path: Path, error: OSError) -> str:
    if not path.absolute().parent.is_dir():
        return _no_folder(path)
    if is_full(error):
        free = shutil.disk_usage(path.parent).free / 1e9
        return (
            f"Not enough space for {path}: {free:.2f} GB are free in {path.parent}. "
            "Free some space, or use -o on another disk."
        )
    # The text of an HDF5 error is a paragraph.
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"Cannot write {path}: {reason}. Use another -o."
