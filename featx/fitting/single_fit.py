"""One fit: a preprocessor and a classifier, fitted on rows and labels with given settings.

Rows and labels come in; a fitted classifier goes out. This module does not know which setting
is the best, and it does not know codes: a row is a vector of coordinates.
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

    def parameters(self, kind: ClassifierKind, value: Any, n_rows: int) -> dict[str, Any]:
        """Return the parameters of the estimator for one of the values."""
        searched = {}
        if value is not None and kind.parameter is not None:
            searched[kind.parameter] = (
                kind.to_parameter(value, n_rows) if kind.has_penalty else value
            )
        return {**searched, **self.settings}


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
class Preprocessor:
    """Transforms before a classifier, fitted on its training rows.

    Parameters
    ----------
    centre : CentredRows, optional
        The step of the normalisation "centre".
    components : PrincipalComponents, optional
        Applied after `centre`.
    """

    centre: CentredRows | None = None
    components: PrincipalComponents | None = None

    def transform(self, X: Matrix) -> Matrix:
        """Return the rows that the classifier is fitted on."""
        if self.centre is not None:
            X = self.centre.transform(X)
        return X if self.components is None else self.components.transform(X)


@dataclass(frozen=True)
class FittedClassifier:
    """A classifier that was fitted on coordinates.

    Parameters
    ----------
    preprocessor : Preprocessor
        Transforms rows before the estimator.
    estimator : scikit-learn classifier
        Fitted.
    parameters : mapping of str to object
        Parameters of the estimator that were set.
    converged : bool, default=True
        False if the estimator warned that it did not converge.
    """

    preprocessor: Preprocessor
    estimator: BaseEstimator
    parameters: Mapping[str, Any]
    converged: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the decision scores."""
        return tuple(str(label) for label in self.estimator.classes_)

    def decision_scores(self, X: Matrix) -> Matrix:
        """Return decision scores, (n, k)."""
        return decision_scores(self.estimator, self.preprocessor.transform(X))


def fit_preprocessor(X: Matrix, normalise: str, space: SearchSpace) -> Preprocessor:
    """Fit the transforms that a normalisation and the settings require."""
    centre = CentredRows().fit(X) if normalise == "centre" else None
    if space.components is None:
        return Preprocessor(centre)
    components = PrincipalComponents(space.components, whiten=space.whiten)
    return Preprocessor(centre, components.fit(X if centre is None else centre.transform(X)))


def fit_classifier(  # noqa: PLR0917
    kind: ClassifierKind,
    preprocessor: Preprocessor,
    X: Matrix,
    y: NDArray[np.str_],
    value: Any,
    space: SearchSpace,
    start: FittedClassifier | None = None,
) -> FittedClassifier:
    """Fit a classifier on rows that `preprocessor` has transformed.

    The fit starts at the coefficients of `start`, if both have the same number of classes.
    """
    parameters = {**kind.data_parameters(X), **space.parameters(kind, value, len(X))}
    if start is not None and len(start.classes) == len(np.unique(y)):
        estimator = copy.copy(start.estimator).set_params(**{"warm_start": True, **parameters})
    else:
        estimator = kind.make(space.seed).set_params(**parameters)
    try:
        estimator.fit(X, y)
    except ValueError as error:  # a parameter is wrong, or there are too few rows
        settings = ", ".join(f"{name}={each}" for name, each in parameters.items())
        message = (
            f"{kind.name} cannot be fitted on {counted(len(y), 'image')} with "
            f"{settings or 'its defaults'}: {error}. Use other values for --set, or another --clf."
        )
        raise (OptionError if space.settings else FitError)(message) from error
    return FittedClassifier(preprocessor, estimator, parameters)
