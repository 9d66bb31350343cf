"""Heat maps of the images to look at: what each position adds to the decision score.

Only here images go through the network again, and only those whose files have not changed
since their codes were extracted. A store names its images and a model names its weights, so
without `fetch` none of them is read from a server. This file does not draw.
"""

from dataclasses import dataclass

from featx.errors import ImagesError, ModelError, OptionError, WeightsError
from featx.fitting import Model
from featx.images import File, is_local, read_digest
from featx.layers import find_layer
from featx.network.weights.download import cached_imagenet
from featx.report.contents import Contents, Images, Missing, as_text, or_missing
from featx.report.page_images import images_to_look_at
from featx.text import printable
from featx.workflows import Explanation, ExplanationJob, prepare_explanation, run_explanation

__all__ = ["HeatMapJob", "prepare_heat_maps", "run_heat_maps"]

_NO_HEAT_MAPS = "There are no heat maps"


@dataclass(frozen=True)
class HeatMapJob:
    """Numbers of the images that will be explained, and the job of the explanation."""

    images: tuple[int, ...]
    explanation: ExplanationJob


def prepare_heat_maps(
    contents: Contents, n: int, *, fetch: bool = False
) -> HeatMapJob | Missing | None:
    """Choose the images that get heat maps; TensorFlow is not imported.

    Parameters
    ----------
    contents : Contents
        The contents of a page.
    n : int
        Number of the most confident mistakes, and of the least confident correct
        predictions.
    fetch : bool, default=False
        Whether to read images and weights from servers.

    Returns
    -------
    HeatMapJob, Missing or None
        None if there is nothing to explain.
    """
    results, model = contents.image_results, contents.model
    if not n or model is None or isinstance(results, Missing):
        return None
    return or_missing(_NO_HEAT_MAPS, lambda: _job(results.images, model, n, contents.name, fetch))


def _job(images: Images, model: Model, n: int, name: str, fetch: bool) -> HeatMapJob:
    chosen = [i for kind in images_to_look_at(images) for i in kind[:n]]
    if not fetch:
        _check_weights(model)
    here = [i for i in chosen if fetch or is_local(images.files[i])]
    if chosen and not here:
        message = (
            f"the images are URLs, such as {printable(str(images.files[chosen[0]]))}, and a report "
            "fetches none. If you trust these addresses, add --fetch"
        )
        raise ImagesError(message)
    unchanged = [i for i in here if _is_unchanged(images.files[i], images.sha256[i])]
    if not unchanged:
        message = (
            "the image files are missing or were changed since their codes were extracted, such as "
            f"{printable(str(images.files[chosen[0]]))}. Put the original files there, and make "
            "the report again."
        )
        raise ImagesError(message)
    classes = {as_text(label): label for label in model.classes}
    job = prepare_explanation(
        [str(images.files[i]) for i in unchanged],
        model=model,
        label=[classes[str(images.predicted[i])] for i in unchanged],
    )
    if job.approximate_because is not None:
        message = f"{job.approximate_because}. An approximation: featx explain {name} IMAGE"
        raise ModelError(message)
    return HeatMapJob(tuple(unchanged), job)


def run_heat_maps(job: HeatMapJob) -> tuple[tuple[int, Explanation], ...] | Missing:
    """Run a job of `prepare_heat_maps`; return numbers of images, and their explanations."""
    explained = run_explanation(job.explanation)
    return or_missing(
        _NO_HEAT_MAPS, lambda: tuple((job.images[row], found) for row, found in explained)
    )


def _check_weights(model: Model) -> None:
    """Refuse weights that would be downloaded."""
    extraction = model.provenance.get("extraction")
    is_named = isinstance(extraction, dict) and extraction.get("weights") == "imagenet"
    has_top = any(find_layer(layer).kind == "dense" for layer in model.recipe.layers)
    if is_named and cached_imagenet(top=has_top) is None:
        message = (
            "the weights imagenet are not on this machine, and a report fetches none. Add --fetch, "
            "or download them first: featx weights fetch imagenet"
        )
        raise WeightsError(message)


def _is_unchanged(file: File, sha256: str) -> bool:
    try:
        return read_digest(file).sha256 == sha256
    except OptionError:  # a URL that cannot be read here
        return False
