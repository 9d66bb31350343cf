"""The run of a report: heat maps are computed, and the page is written."""

import dataclasses
from pathlib import Path

from featx.outputs import whole_file
from featx.report.gathering.heat_maps import run_heat_maps
from featx.report.page import render
from featx.report.prepare import ReportJob, prepare_report
from featx.signatures import prepared_by

__all__ = ["run_report", "write_report"]


@prepared_by(prepare_report)
def write_report(job: ReportJob) -> Path:
    """Write an HTML report about a model, a sweep or a fine-tuning.

    The report is one file that needs no other file and no internet connection. Images are shown
    by the thumbnails in the store, and predicted again from their codes. Only the images with a
    heat map go through the network again.

    Returns
    -------
    Path
        The file.
    """
    return run_report(job)


def run_report(job: ReportJob) -> Path:
    """Run a job of `prepare_report`, and return the file."""
    contents = job.contents
    if job.heat_maps is not None:
        contents = dataclasses.replace(contents, heat_maps=run_heat_maps(job.heat_maps))
    text = render(contents)
    with whole_file(job.output) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    return job.output
