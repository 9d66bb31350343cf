"""The table of classifiers that `--clf` chooses from.

The name of a classifier goes in; a scikit-learn estimator, the values to search and the
settings to refuse come out. A classifier that is invariant to rotations gives the same
predictions on the coordinates of the Gram matrix as on the codes.
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
    "CLASSIFIERS",
    "ClassifierKind",
    "check_settings",
    "find_classifiers",
    "penalty_grid",
    "read_settings",
]

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class ClassifierKind:
    """One row of the table of classifiers.

    Parameters
    ----------
    name : str
        The value of `--clf`.
    make : callable
        Returns a new estimator; its argument is the random seed.
    parameter : str, optional
        The estimator's parameter that is searched.
    values : tuple, optional
        Values to try, simplest model first; of equal scores, the first wins. None if
        `parameter` is a penalty, which is searched on `penalty_grid`.
    to_parameter : callable
        Converts C and the number of training rows to the value of `parameter`, if that
        is a penalty.
    is_linear : bool, default=False
        Whether decision scores are weighted sums of the columns.
    is_rotation_invariant : bool, default=True
        Whether predictions stay the same if all rows are rotated.
    warm_starts : bool, default=False
        Whether a fit can start from the coefficients of a fit with another value.
    needs_training_rows : bool, default=False
        Whether predictions compare a row with the training rows.
    supports_sgd : bool, default=False
        Whether the streamed solver can fit it, by stochastic gradient descent.
    in_auto : bool, default=True
        Whether `--clf auto` tries it.
    axis_dependent : mapping of str to callable
        For each parameter that can make the estimator depend on the axes: a function
        that returns whether a value does.
    """

    name: str
    make: Callable[[int], BaseEstimator]
    parameter: str | None = None
    values: tuple[Any, ...] | None = None
    to_parameter: Callable[[float, int], float] = lambda C, n: C
    is_linear: bool = False
    is_rotation_invariant: bool = True
    warm_starts: bool = False
    needs_training_rows: bool = False
    supports_sgd: bool = False
    in_auto: bool = True
    axis_dependent: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)

    @property
    def has_penalty(self) -> bool:
        """Whether `parameter` is a penalty, searched on `penalty_grid`."""
        return self.parameter is not None and self.values is None

    @property
    def has_class_weight(self) -> bool:
        """Whether the estimator has the parameter class_weight."""
        return "class_weight" in self.make(0).get_params()

    def data_parameters(self, X: Matrix) -> dict[str, Any]:
        """Return the parameters that are computed from the training rows."""
        return {"gamma": _gamma(X)} if self.name == "svm-rbf" else {}


def _gamma(X: Matrix) -> float:
    """Return 1 / the mean squared distance of two rows, which rotations do not change."""
    n = len(X)
    square = np.einsum("ij,ij->", X, X) / n
    spread = square - np.sum(X.mean(axis=0) ** 2)
    # The mean is over pairs of different rows. Equal rows have no scale.
    return float((n - 1) / (2 * n * spread)) if n > 1 and spread > 1e-12 * square else 1.0


# The seed is set wherever possible, since a solver chosen with --set may be random.
_KINDS = (
    ClassifierKind(
        "logistic",
        # With scikit-learn's 1e-4, a fit that starts from the coefficients of a stronger
        # penalty stops at once.
        lambda seed: LogisticRegression(max_iter=10_000, tol=1e-6, random_state=seed),
        "C",
        supports_sgd=True,
        is_linear=True,
        warm_starts=True,
        axis_dependent={"l1_ratio": bool, "penalty": lambda value: value in ("l1", "elasticnet")},
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
        # The dual problem takes very long if classes overlap and C is large.
        lambda seed: LinearSVC(dual=False, max_iter=10_000, random_state=seed),
        "C",
        supports_sgd=True,
        is_linear=True,
        axis_dependent={"penalty": lambda value: value == "l1"},
    ),
    ClassifierKind(
        "svm-rbf",
        # Margins of pairs of classes can be calibrated; see `decision_scores`.
        lambda seed: SVC(decision_function_shape="ovo", cache_size=500, random_state=seed),
        "C",
        needs_training_rows=True,
        axis_dependent={
            "gamma": lambda value: value in ("scale", "auto"),
            "kernel": lambda value: value not in ("rbf", "linear", "poly", "sigmoid"),
        },
    ),
    ClassifierKind(
        "knn",
        lambda seed: StableNeighbours(),
        "n_neighbors",
        # More neighbours make a simpler model.
        (25, 15, 9, 5, 3, 1),
        needs_training_rows=True,
    ),
    ClassifierKind("centroid", lambda seed: Centroids(), is_linear=True),
    ClassifierKind(
        "lda",
        lambda seed: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        is_linear=True,
        is_rotation_invariant=False,
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
    """Return the classifiers for a value of `--clf`; several for "auto".

    Raises
    ------
    OptionError
        There is no classifier of that name.
    """
    if name == "auto":
        return [kind for kind in _KINDS if kind.in_auto]
    check_choice("clf", name, choices_of(Classifier))
    return [CLASSIFIERS[name]]


def penalty_grid(X: Matrix) -> list[float]:
    """Return values of C to try, strongest penalty first.

    These are 28 values from 1e-3 to 1e6, three for each decade, divided by the mean
    squared length of the rows. If rows are twice as long, C / 4 is as strong a penalty.

    Examples
    --------
    >>> grid = penalty_grid(np.eye(3))
    >>> len(grid), grid[0], grid[-1]
    (28, 0.001, 1000000.0)
    """
    scale = float(np.einsum("ij,ij->", X, X)) / len(X) or 1.0
    return [float(C) / scale for C in np.logspace(-3, 6, 28)]


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Parse texts of the form NAME=VALUE; a value that is not a Python literal is a string.

    Raises
    ------
    OptionError
        A text has another form.

    Examples
    --------
    >>> read_settings(["C=10", "solver=newton-cg", "fit_intercept=False"])
    {'C': 10, 'solver': 'newton-cg', 'fit_intercept': False}
    """
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            message = f"Cannot parse --set {text}. Use --set NAME=VALUE, such as --set C=10."
            raise OptionError(message)
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):
            settings[name] = value
    return settings


def check_settings(kind: ClassifierKind, settings: Parameters, *, on_gram: bool) -> None:
    """Check that an estimator has these parameters and, `on_gram`, stays rotation invariant.

    Raises
    ------
    OptionError
        The estimator has no such parameter, or the value makes it depend on the axes.
    """
    known = kind.make(0).get_params()
    for name, value in settings.items():
        if name not in known:
            message = (
                f"{kind.name} has no parameter '{name}'.{did_you_mean(name, known)} "
                f"Use --set with one of: {', '.join(known)}."
            )
            raise OptionError(message)
        if on_gram and kind.axis_dependent.get(name, lambda _: False)(value):
            message = (
                f"With --set {name}={value}, {kind.name} depends on the axes of the codes, which "
                "the Gram matrix does not preserve. Leave it out, or use --solver primal with "
                "narrow codes (--pool avg)."
            )
            raise OptionError(message)
