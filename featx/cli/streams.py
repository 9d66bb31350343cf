"""The standard streams: a run works without them, and says so if its results cannot be printed.

Nothing comes in; open streams go out.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

__all__ = ["flushed_stdout", "open_standard_streams"]


def open_standard_streams() -> None:
    """Open the streams that the caller has closed, such as by ``2>&-``, on the null device.

    Otherwise the first file that featx opens, such as a store, would get the number of stderr,
    to which libraries write; and Python prints on stdout if stderr is None.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A label or a path that the terminal cannot show must not stop the run.
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def flushed_stdout() -> Iterator[None]:
    """Print what is buffered at the end of the block, so that a full disk is an error.

    Raises
    ------
    OSError
        Something cannot be printed; nothing is printed any more.
    """
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())  # Python flushes again when it ends
            os.close(null)
            if isinstance(error, BrokenPipeError):  # the reader of a pipe, such as head, has ended
                sys.exit(1)
            raise OSError(error.errno, error.strerror, "standard output") from error
