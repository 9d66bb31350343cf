"""The classifier of a model as a scikit-learn pipeline, from codes to probabilities.

Codes and labels go in; a pipeline that is fitted and calibrated on them comes out. Its settings
are those that `featx fit` chose: nothing is searched here. This module does not know where codes
come from, nor which images belong together.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_X_y

from featx.choices import Calibration
from featx.codes.gram import GramCoordinates
from featx.codes.matrix import Matrix, Rows
from featx.codes.scaling import UnitRows
from featx.dataset.folds import make_folds
from featx.errors import FitError
from featx.fitting.calibration import calibrate
from featx.metrics.evaluation import expand_columns

__all__ = ["CodePipeline"]

# Up to a rotation, their result for a row does not depend on the other rows.
_ROW_BY_ROW = (UnitRows, GramCoordinates)


class CodePipeline(Pipeline):  # type: ignore[misc]
    """Pipeline from codes to probabilities, calibrated on held-out decision scores.

    Parameters
    ----------
    steps : list of (str, estimator)
        Transforms of rows, a `DecisionScores` called "decisions", and a classifier of decision
        scores called "calibration", which `fit` replaces.
    method : {"temperature", "sigmoid", "isotonic", "none"}, default="temperature"
        How decision scores become probabilities.
    seed : int, default=0
        Random seed of the folds whose held-out decision scores are calibrated on.
    transform_input, memory, verbose
        See `sklearn.pipeline.Pipeline`; `fit` does not use them.

    Notes
    -----
    The classifier of a model has the settings that `featx.fit` chose, such as the penalty C, and
    `fit` fits with these. To search them again, use `GridSearchCV` on "decisions__estimator__C"
    and the like, or `featx.fit`. `predict` returns the most probable class; a threshold for the
    positive class of two belongs to the `Model`.

    Examples
    --------
    >>> from sklearn.base import clone
    >>> from sklearn.linear_model import LogisticRegression
    >>> from featx.fitting.calibration import DecisionScores, TemperatureScaling
    >>> decisions = DecisionScores(LogisticRegression(C=10))
    >>> model = CodePipeline(
    ...     [("decisions", decisions), ("calibration", TemperatureScaling(()))]
    ... )
    >>> X, y = [[0.0], [1.0], [2.0], [3.0], [8.0], [9.0]], list("aaabbb")
    >>> clone(model).fit(X, y).predict([[1.5], [5.0]]).tolist()
    ['a', 'b']
    """

    steps: list[tuple[str, BaseEstimator]]

    def __init__(
        self,
        steps: Sequence[tuple[str, BaseEstimator]],
        *,
        method: Calibration = "temperature",
        seed: int = 0,
        transform_input: Any = None,
        memory: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.method = method
        self.seed = seed

    def fit(self, X: ArrayLike, y: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Fit all steps on codes, with the settings that they have.

        Decision scores are calibrated on rows that were held out by five folds, as in
        `featx.fit`; then the steps are fitted on all rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Codes, all layers side by side.
        y : array-like of shape (n,)
            Labels.
        groups : array-like of shape (n,), optional
            Equal values for images that must be in one fold, such as near-duplicates. A model
            does not know the groups of images; by default each image is a group.

        Returns
        -------
        CodePipeline
            Itself.

        Raises
        ------
        FitError
            There is a single class, a class has too few rows for the calibration, or only
            `featx.fit` or `featx.finetune` can fit this classifier.
        ValueError
            X or y are not numbers and labels of the same length, or scikit-learn's classifier
            refuses them.
        """
        rows, labels = check_X_y(X, y)
        check_classification_targets(labels)
        classes = np.unique(labels)
        if len(classes) < 2:
            message = "All rows have the same class. A classifier needs two classes."
            raise FitError(message)
        fitted: list[tuple[str, BaseEstimator]] = []
        steps = list(self.steps[:-1])
        while isinstance(steps[0][1], _ROW_BY_ROW):
            name, step = steps.pop(0)
            fitted.append((name, clone(step)))
            rows = fitted[-1][1].fit_transform(rows)
        unfitted = Pipeline(steps)
        of_group = np.arange(len(labels)) if groups is None else np.asarray(groups)
        own = np.unique(of_group, return_inverse=True)[1].astype(np.int32)
        pairs = make_folds(labels, own, self.seed)
        scores = [_held_out(unfitted, rows, labels, pair, classes) for pair in pairs]
        held_out = np.concatenate([np.zeros(0, int), *(test for _, test in pairs)])
        calibrator = calibrate(
            np.concatenate([np.zeros((0, len(classes))), *scores]),
            labels[held_out],
            tuple(classes.tolist()),
            self.method,
        )
        # A fit that fails changes nothing.
        fitted += clone(unfitted).fit(rows, labels).steps
        self.steps = [*fitted, ("calibration", calibrator)]
        return self

    def __sklearn_is_fitted__(self) -> bool:
        check_is_fitted(self.named_steps["decisions"])
        return True

    def __getstate__(self) -> dict[str, Any]:
        # scikit-learn adds its version to its own classes only.
        return {**super().__getstate__(), "_sklearn_version": sklearn.__version__}


def _held_out(
    pipeline: Pipeline, X: Matrix, y: NDArray[Any], pair: tuple[Rows, Rows], classes: NDArray[Any]
) -> Matrix:
    """Return the decision scores of held-out rows; -inf for classes that the others lack."""
    train, test = pair
    fitted = clone(pipeline).fit(X[train], y[train])
    own = fitted.named_steps["decisions"].estimator_.classes_
    return expand_columns(fitted.transform(X[test]), own, classes, missing=-np.inf)
