"""Cross-validation: predictions of images by classifiers that were not fitted on them.

Coordinates and a job come in; held-out predictions go out. In each fold, settings are chosen and
the classifier is fitted and calibrated on the other folds alone (nested cross-validation).

References
----------
.. [1] G. C. Cawley and N. L. C. Talbot, "On Over-fitting in Model Selection and
   Subsequent Selection Bias in Performance Evaluation", JMLR 2010.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featx.cluster import Cluster
from featx.codes.matrix import Matrix, Rows
from featx.dataset.splits import DataSplit, shares_training_group
from featx.fitting.coordinates import coordinates_of
from featx.fitting.grid_search import Problem
from featx.fitting.prepare import FitJob
from featx.fitting.selection import SelectedClassifier, select_classifier
from featx.metrics.decisions import PositiveClass, predicted_columns
from featx.metrics.evaluation import Evaluation, expand_columns, score_predictions
from featx.metrics.intervals import Sample, Score, paired_difference, proportion
from featx.metrics.two_classes import score_positive

__all__ = [
    "HeldOutPredictions",
    "compare",
    "cross_validate",
    "fit_and_predict",
    "join_folds",
    "predict_rows",
    "select_nested",
    "without_duplicates",
]


@dataclass(frozen=True)
class HeldOutPredictions:
    """Probabilities for images, by classifiers that were not fitted on them.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        Rows of the job, repeat after repeat; each repeat has the same rows in order.
    probabilities : ndarray of shape (n, k)
        Probability of each class.
    y : ndarray of str, shape (n,)
        Labels.
    groups : ndarray of int, shape (n,)
        Equal numbers for images that must stay in one fold.
    classes : tuple of str
        Names of the classes, sorted.
    fold : ndarray of int, shape (n,)
        Fold in which a row was held out, counted over all repeats.
    known : ndarray of bool, shape (n,)
        Whether the classifier was fitted on any image of the class `y`.
    search_accuracy : ndarray of shape (n_folds,)
        Accuracy that the search found inside the training set of each fold.
    notes : tuple of str
        Warnings and other notes for the user.
    positive : PositiveClass, optional
        The positive class of two.
    thresholds : ndarray of shape (n,), optional
        Probability from which on each row is predicted as that class; by default the more
        probable class is predicted.
    """

    rows: Rows
    probabilities: Matrix
    y: NDArray[np.str_]
    groups: NDArray[np.int32]
    classes: tuple[str, ...]
    fold: Rows
    known: NDArray[np.bool_]
    search_accuracy: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(0))
    notes: tuple[str, ...] = ()
    positive: PositiveClass | None = None
    thresholds: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        job: FitJob,
        splits: Sequence[DataSplit],
        probabilities: Sequence[Matrix],
        thresholds: Sequence[float] = (),
        **facts: Any,
    ) -> Self:
        """Return predictions of the held-out rows of each split, with their labels and groups.

        There is a threshold for each split, or none.
        """
        rows = np.concatenate([split.score_rows for split in splits])
        fold = np.repeat(np.arange(len(splits)), [len(split.score_rows) for split in splits])
        known = [np.isin(job.y[split.score_rows], job.y[split.fit_rows]) for split in splits]
        repeat = fold // (len(splits) // int(np.sum(rows == rows[0])))
        order = np.lexsort((rows, repeat))
        positive, rule = job.settings.positive, job.settings.threshold_rule
        if positive is not None:
            facts["positive"] = PositiveClass(positive, rule=None if rule is None else str(rule))
        if thresholds:
            facts["thresholds"] = np.array(thresholds)[fold[order]]
        return cls(
            rows=rows[order],
            probabilities=np.concatenate(probabilities)[order],
            y=job.y[rows[order]],
            groups=job.groups[rows[order]],
            classes=tuple(str(label) for label in np.unique(job.y)),
            fold=fold[order],
            known=np.concatenate(known)[order],
            **facts,
        )

    @property
    def n_repeats(self) -> int:
        """Number of predictions of each image."""
        return int(np.sum(self.rows == self.rows[0]))

    @property
    def n_folds(self) -> int:
        """Number of folds of each repeat."""
        return len(np.unique(self.fold)) // self.n_repeats

    @property
    def predicted(self) -> NDArray[np.str_]:
        """Label that is predicted for each row."""
        label = None if self.positive is None else self.positive.label
        columns = predicted_columns(self.probabilities, self.classes, label, self.thresholds)
        return np.asarray(np.array(self.classes)[columns])

    @property
    def repeat_accuracies(self) -> tuple[float, ...]:
        """Accuracy of each repeat."""
        return tuple(map(float, self.correct.reshape(self.n_repeats, -1).mean(axis=1)))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted label is the label of the image."""
        return np.asarray(self.predicted == self.y)

    @property
    def accuracy(self) -> Score:
        """Fraction of correct predictions."""
        runs = {"n_repeats": self.n_repeats, "n_folds": self.n_folds}
        return proportion(self.correct, self.groups, **runs)

    def evaluation(self, job: FitJob | None = None) -> Evaluation:
        """Score the predictions; a job adds the paths of confused images."""
        n_images = len(self.rows) // self.n_repeats
        paths = None
        if job is not None:
            paths = list(job.joined.images.path[job.rows[self.rows[:n_images]]])
        evaluation = score_predictions(
            self.y,
            self.probabilities,
            list(self.classes),
            self.groups,
            predicted=self.predicted,
            known=self.known,
            n_repeats=self.n_repeats,
            n_folds=self.n_folds,
            paths=paths,
        )
        if self.positive is None:
            return evaluation
        scores = score_positive(
            self.positive,
            self.y,
            self.probabilities,
            self.predicted,
            self.classes,
            Sample.of(len(self.y), self.groups, self.n_repeats, self.n_folds),
            thresholds=self.thresholds,
        )
        return dataclasses.replace(evaluation, positive=scores)

    @property
    def columns(self) -> dict[str, Any]:
        """The arrays with an entry for each row, by name."""
        names = ["rows", "probabilities", "y", "groups", "fold", "known"]
        names += [] if self.thresholds is None else ["thresholds"]
        return {name: getattr(self, name) for name in names}

    def take(self, kept: NDArray[np.bool_]) -> Self:
        """Return the predictions of some of the images."""
        kept_columns = {name: column[kept] for name, column in self.columns.items()}
        return dataclasses.replace(self, **kept_columns)


def fit_and_predict(problem: Problem, job: FitJob) -> tuple[SelectedClassifier, HeldOutPredictions]:
    """Select the classifier of a job, and predict the images that it is scored on.

    Returns
    -------
    SelectedClassifier
        Fitted on the training set; on all images, if no split is given.
    HeldOutPredictions
        Predictions for the given test set by this classifier, or else by cross-validation.

    Raises
    ------
    FitError
        A training set has only one class, or nothing can be held out.
    """
    selected = select_classifier(problem, job, job.split)
    if job.split.scored_on == "folds":
        return selected, cross_validate(job, job.scored_splits, problem=problem)
    probabilities = selected.predict_proba(problem, job.split.score_rows)
    thresholds = [] if selected.threshold is None else [selected.threshold.value]
    return selected, HeldOutPredictions.of(job, [job.split], [probabilities], thresholds)


def cross_validate(
    job: FitJob,
    splits: Sequence[DataSplit] | None = None,
    *,
    problem: Problem | None = None,
    cluster: Cluster | None = None,
) -> HeldOutPredictions:
    """Select a classifier on the training set of each split, and predict its held-out rows.

    Parameters
    ----------
    job : FitJob
        A job with an exact solver.
    splits : sequence of DataSplit, optional
        Folds; by default `job.training_folds`, which do not use a given test set.
    problem : Problem, optional
        Coordinates and labels of the job; computed from its codes by default.
    cluster : Cluster, optional
        Its workers compute the coordinates; see `coordinates_of`.

    Returns
    -------
    HeldOutPredictions
        Predictions for all held-out rows.

    Raises
    ------
    FitError
        No images can be held out, or the training set of a fold has only one class.
    """
    splits = job.training_folds if splits is None else splits
    problem = coordinates_of(job, cluster).problem if problem is None else problem
    selected, probabilities = [], []
    for split in splits:
        selected.append(select_classifier(problem, job, split))
        probabilities.append(selected[-1].predict_proba(problem, split.score_rows))
    return HeldOutPredictions.of(
        job,
        splits,
        probabilities,
        [each.threshold.value for each in selected if each.threshold is not None],
        search_accuracy=np.array([each.choice.accuracy for each in selected]),
        notes=tuple(dict.fromkeys(note for each in selected for note in each.notes)),
    )


def join_folds(parts: Sequence[HeldOutPredictions]) -> HeldOutPredictions:
    """Join predictions for different folds of one cross-validation, in the order of the rows."""
    order = np.argsort(np.concatenate([each.rows for each in parts]))
    before = np.cumsum([0, *(each.fold.max() + 1 for each in parts[:-1])])
    counted = [
        dataclasses.replace(each, fold=each.fold + start)
        for each, start in zip(parts, before, strict=True)
    ]
    columns: dict[str, Any] = {
        name: np.concatenate([each.columns[name] for each in counted])[order]
        for name in parts[0].columns
    }
    search_accuracy = np.concatenate([each.search_accuracy for each in parts])
    notes = tuple(dict.fromkeys(note for each in parts for note in each.notes))
    return dataclasses.replace(parts[0], **columns, search_accuracy=search_accuracy, notes=notes)


def predict_rows(
    job: FitJob,
    predict_proba: Callable[[Matrix], Matrix],
    classes: Sequence[str],
    split: DataSplit,
    threshold: float | None = None,
) -> HeldOutPredictions:
    """Predict the held-out rows of a split with a classifier of codes, a block of rows at a time.

    Parameters
    ----------
    job : FitJob
        The job.
    predict_proba : callable
        From codes to probabilities.
    classes : sequence of str
        Classes of these probabilities.
    split : DataSplit
        What the classifier was fitted on, and the rows to predict.
    threshold : float, optional
        Probability from which on the positive class of the job is predicted.
    """
    blocks = job.joined.matrix(job.rows[split.score_rows]).row_blocks()
    probabilities = np.concatenate([predict_proba(block) for _, block in blocks])
    expanded = expand_columns(probabilities, classes, np.unique(job.y))
    thresholds = [] if threshold is None else [threshold]
    return HeldOutPredictions.of(job, [split], [expanded], thresholds)


def without_duplicates(
    job: FitJob, split: DataSplit, predictions: HeldOutPredictions
) -> dict[str, Any] | None:
    """Score again without images that have a near-duplicate or group in the training set.

    The result is None if there are no such images, or only such images.
    """
    kept = ~shares_training_group(job.groups, split)
    if kept.all() or not kept.any():
        return None
    evaluation = predictions.take(kept).evaluation()
    return {
        "n_images": evaluation.n_images,
        "accuracy": dataclasses.asdict(evaluation.accuracy),
        "balanced_accuracy": dataclasses.asdict(evaluation.balanced_accuracy),
    }


def select_nested(candidates: Sequence[HeldOutPredictions]) -> tuple[HeldOutPredictions, list[int]]:
    """Predict each fold with the candidate that is the best inside its training set.

    The accuracy of the best of many candidates is too high [1]_. Here the choice is repeated in
    each fold, so that the folds do not influence it.

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


def compare(
    one: HeldOutPredictions, other: HeldOutPredictions, *, confidence: float = 0.95
) -> Score:
    """Return how much more accurate `one` is than `other` on the same rows in the same folds.

    Parameters
    ----------
    one, other : HeldOutPredictions
        Neither was chosen by the accuracy of these predictions. If one was, its difference is
        too large; see `paired_difference` for the confidence of the best of several.
    confidence : float, default=0.95
        Confidence of the interval.
    """
    return paired_difference(
        one.correct,
        other.correct,
        one.groups,
        n_repeats=one.n_repeats,
        n_folds=one.n_folds,
        confidence=confidence,
    )
