"""Filling rows of stores: copied from an earlier store, or computed and written.

Rows, and writers of the stores that get them, come in. The number of rows that are safe on
the disk goes out after each batch. Rows are written without a lock, so several threads, and
several processes, may fill the same stores. While the disk is slow, a few batches wait for it,
and the network computes the next ones.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import StoreError
from featx.extraction.passes import Pass, PassOutput
from featx.extraction.pipeline import CodeBatch, Failure
from featx.extraction.resuming import ReusableRow
from featx.extraction.timings import Pace
from featx.store import ImageFacts, StoreWriter

__all__ = ["copy_into", "copy_rows", "fill_rows"]

# Threads that write. The kernel copies bytes into a file with one thread at a time, but the others
# check, convert and sync rows meanwhile (benchmarks/writer.py).
_WRITERS = 3
# Batches that are written or wait to be, at most: a kill loses them, and they are in memory.
_UNSAFE_BATCHES = 8
_UNSAFE_BYTES = 2**30


def copy_into(path: Path, rows: Sequence[ReusableRow]) -> None:
    """Copy rows of earlier stores into a store that nobody else writes."""
    with StoreWriter(path) as writer:
        for _ in copy_rows(writer, rows):
            pass


def copy_rows(writer: StoreWriter, rows: Sequence[ReusableRow]) -> Iterator[int]:
    """Copy rows of earlier stores in blocks; yield the number of rows copied so far."""
    n_copied = 0
    for store in {each.store.path: each.store for each in rows}.values():
        own = [each for each in rows if each.store.path == store.path]
        thumbnails = store.thumbnails()
        for block in store.row_blocks(np.arange(len(own))):
            part = [own[k] for k in block]
            source_rows = [each.source_row for each in part]
            facts = [
                ImageFacts(str(store.images.sha256[row]), int(store.images.phash[row]), thumbnail)
                for row, thumbnail in zip(source_rows, thumbnails[source_rows], strict=True)
            ]
            writer.write_done(np.array([each.row for each in part]), _stored_codes(part), facts)
            n_copied += len(part)
            yield n_copied


def fill_rows(
    each: Pass,
    stream: Callable[..., Generator[CodeBatch, None, None]],
    writers: Sequence[StoreWriter],
    pace: Pace,
) -> Generator[int, None, None]:
    """Compute and write the rows of a pass; yield the number of rows of each written batch.

    `stream` is `stream_codes` for the files and rows of the pass; it is called with the pace.
    """
    batches = stream(pace=pace)

    def write(batch: _Batch) -> None:
        with pace.write.work():
            for output in each.outputs:
                writer = writers[output.job]
                if len(batch.rows):
                    codes = _codes_of_output(batch, output)
                    writer.write_codes(batch.rows, codes, batch.facts)
                if batch.failures:
                    reasons = [failure.reason for failure in batch.failures]
                    digests = [failure.sha256 for failure in batch.failures]
                    writer.write_reasons(batch.failed, reasons, digests)

    def mark(written: Sequence[_Batch]) -> None:
        done = np.concatenate([batch.rows for batch in written])
        failed = np.concatenate([batch.failed for batch in written])
        with pace.write.work():
            for output in each.outputs:
                writers[output.job].mark(done=done, failed=failed)

    # The generators are always closed, so that nothing writes after the files are closed.
    with (
        contextlib.closing(batches),
        contextlib.closing(_write_in_background(map(_Batch.of, batches), write, mark)) as written,
    ):
        yield from written


@dataclass(frozen=True)
class _Batch:
    """The part of a `CodeBatch` that is written; the pixels of its images are not kept."""

    rows: NDArray[np.integer]
    codes: dict[str, NDArray[np.floating]]
    facts: tuple[ImageFacts, ...]
    failures: tuple[Failure, ...]

    @classmethod
    def of(cls, batch: CodeBatch) -> "_Batch":
        facts = tuple(ImageFacts(each.sha256, each.phash, each.thumbnail) for each in batch.images)
        return cls(batch.rows, batch.codes, facts, batch.failures)

    @property
    def failed(self) -> NDArray[np.integer]:
        return np.array([failure.row for failure in self.failures], np.int64)

    @property
    def n_images(self) -> int:
        return len(self.rows) + len(self.failures)

    @property
    def n_bytes(self) -> int:
        return sum(codes.nbytes for codes in self.codes.values())


class _Marking:
    """Marks batches that have been written; one sync serves all that were written before it.

    Threads call it, each with a batch that it has written. While one of them syncs, the others
    write and then wait, so the next sync is for all of their batches.
    """

    def __init__(self, mark: Callable[[Sequence[_Batch]], None]) -> None:
        self._mark = mark
        self._written: deque[_Batch] = deque()
        self._turn = threading.Lock()
        self._error: Exception | None = None

    def __call__(self, batch: _Batch) -> None:
        """Return when the batch is marked."""
        self._written.append(batch)
        with self._turn:
            if self._error is not None:  # the batch may be one of those that were not marked
                raise self._error
            together = [self._written.popleft() for _ in range(len(self._written))]
            if together:  # otherwise another thread has marked the batch
                try:
                    self._mark(together)
                except Exception as error:
                    self._error = error
                    raise


def _write_in_background(
    batches: Iterable[_Batch],
    write: Callable[[_Batch], None],
    mark: Callable[[Sequence[_Batch]], None],
) -> Generator[int, None, None]:
    """Write and mark batches while the next ones are computed; yield the sizes of marked ones."""
    marking = _Marking(mark)

    def save(batch: _Batch) -> int:
        write(batch)
        marking(batch)
        return batch.n_images

    unsafe: deque[Future[int]] = deque()
    with ThreadPoolExecutor(_WRITERS) as threads:
        for batch in batches:
            unsafe.append(threads.submit(save, batch))
            affordable = max(2, _UNSAFE_BYTES // max(1, batch.n_bytes))
            while unsafe and (unsafe[0].done() or len(unsafe) >= min(_UNSAFE_BATCHES, affordable)):
                yield unsafe.popleft().result()
        while unsafe:
            yield unsafe.popleft().result()


def _codes_of_output(batch: _Batch, output: PassOutput) -> dict[str, NDArray[np.floating]]:
    """Return the codes of a job's layers: the computed ones, and those of its earlier store."""
    codes = {layer: batch.codes[name] for layer, name in output.names.items()}
    if not output.reusable:
        return codes
    earlier = [output.reusable[row] for row in batch.rows.tolist()]
    if any(a.sha256 not in {"", b.sha256} for a, b in zip(earlier, batch.facts, strict=True)):
        message = "An image was edited during the run. Run the same command again."
        raise StoreError(message)
    return codes | _stored_codes(earlier)


def _stored_codes(rows: Sequence[ReusableRow]) -> dict[str, NDArray[np.floating]]:
    """Read the codes of rows of one earlier store."""
    store, source_rows = rows[0].store, np.array([each.source_row for each in rows])
    return {
        layer: store.read_rows(layer, source_rows).reshape(-1, *store.recipe.code_shape(layer))
        for layer in store.recipe.layers
    }
