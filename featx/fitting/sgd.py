"""The road "streamed": for so many images that no matrix of them fits in memory.

Codes that may be fitted on come in, on disk; a pipeline from codes to
probabilities goes out. Linear models, one for each penalty, are fitted by
stochastic gradient descent on blocks of shuffled rows; every block is read
once an epoch and shown to all of them. A part that is held out stops them,
chooses the penalty and calibrates. Nothing here is exact: "logistic" is one
logistic regression a class against the rest, not a multinomial one, and the
held-out part, about a tenth, is not fitted on.

In memory are one block of codes and the models: at most four arrays of
penalties × classes × columns doubles (the steps, their average, that of this
epoch and that of the best one), which are kept below 1 GB by fewer penalties.

References
----------
.. [1] B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation
   by Averaging", 1992.
.. [2] F. Bach and E. Moulines, "Non-strongly-convex smooth stochastic
   approximation with convergence rate O(1/n)", 2013: averages of steps of
   constant length. https://arxiv.org/abs/1306.2119
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_class_weight

from featx.choices import Calibration
from featx.cluster import Cluster
from featx.codes.matrix import CodeMatrix, Matrix, Rows
from featx.dataset.folds import make_folds
from featx.errors import FitError, OptionError
from featx.fitting.calibration import DecisionScores, calibrate, decision_scores
from featx.fitting.classifiers import CLASSIFIERS, ClassifierKind
from featx.fitting.sgd_epochs import Blocks, Epoch, Part
from featx.fitting.single_fit import SearchSpace
from featx.text import counted

__all__ = ["Streamed", "fit_streamed"]

_MODEL_BYTES = 1_000_000_000  # of all models
_COPIES = 4  # of coefficients: the steps, their average, this epoch's and the best epoch's
_FOLDS = 10  # one of them is held out
_MOST_EPOCHS = 20
_PATIENCE = 3  # epochs without gain on the held-out part
# C, on rows of unit length: stronger ones never won, weaker ones the stop makes equal.
_PENALTIES = np.logspace(0, 4, 5)
# The loss that stands for each classifier; for linear-svm LinearSVC's own, which is squared.
_LOSSES = {
    "logistic": "log_loss",
    "sgd": "log_loss",
    "linear-svm": "squared_hinge",
    "ridge": "squared_error",
}
# Longer steps make a squared loss diverge: half of 2 / (1 + 1), the row and the intercept.
_SQUARED_STEP = 0.5
_SETTINGS = (
    "alpha",
    "average",
    "class_weight",
    "epsilon",
    "eta0",
    "fit_intercept",
    "l1_ratio",
    "learning_rate",
    "loss",
    "max_iter",
    "n_iter_no_change",
    "penalty",
    "power_t",
)

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Streamed:
    """What the streamed road came to.

    Parameters
    ----------
    pipeline : Pipeline
        From codes (n, d), layers side by side, to probabilities.
    kind : ClassifierKind
        The classifier.
    value : float
        The C that was chosen; its `alpha` is 1 / (C × rows fitted on).
    tried : tuple of (float, float)
        Each C and its best accuracy on the held-out part; without those that
        diverged.
    n_epochs : int
        Passes over the codes.
    n_held_out : int
        Rows that were held out.
    notes : tuple of str
        What the user should know.
    """

    pipeline: Pipeline
    kind: ClassifierKind
    value: float
    tried: tuple[tuple[float, float], ...]
    n_epochs: int
    n_held_out: int
    notes: tuple[str, ...]


def fit_streamed(  # noqa: PLR0913, PLR0917
    codes: CodeMatrix,
    y: NDArray[np.str_],
    groups: NDArray[np.int32],
    space: SearchSpace,
    normalise: str,
    calibration: Calibration,
    *,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Streamed:
    """Fit a linear classifier on codes that are read in blocks, again and again.

    Parameters
    ----------
    codes : CodeMatrix of n rows
        Rows that may be fitted on.
    y : ndarray of str, shape (n,)
        Labels.
    groups : ndarray of int, shape (n,)
        Equal where rows belong together; see `featx.dataset.folds`.
    space : SearchSpace
        One kind that streams; penalties instead of five decades from 1 to 1e4
        over the mean squared length of the rows; and settings of
        `SGDClassifier`. There `alpha` is that of SGDClassifier for every kind,
        `max_iter` the most epochs, `n_iter_no_change` how many may pass
        without gain, and `eta0` a step for rows of a mean squared length of 1,
        which all are brought to.
    normalise : {"l2", "sqrt-l2", "none"}
        What is done to rows.
    calibration : {"temperature", "sigmoid", "isotonic", "none"}
        From decisions to probabilities, fitted on the held-out part.
    progress : callable, optional
        Called after each epoch with its number, the most there can be and the
        best accuracy so far.
    cluster : Cluster, optional
        Whose workers take the steps, each with some of the classifiers; they
        see the stores under the same paths.

    Returns
    -------
    Streamed
        The same bits for the same seed, with a cluster or without.

    Raises
    ------
    OptionError
        A classifier, a normalisation or a setting that cannot be streamed.
    FitError
        No part can be held out, or every model diverged.
    StoreError
        A code is not finite.
    ClusterError
        The cluster is lost, or a worker ended with an error.
    """
    kind, loss = _check(space, normalise)
    train, held_out = _hold_out(y, groups, space.seed)
    classes = np.unique(y)
    rows = Blocks(codes, normalise)
    rows = Blocks(codes, normalise, _mean_square(rows, train, space.seed))
    values, notes = _values(space, rows, len(train), len(classes))
    weights = _weights(space.settings, classes, y[train])
    models = [
        _Model(C, _estimator(C, rows, loss, space, weights, len(train)), classes) for C in values
    ]
    most = int(space.settings.get("max_iter", _MOST_EPOCHS))
    patience = int(space.settings.get("n_iter_no_change", _PATIENCE))
    numbers = np.searchsorted(classes, y)
    rng = np.random.default_rng(space.seed)
    epoch = 0
    while epoch < most and (live := [m for m in models if m.is_sound and m.since < patience]):
        epoch += 1
        # Of all rows: a store is mostly sorted by class.
        order = rng.permutation(train)
        this = Epoch(rows, order, held_out, numbers, weights)
        parts = [part for model in live for part in model.parts]
        parts, found = this.run(parts) if cluster is None else this.run_on(cluster, parts)
        for model in live:
            n_parts = len(model.parts)
            model.look(parts[:n_parts], found[:, :n_parts], numbers[held_out])
            parts, found = parts[n_parts:], found[:, n_parts:]
        if progress is not None:
            progress(epoch, most, max(0, *(m.n_right for m in models)) / len(held_out))
    sound = [model for model in models if model.is_sound]
    if not sound:
        message = (
            "Every model diverged. Leave out --set, or use --normalise l2 or a stronger penalty, "
            "as --C 1."
        )
        raise FitError(message)
    if len(sound) < len(models):
        dropped = ", ".join(f"{model.C:g}" for model in models if not model.is_sound)
        notes.append(f"Left out, since their fit diverged: C = {dropped}.")
    best = max(sound, key=lambda model: model.n_right)  # the first, with the strongest penalty
    if best.since < patience and epoch == most:
        notes.append(
            f"The fit had not settled after {counted(most, 'epoch')}. More of them: "
            f"--set max_iter={2 * most}."
        )
    notes.append(
        f"{len(held_out)} of {len(y)} images were held out to stop, choose and calibrate; the "
        "classifier is not fitted on them."
    )
    estimator = best.finished(rows.mean_square)
    found = np.empty((len(held_out), len(classes)))
    for place, (_, X) in zip(rows.places(len(held_out)), rows.of(held_out), strict=True):
        found[place] = decision_scores(best.finished(), X)
    names = tuple(str(label) for label in classes)
    first = [("unit", rows.unit)] if rows.unit is not None else []
    pipeline = Pipeline(
        [
            *first,
            ("decisions", DecisionScores(estimator)),
            ("calibration", calibrate(found, y[held_out], names, calibration)),
        ]
    )
    tried = tuple((model.C, model.n_right / len(held_out)) for model in sound)
    return Streamed(pipeline, kind, best.C, tried, epoch, len(held_out), tuple(notes))


class _Model:
    """One penalty: a binary classifier for each class, and the best that they came to.

    One SGDClassifier of all classes would run them through joblib, which is not
    safe in several threads: it swaps Python's warning filters, of which there
    is one list. Those of two classes are one classifier, as there.
    """

    def __init__(self, C: float, estimator: SGDClassifier, classes: NDArray[np.str_]) -> None:
        self.C, self._estimator, self._classes = C, estimator, classes
        n_parts = 1 if len(classes) == 2 else len(classes)
        self.parts = [
            Part(clone(estimator), positive)
            for positive in range(len(classes) - n_parts, len(classes))
        ]
        self._best = (np.zeros((0, 0)), np.zeros(0))
        self.n_right, self.since, self.is_sound = -1, 0, True

    def look(self, parts: list[Part], found: Matrix, y: Rows) -> None:
        """Take note of an epoch, and of its coefficients where it is the best.

        Parameters
        ----------
        parts : list of Part
            After the epoch.
        found : ndarray of shape (m, n_parts)
            Their decisions about the rows held out.
        y : ndarray of int, shape (m,)
            Classes of those.
        """
        self.parts = parts
        self.is_sound = all(part.is_sound for part in parts)
        if not self.is_sound:
            return
        coef = np.concatenate([part.estimator.coef_ for part in parts])
        intercept = np.concatenate([part.estimator.intercept_ for part in parts])
        self.is_sound = bool(np.isfinite(coef).all() and np.isfinite(intercept).all())
        if not self.is_sound:
            return
        answers = found.argmax(axis=1) if len(parts) > 1 else (found[:, 0] > 0).astype(int)
        n_right = int(np.sum(answers == y))
        if n_right > self.n_right:
            self.n_right, self.since, self._best = n_right, 0, (coef, intercept)
        else:
            self.since += 1

    def finished(self, mean_square: float = 1.0) -> SGDClassifier:
        """Return the best epoch's classifier, for rows of a mean squared length."""
        coef, intercept = self._best
        plain = self._with(coef / np.sqrt(mean_square), intercept)
        return plain.set_params(alpha=plain.alpha * mean_square)

    def _with(self, coef: Matrix, intercept: Matrix) -> SGDClassifier:
        plain = clone(self._estimator)
        plain.classes_, plain.n_features_in_ = self._classes, coef.shape[1]
        plain.coef_, plain.intercept_ = coef, intercept
        return plain


def _check(space: SearchSpace, normalise: str) -> tuple[ClassifierKind, str]:
    """Return the classifier and its loss, if this road can do what is asked for."""
    streams = [name for name, kind in CLASSIFIERS.items() if kind.supports_sgd]
    if len(space.kinds) != 1 or not space.kinds[0].supports_sgd:
        message = (
            f"The road streamed cannot fit {', '.join(kind.name for kind in space.kinds)}. "
            f"Expected --clf with one of {', '.join(streams)}."
        )
        raise OptionError(message)
    if normalise not in ("l2", "sqrt-l2", "none"):
        message = (
            f"The road streamed cannot do --normalise {normalise}. Expected l2, sqrt-l2 or none: "
            "use --normalise l2."
        )
        raise OptionError(message)
    for name in space.settings:
        if name not in _SETTINGS:
            message = (
                f"The road streamed has no parameter '{name}'. Expected --set with one of "
                f"{', '.join(_SETTINGS)}; penalties are given with --C."
            )
            raise OptionError(message)
    weight = space.settings.get("class_weight")
    if weight not in (None, "balanced") and not isinstance(weight, Mapping):
        message = (
            f"Cannot weigh classes by {weight!r}. Expected class_weight=balanced, or weights by "
            "label."
        )
        raise OptionError(message)
    kind = space.kinds[0]
    return kind, str(space.settings.get("loss", _LOSSES[kind.name]))


def _hold_out(y: NDArray[np.str_], groups: NDArray[np.int32], seed: int) -> tuple[Rows, Rows]:
    """Return positions to fit on, which have every class, and positions to hold out."""
    pairs = make_folds(y, groups, seed, _FOLDS)
    if pairs and len(pairs) < _FOLDS:
        # One class of two images would hold out half of all: small ones are dealt as one.
        dealt = make_folds(_pooled(y, groups), groups, seed, _FOLDS)
        pairs = max(pairs, dealt, key=len)
    if pairs:
        train, held_out = pairs[0]
        unseen = np.setdiff1d(y[held_out], y[train])
        back = np.isin(groups[held_out], groups[np.isin(y, unseen)])
        train = np.sort(np.concatenate([train, held_out[back]]))
        held_out = held_out[~back]
    if not pairs or len(held_out) == 0:
        message = (
            "Fewer than two classes have two images that do not belong together, so nothing can "
            "be held out to stop the fit. Add images, or use --road span."
        )
        raise FitError(message)
    return train, held_out


def _pooled(y: NDArray[np.str_], groups: NDArray[np.int32]) -> NDArray[np.str_]:
    """Give the smallest classes one label, so that every label has enough groups for all folds."""
    counts = {str(label): len(np.unique(groups[y == label])) for label in np.unique(y)}
    pool: list[str] = []
    for label in sorted(counts, key=lambda name: counts[name]):
        if counts[label] >= _FOLDS and sum(counts[name] for name in pool) >= _FOLDS:
            break
        pool.append(label)
    return np.where(np.isin(y, pool), pool[0], y)


def _mean_square(rows: Blocks, train: Rows, seed: int) -> float:
    """Return the mean squared length of some rows, a block of them: 1 where all are unit."""
    if rows.unit is not None:
        return 1.0
    some = np.random.default_rng(seed).permutation(train)[: rows.step]
    _, X = next(rows.of(some))
    return float(np.einsum("ij,ij->", X, X)) / len(X) or 1.0


def _values(
    space: SearchSpace, rows: Blocks, n_rows: int, n_classes: int
) -> tuple[list[float], list[str]]:
    """Return values of C, strongest penalty first, as many as there is memory for."""
    if "alpha" in space.settings:
        return [1 / (float(space.settings["alpha"]) * n_rows)], []
    if space.penalties is not None:
        values = sorted(float(C) for C in space.penalties)
    else:
        values = [float(C) / rows.mean_square for C in _PENALTIES]
    n_models = 1 if n_classes == 2 else n_classes
    of_one = _COPIES * 8 * n_models * rows.codes.shape[1]
    fits = max(1, _MODEL_BYTES // of_one)
    if fits >= len(values):
        return values, []
    # The middle ones: they win most often.
    first = (len(values) - fits) // 2
    kept = values[first : first + fits]
    note = (
        f"{len(values)} penalties would need {len(values) * of_one / 1e9:.1f} GB: tried are only "
        f"C = {', '.join(f'{C:g}' for C in kept)}. Others: --C."
    )
    return kept, [note]


def _weights(
    settings: Mapping[str, Any], classes: NDArray[np.str_], y: NDArray[np.str_]
) -> Matrix | None:
    """Return each class's weight: partial_fit takes no "balanced"."""
    weight = settings.get("class_weight")
    if weight is None:
        return None
    return np.asarray(compute_class_weight(weight, classes=classes, y=y), dtype=np.float64)


def _estimator(  # noqa: PLR0917
    C: float, rows: Blocks, loss: str, space: SearchSpace, weights: Matrix | None, n_rows: int
) -> SGDClassifier:
    given = {
        name: value
        for name, value in space.settings.items()
        if name not in ("alpha", "class_weight", "loss")
    }
    # A row of a class that weighs ten times as much takes a step ten times as long.
    heaviest = 1.0 if weights is None else max(1.0, float(weights.max()))
    step = (
        {"learning_rate": "constant", "eta0": _SQUARED_STEP / heaviest}
        if loss.startswith("squared")
        else {"learning_rate": "optimal"}
    )
    return SGDClassifier(
        **{
            "loss": loss,
            "alpha": 1 / (C * n_rows * rows.mean_square),
            "average": n_rows,  # from the second epoch on
            "shuffle": False,  # the rows are
            "random_state": space.seed,
            **step,
            **given,
        }
    )
