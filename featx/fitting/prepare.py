"""Preparing a fit: all that can go wrong before codes are read goes wrong here.

Stores, a table and words come in; a job goes out: which rows, in which parts,
what is chosen from, by which road. Labels, groups and thumbnails are read,
codes are not.
"""

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.choices import (
    Calibration,
    Classifier,
    ClassWeight,
    Duplicates,
    Normalise,
    Refit,
    Select,
    Solver,
    check_choice,
    choices_of,
)
from featx.codes.joining import JoinedStores, join_stores
from featx.codes.matrix import Rows
from featx.dataset.duplicates import DuplicatePair, find_duplicates, with_conflicting_labels
from featx.dataset.folds import DEFAULT_FOLDS, group_numbers
from featx.dataset.labels import check_columns, relabel
from featx.dataset.splits import (
    DataSplit,
    check_complete,
    inner_folds,
    leak_notes,
    make_split,
    outer_folds,
    usable_rows,
)
from featx.errors import FitError, OptionError
from featx.fitting.classifiers import CLASSIFIERS, check_settings
from featx.fitting.settings import (
    check_counts,
    check_words,
    component_count,
    options_of,
)
from featx.fitting.single_fit import Options
from featx.fitting.solvers import SolverPlan, choose_solver
from featx.outputs import check_output
from featx.text import counted

__all__ = ["FitJob", "prepare_fit"]

# Wider than this no classifier that looks at single columns is of use, or ends in time.
_MOST_COLUMNS = 4096
# Axes of components that are more than this are said beforehand.
_LARGE_BYTES = 500_000_000
# Up to here, where it takes seconds, lda competes with those that the span serves.
_QUICK_COLUMNS = 1024


@dataclass(frozen=True)
class FitJob:
    """What a fit will do; `prepare_fit` makes it, and nothing large was read yet.

    Parameters
    ----------
    joined : JoinedStores
        The stores.
    rows : ndarray of int, shape (n,)
        Images that are labelled and have codes.
    y : ndarray of str, shape (n,)
        Their labels.
    groups : ndarray of int, shape (n,)
        Equal where images belong together.
    split : DataSplit
        Which are chosen on, fitted on and scored.
    copies : tuple of DuplicatePair
        Pictures that are there twice.
    road : SolverPlan
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
    notes : tuple of str
        What the user should know.
    given : mapping of str to object
        The settings of `prepare_fit` that make the same fit again, as JSON has them.
    """

    joined: JoinedStores
    rows: Rows
    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    split: DataSplit
    copies: tuple[DuplicatePair, ...]
    road: SolverPlan
    options: Options
    calibration: Calibration
    n_folds: int
    n_repeats: int
    refit: bool
    baselines: bool
    output: Path | None
    notes: tuple[str, ...]
    given: Mapping[str, Any]


def prepare_fit(  # noqa: PLR0913  flat, as on the command line
    codes: Path | str | Sequence[Path | str] = "codes.h5",
    *,
    clf: Classifier = "logistic",
    layer: str | Sequence[str] | None = None,
    normalise: Normalise = "l2",
    solver: Solver = "auto",
    C: float | Sequence[float] | None = None,
    settings: Mapping[str, Any] | None = None,
    components: int | None = None,
    whiten: bool = False,
    class_weight: ClassWeight | None = None,
    calibration: Calibration = "temperature",
    folds: int = DEFAULT_FOLDS,
    repeats: int = 1,
    select: Select | None = None,
    refit: Refit | None = None,
    duplicates: Duplicates = "together",
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
        or "auto", which tries the first seven (lda where codes have at most 1,024
        numbers) and prefers a linear one within a standard error of the best.
    layer : str or sequence of str, optional
        Layers to use; all by default, joined with equal weight.
    normalise : {"l2", "centre", "sqrt-l2", "none", "auto"}, default="l2"
        "l2": rows of unit length. "centre": these minus their mean in the
        training part, at unit length again. "sqrt-l2": unit length after the
        signed square root of each number. "none": codes as they are. "auto":
        chosen, from the first three, with the classifier.
    solver : {"auto", "primal", "gram", "streamed"}, default="auto"
        See `featx.fitting.solvers`.
    C : float or sequence of float, optional
        Penalties to try, as scikit-learn's C on the normalised codes (1 / C is
        ridge's alpha), instead of 28 from 1e-3 to 1e6.
    settings : mapping of str to object, optional
        Parameters of the estimator; one that is given is not searched.
    components : int, optional
        Principal components of the normalised codes [2]_ that the classifier
        sees instead of these. Their axes are found anew in every training part,
        those of the folds of the search too, so that nothing that is held out
        or scored is ever behind them. They go into the bundle, (components,
        numbers of a code) in float32, and no classifier then needs the codes
        that it was fitted on. Every classifier is exact on them at any width,
        also those that look at single columns.
    whiten : bool, default=False
        Whether each component is divided by its standard deviation in the
        training part [3]_. Needs `components`.
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
        For `run_fit`.

    Raises
    ------
    OptionError, ExistsError, StoreError, RecipeMismatchError, FitError
        See `featx.fit`.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
       Modern Neural Networks", 2017. https://arxiv.org/abs/1706.04599
    .. [2] K. Pearson, "On Lines and Planes of Closest Fit to Systems of Points in
       Space", Philosophical Magazine 2(11), 1901.
    .. [3] H. Jegou and O. Chum, "Negative evidences and co-occurrences in image
       retrieval: the benefit of PCA and whitening", ECCV 2012.
    """
    components = component_count(components, whiten=whiten)
    given = {
        "clf": clf,
        "layer": layer,
        "normalise": normalise,
        "solver": solver,
        "C": C if C is None else [float(each) for each in np.atleast_1d(C)],
        "settings": None if settings is None else dict(settings),
        "components": components,
        "whiten": whiten,
        "class_weight": class_weight,
        "calibration": calibration,
        "folds": folds,
        "repeats": repeats,
        "select": select,
        "refit": refit,
        "duplicates": duplicates,
        "labels": None if labels is None else str(Path(labels).absolute()),
        "label_column": label_column,
        "split_column": split_column,
        "group_column": group_column,
        "seed": seed,
    }
    options = dataclasses.replace(
        options_of(clf, normalise, C, settings, class_weight, seed),
        components=components,
        whiten=whiten,
    )
    check_choice("calibration", calibration, choices_of(Calibration))
    check_counts(folds, repeats)
    check_words(refit=refit, duplicates=duplicates)
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
    split, unsplit = make_split(joined.path, images.split[rows], select=select)
    y = images.label[rows].astype(str)
    copies: tuple[DuplicatePair, ...] = ()
    if duplicates == "together":
        copies = find_duplicates(images.sha256[rows], images.phash[rows], joined.thumbnails(rows))
    groups = group_numbers(images.group[rows], pairs=[(pair.first, pair.second) for pair in copies])
    notes += [*left_out, *unsplit, *leak_notes(y, groups, split)]
    notes += _copies_in_words(copies, images.path[rows], y)
    if options.components is not None:
        parts = [split]
        if split.scored_on == "folds":
            parts += outer_folds(
                split, y, groups, seed=options.seed, n_folds=folds, n_repeats=repeats
            )
        fewest = _fewest_rows(parts, y, groups, options.seed)
        notes += _check_components(options.components, joined.recipe.width, fewest)
    n_splits = 1 + folds * repeats if split.scored_on == "folds" else 1
    chosen, options = _choose_road(options, joined, y, solver, n_splits)
    if not chosen.is_exact and options.components is not None:
        message = (
            "The road streamed finds no principal components, which come from all rows at once. "
            "Leave out --components, or use --solver gram."
        )
        raise OptionError(message)
    if not chosen.is_exact and (refit or repeats > 1 or select):
        message = (
            "The road streamed fits once, on the training part. Leave out --refit, --repeats and "
            "--select, or use --solver gram."
        )
        raise OptionError(message)
    return FitJob(
        joined=joined,
        rows=rows,
        y=y,
        groups=groups,
        split=split,
        copies=copies,
        road=chosen,
        options=options,
        calibration=calibration,
        n_folds=folds,
        n_repeats=repeats,
        refit=refit == "all",
        baselines=baselines,
        output=path,
        notes=tuple(notes),
        # A parameter of an estimator may be any object: by its words then.
        given=json.loads(json.dumps(given, default=str)),
    )


def _fewest_rows(
    parts: Sequence[DataSplit], y: NDArray[np.str_], groups: NDArray[np.int32], seed: int
) -> int:
    """Return how many rows the smallest part has that anything is fitted on."""
    counts = [len(part.fit_rows) for part in parts]
    for part in parts:
        _, pairs = inner_folds(part, y, groups, seed)
        counts += [len(fitted) for fitted, _ in pairs]
    return min(counts)


def _check_components(components: int, width: int, fewest: int) -> list[str]:
    """Refuse more components than every part of the fit has, and say how large many are."""
    most = min(fewest - 1, width)
    if components > most > 0:  # a part of one image is refused later, for its one class
        why = (
            f"the codes have {counted(width, 'number')}"
            if most == width
            else "the smallest part that is fitted on, inside the folds, has "
            f"{counted(fewest, 'image')}, and their mean is subtracted"
        )
        message = f"Cannot take {components} components: {why}. Use --components {most} or fewer."
        raise OptionError(message)
    n_bytes = 4 * components * width
    if n_bytes <= _LARGE_BYTES:
        return []
    return [
        f"The axes of {components} components of {width:,} numbers are {n_bytes / 1e9:.2f} GB of "
        "the bundle. Fewer --components are less."
    ]


def _choose_road(
    options: Options, joined: JoinedStores, y: NDArray[np.str_], wanted: str, n_splits: int
) -> tuple[SolverPlan, Options]:
    """Choose a road, and leave of the candidates those that can take it."""
    width, components = joined.recipe.width, options.components
    # What a classifier sees. Components are the same on every road, so that all may look at them.
    columns, is_free = (width, False) if components is None else (components, True)
    only = options.kinds[0] if len(options.kinds) == 1 else None
    if only is not None and not only.is_rotation_invariant and wanted != "streamed":
        if columns > _MOST_COLUMNS:
            streams = f", or --solver streamed --clf {only.name}" if only.supports_sgd else ""
            what, remedy = (
                (f"there are {columns:,} components", f"Use --components {_MOST_COLUMNS} or fewer")
                if is_free
                else (f"these codes have {columns:,}", "Extract with --pool avg")
            )
            message = (
                f"{only.name} looks at single columns, and {what}: no more than {_MOST_COLUMNS:,} "
                f"are of use. {remedy}, or use --clf logistic{'' if is_free else streams}."
            )
            raise OptionError(message)
        if wanted == "gram" and not is_free:
            message = f"{only.name} depends on the axes, which the span turns. Use --solver primal."
            raise OptionError(message)
        wanted = wanted if is_free else "primal"
    n_images = len(y)
    # Of several candidates, half of the settings end early.
    n_candidates = max(1.0, len(options.kinds) * len(options.normalise) / 2)
    choose = partial(
        choose_solver,
        n_images,
        width,
        len(np.unique(y)),
        n_searches=n_splits * n_candidates,
        components=components or 0,
    )
    road = choose(wanted)
    if only is None and (wanted, road.name) == ("auto", "gram") and width <= _QUICK_COLUMNS:
        with contextlib.suppress(FitError):  # of too little memory
            road = choose("primal")
    if road.name == "streamed":
        kinds = tuple(kind for kind in options.kinds if kind.supports_sgd)
    else:
        sees_columns = is_free or road.name == "primal"
        kinds = tuple(kind for kind in options.kinds if kind.is_rotation_invariant or sees_columns)
        kinds = tuple(
            kind
            for kind in kinds
            if kind is only or kind.is_rotation_invariant or columns <= _MOST_COLUMNS
        )
    if not kinds or (road.name == "streamed" and only is None):
        message = (
            f"The road streamed fits {', '.join(k.name for k in CLASSIFIERS.values() if k.supports_sgd)}"
            f" only, and {n_images} images of {width:,} numbers leave no other. Choose one of them "
            "with --clf."
        )
        raise OptionError(message)
    for kind in kinds if road.is_exact else ():  # descent has parameters of its own
        check_settings(kind, options.settings, on_gram=road.name == "gram" and not is_free)
    return road, dataclasses.replace(options, kinds=kinds)


def _copies_in_words(
    copies: Sequence[DuplicatePair], paths: NDArray[np.object_], y: NDArray[np.str_]
) -> list[str]:
    """Say how many copies there are, and which of them have different labels."""
    notes = []
    if copies:
        n_exact = sum(pair.exact for pair in copies)
        first = copies[0]
        notes.append(
            counted(len(copies), "pair of images are copies", "pairs of images are copies")
            + f" ({n_exact} of the same bytes): they share a fold (--duplicates keep: they need "
            f"not). The first: {paths[first.first]} and {paths[first.second]}."
        )
    other = with_conflicting_labels(copies, list(y))
    if other:
        first = other[0]
        notes.append(
            counted(
                len(other),
                "pair of copies has different labels",
                "pairs of copies have different labels",
            )
            + f". The first: {paths[first.first]} ({y[first.first]}) and {paths[first.second]} "
            f"({y[first.second]})."
        )
    return notes
