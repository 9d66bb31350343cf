"""Passes: which rows go through the network, for which stores, and how they get there.

Jobs of the same images come in; passes go out, each of rows that lack the same
layers. A pass, or a part of its rows, is filled by whoever has its backbone, in this
process or in another one: rows of a store are written without a lock.
"""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from featx.errors import StoreError
from featx.extraction.copying import codes_of
from featx.extraction.pipeline import CodeBatch, stream_codes
from featx.extraction.prepare import ExtractionJob
from featx.extraction.resuming import ReusableRow
from featx.extraction.timings import Pace
from featx.images import File
from featx.network import (
    Backbone,
    WeightsSource,
    joint_name,
    joint_recipe,
    load_backbone,
    load_joint_backbone,
)
from featx.recipe import Recipe
from featx.store import ImageFacts, StoreWriter

__all__ = ["Pass", "Share", "fill_rows", "load_for", "passes_of"]


@dataclass(frozen=True)
class Share:
    """What a job takes of a pass: the backbone's names of its layers, and what it has already."""

    job: int
    names: dict[str, str]
    earlier: dict[int, ReusableRow]


@dataclass(frozen=True)
class Pass:
    """Rows that go through the network, for the jobs and layers that lack them.

    Parameters
    ----------
    recipes : tuple of Recipe
        Of the codes that are computed, one for each share.
    rows : tuple of int
        Of the stores.
    shares : tuple of Share
        What becomes of the codes.
    """

    recipes: tuple[Recipe, ...]
    rows: tuple[int, ...]
    shares: tuple[Share, ...]

    @property
    def recipe(self) -> Recipe:
        """Of the backbone that gives all codes at once."""
        return joint_recipe(self.recipes)

    def narrowed(self, rows: Sequence[int]) -> "Pass":
        """Return the pass of some of its rows."""
        shares = tuple(
            dataclasses.replace(
                share, earlier={row: share.earlier[row] for row in rows if row in share.earlier}
            )
            for share in self.shares
        )
        return dataclasses.replace(self, rows=tuple(rows), shares=shares)


def passes_of(jobs: Sequence[ExtractionJob]) -> list[Pass]:
    """Group the rows of jobs by the layers that each of them lacks."""
    lacking: defaultdict[int, dict[int, tuple[str, ...]]] = defaultdict(dict)
    earlier: list[dict[int, ReusableRow]] = [{} for _ in jobs]
    for k, job in enumerate(jobs):
        for row in job.rest.rows:
            lacking[row][k] = job.recipe.layers
        for each in job.rest.extended:
            held = each.store.recipe.layers
            lacking[each.row][k] = tuple(name for name in job.recipe.layers if name not in held)
            earlier[k][each.row] = each
    groups: defaultdict[tuple[tuple[int, tuple[str, ...]], ...], list[int]] = defaultdict(list)
    for row in sorted(lacking):
        groups[tuple(sorted(lacking[row].items()))].append(row)
    passes = []
    for wanted, rows in groups.items():
        shares = []
        for place, (k, layers) in enumerate(wanted):
            joint = len(wanted) > 1
            names = {name: joint_name(place, name) if joint else name for name in layers}
            known = {row: earlier[k][row] for row in rows if row in earlier[k]}
            shares.append(Share(k, names, known))
        recipes = tuple(jobs[k].recipe.narrowed(layers) for k, layers in wanted)
        passes.append(Pass(recipes, tuple(rows), tuple(shares)))
    return passes


def load_for(recipes: Sequence[Recipe], source: WeightsSource, device: str) -> Backbone:
    """Load the backbone that gives the codes of some recipes, as a pass has them."""
    if len(recipes) == 1:
        return load_backbone(recipes[0], source, device)
    return load_joint_backbone(recipes, source, device)


def fill_rows(  # noqa: PLR0917  of two callers
    each: Pass,
    backbone: Backbone,
    batch_size: int,
    files: Sequence[File],
    max_pixels: int,
    writers: Sequence[StoreWriter],
    pace: Pace,
) -> Generator[int, None, None]:
    """Compute the rows of a pass and write them; yield, batch by batch, how many are safe."""
    batches = stream_codes(files, backbone, batch_size, each.rows, max_pixels=max_pixels, pace=pace)
    write = partial(_write, writers, each.shares, pace)
    # Closed in any case, so that nothing writes any more when the files are closed.
    with contextlib.closing(_written_beside(batches, write)) as written:
        yield from written


def _written_beside(
    batches: Generator[CodeBatch, None, None], write: Callable[[CodeBatch], None]
) -> Generator[int, None, None]:
    """Write each batch while the next is computed; yield how many images are safe by then."""
    with contextlib.closing(batches), ThreadPoolExecutor(1) as hand:
        before: tuple[Future[None], int] | None = None
        for batch in batches:
            if before is not None:
                before[0].result()
                yield before[1]
            before = hand.submit(write, batch), batch.n_images
        if before is not None:
            before[0].result()
            yield before[1]


def _write(
    writers: Sequence[StoreWriter], shares: Sequence[Share], pace: Pace, batch: CodeBatch
) -> None:
    with pace.write.work():
        facts = [ImageFacts(p.sha256, p.phash, p.thumbnail) for p in batch.pictures]
        for share in shares:
            writer = writers[share.job]
            if len(batch.rows):
                writer.write_done(batch.rows, _own_codes(batch, share), facts)
            if batch.failures:
                failures = batch.failures
                writer.write_failed(
                    np.array([f.row for f in failures]),
                    [f.reason for f in failures],
                    [f.sha256 for f in failures],
                )


def _own_codes(batch: CodeBatch, share: Share) -> dict[str, NDArray[np.floating]]:
    """Return a job's codes by layer, with those that its earlier store holds."""
    codes = {layer: batch.codes[name] for layer, name in share.names.items()}
    if not share.earlier:
        return codes
    found = [share.earlier[row] for row in batch.rows.tolist()]
    if any(f.sha256 != p.sha256 for f, p in zip(found, batch.pictures, strict=True)):
        message = "Images were edited while the run went on. Run the same command again."
        raise StoreError(message)
    return codes | codes_of(found)
