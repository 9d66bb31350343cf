"""Rows that an earlier store has, copied instead of computed.

Rows of earlier stores come in; the same bytes stand in another store afterwards.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.extraction.resuming import ReusableRow
from featx.store import ImageFacts, StoreWriter

__all__ = ["codes_of", "copy_into", "copy_rows"]


def codes_of(earlier: Sequence[ReusableRow]) -> dict[str, NDArray[np.floating]]:
    """Read the codes of rows that lie in one earlier store."""
    store, rows = earlier[0].store, np.array([e.source_row for e in earlier])
    return {
        layer: store.read_rows(layer, rows).reshape(-1, *store.recipe.code_shape(layer))
        for layer in store.recipe.layers
    }


def copy_into(path: Path, copies: Sequence[ReusableRow]) -> None:
    """Copy rows into a store, as its only writer."""
    with StoreWriter(path) as writer:
        for _ in copy_rows(writer, copies):
            pass


def copy_rows(writer: StoreWriter, copies: Sequence[ReusableRow]) -> Iterator[int]:
    """Copy rows of earlier stores, block by block; yield how many are safe by then."""
    n_copied = 0
    stores = {copy.store.path: copy.store for copy in copies}
    for path, store in stores.items():
        own = [copy for copy in copies if copy.store.path == path]
        thumbnails = store.thumbnails()
        for block in store.row_blocks(np.arange(len(own))):
            part = [own[k] for k in block]
            phashes = (int(store.images.phash[copy.source_row]) for copy in part)
            facts = [
                ImageFacts(copy.sha256, phash, thumbnails[copy.source_row])
                for copy, phash in zip(part, phashes, strict=True)
            ]
            writer.write_done(np.array([copy.row for copy in part]), codes_of(part), facts)
            n_copied += len(part)
            yield n_copied
