"""Explain images one by one: divide the decision score among positions, or occlude cells.

If the decision score is a sum over positions, the network runs once for each image, and
`featx.fitting.attribution` divides the sum. Otherwise a grey square is moved over the image,
and the network runs once more for each cell. Nothing is drawn here.
"""

import contextlib
import itertools
import logging
from collections.abc import Generator, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from featx.errors import ImagesError
from featx.extraction.batching import Batcher, Views, flat_codes, settle_batch_size
from featx.extraction.pipeline import CodeBatch, stream_codes
from featx.fitting.attribution import (
    ImageView,
    explain_code,
    model_decision_scores,
    sum_on_finest_map,
)
from featx.images import PAD_COLOUR
from featx.layers import find_layer
from featx.network import WeightsSource, load_backbone
from featx.network.backbone import load_activations
from featx.signatures import prepared_by
from featx.text import printable
from featx.workflows.explaining.prepare import ExplanationJob, prepare_explanation
from featx.workflows.explaining.results import Explanation

__all__ = ["explain", "run_explanation"]

# Bytes of codes of occluded images, as float64, that are classified at once. Large blocks are
# faster for a classifier that compares with the codes it was fitted on.
_CODE_BYTES = 128_000_000

logger = logging.getLogger(__name__)

_Array = NDArray[np.floating]


@prepared_by(prepare_explanation)
def explain(job: ExplanationJob) -> list[Explanation]:
    """Explain the decision scores of a model by the contribution of each position of an image.

    For a linear classifier on flattened or pooled feature maps, the decision score is a sum
    over positions, and the terms of that sum are returned: they are exact, and need neither
    gradients nor an approximation. For all other classifiers a grey square is moved over the
    image, and the decrease of the decision score is returned [1]_. This is an approximation:
    it misses evidence that two positions share, and the network also responds to the grey
    colour. `Explanation.decision_score` is the score before any cell is covered.

    Returns
    -------
    list of Explanation
        One for each readable image, in order.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional
       Networks", ECCV 2014. https://arxiv.org/abs/1311.2901
    """
    return [explanation for _, explanation in run_explanation(job)]


def run_explanation(job: ExplanationJob) -> Generator[tuple[int, Explanation], None, None]:
    """Run a job, and yield explanations one by one; unreadable images are skipped.

    Parameters
    ----------
    job : ExplanationJob
        The result of `prepare_explanation`.

    Yields
    ------
    int, Explanation
        Number of the image in the job, and its explanation.

    Raises
    ------
    ImagesError
        No image could be read.
    """
    explainer = _Explainer(job)
    files = [record.file for record in job.records]
    n_seen, failures = 0, []
    batches = stream_codes(files, explainer.backbone, explainer.batch_size)
    with contextlib.closing(batches):
        for batch in batches:
            for failure in batch.failures:
                failures.append(f"{files[failure.row]}: {failure.reason}")
                logger.warning("Skipped %s", printable(failures[-1]))
            for place, row in enumerate(batch.rows):
                yield int(row), explainer(int(row), batch, place)
            n_seen += batch.n_images
            if job.progress is not None:
                job.progress(n_seen, len(files))
    if len(failures) == len(files):
        message = f"No image could be read. The first of {len(files)} is {failures[0]}."
        raise ImagesError(message)


class _Explainer:
    """Explains the images of a batch, and holds the network that this needs."""

    def __init__(self, job: ExplanationJob) -> None:
        source = cast("WeightsSource", job.source)
        self.job, self.model, self.recipe = job, job.model, job.recipe
        self.backbone = load_backbone(self.recipe, source, job.device)
        self.batch_size = settle_batch_size("auto", self.recipe, job.n_images, self.backbone.device)
        if job.method == "exact" and self.recipe.pool != "none":
            self.activations = load_activations(self.recipe, source, job.device)

    def __call__(self, row: int, batch: CodeBatch, place: int) -> Explanation:
        """Explain image `row` of the job, the readable image number `place` of a batch."""
        codes = [batch.codes[layer][place] for layer in self.recipe.layers]
        code = np.concatenate([each.ravel() for each in codes])
        probabilities = self.model.predict_proba(code[None])[0]
        classes = self.model.classes
        best = int(self.model.predicted_columns(probabilities[None])[0])
        label = self.job.labels[row]
        k = best if label is None else classes.index(label)
        decision = float(model_decision_scores(self.model, code[None])[0, k])
        views = batch.images[place].views
        if self.job.method == "exact":
            explained = self._exact(code, codes, k, views)
        else:
            explained = self._occlusion(k, decision, views)
        return Explanation(
            path=str(self.job.records[row].file),
            method=self.job.method,
            predicted=classes[best],
            label=classes[k],
            decision_score=decision,
            probability=float(probabilities[k]),
            pixels=batch.images[place].pixels,
            **explained,
        )

    def _exact(self, code: _Array, codes: Sequence[_Array], k: int, views: Views) -> dict[str, Any]:
        """Divide the decision score among the positions of the code, or of the feature maps."""
        recipe = self.recipe
        if recipe.pool == "none":
            maps = {
                layer: [ImageView(np.asarray(each, np.float64))]
                for layer, each in zip(recipe.layers, codes, strict=True)
            }
        else:
            maps = self._feature_maps(views)
        found = explain_code(self.model, code, maps, k)
        contributions = sum_on_finest_map(found.maps)
        stride = min(find_layer(layer).stride for layer in recipe.layers)
        height, width = contributions.shape
        whole: tuple[int, int] = views[-1].shape[:2]
        return {
            "constant": found.intercept,
            "contributions": contributions,
            "maps": found.maps,
            # The maps of several crops are joined, and cover the whole image.
            "extent": whole if recipe.crops > 1 else (height * stride, width * stride),
        }

    def _feature_maps(self, views: Views) -> dict[str, list[ImageView]]:
        """Return the feature maps of all crops and mirror images of an image, by layer."""
        recipe = self.recipe
        found: dict[str, list[ImageView]] = {layer: [] for layer in recipe.layers}
        for pixels in views:
            height, width = pixels.shape[:2] if recipe.crops == 1 else recipe.size
            for top, left in recipe.corners:
                crop = pixels[top : top + height, left : left + width]
                edges = np.array([top, left, top + height, left + width])
                box = tuple(edges / np.tile(pixels.shape[:2], 2))
                for turn in (1, -1)[: 2 if recipe.flip else 1]:
                    maps = self.activations(np.ascontiguousarray(crop[None, :, ::turn]))
                    for layer, each in maps.items():
                        found[layer].append(ImageView(each[0][:, ::turn], box))
        return found

    def _occlusion(self, k: int, decision: float, views: Views) -> dict[str, Any]:
        """Move a grey square over the image, and return the decrease of the decision score."""
        # The same cell is grey at all scales.
        images = list(zip(*(_occluded(each, self.job.cells) for each in views), strict=True))
        size = settle_batch_size("auto", self.recipe, len(images), self.backbone.device)
        batcher = Batcher(self.backbone, size)
        step = max(size, _CODE_BYTES // (8 * self.recipe.n_features))
        scores = []
        for start in range(0, len(images), step):
            block = images[start : start + step]
            rows = flat_codes(batcher(block), self.recipe.layers)
            scores.append(model_decision_scores(self.model, rows)[:, k])
        return {
            "constant": None,
            "contributions": (decision - np.concatenate(scores)).reshape(self.job.cells, -1),
            "maps": {},
            "extent": views[-1].shape[:2],
        }


def _occluded(pixels: NDArray[np.uint8], cells: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the image with each cell of a grid grey in turn, row by row."""
    rows, columns = (np.linspace(0, n, cells + 1).round().astype(int) for n in pixels.shape[:2])
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            occluded = pixels.copy()
            occluded[top:bottom, left:right] = PAD_COLOUR
            yield occluded
