"""Trials: one classifier's settings on the folds, each tried once.

A problem and folds come in; how good each setting is goes out. Penalties are tried from
the strongest on, in decades, and then more finely around the best, of equally good ones
the middle. Which classifiers compete is not known here.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from featx.codes.matrix import Matrix, Rows
from featx.fitting.calibration import decision_scores
from featx.fitting.classifiers import ClassifierKind
from featx.fitting.single_fit import (
    FittedClassifier,
    Preprocessor,
    Problem,
    SearchSpace,
    fit_classifier,
    fit_preprocessor,
)

__all__ = [
    "GridSearch",
    "Pairs",
    "PreprocessorCache",
    "TriedSetting",
    "best_of",
    "coarse_values",
    "watched_solvers",
]

# Every third of the grid is a decade.
_COARSE = 3
# A penalty that separates the training rows is nearly none; so many decades more change little.
_DECADES_WITHOUT_GAIN = 2
_DECADES_BEYOND = 3
# From 1e-3 to 1, on rows of unit length.
_DECADES_OF_STRONG = 3
# Of a class with one image, whose covariance lda takes for 0.
_HARMLESS = "Only one sample available"

Pairs = Sequence[tuple[Rows, Rows]]


@dataclass(frozen=True)
class TriedSetting:
    """One setting, as it did on the folds.

    Parameters
    ----------
    kind : ClassifierKind
        The classifier.
    normalise : str
        The normalisation.
    value : object
        Of the parameter that is searched; C where that is a penalty.
    n_right : int
        Rows whose label was predicted while they were held out.
    share : float
        Of the training rows, that it was fitted on.
    n_rows : int
        Rows that were held out.
    decisions : ndarray of shape (n_rows, k)
        On them; -inf for classes that a fold's training part did not have.
    converged : bool
        Whether every fit did.
    separates : bool
        Whether every fit predicts all its own training rows.
    models : tuple of FittedClassifier
        Of the folds, where a fit may go on from them.
    """

    kind: ClassifierKind
    normalise: str
    value: Any
    n_right: int
    share: float
    n_rows: int
    decisions: Matrix
    converged: bool
    separates: bool
    models: tuple[FittedClassifier, ...]

    @property
    def accuracy(self) -> float:
        """Share of the rows that were predicted right."""
        return self.n_right / self.n_rows


class PreprocessorCache:
    """Rows as classifiers have them; principal components of the same rows are found once."""

    def __init__(self, problem: Problem, space: SearchSpace) -> None:
        self.y, self.space = problem.y, space
        self._coordinates = problem.coordinates
        self._found: dict[tuple[str, bytes, bytes], tuple[Preprocessor, Matrix, Matrix]] = {}

    def pass_through(
        self, normalise: str, rows: Rows, held_out: Rows
    ) -> tuple[Preprocessor, Matrix, Matrix]:
        """Return what is fitted on `rows`, these behind it, and others behind it."""
        key = (normalise, rows.tobytes(), held_out.tobytes())
        if key in self._found:
            return self._found[key]
        X, further = (self._coordinates[normalise][each] for each in (rows, held_out))
        front = fit_preprocessor(X, normalise, self.space)
        found = front, front.transform(X), front.transform(further)
        # Rows that are as wide as before would fill the memory, and are quickly made again.
        if self.space.components is not None:
            self._found[key] = found
        return found


class GridSearch:
    """One classifier with one normalisation on the folds; each value is tried once."""

    def __init__(
        self,
        fronts: PreprocessorCache,
        rows: Rows,
        pairs: Pairs,
        kind: ClassifierKind,
        normalise: str,
    ) -> None:
        self.kind, self.normalise, self.space = kind, normalise, fronts.space
        self._fronts, self._y = fronts, fronts.y
        self._rows, self.pairs = rows, pairs
        self.classes = np.unique(self._y[rows])
        _, X, _ = fronts.pass_through(normalise, rows, rows[:0])
        self.values = self.space.values(kind, X)
        self.done: dict[tuple[float, Any], TriedSetting] = {}
        self._order = np.random.default_rng(self.space.seed).permutation(len(self._y))

    @property
    def coarse(self) -> tuple[Any, ...]:
        """Values to begin with."""
        return coarse_values(self.kind, self.values, given=self.space.penalties is not None)

    def best(self) -> TriedSetting:
        """Return the best setting on the largest share of the rows that was tried."""
        share = max(share for share, _ in self.done)
        return best_of(self._in_order(share))

    def run(self, value: Any, share: float = 1.0) -> TriedSetting:
        """Fit and score one value on every fold, on a share of its training part."""
        if (share, value) not in self.done:
            self.done[share, value] = self._try(value, share)
        return self.done[share, value]

    def search(self) -> TriedSetting:
        """Search all values, on all rows."""
        if not self.kind.has_penalty or len(self.values) == 1:
            return best_of([self.run(value) for value in self.values])
        if self.space.penalties:
            for value in self.values:
                self.run(value)
            return self._middle()
        if not any(share == 1 for share, _ in self.done):
            self._walk()
        self._widen()
        if not self.space.is_fine:
            return self._middle()
        best = self._middle().value
        step = 10 ** (1 / _COARSE)
        for power in range(1 - _COARSE, _COARSE):
            if power:
                self.run(float(best * step**power))
        return self._middle()

    def _walk(self) -> None:
        """Try decades from the strongest penalty on, until nothing changes any more."""
        since, best = 0, -1
        for value in self.coarse:
            tried = self.run(value)
            # Above that, a penalty does not yet leave all to the intercept.
            weak = value >= self.values[_COARSE * _DECADES_OF_STRONG]
            since = since + 1 if weak and tried.separates and tried.n_right <= best else 0
            best = max(best, tried.n_right)
            if since >= _DECADES_WITHOUT_GAIN:
                return

    def _widen(self) -> None:
        """Go on beyond an end of the grid while that is better."""
        for end, factor in ((min(self.values), 0.1), (max(self.values), 10.0)):
            value = end
            for _ in range(_DECADES_BEYOND):
                found = self._in_order(1.0)
                most = max(tried.n_right for tried in found)
                if [tried.value for tried in found if tried.n_right == most] != [value]:
                    break
                value *= factor
                self.run(value)

    def _middle(self) -> TriedSetting:
        """Return the best penalty; of equally good ones, the middle.

        The strongest would leave all to the intercept, which the classes' shares
        in another set of images then betray; the weakest, all to rounding.
        """
        found = self._in_order(1.0)
        most = max(tried.n_right for tried in found)
        equal = [tried for tried in found if tried.n_right == most]
        return equal[(len(equal) - 1) // 2]

    def _in_order(self, share: float) -> list[TriedSetting]:
        """Return what was tried on a share of the rows, simplest first."""
        found = [tried for (of, _), tried in self.done.items() if of == share]
        if self.kind.has_penalty and len(found) > 1:
            return sorted(found, key=lambda tried: tried.value)
        return sorted(found, key=lambda tried: self.values.index(tried.value))

    def _try(self, value: Any, share: float) -> TriedSetting:
        starts = self._starts(value, share) or [None] * len(self.pairs)
        rows = [self._share(self._rows[train_part], share) for train_part, _ in self.pairs]
        held_out = [self._rows[test_part] for _, test_part in self.pairs]
        with watched_solvers() as watched, ThreadPoolExecutor(self._n_threads) as pool:
            folds = list(pool.map(partial(self._fold, value), rows, held_out, starts))
        decided = np.concatenate([fold.decided for fold in folds])
        labels = self.classes[decided.argmax(axis=1)]
        return TriedSetting(
            self.kind,
            self.normalise,
            value,
            int(np.sum(labels == self._y[np.concatenate(held_out)])),
            share,
            len(decided),
            decided,
            watched.converged,
            self.kind.has_penalty and all(fold.separates for fold in folds),
            tuple(fold.model for fold in folds) if self.kind.warm_starts else (),
        )

    @property
    def _n_threads(self) -> int:
        """Folds that are fitted at once."""
        # A setting may ask for a solver of LIBLINEAR's that draws from one generator for all.
        draws = set(self.space.settings) - {"C", "alpha", "class_weight"}
        return 1 if draws else min(os.cpu_count() or 1, len(self.pairs))

    def _fold(
        self, value: Any, rows: Rows, held_out: Rows, start: FittedClassifier | None
    ) -> "_Fold":
        front, X, further = self._fronts.pass_through(self.normalise, rows, held_out)
        y = self._y[rows]
        model = fit_classifier(self.kind, front, X, y, value, self.space, start)
        labels = np.array(model.classes)
        decided = np.full((len(held_out), len(self.classes)), -np.inf)
        decided[:, np.searchsorted(self.classes, labels)] = decision_scores(
            model.estimator, further
        )
        separates = bool(np.all(labels[decision_scores(model.estimator, X).argmax(axis=1)] == y))
        return _Fold(model, decided, separates)

    def _starts(self, value: Any, share: float) -> tuple[FittedClassifier, ...]:
        """Return models of the next stronger penalty that was tried, for a fit to go on from."""
        if not self.kind.warm_starts or value is None:
            return ()
        stronger = [v for of, v in self.done if of == share and v < value]
        return self.done[share, max(stronger)].models if stronger else ()

    def _share(self, rows: Rows, share: float) -> Rows:
        """Return the first rows of each class, in an order that was drawn once."""
        if share == 1:
            return rows
        shuffled = rows[np.argsort(self._order[rows])]
        kept = []
        for label in self.classes:
            of_class = shuffled[self._y[shuffled] == label]
            kept.append(of_class[: max(1, round(share * len(of_class)))])
        return np.sort(np.concatenate(kept))


@dataclass(frozen=True)
class _Fold:
    """What one fold came to: its model, what that decided, whether it is right on its own rows."""

    model: FittedClassifier
    decided: Matrix
    separates: bool


@dataclass
class _Watched:
    """What solvers said of themselves."""

    converged: bool = True


@contextmanager
def watched_solvers() -> Iterator[_Watched]:
    """Keep back warnings of solvers that did not converge, in whatever thread they run."""
    watched = _Watched()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield watched
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            watched.converged = False
        elif not str(warning.message).startswith(_HARMLESS):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def best_of(found: Sequence[TriedSetting]) -> TriedSetting:
    """Return the setting that is right most often; of equal ones, the first."""
    return max(found, key=lambda tried: tried.n_right)


def coarse_values(
    kind: ClassifierKind, values: tuple[Any, ...], *, given: bool = False
) -> tuple[Any, ...]:
    """Return the values to begin with: decades, unless the user gave the penalties."""
    return values[::_COARSE] if kind.has_penalty and len(values) > 1 and not given else values
