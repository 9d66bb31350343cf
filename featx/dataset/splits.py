"""Which rows are chosen on, fitted on and scored.

The facts of images come in; rows, their division, and sentences for the user
about what is left out or may mislead go out. Nothing is decided here by
looking at codes.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featx.dataset.folds import fold_count, make_folds
from featx.errors import FitError, OptionError, StoreError
from featx.store import ImageTable, Status
from featx.text import counted

__all__ = [
    "DataSplit",
    "check_complete",
    "check_leaks",
    "chosen_on",
    "divide",
    "scored_folds",
    "small_classes",
    "usable_rows",
]

Rows = NDArray[np.integer]
ScoredOn = Literal["test", "val", "folds"]
_SPLITS_SCORED: tuple[ScoredOn, ...] = ("test", "val")


@dataclass(frozen=True)
class DataSplit:
    """Which rows are chosen on, fitted on and scored.

    Parameters
    ----------
    searched : ndarray of int
        Positions, among the usable rows, of those that choices are made on.
    selected : ndarray of int
        Where the choice is made on a split of its own (`--select val`), its
        rows; otherwise none, and the choice is made on folds of `searched`.
    fitted : ndarray of int
        Those that the scored classifier is fitted on.
    scored : ndarray of int
        Those it is scored on; the same as `fitted` where folds are scored.
    scored_on : {"test", "val", "folds"}
        Where the score comes from.
    """

    searched: Rows
    selected: Rows
    fitted: Rows
    scored: Rows
    scored_on: ScoredOn


def check_complete(path: Path, images: ImageTable, *, partial: bool) -> list[str]:
    """Refuse a store with pending rows, unless `partial`; then say how many."""
    pending = int(np.sum(images.status == Status.PENDING))
    if not pending:
        return []
    counts = f"codes of {pending:,} of {counted(len(images), 'image')} are missing"
    if not partial:
        message = (
            f"{path} is not complete: {counts}. Run its featx extract again, which goes on "
            "where it stopped, or fit what is there with --partial."
        )
        raise StoreError(message)
    return [f"{counts.capitalize()}; fitted without them (--partial)."]


def usable_rows(path: Path, images: ImageTable) -> tuple[Rows, list[str]]:
    """Return the rows that are done and labelled, and what is left out."""
    notes = []
    failed = Counter(images.label[images.status == Status.FAILED])
    if failed:
        by_class = ", ".join(f"{n} of {label or 'no class'}" for label, n in failed.items())
        left_out = counted(
            failed.total(),
            "image could not be read and is left out",
            "images could not be read and are left out",
        )
        notes.append(f"{left_out}: {by_class}. Reasons: featx info {path} --bad")
    labelled = np.array([label is not None for label in images.label], bool)
    if not labelled.any():
        message = (
            f"No image in {path} has a label. Labels come from class folders "
            "(data/CLASS/… or data/train/CLASS/…), a manifest (featx extract --manifest "
            "table.csv), or a table: featx fit --labels table.csv"
        )
        raise FitError(message)
    n_unlabelled = int(np.sum(images.done & ~labelled))
    if n_unlabelled:
        notes.append(
            counted(
                n_unlabelled,
                "image has no label and is left out.",
                "images have no label and are left out.",
            )
        )
    rows = np.flatnonzero(images.done & labelled)
    if len(np.unique(images.label[rows].astype(str))) < 2:
        message = (
            f"{path} has {counted(len(rows), 'usable image')} with a label, of fewer than two "
            "classes. A classifier needs images of two classes."
        )
        raise FitError(message)
    return rows, notes


def divide(
    path: Path, split: NDArray[np.object_], *, select: str | None = None
) -> tuple[DataSplit, list[str]]:
    """Return positions to choose on, to fit on and to score, and what is left out.

    Parameters
    ----------
    path : Path
        Of the store, for messages.
    split : ndarray of str or None, shape (n,)
        Of the usable rows.
    select : {"val"}, optional
        Choose on val rather than on folds of train; needs all three splits.
    """
    if select not in {None, "val"}:
        message = f"Cannot select on '{select}'. Expected --select val."
        raise OptionError(message)
    given = set(split) - {None}
    if select and given != {"train", "val", "test"}:
        message = (
            f"--select val chooses on val and scores test, so it needs train, val and test. {path} "
            f"has {', '.join(sorted(given)) or 'no splits'}. Leave it out: choices are then made "
            "on folds of the training part."
        )
        raise OptionError(message)
    nothing = np.zeros(0, int)
    if not given:
        every = np.arange(len(split))
        return DataSplit(every, nothing, every, every, "folds"), []
    if "train" not in given:
        message = (
            f"{path} has images for {', '.join(sorted(given))}, but none for train. "
            "Put images to learn from into data/train/CLASS/."
        )
        raise FitError(message)
    notes = []
    n_without = int(np.sum(split == None))  # noqa: E711  element by element
    if n_without:
        notes.append(
            counted(
                n_without,
                "image belongs to no split and is left out.",
                "images belong to no split and are left out.",
            )
        )
    scored_on = next((name for name in _SPLITS_SCORED if name in given), None)
    train = np.flatnonzero(split == "train")
    if scored_on is None:
        return DataSplit(train, nothing, train, train, "folds"), notes
    scored, fitted, selected = np.flatnonzero(split == scored_on), train, nothing
    if scored_on == "test" and "val" in given:
        fitted = np.flatnonzero((split == "train") | (split == "val"))
        selected = np.flatnonzero(split == "val") if select else nothing
        where = "val" if select else "folds of train"
        notes.append(f"Chosen on {where}, fitted on train and val together; test is scored once.")
    return DataSplit(train, selected, fitted, scored, scored_on), notes


def scored_folds(
    division: DataSplit,
    y: NDArray[np.str_],
    keys: NDArray[np.int32],
    *,
    seed: int,
    n_folds: int,
    n_repeats: int,
) -> list[DataSplit]:
    """Return the folds that are scored, as divisions; of every repeat, each row once."""
    rows = division.scored
    parts = []
    for repeat in range(n_repeats):
        pairs = make_folds(y[rows], keys[rows], seed + repeat, n_folds)
        if not pairs:
            message = (
                "Fewer than two classes have two images that do not belong together, so nothing "
                "can be held out to score. Add images, or a val split: data/train/CLASS, "
                "data/val/CLASS."
            )
            raise FitError(message)
        nothing = np.zeros(0, int)
        parts += [
            DataSplit(rows[train_part], nothing, rows[train_part], rows[test], "folds")
            for train_part, test in pairs
        ]
    return parts


def chosen_on(
    part: DataSplit, y: NDArray[np.str_], keys: NDArray[np.int32], seed: int
) -> tuple[Rows, list[tuple[Rows, Rows]]]:
    """Return the rows that choices are made on, and pairs of positions in them: fitted, held out.

    There are no pairs where too few rows leave nothing to hold out.
    """
    if len(part.selected):
        rows = np.concatenate([part.searched, part.selected])
        edge = len(part.searched)
        return rows, [(np.arange(edge), np.arange(edge, len(rows)))]
    return part.searched, make_folds(y[part.searched], keys[part.searched], seed)


def check_leaks(y: NDArray[np.str_], keys: NDArray[np.int32], division: DataSplit) -> list[str]:
    """Say what given splits do to the score, without moving an image."""
    if division.scored_on == "folds":
        return []
    notes, on = [], division.scored_on
    n_shared = int(np.sum(twins(keys, division)))
    if n_shared:
        notes.append(
            f"{counted(n_shared, f'image of {on} is', f'images of {on} are')} a copy, or of the "
            "group, of a training image: the score may flatter. Move them to one side."
        )
    unknown = sorted(set(y[division.scored]) - set(y[division.fitted]))
    if unknown:
        notes.append(
            f"No training image of {', '.join(unknown)}: those images count as wrong predictions."
        )
    return notes


def twins(keys: NDArray[np.int32], division: DataSplit) -> NDArray[np.bool_]:
    """Return which of the scored rows belong together with a fitted one, shape (n_scored,)."""
    return np.asarray(np.isin(keys[division.scored], keys[division.fitted]))


def small_classes(y: NDArray[np.str_], keys: NDArray[np.int32], n_folds: int = 5) -> list[str]:
    """Say what small classes do to the folds."""
    possible = fold_count(y, keys, n_folds)
    counts = {label: len(np.unique(keys[y == label])) for label in np.unique(y)}
    single = [str(label) for label, count in counts.items() if count == 1]
    notes = []
    if 0 < possible < n_folds:
        label = min((c for c in counts if counts[c] > 1), key=counts.__getitem__)
        notes.append(
            f"{possible} folds rather than {n_folds}, since class {label} has {counts[label]} "
            "images or groups."
        )
    if single:
        notes.append(
            f"One image or group only in {', '.join(single)}: it cannot be learned and scored "
            "both, and counts as wrong."
        )
    return notes
