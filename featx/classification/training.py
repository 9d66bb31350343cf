"""Fitting: a store in, a bundle with an honest score out.

What is chosen is chosen inside the training part. With given splits the
classifier is fitted on train and scored on val, or on train and val and scored
on test; without, five stratified folds are scored, each with a search of its
own, and the classifier is then fitted on all. This file knows codes, never
images.
"""

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from featx.classification.bundle import Bundle
from featx.classification.classifiers import ClassifierKind, find_classifier
from featx.classification.division import (
    Division,
    Rows,
    check_complete,
    check_leaks,
    divide,
    small_classes,
    usable_rows,
)
from featx.classification.evaluation import Evaluation, evaluate
from featx.classification.folds import make_folds, together
from featx.classification.span import ExactSpan, UnitRows
from featx.errors import FitError, OptionError
from featx.outputs import check_output
from featx.store import Store, open_store

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """A fitted classifier, how it was fitted, and how good it is.

    Parameters
    ----------
    bundle : Bundle
        The classifier; its summary holds all that `to_dict` returns.
    evaluation : Evaluation
        Of images that the search and the fit behind each prediction never saw.
    notes : tuple of str
        What the user should know: images left out, small classes, and so on.
    """

    bundle: Bundle
    evaluation: Evaluation
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return scores and facts as plain values that JSON can hold."""
        return self.bundle.summary


@dataclass(frozen=True)
class _Data:
    """The labelled rows of a store, on their exact span."""

    span: ExactSpan
    y: NDArray[np.str_]
    keys: NDArray[np.int32]  # equal where images belong together
    kind: ClassifierKind
    seed: int

    def part(self, rows: Rows) -> tuple[NDArray[np.floating], NDArray[np.str_]]:
        return self.span.coordinates[rows], self.y[rows]


def fit(
    codes: Path | str = "codes.h5",
    *,
    clf: str = "logistic",
    layer: str | Sequence[str] | None = None,
    output: Path | str | None = None,
    overwrite: bool = False,
    partial: bool = False,
    seed: int = 0,
) -> Fit:
    """Fit a classifier on a store and score it honestly.

    Rows are made unit length; the strength of the penalty is searched by
    cross-validation inside the training part. Images of one group and files
    with equal bytes never stand on both sides of a fold. The fit runs on the
    exact span (see `ExactSpan`): the codes are never in memory as a whole.

    Parameters
    ----------
    codes : Path or str, default="codes.h5"
        A store.
    clf : {"logistic", "ridge", "linear-svm"}, default="logistic"
        L2-penalised multinomial logistic regression, the choice where
        probabilities matter; ridge regression on the labels, the fastest; or a
        linear support vector machine, one class against the rest. All get their
        probabilities by temperature scaling [1]_ on folds of the training part,
        which changes no predicted class.
    layer : str or sequence of str, optional
        Layers to use; all of the store by default, joined with equal weight.
    output : Path or str, optional
        Where to save the bundle, NAME.skops; not saved by default.
    overwrite : bool, default=False
        Whether a file of that name may be replaced.
    partial : bool, default=False
        Whether a store that is not complete may be used as it is.
    seed : int, default=0
        Of the folds.

    Returns
    -------
    Fit

    Raises
    ------
    OptionError, ExistsError
        A setting that cannot be; checked before any work.
    StoreError
        The store cannot be read or is not complete.
    FitError
        The labels allow no classifier or no score.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
       Modern Neural Networks", 2017. https://arxiv.org/abs/1706.04599
    """
    began, seed = time.perf_counter(), operator.index(seed)
    kind = find_classifier(clf)
    if not 0 <= seed < 2**32:  # what NumPy takes
        message = f"No such seed: {seed}. Expected --seed from 0 to 4294967295."
        raise OptionError(message)
    path = None
    if output is not None:
        path = check_output(output, overwrite=overwrite, suffixes=(".skops",))
    store = open_store(codes)
    layers = store.check_layers(layer)
    data, division, notes = _load(store, layers, kind, seed, partial=partial)
    final = _search(data, division.train, notes)
    scored_on, evaluation = _score(final, data, division, notes)
    chosen = {kind.parameter: final.get_params()[kind.parameter]}
    estimator = _on_codes(final, data, division.train)
    summary = {
        "codes": str(store.path),
        "layers": list(layers),
        "classifier": clf,
        "parameters": chosen,
        "seed": seed,
        "n_train": len(division.train),
        "scored_on": scored_on,
        **evaluation.to_dict(),
        "notes": notes,
        "seconds": round(time.perf_counter() - began, 2),
        "model": None if path is None else str(path),
    }
    bundle = Bundle(
        Pipeline([("unit", _unit_rows(store, layers)), ("classifier", estimator)]),
        store.recipe.narrowed(layers),
        _provenance(store),
        summary,
    )
    if path is not None:
        bundle.save(path)
    return Fit(bundle, evaluation, tuple(notes))


def _load(
    store: Store, layers: Sequence[str], kind: ClassifierKind, seed: int, *, partial: bool
) -> tuple[_Data, Division, list[str]]:
    """Return the labelled rows on their span, their division, and what to know of them."""
    notes = check_complete(store, partial=partial)
    rows, left_out = usable_rows(store)
    division, unsplit = divide(store, rows)
    data = _Data(
        span=ExactSpan([store.flat_codes(name) for name in layers], rows),
        y=store.images.label[rows].astype(str),
        keys=together(store.images.group[rows], store.images.sha256[rows]),
        kind=kind,
        seed=seed,
    )
    leaks = check_leaks(data.y, data.keys, division)
    return data, division, [*notes, *left_out, *unsplit, *leaks]


def _score(
    final: BaseEstimator, data: _Data, division: Division, notes: list[str]
) -> tuple[str, Evaluation]:
    """Score on the rows that were kept apart, or else on folds."""
    if division.scored_on == "folds":
        return _score_folds(data, division.train, notes)
    X, y = data.part(division.scored)
    keys = data.keys[division.scored]
    return division.scored_on, evaluate(y, final.predict(X), keys, seed=data.seed)


def _score_folds(data: _Data, rows: Rows, notes: list[str]) -> tuple[str, Evaluation]:
    """Score on folds, each predicted after a search of its own on the others."""
    y, keys = data.y[rows], data.keys[rows]
    pairs = make_folds(y, keys, data.seed)
    if not pairs:
        message = (
            "Fewer than two classes have two images that do not belong together, so nothing can "
            "be held out to score. Add images, or a val split: data/train/CLASS, data/val/CLASS."
        )
        raise FitError(message)
    notes += small_classes(y, keys)
    predicted = np.empty(len(rows), y.dtype)
    of_folds: list[str] = []
    for train, test in pairs:
        search = _search(data, rows[train], of_folds)
        predicted[test] = search.predict(data.span.coordinates[rows[test]])
    notes += [f"In a fold that was scored: {note}" for note in of_folds]
    return f"{len(pairs)} folds", evaluate(y, predicted, keys, seed=data.seed)


def _search(data: _Data, rows: Rows, notes: list[str]) -> BaseEstimator:
    """Fit on some rows, the penalty's strength chosen by folds inside them."""
    X, y = data.part(rows)
    estimator, kind = data.kind.make(data.seed), data.kind
    if len(np.unique(y)) < 2:
        message = "The training images are all of one class. A classifier needs two."
        raise FitError(message)
    pairs = make_folds(y, data.keys[rows], data.seed)
    if not pairs:
        note = f"Too few images to choose {kind.parameter}: scikit-learn's default was used."
        notes += [] if note in notes else [note]
        return estimator.fit(X, y)
    # error_score: a fold that cannot be fitted is a bug, not a bad score.
    search = GridSearchCV(estimator, {kind.parameter: kind.values}, cv=pairs, error_score="raise")
    return search.fit(X, y).best_estimator_


def _on_codes(final: BaseEstimator, data: _Data, rows: Rows) -> BaseEstimator:
    """Return the classifier that is saved: coefficients on codes, and probabilities."""
    X, y = data.part(rows)
    X, y, pairs = _learned_everywhere(X, y, make_folds(y, data.keys[rows], data.seed))
    if not pairs and data.kind.has_probabilities:
        return _moved(final, data.span)
    if not pairs:
        message = (
            f"Too few images to give {data.kind.name} probabilities: they are fitted on images "
            "held out of the training part. Use --clf logistic."
        )
        raise FitError(message)
    calibrated = CalibratedClassifierCV(final, method="temperature", cv=pairs, ensemble=False)
    calibrated.fit(X, y)
    # The temperature is one number, so it also serves the classes that were left out above.
    inner = calibrated.calibrated_classifiers_[0]
    inner.estimator = _moved(final, data.span)
    inner.classes = calibrated.classes_ = final.classes_
    # The coordinates are of no use to a prediction; the unfitted copy stays a copy.
    calibrated.set_params(cv=None)
    calibrated.estimator = clone(final)
    calibrated.n_features_in_ = final.n_features_in_
    return calibrated


def _learned_everywhere(
    X: NDArray[np.floating], y: NDArray[np.str_], pairs: Sequence[tuple[Rows, Rows]]
) -> tuple[NDArray[np.floating], NDArray[np.str_], list[tuple[Rows, Rows]]]:
    """Keep the classes that stand in the training part of every fold, as calibration needs."""
    learned = [label for label in np.unique(y) if all(label in y[train] for train, _ in pairs)]
    if len(learned) < 2:
        return X, y, []
    kept = np.isin(y, learned)
    place = np.cumsum(kept) - 1
    parts = [(place[train[kept[train]]], place[test[kept[test]]]) for train, test in pairs]
    return X[kept], y[kept], [(train, test) for train, test in parts if len(test)]


def _moved(estimator: BaseEstimator, span: ExactSpan) -> BaseEstimator:
    estimator.coef_ = span.to_code_space(estimator.coef_)
    estimator.n_features_in_ = estimator.coef_.shape[-1]
    return estimator


def _unit_rows(store: Store, layers: Sequence[str]) -> UnitRows:
    return UnitRows(tuple(store.recipe.code_size(name) for name in layers))


def _provenance(store: Store) -> dict[str, Any]:
    return {
        "codes": str(store.path.absolute()),
        "extraction": store.provenance,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "fitted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
