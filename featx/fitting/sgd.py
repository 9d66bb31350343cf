"""The solver "streamed": stochastic gradient descent, for more images than fit in memory.

Codes on disk come in; a pipeline from codes to probabilities goes out. Linear models, one for
each penalty, are fitted on blocks of shuffled rows. Each block is read once per epoch, for all
models. A held-out part of about a tenth ends the fit, chooses the penalty and calibrates; the
classifier is not fitted on it. The result is not exact, and "logistic" is one-vs-rest.

In memory are one block of codes and the models: at most four arrays of penalties x classes x
features doubles (the coefficients, their average, those of the epoch and those of the best
epoch). They are kept below 1 GB by trying fewer penalties.

References
----------
.. [1] B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation
   by Averaging", 1992.
.. [2] F. Bach and E. Moulines, "Non-strongly-convex smooth stochastic
   approximation with convergence rate O(1/n)", 2013: averages of steps of
   constant length. https://arxiv.org/abs/1306.2119
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.utils.class_weight import compute_class_weight

from featx.choices import Calibration
from featx.cluster import Cluster, Task, run_tasks
from featx.codes.matrix import CodeMatrix, Matrix, Rows, check_finite
from featx.codes.scaling import UnitRows
from featx.dataset.folds import make_folds
from featx.errors import FitError, OptionError
from featx.fitting.calibration import DecisionScores, calibrate, decision_scores
from featx.fitting.grid_search import SearchSpace
from featx.fitting.pipeline import CodePipeline
from featx.text import counted

__all__ = ["StreamedFit", "fit_streamed"]

_BLOCK_BYTES = 32_000_000  # of a block of codes, in float64
_MODEL_BYTES = 1_000_000_000  # of all models
_ARRAYS_PER_MODEL = 4  # coefficients, their average, those of the epoch and of the best epoch
_FOLDS = 10  # one of them is held out
_MOST_EPOCHS = 20
_PATIENCE = 3  # epochs without a better held-out accuracy
# C, on rows of unit length. Stronger penalties are never the best, and early stopping makes
# weaker ones equal.
_PENALTIES = np.logspace(0, 4, 5)
# The loss of each classifier; LinearSVC's own loss is the squared hinge.
_LOSSES = {
    "logistic": "log_loss",
    "sgd": "log_loss",
    "linear-svm": "squared_hinge",
    "ridge": "squared_error",
}
# A squared loss diverges with longer steps: half of 2 / (1 + 1), for the row and the intercept.
_SQUARED_STEP = 0.5
_SETTINGS = (
    *("alpha", "average", "class_weight", "epsilon", "eta0", "fit_intercept", "l1_ratio"),
    *("learning_rate", "loss", "max_iter", "n_iter_no_change", "penalty", "power_t"),
)
_ON_ERROR = "No part of the fit was saved. Run the same command again."


@dataclass(frozen=True)
class StreamedFit:
    """The result of `fit_streamed`.

    Parameters
    ----------
    pipeline : CodePipeline
        From codes (n, d), layers side by side, to probabilities.
    value : float
        The chosen C; `alpha` is 1 / (C x number of training rows).
    tried : tuple of (float, float)
        Each C with its best held-out accuracy, without those that diverged.
    n_epochs : int
        Number of passes over the codes.
    held_out : ndarray of int
        Held-out rows.
    probabilities : ndarray of shape (n_held_out, k)
        Calibrated probabilities of these rows.
    notes : tuple of str
        Warnings and other notes for the user.
    """

    pipeline: CodePipeline
    value: float
    tried: tuple[tuple[float, float], ...]
    n_epochs: int
    held_out: Rows
    probabilities: Matrix
    notes: tuple[str, ...]

    @property
    def n_held_out(self) -> int:
        """Number of held-out rows."""
        return len(self.held_out)


def fit_streamed(
    codes: CodeMatrix,
    y: NDArray[np.str_],
    groups: NDArray[np.int32],
    space: SearchSpace,
    calibration: Calibration,
    *,
    cluster: Cluster | None = None,
) -> StreamedFit:
    """Fit a linear classifier on codes that are read in blocks, once per epoch.

    Parameters
    ----------
    codes : CodeMatrix of n rows
        Training rows.
    y : ndarray of str, shape (n,)
        Labels.
    groups : ndarray of int, shape (n,)
        Equal numbers for rows that must not be on both sides; see `featx.dataset.folds`.
    space : SearchSpace
        One classifier that supports SGD, with the normalisation "l2", "sqrt-l2" or "none".
        Without penalties, five decades from 1 to 1e4 over the mean squared length of the
        rows are tried. Settings are those of `SGDClassifier`, where `alpha` is the penalty of
        every classifier, `max_iter` the largest number of epochs, `n_iter_no_change` the
        number of epochs without a better accuracy, and `eta0` the step for rows of a mean
        squared length of 1, to which all rows are scaled.
    calibration : {"temperature", "sigmoid", "isotonic", "none"}
        How decision scores become probabilities; fitted on the held-out rows.
    cluster : Cluster, optional
        Its workers compute the steps, each for some of the models; they open the stores at
        the same paths.

    Returns
    -------
    StreamedFit
        Bit by bit the same for the same seed, with or without a cluster.

    Raises
    ------
    OptionError
        The solver does not support the normalisation or a setting.
    FitError
        No rows can be held out, or every model diverged.
    StoreError
        A code has a value that is not finite.
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    loss = _check(space)
    settings, classes = space.settings, np.unique(y)
    train, held_out = _hold_out(y, groups, space.seed)
    blocks = _Blocks.of(codes, space.normalise[0], train, space.seed)
    penalties, notes = _penalties(space, blocks, len(train), len(classes))
    weights = None
    if settings.get("class_weight") is not None:  # partial_fit does not accept "balanced"
        weights = compute_class_weight(settings["class_weight"], classes=classes, y=y[train])
    models = [
        _Model(C, _estimator(C, blocks, loss, space, weights, len(train)), classes)
        for C in penalties
    ]
    most = int(settings.get("max_iter", _MOST_EPOCHS))
    patience = int(settings.get("n_iter_no_change", _PATIENCE))
    numbers = np.searchsorted(classes, y)
    rng = np.random.default_rng(space.seed)
    n_epochs = 0
    while n_epochs < most and (active := [m for m in models if m.is_active(patience)]):
        n_epochs += 1
        # All rows are shuffled together, because most stores are sorted by class.
        epoch = _Epoch(blocks, rng.permutation(train), held_out, numbers, weights)
        binary = [each for model in active for each in model.binary]
        binary, scores = epoch.run(binary) if cluster is None else epoch.run_on(cluster, binary)
        for model in active:
            n = len(model.binary)
            model.update(binary[:n], scores[:, :n], numbers[held_out])
            binary, scores = binary[n:], scores[:, n:]
    finite = [model for model in models if model.is_finite]
    if not finite:
        message = (
            "Every model diverged. Leave out --set, or use --normalise l2 or a stronger penalty, "
            "such as --C 1."
        )
        raise FitError(message)
    if len(finite) < len(models):
        dropped = ", ".join(f"{model.C:g}" for model in models if not model.is_finite)
        notes.append(f"Fits with C = {dropped} diverged and were left out.")
    best = max(finite, key=lambda model: model.n_correct)  # the strongest penalty of equal ones
    if best.n_without_gain < patience and n_epochs == most:
        notes.append(
            f"The fit did not converge in {counted(most, 'epoch')}. For more epochs: "
            f"--set max_iter={2 * most}."
        )
    notes.append(
        f"{len(held_out)} of {len(y)} images were held out to end the fit, to choose the penalty "
        "and to calibrate. The classifier is not fitted on them."
    )
    scores = np.concatenate([decision_scores(best.fitted(), X) for _, X in blocks.read(held_out)])
    names = tuple(str(label) for label in classes)
    calibrator = calibrate(scores, y[held_out], names, calibration)
    pipeline = CodePipeline(
        [
            *([("unit", blocks.unit)] if blocks.unit is not None else []),
            ("decisions", DecisionScores.fitted(best.fitted(blocks.mean_square))),
            ("calibration", calibrator),
        ]
    )
    tried = tuple((model.C, model.n_correct / len(held_out)) for model in finite)
    probabilities = np.asarray(calibrator.predict_proba(scores))
    return StreamedFit(pipeline, best.C, tried, n_epochs, held_out, probabilities, tuple(notes))


@dataclass(frozen=True)
class _Blocks:
    """Rows of codes, normalised, and scaled to a mean squared length of 1, read in blocks."""

    codes: CodeMatrix
    unit: UnitRows | None
    mean_square: float = 1.0

    @classmethod
    def of(cls, codes: CodeMatrix, normalise: str, train: Rows, seed: int) -> "_Blocks":
        """Return the blocks; without unit rows, one block of rows gives the mean square."""
        if normalise != "none":
            return cls(codes, UnitRows(codes.widths, root=normalise == "sqrt-l2"))
        plain = cls(codes, None)
        some = np.random.default_rng(seed).permutation(train)[: plain.step]
        _, X = next(plain.read(some))
        return cls(codes, None, float(np.einsum("ij,ij->", X, X)) / len(X) or 1.0)

    @property
    def step(self) -> int:
        """Number of rows in a block."""
        return max(1, _BLOCK_BYTES // (8 * self.codes.shape[1]))

    def read(self, rows: Rows) -> Iterator[tuple[Rows, Matrix]]:
        """Yield blocks of some rows in their order, with their numbers."""
        for start in range(0, len(rows), self.step):
            block = rows[start : start + self.step]
            yield block, self._read(block)

    def _read(self, rows: Rows) -> Matrix:
        # Rows are read in the order of the disk, and then put in the order of `rows`.
        order = np.argsort(rows)
        block = self.codes.block(rows[order])
        check_finite(block, self.codes.rows[0][rows[order]])
        X = np.empty((len(rows), block.shape[1]))
        X[order] = block
        if self.unit is not None:
            return np.asarray(self.unit.transform(X))
        X /= np.sqrt(self.mean_square)
        return X


@dataclass
class _BinaryModel:
    """A classifier of one class against the rest; `step` continues its fit."""

    estimator: SGDClassifier
    positive: int
    is_finite: bool = True

    def step(self, X: Matrix, y: Rows, weight: Matrix | None) -> None:
        """Fit on a block of rows, each once."""
        if not self.is_finite:
            return
        try:
            # Rows were checked when they were read; sklearn's setting is per thread.
            with config_context(assume_finite=True), np.errstate(all="ignore"):
                self.estimator.partial_fit(X, (y == self.positive).astype(int), [0, 1], weight)
        except ValueError as error:
            if "overflow" not in str(error):
                raise
            self.is_finite = False

    def scores(self, X: Matrix) -> Matrix:
        """Return decision scores, (m,): above 0 for the class; 0 after an overflow."""
        if not self.is_finite:
            return np.zeros(len(X))
        with np.errstate(all="ignore"):
            scores: Matrix = X @ self.estimator.coef_[0] + self.estimator.intercept_[0]
        return scores


@dataclass(frozen=True)
class _Epoch:
    """One pass over the training rows in random order, and over the held-out rows.

    Each model sees the same blocks in the same order, whatever other models there are. So
    models can be divided among threads and workers without a change of any bit.
    """

    blocks: _Blocks
    train: Rows
    held_out: Rows
    numbers: Rows
    weights: Matrix | None

    def run(self, models: Sequence[_BinaryModel]) -> tuple[list[_BinaryModel], Matrix]:
        """Fit the models in threads; return them and their held-out scores, (m, n_models)."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for rows, X in self.blocks.read(self.train):
                y = self.numbers[rows]
                weight = None if self.weights is None else self.weights[y]
                for done in [pool.submit(model.step, X, y, weight) for model in models]:
                    done.result()
        scores = [
            np.stack([model.scores(X) for model in models], axis=1)
            for _, X in self.blocks.read(self.held_out)
        ]
        return list(models), np.concatenate(scores)

    def run_on(
        self, cluster: Cluster, models: Sequence[_BinaryModel]
    ) -> tuple[list[_BinaryModel], Matrix]:
        """Do the same on the workers of a cluster, each of which reads all blocks."""
        n_parts = min(len(models), len(cluster.workers) or 1)
        numbers = np.array_split(np.arange(len(models)), n_parts)
        parts = [[models[k] for k in part] for part in numbers]
        tasks = (
            Task(partial(self.run, part), f"Classifiers {k + 1} of {len(parts)}")
            for k, part in enumerate(parts)
        )
        done = dict(run_tasks(cluster, tasks, advice=_ON_ERROR))
        results = [done[k] for k in range(len(parts))]
        return (
            [model for part, _ in results for model in part],
            np.concatenate([scores for _, scores in results], axis=1),
        )


class _Model:
    """The models of one penalty, one for each class, and the best of their epochs.

    A multiclass SGDClassifier runs its classes through joblib, which changes Python's warning
    filters and is therefore not safe in several threads. Two classes need only one model.
    """

    def __init__(self, C: float, estimator: SGDClassifier, classes: NDArray[np.str_]) -> None:
        self.C, self._estimator, self._classes = C, estimator, classes
        first = 1 if len(classes) == 2 else 0
        self.binary = [_BinaryModel(clone(estimator), k) for k in range(first, len(classes))]
        self._best = (np.zeros((0, 0)), np.zeros(0))
        self.n_correct, self.n_without_gain, self.is_finite = -1, 0, True

    def is_active(self, patience: int) -> bool:
        """Whether another epoch may improve the model."""
        return self.is_finite and self.n_without_gain < patience

    def update(self, binary: list[_BinaryModel], scores: Matrix, y: Rows) -> None:
        """Take the models of an epoch, and keep their coefficients if they are the best."""
        self.binary = binary
        # After an overflow in the first block, coefficients have another shape.
        self.is_finite = all(model.is_finite for model in binary)
        if not self.is_finite:
            return
        coef = np.concatenate([model.estimator.coef_ for model in binary])
        intercept = np.concatenate([model.estimator.intercept_ for model in binary])
        self.is_finite = bool(np.isfinite(coef).all() and np.isfinite(intercept).all())
        if not self.is_finite:
            return
        predicted = scores.argmax(axis=1) if len(binary) > 1 else (scores[:, 0] > 0).astype(int)
        n_correct = int(np.sum(predicted == y))
        if n_correct > self.n_correct:
            self.n_correct, self.n_without_gain, self._best = n_correct, 0, (coef, intercept)
        else:
            self.n_without_gain += 1

    def fitted(self, mean_square: float = 1.0) -> SGDClassifier:
        """Return the classifier of the best epoch, for rows of a given mean squared length."""
        coef, intercept = self._best
        estimator = clone(self._estimator)
        estimator.set_params(alpha=estimator.alpha * mean_square)
        estimator.classes_, estimator.n_features_in_ = self._classes, coef.shape[1]
        estimator.coef_, estimator.intercept_ = coef / np.sqrt(mean_square), intercept
        return estimator


def _check(space: SearchSpace) -> str:
    """Return the loss of the classifier, if the solver supports these settings."""
    normalise, weight = space.normalise[0], space.settings.get("class_weight")
    if normalise not in ("l2", "sqrt-l2", "none"):
        message = (
            f"--solver streamed does not support --normalise {normalise}. Use --normalise l2, "
            "sqrt-l2 or none."
        )
        raise OptionError(message)
    for name in space.settings:
        if name not in _SETTINGS:
            message = (
                f"--solver streamed has no parameter {name!r}. Use --set with one of "
                f"{', '.join(_SETTINGS)}, and --C for penalties."
            )
            raise OptionError(message)
    if weight not in (None, "balanced") and not isinstance(weight, Mapping):
        message = (
            f"class_weight must be 'balanced' or weights by label, but it is {weight!r}. Use "
            "--class-weight balanced."
        )
        raise OptionError(message)
    return str(space.settings.get("loss", _LOSSES[space.kinds[0].name]))


def _hold_out(y: NDArray[np.str_], groups: NDArray[np.int32], seed: int) -> tuple[Rows, Rows]:
    """Return training rows, which have every class, and held-out rows."""
    pairs = make_folds(y, groups, seed, _FOLDS)
    if pairs and len(pairs) < _FOLDS:
        # A class of two images would hold out half of all images: small classes are pooled.
        pairs = max(pairs, make_folds(_pooled(y, groups), groups, seed, _FOLDS), key=len)
    if pairs:
        train, held_out = pairs[0]
        unseen = np.setdiff1d(y[held_out], y[train])
        back = np.isin(groups[held_out], groups[np.isin(y, unseen)])
        train = np.sort(np.concatenate([train, held_out[back]]))
        held_out = held_out[~back]
    if not pairs or len(held_out) == 0:
        message = (
            "No images can be held out to end the fit: fewer than two classes have two images of "
            "different groups. Add images, or use --solver gram."
        )
        raise FitError(message)
    return train, held_out


def _pooled(y: NDArray[np.str_], groups: NDArray[np.int32]) -> NDArray[np.str_]:
    """Give the smallest classes one label, so that each label has enough groups for all folds."""
    counts = {str(label): len(np.unique(groups[y == label])) for label in np.unique(y)}
    pool: list[str] = []
    for label in sorted(counts, key=lambda name: counts[name]):
        if counts[label] >= _FOLDS and sum(counts[name] for name in pool) >= _FOLDS:
            break
        pool.append(label)
    return np.where(np.isin(y, pool), pool[0], y)


def _penalties(
    space: SearchSpace, blocks: _Blocks, n_rows: int, n_classes: int
) -> tuple[list[float], list[str]]:
    """Return values of C, strongest penalty first, as many as fit in memory."""
    if "alpha" in space.settings:
        return [1 / (float(space.settings["alpha"]) * n_rows)], []
    if space.penalties is not None:
        values = sorted(float(C) for C in space.penalties)
    else:
        values = [float(C) / blocks.mean_square for C in _PENALTIES]
    n_models = 1 if n_classes == 2 else n_classes
    n_bytes = _ARRAYS_PER_MODEL * 8 * n_models * blocks.codes.shape[1]
    n_fits = max(1, _MODEL_BYTES // n_bytes)
    if n_fits >= len(values):
        return values, []
    # The middle penalties are the best ones most often.
    first = (len(values) - n_fits) // 2
    kept = values[first : first + n_fits]
    note = (
        f"{len(values)} penalties would need {len(values) * n_bytes / 1e9:.1f} GB of memory, so "
        f"only C = {', '.join(f'{C:g}' for C in kept)} were tried. Choose others with --C."
    )
    return kept, [note]


def _estimator(  # noqa: PLR0917
    C: float, blocks: _Blocks, loss: str, space: SearchSpace, weights: Matrix | None, n_rows: int
) -> SGDClassifier:
    # A row of a class with ten times the weight takes a step of ten times the length.
    heaviest = 1.0 if weights is None else max(1.0, float(weights.max()))
    steps: dict[str, Any] = {"learning_rate": "optimal"}
    if loss.startswith("squared"):
        steps = {"learning_rate": "constant", "eta0": _SQUARED_STEP / heaviest}
    parameters = {
        "average": n_rows,  # from the second epoch on [1]_ [2]_
        "shuffle": False,  # rows are already shuffled
        "random_state": space.seed,
        **steps,
        **space.settings,
        # `C` and `loss` are from the settings, and rows have the weights of their classes.
        "alpha": 1 / (C * n_rows * blocks.mean_square),
        "loss": loss,
        "class_weight": None,
    }
    return SGDClassifier(**parameters)
