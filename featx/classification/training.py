"""Fitting: stores in, a bundle with an honest score out.

What is chosen is chosen inside the training part. With given splits the
classifier is fitted on train and scored on val, or on train and val and scored
on test; without, stratified folds are scored, each with a search of its own,
and the classifier is then fitted on all. This file knows codes, never images.
"""

import copy
import dataclasses
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from featx.classification.bundle import Bundle
from featx.classification.calibration import (
    Calibration,
    Decisions,
    calibrate,
    check_calibration,
)
from featx.classification.classifiers import (
    CLASSIFIERS,
    check_settings,
    find_classifiers,
)
from featx.classification.codes import CodeMatrix, Matrix, Rows
from featx.classification.division import (
    Division,
    check_complete,
    check_leaks,
    divide,
    small_classes,
    twins,
    usable_rows,
)
from featx.classification.duplicates import Pair, conflicting, find_duplicates
from featx.classification.evaluation import Evaluation, evaluate, wilson
from featx.classification.folds import make_folds, together
from featx.classification.joining import Joined, join_stores
from featx.classification.labels import check_columns, relabel
from featx.classification.pictures import picture_rows
from featx.classification.roads import Road, RoadName, choose_road
from featx.classification.search import (
    Choice,
    Model,
    Options,
    Problem,
    Tried,
    plan_of,
    search,
    train,
)
from featx.classification.span import ExactSpan, UnitRows
from featx.classification.streaming import fit_streamed
from featx.errors import FitError, OptionError, StoreError
from featx.outputs import check_output

__all__ = ["Fit", "FitJob", "fit", "prepare_fit", "run_fit"]

Normalise = Literal["l2", "centre", "sqrt-l2", "none"]
# What --normalise auto chooses from: what it leaves out has never won.
_NORMALISE_AUTO = ("l2", "centre", "sqrt-l2")
# Wider than this no classifier that looks at single columns is of use, or ends in time.
_MOST_COLUMNS = 4096


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
class FitJob:
    """What a fit will do; `prepare_fit` makes it, and nothing large was read yet.

    Parameters
    ----------
    joined : Joined
        The stores.
    rows : ndarray of int, shape (n,)
        Images that are labelled and have codes.
    y : ndarray of str, shape (n,)
        Their labels.
    keys : ndarray of int, shape (n,)
        Equal where images belong together.
    division : Division
        Which are chosen on, fitted on and scored.
    copies : tuple of Pair
        Pictures that are there twice.
    road : Road
        The way to the fit, and its price.
    options : Options
        What is chosen from.
    calibration : {"temperature", "sigmoid", "isotonic", "none"}
        From decisions to probabilities.
    n_folds, n_repeats : int
        Of the folds.
    refit : bool
        Whether the saved classifier is fitted on all images.
    baselines : bool
        Whether to score the majority class and the pictures' own pixels too.
    output : Path or None
        The bundle.
    lines : tuple of str
        What will be done, in words.
    notes : tuple of str
        What the user should know.
    """

    joined: Joined
    rows: Rows
    y: NDArray[np.str_]
    keys: NDArray[np.int32]
    division: Division
    copies: tuple[Pair, ...]
    road: Road
    options: Options
    calibration: Calibration
    n_folds: int
    n_repeats: int
    refit: bool
    baselines: bool
    output: Path | None
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def fit(codes: Path | str | Sequence[Path | str] = "codes.h5", **settings: Any) -> Fit:
    """Fit a classifier on codes and score it honestly.

    Images of one group, and copies of one picture, never stand on both sides
    of a fold. On the exact span (see `ExactSpan`) the codes are never in
    memory as a whole, and the answer is that of scikit-learn on them.

    Parameters
    ----------
    codes : Path, str or sequence of them, default="codes.h5"
        A store, or several of the same images, which are joined.
    **settings
        Those of `prepare_fit`.

    Returns
    -------
    Fit

    Raises
    ------
    OptionError, ExistsError
        A setting that cannot be; checked before any work.
    StoreError, RecipeMismatchError
        A store cannot be read, is not complete, or does not go with another.
    FitError
        The labels allow no classifier or no score.
    """
    return run_fit(prepare_fit(codes, **settings))


def prepare_fit(  # noqa: PLR0913  flat, as on the command line
    codes: Path | str | Sequence[Path | str] = "codes.h5",
    *,
    clf: str = "logistic",
    layer: str | Sequence[str] | None = None,
    normalise: Normalise | Literal["auto"] = "l2",
    road: RoadName | Literal["auto"] = "auto",
    C: Sequence[float] | None = None,
    settings: Mapping[str, Any] | None = None,
    class_weight: Literal["balanced"] | None = None,
    calibration: Calibration = "temperature",
    folds: int = 5,
    repeats: int = 1,
    select: Literal["val"] | None = None,
    refit: Literal["all"] | None = None,
    duplicates: Literal["together", "keep"] = "together",
    labels: Path | str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    baselines: bool = True,
    output: Path | str | None = None,
    overwrite: bool = False,
    partial: bool = False,
    seed: int = 0,
) -> FitJob:
    """Check everything that a fit needs, and choose its road; codes are not read.

    Parameters
    ----------
    codes : Path, str or sequence of them, default="codes.h5"
        A store, or several of the same images, which are joined.
    clf : str, default="logistic"
        "logistic" (L2-penalised, multinomial: the choice where probabilities
        matter), "ridge" (the fastest), "linear-svm" (one class against the
        rest), "svm-rbf", "knn" or "centroid", which are exact at any width;
        "lda", "sgd", "logistic-l1" or "hist-gradient-boosting" on narrow codes;
        or "auto", which tries the first seven and prefers a linear one within
        a standard error of the best.
    layer : str or sequence of str, optional
        Layers to use; all by default, joined with equal weight.
    normalise : {"l2", "centre", "sqrt-l2", "none", "auto"}, default="l2"
        "l2": rows of unit length. "centre": these minus their mean in the
        training part, at unit length again. "sqrt-l2": unit length after the
        signed square root of each number. "none": codes as they are. "auto":
        chosen, from the first three, with the classifier.
    road : {"auto", "primal", "span", "streamed"}, default="auto"
        See `featx.classification.roads`.
    C : sequence of float, optional
        Penalties to try, as scikit-learn's C on the normalised codes (1 / C is
        ridge's alpha), instead of 28 from 1e-3 to 1e6.
    settings : mapping of str to object, optional
        Parameters of the estimator; one that is given is not searched.
    class_weight : {"balanced"}, optional
        Whether small classes count as much as large ones.
    calibration : {"temperature", "sigmoid", "isotonic", "none"}, default="temperature"
        From decisions to probabilities, fitted on rows held out. Temperature
        [1]_ never changes a predicted class.
    folds, repeats : int, default=5 and 1
        Of the cross-validation, where no splits are given, and of the search.
    select : {"val"}, optional
        With train, val and test: choose on val rather than on folds of train.
    refit : {"all"}, optional
        Fit the saved classifier on all images, scored ones too.
    duplicates : {"together", "keep"}, default="together"
        Whether copies of one picture share a fold.
    labels : Path or str, optional
        A table that gives images, by path, other labels, splits or groups.
    label_column, split_column, group_column : str, optional
        Names of its columns.
    baselines : bool, default=True
        Whether to score the majority class and the pictures' own pixels too.
    output : Path or str, optional
        Where to save the bundle, NAME.skops or NAME.joblib; not saved by default.
    overwrite : bool, default=False
        Whether a file of that name may be replaced.
    partial : bool, default=False
        Whether a store that is not complete may be used as it is.
    seed : int, default=0
        Of all that is drawn.

    Returns
    -------
    FitJob

    Raises
    ------
    OptionError, ExistsError, StoreError, RecipeMismatchError, FitError
        See `fit`.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
       Modern Neural Networks", 2017. https://arxiv.org/abs/1706.04599
    """
    options = _options(clf, normalise, C, settings, class_weight, seed)
    check_calibration(calibration)
    _check_counts(folds, repeats)
    _check_words(refit=refit, duplicates=duplicates)
    path = None
    if output is not None:
        path = check_output(output, overwrite=overwrite, suffixes=(".skops", ".joblib"))
    joined = join_stores(codes, layer)
    if normalise == "none" and len(joined.recipe.layers) > 1:
        message = (
            "Codes of several layers are joined at unit length. Use --normalise l2, or one --layer."
        )
        raise OptionError(message)
    notes = [*joined.notes]
    for store in joined.stores:
        notes += check_complete(store.path, store.images, partial=partial)
    images = joined.images
    check_columns(labels, label_column, split_column, group_column)
    if labels is not None:
        images, said = relabel(
            images,
            labels,
            label_column=label_column,
            split_column=split_column,
            group_column=group_column,
        )
        notes += said
    rows, left_out = usable_rows(joined.path, images)
    division, unsplit = divide(joined.path, images.split[rows], select=select)
    y = images.label[rows].astype(str)
    copies: tuple[Pair, ...] = ()
    if duplicates == "together":
        copies = find_duplicates(images.sha256[rows], images.phash[rows], joined.thumbnails(rows))
    keys = together(images.group[rows], pairs=[(pair.first, pair.second) for pair in copies])
    notes += [*left_out, *unsplit, *check_leaks(y, keys, division)]
    notes += _copies_in_words(copies, images.path[rows], y)
    chosen, options = _choose_road(options, joined, len(rows), len(np.unique(y)), road)
    return FitJob(
        joined=joined,
        rows=rows,
        y=y,
        keys=keys,
        division=division,
        copies=copies,
        road=chosen,
        options=options,
        calibration=calibration,
        n_folds=folds,
        n_repeats=repeats,
        refit=refit == "all",
        baselines=baselines,
        output=path,
        lines=tuple(_job_lines(joined, chosen, options, division, y)),
        notes=tuple(notes),
    )


def run_fit(job: FitJob) -> Fit:
    """Run a job; parameters and result are those of `fit`."""
    began = time.perf_counter()
    done = _run_exact(job) if job.road.is_exact else _run_streamed(job)
    notes = [*job.notes, *done.notes]
    summary = {
        "codes": [str(path) for path in job.joined.paths],
        "layers": list(job.joined.recipe.layers),
        "road": job.road.name,
        **done.facts,
        "calibration": job.calibration,
        "seed": job.options.seed,
        "n_train": len(done.rows),
        **done.evaluation.to_dict(),
        "copies": [_copy(pair, job) for pair in job.copies],
        "notes": notes,
        "seconds": round(time.perf_counter() - began, 2),
        "model": None if job.output is None else str(job.output),
    }
    bundle = Bundle(
        done.pipeline,
        job.joined.recipe,
        _provenance(job.joined),
        summary,
        tuple(str(digest) for digest in job.joined.images.sha256[job.rows[done.rows]]),
    )
    if job.output is not None:
        bundle.save(job.output)
    return Fit(bundle, done.evaluation, tuple(notes))


@dataclass(frozen=True)
class _Done:
    """What a road came to."""

    pipeline: Pipeline
    rows: Rows
    evaluation: Evaluation
    facts: dict[str, Any]
    notes: tuple[str, ...]


def _run_exact(job: FitJob) -> _Done:
    view = _view(job)
    scored = _score(view.problem, job)
    final, notes, choice = scored.final, list(scored.notes), scored.final.choice
    if job.refit:
        every = np.arange(len(job.rows))
        model = train(view.problem, every, choice, job.options)
        final = dataclasses.replace(final, model=model, rows=every)
        notes.append("The saved classifier is fitted on all images, those of the score too.")
    facts = {
        "gflops": view.gflops,
        "classifier": choice.kind.name,
        "normalise": choice.normalise,
        "parameters": job.options.parameters(choice.kind, choice.value, len(final.rows)),
        "tried": [_tried(each) for each in choice.tried],
        "scored_on": scored.on,
        "without_copies": scored.without_copies,
        "baselines": _baselines(job, scored) if job.baselines else None,
    }
    return _Done(
        view.on_codes(final, job.options), final.rows, scored.evaluation, facts, tuple(notes)
    )


def _run_streamed(job: FitJob) -> _Done:
    """Fit by descent; without splits, the first fold alone is scored, and is not fitted on."""
    part, on, notes = job.division, str(job.division.scored_on), []
    if on == "folds":
        part, on = _folds(job)[0], f"one of {job.n_folds} folds"
        notes.append("The classifier is fitted on the other folds only; one fold is scored.")
    if job.refit or job.n_repeats > 1 or len(part.selected):
        message = (
            "The road streamed fits once, on the training part. Leave out --refit, --repeats and "
            "--select, or use --road span."
        )
        raise OptionError(message)
    codes, fitted = job.joined.matrix(job.rows), part.fitted
    found = fit_streamed(
        codes.take(fitted),
        job.y[fitted],
        job.keys[fitted],
        job.options,
        job.options.normalise[0],
        job.calibration,
    )
    classes = np.unique(job.y)
    columns = np.searchsorted(classes, found.pipeline.classes_)

    def evaluated(scored: Rows) -> Evaluation:
        shares = np.zeros((len(scored), len(classes)))
        matrix = codes.take(scored)
        for where, block in matrix.row_blocks():
            shares[where, columns] = found.pipeline.predict_proba(block)
        return _evaluated(job, classes, shares, scored, job.joined.images.path[job.rows])

    apart = part.scored[~twins(job.keys, part)]
    some_are_copies = 0 < len(apart) < len(part.scored)
    facts = {
        "gflops": None,
        "classifier": found.kind.name,
        "normalise": job.options.normalise[0],
        "parameters": {"C": found.value},
        "tried": [
            {
                "classifier": found.kind.name,
                "normalise": job.options.normalise[0],
                "value": value,
                "accuracy": accuracy,
            }
            for value, accuracy in found.tried
        ],
        "scored_on": on,
        "without_copies": _in_short(evaluated(apart)) if some_are_copies else None,
        "baselines": None,
    }
    return _Done(found.pipeline, fitted, evaluated(part.scored), facts, (*notes, *found.notes))


def _in_short(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "n_images": evaluation.n_images,
        "accuracy": dataclasses.asdict(evaluation.accuracy),
        "balanced_accuracy": dataclasses.asdict(evaluation.balanced_accuracy),
    }


@dataclass(frozen=True)
class _Final:
    """What was chosen, fitted on some rows, with its calibration."""

    choice: Choice
    model: Model
    calibrator: BaseEstimator
    rows: Rows

    def probabilities(self, X: Matrix, classes: NDArray[np.str_]) -> Matrix:
        """Return probabilities of all classes; 0 for those that it does not know."""
        out = np.zeros((len(X), len(classes)))
        columns = np.searchsorted(classes, self.model.classes)
        out[:, columns] = self.calibrator.predict_proba(self.model.decide(X))
        return out


@dataclass(frozen=True)
class _View:
    """The rows of a job as coordinates, and the way back to codes."""

    codes: CodeMatrix
    problem: Problem
    spans: Mapping[str, ExactSpan]  # by normalisation; none on the primal road
    gflops: float | None

    def on_codes(self, final: _Final, options: Options) -> Pipeline:
        """Return the classifier from codes to probabilities."""
        choice, model = final.choice, final.model
        span = self.spans.get(choice.normalise)
        steps: list[tuple[str, BaseEstimator]] = []
        if span is not None and choice.kind.needs_rows:
            # Of the rows that it was fitted on alone: others are none of its business.
            narrow = span.narrowed(final.rows)
            steps.append(("span", narrow))
            own = Problem({choice.normalise: narrow.coordinates_}, self.problem.y[final.rows])
            model = train(own, np.arange(len(final.rows)), choice, options)
        elif choice.normalise != "none":
            root = choice.normalise == "sqrt-l2"
            steps.append(("unit", UnitRows(self.codes.widths, root=root)))
        if span is not None and not choice.kind.needs_rows:
            model = _moved(model, span)
        if model.centre is not None:
            steps.append(("centre", model.centre))
        return Pipeline(
            [*steps, ("decisions", Decisions(model.estimator)), ("calibration", final.calibrator)]
        )


@dataclass(frozen=True)
class _Scored:
    """A final classifier, and its score on rows that were kept apart."""

    final: _Final
    on: str
    evaluation: Evaluation
    parts: tuple[Division, ...]
    without_copies: dict[str, Any] | None
    notes: tuple[str, ...]


def _view(job: FitJob) -> _View:
    codes = job.joined.matrix(job.rows)
    coordinates: dict[str, Matrix] = {}
    spans: dict[str, ExactSpan] = {}
    gflops = None
    for normalise in job.options.normalise:
        root, unit = normalise == "sqrt-l2", normalise != "none"
        if job.road.name == "primal":
            block = codes.block(np.arange(len(codes)))
            _check_finite(block, codes)
            coordinates[normalise] = (
                UnitRows(codes.widths, root=root).transform(block)
                if unit
                else block.astype(np.float64)
            )
            continue
        same = next((s for s in spans.values() if (s.root, s.unit) == (root, unit)), None)
        if same is None:
            began = time.perf_counter()
            same = ExactSpan(unit=unit, root=root).fit(codes)
            gflops = round(same.n_flops_ / (time.perf_counter() - began) / 1e9, 1)
        spans[normalise], coordinates[normalise] = same, same.coordinates_
    return _View(codes, Problem(coordinates, job.y), spans, gflops)


def _score(problem: Problem, job: FitJob) -> _Scored:
    """Choose, fit and score: on the rows that were kept apart, or else on folds."""
    classes, division = np.unique(job.y), job.division
    paths = job.joined.images.path[job.rows]
    if division.scored_on != "folds":
        final, notes = _choose(problem, job, division)
        X = problem.coordinates[final.choice.normalise][division.scored]
        shares = final.probabilities(X, classes)
        scored = division.scored
        evaluation = _evaluated(job, classes, shares, scored, paths)
        apart = ~twins(job.keys, division)
        without = None
        if not apart.all() and apart.any():
            rest = _evaluated(job, classes, shares[apart], scored[apart], paths)
            without = _in_short(rest)
        return _Scored(final, division.scored_on, evaluation, (division,), without, tuple(notes))
    parts = _folds(job)
    final, notes = _choose(problem, job, division)
    shares, of_folds = _held_out(problem, job, parts, classes)
    evaluation = _evaluated(job, classes, shares, division.scored, paths)
    n_folds = len(parts) // job.n_repeats
    on = f"{n_folds} folds" + (f", {job.n_repeats} times" if job.n_repeats > 1 else "")
    y, keys = job.y[division.scored], job.keys[division.scored]
    notes = [
        *small_classes(y, keys, job.n_folds),
        *notes,
        *(f"In a fold that was scored: {note}" for note in of_folds),
    ]
    return _Scored(final, on, evaluation, tuple(parts), None, tuple(notes))


def _evaluated(
    job: FitJob, classes: NDArray[np.str_], shares: Matrix, rows: Rows, paths: NDArray[np.object_]
) -> Evaluation:
    n_repeats = len(shares) // len(rows)
    return evaluate(
        np.tile(job.y[rows], n_repeats),
        shares,
        [str(label) for label in classes],
        np.tile(job.keys[rows], n_repeats),
        n_repeats=n_repeats,
        paths=list(paths[rows]),
        seed=job.options.seed,
    )


def _folds(job: FitJob) -> list[Division]:
    """Return the folds that are scored, as divisions; of every repeat, each row once."""
    rows = job.division.scored
    parts = []
    for repeat in range(job.n_repeats):
        seed = job.options.seed + repeat
        pairs = make_folds(job.y[rows], job.keys[rows], seed, job.n_folds)
        if not pairs:
            message = (
                "Fewer than two classes have two images that do not belong together, so nothing "
                "can be held out to score. Add images, or a val split: data/train/CLASS, "
                "data/val/CLASS."
            )
            raise FitError(message)
        nothing = np.zeros(0, int)
        parts += [
            Division(rows[train_part], nothing, rows[train_part], rows[test], "folds")
            for train_part, test in pairs
        ]
    return parts


def _held_out(
    problem: Problem, job: FitJob, parts: Sequence[Division], classes: NDArray[np.str_]
) -> tuple[Matrix, list[str]]:
    """Return probabilities of the scored rows, repeat after repeat, and notes."""
    rows = job.division.scored
    place = {int(row): k for k, row in enumerate(rows)}
    n_repeats = sum(len(part.scored) for part in parts) // len(rows)
    shares = np.zeros((n_repeats, len(rows), len(classes)))
    notes: list[str] = []
    per_repeat = len(parts) // n_repeats
    for k, part in enumerate(parts):
        final, said = _choose(problem, job, part)
        X = problem.coordinates[final.choice.normalise][part.scored]
        where = [place[int(row)] for row in part.scored]
        shares[k // per_repeat, where] = final.probabilities(X, classes)
        notes += [note for note in said if note not in notes]
    return shares.reshape(-1, len(classes)), notes


def _choose(problem: Problem, job: FitJob, part: Division) -> tuple[_Final, list[str]]:
    """Choose inside a part, fit what was chosen, and calibrate on what was held out."""
    notes = []
    options = job.options
    if len(np.unique(job.y[part.fitted])) < 2:
        message = "The training images are all of one class. A classifier needs two."
        raise FitError(message)
    if len(part.selected):
        rows = np.concatenate([part.searched, part.selected])
        edge = len(part.searched)
        pairs: list[tuple[Rows, Rows]] = [(np.arange(edge), np.arange(edge, len(rows)))]
    else:
        rows = part.searched
        pairs = make_folds(job.y[rows], job.keys[rows], options.seed)
    choice = search(problem, rows, pairs, options)
    if not pairs and (choice.kind.parameter or len(options.kinds) > 1):
        notes.append("Too few images to choose settings on: scikit-learn's default was used.")
    if not choice.converged:
        notes.append(
            f"{choice.kind.name} ended before it converged. Use --set max_iter=100000, or --C "
            "with smaller values."
        )
    model = train(problem, part.fitted, choice, options)
    found, y = choice.decisions, job.y[choice.rows]
    known = np.unique(job.y[rows])
    wide = np.full((len(found), len(model.classes)), -np.inf)
    wide[:, np.searchsorted(model.classes, known)] = found
    calibrator = calibrate(wide, y, model.classes, job.calibration)
    if not pairs and job.calibration != "none":
        notes.append("Too few images to calibrate on: probabilities are as the decisions are.")
    return _Final(choice, model, calibrator, part.fitted), notes


def _baselines(job: FitJob, scored: _Scored) -> dict[str, Any]:
    """Score the majority class, and the same classifier on pixels and colours."""
    n_right = n_scored = 0
    for part in scored.parts:
        labels, counts = np.unique(job.y[part.fitted], return_counts=True)
        n_right += int(np.sum(job.y[part.scored] == labels[counts.argmax()]))
        n_scored += len(part.scored)
    n_images = len(job.division.scored)
    majority = wilson(n_right * n_images / n_scored, n_images)
    kind = scored.final.choice.kind
    # What looks at single columns takes hours on thousands of pixels.
    kind = kind if kind.is_exact else CLASSIFIERS["logistic"]
    settings = job.options.settings if kind is scored.final.choice.kind else {}
    options = dataclasses.replace(
        job.options, kinds=(kind,), normalise=("l2",), settings=settings, is_fine=False
    )
    own = dataclasses.replace(job, options=options, n_repeats=1)
    span = ExactSpan().fit(picture_rows(job.joined.thumbnails(job.rows)))
    problem = Problem({"l2": span.coordinates_}, job.y)
    evaluation = _score(problem, own).evaluation
    return {
        "majority": dataclasses.asdict(majority),
        "pixels": {"classifier": kind.name, **dataclasses.asdict(evaluation.accuracy)},
    }


def _moved(model: Model, span: ExactSpan) -> Model:
    """Return a linear model of coordinates as one of codes."""
    estimator = copy.copy(model.estimator)
    estimator.coef_ = span.to_code_space(estimator.coef_)
    estimator.n_features_in_ = estimator.coef_.shape[-1]
    centre = None
    if model.centre is not None:
        centre = copy.copy(model.centre)
        centre.mean_ = span.to_code_space(centre.mean_)
    return Model(centre, estimator, model.converged)


def _check_finite(block: Matrix, codes: CodeMatrix) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        message = (
            f"The code of row {codes.rows[0][bad[0]]} is not finite. Extract again with "
            "--overwrite."
        )
        raise StoreError(message)


def _options(  # noqa: PLR0917
    clf: str,
    normalise: str,
    C: Sequence[float] | None,
    settings: Mapping[str, Any] | None,
    class_weight: str | None,
    seed: int,
) -> Options:
    kinds = find_classifiers(clf)
    settings, seed = dict(settings or {}), operator.index(seed)
    if not 0 <= seed < 2**32:  # what NumPy takes
        message = f"No such seed: {seed}. Expected --seed from 0 to 4294967295."
        raise OptionError(message)
    if normalise not in {*get_args(Normalise), "auto"}:
        message = (
            f"No normalisation '{normalise}'. Use --normalise with one of "
            f"{', '.join(get_args(Normalise))}, auto."
        )
        raise OptionError(message)
    if C is not None and (not C or not all(0 < each < np.inf for each in C)):
        message = f"No such C: {', '.join(map(str, C))}. Expected --C with numbers above 0."
        raise OptionError(message)
    if len(kinds) > 1 and settings:
        message = (
            f"--set belongs to one classifier, and --clf {clf} tries several. Choose one of "
            f"{', '.join(kind.name for kind in kinds)}."
        )
        raise OptionError(message)
    if class_weight is not None:
        _check_words(class_weight=class_weight)
        without = [kind.name for kind in kinds if not kind.has_class_weight]
        if without and len(kinds) == 1:
            message = (
                f"{without[0]} cannot weigh classes. Leave out --class-weight, or use --clf "
                "logistic."
            )
            raise OptionError(message)
        kinds = [kind for kind in kinds if kind.has_class_weight]
        settings["class_weight"] = class_weight
    return Options(
        tuple(kinds),
        _NORMALISE_AUTO if normalise == "auto" else (normalise,),
        None if C is None else tuple(C),
        settings,
        seed,
    )


def _check_words(**given: str | None) -> None:
    allowed = {
        "refit": ("all",),
        "duplicates": ("together", "keep"),
        "class_weight": ("balanced",),
    }
    for name, value in given.items():
        if value is not None and value not in allowed[name]:
            flag = "--" + name.replace("_", "-")
            message = f"No such word: {flag} {value}. Expected {flag} {' or '.join(allowed[name])}."
            raise OptionError(message)


def _check_counts(folds: int, repeats: int) -> None:
    if folds < 2 or repeats < 1:
        message = (
            f"Cannot make {folds} folds {repeats} times. Expected --folds 2 or more, and "
            "--repeats 1 or more."
        )
        raise OptionError(message)


def _choose_road(
    options: Options, joined: Joined, n_images: int, n_classes: int, wanted: str
) -> tuple[Road, Options]:
    """Choose a road, and leave of the candidates those that can take it."""
    width = joined.recipe.width
    only = options.kinds[0] if len(options.kinds) == 1 else None
    if only is not None and not only.is_exact and wanted != "streamed":
        if width > _MOST_COLUMNS:
            streams = f", or --road streamed --clf {only.name}" if only.streams else ""
            message = (
                f"{only.name} looks at single columns, and these codes have {width:,}: no more "
                f"than {_MOST_COLUMNS:,} are of use. Extract with --pool avg, or use --clf "
                f"logistic{streams}."
            )
            raise OptionError(message)
        if wanted == "span":
            message = f"{only.name} depends on the axes, which the span turns. Use --road primal."
            raise OptionError(message)
        wanted = "primal"
    road = choose_road(n_images, width, n_classes, wanted)
    if road.name == "streamed":
        kinds = tuple(kind for kind in options.kinds if kind.streams)
    else:
        kinds = tuple(kind for kind in options.kinds if kind.is_exact or road.name == "primal")
        kinds = tuple(
            kind for kind in kinds if kind is only or kind.is_exact or width <= _MOST_COLUMNS
        )
    if not kinds or (road.name == "streamed" and only is None):
        message = (
            f"The road streamed fits {', '.join(k.name for k in CLASSIFIERS.values() if k.streams)}"
            f" only, and {n_images} images of {width:,} numbers leave no other. Choose one of them "
            "with --clf."
        )
        raise OptionError(message)
    for kind in kinds if road.is_exact else ():  # descent has parameters of its own
        check_settings(kind, options.settings, on_span=road.name == "span")
    return road, dataclasses.replace(options, kinds=kinds)


def _job_lines(
    joined: Joined, road: Road, options: Options, division: Division, y: NDArray[np.str_]
) -> list[str]:
    exact = "exact" if road.is_exact else "not exact: stochastic gradient descent"
    lines = [
        f"{len(y)} images, {len(np.unique(y))} classes, {joined.recipe.width:,} numbers each",
        f"road {road.name} ({exact}): about {duration(road.seconds)} and "
        f"{road.n_bytes / 1e9:.1f} GB of memory",
    ]
    if road.is_exact:
        plan = plan_of(options, len(division.searched) * 4 // 5, len(np.unique(y)))
        lines += [plan] if plan else []
    return lines


def duration(seconds: float) -> str:
    """Spell an estimate of time.

    Examples
    --------
    >>> duration(0.2), duration(42), duration(400)
    ('1 s', '42 s', '7 min')
    """
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _copies_in_words(
    copies: Sequence[Pair], paths: NDArray[np.object_], y: NDArray[np.str_]
) -> list[str]:
    """Say how many copies there are, and which of them have different labels."""
    notes = []
    if copies:
        n_exact = sum(pair.exact for pair in copies)
        first = copies[0]
        notes.append(
            f"{len(copies)} pairs of images are copies ({n_exact} of the same bytes): they share "
            f"a fold (--duplicates keep: they need not). The first: {paths[first.first]} and "
            f"{paths[first.second]}."
        )
    other = conflicting(copies, list(y))
    if other:
        first = other[0]
        notes.append(
            f"{len(other)} pairs of copies have different labels. The first: "
            f"{paths[first.first]} ({y[first.first]}) and {paths[first.second]} "
            f"({y[first.second]})."
        )
    return notes


def _tried(tried: Tried) -> dict[str, Any]:
    return {
        "classifier": tried.kind.name,
        "normalise": tried.normalise,
        "value": tried.value,
        "accuracy": tried.accuracy,
    }


def _copy(pair: Pair, job: FitJob) -> dict[str, Any]:
    paths = job.joined.images.path[job.rows]
    return {
        "first": str(paths[pair.first]),
        "second": str(paths[pair.second]),
        "same_bytes": pair.exact,
        "correlation": round(pair.correlation, 4),
    }


def _provenance(joined: Joined) -> dict[str, Any]:
    return {
        "codes": [str(path.absolute()) for path in joined.paths],
        "extraction": joined.provenance,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "fitted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
