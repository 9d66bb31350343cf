"""The classifiers that `--clf` names, as a table.

A name comes in; an unmodified scikit-learn estimator and the values to search
go out. All are rotation-invariant: on the exact span they give what they would
give on the codes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

from featx.errors import OptionError

__all__ = ["CLASSIFIERS", "ClassifierKind", "find_classifier"]

# Rows have unit length, so one grid serves every layer: from so strong a penalty
# that all rows look alike to one that no longer acts.
_STRENGTHS = tuple(10.0**k for k in range(-2, 6))


@dataclass(frozen=True)
class ClassifierKind:
    """One line of the table.

    Parameters
    ----------
    name : str
        As `--clf` spells it.
    make : callable
        From a seed to an estimator.
    parameter : str
        The estimator's parameter that is searched.
    values : tuple of float
        Values to try, strongest penalty first: of equal scores the first wins.
    has_probabilities : bool
        Whether the estimator has some of its own, for a training part that is
        too small to calibrate on.
    """

    name: str
    make: Callable[[int], BaseEstimator]
    parameter: str
    values: tuple[float, ...]
    has_probabilities: bool


CLASSIFIERS: dict[str, ClassifierKind] = {
    kind.name: kind
    for kind in (
        ClassifierKind(
            "logistic",
            lambda seed: LogisticRegression(max_iter=10_000),
            "C",
            _STRENGTHS,
            has_probabilities=True,
        ),
        ClassifierKind(
            "ridge",
            lambda seed: RidgeClassifier(),
            "alpha",
            tuple(1 / strength for strength in _STRENGTHS),
            has_probabilities=False,
        ),
        ClassifierKind(
            "linear-svm",
            lambda seed: LinearSVC(max_iter=100_000, random_state=seed),
            "C",
            _STRENGTHS,
            has_probabilities=False,
        ),
    )
}


def find_classifier(name: str) -> ClassifierKind:
    """Return the line of the table called `name`.

    Raises
    ------
    OptionError
        There is none.
    """
    if name not in CLASSIFIERS:
        message = f"No classifier '{name}'. Use --clf with one of {', '.join(CLASSIFIERS)}."
        raise OptionError(message)
    return CLASSIFIERS[name]
