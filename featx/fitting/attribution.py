"""Exact attribution: the contribution of each position of a feature map to a decision score.

A model, the code of one image and the activations that it was pooled from go in; a number
for each position comes out. Together with the intercept of the classifier, these numbers
sum to its decision score before calibration. This module does not compute activations.

A linear classifier multiplies each feature of a code by a weight. Each product is divided
among positions, depending on how the feature was pooled:

* A feature of a flattened code has one position.
* A mean is divided among all positions in proportion to their activations.
* A maximum goes to the position of the maximum; of equal ones, to the first by row.
* The mean of a grid cell is divided among the positions of the cell. Where cells share a
  row, this row gets contributions from both.
* A mean over several views (mirror images, crops or scales) is first divided among the
  views in proportion to their codes. The positions of each view are then placed where the
  view is in the image.

Positions do not change the length by which `l2` divides a code. The mean that `centre` or
principal components subtract is subtracted where its feature belongs: at its position
(flattened), evenly from all positions (average, grid), or at the maximum. The map
therefore shows how an image differs from the training images, and the intercept is the
only constant. Weights of principal components are converted to weights of features. If a
channel is 0 everywhere, the contribution of its mean is spread evenly.

This is not exact for `sqrt-l2` on pooled codes, since the square root of a sum is not a
sum of square roots, and fully connected layers have no positions.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.svm import SVC

from featx.codes.matrix import Matrix, split_columns
from featx.fitting.calibration import pair_means
from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.estimators import Perceptron
from featx.fitting.model import Model
from featx.layers import find_layer
from featx.recipe import Recipe

__all__ = [
    "Attribution",
    "ImageView",
    "explain_code",
    "model_decision_scores",
    "sum_on_finest_map",
    "why_not_exact",
]


@dataclass(frozen=True)
class ImageView:
    """The feature map of a layer for one view: an image, or a crop of it, or its mirror image.

    Parameters
    ----------
    activation : ndarray of float, shape (height, width, channels)
        Not negative, because of the ReLU. That of a mirror image is mirrored back.
    box : tuple of float, default=(0, 0, 1, 1)
        Top, left, bottom and right edge of the view, as fractions of the image's sides.
    """

    activation: NDArray[np.floating]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Attribution:
    """A decision score as a sum over positions; `explain_code` returns it.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (height, width)
        Contribution of each position, by layer.
    intercept : float
        The remaining constant.
    """

    maps: dict[str, Matrix]
    intercept: float


def why_not_exact(model: Model) -> str | None:
    """Return why decision scores of a model are not a sum over positions; None if they are."""
    steps = model.classifier.named_steps
    estimator = steps["decisions"].estimator_
    if not _is_linear(estimator):
        layers = "a network with a hidden layer" if isinstance(estimator, Perceptron) else None
        return f"{layers or type(estimator).__name__} is not a weighted sum of the features"
    if model.recipe.pool == "bilinear":
        return "bilinear pooling multiplies activations with each other"
    if model.recipe.pool != "none" and "unit" in steps and steps["unit"].root:
        return f"square roots are taken after the pooling {model.recipe.pool}"
    dense = [name for name in model.recipe.layers if find_layer(name).kind == "dense"]
    return f"{' and '.join(dense)} has no positions" if dense else None


def model_decision_scores(model: Model, codes: Matrix) -> Matrix:
    """Return the decision scores of a model before calibration, one column for each class.

    scikit-learn has a single score for two classes, that of the second class; the column
    of the first class is its negative. An SVM with several classes has a score for each
    pair of classes. The column of a class is its mean score against the other classes.
    Classifiers that only vote have logarithms of probabilities.

    Parameters
    ----------
    model : Model
        Its training codes must be available, see `Model.open_codes`.
    codes : ndarray of shape (n, d)
        Codes of n images.

    Returns
    -------
    ndarray of shape (n, n_classes)
    """
    estimator = model.classifier.named_steps["decisions"].estimator_
    if isinstance(estimator, SVC) and len(model.classes) > 2:
        rows = codes
        for _, step in model.classifier.steps[:-2]:  # those before the decision scores
            rows = step.transform(rows)
        return _mean_margins(estimator, rows)
    scores = np.asarray(model.classifier[:-1].transform(codes))
    # `DecisionScores` gives half of scikit-learn's single score to each of two classes.
    is_halved = len(model.classes) == 2 and hasattr(estimator, "decision_function")
    return 2 * scores if is_halved else scores


def explain_code(
    model: Model, code: Matrix, views: Mapping[str, Sequence[ImageView]], k: int
) -> Attribution:
    """Divide the decision score of a class among the positions of the feature maps.

    Parameters
    ----------
    model : Model
        A model for which `why_not_exact` is None.
    code : ndarray of shape (d,)
        Code of one image, all layers side by side.
    views : mapping of str to sequence of ImageView
        The views whose activations were pooled, by layer: for each scale, the recipe's
        `n_views`. A flattened code has a single view, the code itself.
    k : int
        Index of the class in the model's classes.

    Returns
    -------
    Attribution
    """
    steps = model.classifier.named_steps
    weights, intercept = _weights_of(steps["decisions"].estimator_, k)
    scaled, mean = _scaled_and_mean(steps, code)
    if "components" in steps:
        weights = steps["components"].to_columns(weights)
    recipe = model.recipe
    sizes = [recipe.code_size(layer) for layer in recipe.layers]
    terms = split_columns(weights * np.stack([scaled, mean]), sizes)
    maps = {
        layer: _to_views(recipe, recipe.code_shape(layer), views[layer], *of_layer)
        for layer, of_layer in zip(recipe.layers, terms, strict=True)
    }
    return Attribution(maps, intercept)


def sum_on_finest_map(maps: Mapping[str, Matrix]) -> Matrix:
    """Sum the maps of several layers on the positions of the finest one.

    Each position of a coarser map is several positions of the finest. Its contribution is
    divided evenly among them, so that the sum stays the same. If the stride of a layer
    does not divide the image size, its map ends before the image does; positions beyond
    its end get nothing from it.

    Parameters
    ----------
    maps : mapping of str to ndarray, shape (height, width)
        By layer.

    Returns
    -------
    ndarray of shape (height, width)

    Examples
    --------
    >>> maps = {"block1_pool": np.eye(3), "block2_pool": np.array([[4.0]])}
    >>> sum_on_finest_map(maps)
    array([[2., 1., 0.],
           [1., 2., 0.],
           [0., 0., 1.]])
    """
    finest = min(maps, key=lambda layer: find_layer(layer).stride)
    height, width = maps[finest].shape
    total = np.zeros((height, width))
    for layer, each in maps.items():
        # Strides are powers of two.
        n = find_layer(layer).stride // find_layer(finest).stride
        spread = np.kron(each, np.full((n, n), 1 / n**2))
        if len(spread) > height or spread.shape[1] > width:
            # Maps of crops cover the whole image, in a rounded number of cells.
            spread = _placed(each, (0, 0, 1, 1), total.shape)
        total[: spread.shape[0], : spread.shape[1]] += spread
    return total


def _is_linear(estimator: BaseEstimator) -> bool:
    if isinstance(estimator, Perceptron):
        return len(estimator.coefs) == 1
    linear = tuple(type(kind.make(0)) for kind in CLASSIFIERS.values() if kind.is_linear)
    return isinstance(estimator, linear)


def _mean_margins(estimator: SVC, rows: Matrix) -> Matrix:
    """Return the mean score of each class against the others, (n, n_classes)."""
    pairwise = copy.copy(estimator).set_params(decision_function_shape="ovo")
    n_classes = len(pairwise.classes_)
    means = pair_means(pairwise.decision_function(rows), n_classes)
    return means * n_classes / (n_classes - 1)


def _weights_of(estimator: BaseEstimator, k: int) -> tuple[Matrix, float]:
    """Return the weights, (d,), and the intercept of a class; of two, the signs differ."""
    if isinstance(estimator, Perceptron):
        coef, intercept = np.asarray(estimator.coefs[0]).T, np.ravel(estimator.intercepts[0])
        if len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    else:
        # For two classes, ridge has weights of shape (d,); without fit_intercept, a scalar 0.
        coef = np.atleast_2d(estimator.coef_)
        intercept = np.broadcast_to(np.ravel(estimator.intercept_), len(coef))
    if len(coef) == 1:
        sign = 1 if k == 1 else -1
        return sign * coef[0], sign * float(intercept[0])
    return coef[k], float(intercept[k])


def _scaled_and_mean(steps: Mapping[str, Any], code: Matrix) -> tuple[Matrix, Matrix]:
    """Return a code as the classifier sees it, as two terms: of the image and of the mean."""
    row = np.asarray(code, dtype=np.float64)[None]
    if "unit" in steps:
        row = steps["unit"].transform(row)
    scaled, mean = row[0], np.zeros(row.shape[1])
    if "centre" in steps:
        centre = steps["centre"].mean_
        length = float(np.linalg.norm(scaled - centre)) or 1.0
        scaled, mean = scaled / length, -centre / length
    if "components" in steps:
        mean = mean - steps["components"].mean_
    return scaled, mean


def _to_views(
    recipe: Recipe,
    shape: tuple[int, ...],
    views: Sequence[ImageView],
    of_code: Matrix,
    of_mean: Matrix,
) -> Matrix:
    """Divide the contributions of features among the positions of an image, (height, width)."""
    if len(views) == 1:
        return _to_positions(recipe, views[0].activation, of_code, of_mean)
    n_stacked = len(recipe.scales) if recipe.scales_join == "stack" else 1
    n_views = len(views) // n_stacked
    # Stacked scales are side by side along the last axis.
    by_scale = (*shape[:-1], n_stacked, shape[-1] // n_stacked)
    of_codes, of_means = of_code.reshape(by_scale), of_mean.reshape(by_scale)
    codes = np.stack([_pooled(recipe, view.activation) for view in views])
    codes = codes.reshape(n_stacked, n_views, -1)
    sums = codes.sum(axis=1, keepdims=True)
    fractions = np.divide(codes, sums, out=np.full_like(codes, 1 / n_views), where=sums > 0)
    boxes = np.array([view.box for view in views])
    sides = [view.activation.shape[:2] for view in views] / (boxes[:, 2:] - boxes[:, :2])
    total = np.zeros([round(side) for side in sides.max(axis=0)])
    for k, view in enumerate(views):
        scale, of_view = divmod(k, n_views)
        own = _to_positions(
            recipe,
            view.activation,
            of_codes[..., scale, :].ravel() * fractions[scale, of_view],
            of_means[..., scale, :].ravel() / n_views,
        )
        total += _placed(own, view.box, total.shape)
    return total


def _placed(own: Matrix, box: Sequence[float], shape: tuple[int, ...]) -> Matrix:
    """Return the contributions of a view on the positions of the whole image."""
    top, left, bottom, right = box
    down = _overlaps(top, bottom, len(own), shape[0])
    across = _overlaps(left, right, own.shape[1], shape[1])
    return np.asarray(down @ own @ across.T)


def _overlaps(low: float, high: float, n_own: int, n_whole: int) -> Matrix:
    """Return the fraction of each cell of a view that lies in each cell of the image, by side.

    Examples
    --------
    >>> _overlaps(0.25, 1.0, 1, 2)
    array([[0.33333333],
           [0.66666667]])
    """
    own = low + (high - low) * np.arange(n_own + 1) / n_own
    whole = np.arange(n_whole + 1) / n_whole
    shared = np.minimum(own[1:], whole[1:, None]) - np.maximum(own[:-1], whole[:-1, None])
    return np.asarray(np.maximum(shared, 0) / np.diff(own))


def _pooled(recipe: Recipe, activation: NDArray[np.floating]) -> Matrix:
    """Return the code of one view, flat."""
    exact = np.asarray(activation, np.float64)
    parts = [
        np.max(exact[region], axis=(0, 1)) if is_max else np.mean(exact[region], axis=(0, 1))
        for region, is_max in _regions(recipe, exact.shape)
    ]
    return np.concatenate(parts)


def _to_positions(
    recipe: Recipe, activation: NDArray[np.floating], of_code: Matrix, of_mean: Matrix
) -> Matrix:
    """Divide the contributions of features among the positions of a view, (height, width)."""
    height, width, channels = activation.shape
    if recipe.pool == "none":
        return np.asarray((of_code + of_mean).reshape(activation.shape).sum(axis=2))
    total = np.zeros((height, width))
    for i, (region, is_max) in enumerate(_regions(recipe, activation.shape)):
        part = slice(i * channels, (i + 1) * channels)
        cell = activation[region]
        divide = _to_largest if is_max else _in_proportion
        added = divide(cell.reshape(-1, channels), of_code[part], of_mean[part])
        total[region] += added.reshape(cell.shape[:2])
    return total


def _regions(recipe: Recipe, shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, slice], bool]]:
    """Yield the regions that are pooled, in the order of the code, and whether by a maximum."""
    n = recipe.grid or 1
    for pool in ("avg",) if recipe.grid else recipe.pool.split("+"):
        for rows, columns in itertools.product(_cells(shape[0], n), _cells(shape[1], n)):
            yield (rows, columns), pool == "max"


def _cells(length: int, n: int) -> list[slice]:
    """Return the positions of each of n cells along a side, as `featx.network.pooling` does."""
    return [slice(i * length // n, math.ceil((i + 1) * length / n)) for i in range(n)]


def _in_proportion(positions: Matrix, of_code: Matrix, of_mean: Matrix) -> Matrix:
    """Divide contributions of means of channels among (n, channels) in proportion to these."""
    # Not w·a/n: the sum of the contributions must equal that of the code, which was rounded.
    sums = positions.sum(axis=0, dtype=np.float64)
    each = np.divide(of_code, sums, out=np.zeros_like(of_code), where=sums > 0)
    return np.asarray(positions @ each + of_mean.sum() / len(positions))


def _to_largest(positions: Matrix, of_code: Matrix, of_mean: Matrix) -> Matrix:
    """Give contributions of maxima of channels to their positions; of equal ones, the first."""
    of_both = of_code + of_mean
    somewhere = positions.max(axis=0) > 0
    first = positions.argmax(axis=0)
    total = np.bincount(first[somewhere], of_both[somewhere], minlength=len(positions))
    return np.asarray(total + of_both[~somewhere].sum() / len(positions))
