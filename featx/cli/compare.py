"""`featx compare`: from two models and labelled images to the difference of their accuracies."""

from typing import TYPE_CHECKING

from featx.cli.console import (
    print_json,
    print_table,
    progress_bar,
    say,
    say_notes,
    show,
    start_backend,
)
from featx.cli.options import AsJson, ComparisonOptions, Quiet
from featx.text import counted

if TYPE_CHECKING:
    from featx.workflows import Comparison

# Images of each kind that are listed; --json has all of them.
_MOST_PATHS = 5


def command(options: ComparisonOptions, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Compare two models on the same labelled images.

    Images that one of the models was fitted on are left out. Each model uses the stores of its
    recipe, or computes its own codes of the images.
    """
    from featx.workflows import prepare_comparison, run_comparison

    job = prepare_comparison(**options.as_settings())
    if job.model.joined is None:
        say(f"device {start_backend(options.device)[1]}", quiet=quiet)
    with progress_bar("compare", quiet=quiet) as progress:
        found = run_comparison(job.with_progress(progress))
    say_notes(found.notes, quiet=quiet)
    if as_json:
        print_json(found.to_dict())
        return
    _print(found, quiet=quiet)


def _print(found: "Comparison", *, quiet: bool) -> None:
    baseline, model = found.names
    difference = found.difference
    show(f"compared on {counted(found.n_images, 'image')}")
    print_table(
        ("", "accuracy", "95 % interval"),
        [
            (name, f"{score.value:.3f}", score.ends())
            for name, score in ((baseline, found.baseline), (model, found.model))
        ]
        + [("difference", f"{difference.value:+.3f}", difference.ends("+.3f"))],
    )
    if not quiet:
        show()
        print_table(
            ("", f"{model} correct", f"{model} wrong"),
            [
                (f"{baseline} correct", found.both_correct, found.only_baseline_correct),
                (f"{baseline} wrong", found.only_model_correct, found.both_wrong),
            ],
        )
        show()
        _print_disagreements(found)
    show(found.verdict)


def _print_disagreements(found: "Comparison") -> None:
    for k, name in enumerate(found.names):
        own = [each for each in found.disagreements if each.label == (each.baseline, each.model)[k]]
        if not own:
            continue
        more = len(own) - _MOST_PATHS
        rest = f" (all {len(own)}: --json)" if more > 0 else ""
        show(f"only {name} is correct{rest}:")
        for each in own[:_MOST_PATHS]:
            other = (each.model, each.baseline)[k]
            show(f"  {each.path}: {each.label}, not {other}")
        show()
