"""How featx writes files: nothing overwritten unasked, nothing half-written.

A path comes in; it is checked before work starts, and later a file appears
there whole or not at all. This file does not know what is in the files.
"""

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from featx.errors import BusyError, ExistsError, OptionError, OutputError

__all__ = [
    "check_folder",
    "check_output",
    "is_full",
    "made_folder",
    "remove_leftovers",
    "sole_writer",
    "whole_file",
]


def check_output(path: Path | str, *, overwrite: bool, suffixes: Sequence[str] = ()) -> Path:
    """Make sure, before work starts, that a file may be written.

    Parameters
    ----------
    path : Path or str
        The file to be.
    overwrite : bool
        Whether a file of that name may be replaced.
    suffixes : sequence of str, optional
        Endings that say its format; any by default.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OptionError
        The name has another ending, its folder is missing or may not be
        written, or it is a folder or a device.
    ExistsError
        The file exists and may not be replaced.
    """
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        names = " or ".join(f"-o NAME{suffix}" for suffix in suffixes)
        message = f"Cannot tell a format from {path.name}. Expected {names}."
        raise OptionError(message)
    if not path.absolute().parent.is_dir():
        raise OptionError(_no_folder(path))
    if not os.access(path.absolute().parent, os.W_OK):
        message = f"Cannot write {path}: nobody may write into {path.parent}. Choose another -o."
        raise OptionError(message)
    if path.exists() and not path.is_file():
        message = f"{path} exists and is no ordinary file: it is not replaced. Choose another -o."
        raise OptionError(message)
    if path.exists() and not overwrite:
        message = f"{path} exists. Use --overwrite to replace it, or another -o."
        raise ExistsError(message)
    return path


def check_folder(folder: Path) -> Path:
    """Make sure, before work starts, that a folder is there or may be made.

    Raises
    ------
    OptionError
        It is a file, or there is nothing to make it in.
    """
    if folder.exists() and not folder.is_dir():
        message = f"{folder} is a file. Expected a folder: choose another -o."
        raise OptionError(message)
    if not folder.absolute().parent.is_dir():
        message = f"No folder {folder.absolute().parent} to make {folder.name} in. Make it first."
        raise OptionError(message)
    return folder


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder where there is none; if the block fails, one that was made goes again."""
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            folder.rmdir()
        raise


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; the file gets its own name at the end.

    A file that stood there is replaced at once; if the block fails, it stays,
    and what was written is removed.

    Raises
    ------
    OutputError
        The system refused to write.
    """
    target = path.resolve() if path.is_symlink() else path  # a link stays, its target is written
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Keep every other run from writing `path` until the block ends.

    The lock is one of the system, on a hidden file beside `path`: it ends with
    its process, however that ends, and it does not hinder readers.

    Raises
    ------
    BusyError
        Another run, on this machine or on one that shares the folder, has it.
    """
    import filelock

    target = path.resolve()
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        message = (
            f"{path} is being written by another run. Wait until that has ended, or use another -o."
        )
        raise BusyError(message) from error
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is held: a later run makes its own
        lock.release()


def remove_leftovers(path: Path) -> None:
    """Remove what runs that were killed in `whole_file` left; call it as the sole writer."""
    target = path.resolve()
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def is_full(error: OSError) -> bool:
    """Say whether an error means that there is no room: disk, quota or file size."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _no_folder(path: Path) -> str:
    return f"No folder {path.parent} to write {path.name} into. Make it, or another -o."


def _cannot_write(path: Path, error: OSError) -> str:
    if not path.absolute().parent.is_dir():
        return _no_folder(path)
    if is_full(error):
        free = shutil.disk_usage(path.parent).free / 1e9
        return (
            f"No room for {path}: {free:.2f} GB are free in {path.parent}. "
            "Make room, or use -o on another disk."
        )
    # HDF5 puts a paragraph where the system has a few words.
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"Cannot write {path}: {reason}. Choose another -o."
