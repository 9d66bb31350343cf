"""`featx explain`: from a model and images to heat maps."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli.console import print_json, print_table, progress_bar, say, show, start_backend
from featx.cli.options import AsJson, ExplanationOptions, Overwrite, Quiet
from featx.text import counted

if TYPE_CHECKING:
    from featx.workflows import Explanation


def command(
    options: ExplanationOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write heat maps and explain.json to.")
    ] = Path("explained"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw heat maps of the contributions to a decision score.

    For a linear classifier, the contributions of all positions and a constant add up to the
    decision score exactly. For other classifiers, occlusion approximates them: a grey square
    is moved over the image.
    """
    from featx.outputs import whole_file
    from featx.report import explanation_figure
    from featx.workflows import figure_paths, prepare_explanation, run_explanation

    job = prepare_explanation(**options.as_settings())
    figures = figure_paths(job, output, overwrite=overwrite)
    if job.approximate_because is not None:
        say(
            f"note: {job.approximate_because}, so the heat maps are approximated by occlusion: a "
            "grey square is moved over each image",
            quiet=quiet,
        )
    say(f"device {start_backend(options.device)[1]}", quiet=quiet)
    rows: list[tuple[str, ...]] = []
    results: list[dict[str, Any]] = []
    with progress_bar("explain", quiet=quiet) as progress:
        for image, found in run_explanation(dataclasses.replace(job, progress=progress)):
            output.mkdir(exist_ok=True)
            with whole_file(figures[image]) as temporary:
                explanation_figure(found).savefig(temporary, format="png", dpi=150)
            results.append({"figure": figures[image].name, **found.to_dict()})
            rows.append(_row(found, figures[image]))
    content = {"model": str(options.model), "explanations": results}
    with whole_file(output / "explain.json") as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    if as_json:
        print_json(content)
        return
    print_table(("figure", "class", "p", "decision score", "positions", "constant"), rows)
    n_failed = job.n_images - len(rows)
    failed = f"; {counted(n_failed, 'image')} could not be read" if n_failed else ""
    show(f"{output}: {counted(len(rows), 'heat map')}, {job.method}{failed}")


def _row(found: "Explanation", path: Path) -> tuple[str, ...]:
    constant = "-" if found.constant is None else f"{found.constant:+.3f}"
    positions = "-" if found.constant is None else f"{found.contributions.sum():+.3f}"
    scores = (f"{found.probability:.3f}", f"{found.decision_score:+.3f}", positions, constant)
    return path.name, found.label, *scores
