"""A store without an extraction, for several test files and for exchange.py."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from featx.recipe import Recipe
from featx.store import ImageFacts, StoreWriter, create_store


def make_store(
    path: Path,
    codes: Mapping[str, np.ndarray],
    labels: Sequence[str | None],
    splits: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
    *,
    paths: Sequence[str] | None = None,
    sha256: Sequence[str] | None = None,
    failed: Mapping[int, str] | None = None,
    pending: Collection[int] = (),
    recipe: Recipe | None = None,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write a store that holds `codes`, row by row, and return its path.

    The recipe follows from the codes: layers are the keys, images are 32x32,
    (n, d) means pool="avg", (n, h, w, c) means pool="none". Rows in `failed`
    fail with that reason; rows in `pending` are never written. By default no
    two images have equal bytes.
    """
    n_images = len(labels)
    first = next(iter(codes.values()))
    recipe = recipe or Recipe(
        weights="random:0",
        layers=tuple(codes),
        pool="avg" if first.ndim == 2 else "none",
        size=(32, 32),
        dtype=str(first.dtype),
    )
    columns = {
        "path": paths or [f"images/{i:03d}.png" for i in range(n_images)],
        "label": labels,
        "split": splits or [None] * n_images,
        "group": groups or [None] * n_images,
    }
    sha256 = sha256 or [f"{i:064x}" for i in range(n_images)]
    create_store(path, recipe, columns, provenance or {})
    failed = failed or {}
    done = np.array([i for i in range(n_images) if i not in failed and i not in pending], int)
    with StoreWriter(path) as writer:
        if len(done):
            facts = [
                ImageFacts(sha256[i], phash=i, thumbnail=np.full((32, 32, 3), i % 256, np.uint8))
                for i in done
            ]
            writer.write_done(done, {layer: c[done] for layer, c in codes.items()}, facts)
        for row, reason in failed.items():
            writer.write_failed(np.array([row]), [reason], [sha256[row]])
        if not pending:
            writer.finish()
    return path
