"""What stands at the output already, and what is left to do there.

An output and, later, the recipe and images of a run come in; out goes what of
an earlier run is kept, what is copied, and what is still to be made, or an error
that names what differs. Nothing is written here.

A store that has just the recipe and images of the run is gone on with in place.
With other images, or with further layers, it is made anew beside the old one, as
OUTPUT.part, in the order of a straight run: rows whose file has the same bytes
are copied, wherever that file lies now, and only the rest is computed. An image that a
server does not give now is taken for what it was: that a server is down undoes nothing.
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
    """The stores that stand at an output: `find_existing` finds them.

    Parameters
    ----------
    output : Path
        The store to be; a link is resolved.
    finished : Store or None
        What has that name, complete or not.
    part : Store or None
        What a run that updates it has left beside it.
    stamps : tuple
        By which a change of either file is seen.
    replaces : bool
        Whether what stands there is to go.
    """

    output: Path
    finished: Store | None
    part: Store | None
    stamps: tuple[_Stamp, _Stamp]
    replaces: bool = False

    @property
    def part_path(self) -> Path:
        """Where an update is made."""
        return _part_path(self.output)

    def check_unchanged(self) -> None:
        """Make sure that no other run has been here meanwhile.

        Raises
        ------
        StoreError
            One has.
        """
        if self.stamps != _stamps(self.output):
            message = (
                f"{self.output} was changed by another run meanwhile. "
                "Run the same command again: it goes on from there."
            )
            raise StoreError(message)


@dataclass(frozen=True)
class ReusableRow:
    """A row whose codes, of all layers or of some, lie in an earlier store.

    Parameters
    ----------
    row : int
        In the store to be.
    store : Store
        The earlier one.
    source_row : int
        Its row there.
    """

    row: int
    store: Store
    source_row: int

    @property
    def sha256(self) -> str:
        """Of the image's bytes."""
        return str(self.store.images.sha256[self.source_row])


@dataclass(frozen=True)
class RemainingWork:
    """What is left to do.

    Parameters
    ----------
    standing : ExistingStore
        What stands at the output.
    target : Path
        The file that is written: the output, or the part beside it.
    resumes : bool
        Whether that file exists and is gone on with.
    rows : tuple of int
        Rows whose images are read and go through the network.
    copies : tuple of ReusableRow
        Rows that are copied.
    extended : tuple of ReusableRow
        Rows of which some layers are copied, and the others computed.
    n_kept : int
        Rows that are done in `target`.
    n_edited : int
        Rows that were done, until their file was changed.
    n_dropped : int
        Images of the store at the output that are not in the list.
    """

    standing: ExistingStore
    target: Path
    resumes: bool
    rows: tuple[int, ...]
    copies: tuple[ReusableRow, ...] = ()
    extended: tuple[ReusableRow, ...] = ()
    n_kept: int = 0
    n_edited: int = 0
    n_dropped: int = 0

    @property
    def nothing(self) -> bool:
        """Whether the output is what it should be."""
        finished = self.standing.finished
        return (
            finished is not None
            and finished.complete
            and self.target == self.standing.output
            and self.resumes
            and not self.rows
        )


def find_existing(output: Path, *, ignored: bool = False) -> ExistingStore:
    """Return the stores at `output` and beside it.

    Parameters
    ----------
    output : Path
        The store to be.
    ignored : bool, default=False
        Whether what stands there will be replaced, whatever it is.

    Raises
    ------
    ExistsError
        What stands there is no store.
    """
    output = output.resolve() if output.is_symlink() else output
    stamps = _stamps(output)
    if ignored:
        return ExistingStore(output, None, None, stamps, replaces=True)
    return ExistingStore(output, _opened(output), _opened(_part_path(output)), stamps)


def remaining_work(
    standing: ExistingStore,
    recipe: Recipe,
    columns: Columns,
    files: Sequence[File],
    max_pixels: int,
) -> RemainingWork:
    """Return what a run has to do, given what stands at its output.

    Files are hashed, to see whether they have changed; not those that a store which is gone
    on with in place has not come to.

    Parameters
    ----------
    standing : ExistingStore
        See `find_existing`.
    recipe : Recipe
        Of the run.
    columns : mapping of str to sequence of str or None
        The run's images, as `create_store` takes them.
    files : sequence of Path or Url
        Where they lie.
    max_pixels : int
        Of an image; rows that failed under another limit are tried again.

    Raises
    ------
    RecipeMismatchError
        The store was made with other settings.
    ExistsError
        The store holds other images, none of them in the list.
    """
    finished, part = standing.finished, standing.part
    if finished is not None:
        _check_settings(finished, recipe)
    if part is not None and _differences(part, recipe):
        part = None  # of an update that was given up; it is not in the way
    stores = [store for store in (finished, part) if store is not None]
    if not any(store.images.done.any() for store in stores):
        stores = [store for store in stores if _same(store, recipe, columns)]
    everything = tuple(range(len(files)))
    if not stores:
        return RemainingWork(standing, standing.output, resumes=False, rows=everything)
    same = [store for store in stores if _same(store, recipe, columns)]
    seen: Sequence[int] = everything
    if same and same[0] is finished:
        seen = np.flatnonzero(same[0].images.status != Status.PENDING).tolist()
    digests = _digests(files, columns["path"], stores, seen)
    if same:
        rest = _in_place(standing, same[0], digests, max_pixels)
    else:
        rest = RemainingWork(standing, standing.part_path, resumes=False, rows=everything)
    if rest.target == standing.output:
        return rest
    return _with_copies(rest, stores, recipe, columns, digests)


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


def _opened(path: Path) -> Store | None:
    if not path.exists():
        return None
    try:
        return open_store(path)
    except StoreError as error:
        reason = str(error).rstrip(".")
        message = f"{path} exists, and cannot be gone on with. {reason}. Or use another -o."
        raise ExistsError(message) from error


def _differences(store: Store, recipe: Recipe) -> list[Difference]:
    """Return how a run differs from a store; it may have further layers, but not fewer."""
    both = {*recipe.layers, *store.recipe.layers}
    return recipe.differences(store.recipe.narrowed(both))


def _check_settings(store: Store, recipe: Recipe) -> None:
    found = _differences(store, recipe)
    if found:
        message = (
            f"{store.path} was made with other settings: {'; '.join(map(str, found))}. "
            f"Go on with {' '.join(d.flag for d in found)}, or use --overwrite, or another -o."
        )
        raise RecipeMismatchError(message)


def _same(store: Store | None, recipe: Recipe, columns: Columns) -> bool:
    """Say whether a store has just these layers and images."""
    return (
        store is not None
        and store.recipe.layers == recipe.layers
        and all(list(getattr(store.images, name)) == list(columns[name]) for name in columns)
    )


def _digests(
    files: Sequence[File],
    paths: Sequence[str | None],
    stores: Sequence[Store],
    seen: Sequence[int],
) -> list[str]:
    """Return what the bytes of files are now, or were where a server does not give them."""
    digests = [""] * len(files)
    with ThreadPoolExecutor(n_decoders(files)) as pool:
        for row, digest in zip(seen, pool.map(read_digest, [files[k] for k in seen]), strict=True):
            digests[row] = digest
    missing = [row for row in seen if not digests[row] and isinstance(files[row], Url)]
    if missing:
        known = {
            path: digest
            for store in stores
            for path, digest, done in zip(
                store.images.path, store.images.sha256, store.images.done, strict=True
            )
            if done
        }
        for row in missing:
            digests[row] = known.get(paths[row], "")
    return digests


def _in_place(
    standing: ExistingStore, store: Store, digests: Sequence[str], max_pixels: int
) -> RemainingWork:
    """Go on with a store: with what is pending, or was changed since, or may be read by now."""
    images = store.images
    failed, pending = images.status == Status.FAILED, images.status == Status.PENDING
    changed = np.array(digests, object) != images.sha256
    again = failed if store.provenance.get("max_pixels") != max_pixels else failed & changed
    edited = images.done & changed
    rows = np.flatnonzero(pending | again | edited)
    return RemainingWork(
        standing,
        store.path,
        resumes=True,
        rows=tuple(rows.tolist()),
        n_kept=int(np.sum(images.done & ~edited)),
        n_edited=int(np.sum(edited)),
    )


def _with_copies(
    rest: RemainingWork,
    stores: Sequence[Store],
    recipe: Recipe,
    columns: Columns,
    digests: Sequence[str],
) -> RemainingWork:
    """Find the rows that an earlier store holds: all their layers, or some."""
    finished = rest.standing.finished
    places: dict[str, tuple[Store, int]] = {}
    for store in stores:  # the part comes last, and wins where it has all layers
        whole = store.recipe.layers == recipe.layers
        # A new part takes the place of the old one, which can only be copied whole before.
        if whole or store is finished:
            for row in np.flatnonzero(store.images.done).tolist():
                places[store.images.sha256[row]] = (store, row)
    rows: list[int] = []
    copies: list[ReusableRow] = []
    extended: list[ReusableRow] = []
    for row in rest.rows:
        if digests[row] in places:
            earlier = ReusableRow(row, *places[digests[row]])
            whole = earlier.store.recipe.layers == recipe.layers
            (copies if whole else extended).append(earlier)
        else:
            rows.append(row)
    if finished is not None and not (rest.n_kept or copies or extended):
        message = (
            f"{finished.path} holds {counted(len(finished.images), 'other image')}: none of them "
            "is in this list. Use another -o, or --overwrite to replace it."
        )
        raise ExistsError(message)
    here, listed = set(digests), set(columns["path"])
    dropped = 0
    if finished is not None:
        images = finished.images
        dropped = sum(
            path not in listed and digest not in here
            for path, digest in zip(images.path, images.sha256, strict=True)
        )
    return dataclasses.replace(
        rest,
        rows=tuple(rows),
        copies=tuple(copies),
        extended=tuple(extended),
        n_dropped=dropped,
    )
