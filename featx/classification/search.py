"""The search: what is chosen is chosen by folds inside the rows that it may see.

Rows, labels and candidates come in; the winner goes out, with what it decided
about every row while that row was held out. Penalties are tried from the
strongest on, in decades, and then more finely around the best, of equally good
ones the middle; several
classifiers compete on growing shares of the rows, of which the better half
goes on (successive halving [1]_). This file does not know codes: rows are
coordinates, and a normalisation is a name.

References
----------
.. [1] K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and
   Hyperparameter Optimization", 2016. https://arxiv.org/abs/1502.07943
.. [2] L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and
   Regression Trees", 1984: the rule of one standard error.
"""

import copy
import dataclasses
import os
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
from threadpoolctl import ThreadpoolController

from featx.classification.calibration import decisions
from featx.classification.classifiers import ClassifierKind, penalty_grid
from featx.classification.codes import Matrix, Rows
from featx.classification.components import PrincipalComponents
from featx.classification.span import CentredRows
from featx.errors import FitError, OptionError

__all__ = [
    "Choice",
    "Front",
    "Model",
    "Options",
    "Problem",
    "Tried",
    "plan_of",
    "search",
    "train",
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
# Shares of the training rows that several classifiers compete on.
_RUNGS = (0.25, 0.5, 1.0)
_FEWEST_ROWS_A_CLASS = 5

Pairs = Sequence[tuple[Rows, Rows]]


@dataclass(frozen=True)
class Options:
    """What may be chosen, and what is given.

    Parameters
    ----------
    kinds : tuple of ClassifierKind
        Classifiers to choose from.
    normalise : tuple of str
        Normalisations to choose from.
    penalties : tuple of float, optional
        Values of C to try instead of the grid.
    settings : mapping of str to object
        Parameters of the estimator that are given.
    seed : int, default=0
        Of estimators that draw.
    is_fine : bool, default=True
        Whether to look between the decades of the grid.
    components : int, optional
        Principal components that classifiers see instead of the rows.
    whiten : bool, default=False
        Whether each is divided by its standard deviation.
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
        """Return values to try, simplest first; (None,) where nothing is searched."""
        if kind.parameter is None or kind.parameter in self.settings:
            return (None,)
        if not kind.has_penalty:
            return kind.values or ()
        if self.penalties is not None:
            return tuple(sorted(self.penalties))
        return tuple(penalty_grid(X))

    def parameters(self, kind: ClassifierKind, value: Any, n_rows: int) -> dict[str, Any]:
        """Return an estimator's parameters for one value."""
        chosen = {}
        if value is not None and kind.parameter is not None:
            as_given = not kind.has_penalty
            chosen[kind.parameter] = value if as_given else kind.to_parameter(value, n_rows)
        return {**chosen, **self.settings}


@dataclass(frozen=True)
class Problem:
    """Rows as the classifiers see them, and their labels.

    Parameters
    ----------
    coordinates : mapping of str to ndarray, each of shape (n, r)
        For each normalisation.
    y : ndarray of str, shape (n,)
        Labels.
    """

    coordinates: Mapping[str, Matrix]
    y: NDArray[np.str_]


@dataclass(frozen=True)
class Front:
    """What rows pass through before a classifier; fitted on its training rows alone.

    Parameters
    ----------
    centre : CentredRows, optional
        Of the normalisation "centre".
    components : PrincipalComponents, optional
        After that.
    """

    centre: CentredRows | None = None
    components: PrincipalComponents | None = None

    def transform(self, X: Matrix) -> Matrix:
        """Return rows as the classifier has them."""
        if self.centre is not None:
            X = self.centre.transform(X)
        return X if self.components is None else self.components.transform(X)


@dataclass(frozen=True)
class Model:
    """A classifier that was fitted on coordinates.

    Parameters
    ----------
    front : Front
        What rows pass through first.
    estimator : scikit-learn classifier
        Fitted.
    parameters : mapping of str to object
        What was set of its parameters.
    converged : bool, default=True
        Whether its solver did not say otherwise.
    """

    front: Front
    estimator: BaseEstimator
    parameters: Mapping[str, Any]
    converged: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels that it knows, in the order of its decisions."""
        return tuple(str(label) for label in self.estimator.classes_)

    def decide(self, X: Matrix) -> Matrix:
        """Return decisions, (n, k)."""
        return decisions(self.estimator, self.front.transform(X))


@dataclass(frozen=True)
class Tried:
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
    models : tuple of Model
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
    models: tuple[Model, ...]

    @property
    def accuracy(self) -> float:
        """Share of the rows that were predicted right."""
        return self.n_right / self.n_rows


@dataclass(frozen=True)
class Choice:
    """What a search chose.

    Parameters
    ----------
    kind : ClassifierKind
        The classifier.
    normalise : str
        The normalisation.
    value : object
        Of the parameter that is searched; None where nothing was.
    decisions : ndarray of shape (m, k)
        About rows while they were held out, k classes in the order of their names.
    rows : ndarray of int, shape (m,)
        Which rows those are; none where there were too few to hold any out.
    accuracy : float
        Of those decisions: flattering, since the best was chosen.
    tried : tuple of Tried
        The best setting of each classifier, in the last round that it was in.
    converged : bool
        Whether the fits of the choice did.
    """

    kind: ClassifierKind
    normalise: str
    value: Any
    decisions: Matrix
    rows: Rows
    accuracy: float
    tried: tuple[Tried, ...]
    converged: bool


def search(problem: Problem, rows: Rows, pairs: Pairs, options: Options) -> Choice:
    """Choose a classifier, its normalisation and its penalty.

    Parameters
    ----------
    problem : Problem
        Coordinates and labels.
    rows : ndarray of int
        Rows that may be looked at.
    pairs : sequence of (ndarray of int, ndarray of int)
        Training and held-out parts, as positions in `rows`; none where there
        are too few rows, and the first candidate is taken with the
        estimator's own default.
    options : Options
        Candidates. The mean of "centre" and principal components are found in
        each training part anew: what it holds out is only projected.

    Returns
    -------
    Choice
    """
    classes = np.unique(problem.y[rows])
    if not pairs:
        empty = np.zeros((0, len(classes)))
        no_rows = np.zeros(0, int)
        kind = options.kinds[0]
        return Choice(kind, options.normalise[0], None, empty, no_rows, np.nan, (), converged=True)
    fronts = _Fronts(problem, options)
    with _one_thread_a_product():
        contests = [
            _Trials(fronts, rows, pairs, kind, normalise)
            for kind in options.kinds
            for normalise in options.normalise
        ]
        winner = contests[0] if len(contests) == 1 else _halve(contests)
        best = winner.search()
    return Choice(
        best.kind,
        best.normalise,
        best.value,
        best.decisions,
        np.concatenate([rows[test] for _, test in pairs]),
        best.accuracy,
        tuple(best if trials is winner else trials.best() for trials in contests),
        best.converged,
    )


def train(problem: Problem, rows: Rows, choice: Choice, options: Options) -> Model:
    """Fit what was chosen on some rows.

    Returns
    -------
    Model
    """
    X, y = problem.coordinates[choice.normalise][rows], problem.y[rows]
    with _one_thread_a_product(), _watch() as watched:
        front = _fit_front(X, choice.normalise, options)
        model = _fit(choice.kind, front, front.transform(X), y, choice.value, options)
    return dataclasses.replace(model, converged=watched.converged)


def plan_of(options: Options, n_rows: int, n_classes: int) -> str:
    """Say how several classifiers will compete on `n_rows` rows; nothing where there is one.

    Examples
    --------
    >>> from featx.classification.classifiers import find_classifiers
    >>> print(plan_of(Options(tuple(find_classifiers("auto"))), 350, 7))
    7 classifiers, 48 settings, on 25 % of the rows, the better 24 on 50 %, the better 12 on 100 %
    """
    if len(options.kinds) * len(options.normalise) == 1:
        return ""
    X = np.ones((1, 1))
    given = options.penalties is not None
    counts = [len(_coarse(k, options.values(k, X), given=given)) for k in options.kinds]
    n_settings = sum(counts) * len(options.normalise)
    # A fifth is held out.
    first, *later = _rungs(n_rows * 4 // 5, n_classes, options.components)
    text = (
        f"{len(options.kinds)} classifiers, {n_settings} settings, on {100 * first:g} % of the rows"
    )
    for share in later:
        n_settings = -(-n_settings // 2)
        text += f", the better {n_settings} on {100 * share:g} %"
    return text


class _Fronts:
    """Rows as classifiers have them; principal components of the same rows are found once."""

    def __init__(self, problem: Problem, options: Options) -> None:
        self.y, self.options = problem.y, options
        self._coordinates = problem.coordinates
        self._found: dict[tuple[str, bytes, bytes], tuple[Front, Matrix, Matrix]] = {}

    def pass_through(
        self, normalise: str, rows: Rows, held_out: Rows
    ) -> tuple[Front, Matrix, Matrix]:
        """Return what is fitted on `rows`, these behind it, and others behind it."""
        key = (normalise, rows.tobytes(), held_out.tobytes())
        if key in self._found:
            return self._found[key]
        X, further = (self._coordinates[normalise][each] for each in (rows, held_out))
        front = _fit_front(X, normalise, self.options)
        found = front, front.transform(X), front.transform(further)
        # Rows that are as wide as before would fill the memory, and are quickly made again.
        if self.options.components is not None:
            self._found[key] = found
        return found


class _Trials:
    """One classifier with one normalisation on the folds; each value is tried once."""

    def __init__(
        self, fronts: _Fronts, rows: Rows, pairs: Pairs, kind: ClassifierKind, normalise: str
    ) -> None:
        self.kind, self.normalise, self._options = kind, normalise, fronts.options
        self._fronts, self._y = fronts, fronts.y
        self._rows, self._pairs = rows, pairs
        self._classes = np.unique(self._y[rows])
        _, X, _ = fronts.pass_through(normalise, rows, rows[:0])
        self.values = self._options.values(kind, X)
        self._done: dict[tuple[float, Any], Tried] = {}
        self._order = np.random.default_rng(self._options.seed).permutation(len(self._y))

    @property
    def coarse(self) -> tuple[Any, ...]:
        """Values to begin with."""
        return _coarse(self.kind, self.values, given=self._options.penalties is not None)

    def best(self) -> Tried:
        """Return the best setting on the largest share of the rows that was tried."""
        share = max(share for share, _ in self._done)
        return _best(self._in_order(share))

    def run(self, value: Any, share: float = 1.0) -> Tried:
        """Fit and score one value on every fold, on a share of its training part."""
        if (share, value) not in self._done:
            self._done[share, value] = self._try(value, share)
        return self._done[share, value]

    def search(self) -> Tried:
        """Search all values, on all rows."""
        if not self.kind.has_penalty or len(self.values) == 1:
            return _best([self.run(value) for value in self.values])
        if self._options.penalties:
            for value in self.values:
                self.run(value)
            return self._middle()
        if not any(share == 1 for share, _ in self._done):
            self._walk()
        self._widen()
        if not self._options.is_fine:
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

    def _middle(self) -> Tried:
        """Return the best penalty; of equally good ones, the middle.

        The strongest would leave all to the intercept, which the classes' shares
        in another set of images then betray; the weakest, all to rounding.
        """
        found = self._in_order(1.0)
        most = max(tried.n_right for tried in found)
        equal = [tried for tried in found if tried.n_right == most]
        return equal[(len(equal) - 1) // 2]

    def _in_order(self, share: float) -> list[Tried]:
        """Return what was tried on a share of the rows, simplest first."""
        found = [tried for (of, _), tried in self._done.items() if of == share]
        if self.kind.has_penalty and len(found) > 1:
            return sorted(found, key=lambda tried: tried.value)
        return sorted(found, key=lambda tried: self.values.index(tried.value))

    def _try(self, value: Any, share: float) -> Tried:
        starts = self._starts(value, share) or [None] * len(self._pairs)
        rows = [self._share(self._rows[train_part], share) for train_part, _ in self._pairs]
        held_out = [self._rows[test_part] for _, test_part in self._pairs]
        with _watch() as watched, ThreadPoolExecutor(self._n_threads) as pool:
            folds = list(pool.map(partial(self._fold, value), rows, held_out, starts))
        decided = np.concatenate([fold.decided for fold in folds])
        labels = self._classes[decided.argmax(axis=1)]
        return Tried(
            self.kind,
            self.normalise,
            value,
            int(np.sum(labels == self._y[np.concatenate(held_out)])),
            share,
            len(decided),
            decided,
            watched.converged,
            self.kind.has_penalty and all(fold.separates for fold in folds),
            tuple(fold.model for fold in folds) if self.kind.goes_on else (),
        )

    @property
    def _n_threads(self) -> int:
        """Folds that are fitted at once."""
        # A setting may ask for a solver of LIBLINEAR's that draws from one generator for all.
        draws = set(self._options.settings) - {"C", "alpha", "class_weight"}
        return 1 if draws else min(os.cpu_count() or 1, len(self._pairs))

    def _fold(self, value: Any, rows: Rows, held_out: Rows, start: Model | None) -> "_Fold":
        front, X, further = self._fronts.pass_through(self.normalise, rows, held_out)
        y = self._y[rows]
        model = _fit(self.kind, front, X, y, value, self._options, start)
        labels = np.array(model.classes)
        decided = np.full((len(held_out), len(self._classes)), -np.inf)
        decided[:, np.searchsorted(self._classes, labels)] = decisions(model.estimator, further)
        separates = bool(np.all(labels[decisions(model.estimator, X).argmax(axis=1)] == y))
        return _Fold(model, decided, separates)

    def _starts(self, value: Any, share: float) -> tuple[Model, ...]:
        """Return models of the next stronger penalty that was tried, for a fit to go on from."""
        if not self.kind.goes_on or value is None:
            return ()
        stronger = [v for of, v in self._done if of == share and v < value]
        return self._done[share, max(stronger)].models if stronger else ()

    def _share(self, rows: Rows, share: float) -> Rows:
        """Return the first rows of each class, in an order that was drawn once."""
        if share == 1:
            return rows
        shuffled = rows[np.argsort(self._order[rows])]
        kept = []
        for label in self._classes:
            of_class = shuffled[self._y[shuffled] == label]
            kept.append(of_class[: max(1, round(share * len(of_class)))])
        return np.sort(np.concatenate(kept))


@dataclass(frozen=True)
class _Fold:
    """What one fold came to: its model, what that decided, whether it is right on its own rows."""

    model: Model
    decided: Matrix
    separates: bool


def _fit_front(X: Matrix, normalise: str, options: Options) -> Front:
    centre = CentredRows().fit(X) if normalise == "centre" else None
    if options.components is None:
        return Front(centre)
    components = PrincipalComponents(options.components, whiten=options.whiten)
    return Front(centre, components.fit(X if centre is None else centre.transform(X)))


def _fit(  # noqa: PLR0917
    kind: ClassifierKind,
    front: Front,
    X: Matrix,
    y: NDArray[np.str_],
    value: Any,
    options: Options,
    start: Model | None = None,
) -> Model:
    """Fit a classifier on rows that have passed through `front`."""
    parameters = {**kind.fixed(X), **options.parameters(kind, value, len(X))}
    if start is not None and len(start.classes) == len(np.unique(y)):
        estimator = copy.copy(start.estimator).set_params(**{"warm_start": True, **parameters})
    else:
        estimator = kind.make(options.seed).set_params(**parameters)
    try:
        estimator.fit(X, y)
    except ValueError as error:  # of a setting, or of too few rows for this classifier
        message = (
            f"{kind.name} cannot be fitted on {len(y)} images with "
            f"{_spelt(parameters)}: {error}. Use other values with --set, or another --clf."
        )
        raise (OptionError if options.settings else FitError)(message) from error
    return Model(front, estimator, parameters)


@dataclass
class _Watched:
    """What solvers said of themselves."""

    converged: bool = True


@contextmanager
def _watch() -> Iterator[_Watched]:
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


def _halve(contests: Sequence[_Trials]) -> _Trials:
    """Return the winner among several, by successive halving and then by preference."""
    n_rows = min(len(train_part) for train_part, _ in contests[0]._pairs)
    live = [(trials, value) for trials in contests for value in trials.coarse]
    components = contests[0]._options.components
    for share in _rungs(n_rows, len(contests[0]._classes), components):
        found = [(trials, value, trials.run(value, share)) for trials, value in live]
        found.sort(key=lambda each: -each[2].n_right)
        live = [(trials, value) for trials, value, _ in found[: -(-len(found) // 2)]]
    of_all = [trials for trials in contests if any(share == 1 for share, _ in trials._done)]
    best = _prefer_linear([trials.best() for trials in of_all])
    return next(t for t in of_all if (t.kind, t.normalise) == (best.kind, best.normalise))


def _prefer_linear(found: Sequence[Tried]) -> Tried:
    """Return the best; a linear model, if one is within a standard error of it [2]_."""
    best = _best(found)
    error = np.sqrt(best.accuracy * (1 - best.accuracy) / best.n_rows)
    linear = [t for t in found if t.kind.is_linear and t.accuracy >= best.accuracy - error]
    return _best(linear) if linear else best


def _best(found: Sequence[Tried]) -> Tried:
    """Return the setting that is right most often; of equal ones, the first."""
    return max(found, key=lambda tried: tried.n_right)


def _coarse(
    kind: ClassifierKind, values: tuple[Any, ...], *, given: bool = False
) -> tuple[Any, ...]:
    return values[::_COARSE] if kind.has_penalty and len(values) > 1 and not given else values


def _rungs(n_rows: int, n_classes: int, components: int | None = None) -> tuple[float, ...]:
    fewest = _FEWEST_ROWS_A_CLASS * n_classes
    if components is not None:
        # More rows than components; a share of each class is rounded, by up to one row.
        fewest = max(fewest, components + 1 + n_classes)
    return tuple(share for share in _RUNGS if share == 1 or share * n_rows >= fewest)


@contextmanager
def _one_thread_a_product() -> Iterator[None]:
    """Hold matrix products to one thread: solvers' are small, and two threads wait for each other.

    Several fits at once use the processors better, and a fit's bits then do not
    depend on how many there are.
    """
    with ThreadpoolController().limit(limits=1):
        yield


def _spelt(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "its defaults"
