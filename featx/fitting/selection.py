"""Selection: choose a classifier and its settings, fit it and calibrate it.

Coordinates, labels and a split come in; the fitted classifier goes out. Settings are chosen by
cross-validation inside the training set, so the rows that are scored later have no influence.
Several classifiers are first compared on a fraction of the training rows, and the better half
of all settings is tried again on a larger fraction (successive halving [1]_).

References
----------
.. [1] K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and
   Hyperparameter Optimization", 2016. https://arxiv.org/abs/1502.07943
.. [2] L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and
   Regression Trees", 1984: the rule of one standard error.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from featx.codes.matrix import Matrix, Rows
from featx.dataset.splits import DataSplit, inner_folds
from featx.errors import FitError, OptionError
from featx.fitting.calibration import calibrate
from featx.fitting.grid_search import (
    FittedClassifier,
    GridSearch,
    Pairs,
    Problem,
    SearchData,
    SearchSpace,
    TriedSetting,
    best_of,
    fit_classifier,
    fit_steps,
    left_out,
    watch_convergence,
)
from featx.fitting.prepare import FitJob
from featx.metrics.evaluation import expand_columns
from featx.metrics.two_classes import ChosenThreshold, choose_threshold
from featx.text import counted

__all__ = [
    "Choice",
    "SelectedClassifier",
    "fit_choice",
    "plan_of",
    "search",
    "select_classifier",
    "threshold_of",
]

# Fractions of the training rows on which several classifiers are compared.
_FRACTIONS = (0.25, 0.5, 1.0)
_FEWEST_ROWS_PER_CLASS = 5
# Matrix products use one thread. Those of solvers are small, and threads would wait for each
# other. Several fits at once use the cores better, and the result of a fit does not depend on
# the number of cores.
_PRODUCT_THREADS = 1


@dataclass(frozen=True, kw_only=True)
class Choice(TriedSetting):
    """The best setting of a search; its accuracy is too high, because it was chosen.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows,)
        The held-out rows; none if there were too few rows to hold any out.
    tried : tuple of TriedSetting
        Best setting of each classifier, on the largest fraction of the rows that it reached.
    notes : tuple of str
        Failed fits of classifiers and settings, with their reasons.
    """

    rows: Rows
    tried: tuple[TriedSetting, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SelectedClassifier:
    """A classifier that was chosen, fitted and calibrated on a training set.

    Parameters
    ----------
    choice : Choice
        The classifier and its settings.
    model : FittedClassifier
        From coordinates to decision scores.
    calibrator : scikit-learn classifier
        From decision scores to probabilities.
    rows : ndarray of int
        Rows that it was fitted on.
    notes : tuple of str
        Warnings and other notes for the user.
    threshold : ChosenThreshold, optional
        From which probability on the positive class is predicted.
    """

    choice: Choice
    model: FittedClassifier
    calibrator: BaseEstimator
    rows: Rows
    notes: tuple[str, ...] = ()
    threshold: ChosenThreshold | None = None

    def predict_proba(self, problem: Problem, rows: Rows) -> Matrix:
        """Return probabilities of all classes of the problem; 0 for unknown classes."""
        X = problem.coordinates[self.choice.normalise][rows]
        probabilities = self.calibrator.predict_proba(self.model.decision_scores(X))
        return expand_columns(probabilities, self.model.classes, np.unique(problem.y))


def select_classifier(problem: Problem, job: FitJob, split: DataSplit) -> SelectedClassifier:
    """Choose, fit and calibrate a classifier on the training set of a split.

    Parameters
    ----------
    problem : Problem
        Coordinates and labels of the rows of the job.
    job : FitJob
        What is chosen from.
    split : DataSplit
        Its `score_rows` are not used.

    Raises
    ------
    FitError
        The training set has only one class, or no classifier can be fitted on it.
    """
    space, calibration = job.space, job.settings.calibration
    if len(np.unique(job.y[split.fit_rows])) < 2:
        message = "All training images have the same class. A classifier needs two classes."
        raise FitError(message)
    rows, pairs = inner_folds(split, job.y, job.groups, space.seed)
    choice, model = _search_and_fit(problem, rows, pairs, split.fit_rows, space)
    notes = list(choice.notes)
    if not pairs and (choice.kind.parameter or len(space.kinds) > 1):
        notes.append(
            "Too few images to choose settings by cross-validation: scikit-learn's defaults were "
            "used."
        )
    if not (choice.converged and model.converged):
        notes.append(
            f"{choice.kind.name} did not converge. Use --set max_iter=100000, or --C with smaller "
            "values."
        )
    searched_classes = [str(label) for label in np.unique(job.y[rows])]
    scores = expand_columns(
        choice.decision_scores, searched_classes, model.classes, missing=-np.inf
    )
    calibrator = calibrate(scores, job.y[choice.rows], model.classes, calibration)
    if not pairs and calibration != "none":
        notes.append("Too few images to calibrate on: probabilities are not calibrated.")
    threshold = threshold_of(job, choice.rows, lambda: calibrator.predict_proba(scores))
    if threshold is not None:
        notes += threshold.notes(str(job.settings.positive))
    return SelectedClassifier(choice, model, calibrator, split.fit_rows, tuple(notes), threshold)


def threshold_of(
    job: FitJob, rows: Rows, predict_proba: Callable[[], Matrix]
) -> ChosenThreshold | None:
    """Choose the threshold that a job asks for, on rows that were held out of the training.

    Parameters
    ----------
    job : FitJob
        Its settings have the positive class and the rule.
    rows : ndarray of int, shape (n,)
        Held-out rows of the training set.
    predict_proba : callable
        Returns their calibrated probabilities, (n, 2); not called if there is no rule.

    Raises
    ------
    FitError
        The threshold must reach a recall or a precision, and no image of the positive class is
        held out.
    """
    rule, positive = job.settings.threshold_rule, job.settings.positive
    if rule is None or positive is None:
        return None
    is_positive = job.y[rows] == positive
    if rule.target is not None and not is_positive.any():
        message = (
            f"--threshold {rule} is chosen on held-out training images of {positive}, but there "
            "are too few images to hold any out. Use a number, such as --threshold 0.3."
        )
        raise FitError(message)
    if rule.target is None:
        return ChosenThreshold(rule.value, rule)
    column = [str(label) for label in np.unique(job.y)].index(positive)
    return choose_threshold(rule, is_positive, predict_proba()[:, column], job.groups[rows])


def search(problem: Problem, rows: Rows, pairs: Pairs, space: SearchSpace) -> Choice:
    """Choose a classifier, a normalisation and a value of the searched parameter.

    Parameters
    ----------
    problem, rows, pairs, space
        See `SearchData`. If there are no pairs, the first classifier is chosen with the
        defaults of its estimator.

    Returns
    -------
    Choice

    Raises
    ------
    FitError, OptionError
        No classifier can be fitted on the training rows of each fold.
    """
    if not pairs:
        no_scores = np.zeros((0, len(np.unique(problem.y[rows]))))
        first = TriedSetting(space.kinds[0], space.normalise[0], None, 0, 1.0, no_scores)
        return Choice(**vars(first), rows=np.zeros(0, int), tried=())
    data = SearchData(problem, rows, pairs, space)
    with threadpool_limits(_PRODUCT_THREADS):
        searches = [
            GridSearch(data, kind, normalise)
            for kind in space.kinds
            for normalise in space.normalise
        ]
        winner = searches[0] if len(searches) == 1 else _halve(searches)
        best = winner.search()
    tried = tuple(best if each is winner else each.best() for each in searches if each.tried)
    held_out = np.concatenate([rows[b] for _, b in pairs])
    return Choice(**vars(best), rows=held_out, tried=tried, notes=_failures(searches))


def _failures(searches: Sequence[GridSearch]) -> tuple[str, ...]:
    """Return notes about what cannot be fitted; once for all normalisations, if none can."""
    fitted = {each.kind.name for each in searches if each.tried}
    several = len(searches[0].space.normalise) > 1
    notes = [
        note
        for each in searches
        for note in each.notes(with_normalise=several and each.kind.name in fitted)
    ]
    return tuple(dict.fromkeys(notes))


def _search_and_fit(
    problem: Problem, rows: Rows, pairs: Pairs, fit_rows: Rows, space: SearchSpace
) -> tuple[Choice, FittedClassifier]:
    """Search, and fit the choice; or the best of the others, if it cannot be fitted."""
    choice = search(problem, rows, pairs, space)
    try:
        return choice, fit_choice(problem, fit_rows, choice, space)
    except (FitError, OptionError) as error:
        others = tuple(kind for kind in space.kinds if kind is not choice.kind)
        if not others:
            raise
        note = left_out(choice.kind.name, error)
    space = dataclasses.replace(space, kinds=others)
    choice, model = _search_and_fit(problem, rows, pairs, fit_rows, space)
    return dataclasses.replace(choice, notes=(note, *choice.notes)), model


def fit_choice(
    problem: Problem, rows: Rows, choice: Choice, space: SearchSpace
) -> FittedClassifier:
    """Fit the chosen classifier on some rows."""
    X, y = problem.coordinates[choice.normalise][rows], problem.y[rows]
    with threadpool_limits(_PRODUCT_THREADS), watch_convergence() as not_converged:
        steps, X = fit_steps(X, choice.normalise, space)
        model = fit_classifier(choice.kind, steps, X, y, choice.value, space)
    return dataclasses.replace(model, converged=not not_converged)


def plan_of(space: SearchSpace, n_rows: int, n_classes: int) -> str:
    """Describe how several classifiers are compared on `n_rows` rows; "" for one classifier.

    Examples
    --------
    >>> from featx.fitting.classifiers import find_classifiers
    >>> print(plan_of(SearchSpace(tuple(find_classifiers("auto"))), 350, 7))
    7 classifiers, 48 settings, on 25 % of the rows, the better 24 on 50 %, the better 12 on 100 %
    """
    if len(space.kinds) * len(space.normalise) == 1:
        return ""
    X = np.ones((1, 1))
    n_values = sum(len(space.coarse(kind, space.values(kind, X))) for kind in space.kinds)
    n_settings = n_values * len(space.normalise)
    # A fifth of the rows is held out.
    first, *later = _fractions(n_rows * 4 // 5, n_classes, space.components)
    text = (
        f"{counted(len(space.kinds), 'classifier')}, {counted(n_settings, 'setting')}, on "
        f"{100 * first:g} % of the rows"
    )
    for fraction in later:
        n_settings = -(-n_settings // 2)
        text += f", the better {n_settings} on {100 * fraction:g} %"
    return text


def _halve(searches: Sequence[GridSearch]) -> GridSearch:
    """Return the best of several searches, by successive halving."""
    data = searches[0].data
    n_rows = min(len(train) for train, _ in data.pairs)
    every = candidates = [(each, value) for each in searches for value in each.coarse]
    for fraction in _fractions(n_rows, len(data.classes), data.space.components):
        # If none of the better half can be fitted on more rows, all are tried on them.
        tried = _try(candidates, fraction) or _try(every, fraction)
        if not tried:
            message = (
                "None of the classifiers can be fitted on the training images. "
                f"{' '.join(_failures(searches))} Add images, or use --clf centroid."
            )
            raise FitError(message)
        tried.sort(key=lambda entry: -entry[2].n_correct)
        candidates = [(each, value) for each, value, _ in tried[: -(-len(tried) // 2)]]
    finalists = [each for each in searches if any(fraction == 1 for fraction, _ in each.tried)]
    best = _prefer_linear([each.best() for each in finalists])
    return next(s for s in finalists if (s.kind, s.normalise) == (best.kind, best.normalise))


def _try(
    candidates: Sequence[tuple[GridSearch, Any]], fraction: float
) -> list[tuple[GridSearch, Any, TriedSetting]]:
    """Run candidates on a fraction of the rows; return those that can be fitted."""
    tried = ((each, value, each.run(value, fraction)) for each, value in candidates)
    return [(each, value, found) for each, value, found in tried if found is not None]


def _prefer_linear(tried: Sequence[TriedSetting]) -> TriedSetting:
    """Return the best setting; or a linear one, if it is within one standard error of it [2]_."""
    best = best_of(tried)
    error = np.sqrt(best.accuracy * (1 - best.accuracy) / best.n_rows)
    linear = [each for each in tried if each.kind.is_linear]
    linear = [each for each in linear if each.accuracy >= best.accuracy - error]
    return best_of(linear) if linear else best


def _fractions(n_rows: int, n_classes: int, components: int | None) -> tuple[float, ...]:
    """Return the fractions of the rows that are large enough to compare classifiers on."""
    fewest = _FEWEST_ROWS_PER_CLASS * n_classes
    if components is not None:
        # There must be more rows than components; each class is rounded by up to one row.
        fewest = max(fewest, components + 1 + n_classes)
    return tuple(each for each in _FRACTIONS if each == 1 or each * n_rows >= fewest)
