"""`featx fit`: from stores to a model with scores."""

from typing import TYPE_CHECKING, Any

from featx.cli.console import duration, gigabytes, on_cluster, print_json, say, say_notes, show
from featx.cli.options import AsJson, ClusterName, FitOptions, Quiet
from featx.cli.scores import print_scores
from featx.text import counted

if TYPE_CHECKING:
    from featx.fitting import Fit, FitJob


def command(
    options: FitOptions,
    cluster: ClusterName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit a classifier on codes and evaluate it on unseen images.

    With splits, it is fitted on train and evaluated on test, or on val if there is no test.
    Without splits, it is evaluated by stratified cross-validation. Hyperparameters are chosen
    within the training set only.
    """
    from featx.fitting import prepare_fit, run_fit

    job = prepare_fit(**options.as_settings())
    for line in _job_lines(job):
        say(line, quiet=quiet)
    with on_cluster(cluster, quiet=quiet) as workers:
        fitted = run_fit(job, cluster=workers)
    say_notes(fitted.notes, quiet=quiet)
    facts = fitted.to_dict()
    if as_json:
        print_json(facts)
        return
    _print_fit(fitted, quiet=quiet)
    n_train = counted(facts["n_train"], "image")
    show(f"{options.output}: {facts['classifier']}, fitted on {n_train}")
    say(f"Next: featx predict IMAGES --model {options.output}", quiet=quiet)


def _job_lines(job: "FitJob") -> list[str]:
    """Return lines on what will be done."""
    from featx.fitting.selection import plan_of

    solver, n_classes = job.solver, len(set(job.y))
    exact = "exact" if solver.is_exact else "approximate: stochastic gradient descent"
    lines = [
        f"{counted(len(job.y), 'image')}, {n_classes} classes, "
        f"{counted(job.joined.recipe.n_features, 'feature')} per image",
        f"solver {solver.name} ({exact}): about {duration(solver.seconds)} and "
        f"{gigabytes(solver.n_bytes)} of memory",
    ]
    if solver.is_exact and (plan := plan_of(job.space, len(job.split.search_rows), n_classes)):
        lines.append(plan)
    return lines


def _print_fit(fitted: "Fit", *, quiet: bool) -> None:
    facts = fitted.to_dict()
    chosen = [f"{name} = {_text(value)}" for name, value in facts["parameters"].items()]
    if facts["components"] is not None:
        whitened = "whitened " if facts["whiten"] else ""
        chosen.insert(0, counted(facts["components"], f"{whitened}component"))
    what = f"{facts['classifier']} on {'+'.join(facts['layers'])}"
    show(", ".join([what, f"normalise {facts['normalise']}", *chosen]))
    # The clock cannot measure the speed of a few rows.
    if (facts["gflops"] or 0) >= 1:
        say(f"inner products: {facts['gflops']:.0f} GFLOP/s", quiet=quiet)
    if len(facts["tried"]) > 1:
        for tried in facts["tried"]:
            fraction = tried["fraction"]
            of = "" if fraction == 1 else f", fitted on {100 * fraction:g} % of the images"
            say(
                f"  {tried['accuracy']:.3f} in the search: {tried['classifier']}, "
                f"{tried['normalise']}{of}",
                quiet=quiet,
            )
    show(f"scored on {facts['scored_on']}, {counted(facts['n_images'], 'image')}")
    print_scores(fitted.evaluation, quiet=quiet, comparisons=_comparisons(facts))


def _comparisons(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return lines to print below the accuracy."""
    from featx.metrics import Score

    lines = []
    if len(repeats := facts["repeat_accuracies"]) > 1:
        found = f"{min(repeats):.3f} to {max(repeats):.3f}"
        lines.append((f"  single repeats ({len(repeats)})", found))
    if facts["without_duplicates"]:
        rest = facts["without_duplicates"]
        n_images = counted(rest["n_images"], "image")
        lines.append((f"  without duplicates, {n_images}", str(Score(**rest["accuracy"]))))
    if facts["baselines"]:
        pixels = dict(facts["baselines"]["pixels"])
        lines.append((f"  {pixels.pop('classifier')} on raw pixels", str(Score(**pixels))))
        lines.append(("  majority class", str(Score(**facts["baselines"]["majority"]))))
    return lines


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
