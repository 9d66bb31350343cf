"""Explanations, image by image: the sum taken apart, or a grey square moved over the image.

References
----------
.. [1] M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional
   Networks", ECCV 2014. https://arxiv.org/abs/1311.2901
"""

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from featx.choices import Precision
from featx.errors import ImagesError
from featx.extraction import CodeBatch, settle_batch_size, stream_codes
from featx.extraction.batching import Batcher, Views
from featx.fitting import Model
from featx.fitting.attribution import (
    ImageView,
    explain_code,
    model_decision_scores,
    sum_on_finest_map,
)
from featx.images import PAD_COLOUR
from featx.layers import find_layer
from featx.network import (
    VGG19Backbone,
    WeightsSource,
    load_activations,
    load_backbone,
)
from featx.text import counted, printable
from featx.workflows.explaining.prepare import ExplanationJob, prepare_explanation
from featx.workflows.explaining.results import Explanation
from featx.workflows.predicting import Inputs, Progress

__all__ = ["explain", "explanations"]

# Codes of occluded images that are classified at once: a classifier that compares with
# the codes it was fitted on passes over them once each time.
_CODE_BYTES = 128_000_000

logger = logging.getLogger(__name__)


def explain(  # noqa: PLR0913  flat, as on the command line
    images: Inputs,
    *,
    model: Path | str | Model = "model.skops",
    label: str | Sequence[str] | None = None,
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
    `Explanation.decision` says which number falls: of ``svm-rbf`` the mean of the
    class's decisions against each other class.

    Parameters
    ----------
    images : Path, str or sequence of them
        Images and folders of images. One that cannot be read is left out, with a
        warning.
    model : Path, str or Model, default="model.skops"
        What `featx fit` made, or the tuned.keras of `featx finetune`.
    label : str or sequence of str, optional
        The class whose decision is explained, or one for each image; by default the
        predicted one.
    cells : int, default=7
        Cells a side of the grid that the grey square is moved over.
    codes, trust, weights, precision, device : optional
        See `featx.predict`.
    progress : callable, optional
        Called with (images done, images in all).

    Returns
    -------
    list of Explanation
        One for each readable image, in order.

    Raises
    ------
    OptionError, ModelError, ImagesError
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
                logger.warning(
                    "%s is left out: %s", printable(str(files[failure.row])), failure.reason
                )
            for place, row in enumerate(batch.rows):
                yield int(row), explainer(int(row), batch, place)
            n_seen += batch.n_images
            n_failed += len(batch.failures)
            if progress is not None:
                progress(n_seen, len(files))
    if n_failed == len(files):
        message = f"Of {counted(len(files), 'image')} none could be read. The first is {first}."
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

    def __call__(self, row: int, batch: CodeBatch, place: int) -> Explanation:
        codes = [batch.codes[layer][place].ravel() for layer in self.recipe.layers]
        code = np.concatenate(codes)
        probabilities = self.bundle.predict_proba(code[None])[0]
        classes, best = self.bundle.classes, int(probabilities.argmax())
        label = self.job.labels[row]
        k = best if label is None else classes.index(label)
        decision = float(model_decision_scores(self.bundle, code[None])[0, k])
        return Explanation(
            path=self.job.prediction.records[row].file.as_posix(),
            predicted=classes[best],
            label=classes[k],
            decision=decision,
            probability=float(probabilities[k]),
            pixels=batch.pictures[place].pixels,
            **self.taken_apart(code, k, decision, batch, place),
        )


class _Exact(_Explainer):
    """Takes the sum apart: of a flattened code by itself, else by what it was pooled from."""

    def load(self) -> VGG19Backbone:
        source, device = self.source, self.job.prediction.device
        # The codes are those that predict sees; these are a second pass, view by view.
        if self.recipe.pool != "none":
            self.activations = load_activations(self.recipe, source, device)
        return load_backbone(self.recipe, source, device)

    def taken_apart(
        self, code: NDArray[np.floating], k: int, decision: float, batch: CodeBatch, place: int
    ) -> dict[str, Any]:
        pictures = batch.pictures[place].views
        if self.recipe.pool == "none":
            views = {
                layer: [ImageView(np.asarray(batch.codes[layer][place], np.float64))]
                for layer in self.recipe.layers
            }
        else:
            views = self._views(pictures)
        found = explain_code(self.bundle, code, views, k)
        contributions = sum_on_finest_map(found.maps)
        stride = min(find_layer(layer).stride for layer in self.recipe.layers)
        height, width = contributions.shape
        whole: tuple[int, int] = pictures[-1].shape[:2]
        return {
            "method": "exact",
            "constant": found.intercept,
            "contributions": contributions,
            "maps": found.maps,
            # Views have no map of their own that ends before the image does.
            "extent": whole if self.recipe.crops > 1 else (height * stride, width * stride),
        }

    def _views(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, list[ImageView]]:
        """Return the maps of all views of an image, by layer."""
        found: dict[str, list[ImageView]] = {layer: [] for layer in self.recipe.layers}
        for pixels in pictures:
            height, width = pixels.shape[:2] if self.recipe.crops == 1 else self.recipe.size
            for top, left in self.recipe.corners:
                crop = pixels[top : top + height, left : left + width]
                edges = np.array([top, left, top + height, left + width])
                box = tuple(edges / np.tile(pixels.shape[:2], 2))
                for turn in (1, -1)[: 2 if self.recipe.flip else 1]:
                    maps = self.activations(np.ascontiguousarray(crop[None, :, ::turn]))
                    for layer, each in maps.items():
                        found[layer].append(ImageView(each[0][:, ::turn], box))
        return found


class _Occluding(_Explainer):
    """Moves a grey square over the image, and sees how much the decision falls."""

    def load(self) -> VGG19Backbone:
        return load_backbone(self.recipe, self.source, self.job.prediction.device)

    def taken_apart(
        self, code: NDArray[np.floating], k: int, decision: float, batch: CodeBatch, place: int
    ) -> dict[str, Any]:
        views = batch.pictures[place].views
        # Of each scale the same cell is grey.
        pictures = list(zip(*(_occluded(each, self.job.cells) for each in views), strict=True))
        size = settle_batch_size("auto", self.recipe, len(pictures), self.backbone.device)
        batcher = Batcher(self.backbone, size)
        step = max(size, _CODE_BYTES // (8 * self.recipe.width))
        without = np.concatenate(
            [
                model_decision_scores(
                    self.bundle, self._codes(batcher, pictures[start : start + step])
                )
                for start in range(0, len(pictures), step)
            ]
        )
        return {
            "method": "occlusion",
            "constant": None,
            "contributions": (decision - without[:, k]).reshape(self.job.cells),
            "maps": {},
            "extent": views[-1].shape[:2],
        }

    def _codes(self, batcher: Batcher, pictures: Sequence[Views]) -> NDArray[np.floating]:
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
