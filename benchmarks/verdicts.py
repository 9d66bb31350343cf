"""Check what a sweep concludes where there is nothing to find.

    python benchmarks/verdicts.py equal         # the verdict for five equal layers
    python benchmarks/verdicts.py permuted      # the nested score for permuted labels
    python benchmarks/verdicts.py sizes STORE…  # layers at several image sizes

`equal` simulates codes of five layers that are equally good, cross-validates each as a sweep does,
and counts how often the verdict is "different". `permuted` permutes the labels of such codes, and
compares the accuracy of the best layer, and the nested score, with chance. `sizes` cross-validates
the averaged layers of stores of the same images at several sizes.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from repeats import accuracy
from sklearn.preprocessing import normalize

import featx
from featx.choices import Classifier
from featx.dataset.splits import DataSplit
from featx.fitting import CLASSIFIERS, FitJob
from featx.fitting.classifiers import find_classifiers
from featx.fitting.cross_validation import (
    HeldOutPredictions,
    compare,
    cross_validate,
    select_nested,
)
from featx.fitting.grid_search import Problem
from featx.fitting.settings import FitSettings
from featx.fitting.solvers import SolverPlan
from featx.store import open_store
from featx.workflows.sweeping.prepare import POOL_LAYERS
from featx.workflows.sweeping.results import SweepRow
from featx.workflows.sweeping.verdict import domain_verdict

WIDTH = 16  # features of a code


@dataclasses.dataclass(frozen=True)
class Case:
    """Images of a simulation.

    Parameters
    ----------
    n_images, n_classes : int
        Numbers of images and of classes.
    group_size : int
        Images of one group, which are of one class.
    in_common : float
        Part of the noise that the images of a group have in common.
    between_layers : float
        Part of the noise that all layers have in common.
    signal : float
        Distance of the classes, in standard deviations of the noise.
    """

    n_images: int = 100
    n_classes: int = 2
    group_size: int = 1
    in_common: float = 0.0
    between_layers: float = 0.0
    signal: float = 0.35

    def __str__(self) -> str:
        groups = f"groups of {self.group_size}, {self.in_common:g} in common"
        return (
            f"{self.n_images} images, {groups if self.group_size > 1 else 'independent'}, layers "
            f"share {self.between_layers:g} of the noise"
        )


CASES = (
    Case(),
    Case(between_layers=0.5),
    Case(n_images=200),
    Case(n_images=200, group_size=10, in_common=0.5),
    Case(n_images=200, group_size=5, in_common=0.2),
)


def codes_of(case: Case, rng: np.random.Generator, n_layers: int) -> tuple[list, list, np.ndarray]:
    """Return labels, the codes of each layer, and groups."""
    group = np.arange(case.n_images) // case.group_size
    y = group % case.n_classes
    means = case.signal * rng.standard_normal((case.n_classes, WIDTH))
    shared = rng.standard_normal((case.n_images, WIDTH))
    layers = []
    for _ in range(n_layers):
        own = rng.standard_normal((case.n_images, WIDTH))
        of_group = rng.standard_normal((group.max() + 1, WIDTH))[group]
        noise = np.sqrt(case.between_layers) * shared + np.sqrt(1 - case.between_layers) * own
        noise = np.sqrt(case.in_common) * of_group + np.sqrt(1 - case.in_common) * noise
        # Each layer has its own directions: equally good codes, but not the same ones.
        layers.append(means[:, rng.permutation(WIDTH)][y] + noise)
    unit = [codes / np.linalg.norm(codes, axis=1, keepdims=True) for codes in layers]
    return [f"class {k}" for k in y], unit, group


def job_of(labels: list, groups: np.ndarray, clf: Classifier, seed: int) -> FitJob:
    """Return a fit of simulated images, which has no store."""
    # Two penalties, instead of the 28 of a fit: the choice is the same, and takes less time.
    penalties = (0.1, 10.0) if any(kind.has_penalty for kind in find_classifiers(clf)) else None
    settings = FitSettings(clf=clf, C=penalties, seed=seed, repeats=1)
    space = settings.search_space()
    rows, none = np.arange(len(labels)), np.zeros(0, int)
    split = DataSplit(rows, none, rows, rows, "folds")
    solver = SolverPlan("primal", 0, 0)
    y, groups = np.array(labels), groups.astype(np.int32)
    return FitJob(settings, None, rows, y, groups, split, (), solver, space, ())


def ridge_held_out(job: FitJob, splits: list[DataSplit], codes: np.ndarray) -> HeldOutPredictions:
    """Return held-out predictions of a plain ridge classifier, which takes microseconds."""
    X = np.hstack([codes, np.ones((len(codes), 1))])
    targets = (job.y[:, None] == np.unique(job.y)).astype(float)
    scores = []
    for split in splits:
        fitted = X[split.fit_rows]
        inner = fitted.T @ fitted + np.eye(X.shape[1])
        coef = np.linalg.solve(inner, fitted.T @ targets[split.fit_rows])
        scores.append(X[split.score_rows] @ coef)
    return HeldOutPredictions.of(job, splits, scores)


def row_of(layer: str, predictions: HeldOutPredictions) -> SweepRow:
    """Return the row of a sweep at 224 pixels."""
    score = predictions.accuracy
    return SweepRow((layer,), "avg", (224, 224), WIDTH, score, score, 0.0, None, predictions)


def equal_layers(case: Case, n_replicates: int) -> Iterator[tuple[bool, bool]]:
    """Yield for each replicate whether layers differ: by the verdict, and without adjustment."""
    for seed in range(n_replicates):
        labels, layers, groups = codes_of(case, np.random.default_rng(seed), len(POOL_LAYERS))
        job = job_of(labels, groups, "ridge", seed)
        splits = job.training_folds
        rows = [
            row_of(name, ridge_held_out(job, splits, codes))
            for name, codes in zip(POOL_LAYERS, layers, strict=True)
        ]
        best = max(rows, key=lambda row: row.accuracy.value)
        unadjusted = compare(best.held_out, rows[-1].held_out).is_above(0)
        yield domain_verdict(rows).verdict == "different", unadjusted


def permuted_labels(
    case: Case, n_seeds: int, clf: Classifier, n_layers: int = 2
) -> Iterator[tuple[HeldOutPredictions, HeldOutPredictions]]:
    """Yield for each seed the predictions of the best layer and those of the nested choice."""
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        labels, layers, groups = codes_of(case, rng, n_layers)
        labels = list(rng.permutation(labels))
        job = job_of(labels, groups, clf, seed)
        found = [cross_validate(job, problem=Problem({"l2": codes}, job.y)) for codes in layers]
        yield max(found, key=lambda each: each.correct.mean()), select_nested(found)[0]


def show_equal(n_replicates: int) -> None:
    """Print the table of equal layers."""
    print('| images | "different" | without adjustment |\n| --- | --- | --- |')
    for case in CASES:
        adjusted, unadjusted = np.mean(list(equal_layers(case, n_replicates)), axis=0)
        print(f"| {case} | {adjusted:.3f} | {unadjusted:.3f} |", flush=True)


def show_permuted(n_seeds: int) -> None:
    """Print the table of permuted labels."""
    case = Case(n_images=45, n_classes=3)
    print("| classifier | best layer | nested | intervals: best layer | nested |")
    print("| --- | --- | --- | --- | --- |")
    for clf in (*CLASSIFIERS, "auto"):
        cells = []
        for scores in zip(*permuted_labels(case, n_seeds, clf), strict=True):
            accuracies = [each.correct.mean() for each in scores]
            error = np.std(accuracies, ddof=1) / np.sqrt(n_seeds)
            contain = [not each.accuracy.is_above(1 / 3) for each in scores]
            cells.append((f"{np.mean(accuracies):.3f} ± {error:.3f}", f"{np.mean(contain):.2f}"))
        (best, best_contains), (nested, contains) = cells
        print(f"| {clf} | {best} | {nested} | {best_contains} | {contains} |", flush=True)


def show_sizes(stores: Sequence[str]) -> None:
    """Print the mean accuracy of five cross-validations with ridge, by store and layer."""
    print("| store | images | layer: accuracy |\n| --- | --- | --- |")
    for path in stores:
        cells = []
        for layer in open_store(path).recipe.layers:
            X, y = featx.read_arrays(path, layer=layer)
            X, y = normalize(np.asarray(X, np.float64)), np.asarray(y)
            found = np.mean([accuracy(X, y, seed) for seed in range(5)])
            cells.append(f"{layer}: {found:.3f}")
        print(f"| {path} | {len(y)} | {', '.join(cells)} |", flush=True)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=["equal", "permuted", "sizes"])
    parser.add_argument("stores", nargs="*", metavar="STORE")
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    if options.table == "equal":
        show_equal(options.replicates)
    elif options.table == "permuted":
        show_permuted(options.seeds)
    else:
        show_sizes(options.stores)


if __name__ == "__main__":
    main()
