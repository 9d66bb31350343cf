"""Prepare a fit: everything that can be refused before codes are read is refused here.

Settings come in. Stores are opened and labels, groups and thumbnails are read, but not codes. A
job goes out: which images are fitted on and scored, the settings to search, and which
solver fits in memory.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.codes.joining import JoinedStores, join_stores
from featx.codes.matrix import Rows
from featx.dataset.duplicates import DuplicatePair, duplicate_notes, find_duplicates
from featx.dataset.folds import group_numbers, usual_repeats
from featx.dataset.labels import relabel
from featx.dataset.splits import (
    DataSplit,
    check_complete,
    inner_folds,
    leak_notes,
    make_split,
    outer_folds,
    usable_rows,
)
from featx.errors import OptionError
from featx.fitting.grid_search import SearchSpace
from featx.fitting.settings import FitSettings
from featx.fitting.solvers import SolverPlan, plan_solver
from featx.metrics.two_classes import check_positive
from featx.outputs import check_output
from featx.signatures import takes_fields_of
from featx.text import counted

__all__ = ["FitJob", "prepare_fit"]

# Principal components that take more bytes than this are reported before the fit.
_LARGE_BYTES = 500_000_000


@dataclass(frozen=True)
class FitJob:
    """A fit that is ready to run; `prepare_fit` makes it.

    Parameters
    ----------
    settings : FitSettings
        The settings of the fit, with the number of repeats if folds are scored.
    joined : JoinedStores
        The stores.
    rows : ndarray of int, shape (n,)
        Rows of the stores that have codes and a label.
    y : ndarray of str, shape (n,)
        Their labels.
    groups : ndarray of int, shape (n,)
        Equal numbers for images that must stay in one fold.
    split : DataSplit
        Which of these images are searched, fitted on and scored.
    duplicates : tuple of DuplicatePair
        Pairs of near-duplicates.
    solver : SolverPlan
        How the classifier is fitted, with an estimate of time and memory.
    space : SearchSpace
        What the search chooses from.
    notes : tuple of str
        Warnings and other notes for the user.
    group_names : tuple of str or None, default=()
        Names of the groups of the images, of which the model keeps digests.
    """

    settings: FitSettings
    joined: JoinedStores
    rows: Rows
    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    split: DataSplit
    duplicates: tuple[DuplicatePair, ...]
    solver: SolverPlan
    space: SearchSpace
    notes: tuple[str, ...]
    group_names: tuple[str | None, ...] = ()

    @property
    def scored_splits(self) -> list[DataSplit]:
        """The given split, or else the folds of the cross-validation, repeat after repeat."""
        return _scored_splits(self.settings, self.split, self.y, self.groups)

    @property
    def training_folds(self) -> list[DataSplit]:
        """Folds of the training set, so that a comparison does not use a given test set."""
        rows, settings = self.split.search_rows, dataclasses.replace(self.settings, repeats=1)
        split = dataclasses.replace(self.split, fit_rows=rows, score_rows=rows, scored_on="folds")
        return _scored_splits(settings, split, self.y, self.groups)


@takes_fields_of(FitSettings)
def prepare_fit(settings: FitSettings) -> FitJob:
    """Check the settings of a fit and choose its solver; codes are not read.

    Returns
    -------
    FitJob
        For `run_fit`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed, or two settings contradict each other.
    ExistsError
        The output exists, and `overwrite` is False.
    StoreError, RecipeMismatchError
        A store cannot be read, is not complete, or cannot be joined with another.
    FitError
        The labels allow no classifier or no score.
    """
    if settings.output is not None:
        suffixes = (".skops", ".joblib")
        check_output(settings.output, overwrite=settings.overwrite, suffixes=suffixes)
    joined = join_stores(settings.codes, settings.layer)
    if settings.normalise == "none" and len(joined.recipe.layers) > 1:
        message = (
            "Codes of several layers are concatenated at unit length, which --normalise none does "
            "not allow. Use --normalise l2, or only one --layer."
        )
        raise OptionError(message)
    notes = [*joined.notes]
    for store in joined.stores:
        notes += check_complete(store.path, store.images, partial=settings.partial)
    images, label_notes = relabel(joined.images, settings)
    rows, row_notes = usable_rows(joined.path, images)
    split, split_notes = make_split(joined.path, images.split[rows], select=settings.select)
    y = images.label[rows].astype(str)
    if settings.positive is not None:
        check_positive(settings.positive, [str(label) for label in np.unique(y)])
    duplicates: tuple[DuplicatePair, ...] = ()
    if settings.duplicates == "together":
        thumbnails = joined.thumbnails(rows)
        duplicates = find_duplicates(images.sha256[rows], images.phash[rows], thumbnails)
    pairs = [(pair.first, pair.second) for pair in duplicates]
    groups = group_numbers(images.group[rows], pairs=pairs)
    notes += [*label_notes, *row_notes, *split_notes, *leak_notes(y, groups, split)]
    notes += duplicate_notes(duplicates, images.path[rows], y)
    width, components = joined.recipe.n_features, settings.components
    if components is not None:
        splits = [split, *_scored_splits(settings, split, y, groups)]
        fewest = _fewest_fitted(splits, y, groups, settings.seed)
        notes += _check_components(components, width, fewest)
    scores_folds = split.scored_on == "folds"
    solver, space = plan_solver(settings, width, y, scores_folds=scores_folds)
    if scores_folds and solver.is_exact:
        # The model stores the number, so that the same fit can be made again.
        settings = dataclasses.replace(settings, repeats=_n_repeats(settings, split))
    names = tuple(images.group[rows].tolist())
    return FitJob(
        settings, joined, rows, y, groups, split, duplicates, solver, space, tuple(notes), names
    )


def _scored_splits(
    settings: FitSettings, split: DataSplit, y: NDArray[np.str_], groups: NDArray[np.int32]
) -> list[DataSplit]:
    if split.scored_on != "folds":
        return [split]
    n_repeats = _n_repeats(settings, split)
    return outer_folds(
        split, y, groups, seed=settings.seed, n_folds=settings.folds, n_repeats=n_repeats
    )


def _n_repeats(settings: FitSettings, split: DataSplit) -> int:
    return settings.repeats or usual_repeats(len(split.score_rows))


def _fewest_fitted(
    splits: Sequence[DataSplit], y: NDArray[np.str_], groups: NDArray[np.int32], seed: int
) -> int:
    """Return the size of the smallest training set, including those of the search."""
    pairs = [pair for split in splits for pair in inner_folds(split, y, groups, seed)[1]]
    fitted = [*(split.fit_rows for split in splits), *(rows for rows, _ in pairs)]
    return min(len(rows) for rows in fitted)


def _check_components(components: int, width: int, fewest: int) -> list[str]:
    """Refuse more components than each training set allows, and report those that are large."""
    most = min(fewest - 1, width)
    if components > most > 0:  # a training set of one image has one class and is refused later
        why = (
            f"the codes have {counted(width, 'feature')}"
            if most == width
            else f"the smallest training set of the cross-validation has {counted(fewest, 'image')}"
        )
        message = f"Cannot compute {components} components: {why}. Use --components {most} or less."
        raise OptionError(message)
    n_bytes = 4 * components * width
    if n_bytes <= _LARGE_BYTES:
        return []
    return [
        f"{components} components of {width:,} features add {n_bytes / 1e9:.2f} GB to the model. "
        "Use a smaller --components for a smaller model."
    ]
