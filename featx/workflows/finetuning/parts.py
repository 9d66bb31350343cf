"""The parts of a fine-tuning's images: what is trained on, what stops, what nobody sees.

A store comes in, whose images have labels, splits and groups; rows go out. What the
comparison is scored on is taken first. Nothing is fitted here.
"""

import csv
import dataclasses
import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.dataset.duplicates import find_duplicates
from featx.dataset.folds import group_numbers, make_folds
from featx.dataset.splits import leak_notes, make_split, usable_rows
from featx.errors import FitError
from featx.finetuning.steps import Labels
from featx.outputs import whole_file
from featx.store import Store
from featx.text import counted

__all__ = ["Parts", "divide_parts", "labels_of", "parts_digest", "write_parts"]

Rows = NDArray[np.integer]

# One of so many folds of the training part stops: about 15 %.
_STOP_FOLDS = 7
# Without splits, one of so many folds is what the comparison is scored on.
_UNTOUCHED_FOLDS = 5


@dataclass(frozen=True)
class Parts:
    """Rows of a store: what is trained on, what stops, and what nobody sees.

    Parameters
    ----------
    y : ndarray of object
        Label of every row of the store, None where it has none.
    groups : ndarray of int
        Of every row: equal where images belong together.
    fitted, stopping, untouched : ndarray of int
        Rows.
    where : str
        Where the untouched ones come from.
    notes : tuple of str
        What the user should know.
    """

    y: NDArray[np.object_]
    groups: NDArray[np.int32]
    fitted: Rows
    stopping: Rows
    untouched: Rows
    where: str
    notes: tuple[str, ...]


def divide_parts(store: Store, fitted_before: Set[str], seed: int) -> Parts:
    """Divide the images; those that belong together stay together.

    Parameters
    ----------
    store : Store
        With labels.
    fitted_before : set of str
        sha256 of images that can no longer be untouched.
    seed : int
        Of what is drawn.

    Raises
    ------
    FitError
        Too few images, of too few classes, or none that can be untouched.
    """
    images = store.images
    rows, notes = usable_rows(store.path, images)
    y = images.label[rows].astype(str)
    copies = find_duplicates(images.sha256[rows], images.phash[rows], store.thumbnails()[rows])
    groups = group_numbers(images.group[rows], pairs=[(pair.first, pair.second) for pair in copies])
    split, said = make_split(store.path, images.split[rows])
    notes += said
    known = np.isin(images.sha256[rows].astype(str), list(fitted_before))
    if split.scored_on == "folds":
        free = split.fit_rows[~np.isin(groups[split.fit_rows], groups[known])]
        pairs = make_folds(y[free], groups[free], seed, _UNTOUCHED_FOLDS)
        if not pairs:
            message = (
                "No images are left to compare on: the bundle was fitted on nearly all of them, "
                "or classes are too small. Make a val split: data/train/CLASS, data/val/CLASS, "
                "and fit again, or leave out --from-bundle."
            )
            raise FitError(message)
        untouched = free[pairs[0][1]]
        rest = np.setdiff1d(split.fit_rows, untouched)
        where = f"a fold of {_UNTOUCHED_FOLDS}"
        stopping = np.zeros(0, int)
    else:
        untouched = split.score_rows[~known[split.score_rows]]
        if len(untouched) < len(split.score_rows):
            n_known = len(split.score_rows) - len(untouched)
            notes.append(
                f"{counted(n_known, 'image')} of {split.scored_on} left out, since the bundle "
                "was fitted there."
            )
        if not len(untouched):
            message = (
                f"The bundle was fitted on all images of {split.scored_on}, so nothing is left "
                "to compare on. Fit it again without --refit all, or leave out --from-bundle."
            )
            raise FitError(message)
        where = split.scored_on
        notes += leak_notes(y, groups, dataclasses.replace(split, score_rows=untouched))
        # With all three splits val stops, whole.
        rest = split.search_rows
        stopping = np.setdiff1d(split.fit_rows, split.search_rows)
    if not len(stopping):
        pairs = make_folds(y[rest], groups[rest], seed, _STOP_FOLDS)
        if not pairs:
            message = (
                "Too few images to hold some out that stop the training. Add images, or use "
                "featx fit."
            )
            raise FitError(message)
        stopping, rest = rest[pairs[0][1]], rest[pairs[0][0]]
    # A class that only stops cannot be learned; its images would count as wrong in every epoch.
    unknown = np.isin(groups[stopping], groups[stopping][~np.isin(y[stopping], y[rest])])
    rest, stopping = np.concatenate([rest, stopping[unknown]]), stopping[~unknown]
    every = np.full(len(images), None, dtype=object)
    every[rows] = y
    number = np.arange(len(images), dtype=np.int32) + len(images)
    number[rows] = groups
    return Parts(
        every,
        number,
        np.sort(rows[rest]),
        np.sort(rows[stopping]),
        np.sort(rows[untouched]),
        where,
        tuple(notes),
    )


def write_parts(path: Path, store: Store, parts: Parts) -> None:
    """Write the parts as a table that `featx fit --labels` reads: fitted is train."""
    split = {int(row): "train" for row in parts.fitted}
    split |= {int(row): "val" for row in parts.untouched}
    split |= {int(row): "" for row in parts.stopping}
    with (
        whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group", "part"])
        for row, name in sorted(split.items()):
            facts = store.images
            part = {"train": "fitted", "val": "untouched", "": "stopping"}[name]
            writer.writerow([facts.path[row], facts.label[row], name, facts.group[row] or "", part])


def labels_of(parts: Parts, classes: Sequence[str], *, balanced: bool) -> Labels:
    """Return the parts as a training takes them.

    Parameters
    ----------
    parts : Parts
        Labels and rows.
    classes : sequence of str
        Of the head, sorted.
    balanced : bool
        Whether small classes count as much as large ones.
    """
    known = [row for row in range(len(parts.y)) if parts.y[row] in classes]
    numbers = np.zeros(len(parts.y), np.int64)
    numbers[known] = np.searchsorted(classes, parts.y[known].astype(str))
    weights = np.ones(len(parts.y))
    if balanced:
        counts = np.bincount(numbers[parts.fitted], minlength=len(classes))
        weights = (len(parts.fitted) / (len(classes) * np.maximum(counts, 1)))[numbers]
    return Labels(numbers, weights, parts.fitted, parts.stopping)


def parts_digest(parts: Parts, store: Store) -> str:
    """Return a line by which other images, labels or parts are noticed."""
    digest = hashlib.sha256()
    for name in ("fitted", "stopping", "untouched"):
        for row in getattr(parts, name):
            line = f"{store.images.sha256[row]} {parts.y[row]} {name}\n"
            digest.update(line.encode(errors="surrogateescape"))
    counts = f"{len(parts.fitted)} + {len(parts.stopping)} + {len(parts.untouched)}"
    return f"{counts} ({digest.hexdigest()[:12]})"
