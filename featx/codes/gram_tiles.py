"""The Gram matrix of codes by tiles, which the workers of a cluster compute.

Codes come in, on a file system that all workers share; the matrix of their inner
products goes out, as `gram` gives it. A tile is that of one block of rows with another;
of each pair of blocks only one is computed, since G is symmetric.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from featx.cluster import Cluster, Task, given_out
from featx.codes.gram import gram_matrix, inner_products
from featx.codes.matrix import CodeMatrix, Matrix, Rows

__all__ = ["gram_on_cluster"]

# A worker's tiles, so that those who are fast may do more of them.
_TILES_A_WORKER = 4
# Rows of a block: below, a tile is read for longer than it is multiplied; above, it and what
# it is made from no longer fit beside other things in memory.
_FEWEST, _MOST = 256, 4096
_KEPT = "Nothing of the fit is kept: run the same command again."


def gram_on_cluster(cluster: Cluster) -> Callable[..., Matrix]:
    """Return what `gram` does, done by the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.connected`.

    Returns
    -------
    callable
        It takes and returns what `gram` does; equal to it within 1e-12 of the
        largest. It raises ClusterError where the cluster is lost, and OptionError
        where a worker does not see the codes.
    """
    return partial(_gram_on_cluster, cluster)


def _gram_on_cluster(
    cluster: Cluster, codes: CodeMatrix, layer: int, *, root: bool = False
) -> Matrix:
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
    for number, tile in given_out(cluster, tasks, kept=_KEPT):
        i, j = pairs[number]
        here, there = (slice(blocks[k][0], blocks[k][-1] + 1) for k in (i, j))
        total[here, there] = tile
        total[there, here] = tile.T
    return total


def _blocks(n: int, n_workers: int) -> list[Rows]:
    """Cut n rows so that their pairs are several tiles a worker."""
    wanted = (math.sqrt(8 * _TILES_A_WORKER * max(1, n_workers) + 1) - 1) / 2
    rows = min(_MOST, max(_FEWEST, math.ceil(n / wanted)))
    return np.array_split(np.arange(n), math.ceil(n / rows))


def _tile(left: CodeMatrix, right: CodeMatrix, layer: int, root: bool) -> Matrix:
    """Return the inner products of two blocks of rows, on a worker."""
    if all(np.array_equal(a, b) for a, b in zip(left.rows, right.rows, strict=True)):
        return gram_matrix(left, layer, root=root)
    return inner_products(left, right, layer, root=root)[0]
