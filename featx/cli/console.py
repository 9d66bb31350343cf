"""What the verbs share: results on stdout, progress on stderr, common flags.

Text and numbers come in; what a person reads, or one JSON object, goes out.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from featx.network import Device

__all__ = [
    "AsJson",
    "Dtype",
    "Overwrite",
    "Pool",
    "Quiet",
    "Size",
    "duration",
    "gigabytes",
    "print_json",
    "print_table",
    "progress_bar",
    "say",
    "say_notes",
    "start_backend",
    "stoppable",
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Dtype = Annotated[str, typer.Option(metavar="float32|float16", help="Numbers in the store.")]
Pool = Annotated[
    str, typer.Option(metavar="none|avg|max|avg+max|grid:N|bilinear", help="What becomes of a map.")
]
Size = Annotated[str, typer.Option(metavar="224|HxW", help="Image size for the network.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]

# Without a terminal, a line of progress now and then is enough for a log.
_SECONDS_BETWEEN_LINES = 10


def say(text: str, *, quiet: bool) -> None:
    """Print a line for the user on stderr, unless it should be quiet."""
    if not quiet:
        print(text, file=sys.stderr)


def say_notes(notes: Iterable[str], *, quiet: bool) -> None:
    """Say what the user should know, a line each."""
    for note in notes:
        say(f"note: {note}", quiet=quiet)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(content, indent=2))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; columns of numbers stand to the right."""
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
        print("  ".join(padded).rstrip())


def gigabytes(n_bytes: int) -> str:
    """Spell an amount of bytes.

    Examples
    --------
    >>> gigabytes(963_379_200), gigabytes(4_915_200)
    ('0.96 GB', '4.92 MB')
    """
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.2f} MB"


def duration(seconds: float) -> str:
    """Spell a time.

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

    A bar with the rate and the time left where stderr is a terminal, else a
    line every ten seconds. Where fewer are done than before, a new round has begun.
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
    """Where Ctrl-C stops the block, say what is kept in `path`, and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "keeps what is done" if path.exists() else "is not there yet"
        say(f"Stopped. {path} {kept}; the same command goes on.", quiet=False)
        raise typer.Exit(130) from None


def start_backend(device: str) -> tuple["Device", str]:
    """Import Keras's backend; return the device that it will use, and both in words.

    TensorFlow greets its user with a dozen lines on stderr that are no
    concern of featx's user; they are kept back unless the start fails.
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
        # The rate counts from the first batch, in which the network compiles, and
        # before which a run that goes on has rows of an earlier one.
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
