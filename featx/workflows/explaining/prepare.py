"""Prepare explanations: images and a model come in, a job goes out.

Everything that can be wrong is found here, before the network starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.choices import check_choice
from featx.errors import ImagesError, OptionError, OutputError
from featx.fitting.attribution import why_not_exact
from featx.images import File, Url
from featx.outputs import check_output
from featx.signatures import takes_fields_of
from featx.text import counted
from featx.workflows.explaining.results import Method
from featx.workflows.predicting.prepare import PredictionJob, prepare_job
from featx.workflows.settings import ExplanationSettings

__all__ = ["EXPLANATIONS_FILE", "ExplanationJob", "figure_paths", "prepare_explanation"]

#: Name of the file with the numbers, in a folder of explanations.
EXPLANATIONS_FILE = "explain.json"


@dataclass(frozen=True, kw_only=True)
class ExplanationJob(PredictionJob):
    """Explanations that are ready to run; `prepare_explanation` makes them.

    It has the images, the model and the recipe of a prediction.

    Parameters
    ----------
    labels : tuple of (str or None)
        The class to explain for each image; None for the predicted class.
    approximate_because : str or None
        Why the decision score is not a sum over positions; None if it is.
    cells : int
        Number of cells on each side of the grid over which the grey square is moved.
    """

    labels: tuple[str | None, ...]
    approximate_because: str | None
    cells: int

    @property
    def method(self) -> Method:
        """How images are explained."""
        return "exact" if self.approximate_because is None else "occlusion"


@takes_fields_of(ExplanationSettings)
def prepare_explanation(settings: ExplanationSettings) -> ExplanationJob:
    """Check the settings of explanations and plan the work; TensorFlow is not imported.

    Returns
    -------
    ExplanationJob
        For `run_explanation`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed, or the input is a store.
    ImagesError, ModelError, WeightsError
        The images, the model or the weights cannot be found or used.
    RecipeMismatchError
        The weights differ from those that the model was fitted with.
    """
    job = prepare_job(settings, settings.images)
    model, n_images = job.model, job.n_images
    if job.joined is not None:
        message = (
            f"{job.joined.path} is a store, which holds codes and no images. Use images or "
            "folders of images: featx explain MODEL IMAGES"
        )
        raise OptionError(message)
    if not n_images:
        message = "The folders hold no images, so there is nothing to explain."
        raise ImagesError(message)
    labels = _labels_of(settings.label, n_images, model.classes)
    cells, (height, width) = settings.cells, model.recipe.size
    if not 1 <= cells <= min(height, width):
        message = (
            f"--cells must be from 1 to {min(height, width)} for images of {height}x{width} "
            f"pixels, but it is {cells}."
        )
        raise OptionError(message)
    because = why_not_exact(model)
    return ExplanationJob(**vars(job), labels=labels, approximate_because=because, cells=cells)


def figure_paths(job: ExplanationJob, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Return a path in a folder for the figure of each image, and check that it may be written.

    Parameters
    ----------
    job : ExplanationJob
        The result of `prepare_explanation`.
    folder : Path
        A folder for the figures and their numbers; it need not exist.
    overwrite : bool, default=False
        Replace figures and numbers that exist.

    Returns
    -------
    tuple of Path
        One for each image of the job.

    Raises
    ------
    ExistsError, OutputError
        The folder holds such files already, or cannot be written to.
    """
    names = _figure_names([record.file for record in job.records])
    figures = tuple(folder / f"{name}.png" for name in names)
    if not folder.exists():
        check_output(folder, overwrite=False)
        return figures
    if not folder.is_dir():
        message = f"{folder} is not a folder. Use -o with a folder, or with a new name."
        raise OutputError(message)
    for path in (folder / EXPLANATIONS_FILE, *figures):
        check_output(path, overwrite=overwrite)
    return figures


def _labels_of(
    label: str | Sequence[str] | None, n_images: int, classes: tuple[str, ...]
) -> tuple[str | None, ...]:
    """Return the class to explain for each image."""
    if label is None:
        return (None,) * n_images
    labels = (label,) * n_images if isinstance(label, str) else tuple(label)
    if len(labels) != n_images:
        message = (
            f"label must be one class, or one class for each of {counted(n_images, 'image')}, but "
            f"it has {counted(len(labels), 'class', 'classes')}."
        )
        raise OptionError(message)
    for each in dict.fromkeys(labels):
        check_choice("class", each, classes)
    return labels


def _figure_names(files: Sequence[File]) -> list[str]:
    """Return a name for the figure of each image: its own, with folders where names repeat.

    Examples
    --------
    >>> _figure_names([Path("a/1.png"), Path("b/1.png"), Path("b/2.png")])
    ['a-1', 'b-1', 'b-2']
    """
    paths = [file.inside if isinstance(file, Url) else file for file in files]
    parts = [[part for part in path.with_suffix("").parts if part != path.anchor] for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-depth:]) for part in parts]
        # Some file systems ignore case.
        if len({name.casefold() for name in names}) == len(names):
            return names
    # The same image is listed twice, or two names differ only in their endings.
    return [f"{part[-1]}-{i}" for i, part in enumerate(parts, start=1)]
