"""`featx explain`: a bundle and images to heat maps of what each place adds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli.console import (
    AsJson,
    Overwrite,
    Quiet,
    print_json,
    print_table,
    progress_bar,
    say,
    start_backend,
)
from featx.cli.models import Codes, PrecisionText, Trust, Weights
from featx.cli.options import Device
from featx.text import counted

if TYPE_CHECKING:
    from featx.workflows import Explanation

NAME = "explain"


def command(
    model: Annotated[Path, typer.Argument(help="The bundle, or tuned.keras.")],
    images: Annotated[list[str], typer.Argument(help="Images and folders of images.")],
    label: Annotated[
        str | None,
        typer.Option("--class", metavar="LABEL", help="Of the decision; else the predicted one."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for NAME.png and explain.json.")
    ] = Path("explained"),
    cells: Annotated[
        int, typer.Option(metavar="N", help="Where a square is moved over images: N x N cells.")
    ] = 7,
    codes: Codes = None,
    trust: Trust = False,
    weights: Weights = None,
    precision: PrecisionText = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw what each place of an image adds to a decision.

    For a linear classifier places and a constant add up to the decision, exactly. For
    others a grey square is moved over the image: an approximation.
    """
    import dataclasses

    from featx.workflows import figure_paths, prepare_explanation, run_explanation

    job = prepare_explanation(
        images,
        model=model,
        label=label,
        cells=cells,
        codes=codes,
        trust=trust,
        weights=weights,
        precision=precision,  # type: ignore[arg-type]  # the recipe checks it
        device=device,
    )
    figures = figure_paths(job, output, overwrite=overwrite)
    if job.approximate_because is not None:
        say(
            f"note: {job.approximate_because}, so a grey square is moved over each image "
            "(occlusion): an approximation",
            quiet=quiet,
        )
    say(f"device {start_backend(device)[1]}", quiet=quiet)
    rows: list[tuple[str, ...]] = []
    numbers: list[dict[str, Any]] = []
    with progress_bar("explain", quiet=quiet) as progress:
        for image, found in run_explanation(dataclasses.replace(job, progress=progress)):
            output.mkdir(exist_ok=True)
            _draw(found, figures[image])
            numbers.append({"figure": figures[image].name, **found.to_dict()})
            rows.append(_row(found, figures[image]))
    content = {"model": str(model), "explanations": numbers}
    _write(content, output / "explain.json")
    if as_json:
        print_json(content)
        return
    print_table(("figure", "class", "p", "decision", "places", "constant"), rows)
    n_failed = job.prediction.n_images - len(rows)
    failed = f"; {n_failed} could not be read" if n_failed else ""
    print(f"{output}: {counted(len(rows), 'explanation')}, {job.method}{failed}")


def _draw(found: "Explanation", path: Path) -> None:
    from featx.outputs import whole_file
    from featx.report import explanation_figure

    figure = explanation_figure(found)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _write(content: dict[str, Any], path: Path) -> None:
    from featx.outputs import whole_file

    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _row(found: "Explanation", path: Path) -> tuple[str, ...]:
    constant = "-" if found.constant is None else f"{found.constant:+.3f}"
    places = "-" if found.constant is None else f"{found.contributions.sum():+.3f}"
    shown = (f"{found.probability:.3f}", f"{found.decision:+.3f}", places, constant)
    return path.name, found.label, *shown
