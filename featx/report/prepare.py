"""The report job: its source is read before anything is written.

Settings come in; a job goes out with the contents of the page. Heat maps, for which images
go through the network, are only planned here.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from featx.outputs import check_output
from featx.report.contents import Contents, Missing
from featx.report.gathering.heat_maps import HeatMapJob, prepare_heat_maps
from featx.report.gathering.sources import gather
from featx.report.settings import ReportSettings
from featx.signatures import takes_fields_of

__all__ = ["ReportJob", "prepare_report"]


@dataclass(frozen=True)
class ReportJob:
    """A report that is ready to run; `prepare_report` makes it.

    Parameters
    ----------
    contents : Contents
        The contents without heat maps.
    heat_maps : HeatMapJob or None
        The heat maps to compute.
    output : Path
        The HTML file to write.
    """

    contents: Contents
    heat_maps: HeatMapJob | None
    output: Path


@takes_fields_of(ReportSettings)
def prepare_report(settings: ReportSettings) -> ReportJob:
    """Read the source of a report, and plan its heat maps.

    Nothing is written, and TensorFlow is not imported. Nothing is fetched from a server
    without `fetch`.

    Returns
    -------
    ReportJob
        For `run_report`.

    Raises
    ------
    OptionError, ExistsError
        The source is not a model, a sweep or a fine-tuning, or the file cannot be written.
    ModelError
        The source cannot be read.
    """
    output = check_output(settings.output, overwrite=settings.overwrite, suffixes=(".html", ".htm"))
    contents = gather(settings)
    heat_maps = prepare_heat_maps(contents, settings.heat_maps, fetch=settings.fetch)
    if isinstance(heat_maps, Missing):
        return ReportJob(dataclasses.replace(contents, heat_maps=heat_maps), None, output)
    return ReportJob(contents, heat_maps, output)
