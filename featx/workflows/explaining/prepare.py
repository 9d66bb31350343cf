"""What explanations need, checked before the network starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.choices import Precision
from featx.codes.joining import JoinedStores
from featx.errors import ExistsError, ImagesError, OptionError, OutputError
from featx.fitting import Model
from featx.fitting.attribution import why_not_exact
from featx.images import File, Url
from featx.network import check_device
from featx.outputs import check_output
from featx.text import counted, did_you_mean
from featx.workflows.explaining.results import Method
from featx.workflows.predicting import (
    Inputs,
    PredictionJob,
    find_inputs,
    open_model,
    prepare_job,
)

__all__ = ["ExplanationJob", "prepare_explanation"]

#: What the numbers of a folder of explanations are called.
NUMBERS = "explain.json"


@dataclass(frozen=True)
class ExplanationJob:
    """What will be explained, and how; `prepare_explanation` makes it.

    Parameters
    ----------
    prediction : PredictionJob
        The images, the bundle, and what turns the ones into codes for the other.
    labels : tuple of (str or None)
        The class to explain of each image; None for the one that is predicted.
    approximate_because : str or None
        Why the decision is no sum over places; None where it is.
    cells : tuple of int
        Cells down and across for the square of an occlusion.
    folder : Path or None
        Where figures and numbers will be written.
    figures : tuple of Path
        The figure of each image in it; empty without a folder.
    """

    prediction: PredictionJob
    labels: tuple[str | None, ...]
    approximate_because: str | None
    cells: tuple[int, int]
    folder: Path | None
    figures: tuple[Path, ...]

    @property
    def method(self) -> Method:
        """How explanations are found."""
        return "exact" if self.approximate_because is None else "occlusion"


def prepare_explanation(  # noqa: PLR0913  flat, as on the command line
    images: Inputs,
    *,
    model: Path | str | Model = "model.skops",
    label: str | Sequence[str] | None = None,
    cells: int = 7,
    codes: Inputs | None = None,
    trust: bool = False,
    output: Path | str | None = None,
    overwrite: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
) -> ExplanationJob:
    """Check everything that explanations need; TensorFlow is not imported.

    Parameters
    ----------
    images, model, label, cells, codes, trust, output, overwrite, weights, precision, device
        See `explain`. `output` is a folder for a figure of each image and their
        numbers, whose files are replaced only with `overwrite`.

    Returns
    -------
    ExplanationJob

    Raises
    ------
    ExistsError, OutputError
        The folder holds such files already, or cannot be written into.
    """
    check_device(device)
    bundle = open_model(model, codes, trust=trust)
    found = find_inputs(images, bundle)
    if isinstance(found, JoinedStores):
        message = (
            "A store holds codes, and no images to explain. Expected images or folders of them: "
            "featx explain MODEL IMAGES"
        )
        raise OptionError(message)
    if not found:
        message = "The folders that were given hold no images. Expected images to explain."
        raise ImagesError(message)
    labels = _labels_of(label, len(found), bundle.classes)
    because = why_not_exact(bundle)
    _check_cells(cells, bundle.recipe.size)
    folder = None if output is None else Path(output)
    figures: tuple[Path, ...] = ()
    if folder is not None:
        names = _figure_names([record.file for record in found])
        figures = tuple(folder / f"{name}.png" for name in names)
        _check_folder(folder, figures, overwrite=overwrite)
    job = prepare_job(found, bundle, weights=weights, precision=precision, device=device)
    return ExplanationJob(job, labels, because, (cells, cells), folder, figures)


def _labels_of(
    label: str | Sequence[str] | None, n_images: int, classes: tuple[str, ...]
) -> tuple[str | None, ...]:
    """Return the class to explain of each image."""
    if label is None or isinstance(label, str):
        labels: tuple[str | None, ...] = (label,) * n_images
    else:
        labels = tuple(label)
    if len(labels) != n_images:
        message = (
            f"{counted(len(labels), 'class is', 'classes are')} to be explained, of "
            f"{counted(n_images, 'image')}. Expected one class, "
            "or one for each image. Pass label=[...] of that length."
        )
        raise OptionError(message)
    for each in dict.fromkeys(labels):
        if each is not None:
            _check_class(each, classes)
    return labels


def _check_class(label: str, classes: tuple[str, ...]) -> None:
    if label not in classes:
        guess = did_you_mean(label, classes)
        message = (
            f"The classifier knows no class '{label}'.{guess} Expected --class with one of "
            f"{', '.join(classes)}."
        )
        raise OptionError(message)


def _check_cells(cells: int, size: tuple[int, int]) -> None:
    if not 1 <= cells <= min(size):
        message = (
            f"Cannot divide an image of {size[0]}x{size[1]} pixels into {cells} cells a side. "
            f"Expected --cells from 1 to {min(size)}."
        )
        raise OptionError(message)


def _check_folder(folder: Path, figures: tuple[Path, ...], *, overwrite: bool) -> None:
    """Make sure that the files may be written; the folder itself may be new."""
    if not folder.exists():
        check_output(folder, overwrite=False)
        return
    if not folder.is_dir():
        message = f"{folder} is no folder. Choose another -o, of one that is new or a folder."
        raise OutputError(message)
    there = [path for path in (folder / NUMBERS, *figures) if path.exists()]
    if there and not overwrite:
        others = f" and {len(there) - 1} more" if len(there) > 1 else ""
        message = (
            f"{there[0]}{others} exists. Use --overwrite to replace what was explained before, or "
            "another -o."
        )
        raise ExistsError(message)
    for path in (folder / NUMBERS, *figures):
        check_output(path, overwrite=True)


def _figure_names(files: Sequence[File]) -> list[str]:
    """Return a name for each image's figure: its own, with its folders where two are alike.

    Examples
    --------
    >>> _figure_names([Path("a/1.png"), Path("b/1.png"), Path("b/2.png")])
    ['a-1', 'b-1', 'b-2']
    """
    paths = [file.inside if isinstance(file, Url) else file for file in files]
    parts = [[part for part in path.with_suffix("").parts if part != path.anchor] for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-depth:]) for part in parts]
        # Without capitals: some systems' files are the same then.
        if len({name.casefold() for name in names}) == len(names):
            return names
    # One image twice, or one name with two endings.
    return [f"{part[-1]}-{i}" for i, part in enumerate(parts, start=1)]
