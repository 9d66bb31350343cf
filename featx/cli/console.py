"""Output, progress and clusters for all verbs: results on stdout, progress on stderr.

Text and numbers come in; lines for people, or one JSON object for programs, go out.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from featx.errors import OptionError
from featx.text import counted, escaped

if TYPE_CHECKING:
    from featx.cluster import Cluster
    from featx.network import Device

__all__ = [
    "duration",
    "gigabytes",
    "on_cluster",
    "place",
    "print_json",
    "print_table",
    "progress_bar",
    "say",
    "say_notes",
    "show",
    "start_backend",
    "stoppable",
]

# Without a terminal, a line of progress now and then is enough for a log.
_SECONDS_BETWEEN_LINES = 10


def show(text: object = "") -> None:
    """Print a line on stdout, with control characters of names escaped."""
    print(escaped(str(text)))


def say(text: str, *, quiet: bool) -> None:
    """Print a line on stderr, unless `quiet`, with control characters of names escaped.

    A run does not end because its progress cannot be printed, such as on a closed terminal.
    """
    if not quiet:
        with suppress(OSError):
            print(escaped(text), file=sys.stderr)


def say_notes(notes: Iterable[str], *, quiet: bool) -> None:
    """Print warnings and other notes on stderr, one per line, unless `quiet`."""
    for note in notes:
        say(f"note: {note}", quiet=quiet)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(content, indent=2))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; columns of numbers are aligned to the right."""
    cells = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [
        all(row[k][:1].isdigit() or row[k] in {"", "-"} for row in cells)
        for k in range(len(header))
    ]
    for row in [list(header), *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        show("  ".join(padded).rstrip())


def gigabytes(n_bytes: int) -> str:
    """Return a number of bytes with its unit.

    Examples
    --------
    >>> gigabytes(963_379_200), gigabytes(4_915_200)
    ('0.96 GB', '4.92 MB')
    """
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.2f} MB"


def duration(seconds: float) -> str:
    """Return a time with its unit.

    Examples
    --------
    >>> duration(42.3), duration(4_000), duration(90_000)
    ('42 s', '1 h 07 min', '25 h 00 min')
    """
    if seconds < 600:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that shows progress on stderr.

    It shows a bar with the rate and the remaining time if stderr is a terminal, and prints
    a line every ten seconds otherwise. When `done` decreases, a new round has started.
    """
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=None, rate="")

            def show(done: int, total: int) -> None:
                if done < bar.tasks[0].completed:
                    bar.reset(task)
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed or 0
                bar.update(task, completed=done, total=total, rate=f"{speed:.1f} images/s")

            yield show
    else:
        yield _lines(what)


@contextmanager
def stoppable(path: Path) -> Iterator[None]:
    """Exit with 130 if Ctrl-C stops the block, and print what is kept in `path`."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "keeps the finished work" if path.exists() else "does not exist yet"
        say(f"Stopped. {path} {kept}. Run the same command again to continue.", quiet=False)
        raise typer.Exit(130) from None


def place(device: str, cluster: str | None) -> tuple[str, str | None]:
    """Return the device and the cluster to use; several GPUs are a local cluster.

    Raises
    ------
    OptionError
        Both a cluster and all GPUs of this machine are requested.
    """
    if device != "gpu:all":
        return device, cluster
    if cluster is not None:
        message = (
            f"--device gpu:all starts a cluster on this machine, so it cannot be used with "
            f"--cluster {cluster}. Leave out one of them."
        )
        raise OptionError(message)
    from featx.network.devices import count_gpus

    n_gpus = count_gpus()
    return "gpu", f"gpus:{n_gpus}" if n_gpus > 1 else None


@contextmanager
def on_cluster(name: str | None, *, quiet: bool) -> Iterator["Cluster | None"]:
    """Connect to the named cluster, if any, and print the address of its dashboard."""
    if name is None:
        yield None
        return
    from featx.cluster import connect

    with connect(name, lambda text: say(text, quiet=quiet)) as cluster:
        n_workers = counted(len(cluster.workers), "worker")
        say(f"cluster {name}: {n_workers}, dashboard {cluster.dashboard}", quiet=quiet)
        yield cluster


def start_backend(device: str) -> tuple["Device", str]:
    """Import the backend of Keras; return the device that it will use, and a description of both.

    TensorFlow logs a dozen lines on stderr when it starts, which do not concern users of
    featx; they are shown only if the start fails.
    """
    with _native_stderr_kept_back():
        from featx.network import find_device

        found = find_device(device)
        import keras

        keras.ops.zeros(1)
    return found, f"{found.description} ({keras.backend.backend()})"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}", justify="right")
    console = Console(stderr=True)
    return Progress(*columns, rate, TimeLeft(), console=console, transient=True)


def _lines(what: str) -> Callable[[int, int], None]:
    began = last = 0.0
    first: int | None = None
    before = 0

    def show(done: int, total: int) -> None:
        nonlocal began, last, first, before
        now = time.monotonic()
        if done < before:
            first = None
        before = done
        # The rate is measured after the first batch: the network compiles during that batch,
        # and a resumed run starts with the images of an earlier run.
        if first is None:
            began = last = now
            first = done
        elif now - last >= _SECONDS_BETWEEN_LINES and done < total:
            last = now
            rate = (done - first) / (now - began)
            left = (total - done) / rate
            say(f"{what}: {done} of {total}, {rate:.1f} images/s, {left:.0f} s left", quiet=False)

    return show


@contextmanager
def _native_stderr_kept_back() -> Iterator[None]:
    with suppress(OSError):
        sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        saved = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(saved, kept.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
