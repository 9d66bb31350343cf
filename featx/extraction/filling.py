"""Filling rows of stores: copied from an earlier store, or computed and written.

Rows, and writers of the stores that get them, come in. The number of rows that are safe on
the disk goes out after each batch. Rows are written without a lock, so several processes
may fill the same stores.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import StoreError
from featx.extraction.passes import Pass, PassOutput
from featx.extraction.pipeline import CodeBatch
from featx.extraction.resuming import ReusableRow
from featx.extraction.timings import Pace
from featx.store import ImageFacts, StoreWriter

__all__ = ["copy_into", "copy_rows", "fill_rows"]


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
    write = partial(_write, writers, each.outputs, pace)
    # The generator is always closed, so that nothing writes after the files are closed.
    with contextlib.closing(_write_in_background(batches, write)) as written:
        yield from written


def _write_in_background(
    batches: Generator[CodeBatch, None, None], write: Callable[[CodeBatch], None]
) -> Generator[int, None, None]:
    """Write each batch while the next one is computed; yield the size of each written batch."""
    with contextlib.closing(batches), ThreadPoolExecutor(1) as thread:
        previous: tuple[Future[None], int] | None = None
        for batch in batches:
            if previous is not None:
                previous[0].result()
                yield previous[1]
            previous = thread.submit(write, batch), batch.n_images
        if previous is not None:
            previous[0].result()
            yield previous[1]


def _write(
    writers: Sequence[StoreWriter], outputs: Sequence[PassOutput], pace: Pace, batch: CodeBatch
) -> None:
    with pace.write.work():
        facts = [ImageFacts(each.sha256, each.phash, each.thumbnail) for each in batch.images]
        for output in outputs:
            writer = writers[output.job]
            if len(batch.rows):
                writer.write_done(batch.rows, _codes_of_output(batch, output), facts)
            if batch.failures:
                writer.write_failed(
                    np.array([failure.row for failure in batch.failures]),
                    [failure.reason for failure in batch.failures],
                    [failure.sha256 for failure in batch.failures],
                )


def _codes_of_output(batch: CodeBatch, output: PassOutput) -> dict[str, NDArray[np.floating]]:
    """Return the codes of a job's layers: the computed ones, and those of its earlier store."""
    codes = {layer: batch.codes[name] for layer, name in output.names.items()}
    if not output.reusable:
        return codes
    earlier = [output.reusable[row] for row in batch.rows.tolist()]
    if any(a.sha256 not in {"", b.sha256} for a, b in zip(earlier, batch.images, strict=True)):
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
