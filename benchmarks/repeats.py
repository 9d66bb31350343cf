"""Measure how far the accuracy of one cross-validation lies from that of another.

    featx extract ../shared/data/rsscn7_350 --layer block4_pool --pool avg --size 64 -o codes.h5
    python benchmarks/repeats.py codes.h5

Six random subsets of each size are cross-validated ten times, with other folds each time. The
classifier is ridge, whose penalty is chosen inside each training set.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import normalize

import featx
from featx.dataset.folds import usual_repeats

SIZES = (40, 60, 80, 100, 150, 200, 300, 350)
SUBSETS, DRAWS = 6, 10
PENALTIES = np.logspace(-6, 3, 10)


def accuracy(X: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Return the accuracy of one cross-validation."""
    n_correct = 0
    for fitted, held in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y):
        classifier = RidgeClassifierCV(alphas=PENALTIES).fit(X[fitted], y[fitted])
        n_correct += int(np.sum(classifier.predict(X[held]) == y[held]))
    return n_correct / len(y)


def subsets(y: np.ndarray, n_images: int) -> Iterator[np.ndarray]:
    """Yield rows of random subsets with the same part of each class."""
    for seed in range(SUBSETS):
        order = np.random.default_rng(seed).permutation(len(y))
        parts = [order[y[order] == label] for label in np.unique(y)]
        yield np.concatenate([part[: round(n_images * len(part) / len(y))] for part in parts])


def show(path: str, sizes: Sequence[int]) -> None:
    """Print a row for each number of images."""
    X, y = featx.read_arrays(path)
    X, y = normalize(np.asarray(X, np.float64)), np.asarray(y)
    print(
        "| images | accuracy | sd of one | range of ten | standard error | repeats | sd of mean |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for n_images in (size for size in sizes if size <= len(y)):
        found = np.array(
            [[accuracy(X[rows], y[rows], k) for k in range(DRAWS)] for rows in subsets(y, n_images)]
        )
        p, spread = found.mean(), float(found.std(axis=1, ddof=1).mean())
        n_repeats = usual_repeats(n_images)
        print(
            f"| {n_images} | {p:.3f} | {spread:.3f} | {np.ptp(found, axis=1).mean():.3f} | "
            f"{np.sqrt(p * (1 - p) / n_images):.3f} | {n_repeats} | "
            f"{spread / np.sqrt(n_repeats):.3f} |",
            flush=True,
        )


def main() -> None:
    """Print a table for each store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stores", nargs="+", metavar="STORE")
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    for path in options.stores:
        show(path, options.images)


if __name__ == "__main__":
    main()
