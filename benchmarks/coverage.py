"""How often 95 % intervals contain the true score, and how wide they are, by simulation.

    python benchmarks/coverage.py 500

The argument is the number of replicates of each cell. In a replicate, labelled images are drawn
and predicted, and `featx.metrics` scores the predictions:

* "fixed": the logits of two fixed classifiers are drawn. The truth is their score on new images.
* "folds": features are drawn, and classifiers are fitted on each training part of five folds of
  `featx.dataset.folds`. The truth is the score on new images of the classifier that is fitted on
  all images, as `featx fit` saves it.

Images of one group have the same class, and a part of their noise in common. Each entry of the
table is the coverage and, in parentheses, the mean width as a multiple of an oracle's: of the range
that contains 95 % of the differences between score and truth in all replicates. Only someone who
knows the truth can compute it.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from featx.dataset.folds import make_folds
from featx.metrics.evaluation import score_predictions
from featx.metrics.intervals import Score, paired_difference

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "difference")
RATES, LOSSES = NAMES[:3], NAMES[3:5]
N_TRUTH = 10_000  # new images that the true score is computed from
N_FEATURES = 8
THIRDS, SKEWED, TENTHS = (1 / 3,) * 3, (0.7, 0.2, 0.1), (0.1,) * 10
#: Images in each group; the largest of 20 groups has a fifth of the images.
UNEVEN = (1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 40)

Array = NDArray[np.float64]
Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Cell:
    """A population and the size of a sample from it.

    Parameters
    ----------
    name : str
        Description in the table.
    sizes : tuple of int
        Number of images in each group.
    priors : tuple of float
        Probability of each class.
    common : float
        Part of the variance of the noise that images of one group have in common.
    shift : float
        Distance of the classes in standard deviations of the noise.
    counts : bool
        Whether the cell counts in the means over cells; others are only shown.
    interpolates : bool
        Whether classifiers of folds have more features than images, and no error on these.
    """

    name: str
    sizes: tuple[int, ...]
    priors: tuple[float, ...]
    common: float = 0.0
    shift: float = 1.5
    counts: bool = True
    interpolates: bool = False


def cells() -> list[Cell]:
    """Return the cells of the table."""
    found = [
        Cell(f"{n} images, {len(priors)} classes", (1,) * n, priors)
        for priors in ((0.5, 0.5), THIRDS)
        for n in (30, 100, 200)
    ]
    found += [Cell(f"{n} images, 10 classes", (1,) * n, TENTHS, shift=2.5) for n in (100, 200)]
    found += [Cell(f"{n} images, 70/20/10 %", (1,) * n, SKEWED) for n in (100, 200)]
    for groups, size in ((20, 10), (40, 5)):
        for common in (0.2, 0.5):
            name = f"{groups} groups of {size}, {common:g} in common"
            found.append(Cell(name, (size,) * groups, (0.5, 0.5), common))
    found += [
        Cell("20 uneven groups, 0.5 in common", UNEVEN, (0.5, 0.5), 0.5),
        Cell("10 groups of 20, 0.5 in common", (20,) * 10, (0.5, 0.5), 0.5),
        Cell("30 images, 2 classes, easy", (1,) * 30, (0.5, 0.5), shift=2.7, counts=False),
        Cell("30 images, 10 classes", (1,) * 30, TENTHS, shift=2.5, counts=False),
        Cell("100 images, interpolated", (1,) * 100, (0.5, 0.5), counts=False, interpolates=True),
    ]
    return found


def draw(
    cell: Cell, random: np.random.Generator, width: int, sizes: tuple[int, ...] | None = None
) -> tuple[Labels, Array, Labels]:
    """Return labels, noise of shape (n, width), and groups."""
    group = np.repeat(np.arange(len(sizes or cell.sizes)), sizes or cell.sizes)
    y = random.choice(len(cell.priors), len(sizes or cell.sizes), p=cell.priors)[group]
    common = random.normal(size=(group[-1] + 1, width))[group]
    noise = np.sqrt(cell.common) * common
    noise += np.sqrt(1 - cell.common) * random.normal(size=(len(group), width))
    return y, noise, group


def softmax(z: Array) -> Array:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def one_hot(y: Labels, k: int) -> Array:
    return (y[:, None] == np.arange(k)).astype(float)


def true_scores(y: Labels, p: Array, other: Array) -> dict[str, float]:
    """Return the scores of many predictions of two classifiers."""
    k, predicted = p.shape[1], p.argmax(axis=1)
    counts = np.bincount(y * k + predicted, minlength=k * k).reshape(k, k)
    true, guessed, correct = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    own = p[np.arange(len(y)), y]
    accuracy = float(np.mean(predicted == y))
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float(np.mean(correct / true)),
        "macro_f1": float(np.mean(2 * correct / (true + guessed))),
        "log_loss": float(np.mean(-np.log(own.clip(1e-16)))),
        "brier": float(np.mean(np.sum((p - one_hot(y, k)) ** 2, axis=1))),
        "difference": accuracy - float(np.mean(other.argmax(axis=1) == y)),
    }


def scored(
    y: Labels, both: tuple[Array, Array], groups: Labels, known: NDArray[np.bool_], n_folds: int
) -> dict[str, Score]:
    """Return the scores of a sample with their intervals."""
    p, other = both
    classes = np.array([f"{c:02d}" for c in range(p.shape[1])])
    found = score_predictions(classes[y], p, classes.tolist(), groups, known=known, n_folds=n_folds)
    correct, baseline = (each.argmax(axis=1) == y for each in (p, other))
    scores: dict[str, Score] = {name: getattr(found, name) for name in NAMES[:-1]}
    return {
        **scores,
        "difference": paired_difference(correct, baseline, groups, n_folds=n_folds),
    }


Replicate = tuple[dict[str, Score], dict[str, float]]


def fixed(cell: Cell, random: np.random.Generator) -> Callable[[], Replicate]:
    """Return a function that draws predictions of two fixed classifiers, and scores them."""
    k = len(cell.priors)

    def predictions(sizes: tuple[int, ...] | None = None) -> tuple[Labels, Array, Array, Labels]:
        y, noise, group = draw(cell, random, 2 * k, sizes)
        place, hard = one_hot(y, k), noise[:, :k]
        other = 0.7 * hard + np.sqrt(1 - 0.7**2) * noise[:, k:]
        p = softmax(1.5 * (cell.shift * place + hard))
        return y, p, softmax(0.8 * cell.shift * place + other), group

    truth = true_scores(*predictions((1,) * 400_000)[:3])

    def replicate() -> Replicate:
        y, p, other, group = predictions()
        return scored(y, (p, other), group, np.ones(len(y), bool), 1), truth

    return replicate


class Discriminant:
    """Linear discriminant analysis with a ridge."""

    def __init__(self, X: Array, y: Labels, k: int, ridge: float) -> None:
        self.k, self.classes = k, np.unique(y)
        means = np.stack([X[y == c].mean(axis=0) for c in self.classes])
        rest = X - means[np.searchsorted(self.classes, y)]
        covariance = rest.T @ rest / len(X) + ridge * np.eye(X.shape[1])
        self.weights = np.linalg.solve(covariance, means.T)
        share = np.bincount(y, minlength=k)[self.classes] / len(y)
        self.offset = np.log(share) - 0.5 * np.sum(means.T * self.weights, axis=0)

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities of all classes."""
        p = np.zeros((len(X), self.k))
        p[:, self.classes] = softmax(X @ self.weights + self.offset)
        return p


def folds(cell: Cell, random: np.random.Generator) -> Callable[[], Replicate]:
    """Return a function that draws features, cross-validates two classifiers and scores them."""
    k = len(cell.priors)
    width = 200 if cell.interpolates else max(N_FEATURES, k)
    ridge = 1e-3 if cell.interpolates else 0.1

    def features(sizes: tuple[int, ...] | None = None) -> tuple[Labels, Array, Array, Labels]:
        """Return labels, features, noisier features for the other classifier, and groups."""
        y, noise, group = draw(cell, random, 2 * width, sizes)
        X, more = noise[:, :width], noise[:, width:]
        X[:, :k] += cell.shift * one_hot(y, k)
        return y, X, X + 0.7 * more, group

    def fit(X: Array, y: Labels) -> Discriminant:
        return Discriminant(X, y, k, ridge)

    y_new, X_new, noisy_new, _ = features((1,) * N_TRUTH)

    def replicate() -> Replicate:
        pairs: list[tuple[NDArray[np.integer], NDArray[np.integer]]] = []
        while not pairs:
            y, X, noisy, group = features()
            names = np.array([f"{c:02d}" for c in range(k)])[y]
            pairs = make_folds(names, group.astype(np.int32), int(random.integers(2**31)))
        p, other, known = np.zeros((len(y), k)), np.zeros((len(y), k)), np.zeros(len(y), bool)
        for train, test in pairs:
            one, two = (fit(each[train], y[train]) for each in (X, noisy))
            p[test] = one.predict_proba(X[test])
            other[test] = two.predict_proba(noisy[test])
            known[test] = np.isin(y[test], y[train])
        one, two = fit(X, y), fit(noisy, y)
        truth = true_scores(y_new, one.predict_proba(X_new), two.predict_proba(noisy_new))
        return scored(y, (p, other), group, known, len(pairs)), truth

    return replicate


def measure(
    replicate: Callable[[], Replicate], n: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return coverage and width, as a multiple of the oracle's, by score."""
    found = [replicate() for _ in range(n)]
    coverage, ratio = {}, {}
    for name in NAMES:
        scores, truths = [each[name] for each, _ in found], [truth[name] for _, truth in found]
        values = np.array([score.value for score in scores])
        ends = np.array([score.interval or (np.nan, np.nan) for score in scores])
        held = (ends[:, 0] <= truths) & (np.array(truths) <= ends[:, 1])
        low, high = np.quantile(values - truths, [0.025, 0.975])
        coverage[name] = float(np.mean(held))
        ratio[name] = float(np.mean(ends[:, 1] - ends[:, 0]) / (high - low))
    return coverage, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("replicates", type=int)
    parser.add_argument("--kind", choices=["fixed", "folds"], nargs="+", default=["fixed", "folds"])
    parser.add_argument("--cells", default="", help="only cells whose name contains this text")
    arguments = parser.parse_args()
    for kind in arguments.kind:
        began, table = time.perf_counter(), []
        print(f"\n| {kind} | {' | '.join(NAMES)} |\n|{' --- |' * (len(NAMES) + 1)}")
        for number, cell in enumerate(cells()):
            if arguments.cells not in cell.name:
                continue
            random = np.random.default_rng(number)
            make = fixed if kind == "fixed" else folds
            coverage, ratio = measure(make(cell, random), arguments.replicates)
            texts = [f"{coverage[name]:.3f} ({ratio[name]:.2f})" for name in NAMES]
            print(f"| {cell.name} | {' | '.join(texts)} |", flush=True)
            if cell.counts:
                table.append((coverage, ratio))
        means, least = (
            [how([coverage[name] for coverage, _ in table]) for name in NAMES]
            for how in (np.mean, np.min)
        )
        widths = [np.mean([ratio[name] for _, ratio in table]) for name in NAMES]
        texts = [f"{mean:.3f} ({width:.2f})" for mean, width in zip(means, widths, strict=True)]
        print(f"| mean | {' | '.join(texts)} |")
        print(f"| least | {' | '.join(f'{each:.3f}' for each in least)} |")
        print(f"\n{arguments.replicates} replicates, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
