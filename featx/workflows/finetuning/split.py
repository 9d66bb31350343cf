"""The split of a fine-tuning: a training set, an early-stopping set and a test set.

A store of labelled images comes in; rows go out. Images that belong together stay together,
and the test set is taken first. Nothing is fitted here.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.choices import Duplicates
from featx.dataset.duplicates import DuplicatePair, duplicate_notes, find_duplicates
from featx.dataset.folds import group_numbers, make_folds
from featx.dataset.splits import Rows, leak_notes, make_split, usable_rows
from featx.errors import FitError
from featx.finetuning.trainer import Labels
from featx.fitting import Model
from featx.outputs import log_missing_names, write_csv
from featx.store import Store
from featx.text import counted

__all__ = ["FinetuneSplit", "labels_of", "split_digest", "split_images", "write_split"]

# The early-stopping set is one of so many folds of the training images: about 15 %.
_STOPPING_FOLDS = 7
# Without given splits, the test set is one of so many folds.
_TEST_FOLDS = 5


@dataclass(frozen=True)
class FinetuneSplit:
    """Rows of a store in three sets.

    Parameters
    ----------
    y : ndarray of object
        Label of every row of the store; None if it has none.
    groups : ndarray of int
        Group of every row; rows of a group are in one set.
    train_rows, stopping_rows, test_rows : ndarray of int
        Rows of the training set, of the early-stopping set and of the test set.
    test_from : str
        Where the test set comes from: "val", "test" or "a fold of 5".
    notes : tuple of str
        Warnings and other notes for the user.
    """

    y: NDArray[np.object_]
    groups: NDArray[np.int32]
    train_rows: Rows
    stopping_rows: Rows
    test_rows: Rows
    test_from: str
    notes: tuple[str, ...]


def split_images(
    store: Store, model: Model | None, seed: int, duplicates: Duplicates = "together"
) -> FinetuneSplit:
    """Split the images of a store.

    Parameters
    ----------
    store : Store
        Codes of labelled images.
    model : Model or None
        A model. Images that it was fitted on, near-duplicates of these and images of their
        groups cannot be test images.
    seed : int
        Random seed.
    duplicates : {"together", "keep"}, default="together"
        Whether near-duplicates stay in one set.

    Raises
    ------
    FitError
        There are too few images or classes, or no image can be a test image.
    """
    images = store.images
    rows, notes = usable_rows(store.path, images)
    y = images.label[rows].astype(str)
    found: tuple[DuplicatePair, ...] = ()
    if duplicates == "together":
        found = find_duplicates(images.sha256[rows], images.phash[rows], store.thumbnails()[rows])
    pairs = [(pair.first, pair.second) for pair in found]
    groups = group_numbers(images.group[rows], pairs=pairs)
    given, more = make_split(store.path, images.split[rows])
    notes += [*more, *duplicate_notes(found, images.path[rows], y)]
    known = _known(model, store, rows, duplicates)
    if given.scored_on == "folds":
        free = given.fit_rows[~np.isin(groups[given.fit_rows], groups[known])]
        folds = make_folds(y[free], groups[free], seed, _TEST_FOLDS)
        if not folds:
            message = (
                "No images are left for the test set: the classes are too small, nearly all images "
                "are near-duplicates (--duplicates keep treats these as different images), or the "
                "model of --from-model was fitted on nearly all of them. Put test images into "
                "data/val/CLASS and the others into data/train/CLASS, and fit again, or leave "
                "out --from-model."
            )
            raise FitError(message)
        test = free[folds[0][1]]
        train, stopping = np.setdiff1d(given.fit_rows, test), np.zeros(0, int)
        test_from = f"a fold of {_TEST_FOLDS}"
    else:
        test, test_from = given.score_rows[~known[given.score_rows]], given.scored_on
        n_known = len(given.score_rows) - len(test)
        if not len(test):
            message = (
                f"The model was fitted on all images of {test_from}, so none are left for the "
                "test set. Fit it again without --refit all, or leave out --from-model."
            )
            raise FitError(message)
        if n_known:
            notes.append(
                f"{counted(n_known, 'image')} of {test_from} left out of the test set, because "
                "the model was fitted on them, on near-duplicates of them or on their groups."
            )
        notes += leak_notes(y, groups, dataclasses.replace(given, score_rows=test))
        # If all three splits are given, val is the early-stopping set.
        train, stopping = given.search_rows, np.setdiff1d(given.fit_rows, given.search_rows)
    if not len(stopping):
        folds = make_folds(y[train], groups[train], seed, _STOPPING_FOLDS)
        if not folds:
            message = "Too few images for an early-stopping set. Add images, or use featx fit."
            raise FitError(message)
        train, stopping = train[folds[0][0]], train[folds[0][1]]
    # A class without training images cannot be learned, and would be wrong in every epoch.
    untrained = ~np.isin(y[stopping], y[train])
    moved = np.isin(groups[stopping], groups[stopping][untrained])
    train, stopping = np.concatenate([train, stopping[moved]]), stopping[~moved]
    all_labels = np.full(len(images), None, dtype=object)
    all_labels[rows] = y
    all_groups = np.arange(len(images), dtype=np.int32) + len(images)
    all_groups[rows] = groups
    return FinetuneSplit(
        y=all_labels,
        groups=all_groups,
        train_rows=np.sort(rows[train]),
        stopping_rows=np.sort(rows[stopping]),
        test_rows=np.sort(rows[test]),
        test_from=test_from,
        notes=tuple(notes),
    )


def _known(
    model: Model | None, store: Store, rows: Rows, duplicates: Duplicates
) -> NDArray[np.bool_]:
    """Return which rows a model knows: by their bytes, group or fingerprint, (n_rows,)."""
    if model is None:
        return np.zeros(len(rows), bool)
    images = store.images
    known = np.isin(images.sha256[rows].astype(str), list(model.fitted_on))
    if model.fingerprints is not None:
        known |= model.fingerprints.have_group(images.group[rows])
        if duplicates == "together":
            known |= model.fingerprints.are_near(store.thumbnails()[rows])
    return known


def write_split(path: Path, store: Store, split: FinetuneSplit) -> None:
    """Write the split as a table that `featx fit --labels` reads.

    Its column split has no entry for images of the early-stopping set, so that a fit leaves
    them out.
    """
    sets = {int(row): ("train", "train") for row in split.train_rows}
    sets |= {int(row): ("test", "test") for row in split.test_rows}
    sets |= {int(row): ("early-stopping", "") for row in split.stopping_rows}
    images = store.images
    log_missing_names(path, (*images.label, *images.group))
    table = (
        (images.path[row], images.label[row], of_fit, images.group[row], name)
        for row, (name, of_fit) in sorted(sets.items())
    )
    write_csv(path, ["path", "label", "split", "group", "set"], table)


def labels_of(split: FinetuneSplit, classes: Sequence[str], *, balanced: bool) -> Labels:
    """Return the labels as a training takes them.

    Parameters
    ----------
    split : FinetuneSplit
        Labels and rows.
    classes : sequence of str
        Classes of the head, sorted.
    balanced : bool
        Weigh the classes inversely to their frequencies in the training set.
    """
    index = {name: k for k, name in enumerate(classes)}
    numbers = np.array([index.get(label, 0) for label in split.y])  # 0 if it is in no set
    weights = np.ones(len(split.y))
    if balanced:
        counts = np.bincount(numbers[split.train_rows], minlength=len(classes))
        weights = (len(split.train_rows) / (len(classes) * np.maximum(counts, 1)))[numbers]
    return Labels(numbers, weights, split.train_rows, split.stopping_rows)


def split_digest(split: FinetuneSplit, store: Store) -> str:
    """Return a short text that changes with the images, their labels and their sets."""
    digest = hashlib.sha256()
    # The names are those of 0.1, so that its runs can be resumed.
    sets = (split.train_rows, split.stopping_rows, split.test_rows)
    for name, rows in zip(("fitted", "stopping", "untouched"), sets, strict=True):
        for row in rows:
            line = f"{store.images.sha256[row]} {split.y[row]} {name}\n"
            digest.update(line.encode(errors="surrogateescape"))
    counts = " + ".join(str(len(rows)) for rows in sets)
    return f"{counts} ({digest.hexdigest()[:12]})"
