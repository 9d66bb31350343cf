"""Which rows of a store are fitted on and which are scored.

A store comes in; rows, their division, and sentences for the user about what
is left out or may mislead go out. Nothing is decided here by looking at codes.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.classification.folds import fold_count
from featx.errors import FitError, StoreError
from featx.store import Status, Store

__all__ = [
    "Division",
    "Rows",
    "check_complete",
    "check_leaks",
    "divide",
    "small_classes",
    "usable_rows",
]

Rows = NDArray[np.integer]
_SPLITS_SCORED = ("test", "val")


@dataclass(frozen=True)
class Division:
    """Which rows are fitted on and which are scored.

    Parameters
    ----------
    train, scored : ndarray of int
        Positions among the usable rows; the same where folds are scored.
    scored_on : {"test", "val", "folds"}
        Where the score comes from.
    """

    train: Rows
    scored: Rows
    scored_on: str


def check_complete(store: Store, *, partial: bool) -> list[str]:
    """Refuse a store with pending rows, unless `partial`; then say how many."""
    pending = int(np.sum(store.images.status == Status.PENDING))
    if not pending:
        return []
    counts = f"{pending} of {len(store.images)} images have no codes yet"
    if not partial:
        message = (
            f"{store.path} is not complete: {counts}. Run its featx extract again, which goes on "
            "where it stopped, or fit what is there with --partial."
        )
        raise StoreError(message)
    return [f"{counts}; fitted without them (--partial)."]


def usable_rows(store: Store) -> tuple[Rows, list[str]]:
    """Return the rows that are done and labelled, and what is left out."""
    images, notes = store.images, []
    failed = Counter(images.label[images.status == Status.FAILED])
    if failed:
        by_class = ", ".join(f"{n} of {label or 'no class'}" for label, n in failed.items())
        notes.append(
            f"{failed.total()} images could not be read and are left out: {by_class}. "
            f"Reasons: featx info {store.path} --bad"
        )
    labelled = np.array([label is not None for label in images.label], bool)
    if not labelled.any():
        message = (
            f"No image in {store.path} has a label. Labels come from class folders "
            "(data/CLASS/… or data/train/CLASS/…) or a manifest: featx extract --manifest table.csv"
        )
        raise FitError(message)
    n_unlabelled = int(np.sum(images.done & ~labelled))
    if n_unlabelled:
        notes.append(f"{n_unlabelled} images have no label and are left out.")
    rows = np.flatnonzero(images.done & labelled)
    if len(np.unique(images.label[rows].astype(str))) < 2:
        message = (
            f"{store.path} has {len(rows)} usable images with a label, of fewer than two classes. "
            "A classifier needs images of two classes."
        )
        raise FitError(message)
    return rows, notes


def divide(store: Store, rows: Rows) -> tuple[Division, list[str]]:
    """Return positions in `rows` to fit on and to score, and what is left out."""
    split = store.images.split[rows]
    given = set(split) - {None}
    if not given:
        every = np.arange(len(rows))
        return Division(every, every, "folds"), []
    if "train" not in given:
        message = (
            f"{store.path} has images for {', '.join(sorted(given))}, but none for train. "
            "Put images to learn from into data/train/CLASS/."
        )
        raise FitError(message)
    notes = []
    n_without = int(np.sum(split == None))  # noqa: E711  element by element
    if n_without:
        notes.append(f"{n_without} images belong to no split and are left out.")
    scored_on = next((name for name in _SPLITS_SCORED if name in given), None)
    train = np.flatnonzero(split == "train")
    if scored_on is None:
        return Division(train, train, "folds"), notes
    if scored_on == "test" and "val" in given:
        train = np.flatnonzero((split == "train") | (split == "val"))
        notes.append("Fitted on train and val together; test is scored once.")
    return Division(train, np.flatnonzero(split == scored_on), scored_on), notes


def check_leaks(y: NDArray[np.str_], keys: NDArray[np.int32], division: Division) -> list[str]:
    """Say what given splits do to the score, without moving an image."""
    if division.scored_on == "folds":
        return []
    notes = []
    train, scored = division.train, division.scored
    n_shared = int(np.isin(keys[scored], keys[train]).sum())
    if n_shared:
        notes.append(
            f"{n_shared} images of {division.scored_on} have the same bytes or group as a "
            "training image: the score may flatter. Move them to one side."
        )
    unknown = sorted(set(y[scored]) - set(y[train]))
    if unknown:
        notes.append(
            f"No training image of {', '.join(unknown)}: those images count as wrong predictions."
        )
    return notes


def small_classes(y: NDArray[np.str_], keys: NDArray[np.int32]) -> list[str]:
    """Say what small classes do to the folds."""
    n_folds = fold_count(y, keys)
    counts = {label: len(np.unique(keys[y == label])) for label in np.unique(y)}
    single = [str(label) for label, count in counts.items() if count == 1]
    notes = []
    if n_folds < 5:
        label = min((c for c in counts if counts[c] > 1), key=counts.__getitem__)
        notes.append(
            f"{n_folds} folds rather than 5, since class {label} has {counts[label]} images or "
            "groups."
        )
    if single:
        notes.append(
            f"One image or group only in {', '.join(single)}: it cannot be learned and scored "
            "both, and counts as wrong."
        )
    return notes
