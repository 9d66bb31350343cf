"""How often the intervals of ROC AUC and average precision contain the truth, by simulation.

    python benchmarks/coverage_two_classes.py 500

The argument is the number of replicates of each cell. "fixed": scores of two normal classes are
drawn, whose area and average precision are known. "folds": features are drawn, Fisher's linear
discriminant is fitted on each training part of five folds of `featx.dataset.folds`, and the truth
is the score on new images of the one that is fitted on all images. Images of one group share a
part of their noise; their classes are independent. Each entry is the coverage of the nominal 95 %,
and in parentheses the mean width as a multiple of the range that contains 95 % of the differences
between score and truth.
"""

import argparse
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from featx.dataset.folds import make_folds
from featx.metrics.decisions import PositiveClass
from featx.metrics.intervals import Sample, Score
from featx.metrics.two_classes import PositiveScores, score_positive

NAMES = ("roc_auc", "average_precision")
CLASSES = ("a", "b")
N_FEATURES = 8

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A population of two normal classes, and the size of a sample.

    Parameters
    ----------
    n_images, n_groups : int
        Size of the sample.
    prior : float
        Fraction of positive images.
    area : float
        Area under the ROC curve of the best classifier.
    common : float, default=0.0
        Part of the variance of the noise that images of one group have in common.
    """

    n_images: int
    n_groups: int
    prior: float
    area: float
    common: float = 0.0

    @property
    def distance(self) -> float:
        """Distance of the means, in standard deviations."""
        return float(np.sqrt(2) * ndtri(self.area))

    def draw(self, rng: np.random.Generator, n_features: int) -> tuple[NDArray[np.bool_], Array]:
        """Return which images are positive, and their features."""
        is_positive = rng.permutation(np.arange(self.n_images) < round(self.prior * self.n_images))
        shared = rng.standard_normal((self.n_groups, n_features))[self.groups]
        own = rng.standard_normal((self.n_images, n_features))
        X = np.sqrt(self.common) * shared + np.sqrt(1 - self.common) * own
        X[:, 0] += self.distance * is_positive
        return is_positive, X

    @property
    def groups(self) -> NDArray[np.intp]:
        """Group of each image."""
        return np.arange(self.n_images) * self.n_groups // self.n_images

    def truth(self, distance: float) -> tuple[float, float]:
        """Return area and average precision of classes at a distance."""
        x = np.linspace(-9, 9 + distance, 20_001)
        recall, alarms = ndtr(distance - x), ndtr(-x)
        precision = self.prior * recall / (self.prior * recall + (1 - self.prior) * alarms)
        return float(ndtr(distance / np.sqrt(2))), float(-np.trapezoid(precision, recall))


CELLS = [
    *(
        Cell(n, n, prior, area)
        for area, (n, prior) in itertools.product(
            (0.7, 0.9, 0.97), ((30, 0.5), (100, 0.5), (100, 0.1), (200, 0.2))
        )
    ),
    *(Cell(200, n, 0.3, 0.9, common) for n in (20, 40) for common in (0.2, 0.5)),
]


def score(is_positive: NDArray[np.bool_], p: Array, cell: Cell, n_folds: int) -> PositiveScores:
    y = np.where(is_positive, *CLASSES)
    sample = Sample.of(len(p), cell.groups, 1, n_folds)
    probabilities, predicted = np.column_stack([p, 1 - p]), np.where(p > 0.5, *CLASSES)
    return score_positive(PositiveClass("a"), y, probabilities, predicted, CLASSES, sample)


def fixed(cell: Cell, rng: np.random.Generator) -> tuple[PositiveScores, tuple[float, float]]:
    """Return scores of a classifier that was fixed before, and the truth."""
    is_positive, X = cell.draw(rng, 1)
    return score(is_positive, ndtr(X[:, 0]), cell, 1), cell.truth(cell.distance)


def folds(cell: Cell, rng: np.random.Generator) -> tuple[PositiveScores, tuple[float, float]]:
    """Return scores of out-of-fold predictions, and the truth for the classifier of all images."""
    is_positive, X = cell.draw(rng, N_FEATURES)
    y, p = np.where(is_positive, *CLASSES), np.zeros(cell.n_images)
    for train, test in make_folds(y, cell.groups.astype(np.int32), int(rng.integers(2**31))):
        weights, intercept = discriminant(X[train], is_positive[train])
        p[test] = 1 / (1 + np.exp(-np.clip(X[test] @ weights + intercept, -500, 500)))
    weights, _ = discriminant(X, is_positive)
    return (
        score(is_positive, p, cell, 5),
        cell.truth(cell.distance * float(weights[0] / np.linalg.norm(weights))),
    )


def discriminant(X: Array, is_positive: NDArray[np.bool_]) -> tuple[Array, float]:
    """Return weights and intercept of Fisher's linear discriminant, with a small ridge."""
    means = [X[side].mean(axis=0) for side in (is_positive, ~is_positive)]
    centred = X - np.where(is_positive[:, None], *means)
    covariance = (centred.T @ centred + np.eye(X.shape[1])) / (len(X) - 1)
    weights = np.linalg.solve(covariance, means[0] - means[1])
    prior = float(np.log(is_positive.mean() / (1 - is_positive.mean())))
    return weights, prior - float(weights @ (means[0] + means[1])) / 2


Replicate = Callable[[Cell, np.random.Generator], tuple[PositiveScores, tuple[float, float]]]


def coverage(cell: Cell, replicate: Replicate, n: int) -> dict[str, tuple[float, float]]:
    """Return coverage and relative width of each score."""
    rng = np.random.default_rng(0)
    drawn = [replicate(cell, rng) for _ in range(n)]
    found = {}
    for k, name in enumerate(NAMES):
        scores: list[Score] = [getattr(each, name) for each, _ in drawn]
        truths = [truth[k] for _, truth in drawn]
        ends = [each.interval or (np.nan, np.nan) for each in scores]
        hits = [low <= t <= high for (low, high), t in zip(ends, truths, strict=True)]
        errors = [each.value - t for each, t in zip(scores, truths, strict=True)]
        oracle = float(np.diff(np.quantile(errors, [0.025, 0.975]))[0])
        width = float(np.nanmean([high - low for low, high in ends]))
        found[name] = (float(np.mean(hits)), width / oracle)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("replicates", type=int, nargs="?", default=500)
    n = parser.parse_args().replicates
    print("| | images | groups | positive | area | in common | ROC AUC | average precision |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for replicate, cell in itertools.product((fixed, folds), CELLS):
        found = coverage(cell, replicate, n)
        entries = " | ".join(f"{found[x][0]:.3f} ({found[x][1]:.2f})" for x in NAMES)
        print(
            f"| {replicate.__name__} | {cell.n_images} | {cell.n_groups} | {cell.prior:g} | "
            f"{cell.area:g} | {cell.common:g} | {entries} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
