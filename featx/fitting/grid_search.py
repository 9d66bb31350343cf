"""Grid search: the settings of one classifier, each fitted and scored by cross-validation.

Rows, labels and folds come in; the best setting goes out. A row is a vector of coordinates:
this module does not know codes. Penalties are tried from the strongest to the weakest, first in
decades and then in finer steps around the best one. If several are equally good, the middle one
is chosen. Which of several classifiers is the best is decided in `featx.fitting.selection`.
"""

import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from featx.codes.components import PrincipalComponents
from featx.codes.matrix import Matrix, Rows
from featx.codes.scaling import CentredRows
from featx.errors import FeatxError, FitError, OptionError
from featx.fitting.calibration import decision_scores
from featx.fitting.classifiers import ClassifierKind, penalty_grid
from featx.metrics.evaluation import expand_columns
from featx.text import counted

__all__ = [
    "FittedClassifier",
    "GridSearch",
    "Pairs",
    "Problem",
    "SearchData",
    "SearchSpace",
    "TriedSetting",
    "best_of",
    "fit_classifier",
    "fit_steps",
    "left_out",
    "watch_convergence",
]

# The grid has three values per decade.
_VALUES_PER_DECADE = 3
# A penalty that separates the training rows is already weak: a weaker one changes little.
_DECADES_WITHOUT_GAIN = 2
_DECADES_BEYOND = 3
# Strong penalties on rows of unit length: from 1e-3 to 1.
_STRONG_DECADES = 3
# lda warns about a class with one image, whose covariance it takes as 0. sgd fits its classes with
# joblib, which exchanges the filters of warnings: in several threads it finds those of another.
_HARMLESS = "Only one sample available|`sklearn.utils.parallel.delayed`"

Pairs = Sequence[tuple[Rows, Rows]]


@dataclass(frozen=True)
class SearchSpace:
    """The settings that a search tries, and those that are the same in all its fits.

    Parameters
    ----------
    kinds : tuple of ClassifierKind
        Classifiers to choose from.
    normalise : tuple of str
        Normalisations to choose from.
    penalties : tuple of float, optional
        Values of C to try instead of the grid.
    settings : mapping of str to object
        Parameters of the estimator that are not searched.
    seed : int, default=0
        Random seed.
    is_fine : bool, default=True
        Also try values between the decades of the grid.
    components : int, optional
        Number of principal components that classifiers are fitted on instead of the rows.
    whiten : bool, default=False
        Divide each component by its standard deviation.
    """

    kinds: tuple[ClassifierKind, ...]
    normalise: tuple[str, ...] = ("l2",)
    penalties: tuple[float, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    is_fine: bool = True
    components: int | None = None
    whiten: bool = False

    def values(self, kind: ClassifierKind, X: Matrix) -> tuple[Any, ...]:
        """Return the values to try, simplest model first; (None,) if nothing is searched."""
        if kind.parameter is None or kind.parameter in self.settings:
            return (None,)
        if not kind.has_penalty:
            return kind.values or ()
        if self.penalties is not None:
            return tuple(sorted(self.penalties))
        return tuple(penalty_grid(X))

    def coarse(self, kind: ClassifierKind, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values to try first: decades of penalties, unless the user gave them."""
        is_grid = kind.has_penalty and self.penalties is None
        return values[::_VALUES_PER_DECADE] if is_grid else values


@dataclass(frozen=True)
class Problem:
    """Rows and labels that classifiers are fitted on.

    Parameters
    ----------
    coordinates : mapping of str to ndarray, each of shape (n, r)
        Rows for each normalisation.
    y : ndarray of str, shape (n,)
        Labels.
    """

    coordinates: Mapping[str, Matrix]
    y: NDArray[np.str_]


@dataclass(frozen=True)
class FittedClassifier:
    """A classifier that was fitted on coordinates.

    Parameters
    ----------
    steps : mapping of str to transformer
        Transform rows before the estimator, in this order; see `fit_steps`.
    estimator : scikit-learn classifier
        Fitted.
    parameters : mapping of str to object
        Parameters of the estimator that were set.
    converged : bool, default=True
        False if the estimator warned that it did not converge.
    """

    steps: Mapping[str, BaseEstimator]
    estimator: BaseEstimator
    parameters: Mapping[str, Any]
    converged: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the decision scores."""
        return tuple(str(label) for label in self.estimator.classes_)

    def decision_scores(self, X: Matrix) -> Matrix:
        """Return decision scores, (n, k)."""
        for step in self.steps.values():
            X = step.transform(X)
        return decision_scores(self.estimator, X)


def fit_steps(
    X: Matrix, normalise: str, space: SearchSpace
) -> tuple[dict[str, BaseEstimator], Matrix]:
    """Fit the transforms that a normalisation and the settings require: "centre", "components".

    Returns
    -------
    dict of str to transformer
        The fitted transforms, in their order.
    ndarray
        The transformed rows.
    """
    steps: dict[str, BaseEstimator] = {}
    if normalise == "centre":
        steps["centre"] = CentredRows()
    if space.components is not None:
        steps["components"] = PrincipalComponents(space.components, whiten=space.whiten)
    for step in steps.values():
        X = step.fit(X).transform(X)
    return steps, X


def fit_classifier(  # noqa: PLR0917
    kind: ClassifierKind,
    steps: Mapping[str, BaseEstimator],
    X: Matrix,
    y: NDArray[np.str_],
    value: Any,
    space: SearchSpace,
    start: FittedClassifier | None = None,
) -> FittedClassifier:
    """Fit a classifier on rows that `steps` have transformed.

    The fit starts at the coefficients of `start`, if both have the same number of classes.
    """
    parameters = kind.data_parameters(X)
    if kind.parameter is not None and value is not None:
        parameters[kind.parameter] = kind.to_parameter(value, len(X))
    parameters |= space.settings
    if start is not None and len(start.classes) == len(np.unique(y)):
        estimator = copy.copy(start.estimator).set_params(**{"warm_start": True, **parameters})
    else:
        estimator = kind.make(space.seed).set_params(**parameters)
    try:
        estimator.fit(X, y)
        # With an extreme penalty, a solver may return NaN instead of an error.
        if not np.isfinite(decision_scores(estimator, X[:1])).all():
            message = "its decision scores are not finite"
            raise ValueError(message)
    # A parameter is wrong, there are too few rows, or the solver overflows.
    except (ArithmeticError, ValueError) as error:
        settings = ", ".join(f"{name}={each}" for name, each in parameters.items())
        message = (
            f"{kind.name} cannot be fitted on {counted(len(y), 'image')} with "
            f"{settings or 'its defaults'}: {_reason(error)}. Use other values for --set or --C, "
            "or another --clf."
        )
        raise (OptionError if space.settings else FitError)(message) from error
    return FittedClassifier(steps, estimator, parameters)


def _reason(error: BaseException) -> str:
    """Return the first line of an error, without the full stop."""
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")


def left_out(name: str, error: FeatxError) -> str:
    """Return the note about a classifier, or a setting of it, that cannot be fitted."""
    reason = _reason(error.__cause__ or error)
    return f"{name} was left out, because it cannot be fitted on the training images: {reason}."


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


class SearchData:
    """Rows, labels and folds of a search, and its settings.

    Principal components of the same rows are only computed once.

    Parameters
    ----------
    problem : Problem
        Coordinates and labels.
    rows : ndarray of int
        Rows that the search may use.
    pairs : sequence of (ndarray of int, ndarray of int)
        Training and held-out rows of each fold, as positions in `rows`.
    space : SearchSpace
        What to choose from.
    """

    def __init__(self, problem: Problem, rows: Rows, pairs: Pairs, space: SearchSpace) -> None:
        self.problem, self.rows, self.pairs, self.space = problem, rows, pairs, space
        self.classes = np.unique(problem.y[rows])
        self._order = np.random.default_rng(space.seed).permutation(len(problem.y))
        self._cached: dict[tuple[str, bytes, bytes], tuple[Mapping[str, Any], Matrix, Matrix]] = {}

    def transform(
        self, normalise: str, rows: Rows, held_out: Rows
    ) -> tuple[Mapping[str, BaseEstimator], Matrix, Matrix]:
        """Return steps fitted on `rows`, and `rows` and `held_out` transformed by them."""
        key = (normalise, rows.tobytes(), held_out.tobytes())
        if key in self._cached:
            return self._cached[key]
        X = self.problem.coordinates[normalise]
        steps, transformed = fit_steps(X[rows], normalise, self.space)
        X_held_out = X[held_out]
        for step in steps.values():
            X_held_out = step.transform(X_held_out)
        # Without components, rows are as wide as before: large to keep, and quick to make again.
        if self.space.components is not None:
            self._cached[key] = steps, transformed, X_held_out
        return steps, transformed, X_held_out

    def take(self, rows: Rows, fraction: float) -> Rows:
        """Return a fraction of the rows of each class, always the first in one random order."""
        if fraction == 1:
            return rows
        shuffled = rows[np.argsort(self._order[rows])]
        labels = self.problem.y[shuffled]
        kept = []
        for label in self.classes:
            of_class = shuffled[labels == label]
            kept.append(of_class[: max(1, round(fraction * len(of_class)))])
        return np.sort(np.concatenate(kept))


class GridSearch:
    """Cross-validated search over the values of one classifier with one normalisation."""

    def __init__(self, data: SearchData, kind: ClassifierKind, normalise: str) -> None:
        self.data, self.space = data, data.space
        self.kind, self.normalise = kind, normalise
        _, X, _ = data.transform(normalise, data.rows, data.rows[:0])
        self.values = self.space.values(kind, X)
        #: Values to try first.
        self.coarse = self.space.coarse(kind, self.values)
        self.tried: dict[tuple[float, Any], TriedSetting] = {}
        #: Settings that cannot be fitted, and why.
        self.failed: dict[tuple[float, Any], FeatxError] = {}

    def notes(self, *, with_normalise: bool = False) -> list[str]:
        """Return notes about what cannot be fitted: the classifier, or values of its parameter."""
        name = self.kind.name
        if with_normalise:
            name += f" with --normalise {self.normalise}"
        values: dict[str, set[Any]] = {}  # by reason
        for (_, value), error in self.failed.items():
            values.setdefault(left_out("", error), set()).add(value)
        parameter = "C" if self.kind.has_penalty else self.kind.parameter
        some = f" with {parameter} = " if self.tried and parameter else ""
        return [
            name + (some and some + ", ".join(f"{each:g}" for each in sorted(of_reason))) + reason
            for reason, of_reason in values.items()
        ]

    def best(self) -> TriedSetting:
        """Return the best setting, on the largest fraction of the rows that was tried."""
        fraction = max(fraction for fraction, _ in self.tried)
        return best_of(self._in_order(fraction))

    def run(self, value: Any, fraction: float = 1.0) -> TriedSetting | None:
        """Cross-validate one value on a fraction of each training set, unless that was done.

        The result is None if the classifier cannot be fitted; see `failed`.
        """
        key = fraction, value
        if key not in self.tried and key not in self.failed:
            try:
                self.tried[key] = self._cross_validate(value, fraction)
            except (FitError, OptionError) as error:
                self.failed[key] = error
        return self.tried.get(key)

    def search(self) -> TriedSetting:
        """Search all values on all rows.

        Raises
        ------
        FitError, OptionError
            The classifier cannot be fitted with any value.
        """
        is_grid = self.kind.has_penalty and self.space.penalties is None and len(self.values) > 1
        if not is_grid:
            for value in self.values:
                self.run(value)
        elif not any(fraction == 1 for fraction, _ in self.tried):
            self._search_decades()
        if not self._in_order(1.0):
            raise next(iter(self.failed.values()))
        if not self.kind.has_penalty:
            return best_of(self._in_order(1.0))
        if not is_grid:
            return self._best_penalty()
        self._search_beyond()
        if self.space.is_fine:
            best = self._best_penalty().value
            step = 10 ** (1 / _VALUES_PER_DECADE)
            for power in range(1 - _VALUES_PER_DECADE, _VALUES_PER_DECADE):
                self.run(float(best * step**power))
        return self._best_penalty()

    def _search_decades(self) -> None:
        """Try decades from the strongest penalty on, until weaker ones change nothing."""
        n_without_gain, best = 0, -1
        for value in self.coarse:
            tried = self.run(value)
            if tried is None:
                continue
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
        if self.kind.has_penalty:
            return sorted(tried, key=lambda each: each.value)
        return sorted(tried, key=lambda each: self.values.index(each.value))

    def _cross_validate(self, value: Any, fraction: float) -> TriedSetting:
        data, y = self.data, self.data.problem.y
        starts = self._starts(value, fraction) or [None] * len(data.pairs)
        rows = [data.take(data.rows[train], fraction) for train, _ in data.pairs]
        held_out = [data.rows[test] for _, test in data.pairs]
        with watch_convergence() as not_converged, ThreadPoolExecutor(self._n_threads) as pool:
            folds = list(pool.map(partial(self._fit_fold, value), rows, held_out, starts))
        scores = np.concatenate([scores for _, scores, _ in folds])
        predicted = data.classes[scores.argmax(axis=1)]
        return TriedSetting(
            kind=self.kind,
            normalise=self.normalise,
            value=value,
            n_correct=int(np.sum(predicted == y[np.concatenate(held_out)])),
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
        return 1 if may_draw else min(os.cpu_count() or 1, len(self.data.pairs))

    def _fit_fold(
        self, value: Any, rows: Rows, held_out: Rows, start: FittedClassifier | None
    ) -> tuple[FittedClassifier, Matrix, bool]:
        """Return the classifier of a fold, its held-out scores, and whether it separates."""
        steps, X, X_held_out = self.data.transform(self.normalise, rows, held_out)
        y = self.data.problem.y[rows]
        model = fit_classifier(self.kind, steps, X, y, value, self.space, start)
        scores = decision_scores(model.estimator, X_held_out)
        on_training = np.array(model.classes)[decision_scores(model.estimator, X).argmax(axis=1)]
        return (
            model,
            expand_columns(scores, model.classes, self.data.classes, missing=-np.inf),
            bool(np.all(on_training == y)),
        )

    def _starts(self, value: Any, fraction: float) -> tuple[FittedClassifier, ...]:
        """Return the classifiers with the next stronger penalty, for a warm start."""
        if not self.kind.warm_starts or value is None:
            return ()
        stronger = [other for of, other in self.tried if of == fraction and other < value]
        return self.tried[fraction, max(stronger)].models if stronger else ()


@contextmanager
def watch_convergence() -> Iterator[list[str]]:
    """Hide warnings of estimators that did not converge, in all threads; list them at the end."""
    not_converged: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        warnings.filterwarnings("ignore", _HARMLESS)
        yield not_converged
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            not_converged.append(str(warning.message))
        elif not re.match(_HARMLESS, str(warning.message)):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def best_of(tried: Sequence[TriedSetting]) -> TriedSetting:
    """Return the setting with the highest accuracy; the first one, if several are equal."""
    return max(tried, key=lambda each: each.n_correct)
