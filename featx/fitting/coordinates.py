"""Codes as classifiers see them: coordinates, and the way back.

A job comes in; on the span or as they are, its codes become coordinates, on which
all is chosen and fitted, and a classifier of coordinates becomes one of codes.
This file chooses nothing.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from featx.cluster import Cluster
from featx.codes.components import PrincipalComponents
from featx.codes.gram import GramCoordinates
from featx.codes.matrix import CodeMatrix, Matrix
from featx.codes.products import gram_matrix, gram_on_cluster
from featx.codes.scaling import UnitRows
from featx.errors import StoreError
from featx.fitting.calibration import DecisionScores
from featx.fitting.cross_validation import Final
from featx.fitting.prepare import FitJob
from featx.fitting.selection import train
from featx.fitting.single_fit import FittedClassifier, Preprocessor, Problem, SearchSpace

__all__ = ["CodeCoordinates", "coordinates_of"]

# Half the size, and no worse than the codes, whose own numbers are rounded so.
_AXES = np.float32


@dataclass(frozen=True)
class CodeCoordinates:
    """The rows of a job as coordinates, and the way back to codes; `coordinates_of` makes it.

    Parameters
    ----------
    codes : CodeMatrix
        Of the job's rows.
    problem : Problem
        Their coordinates by normalisation, and their labels.
    spans : mapping of str to GramCoordinates
        By normalisation; none on the primal road.
    gflops : float or None
        Speed of the inner products, in thousand million operations a second.
    """

    codes: CodeMatrix
    problem: Problem
    spans: Mapping[str, GramCoordinates]
    gflops: float | None

    def on_codes(self, final: Final, space: SearchSpace) -> Pipeline:
        """Return the classifier from codes to probabilities."""
        choice, model = final.choice, final.model
        span = self.spans.get(choice.normalise)
        steps: list[tuple[str, BaseEstimator]] = []
        # Components stand for the codes, so that nothing is compared with these.
        compares = choice.kind.needs_training_rows and model.front.components is None
        if span is not None and compares:
            # Of the rows that it was fitted on alone: others are none of its business.
            narrow = span.take(final.rows)
            steps.append(("gram", narrow))
            own = Problem({choice.normalise: narrow.coordinates_}, self.problem.y[final.rows])
            model = train(own, np.arange(len(final.rows)), choice, space)
        elif choice.normalise != "none":
            root = choice.normalise == "sqrt-l2"
            steps.append(("unit", UnitRows(self.codes.widths, root=root)))
        if span is not None and not compares:
            model = _moved(model, span)
        if model.front.centre is not None:
            steps.append(("centre", model.front.centre))
        if model.front.components is not None:
            steps.append(("components", _in_single(model.front.components)))
        return Pipeline(
            [
                *steps,
                ("decisions", DecisionScores(model.estimator)),
                ("calibration", final.calibrator),
            ]
        )


def coordinates_of(job: FitJob, cluster: Cluster | None = None) -> CodeCoordinates:
    """Read the codes of a job and return them as classifiers see them.

    Parameters
    ----------
    job : FitJob
        By an exact road.
    cluster : Cluster, optional
        Whose workers compute the inner products of the span.

    Raises
    ------
    StoreError
        A code is not finite.
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    products = gram_matrix if cluster is None else partial(gram_on_cluster, cluster)
    codes = job.joined.matrix(job.rows)
    coordinates: dict[str, Matrix] = {}
    spans: dict[str, GramCoordinates] = {}
    gflops = None
    for normalise in job.space.normalise:
        root, unit = normalise == "sqrt-l2", normalise != "none"
        if job.solver.name == "primal":
            block = codes.block(np.arange(len(codes)))
            _check_finite(block, codes)
            coordinates[normalise] = (
                UnitRows(codes.widths, root=root).transform(block)
                if unit
                else block.astype(np.float64)
            )
            continue
        same = next((s for s in spans.values() if (s.root, s.unit) == (root, unit)), None)
        if same is None:
            began = time.perf_counter()
            same = GramCoordinates(unit=unit, root=root).fit(codes, products=products)
            gflops = round(same.n_flops_ / (time.perf_counter() - began) / 1e9, 1)
        spans[normalise], coordinates[normalise] = same, same.coordinates_
    return CodeCoordinates(codes, Problem(coordinates, job.y), spans, gflops)


def _moved(model: FittedClassifier, span: GramCoordinates) -> FittedClassifier:
    """Return a model of coordinates that is linear, or begins with components, as one of codes."""
    centre, components = copy.copy(model.front.centre), copy.copy(model.front.components)
    if centre is not None:
        centre.mean_ = span.to_code_space(centre.mean_)
    if components is not None:
        components.mean_ = span.to_code_space(components.mean_)
        components.axes_ = span.to_code_space(components.axes_, dtype=_AXES)
        return FittedClassifier(Preprocessor(centre, components), model.estimator, model.parameters)
    estimator = copy.copy(model.estimator)
    estimator.coef_ = span.to_code_space(estimator.coef_)
    estimator.n_features_in_ = estimator.coef_.shape[-1]
    return FittedClassifier(Preprocessor(centre), estimator, model.parameters)


def _in_single(components: PrincipalComponents) -> PrincipalComponents:
    """Return the same components, their axes as a bundle has them."""
    single = copy.copy(components)
    single.axes_ = components.axes_.astype(_AXES, copy=False)
    return single


def _check_finite(block: Matrix, codes: CodeMatrix) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        message = (
            f"The code of row {codes.rows[0][bad[0]]} is not finite. Extract again with "
            "--overwrite."
        )
        raise StoreError(message)
