"""Checking a store: its files against what it holds, its codes, and what a resumed run would do.

A store comes in. Its facts go out: files that are missing, changed or unreadable, images that are
not in the store, and rows whose codes cannot be right. Nothing is written, and no network is
loaded.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import ExistsError, FeatxError, ImagesError
from featx.extraction.decoders import n_decoders
from featx.extraction.existing import find_existing
from featx.extraction.prepare import columns_of
from featx.extraction.resuming import remaining_work
from featx.images import (
    File,
    FileDigest,
    Listing,
    as_file,
    check_file,
    is_local,
    list_images,
    read_digest,
)
from featx.store import Store, open_store
from featx.text import counted

__all__ = ["ResumeForecast", "StoreCheck", "check_store"]

_NOT_FETCHED = FileDigest(reason="on a server, and was not fetched")
# Without --group: matching a stranger's regular expression may take forever.
_ARGUMENTS = {"images", "manifest", "path_column"}


@dataclass(frozen=True)
class ResumeForecast:
    """The work of the same `featx extract` command now.

    Parameters
    ----------
    n_kept : int
        Images whose codes are kept or copied.
    n_computed : int
        Images that go through the network.
    n_dropped : int
        Images of the store that are not in the list.
    refusal : str
        Why the command would be refused; "" if it would run.
    """

    n_kept: int
    n_computed: int
    n_dropped: int
    refusal: str


@dataclass(frozen=True)
class StoreCheck:
    """A store compared with the files of its images; `check_store` returns it.

    Parameters
    ----------
    path : Path
        The store.
    root : str
        The folder, archive or URL that its paths are relative to.
    n_images, n_done : int
        Number of images in the store, and of those with codes.
    n_unchanged : int
        Images whose files have the bytes that the store was made from.
    missing, changed : tuple of str
        Paths of the images whose files do not exist, or have other bytes.
    unreadable : tuple of (str, str)
        Path and reason of the images whose files exist and cannot be read.
    n_not_fetched : int
        Images on servers, which are read only on request.
    not_in_store : tuple of str
        Paths that are listed now and not in the store.
    not_finite, zeros : tuple of str
        Paths of finished images with a code that has NaN or infinity, or only zeros.
    resume : ResumeForecast or None
        What the same command would do; None if its images cannot be listed now.
    notes : tuple of str
        What was not checked, and why.
    """

    path: Path
    root: str
    n_images: int
    n_done: int
    n_unchanged: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    n_not_fetched: int
    not_in_store: tuple[str, ...]
    not_finite: tuple[str, ...]
    zeros: tuple[str, ...]
    resume: ResumeForecast | None
    notes: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every file that was checked is as it was, and no code is suspicious."""
        found = (self.missing, self.changed, self.unreadable, self.not_finite, self.zeros)
        return not any(found)


class _Digests:
    """Digests of files, each read once, in threads; files on servers only on request."""

    def __init__(self, *, fetch: bool) -> None:
        self._fetch = fetch
        self._found: dict[File, FileDigest] = {}

    def read(self, files: list[File]) -> list[FileDigest]:
        new = [file for file in dict.fromkeys(files) if file not in self._found]
        with ThreadPoolExecutor(n_decoders(new)) as pool:
            self._found |= zip(new, pool.map(self._read, new), strict=True)
        return [self._found[file] for file in files]

    def __call__(self, file: File) -> FileDigest:
        return self._found[file] if file in self._found else self._read(file)

    def _read(self, file: File) -> FileDigest:
        if not self._fetch and not is_local(file):
            return _NOT_FETCHED
        return read_digest(check_file(file))


def check_store(
    path: Path | str, root: Path | str | None = None, *, fetch: bool = False
) -> StoreCheck:
    """Compare a store with the files of its images, and look for codes that cannot be right.

    Every file is read to compare its bytes, and all codes are read.

    Parameters
    ----------
    path : Path or str
        A store.
    root : Path or str, optional
        Where the images are now, if they were moved: the folder, archive or URL that the paths
        of the store are relative to.
    fetch : bool, default=False
        Also read files from servers. The paths of a store that somebody else made may be URLs
        of any server.

    Returns
    -------
    StoreCheck
        What was found.

    Raises
    ------
    StoreError
        The file is not a store, or is damaged.
    OptionError
        A package for URLs of this kind is missing.
    """
    store = open_store(path)
    given = str(store.provenance.get("root") or ".") if root is None else str(root)
    digests, rows, images = _Digests(fetch=fetch), range(len(store.images)), store.images
    found = digests.read([as_file(name, as_file(given)) for name in images.path])
    was_read = [row for row in rows if found[row].sha256]
    known = [row for row in was_read if images.sha256[row]]
    changed = [row for row in known if found[row].sha256 != images.sha256[row]]
    not_fetched = [row for row in rows if found[row] is _NOT_FETCHED]
    missing = [row for row in rows if found[row].is_missing]
    others = sorted({*rows} - {*was_read, *missing, *not_fetched})
    listing, notes = _listed_again(store, root, fetch=fetch)
    not_finite, zeros = _suspicious_rows(store)
    return StoreCheck(
        path=store.path,
        root=given,
        n_images=len(images),
        n_done=int(images.done.sum()),
        n_unchanged=len(known) - len(changed),
        missing=tuple(images.path[missing]),
        changed=tuple(images.path[changed]),
        unreadable=tuple((str(images.path[row]), found[row].reason) for row in others),
        n_not_fetched=len(not_fetched),
        not_in_store=_not_in_store(store, listing),
        not_finite=tuple(images.path[not_finite]),
        zeros=tuple(images.path[zeros]),
        resume=None if listing is None else _forecast(store, listing, digests),
        notes=(*notes, *_fetch_note(len(not_fetched))),
    )


def _fetch_note(n_images: int) -> Iterator[str]:
    if n_images:
        images = counted(n_images, "image is", "images are")
        yield f"{images} on a server and not checked. Use --fetch to read them."


def _listed_again(
    store: Store, root: Path | str | None, *, fetch: bool
) -> tuple[Listing | None, tuple[str, ...]]:
    """List the images as the command that made the store, or those below a root."""
    given = _arguments(store.provenance, root)
    if given.get("manifest") == "":
        note = "The images were listed by a table in memory, so new images were not searched for."
        return None, (note,)
    images = given.get("images")
    if images is not None and not fetch and not is_local(as_file(images)):
        return None, ("The images are on a server, so new ones were not searched for.",)
    try:
        return list_images(**given), ()
    except FeatxError as error:
        return None, (f"New images were not searched for. {error}",)


def _arguments(provenance: Mapping[str, Any], root: Path | str | None) -> dict[str, Any]:
    """Return the arguments of `list_images` in a provenance, which anybody may have written."""
    found = provenance.get("listing")
    given: dict[str, Any] = {}
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        given = {name: value for name, value in found.items() if name in _ARGUMENTS}
    if root is not None:
        given.pop("manifest", None)
        return {**given, "images": str(root)}
    # A store of 0.1 has no listing.
    return given or {"images": str(provenance.get("root") or ".")}


def _not_in_store(store: Store, listing: Listing | None) -> tuple[str, ...]:
    stored = set(store.images.path)
    records = () if listing is None else listing.records
    return tuple(record.path for record in records if record.path not in stored)


def _suspicious_rows(store: Store) -> tuple[list[int], list[int]]:
    """Return the finished rows that have NaN or infinity in a layer, or only zeros."""
    not_finite: list[int] = []
    zeros: list[int] = []
    for block in store.row_blocks(np.flatnonzero(store.images.done)):
        finite, empty = np.ones(len(block), bool), np.zeros(len(block), bool)
        for layer in store.recipe.layers:
            codes = store.read_rows(layer, block)
            finite &= np.isfinite(codes).all(axis=1)
            empty |= ~codes.any(axis=1)
        not_finite += block[~finite].tolist()
        zeros += block[empty].tolist()
    return not_finite, zeros


def _forecast(store: Store, listing: Listing, digests: _Digests) -> ResumeForecast:
    """Return what an extraction of these images with the settings of the store would do."""
    files = [record.file for record in listing.records]
    digests.read(files)
    groups = dict(zip(store.images.path, store.images.group, strict=True))
    columns = columns_of(listing)
    columns["group"] = [groups.get(each.path, each.group) for each in listing.records]
    refusal = ""
    for prune in (False, True):
        try:
            work = remaining_work(
                find_existing(store.path),
                store.recipe,
                columns,
                files,
                store.provenance.get("max_pixels", 0),
                prune=prune,
                digest_of=digests,
            )
        except (ExistsError, ImagesError) as error:
            refusal = refusal or str(error)
        else:
            n_kept = work.n_kept + len(work.copied)
            return ResumeForecast(n_kept, len(work.rows), work.n_dropped, refusal)
    return ResumeForecast(0, 0, 0, refusal)
