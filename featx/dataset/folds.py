"""Stratified folds that keep groups of images together.

Labels and group numbers go in; pairs of training and test rows come out. Images of one
group (a patient, a site) and duplicates of one image are always in the same fold. This
module does not read files and does not know codes.
"""

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

__all__ = [
    "DEFAULT_FOLDS",
    "fold_count",
    "group_numbers",
    "groups_by_class",
    "make_folds",
    "usual_repeats",
]

#: Number of folds where the user gives none.
DEFAULT_FOLDS = 5

# Fewest images, and the number of repeats for so many. With these numbers, other folds change the
# accuracy by 0.01 to 0.02 (one standard deviation), instead of up to 0.045 (benchmarks/README.md,
# "Repeats of the cross-validation").
_REPEATS = ((300, 1), (100, 3), (0, 5))

_Rows = NDArray[np.integer]


def usual_repeats(n_images: int) -> int:
    """Return how often a cross-validation is repeated where the user gives no number.

    Few images are divided into folds by chance, and other folds give another score. The mean of
    several cross-validations depends less on this chance, and few images are fitted quickly.

    Parameters
    ----------
    n_images : int
        Number of images that are scored.

    Examples
    --------
    >>> usual_repeats(80), usual_repeats(100), usual_repeats(300)
    (5, 3, 1)
    """
    return next(n_repeats for fewest, n_repeats in _REPEATS if n_images >= fewest)


def group_numbers(
    *columns: Iterable[str | None], pairs: Iterable[tuple[int, int]] = ()
) -> NDArray[np.int32]:
    """Assign a group number to each row; rows that must stay together have the same one.

    Two rows are in one group if they have the same value in any column, if they are one
    of the `pairs`, or if other rows link them. None and "" link no rows.

    Parameters
    ----------
    *columns : iterable of str or None, each of length n
        Group names, content hashes and the like.
    pairs : iterable of (int, int), optional
        Further rows that belong together, such as near-duplicates.

    Returns
    -------
    ndarray of int32, shape (n,)
        Equal for rows of the same group.

    Examples
    --------
    >>> group_numbers(["a", "a", None, None], ["1", "2", "2", "3"]).tolist()
    [0, 0, 0, 1]
    >>> group_numbers(["a", "a", None, None], pairs=[(2, 3)]).tolist()
    [0, 0, 1, 1]
    """
    listed = [list(column) for column in columns]
    n = len(listed[0])
    # A graph with one node for each row, and one for each value of each column.
    nodes: dict[tuple[int, str], int] = {}
    edges = list(pairs)
    for k, column in enumerate(listed):
        for row, value in enumerate(column):
            if value:
                edges.append((row, nodes.setdefault((k, value), n + len(nodes))))
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    shape = (n + len(nodes),) * 2
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=shape)
    numbers: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return numbers[:n]


def groups_by_class(y: NDArray[np.str_], groups: NDArray[np.int32]) -> dict[str, int]:
    """Return the number of groups of each class."""
    return {str(label): len(np.unique(groups[y == label])) for label in np.unique(y)}


def fold_count(y: NDArray[np.str_], groups: NDArray[np.int32], n_folds: int = DEFAULT_FOLDS) -> int:
    """Return how many folds the labels allow: at most `n_folds`, or 0 if none are possible.

    Every class with two or more groups should be in every fold. A class with a single
    group cannot be divided, so it sets no limit.
    """
    divisible = [count for count in groups_by_class(y, groups).values() if count > 1]
    return min(n_folds, *divisible) if len(divisible) > 1 else 0


def make_folds(
    y: NDArray[np.str_], groups: NDArray[np.int32], seed: int, n_folds: int = DEFAULT_FOLDS
) -> list[tuple[_Rows, _Rows]]:
    """Make shuffled, stratified folds; all rows of a group are in one fold.

    Parameters
    ----------
    y : ndarray of str, shape (n,)
        Labels.
    groups : ndarray of int, shape (n,)
        Group numbers, see `group_numbers`.
    seed : int
        Random seed of the shuffle.
    n_folds : int, default=5
        Number of folds. There are fewer if a class has fewer images or groups.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        Positions of the training and test rows of each fold. The list is empty if no
        folds are possible, or if a training part would have a single class.
    """
    n_folds = fold_count(y, groups, n_folds)
    if n_folds == 0:
        return []
    grouped = len(np.unique(groups)) < len(groups)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn warns about classes smaller than the number of folds; callers report
        # these themselves, see `featx.dataset.splits.small_class_notes`.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        pairs = list(splitter.split(np.zeros(len(y)), y, groups if grouped else None))
    return pairs if all(len(np.unique(y[train])) > 1 for train, _ in pairs) else []
