"""Rows for searching settings, for fitting and for scoring.

The labels, splits and groups of the images of a store go in. Row numbers come out, with
notes about images that are left out and about splits that make the score too optimistic.
This module never looks at codes.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featx.choices import Select
from featx.dataset.folds import DEFAULT_FOLDS, fold_count, groups_by_class, make_folds
from featx.errors import FitError, OptionError, StoreError
from featx.store import ImageTable, Status
from featx.text import counted

__all__ = [
    "DataSplit",
    "check_complete",
    "inner_folds",
    "leak_notes",
    "make_split",
    "outer_folds",
    "shares_training_group",
    "small_class_notes",
    "usable_rows",
]

Rows = NDArray[np.integer]
ScoredOn = Literal["test", "val", "folds"]
_NO_ROWS = np.zeros(0, int)


@dataclass(frozen=True)
class DataSplit:
    """Rows for searching settings, for fitting the chosen classifier and for scoring it.

    All rows are positions among the usable rows of a store.

    Parameters
    ----------
    search_rows : ndarray of int
        Rows on which settings are searched.
    validation_rows : ndarray of int
        Rows that decide between settings (`--select val`). If there are none,
        cross-validation on `search_rows` decides.
    fit_rows : ndarray of int
        Rows on which the chosen classifier is fitted.
    score_rows : ndarray of int
        Rows on which it is scored. These are the `fit_rows` if folds are scored.
    scored_on : {"test", "val", "folds"}
        Where the score comes from.
    """

    search_rows: Rows
    validation_rows: Rows
    fit_rows: Rows
    score_rows: Rows
    scored_on: ScoredOn


def check_complete(path: Path, images: ImageTable, *, partial: bool) -> list[str]:
    """Refuse a store with pending rows; with `partial`, return a note about them instead."""
    pending = int(np.sum(images.status == Status.PENDING))
    if not pending:
        return []
    counts = f"codes of {pending:,} of {counted(len(images), 'image')} are missing"
    if not partial:
        message = (
            f"{path} is not complete: {counts}. Run the same featx extract command again to "
            "resume it, or use --partial to fit without the missing images."
        )
        raise StoreError(message)
    return [f"{counts.capitalize()}; the classifier is fitted without them (--partial)."]


def usable_rows(path: Path, images: ImageTable) -> tuple[Rows, list[str]]:
    """Return the rows that have codes and a label, and notes about the others."""
    notes = []
    failed = Counter(images.label[images.status == Status.FAILED])
    if failed:
        by_class = ", ".join(f"{n} of {label or 'no class'}" for label, n in failed.items())
        bad = counted(failed.total(), "image")
        notes.append(
            f"Left out: {bad} that cannot be read: {by_class}. Reasons: featx info {path} --bad"
        )
    labelled = np.array([label is not None for label in images.label], bool)
    if not labelled.any():
        message = (
            f"No image in {path} has a label. Labels come from class folders "
            "(data/CLASS/… or data/train/CLASS/…), a manifest (featx extract --manifest "
            "table.csv), or a table: featx fit --labels table.csv"
        )
        raise FitError(message)
    if n_unlabelled := int(np.sum(images.done & ~labelled)):
        notes.append(f"Left out: {counted(n_unlabelled, 'image')} without a label.")
    rows = np.flatnonzero(images.done & labelled)
    if len(np.unique(images.label[rows].astype(str))) < 2:
        message = (
            f"{path} has {counted(len(rows), 'usable image')} with a label, from fewer than two "
            "classes. A classifier requires images of at least two classes."
        )
        raise FitError(message)
    return rows, notes


def make_split(
    path: Path, split: NDArray[np.object_], *, select: Select | None = None
) -> tuple[DataSplit, list[str]]:
    """Return the rows to search on, to fit on and to score, and notes about the others.

    Parameters
    ----------
    path : Path
        Path of the store, for messages.
    split : ndarray of str or None, shape (n,)
        Split of each usable row.
    select : {"val"}, optional
        Choose settings on val instead of by cross-validation on train. This requires all
        three splits.

    Raises
    ------
    OptionError
        `select` is "val", and one of the three splits is missing.
    FitError
        There are splits, but no training images.
    """
    given = set(split) - {None}
    if select and given != {"train", "val", "test"}:
        message = (
            "--select val requires the splits train, val and test, since it chooses settings on "
            f"val and scores on test. {path} has {', '.join(sorted(given)) or 'no splits'}. "
            "Leave it out to choose settings by cross-validation on the training images."
        )
        raise OptionError(message)
    if not given:
        every = np.arange(len(split))
        return DataSplit(every, _NO_ROWS, every, every, "folds"), []
    if "train" not in given:
        message = (
            f"{path} has images for {', '.join(sorted(given))}, but none for train. "
            "Put training images into data/train/CLASS/."
        )
        raise FitError(message)
    notes = []
    if n_without := int(np.sum(split == None)):  # noqa: E711  element by element
        notes.append(f"Left out: {counted(n_without, 'image')} without a split.")
    train, val, test = (np.flatnonzero(split == name) for name in ("train", "val", "test"))
    if given == {"train"}:
        return DataSplit(train, _NO_ROWS, train, train, "folds"), notes
    if "test" not in given:
        return DataSplit(train, _NO_ROWS, train, val, "val"), notes
    if "val" in given:
        where = "val" if select else "folds of train"
        notes.append(
            f"Settings are chosen on {where}; the classifier is fitted on train and val, and "
            "scored once on test."
        )
    decides = val if select else _NO_ROWS
    return DataSplit(train, decides, np.union1d(train, val), test, "test"), notes


def outer_folds(
    split: DataSplit,
    y: NDArray[np.str_],
    groups: NDArray[np.int32],
    *,
    seed: int,
    n_folds: int,
    n_repeats: int,
) -> list[DataSplit]:
    """Return the folds that are scored, repeat after repeat; each repeat scores every row once."""
    rows = split.score_rows
    folds = []
    for repeat in range(n_repeats):
        pairs = make_folds(y[rows], groups[rows], seed + repeat, n_folds)
        if not pairs:
            message = (
                "No images can be held out for scoring: fewer than two classes have two images of "
                "different groups. Near-duplicates are one group; --duplicates keep treats them as "
                "different images. Or add images, or a validation split: data/train/CLASS, "
                "data/val/CLASS."
            )
            raise FitError(message)
        folds += [
            DataSplit(rows[train], _NO_ROWS, rows[train], rows[test], "folds")
            for train, test in pairs
        ]
    return folds


def inner_folds(
    split: DataSplit, y: NDArray[np.str_], groups: NDArray[np.int32], seed: int
) -> tuple[Rows, list[tuple[Rows, Rows]]]:
    """Return the rows on which settings are chosen, and pairs of positions in them.

    Each pair is a training part and a held-out part. There are no pairs if there are too
    few rows to hold any out.
    """
    n = len(split.search_rows)
    if len(split.validation_rows):
        rows = np.concatenate([split.search_rows, split.validation_rows])
        return rows, [(np.arange(n), np.arange(n, len(rows)))]
    rows = split.search_rows
    return rows, make_folds(y[rows], groups[rows], seed)


def leak_notes(y: NDArray[np.str_], groups: NDArray[np.int32], split: DataSplit) -> list[str]:
    """Return notes about given splits that bias the score; no image is moved."""
    if split.scored_on == "folds":
        return []
    notes, on = [], split.scored_on
    if n_shared := int(np.sum(shares_training_group(groups, split))):
        notes.append(
            f"{counted(n_shared, f'image of {on} is', f'images of {on} are')} a duplicate, or in "
            "the group, of a training image, so the score may be too high. Move both to one split."
        )
    return notes


def shares_training_group(groups: NDArray[np.int32], split: DataSplit) -> NDArray[np.bool_]:
    """Return which scored rows have a duplicate or group member in training, shape (n_scored,)."""
    return np.asarray(np.isin(groups[split.score_rows], groups[split.fit_rows]))


def small_class_notes(
    y: NDArray[np.str_], groups: NDArray[np.int32], n_folds: int = DEFAULT_FOLDS
) -> list[str]:
    """Return notes about classes that are too small for the folds."""
    possible = fold_count(y, groups, n_folds)
    counts = groups_by_class(y, groups)
    notes = []
    if 0 < possible < n_folds:
        label = min((c for c in counts if counts[c] > 1), key=counts.__getitem__)
        notes.append(
            f"{possible} folds instead of {n_folds}, because class {label} has {counts[label]} "
            "images or groups."
        )
    if single := [label for label, count in counts.items() if count == 1]:
        notes.append(
            f"{', '.join(single)} has a single image or group, which cannot be used for both "
            "training and scoring."
        )
    return notes
