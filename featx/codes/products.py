"""Inner products of codes, computed here or by the workers of a cluster.

Codes go in; matrices of their inner products come out. A cluster computes the Gram matrix
in tiles, each the product of two blocks of rows. The matrix is symmetric, so each pair of
blocks is computed once.
"""

import math
from functools import partial

import numpy as np
import scipy.linalg

from featx.cluster import Cluster, Task, run_tasks
from featx.codes.matrix import CodeMatrix, Matrix, Rows

__all__ = ["gram_matrix", "gram_on_cluster", "inner_products"]

_MIRRORED_ROWS = 512
# Tiles for each worker: several, so that fast workers can compute more of them.
_TILES_PER_WORKER = 4
# Rows of a block. Reading smaller tiles takes longer than multiplying them; larger ones do
# not fit in the memory of a worker.
_FEWEST, _MOST = 256, 4096
_KEPT = "No part of the fit was saved. Run the same command again."


def gram_matrix(codes: CodeMatrix, layer: int, *, root: bool = False) -> Matrix:
    """Return the inner products of the rows of a layer, in float64, in one pass over them.

    Parameters
    ----------
    codes : CodeMatrix of n rows
        Codes; one block of columns at a time is in memory.
    layer : int
        Index of the layer.
    root : bool, default=False
        Whether to take the signed square root of each feature first.

    Returns
    -------
    ndarray of shape (n, n)
    """
    n = len(codes)
    # One triangle, added in place: NumPy would write another n x n array for each block, which
    # takes longer than the products if there are thousands of rows.
    total = np.zeros((n, n), order="F")
    for _, block in codes.column_blocks(layer, root=root):
        total = scipy.linalg.blas.dsyrk(
            1.0, block.T, beta=1.0, c=total, trans=1, lower=1, overwrite_c=1
        )
    # Mirrored in blocks, without a second matrix.
    for start in range(0, n, _MIRRORED_ROWS):
        stop = min(start + _MIRRORED_ROWS, n)
        total[:start, start:stop] = total[start:stop, :start].T
        corner = total[start:stop, start:stop]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T
    return total


def inner_products(
    left: CodeMatrix, right: CodeMatrix, layer: int, *, root: bool = False
) -> tuple[Matrix, Matrix]:
    """Return the inner products of the rows of two matrices, in one pass over both.

    Parameters
    ----------
    left, right : CodeMatrix of m and of n rows
        Codes; one block of columns of each at a time is in memory.
    layer : int
        Index of the layer.
    root : bool, default=False
        Whether to take the signed square root of each feature first.

    Returns
    -------
    ndarray of shape (m, n)
        The inner products.
    ndarray of shape (m,)
        The inner products of the left rows with themselves.
    """
    cross, own = np.zeros((len(left), len(right))), np.zeros(len(left))
    for (_, ours), (_, theirs) in zip(
        left.column_blocks(layer, root=root, n_other=len(right)),
        right.column_blocks(layer, root=root, n_other=len(left)),
        strict=True,
    ):
        cross += ours @ theirs.T
        own += np.einsum("ij,ij->i", ours, ours)
    return cross, own


def gram_on_cluster(
    cluster: Cluster, codes: CodeMatrix, layer: int, *, root: bool = False
) -> Matrix:
    """Return the same as `gram_matrix`, computed by the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.connect`.
    codes : CodeMatrix of n rows
        Codes, in files that all workers can read.
    layer : int
        Index of the layer.
    root : bool, default=False
        Whether to take the signed square root of each feature first.

    Returns
    -------
    ndarray of shape (n, n)
        Equal to that of `gram_matrix` within 1e-12 of its largest element.

    Raises
    ------
    ClusterError
        The connection to the cluster was lost.
    OptionError
        A worker cannot read the codes.
    """
    n = len(codes)
    cluster.check(codes.files)
    blocks = _blocks(n, len(cluster.workers))
    pairs = [(i, j) for i in range(len(blocks)) for j in range(i + 1)]
    tasks = (
        Task(
            partial(_tile, codes.take(blocks[i]), codes.take(blocks[j]), layer, root),
            f"Inner products of rows {blocks[i][0]} to {blocks[i][-1]}",
        )
        for i, j in pairs
    )
    total = np.empty((n, n), order="F")
    for number, tile in run_tasks(cluster, tasks, advice=_KEPT):
        rows, columns = (slice(blocks[k][0], blocks[k][-1] + 1) for k in pairs[number])
        total[rows, columns] = tile
        total[columns, rows] = tile.T
    return total


def _blocks(n: int, n_workers: int) -> list[Rows]:
    """Divide n rows into blocks whose pairs are several tiles for each worker."""
    wanted = (math.sqrt(8 * _TILES_PER_WORKER * max(1, n_workers) + 1) - 1) / 2
    rows = min(_MOST, max(_FEWEST, math.ceil(n / wanted)))
    return np.array_split(np.arange(n), math.ceil(n / rows))


def _tile(left: CodeMatrix, right: CodeMatrix, layer: int, root: bool) -> Matrix:
    """Return the inner products of two blocks of rows, on a worker."""
    if all(np.array_equal(a, b) for a, b in zip(left.rows, right.rows, strict=True)):
        return gram_matrix(left, layer, root=root)
    return inner_products(left, right, layer, root=root)[0]
