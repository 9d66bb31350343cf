"""Baselines: the accuracies that a useful classifier must exceed.

A job and its classifier come in; the accuracy of the majority class, and of the same classifier
on raw pixels, go out.
"""

import dataclasses
from typing import Any

import numpy as np

from featx.codes.gram import GramCoordinates
from featx.codes.matrix import Matrix
from featx.codes.pixels import pixel_features
from featx.dataset.splits import DataSplit
from featx.fitting.classifiers import CLASSIFIERS, ClassifierKind
from featx.fitting.cross_validation import HeldOutPredictions, fit_and_predict
from featx.fitting.grid_search import Problem
from featx.fitting.prepare import FitJob
from featx.metrics.evaluation import majority_class

__all__ = ["score_baselines"]


def score_baselines(job: FitJob, chosen: ClassifierKind) -> dict[str, Any]:
    """Score the majority class, and the chosen classifier on the pixels of the thumbnails."""
    splits = job.scored_splits
    majority = HeldOutPredictions.of(job, splits, [_majority(job, split) for split in splits])
    # A classifier that uses single features takes hours on thousands of pixels.
    kind = chosen if chosen.is_rotation_invariant else CLASSIFIERS["logistic"]
    space = dataclasses.replace(
        job.space,
        kinds=(kind,),
        normalise=("l2",),
        settings=job.space.settings if kind is chosen else {},
        is_fine=False,
        # Components make a small model; without them the baseline is better.
        components=None,
        whiten=False,
    )
    once = dataclasses.replace(
        job, space=space, settings=dataclasses.replace(job.settings, repeats=1)
    )
    gram = GramCoordinates().fit(pixel_features(job.joined.thumbnails(job.rows)))
    _, predictions = fit_and_predict(Problem({"l2": gram.coordinates_}, job.y), once)
    accuracy = predictions.evaluation().accuracy
    return {
        "majority": dataclasses.asdict(majority.accuracy),
        "pixels": {"classifier": kind.name, **dataclasses.asdict(accuracy)},
    }


def _majority(job: FitJob, split: DataSplit) -> Matrix:
    """Return probability 1 of the most frequent training label, for each held-out row."""
    is_majority = np.unique(job.y) == majority_class(job.y[split.fit_rows])
    return np.tile(is_majority.astype(float), (len(split.score_rows), 1))
