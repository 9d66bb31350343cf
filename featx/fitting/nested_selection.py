"""Nested selection: compare codes on the same folds, and score the choice of the best ones.

Held-out predictions of several candidates come in; the accuracy to expect on new images goes
out. The accuracy of the best of many candidates is too high [1]_. `select_nested` therefore
repeats the choice in each fold, by the accuracy inside its training set.

References
----------
.. [1] G. C. Cawley and N. L. C. Talbot, "On Over-fitting in Model Selection and
   Subsequent Selection Bias in Performance Evaluation", JMLR 2010.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from featx.fitting.cross_validation import HeldOutPredictions
from featx.metrics.intervals import Score, paired_difference

__all__ = ["compare", "select_nested"]


def select_nested(candidates: Sequence[HeldOutPredictions]) -> tuple[HeldOutPredictions, list[int]]:
    """Predict each fold with the candidate that is the best inside its training set.

    Parameters
    ----------
    candidates : sequence of HeldOutPredictions
        Predictions for the same rows and folds, cheapest candidate first. Of equally good
        candidates, the first is chosen.

    Returns
    -------
    HeldOutPredictions
        Predictions whose accuracy is the expected accuracy on new images.
    list of int
        Position of the chosen candidate, for each fold.
    """
    # A fold without enough images for a search has no accuracy, and comes last.
    inside = np.stack([each.search_accuracy for each in candidates])
    inside = np.nan_to_num(inside, nan=-1.0)
    chosen = [int(k) for k in inside.argmax(axis=0)]
    first = candidates[0]
    probabilities = first.probabilities.copy()
    for fold, k in enumerate(chosen):
        rows = first.fold == fold
        probabilities[rows] = candidates[k].probabilities[rows]
    search_accuracy = inside.max(axis=0)
    predictions = dataclasses.replace(
        first, search_accuracy=search_accuracy, probabilities=probabilities, notes=()
    )
    return predictions, chosen


def compare(one: HeldOutPredictions, other: HeldOutPredictions) -> Score:
    """Return how much more accurate `one` is, with the interval of the paired bootstrap."""
    return paired_difference(one.correct, other.correct, one.groups, one.seed)
