"""`featx fit`: a store to a bundle with a score."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli.console import AsJson, Overwrite, Quiet, print_json, print_table, say

if TYPE_CHECKING:
    from featx.classification import Evaluation, Fit

NAME = "fit"


def command(
    codes: Annotated[Path, typer.Argument(help="A store.")] = Path("codes.h5"),
    clf: Annotated[
        str, typer.Option(metavar="logistic|ridge|linear-svm", help="The classifier.")
    ] = "logistic",
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="Layer to use; all of the store by default."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle.")] = Path(
        "model.skops"
    ),
    overwrite: Overwrite = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Use a store that is not complete as it is.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit a classifier on codes and score it on images it never saw.

    With splits: fitted on train, scored on val, or on test if there is one.
    Without: five stratified folds. The penalty is searched inside the training
    part only.
    """
    from featx.classification import fit

    fitted = fit(
        codes,
        clf=clf,
        layer=layer,
        output=output,
        overwrite=overwrite,
        partial=partial,
        seed=seed,
    )
    for note in fitted.notes:
        say(f"note: {note}", quiet=quiet)
    if as_json:
        print_json(fitted.to_dict())
        return
    _print_scores(fitted, quiet=quiet)
    print(f"{output}: {clf}, fitted on {fitted.to_dict()['n_train']} images")
    say(f"Next: featx predict IMAGES --model {output}", quiet=quiet)


def _print_scores(fitted: "Fit", *, quiet: bool) -> None:
    facts, scores = fitted.to_dict(), fitted.evaluation
    chosen = ", ".join(f"{name} = {value:g}" for name, value in facts["parameters"].items())
    print(f"{facts['classifier']} on {'+'.join(facts['layers'])}, {chosen}")
    print(f"scored on {facts['scored_on']}, {scores.n_images} images")
    print(f"accuracy           {scores.accuracy}")
    print(f"balanced accuracy  {scores.balanced_accuracy}")
    if quiet:
        return
    print()
    print_table(
        ("class", "precision", "recall", "F1", "images"),
        [
            (c.label, f"{c.precision:.2f}", f"{c.recall:.2f}", f"{c.f1:.2f}", c.images)
            for c in scores.per_class
        ],
    )
    print()
    _print_confusion(scores)
    print()


def _print_confusion(scores: "Evaluation") -> None:
    labels = [c.label for c in scores.per_class]
    header = ["true \\ predicted", *labels]
    print_table(header, [[name, *row] for name, row in zip(labels, scores.confusion, strict=True)])
