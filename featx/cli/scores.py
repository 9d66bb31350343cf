"""The scores of an evaluation as text.

An evaluation comes in; lines on stdout go out. `fit` and `evaluate` share this file, so that
they print the same score in the same place.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.cli.console import print_table, show
from featx.text import counted

if TYPE_CHECKING:
    from featx.metrics import Evaluation, PositiveScores

__all__ = ["print_scores"]

# A larger confusion matrix does not fit into a terminal.
_MOST_CLASSES = 20


def print_scores(
    evaluation: "Evaluation", *, quiet: bool, comparisons: Sequence[tuple[str, str]] = ()
) -> None:
    """Print the scores of an evaluation, its classes and its confusion matrix.

    Parameters
    ----------
    evaluation : Evaluation
        The scores.
    quiet : bool
        Leave out the tables of classes and confusions.
    comparisons : sequence of (str, str)
        Names and values to print below the accuracy, to be compared with it.
    """
    lines = [
        ("accuracy", str(evaluation.accuracy)),
        *comparisons,
        ("balanced accuracy", str(evaluation.balanced_accuracy)),
        ("macro F1", str(evaluation.macro_f1)),
        *(
            (name, str(score))
            for name, score in (
                ("log loss", evaluation.log_loss),
                ("Brier score", evaluation.brier),
            )
            if score is not None
        ),
        (
            "calibration error",
            f"{evaluation.calibration_error}, {evaluation.calibration_bins} bins",
        ),
    ]
    if evaluation.top5 is not None:
        lines.append(("top-5 accuracy", str(evaluation.top5)))
    if evaluation.positive is not None:
        lines += _positive_lines(evaluation.positive)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        show(f"{name:{width}}  {value}")
    if quiet:
        return
    show()
    _print_classes(evaluation)
    show()
    _print_confusion(evaluation)
    _print_worst(evaluation)


def _positive_lines(positive: "PositiveScores") -> list[tuple[str, str]]:
    """Return the scores of the positive class; those that are not defined are left out."""
    scores = [
        ("ROC AUC", positive.roc_auc),
        ("average precision", positive.average_precision),
        ("  recall", positive.recall),
        ("  precision", positive.precision),
        ("  F1", positive.f1),
    ]
    of = f"{positive.label}, {counted(positive.n_positive, 'image')}"
    found = [("positive class", of), ("predicted label", positive.decision)]
    return found + [(name, str(score)) for name, score in scores if score is not None]


def _print_classes(evaluation: "Evaluation") -> None:
    print_table(
        ("class", "precision", "recall", "95 % interval", "F1", "images"),
        [
            (
                each.label,
                f"{each.precision:.2f}",
                f"{each.recall:.2f}",
                each.recall_score.ends(".2f"),
                f"{each.f1:.2f}",
                each.images,
            )
            for each in evaluation.per_class
        ],
    )


def _print_confusion(evaluation: "Evaluation") -> None:
    labels = evaluation.labels
    if len(labels) > _MOST_CLASSES:
        show(f"confusion matrix of {len(labels)} classes: use --json")
    else:
        rows = zip(labels, evaluation.confusion, strict=True)
        print_table(["true \\ predicted", *labels], [[name, *row] for name, row in rows])
    show()


def _print_worst(evaluation: "Evaluation") -> None:
    if not evaluation.confusions:
        return
    show("most frequent confusions:")
    for each in evaluation.confusions:
        where = f": {', '.join(each.paths)}" if each.paths else ""
        show(f"  {each.n} of {each.true} predicted as {each.predicted}{where}")
    show()
