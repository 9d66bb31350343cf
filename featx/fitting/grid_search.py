"""Grid search: the settings of one classifier, each scored by cross-validation.

Rows, labels and folds come in; the best setting goes out. Penalties are tried from the
strongest to the weakest, first in decades and then in finer steps around the best one. If
several are equally good, the middle one is chosen. Which of several classifiers is the best is
decided in `featx.fitting.selection`.
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
from featx.metrics.evaluation import expand_columns

__all__ = [
    "GridSearch",
    "Pairs",
    "PreprocessorCache",
    "TriedSetting",
    "best_of",
    "coarse_values",
    "watch_convergence",
]

# The grid has three values per decade.
_VALUES_PER_DECADE = 3
# A penalty that separates the training rows is already weak: a weaker one changes little.
_DECADES_WITHOUT_GAIN = 2
_DECADES_BEYOND = 3
# Strong penalties on rows of unit length: from 1e-3 to 1.
_STRONG_DECADES = 3
# lda warns about a class with one image, whose covariance it takes as 0.
_HARMLESS = "Only one sample available"

Pairs = Sequence[tuple[Rows, Rows]]


@dataclass(frozen=True)
class TriedSetting:
    """The cross-validated result of one setting.

    Parameters
    ----------
    kind : ClassifierKind
        The classifier.
    normalise : str
        The normalisation.
    value : object
        Value of the searched parameter; C if that is a penalty.
    n_correct : int
        Held-out rows whose label was predicted.
    fraction : float
        Fraction of the training rows that was used.
    decision_scores : ndarray of shape (n_rows, k)
        Scores of the held-out rows; -inf for classes that the training rows of a fold lack.
    converged : bool, default=True
        Whether all fits converged.
    separates : bool, default=False
        Whether each fit predicts all its training rows correctly.
    models : tuple of FittedClassifier
        Classifiers of the folds, if another fit can start from them.
    """

    kind: ClassifierKind
    normalise: str
    value: Any
    n_correct: int
    fraction: float
    decision_scores: Matrix
    converged: bool = True
    separates: bool = False
    models: tuple[FittedClassifier, ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of held-out rows of all folds."""
        return len(self.decision_scores)

    @property
    def accuracy(self) -> float:
        """Fraction of the held-out rows that were predicted correctly; NaN without rows."""
        return self.n_correct / self.n_rows if self.n_rows else np.nan


class PreprocessorCache:
    """Preprocessed rows; principal components of the same rows are only computed once."""

    def __init__(self, problem: Problem, space: SearchSpace) -> None:
        self.y, self.space = problem.y, space
        self._coordinates = problem.coordinates
        self._cached: dict[tuple[str, bytes, bytes], tuple[Preprocessor, Matrix, Matrix]] = {}

    def transform(
        self, normalise: str, rows: Rows, held_out: Rows
    ) -> tuple[Preprocessor, Matrix, Matrix]:
        """Return a preprocessor fitted on `rows`, and `rows` and `held_out` transformed by it."""
        key = (normalise, rows.tobytes(), held_out.tobytes())
        if key in self._cached:
            return self._cached[key]
        X, X_held_out = (self._coordinates[normalise][each] for each in (rows, held_out))
        preprocessor = fit_preprocessor(X, normalise, self.space)
        result = preprocessor, preprocessor.transform(X), preprocessor.transform(X_held_out)
        # Without components, rows are as wide as before: large to keep, and quick to make again.
        if self.space.components is not None:
            self._cached[key] = result
        return result


class GridSearch:
    """Cross-validated search over the values of one classifier with one normalisation."""

    def __init__(
        self,
        preprocessed: PreprocessorCache,
        rows: Rows,
        pairs: Pairs,
        kind: ClassifierKind,
        normalise: str,
    ) -> None:
        self.kind, self.normalise, self.space = kind, normalise, preprocessed.space
        self._preprocessed, self._y = preprocessed, preprocessed.y
        self._rows, self.pairs = rows, pairs
        self.classes = np.unique(self._y[rows])
        _, X, _ = preprocessed.transform(normalise, rows, rows[:0])
        self.values = self.space.values(kind, X)
        self.tried: dict[tuple[float, Any], TriedSetting] = {}
        self._order = np.random.default_rng(self.space.seed).permutation(len(self._y))

    @property
    def coarse(self) -> tuple[Any, ...]:
        """Values to try first."""
        return coarse_values(self.kind, self.values, given=self.space.penalties is not None)

    def best(self) -> TriedSetting:
        """Return the best setting, on the largest fraction of the rows that was tried."""
        fraction = max(fraction for fraction, _ in self.tried)
        return best_of(self._in_order(fraction))

    def run(self, value: Any, fraction: float = 1.0) -> TriedSetting:
        """Cross-validate one value on a fraction of each training set, unless that was done."""
        if (fraction, value) not in self.tried:
            self.tried[fraction, value] = self._cross_validate(value, fraction)
        return self.tried[fraction, value]

    def search(self) -> TriedSetting:
        """Search all values on all rows."""
        if not self.kind.has_penalty or len(self.values) == 1:
            return best_of([self.run(value) for value in self.values])
        if self.space.penalties:
            for value in self.values:
                self.run(value)
            return self._best_penalty()
        if not any(fraction == 1 for fraction, _ in self.tried):
            self._search_decades()
        self._search_beyond()
        if not self.space.is_fine:
            return self._best_penalty()
        best = self._best_penalty().value
        step = 10 ** (1 / _VALUES_PER_DECADE)
        for power in range(1 - _VALUES_PER_DECADE, _VALUES_PER_DECADE):
            if power:
                self.run(float(best * step**power))
        return self._best_penalty()

    def _search_decades(self) -> None:
        """Try decades from the strongest penalty on, until weaker ones change nothing."""
        n_without_gain, best = 0, -1
        for value in self.coarse:
            tried = self.run(value)
            # A stronger penalty may leave everything to the intercept.
            is_weak = value >= self.values[_VALUES_PER_DECADE * _STRONG_DECADES]
            gains = not (is_weak and tried.separates and tried.n_correct <= best)
            n_without_gain = 0 if gains else n_without_gain + 1
            best = max(best, tried.n_correct)
            if n_without_gain >= _DECADES_WITHOUT_GAIN:
                return

    def _search_beyond(self) -> None:
        """Try decades beyond an end of the grid, as long as the outermost value is the best."""
        for end, factor in ((min(self.values), 0.1), (max(self.values), 10.0)):
            value = end
            for _ in range(_DECADES_BEYOND):
                if [tried.value for tried in self._equally_good()] != [value]:
                    break
                value *= factor
                self.run(value)

    def _equally_good(self) -> list[TriedSetting]:
        """Return the settings with the highest accuracy on all rows, simplest first."""
        tried = self._in_order(1.0)
        most = max(each.n_correct for each in tried)
        return [each for each in tried if each.n_correct == most]

    def _best_penalty(self) -> TriedSetting:
        """Return the best penalty; the middle one, if several are equally good.

        The strongest one would leave everything to the intercept, which fits the class
        frequencies of these images; the weakest one would fit rounding errors.
        """
        equal = self._equally_good()
        return equal[(len(equal) - 1) // 2]

    def _in_order(self, fraction: float) -> list[TriedSetting]:
        """Return the settings that were tried on a fraction of the rows, simplest first."""
        tried = [each for (of, _), each in self.tried.items() if of == fraction]
        if self.kind.has_penalty and len(tried) > 1:
            return sorted(tried, key=lambda each: each.value)
        return sorted(tried, key=lambda each: self.values.index(each.value))

    def _cross_validate(self, value: Any, fraction: float) -> TriedSetting:
        starts = self._starts(value, fraction) or [None] * len(self.pairs)
        rows = [self._take(self._rows[train], fraction) for train, _ in self.pairs]
        held_out = [self._rows[test] for _, test in self.pairs]
        with watch_convergence() as not_converged, ThreadPoolExecutor(self._n_threads) as pool:
            folds = list(pool.map(partial(self._fit_fold, value), rows, held_out, starts))
        scores = np.concatenate([scores for _, scores, _ in folds])
        predicted = self.classes[scores.argmax(axis=1)]
        return TriedSetting(
            kind=self.kind,
            normalise=self.normalise,
            value=value,
            n_correct=int(np.sum(predicted == self._y[np.concatenate(held_out)])),
            fraction=fraction,
            decision_scores=scores,
            converged=not not_converged,
            separates=self.kind.has_penalty and all(separates for *_, separates in folds),
            models=tuple(model for model, *_ in folds) if self.kind.warm_starts else (),
        )

    @property
    def _n_threads(self) -> int:
        """Number of folds that are fitted at the same time."""
        # --set may choose a solver of LIBLINEAR, which has one random generator per process.
        may_draw = set(self.space.settings) - {"C", "alpha", "class_weight"}
        return 1 if may_draw else min(os.cpu_count() or 1, len(self.pairs))

    def _fit_fold(
        self, value: Any, rows: Rows, held_out: Rows, start: FittedClassifier | None
    ) -> tuple[FittedClassifier, Matrix, bool]:
        """Return the classifier of a fold, its held-out scores, and whether it separates."""
        preprocessor, X, X_held_out = self._preprocessed.transform(self.normalise, rows, held_out)
        y = self._y[rows]
        model = fit_classifier(self.kind, preprocessor, X, y, value, self.space, start)
        scores = decision_scores(model.estimator, X_held_out)
        on_training = np.array(model.classes)[decision_scores(model.estimator, X).argmax(axis=1)]
        return (
            model,
            expand_columns(scores, model.classes, self.classes, missing=-np.inf),
            bool(np.all(on_training == y)),
        )

    def _starts(self, value: Any, fraction: float) -> tuple[FittedClassifier, ...]:
        """Return the classifiers with the next stronger penalty, for a warm start."""
        if not self.kind.warm_starts or value is None:
            return ()
        stronger = [other for of, other in self.tried if of == fraction and other < value]
        return self.tried[fraction, max(stronger)].models if stronger else ()

    def _take(self, rows: Rows, fraction: float) -> Rows:
        """Return a fraction of the rows of each class, always the first in one random order."""
        if fraction == 1:
            return rows
        shuffled = rows[np.argsort(self._order[rows])]
        kept = []
        for label in self.classes:
            of_class = shuffled[self._y[shuffled] == label]
            kept.append(of_class[: max(1, round(fraction * len(of_class)))])
        return np.sort(np.concatenate(kept))


@contextmanager
def watch_convergence() -> Iterator[list[str]]:
    """Hide warnings of estimators that did not converge, in all threads; list them at the end."""
    not_converged: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield not_converged
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            not_converged.append(str(warning.message))
        elif not str(warning.message).startswith(_HARMLESS):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def best_of(tried: Sequence[TriedSetting]) -> TriedSetting:
    """Return the setting with the highest accuracy; the first one, if several are equal."""
    return max(tried, key=lambda each: each.n_correct)


def coarse_values(
    kind: ClassifierKind, values: tuple[Any, ...], *, given: bool = False
) -> tuple[Any, ...]:
    """Return the values to try first: decades of penalties, unless the user gave them."""
    is_grid = kind.has_penalty and len(values) > 1 and not given
    return values[::_VALUES_PER_DECADE] if is_grid else values
