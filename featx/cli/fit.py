"""`featx fit`: stores to a bundle with a score."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli import options
from featx.cli.console import (
    AsJson,
    Overwrite,
    Quiet,
    duration,
    gigabytes,
    print_json,
    say,
    say_notes,
)
from featx.cli.scores import print_scores
from featx.errors import OptionError
from featx.text import counted

if TYPE_CHECKING:
    from featx.fitting import Fit, FitJob

NAME = "fit"


def command(
    codes: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A store, or several of the same images, which are joined.",
            show_default="codes.h5",
        ),
    ] = None,
    clf: options.Clf = "logistic",
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="LAYER", help="Layer to use; all of the store by default."),
    ] = None,
    normalise: options.Normalise = "l2",
    solver: Annotated[
        str,
        typer.Option(metavar="auto|primal|gram|streamed", help="How the classifier is fitted."),
    ] = "auto",
    c: Annotated[
        str | None,
        typer.Option("--C", metavar="C,C,…", help="Penalties to try, as scikit-learn's C."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the estimator."),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(metavar="K", help="Principal components to fit on instead of the codes."),
    ] = None,
    whiten: Annotated[
        bool, typer.Option("--whiten", help="Divide each component by its standard deviation.")
    ] = False,
    class_weight: options.ClassWeight = None,
    calibration: Annotated[
        str,
        typer.Option(metavar="temperature|sigmoid|isotonic|none", help="Of probabilities."),
    ] = "temperature",
    folds: options.Folds = 5,
    repeats: Annotated[int, typer.Option(metavar="N", help="How often to draw them.")] = 1,
    select: Annotated[
        str | None,
        typer.Option(metavar="val", help="With train, val and test: choose on val."),
    ] = None,
    refit: Annotated[
        str | None, typer.Option(metavar="all", help="Fit the saved classifier on all images.")
    ] = None,
    duplicates: Annotated[
        str,
        typer.Option(metavar="together|keep", help="Whether copies of a picture share a fold."),
    ] = "together",
    labels: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Other labels, by path, from a table.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its column of labels.")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its column of splits.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its column of groups.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Score the majority class and the pictures' pixels too.")
    ] = True,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle, NAME.skops or NAME.joblib.")
    ] = Path("model.skops"),
    overwrite: Overwrite = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Use a store that is not complete as it is.")
    ] = False,
    seed: options.Seed = 0,
    cluster: options.ClusterName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit a classifier on codes and score it on images it never saw.

    With splits: fitted on train, scored on val, or on test if there is one.
    Without: five stratified folds. What is chosen is chosen inside the training
    part only.
    """
    from featx.fitting import prepare_fit, run_fit
    from featx.fitting.classifiers import read_settings

    # prepare_fit checks the words that mypy cannot.
    job = prepare_fit(
        codes or "codes.h5",
        clf=clf,  # type: ignore[arg-type]
        layer=layer,
        normalise=normalise,  # type: ignore[arg-type]
        solver=solver,  # type: ignore[arg-type]
        C=None if c is None else _numbers(c),
        settings=read_settings(setting or ()),
        components=components,
        whiten=whiten,
        class_weight=class_weight,  # type: ignore[arg-type]
        calibration=calibration,  # type: ignore[arg-type]
        folds=folds,
        repeats=repeats,
        select=select,  # type: ignore[arg-type]
        refit=refit,  # type: ignore[arg-type]
        duplicates=duplicates,  # type: ignore[arg-type]
        labels=labels,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        baselines=baselines,
        output=output,
        overwrite=overwrite,
        partial=partial,
        seed=seed,
    )
    for line in _job_lines(job):
        say(line, quiet=quiet)
    with options.on_cluster(cluster, quiet=quiet) as workers:
        fitted = run_fit(job, cluster=workers)
    say_notes(fitted.notes, quiet=quiet)
    if as_json:
        print_json(fitted.to_dict())
        return
    _print_fit(fitted, quiet=quiet)
    facts = fitted.to_dict()
    print(f"{output}: {facts['classifier']}, fitted on {counted(facts['n_train'], 'image')}")
    say(f"Next: featx predict IMAGES --model {output}", quiet=quiet)


def _job_lines(job: "FitJob") -> list[str]:
    """Say what will be done, before it is."""
    from featx.fitting.selection import plan_of

    solver, n_classes = job.solver, len(set(job.y))
    exact = "exact" if solver.is_exact else "not exact: stochastic gradient descent"
    lines = [
        f"{counted(len(job.y), 'image')}, {n_classes} classes, "
        f"{counted(job.joined.recipe.n_features, 'number')} each",
        f"solver {solver.name} ({exact}): about {duration(solver.seconds)} and "
        f"{gigabytes(solver.n_bytes)} of memory",
    ]
    if solver.is_exact and (plan := plan_of(job.space, len(job.split.search_rows), n_classes)):
        lines.append(plan)
    return lines


def _print_fit(fitted: "Fit", *, quiet: bool) -> None:
    facts = fitted.to_dict()
    chosen = [f"{name} = {_spelt(value)}" for name, value in facts["parameters"].items()]
    what = [facts["classifier"], "on", "+".join(facts["layers"])]
    if facts["components"] is not None:
        whitened = "whitened " if facts["whiten"] else ""
        chosen.insert(0, counted(facts["components"], f"{whitened}component"))
    print(", ".join([" ".join(what), f"normalise {facts['normalise']}", *chosen]))
    # Of few rows it is no speed of anything: they are done before the clock has moved.
    if (facts["gflops"] or 0) >= 1:
        say(f"inner products at {facts['gflops']:.0f} GFLOP/s", quiet=quiet)
    if len(facts["tried"]) > 1:
        for tried in facts["tried"]:
            say(
                f"  {tried['accuracy']:.3f} inside the training part: {tried['classifier']}, "
                f"{tried['normalise']}{_fraction(tried['fraction'])}",
                quiet=quiet,
            )
    print(f"scored on {facts['scored_on']}, {counted(facts['n_images'], 'image')}")
    print_scores(fitted.evaluation, quiet=quiet, beside=_beside(facts))


def _beside(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return lines that stand beside the accuracy."""
    from featx.metrics import Score

    lines = []
    if facts["without_duplicates"]:
        rest = facts["without_duplicates"]
        lines.append(
            (
                f"  without copies, {counted(rest['n_images'], 'image')}",
                str(Score(**rest["accuracy"])),
            )
        )
    if facts["baselines"]:
        pixels = dict(facts["baselines"]["pixels"])
        lines.append((f"  {pixels.pop('classifier')} on pixels", str(Score(**pixels))))
        lines.append(("  majority class", str(Score(**facts["baselines"]["majority"]))))
    return lines


def _fraction(fraction: float) -> str:
    """Say what a candidate was fitted on that did not come to the last round."""
    return "" if fraction == 1 else f", of {100 * fraction:g} % of the rows"


def _spelt(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        message = f"Cannot read --C {text}. Expected numbers with commas, as in --C 1,10,100."
        raise OptionError(message) from error
