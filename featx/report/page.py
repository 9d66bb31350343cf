"""The page: contents in, one HTML file out that needs nothing else.

Names of files and classes are untrusted text: the template escapes all that is not an
SVG or a style sheet made here, and the page's policy lets no script run but its own.
"""

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import OptionError
from featx.outputs import check_output, whole_file
from featx.report.axes import shown, signed
from featx.report.contents import Contents, Missing
from featx.report.gathering import (
    HeatMapJob,
    find_source,
    gather,
    prepare_heat_maps,
    run_heat_maps,
)
from featx.report.sections import figures_of, images_of, safe
from featx.report.shelf import MOST_A_CELL, MOST_TELLING, MOST_THUMBNAILS
from featx.report.thumbnails import COLUMNS
from featx.text import counted

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["ReportJob", "prepare_report", "render", "run_report", "write_report"]


@dataclass(frozen=True)
class ReportJob:
    """What a page will say, and where it is written; `prepare_report` makes it.

    Parameters
    ----------
    contents : Contents
        All but the heat maps.
    heat_maps : HeatMapJob or None
        Those that will be drawn: for these the network runs.
    output : Path
        The page.
    """

    contents: Contents
    heat_maps: HeatMapJob | None
    output: Path


def write_report(source: Path | str, output: Path | str = "report.html", **settings: Any) -> Path:
    """Write one HTML page about a classifier, a sweep or a fine-tuning.

    It needs no network and no other file. Images are shown by their thumbnails, which
    the codes' store holds; the classifier predicts them from its codes again. Only for
    heat maps a few images go through the network.

    Parameters
    ----------
    source : Path or str
        A bundle; or the folder of a sweep or of a fine-tuning.
    output : Path or str, default="report.html"
        The page.
    **settings
        Those of `prepare_report`.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    OptionError, ExistsError
        The source is none of these, or the page cannot be written there.
    ModelError
        The source cannot be read.
    """
    return run_report(prepare_report(source, output, **settings))


def prepare_report(
    source: Path | str,
    output: Path | str = "report.html",
    *,
    codes: Path | str | Sequence[Path | str] = (),
    labels: Path | str | None = None,
    heat_maps: int = 6,
    trust: bool = False,
    overwrite: bool = False,
) -> ReportJob:
    """Gather what a page says; TensorFlow is not imported.

    Parameters
    ----------
    source, output : Path or str
        See `write_report`, also for what is raised.
    codes : Path, str or sequence of them, optional
        The stores that a bundle was fitted on, if they lie elsewhere now.
    labels : Path or str, optional
        The table that gave a bundle's images labels or splits, if it lies elsewhere now.
    heat_maps : int, default=6
        How many of the most confident mistakes, and of the least certain hits, are
        shown with what each place adds to the decision. Only for classifiers whose
        decisions are such sums, and where the image files still lie; 0 for none.
    trust : bool, default=False
        Whether to open a .joblib bundle, which can run any code of its maker.
    overwrite : bool, default=False
        Whether a file of that name may be replaced.

    Returns
    -------
    ReportJob
        For `run_report`.
    """
    if not 0 <= heat_maps <= MOST_TELLING:
        message = f"Cannot draw {heat_maps} heat maps. Expected 0 to {MOST_TELLING} of each kind."
        raise OptionError(message)
    found = find_source(source)
    path = check_output(output, overwrite=overwrite, suffixes=(".html", ".htm"))
    stores = [codes] if isinstance(codes, str | Path) else list(codes)
    contents = gather(found, codes=stores, labels=labels, trust=trust)
    job = prepare_heat_maps(contents, heat_maps)
    if isinstance(job, Missing):
        return ReportJob(dataclasses.replace(contents, heat_maps=job), None, path)
    return ReportJob(contents, job, path)


def run_report(job: ReportJob) -> Path:
    """Write the page of a job, and return where it is."""
    contents = job.contents
    if job.heat_maps is not None:
        contents = dataclasses.replace(contents, heat_maps=run_heat_maps(job.heat_maps))
    text = render(contents)
    with whole_file(job.output) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    return job.output


def render(contents: Contents) -> str:
    """Return the page of some contents.

    Parameters
    ----------
    contents : Contents
        Of `featx.report.gathering.gather`.
    """
    script = files("featx.report").joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            contents=contents,
            script=safe(script),
            script_digest=f"sha256-{digest}",
            version=version("featx"),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            columns=COLUMNS,
            counted=counted,
            most_a_cell=MOST_A_CELL,
            most_thumbnails=MOST_THUMBNAILS,
            **figures_of(contents),
            **images_of(contents),
        )
    )


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("featx", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "percent": lambda value: f"{100 * value:.2f}%",
        "short": lambda value: f"{value:.3g}",
        "signed": signed,
        "interval": lambda score: f"{score.low:.3f} to {score.high:.3f}",
    }
    made.filters.update(filters)
    return made


def _visible(value: Any) -> Any:
    """Return words without what is not seen, such as marks that turn the writing around."""
    # Not what is marked as safe, which is a type of its own.
    return shown(value, len(value)) if type(value) is str else value
