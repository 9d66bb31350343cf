"""Resuming an extraction: the work that remains, and the codes that a run would lose.

The stores at the output, and the recipe and images of a run, come in. The remaining work comes
out: rows to keep, to copy and to compute; or an error that names what would be lost. This module
writes nothing.

A store with the same recipe and images is completed in place. With other images or more
layers, a new store is built next to it, as OUTPUT.part, in the row order of a single run:
rows whose file has the same bytes are copied, even if the file was moved, and only the
others are computed.

A code is computed again only if its file was read and has other bytes. A file that cannot be
read now (on a drive that is not mounted, without permission, on a server that does not answer)
is assumed to be unchanged, and its row is found by its path.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import ExistsError, ImagesError, RecipeMismatchError
from featx.extraction.decoders import n_decoders
from featx.extraction.existing import Columns, ExistingStore, has_images, recipe_differences
from featx.images import File, FileDigest, read_digest
from featx.recipe import Recipe
from featx.store import Status, Store
from featx.text import composed, counted, quoted, quoted_list

__all__ = ["RemainingWork", "ReusableRow", "cannot_extend", "remaining_work"]

_NOT_READ = FileDigest()


@dataclass(frozen=True)
class ReusableRow:
    """A row whose codes, of all layers or of some, are in an earlier store.

    Parameters
    ----------
    row : int
        Row of the new store.
    store : Store
        The earlier store.
    source_row : int
        Row of the earlier store.
    """

    row: int
    store: Store
    source_row: int

    @property
    def sha256(self) -> str:
        """SHA-256 of the image file; "" if the earlier store does not have it."""
        return str(self.store.images.sha256[self.source_row])


@dataclass(frozen=True)
class RemainingWork:
    """The work that remains to be done.

    Parameters
    ----------
    existing : ExistingStore
        What exists at the output.
    target : Path
        The file to write: the output, or the part next to it.
    resumes : bool
        Whether `target` exists and is completed in place.
    rows : tuple of int
        Rows whose images are read and go through the network.
    copied : tuple of ReusableRow
        Rows that are copied.
    extended : tuple of ReusableRow
        Rows of which some layers are copied and the others are computed.
    n_kept : int
        Finished rows of `target`.
    n_edited : int
        Rows that were finished, but whose file has changed since.
    n_dropped : int
        Rows of the existing stores, finished or failed, that are not in the list.
    unreadable : tuple of (str, str)
        Path and reason of the images that cannot be read now and keep their codes.
    """

    existing: ExistingStore
    target: Path
    resumes: bool
    rows: tuple[int, ...] = field(repr=False)
    copied: tuple[ReusableRow, ...] = field(default=(), repr=False)
    extended: tuple[ReusableRow, ...] = field(default=(), repr=False)
    n_kept: int = 0
    n_edited: int = 0
    n_dropped: int = 0
    unreadable: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether the output is complete and up to date."""
        store = self.existing.store
        return (
            store is not None
            and store.complete
            and self.target == self.existing.output
            and self.resumes
            and not self.rows
        )

    @property
    def batch_size(self) -> int | None:
        """Images per batch of the existing rows, or None if a store from the start has its own.

        An update of a store that was smaller than a batch is not bound to that size.
        """
        existing = self.existing
        stores = [each for each in (existing.store, existing.part) if each is not None]
        resumed = [each for each in stores if self.resumes and each.path == self.target]
        for store in resumed or stores:
            size = store.provenance.get("batch_size")
            if isinstance(size, int) and 1 <= size < len(store.images) + bool(resumed):
                return size
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """A note on the images that cannot be read now."""
        if not self.unreadable:
            return ()
        images = counted(
            len(self.unreadable),
            "image cannot be read now and keeps its code",
            "images cannot be read now and keep their codes",
        )
        return (f"{images}: {_example(self.unreadable)}.",)


def remaining_work(
    existing: ExistingStore,
    recipe: Recipe,
    columns: Columns,
    files: Sequence[File],
    max_pixels: int,
    *,
    prune: bool = False,
    digest_of: Callable[[File], FileDigest] = read_digest,
) -> RemainingWork:
    """Return what a run has to do, given what exists at its output.

    Files are hashed to find out whether they have changed, except the files of unfinished
    rows of a store that is completed in place.

    Parameters
    ----------
    existing : ExistingStore
        See `find_existing`.
    recipe : Recipe
        Recipe of the codes.
    columns : mapping of str to sequence of str or None
        The images, as `create_store` takes them.
    files : sequence of Path or Url
        The image files.
    max_pixels : int
        Pixel limit; rows that failed under another limit are tried again.
    prune : bool, default=False
        Whether finished rows that are not in the list may be removed.
    digest_of : callable, optional
        Returns the digest of a file.

    Returns
    -------
    RemainingWork
        Rows to keep, to copy and to compute.

    Raises
    ------
    RecipeMismatchError
        The store was made with other settings.
    ExistsError
        None of the images of the store is in the list, or `prune` is False and finished rows,
        or data of other programs, would be lost.
    ImagesError
        Layers are added to images that cannot be read now.
    """
    store, part = existing.store, existing.part
    if store is not None and (found := recipe_differences(store, recipe)):
        message = (
            f"{store.path} was made with other settings: {'; '.join(map(str, found))}. To resume "
            f"it, use {' '.join(each.flag for each in found)}. Otherwise use --overwrite or "
            "another -o."
        )
        raise RecipeMismatchError(message)
    if part is not None and recipe_differences(part, recipe):
        part = None  # left by an abandoned update with other settings
    stores = [each for each in (store, part) if each is not None]
    if not any(each.images.done.any() for each in stores):
        stores = [each for each in stores if has_images(each, recipe, columns)]
    all_rows = tuple(range(len(files)))
    if not stores:
        return RemainingWork(existing, existing.output, resumes=False, rows=all_rows)
    matching = [each for each in stores if has_images(each, recipe, columns)]
    hashed: Sequence[int] = all_rows
    if matching and matching[0] is store:
        hashed = np.flatnonzero(matching[0].images.status != Status.PENDING).tolist()
    digests = _digests(files, hashed, digest_of)
    if matching:
        remaining = _resume_in_place(existing, matching[0], digests, max_pixels)
    else:
        remaining = RemainingWork(existing, existing.part_path, resumes=False, rows=all_rows)
    if remaining.target == existing.output:
        return remaining
    remaining = _reuse_rows(remaining, stores, recipe, columns["path"], digests)
    _check_extended(remaining, recipe, digests)
    n_dropped = _check_dropped(remaining, recipe, columns["path"], digests, prune=prune)
    if store is not None and not prune:
        _check_members(store)
    return dataclasses.replace(remaining, n_dropped=n_dropped)


def _digests(
    files: Sequence[File], rows: Sequence[int], digest_of: Callable[[File], FileDigest]
) -> list[FileDigest]:
    """Hash the files of some rows."""
    with ThreadPoolExecutor(n_decoders(files)) as pool:
        found = dict(zip(rows, pool.map(digest_of, [files[row] for row in rows]), strict=True))
    return [found.get(row, _NOT_READ) for row in range(len(files))]


def _resume_in_place(
    existing: ExistingStore, target: Store, digests: Sequence[FileDigest], max_pixels: int
) -> RemainingWork:
    """Complete a store: compute pending and edited rows, and failed rows that may succeed now."""
    images = target.images
    failed, pending = images.status == Status.FAILED, images.status == Status.PENDING
    was_read = np.array([bool(each.sha256) for each in digests], bool)
    differs = was_read & (np.array([each.sha256 for each in digests], object) != images.sha256)
    edited = images.done & differs & (images.sha256 != "")
    if target is existing.store:
        other_limit = target.provenance.get("max_pixels") != max_pixels
        retried = failed & (was_read if other_limit else differs)
    else:  # the store may have the codes of rows that failed in the update
        retried = failed
    return RemainingWork(
        existing,
        target.path,
        resumes=True,
        rows=tuple(np.flatnonzero(pending | retried | edited).tolist()),
        n_kept=int(np.sum(images.done & ~edited)),
        n_edited=int(np.sum(edited)),
        unreadable=tuple(
            (str(images.path[row]), digests[row].reason)
            for row in np.flatnonzero(images.done & ~was_read).tolist()
        ),
    )


def _reuse_rows(
    remaining: RemainingWork,
    stores: Sequence[Store],
    recipe: Recipe,
    paths: Sequence[str | None],
    digests: Sequence[FileDigest],
) -> RemainingWork:
    """Find the rows whose codes, of all layers or of some, are in an earlier store."""
    by_digest: dict[str, tuple[Store, int]] = {}
    by_path: dict[str | None, tuple[Store, int]] = {}
    by_form: dict[str, tuple[Store, int]] = {}
    for each in stores:  # the part comes last and takes precedence if it has all layers
        if _is_copied(each, remaining.existing, recipe):
            for row in np.flatnonzero(each.images.done).tolist():
                by_path[each.images.path[row]] = (each, row)
                by_form[composed(each.images.path[row])] = (each, row)
                if each.images.sha256[row]:
                    by_digest[each.images.sha256[row]] = (each, row)
    rows: list[int] = []
    copied: list[ReusableRow] = []
    extended: list[ReusableRow] = []
    unreadable = list(remaining.unreadable)
    for row in remaining.rows:
        sha256, path = digests[row].sha256, paths[row]
        place = by_digest.get(sha256)
        same_path = by_path.get(path) or by_form.get(composed(str(path)))
        if place is None and same_path is not None:
            earlier = ReusableRow(row, *same_path)
            if not sha256 or not earlier.sha256:  # nothing shows that the file has changed
                place = same_path
        if place is None:
            rows.append(row)
            continue
        found = ReusableRow(row, *place)
        whole = found.store.recipe.layers == recipe.layers
        (copied if whole else extended).append(found)
        if not sha256:
            unreadable.append((str(path), digests[row].reason))
    return dataclasses.replace(
        remaining,
        rows=tuple(rows),
        copied=tuple(copied),
        extended=tuple(extended),
        unreadable=tuple(unreadable),
    )


def _is_copied(store: Store, existing: ExistingStore, recipe: Recipe) -> bool:
    """Return whether rows of a store are copied into a new part.

    The new part replaces the old one, whose rows are copied first, and only whole rows.
    """
    if store is existing.store:
        return True
    return store.recipe.layers == recipe.layers and not recipe_differences(store, recipe)


def _check_dropped(
    remaining: RemainingWork,
    recipe: Recipe,
    paths: Sequence[str | None],
    digests: Sequence[FileDigest],
    *,
    prune: bool,
) -> int:
    """Refuse to remove finished rows unless `prune`; return the number of removed rows.

    A row is removed if neither its path nor its bytes are in the list.

    Raises
    ------
    ExistsError
        Finished rows would be removed, or all of them.
    """
    existing, listed = remaining.existing, {*paths}
    reused = (*remaining.copied, *remaining.extended)
    listed |= {str(each.store.images.path[each.source_row]) for each in reused}
    known = {each.sha256 for each in digests} - {""}
    n_dropped = 0
    for store in (existing.store, None if remaining.resumes else existing.part):
        if store is None:
            continue
        images = store.images
        dropped = images.status != Status.PENDING
        if _is_copied(store, existing, recipe):
            stays = zip(images.path, images.sha256, strict=True)
            dropped &= [path not in listed and sha256 not in known for path, sha256 in stays]
        _check_lost(remaining, store, np.flatnonzero(dropped & images.done), prune=prune)
        n_dropped += int(dropped.sum())
        listed |= set(images.path)  # a row of both stores counts once
    return n_dropped


def _check_lost(
    remaining: RemainingWork, store: Store, lost: NDArray[np.integer], *, prune: bool
) -> None:
    """Refuse to remove these finished rows of a store unless `prune`; never remove all."""
    reused = remaining.n_kept or remaining.copied or remaining.extended
    images, paths = counted(len(lost), "image"), quoted_list(store.images.path[lost], 1)
    if not len(lost):
        return
    if store is not remaining.existing.store:
        message = (
            f"{store.path}, an interrupted update with other images or layers, holds codes of "
            f"{images} that this run would remove: {paths}. Use --prune to remove them, another "
            "-o, or the settings of that update to resume it."
        )
    elif len(lost) == store.images.done.sum() and not reused:
        message = (
            f"{store.path} holds {counted(len(store.images), 'image')}, none of which is in "
            "this list. Use another -o, or --overwrite to replace the store."
        )
        raise ExistsError(message)
    else:
        message = (
            f"{store.path} holds codes of {images} that are not in this list: {paths}. List them "
            "too (is a folder missing, or a drive not mounted?), use another -o, or use --prune "
            "to remove their codes."
        )
    if not prune:
        raise ExistsError(message)


def _check_members(store: Store) -> None:
    if members := store.further_members():
        message = (
            f"{store.path} also holds data of another program ({quoted_list(members)}), which the "
            "updated store would not have. Use another -o, or --prune to remove them."
        )
        raise ExistsError(message)


def _check_extended(
    remaining: RemainingWork, recipe: Recipe, digests: Sequence[FileDigest]
) -> None:
    """Refuse to add layers to images that cannot be read."""
    blocked = [
        (str(each.store.images.path[each.source_row]), digests[each.row].reason)
        for each in remaining.extended
        if not digests[each.row].sha256
    ]
    if blocked:
        raise cannot_extend(remaining, recipe, blocked)


def cannot_extend(
    remaining: RemainingWork, recipe: Recipe, unreadable: Sequence[tuple[str, str]]
) -> ImagesError:
    """Return the error that layers cannot be added to images, each with its reason."""
    store = remaining.extended[0].store
    layers = ", ".join(name for name in recipe.layers if name not in store.recipe.layers)
    return ImagesError(
        f"Codes of {layers} cannot be added to {counted(len(unreadable), 'image')} of "
        f"{store.path}, which cannot be read now: {_example(unreadable)}. The store is unchanged. "
        "Make the images readable and run the same command again, or leave them out of the list "
        "and use --prune."
    )


def _example(unreadable: Iterable[tuple[str, str]]) -> str:
    path, reason = next(iter(unreadable))
    return f"{quoted(path)} ({reason})"
