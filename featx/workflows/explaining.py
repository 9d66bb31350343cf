"""Explanations: images and a bundle in, what each place of an image adds to a decision out.

Where the decision is a sum over places, the network runs once an image and the sum
is taken apart (`featx.classification.explaining`). Elsewhere a grey square is moved
over the image, and the network runs once a cell more. This file draws nothing.

References
----------
.. [1] M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional
   Networks", ECCV 2014. https://arxiv.org/abs/1311.2901
"""

import contextlib
import dataclasses
import difflib
import logging
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from featx.classification import Bundle
from featx.classification.explaining import (
    decision_values,
    explain_code,
    on_finest_map,
    why_not_exact,
)
from featx.classification.joining import Joined
from featx.errors import ExistsError, ImagesError, OptionError, OutputError
from featx.extraction import CodeBatch, settle_batch_size, stream_codes
from featx.extraction.batching import Batcher
from featx.images import PAD_COLOUR
from featx.layers import find_layer
from featx.network import (
    VGG19Backbone,
    WeightsSource,
    check_device,
    joint_name,
    load_backbone,
    load_joint_backbone,
)
from featx.outputs import check_output, spelt
from featx.recipe import Precision
from featx.workflows.prediction import (
    Inputs,
    PredictionJob,
    Progress,
    find_inputs,
    open_bundle,
    prepare_job,
)

__all__ = [
    "Explanation",
    "ExplanationJob",
    "Method",
    "explain",
    "explanations",
    "prepare_explanation",
]

Method = Literal["exact", "occlusion"]

#: What the numbers of a folder of explanations are called.
NUMBERS = "explain.json"
# Codes of occluded images that are classified at once: a classifier that compares with
# the codes it was fitted on passes over them once each time.
_CODE_BYTES = 128_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """What the places of an image add to the decision for a class.

    Parameters
    ----------
    path : str
        The image.
    method : {"exact", "occlusion"}
        Whether the contributions and the constant add up to the decision, or
        are how much it falls where a grey square lies: an approximation.
    predicted : str
        The most probable class.
    label : str
        The class that is explained.
    decision : float
        Its decision value before calibration. Of two classes scikit-learn has
        one number; it is positive for the class that is explained. Where a
        classifier only votes it is the logarithm of the probability.
    constant : float or None
        The classifier's intercept, which belongs to no place; None for occlusion.
    probability : float
        Of the class that is explained, calibrated.
    contributions : ndarray of shape (rows, columns)
        What each place adds; of several layers, summed on the places of the finest.
    maps : dict of str to ndarray
        What the places of each layer add, before they were summed; empty for
        occlusion.
    extent : tuple of int
        (height, width) in pixels of the part of the image that `contributions`
        divide into equal cells, from its upper left corner. Less than the image
        where the layer's stride does not divide it.
    pixels : ndarray of uint8, shape (height, width, 3)
        The image as the network saw it.

    Examples
    --------
    >>> import featx
    >>> for found in featx.explain("data/val/flags", model="model.skops"):  # doctest: +SKIP
    ...     featx.plot_heatmap(found.pixels, found.contributions)
    """

    path: str
    method: Method
    predicted: str
    label: str
    decision: float
    constant: float | None
    probability: float
    contributions: NDArray[np.float64] = field(repr=False)
    maps: Mapping[str, NDArray[np.float64]] = field(repr=False)
    extent: tuple[int, int]
    pixels: NDArray[np.uint8] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON has them; the pixels are left out."""
        found = {
            "path": spelt(self.path),
            "method": self.method,
            "label": self.predicted,
            "class": self.label,
            "decision": self.decision,
            "constant": self.constant,
            "probability": self.probability,
            "shape": list(self.contributions.shape),
            "extent": list(self.extent),
            "contributions": self.contributions.tolist(),
        }
        if len(self.maps) > 1:
            found["layers"] = {layer: each.tolist() for layer, each in self.maps.items()}
        return found


@dataclass(frozen=True)
class ExplanationJob:
    """What will be explained, and how; `prepare_explanation` makes it.

    Parameters
    ----------
    prediction : PredictionJob
        The images, the bundle, and what turns the ones into codes for the other.
    label : str or None
        The class to explain; None for the one that is predicted.
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
    label: str | None
    approximate_because: str | None
    cells: tuple[int, int]
    folder: Path | None
    figures: tuple[Path, ...]

    @property
    def method(self) -> Method:
        """How explanations are found."""
        return "exact" if self.approximate_because is None else "occlusion"


def explain(  # noqa: PLR0913  flat, as on the command line
    images: Inputs,
    *,
    model: Path | str | Bundle = "model.skops",
    label: str | None = None,
    cells: int = 7,
    codes: Inputs | None = None,
    trust: bool = False,
    weights: str | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Explanation]:
    """Explain the decisions of a bundle by what each place of an image adds.

    A linear classifier on a flattened or pooled map decides by a sum over the
    map's places, and that sum is what is returned: exact, no gradient and no
    approximation. For every other classifier a grey square is moved over the
    image, and how much the decision falls is returned [1]_, which is an
    approximation: it misses what two places show alike, and grey is a picture too.

    Parameters
    ----------
    images : Path, str or sequence of them
        Images and folders of images. One that cannot be read is left out, with a
        warning.
    model : Path, str or Bundle, default="model.skops"
        What `featx fit` made, or the tuned.keras of `featx finetune`.
    label : str, optional
        The class whose decision is explained; by default the predicted one.
    cells : int, default=7
        Cells a side of the grid that the grey square is moved over.
    codes, trust, weights, precision, device
        See `featx.predict`.
    progress : callable, optional
        Called with (images done, images in all).

    Returns
    -------
    list of Explanation
        One for each readable image, in order.

    Raises
    ------
    OptionError, BundleError, ImagesError
        Checked before work starts.
    RecipeMismatchError
        The weights are not those that the bundle was fitted on.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional
       Networks", ECCV 2014. https://arxiv.org/abs/1311.2901
    """
    job = prepare_explanation(
        images,
        model=model,
        label=label,
        cells=cells,
        codes=codes,
        trust=trust,
        weights=weights,
        precision=precision,
        device=device,
    )
    return [found for _, found in explanations(job, progress=progress)]


def prepare_explanation(  # noqa: PLR0913  flat, as on the command line
    images: Inputs,
    *,
    model: Path | str | Bundle = "model.skops",
    label: str | None = None,
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
    bundle = open_bundle(model, codes, trust=trust)
    if label is not None:
        _check_class(label, bundle.classes)
    found = find_inputs(images, bundle)
    if isinstance(found, Joined):
        message = (
            "A store holds codes, and no images to explain. Expected images or folders of them: "
            "featx explain MODEL IMAGES"
        )
        raise OptionError(message)
    if not found:
        message = "The folders that were given hold no images. Expected images to explain."
        raise ImagesError(message)
    because = why_not_exact(bundle)
    _check_cells(cells, bundle.recipe.size)
    folder = None if output is None else Path(output)
    figures: tuple[Path, ...] = ()
    if folder is not None:
        names = _figure_names([record.file for record in found])
        figures = tuple(folder / f"{name}.png" for name in names)
        _check_folder(folder, figures, overwrite=overwrite)
    job = prepare_job(found, bundle, weights=weights, precision=precision, device=device)
    return ExplanationJob(job, label, because, (cells, cells), folder, figures)


def explanations(
    job: ExplanationJob, *, progress: Progress | None = None
) -> Generator[tuple[int, Explanation], None, None]:
    """Yield explanations as images are read; bad images are left out, with a warning.

    Parameters
    ----------
    job : ExplanationJob
        What `prepare_explanation` returns.
    progress : callable, optional
        Called with (images done, images in all).

    Yields
    ------
    int, Explanation
        The image's position in the job, and what was found.

    Raises
    ------
    ImagesError
        No image could be read.
    """
    explainer = (_Exact if job.method == "exact" else _Occluding)(job)
    records = job.prediction.records
    files = [record.file for record in records]
    n_seen = n_failed = 0
    first = ""
    batches = stream_codes(files, explainer.backbone, explainer.batch_size)
    with contextlib.closing(batches):
        for batch in batches:
            for failure in batch.failures:
                first = first or f"{files[failure.row]}: {failure.reason}"
                logger.warning("%s is left out: %s", spelt(str(files[failure.row])), failure.reason)
            for place, row in enumerate(batch.rows):
                yield int(row), explainer(files[row].as_posix(), batch, place)
            n_seen += batch.n_images
            n_failed += len(batch.failures)
            if progress is not None:
                progress(n_seen, len(files))
    if n_failed == len(files):
        message = f"None of the {len(files)} images could be read. The first is {first}."
        raise ImagesError(message)


class _Explainer:
    """What explains one image of a batch, and the network that it needs."""

    def __init__(self, job: ExplanationJob) -> None:
        self.job = job
        self.bundle = job.prediction.bundle
        self.recipe = job.prediction.recipe
        self.source = cast("WeightsSource", job.prediction.source)
        self.backbone = self.load()
        self.batch_size = settle_batch_size(
            "auto", self.backbone.recipe, job.prediction.n_images, self.backbone.device
        )

    def load(self) -> VGG19Backbone:
        raise NotImplementedError

    def taken_apart(
        self, code: NDArray[np.floating], k: int, decision: float, batch: CodeBatch, place: int
    ) -> dict[str, Any]:
        """Return method, constant, contributions, maps and extent."""
        raise NotImplementedError

    def output(self, layer: str) -> str:
        """Name the network's output that is the code of a layer."""
        return layer

    def __call__(self, path: str, batch: CodeBatch, place: int) -> Explanation:
        codes = [batch.codes[self.output(layer)][place].ravel() for layer in self.recipe.layers]
        code = np.concatenate(codes)
        probabilities = self.bundle.predict_proba(code[None])[0]
        classes, best = self.bundle.classes, int(probabilities.argmax())
        k = best if self.job.label is None else classes.index(self.job.label)
        decision = float(decision_values(self.bundle, code[None])[0, k])
        return Explanation(
            path=path,
            predicted=classes[best],
            label=classes[k],
            decision=decision,
            probability=float(probabilities[k]),
            pixels=batch.pictures[place].pixels,
            **self.taken_apart(code, k, decision, batch, place),
        )


class _Exact(_Explainer):
    """Takes the sum apart: codes and what they were pooled from, out of one pass."""

    def load(self) -> VGG19Backbone:
        # The codes are those that predict sees, rounding included; a flattened map is its code.
        whole = dataclasses.replace(self.recipe, pool="none", dtype="float32")
        recipes = [self.recipe] if self.recipe.pool == "none" else [self.recipe, whole]
        return load_joint_backbone(recipes, self.source, self.job.prediction.device)

    def output(self, layer: str) -> str:
        return joint_name(0, layer)

    def taken_apart(
        self, code: NDArray[np.floating], k: int, decision: float, batch: CodeBatch, place: int
    ) -> dict[str, Any]:
        which = 0 if self.recipe.pool == "none" else 1
        activations = {
            layer: batch.codes[joint_name(which, layer)][place] for layer in self.recipe.layers
        }
        found = explain_code(self.bundle, code, activations, k)
        contributions = on_finest_map(found.maps)
        stride = min(find_layer(layer).stride for layer in self.recipe.layers)
        height, width = contributions.shape
        return {
            "method": "exact",
            "constant": found.intercept,
            "contributions": contributions,
            "maps": found.maps,
            "extent": (height * stride, width * stride),
        }


class _Occluding(_Explainer):
    """Moves a grey square over the image, and sees how much the decision falls."""

    def load(self) -> VGG19Backbone:
        return load_backbone(self.recipe, self.source, self.job.prediction.device)

    def taken_apart(
        self, code: NDArray[np.floating], k: int, decision: float, batch: CodeBatch, place: int
    ) -> dict[str, Any]:
        pixels = batch.pictures[place].pixels
        pictures = list(_occluded(pixels, self.job.cells))
        size = settle_batch_size("auto", self.recipe, len(pictures), self.backbone.device)
        batcher = Batcher(self.backbone, size)
        step = max(size, _CODE_BYTES // (8 * self.recipe.width))
        without = np.concatenate(
            [
                decision_values(self.bundle, self._codes(batcher, pictures[start : start + step]))
                for start in range(0, len(pictures), step)
            ]
        )
        return {
            "method": "occlusion",
            "constant": None,
            "contributions": (decision - without[:, k]).reshape(self.job.cells),
            "maps": {},
            "extent": pixels.shape[:2],
        }

    def _codes(self, batcher: Batcher, pictures: list[NDArray[np.uint8]]) -> NDArray[np.floating]:
        codes = batcher(pictures)
        return np.hstack([codes[name].reshape(len(pictures), -1) for name in self.recipe.layers])


def _occluded(pixels: NDArray[np.uint8], cells: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield an image with each cell of a grid grey in turn, row by row."""
    edges = [
        np.linspace(0, length, n + 1).round().astype(int)
        for length, n in zip(pixels.shape, cells, strict=False)
    ]
    for top, bottom in zip(edges[0], edges[0][1:], strict=False):
        for left, right in zip(edges[1], edges[1][1:], strict=False):
            picture = pixels.copy()
            picture[top:bottom, left:right] = PAD_COLOUR
            yield picture


# checks


def _check_class(label: str, classes: tuple[str, ...]) -> None:
    if label not in classes:
        near = difflib.get_close_matches(label, classes, n=1)
        guess = f" Did you mean '{near[0]}'?" if near else ""
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


def _figure_names(files: list[Path]) -> list[str]:
    """Return a name for each image's figure: its own, with its folders where two are alike.

    Examples
    --------
    >>> _figure_names([Path("a/1.png"), Path("b/1.png"), Path("b/2.png")])
    ['a-1', 'b-1', 'b-2']
    """
    parts = [[part for part in file.with_suffix("").parts if part != file.anchor] for file in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-depth:]) for part in parts]
        # Without capitals: some systems' files are the same then.
        if len({name.casefold() for name in names}) == len(names):
            return names
    # One image twice, or one name with two endings.
    return [f"{part[-1]}-{i}" for i, part in enumerate(parts, start=1)]
