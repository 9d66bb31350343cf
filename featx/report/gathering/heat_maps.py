"""Heat maps of the most telling images: contents in, what each place adds to decisions out.

Only here images go through the network again, and only those whose bytes are still
the ones that their codes were taken from. This file draws nothing.
"""

from dataclasses import dataclass

from featx.errors import FeatxError, OptionError
from featx.images import File, read_digest
from featx.report.contents import Contents, HeatMap, Missing, Pictures, as_text
from featx.report.shelf import telling
from featx.text import printable
from featx.workflows import ExplanationJob, prepare_explanation, run_explanation

__all__ = ["HeatMapJob", "prepare_heat_maps", "run_heat_maps"]


@dataclass(frozen=True)
class HeatMapJob:
    """Which of the images will be explained, by number, and how."""

    images: tuple[int, ...]
    explanation: ExplanationJob


def prepare_heat_maps(contents: Contents, n: int) -> HeatMapJob | Missing | None:
    """Find the images that heat maps are drawn of; TensorFlow is not imported.

    Parameters
    ----------
    contents : Contents
        With a classifier, its images and their predictions.
    n : int
        How many of the most confident mistakes, and of the least certain hits.

    Returns
    -------
    HeatMapJob, Missing or None
        None where there are none to draw.
    """
    pictures, bundle = contents.pictures, contents.classifier
    if not n or bundle is None or not isinstance(pictures, Pictures):
        return None
    images = pictures.images
    wanted = [i for kind in telling(images) for i in kind[:n]]
    there = [i for i in wanted if _is_as_it_was(images.files[i], images.sha256[i])]
    if not wanted:
        return None
    if not there:
        return Missing(
            f"No heat maps: {printable(str(images.files[wanted[0]]))} and the others are not there, "
            "or not as they were when their codes were taken. Bring them back to where they lay, "
            "and make the page again."
        )
    classes = {as_text(label): label for label in bundle.classes}
    try:
        job = prepare_explanation(
            [str(images.files[i]) for i in there],
            model=bundle,
            label=[classes[str(images.predicted[i])] for i in there],
        )
    except FeatxError as error:
        return Missing(f"No heat maps: {error}")
    if job.approximate_because is not None:
        return Missing(
            f"No heat maps: {job.approximate_because}, so places do not add up to its decisions. "
            f"An approximation: featx explain {contents.name} IMAGE"
        )
    return HeatMapJob(tuple(there), job)


def run_heat_maps(job: HeatMapJob) -> tuple[HeatMap, ...] | Missing:
    """Run a job.

    Parameters
    ----------
    job : HeatMapJob
        Of `prepare_heat_maps`.
    """
    try:
        return tuple(
            HeatMap(job.images[row], found) for row, found in run_explanation(job.explanation)
        )
    except FeatxError as error:
        return Missing(f"No heat maps: {error}")


def _is_as_it_was(file: File, sha256: str) -> bool:
    try:
        return read_digest(file) == sha256
    except OptionError:  # a URL that cannot be read here
        return False
