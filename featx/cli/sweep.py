"""`featx sweep`: which layer, pooling and image size work best for a set of images."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from featx.cli.console import (
    gigabytes,
    on_cluster,
    place,
    print_json,
    print_table,
    progress_bar,
    say,
    say_notes,
    show,
    start_backend,
    stoppable,
)
from featx.cli.options import AsJson, ClusterName, Quiet, SweepOptions
from featx.text import counted

if TYPE_CHECKING:
    from featx.workflows.sweeping.results import Sweep, SweepRow


def command(
    options: SweepOptions,
    cluster: ClusterName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the layer, pooling and image size that work best.

    Images pass through the network once per size. All candidates are scored on the same
    held-out images, and nested cross-validation estimates how well the best one will do on
    new images. If a sweep was stopped, run the same command again to resume it.
    """
    from featx.workflows import SweepProgress, prepare_sweep, run_sweep

    device, cluster = place(options.device, cluster)
    job = prepare_sweep(**dataclasses.replace(options, device=device).as_settings())
    first = next(iter(job.extractions.values()))
    n_bytes = sum(each.new_bytes for each in job.extractions.values())
    say(
        f"{counted(first.n_images, 'image')} in {first.listing.root}; "
        f"{counted(len(job.candidates), 'candidate')}; {gigabytes(n_bytes)} on disk for "
        f"{counted(len(job.extractions), 'store')}",
        quiet=quiet,
    )
    say_notes(job.notes, quiet=quiet)
    if cluster is None:
        say(f"device {start_backend(device)[1]}", quiet=quiet)
    with (
        on_cluster(cluster, quiet=quiet) as workers,
        progress_bar("images", quiet=quiet) as images_done,
        stoppable(options.output),
    ):
        progress = SweepProgress(
            stage=lambda text: say(text, quiet=quiet),
            images=images_done,
            candidates=_candidate_lines(quiet),
        )
        found = run_sweep(dataclasses.replace(job, progress=progress), cluster=workers)
    if as_json:
        print_json(found.to_dict())
        return
    say_notes([note for note in found.notes if note not in job.notes], quiet=quiet)
    _print(found)


def _candidate_lines(quiet: bool) -> Callable[[int, int], None]:
    """Return a function that prints how many candidates are scored, after every tenth."""

    def show(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            say(f"{done} of {counted(total, 'candidate')} scored", quiet=quiet)

    return show


def _print(found: "Sweep") -> None:
    from featx.recipe import size_text

    in_order = sorted(found.rows, key=lambda row: (row.size, row.pool, len(row.layers), row.layers))
    print_table(
        (
            *("layer", "pool", "size", "features", "accuracy", "95 % interval", "balanced"),
            *("kB/image", "ms/image", ""),
        ),
        [
            (
                " + ".join(row.layers),
                row.pool,
                size_text(row.size),
                f"{row.n_features:,}",
                f"{row.accuracy.value:.3f}",
                row.accuracy.ends(),
                f"{row.balanced_accuracy.value:.3f}",
                f"{row.bytes_per_image / 1000:,.1f}",
                f"{1000 * row.seconds_per_image:.0f}" if row.seconds_per_image else "-",
                _mark(row, found),
            )
            for row in in_order
        ],
    )
    show(f"expected accuracy on new images (nested cross-validation): {found.expected_accuracy}")
    show(f"best: {found.best}: {_optimistic(found)}")
    if found.cheapest is not found.best:
        show(f"cheapest not significantly worse: {found.cheapest}")
    if found.final is not None:
        on = found.final.to_dict()["scored_on"]
        show(f"best, scored once on {on}: accuracy {found.final.evaluation.accuracy}")
    show(found.domain_verdict.text)
    show(found.more_images_verdict.text)
    extract, fit, tuning = found.commands
    show(f"Next: {extract}")
    show(f"      {fit}")
    show(f"To compare with a fine-tuned network: {tuning}")


def _optimistic(found: "Sweep") -> str:
    """Return the accuracy of the best row, without an interval, which would not contain it."""
    accuracy = f"accuracy {found.best.accuracy.value:.3f}"
    if len(found.rows) == 1:
        return accuracy
    return f"{accuracy}, which is optimistic: the highest of {len(found.rows)} is partly chance"


def _mark(row: "SweepRow", found: "Sweep") -> str:
    if row is found.best:
        return "best"
    return "cheapest" if row is found.cheapest else ""
