"""One fit: what may be chosen, what rows pass through, and a classifier behind it.

Rows and labels come in; a fitted model goes out. Which setting is the best is not
known here. This file does not know codes: rows are coordinates, and a normalisation is
a name.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from featx.codes.components import PrincipalComponents
from featx.codes.matrix import Matrix
from featx.codes.scaling import CentredRows
from featx.errors import FitError, OptionError
from featx.fitting.calibration import decision_scores
from featx.fitting.classifiers import ClassifierKind, penalty_grid
from featx.text import counted

__all__ = [
    "FittedClassifier",
    "Preprocessor",
    "Problem",
    "SearchSpace",
    "fit_classifier",
    "fit_preprocessor",
]


@dataclass(frozen=True)
class SearchSpace:
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
class Preprocessor:
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
class FittedClassifier:
    """A classifier that was fitted on coordinates.

    Parameters
    ----------
    front : Preprocessor
        What rows pass through first.
    estimator : scikit-learn classifier
        Fitted.
    parameters : mapping of str to object
        What was set of its parameters.
    converged : bool, default=True
        Whether its solver did not say otherwise.
    """

    front: Preprocessor
    estimator: BaseEstimator
    parameters: Mapping[str, Any]
    converged: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels that it knows, in the order of its decisions."""
        return tuple(str(label) for label in self.estimator.classes_)

    def decide(self, X: Matrix) -> Matrix:
        """Return decisions, (n, k)."""
        return decision_scores(self.estimator, self.front.transform(X))


def fit_preprocessor(X: Matrix, normalise: str, space: SearchSpace) -> Preprocessor:
    """Fit what a normalisation and the space put before a classifier."""
    centre = CentredRows().fit(X) if normalise == "centre" else None
    if space.components is None:
        return Preprocessor(centre)
    components = PrincipalComponents(space.components, whiten=space.whiten)
    return Preprocessor(centre, components.fit(X if centre is None else centre.transform(X)))


def fit_classifier(  # noqa: PLR0917
    kind: ClassifierKind,
    front: Preprocessor,
    X: Matrix,
    y: NDArray[np.str_],
    value: Any,
    space: SearchSpace,
    start: FittedClassifier | None = None,
) -> FittedClassifier:
    """Fit a classifier on rows that have passed through `front`."""
    parameters = {**kind.data_parameters(X), **space.parameters(kind, value, len(X))}
    if start is not None and len(start.classes) == len(np.unique(y)):
        estimator = copy.copy(start.estimator).set_params(**{"warm_start": True, **parameters})
    else:
        estimator = kind.make(space.seed).set_params(**parameters)
    try:
        estimator.fit(X, y)
    except ValueError as error:  # of a setting, or of too few rows for this classifier
        message = (
            f"{kind.name} cannot be fitted on {counted(len(y), 'image')} with "
            f"{_spelt(parameters)}: {error}. Use other values with --set, or another --clf."
        )
        raise (OptionError if space.settings else FitError)(message) from error
    return FittedClassifier(front, estimator, parameters)


def _spelt(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "its defaults"
