"""Baselines: the accuracies that a useful classifier must exceed.

A job and its classifier come in; the accuracy of the majority class, and of the same classifier
on raw pixels, go out.
"""

import dataclasses
from typing import Any

from featx.codes.gram import GramCoordinates
from featx.codes.pixels import pixel_features
from featx.fitting.classifiers import CLASSIFIERS, ClassifierKind
from featx.fitting.cross_validation import fit_and_predict
from featx.fitting.grid_search import Problem
from featx.fitting.prepare import FitJob
from featx.metrics.evaluation import majority_score

__all__ = ["score_baselines"]


def score_baselines(job: FitJob, chosen: ClassifierKind) -> dict[str, Any]:
    """Score the majority class, and the chosen classifier on the pixels of the thumbnails."""
    rows = job.split.score_rows
    majority = majority_score(job.y[rows], job.groups[rows])
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
        "majority": dataclasses.asdict(majority),
        "pixels": {"classifier": kind.name, **dataclasses.asdict(accuracy)},
    }
