"""Resuming an extraction: the existing output, and the work that remains.

The output, and then the recipe and images of a run, come in. The remaining work comes out:
rows to keep, to copy and to compute; or an error that names the settings that differ. This
module writes nothing.

A store with the same recipe and images is completed in place. With other images or more
layers, a new store is built next to it, as OUTPUT.part, in the row order of a single run:
rows whose file has the same bytes are copied, even if the file was moved, and only the
others are computed. If a server does not return an image now, the image is assumed to be
unchanged, so an unreachable server never discards finished rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import ExistsError, RecipeMismatchError, StoreError
from featx.extraction.pipeline import n_decoders
from featx.images import File, Url, read_digest
from featx.recipe import Difference, Recipe
from featx.store import Status, Store, open_store
from featx.text import counted

__all__ = ["ExistingStore", "RemainingWork", "ReusableRow", "find_existing", "remaining_work"]

Columns = Mapping[str, Sequence[str | None]]
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class ExistingStore:
    """The stores that exist at an output; `find_existing` makes it.

    Parameters
    ----------
    output : Path
        The output; a symbolic link is resolved.
    store : Store or None
        The store at the output, complete or not.
    part : Store or None
        The unfinished store that an interrupted update left next to it.
    stamps : tuple
        Inode, size and modification time of both files, to detect a change.
    replaces : bool
        Whether both files will be replaced.
    """

    output: Path
    store: Store | None
    part: Store | None
    stamps: tuple[_Stamp, _Stamp]
    replaces: bool = False

    @property
    def part_path(self) -> Path:
        """File in which an update is built."""
        return _part_path(self.output)

    def check_unchanged(self) -> None:
        """Check that no other run has changed the files since.

        Raises
        ------
        StoreError
            Another run has changed them.
        """
        if self.stamps != _stamps(self.output):
            message = (
                f"Another run has changed {self.output} since this one started. Run the same "
                "command again: it resumes from there."
            )
            raise StoreError(message)


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
        """SHA-256 of the image file."""
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
        Images of the existing store that are not in the list.
    """

    existing: ExistingStore
    target: Path
    resumes: bool
    rows: tuple[int, ...]
    copied: tuple[ReusableRow, ...] = ()
    extended: tuple[ReusableRow, ...] = ()
    n_kept: int = 0
    n_edited: int = 0
    n_dropped: int = 0

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


def find_existing(output: Path, *, ignored: bool = False) -> ExistingStore:
    """Find the stores at an output and next to it.

    Parameters
    ----------
    output : Path
        The store to write.
    ignored : bool, default=False
        Whether existing files will be replaced, whatever they are.

    Returns
    -------
    ExistingStore
        The stores, opened; none if `ignored`.

    Raises
    ------
    ExistsError
        A file exists and is not a store.
    """
    output = output.resolve() if output.is_symlink() else output
    stamps = _stamps(output)
    if ignored:
        return ExistingStore(output, None, None, stamps, replaces=True)
    return ExistingStore(output, _open(output), _open(_part_path(output)), stamps)


def remaining_work(
    existing: ExistingStore,
    recipe: Recipe,
    columns: Columns,
    files: Sequence[File],
    max_pixels: int,
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

    Returns
    -------
    RemainingWork
        Rows to keep, to copy and to compute.

    Raises
    ------
    RecipeMismatchError
        The store was made with other settings.
    ExistsError
        None of the images of the store is in the list.
    """
    store, part = existing.store, existing.part
    if store is not None and (found := _differences(store, recipe)):
        message = (
            f"{store.path} was made with other settings: {'; '.join(map(str, found))}. To resume "
            f"it, use {' '.join(each.flag for each in found)}. Otherwise use --overwrite or "
            "another -o."
        )
        raise RecipeMismatchError(message)
    if part is not None and _differences(part, recipe):
        part = None  # left by an abandoned update with other settings; it is replaced
    stores = [each for each in (store, part) if each is not None]
    if not any(each.images.done.any() for each in stores):
        stores = [each for each in stores if _matches(each, recipe, columns)]
    all_rows = tuple(range(len(files)))
    if not stores:
        return RemainingWork(existing, existing.output, resumes=False, rows=all_rows)
    matching = [each for each in stores if _matches(each, recipe, columns)]
    hashed: Sequence[int] = all_rows
    if matching and matching[0] is store:
        hashed = np.flatnonzero(matching[0].images.status != Status.PENDING).tolist()
    digests = _digests(files, columns["path"], stores, hashed)
    if matching:
        remaining = _resume_in_place(existing, matching[0], digests, max_pixels)
    else:
        remaining = RemainingWork(existing, existing.part_path, resumes=False, rows=all_rows)
    if remaining.target == existing.output:
        return remaining
    return _reuse_rows(remaining, stores, recipe, columns, digests)


def _part_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def _stamps(output: Path) -> tuple[_Stamp, _Stamp]:
    return _stamp(output), _stamp(_part_path(output))


def _stamp(path: Path) -> _Stamp:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _open(path: Path) -> Store | None:
    if not path.exists():
        return None
    try:
        return open_store(path)
    except StoreError as error:
        reason = str(error).rstrip(".")
        message = f"{path} exists and cannot be resumed. {reason}. Or choose another -o."
        raise ExistsError(message) from error


def _differences(store: Store, recipe: Recipe) -> list[Difference]:
    """Return how a run differs from a store; the run may add layers, but not leave any out."""
    both = {*recipe.layers, *store.recipe.layers}
    return recipe.differences(store.recipe.with_layers(both))


def _matches(store: Store, recipe: Recipe, columns: Columns) -> bool:
    """Return whether a store has exactly these layers and images."""
    return store.recipe.layers == recipe.layers and all(
        list(getattr(store.images, name)) == list(columns[name]) for name in columns
    )


def _digests(
    files: Sequence[File],
    paths: Sequence[str | None],
    stores: Sequence[Store],
    rows: Sequence[int],
) -> list[str]:
    """Hash the files of some rows; use the stored hash of an image that cannot be fetched."""
    with ThreadPoolExecutor(n_decoders(files)) as pool:
        found = dict(zip(rows, pool.map(read_digest, [files[row] for row in rows]), strict=True))
    missing = [row for row in rows if not found[row] and isinstance(files[row], Url)]
    if missing:
        stored: dict[str | None, str] = {}
        for images in (store.images for store in stores):
            done = images.done
            stored |= zip(images.path[done], images.sha256[done], strict=True)
        found |= {row: stored.get(paths[row], "") for row in missing}
    return [found.get(row, "") for row in range(len(files))]


def _resume_in_place(
    existing: ExistingStore, store: Store, digests: Sequence[str], max_pixels: int
) -> RemainingWork:
    """Complete a store: compute pending and edited rows, and failed rows that may succeed now."""
    images = store.images
    failed, pending = images.status == Status.FAILED, images.status == Status.PENDING
    changed = np.array(digests, object) != images.sha256
    retried = failed if store.provenance.get("max_pixels") != max_pixels else failed & changed
    edited = images.done & changed
    return RemainingWork(
        existing,
        store.path,
        resumes=True,
        rows=tuple(np.flatnonzero(pending | retried | edited).tolist()),
        n_kept=int(np.sum(images.done & ~edited)),
        n_edited=int(np.sum(edited)),
    )


def _reuse_rows(
    remaining: RemainingWork,
    stores: Sequence[Store],
    recipe: Recipe,
    columns: Columns,
    digests: Sequence[str],
) -> RemainingWork:
    """Find the rows whose codes, of all layers or of some, are in an earlier store."""
    store = remaining.existing.store
    stored: dict[str, tuple[Store, int]] = {}
    for each in stores:  # the part comes last and takes precedence if it has all layers
        # The new part replaces the old one, whose rows are copied first, and only whole rows.
        if each.recipe.layers == recipe.layers or each is store:
            for row in np.flatnonzero(each.images.done).tolist():
                stored[each.images.sha256[row]] = (each, row)
    rows: list[int] = []
    copied: list[ReusableRow] = []
    extended: list[ReusableRow] = []
    for row in remaining.rows:
        if digests[row] in stored:
            found = ReusableRow(row, *stored[digests[row]])
            whole = found.store.recipe.layers == recipe.layers
            (copied if whole else extended).append(found)
        else:
            rows.append(row)
    n_dropped = 0
    if store is not None:
        if not (remaining.n_kept or copied or extended):
            message = (
                f"{store.path} holds {counted(len(store.images), 'image')}, none of which is in "
                "this list. Use another -o, or --overwrite to replace the store."
            )
            raise ExistsError(message)
        current, listed = set(digests), set(columns["path"])
        n_dropped = sum(
            path not in listed and digest not in current
            for path, digest in zip(store.images.path, store.images.sha256, strict=True)
        )
    return dataclasses.replace(
        remaining,
        rows=tuple(rows),
        copied=tuple(copied),
        extended=tuple(extended),
        n_dropped=n_dropped,
    )
