"""Folds that leak nothing: what belongs together is never on both sides.

Labels, groups and content hashes come in; pairs of training and test rows go
out. Images of one group (a patient, a site, an emoji in two styles) and files
with the same bytes share a fold.
"""

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

__all__ = ["FOLDS", "fold_count", "make_folds", "together"]

#: Of a cross-validation, where nothing else is asked for.
FOLDS = 5

_Rows = NDArray[np.integer]


def together(
    *columns: Iterable[str | None], pairs: Iterable[tuple[int, int]] = ()
) -> NDArray[np.int32]:
    """Assign one number to all rows that belong together.

    Rows that share a value in any column do, or are one of the `pairs`, and so
    do rows that are linked through others. None and "" link nothing.

    Examples
    --------
    >>> together(["a", "a", None, None], ["1", "2", "2", "3"]).tolist()
    [0, 0, 0, 1]
    >>> together(["a", "a", None, None], pairs=[(2, 3)]).tolist()
    [0, 0, 1, 1]
    """
    listed = [list(column) for column in columns]
    n = len(listed[0])
    index: dict[tuple[int, str], int] = {}
    links = list(pairs)
    for k, column in enumerate(listed):
        for row, value in enumerate(column):
            if value:
                links.append((row, index.setdefault((k, value), n + len(index))))
    size = n + len(index)
    ends = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    numbers: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return numbers[:n]


def fold_count(y: NDArray[np.str_], keys: NDArray[np.int32], n_folds: int = FOLDS) -> int:
    """Return how many folds the labels allow: at most `n_folds`, or 0 where none can be made.

    Every class that has two or more keys should be in every fold; a class
    with one key is on one side in every division, and sets no limit.
    """
    counts = [len(np.unique(keys[y == label])) for label in np.unique(y)]
    divisible = [count for count in counts if count > 1]
    return min(n_folds, *divisible) if len(divisible) > 1 else 0


def make_folds(
    y: NDArray[np.str_], keys: NDArray[np.int32], seed: int, n_folds: int = FOLDS
) -> list[tuple[_Rows, _Rows]]:
    """Divide rows into stratified folds, shuffled, rows of one key in one fold.

    Parameters
    ----------
    y : ndarray of str, shape (n,)
        Labels.
    keys : ndarray of int, shape (n,)
        See `together`.
    seed : int
        Of the shuffle.
    n_folds : int, default=5
        How many; fewer where a class has fewer images or groups.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        Training and test positions; empty where no division is possible, or
        groups of several classes leave a training part with one class.
    """
    n_folds = fold_count(y, keys, n_folds)
    if n_folds == 0:
        return []
    grouped = len(np.unique(keys)) < len(keys)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn warns of classes smaller than the number of folds; the
        # caller says it in words.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        pairs = list(splitter.split(np.zeros(len(y)), y, keys if grouped else None))
    return pairs if all(len(np.unique(y[train])) > 1 for train, _ in pairs) else []
