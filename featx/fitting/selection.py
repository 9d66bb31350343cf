"""The search: what is chosen is chosen by folds inside the rows that it may see.

Rows, labels and candidates come in; the winner goes out, with what it decided
about every row while that row was held out. Several classifiers compete on growing
shares of the rows, of which the better half goes on (successive halving [1]_). This
file does not know codes: rows are coordinates, and a normalisation is a name.

References
----------
.. [1] K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and
   Hyperparameter Optimization", 2016. https://arxiv.org/abs/1502.07943
.. [2] L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and
   Regression Trees", 1984: the rule of one standard error.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from featx.codes.matrix import Matrix, Rows
from featx.fitting.classifiers import ClassifierKind
from featx.fitting.grid_search import (
    GridSearch,
    Pairs,
    PreprocessorCache,
    TriedSetting,
    best_of,
    coarse_values,
    watched_solvers,
)
from featx.fitting.single_fit import (
    FittedClassifier,
    Problem,
    SearchSpace,
    fit_classifier,
    fit_preprocessor,
)
from featx.text import counted

__all__ = ["Choice", "plan_of", "search", "train"]

# Shares of the training rows that several classifiers compete on.
_RUNGS = (0.25, 0.5, 1.0)
_FEWEST_ROWS_A_CLASS = 5


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
    tried : tuple of TriedSetting
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
    tried: tuple[TriedSetting, ...]
    converged: bool


def search(problem: Problem, rows: Rows, pairs: Pairs, space: SearchSpace) -> Choice:
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
    space : SearchSpace
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
        kind = space.kinds[0]
        return Choice(kind, space.normalise[0], None, empty, no_rows, np.nan, (), converged=True)
    fronts = PreprocessorCache(problem, space)
    with _one_thread_a_product():
        contests = [
            GridSearch(fronts, rows, pairs, kind, normalise)
            for kind in space.kinds
            for normalise in space.normalise
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


def train(problem: Problem, rows: Rows, choice: Choice, space: SearchSpace) -> FittedClassifier:
    """Fit what was chosen on some rows.

    Returns
    -------
    FittedClassifier
    """
    X, y = problem.coordinates[choice.normalise][rows], problem.y[rows]
    with _one_thread_a_product(), watched_solvers() as watched:
        front = fit_preprocessor(X, choice.normalise, space)
        model = fit_classifier(choice.kind, front, front.transform(X), y, choice.value, space)
    return dataclasses.replace(model, converged=watched.converged)


def plan_of(space: SearchSpace, n_rows: int, n_classes: int) -> str:
    """Say how several classifiers will compete on `n_rows` rows; nothing where there is one.

    Examples
    --------
    >>> from featx.fitting.classifiers import find_classifiers
    >>> print(plan_of(SearchSpace(tuple(find_classifiers("auto"))), 350, 7))
    7 classifiers, 48 settings, on 25 % of the rows, the better 24 on 50 %, the better 12 on 100 %
    """
    if len(space.kinds) * len(space.normalise) == 1:
        return ""
    X = np.ones((1, 1))
    given = space.penalties is not None
    counts = [len(coarse_values(k, space.values(k, X), given=given)) for k in space.kinds]
    n_settings = sum(counts) * len(space.normalise)
    # A fifth is held out.
    first, *later = _rungs(n_rows * 4 // 5, n_classes, space.components)
    text = (
        f"{counted(len(space.kinds), 'classifier')}, {counted(n_settings, 'setting')}, on "
        f"{100 * first:g} % of the rows"
    )
    for share in later:
        n_settings = -(-n_settings // 2)
        text += f", the better {n_settings} on {100 * share:g} %"
    return text


def _halve(contests: Sequence[GridSearch]) -> GridSearch:
    """Return the winner among several, by successive halving and then by preference."""
    n_rows = min(len(train_part) for train_part, _ in contests[0].pairs)
    live = [(trials, value) for trials in contests for value in trials.coarse]
    components = contests[0].space.components
    for share in _rungs(n_rows, len(contests[0].classes), components):
        found = [(trials, value, trials.run(value, share)) for trials, value in live]
        found.sort(key=lambda each: -each[2].n_right)
        live = [(trials, value) for trials, value, _ in found[: -(-len(found) // 2)]]
    of_all = [trials for trials in contests if any(share == 1 for share, _ in trials.done)]
    best = _prefer_linear([trials.best() for trials in of_all])
    return next(t for t in of_all if (t.kind, t.normalise) == (best.kind, best.normalise))


def _prefer_linear(found: Sequence[TriedSetting]) -> TriedSetting:
    """Return the best; a linear model, if one is within a standard error of it [2]_."""
    best = best_of(found)
    error = np.sqrt(best.accuracy * (1 - best.accuracy) / best.n_rows)
    linear = [t for t in found if t.kind.is_linear and t.accuracy >= best.accuracy - error]
    return best_of(linear) if linear else best


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
