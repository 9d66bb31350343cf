"""Epochs of stochastic gradient descent, over codes that are read in blocks.

Binary classifiers come in, each of one class against the rest; after an epoch they go
out, with what they say of the rows that are held out. Each goes over the same blocks in
the same order, whatever others go beside it: so they may be divided among processes, or
the workers of a cluster, and come to the same bits. This file chooses nothing.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn import config_context
from sklearn.linear_model import SGDClassifier

from featx.cluster import Cluster, Task, given_out
from featx.codes.matrix import CodeMatrix, Matrix, Rows
from featx.codes.scaling import UnitRows
from featx.errors import StoreError

__all__ = ["Blocks", "Epoch", "Part"]

_BLOCK_BYTES = 32_000_000  # of a block of codes, in float64
_KEPT = "Nothing of the fit is kept: run the same command again."


class Blocks:
    """Codes as the classifiers see them: normalised, and of a mean squared length of 1.

    Parameters
    ----------
    codes : CodeMatrix of n rows
        The codes.
    normalise : {"l2", "sqrt-l2", "none"}
        What is done to rows.
    mean_square : float, default=1.0
        Their mean squared length, where they are not brought to unit length.
    """

    def __init__(self, codes: CodeMatrix, normalise: str, mean_square: float = 1.0) -> None:
        self.codes, self.mean_square = codes, mean_square
        root = normalise == "sqrt-l2"
        self.unit = None if normalise == "none" else UnitRows(codes.widths, root=root)

    @property
    def step(self) -> int:
        """Rows of a block."""
        return max(1, _BLOCK_BYTES // (8 * self.codes.shape[1]))

    def places(self, n: int) -> Iterator[slice]:
        """Cut n rows into blocks."""
        for start in range(0, n, self.step):
            yield slice(start, min(start + self.step, n))

    def of(self, positions: Rows) -> Iterator[tuple[Rows, Matrix]]:
        """Yield blocks of rows in the order of `positions`, with their positions."""
        for place in self.places(len(positions)):
            yield positions[place], self._read(positions[place])

    def _read(self, positions: Rows) -> Matrix:
        # In the order in which they lie on the disk, and then as they were drawn.
        order = np.argsort(positions)
        block = self.codes.block(positions[order])
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            bad = int(self.codes.rows[0][positions[order][np.flatnonzero(~finite)[0]]])
            message = f"The code of row {bad} is not finite. Extract again with --overwrite."
            raise StoreError(message)
        drawn = np.empty((len(positions), block.shape[1]))
        drawn[order] = block
        if self.unit is not None:
            return np.asarray(self.unit.transform(drawn))
        drawn /= np.sqrt(self.mean_square)
        return drawn


@dataclass
class Part:
    """A binary classifier on its way.

    Parameters
    ----------
    estimator : SGDClassifier
        It goes on from where it is.
    positive : int
        The class that it tells from the rest.
    is_sound : bool, default=True
        Whether its numbers did not overflow.
    """

    estimator: SGDClassifier
    positive: int
    is_sound: bool = True

    def step(self, X: Matrix, y: Rows, weight: Matrix | None) -> None:
        """Go over a block of rows, once."""
        if not self.is_sound:
            return
        try:
            # Rows were checked as they were read; the setting is the thread's own.
            with config_context(assume_finite=True), np.errstate(all="ignore"):
                self.estimator.partial_fit(X, (y == self.positive).astype(int), [0, 1], weight)
        except ValueError as error:
            if "overflow" not in str(error):
                raise
            self.is_sound = False

    def decide(self, X: Matrix) -> Matrix:
        """Return the decisions about some rows, (m,): above 0 for its class; 0 if not sound."""
        if not self.is_sound:
            return np.zeros(len(X))
        with np.errstate(all="ignore"):
            found: Matrix = X @ self.estimator.coef_[0] + self.estimator.intercept_[0]
        return found


@dataclass(frozen=True)
class Epoch:
    """One pass over the rows that are fitted on, in a drawn order, and over those held out.

    Parameters
    ----------
    blocks : Blocks
        All rows.
    order : ndarray of int, shape (k,)
        Positions of the rows that are fitted on.
    held_out : ndarray of int, shape (m,)
        Positions of those that are held out.
    numbers : ndarray of int, shape (n,)
        Classes of all rows.
    weights : ndarray of shape (n_classes,), optional
        Of a row by its class.
    """

    blocks: Blocks
    order: Rows
    held_out: Rows
    numbers: Rows
    weights: Matrix | None

    def run(self, parts: Sequence[Part]) -> tuple[list[Part], Matrix]:
        """Take the steps of the epoch, in threads.

        Parameters
        ----------
        parts : sequence of Part
            They are changed.

        Returns
        -------
        list of Part
            After the epoch.
        ndarray of shape (m, n_parts)
            Their decisions about the rows held out.
        """
        found = np.empty((len(self.held_out), len(parts)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for positions, X in self.blocks.of(self.order):
                labels = self.numbers[positions]
                weight = None if self.weights is None else self.weights[labels]
                for done in [pool.submit(part.step, X, labels, weight) for part in parts]:
                    done.result()
        places = self.blocks.places(len(self.held_out))
        for place, (_, X) in zip(places, self.blocks.of(self.held_out), strict=True):
            for k, part in enumerate(parts):
                found[place, k] = part.decide(X)
        return list(parts), found

    def run_on(self, cluster: Cluster, parts: Sequence[Part]) -> tuple[list[Part], Matrix]:
        """Do the same with the workers of a cluster, each of which reads all blocks.

        Raises
        ------
        ClusterError
            See `given_out`.
        """
        groups = [
            [parts[k] for k in places]
            for places in np.array_split(np.arange(len(parts)), len(cluster.workers) or 1)
            if len(places)
        ]
        tasks = (
            Task(partial(self.run, group), f"Classifiers {k + 1} of {len(groups)}")
            for k, group in enumerate(groups)
        )
        ended = dict(given_out(cluster, tasks, kept=_KEPT))
        in_order = [ended[k] for k in range(len(groups))]
        return (
            [part for own, _ in in_order for part in own],
            np.concatenate([found for _, found in in_order], axis=1),
        )
