"""The classifiers that `--clf` names, as a table.

A name comes in; a scikit-learn estimator, the values to search and what must
not be set go out. Those that are exact are blind to rotations: on the exact
span they give what they would give on the codes.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import SVC, LinearSVC

from featx.choices import Classifier, check_choice, choices_of
from featx.codes.matrix import Matrix
from featx.errors import OptionError
from featx.fitting.estimators import Centroids, StableNeighbours
from featx.text import did_you_mean

__all__ = [
    "AUTO",
    "CLASSIFIERS",
    "ClassifierKind",
    "check_settings",
    "find_classifiers",
    "penalty_grid",
    "read_settings",
]

#: The name that stands for all of `ClassifierKind.in_auto`.
AUTO = "auto"
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class ClassifierKind:
    """One line of the table.

    Parameters
    ----------
    name : str
        As `--clf` spells it.
    make : callable
        From a seed to an estimator.
    parameter : str, optional
        The estimator's parameter that is searched.
    values : tuple, optional
        Values to try, simplest first: of equal scores the first wins. None
        where `parameter` is a penalty, searched on `penalty_grid`.
    to_parameter : callable
        From C and the number of training rows to the value of `parameter`,
        where that is a penalty.
    is_linear : bool
        Whether its decisions are a weighted sum of the columns.
    is_rotation_invariant : bool
        Whether it is blind to rotations, so that the span serves it.
    warm_starts : bool
        Whether a fit may begin where one with another value ended.
    has_class_weight : bool
        Whether classes can be weighted.
    needs_training_rows : bool
        Whether predictions need the rows that it was fitted on.
    supports_sgd : bool
        Whether stochastic gradient descent can stand for it on the streamed road.
    in_auto : bool
        Whether `--clf auto` tries it.
    axis_dependent : mapping of str to callable
        For each setting that can make it depend on the axes, whether a value does.
    """

    name: str
    make: Callable[[int], BaseEstimator]
    parameter: str | None = None
    values: tuple[Any, ...] | None = None
    to_parameter: Callable[[float, int], float] = lambda C, n: C
    is_linear: bool = False
    is_rotation_invariant: bool = True
    warm_starts: bool = False
    has_class_weight: bool = True
    needs_training_rows: bool = False
    supports_sgd: bool = False
    in_auto: bool = True
    axis_dependent: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)

    @property
    def has_penalty(self) -> bool:
        """Whether `parameter` is a penalty, searched on `penalty_grid`."""
        return self.parameter is not None and self.values is None

    def data_parameters(self, X: Matrix) -> dict[str, Any]:
        """Return parameters that follow from the training rows."""
        return {"gamma": _gamma(X)} if self.name == "svm-rbf" else {}


def _gamma(X: Matrix) -> float:
    """Return 1 / the mean squared distance of different rows: a number, not a look at columns."""
    n = len(X)
    square = np.einsum("ij,ij->", X, X) / n
    spread = square - np.sum(X.mean(axis=0) ** 2)
    # Of all pairs, those of a row with itself left out; rows that are all the same have no scale.
    return float((n - 1) / (2 * n * spread)) if n > 1 and spread > 1e-12 * square else 1.0


def _is(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


def _not(*values: object) -> Callable[[Any], bool]:
    return lambda value: value not in values


# All have the seed that can: solvers that --set names may draw.
_KINDS = (
    ClassifierKind(
        "logistic",
        # Tighter than scikit-learn's 1e-4, at which a fit that goes on from a stronger
        # penalty ends before it began.
        lambda seed: LogisticRegression(max_iter=10_000, tol=1e-6, random_state=seed),
        "C",
        supports_sgd=True,
        is_linear=True,
        warm_starts=True,
        axis_dependent={"l1_ratio": bool, "penalty": _is("l1", "elasticnet")},
    ),
    ClassifierKind(
        "ridge",
        lambda seed: RidgeClassifier(random_state=seed),
        "alpha",
        to_parameter=lambda C, n: 1 / C,
        supports_sgd=True,
        is_linear=True,
        axis_dependent={"positive": bool},
    ),
    ClassifierKind(
        "linear-svm",
        # The primal problem: the dual one takes for ever where classes overlap and C is large.
        lambda seed: LinearSVC(dual=False, max_iter=10_000, random_state=seed),
        "C",
        supports_sgd=True,
        is_linear=True,
        axis_dependent={"penalty": _is("l1")},
    ),
    ClassifierKind(
        "svm-rbf",
        lambda seed: SVC(break_ties=True, cache_size=500, random_state=seed),
        "C",
        needs_training_rows=True,
        axis_dependent={
            "gamma": _is("scale", "auto"),
            "kernel": _not("rbf", "linear", "poly", "sigmoid"),
        },
    ),
    ClassifierKind(
        "knn",
        lambda seed: StableNeighbours(),
        "n_neighbors",
        # More neighbours are the simpler model.
        (25, 15, 9, 5, 3, 1),
        has_class_weight=False,
        needs_training_rows=True,
    ),
    ClassifierKind("centroid", lambda seed: Centroids(), is_linear=True, has_class_weight=False),
    ClassifierKind(
        "lda",
        lambda seed: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        is_linear=True,
        is_rotation_invariant=False,
        has_class_weight=False,
    ),
    ClassifierKind(
        "sgd",
        lambda seed: SGDClassifier(loss="log_loss", random_state=seed),
        "alpha",
        to_parameter=lambda C, n: 1 / (C * n),
        supports_sgd=True,
        is_linear=True,
        is_rotation_invariant=False,
        in_auto=False,
    ),
    ClassifierKind(
        "logistic-l1",
        lambda seed: LogisticRegression(
            l1_ratio=1, solver="saga", tol=1e-3, max_iter=1000, random_state=seed
        ),
        "C",
        is_linear=True,
        is_rotation_invariant=False,
        in_auto=False,
    ),
    ClassifierKind(
        "hist-gradient-boosting",
        lambda seed: HistGradientBoostingClassifier(random_state=seed),
        is_rotation_invariant=False,
        in_auto=False,
    ),
)
CLASSIFIERS: dict[str, ClassifierKind] = {kind.name: kind for kind in _KINDS}


def find_classifiers(name: str) -> list[ClassifierKind]:
    """Return the lines of the table that a name stands for.

    Raises
    ------
    OptionError
        There are none.
    """
    if name == AUTO:
        return [kind for kind in _KINDS if kind.in_auto]
    check_choice("clf", name, choices_of(Classifier))
    return [CLASSIFIERS[name]]


def penalty_grid(X: Matrix) -> list[float]:
    """Return values of C to try, strongest penalty first.

    28 of them, from 1e-3 to 1e6, three a decade, divided by the mean squared
    length of the rows: on rows twice as long, a fourth of C is as strong.

    Examples
    --------
    >>> grid = penalty_grid(np.eye(3))
    >>> len(grid), grid[0], grid[-1]
    (28, 0.001, 1000000.0)
    """
    scale = float(np.einsum("ij,ij->", X, X)) / len(X) or 1.0
    return [float(C) / scale for C in np.logspace(-3, 6, 28)]


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE; a value that is no Python literal is text.

    Raises
    ------
    OptionError
        A text of another form.

    Examples
    --------
    >>> read_settings(["C=10", "solver=newton-cg", "fit_intercept=False"])
    {'C': 10, 'solver': 'newton-cg', 'fit_intercept': False}
    """
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            message = f"Cannot read --set {text}. Expected --set NAME=VALUE, as in --set C=10."
            raise OptionError(message)
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):
            settings[name] = value
    return settings


def check_settings(kind: ClassifierKind, settings: Parameters, *, on_gram: bool) -> None:
    """Make sure that an estimator takes settings, and on the span stays blind to rotations.

    Raises
    ------
    OptionError
        It has no such parameter, or the value makes it depend on the axes.
    """
    known = kind.make(0).get_params()
    for name, value in settings.items():
        if name not in known:
            message = (
                f"{kind.name} has no parameter '{name}'.{did_you_mean(name, known)} "
                f"Expected --set with one of "
                f"{', '.join(known)}."
            )
            raise OptionError(message)
        if on_gram and kind.axis_dependent.get(name, lambda _: False)(value):
            message = (
                f"--set {name}={value} makes {kind.name} depend on the axes of the codes, which "
                "the exact span turns. Leave it out, or use --road primal on narrow codes "
                "(--pool avg)."
            )
            raise OptionError(message)
