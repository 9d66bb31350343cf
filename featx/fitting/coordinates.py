"""Coordinates: the rows that classifiers are fitted on, and the way back to codes.

A job comes in. Its codes are read, as they are or through their Gram matrix, and become
coordinates on which all classifiers are chosen and fitted. A classifier of coordinates then
becomes a pipeline of codes. Nothing is chosen here.
"""

import copy
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, clone

from featx.choices import Calibration
from featx.cluster import Cluster
from featx.codes.gram import GramCoordinates
from featx.codes.matrix import CodeMatrix, Matrix, check_finite
from featx.codes.products import gram_matrix, gram_on_cluster
from featx.codes.scaling import UnitRows
from featx.fitting.calibration import DecisionScores
from featx.fitting.grid_search import FittedClassifier, Problem, SearchSpace
from featx.fitting.pipeline import CodePipeline
from featx.fitting.prepare import FitJob
from featx.fitting.selection import SelectedClassifier, fit_choice

__all__ = ["CodeCoordinates", "coordinates_of"]

# Half the size of float64, and as exact as the codes themselves.
_AXES_DTYPE = np.float32


@dataclass(frozen=True)
class CodeCoordinates:
    """The rows of a job as coordinates; `coordinates_of` makes it.

    Parameters
    ----------
    codes : CodeMatrix
        Codes of the rows.
    problem : Problem
        Coordinates for each normalisation, and labels.
    grams : mapping of str to GramCoordinates
        Transform for each normalisation; none with the solver "primal".
    gflops : float or None
        Speed of the inner products, in 1e9 operations per second.
    """

    codes: CodeMatrix
    problem: Problem
    grams: Mapping[str, GramCoordinates]
    gflops: float | None

    def pipeline(
        self, selected: SelectedClassifier, space: SearchSpace, calibration: Calibration
    ) -> CodePipeline:
        """Return the selected classifier as a pipeline from codes to probabilities."""
        choice, model = selected.choice, selected.model
        gram = self.grams.get(choice.normalise)
        steps: list[tuple[str, BaseEstimator]] = []
        # With components, the classifier compares rows of components and not codes.
        compares = choice.kind.needs_training_rows and "components" not in model.steps
        if gram is not None and compares:
            # The model only keeps the codes of the training rows.
            narrow = gram.take(selected.rows).set_params(widths=self.codes.widths)
            steps.append(("gram", narrow))
            own = Problem({choice.normalise: narrow.coordinates_}, self.problem.y[selected.rows])
            model = fit_choice(own, np.arange(len(selected.rows)), choice, space)
        else:
            model = _in_code_space(model, gram)
            if choice.normalise != "none":
                root = choice.normalise == "sqrt-l2"
                steps.append(("unit", UnitRows(self.codes.widths, root=root)))
        decisions = DecisionScores.fitted(model.estimator, clone(model.estimator))
        steps += [*model.steps.items(), ("decisions", decisions)]
        steps.append(("calibration", selected.calibrator))
        return CodePipeline(steps, method=calibration, seed=space.seed)


def coordinates_of(job: FitJob, cluster: Cluster | None = None) -> CodeCoordinates:
    """Read the codes of a job and compute their coordinates.

    Parameters
    ----------
    job : FitJob
        A job with an exact solver.
    cluster : Cluster, optional
        Its workers compute the inner products.

    Raises
    ------
    StoreError
        A code has a value that is not finite.
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    products = gram_matrix if cluster is None else partial(gram_on_cluster, cluster)
    codes = job.joined.matrix(job.rows)
    coordinates: dict[str, Matrix] = {}
    grams: dict[str, GramCoordinates] = {}
    gflops = None
    if job.solver.name == "primal":
        block = codes.block(np.arange(len(codes)))
        check_finite(block, codes.rows[0])
        for normalise in job.space.normalise:
            rows = UnitRows(codes.widths, root=normalise == "sqrt-l2")
            is_unit = normalise != "none"
            coordinates[normalise] = rows.transform(block) if is_unit else block.astype(np.float64)
        return CodeCoordinates(codes, Problem(coordinates, job.y), grams, gflops)
    for normalise in job.space.normalise:
        root, unit = normalise == "sqrt-l2", normalise != "none"
        # "l2" and "centre" have the same Gram matrix.
        gram = next((g for g in grams.values() if (g.root, g.unit) == (root, unit)), None)
        if gram is None:
            began = time.perf_counter()
            gram = GramCoordinates(unit=unit, root=root).fit(codes, products=products)
            gflops = round(gram.n_flops_ / (time.perf_counter() - began) / 1e9, 1)
        grams[normalise], coordinates[normalise] = gram, gram.coordinates_
    return CodeCoordinates(codes, Problem(coordinates, job.y), grams, gflops)


def _in_code_space(model: FittedClassifier, gram: GramCoordinates | None) -> FittedClassifier:
    """Return a linear classifier, or one of components, with the weights of codes."""
    steps = {name: copy.copy(step) for name, step in model.steps.items()}
    components, estimator = steps.get("components"), copy.copy(model.estimator)
    if gram is not None:
        for step in steps.values():
            step.mean_ = gram.to_code_space(step.mean_)
        if components is not None:
            components.axes_ = gram.to_code_space(components.axes_, dtype=_AXES_DTYPE)
        else:
            estimator.coef_ = gram.to_code_space(estimator.coef_)
            estimator.n_features_in_ = estimator.coef_.shape[-1]
    elif components is not None:
        components.axes_ = components.axes_.astype(_AXES_DTYPE)
    return dataclasses.replace(model, steps=steps, estimator=estimator)
